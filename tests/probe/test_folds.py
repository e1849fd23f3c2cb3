"""Held out, chosen, judged: with songs of which it is known what can be learned."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tagger.models.head import GenreHead
from tests.probe.fitted import base_of, tagged_songs, weak_layer
from training.outcome.calibrate import MinConfidence
from training.probe.base import Base
from training.probe.folds import (
    MOST_WRITTEN,
    N_FOLDS,
    NEVER,
    as_another,
    compare,
    confidence_of,
    fit_threshold,
    learn,
    mean_of_genres,
    share_out,
    strange_threshold,
)
from training.probe.folds import STRENGTHS as ALL_STRENGTHS
from training.probe.songs import Tagged

GENRES = ("Blues", "Jazz", "Rock", "Soul")


def all_of(tagged: Tagged) -> np.ndarray:
    return np.full(len(tagged.labels), True)


@pytest.mark.parametrize("seed", range(5))
def test_folds_share_no_artist_and_have_songs_of_every_genre(seed: int) -> None:
    rng = np.random.default_rng(seed)
    artists = rng.integers(0, 60, 500)
    labels = (artists % 4 + (rng.random(500) < 0.1)) % 4
    folds = share_out(labels, artists, 5, seed)
    for artist in range(60):
        assert len(set(folds[artists == artist])) <= 1
    for label in range(4):
        assert np.bincount(folds[labels == label], minlength=5).min() > 0.1 * (labels == label).sum()


def test_more_can_be_learned_than_the_model_knows() -> None:
    tagged = tagged_songs(GENRES)
    base = base_of(tagged)
    learned = learn(tagged, base)
    before = base.scores(tagged.logits).argmax(axis=1) == tagged.labels
    after = learned.predicted == tagged.labels
    comparison = compare(before, after, tagged.artists)
    assert comparison.is_better and comparison.after > comparison.before + 0.1
    assert learned.strength.share >= 0.5


def test_where_nothing_can_be_learned_nothing_is_better() -> None:
    """The embeddings of another library, whose sounds have nothing to do with these genres."""
    tagged = tagged_songs(GENRES)
    noise = np.random.default_rng(1).normal(size=tagged.embeddings.shape).astype(np.float32)
    tagged = replace(tagged, embeddings=noise)
    base = base_of(tagged)
    learned = learn(tagged, base)
    before = base.scores(tagged.logits).argmax(axis=1) == tagged.labels
    assert not compare(before, learned.predicted == tagged.labels, tagged.artists).is_better
    assert learned.strength.prior == 1.0


def test_a_song_is_held_out_from_the_layer_that_predicts_it() -> None:
    """Labels at random: a layer that had seen a song would know its label."""
    tagged = tagged_songs(GENRES, n_songs=60, n_artists=20)
    rng = np.random.default_rng(3)
    label_of_artist = rng.integers(0, 4, int(tagged.artists.max()) + 1)
    tagged = replace(tagged, labels=label_of_artist[tagged.artists])
    accuracy = (learn(tagged, base_of(tagged)).predicted == tagged.labels).mean()
    assert accuracy < 0.4


def test_nothing_of_a_fold_has_a_say_in_what_it_is_judged_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its own answers nor, through the layers that answer for the others, its sounds."""
    chosen: list[tuple[float, ...]] = []

    def threshold(
        logits: np.ndarray, labels: np.ndarray, artists: np.ndarray, strange: np.ndarray, n_learned: int
    ) -> MinConfidence:
        chosen.append((*logits.sum(axis=0), strange.sum()))
        return fit_threshold(logits, labels, artists, strange, n_learned)

    monkeypatch.setattr("training.probe.folds.fit_threshold", threshold)
    tagged = tagged_songs(GENRES)
    base = base_of(tagged)
    learn(tagged, base)
    there = share_out(tagged.labels, tagged.artists, N_FOLDS) == 2
    other = np.where(there[:, None], np.random.default_rng(5).normal(size=tagged.embeddings.shape), tagged.embeddings)
    learn(replace(tagged, embeddings=other.astype(np.float32)), base)
    before, after = np.array(chosen[: 1 + N_FOLDS]), np.array(chosen[1 + N_FOLDS :])
    is_same = (before == after).all(axis=1)
    assert is_same.tolist() == [False] + [fold == 2 for fold in range(N_FOLDS)]  # all songs, then without each fold


def test_of_a_genre_left_out_of_learning_few_songs_are_written() -> None:
    genres = tuple(f"Genre {number}" for number in range(8))
    tagged = tagged_songs(genres, n_songs=60, n_artists=15, noise=0.5)
    stranger = Base.of(GenreHead(("Waltz", "Polka"), "softmax"), *weak_layer(2), genres)
    tagged = replace(tagged, logits=(tagged.embeddings @ stranger.weight.T + stranger.bias).astype(np.float32))
    learned = learn(tagged, stranger)
    assert learned.is_written.mean() > 0.1
    assert learned.written_without_genre <= 2 * MOST_WRITTEN  # by thresholds of other songs: not exactly
    none = np.zeros(len(tagged.labels))
    loose = fit_threshold(learned.logits / learned.temperature, tagged.labels, tagged.artists, none, 8)
    prior = stranger.prior(tagged.logits)
    strange = as_another(tagged, stranger, prior, learned.strength, learned.temperature, all_of(tagged))
    assert mean_of_genres(strange >= loose.value, tagged.labels) > learned.written_without_genre


def test_what_the_model_knows_of_a_genre_left_out_still_counts() -> None:
    tagged = tagged_songs(GENRES, noise=0.5)
    base = base_of(tagged)
    strength = ALL_STRENGTHS[1]
    known = as_another(tagged, base, base.prior(tagged.logits), strength, 1.0, all_of(tagged))
    stranger = replace(base, parents=(None,) * 4)
    prior = np.zeros((len(tagged.labels), 4))
    unknown = as_another(tagged, stranger, prior, strength, 1.0, all_of(tagged))
    assert (known > 0).mean() < (unknown > 0).mean() == 1.0


def test_with_two_genres_nothing_tells_what_a_third_would_be_taken_for() -> None:
    tagged = tagged_songs(("Blues", "Rock"))
    stranger = replace(base_of(tagged), parents=(None, None), head=GenreHead(("Waltz", "Polka"), "softmax"))
    learned = learn(tagged, stranger)
    if not learned.strength.prior:
        assert math.isinf(learned.threshold.value) and "left out of learning" in learned.threshold.reason
    strength = replace(ALL_STRENGTHS[0], prior=0.0)
    alone = as_another(tagged, stranger, np.zeros((80, 2)), strength, 1.0, all_of(tagged))
    assert (alone == 1.0).all() and math.isinf(strange_threshold(alone, tagged.labels))


def test_the_threshold_is_the_least_that_lets_few_strangers_through() -> None:
    labels = np.repeat([0, 1], [100, 10])
    strange = np.concatenate([np.linspace(0.0, 0.99, 100), np.full(10, 0.2)])
    least = strange_threshold(strange, labels)
    assert mean_of_genres(strange >= least, labels) <= MOST_WRITTEN < mean_of_genres(strange >= least - 0.02, labels)
    assert strange_threshold(np.zeros(110), labels) == 0.001


def test_a_genre_that_was_not_learned_is_never_sure() -> None:
    logits = np.array([[2.0, 0.0, 9.0], [2.0, 0.0, 1.0], [2.0, 0.0, NEVER]])
    found = confidence_of(logits, 2)
    assert found[0] == 0.0 and 0.6 < found[1] < found[2]


def test_intervals_draw_artists() -> None:
    """A hundred songs of one artist are one piece of evidence."""
    alike, apart = np.repeat(np.arange(10), 100), np.arange(1000)
    before = np.repeat(np.arange(10) % 2 == 0, 100)
    after = np.ones(1000, bool)
    wide = compare(before, after, alike).before_interval
    narrow = compare(before, after, apart).before_interval
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)
    assert not compare(after, after, alike).is_better and compare(before, after, apart).is_better
