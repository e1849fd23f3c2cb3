"""A new last layer, and how good it is: chosen, calibrated and judged on songs of artists that it does not know.

Every song is predicted by a layer that was fitted without its artist's. What a fold's songs are judged by (strength,
share of the model's own answer, temperature, threshold) is chosen on the other folds' songs, and by layers that know
nothing of that fold's either: folds within folds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from tagger.evaluation.metrics import Interval, interval, paired_interval
from tagger.pipeline.aggregate import softmax
from training.outcome.calibrate import MinConfidence, fit_min_confidence, fit_temperature
from training.probe.base import Base
from training.probe.regression import Linear, fit_linear
from training.probe.songs import Tagged

N_FOLDS = 5
SHRINKAGES = (300.0, 30.0)  # between them, and a step beyond, nothing could be told from chance
#: How much of the model's own scores and of the regression's logits are added. Each knows something that the other
#: does not: where both agree the answer is surer. The last forgets what the model said.
MIXES = ((1.0, 0.25), (1.0, 0.5), (1.0, 1.0), (1.0, 2.0), (0.0, 1.0))
MOST_WRITTEN = 0.05  # of the songs of a genre that is left out of learning, as another
NEVER = -100.0  # the logit of a genre of which a fold says nothing
MOST_LEFT_OUT = 3000  # songs that the layers without a genre are fitted on


@dataclass(frozen=True)
class Strength:
    """How much is learned: see `SHRINKAGES` and `MIXES`."""

    shrinkage: float
    prior: float
    share: float


#: That which learns least first: of those by which as many songs are right, the first is taken. (Cross-entropy chose
#: worse: it would drop the genres that the model knows and the library has not, for they take some confidence from the
#: library's own songs; but strange songs are taken for them, instead of for what was learned.)
STRENGTHS = tuple(Strength(shrinkage, *mix) for shrinkage in SHRINKAGES for mix in MIXES)


@dataclass(frozen=True, eq=False)
class Learned:
    """A new last layer for songs of these genres, with what their held-out songs say of it."""

    strength: Strength
    regression: Linear  # of the learned genres
    temperature: float
    threshold: MinConfidence
    #: Held-out logits (n_songs, n_columns) at `temperature`: of the learned genres, then of the model's others.
    logits: np.ndarray
    #: Whether each song would be written as its best genre, by a threshold that others chose; bool (n_songs,).
    is_written: np.ndarray
    #: Share of the songs that would be written as another genre when theirs is left out of learning, the mean of the
    #: genres; by thresholds that others chose.
    written_without_genre: float

    @property
    def predicted(self) -> np.ndarray:
        """The best genre of each song, (n_songs,); from n_learned on a genre that was not learned."""
        best: np.ndarray = self.logits.argmax(axis=1)
        return best


def share_out(labels: np.ndarray, artists: np.ndarray, n_folds: int, seed: int = 0) -> np.ndarray:
    """The fold of each song, (n_songs,): those of an artist stay together, and genres are shared out evenly."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((artists.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (artists, labels), 1)
    has, fold_of = np.zeros((n_folds, counts.shape[1])), np.zeros(len(counts), np.int64)
    weights = 1.0 / np.maximum(counts.sum(axis=0), 1)  # a song of a rare genre counts for more
    order = rng.permutation(len(counts))
    for artist in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        wanted = counts[artist] > 0
        load = (has[:, wanted] * weights[wanted]).sum(axis=1)
        fold_of[artist] = int(np.lexsort((has.sum(axis=1), load))[0])
        has[fold_of[artist]] += counts[artist]
    return fold_of[artists]


def learn(tagged: Tagged, base: Base) -> Learned:
    """The layer that suits these songs best, with what it is worth."""
    labels, prior, n_learned = tagged.labels, base.prior(tagged.logits), len(tagged.genres)
    folds = share_out(labels, tagged.artists, N_FOLDS)
    regressions = {shrinkage: _held_out(tagged, folds, shrinkage) for shrinkage in SHRINKAGES}
    own_fold = {shrinkage: each[folds, np.arange(len(folds))] for shrinkage, each in regressions.items()}
    found = _choose(tagged, base, prior, own_fold, np.full(len(folds), True))
    held_out, is_written = np.full(prior.shape, NEVER), np.zeros(len(labels), bool)
    is_strange_written = np.zeros(len(labels), bool)
    for fold in range(N_FOLDS):
        there = folds == fold
        logits = {shrinkage: each[fold] for shrinkage, each in regressions.items()}
        chosen = _choose(tagged, base, prior, logits, ~there)
        own = mix(chosen.strength, prior[there], logits[chosen.strength.shrinkage][there]) / chosen.temperature
        held_out[there, : own.shape[1]] = own * found.temperature
        is_written[there] = confidence_of(own, n_learned) >= chosen.threshold.value
        is_strange_written[there] = chosen.strange[there] >= chosen.threshold.value
    return Learned(
        found.strength,
        fit_linear(tagged.embeddings, labels, n_learned, found.strength.shrinkage),
        found.temperature,
        found.threshold,
        held_out,
        is_written,
        mean_of_genres(is_strange_written, labels),
    )


@dataclass(frozen=True, eq=False)
class _Choice:
    """What is chosen on some of the songs."""

    strength: Strength
    temperature: float
    threshold: MinConfidence
    strange: np.ndarray  # of all songs: see `as_another`


def _choose(
    tagged: Tagged, base: Base, prior: np.ndarray, regressions: dict[float, np.ndarray], songs: np.ndarray
) -> _Choice:
    """By songs, bool (n_songs,), and their logits, (n_songs, n_learned) for each shrinkage, by layers without them."""
    labels, n_learned = tagged.labels[songs], len(tagged.genres)
    logits = [mix(strength, prior[songs], regressions[strength.shrinkage][songs]) for strength in STRENGTHS]
    best = int(np.argmin([(each.argmax(axis=1) != labels).sum() for each in logits]))
    temperature = fit_temperature(logits[best], labels)
    strange = as_another(tagged, base, prior, STRENGTHS[best], temperature, songs)
    threshold = fit_threshold(logits[best] / temperature, labels, tagged.artists[songs], strange[songs], n_learned)
    return _Choice(STRENGTHS[best], temperature, threshold, strange)


def mix(strength: Strength, prior: np.ndarray, regression: np.ndarray) -> np.ndarray:
    """Logits of the prior, (n_songs, n_columns), and of a regression, (n_songs, n_learned) for the first columns.

    (n_songs, n_columns), or (n_songs, n_learned) where the prior is forgotten.
    """
    if not strength.prior:
        return strength.share * regression
    mixed = strength.prior * prior
    mixed[:, : regression.shape[1]] += strength.share * regression
    return mixed


def _held_out(tagged: Tagged, folds: np.ndarray, shrinkage: float) -> np.ndarray:
    """Logits (n_folds, n_songs, n_learned) of each song by a regression without its fold, and without the fold asked.

    So what is chosen on all folds but one is chosen by layers that know nothing of that one.
    """
    logits = np.empty((N_FOLDS, len(folds), len(tagged.genres)))
    for one, other in combinations_with_replacement(range(N_FOLDS), 2):
        rest = (folds != one) & (folds != other)
        fitted = fit_linear(tagged.embeddings[rest], tagged.labels[rest], len(tagged.genres), shrinkage)
        logits[one, folds == other] = fitted.logits(tagged.embeddings[folds == other])
        logits[other, folds == one] = fitted.logits(tagged.embeddings[folds == one])
    return logits


def confidence_of(logits: np.ndarray, n_learned: int) -> np.ndarray:
    """Confidence (n_songs,) of the best genre of each song, (n_songs, n_columns); 0 where that is not a learned one."""
    probabilities = softmax(logits)
    confidence: np.ndarray = np.where(logits.argmax(axis=1) < n_learned, probabilities.max(axis=1), 0.0)
    return confidence


def as_another(
    tagged: Tagged, base: Base, prior: np.ndarray, strength: Strength, temperature: float, songs: np.ndarray
) -> np.ndarray:
    """Confidence (n_songs,) at which each song is taken for another genre by what is learned of the others.

    Learned is from the songs, bool (n_songs,), that are not of its genre. What the model itself knows of the genre
    stays, as of one that nothing was learned of; where that is best the confidence is 0.
    """
    n_learned, labels = len(tagged.genres), tagged.labels
    found = np.zeros(len(labels))
    for genre in range(n_learned):
        there, rest = labels == genre, np.flatnonzero(songs & (labels != genre))
        if len(rest) > MOST_LEFT_OUT:
            rest = np.random.default_rng(genre).choice(rest, MOST_LEFT_OUT, replace=False)
        kept = [other for other in range(n_learned) if other != genre]
        fitted = fit_linear(tagged.embeddings[rest], np.searchsorted(kept, labels[rest]), len(kept), strength.shrinkage)
        is_known = base.parents[genre] is not None and base.parents.count(base.parents[genre]) == 1
        columns = [*kept, *[genre] * is_known, *range(n_learned, prior.shape[1])]
        mixed = mix(strength, prior[np.ix_(there, columns)], fitted.logits(tagged.embeddings[there]))
        found[there] = confidence_of(mixed / temperature, len(kept))
    return found


def fit_threshold(
    logits: np.ndarray, labels: np.ndarray, artists: np.ndarray, strange: np.ndarray, n_learned: int
) -> MinConfidence:
    """The least confidence at which held-out songs are right often enough, and few of a genre that is strange written.

    `logits` (n_songs, n_columns) are at their temperature; `strange` is what `as_another` gives of the same songs.
    """
    confidence, is_right = confidence_of(logits, n_learned), logits.argmax(axis=1) == labels
    found = fit_min_confidence(confidence, is_right, artists)
    least = max(found.value, strange_threshold(strange, labels))
    is_written = confidence >= least
    n_written, n_right = int(is_written.sum()), int(is_right[is_written].sum())
    if math.isinf(found.value):
        return found
    if not n_written:
        reason = "of songs of a genre left out of learning too many would be written as another, at any confidence"
        return MinConfidence(math.inf, 0.0, math.nan, f"not fitted: {reason}, so nothing is written by default")
    share = mean_of_genres(strange >= least, labels)
    reason = (
        f"fitted on {len(labels)} held-out songs: of the {n_written} at a confidence of {least:g} or above {n_right}"
        f" were right, and of a genre left out of learning {share:.0%} of the songs would be written as another"
    )
    return MinConfidence(least, n_written / len(labels), n_right / n_written, reason)


def strange_threshold(strange: np.ndarray, labels: np.ndarray) -> float:
    """The least confidence, in steps of .001, at which `MOST_WRITTEN` are written of the songs of a genre left out."""
    weights = 1.0 / np.bincount(labels)[labels]
    order = np.argsort(-strange, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    too_many = share > MOST_WRITTEN
    if not too_many.any():
        return 0.0
    value = math.floor(strange[order][int(too_many.argmax())] * 1000) / 1000 + 0.001
    return round(value, 3) if value <= 1 else math.inf


def mean_of_genres(values: np.ndarray, labels: np.ndarray) -> float:
    """The mean of each genre's mean: every genre counts alike."""
    return float(np.mean([values[labels == label].mean() for label in np.unique(labels)]))


@dataclass(frozen=True)
class Comparison:
    """Accuracy before and after, over the same songs; intervals draw artists, all of whose songs are alike."""

    before: float
    before_interval: Interval
    after: float
    after_interval: Interval
    gain_interval: Interval  # of the accuracy after less that before

    @property
    def is_better(self) -> bool:
        """Whether chance does not account for the gain."""
        return self.gain_interval.low > 0


def compare(before: np.ndarray, after: np.ndarray, artists: np.ndarray, seed: int = 0) -> Comparison:
    """Whether more songs are right than before: bool (n_songs,) each, and the artists that are drawn, (n_songs,)."""
    return Comparison(
        float(before.mean()),
        interval(before, artists, seed),
        float(after.mean()),
        interval(after, artists, seed),
        paired_interval(after, before, artists, seed),
    )
