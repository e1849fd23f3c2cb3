"""Recordings that people labelled, as evidence: from what kind of source, and how much each counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.starter.labels import Song

FREE = ("CC0", "CC-BY", "CC BY 4", "PD", "GPL", "LGPL", "Expat", "MIT", "BSD", "Zlib")  # how a free licence begins


def kind(song: Song) -> str:
    """What sort of music a song is likely to be, by where it lies: "games", "free" or "other".

    Debian's packages hold the music of games; what is free and lies elsewhere is mostly of netlabels; what has no free
    licence is mostly a clip of something commercial, by which somebody shows what a genre is.
    """
    if song.source.startswith("debian:"):
        return "games"
    return "free" if song.licence.startswith(FREE) else "other"


def genre_weights(labels: np.ndarray) -> np.ndarray:
    """Weights (n_songs,) by which every label that occurs counts alike, 1 for a song on average and for -1, no music.

    What is written of a library has to be right whatever it is full of. A collection with many songs of a genre makes
    that genre look surer than it is.
    """
    weights, is_music = np.ones(len(labels)), labels >= 0
    numbers = np.bincount(labels[is_music])
    weights[is_music] = numbers[numbers > 0].mean() / numbers[labels[is_music]]
    return weights


def source_weights(sources: Sequence[str]) -> np.ndarray:
    """Weights (n_songs,), 1 on average, by which a source counts as the root of its number of songs."""
    _, place, numbers = np.unique(np.asarray(sources), return_inverse=True, return_counts=True)
    weights = numbers[place] ** -0.5
    scaled: np.ndarray = weights / weights.mean()
    return scaled
