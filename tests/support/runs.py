"""Run folders as `genre-tag train` leaves them: one small enough to be counted by hand, and seeded ones of any size."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tagger.evaluation.predictions import FILE_NAME, Predictions, write_predictions

GENRES = ("Blues", "Jazz", "Rock", "Waltz")
#: Song of the test split -> its genre, and the probability of each of GENRES. No song is a Waltz, and none predicted.
BY_HAND = {
    "b1": ("Blues", (0.72, 0.10, 0.10, 0.08)),
    "b2": ("Blues", (0.10, 0.62, 0.20, 0.08)),  # wrong
    "b3": ("Blues", (0.52, 0.20, 0.20, 0.08)),  # by `vote` and `max` Jazz: see run_by_hand
    "b4": ("Blues", (0.45, 0.25, 0.20, 0.10)),
    "j1": ("Jazz", (0.10, 0.82, 0.05, 0.03)),
    "j2": ("Jazz", (0.30, 0.42, 0.20, 0.08)),
    "r1": ("Rock", (0.04, 0.92, 0.03, 0.01)),  # wrong, and the surest of all
    "r2": ("Rock", (0.20, 0.30, 0.36, 0.14)),
}
METRICS = {
    "format": "genre-tag metrics",
    "version": 1,
    "model": "audioset",
    "n_parameters": 86_194_186,
    "options": {"seed": 42},
    "counts": {"train": {"songs": 80, "artists": 31, "hours": 5.25}},
    "shared_artists": 0,
    "calibration": {"min_confidence_reason": "fitted on 40 validation songs"},
}


def write_run(folder: Path, predictions: Predictions, metrics: Any = METRICS) -> Path:
    """A finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder / FILE_NAME, predictions)
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return folder


def run_by_hand(folder: Path, **given: Any) -> Path:
    """The run of BY_HAND, at a temperature of 1 and a threshold of 0.5; three snippets of each song.

    The mean of their logits is the logarithm of the probabilities. In b3, two snippets are a little more of Jazz than
    of Blues, and the third makes up for it.
    """
    rows = []
    for song, (genre, probabilities) in BY_HAND.items():
        logits = np.log(probabilities)
        for number, more in enumerate((1.0, 1.0, -2.0) if song == "b3" else (0.0, 0.0, 0.0)):
            rows.append((song, GENRES.index(genre), 10.0 + 60 * number, logits + np.array([0, more, 0, 0])))
    songs, labels, starts, logits = zip(*rows, strict=True)
    predictions = Predictions(
        **{
            "genres": GENRES,
            "temperature": 1.0,
            "min_confidence": 0.5,
            "splits": np.full(len(songs), "test", object),
            "songs": np.array(songs, object),
            "paths": np.array([f"/music/{song}.flac" for song in songs], object),
            "artists": np.array([f"Artist of {song}" for song in songs], object),
            "starts_seconds": np.array(starts),
            "labels": np.array(labels),
            "logits": np.array(logits, np.float32),
        }
        | given
    )
    return write_run(folder, predictions)


def seeded(
    genres: Sequence[str], n_songs: int = 300, *, lead: float = 2.5, seed: int = 0, song_seed: int = 0,
    temperature: float | None = 1.3, min_confidence: float | None = 0.6,
) -> Predictions:  # fmt: skip
    """A third of the songs on validate and the others on test, of 1 to 5 snippets, their rows in any order.

    `song_seed` decides what the songs are, `seed` the predictions. The first genre has no songs where there are more
    than four.
    """
    random = np.random.default_rng(song_seed)
    n_genres = len(genres)
    song_labels = random.integers(1 if n_genres > 4 else 0, n_genres, n_songs)
    counts = random.integers(1, 6, n_songs)
    prediction = np.random.default_rng([seed, 1])
    song_logits = prediction.normal(scale=1.5, size=(n_songs, n_genres))
    song_logits[np.arange(n_songs), song_labels] += lead
    song_logits[np.arange(n_songs), (song_labels + 1) % n_genres] += 1
    songs = np.repeat(np.arange(n_songs), counts)[random.permutation(counts.sum())]
    labels = song_labels[songs]
    paths = [f"/music/{genres[label]}/{song}.mp3" for song, label in zip(songs, labels, strict=True)]
    return Predictions(
        genres=tuple(genres),
        temperature=temperature,
        min_confidence=min_confidence,
        splits=np.where(songs % 3 == 0, "validate", "test").astype(object),
        songs=np.array([f"{song:032x}" for song in songs], object),
        paths=np.array(paths, object),
        artists=np.array([f"Artist {song // 4}" for song in songs], object),
        starts_seconds=prediction.uniform(0, 200, len(songs)),
        labels=labels,
        logits=(song_logits[songs] + prediction.normal(scale=1.5, size=(len(songs), n_genres))).astype(np.float32),
    )
