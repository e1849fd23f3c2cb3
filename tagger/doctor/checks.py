"""A check of what a run needs, and how a broken library is fixed. Imports nothing that may itself be broken."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

State = Literal["ok", "warning", "problem"]  # it works; it works, but; it does not work


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    state: State
    name: str
    says: str
    remedy: str = ""  # what to do about it


def guarded(name: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """What a look finds; whatever else goes wrong with it is a problem too, never an exception."""
    try:
        yield from look()
    except Exception as error:
        yield failed(name, error)


def failed(name: str, error: Exception) -> Check:
    """The problem that a look ran into."""
    if not isinstance(error, ImportError):
        return Check("problem", name, in_a_line(error))
    library = (error.name or "").partition(".")[0]
    return Check("problem", name, f"cannot be imported: {in_a_line(error)}", reinstall(library) if library else "")


def in_a_line(error: object) -> str:
    """The first line of what an exception says, or what it is."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def requirements() -> dict[str, str]:
    """Name of each library that genre-tag needs -> as it is required, `torch==2.11.*`; {} where it is not installed."""
    try:
        required = metadata.requires("genre-tag") or []
    except metadata.PackageNotFoundError:
        return {}
    return {re.split(r"[^\w.-]", text)[0]: text for text in required if "extra ==" not in text}


def reinstall(*libraries: str) -> str:
    """The command that fixes these libraries."""
    needed = requirements()
    names = (needed.get(name, name).partition(";")[0].strip() for name in libraries)
    return "pip install --force-reinstall " + " ".join(f"'{name}'" for name in names)
