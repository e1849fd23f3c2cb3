"""The log of a training run: what the network said of every snippet it was judged by, for reports to read.

A file of JSON lines in ASCII: a head, which names the genres, then one line for each snippet.
"""

from __future__ import annotations

import json
import logging
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, fields
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from tagger.atomic import replacing
from tagger.errors import RunError

logger = logging.getLogger(__name__)

FILE_NAME = "predictions.jsonl"  # in the folder of a run
FORMAT, VERSION = "genre-tag predictions", 1
SPLITS = ("train", "validate", "test")

_LONGEST_HEAD = 1 << 20  # bytes; a file without lines that is no log is not read to its end
_LARGEST = float(np.finfo(np.float32).max)
_TEXTS = ("split", "song", "path", "artist", "reference")
_FIELDS = (*_TEXTS, "start_seconds", "logits")
_FIELDS_OF = itemgetter(*_FIELDS)
_COLUMNS = ("splits", "songs", "paths", "artists", "starts_seconds", "labels", "logits")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network said of labelled snippets, a row each; the rows of a song need not be neighbours.

    Columns of text are arrays of str objects: rows of one song share theirs.
    """

    genres: tuple[str, ...]
    #: Divides a song's mean logits; None: not fitted.
    temperature: float | None
    #: Least confidence at which a genre is written by default; None: not fitted; math.inf: none is written.
    min_confidence: float | None
    splits: np.ndarray  # (n_rows,) str, of SPLITS
    songs: np.ndarray  # (n_rows,) str: which rows are of one song
    paths: np.ndarray  # (n_rows,) str; bytes that are no UTF-8 are lone surrogates, as os.fsdecode makes them
    artists: np.ndarray  # (n_rows,) str
    starts_seconds: np.ndarray  # (n_rows,) float64
    labels: np.ndarray  # (n_rows,) int64: index of the reference in genres
    logits: np.ndarray  # (n_rows, n_genres) float32

    def __post_init__(self) -> None:
        n_rows = len(self.splits)
        for name in _COLUMNS:
            shape = (n_rows, len(self.genres)) if name == "logits" else (n_rows,)
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must be {shape}, not {getattr(self, name).shape}")
        if not (np.isfinite(self.logits).all() and np.isfinite(self.starts_seconds).all()):
            raise ValueError("logits and starts_seconds must be finite")
        if n_rows and not 0 <= self.labels.min() <= self.labels.max() < len(self.genres):
            raise ValueError(f"labels must be 0 to {len(self.genres) - 1}")

    def of_split(self, name: str) -> Predictions:
        """The rows of one split, in their order; there may be none."""
        if name not in SPLITS:
            raise ValueError(f"a split is one of {', '.join(SPLITS)}, not {name!r}")
        rows = np.flatnonzero(self.splits == name)
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        return Predictions(**kept | {column: kept[column][rows] for column in _COLUMNS})


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the log, in place of what was there; at any moment there is the old file or the whole new one.

    Logits have nine significant digits, from which every float32 comes back as it was (IEEE 754: fewer do not do):
    what is decided from the log is what was decided from the network. Raises RunError.
    """
    try:
        with replacing(path) as file:
            file.writelines(line.encode("ascii") for line in _lines(predictions))
    except OSError as error:
        raise RunError(path, error.strerror or str(error)) from error


def _lines(predictions: Predictions) -> Iterator[str]:
    never = predictions.min_confidence is not None and math.isinf(predictions.min_confidence)
    head = {
        "format": FORMAT,
        "version": VERSION,
        "genres": predictions.genres,
        "temperature": predictions.temperature,
        "min_confidence": {} if never else predictions.min_confidence,  # as training.json has it
    }
    yield json.dumps(head) + "\n"
    numbers = ", ".join(["%.9g"] * len(predictions.genres))
    columns = (getattr(predictions, name) for name in _COLUMNS)
    for split, song, path, artist, start, label, logits in zip(*columns, strict=True):
        row = {
            "split": split,
            "song": song,
            "path": path,
            "artist": artist,
            "start_seconds": float(start),
            "reference": predictions.genres[label],
        }
        yield f'{json.dumps(row)[:-1]}, "logits": [{numbers % tuple(logits.tolist())}]}}\n'


def read_predictions(path: Path) -> Predictions:
    """The log at `path`, every line checked. Raises RunError."""
    try:
        with path.open("rb") as file:
            first = file.readline(_LONGEST_HEAD)
            head = _read_head(path, first)
            return _read_rows(path, head, file)
    except OSError as error:
        raise RunError(path, error.strerror or str(error)) from error


def _read_head(path: Path, line: bytes) -> dict[str, Any]:
    """Genres, temperature and min_confidence, as `Predictions` has them."""
    if not line:
        raise RunError(path, "empty")
    try:
        head = json.loads(str(line, "utf-8"))
    except (ValueError, RecursionError):
        logger.debug("%s: line 1", path, exc_info=True)
        head = None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise RunError(path, f"line 1: no predictions log: it does not begin with the format {FORMAT!r}")
    version = head.get("version")
    if version != VERSION:
        is_newer = isinstance(version, int) and version > VERSION
        way_out = "update genre-tag" if is_newer else "train again"
        raise RunError(path, f"line 1: version {version!r} where this genre-tag reads {VERSION}: {way_out}")
    genres = head.get("genres")
    if not isinstance(genres, list) or not genres or not all(isinstance(genre, str) and genre for genre in genres):
        raise RunError(path, "line 1: genres must be a list of names")
    if len(set(genres)) < len(genres):
        raise RunError(path, "line 1: genres names one twice")
    temperature, least = head.get("temperature"), head.get("min_confidence")
    if temperature is not None and not (_is_number(temperature) and 0 < temperature < math.inf):
        raise RunError(path, f"line 1: temperature {temperature!r} must be a number above 0")
    least = math.inf if least == {} else least
    if least not in (None, math.inf) and not (_is_number(least) and 0 <= least <= 1):
        raise RunError(path, f"line 1: min_confidence {least!r} must be a number from 0 to 1")
    return {"genres": tuple(genres), "temperature": temperature, "min_confidence": least}


def _read_rows(path: Path, head: dict[str, Any], lines: Iterator[bytes]) -> Predictions:
    label_of = {genre: label for label, genre in enumerate(head["genres"])}
    shared: dict[str, str] = {}  # one object for equal texts: JSON makes a new one of each
    known: dict[str, tuple[str, str]] = {}  # song -> its split and reference
    columns: tuple[list[str], ...] = ([], [], [], [])
    labels, starts_seconds, logits = array("q"), array("d"), array("f")
    for number, line in enumerate(lines, 2):
        try:
            texts, start, values = _read_row(line, label_of)
        except ValueError as error:
            raise RunError(path, f"line {number}: {error}") from None
        split, song, *_, reference = texts
        if known.setdefault(song, (split, reference)) != (split, reference):
            before = " ".join(known[song])
            raise RunError(path, f"line {number}: song {song} is {split} {reference} here, {before} above")
        for column, text in zip(columns, texts, strict=False):
            column.append(shared.setdefault(text, text))
        labels.append(label_of[reference])
        starts_seconds.append(start)
        logits.extend(values)
    if not labels:
        raise RunError(path, "no line after the first: it holds no predictions")
    splits, songs, paths, artists = (np.array(column, object) for column in columns)
    return Predictions(
        **head,
        splits=splits,
        songs=songs,
        paths=paths,
        artists=artists,
        starts_seconds=np.frombuffer(starts_seconds),
        labels=np.frombuffer(labels, np.int64),
        logits=np.frombuffer(logits, np.float32).reshape(-1, len(label_of)),
    )


def _read_row(line: bytes, label_of: dict[str, int]) -> tuple[tuple[str, ...], float, list[float]]:
    """Texts in the order of _TEXTS, start and logits. Raises ValueError with what is wrong in words."""
    try:
        row = json.loads(str(line, "utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    try:
        *texts, start, values = _FIELDS_OF(row)
    except (TypeError, KeyError):
        raise ValueError(f"must have {', '.join(_FIELDS)}") from None
    if not set(map(type, texts)) <= {str}:
        raise ValueError(f"{', '.join(_TEXTS)} must be text")
    if texts[0] not in SPLITS:
        raise ValueError(f"split {texts[0]!r} is none of {', '.join(SPLITS)}")
    if texts[-1] not in label_of:
        raise ValueError(f"reference {texts[-1]!r} is no genre of line 1")
    if not isinstance(values, list) or len(values) != len(label_of):
        raise ValueError(f"logits must be a list of {len(label_of)} numbers")
    numbers = [start, *values]
    try:
        if set(map(type, numbers)) <= {int, float} and sum(map(abs, numbers)) < _LARGEST:
            return tuple(texts), start, values
    except OverflowError:  # a whole number that no float can hold
        pass
    raise ValueError("start_seconds and logits must be finite numbers")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
