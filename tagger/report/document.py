"""What a report holds, whatever it is about and however it is shown: facts, tables, confusions and songs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, Literal

import numpy as np

from tagger.pipeline.records import csv_line

#: What is in a column: "share" is 0..1, "genres" a tuple of names, "share" and "number" may be None.
Kind = Literal["text", "count", "share", "number", "seconds", "genres"]


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    kind: Kind = "text"


@dataclass(frozen=True)
class Table:
    """Rows of values, each of the kind of its column."""

    key: str  # in JSON, and in the address of its place in HTML
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[object, ...], ...]
    note: str = ""  # what the reader must know to read it; what it means that there are no rows


@dataclass(frozen=True)
class Curves(Table):
    """A table whose first column rises, and over which the others, numbers of one kind or None, are drawn as lines."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """How many songs of each reference (row) were predicted to have which genre (column)."""

    key: str
    title: str
    references: tuple[str, ...]
    predicted: tuple[str, ...]
    counts: np.ndarray  # (n_references, n_predicted) int
    note: str = ""

    def folded(self, most: int) -> Matrix:
        """The confusion of the `most` genres of the most songs; the others of a side are counted in one at its end."""
        if max(self.counts.shape) <= most:
            return self
        n_songs = Counter(dict.fromkeys((*self.references, *self.predicted), 0))
        n_songs.update(dict(zip(self.references, self.counts.sum(axis=1).tolist(), strict=True)))
        n_songs.update(dict(zip(self.predicted, self.counts.sum(axis=0).tolist(), strict=True)))
        kept = {genre for genre, _ in n_songs.most_common(most)}
        references, rows = _folded(self.references, kept, "references")
        predicted, columns = _folded(self.predicted, kept, "predictions")
        counts = np.zeros((len(references), len(predicted)), self.counts.dtype)
        np.add.at(counts, np.ix_(rows, columns), self.counts)
        return replace(self, references=references, predicted=predicted, counts=counts)


def _folded(genres: tuple[str, ...], kept: set[str], side: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The genres of a side of which the others are one, and the place of each of `genres` among them."""
    is_kept = np.array([genre in kept for genre in genres], bool)
    names = tuple(genre for genre in genres if genre in kept)
    n_others = len(genres) - len(names)
    places = np.where(is_kept, np.cumsum(is_kept) - 1, len(names))
    return (*names, f"{n_others} other {side}") if n_others else names, places


@dataclass(frozen=True)
class Song:
    """One song, and why it was classified as it was."""

    path: str
    reference: tuple[str, ...]  # genres in its tag, or its label
    predicted: tuple[str, ...]  # genres that would be written; () when unsure
    confidence: float | None  # of the best genre
    ranking: tuple[tuple[str, float], ...]  # the best genres with their confidences
    starts_seconds: tuple[float, ...]
    status: str  # right, wrong, unsure, failed, untagged, ...
    reason: str = ""


@dataclass(frozen=True)
class Songs:
    """Songs, to be looked through one by one."""

    key: str
    title: str
    songs: tuple[Song, ...]
    note: str = ""
    n_brief: int = 10  # how many are shown, the first ones, where there is no room for all: on a terminal


@dataclass(frozen=True)
class Report:
    """Everything that is told, in the order it is told."""

    kind: Literal["run", "comparison", "study", "library"]
    title: str
    facts: tuple[tuple[str, str], ...]  # name, value: what was looked at, and the one-line results
    sections: tuple[Table | Matrix | Songs, ...]


VERSION = 1  # of the JSON: what report.schema.json says
CSV_FIELDS = ("path", "status", "reference", "predicted", "best", "confidence", "reason", "sections")


def report_json(report: Report) -> str:
    """All of a report as one JSON object in ASCII, as report.schema.json beside this module describes it.

    Paths that are not UTF-8 hold lone surrogates, which Python's os.fsencode turns back into the bytes.
    """
    return json.dumps(as_values(report), allow_nan=False) + "\n"


def report_csv(report: Report) -> str:
    """The songs of a report as CSV, a row each whatever the number of sections it is in; several genres joined by "; ".
    Of a study the runs, a row each with all that is told of it.

    `best` is the best genre, predicted or not, and `confidence` how sure that is. What is dangerous in a spreadsheet
    is altered: see `tagger.pipeline.records.csv_line`.
    """
    if report.kind == "study":
        return _runs_csv([section for section in report.sections if isinstance(section, Table)])
    sections_of: dict[str, list[str]] = {}
    songs: dict[str, Song] = {}
    for section in report.sections:
        for song in section.songs if isinstance(section, Songs) else ():
            songs.setdefault(song.path, song)
            sections_of.setdefault(song.path, []).append(section.key)
    rows = (
        (
            song.path,
            song.status,
            "; ".join(song.reference),
            "; ".join(song.predicted),
            song.ranking[0][0] if song.ranking else "",
            "" if song.confidence is None else round(song.confidence, 4),
            song.reason,
            "; ".join(dict.fromkeys(sections_of[song.path])),
        )
        for song in songs.values()
    )
    return "".join(map(csv_line, (CSV_FIELDS, *rows)))


def _runs_csv(tables: Sequence[Table]) -> str:
    """Tables that tell of the same things, by their first column, side by side: columns behind the first's are named by
    their table as well.
    """
    same = [table for table in tables if table.columns[0] == tables[0].columns[0]]
    head: list[object] = [tables[0].columns[0].name]
    rows: dict[object, list[object]] = {row[0]: [row[0]] for row in tables[0].rows}
    for table in same:
        head += [column.name if table is same[0] else f"{table.key} {column.name}" for column in table.columns[1:]]
        for row in table.rows:
            rows[row[0]] += ["" if value is None else value for value in row[1:]]
    return "".join(csv_line(row) for row in (head, *rows.values()))


def as_values(report: Report) -> dict[str, Any]:
    """A report in the types of JSON."""
    return {
        "format": "genre-tag report",
        "version": VERSION,
        "kind": report.kind,
        "title": report.title,
        "facts": [{"name": name, "value": value} for name, value in report.facts],
        "sections": {
            section.key: {"title": section.title, "note": section.note, **_values(section)}
            for section in report.sections
        },
    }


@singledispatch
def _values(section: object) -> dict[str, Any]:
    raise TypeError(f"no section of a report: {section!r}")


@_values.register
def _table_values(table: Table) -> dict[str, Any]:
    names = [column.name for column in table.columns]
    return {
        "type": "table",
        "columns": [{"name": column.name, "kind": column.kind} for column in table.columns],
        "rows": [dict(zip(names, row, strict=True)) for row in table.rows],
    }


@_values.register
def _matrix_values(matrix: Matrix) -> dict[str, Any]:
    return {
        "type": "matrix",
        "references": matrix.references,
        "predicted": matrix.predicted,
        "counts": matrix.counts.tolist(),
    }


@_values.register
def _songs_values(songs: Songs) -> dict[str, Any]:
    return {"type": "songs", "songs": [_song_values(song) for song in songs.songs]}


def _song_values(song: Song) -> dict[str, Any]:
    return {
        "path": song.path,
        "status": song.status,
        "reference": song.reference,
        "predicted": song.predicted,
        "confidence": song.confidence,
        "ranking": [{"genre": genre, "confidence": confidence} for genre, confidence in song.ranking],
        "starts_seconds": song.starts_seconds,
        "reason": song.reason,
    }
