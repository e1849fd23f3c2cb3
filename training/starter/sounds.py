"""Sounds that are made here, as files that the teachers classify and `genre-tag prepare` reads."""

from __future__ import annotations

import csv
import wave
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE
from training.starter.corpus import TABLE


def save_sounds(folder: Path, sounds: Iterable[tuple[str, str, str, np.ndarray]]) -> None:
    """Write sounds, (file name, genre, source, samples within -1 to 1), as WAV, and songs.csv, which names them.

    All are for training. They are taken one at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "genre", "source", "split"])
        for name, genre, source, samples in sounds:
            with wave.open(str(folder / name), "wb") as song:
                song.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
                song.writeframes((samples * (FULL_SCALE - 1)).astype("<i2").tobytes())
            rows.writerow([name, genre, source, "train"])


def save_drawn(
    folder: Path, kind: str, number: int, seed: int, draw: Callable[[np.random.Generator], np.ndarray]
) -> None:
    """Write so many sounds of nobody's genre, each drawn by a generator of its own number."""
    save_sounds(
        folder,
        (
            (f"{index:05}.wav", "", f"{kind} {index}", draw(np.random.default_rng([seed, index])))
            for index in tqdm(range(number), unit=kind, disable=None)
        ),
    )
