"""Models that were learned: the newest for what is asked for."""

from pathlib import Path

import numpy as np
import pytest

from tagger.errors import ModelError
from tagger.evaluation.learned import (
    contradictions,
    learned_folder,
    learned_models,
    model_of,
    new_folder,
    newest_for,
    note_learned,
)
from tagger.evaluation.predictions import Predictions, write_predictions


def make(folder: Path, *library: str) -> Path:
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "checkpoint" / "config.json").write_text("{}")
    note_learned(folder, library)
    return folder


def test_the_newest_of_a_library_answers_for_its_songs_and_for_all_around_it(tmp_path: Path) -> None:
    for name in ("old", "other", "new"):
        make(tmp_path / name, "/elsewhere" if name == "other" else "/music/library")
    for path in ("/music/library", "/music/library/artist/song.mp3", "/music"):
        found = newest_for([path])
        assert found is not None and found.folder == tmp_path / "new", path
    assert newest_for(["/music/library 2"]) is None and newest_for([]) is None and newest_for(["-"]) is None
    assert model_of(["/elsewhere/song.mp3"]) == str(tmp_path / "other")


def test_where_none_was_learned_it_says_how(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"mine: no model was learned from this library yet: genre-tag learn /music"):
        model_of(["/music"])


def test_one_that_is_gone_or_damaged_is_none(tmp_path: Path) -> None:
    kept = make(tmp_path / "kept", "/music")
    gone = make(tmp_path / "gone", "/music")
    (gone / "checkpoint" / "config.json").unlink()
    (learned_folder() / "9999.json").write_text("{")
    (learned_folder() / "9998.json").write_text("[]")
    assert [each.folder for each in learned_models()] == [kept]


def test_two_that_begin_at_once_have_folders_of_their_own() -> None:
    first = new_folder()
    first.mkdir(parents=True)
    assert new_folder() != first and new_folder().parent == learned_folder()


def test_tags_that_the_prediction_contradicts_are_the_surest_first(tmp_path: Path) -> None:
    """Rock is usually sure (.8), Jazz hardly (.5): a song is suspected by what is usual for what it seems to be."""
    rows = "80 10 10, 80 10 10, 10 50 40, 10 50 40, 30 55 15, 70 20 10, 5 5 90, 85 10 5"
    shares = np.array([row.split() for row in rows.split(", ")], float) / 100
    labels = np.array([0, 0, 1, 1, 0, 1, 0, 1])
    n_songs = len(labels)
    paths = np.array([f"/music/{number}.mp3" for number in range(n_songs)], object)
    genres = ("Rock", "Jazz", "Polka")  # of the last nothing was learned
    nothing, logits = np.full(n_songs, "", object), np.log(shares).astype(np.float32)
    splits = np.full(n_songs, "test", object)
    log = Predictions(genres, 1.0, 0.9, splits, paths, paths, nothing, np.zeros(n_songs), labels, logits)
    write_predictions(tmp_path / "predictions.jsonl", log)
    found = contradictions(tmp_path)
    assert [(each.path, each.genre, each.ranking[0][0]) for each in found] == [
        ("/music/7.mp3", "Jazz", "Rock"), ("/music/5.mp3", "Jazz", "Rock"), ("/music/4.mp3", "Rock", "Jazz"),
    ]  # fmt: skip
    assert found[2].confidence == pytest.approx(0.3) and found[2].ranking[0][1] == pytest.approx(0.55)
