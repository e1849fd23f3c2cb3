"""Scores of songs against scikit-learn, the notebook, and being counted by hand."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from tagger.evaluation.metrics import (
    Confused,
    GenreScore,
    calibration,
    confused_pairs,
    confusion,
    coverage,
    expected_calibration_error,
    genre_scores,
    interval,
    macro_recall,
    paired_interval,
    reliability,
    song_artists,
    song_confidences,
    song_logits,
)

GENRES = ("Blues", "Classical", "Country", "Hip-Hop", "Jazz", "Metal", "Pop", "Rock")


@pytest.fixture(autouse=True)
def silent() -> None:
    """Nothing a score is made of may warn."""
    warnings.simplefilter("error")


def test_songs_are_told_apart_by_their_id_alone() -> None:
    """Songs with rows here and there, some of two songs of the same label side by side."""
    logits = np.eye(3)[[0, 1, 0, 1, 1]] * [[1.0], [1.0], [3.0], [2.0], [1.0]]
    table = song_logits(logits, np.array([0, 1, 0, 1, 0]), ["b", "c", "a", "c", "b"])
    assert table.songs.tolist() == ["a", "b", "c"] and table.labels.tolist() == [0, 0, 1]
    assert table.logits["mean"].tolist() == [[3, 0, 0], [0.5, 0.5, 0], [0, 1.5, 0]]
    assert table.logits["max"].tolist() == [[3, 0, 0], [1, 1, 0], [0, 2, 0]]
    assert table.logits["vote"].tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]]
    assert table.predicted().tolist() == [0, 0, 1] and table.correct("max").tolist() == [True] * 3


def test_confusion_has_the_reference_in_its_rows() -> None:
    rng = np.random.default_rng(3)
    reference, predicted = rng.integers(0, 5, (2, 400))
    expected = sklearn.metrics.confusion_matrix(reference, predicted, labels=range(7))
    assert (confusion(reference, predicted, 7) == expected).all()
    assert (expected != expected.T).any()
    with pytest.raises(IndexError):
        confusion(reference, predicted, 4)


def test_confused_pairs_are_the_notebooks() -> None:
    rng = np.random.default_rng(4)
    matrix = rng.integers(0, 30, (8, 8)) + 80 * np.eye(8, dtype=int)
    shares = matrix.astype("float") / matrix.sum(axis=1)[:, np.newaxis]
    table = pd.DataFrame(
        [(GENRES[i], GENRES[j], shares[i, j]) for i in range(8) for j in range(8) if i != j and shares[i, j] > 0.1],
        columns=["True Class", "Predicted Class", "Confusion Value"],
    ).sort_values(by="Confusion Value", ascending=False, kind="stable")
    pairs = confused_pairs(matrix, GENRES)
    assert [(pair.reference, pair.predicted, pair.share) for pair in pairs] == list(table.itertuples(False, None))
    assert 5 < len(pairs) < 50


def test_confused_pairs_count_songs_and_spare_genres_without_any() -> None:
    matrix = np.array([[18, 2, 0], [0, 0, 0], [3, 1, 6]])
    assert confused_pairs(matrix, GENRES[:3]) == [Confused("Country", "Blues", 0.3, 3)]  # 2 in 20 is not more than .1
    assert [pair.n_songs for pair in confused_pairs(matrix, GENRES[:3], 0.05)] == [3, 2, 1]


def own(correct: np.ndarray) -> np.ndarray:
    """An artist of its own for each song."""
    return np.arange(len(correct))


def resampled(values: np.ndarray, seed: int) -> np.ndarray:
    """Ends of the middle 95 % of means of values drawn again, one by one."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(4000)]
    return np.quantile(means, [0.025, 0.975])


@pytest.mark.parametrize(("n_songs", "share"), [(40, 0.5), (290, 0.85), (1000, 0.6)])
def test_an_interval_of_songs_by_as_many_artists_is_a_bootstrap_over_songs(n_songs: int, share: float) -> None:
    correct = np.random.default_rng(1).random(n_songs) < share
    found = interval(correct, own(correct), seed=0)
    assert found.low < correct.mean() < found.high
    step = 1.01 / n_songs  # quantiles of shares lie on multiples of that
    np.testing.assert_allclose(found, resampled(correct, 2), rtol=0, atol=max(step, 0.002))
    assert interval(correct, own(correct), seed=0) == found
    assert interval(correct[::-1], own(correct), seed=0) == found


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    intervals = [interval(rng.random(300) < 0.8, np.arange(300), seed) for seed in range(300)]
    assert 0.91 < np.mean([low <= 0.8 <= high for low, high in intervals]) < 0.98


def test_a_paired_interval_is_narrower_where_two_agree() -> None:
    rng = np.random.default_rng(6)
    better = rng.random(400) < 0.8
    worse = better & (rng.random(400) < 0.95)
    found = paired_interval(better, worse, own(better), seed=0)
    assert 0 < found.low < better.mean() - worse.mean() < found.high
    difference = better.astype(float) - worse
    np.testing.assert_allclose(found, resampled(difference, 7), rtol=0, atol=0.006)
    assert paired_interval(worse, better, own(better), seed=0) == pytest.approx((-found.high, -found.low), abs=0.006)
    assert found.high - found.low < np.ptp(interval(better, own(better), 0))
    assert paired_interval(better, better, own(better), seed=0) == (0.0, 0.0)
    unlike = better & ~worse, worse & ~better
    assert paired_interval(*unlike, own(better), seed=0) == found  # songs both have right, or wrong, tell nothing


def by_alike_artists(n_artists: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Artists of 1 to 8 songs, numbers (n_songs,), and what each of two networks has right, four songs of five, of
    which those of one artist are alike."""
    artists = np.repeat(np.arange(n_artists), random.integers(1, 9, n_artists))
    rights = (random.random(len(artists)) < random.beta(1.6, 0.4, n_artists)[artists] for _ in range(2))
    return artists, *rights


@pytest.mark.parametrize("n_artists", [12, 40])
def test_an_interval_holds_the_truth_as_often_as_it_says_where_songs_of_an_artist_are_alike(n_artists: int) -> None:
    held: dict[str, list[bool]] = {"artists": [], "songs": [], "artists, paired": [], "songs, paired": []}
    random = np.random.default_rng(8)
    for seed in range(150):
        artists, correct_a, correct_b = by_alike_artists(n_artists, random)
        for name, drawn in (("artists", artists), ("songs", own(correct_a))):
            low, high = interval(correct_a, drawn, seed)
            held[name].append(low <= 0.8 <= high)
            low, high = paired_interval(correct_a, correct_b, drawn, seed)
            held[f"{name}, paired"].append(low <= 0 <= high)
    shares = {name: np.mean(each) for name, each in held.items()}
    assert 0.9 <= shares["artists"] <= 0.98 and 0.91 <= shares["artists, paired"] <= 0.98, shares
    assert max(shares["songs"], shares["songs, paired"]) < 0.88, shares  # drawn one by one, they promised too much


def test_of_a_single_artist_an_interval_is_all_there_is() -> None:
    correct, one = np.array([True, True, False]), np.zeros(3, int)
    assert interval(correct, one, 0) == (0.0, 1.0) and paired_interval(correct, ~correct, one, 0) == (-1.0, 1.0)


def test_artists_are_told_by_name_and_nameless_songs_are_by_themselves() -> None:
    songs = ["d", "a", "b", "c", "d", "e"]
    found = song_artists(songs, ["The  Band", "", "the band ", "", "The  Band", "Other"])
    assert found.shape == (5,) and found[1] == found[3] and len(set(found.tolist())) == 4


def test_intervals_need_songs() -> None:
    assert interval(np.ones(5, bool), np.arange(5), 0) == (1.0, 1.0)
    with pytest.raises(ValueError, match="no songs"):
        interval(np.array([], bool), np.array([], int), 0)
    with pytest.raises(ValueError, match="not the same songs"):
        paired_interval(np.ones(5, bool), np.ones(4, bool), np.arange(5), 0)


def test_coverage_is_what_each_threshold_would_leave() -> None:
    rng = np.random.default_rng(8)
    confidence = rng.integers(0, 20, 200) / 20  # with ties
    correct = rng.random(200) < confidence
    curve = coverage(confidence, correct)
    assert curve.confidence.tolist() == sorted(set(confidence.tolist()), reverse=True)
    for threshold, share, accuracy in zip(curve.confidence, curve.coverage, curve.accuracy, strict=True):
        is_taken = confidence >= threshold
        assert share == pytest.approx(is_taken.mean()) and accuracy == pytest.approx(correct[is_taken].mean())
    assert (curve.coverage[-1], curve.accuracy[-1]) == (1.0, correct.mean())


@pytest.mark.parametrize(("confidence", "correct"), [([], []), ([0.5], [True, False]), ([[0.5]], [[True]])])
def test_coverage_needs_a_confidence_for_each_song(confidence: list, correct: list) -> None:
    with pytest.raises(ValueError, match="no songs, each with a confidence"):
        coverage(np.array(confidence), np.array(correct, bool))


def test_reliability_by_hand() -> None:
    confidences = np.array([0.31, 0.39, 0.4, 0.95, 1.0])
    bins = reliability(confidences, np.array([True, False, True, True, False]))
    assert [(each.low, each.high, each.n_songs) for each in bins] == [(0.3, 0.4, 2), (0.4, 0.5, 1), (0.9, 1.0, 2)]
    assert [each.confidence for each in bins] == pytest.approx([0.35, 0.4, 0.975])
    assert [each.accuracy for each in bins] == [0.5, 1.0, 0.5]
    error = expected_calibration_error(confidences, np.array([True, False, True, True, False]))
    assert error == pytest.approx((2 * 0.15 + 0.6 + 2 * 0.475) / 5)


def test_chance_alone_makes_the_error_that_is_told() -> None:
    random = np.random.default_rng(7)
    for n_songs, told in ((50, 0.12), (200, 0.06), (1000, 0.03)):
        errors = []
        for _ in range(100):
            confidences = 0.15 + 0.85 * random.beta(3, 1.3, size=n_songs)
            errors.append(expected_calibration_error(confidences, random.random(n_songs) < confidences))
        assert np.mean(errors) == pytest.approx(told, abs=0.006)


# ---- genres


def test_genre_scores_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(9)
    reference, predicted = random.integers(0, 6, (2, 300))
    predicted[random.random(300) < 0.5] = reference[random.random(300) < 0.5][0]
    found = genre_scores(confusion(reference, predicted, 6), GENRES[:6])
    expected = sklearn.metrics.precision_recall_fscore_support(reference, predicted, labels=range(6))
    for name, values in zip(("precision", "recall", "f1", "n_songs"), expected, strict=True):
        assert [getattr(score, name) for score in found] == pytest.approx(values)
    assert [score.n_predicted for score in found] == np.bincount(predicted, minlength=6).tolist()
    assert [score.genre for score in found] == list(GENRES[:6])


def test_a_share_of_nothing_is_unknown() -> None:
    matrix = np.array([[2, 0, 1, 0], [0, 0, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert genre_scores(matrix, ("never wrong", "never right", "never there", "nothing")) == [
        GenreScore("never wrong", 3, 2, 1.0, 2 / 3, 0.8),
        GenreScore("never right", 2, 0, None, 0.0, 0.0),
        GenreScore("never there", 0, 3, 0.0, None, 0.0),
        GenreScore("nothing", 0, 0, None, None, None),
    ]


def test_macro_recall_is_balanced_accuracy() -> None:
    random = np.random.default_rng(10)
    labels, predicted = random.choice([0, 2, 3], 200, p=[0.7, 0.2, 0.1]), random.integers(0, 5, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of predictions of what there is nothing of
        expected = sklearn.metrics.balanced_accuracy_score(labels, predicted)
    found = macro_recall(predicted == labels, labels)
    assert found == pytest.approx(expected)
    assert found != pytest.approx((predicted == labels).mean(), abs=1e-3)


# ---- intervals of macro recall


def few_of_some(n_songs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of four genres, one of them rare, and whether each song is right, which depends on its genre."""
    random = np.random.default_rng(seed)
    labels = random.choice(4, n_songs, p=[0.5, 0.3, 0.15, 0.05])
    return labels, random.random(n_songs) < np.array([0.9, 0.7, 0.5, 0.3])[labels]


def test_an_interval_of_macro_recall_of_songs_by_as_many_artists_is_a_bootstrap_over_songs() -> None:
    labels, correct = few_of_some(60, 11)
    random = np.random.default_rng(12)
    means = []
    for _ in range(4000):
        drawn = random.integers(0, 60, 60)
        means.append(np.mean([correct[drawn][labels[drawn] == each].mean() for each in np.unique(labels[drawn])]))
    found = interval(correct, own(correct), 0, labels)
    np.testing.assert_allclose(found, np.quantile(means, [0.025, 0.975]), rtol=0, atol=0.015)
    assert found.high - found.low > 1.2 * np.ptp(interval(correct, own(correct), 0))  # the rare one counts
    assert interval(correct, own(correct), 0, np.zeros(60, int)) == interval(correct, own(correct), 0)


def test_a_paired_interval_of_macro_recall_says_what_it_says_when_neither_is_better() -> None:
    misses = 0
    for seed in range(200):
        labels, correct_a = few_of_some(200, seed)
        correct_b = np.random.default_rng([seed, 1]).random(200) < np.array([0.9, 0.7, 0.5, 0.3])[labels]
        low, high = paired_interval(correct_a, correct_b, own(correct_a), seed, labels)
        assert low < macro_recall(correct_a, labels) - macro_recall(correct_b, labels) < high
        misses += not low <= 0 <= high
    assert 2 <= misses <= 20  # 5 % are 10


def test_an_interval_needs_a_label_for_each_song() -> None:
    with pytest.raises(ValueError, match="and a label"):
        interval(np.ones(5, bool), np.arange(5), 0, np.zeros(4, int))
    with pytest.raises(ValueError, match="each with an artist"):
        interval(np.ones(5, bool), np.arange(4), 0)


# ---- confidence


def test_calibration_is_of_the_songs_that_are_sure_enough() -> None:
    logits = np.log([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
    found = calibration(logits, np.array([0, 1, 0, 1]), 1.0, 0.65)
    assert (found.n_songs, found.coverage, found.precision) == (4, 0.75, pytest.approx(2 / 3))
    assert found.error == found.error_before == pytest.approx((0.1 + 0.7 + 0.4 + 0.2) / 4)
    colder = calibration(logits, np.array([0, 1, 0, 1]), 0.5, 0.65)
    assert colder.error_before == found.error and colder.error != found.error
    assert song_confidences(logits, 0.5)[0] == pytest.approx(0.81 / 0.82)
