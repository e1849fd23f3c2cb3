"""Ctrl-C and its like, which end a run between two songs and never within one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


def interrupt(*_: object) -> NoReturn:
    """End what is going on as after Ctrl-C; a second one must not disturb the ending."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def finish_first() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done, so that a song that is done is told everywhere or nowhere."""
    asked: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda number, _: asked.append(number)) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)
    if asked:
        interrupt()
