"""Temperature and threshold against independent restatements, and against what the product decides with them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tagger.evaluation.metrics import calibration, song_confidences
from tagger.models.description import read_fitted, with_fitted
from tagger.models.head import GenreHead
from tagger.pipeline.aggregate import AGGREGATORS, decide
from tagger.pipeline.options import DecisionPolicy
from training.outcome.calibrate import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    MinConfidence,
    fit_min_confidence,
    fit_temperature,
    training_values,
    wilson_low,
)

GENRES = tuple("ABCDEFGHIJ")


def songs(n_songs: int, seed: int = 0, lead: float = 3.0, n_genres: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Mean logits (n_songs, n_genres) of a network that is right on most songs and too sure of it, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(n_genres, size=n_songs)
    logits = random.normal(size=(n_songs, n_genres))
    logits[np.arange(n_songs), labels] += random.normal(lead, 1.5, size=n_songs)
    return 2 * logits, labels


def all_right(n_songs: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n_songs) % 10
    return 5 * np.eye(10)[labels] + np.random.default_rng(1).normal(scale=0.5, size=(n_songs, 10)), labels


def test_the_temperature_of_logits_that_are_too_large_is_found() -> None:
    random = np.random.default_rng(2)
    logits = random.normal(scale=2, size=(20_000, 5))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)  # so P(label) is softmax(logits)
    for factor in (0.3, 1.0, 4.0):
        assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.03)


def test_no_other_temperature_makes_the_labels_likelier() -> None:
    logits, labels = songs(80)

    def loss(temperature: float) -> float:
        """Negative log-likelihood, song by song, with one average song of no known genre."""
        by_genre = []
        for song in logits:
            powers = [math.exp(value / temperature) for value in song]
            by_genre.append([-math.log(power / sum(powers)) for power in powers])
        known = sum(losses[label] for losses, label in zip(by_genre, labels, strict=True))
        return known + sum(sum(losses) / 10 for losses in by_genre) / len(by_genre)

    found = fit_temperature(logits, labels)
    others = [*np.geomspace(0.2, 20, 60), found - 0.01, found + 0.01]
    assert 1 < found < 5
    assert loss(found) < min(map(loss, others))


def test_a_temperature_grows_with_the_logits_and_knows_no_order() -> None:
    logits, labels = songs(50)
    order = np.random.default_rng(3).permutation(50)
    assert fit_temperature(4 * logits, labels) == pytest.approx(4 * fit_temperature(logits, labels), abs=3e-4)
    assert fit_temperature(logits[order], labels[order]) == fit_temperature(logits, labels)


@pytest.mark.parametrize("n_songs", [1, 5, 20, 100, 1000])
def test_songs_that_are_all_right_leave_room_for_one_that_is_not(n_songs: int) -> None:
    logits, labels = all_right(n_songs)
    temperature = fit_temperature(logits, labels)
    assert MIN_TEMPERATURE < temperature < MAX_TEMPERATURE
    doubt = 1 - song_confidences(logits, temperature).mean()
    assert 0.5 / (n_songs + 1) < doubt < 1.3 / (n_songs + 1)


def test_a_temperature_has_bounds() -> None:
    labels = np.arange(10)
    assert fit_temperature(np.zeros((10, 10)), labels) == MAX_TEMPERATURE
    assert fit_temperature(-np.eye(10), labels) == MAX_TEMPERATURE
    assert fit_temperature(1e-4 * np.eye(10), labels) == MIN_TEMPERATURE


def test_huge_logits_do_not_overflow() -> None:
    logits, labels = songs(30)
    with np.errstate(over="raise", invalid="raise"):
        assert MIN_TEMPERATURE <= fit_temperature(1e30 * logits, labels) <= MAX_TEMPERATURE


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((0, 3)), np.zeros(0, int)),
        (np.zeros((2, 3)), np.zeros(3, int)),
        (np.zeros(3), np.zeros(3, int)),
        (np.full((2, 3), np.nan), np.zeros(2, int)),
    ],
)
def test_what_cannot_be_calibrated_is_a_bug(logits: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="logits"):
        fit_temperature(logits, labels)
    with pytest.raises(ValueError, match="logits"):
        calibration(logits, labels, 1.0, 0.5)


def snippets(n_songs: int, seed: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Songs of 1 to 6 snippets, their mean logits as training has them, and labels."""
    random = np.random.default_rng(seed)
    means, labels = songs(n_songs, seed)
    rows = [(mean + random.normal(size=(random.integers(1, 7), 10))).astype(np.float32) for mean in means]
    return rows, np.stack([AGGREGATORS["mean"](each.astype(np.float64)) for each in rows]), labels


def test_the_product_decides_with_the_confidence_that_was_fitted(tmp_path: Path) -> None:
    rows, logits, labels = snippets(300, 4)
    temperature = fit_temperature(logits, labels)
    confidences = song_confidences(logits, temperature)
    threshold = fit_min_confidence(confidences, logits.argmax(axis=1) == labels, np.arange(300))
    file = tmp_path / "training.json"
    file.write_text(json.dumps(training_values(temperature, threshold), allow_nan=False))
    head = with_fitted("a run", GenreHead(GENRES, "softmax"), 10, read_fitted("a run", file))
    decisions = [decide(each, head) for each in rows]
    assert [decision.confidence for decision in decisions] == confidences.tolist()
    is_written = np.array([bool(decision.genres) for decision in decisions])
    np.testing.assert_array_equal(is_written, confidences >= threshold.value)
    assert 0.3 < threshold.coverage < 0.99
    assert is_written.mean() == pytest.approx(threshold.coverage)
    right = [d.genres == (GENRES[label],) for d, label in zip(decisions, labels, strict=True) if d.genres]
    assert np.mean(right) == pytest.approx(threshold.precision)
    assert head.threshold_reason == threshold.reason


def test_where_no_threshold_is_good_enough_the_product_writes_nothing(tmp_path: Path) -> None:
    threshold = fit_min_confidence(np.linspace(0.2, 1, 40), np.arange(40) % 2 == 0, np.arange(40))
    assert (threshold.value, threshold.coverage) == (math.inf, 0.0)
    assert math.isnan(threshold.precision)
    assert threshold.reason == (
        "not fitted: on 40 validation songs by 40 artists no confidence gave 80% right with 95% certainty, "
        "so nothing is written by default"
    )
    file = tmp_path / "training.json"
    file.write_text(json.dumps(training_values(1.0, threshold), allow_nan=False))
    head = with_fitted("a run", GenreHead(GENRES, "softmax"), 10, read_fitted("a run", file))
    certain = np.zeros((1, 10))
    certain[0, 0] = 1000.0
    assert decide(certain, head).reason == "A 1.00, not written by default"
    assert decide(certain, head, DecisionPolicy(min_confidence=0.5)).genres == ("A",)


def test_ten_songs_that_are_right_promise_nothing_and_eleven_do() -> None:
    confidences = np.linspace(0.7, 0.9, 11)
    few = fit_min_confidence(confidences[1:], np.ones(10, bool), np.arange(10))
    assert few.value == math.inf
    assert few.reason == (
        "not fitted: 80% right with 95% certainty takes 11 artists with equally many validation songs, and there were "
        "10 validation songs by 10 artists, so nothing is written by default"
    )
    enough = fit_min_confidence(confidences, np.ones(11, bool), np.arange(11))
    assert enough == MinConfidence(
        0.7,
        1.0,
        1.0,
        "fitted on 11 validation songs by 11 artists: of the 11 at a confidence of 0.7 or above, 11 were right "
        "(80% or more with 95% certainty)",
    )


def restated_low(n_right: int, n_songs: int) -> float:
    """The share of which `n_right` of `n_songs` lies 1.645 standard deviations above, by bisection."""
    low, high = 0.0, n_right / n_songs
    for _ in range(60):
        share = (low + high) / 2
        is_further = (n_right / n_songs - share) > 1.645 * math.sqrt(share * (1 - share) / n_songs)
        low, high = (share, high) if is_further else (low, share)
    return low


@pytest.mark.parametrize(("n_right", "n_songs"), [(0, 5), (1, 3), (8, 10), (11, 11), (850, 1000)])
def test_the_lower_end_is_wilsons(n_right: int, n_songs: int) -> None:
    assert wilson_low(n_right / n_songs, n_songs) == pytest.approx(restated_low(n_right, n_songs), abs=1e-9)


@pytest.mark.parametrize("precision", [0.5, 0.8, 0.95])
def test_the_threshold_is_the_least_that_keeps_the_promise(precision: float) -> None:
    logits, labels = songs(400, 5)
    confidences, correct = song_confidences(logits, 2.0), logits.argmax(axis=1) == labels

    def low(value: float) -> float:
        written = correct[confidences >= value]
        return restated_low(int(written.sum()), len(written))

    found = fit_min_confidence(confidences, correct, np.arange(400), precision)
    assert low(found.value) >= precision
    lower = np.floor(confidences[confidences < found.value] * 1000) / 1000
    assert len(lower) > 0 or precision == 0.5
    assert all(low(value) < precision for value in lower)
    assert round(found.value, 3) == found.value


def test_the_promise_is_kept_on_other_songs() -> None:
    others, other_labels = songs(4000, 999)
    other_correct = others.argmax(axis=1) == other_labels
    kept, written = [], []
    for seed in range(100):
        logits, labels = songs(100, seed)
        temperature = fit_temperature(logits, labels)
        found = fit_min_confidence(
            song_confidences(logits, temperature), logits.argmax(axis=1) == labels, np.arange(100), 0.85
        )
        is_written = song_confidences(others, temperature) >= found.value
        kept.append(other_correct[is_written].mean() >= 0.85)
        written.append(is_written.mean())
    assert np.mean(kept) >= 0.9
    assert np.mean(written) > 0.4  # it is no promise to write nothing


def epochs(
    artists: np.ndarray, labels: np.ndarray, alike: float, random: np.random.Generator, n_epochs: int
) -> list[np.ndarray]:
    """Mean logits of songs after each of some epochs that differ by chance alone: `alike` of the variance of a song's
    is that of its artist, and seven tenths are the same in all epochs."""

    def drawn(n: int) -> list[np.ndarray]:
        lasting = random.normal(size=(n, 8))
        return [math.sqrt(0.7) * lasting + math.sqrt(0.3) * random.normal(size=(n, 8)) for _ in range(n_epochs)]

    of_artist, of_song = drawn(int(artists.max()) + 1), drawn(len(artists))
    return [
        3 * np.eye(8)[labels] + 1.45 * (math.sqrt(alike) * ours[artists] + math.sqrt(1 - alike) * own)
        for ours, own in zip(of_artist, of_song, strict=True)
    ]


def songs_by(n_artists: int, most: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Artist and label of songs of which each artist has 1 to `most`, all of a genre."""
    artists = np.repeat(np.arange(n_artists), random.integers(1, most + 1, n_artists))
    return artists, random.integers(0, 8, n_artists)[artists]


@pytest.mark.parametrize(("n_artists", "most", "alike"), [(30, 8, 0.5), (50, 20, 0.9), (150, 8, 0.9)])
def test_the_promise_is_kept_by_the_best_of_ten_epochs_on_songs_of_other_artists(
    n_artists: int, most: int, alike: float
) -> None:
    random = np.random.default_rng(4)
    others, other_labels = songs_by(2000, most, random)
    [other_logits] = epochs(others, other_labels, alike, random, 1)
    other_correct = other_logits.argmax(axis=1) == other_labels
    broken: dict[str, list[bool]] = {"artists": [], "songs": []}
    written = []
    for _ in range(60):
        artists, labels = songs_by(n_artists, most, random)
        logits = max(
            epochs(artists, labels, alike, random, 10), key=lambda each: (each.argmax(axis=1) == labels).mean()
        )
        temperature = fit_temperature(logits, labels)
        confidences, correct = song_confidences(logits, temperature), logits.argmax(axis=1) == labels
        for name, counted in (("artists", artists), ("songs", np.arange(len(labels)))):
            is_written = (
                song_confidences(other_logits, temperature) >= fit_min_confidence(confidences, correct, counted).value
            )
            broken[name].append(bool(is_written.any() and other_correct[is_written].mean() < 0.8))
            written.append(is_written.mean() if name == "artists" else np.nan)
    assert np.mean(broken["artists"]) <= 0.1 < 0.25 < np.mean(broken["songs"])
    assert np.nanmean(written) > 0.25  # it is no promise to write nothing


@pytest.mark.parametrize("precision", [0.0, 1.0])
def test_a_precision_that_nothing_can_promise_is_a_bug(precision: float) -> None:
    with pytest.raises(ValueError, match="precision"):
        fit_min_confidence(np.ones(3), np.ones(3, bool), np.arange(3), precision)


def test_songs_that_do_not_match_are_a_bug() -> None:
    with pytest.raises(ValueError, match="2"):
        fit_min_confidence(np.ones(3), np.ones(2, bool), np.arange(3))
    with pytest.raises(ValueError, match="2"):
        fit_min_confidence(np.ones(3), np.ones(3, bool), np.arange(2))
    with pytest.raises(ValueError, match="0"):
        fit_min_confidence(np.ones(0), np.ones(0, bool), np.arange(0))


def test_a_fitted_temperature_lowers_the_error_on_other_songs() -> None:
    fitted, fitted_labels = songs(300, 10)
    temperature = fit_temperature(3 * fitted, fitted_labels)
    logits, labels = songs(3000, 11)
    logits *= 3
    found = calibration(logits, labels, temperature, 0.6)
    assert found.error < 0.5 * found.error_before
    confidences = song_confidences(logits, temperature)
    assert found.coverage == np.mean(confidences >= 0.6)
    assert found.precision == np.mean((logits.argmax(axis=1) == labels)[confidences >= 0.6])
    assert found.n_songs == sum(each.n_songs for each in found.bins) == 3000
    nothing = calibration(logits, labels, temperature, math.inf)
    assert nothing.coverage == 0
    assert math.isnan(nothing.precision)
