"""Sounds of test equipment: bare tones, beeps and noise, of which the starter shall be unsure.

    python -m training.starter.tones FOLDER

Free recordings have hardly any, and a network that never classified them takes a steady tone for an organ or a violin.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import click
import numpy as np

from tagger.audio.decode import SAMPLE_RATE
from training.starter.corpus import NO_MUSIC
from training.starter.sounds import save_sounds

SECONDS = 60
LOWEST_HZ, HIGHEST_HZ = 40.0, 4000.0

#: One turn of a wave, from its phase in turns.
WAVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sine": lambda turns: np.sin(2 * np.pi * turns),
    "triangle": lambda turns: 4 * np.abs(turns % 1 - 0.5) - 1,
    "square": lambda turns: np.where(turns % 1 < 0.5, 1.0, -1.0),
    "pulse": lambda turns: np.where(turns % 1 < 0.1, 1.0, -0.1),
    "sawtooth": lambda turns: 2 * (turns % 1) - 1,
}


def sound(kind: str, rng: np.random.Generator) -> np.ndarray:
    """A minute of one or two tones (a key of `WAVES`) or of "noise": (n_samples,) float32 within -1 to 1.

    Steady, gliding or swaying; without a break or as beeps; half of the tones in some noise.
    """
    seconds = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    signal = np.zeros_like(seconds)
    if kind in WAVES:
        for _ in range(rng.integers(1, 3)):
            hertz = np.exp(rng.uniform(np.log(LOWEST_HZ), np.log(HIGHEST_HZ)))
            bend = rng.choice([0.0, rng.uniform(-1, 1)]) * seconds / SECONDS  # octaves
            bend = bend + rng.choice([0.0, 0.03]) * np.sin(2 * np.pi * rng.uniform(0.1, 6) * seconds)
            signal += WAVES[kind](np.cumsum(hertz * 2**bend) / SAMPLE_RATE)
        signal += rng.choice([0.0, rng.uniform(0.01, 0.3)]) * rng.standard_normal(len(signal))
    else:
        spectrum = np.fft.rfft(rng.standard_normal(len(signal)))
        slope = rng.uniform(0, 1)  # 0 is white, 0.5 pink, 1 brown
        signal = np.fft.irfft(spectrum / np.arange(1, len(spectrum) + 1) ** slope, len(signal))
    if rng.random() < 0.5:
        turns = rng.uniform(0.3, 8) * seconds
        signal = signal * (turns % 1 < rng.uniform(0.2, 0.8))
    return (signal * rng.uniform(0.05, 0.9) / np.abs(signal).max()).astype(np.float32)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--number", type=click.IntRange(min=1), default=60, show_default=True, help="How many to make.")
@click.option("--seed", type=int, default=1, show_default=True)
def tones(folder: Path, number: int, seed: int) -> None:
    """Make sounds that are no music in FOLDER, and songs.csv there, which names them."""
    kinds = [*WAVES, "noise"]
    save_sounds(
        folder,
        (
            (f"{index:03}-{kind}.wav", NO_MUSIC, f"tones {index}", sound(kind, np.random.default_rng([seed, index])))
            for index, kind in zip(range(number), cycle(kinds), strict=False)
        ),
    )
    click.echo(f"{number} sounds in {folder}")


if __name__ == "__main__":
    tones()
