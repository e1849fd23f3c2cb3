"""Results for other programs: one JSON object or one CSV row per song, written as soon as the song is done."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tagger.audio.library import PLAYLIST_SUFFIXES, SONG_SUFFIXES, UNSUPPORTED_SUFFIXES
from tagger.errors import OutputError
from tagger.pipeline.run import SongResult

Write = Callable[[SongResult], None]

# What begins a formula, at the start of a cell and behind what some spreadsheets take for the end of one.
_FORMULA = re.compile(r"(^|[;|\t\r\n])(\s*[=+\-@＝＋－＠]|^[\t\r\n])")

CSV_FIELDS = (
    "path", "status", "written", "old", "new", "predicted", "confidence", "scale", "reason", "duration_seconds",
    "cached",
)  # fmt: skip


def as_record(result: SongResult) -> dict[str, Any]:
    """The outcome for a song, as plain values.

    `predicted` is the best genre, written or not; `scores` every genre's confidence, and `scale` says what those are;
    `cached` is whether it was predicted in an earlier run.
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
        "predicted": ranking[0][0] if ranking else None,
        "confidence": round(ranking[0][1], 4) if ranking else None,
        "scale": result.scale or None,
        "scores": {genre: round(confidence, 4) for genre, confidence in ranking},
        "reason": result.reason,
        "duration_seconds": None if result.duration_seconds is None else round(result.duration_seconds, 3),
        "starts_seconds": [round(start, 3) for start in result.starts_seconds],
        "cached": result.cached,
    }


@contextmanager
def json_lines(target: str) -> Iterator[Write]:
    """A function that appends a result to `target` ("-": stdout) as one line of JSON, in ASCII."""
    with _open(target, "") as append:
        yield lambda result: append(json.dumps(as_record(result)) + "\n")


@contextmanager
def csv_rows(target: str) -> Iterator[Write]:
    """A function that appends a result to `target` ("-": stdout) as one CSV row; several genres joined by "; ".

    A path can differ from the real one there (see `csv_line`): programs read the JSON.
    """
    with _open(target, csv_line(CSV_FIELDS)) as append:

        def write(result: SongResult) -> None:
            record = as_record(result)
            record["old"], record["new"] = "; ".join(result.old), "; ".join(result.new)
            append(csv_line([record[field] for field in CSV_FIELDS]))

        yield write


def csv_line(cells: Sequence[object]) -> str:
    """A row of CSV; what a spreadsheet would run as a formula gets an apostrophe in front (OWASP, "CSV Injection").

    So it does behind a semicolon, at which some begin a cell.
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(_harmless, cells))
    return line.getvalue()


def _harmless(cell: object) -> object:
    if isinstance(cell, str):
        cell = cell.encode("utf-8", "backslashreplace").decode()
        return _FORMULA.sub(r"\1'\2", cell)
    return cell


def check_target(path: Path) -> None:
    """Raise OutputError for a name that music or a playlist has: what is written there would replace it."""
    if path.suffix.lower() in SONG_SUFFIXES | PLAYLIST_SUFFIXES | UNSUPPORTED_SUFFIXES.keys():
        raise OutputError(path, "that is the name of a music file or a playlist; records would replace it")


@contextmanager
def _open(target: str, head: str) -> Iterator[Callable[[str], None]]:
    """A function that appends text to `target`, behind `head`, and sees to it that it is there.

    An old file keeps its contents until the first text comes, or the run ends well without any.
    """
    path = Path(target)
    check_target(path)
    with _naming(target):
        file = sys.stdout if target == "-" else path.open("a", encoding="utf-8", newline="")
    is_begun = False

    def append(text: str) -> None:
        nonlocal is_begun
        with _naming(target):
            if not is_begun:
                if target != "-" and path.is_file():
                    file.truncate(0)
                file.write(head)
            is_begun = True
            file.write(text)
            file.flush()

    try:
        yield append
        if not is_begun:
            append("")
    finally:
        if target != "-":
            with _naming(target):  # what could not be written is tried once more
                file.close()


@contextmanager
def _naming(target: str) -> Iterator[None]:
    """What goes wrong with a file is a OutputError; a pipe whose reader has gone is nobody's fault."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(Path(target), error.strerror or str(error)) from error
