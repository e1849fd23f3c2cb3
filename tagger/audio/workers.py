"""Worker processes that decode songs ahead of the model; a crash or a hang costs one song, not the run.

Processes, because two threads that decode small frames fight over the interpreter lock and are slower than one. Each
worker is driven by a thread that does nothing but wait for it.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from tagger import debug
from tagger.debug import suppress

logger = logging.getLogger(__name__)

START_LIMIT_SECONDS = 120.0
MOST_WAITING = 1000  # items that wait for their turn behind one that takes long
PARTS_AHEAD = 2  # of one task, that wait to be taken: the decoder is then held up, as it would fill the memory
# Of glibc's malloc.h and mallopt(3): what may lie free at the top of a heap; and how large an allocation may be to come
# from a heap, the most that glibc allows.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, MOST_KEPT_BYTES = 16 << 20, 32 << 20
# What a decoder does to itself over a song; other signals come from outside, as SIGKILL where memory runs out.
FAULTS = frozenset(
    getattr(signal, name) for name in ("SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE") if hasattr(signal, name)
)
# What ends a run: Ctrl-C, the end of its service or of its terminal (which Windows does not tell).
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

Item = TypeVar("Item")
Task = TypeVar("Task")
Result = TypeVar("Result")
#: What makes the result of a task, or several parts of it one by one.
Decode = Callable[[Task], Iterator[Result]] | Callable[[Task], Result]


@dataclass(frozen=True)
class Failure:
    """Why a song could not be decoded, in words for a person."""

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


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for what is allocated next: a song needs what the last one needed.

    glibc gives memory back at once, and a run spent a tenth of its time on page after page that it had just had.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # of a C library without mallopt
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
            mallopt(M_MMAP_THRESHOLD, MOST_KEPT_BYTES)


def decode_ahead(
    songs: Iterable[tuple[Item, Task | None]],
    decode: Decode[Task, Result],
    *,
    n_workers: int,
    look_ahead: int,
    time_limit_seconds: float,
    begun: Sequence[Worker[Task, Result]] = (),
) -> Generator[tuple[Item, Result | Failure | None], None, None]:
    """Each item with what `decode` made of its task (a path, say), in the order they came; None for one without a task.

    Where `decode` returns an iterator, the item comes with each of its parts, of which no more than `PARTS_AHEAD` wait
    to be taken. `decode` runs in worker processes; it and what it is given and makes must be picklable. At most
    `look_ahead` songs are decoded or being decoded at any time, whatever the number of songs and of items without a
    task between them, of which `MOST_WAITING` are taken ahead. A song whose decoding raises, takes longer than
    `time_limit_seconds` (for a part, where there are several) or kills its process comes back as a Failure.

    `begun` are some of the workers, from `begin_workers` with the same `decode`; none of them can be used again.
    """
    pending: deque[tuple[Item, _Parts[Result] | None]] = deque()
    n_ahead = 0  # of the pending, those with a task

    def is_due() -> bool:
        parts = pending[0][1]
        return parts is None or parts.has_come() or n_ahead >= look_ahead or len(pending) > MOST_WAITING

    def oldest() -> Iterator[tuple[Item, Result | Failure | None]]:
        nonlocal n_ahead
        item, parts = pending[0]
        yield from ((item, part) for part in ([None] if parts is None else parts))
        pending.popleft()  # last: if this is given up in the middle, the parts are still to be told
        n_ahead -= parts is not None

    threads = ThreadPoolExecutor(n_workers, thread_name_prefix="decode", initializer=_block_ending)
    workers = Workers(decode, n_workers, time_limit_seconds, begun)
    try:
        for item, task in songs:
            pending.append((item, None if task is None else _Parts()))
            if task is not None and (parts := pending[-1][1]) is not None:
                n_ahead += 1
                threads.submit(parts.give, workers.results(task))
            while pending and is_due():
                yield from oldest()
        while pending:
            yield from oldest()
    finally:
        workers.close()
        for _, parts in pending:
            if parts is not None:
                parts.refuse()
        threads.shutdown(cancel_futures=True)


def begin_workers(
    decode: Decode[Task, Result], n_workers: int, time_limit_seconds: float
) -> list[Worker[Task, Result]]:
    """Workers whose interpreters start while the caller does other things; to be given to `decode_ahead`, or closed."""
    workers = [Worker[Task, Result](decode, time_limit_seconds) for _ in range(n_workers)]
    for worker in workers:
        worker.start()
    return workers


class _Parts(Generic[Result]):
    """The results of one task, on their way from the thread that waits for them; iterating waits for it in turn."""

    def __init__(self) -> None:
        self._given: queue.SimpleQueue[tuple[()] | tuple[Result | Failure] | BaseException] = queue.SimpleQueue()
        self._room = threading.Semaphore(PARTS_AHEAD)
        self._is_refused = False

    def give(self, parts: Iterator[Result | Failure]) -> None:
        """Hand over these, as fast as they are taken; the last thing is that there are no more, or what was raised."""
        try:
            for part in parts:
                self._room.acquire()
                if self._is_refused:
                    return
                self._given.put((part,))
            self._given.put(())
        except BaseException as error:  # to be raised where the parts are taken
            logger.debug("the parts end", exc_info=True)
            self._given.put(error)

    def has_come(self) -> bool:
        """Whether one can be taken without waiting."""
        return not self._given.empty()

    def refuse(self) -> None:
        """Take no more of them."""
        self._is_refused = True
        self._room.release()

    def __iter__(self) -> Iterator[Result | Failure]:
        while part := self._given.get():
            if isinstance(part, BaseException):
                raise part
            self._room.release()
            yield from part


class Workers(Generic[Task, Result]):
    """Several workers, of which one that is free does a task: for as many threads."""

    def __init__(
        self,
        decode: Decode[Task, Result],
        n_workers: int,
        time_limit_seconds: float,
        begun: Sequence[Worker[Task, Result]] = (),
    ) -> None:
        others = [Worker[Task, Result](decode, time_limit_seconds) for _ in range(n_workers - len(begun))]
        self._all = [*begun, *others]
        self._free: queue.SimpleQueue[Worker[Task, Result]] = queue.SimpleQueue()
        for worker in self._all:
            self._free.put(worker)

    def results(self, task: Task) -> Iterator[Result | Failure]:
        """What the task comes to, part by part; the first one waits for a free worker."""
        worker = self._free.get()
        try:
            yield from worker.results(task)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """Stop all of them, whatever they are at."""
        for worker in self._all:
            worker.close()


class Worker(Generic[Task, Result]):
    """One worker process, started when first needed and again after it died."""

    def __init__(self, decode: Decode[Task, Result], time_limit_seconds: float) -> None:
        self._decode, self._time_limit_seconds = decode, time_limit_seconds
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._ready = False
        self._lock = threading.Lock()
        self._closed = False

    def run(self, task: Task) -> Result | Failure:
        """What `decode` makes of the task, or why it made nothing; for one that makes a single result."""
        (result,) = self.results(task)
        return result

    def results(self, task: Task) -> Iterator[Result | Failure]:
        """What `decode` makes of the task, part by part; or why it made nothing, or no more."""
        try:
            connection = self.start()
            if connection is None:
                yield Failure("interrupted", is_lasting=False)
                return
            if not self._ready:  # the time limit is for decoding, not for starting an interpreter on a slow disk
                if not connection.poll(START_LIMIT_SECONDS):
                    self._stop(grace_seconds=0)
                    yield Failure("the decoder does not start", is_lasting=False)
                    return
                self._ready = connection.recv()
            connection.send(task)
            is_last = False
            while not is_last:
                if not connection.poll(self._time_limit_seconds):
                    self._stop(grace_seconds=0)
                    yield Failure(f"decoding took longer than {self._time_limit_seconds:g} s", is_lasting=False)
                    return
                parts, is_last = connection.recv()
                yield from parts
        except (EOFError, OSError):  # the process is gone, by its own fault or because the run ends
            logger.debug("the decoder is gone", exc_info=True)
            exit_code = self._stop(grace_seconds=1)  # a crash ends by itself: let it leave its exit code
            is_fault = exit_code is not None and -exit_code in FAULTS
            yield Failure(f"the decoder crashed ({_describe_exit(exit_code)})", is_lasting=is_fault)

    def close(self) -> None:
        """End the process, in whatever it is doing, for good."""
        self._closed = True
        self._stop(grace_seconds=0)

    def start(self) -> Connection | None:
        """Start its process, unless it runs; what leads to it, and None to one that was closed."""
        with self._lock:
            if self._connection is None and not self._closed:
                # "spawn" on every system: a fork would copy the state of the model's threads.
                context = multiprocessing.get_context("spawn")
                connection, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, self._decode, debug.is_on()), daemon=True)
                with _shielded():
                    process.start()
                    theirs.close()
                    self._process, self._connection, self._ready = process, connection, False
                    logger.debug("decoder %s started", process.pid)
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


def _serve(connection: Connection, decode: Callable[[Task], object], is_debugging: bool = False) -> None:
    """Do the tasks that come, until the other end is closed. Runs in the worker process."""
    if is_debugging:
        debug.turn_on()
    keep_freed_memory()
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    with suppress(EOFError, ConnectionError):  # the other end is gone, perhaps killed
        connection.send(True)
        while True:
            for answer in _answers(decode, connection.recv()):
                connection.send(answer)


def _answers(decode: Callable[[Task], object], task: Task) -> Iterator[tuple[list[object], bool]]:
    """What `decode` makes of the task, in parts, or a Failure; each time, whether that was all."""
    try:
        logger.debug("begins with %s", task)
        made = decode(task)
        if isinstance(made, Iterator):
            for part in made:
                yield [part], False
            yield [], True
        else:
            yield [made], True
        logger.debug("ends with %s", task)
    except MemoryError:
        logger.debug("%s", task, exc_info=True)
        yield [Failure("out of memory while decoding", is_lasting=False)], True
    except Exception as error:
        logger.debug("%s", task, exc_info=True)
        yield [_as_failure(error)], True


def _as_failure(error: Exception) -> Failure:
    """What was raised over a song, in its own words if it has a reason; the others are bugs, to be fixed some day."""
    reason = getattr(error, "reason", "")
    if not reason:
        return Failure(f"unexpected {type(error).__name__}: {error}", is_lasting=False)
    return Failure(reason, is_lasting=not isinstance(error.__cause__, (OSError, MemoryError)))
