"""Writes genres into songs so that nothing is lost: proven, recorded, then swapped in at once.

A run's journal is one file of JSON lines: a head that says who ran where, then one record per song, on the disk before
the song is replaced. `tagger.tags.undo` reads it backwards.
"""

import json
import logging
import os
import secrets
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any

from platformdirs import user_state_path

from tagger import __version__
from tagger.atomic import sync_folder
from tagger.debug import suppress
from tagger.errors import JournalError, TagError
from tagger.tags.genre import check_genres, genres_in, real_genres, retag
from tagger.tags.policies import HardLinks, Multi
from tagger.tags.swap import Announce, swap
from tagger.tags.verify import verify, verify_genres
from tagger.text import printable

logger = logging.getLogger(__name__)

VERSION = 1  # of the records
Delta = list[list[Any]]  # ["c", start, length]: copy from the new bytes; ["l", text]: zlib-packed bytes in base64

MAX_LITERAL_BYTES = 256 << 10  # what is new to the old bytes: a tag, rarely a cover, never the audio
_BLOCK_BYTES = 64  # a stretch of twice this length that both have is always found
_SHORT_BYTES = 1024  # not worth the search
_TIME, _TICK = "%Y%m%dT%H%M%S.%fZ", timedelta(microseconds=1)  # how the name of a run begins


def journal_folder(state: str | PathLike[str] | None = None) -> Path:
    """Where journals lie: in the given folder for state, or the user's (XDG_STATE_HOME and its like)."""
    return Path(state if state is not None else user_state_path("genre-tag")) / "journal"


def new_run(state: str | PathLike[str] | None = None) -> str:
    """An identifier for a run that begins now. They sort in the order in which runs began, whatever the clock does.

    Raises JournalError where it cannot be told which came before.
    """
    now, folder = datetime.now(timezone.utc), journal_folder(state)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise JournalError(folder, error.strerror or str(error)) from error
    for name in names:
        with suppress(ValueError, OverflowError):
            now = max(now, datetime.strptime(name.split("-")[0], _TIME).replace(tzinfo=timezone.utc) + _TICK)
    return f"{now.strftime(_TIME)}-{secrets.token_hex(2)}"


class Journal:
    """The record of one run: `with Journal.open(root) as journal: journal.write_genres(path, genres)`.

    Every method that writes raises JournalError when the record cannot be kept, with the song left as it was.
    """

    def __init__(self, path: Path, run: str, root: str, handle: int) -> None:
        self.path, self.run, self.root, self._handle = path, run, root, handle
        self.n_writes = 0
        self._end = 0  # bytes of whole records
        self._is_torn = False

    @classmethod
    def open(
        cls,
        root: str | PathLike[str],
        argv: Sequence[str] = (),
        state: str | PathLike[str] | None = None,
        *,
        run: str | None = None,
        writer: str = "",
    ) -> "Journal":
        """Begin a journal for songs below `root`; `argv` is what the user typed. Raises JournalError.

        A `run` in which several processes write has a journal of each, which the name of the `writer` tells apart.
        """
        now = datetime.now(timezone.utc)
        run = run or new_run(state)
        path = journal_folder(state) / f"{run}{writer and '.'}{writer}.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
            handle = os.open(path, flags, 0o600)
        except OSError as error:
            raise JournalError(path, error.strerror or str(error)) from error
        journal = cls(path, run, os.path.abspath(root), handle)
        head = {"op": "run", "run": run, "t": f"{now:%Y-%m-%dT%H:%M:%SZ}", "tool": f"genre-tag {__version__}"}
        try:
            journal.append({**head, "argv": list(argv), "root": pack(journal.root)})
        except JournalError:
            journal.close()
            raise
        sync_folder(path.parent)
        logger.debug("the journal is %s", path)
        return journal

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the run; a journal without a record is removed."""
        os.close(self._handle)
        if not self.n_writes:
            self.path.unlink(missing_ok=True)

    def write_genres(
        self,
        path: str | PathLike[str],
        genres: Sequence[str],
        *,
        instead_of: Sequence[str] | None = None,
        id3v23_multi: Multi = "join",
        preserve_mtime: bool = False,
        hardlinks: HardLinks = "skip",
    ) -> bool:
        """Write exactly these genres, best first, into the song: True, or False when it has them already.

        `instead_of` are the genres the song had when these were decided on: if somebody changed them since, the song
        is left alone. None: whatever it has. Raises TagError when the song is left as it was, ValueError for what is
        no genre (`tags.check_genres`).
        """
        check_genres(genres)
        suffix = Path(path).suffix

        def make(old: bytes) -> bytes:
            new = retag(old, suffix, genres, id3v23_multi)
            if new is not old:
                if instead_of is not None and real_genres(old, suffix) != tuple(instead_of):
                    raise TagError(path, "its genre was changed by another program meanwhile", refused=False)
                verify_genres(new, suffix, genres, id3v23_multi)
                verify(old, new, suffix)
            return new

        announce = self.recorder(path)
        return swap(path, make, announce=announce, preserve_mtime=preserve_mtime, hardlinks=hardlinks)

    def recorder(self, path: str | PathLike[str]) -> Announce:
        """What `swap.swap` is to call with the old and new bytes of that song: puts its record on the disk."""
        suffix = Path(path).suffix

        def record(old: bytes, new: bytes, status: os.stat_result) -> None:
            instructions = delta(new, old)
            if instructions is not None and rebuild(new, instructions) != old:
                raise AssertionError("the delta does not give the old bytes")  # a bug; the song stays as it is
            self.append(
                {
                    "op": "write",
                    "n": self.n_writes + 1,
                    "rel": pack(os.path.abspath(path).removeprefix(os.path.join(self.root, ""))),
                    "show": printable(os.fspath(path)),
                    "before": {**_summary(old, suffix), "mtime_ns": status.st_mtime_ns},
                    "after": _summary(new, suffix),
                    "delta": instructions,
                }
            )
            self.n_writes += 1

        return record

    def append(self, record: dict[str, Any]) -> None:
        """Put one record on the disk, or none of it: what was begun is cut off again, or no other is ever taken."""
        if self._is_torn:
            raise JournalError(self.path, "ends in a torn record, which could not be cut off")
        line = json.dumps({"v": VERSION, **record}, ensure_ascii=False, separators=(",", ":")) + "\n"
        data = line.encode(errors="backslashreplace")  # JSON spells a lone surrogate the same way
        try:
            rest = data[os.write(self._handle, data) :]
            if rest and os.write(self._handle, rest) != len(rest):  # a full disk takes a part, and then says why
                raise OSError("written in part only")
            os.fsync(self._handle)
            self._end += len(data)
        except BaseException as error:  # an interruption too: its song is not written
            self._cut_back()
            if isinstance(error, OSError):
                raise JournalError(self.path, error.strerror or str(error)) from error
            raise

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._handle, self._end)
        except OSError:
            logger.debug("%s cannot be cut back", self.path, exc_info=True)
            self._is_torn = True


def _summary(data: bytes, suffix: str) -> dict[str, Any]:
    genres, places = genres_in(data, suffix)
    return {"size": len(data), "sha256": sha256(data).hexdigest(), "genres": genres, "raw": dict(places)}


def pack(path: str) -> str:
    """A file name of whatever bytes, as JSON can hold it."""
    return b64encode(os.fsencode(path)).decode()


def unpack(text: str) -> str:
    """The file name `pack` was given."""
    return os.fsdecode(b64decode(text))


# --- how the old bytes of a song are told by its new ones


def delta(new: bytes, old: bytes) -> Delta | None:
    """Instructions to build `old` from `new`, None when they would hold more than MAX_LITERAL_BYTES of it.

    >>> rebuild(b"tag B, audio", delta(b"tag B, audio", b"tag AA, audio"))
    b'tag AA, audio'
    """
    copies: list[tuple[int, int, int]] = [(0, 0, _common(old, 0, new, 0))]  # (start in old, start in new, length)
    blocks: dict[bytes, int] = {}
    position, n_literal = copies[0][2], 0
    tail = _common_end(old, new, position)
    while position < len(old) - tail - _SHORT_BYTES:
        blocks = blocks or {new[at : at + _BLOCK_BYTES]: at for at in range(0, len(new), _BLOCK_BYTES)}
        for found in range(position, len(old) - tail):
            if (at := blocks.get(old[found : found + _BLOCK_BYTES])) is not None:
                break
            if n_literal + found - position > MAX_LITERAL_BYTES:
                return None
        else:
            break
        while found > position and at > 0 and old[found - 1] == new[at - 1]:
            found, at = found - 1, at - 1
        n_literal += found - position
        length = min(_common(old, found, new, at), len(old) - tail - found)
        copies.append((found, at, length))
        position = found + length
    copies.append((len(old) - tail, len(new) - tail, tail))
    return _instructions(old, copies)


def rebuild(new: bytes, instructions: Sequence[Sequence[Any]]) -> bytes:
    """The old bytes, given the new ones and their delta."""
    parts = []
    for kind, *values in instructions:
        parts.append(new[values[0] : values[0] + values[1]] if kind == "c" else zlib.decompress(b64decode(values[0])))
    return b"".join(parts)


def _instructions(old: bytes, copies: list[tuple[int, int, int]]) -> Delta:
    made: Delta = []
    position = 0
    for start, at, length in copies:
        if start > position:
            made.append(["l", b64encode(zlib.compress(old[position:start], 9)).decode()])
        if length:
            made.append(["c", at, length])
        position = start + length
    return made


def _common(old: bytes, start: int, new: bytes, at: int) -> int:
    """How many bytes from there on are the same; steps double, so that a long song takes few comparisons."""
    length, step = 0, 64
    longest = min(len(old) - start, len(new) - at)
    while step:
        size = min(step, longest - length)
        if size and old[start + length : start + length + size] == new[at + length : at + length + size]:
            length, step = length + size, min(2 * step, 1 << 20)
        else:
            step = min(step, size) // 2
    return length


def _common_end(old: bytes, new: bytes, after: int) -> int:
    """How many bytes at the end are the same, of those behind that position in both."""
    length, step = 0, 64
    longest = min(len(old), len(new)) - after
    while step:
        size = min(step, longest - length)
        stop = len(old) - length, len(new) - length
        if size and old[stop[0] - size : stop[0]] == new[stop[1] - size : stop[1]]:
            length, step = length + size, min(2 * step, 1 << 20)
        else:
            step = min(step, size) // 2
    return length
