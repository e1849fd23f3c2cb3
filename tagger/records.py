"""Results for other programs: one JSON object or one CSV row per song, written as soon as the song is done."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tagger.library import PLAYLIST_SUFFIXES, SONG_SUFFIXES, UNSUPPORTED_SUFFIXES
from tagger.run import SongResult

CSV_FIELDS = ("path", "status", "written", "old", "new", "heard", "confidence", "scale", "reason", "duration_seconds")


class RecordError(Exception):
    """A record file that cannot be written: `path`, `reason`."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def as_record(result: SongResult) -> dict[str, Any]:
    """What became of a song, as plain values.

    `heard` is the best genre, written or not; `scores` every genre's confidence, and `scale` says what those are.
    Paths that are not UTF-8 hold lone surrogates, which Python's os.fsencode turns back into the bytes.
    """
    decision = result.decision
    ranking = decision.ranking if decision else ()
    return {
        "path": str(result.path),
        "status": result.status,
        "written": result.written,
        "old": list(result.old),
        "new": list(result.new),
        "heard": ranking[0][0] if ranking else None,
        "confidence": round(ranking[0][1], 4) if ranking else None,
        "scale": result.scale or None,
        "scores": {genre: round(confidence, 4) for genre, confidence in ranking},
        "reason": result.reason,
        "duration_seconds": None if result.duration_seconds is None else round(result.duration_seconds, 3),
        "starts_seconds": [round(start, 3) for start in result.starts_seconds],
    }


@contextmanager
def json_lines(target: str) -> Iterator[Any]:
    """A function that appends a result to `target` ("-": stdout) as one line of JSON, in ASCII."""
    with _open(target) as file:

        def write(result: SongResult) -> None:
            file.write(json.dumps(as_record(result)) + "\n")
            file.flush()

        yield write


@contextmanager
def csv_rows(target: str) -> Iterator[Any]:
    """A function that appends a result to `target` ("-": stdout) as one CSV row; several genres joined by "; ".

    A cell that a spreadsheet would run as a formula gets an apostrophe in front, so a path can differ from the real
    one there: programs read the JSON (OWASP, "CSV Injection").
    """
    with _open(target) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_FIELDS)
        file.flush()

        def write(result: SongResult) -> None:
            record = as_record(result)
            record["old"], record["new"] = "; ".join(result.old), "; ".join(result.new)
            writer.writerow([_harmless(record[field]) for field in CSV_FIELDS])
            file.flush()

        yield write


def _harmless(cell: object) -> object:
    if isinstance(cell, str):
        cell = cell.encode("utf-8", "backslashreplace").decode()
        return "'" + cell if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else cell
    return cell


@contextmanager
def _open(target: str) -> Iterator[TextIO]:
    if target == "-":
        yield sys.stdout
        return
    path = Path(target)
    if path.suffix.lower() in SONG_SUFFIXES | PLAYLIST_SUFFIXES | UNSUPPORTED_SUFFIXES.keys():
        raise RecordError(path, "that is the name of a music file or a playlist; records would replace it")
    try:
        file = path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise RecordError(path, error.strerror or str(error)) from error
    with file:
        yield file
