"""What only some commands need: the extras of pyproject.toml, installed where they are asked for."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.util import find_spec

from tagger.errors import MissingExtraError

logger = logging.getLogger(__name__)

#: Extra -> the libraries that its commands cannot do without. It installs more: `train` without --wandb needs no wandb,
#: and no command needs torchaudio.
EXTRAS = {
    "train": ("accelerate", "datasets", "evaluate", "matplotlib", "pyarrow", "sklearn", "torch", "transformers"),
    "ray": ("fsspec", "pyarrow", "ray"),
    "review": ("starlette", "uvicorn"),
}


def need(what: str, extra: str, *libraries: str) -> None:
    """Raise MissingExtraError unless these libraries, by default all that the extra stands for, are installed.

    Nothing is imported: it is asked before a command begins, so that hours of work do not end in it.
    """
    if absent := missing(*(libraries or EXTRAS[extra])):
        raise MissingExtraError("", f"{what} needs {', '.join(absent)}: {install(extra)}")


def missing(*libraries: str) -> list[str]:
    """Those of the libraries that are not installed."""
    return [library for library in libraries if not _is_there(library)]


def hide_if_broken(library: str) -> Exception | None:
    """Have others do without a library that cannot be imported, as if it were not installed; None where it can be.

    It returns what its import raised. What asks only whether it is installed would be broken by it.
    """
    try:
        import_module(library)
    except Exception as error:  # of a library that is broken, anything
        logger.debug("%s is done without", library, exc_info=True)
        sys.modules[library] = None  # type: ignore[assignment]  # Python's word for a module that there is not
        return error
    return None


def install(extra: str) -> str:
    """The command that brings an extra."""
    return f"pip install 'genre-tag[{extra}]'"


def _is_there(library: str) -> bool:
    spec = find_spec(library)
    return spec is not None and spec.origin is not None  # without an origin, it is any folder of that name
