"""Pictures: the confusion of a report, and how sure of which genre the model is along a song."""

from __future__ import annotations

import io
import math
import os
import textwrap
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from tagger.pipeline.explain import Explanation, Moment
from tagger.report.document import Matrix, Report
from tagger.report.text import time_text
from tagger.text import printable, shortened

DPI = 150
LONGEST_NAME = 24  # characters of a genre
MOST_GENRES = 100  # on a side: 15 million pixels
LONGEST_LABEL = 40  # characters
LEAST_SHOWN = 0.1  # of the highest confidence of a genre: what is below is but clutter
MOST_MARKED = 60  # snippets; the marks of more would touch
TICKS = (1, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)  # seconds between the times written below
#: Colours that people with any colour blindness tell apart (Okabe and Ito 2008, "Color Universal Design").
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^Dv*"  # for those who see no colours at all


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
    references, predicted = (
        [shortened(name, LONGEST_NAME) for name in names] for names in (matrix.references, matrix.predicted)
    )
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


def png(figure: Figure) -> bytes:
    """A picture as a file; the same numbers make the same bytes."""
    data = io.BytesIO()
    with style.context("default"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a script the font lacks: a box is drawn for it
        figure.savefig(data, format="png", dpi=DPI, metadata={"Software": None}, bbox_inches="tight")
    return data.getvalue()


def explanation_figure(explanation: Explanation) -> Figure:
    """The confidences of the genres that are strongest over all, along the song; grey where it is silent."""
    result, options = explanation.result, explanation.options
    decision = explanation.aggregates[options.decide.aggregate]
    totals, tops = Counter[str](), Counter[str]()
    for moment in explanation.moments:
        ranking = Counter(dict(moment.decision.ranking) if moment.decision else {})
        totals += ranking
        tops |= ranking
    strongest = [genre for genre, _ in totals.most_common(len(COLOURS)) if tops[genre] >= LEAST_SHOWN]
    with style.context("default"):  # not the user's: the same picture everywhere
        figure = Figure(figsize=(10, 4.5), layout="constrained")
        axes = figure.add_subplot(ylabel="confidence", ylim=(0, 1), xlim=(0, result.duration_seconds))
        for moment in explanation.moments:
            if moment.decision is None:
                axes.axvspan(moment.start_seconds, moment.end_seconds, color="0.9", linewidth=0)
        for genre, colour, marker in zip(strongest, COLOURS, MARKERS, strict=False):
            _draw_genre(axes, genre, explanation.moments, colour, marker)
        least = decision.needed[0] if decision.ranking else math.inf
        if math.isfinite(least):
            label = f"needed for {_label(decision.ranking[0][0])}"
            axes.axhline(least, color="black", linestyle=":", linewidth=1, label=label)
        outcome = "; ".join(decision.genres) or f"unsure: {decision.reason}"
        axes.set_title(f"{_label(os.path.basename(result.path))}\n{_label(outcome, 90)}", parse_math=False, size=11)
        apart = next((apart for apart in TICKS if (result.duration_seconds or 0) / apart <= 12), TICKS[-1])
        axes.xaxis.set_major_locator(MultipleLocator(apart))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: time_text(seconds)))
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            legend = figure.legend(loc="outside right upper", frameon=False)
            for text in legend.get_texts():
                text.set_parse_math(False)
    return figure


def _draw_genre(axes: Axes, genre: str, moments: tuple[Moment, ...], colour: str, marker: str) -> None:
    """A bar over each snippet that was classified, its middle joined to the next one's unless silence is between."""
    middles, values = [], []
    for moment in moments:
        value = math.nan if moment.decision is None else dict(moment.decision.ranking).get(genre, 0.0)
        middles.append((moment.start_seconds + moment.end_seconds) / 2)
        values.append(value)
        axes.hlines(value, moment.start_seconds, moment.end_seconds, color=colour, linewidth=2.5, alpha=0.7)
    label = _label(genre).lstrip("_")  # matplotlib hides labels that begin with one
    (line,) = axes.plot(middles, values, color=colour, linewidth=1, label=label)
    if len(moments) <= MOST_MARKED:
        line.set(marker=marker, markersize=5)


def explanation_png(explanation: Explanation) -> bytes:
    """The picture as a file; the same numbers make the same bytes."""
    return png(explanation_figure(explanation))


def _label(name: str, longest: int = LONGEST_LABEL) -> str:
    printable = "".join(character if character.isprintable() else "?" for character in name)
    return printable if len(printable) <= longest else printable[: longest - 1] + "…"
