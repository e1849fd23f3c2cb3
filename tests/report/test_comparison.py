"""Two runs side by side: the same songs, a paired interval, and a verdict that it bears out."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger.errors import RunError
from tagger.evaluation.predictions import Predictions
from tagger.pipeline.aggregate import AGGREGATORS
from tagger.report.comparison import MEASURES, compare_runs, study_runs
from tagger.report.document import Curves, Report, Songs, Table, report_csv
from tests.support.runs import METRICS, run_by_hand, seeded, write_run

GENRES = ("Blues", "Jazz", "Rock")
VERDICTS = ["mean", "weighted", "vote", "max", "macro recall"]


def table(report: Report, key: str) -> Table:
    (found,) = (section for section in report.sections if section.key == key)
    assert isinstance(found, Table)
    return found


def verdicts(report: Report) -> dict[object, object]:
    return {row[0]: row[-1] for row in table(report, "comparison").rows}


def songs(report: Report) -> Songs:
    (found,) = (section for section in report.sections if isinstance(section, Songs))
    return found


def rows(predictions: Predictions, is_kept: np.ndarray) -> Predictions:
    columns = ("splits", "songs", "paths", "artists", "starts_seconds", "labels", "logits")
    return replace(predictions, **{name: getattr(predictions, name)[is_kept] for name in columns})


def said(*songs: tuple[str, str, str], genres: tuple[str, ...] = GENRES, sure: float = 3.0) -> Predictions:
    """A run that classified songs (id, reference, predicted), a snippet each."""
    ids, references, predicted = zip(*songs, strict=True)
    labels = np.array([genres.index(genre) for genre in references])
    logits = sure * np.eye(len(genres))[[genres.index(genre) for genre in predicted]]
    names = np.array(ids, object)
    return Predictions(
        genres, 1.0, 0.5, np.full(len(ids), "test", object), names, "/m/" + names, names, np.zeros(len(ids)), labels,
        logits.astype(np.float32),
    )  # fmt: skip


def test_a_comparison_by_hand(tmp_path: Path) -> None:
    a = said(("1", "Blues", "Blues"), ("2", "Blues", "Rock"), ("3", "Jazz", "Jazz"), ("4", "Rock", "Rock"))
    b = said(("4", "Rock", "Blues"), ("3", "Jazz", "Jazz"), ("2", "Blues", "Blues"), ("1", "Blues", "Jazz"))
    report = compare_runs(write_run(tmp_path / "a", a), write_run(tmp_path / "b", b))
    assert report.facts == (
        ("A", str(tmp_path / "a")),
        ("B", str(tmp_path / "b")),
        ("test split", "4 songs in both; 0 only in A, 0 only in B"),
        ("accuracy", "1 in both, 2 only in A, 1 only in B, 0 in neither"),
    )
    assert [row[:4] for row in table(report, "comparison").rows] == [
        *(((name, 0.75, 0.5, 0.25)) for name in VERDICTS[:4]),
        ("macro recall", pytest.approx(2.5 / 3), 0.5, pytest.approx(1 / 3)),
    ]
    assert table(report, "genres").rows == (
        ("Blues", 2, 0.5, 0.5, 0.0),
        ("Jazz", 1, 1.0, 1.0, 0.0),
        ("Rock", 1, 1.0, 0.0, 1.0),
    )
    assert [(song.path, song.status, song.predicted, song.reason) for song in songs(report).songs] == [
        ("/m/2", "wrong", ("Rock",), "B predicted Blues 0.909"),
        ("/m/1", "right", ("Blues",), "B predicted Jazz 0.909"),
        ("/m/4", "right", ("Rock",), "B predicted Blues 0.909"),
    ]
    assert set(verdicts(report).values()) == {"no difference shown"}  # of four songs


def test_what_is_better_is_said_to_be_and_what_is_worse(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", seeded(GENRES, 300, lead=3, seed=1))
    poor = write_run(tmp_path / "poor", seeded(GENRES, 300, lead=1, seed=2))
    assert verdicts(compare_runs(good, poor)) == dict.fromkeys(VERDICTS, "better")
    assert verdicts(compare_runs(poor, good)) == dict.fromkeys(VERDICTS, "worse")
    as_good = write_run(tmp_path / "as good", seeded(GENRES, 300, lead=3, seed=3))
    assert verdicts(compare_runs(good, as_good)) == dict.fromkeys(VERDICTS, "no difference shown")
    assert verdicts(compare_runs(good, poor, "validate"))["mean"] == "better"


def test_a_difference_of_nothing_is_none(tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / name, seeded(GENRES, 60)) for name in "ab")
    report = compare_runs(a, b)
    assert verdicts(report) == dict.fromkeys(VERDICTS, "no difference shown")
    assert {row[3:6] for row in table(report, "comparison").rows} == {(0.0, 0.0, 0.0)}


def test_the_interval_holds_the_difference_and_turns_round_with_it(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", seeded(GENRES, 240, lead=2, seed=1))
    b = write_run(tmp_path / "b", seeded(GENRES, 240, lead=1.6, seed=2))
    forth, back = (table(compare_runs(*pair), "comparison").rows for pair in ((a, b), (b, a)))
    for (name, of_a, of_b, difference, low, high, _), turned in zip(forth, back, strict=True):
        assert difference == pytest.approx(of_a - of_b)
        assert low < difference < high
        assert turned[:3] == (name, of_b, of_a)
        assert turned[3:6] == pytest.approx((-difference, -high, -low), abs=0.012)


def test_a_paired_interval_is_narrower_than_one_of_runs_that_have_nothing_in_common(tmp_path: Path) -> None:
    """Two runs that differ in a few songs only: the difference is small, and shown all the same."""
    a = seeded(GENRES, 300, lead=2, seed=1)
    songs_of_test = sorted(set(a.songs[a.splits == "test"]))
    is_lost = np.isin(a.songs, songs_of_test[:96:8])  # of as many artists
    logits = a.logits.copy()
    logits[is_lost] = 5 * np.eye(3)[(a.labels[is_lost] + 1) % 3]
    report = compare_runs(
        write_run(tmp_path / "a", a), write_run(tmp_path / "b", replace(a, logits=logits.astype(np.float32)))
    )
    name, of_a, of_b, _, low, _, verdict = table(report, "comparison").rows[0]
    assert (name, verdict) == ("mean", "better") and low > 0
    assert 0 < of_a - of_b <= 0.06  # which two runs with other songs each would show at some 1 000 songs


def test_only_songs_of_both_are_compared(tmp_path: Path) -> None:
    a = seeded(GENRES, 300, seed=1)
    numbers = np.array([int(song, 16) for song in a.songs])
    first = write_run(tmp_path / "first", rows(a, numbers < 250))
    last = write_run(tmp_path / "last", seeded(GENRES, 300, seed=2))
    report = compare_runs(first, last)
    n_all, n_first = (len(set(a.songs[(a.splits == "test") & (numbers < most)])) for most in (300, 250))
    assert dict(report.facts)["test split"] == f"{n_first} songs in both; 0 only in A, {n_all - n_first} only in B"
    assert sum(row[1] for row in table(report, "genres").rows) == n_first


def test_genres_are_matched_by_name(tmp_path: Path) -> None:
    a = said(("1", "Blues", "Blues"), ("2", "Jazz", "Rock"), ("3", "Rock", "Rock"))
    others = ("Rock", "Polka", "Jazz", "Blues")
    same = said(("1", "Blues", "Blues"), ("2", "Jazz", "Rock"), ("3", "Rock", "Rock"), genres=others)
    report = compare_runs(write_run(tmp_path / "a", a), write_run(tmp_path / "b", same))
    assert dict(report.facts)["accuracy"] == "2 in both, 0 only in A, 0 only in B, 1 in neither"
    assert songs(report).songs == () and songs(report).note == "None."


def test_songs_of_another_genre_are_left_out(tmp_path: Path) -> None:
    a = said(("1", "Blues", "Blues"), ("2", "Jazz", "Rock"))
    b = said(("1", "Blues", "Blues"), ("2", "Rock", "Rock"), ("3", "Rock", "Rock"))
    facts = dict(compare_runs(write_run(tmp_path / "a", a), write_run(tmp_path / "b", b)).facts)
    assert facts["test split"] == "1 song in both; 0 only in A, 1 only in B"
    assert facts["left out"] == "1 song of another genre in B"


def test_runs_that_cannot_be_compared_say_why(tmp_path: Path) -> None:
    a = run_by_hand(tmp_path / "a")
    with pytest.raises(RunError, match="is the very run it is to be compared with"):
        compare_runs(a, tmp_path / "b" / ".." / "a")
    b = write_run(tmp_path / "b", said(("x", "Blues", "Blues")))
    with pytest.raises(RunError, match=r"b: its test split and that of .*a share no songs: train both on one dataset"):
        compare_runs(a, b)
    c = write_run(tmp_path / "c", said(("b1", "Rock", "Blues")))
    with pytest.raises(RunError, match="share 1 song, all under other genres"):
        compare_runs(a, c)


# Studies


def grid(root: Path) -> list[Path]:
    """Two settings of two seeds each, and one that differs in nothing but its setting: by hand, 4 songs."""
    songs = [("1", "Rock"), ("2", "Rock"), ("3", "Jazz"), ("4", "Jazz")]
    wrong = {(0.0, 1): ("2", "4"), (0.0, 2): ("4",), (0.1, 1): (), (0.1, 2): ("1",)}
    folders = []
    for (dropout, seed), missed in wrong.items():
        predicted = [(song, genre, "Blues" if song in missed else genre) for song, genre in songs]
        history = [
            {"eval_loss": 1.0, "eval_mean_pooling_score": 0.5 + dropout, "eval_accuracy": 0.25, "epoch": 1.0},
            {"eval_loss": 0.5, "eval_mean_pooling_score": 0.75, "eval_accuracy": 0.5, "epoch": 2.0},
        ]
        metrics = METRICS | {
            "options": {"hidden_dropout": dropout, "seed": seed, "epochs": 2}, "history": history, "best_epoch": 2.0,
        }  # fmt: skip
        folders.append(write_run(root / f"{dropout}-{seed}", said(*predicted), metrics))
    return folders


def test_a_study_by_hand(tmp_path: Path) -> None:
    folders = grid(tmp_path)
    report = study_runs(folders)
    assert report.kind == "study" and dict(report.facts)["differs"] == "hidden_dropout, seed"
    assert table(report, "runs").rows == (
        ("1", folders[0].name, "0", "1", 2, 4), ("2", folders[1].name, "0", "2", 2, 4),
        ("3", folders[2].name, "0.1", "1", 2, 4), ("4", folders[3].name, "0.1", "2", 2, 4),
    )  # fmt: skip
    for measure in MEASURES:  # of one snippet a song all are the same
        rows = table(report, measure).rows
        assert [row[1] for row in rows] == [0.5, 0.75, 1.0, 0.75]
        assert [row[4] for row in rows] == [None, 0.25, 0.5, 0.25]
        assert rows[0][5:] == (None, None, None) and rows[1][7] == "no difference shown"
    assert table(report, "settings").rows == (("0", 2, *(0.625,) * 5), ("0.1", 2, *(0.875,) * 5))
    differences = table(report, "differences").rows
    assert differences[0] == ("0", None, None, None, None) and differences[1][:2] == ("0.1", 0.25)
    curves = {section.key: section.rows for section in report.sections if isinstance(section, Curves)}
    assert curves["epochs"] == ((1, 0.5, 0.5, 0.6, 0.6), (2, 0.75, 0.75, 0.75, 0.75))
    assert curves["loss"] == ((1, 1.0, 1.0, 1.0, 1.0), (2, 0.5, 0.5, 0.5, 0.5))
    assert curves["measures"] == ((1, pytest.approx(0.55), None, None, None, 0.25), (2, 0.75, None, None, None, 0.5))


def test_a_study_pairs_each_run_with_the_first_as_a_comparison_does(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / str(seed), seeded(GENRES, 300, lead=lead, seed=seed)) for seed, lead in ((1, 1), (2, 3))
    ]
    study, both = study_runs(runs), compare_runs(runs[1], runs[0])
    for name in AGGREGATORS:
        (*_, difference, low, high, verdict) = table(study, name).rows[1]
        (expected,) = (row for row in table(both, "comparison").rows if row[0] == name)
        assert (difference, low, high, verdict) == expected[3:] and verdict == "better"


def test_snippets_are_scored_as_the_share_of_a_song(tmp_path: Path) -> None:
    runs = [run_by_hand(tmp_path / name) for name in ("a", "b")]
    report = study_runs(runs)
    # Of the 8 songs b2 and r1 are wrong in all their snippets, b3 in two of three.
    assert table(report, "snippets").rows[0][1] == pytest.approx((5 + 1 / 3) / 8)
    assert table(report, "mean").rows[0][1] == 6 / 8
    assert not [section for section in report.sections if section.key in ("settings", "differences")]


def test_a_study_has_its_runs_in_its_csv(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(report_csv(study_runs(grid(tmp_path))))))
    assert [(row["#"], row["hidden_dropout"], row["seed"], row["mean right"], row["vote - first"]) for row in rows] == [
        ("1", "0", "1", "0.5", ""), ("2", "0", "2", "0.75", "0.25"), ("3", "0.1", "1", "1.0", "0.5"),
        ("4", "0.1", "2", "0.75", "0.25"),
    ]  # fmt: skip


def test_runs_that_cannot_be_studied_say_why(tmp_path: Path) -> None:
    runs = grid(tmp_path)
    with pytest.raises(RunError, match="a run is named twice"):
        study_runs([runs[0], runs[0]])
    other = write_run(tmp_path / "other", said(("9", "Rock", "Rock")))
    with pytest.raises(RunError, match=r"other: its test split and that of .*0\.0-1 share no songs"):
        study_runs([*runs, other])
