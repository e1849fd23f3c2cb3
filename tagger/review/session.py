"""One review: its songs by number, what is decided on them, and writing and undoing what was decided."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tagger.audio.library import common_folder
from tagger.audio.preview import is_playable
from tagger.errors import GenreTagError, JournalError, TagError
from tagger.models.head import audioset_genres
from tagger.pipeline.albums import album_folder
from tagger.review.apply import apply_row
from tagger.review.decisions import Decided, Decisions
from tagger.review.plan import UNDECIDED, Choice, Row
from tagger.tags.genre import read_genres, split_genres
from tagger.tags.journal import Journal
from tagger.tags.policies import WriteOptions
from tagger.tags.undo import LEFT, list_runs, undo
from tagger.text import one_line, printable

logger = logging.getLogger(__name__)

PLANNED = "plan"  # the source of a decision that the plan came with


class BusyError(Exception):
    """Genres are being written, or taken back: one after the other."""


@dataclass
class Job:
    """Genres that are written or taken back, and how far that is."""

    kind: str  # "write" or "undo"
    n_songs: int
    n_done: int = 0
    n_written: int = 0
    is_running: bool = True
    #: Number of a song (None: of one that is not in the review), and why it was left as it was.
    failures: list[tuple[int | None, str]] = field(default_factory=list)
    #: Why it ended early; "" where it did not.
    error: str = ""
    run: str = ""

    def told(self) -> dict[str, Any]:
        """The same for the page."""
        return {**vars(self), "failures": [[number, printable(reason)] for number, reason in self.failures]}


class Review:
    """The songs of a review, in the order of the page; for several threads.

    Decisions are kept before anything is told of them, and read again where another process keeps them as well.
    """

    def __init__(
        self, rows: Iterable[Row], options: WriteOptions, decisions: Decisions, argv: Sequence[str], title: str = ""
    ) -> None:
        self.rows = sorted(rows, key=lambda row: (_natural(album_folder(row.path)), _natural(row.path)))
        self.title = title
        self._options, self._decisions, self._argv = options, decisions, list(argv)
        self._lock = threading.RLock()
        self._numbers: dict[bytes, list[int]] = defaultdict(list)
        for number, row in enumerate(self.rows):
            self._numbers[row.identity].append(number)
        self._sources = [PLANNED if row.decision != UNDECIDED else "" for row in self.rows]
        self._planned = [row.decision for row in self.rows]
        self._revision = 0
        self._rewritten: list[int] = []  # numbers of songs whose genres are others by now, in the order of it
        self._job: Job | None = None
        self._undoable = ""  # the run that was written last
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._catch_up()

    # --- what the page is told

    def songs(self) -> dict[str, Any]:
        """All songs, as plain values."""
        with self._lock:
            self._catch_up()
            folders = [album_folder(row.path) for row in self.rows]
            albums = {folder: place for place, folder in enumerate(dict.fromkeys(folders))}
            root, written = common_folder(albums), set(self._rewritten)
            return {
                "title": printable(self.title),
                "albums": [printable(_below(root, folder)) for folder in albums],
                "songs": [
                    [
                        albums[folder], printable(os.path.relpath(row.path, folder)), _shown(row.old),
                        _shown(row.proposed), row.confidence, printable(row.second), row.second_confidence,
                        row.decision, source, row.starts_seconds, is_playable(row.path),
                        number in written,
                    ]
                    for number, (row, folder, source) in enumerate(
                        zip(self.rows, folders, self._sources, strict=True)
                    )
                ],
                "genres": self._genres(),
                **self._state(),
            }  # fmt: skip

    def news(self, revision: int, n_rewritten: int) -> dict[str, Any]:
        """What has changed since a page was told of this revision, and of so many songs written."""
        with self._lock:
            changed = self._catch_up(revision)
            rewritten = dict.fromkeys(self._rewritten[n_rewritten:])
            return {
                "decisions": [[number, self.rows[number].decision, self._sources[number]] for number in changed],
                "old": [[number, _shown(self.rows[number].old)] for number in rewritten],
                **self._state(),
            }

    def _state(self) -> dict[str, Any]:
        return {
            "revision": self._revision,
            "n_rewritten": len(self._rewritten),
            "job": self._job.told() if self._job else None,
            "undoable": self._undoable,
        }

    def changes(self) -> list[tuple[int, tuple[str, ...]]]:
        """The songs that are to be written, and with which genres."""
        with self._lock:
            self._catch_up()
            wanted = ((number, row.wanted, row.old) for number, row in enumerate(self.rows))
            return [(number, new) for number, new, old in wanted if new is not None and new != old]

    def _genres(self) -> list[str]:
        """Those that a person may mean, to be completed as they are typed."""
        found = set(audioset_genres()["canonical"])
        for row in self.rows:
            found.update((*row.proposed, *row.old, *(row.wanted or ()), *([row.second] if row.second else ())))
        return sorted(map(printable, found), key=lambda genre: (genre.casefold(), genre))

    # --- what a person decides

    def decide(self, choices: Sequence[tuple[int, Choice]], source: str) -> None:
        """Keep what is decided on these songs. Raises OutputError, and then nothing is decided."""
        rows = [(self.rows[number], choice) for number, choice in choices]
        self._decisions.keep(Decided(row.identity, choice, row.proposed, source, row.path) for row, choice in rows)

    def _catch_up(self, revision: int | None = None) -> list[int]:
        """Take over what was decided since, here or elsewhere; the songs that were decided on since `revision`."""
        since = self._revision if revision is None else min(revision, self._revision)
        newest, found = self._decisions.since(since)
        self._revision = max(self._revision, newest)
        changed = []
        for each in found:
            for number in self._numbers.get(each.identity, ()):
                self.rows[number] = replace(self.rows[number], decision=each.on(self.rows[number]))
                self._sources[number] = each.source
                changed.append(number)
        return changed

    # --- what is written

    def write(self) -> None:
        """Begin to write what is decided, in a thread of its own. Raises BusyError."""
        changes = self.changes()
        self._begin(Job("write", len(changes)), lambda job: self._write(job, [number for number, _ in changes]))

    def undo(self) -> None:
        """Begin to take back what was written last, the same way. Raises BusyError."""
        run = self._undoable
        found = [each for each in list_runs() if run and each.id == run]
        n_songs = sum(each.n_writes - each.n_undone for each in found)
        self._begin(Job("undo", n_songs, run=run), self._undo)

    def stop(self) -> None:
        """Begin no other song."""
        self._is_stopping = True

    def close(self) -> None:
        """End after the song that is being written."""
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def _begin(self, job: Job, work: Callable[[Job], None]) -> None:
        def run() -> None:
            try:
                work(job)
            except JournalError as error:
                logger.debug("ended", exc_info=True)
                job.error = f"{error}: nothing is written without a record of it"
            except Exception as error:  # whatever it is, the page is not to wait for ever
                logger.debug("ended", exc_info=True)
                job.error = str(error) if isinstance(error, GenreTagError) else one_line(error)
            finally:
                job.is_running = False

        with self._lock:
            if self._is_stopping or (self._job is not None and self._job.is_running):
                raise BusyError
            self._job, self._thread = job, threading.Thread(target=run, name=job.kind)
            self._thread.start()

    def _write(self, job: Job, numbers: Sequence[int]) -> None:
        root = common_folder(os.path.dirname(self.rows[number].path) for number in numbers)
        with Journal.open(root, self._argv) as journal:
            job.run = journal.run
            for number in numbers:
                if self._is_stopping:
                    job.error = "Interrupted"
                    return
                result = apply_row(self.rows[number], self._options, journal)
                if result.status in ("skipped", "failed"):
                    job.failures.append((number, result.reason))
                elif result.status != "kept":  # as of one that was decided on otherwise meanwhile
                    self._has_now(number, result.new)
                    job.n_written += result.written
                    self._undoable = job.run if result.written else self._undoable
                job.n_done += 1

    def _undo(self, job: Job) -> None:
        numbers = {row.path: number for number, row in enumerate(self.rows)}
        with Journal.open(common_folder(map(os.path.dirname, numbers)), ["genre-tag", "undo", job.run]) as journal:
            for run in list_runs():
                if run.id != job.run:
                    continue
                for undone in undo(run, journal):
                    number = numbers.get(undone.path)
                    if undone.result in LEFT:
                        job.failures.append((number, undone.reason))
                    elif number is not None:
                        self._read_again(number)
                    job.n_written += undone.result in ("bytes", "tags")
                    job.n_done += 1
        self._undoable = ""

    def _read_again(self, number: int) -> None:
        try:
            self._has_now(number, split_genres(read_genres(self.rows[number].path), self._options.separator))
        except TagError:
            logger.debug("%s", self.rows[number].path, exc_info=True)

    def _has_now(self, number: int, genres: tuple[str, ...]) -> None:
        with self._lock:
            self.rows[number] = replace(self.rows[number], old=genres)
            self._rewritten.append(number)


def _below(root: str, folder: str) -> str:
    """The name of a folder in that one; of that one itself, its own."""
    return os.path.relpath(folder, root) if folder != root else os.path.basename(folder) or folder


def _shown(genres: Sequence[str]) -> list[str]:
    return list(map(printable, genres))


def _natural(path: str) -> list[Any]:
    """A key that sorts names as people do: 2 before 10."""
    parts = re.split(r"(\d+)", path.casefold())  # numbers are at odd places
    return [(len(part.lstrip("0")), part) if place % 2 else part for place, part in enumerate(parts)]
