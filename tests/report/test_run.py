"""The report on a run: against counting by hand, against scikit-learn, and against what training says of itself."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

from tagger.evaluation.predictions import read_predictions
from tagger.report.document import Curves, Matrix, Report, Song, Songs, Table
from tagger.report.run import report_run
from tests.support.runs import BY_HAND, METRICS, run_by_hand, seeded, write_run
from training.outcome.metrics import SONG_SCORES
from training.outcome.outcome import score_split

GENRES = ("Ambient", "Blues", "Jazz", "Rock", "Metal", "Pop")


@pytest.fixture
def by_hand(tmp_path: Path) -> Report:
    return report_run(run_by_hand(tmp_path / "run"))


def table(report: Report, key: str) -> list[tuple]:
    (found,) = (section for section in report.sections if section.key == key)
    assert isinstance(found, Table)
    assert {len(row) for row in found.rows} <= {len(found.columns)}
    return [tuple(round(value, 4) if isinstance(value, float) else value for value in row) for row in found.rows]


def matrix(report: Report) -> Matrix:
    (found,) = (section for section in report.sections if isinstance(section, Matrix))
    return found


def songs(report: Report) -> Songs:
    (found,) = (section for section in report.sections if isinstance(section, Songs))
    return found


# ---- by hand


def test_the_confusion_by_hand(by_hand: Report) -> None:
    found = matrix(by_hand)
    assert found.references == found.predicted == ("Blues", "Jazz", "Rock", "Waltz")
    assert found.counts.tolist() == [[3, 1, 0, 0], [0, 2, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_the_confused_pairs_by_hand(by_hand: Report) -> None:
    assert table(by_hand, "confused_pairs") == [("Rock", "Jazz", 1, 0.5), ("Blues", "Jazz", 1, 0.25)]


def test_the_genres_by_hand(by_hand: Report) -> None:
    assert table(by_hand, "genres") == [
        ("Blues", 1.0, 0.75, 0.8571, 4, 3),
        ("Jazz", 0.5, 1.0, 0.6667, 2, 4),
        ("Rock", 1.0, 0.5, 0.6667, 2, 1),
        ("Waltz", None, None, None, 0, 0),
    ]


def test_the_aggregations_by_hand(by_hand: Report) -> None:
    shares = [(name, right, recall) for name, right, _, _, recall in table(by_hand, "aggregations")]
    assert shares == [
        ("mean", 0.75, 0.75),
        ("weighted", 0.75, 0.75),
        ("vote", 0.625, 0.6667),  # b3 is lost: two of its three snippets are Jazz
        ("max", 0.625, 0.6667),
    ]
    assert all(low < right < high for _, right, low, high, _ in table(by_hand, "aggregations"))


def test_the_reliability_by_hand(by_hand: Report) -> None:
    assert table(by_hand, "reliability") == [
        (0.3, 0.4, 1, 0.36, 1.0),
        (0.4, 0.5, 2, 0.435, 1.0),
        (0.5, 0.6, 1, 0.52, 1.0),
        (0.6, 0.7, 1, 0.62, 0.0),
        (0.7, 0.8, 1, 0.72, 1.0),
        (0.8, 0.9, 1, 0.82, 1.0),
        (0.9, 1.0, 1, 0.92, 0.0),
    ]


def test_the_coverage_by_hand(by_hand: Report) -> None:
    assert table(by_hand, "coverage") == [
        (0.92, 1, 0.125, 0.0),
        (0.82, 2, 0.25, 0.5),
        (0.72, 3, 0.375, 0.6667),
        (0.62, 4, 0.5, 0.5),
        (0.52, 5, 0.625, 0.6),
        (0.45, 6, 0.75, 0.6667),
        (0.42, 7, 0.875, 0.7143),
        (0.36, 8, 1.0, 0.75),
    ]


def test_the_facts_by_hand(by_hand: Report) -> None:
    facts = dict(by_hand.facts)
    assert facts.pop("run").endswith("run")
    right = facts.pop("accuracy")
    assert right.startswith("0.750 (95% interval 0.") and right.endswith(" to 1.000)")
    assert facts == {
        "model": "began as audioset, 86.2 million parameters",
        "trained on": "80 songs of 31 artists, 5.2 hours",
        "test split": "8 songs of 3 genres, 24 snippets",
        "by genre": "recall 0.750, F1 0.730 (means of the genres)",
        "snippet accuracy": "0.667",
        "majority-class baseline": "0.500 would be right if all were called Blues",
        "calibration error": "0.531, and 0.531 without the temperature 1",
        "written by default": "0.625 of the songs, from 0.5 on; 0.600 of them right",
        "caution": "no songs of 1 of the 4 genres: Waltz",
    }


def test_the_songs_by_hand(by_hand: Report) -> None:
    found = songs(by_hand)
    assert found.n_brief == 2
    assert [Path(song.path).stem for song in found.songs] == ["r1", "b2", "r2", "j2", "b4", "b3", "b1", "j1"]
    worst, second, best = found.songs[0], found.songs[1], found.songs[-1]
    assert (worst.reference, worst.predicted, worst.status) == (("Rock",), ("Jazz",), "wrong")
    assert worst.confidence == pytest.approx(0.92)
    assert [genre for genre, _ in worst.ranking] == ["Jazz", "Blues", "Rock", "Waltz"]
    assert [share for _, share in worst.ranking] == pytest.approx([0.92, 0.04, 0.03, 0.01])
    assert worst.starts_seconds == (10.0, 70.0, 130.0)
    assert (best.status, best.reason) == ("right", "")
    assert second.reason == ""  # its own genre is the third in its ranking
    assert found.songs[2].reason == "not written: below 0.5"
    assert found.note.startswith("2 of 8 are wrong.")


def test_the_genre_that_a_song_is_of_is_told_where_it_is_far_down(tmp_path: Path) -> None:
    logits = np.log(np.tile([[0.4, 0.3, 0.25, 0.05]], (3, 1)))
    predictions = read_predictions(run_by_hand(tmp_path) / "predictions.jsonl")
    first = replace(
        predictions,
        **{name: getattr(predictions, name)[:3] for name in ("splits", "songs", "paths", "artists", "starts_seconds")},
        labels=np.array([3, 3, 3]),
        logits=logits.astype(np.float32),
    )
    (song,) = songs(report_run(write_run(tmp_path / "run", first))).songs
    assert song.reason == "Waltz got 0.050; not written: below 0.5"


# ---- against scikit-learn


@pytest.mark.parametrize("seed", range(3))
def test_the_tables_are_those_of_scikit_learn(tmp_path: Path, seed: int) -> None:
    predictions = seeded(GENRES, 400, lead=1.0, seed=seed)
    report = report_run(write_run(tmp_path, predictions))
    test = predictions.of_split("test")
    ids = sorted(set(test.songs))
    means = np.array([test.logits[test.songs == song].astype(float).mean(axis=0) for song in ids])
    labels = np.array([test.labels[test.songs == song][0] for song in ids])
    predicted = means.argmax(axis=1)
    assert (matrix(report).counts == sklearn.metrics.confusion_matrix(labels, predicted, labels=range(6))).all()

    by_genre = sklearn.metrics.precision_recall_fscore_support(labels, predicted, labels=range(1, 6))
    precision, recall, f1, n_songs = (list(values) for values in by_genre)
    rows = table(report, "genres")
    assert rows[0][2] is None  # there are no songs of the first genre
    assert [row[1:5] for row in rows[1:]] == [
        pytest.approx(row, abs=6e-5) for row in zip(precision, recall, f1, n_songs, strict=True)
    ]
    right = sklearn.metrics.accuracy_score(labels, predicted)
    balanced = np.mean(recall)
    assert table(report, "aggregations")[0][1::3] == pytest.approx((right, balanced), abs=6e-5)
    facts = dict(report.facts)
    assert facts["accuracy"].startswith(f"{right:.3f} ")
    assert facts["by genre"] == f"recall {balanced:.3f}, F1 {np.mean(f1):.3f} (means of the genres)"

    powers = np.exp(means / 1.3)
    confidence = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
    edges = np.linspace(0, 1, 11)
    bins = np.digitize(confidence, edges[1:-1])
    error = sum(abs((confidence - (predicted == labels))[bins == each].sum()) for each in range(10)) / len(labels)
    assert facts["calibration error"].startswith(f"{error:.3f}, and ")
    assert [row[2] for row in table(report, "reliability")] == [n for n in np.bincount(bins) if n]
    for least, n_taken, share, accuracy in report.sections[5].rows:
        is_taken = confidence >= least - 1e-9
        assert (n_taken, share) == (is_taken.sum(), is_taken.mean())
        assert accuracy == (predicted == labels)[is_taken].mean()
    assert [row[2] for row in table(report, "coverage")] == pytest.approx(np.arange(1, 11) / 10, abs=0.005)


def test_a_report_says_what_training_says(tmp_path: Path) -> None:
    """The numbers of metrics.json and of the model card, from the log alone."""
    predictions = seeded(GENRES, 400)
    report = report_run(write_run(tmp_path, predictions), "validate")
    told = score_split(predictions.of_split("validate"), seed=42)
    assert (matrix(report).counts == told.confusion).all()
    for name, right, low, high, _ in table(report, "aggregations"):
        score = SONG_SCORES[name]
        assert (right, low, high) == pytest.approx((told.scores[score], *told.intervals[score]), abs=6e-5)
    assert table(report, "aggregations")[0][4] == pytest.approx(told.scores["song_macro_recall"], abs=6e-5)
    facts = dict(report.facts)
    assert facts["snippet accuracy"] == f"{told.scores['accuracy']:.3f}"
    held = told.calibration
    assert facts["calibration error"] == f"{held.error:.3f}, and {held.error_before:.3f} without the temperature 1.3"
    assert (
        facts["written by default"]
        == f"{held.coverage:.3f} of the songs, from 0.6 on; {held.precision:.3f} of them right"
    )
    assert len(table(report, "reliability")) == len(held.bins)


# ---- what may be missing


def cautions(report: Report) -> list[str]:
    return [value for name, value in report.facts if name == "caution"]


def test_scores_that_are_too_high_are_said_to_be(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeded(GENRES[:3]), METRICS | {"shared_artists": 3})
    assert cautions(report_run(folder)) == [
        "artists in more than one split: 3. Their songs are alike: scores are too high"
    ]
    assert cautions(report_run(folder, "validate"))[0].startswith("the epoch, the temperature and the threshold were")


def test_a_run_without_its_metrics_is_reported_on(tmp_path: Path) -> None:
    folder = run_by_hand(tmp_path / "run")
    (folder / "metrics.json").unlink()
    report = report_run(folder)
    assert cautions(report)[0] == "no metrics.json: the training did not end well"
    assert not {"model", "trained on"} & {name for name, _ in report.facts}
    assert matrix(report).counts.sum() == 8


@pytest.mark.parametrize("value", [None, [], "x", {}, {"train": None}, {"train": {"songs": "many"}}, -1, True])
def test_metrics_that_nobody_vouches_for_are_left_out(tmp_path: Path, value: object) -> None:
    folder = run_by_hand(tmp_path / "run")
    keys = ("counts", "model", "n_parameters", "shared_artists", "calibration", "options")
    (folder / "metrics.json").write_text(json.dumps(METRICS | dict.fromkeys(keys, value)))
    assert "trained on" not in dict(report_run(folder).facts)


def test_a_run_in_which_nothing_was_fitted(tmp_path: Path) -> None:
    facts = dict(report_run(run_by_hand(tmp_path, temperature=None, min_confidence=None)).facts)
    assert facts["calibration error"] == "0.531, without a temperature: none was fitted"
    assert facts["written by default"] == "0.625 of the songs, from 0.5 on; 0.600 of them right"


def test_a_run_that_writes_nothing_says_why(tmp_path: Path) -> None:
    folder = run_by_hand(tmp_path, min_confidence=math.inf)
    assert (
        dict(report_run(folder).facts)["written by default"] == "fitted on 40 validation songs"
    )  # the reason it gives
    (folder / "metrics.json").unlink()
    report = report_run(folder)
    assert dict(report.facts)["written by default"] == "nothing: no threshold was good enough"
    assert not any("not written" in song.reason for song in songs(report).songs)
    unreached = dict(report_run(run_by_hand(tmp_path, min_confidence=0.99)).facts)
    assert unreached["written by default"] == "0.000 of the songs, from 0.99 on"


def all_right(song: Song) -> bool:
    return song.status == "right"


def test_a_run_that_is_always_right_has_no_worst_songs(tmp_path: Path) -> None:
    report = report_run(write_run(tmp_path, seeded(GENRES[:3], 60, lead=60)))
    assert table(report, "confused_pairs") == []
    assert all(map(all_right, songs(report).songs))
    assert (songs(report).n_brief, songs(report).note) == (0, "All 40 are right.")
    assert dict(report.facts)["accuracy"] == "1.000 (95% interval 1.000 to 1.000)"


def test_one_song_is_enough(tmp_path: Path) -> None:
    predictions = seeded(GENRES, 2)
    report = report_run(write_run(tmp_path, predictions), "test")
    assert matrix(report).counts.sum() == len(songs(report).songs) == 1
    assert table(report, "coverage")[0][1:3] == (1, 1.0)


def test_five_hundred_genres(tmp_path: Path) -> None:
    genres = [f"Genre number {number}" for number in range(500)]
    report = report_run(write_run(tmp_path, seeded(genres, 600, lead=4)))
    assert matrix(report).counts.shape == (500, 500)
    assert len(table(report, "genres")) == 500
    (caution,) = cautions(report)
    assert caution.startswith("no songs of ") and caution.endswith(", …") and caution.count("Genre number") == 5
    assert all(len(song.ranking) == 5 for song in songs(report).songs)


def test_hand_made_runs_hold_what_they_say() -> None:
    assert all(sum(shares) == pytest.approx(1) for _, shares in BY_HAND.values())


HISTORY = [
    {"loss": 2.0, "epoch": 0.5, "step": 1}, {"loss": 1.0, "epoch": 1.0, "step": 2},
    {"eval_loss": 1.5, "eval_accuracy": 0.25, "eval_mean_pooling_score": 0.5, "eval_voting_score": 0.375, "epoch": 1.0},
    {"loss": 0.5, "epoch": 1.5, "step": 3},
    {"eval_loss": 1.25, "eval_accuracy": 0.5, "eval_mean_pooling_score": 0.75, "eval_max_pooling_score": 1, "epoch": 2},
]  # fmt: skip


def test_how_a_training_went_is_two_curves(tmp_path: Path) -> None:
    run = run_by_hand(tmp_path / "run")
    predictions = read_predictions(run / "predictions.jsonl")
    write_run(run, predictions, METRICS | {"history": HISTORY, "best_epoch": 2.0})
    report = report_run(run)
    assert [section.key for section in report.sections if isinstance(section, Curves)] == ["loss", "epochs"]
    assert table(report, "loss") == [(1, 1.5, 1.5), (2, 0.5, 1.25)]
    assert table(report, "epochs") == [(1, 0.5, None, 0.375, None, 0.25), (2, 0.75, None, None, 1.0, 0.5)]
    (epochs,) = (section for section in report.sections if section.key == "epochs")
    assert epochs.note == "Kept: epoch 2, the best by mean."


@pytest.mark.parametrize("history", [None, 1, [], [1, {}, {"eval_loss": "low", "epoch": 1}, {"eval_loss": 1}]])
def test_a_history_that_tells_nothing_is_not_drawn(tmp_path: Path, history: object) -> None:
    run = run_by_hand(tmp_path / "run")
    write_run(run, read_predictions(run / "predictions.jsonl"), METRICS | {"history": history})
    assert not [section for section in report_run(run).sections if isinstance(section, Curves)]
