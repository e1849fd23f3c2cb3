"""A plan: what a run would write into each song, in a file that a person edits in a spreadsheet or a program.

One row for each song that was classified. CSV is for spreadsheets, and is read as they save it; JSON lines are for
programs. A row that cannot be understood is named by its line, and does not stop the others.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tagger.atomic import replacing
from tagger.errors import OutputError
from tagger.pipeline.run import SongResult
from tagger.tags.genre import check_genres, clean
from tagger.text import printable

logger = logging.getLogger(__name__)

#: What a person decides on a song: one of the three words, or the genres that it is to have.
Choice = str | tuple[str, ...]
UNDECIDED, ACCEPT, REJECT = "", "accept", "reject"

FIELDS = (
    "path", "old", "proposed", "confidence", "second", "second_confidence", "decision", "identity", "starts_seconds",
)  # fmt: skip
NEEDED = frozenset({"path", "old", "proposed", "decision", "identity"})
SUFFIXES = (".csv", ".jsonl")
MOST_GENRES, LONGEST_GENRE = 20, 200  # of one song; in characters
#: Words that are meant to decide, and would be written as genres.
_NO_GENRES = frozenset({"yes", "no", "y", "n", "ok", "x", "true", "false", "1", "0", "skip", "keep", "none", "-"})
# What a spreadsheet would run as a formula, as in `pipeline.records`, behind the apostrophes that it has already.
_FORMULA, _CONTROL = re.compile(r"(^|[;|\t\r\n])('*\s*[=+\-@＝＋－＠])"), re.compile(r"'*[\t\r\n]")
_UNDECODABLE = re.compile(r"\\udc([89a-f][0-9a-f])")


@dataclass(frozen=True)
class Row:
    """One song of a plan."""

    path: str  # absolute
    #: Who the song is, whatever its name and tags (`tags.identity`): 32 bytes.
    identity: bytes
    #: Genres that it had when the plan was made.
    old: tuple[str, ...] = ()
    #: What *accept* writes: the best genre where none was sure enough.
    proposed: tuple[str, ...] = ()
    confidence: float | None = None
    second: str = ""
    second_confidence: float | None = None
    decision: Choice = UNDECIDED
    #: Where the snippets began that were classified.
    starts_seconds: tuple[float, ...] = ()
    line: int = 0  # of the file that it was read from

    @property
    def wanted(self) -> tuple[str, ...] | None:
        """The genres that the song is to have by the decision; None: it is left as it is."""
        if isinstance(self.decision, tuple):
            return self.decision
        return self.proposed if self.decision == ACCEPT else None


@dataclass(frozen=True)
class Plan:
    """The rows of a plan, and what is wrong with those that cannot be used, a line each."""

    path: Path
    rows: list[Row] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def row_of(result: SongResult) -> Row | None:
    """The row for a song of a run without --write-tags; None for one that was not classified.

    What the run would write is accepted, so that the plan does what the run would; all else is undecided.
    """
    decision = result.decision
    if decision is None or not decision.ranking or result.identity is None or isinstance(result.path, str):
        return None
    (best, confidence), *others = decision.ranking
    is_to_write = result.status == "tagged"
    proposed = result.new if result.status in ("tagged", "unchanged") else decision.genres or (best,)
    second, second_confidence = others[0] if others else ("", None)
    return Row(
        os.path.abspath(result.path), result.identity, result.old, proposed, confidence, second, second_confidence,
        ACCEPT if is_to_write else UNDECIDED, result.starts_seconds,
    )  # fmt: skip


# --- written


@contextmanager
def planning(path: Path) -> Iterator[Callable[[SongResult], None]]:
    """A function that takes the results of a run; the plan of them is written when the block ends without an error."""
    rows: list[Row] = []

    def add(result: SongResult) -> None:
        if (row := row_of(result)) is not None:
            rows.append(row)

    yield add
    write_plan(path, rows)


def write_plan(path: Path, rows: Iterable[Row]) -> None:
    """Write a plan, as JSON lines if that is what the name ends in, else as CSV. Raises OutputError."""
    try:
        with replacing(path) as file:
            file.write(plan_text(path, rows).encode())
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error


def plan_text(path: Path, rows: Iterable[Row]) -> str:
    """What is in a plan of that name."""
    return "".join(_json_lines(rows) if path.suffix.lower() == ".jsonl" else _csv_lines(rows))


def _json_lines(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        values = {name: getattr(row, name) for name in FIELDS} | {"identity": row.identity.hex()}
        yield json.dumps(values | {name: _rounded(values[name]) for name in ("confidence", "second_confidence")}) + "\n"


def _csv_lines(rows: Iterable[Row]) -> Iterator[str]:
    """With a mark of its encoding in front, without which Excel takes UTF-8 for something else."""
    yield "\ufeff" + _csv_line(FIELDS)
    for row in rows:
        decision = join_genres(row.decision) if isinstance(row.decision, tuple) else row.decision
        yield _csv_line([
            row.path, join_genres(row.old), join_genres(row.proposed), _decimal(row.confidence), row.second,
            _decimal(row.second_confidence), decision, row.identity.hex(),
            " ".join(f"{start:.3f}" for start in row.starts_seconds),
        ])  # fmt: skip


def _decimal(confidence: float | None) -> str:
    return "" if confidence is None else f"{confidence:.4f}"


def _rounded(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, 4)


def _csv_line(cells: Sequence[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(
        [marked(cell.encode("utf-8", "backslashreplace").decode()) if isinstance(cell, str) else cell for cell in cells]
    )
    return line.getvalue()


def marked(cell: str) -> str:
    """Text with an apostrophe before all that a spreadsheet would run as a formula, so that `unmarked` is exact.

    >>> marked("=1+1"), unmarked(marked("=1+1")), unmarked(marked("'=1+1"))
    ("'=1+1", '=1+1', "'=1+1")
    """
    cell = _FORMULA.sub(r"\1'\2", cell)
    return f"'{cell}" if _CONTROL.match(cell) else cell


def unmarked(cell: str) -> str:
    """The text that `marked` was given; a spreadsheet may have taken the apostrophe away."""
    cell = cell.removeprefix("'") if _CONTROL.match(cell) else cell
    return _FORMULA.sub(lambda found: found[1] + found[2].removeprefix("'"), cell)


def join_genres(genres: Sequence[str]) -> str:
    r"""Genres in one cell.

    >>> join_genres(("Jazz", "Folk; World")), split_genres(join_genres(("Jazz", "Folk; World")))
    ('Jazz; Folk\\; World', ('Jazz', 'Folk; World'))
    """
    return "; ".join(genre.replace("\\", "\\\\").replace(";", "\\;") for genre in genres)


def split_genres(cell: str) -> tuple[str, ...]:
    """The genres in a cell, which a person may have typed: `Jazz; Blues`."""
    parts = re.findall(r"(?:\\[\\;]|[^;])+", cell)
    return tuple(re.sub(r"\\([\\;])", r"\1", part.strip()) for part in parts if part.strip())


# --- read


def read_plan(path: Path) -> Plan:
    """The plan in a file, as it was written or as a spreadsheet saved it. Raises OutputError for what is no plan."""
    text = _text_of(path)
    plan = Plan(path)
    lines: dict[str, int] = {}  # of songs
    for number, values in (_json_values if _is_json(path, text) else _csv_values)(path, text):
        try:
            if isinstance(values, str):
                raise ValueError(values)
            row = replace(_row(values), line=number)
            if (other := lines.setdefault(row.path, number)) != number:
                raise ValueError(f"the same song as in line {other}")
            plan.rows.append(row)
        except ValueError as error:
            logger.debug("%s, line %d", path, number, exc_info=True)
            plan.broken.append(f"line {number}: {error}")
    return plan


def _text_of(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 that says so."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    is_utf_16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return data.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        if is_utf_16:
            raise OutputError(path, "is cut off in the middle of a character") from error
        line = data.count(b"\n", 0, error.start) + 1
        raise OutputError(
            path, f"line {line} is not UTF-8: save it as CSV again, in the character set UTF-8"
        ) from error


def _is_json(path: Path, text: str) -> bool:
    return path.suffix.lower() == ".jsonl" or text.lstrip().startswith("{")


def _json_values(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line number and values of each row, or what is wrong with it."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            logger.debug("%s, line %d", path, number, exc_info=True)
            yield number, f"not JSON: {error}"
            continue
        if not isinstance(values, dict):
            yield number, "not an object"
        elif missing := sorted(NEEDED - values.keys()):
            yield number, f"has no {', '.join(missing)}"
        else:
            yield number, values


def _csv_values(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The same of CSV: separated by commas, semicolons or tabs, columns in any order and others beside them."""
    lines = io.StringIO(text, newline="")  # which ends a line where CSV does, and not at U+2028
    n_before, delimiter, names = _head(path, lines)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        number = n_before + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            logger.debug("%s, line %d", path, number, exc_info=True)
            yield number, f"quotes do not match: {error}"
            continue
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        values = dict(zip(names, map(unmarked, cells), strict=False))
        if missing := sorted(NEEDED - values.keys()):
            yield number, f"has no {', '.join(missing)}"
            continue
        yield number, values


def _head(path: Path, lines: Iterator[str]) -> tuple[int, str, list[str]]:
    """How many lines there are before the rows, what separates columns, and their names."""
    n_before, head = 1, next(lines, "")
    if head.strip().lower().startswith("sep="):  # Excel's own
        n_before, head = 2, next(lines, "")
    found = {mark: [name.strip().strip('"').lower() for name in head.split(mark)] for mark in (",", ";", "\t")}
    delimiter = max(found, key=lambda mark: len(NEEDED & set(found[mark])))
    if missing := sorted(NEEDED - set(found[delimiter])):
        raise OutputError(path, f"no plan of genre-tag: its first line has no column {', '.join(missing)}")
    return n_before, delimiter, found[delimiter]


def _row(values: dict[str, Any]) -> Row:
    """The song of these values; ValueError says what is wrong with them."""
    path, identity = values["path"], values["identity"]
    if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path:
        raise ValueError("its path is not absolute, as the plan had it")
    if not isinstance(identity, str) or not re.fullmatch(r"\s*[0-9a-fA-F]{64}\s*", identity):
        raise ValueError("its identity is not as the plan had it")
    proposed = _genres(values["proposed"], "proposed")
    row = Row(
        _located(path), bytes.fromhex(identity.strip()), _genres(values["old"], "old", check=False), proposed,
        _number(values.get("confidence"), "confidence"), str(values.get("second") or ""),
        _number(values.get("second_confidence"), "second_confidence"), _decision(values["decision"]),
        _starts(values.get("starts_seconds")),
    )  # fmt: skip
    if row.decision == ACCEPT and not proposed:
        raise ValueError("accepted, but no genre is proposed")
    return row


def _located(path: str) -> str:
    """The path of a song; what is not UTF-8 in it is spelt out in CSV."""
    if os.path.lexists(path):
        return path
    return _UNDECODABLE.sub(lambda found: chr(0xDC00 + int(found[1], 16)), path)


def _genres(value: object, name: str, check: bool = True) -> tuple[str, ...]:
    """Genres of a cell or a list; ValueError for what is none."""
    genres = split_genres(value) if isinstance(value, str) else value
    if not isinstance(genres, list | tuple) or not all(isinstance(genre, str) for genre in genres):
        raise ValueError(f"{name} is not a list of genres")
    if check and genres:
        checked_genres(genres)
    return tuple(genres)


def checked_genres(genres: Sequence[str]) -> tuple[str, ...]:
    """Genres that a person gave, without outer blanks, each once. Raises ValueError for what no song should have."""
    kept = tuple(dict.fromkeys(clean(genre) for genre in genres))
    check_genres(kept)
    if len(kept) > MOST_GENRES:
        raise ValueError(f"{len(kept)} genres for one song")
    for genre in kept:
        if len(genre) > LONGEST_GENRE:
            raise ValueError(f"a genre of {len(genre)} characters")
        if printable(genre) != genre:
            raise ValueError(f"a genre with characters that cannot be seen: {printable(genre)}")
    return kept


def _decision(value: object) -> Choice:
    """What is decided on a song, from a cell or from JSON; ValueError for what is likely meant otherwise."""
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in (UNDECIDED, ACCEPT, REJECT):
            return word
        if word in _NO_GENRES:
            raise ValueError(f"decision {value.strip()!r}: write accept, reject, or the genres")
        if meant := get_close_matches(word, (ACCEPT, REJECT), n=1, cutoff=0.75):
            raise ValueError(f"decision {value.strip()!r}: did you mean {meant[0]}?")
    elif value is None or value == []:
        return UNDECIDED
    genres = _genres(value, "decision", check=False)
    return checked_genres(genres) if genres else UNDECIDED


def _number(value: object, name: str) -> float | None:
    """A number, with a comma where the spreadsheet's language has one; None where there is none."""
    if value is None or value == "":
        return None
    try:
        number = float(value.replace(",", ".") if isinstance(value, str) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"{name} {value!r} is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} {value!r} is no number")
    return number


def _starts(value: object) -> tuple[float, ...]:
    """Where snippets began; () where that is not known."""
    parts = value.split() if isinstance(value, str) else value or ()
    if not isinstance(parts, list | tuple):
        raise ValueError("starts_seconds are no numbers")
    starts = (_number(part, "starts_seconds") for part in parts)
    return tuple(start for start in starts if start is not None)
