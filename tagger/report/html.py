"""A report as one HTML file that needs nothing else: no network, no framework, not even its own script.

All rows are in the page, so that it can be searched, printed and read aloud; the script only sorts and filters them.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from html import escape
from importlib import resources
from itertools import product
from typing import Any

import numpy as np

from tagger import __version__
from tagger.report.document import Column, Kind, Matrix, Report, Song, Songs, Table
from tagger.text import printable

FEW_ROWS = 12  # are looked through without a filter
MOST_GENRES = 100  # on a side of a heat map
MOST_RANKED = 3  # genres of a song are named; its bar has all
MOST_STARTS = 6  # of a song's snippets are told
NUMBERS: tuple[Kind, ...] = ("count", "share", "number", "seconds")
NONE = "–"


def render(report: Report) -> str:
    """The page. UTF-8 has all of its characters, whatever the names in the report hold."""
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    facts = "".join(f"<div><dt>{_text(name)}</dt><dd>{_name(value)}</dd></div>" for name, value in report.facts)
    links = "".join(f'<li><a href="#{_text(each.key)}">{_text(each.title)}</a></li>' for each in report.sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="genre-tag {__version__}">
<title>{_text(report.title)}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<h1>{_name(report.title)}</h1>
<dl>{facts}</dl>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<noscript><p class="note">Everything is shown; only sorting and filtering need JavaScript, which is off.</p></noscript>
</header>
<main id="content" tabindex="-1">
{"".join(_section(section, report) for section in report.sections)}</main>
<script>{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return resources.files("tagger.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """What a Content-Security-Policy calls the one text it allows (W3C CSP level 3, hash-source)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(text: object) -> str:
    return escape(printable(str(text)))


def _name(text: object) -> str:
    """A text that does not turn what stands beside it into its own direction."""
    return f"<bdi>{_text(text)}</bdi>"


def _section(section: Table | Matrix | Songs, report: Report) -> str:
    if isinstance(section, Table):
        content = _table(section)
    elif isinstance(section, Matrix):
        content = _matrix(section, report)
    else:
        content = _songs(section, report)
    key = _text(section.key)
    note = f'<p class="note">{_name(section.note)}</p>\n' if section.note else ""
    return (
        f'<section id="{key}" aria-labelledby="{key}-title" tabindex="-1">\n'
        f'<h2 id="{key}-title">{_text(section.title)}</h2>\n{note}{content}</section>\n'
    )


def _filter(title: str, counted: str, choices: Sequence[tuple[str, str, Counter[str]]] = ()) -> str:
    """The controls that look through the rows of a section; hidden until the script is there to serve them.

    `choices` has, for each column to choose by, the class of its cells, its head and what is in it how often.
    """
    selects = "".join(
        f'<label>{_text(head)} <select name="{name}"><option value="">any</option>'
        + "".join(
            f'<option value="{_text(value)}" dir="auto">{_text(value)} ({count:,})</option>'
            for value, count in sorted(values.items())
        )
        + "</select></label>"
        for name, head, values in choices
    )
    return (
        f'<div class="filter" role="search" aria-label="{_text(title)}" hidden>'
        f'<label>Filter <input type="search" autocomplete="off" spellcheck="false"></label>{selects}'
        f"<output>{counted}</output></div>\n"
    )


# Tables


def _table(table: Table) -> str:
    """A table, which scrolls sideways where the window is narrow; nothing where it has no rows."""
    if not table.rows:
        return ""
    heads = "".join(f'<th scope="col" {_sort(column.kind)}>{_text(column.name)}</th>' for column in table.columns)
    rows = "".join(f"<tr>{_row(row, table.columns)}</tr>\n" for row in table.rows)
    controls = _filter(table.title, f"{len(table.rows):,} rows") if len(table.rows) > FEW_ROWS else ""
    return (
        f'{controls}<div class="scroll"><table>\n<caption>{_text(table.title)}</caption>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )


def _sort(kind: Kind) -> str:
    return 'class="n" data-sort="number"' if kind in NUMBERS else 'data-sort="text"'


def _row(row: Sequence[Any], columns: Sequence[Column]) -> str:
    """The cells of a row; a text in front is the head of the row."""
    if columns[0].kind != "text":
        return "".join(map(_cell, row, columns))
    return f'<th scope="row">{_name(row[0])}</th>' + "".join(map(_cell, row[1:], columns[1:]))


def _cell(value: Any, column: Column) -> str:
    """A cell, with the value it is sorted by where that is not its text; an empty one is last."""
    if column.kind == "genres":
        return f"<td{_last(value)}>{_genres(value)}</td>"
    if column.kind == "text":
        return f"<td>{_name(value)}</td>"
    if value is None or not math.isfinite(value):
        return f'<td class="n" data-value="">{NONE}</td>'
    shown = {"count": f"{value:,}", "seconds": _time(value)}.get(column.kind, f"{value:,.3f}")
    return f'<td class="n" data-value="{value}">{shown}</td>'


def _last(genres: Sequence[str]) -> str:
    return "" if genres else ' data-value=""'


def _genres(genres: Iterable[str]) -> str:
    return "; ".join(map(_name, genres)) or NONE


def _time(seconds: float) -> str:
    """A time as players show it.

    >>> _time(61.9), _time(3600)
    ('1:01', '1:00:00')
    """
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


# Confusions


def _matrix(matrix: Matrix, report: Report) -> str:
    """A heat map, and its cells once more as a table, which can be sorted and is read aloud."""
    if not matrix.counts.size:
        return ""
    n_songs = matrix.counts.sum(axis=1)
    heads = (Column("reference"), Column("predicted"), Column("songs", "count"), Column("share of reference", "share"))
    rows = tuple(
        (matrix.references[row], matrix.predicted[column], count, count / n_songs[row])
        for (row, column), count in np.ndenumerate(matrix.counts)
        if count
    )
    cells = _table(Table(f"{matrix.key}-cells", f"{matrix.title}, as a table", heads, rows))
    drawn = matrix.folded(MOST_GENRES)
    picture = heat_map(drawn, _linked(drawn, report))
    label = f"Heat map of {len(drawn.references)} by {len(drawn.predicted)} genres; its numbers are in the table below"
    return (
        f'<figure><div class="scroll heat" role="img" tabindex="0" aria-label="{label}">{picture}</div>'
        f"<figcaption>{legend()}</figcaption></figure>\n"
        f"<details><summary>The same numbers as a table</summary>\n{cells}</details>\n"
    )


def _linked(matrix: Matrix, report: Report) -> set[tuple[str, str]]:
    """The cells, (reference, predicted), all of whose songs the filter finds in the longest list of the report."""
    lists = [section.songs for section in report.sections if isinstance(section, Songs)]
    found = Counter(
        pair for song in max(lists, key=len, default=()) for pair in set(product(song.reference, song.predicted))
    )
    names = product(matrix.references, matrix.predicted)
    return {pair for pair, count in zip(names, matrix.counts.flat, strict=True) if count and found[pair] == count}


# Songs


def _songs(section: Songs, report: Report) -> str:
    """Songs as rows that are cards in a narrow window.

    Each is laid out only when it is scrolled to, for which it must not be a row of a table to the style sheet: its
    roles tell those who do not see it what it is.
    """
    songs = section.songs
    if not songs:
        return ""
    reference = "In the tag" if report.kind == "library" else "Reference"
    root = _root([song.path for song in songs])
    where = f'<p class="note">Paths are below {_name(root)}</p>\n' if root else ""
    choices = (
        ("reference", reference, Counter(genre for song in songs for genre in song.reference or (NONE,))),
        ("predicted", "Predicted", Counter(genre for song in songs for genre in song.predicted or (NONE,))),
        ("status", "Status", Counter(song.status for song in songs)),
    )
    heads = "".join(
        f'<th role="columnheader" scope="col" class="{name}"{f" data-sort={sort}" if sort else ""}>{head}</th>'
        for name, head, sort in (
            ("path", "Song", "text"),
            ("reference", reference, "text"),
            ("predicted", "Predicted", "text"),
            ("ranking", "Confidence", "number"),
            ("starts", "Snippets at", ""),
            ("status", "Status", "text"),
        )
    )
    rows = "".join(_song(song, root) for song in songs)
    return (
        f'{where}{_filter(section.title, f"{len(songs):,} songs", choices)}<table class="songs" role="table">\n'
        f'<caption>{_text(section.title)}</caption>\n<thead role="rowgroup"><tr role="row">{heads}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{rows}</tbody>\n</table>\n'
    )


def _song(song: Song, root: str) -> str:
    folder, name = os.path.split(song.path.removeprefix(root))
    folder = f'<bdi class="folder">{_text(os.path.join(folder, ""))}</bdi>' if folder else ""
    ranked = " · ".join(
        f"{_name(genre)}\N{NO-BREAK SPACE}{confidence:.2f}" for genre, confidence in song.ranking[:MOST_RANKED]
    )
    confidence = "" if song.confidence is None else f"{song.confidence:.6g}"
    starts = [_time(start) for start in song.starts_seconds]
    if len(starts) > MOST_STARTS:
        starts = [*starts[: MOST_STARTS - 1], f"… {starts[-1]} ({len(starts)})"]
    reason = f' <span dir="auto">{_text(song.reason)}</span>' if song.reason else ""
    return (
        f'<tr role="row"><th role="rowheader" scope="row" class="path">{folder}{_name(name)}</th>'
        f'<td role="cell" class="reference"{_last(song.reference)}>{_genres(song.reference)}</td>'
        f'<td role="cell" class="predicted"{_last(song.predicted)}>{_genres(song.predicted)}</td>'
        f'<td role="cell" class="ranking" data-value="{confidence}">{_bar(song)}{ranked or NONE}</td>'
        f'<td role="cell" class="starts">{" ".join(starts) or NONE}</td>'
        f'<td role="cell" class="status {_text(song.status)}"><b>{_text(song.status)}</b>{reason}</td></tr>\n'
    )


def _bar(song: Song) -> str:
    """The confidences of a song's genres end to end; those that exceed 1 together fill the bar."""
    if not song.ranking:
        return ""
    whole = max(1.0, sum(confidence for _, confidence in song.ranking))
    rects, at = "", 0.0
    for _, confidence in song.ranking:
        width = 100 * confidence / whole
        rects += f'<rect x="{at:.1f}" width="{width:.1f}" height="1"/>'
        at += width
    return f'<svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">{rects}</svg>'


def _root(paths: Sequence[str]) -> str:
    """The folder all paths are below, with the separator behind it; "" where there is none to speak of."""
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # absolute and relative ones; several drives
        return ""
    return os.path.join(root, "") if root.strip(os.sep) else ""


LONGEST_NAME = 24  # characters of a genre at the edge; each cell says it in full
N_STEPS = 10  # of colour: the classes h1 to h10 of report.css
_CELL_PIXELS = ((8, 44), (16, 34), (30, 26), (math.inf, 20))  # up to so many columns
_SLANT = math.sqrt(0.5)  # names of columns rise at 45°


def heat_map(matrix: Matrix, linked: Collection[tuple[str, str]] = ()) -> str:
    """The picture, coloured by shares of the songs of a row, hits in another hue than misses.

    Cells of `linked` pairs, (reference, predicted), carry their names for the script of the page to look up.
    """
    n_rows, n_columns = matrix.counts.shape
    size = next(pixels for most, pixels in _CELL_PIXELS if n_columns <= most)
    rows, columns = _shortened(matrix.references), _shortened(matrix.predicted)
    n_songs = [f"{number:,}" for number in matrix.counts.sum(axis=1).tolist()]
    left, top = 16 + _widest(["reference", *rows]), 36 + _SLANT * _widest(columns)
    edge = n_columns * size + 12 + _widest(["songs", *n_songs])
    right = max([edge, *((at + 1) * size + _SLANT * _widest([name]) for at, name in enumerate(columns))])
    middles = range(size // 2 + 4, n_rows * size + 4, size)
    names = "".join(
        f'<text x="{left - 8:.0f}" y="{y}">{escape(name)}</text>' for name, y in zip(rows, middles, strict=True)
    )
    sums = "".join(
        f'<text x="{edge:.0f}" y="{y}">{n}</text>' for n, y in zip(["songs", *n_songs], [-8, *middles], strict=True)
    )
    heads = "".join(
        f'<text transform="translate({at * size + size // 2 + 4} -8)rotate(-45)">{escape(name)}</text>'
        for at, name in enumerate(columns)
    )
    cells = "".join(_cells(matrix, size, linked))
    height, place = f'height="{top + n_rows * size:.0f}"', f'transform="translate(0 {top:.0f})"'
    return (
        f'<svg class="names" width="{left:.0f}" {height}><g {place}>'
        f'<text class="quiet" x="{left - 8:.0f}" y="-8">reference</text>{names}</g></svg>'
        f'<svg class="cells s{size}" width="{right:.0f}" {height}><text class="quiet" y="12">predicted</text>'
        f'<g {place}>{heads}<g class="sums quiet">{sums}</g>{cells}</g></svg>'
    )


def legend() -> str:
    """What the colours of a heat map mean."""
    hues = "".join(
        f'<g class="{hue} h{step}"><rect x="{18 * step - 18}" y="{y}" width="17" height="14"/></g>'
        for hue, y in (("hit", 0), ("miss", 15))
        for step in range(1, N_STEPS + 1)
    )
    ends = "".join(f'<text x="{18 * step}" y="43">{(10 * step / N_STEPS) ** 2:.0f}</text>' for step in (2, 4, 6, 8, 10))
    words = "".join(
        f'<text class="words" x="190" y="{y}">{word}</text>'
        for word, y in (("the same genre", 11), ("another genre", 26), ("% of the row", 43))
    )
    return f'<svg class="legend" width="300" height="48" aria-hidden="true">{hues}{ends}{words}</svg>'


def _cells(matrix: Matrix, size: int, linked: Collection[tuple[str, str]]) -> list[str]:
    """The ground of each row that holds songs, and on it the cells that do, and those where they should be."""
    found = []
    for row, (reference, counts) in enumerate(zip(matrix.references, matrix.counts.tolist(), strict=True)):
        n_songs = sum(counts)
        if not n_songs:
            continue
        area = f'y="{row * size}" height="{size - 1}"'
        found.append(f'<rect class="ground" {area} width="{len(counts) * size - 1}"/>')
        for column, (predicted, count) in enumerate(zip(matrix.predicted, counts, strict=True)):
            is_hit = reference == predicted
            if not count and not is_hit:
                continue
            share = count / n_songs
            step = math.ceil(N_STEPS * math.sqrt(share))  # the root brings out what is rare, which is looked for
            pair = escape(printable(reference)), escape(printable(predicted))
            names = (
                f' data-reference="{pair[0]}" data-predicted="{pair[1]}"' if (reference, predicted) in linked else ""
            )
            number = f'<text x="{column * size + size // 2}" y="{row * size + size // 2 + 4}">{100 * share:.0f}</text>'
            found.append(
                f'<g class="{"hit" if is_hit else "miss"} h{step}"{names}>'
                f"<title>{pair[0]} predicted as {pair[1]}: {count:,} of {n_songs:,} songs, {share:.3f}</title>"
                f'<rect x="{column * size}" {area} width="{size - 1}"/>{number if share >= 0.005 else ""}</g>'
            )
    return found


def _shortened(names: Sequence[str]) -> list[str]:
    shown = map(printable, names)
    return [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in shown]


def _widest(names: Sequence[str]) -> float:
    """Pixels of the longest of the names at 12 pixels a line, guessed for a wide font: nobody knows the font."""
    return max((sum(map(_letter_width, name)) for name in names), default=0)


def _letter_width(letter: str) -> float:
    if letter in "MWmw@%…" or unicodedata.east_asian_width(letter) in "WF":
        return 12
    return 4.5 if letter in " iljtfI.,;:!|'()[]-/" else 8.5 if letter.isupper() or letter.isdigit() else 7.4
