"""What a person decided on songs, kept as it is decided: one SQLite file for all libraries of a user.

A song is known by its coded audio, so that a decision outlives another name, another place and another tag. Each is on
the disk when `keep` returns. Several processes may keep decisions at once, and each sees those of the others.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from os import PathLike
from pathlib import Path

from platformdirs import user_state_path

from tagger.errors import OutputError
from tagger.review.plan import ACCEPT, REJECT, UNDECIDED, Choice, Row

NAME = "decisions.sqlite3"
VERSION = 1  # of the table
APPLICATION_ID = 0x67746463  # "gtdc", in the header of the file
SCHEMA = (
    "CREATE TABLE decisions (identity BLOB PRIMARY KEY, choice TEXT NOT NULL, proposed TEXT NOT NULL,"
    " source TEXT NOT NULL, path BLOB NOT NULL, time TEXT NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX by_revision ON decisions (revision)",
)
RECORD = "INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?)"
SONG, ALBUM, BULK = "song", "album", "bulk"
#: How a decision was taken: on one song, on its album, or on all that a confidence chose.
SOURCES = (SONG, ALBUM, BULK)
WAIT_SECONDS = 10.0  # for another process that keeps a decision; each takes milliseconds


@dataclass(frozen=True)
class Decided:
    """What was decided on a song, and what was proposed for it then."""

    identity: bytes
    choice: Choice
    proposed: tuple[str, ...] = ()
    source: str = SONG
    path: str = ""

    def on(self, row: Row) -> Choice:
        """What this means for the song of a row, for which something else may be proposed by now."""
        if self.choice == ACCEPT and self.proposed != row.proposed:
            return self.proposed
        if self.choice == REJECT and self.proposed != row.proposed:
            return UNDECIDED
        return self.choice

    @property
    def genres(self) -> tuple[str, ...]:
        """What the song is, by the person who decided; () where that is not said."""
        if isinstance(self.choice, tuple):
            return self.choice
        return self.proposed if self.choice == ACCEPT else ()


def decisions_path(state: str | PathLike[str] | None = None) -> Path:
    """Where decisions lie: in the given folder for state, or the user's (XDG_STATE_HOME and its like)."""
    return Path(state if state is not None else user_state_path("genre-tag")) / NAME


class Decisions:
    """`with Decisions(decisions_path()) as decisions:`; every method raises OutputError. For several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with self._naming():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                self._begin()
            except BaseException:
                self._database.close()
                raise

    def _begin(self) -> None:
        """Make the table in a new file; raises OutputError for one that is none of ours."""
        with self._transaction() as run:
            version, application = (run(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id"))
            if not version and not run("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                for statement in (
                    *SCHEMA,
                    f"PRAGMA user_version = {VERSION}",
                    f"PRAGMA application_id = {APPLICATION_ID}",
                ):
                    run(statement)
            elif (version, application) != (VERSION, APPLICATION_ID):
                raise OutputError(self.path, "holds no decisions of this version of genre-tag: move it away")

    def __enter__(self) -> Decisions:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def keep(self, decided: Iterable[Decided]) -> int:
        """Keep these decisions, all of them or none, instead of earlier ones on the same songs; their revision."""
        now = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
        with self._lock, self._naming(), self._transaction() as run:
            revision = int(run("SELECT coalesce(max(revision), 0) + 1 FROM decisions").fetchone()[0])
            for each in decided:
                choice, proposed = json.dumps(each.choice), json.dumps(each.proposed)
                run(RECORD, (each.identity, choice, proposed, each.source, os.fsencode(each.path), now, revision))
        return revision

    def since(self, revision: int) -> tuple[int, list[Decided]]:
        """The newest revision, and the decisions that are newer than the given one: of 0, all."""
        query = "SELECT identity, choice, proposed, source, path, revision FROM decisions WHERE revision > ?"
        with self._lock, self._naming():
            rows = self._database.execute(query, (revision,)).fetchall()
            try:
                found = [
                    Decided(bytes(identity), _choice(choice), tuple(json.loads(proposed)), source, os.fsdecode(path))
                    for identity, choice, proposed, source, path, _ in rows
                ]
            except (ValueError, TypeError) as error:
                raise OutputError(self.path, f"is damaged: {error}") from error
        return max((row[-1] for row in rows), default=revision), found

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database.execute
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """What goes wrong with the file is an OutputError."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise OutputError(self.path, getattr(error, "strerror", None) or str(error)) from error


def labels(state: str | PathLike[str] | None = None) -> dict[bytes, tuple[str, ...]]:
    """The genres of songs that a person decided on, by their identity: accepted or corrected, alone or by album.

    Those accepted for their confidence alone are none: nobody looked at them. Raises OutputError.
    """
    path = decisions_path(state)
    if not path.exists():
        return {}
    with closing(Decisions(path)) as decisions:
        _, found = decisions.since(0)
    return {each.identity: each.genres for each in found if each.genres and each.source != BULK}


def _choice(text: str) -> Choice:
    value = json.loads(text)
    return value if isinstance(value, str) else tuple(value)
