"""The confusion of a report as a picture, to be shown where there is no browser."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib import style
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from tagger.report.document import Matrix, Report
from tagger.text import printable

DPI = 150
LONGEST_NAME = 24  # characters of a genre
MOST_GENRES = 100  # on a side: 15 million pixels


def render(report: Report) -> bytes | None:
    """The first confusion of a report that holds songs, as a PNG file; None where there is none."""
    for section in report.sections:
        if isinstance(section, Matrix) and section.counts.any():
            return png(confusion_figure(replace(section, title=f"{report.title}: {section.title}")))
    return None


def confusion_figure(matrix: Matrix) -> Figure:
    """A picture of a confusion: shares of each row, in per cent. A row without songs is grey."""
    matrix = matrix.folded(MOST_GENRES)
    n_rows, n_columns = matrix.counts.shape
    references, predicted = _shortened(matrix.references), _shortened(matrix.predicted)
    n_songs = matrix.counts.sum(axis=1)
    unknown = np.full(matrix.counts.shape, math.nan)
    shares = np.divide(matrix.counts, n_songs[:, None], out=unknown, where=n_songs[:, None] > 0)
    cell_inches = min(0.6, max(0.27, 6 / max(n_rows, n_columns)))
    cell_points = 72 * cell_inches
    names_inches = 0.08 * max(map(len, (*references, *predicted)))
    width, height = (max(2.5, number * cell_inches) + names_inches + 0.5 for number in (n_columns, n_rows))
    with style.context("default"):  # not the user's: the same picture everywhere
        figure = Figure(figsize=(width + 1.3, height), layout="constrained")
        axes = figure.add_subplot(xlabel="predicted", ylabel="reference (songs)", aspect="equal")
        axes.set_title(textwrap.fill(printable(matrix.title), 60), parse_math=False)
        axes.set_facecolor("0.85")
        # The root brings out what is rare, which is what is looked for.
        mesh = axes.pcolormesh(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), edgecolors="0.85", linewidth=0.5)
        axes.invert_yaxis()
        number_size, name_size = min(10.0, 0.42 * cell_points), min(10.0, 0.5 * cell_points)
        for row, column in np.argwhere(shares >= 0.005):
            colour = "white" if shares[row, column] > 0.4 else "black"
            number = axes.text(column + 0.5, row + 0.5, f"{100 * shares[row, column]:.0f}", color=colour)
            number.set(size=number_size, ha="center", va="center", in_layout=False)
        slant = {"rotation": 90} if n_columns > 12 else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(np.arange(n_columns) + 0.5, predicted, size=name_size, parse_math=False, **slant)
        counted = [f"{name} ({number})" for name, number in zip(references, n_songs, strict=True)]
        axes.set_yticks(np.arange(n_rows) + 0.5, counted, size=name_size, parse_math=False)
        axes.tick_params(length=0)
        axes.yaxis.labelpad = 8
        bar = figure.colorbar(mesh, ax=axes, shrink=0.6, label="% of the songs of a row")
        bar.set_ticks([0, 0.05, 0.1, 0.25, 0.5, 1], labels=["0", "5", "10", "25", "50", "100"])
    return figure


def _shortened(names: Sequence[str]) -> list[str]:
    """Names that fit into a picture."""
    shown = map(printable, names)
    return [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in shown]


def png(figure: Figure) -> bytes:
    """A picture as a file; the same numbers make the same bytes."""
    data = io.BytesIO()
    with style.context("default"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a script the font lacks: a box is drawn for it
        figure.savefig(data, format="png", dpi=DPI, metadata={"Software": None}, bbox_inches="tight")
    return data.getvalue()
