"""Predictions are cached, logits by song and method, so that no song is classified twice.

One SQLite file for all libraries of a user. A file that was looked at before is known by its path and its stamp (one
stat, one look-up); any other is identified by its coded audio (`tags.identity`), so that a song that was renamed,
moved or tagged by somebody is still known. Every answer is on the disk when `remember` returns.

A cache saves time and is never in the way: whatever goes wrong with it is told in one line, and the run goes on.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from hashlib import sha256
from itertools import chain, count
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from platformdirs import user_state_path

from tagger.audio.workers import Failure
from tagger.debug import suppress
from tagger.pipeline.predict import Prediction
from tagger.tags.identity import identify

if TYPE_CHECKING:
    from tagger.models.description import Description
    from tagger.pipeline.options import PredictOptions

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

PREDICTION_VERSION = 2  # to be raised when songs are decoded, cut or turned into log-mels differently than before
READING_VERSION = 1  # to be raised when `tags.read_genres` answers differently than before

APPLICATION_ID = 0x67746167  # "gtag", in the header of the file
SCHEMA_VERSION = 3
SCHEMA_2 = (
    "CREATE TABLE files (path BLOB PRIMARY KEY, stamp TEXT NOT NULL, device TEXT NOT NULL, identity BLOB, genres BLOB)"
    " WITHOUT ROWID",
    "CREATE TABLE methods (key BLOB PRIMARY KEY, fields BLOB NOT NULL, last_used TEXT NOT NULL) WITHOUT ROWID",
    # The latest prediction has the highest number. Quoted as SQLite does it where a table was given another name.
    'CREATE TABLE "predictions" (number INTEGER PRIMARY KEY, identity BLOB, method BLOB, answer BLOB NOT NULL,'
    " UNIQUE (identity, method))",
    "CREATE TABLE failures (path BLOB, method BLOB, stamp TEXT NOT NULL, reason TEXT NOT NULL,"
    " PRIMARY KEY (path, method)) WITHOUT ROWID",
)
# By the number of a prediction, and apart from it: only who asks for them is to read so much.
EMBEDDINGS = "CREATE TABLE embeddings (number INTEGER PRIMARY KEY, rows BLOB NOT NULL)"
SCHEMA = (*SCHEMA_2, EMBEDDINGS)
#: Table -> its primary key.
KEYS = {
    "methods": ("key",),
    "files": ("path",),
    "failures": ("path", "method"),
    "predictions": ("number",),
    "embeddings": ("number",),
}
# Version 1 had another name for one table, and for the file; none before 3 had embeddings: all are taken over.
SCHEMAS = {1: tuple(statement.replace('"predictions"', "hearings") for statement in SCHEMA_2), 2: SCHEMA_2, 3: SCHEMA}
#: Version -> what makes the next one of it.
STEPS = {1: "ALTER TABLE hearings RENAME TO predictions", 2: EMBEDDINGS}
NAME, NAME_1 = "cache.sqlite3", "store.sqlite3"
# Stands for a method in the failures of songs that cannot be read or written, by whatever model.
REFUSED = b"refused"
# What was learned of an older version of the file does not outlive an update; genres are sealed with their stamp.
RECORD_FILE = """
    INSERT INTO files VALUES (:path, :stamp, :device, :identity, :genres) ON CONFLICT (path) DO UPDATE SET
        identity = coalesce(excluded.identity, CASE WHEN stamp = excluded.stamp THEN identity END),
        genres = coalesce(excluded.genres, genres),
        stamp = excluded.stamp, device = excluded.device
"""
LOOK = """
    SELECT identity, genres, EXISTS (SELECT 1 FROM failures WHERE failures.path = files.path)
    FROM files WHERE path = ? AND stamp = ?
"""
RECORD_METHOD = """
    INSERT INTO methods VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET fields = excluded.fields, last_used = excluded.last_used
"""
OF_PREDICTION = "number = (SELECT number FROM predictions WHERE identity = ? AND method = ?)"
FORGET_EMBEDDINGS = f"DELETE FROM embeddings WHERE {OF_PREDICTION}"
RECORD_EMBEDDINGS = (
    "INSERT OR REPLACE INTO embeddings SELECT number, ? FROM predictions WHERE identity = ? AND method = ?"
)
TROUBLE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter from a message that quotes a damaged schema
SAFE_PRECISIONS = ("fp32", "bf16", "fp16")  # which "auto" may choose somewhere
WAIT_SECONDS = 30.0  # for another run that writes; each takes a millisecond, only a prune takes seconds


@dataclass(frozen=True)
class Method:
    """How a song is classified: everything but the song that changes its logits.

    The precision is part of it: bf16 logits are some 0.01 off those of fp32, and who asks for fp32 is to get it. Who
    asks for "auto" wants the fastest that is safe, and nothing is faster than what is cached, in whatever
    safe precision: so a song is looked up under all of them, without knowing (and loading the model to know) which one
    this machine would take. The device and the batch size are no part of it: they change the sixth digit.
    """

    #: Fingerprint of the model's files: weights, config, features.
    model: str
    #: One of `genre_model.PRECISIONS`; or "auto", to ask and never to remember by.
    precision: str
    n_snippets: int | None
    snippet_samples: int
    #: What the user calls the model; of two models of one fingerprint either name will do.
    name: str = field(default="", compare=False)
    version: int = PREDICTION_VERSION

    @classmethod
    def of(cls, model: Description, options: PredictOptions) -> Method:
        """How songs are predicted with these options, in the precision that is asked for."""
        return cls(model.fingerprint, options.precision, options.n_snippets, model.snippet_samples, model.name)

    @property
    def label(self) -> str:
        """The name of the model, and which of those that ever had this name it was."""
        return f"{self.name}@{self.model[:8]}"

    @cached_property
    def key(self) -> bytes:
        """What a prediction by this method is filed under."""
        fields = (self.model, self.precision, self.n_snippets, self.snippet_samples, self.version)
        return sha256(json.dumps(fields).encode()).digest()[:16]

    @cached_property
    def answered_by(self) -> dict[bytes, Method]:
        """The methods, by their keys, whose predictions answer who asks for this one."""
        methods = [replace(self, precision=each) for each in SAFE_PRECISIONS] if self.precision == "auto" else [self]
        return {method.key: method for method in methods}


@dataclass(frozen=True)
class Seen:
    """One version of a file, as a stat shows it, and what the cache knew of it."""

    path: str
    #: Size, times of change of the content and of the inode, and inode: one of them is new in a file that was
    #: replaced, even if its mtime was set back.
    stamp: str
    device: str
    #: Genres in its tag; None when the cache does not know.
    genres: tuple[str, ...] | None = None
    known_identity: bytes | None = None
    #: Whether the cache may know that it fails.
    may_fail: bool = True

    @cached_property
    def identity(self) -> bytes | None:
        """Who the song is; None when the file cannot be read or has no audio. Reads the file only if it must."""
        if self.known_identity is not None:
            return self.known_identity
        with suppress(OSError, ValueError):
            return identify(self.path)
        return None

    def is_current(self) -> bool:
        """Whether the file is still the one that was seen."""
        with suppress(OSError):
            return _stamp(os.stat(self.path)) == self.stamp
        return False

    def is_same_song(self) -> bool:
        """Whether the file still holds the song that was seen, whatever its tags are now."""
        return replace(self, known_identity=None).identity == self.identity


def see(path: str | PathLike[str]) -> Seen:
    """The file as it is now, of which nothing is known; raises OSError when it is not there."""
    path = os.path.abspath(path)
    status = os.stat(path)
    return Seen(path, _stamp(status), str(status.st_dev))


@dataclass(frozen=True)
class MethodUse:
    """How many songs were classified by one method, and on what day (UTC) it was last asked for."""

    method: Method
    n_predictions: int
    last_used: str


@dataclass(frozen=True)
class Contents:
    """What a cache holds."""

    path: Path
    n_bytes: int
    n_files: int
    n_songs: int  # as many as were identified: a song under two names is one
    n_failures: int
    predictions: tuple[MethodUse, ...]


def cache_path(state: str | PathLike[str] | None = None) -> Path:
    """Where the cache lies: in the given folder for state, or the user's (XDG_STATE_HOME and its like)."""
    return Path(state if state is not None else user_state_path("genre-tag")) / NAME


def is_begun(path: Path) -> bool:
    """Whether there is a cache at this path, or one under the name of version 1 that becomes it."""
    return os.path.lexists(path) or os.path.lexists(path.with_name(NAME_1))


class PredictionCache:
    """`with PredictionCache(cache_path(), tell) as cache:` tells in one line what is wrong with the file, and goes on.

    A file of an earlier version is taken over; one that is damaged or foreign is moved aside and a new one begun. Where
    there can be none (a folder that is read-only, a full disk) the cache knows nothing and remembers nothing. Several
    runs may use one file at once, and several threads one cache.
    """

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self.path, self._tell = path, tell
        self._lock = threading.RLock()
        self._methods_in_use: set[bytes] = set()  # their keys
        self._may_begin_again = True
        self._inode = 0
        self._database: sqlite3.Connection | None = None
        self._open()

    def __enter__(self) -> PredictionCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; the cache knows nothing any more."""
        with self._lock:
            database, self._database = self._database, None
            if database is not None:
                with suppress(sqlite3.Error):
                    database.close()

    @property
    def is_usable(self) -> bool:
        """Whether there is a file behind it; why not has been told."""
        return self._database is not None

    # --- what a run asks

    def look(self, path: str | PathLike[str]) -> Seen:
        """The file as it is now, with what is known of this version of it; raises OSError when it is not there."""
        seen = see(path)
        file = os.fsencode(seen.path)
        for identity, genres, may_fail in self._rows(LOOK, file, seen.stamp):
            data = _unseal(genres, file, seen.stamp.encode())
            known_genres = None if data is None else _unpack_genres(data)
            known_identity = identity if isinstance(identity, bytes) else None
            return Seen(seen.path, seen.stamp, seen.device, known_genres, known_identity, bool(may_fail))
        return seen

    def recall(
        self, seen: Seen, method: Method, retry_failed: bool = False, with_embeddings: bool = False
    ) -> Prediction | Failure | None:
        """The prediction by this method, the latest if several answer; None when the song is to be classified.

        `with_embeddings`: only one whose embeddings are cached as well, as those of versions before 3 are not.
        """
        methods = method.answered_by
        of_these = f"method IN ({', '.join('?' * len(methods))})"
        if seen.may_fail and not retry_failed:
            failed = f"SELECT method, reason FROM failures WHERE path = ? AND stamp = ? AND {of_these}"
            for key, reason in self._rows(failed, os.fsencode(seen.path), seen.stamp, *methods):
                self._note_use(methods[key])
                return Failure(reason)
        if self._database is None or seen.identity is None:
            return None
        columns = "answer, rows FROM predictions LEFT JOIN embeddings USING (number)"
        columns = columns if with_embeddings else "answer, NULL FROM predictions"
        query = f"SELECT method, {columns} WHERE identity = ? AND {of_these} ORDER BY number DESC"
        for key, answer, rows in self._rows(query, seen.identity, *methods):
            data = _unseal(answer, seen.identity, key)
            if data is None:
                continue
            found = _unpack_prediction(data, _unseal(rows, seen.identity, key))
            if with_embeddings and found.embeddings is None and len(found.logits):
                continue
            self._note_use(methods[key])
            if seen.known_identity is None and seen.is_current():
                self._write((RECORD_FILE, [_file_row(seen, seen.identity)]))
            return found
        return None

    def remember(self, seen: Seen, method: Method, answer: Prediction | Failure) -> None:
        """Keep the prediction of the song, unless its file has changed since it was seen.

        A failure is kept if it is lasting, and for this version of this file only: it may be the file that is damaged,
        not the song.
        """
        if self._database is None:
            return
        path, identity = os.fsencode(seen.path), seen.identity
        if not seen.is_current():
            return
        both = (RECORD_METHOD, [_method_row(method)]), (RECORD_FILE, [_file_row(seen, identity)])
        if isinstance(answer, Failure):
            if answer.is_lasting:
                failure = (path, method.key, seen.stamp, answer.reason)
                self._write(*both, ("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?)", [failure]))
        elif identity is not None:
            key = (identity, method.key)
            embeddings = [] if (rows := _pack_embeddings(answer)) is None else [(_seal(rows, *key), *key)]
            self._write(
                *both,
                (FORGET_EMBEDDINGS, [key]),
                ("INSERT OR REPLACE INTO predictions VALUES (NULL, ?, ?, ?)", [(*key, _seal(_pack(answer), *key))]),
                (RECORD_EMBEDDINGS, embeddings),
                # By whatever method: it can be decoded after all.
                ("DELETE FROM failures WHERE path = ? AND method != ?", [(path, REFUSED)]),
            )

    def note_refusal(self, seen: Seen, reason: str) -> bool:
        """Keep that the song cannot be read or written; whether an earlier run had the same to say of this file."""
        path, reason = os.fsencode(seen.path), reason.encode(errors="backslashreplace").decode()
        known = "SELECT 1 FROM failures WHERE path = ? AND method = ? AND stamp = ? AND reason = ?"
        if self._rows(known, path, REFUSED, seen.stamp, reason):
            return True
        if self._database is not None and seen.is_current():
            refusal = (path, REFUSED, seen.stamp, reason)
            self._write(
                (RECORD_FILE, [_file_row(seen, seen.known_identity)]),
                ("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?)", [refusal]),
            )
        return False

    def note_genres(self, seen: Seen, genres: Sequence[str]) -> None:
        """Keep the genres that were read in the tag, unless the file has changed since it was seen."""
        if self._database is not None and seen.is_current():
            self._write((RECORD_FILE, [_file_row(seen, seen.known_identity, genres)]))

    def rewritten(self, seen: Seen) -> Seen | None:
        """The song in the version this program made of it, known by its stamp from now on; None if it is another song.

        The prediction in it is to be remembered before it is written: then its file is still the one that was seen.
        """
        with suppress(OSError):
            new = self.look(seen.path)
            if new.identity is not None and new.identity == seen.identity and new.is_current():
                self._write((RECORD_FILE, [_file_row(new, new.identity)]))
                return new  # else somebody came between
        return None

    def _note_use(self, method: Method) -> None:
        if method.key not in self._methods_in_use:
            self._methods_in_use.add(method.key)
            self._write((RECORD_METHOD, [_method_row(method)]))

    # --- what its owner asks

    def contents(self) -> Contents:
        """Sizes and counts."""
        counts = (
            "SELECT count(*), count(DISTINCT identity), (SELECT count(*) FROM failures WHERE method != ?) FROM files"
        )
        n_files, n_songs, n_failures = (self._rows(counts, REFUSED) or [(0, 0, 0)])[0]
        methods = self._rows(
            "SELECT key, fields, (SELECT count(*) FROM predictions WHERE method = key), last_used FROM methods"
            " ORDER BY last_used DESC, key"
        )
        predictions = [
            MethodUse(Method(**json.loads(data)), n_predictions, last_used)
            for key, fields, n_predictions, last_used in methods
            if (data := _unseal(fields, key)) is not None
        ]
        n_bytes = 0
        for part in _parts(self.path):
            with suppress(OSError):
                n_bytes += part.stat().st_size
        return Contents(self.path, n_bytes, n_files, n_songs, n_failures, tuple(predictions))

    def prune_gone(self) -> int:
        """Forget files that are gone, and songs that are left without a file; the number of files forgotten.

        On a drive that is not connected nothing is gone: the folder nearest to a file must lie on the same device.
        """
        gone = [
            (path,)
            for path, device in self._rows("SELECT path, device FROM files")
            if isinstance(path, bytes) and not os.path.lexists(path) and _device_near(path) == device
        ]
        self._write(("DELETE FROM files WHERE path = ?", gone))
        self._sweep()
        return len(gone)

    def prune_methods(self, methods: Iterable[Method]) -> int:
        """Forget the prediction by these methods; the number of predictions forgotten."""
        keys = {method.key for method in methods}
        n_forgotten = sum(each.n_predictions for each in self.contents().predictions if each.method.key in keys)
        self._write(("DELETE FROM methods WHERE key = ?", [(key,) for key in keys]))
        self._sweep()
        return n_forgotten

    def _sweep(self) -> None:
        """Drop what nothing leads to any more, and give its room back to the disk."""
        self._write(
            (
                "DELETE FROM predictions WHERE identity NOT IN (SELECT identity FROM files WHERE identity NOT NULL)",
                [()],
            ),
            ("DELETE FROM predictions WHERE method NOT IN (SELECT key FROM methods)", [()]),
            ("DELETE FROM embeddings WHERE number NOT IN (SELECT number FROM predictions)", [()]),
            ("DELETE FROM failures WHERE path NOT IN (SELECT path FROM files)", [()]),
            ("DELETE FROM failures WHERE method NOT IN (SELECT key FROM methods) AND method != ?", [(REFUSED,)]),
        )

        def shrink(database: sqlite3.Connection) -> None:
            with suppress(sqlite3.OperationalError):  # no room for a copy, or another run reads: the next time
                database.execute("VACUUM")
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        self._do(shrink)

    # --- the file

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._do(lambda database: database.execute(sql, values).fetchall()) or []

    def _write(self, *statements: tuple[str, Sequence[tuple[object, ...] | dict[str, object]]]) -> None:
        """All of the statements, each for all of its rows, or nothing."""

        def write(database: sqlite3.Connection) -> None:
            with database:
                database.execute("BEGIN IMMEDIATE")
                for sql, rows in statements:
                    database.executemany(sql, rows)

        self._do(write)

    def _do(self, action: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """What the action returns; None where the cache cannot be used, which is told when it is found out."""
        with self._lock:
            if self._database is None:
                return None
            try:
                return action(self._database)
            except sqlite3.ProgrammingError:
                raise
            except TROUBLE as error:
                logger.debug("the cache", exc_info=True)
                self.close()
                if _is_damage(error) and self._may_begin_again:
                    self._may_begin_again = False
                    self._open(damaged=True)
                else:
                    self._tell(f"the cache {self.path} cannot be used any more ({error}): going on without it")
            return None

    def _open(self, damaged: bool = False) -> None:
        """Open the file, a new one if there is none; one that does not fit or was found `damaged` is moved aside."""
        try:
            _take_over(self.path)
            self.path = Path(os.path.realpath(self.path))  # where a link leads: there its log lies as well
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(self.path):
                # Another run may have moved the damaged one aside already.
                known = damaged and self.path.exists() and self.path.stat().st_ino == self._inode
                reason = "is damaged" if known else _misfit(self.path)
                aside = _move_aside(self.path) if reason else None
                _touch(self.path)
                self._inode = self.path.stat().st_ino
                self._database = _begin(self.path)
                logger.debug("the cache is %s, SQLite %s", self.path, sqlite3.sqlite_version)
                if aside is not None:
                    n_saved = _copy_readable(aside, self._database)
                    new = f"its {n_saved} readable predictions are in a new one" if n_saved else "a new one is begun"
                    self._tell(f"the cache {self.path} {reason}: moved to {aside.name}, {new}")
        except (OSError, *TROUBLE) as error:
            logger.debug("the cache", exc_info=True)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._tell(f"the cache {self.path} cannot be used ({reason}): going on without it")


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    database.text_factory = lambda data: data.decode(errors="replace")  # damage is to be found, not to be raised
    return database


def _begin(path: Path) -> sqlite3.Connection:
    """A connection to the cache, with its tables made if they are not there, or made of those of an earlier version."""
    database = _connect(path)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last songs, never the file
        found = _schema(database)
        if found != SCHEMA:
            with database:
                database.execute("BEGIN IMMEDIATE")
                known = [version for version, schema in SCHEMAS.items() if schema == found]
                for statement in [STEPS[each] for each in range(known[0], SCHEMA_VERSION)] if known else SCHEMA:
                    database.execute(statement)
                database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        database.close()
        raise
    return database


def _schema(database: sqlite3.Connection) -> tuple[str, ...]:
    return tuple(sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL"))


def _take_over(path: Path) -> None:
    """Give a file of version 1 the name that it has now, where there is none of that name yet."""
    old = path.with_name(NAME_1)
    if os.path.lexists(path) or not os.path.lexists(old):
        return
    with _alone(Path(os.path.realpath(old))):
        if os.path.lexists(path) or not os.path.lexists(old):
            return  # another run was quicker
        if not _misfit(old):
            with closing(_connect(old)) as database:
                database.execute("PRAGMA journal_mode = DELETE")  # one file alone; an error while somebody has it open
        for part, new in zip(_parts(old), _parts(path), strict=True):
            with suppress(FileNotFoundError):
                os.replace(part, new)


def _misfit(path: Path) -> str:
    """Why this cannot be the cache, "" if it can; raises what keeps it from being read."""
    if not os.path.lexists(path):
        return ""
    if not path.is_file():
        return "is not a file"
    try:
        with closing(_connect(path)) as database:
            found = _schema(database)
            owner, version = (
                database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
    except TROUBLE as error:
        if not _is_damage(error):
            raise
        return "is damaged or no database"
    if not found and not owner:  # begun, and then killed
        return ""
    if owner != APPLICATION_ID:
        return "belongs to another program"
    if version > SCHEMA_VERSION:
        raise sqlite3.DatabaseError("written by a newer genre-tag")
    return "" if SCHEMAS.get(version) == found else "is of an older version"


def _is_damage(error: Exception) -> bool:
    """Whether SQLite found the file malformed, or no database; for full disks, locks and the like it has a class."""
    return type(error) in (sqlite3.DatabaseError, UnicodeDecodeError)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Only one run at a time begins a cache or moves it aside; the system takes the lock from one that is killed."""
    guard = path.with_name(f"{path.name}.lock")
    _touch(guard)
    with closing(_connect(guard)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        yield


def _touch(path: Path) -> None:
    """Make sure that there is such a file, writable by the user and, as it names their songs, readable by none else."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))


def _move_aside(path: Path) -> Path:
    """Give the cache a name that is free, and its write-ahead log the one that belongs to it."""
    aside = next(new for n in count(1) if not os.path.lexists(new := path.with_name(f"{path.name}.old-{n}")))
    for part, new in zip(_parts(path), _parts(aside), strict=True):
        with suppress(FileNotFoundError):
            os.replace(part, new)
    return aside


def _copy_readable(old: Path, new: sqlite3.Connection) -> int:
    """Copy what can be read of a cache that is damaged; the number of predictions. Seals show which rows are whole."""
    with suppress(*TROUBLE), closing(_connect(old)) as database, new:
        new.execute("BEGIN IMMEDIATE")
        for table, key in KEYS.items():
            rows = _readable(database, table, key)
            if first := next(rows, None):
                places = ", ".join("?" * len(first))
                new.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({places})", chain([first], rows))
    return int(new.execute("SELECT count(*) FROM predictions").fetchone()[0])


def _readable(database: sqlite3.Connection, table: str, key: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of a table from both of its ends, each time up to the first damage; some twice where there is any."""
    for order in ("ASC", "DESC"):
        with suppress(*TROUBLE):
            yield from database.execute(
                f"SELECT * FROM {table} ORDER BY {', '.join(f'{each} {order}' for each in key)}"
            )
            return


def _parts(path: Path) -> list[Path]:
    """The files that make up a database (SQLite, "Write-Ahead Logging" §2.2)."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _device_near(path: bytes) -> str:
    """The device of the nearest folder above that is there; "" when there is none."""
    folders = map(str, Path(os.fsdecode(path)).parents)
    return next((str(os.stat(folder).st_dev) for folder in folders if os.path.isdir(folder)), "")


def _file_row(seen: Seen, identity: bytes | None, genres: Sequence[str] | None = None) -> dict[str, object]:
    """The values of RECORD_FILE."""
    path = os.fsencode(seen.path)
    packed = None if genres is None else _seal(_pack_genres(genres), path, seen.stamp.encode())
    return {"path": path, "stamp": seen.stamp, "device": seen.device, "identity": identity, "genres": packed}


def _method_row(method: Method) -> tuple[bytes, bytes, str]:
    """The values of RECORD_METHOD."""
    fields = json.dumps(asdict(method)).encode()
    return method.key, _seal(fields, method.key), f"{datetime.now(timezone.utc):%Y-%m-%d}"


def _pack_genres(genres: Sequence[str]) -> bytes:
    return json.dumps([READING_VERSION, *genres]).encode()


def _unpack_genres(data: bytes) -> tuple[str, ...] | None:
    """None for genres that were read in another way than they would be now."""
    version, *genres = json.loads(data.decode())
    return tuple(genres) if version == READING_VERSION else None


def _pack(query: Prediction) -> bytes:
    """One line of JSON and the logits, bit for bit: decided on again, they give the very same confidences."""
    shape, starts = query.logits.shape, [float(start) for start in query.starts_seconds]
    head = json.dumps([float(query.duration_seconds), query.unsure, starts, shape]).encode() + b"\n"
    return head + query.logits.astype("<f4").tobytes()


def _pack_embeddings(prediction: Prediction) -> bytes | None:
    """Three digits of each number, which is what bf16 leaves of a logit; None where there are none, or too large."""
    if prediction.embeddings is None:
        return None
    with np.errstate(over="ignore"):
        rows = prediction.embeddings.astype("<f2")
    return rows.tobytes() if np.isfinite(rows).all() else None


def _unpack_prediction(data: bytes, embeddings: bytes | None = None) -> Prediction:
    head, _, rows = data.partition(b"\n")
    duration_seconds, unsure, starts, shape = json.loads(head.decode())
    logits = np.frombuffer(rows, "<f4").astype(np.float32).reshape(shape)
    known = None if embeddings is None else np.frombuffer(embeddings, "<f2").astype(np.float32).reshape(len(logits), -1)
    return Prediction(logits, tuple(starts), duration_seconds, unsure, embeddings=known)


def _seal(data: bytes, *keys: bytes) -> bytes:
    """The data with a CRC-32 of its keys and itself: SQLite does not notice a flipped bit in a value or an index."""
    return zlib.crc32(b"\0".join((*keys, data))).to_bytes(4, "little") + data


def _unseal(packed: object, *keys: object) -> bytes | None:
    """The data that was sealed under these keys; None if there is none, or any of it has changed."""
    whole = [part for part in (*keys, packed) if isinstance(part, bytes)]
    if len(whole) <= len(keys) or _seal(whole[-1][4:], *whole[:-1]) != packed:
        return None
    return whole[-1][4:]
