"""When a genre is written, and what is told of it, by recordings that are made up."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from training.probe.regression import Linear
from training.starter.corpus import NO_MUSIC
from training.starter.labels import Song
from training.starter.release import Decision, Prediction, decide, report, score, ship, without_its_source, written

GENRES = ("Blues", "Jazz", "Rock")


def prediction(*answers: tuple[str, str, float], split: str = "test") -> Prediction:
    """Songs that are of one genre and are predicted as one, by so many logits more than the others; each of its own
    source, of games and others in turn."""
    songs, logits = [], []
    for i, (genre, named, margin) in enumerate(answers):
        songs.append(Song(Path(f"{i}.ogg"), genre, "", "", split, f"{('debian', 'github')[i % 2]}:{i}"))
        logits.append([margin * (named == each) for each in GENRES])
    return Prediction(tuple(songs), np.array(logits))


WELL_PREDICTED = prediction(
    *[("Blues", "Blues", 6.0)] * 20,
    *[("Rock", "Rock", 6.0)] * 2,
    *[("Jazz", "Rock", 1.0)] * 10,
    *[("Jazz", "Jazz", 1.0)] * 9,
)


def test_a_genre_is_written_that_was_right_often_enough() -> None:
    decision = decide(WELL_PREDICTED, GENRES)
    assert list(decision.min_confidence) == ["Blues", "Jazz"]  # Rock was right of two recordings only
    assert 0.9 < decision.min_confidence["Blues"] < 1
    assert "Blues was right 20 of 20 times" in decision.reason
    labels = written(WELL_PREDICTED, GENRES, decision)
    assert labels.tolist() == [0] * 20 + [-1] * 12 + [1] * 9


def test_a_genre_that_is_often_named_wrongly_stays_silent() -> None:
    some = prediction(*[("Blues", "Blues", 6.0)] * 30, *[("Rock", "Rock", 6.0)] * 6, *[("Jazz", "Rock", 6.0)] * 2)
    assert list(decide(some, GENRES).min_confidence) == ["Blues"]


def test_what_is_no_music_counts_as_named_wrongly() -> None:
    assert list(decide(prediction(*[("Blues", "Blues", 6.0)] * 20), GENRES).min_confidence) == ["Blues"]
    with_noises = prediction(*[("Blues", "Blues", 6.0)] * 20, *[(NO_MUSIC, "Blues", 6.0)] * 10)
    assert decide(with_noises, GENRES).min_confidence == {}


def test_a_genre_that_one_kind_of_source_speaks_for_stays_silent() -> None:
    songs = prediction(*[("Blues", "Blues", 6.0)] * 20)
    assert list(decide(songs, GENRES).min_confidence) == ["Blues"]
    games = Prediction(tuple(replace(song, source=f"debian:{i}") for i, song in enumerate(songs.songs)), songs.logits)
    assert decide(games, GENRES).min_confidence == {}


def test_a_genre_is_as_sure_as_if_all_were_as_frequent() -> None:
    """Nine of ten Country songs may come out as Rock where Rock is what was collected."""
    answers = [("Rock", "Rock", 6.0)] * 40 + [("Jazz", "Rock", 6.0)] * 4
    few = prediction(*answers, *[("Blues", "Blues", 6.0)] * 40)
    many = prediction(*answers, *[("Jazz", "Jazz", 6.0)] * 40, *[("Blues", "Blues", 6.0)] * 40)
    assert list(decide(few, GENRES).min_confidence) == ["Blues"]
    assert list(decide(many, GENRES).min_confidence) == ["Blues", "Jazz", "Rock"]


def test_nothing_is_written_by_what_guesses() -> None:
    rng = np.random.default_rng(5)
    songs = prediction(*[(GENRES[rng.integers(3)], GENRES[rng.integers(3)], 5.0) for _ in range(60)])
    decision = decide(songs, GENRES)
    assert decision.min_confidence == {}
    assert (written(songs, GENRES, decision) == -1).all()


def test_no_song_judges_a_threshold_that_it_chose() -> None:
    answers = [("Blues", "Blues", 6.0)] * 20 + [("Jazz", "Jazz", 6.0)] * 9
    songs = prediction(*answers)
    together = Prediction(
        tuple(
            replace(song, source=f"{song.source.partition(':')[0]}:trio" if song.genre == "Jazz" else song.source)
            for song in songs.songs
        ),
        songs.logits,
    )
    assert (written(together, GENRES, decide(together, GENRES)) >= 0).all()
    assert without_its_source(together, GENRES).tolist() == [0] * 20 + [-1] * 9


def test_songs_of_one_source_alone_are_unsure_without_it() -> None:
    songs = prediction(*[("Blues", "Blues", 6.0)] * 20)
    alone = Prediction(tuple(Song(song.path, song.genre, "the trio", "", "test") for song in songs.songs), songs.logits)
    assert without_its_source(alone, GENRES).tolist() == [-1] * 20


def test_scores_count_the_second_answer() -> None:
    songs = prediction(("Blues", "Blues", 2.0), ("Jazz", "Rock", 2.0), ("Rock", "Rock", 2.0), ("Rock", "Blues", 2.0))
    found = score(songs, GENRES)
    assert (found.n_songs, found.top_1, found.macro_recall) == (4, 0.5, pytest.approx((1 + 0 + 0.5) / 3))
    assert found.top_2 >= found.top_1
    assert found.top_1_interval.low <= 0.5 <= found.top_1_interval.high


def test_the_report_tells_of_music_and_of_what_is_none() -> None:
    noise = Prediction((Song(Path("n.wav"), NO_MUSIC, "", "noises", "test"),), np.array([[9.0, 0, 0]]))
    validate = prediction(*[("Blues", "Blues", 6.0)] * 3, split="validate")
    parts = (WELL_PREDICTED, validate, noise)
    everything = Prediction(
        tuple(song for part in parts for song in part.songs), np.concatenate([part.logits for part in parts])
    )
    text = report(everything, GENRES, Decision(1.0, {"Blues": 0.5}, "because"))
    assert "test: 41 recordings, top-1 0.756" in text
    assert "validate: 3 recordings, top-1 1.000" in text
    assert "with thresholds fitted on them: 23 of 44 written, 23 rightly (1.00); of 1 that are no music 1" in text
    assert "of the surest 10%, 5 recordings, 1.00 are right" in text
    assert "| Jazz | 19 | 9 | 9 |" in text


def test_a_split_without_recordings_is_not_told_of() -> None:
    text = report(WELL_PREDICTED, GENRES, Decision(1.0, {}, ""))
    assert "test: 41 recordings" in text
    assert "validate" not in text


def test_what_is_shipped_is_half_as_large_and_decides_as_was_decided(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    dense = {"classifier.dense.weight": np.zeros((3, 2), np.float32), "classifier.dense.bias": np.zeros(3, np.float32)}
    weights = {"a": np.linspace(-1, 1, 50, dtype=np.float32)} | dense
    save_file(weights, checkpoint / "model.safetensors")
    for name in ("config.json", "preprocessor_config.json"):
        (checkpoint / name).write_text("{}", encoding="utf-8")
    head = Linear(np.arange(6.0).reshape(3, 2), np.array([0.5, 1.0, 2.0]))
    ship(checkpoint, tmp_path / "model", head, Decision(2.0, {"Blues": 0.7, "Rock": 0.8}, "of 30, 28 were right"))
    shipped = load_file(tmp_path / "model" / "model.safetensors")
    assert shipped["a"].dtype == np.float16
    assert np.allclose(shipped["a"], weights["a"], atol=1e-3)
    assert shipped["classifier.dense.weight"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert shipped["classifier.dense.bias"].tolist() == [0.5, 1, 2]
    training = json.loads((tmp_path / "model" / "training.json").read_text(encoding="utf-8"))
    assert training == {
        "temperature": 2.0,
        "min_confidence": {"Blues": 0.7, "Rock": 0.8},
        "min_confidence_reason": "of 30, 28 were right",
    }
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "config.json", "model.safetensors", "preprocessor_config.json", "training.json",
    }  # fmt: skip


def test_the_report_reads_nothing_into_the_names_of_genres() -> None:
    hostile = ("Blues | 99", "<script>alert(1)</script>", "*Rock*\n# Owned")
    songs = [Song(Path(f"{at}.ogg"), genre, f"artist {at}", "", "test") for at, genre in enumerate(hostile)]
    text = report(Prediction(tuple(songs), 6 * np.eye(3)), hostile, Decision(1.0, {hostile[0]: 0.5}, ""))
    rows = text.splitlines()[-3:]
    assert rows == [
        "| Blues &#124; 99 | 1 | 1 | 1 |",
        "| &lt;script&gt;alert(1)&lt;/script&gt; | 1 | 1 | 1 |",
        r"| \*Rock\* \# Owned | 1 | 1 | 1 |",
    ]
