"""From the logits of a song's snippets to the genres that are written, or to a reason to write none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain, islice
from typing import NamedTuple

import numpy as np

from tagger.models.head import GenreHead
from tagger.pipeline.options import DEFAULT_POLICY, DecisionPolicy


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities that add up to 1 over the last axis."""
    powers: np.ndarray = np.exp(logits - np.maximum.reduce(logits, axis=-1, keepdims=True))
    probabilities: np.ndarray = powers / np.add.reduce(powers, axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of 0..1, each output on its own."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def mean(rows: np.ndarray) -> np.ndarray:
    """Average a song's snippets, (n_snippets, n_genres) to (n_genres,)."""
    average: np.ndarray = rows.mean(axis=0)
    return average


def weighted(rows: np.ndarray) -> np.ndarray:
    """Average a song's snippets, each weighted by the probability of its best genre, to (n_genres,)."""
    weights = softmax(rows).max(axis=1)
    average: np.ndarray = weights @ rows / weights.sum()
    return average


def vote(rows: np.ndarray) -> np.ndarray:
    """Share of a song's snippets whose best genre it is, (n_genres,) adding up to 1; a tie falls to the first genre."""
    return np.bincount(rows.argmax(axis=1), minlength=rows.shape[1]) / len(rows)


def maximum(rows: np.ndarray) -> np.ndarray:
    """The highest logit each genre reaches in any snippet, (n_genres,)."""
    highest: np.ndarray = rows.max(axis=0)
    return highest


#: Ways from snippets to a song, (n_snippets, n_genres) to (n_genres,): logits, but for `vote`, which gives shares.
AGGREGATORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": mean,
    "weighted": weighted,
    "vote": vote,
    "max": maximum,
}


@dataclass(frozen=True)
class Decision:
    """What a song was classified as, and what of it is sure enough to be written."""

    genres: tuple[str, ...]
    #: Every genre with its confidence, 0..1, best first; empty when nothing could be classified.
    ranking: tuple[tuple[str, float], ...]
    #: Why no genre is written: the song is unsure. "" when there are genres.
    reason: str
    #: How sure each genre of `ranking` had to be; math.inf: it is not written by default.
    needed: tuple[float, ...] = ()

    @property
    def confidence(self) -> float:
        """Confidence of the best genre, 0..1."""
        return self.ranking[0][1] if self.ranking else 0.0


def unsure(reason: str) -> Decision:
    """The decision on a song that gave nothing to decide on."""
    return Decision((), (), reason)


def confidence_scale(head: GenreHead, aggregate: str) -> str:
    """What the numbers of a decision are; "calibrated" only by this aggregation, and with evidence for it."""
    if aggregate == "vote":
        return "share of snippets"
    return "calibrated" if head.is_calibrated and aggregate == "mean" else head.scale


def song_scores(logits: np.ndarray, head: GenreHead, aggregate: str = "mean") -> np.ndarray:
    """One score for each genre of `head` in a song, (n_snippets, n_outputs) to (n_genres,): a logit, or its votes."""
    logits = logits.astype(np.float64)
    if head.bias is not None:
        logits = logits - np.asarray(head.bias)
    if head.members is None:
        song = AGGREGATORS[aggregate](logits)
    else:
        columns = [column for members in head.members for column in members]
        outputs = np.split(AGGREGATORS[aggregate](logits[:, columns]), np.cumsum([len(m) for m in head.members])[:-1])
        song = np.array([group.sum() if aggregate == "vote" else group.max() for group in outputs])
    return song / head.temperature if head.temperature is not None and aggregate == "mean" else song


def confidences(scores: np.ndarray, groups: Sequence[Sequence[int]], head: GenreHead, aggregate: str) -> np.ndarray:
    """Confidence, 0..1, of each group of genres, from the scores of the genres, (n_genres,) to (n_groups,).

    A group is as sure as its genres together where genres exclude each other, else as its surest genre.
    """
    columns = list(chain.from_iterable(groups))
    firsts = [0, *accumulate(map(len, groups))][:-1]
    if aggregate == "vote" or head.scale == "softmax":
        shares = scores if aggregate == "vote" else softmax(scores)
        return np.add.reduceat(shares[columns], firsts)
    return SCALES[head.scale](np.maximum.reduceat(scores[columns], firsts))


def lead(song: np.ndarray) -> np.ndarray:
    """Sigmoid of each genre's lead over the best other genre, (n_genres,) to (n_genres,); above .5 for one only."""
    if len(song) == 1:
        return np.ones(1)
    first, second = np.sort(song)[::-1][:2]
    best_other = np.where(song == first, second, first)
    return sigmoid(song - best_other)


SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"sigmoid": sigmoid, "margin": lead}


class NamedGenre(NamedTuple):
    """Genres of a model that the user gives one name."""

    name: str
    is_kept: bool  # whether it may be written
    labels: tuple[int, ...]
    threshold: float  # the strictest of theirs


@lru_cache(maxsize=8)
def named_genres(
    genres: tuple[str, ...], names: tuple[tuple[str, str], ...], thresholds: tuple[float, ...]
) -> tuple[NamedGenre, ...]:
    """The genres of a model under the user's names, in the order of their first labels; the same for all songs."""
    name_of = dict(names)
    groups: dict[tuple[str, bool], list[int]] = {}
    for label, genre in enumerate(genres):
        groups.setdefault((name_of.get(genre) or genre, name_of.get(genre) != ""), []).append(label)
    thresholds = thresholds or (0.5,) * len(genres)
    return tuple(
        NamedGenre(name, is_kept, tuple(labels), max(thresholds[label] for label in labels))
        for (name, is_kept), labels in groups.items()
    )


def decide(logits: np.ndarray, head: GenreHead, policy: DecisionPolicy = DEFAULT_POLICY) -> Decision:
    """Genres of a song, best first, from the logits of its snippets, (n_snippets, n_outputs).

    A genre is taken while its confidence reaches `min_confidence` (None: the checkpoint's own threshold for that
    genre) and all better ones were taken, at most `max_genres`. A best genre that is not sure enough leaves the song
    unsure: a runner-up is never written in its place.

    `names` gives genres the user's names; those that get one name are one genre, under the strictest of their
    thresholds. The name "" means never to write that genre.
    """
    if head.gate is not None:
        music, speech = sigmoid(logits[:, [head.gate.music, head.gate.speech]].astype(np.float64)).mean(axis=0)
        if music < max(head.gate.min_music, speech):
            return unsure(f"not music (music {music:.2f}, speech {speech:.2f})")

    named = named_genres(head.genres, tuple(policy.names.items()), head.thresholds)
    groups = [each.labels for each in named]
    sure = confidences(song_scores(logits, head, policy.aggregate), groups, head, policy.aggregate).tolist()
    ranked = sorted(zip(named, sure, strict=True), key=lambda item: -item[1])
    least = policy.min_confidence
    needed = tuple(each.threshold if least is None else least for each, _ in ranked)

    genres: list[str] = []
    reason = ""
    for ((name, is_kept, _, _), value), least in islice(zip(ranked, needed, strict=True), policy.max_genres):
        if not is_kept:
            reason = f"{name} {value:.2f}, dropped by the map"
        elif value < least:
            never = f"{name} {value:.2f}, not written by default"
            reason = never if math.isinf(least) else f"{name} {value:.2f} is below {least:.2f}"
        if reason:
            break
        genres.append(name)
    ranking = tuple((each.name, value) for each, value in ranked)
    return Decision(tuple(genres), ranking, "" if genres else reason, needed)
