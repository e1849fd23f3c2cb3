"""What a cluster classified, as Parquet: one row for each song, in whatever order it came, and each song once.

    RESULTS/method=0123.../20261123T101500.123456Z-00000.parquet

One process writes, the one that started the run: so that no song is there twice whatever happens to the others, and of
its own end none but the latest rows are lost. A song that is classified or decided on again gets its new row in the
file of the old one, which is replaced as a whole.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tagger.atomic import replacing
from tagger.cluster.manifest import locate
from tagger.cluster.stages import Answer
from tagger.errors import OutputError
from tagger.pipeline.aggregate import Decision
from tagger.pipeline.cache import Method
from tagger.pipeline.predict import Prediction
from tagger.pipeline.run import SongResult

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows, where two runs at once are not noticed
    flock = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

FILE_ROWS = 16_384  # some 10 MB: as many files for 100 million songs as a folder can hold with ease
FLUSH_SECONDS = 30.0  # what a run that is killed has to do again, at most

SCHEMA = pa.schema([
    ("path", pa.string()),  # or URI: see manifest.name_of
    ("identity", pa.string()),  # tagger.tags.identity, in hex; null where there is none
    ("status", pa.string()),
    ("genres", pa.list_(pa.string())),  # decided on, best first; empty: unsure, failed, or not classified
    ("confidence", pa.float64()),  # of the best genre, decided on or not
    ("probabilities", pa.map_(pa.string(), pa.float64())),  # every genre's confidence
    ("logits", pa.list_(pa.list_(pa.float32()))),  # (n_snippets, n_outputs)
    ("starts_seconds", pa.list_(pa.float64())),
    ("duration_seconds", pa.float64()),
    ("unsure", pa.string()),  # why there was nothing to classify
    ("error", pa.string()),  # why it could not be decoded, read or written; null when all is well
    ("is_lasting", pa.bool_()),  # whether it would fail again
    ("reason", pa.string()),
    ("old", pa.list_(pa.string())),  # genres in its tag before
    ("new", pa.list_(pa.string())),  # and after
    ("written", pa.bool_()),
    ("scale", pa.string()),
    ("precision", pa.string()),
    ("stamp", pa.string()),  # the version of the file: size, times, inode; "" for a URI
    ("asked", pa.string()),  # digest of the options that it was decided and written by
])  # fmt: skip


class Results:
    """`with Results(folder, method) as results:` is alone in writing them. Raises OutputError throughout."""

    def __init__(self, folder: Path, method: Method) -> None:
        self.folder = folder / f"method={method.key.hex()}"
        self._run = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%fZ}"
        self._n_files = 0
        self._new: dict[str, dict[str, Any]] = {}
        self._file_of: dict[str, Path] = {}  # that holds the row of a song
        self._is_indexed = False  # whether all songs are in there
        self._replaced: dict[Path, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._flushed = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
            about = json.dumps(asdict(method), indent=1).encode()
            with replacing(self.folder / ".method.json") as file:
                file.write(about)
        except OSError as error:
            raise OutputError(self.folder, f"results cannot be kept there ({error.strerror or error})") from error
        try:
            if flock is not None:
                flock(self._lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise OutputError(self.folder, "another run writes there: wait for it, or name other --results") from None
        except OSError:  # a file system that knows no locks
            logger.debug("no locks in %s", self.folder, exc_info=True)
            pass

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.flush()
        finally:
            os.close(self._lock)

    def __iter__(self) -> Iterator[Answer]:
        """What is there from earlier runs, file after file."""
        for path in sorted(self.folder.glob("*.parquet")):
            for row in self._read(path).to_pylist():
                self._file_of[row["path"]] = path
                yield _as_answer(row)
        self._is_indexed = True

    def keep(self, answer: Answer) -> None:
        """Put a row into the place of that song, or behind all others; on the disk within half a minute."""
        if not self._is_indexed:
            self._index()
        row = _as_row(answer)
        file = self._file_of.get(answer.name)
        if file is None:
            self._new[answer.name] = row
        else:
            self._replaced[file][answer.name] = row
        n_pending = len(self._new) + sum(map(len, self._replaced.values()))
        if n_pending >= FILE_ROWS or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Have all on the disk."""
        for path, rows in self._replaced.items():
            old = self._read(path)
            stays = [name not in rows for name in old.column("path").to_pylist()]
            self._save(path, pa.concat_tables([old.filter(pa.array(stays)), _as_table(list(rows.values()))]))
        self._replaced.clear()
        if self._new:
            path = self.folder / f"{self._run}-{self._n_files:05}.parquet"
            self._save(path, _as_table(list(self._new.values())))
            self._file_of |= dict.fromkeys(self._new, path)
            self._n_files += 1
            self._new.clear()
        self._flushed = time.monotonic()

    def _index(self) -> None:
        """Learn which songs have a row, without reading the rows."""
        for path in sorted(self.folder.glob("*.parquet")):
            self._file_of |= dict.fromkeys(self._read(path, ["path"]).column("path").to_pylist(), path)
        self._is_indexed = True

    def _read(self, path: Path, columns: list[str] | None = None) -> pa.Table:
        try:
            with pq.ParquetFile(path) as file:
                names, table = file.schema_arrow.names, file.read(columns)
        except (OSError, pa.ArrowException) as error:
            raise OutputError(
                path, f"cannot be read ({error}): move it away, its songs are classified again"
            ) from error
        if names != SCHEMA.names:
            raise OutputError(path, "not as this version of genre-tag writes them: name other --results")
        return table

    def _save(self, path: Path, table: pa.Table) -> None:
        try:
            with replacing(path) as file:  # hidden until then: datasets pass over names that begin with a dot
                pq.write_table(table, file, compression="zstd")
        except (OSError, pa.ArrowException) as error:
            raise OutputError(path, f"cannot be written ({error})") from error


def _as_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _as_row(answer: Answer) -> dict[str, Any]:
    result = answer.result
    decision, prediction = result.decision, result.prediction
    return {
        "path": answer.name,
        "identity": answer.identity.hex() if answer.identity else None,
        "status": result.status,
        "genres": list(decision.genres) if decision else [],
        "confidence": decision.confidence if decision and decision.ranking else None,
        "probabilities": list(decision.ranking) if decision else None,
        "logits": prediction.logits.tolist() if prediction else None,
        "starts_seconds": list(prediction.starts_seconds) if prediction else None,
        "duration_seconds": prediction.duration_seconds if prediction else None,
        "unsure": prediction.unsure if prediction else None,
        "error": result.reason if result.status == "failed" else None,
        "is_lasting": result.is_lasting,
        "reason": result.reason,
        "old": list(result.old),
        "new": list(result.new),
        "written": result.written,
        "scale": result.scale,
        "precision": answer.precision,
        "stamp": answer.stamp,
        "asked": answer.asked,
    }


def _as_answer(row: dict[str, Any]) -> Answer:
    prediction = decision = None
    if row["logits"] is not None:
        logits = np.array(row["logits"], np.float32) if row["logits"] else np.empty((0, 0), np.float32)
        prediction = Prediction(logits, tuple(row["starts_seconds"]), row["duration_seconds"], row["unsure"])
    if row["probabilities"] is not None:
        unsure = row["reason"] if not row["genres"] else ""
        decision = Decision(tuple(row["genres"]), tuple(map(tuple, row["probabilities"])), unsure)
    result = SongResult(
        locate(row["path"]),
        row["status"],
        tuple(row["old"]),
        tuple(row["new"]),
        decision,
        row["reason"],
        row["written"],
        cached=True,
        is_lasting=row["is_lasting"],
        duration_seconds=row["duration_seconds"],
        starts_seconds=tuple(row["starts_seconds"] or ()),
        scale=row["scale"],
        prediction=prediction,
    )
    identity = bytes.fromhex(row["identity"]) if row["identity"] else None
    return Answer(row["path"], result, identity, row["stamp"], row["precision"], row["asked"])
