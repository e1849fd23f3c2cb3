"""The last layer, corrected by what people called songs: by embeddings that are made up, and by the real network."""

from pathlib import Path

import numpy as np
import pytest

from tagger.audio.decode import decode
from tagger.models.genre_model import GenreModel
from tests.support.songs import make_song
from training.probe.regression import Linear
from training.starter.head import Embedded, corrected, distilled_head, embed, logits_without_source
from training.starter.labels import Song

WIDTH = 8


def songs(n_songs: int = 120, n_sources: int = 30, seed: int = 0) -> Embedded:
    """Songs of three genres, that embeddings tell apart, and ten that are no music."""
    rng = np.random.default_rng(seed)
    labels = np.append(np.arange(n_songs) % 3, np.full(10, -1))
    embeddings = rng.normal(0, 1, (len(labels), WIDTH))
    embeddings[np.arange(n_songs), labels[:n_songs]] += 3
    named = tuple(Song(Path(f"{i}.ogg"), "", "", "", "test", f"github:{i % n_sources}") for i in range(len(labels)))
    return Embedded(named, embeddings, labels)


def accuracy(logits: np.ndarray, some: Embedded) -> float:
    is_music = some.labels >= 0
    return float((logits.argmax(axis=1) == some.labels)[is_music].mean())


def test_labels_correct_a_layer_that_was_taught_wrongly() -> None:
    some = songs()
    wrong = Linear(np.eye(3, WIDTH)[[1, 0, 2]] * 0.1, np.zeros(3))  # takes the first genre for the second
    assert accuracy(wrong.logits(some.embeddings), some) < 0.5
    assert accuracy(logits_without_source(some, wrong), some) > 0.8


def test_a_layer_that_was_taught_rightly_stays_as_good() -> None:
    some = songs()
    right = Linear(np.eye(3, WIDTH), np.zeros(3))
    assert accuracy(logits_without_source(some, right), some) >= accuracy(right.logits(some.embeddings), some) - 0.03


def test_no_song_is_judged_by_a_layer_that_its_source_corrected() -> None:
    some = songs()
    random = Embedded(some.songs, np.random.default_rng(3).normal(0, 1, some.embeddings.shape), some.labels)
    nothing = Linear(np.zeros((3, WIDTH)), np.zeros(3))
    # Every source has one label of its own and one place of its own: learned by heart it would be known.
    of_source = np.array([int(source.partition(":")[2]) for source in random.sources])
    random.embeddings[:] += np.random.default_rng(4).normal(0, 5, (30, WIDTH))[of_source]
    known = corrected(random, nothing, np.ones(len(of_source), bool)).logits(random.embeddings)
    assert accuracy(known, random) > 0.6
    assert accuracy(logits_without_source(random, nothing), random) < 0.5


def test_what_is_no_music_teaches_nothing() -> None:
    some, nothing = songs(), Linear(np.zeros((3, WIDTH)), np.zeros(3))
    every = np.ones(len(some.labels), bool)
    without = corrected(some, nothing, some.labels >= 0)
    assert np.array_equal(corrected(some, nothing, every).weight, without.weight)
    assert corrected(some, nothing, some.labels < 0) is nothing


def test_embeddings_and_the_last_layer_are_those_of_the_network(tmp_path: Path) -> None:
    path = make_song(tmp_path / "song.wav", seconds=20)
    song = Song(path, "Rock", "", "", "test")
    broken = Song(tmp_path / "broken.ogg", "Rock", "", "", "test")
    broken.path.write_bytes(b"no sound")
    [(found, embedding)] = embed("starter", [broken, song])
    assert found is song
    model = GenreModel.load("starter", "cpu", "fp32")
    expected = model.logits(decode(path, 5, model.snippet_samples).samples).mean(axis=0)
    assert distilled_head("starter").logits(embedding) == pytest.approx(expected, abs=1e-4)
