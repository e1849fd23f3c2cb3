"""`--debug`: on standard error, what a report of a bug needs. People read other lines, and nothing depends on these.

Modules log by `logging`, as everywhere; what is swallowed is logged with its traceback.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import re
import sys
from collections.abc import Sequence
from types import TracebackType

from tagger import __version__
from tagger.text import printable

logger = logging.getLogger(__name__)

OURS = ("tagger", "training")
FORMAT, TIME = "debug %(asctime)s.%(msecs)03d %(process)d %(name)s: %(message)s", "%H:%M:%S"

_handlers: list[logging.Handler] = []  # one while it is on


class _Lines(logging.Formatter):
    """Records in lines that harm no terminal, whatever is in the names of files."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).splitlines()))


def turn_on() -> None:
    """From here on all that is logged goes to standard error, but for what other libraries log."""
    if not _handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Lines(FORMAT, TIME))
        _handlers.append(handler)
        for name in OURS:
            logging.getLogger(name).addHandler(handler)
            logging.getLogger(name).setLevel(logging.DEBUG)
            logging.getLogger(name).propagate = False  # other handlers, of a library or of tests, would tell it again


def turn_off() -> None:
    """As it was before."""
    while _handlers:
        handler = _handlers.pop()
        for name in OURS:
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).setLevel(logging.NOTSET)
            logging.getLogger(name).propagate = True


def is_on() -> bool:
    """Whether it is on: a process that is started is to be told."""
    return bool(_handlers)


def log_versions(arguments: Sequence[str]) -> None:
    """Log what runs where, and what was typed."""
    logger.debug("genre-tag %s, Python %s on %s", __version__, platform.python_version(), platform.platform())
    logger.debug("libraries: %s", ", ".join(_libraries()))
    logger.debug("arguments: %s", list(arguments))


def _libraries() -> list[str]:
    """Those of genre-tag and of its extras that are installed, with their versions."""
    from importlib import metadata  # here, or every command would load it

    found = []
    with suppress(metadata.PackageNotFoundError):
        for name in sorted({re.split(r"[^\w.-]", required)[0] for required in metadata.requires("genre-tag") or []}):
            with contextlib.suppress(metadata.PackageNotFoundError):  # of an extra
                found.append(f"{name} {metadata.version(name)}")
    return found


class suppress(contextlib.suppress):  # noqa: N801  (as the one of contextlib)
    """`contextlib.suppress`, which logs what it suppresses."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        is_suppressed = bool(super().__exit__(kind, error, trace))
        if is_suppressed:
            logger.debug("swallowed", exc_info=error)
        return is_suppressed
