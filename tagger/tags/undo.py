"""Takes back what a run wrote: the old bytes where nobody has touched the song since, else its old genre."""

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Literal

from tagger.errors import JournalError, TagError
from tagger.tags.containers import naming
from tagger.tags.genre import genres_in, restore
from tagger.tags.journal import VERSION, Journal, journal_folder, rebuild, unpack
from tagger.tags.policies import HardLinks
from tagger.tags.swap import swap
from tagger.tags.verify import verify

logger = logging.getLogger(__name__)

# "bytes": every byte as before; "tags": somebody edited other tags since, the genre is as before; "nothing": it is as
# before already; "conflict": the genre was changed since, left alone; "failed": left alone for another reason.
Result = Literal["bytes", "tags", "nothing", "conflict", "missing", "failed"]
#: The results of songs that are not as before.
LEFT: tuple[Result, ...] = ("conflict", "missing", "failed")

# What a record must hold to be of use, and what of the song before and after.
_KEYS, _FILE_KEYS = {"n", "rel", "before", "after", "delta"}, {"sha256", "genres", "raw"}
# How a record begins, and nothing within one: JSON writes a quotation mark in a text as \".
_BEGINNING = b'{"v":'
BLOCK_BYTES = 1 << 20  # of a journal, read at once
_Write = tuple[str, int]  # the name of a journal, and a number in it
_WRITE, _UNDO = re.compile(rb'\{"v":1,"op":"write","n":(\d+),'), b'{"v":1,"op":"undo",'


@dataclass(frozen=True)
class Run:
    """A run that wrote songs, as its journal tells."""

    id: str
    started: str  # UTC, ISO 8601
    argv: tuple[str, ...]
    root: str
    journal: Path
    n_writes: int
    n_undone: int = 0  # of these, how many are taken back by now


@dataclass(frozen=True)
class Undone:
    """The status of one song, or in a dry run would become."""

    path: str
    result: Result
    reason: str = ""


def list_runs(
    state: str | PathLike[str] | None = None, on_damage: Callable[[JournalError], None] = lambda error: None
) -> list[Run]:
    """The runs that can be undone, newest first; `on_damage` is told of each journal that cannot be read."""
    runs: dict[str, Run] = {}  # by the name of their journal, oldest first
    undoings: list[_Undoing] = []
    for path in sorted(journal_folder(state).glob("*.jsonl")):
        try:
            if path.stat().st_size:  # empty: killed before its first line
                runs[path.name], of_this_run = _read(path)
                undoings += of_this_run
        except JournalError as error:
            logger.debug("%s", path, exc_info=True)
            on_damage(error)
    n_undone = Counter(journal for journal, _ in _taken_back(undoings, runs))
    return [replace(run, n_undone=n_undone[name]) for name, run in reversed(runs.items()) if run.n_writes]


@dataclass(frozen=True)
class _Undoing:
    """That a write was taken back, as a journal tells: which one, and by which write of its own, if one was needed."""

    run: str
    journal: str  # "" in one of an earlier version: that of the run, which had but one
    number: int
    by: _Write | None


def _read(journal: Path) -> tuple[Run, list[_Undoing]]:
    """The run a journal tells of, and what that run took back; raises JournalError."""
    n_writes, number, undoings = 0, 0, []
    try:
        with journal.open("rb") as file:
            head = json.loads(file.readline())
            if head["op"] != "run" or head["v"] != VERSION:
                raise JournalError(journal, "not a journal of this version of genre-tag")
            for line in file:
                record = line[max(0, line.rfind(_BEGINNING)) :]  # behind a torn one, if there is one
                if not record.endswith(b"\n"):
                    continue
                if found := _WRITE.match(record):
                    n_writes, number = n_writes + 1, int(found[1])
                elif record.startswith(_UNDO):
                    undoings += _undoing(record, (journal.name, number))
            argv = tuple(map(str, head["argv"]))
            return Run(str(head["run"]), str(head["t"]), argv, unpack(head["root"]), journal, n_writes), undoings
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JournalError(journal, f"cannot be read: {error}") from error


def _undoing(line: bytes, last_write: _Write) -> list[_Undoing]:
    """What a record of undoing tells, if a song is as before now. It follows the write that was needed."""
    try:
        record = json.loads(line)
        if record["result"] not in ("bytes", "tags", "nothing"):
            return []
        by = None if record["result"] == "nothing" else last_write
        return [_Undoing(str(record["of"]), str(record.get("from", "")), int(record["n"]), by)]
    except (ValueError, KeyError, TypeError, AttributeError):
        logger.debug("a damaged record: %r", line[:200], exc_info=True)
        return []  # damaged: named when that run is taken back


def _taken_back(undoings: Iterable[_Undoing], runs: Mapping[str, Run]) -> set[_Write]:
    """The writes, by journal and number, that are taken back by now; `undoings` are in the order of time."""
    journal_of = {run.id: name for name, run in runs.items()}
    taken_back: set[_Write] = set()
    meant: dict[_Write, _Write] = {}  # write of an undoing -> the write that it took back
    for undoing in undoings:
        write: _Write = undoing.journal or journal_of.get(undoing.run, ""), undoing.number
        if undoing.by is not None:
            meant[undoing.by] = write
        # A write that took another one back, and is now taken back itself, has taken back nothing; and so on.
        is_undone, seen = True, set[_Write]()
        step: _Write | None = write
        while step is not None and step not in seen:
            seen.add(step)
            (taken_back.add if is_undone else taken_back.discard)(step)
            step, is_undone = meant.get(step), not is_undone
    return taken_back


@dataclass(frozen=True)
class Written:
    """That a song was given genres: those it had before, and after."""

    path: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def written_songs(
    state: str | PathLike[str] | None = None, on_damage: Callable[[JournalError], None] = lambda error: None
) -> Iterator[Written]:
    """Every song that a run wrote, the oldest first; not what was put back by an undoing.

    A damaged record is passed over; `on_damage` is told of each journal that cannot be read.
    """
    for path in sorted(journal_folder(state).glob("*.jsonl")):
        try:
            if path.stat().st_size:
                run, undoings = _read(path)
                if not undoings:
                    yield from _written(run)
        except JournalError as error:
            logger.debug("%s", path, exc_info=True)
            on_damage(error)
        except OSError as error:
            logger.debug("%s", path, exc_info=True)
            on_damage(JournalError(path, error.strerror or str(error)))


def _written(run: Run) -> Iterator[Written]:
    records = [record for _, record in _writes(run.journal) if record is not None]
    for record in reversed(records):
        path = os.path.join(run.root, unpack(record["rel"]))
        yield Written(path, tuple(record["before"]["genres"]), tuple(record["after"]["genres"]))


def undo(
    run: Run,
    journal: Journal | None,
    *,
    paths: Collection[str | PathLike[str]] = (),
    root: str | PathLike[str] | None = None,
    force: bool = False,
    preserve_mtime: bool = False,
    hardlinks: HardLinks = "skip",
) -> Iterator[Undone]:
    """Take back what the run wrote, newest first, and yield the outcome for each song.

    The undoing is recorded in `journal`, and can be undone in turn; None only tells what would be done.
    `paths` limits it to these songs and folders, `root` is where the library lies by now, `force` takes back a genre
    that was changed since. A damaged record is a failure that names its line. Raises JournalError.
    """
    wanted = [os.path.abspath(path) for path in paths]
    for number, record in _writes(run.journal):
        if record is None:
            yield Undone(str(run.journal), "failed", f"line {number} is damaged: what it tells cannot be taken back")
            continue
        path = os.path.join(run.root if root is None else os.path.abspath(root), unpack(record["rel"]))
        if wanted and not any(path == each or path.startswith(os.path.join(each, "")) for each in wanted):
            continue
        undone = _undo_song(path, record, journal, force, preserve_mtime, hardlinks)
        if journal is not None:
            journal.append(
                {"op": "undo", "n": record["n"], "of": run.id, "from": run.journal.name, "result": undone.result}
            )
        yield undone


def _undo_song(
    path: str,
    record: dict[str, Any],
    journal: Journal | None,
    force: bool,
    preserve_mtime: bool,
    hardlinks: HardLinks,
) -> Undone:
    undone = Undone(path, "nothing")

    def make(data: bytes) -> bytes:
        nonlocal undone
        result, reason, old = _old_bytes(data, Path(path).suffix, record, force)
        undone = Undone(path, result, reason)
        return old

    if not os.path.lexists(path):
        return Undone(path, "missing", "no such file")
    try:
        if journal is None:
            with naming(path):
                make(Path(path).read_bytes())
        else:
            announce = journal.recorder(path)
            swap(path, make, announce=announce, preserve_mtime=preserve_mtime, hardlinks=hardlinks)
    except TagError as error:
        logger.debug("%s", path, exc_info=True)
        return Undone(path, "failed", error.reason)
    return undone


def _old_bytes(data: bytes, suffix: str, record: dict[str, Any], force: bool) -> tuple[Result, str, bytes]:
    """How the song can be taken back, why not in full, and the bytes it is to have."""
    before, after = record["before"], record["after"]
    digest = sha256(data).hexdigest()
    if digest == before["sha256"]:
        return "nothing", "", data
    if digest == after["sha256"] and record["delta"] is not None:
        old = rebuild(data, record["delta"])
        if sha256(old).hexdigest() != before["sha256"]:
            raise ValueError("the journal does not give the old bytes")
        return "bytes", "", old
    genres = genres_in(data, suffix)[0]
    if list(genres) != after["genres"] and not force:
        return "conflict", f"its genre has become {', '.join(genres) or 'none'}", data
    places = {place: tuple(values) for place, values in before["raw"].items()}
    old = restore(data, suffix, places)
    if old is data:
        return "nothing", "", data
    verify(data, old, suffix)
    if restore(old, suffix, places) is not old:
        raise ValueError("the genre would not read back as it was")
    return "tags", "other tags were changed since", old


def _writes(journal: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The numbers of the lines that tell of songs written, newest first, with their records; None for a damaged one.

    A last line torn by a crash, which has no end, belongs to a song not yet replaced. Raises JournalError.
    """
    try:
        with journal.open("rb") as file:
            number = sum(block.count(b"\n") for block in iter(partial(file.read, BLOCK_BYTES), b""))
            for line in _lines_backwards(file):
                for part in reversed(_records_in(line)):
                    yield from ((number, record) for record in _write_in(part))
                number -= 1
    except OSError as error:
        raise JournalError(journal, f"cannot be read: {error.strerror or error}") from error


def _lines_backwards(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file without their ends, the last one first; without what follows the end of the last one."""
    position, begun = file.seek(0, os.SEEK_END), b""
    is_torn = True
    while position:
        size = min(BLOCK_BYTES, position)
        position -= size
        file.seek(position)
        begun, *lines = (file.read(size) + begun).split(b"\n")
        if lines and is_torn:
            is_torn = False
            lines.pop()
        yield from reversed(lines)
    if not is_torn:
        yield begun


def _write_in(part: bytes) -> Iterator[dict[str, Any] | None]:
    """The record in a part of a line if it tells of a song written; None if it is damaged; no other one."""
    try:
        record = json.loads(part)
        if record["op"] != "write":
            return
        unpack(record["rel"])
        if not (record.keys() >= _KEYS and all(record[when].keys() >= _FILE_KEYS for when in ("before", "after"))):
            raise ValueError("incomplete")
    except (ValueError, KeyError, TypeError, AttributeError):
        logger.debug("a damaged record: %r", part[:200], exc_info=True)
        record = None
    yield record


def _records_in(line: bytes) -> list[bytes]:
    """The records in a line: one, or several where the disk was full while it took the first and then had room."""
    first, *others = line.split(_BEGINNING)
    return [first] * (bool(first) or not others) + [_BEGINNING + other for other in others]
