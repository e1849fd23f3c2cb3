"""Why a song gets the genre it gets: what a run would make of it, taken apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from tagger.audio.decode import SAMPLE_RATE, SHORTEST_SECONDS, SLACK_SAMPLES, snippet_starts
from tagger.audio.library import Found
from tagger.models.description import Description
from tagger.pipeline.aggregate import AGGREGATORS, Decision, confidence_scale, decide
from tagger.pipeline.cache import PredictionCache
from tagger.pipeline.options import DecisionPolicy, TagOptions
from tagger.pipeline.predict import Prediction
from tagger.pipeline.records import as_record
from tagger.pipeline.run import SongResult, tag_songs
from tagger.tags.genre import merge
from tagger.tags.policies import Existing

if TYPE_CHECKING:
    from tagger.models.genre_model import GenreModel


@dataclass(frozen=True)
class Moment:
    """A snippet of the song, and what it would be if it were all of it."""

    start_seconds: float
    end_seconds: float
    #: None where it is silent: the model has not classified it.
    decision: Decision | None


@dataclass(frozen=True)
class Explanation:
    """What a run would make of a song, and what it would make of it otherwise."""

    description: Description
    options: TagOptions
    result: SongResult
    #: In their order; none when the song was not classified.
    moments: tuple[Moment, ...]
    #: Aggregation -> what it would decide; empty when the song was not classified.
    aggregates: Mapping[str, Decision]
    #: Value of --existing -> the genres the song would have then.
    outcomes: Mapping[Existing, tuple[str, ...]]


def explain(
    song: Found,
    description: Description,
    load_model: Callable[[], GenreModel],
    options: TagOptions,
    cache: PredictionCache,
) -> Explanation:
    """Why a run with these options would do what with a song; nothing is written. Raises ModelError."""
    options = replace(
        options, predict=replace(options.predict, until_clear=False)
    )  # who asks for reasons is to see all of them
    (result,) = tag_songs([song], description, load_model, options, cache)
    prediction = result.prediction
    return Explanation(
        description,
        options,
        result,
        moments=_moments(prediction, description, options) if prediction else (),
        aggregates=_aggregates(prediction, description, options) if prediction and len(prediction.logits) else {},
        outcomes={
            existing: merge(result.old, result.decision.genres if result.decision else (), existing)
            for existing in get_args(Existing)
        },
    )


def _moments(prediction: Prediction, description: Description, options: TagOptions) -> tuple[Moment, ...]:
    """The prediction at every place that was classified, and the places where there was nothing to classify."""
    snippet_seconds = description.snippet_samples / SAMPLE_RATE
    length = min(snippet_seconds, prediction.duration_seconds)
    decisions: dict[float, Decision | None] = {}
    if prediction.duration_seconds >= SHORTEST_SECONDS:
        # Silent snippets leave no logits. The others may be off a little, by what the file says of its length.
        slack = SLACK_SAMPLES / SAMPLE_RATE
        for start in snippet_starts(prediction.duration_seconds, options.predict.n_snippets, snippet_seconds):
            if not any(abs(start - other) <= slack for other in prediction.starts_seconds):
                decisions[start] = None
    for start, row in zip(prediction.starts_seconds, prediction.logits, strict=True):
        decisions[start] = decide(row[None], description.head, DecisionPolicy(names=options.decide.names))
    return tuple(Moment(start, start + length, decisions[start]) for start in sorted(decisions))


def _aggregates(prediction: Prediction, description: Description, options: TagOptions) -> dict[str, Decision]:
    return {
        aggregate: decide(prediction.logits, description.head, replace(options.decide, aggregate=aggregate))
        for aggregate in AGGREGATORS
    }


def why(result: SongResult) -> str:
    """The status of a song and why, in a sentence or two."""
    decision = result.decision
    if result.status == "tagged" and decision is not None:
        # The genres that are taken lead the ranking.
        best = zip(decision.genres, decision.ranking, decision.needed, strict=False)
        sure = ", ".join(
            f"{genre} has {confidence:.2f} and needs {least:.2f}" for genre, (_, confidence), least in best
        )
        return f"{'; '.join(result.new)} would be written: {sure}."
    if result.status == "unchanged":
        return f"Left as it is: its genre is {'; '.join(result.old)} already."
    if result.status == "kept":
        return f"Left as it is: its genre is {'; '.join(result.old)}, and --existing keep leaves that alone."
    if result.status == "unsure":
        return f"Left as it is, unsure: {result.reason}."
    if result.status == "skipped":
        return f"Left alone: {result.reason}."
    return f"It could not be decoded: {result.reason}."


def explanation_record(explanation: Explanation) -> dict[str, Any]:
    """An explanation as plain values: what `tag --json` tells of a song, and how it came to that."""
    options, head = explanation.options, explanation.description.head
    decision = explanation.result.decision
    return {
        **as_record(explanation.result),
        "why": why(explanation.result),
        "model": explanation.description.name,
        "snippets": [
            {
                "start_seconds": round(moment.start_seconds, 3),
                "end_seconds": round(moment.end_seconds, 3),
                "silent": moment.decision is None,
                "reason": "" if moment.decision is None or moment.decision.ranking else moment.decision.reason,
                "scores": _scores(moment.decision),
            }
            for moment in explanation.moments
        ],
        "aggregate": options.decide.aggregate,
        "aggregates": {
            name: {
                "genres": list(other.genres),
                "reason": other.reason,
                "scale": confidence_scale(head, name),
                "scores": _scores(other),
            }
            for name, other in explanation.aggregates.items()
        },
        "max_genres": options.decide.max_genres,
        "min_confidence": options.decide.min_confidence,
        "needed": {
            name: least if math.isfinite(least) else None
            for (name, _), least in (zip(decision.ranking, decision.needed, strict=True) if decision else ())
        },
        "needed_reason": head.threshold_reason if options.decide.min_confidence is None else "",
        "map": dict(options.decide.names),
        "existing": options.write.existing,
        "with_existing": {existing: list(genres) for existing, genres in explanation.outcomes.items()},
    }


def _scores(decision: Decision | None) -> dict[str, float]:
    return {name: round(value, 4) for name, value in decision.ranking} if decision else {}
