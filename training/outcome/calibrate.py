"""From the logits of held-out songs to a temperature and the least confidence at which a genre is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagger.evaluation.metrics import checked
from tagger.pipeline.aggregate import softmax

#: Bounds of a temperature. Only a network that knows nothing, or whose logits are all but equal, comes to one.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
#: Standard deviations for 95 % of the normal distribution, on one side.
Z_95 = 1.645


def fit_temperature(song_logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that makes confidences fit held-out songs, from their mean logits (n_songs, n_genres).

    It has the least negative log-likelihood of softmax(song_logits / T), which is convex in 1 / T (Guo et al. 2017,
    "On Calibration of Modern Neural Networks"). One more song, of an unknown genre and as the average of the others,
    is counted in. Songs that are all right say that no confidence is too high, and few songs often are all right: so
    ten of them end at a confidence of about 10 / 11, where without it they would end at 1. Among some hundred songs it
    is lost. To 4 digits, from MIN_TEMPERATURE to MAX_TEMPERATURE, which is for logits that tell nothing of the genre.
    """
    logits, labels = checked(song_logits, labels)
    truth = logits[np.arange(len(labels)), labels].sum() + logits.mean()

    def slope(log_sharpness: float) -> float:
        """Derivative of the negative log-likelihood by 1 / T, the sharpness: it only ever rises."""
        expected = (softmax(math.exp(log_sharpness) * logits) * logits).sum(axis=1)
        return float(expected.sum() + expected.mean() - truth)

    low, high = -math.log(MAX_TEMPERATURE), -math.log(MIN_TEMPERATURE)
    if slope(low) >= 0:
        return MAX_TEMPERATURE
    if slope(high) <= 0:
        return MIN_TEMPERATURE
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return round(math.exp(-low), 4)


@dataclass(frozen=True)
class MinConfidence:
    """The least confidence at which a genre is written, and what it comes to on the songs it was fitted on."""

    value: float  # 0..1; math.inf: no genre is written by default
    coverage: float  # share of the songs that are written
    precision: float  # share of those that are right; nan when none is written
    reason: str  # one sentence without a full stop, for users


def fit_min_confidence(
    confidences: np.ndarray, correct: np.ndarray, artists: np.ndarray, precision: float = 0.8
) -> MinConfidence:
    """The least threshold, in steps of .001, from which on what is written is right in `precision` of all cases.

    That is, the lower end of the one-sided 95 % interval for the share that is right (Wilson 1927) reaches it, of as
    many songs as the artists (n_songs,) are worth: see `effective_songs`. The share itself would not do, for the least
    of many thresholds is a lucky one; nor would all songs, for those of an artist are right together, and they have
    chosen the best epoch before. In simulations with ten epochs and songs of an artist that are much alike, an aim of
    .8 was missed by 36 to 65 % of the fits that counted songs, and by 7 % at most of those that count artists. Too few
    of these, fewer than 11 for .8, promise nothing.
    """
    correct, n_songs = np.asarray(correct, bool), len(correct)
    if not n_songs or not confidences.shape == correct.shape == artists.shape or not 0 < precision < 1:
        shapes = f"{confidences.shape} confidences, {correct.shape} correct, {artists.shape} artists"
        raise ValueError(f"{shapes}, precision {precision}")
    of = f"{n_songs} validation songs by {_artists(artists)}"
    for value in np.unique(np.floor(confidences * 1000) / 1000).tolist():
        is_written = confidences >= value
        n_written, n_right = int(is_written.sum()), int(correct[is_written].sum())
        if n_written and wilson_low(n_right / n_written, effective_songs(artists[is_written])) >= precision:
            reason = (
                f"fitted on {of}: of the {n_written} at a confidence of {value:g} or above, "
                f"{n_right} were right ({precision:.0%} or more with 95% certainty)"
            )
            return MinConfidence(value, n_written / n_songs, n_right / n_written, reason)
    fewest = math.ceil(Z_95**2 * precision / (1 - precision))
    aim = f"{precision:.0%} right with 95% certainty"
    why = f"{aim} takes {fewest} artists with equally many validation songs, and there were {of}"
    if effective_songs(artists) >= fewest:
        why = f"on {of} no confidence gave {aim}"
    return MinConfidence(math.inf, 0.0, math.nan, f"not fitted: {why}, so nothing is written by default")


def _artists(artists: np.ndarray) -> str:
    number = len(np.unique(artists))
    return f"{number} artist{'s' * (number != 1)}"


def effective_songs(artists: np.ndarray) -> float:
    """How many songs of different artists tell as much, from the artist of each song, (n_songs,).

    As if the songs of an artist were all right or all wrong: the number of artists where they have equally many songs,
    and fewer where some have more (Kish 1965, "Survey Sampling", section 8.2).

    >>> effective_songs(np.array([0, 0, 1, 1])), effective_songs(np.array([0, 0, 0, 1]))
    (2.0, 1.6)
    """
    n_songs = np.unique(artists, return_counts=True)[1]
    return float(n_songs.sum() ** 2 / np.square(n_songs).sum())


def wilson_low(share: float, n_songs: float) -> float:
    """Lower end of the one-sided 95 % interval for a share, as seen in so many songs (Wilson 1927, JASA 22).

    >>> round(wilson_low(1.0, 11), 3), round(wilson_low(0.85, 100), 3)
    (0.803, 0.782)
    """
    z = Z_95
    spread = z * math.sqrt(share * (1 - share) / n_songs + (z / (2 * n_songs)) ** 2)
    return (share + z * z / (2 * n_songs) - spread) / (1 + z * z / n_songs)


def training_values(temperature: float, threshold: MinConfidence) -> dict[str, Any]:
    """What `tagger.models.description.with_fitted` reads in training.json, where an empty table means "never"."""
    return {
        "temperature": temperature,
        "min_confidence": threshold.value if math.isfinite(threshold.value) else {},
        "min_confidence_reason": threshold.reason,
    }
