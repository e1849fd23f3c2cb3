"""A report for other programs: all of it as JSON, its songs as CSV."""

from __future__ import annotations

import json
from functools import singledispatch
from typing import Any

from tagger.pipeline.records import csv_line
from tagger.report.document import Matrix, Report, Song, Songs, Table

VERSION = 1  # of the JSON: what report.schema.json says
CSV_FIELDS = ("path", "status", "reference", "predicted", "heard", "confidence", "reason", "sections")


def report_json(report: Report) -> str:
    """All of a report as one JSON object in ASCII, as report.schema.json beside this module describes it.

    Paths that are not UTF-8 hold lone surrogates, which Python's os.fsencode turns back into the bytes.
    """
    return json.dumps(as_values(report), allow_nan=False) + "\n"


def report_csv(report: Report) -> str:
    """The songs of a report as CSV, a row each whatever the number of sections it is in; several genres joined by "; ".

    `heard` is the best genre, predicted or not, and `confidence` how sure that is. What is dangerous in a spreadsheet
    is altered: see `tagger.pipeline.records.csv_line`.
    """
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
