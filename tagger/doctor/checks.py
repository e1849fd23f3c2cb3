"""A check of what a run needs, and how a broken library is fixed. Imports nothing that may itself be broken."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

logger = logging.getLogger(__name__)

#: Library -> the distribution that it comes in, where their names differ.
DISTRIBUTIONS = {"huggingface_hub": "huggingface-hub", "sklearn": "scikit-learn"}
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
        logger.debug("%s", name, exc_info=True)
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


def requirements(extra: str = "") -> dict[str, str]:
    """Name of each library that tagging, or an extra, needs -> as it is required, `torch>=2.11`.

    {} where genre-tag is not installed.
    """
    try:
        required = metadata.requires("genre-tag") or []
    except metadata.PackageNotFoundError:
        return {}
    asked = (text for text in required if (re.findall(r"extra == .([\w-]+)", text) or [""]) == [extra])
    return {re.split(r"[^\w.-]", text)[0]: text for text in asked}


def reinstall(*libraries: str) -> str:
    """The command that fixes these libraries, by the names they are imported by."""
    needed = requirements("dev") | requirements("review") | requirements("ray") | requirements("train") | requirements()
    names = (DISTRIBUTIONS.get(name, name) for name in libraries)
    return "pip install --force-reinstall " + " ".join(f"'{needed.get(n, n).partition(';')[0].strip()}'" for n in names)
