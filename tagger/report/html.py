"""A report as one HTML file that needs nothing else: no network, no framework, not even its own script.

The rows of tables are in the page, and so are the first songs of a list; all songs are there as data, which the script
draws as they are scrolled to: a browser does not carry a hundred thousand rows. Here the report becomes plain data;
report.html.j2 says what the page is made of.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tagger import __version__
from tagger.report.document import Column, Curves, Kind, Matrix, Report, Song, Songs, Table
from tagger.text import printable, shortened

FEW_ROWS = 12  # are looked through without a filter
N_AT_ONCE = 250  # songs of a list are there without the script
MOST_GENRES = 100  # on a side of a heat map
MOST_RANKED = 3  # genres of a song are named; its bar has all
MOST_STARTS = 6  # of a song's snippets are told
NUMBERS: tuple[Kind, ...] = ("count", "share", "number", "seconds")
NONE = "–"
N_STEPS = 10  # of colour: the classes h1 to h10 of report.css


def render(report: Report) -> str:
    """The page. UTF-8 has all of its characters, whatever the names in the report hold."""
    sections = [(section, _content(section, report)) for section in report.sections]
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            report=report,
            sections=sections,
            song_lists=[content for _, content in sections if isinstance(content, SongList)],
            n_at_once=N_AT_ONCE,
            blank_song=SongRow("", "", (), (), (), "", [0], "", "", ""),
            style=_asset("report.css"),
            script=_asset("report.js"),
            version=__version__,
        )
    )


def template_environment(package: str, harmless: Callable[[str], str]) -> Environment:
    """The templates in a package; whatever goes into them is made `harmless` there, so that none has to think of it.

    Only what is Markup already, such as a macro's result, stays as it is; what `harmless` leaves no Markup is escaped.
    """
    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else harmless(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def _templates() -> Environment:
    templates = template_environment("tagger.report", printable)
    templates.filters |= {"digest": _digest, "shown": _shown, "thousands": "{:,}".format}
    templates.tests |= {
        "table": lambda content: isinstance(content, Table),
        "curve_plot": lambda content: isinstance(content, CurvePlot),
        "heat_map": lambda content: isinstance(content, HeatMap),
        "song_list": lambda content: isinstance(content, SongList),
        "finite": lambda value: value is not None and math.isfinite(value),
    }
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    templates.globals |= {"few_rows": FEW_ROWS, "numbers": NUMBERS, "n_steps": N_STEPS}
    return templates


def _asset(name: str) -> Markup:
    return Markup(resources.files("tagger.report").joinpath(name).read_text(encoding="utf-8"))


def _digest(text: str) -> str:
    """What a Content-Security-Policy calls the one text it allows (W3C CSP level 3, hash-source)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _shown(value: float, kind: Kind) -> str:
    """A finite number as people read it."""
    return {"count": f"{value:,}", "seconds": _time(value)}.get(kind, f"{value:,.3f}")


def _time(seconds: float) -> str:
    """A time as players show it.

    >>> _time(61.9), _time(3600)
    ('1:01', '1:00:00')
    """
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _content(section: Table | Matrix | Songs, report: Report) -> Table | CurvePlot | HeatMap | SongList | None:
    """What a section is drawn from; None where it holds nothing."""
    if isinstance(section, Curves):
        return _curve_plot(section)
    if isinstance(section, Table):
        return section
    if isinstance(section, Matrix):
        return _heat_map(section, report) if section.counts.size else None
    return _song_list(section.songs, report) if section.songs else None


# Curves

CURVES_WIDTH, CURVES_HEIGHT = 520, 220  # pixels of the plot without what stands around it
MOST_TICKS = 12


class CurveLine(NamedTuple):
    """A line of a plot; its name stands beside the plot."""

    name: str
    points: str  # of a polyline, in pixels from the upper left corner


@dataclass(frozen=True)
class CurvePlot:
    """Lines over a first column, and the numbers themselves."""

    lines: tuple[CurveLine, ...]
    x_ticks: tuple[tuple[float, str], ...]  # pixel, text
    y_ticks: tuple[tuple[float, str], ...]
    x_name: str
    width: int
    height: int
    table: Table


def _curve_plot(curves: Curves) -> CurvePlot | None:
    if not curves.rows:
        return None
    steps: list[float] = [float(row[0]) for row in curves.rows]  # type: ignore[arg-type]
    values: list[list[Any]] = [list(column) for column in list(zip(*curves.rows, strict=True))[1:]]
    highest = max((value for column in values for value in column if value is not None), default=1.0)
    is_share = all(column.kind == "share" for column in curves.columns[1:])
    step = 0.25 if is_share else _round_step(highest)
    top = 1.0 if is_share else step * max(1, math.ceil(highest / step))
    first, extent = steps[0], (steps[-1] - steps[0]) or 1.0

    def place(x: float, y: float) -> str:
        return f"{CURVES_WIDTH * (x - first) / extent:.1f},{CURVES_HEIGHT * (1 - y / top):.1f}"

    lines = tuple(
        CurveLine(
            head.name,
            " ".join(place(x, y) for x, y in zip(steps, column, strict=True) if y is not None and math.isfinite(y)),
        )
        for head, column in zip(curves.columns[1:], values, strict=True)
    )
    each = math.ceil(len(steps) / MOST_TICKS)
    n_levels = round(top / step)
    return CurvePlot(
        lines,
        tuple((CURVES_WIDTH * (x - first) / extent, f"{x:g}") for x in steps[::each]),
        tuple((CURVES_HEIGHT * (1 - level / n_levels), f"{level * step:g}") for level in range(n_levels + 1)),
        curves.columns[0].name,
        CURVES_WIDTH,
        CURVES_HEIGHT,
        curves,
    )


def _round_step(highest: float) -> float:
    """A step of 1, 2 or 5 times a power of ten, of which up to five reach the highest value.

    >>> _round_step(2.3), _round_step(0.9), _round_step(0.0)
    (0.5, 0.2, 1.0)
    """
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest / 5))
    return next(round(times * power, 12) for times in (1, 2, 5, 10) if times * power * 5 >= highest)


# Confusions

LONGEST_NAME = 24  # characters of a genre at the edge; each cell says it in full
_CELL_PIXELS = ((8, 44), (16, 34), (30, 26), (math.inf, 20))  # up to so many columns
_SLANT = math.sqrt(0.5)  # names of columns rise at 45°


@dataclass(frozen=True)
class HeatCell:
    """Songs of a reference that have one prediction; places are in pixels from the first cell of the map."""

    predicted: str
    x: int
    n_songs: int
    share: float  # of the reference's songs
    is_hit: bool
    is_linked: bool  # whether its songs can be shown

    @property
    def step(self) -> int:
        """Its colour, 0 to N_STEPS; the root brings out what is rare, which is looked for."""
        return math.ceil(N_STEPS * math.sqrt(self.share))


@dataclass(frozen=True)
class HeatRow:
    """The songs of a reference."""

    reference: str
    name: str  # the reference, shortened
    y: int
    n_songs: int
    cells: tuple[HeatCell, ...]  # those that hold songs, and that where they should be; none in a row without songs


@dataclass(frozen=True)
class HeatMap:
    """A picture of a confusion, coloured by shares of the songs of a row; sizes in whole pixels."""

    rows: tuple[HeatRow, ...]
    columns: tuple[str, ...]  # shortened names
    size: int  # of a cell
    left: int  # width of the rows' names
    top: int  # height of the columns' names
    edge: int  # where the numbers of songs end
    right: int  # width of all but the rows' names
    height: int
    table: Table  # the same numbers, which can be sorted and are read aloud


def _heat_map(matrix: Matrix, report: Report) -> HeatMap:
    drawn = matrix.folded(MOST_GENRES)
    n_rows, n_columns = drawn.counts.shape
    size = next(pixels for most, pixels in _CELL_PIXELS if n_columns <= most)
    linked = _linked(drawn, report)
    rows = tuple(_heat_row(drawn, row, size, linked) for row in range(n_rows))
    columns = tuple(shortened(name, LONGEST_NAME) for name in drawn.predicted)
    edge = n_columns * size + 12 + _widest(["songs", *(f"{row.n_songs:,}" for row in rows)])
    right = max([edge, *((at + 1) * size + _SLANT * _widest([name]) for at, name in enumerate(columns))])
    top = 36 + _SLANT * _widest(columns)
    return HeatMap(
        rows=rows,
        columns=columns,
        size=size,
        left=round(16 + _widest(["reference", *(row.name for row in rows)])),
        top=round(top),
        edge=round(edge),
        right=round(right),
        height=round(top + n_rows * size),
        table=_cells_table(matrix),
    )


def _heat_row(matrix: Matrix, row: int, size: int, linked: Collection[tuple[str, str]]) -> HeatRow:
    reference, counts = matrix.references[row], matrix.counts[row].tolist()
    n_songs = sum(counts)
    cells = (
        HeatCell(
            predicted,
            x=column * size,
            n_songs=count,
            share=count / n_songs,
            is_hit=reference == predicted,
            is_linked=(reference, predicted) in linked,
        )
        for column, (predicted, count) in enumerate(zip(matrix.predicted, counts, strict=True))
        if n_songs and (count or reference == predicted)
    )
    return HeatRow(reference, shortened(reference, LONGEST_NAME), row * size, n_songs, tuple(cells))


def _cells_table(matrix: Matrix) -> Table:
    """The cells of a confusion that hold songs, a row each."""
    n_songs = matrix.counts.sum(axis=1)
    heads = (Column("reference"), Column("predicted"), Column("songs", "count"), Column("share of reference", "share"))
    rows = tuple(
        (matrix.references[row], matrix.predicted[column], count, count / n_songs[row])
        for (row, column), count in np.ndenumerate(matrix.counts)
        if count
    )
    return Table(f"{matrix.key}-cells", f"{matrix.title}, as a table", heads, rows)


def _linked(matrix: Matrix, report: Report) -> set[tuple[str, str]]:
    """The cells, (reference, predicted), all of whose songs the filter finds in the longest list of the report."""
    lists = [section.songs for section in report.sections if isinstance(section, Songs)]
    found = Counter(
        pair for song in max(lists, key=len, default=()) for pair in set(product(song.reference, song.predicted))
    )
    names = product(matrix.references, matrix.predicted)
    return {pair for pair, count in zip(names, matrix.counts.flat, strict=True) if count and found[pair] == count}


def _widest(names: Sequence[str]) -> float:
    """Pixels of the longest of the names at 12 pixels a line, guessed for a wide font: nobody knows the font."""
    return max((sum(map(_letter_width, name)) for name in names), default=0)


def _letter_width(letter: str) -> float:
    if letter in "MWmw@%…" or unicodedata.east_asian_width(letter) in "WF":
        return 12
    return 4.5 if letter in " iljtfI.,;:!|'()[]-/" else 8.5 if letter.isupper() or letter.isdigit() else 7.4


# Songs


class SongRow(NamedTuple):
    """A song as it is shown."""

    folder: str  # with the separator behind it; "" in the folder that all songs are below
    name: str
    reference: tuple[str, ...]
    predicted: tuple[str, ...]
    ranking: tuple[tuple[str, str], ...]  # the best genres with their confidences
    confidence: str  # that the song is sorted by; "" where there is none
    bar: list[float]  # width of each confidence, in hundredths of the bar
    starts: str
    status: str
    reason: str


@dataclass(frozen=True)
class SongList:
    """Songs, and what they can be chosen by."""

    root: str  # the folder that all are below, with the separator behind it, or ""
    reference: str  # what their reference is called
    choices: tuple[tuple[str, str, Counter[str]], ...]  # class of the cells, head, what is in them how often
    n_songs: int
    rows: tuple[SongRow, ...]  # of the first songs
    data: dict[str, list[Any]]  # of all songs, see _song_data

    @property
    def is_cut(self) -> bool:
        """Whether only the script can show them all."""
        return len(self.rows) < self.n_songs


def _song_list(songs: Sequence[Song], report: Report) -> SongList:
    reference = "In the tag" if report.kind == "library" else "Reference"
    root = _root([song.path for song in songs])
    choices = (
        ("reference", reference, Counter(genre for song in songs for genre in song.reference or (NONE,))),
        ("predicted", "Predicted", Counter(genre for song in songs for genre in song.predicted or (NONE,))),
        ("status", "Status", Counter(song.status for song in songs)),
    )
    rows = tuple(_song_row(song, root) for song in songs[:N_AT_ONCE])
    return SongList(root, reference, choices, len(songs), rows, _song_data(_song_row(song, root) for song in songs))


def _song_data(rows: Iterable[SongRow]) -> dict[str, list[Any]]:
    """The rows for the script, {"texts": [...], "songs": [[...], ...]}: a song's values are those of SongRow in its
    order; folder, genres, status and reason are places in `texts`, as many songs have the same ones.
    """
    places: dict[str, int] = {}

    def place(text: str) -> int:
        return places.setdefault(text, len(places))

    songs = [
        [
            place(row.folder),
            printable(row.name),
            [place(genre) for genre in row.reference],
            [place(genre) for genre in row.predicted],
            [[place(genre), confidence] for genre, confidence in row.ranking],
            row.confidence,
            row.bar,
            row.starts,
            place(row.status),
            place(row.reason),
        ]
        for row in rows
    ]
    return {"texts": [printable(text) for text in places], "songs": songs}


def _song_row(song: Song, root: str) -> SongRow:
    folder, name = os.path.split(song.path.removeprefix(root))
    starts = [_time(start) for start in song.starts_seconds]
    if len(starts) > MOST_STARTS:
        starts = [*starts[: MOST_STARTS - 1], f"… {starts[-1]} ({len(starts)})"]
    return SongRow(
        folder=os.path.join(folder, "") if folder else "",
        name=name,
        reference=song.reference,
        predicted=song.predicted,
        ranking=tuple((genre, f"{confidence:.2f}") for genre, confidence in song.ranking[:MOST_RANKED]),
        confidence="" if song.confidence is None or not math.isfinite(song.confidence) else f"{song.confidence:.6g}",
        bar=_bar([confidence for _, confidence in song.ranking if math.isfinite(confidence)]),
        starts=" ".join(starts),
        status=song.status,
        reason=song.reason,
    )


def _bar(confidences: Sequence[float]) -> list[float]:
    """The width of each, end to end; those that exceed 1 together fill the bar.

    >>> _bar([0.5, 0.25]), _bar([0.9, 0.6])
    ([50.0, 25.0], [60.0, 40.0])
    """
    whole = max(1.0, sum(confidences))
    return [round(100 * confidence / whole, 1) for confidence in confidences]


def _root(paths: Sequence[str]) -> str:
    """The folder all paths are below, with the separator behind it; "" where there is none to speak of."""
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # absolute and relative ones; several drives
        return ""
    return os.path.join(root, "") if root.strip(os.sep) else ""
