"""An explanation as a picture: how sure of which genre the model is along the song."""

from __future__ import annotations

import math
import os
from collections import Counter

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from tagger.pipeline.explain import Explanation, Moment
from tagger.report.plots import png
from tagger.report.text import time_text

LONGEST_NAME = 40  # characters
LEAST_SHOWN = 0.1  # of the highest confidence of a genre: what is below is but clutter
MOST_MARKED = 60  # snippets; the marks of more would touch
TICKS = (1, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)  # seconds between the times written below
#: Colours that people with any colour blindness tell apart (Okabe and Ito 2008, "Color Universal Design").
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^Dv*"  # for those who see no colours at all


def explanation_figure(explanation: Explanation) -> Figure:
    """The confidences of the genres that are strongest over all, along the song; grey where it is silent."""
    result, options = explanation.result, explanation.options
    decision = explanation.aggregates[options.aggregate]
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
            label = f"needed for {_shortened(decision.ranking[0][0])}"
            axes.axhline(least, color="black", linestyle=":", linewidth=1, label=label)
        outcome = "; ".join(decision.genres) or f"unsure: {decision.reason}"
        axes.set_title(
            f"{_shortened(os.path.basename(result.path))}\n{_shortened(outcome, 90)}", parse_math=False, size=11
        )
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
    """A bar over each snippet that was heard, its middle joined to the next one's unless there is silence between."""
    middles, values = [], []
    for moment in moments:
        value = math.nan if moment.decision is None else dict(moment.decision.ranking).get(genre, 0.0)
        middles.append((moment.start_seconds + moment.end_seconds) / 2)
        values.append(value)
        axes.hlines(value, moment.start_seconds, moment.end_seconds, color=colour, linewidth=2.5, alpha=0.7)
    label = _shortened(genre).lstrip("_")  # matplotlib hides labels that begin with one
    (line,) = axes.plot(middles, values, color=colour, linewidth=1, label=label)
    if len(moments) <= MOST_MARKED:
        line.set(marker=marker, markersize=5)


def explanation_png(explanation: Explanation) -> bytes:
    """The picture as a file; the same numbers make the same bytes."""
    return png(explanation_figure(explanation))


def _shortened(name: str, longest: int = LONGEST_NAME) -> str:
    printable = "".join(character if character.isprintable() else "?" for character in name)
    return printable if len(printable) <= longest else printable[: longest - 1] + "…"
