"""An explanation as a picture: how sure of which genre the model is along the song."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tagger.audio.decode import SAMPLE_RATE
from tagger.pipeline.aggregate import AGGREGATORS, Decision, confidence_scale
from tagger.pipeline.explain import Explanation, Moment, why
from tagger.report.plots import png
from tagger.report.text import time_text
from tagger.text import genres_text, printable

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
    """A bar over each snippet that was classified, its middle joined to the next one's unless silence is between."""
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


BAR_CELLS = 16
N_BEST = 3
OUTCOME_CELLS = 12  # of what an aggregation would write, however little room there is


def print_explanation(explanation: Explanation, sources: Mapping[str, str], console: Console | None = None) -> None:
    """Print an explanation; `sources` says of options, by name, where their values come from."""
    console = console or Console(highlight=False)
    result = explanation.result
    console.print(Text(printable(str(result.path)), "bold"), soft_wrap=True)
    if result.prediction is not None:
        console.print(Text(_prediction_line(explanation)))
    for title, table in (("along the song", _along_the_song(explanation)), ("as a whole", _aggregates(explanation))):
        if table.row_count:
            console.print()
            console.print(Text(title, "underline"))
            console.print(Padding(table, (0, 0, 0, 1)))
    console.print()
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text in _facts(explanation, sources):
        facts.add_row(name, Text(text))
    console.print(facts)


def _prediction_line(explanation: Explanation) -> str:
    result, description = explanation.result, explanation.description
    n_classified, n_moments = len(result.starts_seconds), len(explanation.moments)
    counted = str(n_classified) if n_classified == n_moments else f"{n_classified} of {n_moments}"
    shown_snippets = f"{counted} snippet{'s' * (n_moments != 1)} of {description.snippet_samples // SAMPLE_RATE} s"
    known = ", cached" if result.cached else ""
    length, model = time_text(result.duration_seconds or 0), printable(description.name)
    return f"{length} long, {shown_snippets} classified by {model}{known}"


def _along_the_song(explanation: Explanation) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    times = [f"{time_text(moment.start_seconds)}–{time_text(moment.end_seconds)}" for moment in explanation.moments]
    # Least widths, or rich would take room from these columns as well for the long names in the last one.
    table.add_column(justify="right", no_wrap=True, min_width=max(map(len, times), default=0))
    table.add_column(no_wrap=True, min_width=BAR_CELLS)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for time, moment in zip(times, explanation.moments, strict=True):
        ranking = moment.decision.ranking if moment.decision else ()
        bar = "█" * max(1, round(BAR_CELLS * ranking[0][1])) if ranking else ""
        best = _best(moment.decision) if moment.decision else "silent"
        table.add_row(
            time,
            Text(bar.ljust(BAR_CELLS), "green"),
            Text(best, "" if ranking else "dim"),
        )
    return table


def _aggregates(explanation: Explanation) -> Table:
    in_force = explanation.options.decide.aggregate
    table = Table(box=None, show_header=False, pad_edge=False)
    for least in (1, max(map(len, AGGREGATORS)), 0, OUTCOME_CELLS):
        table.add_column(no_wrap=True, overflow="ellipsis", min_width=least)
    for name, decision in explanation.aggregates.items():
        style = "bold" if name == in_force else ""
        mark = "▸" if name == in_force else " "
        writes = f"→ {genres_text(decision.genres)}" if decision.genres else "→ unsure"
        table.add_row(*(Text(cell, style) for cell in (mark, name, _best(decision), writes)))
    return table


def _best(decision: Decision) -> str:
    best = [f"{printable(name)} {confidence:.2f}" for name, confidence in decision.ranking[:N_BEST]]
    shown_snippets = [text for text in best if not text.endswith(" 0.00")]  # a vote leaves most genres without one
    return "  ".join(shown_snippets or best[:1]) or printable(decision.reason)


def _facts(explanation: Explanation, sources: Mapping[str, str]) -> list[tuple[str, str]]:
    """Name and text of what the decision hangs on, the decision last."""
    options, result = explanation.options, explanation.result
    facts = []
    if explanation.aggregates:
        facts.append(("▸", f"in force: --aggregate {options.decide.aggregate}{_by(sources.get('aggregate', ''))}"))
    if result.decision is not None and result.decision.ranking:
        facts.append(("numbers", _scale_text(explanation)))
        facts.append(("threshold", _threshold_text(explanation, result.decision, sources.get("min_confidence", ""))))
    if options.decide.names:
        mapped = "; ".join(f"{genre} → {name or '(never written)'}" for genre, name in options.decide.names.items())
        facts.append(("map", f"{mapped}{_by(sources.get('map_file', ''))}"))
    if result.status not in ("failed", "skipped") or result.old:
        facts.append(("genre now", genres_text(result.old) if result.old else "none"))
    if result.old and result.decision is not None and result.decision.genres:
        for existing, genres in explanation.outcomes.items():
            in_force = f" (in force{_by(sources.get('existing', ''))})" if existing == options.write.existing else ""
            facts.append((f"  {existing}", f"would have {genres_text(genres)}{in_force}"))
    return [(name, printable(text)) for name, text in (*facts, ("decision", why(result)))]


def _scale_text(explanation: Explanation) -> str:
    scale = confidence_scale(explanation.description.head, explanation.options.decide.aggregate)
    return {
        "calibrated": "calibrated on held-out songs: of the songs at 0.80, some 80 % are right",
        "share of snippets": "the share of snippets that sound most like it",
        "softmax": "shares of 1, not calibrated: 0.80 does not mean that 80 % are right",
        "sigmoid": "each genre on its own, not calibrated: 0.80 does not mean that 80 % are right",
        "margin": "the lead over the best other genre: above 0.50 for one genre only, not calibrated",
    }[scale]


def _threshold_text(explanation: Explanation, decision: Decision, source: str) -> str:
    options, head = explanation.options, explanation.description.head
    if options.decide.min_confidence is not None:
        return f"of --min-confidence{_by(source)}: every genre needs {options.decide.min_confidence:.2f}"
    needed = zip(decision.ranking[: options.decide.max_genres], decision.needed, strict=False)
    each = [
        f"{name} is not written by default" if math.isinf(least) else f"{name} needs {least:.2f}"
        for (name, _), least in needed
    ]
    reason = f" ({head.threshold_reason.rstrip('.')})" if head.threshold_reason else ""
    return f"of the model: {', '.join(each)}{reason}"


def _by(source: str) -> str:
    return f", by the {source}" if source not in ("", "default") else ""
