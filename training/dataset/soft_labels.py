"""Soft labels: what another tagger says of snippets, to be learned beside their genres.

Knowledge distillation (Hinton, Vinyals, Dean 2015): the shares that a teacher gives to all of its classes say more
of a snippet than one genre does. Its classes need not be genres, nor its numbers probabilities.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tagger.text import one_line
from training.errors import DatasetError

if TYPE_CHECKING:
    from pyarrow import Table

SONG_COLUMNS = ("song", "path")  # as in the dataset; the first that is there counts
START = "start_seconds"


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """A row for each snippet that the teacher has labelled."""

    path: Path
    song_column: str  # the dataset's column that has the keys of `places`
    #: Song → where its labelled snippets start, in seconds, and their rows.
    places: Mapping[str, tuple[np.ndarray, np.ndarray]]
    genres: np.ndarray  # float32 (n_rows, n_genres), each row sums to 1; no columns where there are none
    classes: np.ndarray  # float16 (n_rows, n_classes): the teacher's classes, each of mean 0 and standard deviation 1

    def nearest(self, songs: Sequence[str], starts_seconds: Sequence[float], within: float = math.inf) -> np.ndarray:
        """The row of the same song that starts nearest to each snippet, (n_snippets,); -1 where none does `within` so
        many seconds.
        """
        rows = np.full(len(songs), -1)
        for i, (song, start) in enumerate(zip(songs, starts_seconds, strict=True)):
            if song in self.places:
                starts, its_rows = self.places[song]
                nearest = np.abs(starts - start).argmin()
                if abs(starts[nearest] - start) <= within:
                    rows[i] = its_rows[nearest]
        return rows

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What the network is told, float32: `soft_known` (batch, 1), which is 0 for a row of -1 and else 1, with
        `soft_genres` (batch, n_genres) and `soft_classes` (batch, n_classes), where there are any.
        """
        columns = {"soft_genres": self.genres, "soft_classes": self.classes}
        return {"soft_known": (rows >= 0).astype(np.float32)[:, None]} | {
            name: values[rows].astype(np.float32) for name, values in columns.items() if values.shape[1]
        }


def read_soft_labels(path: Path, genres: Sequence[str]) -> SoftLabels:
    """The table in a Parquet or CSV file: `song` or `path`, `start_seconds`, and a column of numbers for each class.

    Columns called as `genres`, all or none, hold probabilities. Of the others, which may hold anything, those that are
    the same everywhere are left out. Raises DatasetError.
    """
    table = _read(path)
    names = table.column_names
    if not table.num_rows:
        raise DatasetError(path, "has no rows: it needs one for each snippet of the train split")
    song_column = next((name for name in SONG_COLUMNS if name in names), "")
    if not song_column or START not in names or len(set(names)) < len(names):
        found = ", ".join(names[:5]) + ", …" * (len(names) > 5)
        raise DatasetError(path, f"needs the columns song (or path) and {START}, and no name twice; found: {found}")
    missing = [genre for genre in genres if genre not in names]
    if 0 < len(missing) < len(genres):
        raise DatasetError(
            path,
            f"has columns for some genres of the dataset, but not for {', '.join(missing)}: add these, or rename the"
            " others if they are classes of the teacher's own",
        )
    known = {*SONG_COLUMNS, START, *genres}
    probabilities = _probabilities(path, [_numbers(path, table, genre) for genre in genres if not missing])
    classes = _standardised(_numbers(path, table, name) for name in names if name not in known)
    if not probabilities.size + classes.size:
        raise DatasetError(path, "has nothing to learn from: it needs a column for each genre, or classes of a teacher")
    places = _places(table.column(song_column).to_pylist(), _numbers(path, table, START))
    return SoftLabels(path, song_column, places, probabilities, classes)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex; raises DatasetError."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror})") from error
    return found.hexdigest()


def _read(path: Path) -> Table:
    import pyarrow as pa
    from pyarrow import csv, parquet

    as_text = csv.ConvertOptions(column_types=dict.fromkeys(SONG_COLUMNS, pa.string()))
    try:
        if path.suffix.lower() == ".parquet":
            return parquet.read_table(path)
        return csv.read_csv(path, convert_options=as_text)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(path, f"no table of soft labels, .parquet or .csv ({one_line(error)})") from error


def _numbers(path: Path, table: Table, name: str) -> np.ndarray:
    """A column, float64 (n_rows,)."""
    values = table.column(name).to_numpy()
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise DatasetError(path, f"column {name!r} is not all finite numbers: every row needs one")
    numbers: np.ndarray = values.astype(np.float64)
    return numbers


def _places(songs: Sequence[str], starts_seconds: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rows: dict[str, list[int]] = {}
    for row, song in enumerate(songs):
        rows.setdefault(song, []).append(row)
    return {song: (starts_seconds[its_rows], np.array(its_rows)) for song, its_rows in rows.items()}


def _probabilities(path: Path, columns: Sequence[np.ndarray]) -> np.ndarray:
    """float32 (n_rows, n_columns), of which each row sums to 1."""
    values = np.stack(columns, axis=1) if columns else np.empty((0, 0))
    sums = values.sum(axis=1, keepdims=True)
    if values.size and (values.min() < 0 or values.max() > 1 or sums.min() == 0):
        raise DatasetError(path, "the columns of genres are to hold probabilities: from 0 to 1, and not all 0 in a row")
    probabilities: np.ndarray = (values / sums).astype(np.float32)
    return probabilities


def _standardised(columns: Iterable[np.ndarray]) -> np.ndarray:
    """float16 (n_rows, n_columns), each of mean 0 and standard deviation 1, without those that are constant."""
    scaled = [
        ((values - values.mean()) / values.std()).astype(np.float16)
        for values in columns
        if values.min() < values.max()
    ]
    return np.stack(scaled, axis=1) if scaled else np.empty((0, 0), np.float16)
