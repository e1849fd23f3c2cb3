"""Worker processes that decode songs ahead of the model; a crash or a hang costs one song, not the run.

Processes, because two threads that decode small frames fight over the interpreter lock and are slower than one. Each
worker is driven by a thread that does nothing but wait for it.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

START_LIMIT_SECONDS = 120.0
MOST_WAITING = 1000  # items that wait for their turn behind one that takes long
# What a decoder does to itself over a song; other signals come from outside, as SIGKILL where memory runs out.
FAULTS = frozenset(
    getattr(signal, name) for name in ("SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE") if hasattr(signal, name)
)
# What ends a run: Ctrl-C, the end of its service or of its terminal (which Windows does not tell).
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

Item = TypeVar("Item")
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """Why a song could not be decoded, in words for its listener."""

    reason: str
    #: Whether the song is to blame, so that it would fail again. What may be the machine's fault is worth a new try:
    #: memory, a decoder that was killed, a file system that did not answer, and the time limit, as machines get busy.
    is_lasting: bool = True


def usable_cores() -> int:
    """Processor cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rss_bytes(maxrss: int) -> int:
    """Bytes of memory that the `ru_maxrss` of getrusage stands for: a count of 1024, and on macOS of 1 (man page)."""
    return maxrss if sys.platform == "darwin" else maxrss * 1024


def decode_ahead(
    songs: Iterable[tuple[Item, Task | None]],
    decode: Callable[[Task], Result],
    *,
    n_workers: int,
    look_ahead: int,
    time_limit_seconds: float,
) -> Generator[tuple[Item, Result | Failure | None], None, None]:
    """Each item with what `decode` made of its task (a path, say), in the order they came; None for one without a task.

    `decode` runs in worker processes; both must be picklable. At most `look_ahead` songs are decoded or being decoded
    at any time, whatever the number of songs and of items without a task between them, of which `MOST_WAITING` are
    taken ahead. A song whose decoding raises, takes longer than `time_limit_seconds` or kills its process comes back
    as a Failure.
    """
    pending: deque[tuple[Item, Future | None]] = deque()
    n_ahead = 0  # of the pending, those with a task

    def is_due() -> bool:
        future = pending[0][1]
        return future is None or future.done() or n_ahead >= look_ahead or len(pending) > MOST_WAITING

    def oldest() -> tuple[Item, Result | Failure | None]:
        nonlocal n_ahead
        item, future = pending.popleft()
        n_ahead -= future is not None
        return item, future.result() if future else None

    threads = ThreadPoolExecutor(n_workers, thread_name_prefix="decode", initializer=_block_ending)
    workers = Workers(decode, n_workers, time_limit_seconds)
    try:
        for item, task in songs:
            pending.append((item, None if task is None else threads.submit(workers.run, task)))
            n_ahead += task is not None
            while pending and is_due():
                yield oldest()
        while pending:
            yield oldest()
    finally:
        workers.close()
        threads.shutdown(cancel_futures=True)


class Workers(Generic[Task, Result]):
    """Several workers, of which one that is free does a task: for as many threads."""

    def __init__(self, decode: Callable[[Task], Result], n_workers: int, time_limit_seconds: float) -> None:
        self._all = [Worker(decode, time_limit_seconds) for _ in range(n_workers)]
        self._free: queue.SimpleQueue[Worker[Task, Result]] = queue.SimpleQueue()
        for worker in self._all:
            self._free.put(worker)

    def run(self, task: Task) -> Result | Failure:
        """What the task comes to; waits for a free worker."""
        worker = self._free.get()
        try:
            return worker.run(task)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """Stop all of them, whatever they are at."""
        for worker in self._all:
            worker.close()


class Worker(Generic[Task, Result]):
    """One worker process, started when first needed and again after it died."""

    def __init__(self, decode: Callable[[Task], Result], time_limit_seconds: float) -> None:
        self._decode, self._time_limit_seconds = decode, time_limit_seconds
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._ready = False
        self._lock = threading.Lock()
        self._closed = False

    def run(self, task: Task) -> Result | Failure:
        """What `decode` makes of the task, or why it made nothing."""
        try:
            connection = self._start()
            if connection is None:
                return Failure("interrupted", is_lasting=False)
            if not self._ready:  # the time limit is for decoding, not for starting an interpreter on a slow disk
                if not connection.poll(START_LIMIT_SECONDS):
                    self._stop(grace_seconds=0)
                    return Failure("the decoder does not start", is_lasting=False)
                self._ready = connection.recv()
            connection.send(task)
            if not connection.poll(self._time_limit_seconds):
                self._stop(grace_seconds=0)
                return Failure(f"decoding took longer than {self._time_limit_seconds:g} s", is_lasting=False)
            return connection.recv()
        except (EOFError, OSError):  # the process is gone, by its own fault or because the run ends
            exit_code = self._stop(grace_seconds=1)  # a crash ends by itself: let it leave its exit code
            is_fault = exit_code is not None and -exit_code in FAULTS
            return Failure(f"the decoder crashed ({_describe_exit(exit_code)})", is_lasting=is_fault)

    def close(self) -> None:
        """End the process, in whatever it is doing, for good."""
        self._closed = True
        self._stop(grace_seconds=0)

    def _start(self) -> Connection | None:
        with self._lock:
            if self._connection is None and not self._closed:
                # "spawn" on every system: a fork would copy the state of the model's threads.
                context = multiprocessing.get_context("spawn")
                connection, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, self._decode), daemon=True)
                with _shielded():
                    process.start()
                    theirs.close()
                    self._process, self._connection, self._ready = process, connection, False
            return self._connection

    def _stop(self, grace_seconds: float) -> int | None:
        with self._lock:
            process, connection, self._process, self._connection = self._process, self._connection, None, None
            if process is None or connection is None:
                return None
            process.join(grace_seconds)
            process.kill()
            process.join()
            connection.close()
            return process.exitcode


def _block_ending() -> None:
    """Leave Ctrl-C and its like to the other threads, of which the main one answers."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


@contextmanager
def _shielded() -> Iterator[None]:
    """Keep Ctrl-C and its like, which reach the whole group, from the processes started in here: the parent ends them.

    What is blocked is inherited, so that it holds while an interpreter still starts, when no handler is there yet.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        # Python's tracker of resources is started with the first process, and then unblocks Ctrl-C in this thread.
        from multiprocessing import resource_tracker  # here, or a run in which all is cached would load it

        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "stopped"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _serve(connection: Connection, decode: Callable[[Task], object]) -> None:
    """Do the tasks that come, until the other end is closed. Runs in the worker process."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    with suppress(EOFError, ConnectionError):  # the other end is gone, perhaps killed
        connection.send(True)
        while True:
            connection.send(_try(decode, connection.recv()))


def _try(decode: Callable[[Task], object], task: Task) -> object:
    """What `decode` makes of the task, or a Failure."""
    try:
        return decode(task)
    except MemoryError:
        return Failure("out of memory while decoding", is_lasting=False)
    except Exception as error:
        return _as_failure(error)


def _as_failure(error: Exception) -> Failure:
    """What was raised over a song, in its own words if it has a reason; the others are bugs, to be fixed some day."""
    reason = getattr(error, "reason", "")
    if not reason:
        return Failure(f"unexpected {type(error).__name__}: {error}", is_lasting=False)
    return Failure(reason, is_lasting=not isinstance(error.__cause__, (OSError, MemoryError)))
