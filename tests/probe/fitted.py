"""Songs for the tests of this room: embeddings in clouds, a genre each, and a model that knows some of the genres."""

from pathlib import Path

import numpy as np

from tagger.models.head import GenreHead
from training.dataset.songs import LabelledSong
from training.probe.base import Base
from training.probe.songs import Tagged

WIDTH = 10


def centres(n_genres: int) -> np.ndarray:
    return np.random.default_rng(9).normal(0, 1, (n_genres, WIDTH))


def tagged_songs(
    genres: tuple[str, ...], n_songs: int = 40, n_artists: int = 8, noise: float = 1.0, seed: int = 0
) -> Tagged:
    """So many songs of each genre by as many artists, each with a sound of its own; the model gets half of it."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(genres)), n_songs)
    artists = labels * n_artists + np.tile(np.arange(n_songs) % n_artists, len(genres))
    sounds = rng.normal(0, 0.5, (len(genres) * n_artists, WIDTH))
    spread = rng.normal(0, noise, (len(labels), WIDTH))
    embeddings = (centres(len(genres))[labels] + sounds[artists] + spread).astype(np.float32)
    songs = tuple(
        LabelledSong(Path(f"/music/{artist}/{row}.mp3"), genres[label], artist=f"Artist {artist}", seconds=180.0)
        for row, (label, artist) in enumerate(zip(labels, artists, strict=True))
    )
    weight, bias = weak_layer(len(genres))
    return Tagged(genres, songs, labels, artists, embeddings, (embeddings @ weight.T + bias).astype(np.float32))


def weak_layer(n_genres: int) -> tuple[np.ndarray, np.ndarray]:
    """A last layer that looks at half of an embedding."""
    weight = centres(n_genres).copy()
    weight[:, WIDTH // 2 :] = 0
    return weight, np.linspace(-0.5, 0.5, n_genres)


def base_of(tagged: Tagged, of_model: tuple[str, ...] | None = None) -> Base:
    """The model whose outputs, in their order, are these genres; those of the songs where none are given."""
    weight, bias = weak_layer(len(tagged.genres))
    return Base.of(GenreHead(of_model or tagged.genres, "softmax"), weight, bias, tagged.genres)
