"""Ctrl-C and its like, which end a run between two songs and never within one."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

#: What ends a run: Ctrl-C, the end of its service, and that of its terminal, which Windows does not tell.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
AGAIN_SECONDS = 0.05

_ended_by: list[int] = []  # the signal that this process was asked to end by, if it was
_held: list[int] | None = None  # what of ENDING has come while it is held back; None: it is not
_when_held: Callable[[], object] | None = None  # to be called when it comes
_other_hook: Callable[[Any], object] = sys.unraisablehook


def install_handlers() -> None:
    """From now on, whatever of ENDING comes ends what is going on."""
    global _other_hook
    _ended_by.clear()
    for number in ENDING:
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:  # nohup has SIGHUP ignored
            signal.signal(number, _take)
    if sys.unraisablehook is not _raise_again:
        _other_hook, sys.unraisablehook = sys.unraisablehook, _raise_again


def _take(number: int, _: object) -> None:
    if _held is None:
        interrupt(number)
    _held.append(number)
    if _when_held is not None:
        _when_held()


def interrupt(number: int = signal.SIGINT, _: object = None) -> NoReturn:
    """End what is going on as after Ctrl-C; a second one must not disturb the ending."""
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    _ended_by[:] = [number]
    raise KeyboardInterrupt


def is_ended() -> bool:
    """Whether this process was asked to end."""
    return bool(_ended_by)


def exit_code() -> int:
    """Of a process that was asked to end: 128 and the number of the signal, as shells have it. Ctrl-C is 130."""
    return 128 + (_ended_by or [signal.SIGINT])[0]


def _raise_again(lost: Any) -> None:
    """Interrupt once more, a moment later, where nobody could catch it: in a callback of an import, say."""
    if not (isinstance(lost.exc_value, KeyboardInterrupt) and _ended_by):
        _other_hook(lost)
        return
    signal.signal(_ended_by[0], interrupt)
    timer = threading.Timer(AGAIN_SECONDS, _thread.interrupt_main, _ended_by)
    timer.daemon = True
    timer.start()


@contextmanager
def finish_first(when_asked: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold ENDING back until the block is done, so that a song that is done is told everywhere or nowhere.

    `when_asked` is called at once, to have the block come to its end. Nothing is held back that `install_handlers` has
    not taken.
    """
    global _held, _when_held
    asked: list[int] = []
    _held, _when_held = asked, when_asked
    try:
        yield
    finally:
        _held = _when_held = None
    if asked:
        interrupt(asked[0])
