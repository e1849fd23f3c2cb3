"""A confusion as two SVGs side by side: names of references that stay, and cells that scroll beside them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Sequence
from html import escape

from tagger.cli.terminal import printable
from tagger.report.document import Matrix

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
                f"<title>{pair[0]} heard as {pair[1]}: {count:,} of {n_songs:,} songs, {share:.3f}</title>"
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
