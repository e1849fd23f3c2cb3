"""A report as text: on a terminal, in colour where it has any, or in a file; made for 80 columns and more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import TextIO

import numpy as np
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from tagger.report.document import Column, Curves, Matrix, Report, Song, Songs, Table
from tagger.text import genres_text, printable, shown

MOST_ROWS = 60  # of a table
CURVE_CELLS = 7  # of a column of a share, and of what is between it and the next
LONGEST_TEXT = 100  # cells of a text in a table
_NOTHING = "–"


def print_report(report: Report, file: TextIO | None = None) -> None:
    """Print a report to a terminal, a file or a pipe (None: standard output)."""
    console = Console(file=file, highlight=False)
    console.print(Text(shown(report.title), "bold"))
    name_cells = max((cell_len(shown(name)) for name, _ in report.facts), default=0)
    for name, value in report.facts:
        _print_hanging(shown(name) + " " * (name_cells + 2 - cell_len(shown(name))), shown(value), console)
    for section in report.sections:
        console.print()
        console.print(Text(shown(section.title), "bold"))
        print_section(section, console)
        if section.note:
            _print_hanging("", shown(section.note), console, "dim")


def _print_hanging(head: str, text: str, console: Console, style: str = "") -> None:
    """Print a text beside its head, all its lines below each other."""
    for number, line in enumerate(Text(text, style).wrap(console, max(20, console.width - cell_len(head)))):
        line.rstrip()
        console.print(Text.assemble((head if not number else " " * cell_len(head), "dim"), line), soft_wrap=True)


@singledispatch
def print_section(section: object, console: Console) -> None:
    """Print what a section of a report holds."""
    raise TypeError(f"no section of a report: {section!r}")


@print_section.register
def _print_table(table: Table, console: Console) -> None:
    if not table.rows:
        return
    rich = RichTable(box=None, pad_edge=False)
    for column in table.columns:
        is_text = column.kind in ("text", "genres")
        rich.add_column(
            Text(shown(column.name), "dim"),
            justify="left" if is_text else "right",
            no_wrap=not is_text,
            overflow="fold",
        )
    for row in table.rows[:MOST_ROWS]:
        rich.add_row(*(Text(cell_text(column, value)) for column, value in zip(table.columns, row, strict=True)))
    console.print(rich)
    if len(table.rows) > MOST_ROWS:
        console.print(f"… and {len(table.rows) - MOST_ROWS} more: all are in --format html and json")


@print_section.register
def _print_curves(curves: Curves, console: Console) -> None:
    if CURVE_CELLS * len(curves.columns) <= console.width:
        _print_table(curves, console)
    elif curves.rows:
        console.print(f"{len(curves.columns) - 1} lines: they are drawn in --format html, and in json as numbers")


def cell_text(column: Column, value: object) -> str:
    """A value of a table as people read it.

    >>> cell_text(Column("right", "share"), 2 / 3), cell_text(Column("at", "seconds"), 75.0)
    ('0.667', '1:15')
    """
    return _NOTHING if value is None else _KINDS[column.kind](value)


def time_text(seconds: float) -> str:
    """A place in a song, in minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


_KINDS: dict[str, Callable[..., str]] = {
    "text": lambda value: shown(str(value), LONGEST_TEXT),
    "genres": lambda value: shown("; ".join(value), LONGEST_TEXT) or _NOTHING,
    "count": str,
    "share": "{:.3f}".format,
    "number": "{:.3f}".format,
    "seconds": time_text,
}


@print_section.register
def _print_songs(songs: Songs, console: Console) -> None:
    for song in songs.songs[: songs.n_brief]:
        console.print(Text(shown(song.path)), soft_wrap=True)  # whole, to be copied
        _print_hanging("    ", song_text(song), console)
    n_more = len(songs.songs) - songs.n_brief
    if n_more > 0:
        some = f"… and {n_more} more" if songs.n_brief else f"{n_more} songs"
        console.print(f"{some}: all are in --format html, json and csv")


def song_text(song: Song) -> str:
    """The status of a song, in one line without its name."""
    ranked = ", ".join(f"{shown(genre)} {confidence:.3f}" for genre, confidence in song.ranking[:3])
    parts = [f"{genres_text(song.reference)}, {song.status}" + (f": predicted {ranked}" if ranked else "")]
    if song.reason:
        parts.append(shown(song.reason))
    return "; ".join(parts)


@print_section.register
def _print_matrix(matrix: Matrix, console: Console) -> None:
    if matrix.counts.sum():
        lines, legend = confusion_text(matrix, console.width)
        for line in lines:
            console.print(line, no_wrap=True, overflow="crop")
        for text in legend:
            _print_hanging("", text, console, "dim")


MOST_REFERENCES = 30  # rows
LONGEST_NAME, SHORTEST_NAME = 24, 10  # cells of a genre in front of its row, as far as there is room
#: What share of a row is coloured how, of hits and of misses: blue and orange are told apart by people of any colour
#: vision (Okabe and Ito 2008), and these are neither light nor dark, as nobody knows what a terminal is. All are among
#: the 256 colours of xterm.
HITS = ((0.75, "#00afff"), (0.5, "#0087d7"), (0.0, "#5f87af"))
MISSES = ((0.4, "#ff5f00"), (0.2, "#d78700"), (0.1, "#af875f"))  # from a tenth on a pair counts as confused


def confusion_text(matrix: Matrix, width: int) -> tuple[list[Text], list[str]]:
    """A confusion that holds songs in lines of `width` cells, and sentences that say how to read them.

    Two lines for each reference: shares of its songs in per cent, and the songs. Where there is no room for all
    genres, there are those of the pairs that are confused most, and a column for all others.
    """
    plan = _plan(matrix, width)
    names = [matrix.predicted[column] for column in plan.columns]
    heads, numbers = _heads(names, plan.cells - 1)
    first = Text(_left("", plan.name_cells) + _right("songs", plan.count_cells), "dim")
    lines = [first.append("".join(_right(head, plan.cells) for head in heads + ["…"] * plan.is_cut))]
    for row in plan.rows:
        reference, counts, n_songs = matrix.references[row], matrix.counts[row], matrix.counts[row].sum()
        number = f"{numbers[reference]} " if reference in numbers else ""
        name = number + shown(reference, plan.name_cells - len(number))
        above = Text(_left(name, plan.name_cells)).append(_right(str(n_songs), plan.count_cells), "dim")
        below = Text(" " * (plan.name_cells + plan.count_cells))
        found = [(counts[column], reference == matrix.predicted[column]) for column in plan.columns]
        for n_here, is_hit in found + [(n_songs - counts[plan.columns].sum(), False)] * plan.is_cut:
            share = n_here / n_songs if n_songs else None
            style = _heat(share or 0.0, is_hit)
            above.append(_right(_per_cent(share), plan.cells), style)
            below.append(_right(str(n_here or ""), plan.cells), style or "dim")
        below.rstrip()
        lines += [above, below]
    return lines, _legend(matrix, plan, numbers)


@dataclass(frozen=True)
class _Plan:
    """What is shown where."""

    rows: list[int]
    columns: list[int]
    is_cut: bool  # some columns are not shown, and have one together
    name_cells: int
    count_cells: int  # of the number of songs of a row
    cells: int  # of a column


def _plan(matrix: Matrix, width: int) -> _Plan:
    counts, n_songs = matrix.counts, matrix.counts.sum(axis=1)
    count_cells = 1 + max(len("songs"), len(str(n_songs.max())))
    longest = min(LONGEST_NAME, max(cell_len(printable(name)) for name in matrix.references))
    is_full = bool((100 * counts > 99 * n_songs[:, None]).any())  # there is a 100 to be shown
    cells = 1 + max(2 + is_full, len(str(counts.max())))
    name_cells = min(longest, max(SHORTEST_NAME, width - count_cells - len(matrix.predicted) * cells))
    n_columns = (width - name_cells - count_cells) // cells
    is_cut = len(matrix.predicted) > n_columns
    if is_cut:  # a column is taken by all others, and a name has the number of its column in front
        cells = 1 + max(3, len(str(n_songs.max())))
        name_cells = min(LONGEST_NAME, longest + 3)
        n_columns = max(1, (width - name_cells - count_cells) // cells - 1)
    rows, columns = _most_confused(matrix, n_columns if is_cut else MOST_REFERENCES, n_columns)
    longest = max(cell_len(printable(matrix.predicted[column])) for column in columns)
    room = (width - name_cells - count_cells) // (len(columns) + is_cut)
    return _Plan(rows, columns, is_cut, name_cells, count_cells, max(cells, min(room, 1 + longest)))


def _most_confused(matrix: Matrix, n_references: int, n_predicted: int) -> tuple[list[int], list[int]]:
    """Rows and columns of the pairs that are confused most, at most so many of each, in their order.

    Where a genre is on both sides, both are taken: what is right is beside what is wrong.
    """
    row_of = {name: row for row, name in enumerate(matrix.references)}
    column_of = {name: column for column, name in enumerate(matrix.predicted)}
    n_references, n_predicted = min(n_references, len(row_of)), min(n_predicted, len(column_of))
    rows: set[int] = set()
    columns: set[int] = set()
    is_miss = np.array(matrix.references, object)[:, None] != np.array(matrix.predicted, object)[None, :]
    misses = np.where(is_miss, matrix.counts, 0)
    for place in np.argsort(-misses, axis=None, kind="stable").tolist():
        row, column = divmod(place, len(column_of))
        for name in (matrix.references[row], matrix.predicted[column]):
            if name in row_of and len(rows) < n_references:
                rows.add(row_of[name])
            if name in column_of and len(columns) < n_predicted:
                columns.add(column_of[name])
        if (len(rows), len(columns)) == (n_references, n_predicted):
            break
    return sorted(rows), sorted(columns)


def _heads(names: Sequence[str], cells: int) -> tuple[list[str], dict[str, int]]:
    """What to call columns in so many cells: beginnings of names where these differ, else numbers, and whose these are.

    >>> _heads(["Jazz", "Country"], 4), _heads(["Folk", "Folk Rock"], 4)
    ((['Jazz', 'Coun'], {}), (['1', '2'], {'Folk': 1, 'Folk Rock': 2}))
    """
    heads = [set_cell_size(printable(name), min(cells, cell_len(printable(name)))).rstrip() for name in names]
    if len(set(heads)) == len(heads) and all(heads):
        return [shown(head) for head in heads], {}
    return [str(number) for number, _ in enumerate(names, 1)], {name: number for number, name in enumerate(names, 1)}


def _legend(matrix: Matrix, plan: _Plan, numbers: Mapping[str, int]) -> list[str]:
    sentences = ["Above, per cent of the songs of a row; below, songs."]
    if plan.is_cut:
        sentences[0] += " …: all other genres."
    n_rows, n_columns = matrix.counts.shape
    if plan.is_cut or len(plan.rows) < n_rows:
        sizes = f"{len(plan.rows)} of {n_rows} rows and {len(plan.columns)} of {n_columns} columns"
        sentences.append(f"{sizes}: the genres confused most. All are in --format html and json.")
    references = {matrix.references[row] for row in plan.rows}
    return sentences + [f"{number}: {shown(name)}" for name, number in numbers.items() if name not in references]


def _per_cent(share: float | None) -> str:
    """A share in three characters.

    >>> _per_cent(0.856), _per_cent(0.004), _per_cent(0.0), _per_cent(None)
    ('86', '<1', '·', '–')
    """
    if share is None:
        return "–"
    return "·" if not share else "<1" if share < 0.005 else f"{100 * share:.0f}"


def _heat(share: float, is_hit: bool) -> Style | None:
    """The colours of a cell, None for those that text has anyway."""
    for least, colour in HITS if is_hit else MISSES:
        if share > least:
            return Style(color="#000000", bgcolor=colour, bold=is_hit or None)
    return None


def _left(text: str, cells: int) -> str:
    return text + " " * (cells - cell_len(text))


def _right(text: str, cells: int) -> str:
    return " " * (cells - cell_len(text)) + text
