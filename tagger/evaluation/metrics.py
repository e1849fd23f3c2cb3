"""Scores of songs whose genre is known: what is confused, how sure it was, what chance leaves open. NumPy in and out.

A snippet is a row: logits (n_rows, n_genres), a label (n_rows,) and the id of its song (n_rows,). The rows of a song
may lie anywhere. Every function raises ValueError for what does not fit together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from tagger.pipeline.aggregate import AGGREGATORS, softmax

N_RESAMPLES = 10_000
N_AT_ONCE = 1_000  # so that they fit the memory
CONFIDENCE = 0.95  # of intervals
N_BINS = 10


@dataclass(frozen=True, eq=False)
class SongLogits:
    """Songs as each aggregation classifies them, in the order of their ids: that of the rows everywhere here."""

    songs: np.ndarray  # (n_songs,) ids
    labels: np.ndarray  # (n_songs,)
    #: Aggregation -> (n_songs, n_genres): logits, but for `vote`, which are shares of snippets.
    logits: Mapping[str, np.ndarray]

    def predicted(self, aggregate: str = "mean") -> np.ndarray:
        """Predicted labels, (n_songs,)."""
        labels: np.ndarray = self.logits[aggregate].argmax(axis=1)
        return labels

    def correct(self, aggregate: str = "mean") -> np.ndarray:
        """Whether each song's label is predicted, bool (n_songs,)."""
        is_right: np.ndarray = self.predicted(aggregate) == self.labels
        return is_right


def song_logits(logits: np.ndarray, labels: np.ndarray, songs: Sequence[str] | np.ndarray) -> SongLogits:
    """The songs of the rows under every aggregation the product knows."""
    (logits, labels), songs = checked(logits, labels), np.asarray(songs)
    if songs.shape != labels.shape:
        raise ValueError(f"song ids {songs.shape} for {len(labels)} rows")
    ids, first, song, counts = np.unique(songs, return_index=True, return_inverse=True, return_counts=True)
    song_labels = labels[first]
    crossing = np.flatnonzero(labels != song_labels[song])
    if len(crossing):
        row = crossing[0]
        raise ValueError(f"song {songs[row]} has rows of label {song_labels[song[row]]} and of label {labels[row]}")
    parts = np.split(logits[np.argsort(song, kind="stable")], np.cumsum(counts)[:-1])
    return SongLogits(
        ids,
        song_labels,
        {name: np.stack([aggregate(part) for part in parts]) for name, aggregate in AGGREGATORS.items()},
    )


def checked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits as float64, in which the product aggregates, and labels, when they are rows that can be scored."""
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or not logits.size or labels.shape != logits.shape[:1]:
        raise ValueError(f"no rows of logits, each with a label: {logits.shape} and {labels.shape}")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels have to be integers from 0 to {logits.shape[1] - 1}")
    if not np.isfinite(logits).all():
        raise ValueError("logits are not finite")
    return logits, labels


def confusion(reference: np.ndarray, predicted: np.ndarray, n_genres: int) -> np.ndarray:
    """How many songs of a reference label (row) were predicted to have which (column), (n_genres, n_genres).

    >>> confusion(np.array([0, 0, 2]), np.array([0, 1, 2]), 3)
    array([[1, 1, 0],
           [0, 0, 0],
           [0, 0, 1]])
    """
    matrix = np.zeros((n_genres, n_genres), np.int64)
    np.add.at(matrix, (reference, predicted), 1)
    return matrix


@dataclass(frozen=True)
class Confused:
    """Songs of one genre that were predicted to be another."""

    reference: str
    predicted: str
    share: float  # of the songs of the reference genre, 0..1
    n_songs: int


def confused_pairs(matrix: np.ndarray, genres: Sequence[str], least: float = 0.1) -> list[Confused]:
    """Pairs that more than the share `least` of a genre's songs were confused in, from the most; of `confusion`."""
    n_songs = matrix.sum(axis=1)
    is_confused = matrix > least * n_songs[:, None]
    np.fill_diagonal(is_confused, False)
    pairs = [
        Confused(genres[row], genres[column], float(matrix[row, column] / n_songs[row]), int(matrix[row, column]))
        for row, column in np.argwhere(is_confused).tolist()
    ]
    return sorted(pairs, key=lambda pair: (-pair.share, -pair.n_songs))


@dataclass(frozen=True)
class GenreScore:
    """How well one genre is told from the others. A share of nothing is None."""

    genre: str
    n_songs: int  # that are of it: the support
    n_predicted: int  # that are predicted to be of it
    precision: float | None  # share of those predicted that are of it, 0..1
    recall: float | None  # share of those of it that are predicted, 0..1
    f1: float | None  # harmonic mean of both, 0..1


def genre_scores(matrix: np.ndarray, genres: Sequence[str]) -> list[GenreScore]:
    """The scores of each genre, in their order; of `confusion`."""
    n_songs, n_predicted = matrix.sum(axis=1).tolist(), matrix.sum(axis=0).tolist()
    return [
        GenreScore(
            genre,
            songs,
            predicted,
            precision=right / predicted if predicted else None,
            recall=right / songs if songs else None,
            f1=2 * right / (songs + predicted) if songs + predicted else None,
        )
        for genre, songs, predicted, right in zip(genres, n_songs, n_predicted, matrix.diagonal().tolist(), strict=True)
    ]


def macro_recall(correct: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the accuracies of the genres that have songs: every genre counts alike. Both are (n_songs,).

    >>> macro_recall(np.array([True, True, True, False]), np.array([0, 0, 0, 2]))
    0.5
    """
    n_songs = np.bincount(labels)
    n_right = np.bincount(labels, weights=correct)
    return float((n_right[n_songs > 0] / n_songs[n_songs > 0]).mean())


def song_artists(songs: Sequence[str] | np.ndarray, artists: Sequence[str] | np.ndarray) -> np.ndarray:
    """Numbers of the songs' artists, (n_songs,) in the order of the songs' ids; of rows, (n_rows,) ids and names.

    Case and blanks of a name do not count. A song without an artist is one of its own.

    >>> song_artists(["b", "a", "c", "d", "b"], ["Ann", "ann ", "", "", "Ann"])
    array([0, 0, 1, 2])
    """
    ids, first = np.unique(np.asarray(songs), return_index=True)
    names = [" ".join(str(artists[row]).casefold().split()) for row in first]
    keys = [f"artist {name}" if name else f"song {song}" for song, name in zip(ids, names, strict=True)]
    numbers: np.ndarray = np.unique(keys, return_inverse=True)[1]
    return numbers


class Interval(NamedTuple):
    """The middle 95 % of what a score might have come to with songs of other artists of the same kind."""

    low: float
    high: float


def interval(correct: np.ndarray, artists: np.ndarray, seed: int, labels: np.ndarray | None = None) -> Interval:
    """Of an accuracy, from bool (n_songs,), by drawing the artists again: a percentile bootstrap (Efron 1979).

    Songs of one artist tend to be right together: drawn one by one, they would seem to tell more than they do. So all
    songs of an artist, a number (n_songs,), are drawn at once. With `labels` (n_songs,), of the mean of the genres'
    accuracies: the macro recall. It cannot see beyond its songs: where all are right, or all wrong, it is a point. Of
    a single artist nothing can be said: it is all there is.
    """
    return _bootstrap(np.asarray(correct, np.float64), artists, seed, labels, Interval(0.0, 1.0))


def paired_interval(
    correct_a: np.ndarray, correct_b: np.ndarray, artists: np.ndarray, seed: int, labels: np.ndarray | None = None
) -> Interval:
    """Of how much higher the accuracy (or macro recall) of `a` is than that of `b` on the same songs."""
    if np.shape(correct_a) != np.shape(correct_b):
        raise ValueError(f"not the same songs: {np.shape(correct_a)} and {np.shape(correct_b)}")
    difference = np.asarray(correct_a, np.float64) - np.asarray(correct_b, np.float64)
    return _bootstrap(difference, artists, seed, labels, Interval(-1.0, 1.0))


def _bootstrap(
    values: np.ndarray, artists: np.ndarray, seed: int, labels: np.ndarray | None, whole: Interval
) -> Interval:
    """Of the mean over genres of the means of values (n_songs,); without labels, of their mean.

    How often the artists that are alike in all their songs are drawn is multinomial. A genre none of whose songs is
    drawn is left out.
    """
    labels = np.zeros(len(values), np.int64) if labels is None else np.asarray(labels)
    if values.ndim != 1 or not len(values) or not labels.shape == np.shape(artists) == values.shape:
        shapes = f"{values.shape}, {np.shape(artists)} and {labels.shape}"
        raise ValueError(f"no songs to draw from, each with an artist and a label: {shapes}")
    genre, artist = (np.unique(each, return_inverse=True)[1] for each in (labels, artists))
    n_genres, n_artists = genre.max() + 1, artist.max() + 1
    if n_artists == 1:
        return whole
    sums = np.zeros((n_artists, 2, n_genres))  # of each artist's values, and how many they are
    np.add.at(sums[:, 0], (artist, genre), values)
    np.add.at(sums[:, 1], (artist, genre), 1)
    kinds, counts = np.unique(sums.reshape(n_artists, -1), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    drawn = (rng.multinomial(n_artists, counts / n_artists, N_AT_ONCE) @ kinds for _ in range(N_RESAMPLES // N_AT_ONCE))
    totals, n_drawn = np.concatenate(list(drawn)).reshape(N_RESAMPLES, 2, n_genres).transpose(1, 0, 2)
    scores = (totals / np.maximum(n_drawn, 1)).sum(axis=1) / (n_drawn > 0).sum(axis=1)
    tail = _tail(int(n_artists))
    low, high = np.quantile(scores, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _tail(n: int) -> float:
    """What a percentile bootstrap of n leaves out at each end: less than 2.5 % where n is small.

    As wide as Student's t would have it, with a variance of n - 1 (Hesterberg 2015, "What Teachers Should Know About
    the Bootstrap", section 5.3: the expanded percentile interval). The quantile of t is that of Abramowitz and Stegun
    1964, 26.7.5, good to 1 % from four degrees of freedom on, and too small below.
    """
    normal, free = NormalDist(), n - 1
    z = normal.inv_cdf((1 + CONFIDENCE) / 2)
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return normal.cdf(-t * math.sqrt(n / free))


def song_confidences(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Confidence (n_songs,) of each song's best genre, as `pipeline.aggregate.decide` has it, from mean logits."""
    confidences: np.ndarray = softmax(np.asarray(logits, np.float64) / temperature).max(axis=1)
    return confidences


@dataclass(frozen=True)
class Bin:
    """Songs of like confidence, `low` to `high`: how sure the network was of them, and how often it was right."""

    low: float
    high: float
    n_songs: int
    confidence: float  # mean of these songs, 0..1
    accuracy: float  # share that is right, 0..1


def reliability(confidences: np.ndarray, correct: np.ndarray, n_bins: int = N_BINS) -> list[Bin]:
    """Songs by confidence, in bins of equal width; bins without songs are left out. Both arguments are (n_songs,)."""
    index = np.minimum((confidences * n_bins).astype(int), n_bins - 1)
    bins = []
    for number in np.unique(index).tolist():
        inside = index == number
        means = float(confidences[inside].mean()), float(correct[inside].mean())
        bins.append(Bin(number / n_bins, (number + 1) / n_bins, int(inside.sum()), *means))
    return bins


def expected_calibration_error(confidences: np.ndarray, correct: np.ndarray, n_bins: int = N_BINS) -> float:
    """Mean distance of confidence and accuracy over bins, 0..1, weighted by their songs (Guo et al. 2017).

    It is above 0 by chance alone: of songs that are calibrated perfectly, 50 come to some .12, 200 to .06, 1000 to .03.
    """
    bins = reliability(confidences, correct, n_bins)
    return sum(each.n_songs * abs(each.confidence - each.accuracy) for each in bins) / len(confidences)


@dataclass(frozen=True)
class Calibration:
    """How far the confidence of a split's songs can be trusted, at a temperature and a threshold."""

    n_songs: int
    error_before: float  # expected calibration error at temperature 1
    error: float  # and at the fitted one
    bins: tuple[Bin, ...]
    coverage: float  # share of the songs that are written
    precision: float  # share of those that are right; nan when none is written


def calibration(logits: np.ndarray, labels: np.ndarray, temperature: float, min_confidence: float) -> Calibration:
    """What a temperature and a threshold come to on songs, from their mean logits (n_songs, n_genres)."""
    logits, labels = checked(logits, labels)
    correct = logits.argmax(axis=1) == labels
    confidences = song_confidences(logits, temperature)
    is_written = confidences >= min_confidence
    return Calibration(
        n_songs=len(labels),
        error_before=expected_calibration_error(song_confidences(logits, 1.0), correct),
        error=expected_calibration_error(confidences, correct),
        bins=tuple(reliability(confidences, correct)),
        coverage=float(is_written.mean()),
        precision=float(correct[is_written].mean()) if is_written.any() else math.nan,
    )


@dataclass(frozen=True, eq=False)
class Coverage:
    """What is left, and how much of it is right, when only songs of at least some confidence are taken."""

    confidence: np.ndarray  # (n_points,) descending, every one that occurs
    coverage: np.ndarray  # (n_points,) share of the songs that is taken
    accuracy: np.ndarray  # (n_points,) share of those taken that is right


def coverage(confidence: np.ndarray, correct: np.ndarray) -> Coverage:
    """Accuracy at every threshold, from the confidence (n_songs,) and whether they were right, bool (n_songs,)."""
    confidence, correct = np.asarray(confidence), np.asarray(correct)
    if confidence.ndim != 1 or not len(confidence) or confidence.shape != correct.shape:
        raise ValueError(f"no songs, each with a confidence: {confidence.shape} and {correct.shape}")
    order = np.argsort(-confidence, kind="stable")
    descending = confidence[order]
    last = np.flatnonzero(np.append(np.diff(descending), -1))  # of those equally sure, which no threshold tells apart
    n_taken = last + 1
    return Coverage(descending[last], n_taken / len(correct), np.cumsum(correct[order])[last] / n_taken)
