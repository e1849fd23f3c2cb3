"""Run folders: the newest is found, a split is read song by song, and what is wrong with a folder is said in a line."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training.learning.runs
import training.outcome.outcome
from tagger.errors import RunError
from tagger.evaluation.predictions import FILE_NAME, write_predictions
from tagger.evaluation.run_folder import FINISHED, RUNS, VERSION, is_run, newest_run, read_split
from tagger.models.head import GenreHead
from tagger.pipeline.aggregate import decide
from tests.support.runs import METRICS, run_by_hand, seeded, write_run

GENRES = ("Blues", "Jazz", "Rock", "Metal", "Pop")


def test_runs_are_where_training_leaves_them() -> None:
    assert (RUNS, FINISHED, VERSION) == (
        training.learning.runs.RUNS,
        training.learning.runs.FINISHED,
        training.outcome.outcome.VERSION,
    )


def test_the_newest_run_is_the_one_that_was_finished_last(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "c", "b")):
        run_by_hand(tmp_path / name)
        os.utime(tmp_path / name / FINISHED, (number, number))
    begun = tmp_path / "d"
    begun.mkdir()
    (begun / "run.json").write_text("{}")
    without_log = tmp_path / "e"
    without_log.mkdir()
    (without_log / FINISHED).write_text(json.dumps(METRICS))
    assert newest_run(tmp_path) == tmp_path / "b"
    os.utime(tmp_path / "c" / FINISHED, (9, 9))
    assert newest_run(tmp_path) == tmp_path / "c"
    assert is_run(tmp_path / "b") and is_run(begun) and is_run(without_log) and not is_run(tmp_path)


def test_where_no_run_is_finished_there_is_a_way_out(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(RunError, match=r"no run there yet: train one .* or a folder of music") as caught:
            newest_run(folder)
        assert caught.value.path == folder
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text("{}")
    with pytest.raises(RunError, match="no run in there is finished: genre-tag train --resume"):
        newest_run(tmp_path)


@pytest.mark.parametrize("temperature", [None, 1.7])
def test_songs_are_classified_as_the_product_classifies_them(tmp_path: Path, temperature: float | None) -> None:
    predictions = seeded(GENRES, 90, temperature=temperature)
    prediction = read_split(write_run(tmp_path / "run", predictions), "test")
    assert len(prediction.songs.songs) == len(prediction.rows_of) == len(prediction.references) == 60
    head = GenreHead(GENRES, "softmax", temperature=temperature)
    for index, song in enumerate(prediction.songs.songs):
        is_of_it = predictions.songs == song
        assert (prediction.rows.logits[prediction.rows_of[index]] == predictions.logits[is_of_it]).all()
        ranking = dict(decide(predictions.logits[is_of_it], head).ranking)
        assert prediction.probabilities[index] == pytest.approx([ranking[genre] for genre in GENRES])
        assert set(prediction.rows.paths[prediction.rows_of[index]]) == {
            f"/music/{prediction.references[index]}/{int(song, 16)}.mp3"
        }


def test_what_was_not_fitted_is_as_the_product_has_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", seeded(GENRES, temperature=None, min_confidence=None))
    prediction = read_split(folder, "validate")
    assert (prediction.temperature, prediction.min_confidence, prediction.seed, prediction.split) == (
        1.0,
        0.5,
        42,
        "validate",
    )


def test_a_folder_that_cannot_be_reported_on_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run folder: no predictions.jsonl in there"):
        read_split(tmp_path, "test")
    old = tmp_path / "an old run"
    old.mkdir()
    (old / FINISHED).write_text("{}")
    with pytest.raises(
        RunError, match=r"not finished \(genre-tag train --resume --out '.*an old run'\), or of an older"
    ):
        read_split(old, "test")
    run_by_hand(tmp_path / "run")
    with pytest.raises(RunError, match=r"predictions.jsonl: no songs of the validate split, only of test"):
        read_split(tmp_path / "run", "validate")


def test_a_damaged_log_is_named_with_its_line(tmp_path: Path) -> None:
    log = run_by_hand(tmp_path / "run") / FILE_NAME
    log.write_text(log.read_text()[:-40])
    with pytest.raises(RunError, match=r"predictions.jsonl: line 25: not JSON"):
        read_split(tmp_path / "run", "test")
    log.write_text('{"format": "genre-tag predictions", "version": 0}\n')
    with pytest.raises(RunError, match="version 0 where this genre-tag reads 1: train again"):
        read_split(tmp_path / "run", "test")


@pytest.mark.parametrize(
    ("metrics", "doubt"),
    [
        (None, "no metrics.json: the training did not end well"),
        (b"{", "metrics.json cannot be read: what is told here comes from the log alone"),
        (b"\xff\xfe", "metrics.json cannot be read: what is told here comes from the log alone"),
        (b"[" * 100_000, "metrics.json cannot be read: what is told here comes from the log alone"),
        (b"[]", "metrics.json is of another version: what is told here comes from the log alone"),
        (b'{"format": "genre-tag metrics"}', "metrics.json is of another version: what is told here comes from the"),
        (json.dumps(METRICS | {"version": 2}).encode(), "metrics.json is of another version: what is told here comes"),
    ],
)
def test_the_log_suffices(tmp_path: Path, metrics: bytes | None, doubt: str) -> None:
    file = run_by_hand(tmp_path / "run") / FINISHED
    if metrics is None:
        file.unlink()
    else:
        file.write_bytes(metrics)
    prediction = read_split(tmp_path / "run", "test")
    assert prediction.doubt.startswith(doubt)
    assert (prediction.told, prediction.seed, len(prediction.songs.songs)) == ({}, 0, 8)


@pytest.mark.parametrize("options", [None, [], {}, {"seed": None}, {"seed": "x"}, {"seed": -1}])
def test_a_seed_that_is_none_is_0(tmp_path: Path, options: Any) -> None:
    run_by_hand(tmp_path / "run")
    (tmp_path / "run" / FINISHED).write_text(json.dumps(METRICS | {"options": options}))
    assert read_split(tmp_path / "run", "test").seed == 0


def test_songs_with_odd_names_are_read(tmp_path: Path) -> None:
    predictions = seeded(GENRES, 9)
    predictions.paths[:] = os.fsdecode(b"/m/caf\xe9\n\x1b[2J.mp3")
    write_predictions(tmp_path / FILE_NAME, predictions)
    assert set(read_split(tmp_path, "test").rows.paths) == {os.fsdecode(b"/m/caf\xe9\n\x1b[2J.mp3")}
    assert np.isfinite(read_split(tmp_path, "test").probabilities).all()
