"""A report as text: on a terminal, in colour where it has any, or in a file; made for 80 columns and more."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tagger.cli.terminal import genres_text, shown
from tagger.report.confusion_text import confusion_text
from tagger.report.document import Column, Matrix, Report, Song, Songs, Table

MOST_ROWS = 60  # of a table
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
    """What became of a song, in one line without its name."""
    ranked = ", ".join(f"{shown(genre)} {confidence:.3f}" for genre, confidence in song.ranking[:3])
    parts = [f"{genres_text(song.reference)}, {song.status}" + (f": heard {ranked}" if ranked else "")]
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
