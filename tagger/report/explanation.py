"""An explanation as text: what is predicted along a song, and what becomes of that."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tagger.audio.decode import SAMPLE_RATE
from tagger.models.head import LEAST_HELD_OUT, LEAST_OF_EACH
from tagger.pipeline.aggregate import AGGREGATORS, Decision, confidence_scale
from tagger.pipeline.explain import Explanation, why
from tagger.report.text import time_text
from tagger.text import genres_text, printable

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
    head, aggregate = explanation.description.head, explanation.options.decide.aggregate
    scale = confidence_scale(head, aggregate)
    if scale == "softmax" and head.temperature is not None and aggregate == "mean":
        return (
            f"shares of 1, not called calibrated: that takes a temperature fitted on {LEAST_HELD_OUT} held-out songs, "
            f"{LEAST_OF_EACH} of each genre"
        )
    return {
        "calibrated": f"calibrated on {sum(head.n_held_out)} held-out songs: of those at 0.80, some 80 % are right",
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
