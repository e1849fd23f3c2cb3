"""Songs laid over one another: more for the teachers to classify than there is music that is free.

    python -m training.starter.mixes DATASET RECORDINGS --out FOLDER

A teacher that is given the very mixture its student is given teaches well, even where nobody would play it
(Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and consistent").
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch

from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE
from training.dataset.data import Prepared, load_prepared
from training.dataset.waveforms import Waveforms
from training.starter import NothingDoneError
from training.starter.corpus import NO_MUSIC
from training.starter.sounds import save_drawn

SECONDS = 40  # of a mix
N_SAMPLES = SECONDS * SAMPLE_RATE
SPEEDS = [step / 20 for step in range(16, 26)]  # tape speeds: tempo and pitch together, 0.8 to 1.25
LEVEL = 0.1  # root mean square of each voice before it is mixed


@dataclass(frozen=True)
class Sources:
    """The songs of a dataset that mixes are made of; each where it lies: shard, first sample, number of samples."""

    waveforms: Waveforms
    music: Sequence[tuple[int, int, int]]
    speech: Sequence[tuple[int, int, int]]
    #: How often each song of `music` is taken; genres by the root of the number of their songs.
    chances: np.ndarray
    sung: Sequence[np.ndarray] = ()  # vocals (n_samples,) int16, of `training.matching.singing`

    def music_voice(self, rng: np.random.Generator, n_samples: int = N_SAMPLES) -> np.ndarray:
        """Some of a song, float32 (n_samples,)."""
        return self._voice(self.music[int(rng.choice(len(self.music), p=self.chances))], rng, n_samples)

    def speech_voice(self, rng: np.random.Generator, n_samples: int = N_SAMPLES) -> np.ndarray:
        """People who speak one after the other, with pauses, float32 (n_samples,)."""
        voice, first = np.zeros(n_samples, np.float32), 0
        while first < len(voice):
            speaker = self._voice(self.speech[int(rng.integers(len(self.speech)))], rng, n_samples)
            said = speaker[: int(rng.uniform(2, 15) * SAMPLE_RATE)][: len(voice) - first]
            voice[first : first + len(said)] = said
            first += len(said) + int(rng.uniform(0, 3) * SAMPLE_RATE)
        return voice

    def sung_voice(self, rng: np.random.Generator, n_samples: int) -> np.ndarray:
        """Some of a vocal, float32 (n_samples,)."""
        vocal = self.sung[int(rng.integers(len(self.sung)))]
        return _part(lambda first, n_read: vocal[first : first + n_read], len(vocal), rng, n_samples)

    def _voice(self, song: tuple[int, int, int], rng: np.random.Generator, n_wanted: int) -> np.ndarray:
        shard, first, n_samples = song
        return _part(lambda start, n_read: self.waveforms.read(shard, first + start, n_read), n_samples, rng, n_wanted)


def _part(
    read: Callable[[int, int], np.ndarray], n_samples: int, rng: np.random.Generator, n_wanted: int
) -> np.ndarray:
    """Some of what `read` gives, int16, from a first sample on so many, at one of `SPEEDS`, again and again where it is
    short, at `LEVEL`: float32 (n_wanted,).
    """
    from torchaudio.functional import resample

    speed = rng.choice(SPEEDS)
    n_read = min(n_samples, int(n_wanted * speed) + 1)
    samples = read(int(rng.integers(n_samples - n_read + 1)), n_read)
    sound = torch.from_numpy(samples.astype(np.float32) / FULL_SCALE)
    voice = np.resize(resample(sound, round(SAMPLE_RATE * speed), SAMPLE_RATE).numpy(), n_wanted)
    loudness = float(np.sqrt(np.square(voice).mean()))
    return (voice * (LEVEL / max(loudness, 1e-6))).astype(np.float32)


def find_sources(prepared: Prepared, *tables: Path) -> Sources:
    """The train split of a dataset, as far as its songs are in tables of `corpus`, or of sounds made here."""
    kinds: dict[str, str] = {}
    for table in tables:
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                kind = row["evidence"] if row["genre"] == NO_MUSIC else "music"
                kinds[str(table.parent.absolute() / row["path"])] = kind
    rows = prepared.splits["train"]
    columns = (rows[name] for name in ("path", "label", "shard", "song_first", "song_samples"))
    songs = {path: (label, place) for path, label, *place in zip(*columns, strict=True)}
    music = [song for path, song in songs.items() if kinds.get(path) == "music"]
    speech = [tuple(place) for path, (_, place) in songs.items() if kinds.get(path) == "speech"]
    if not music or not speech:
        raise NothingDoneError(f"{tables[0]}: names no music, or no speech, that is in the dataset's train split")
    labels = np.array([label for label, _ in music])
    chances = 1 / np.sqrt(np.bincount(labels)[labels])
    return Sources(prepared.waveforms, [tuple(place) for _, place in music], speech, chances / chances.sum())


def mix(sources: Sources, rng: np.random.Generator) -> np.ndarray:
    """A song at another speed, half of the time over another one, sometimes with speech; now and then loud, dull or
    thin. float32 (n_samples,) within -1 to 1.
    """
    from torchaudio.functional import highpass_biquad, lowpass_biquad

    samples = sources.music_voice(rng)
    if rng.random() < 0.5:
        samples = samples + sources.music_voice(rng) * amplitude(rng.uniform(-15, 0))
    if rng.random() < 0.3:
        samples = samples + sources.speech_voice(rng) * amplitude(rng.uniform(-6, 6))
    if rng.random() < 0.4:  # as if mastered to be loud
        drive = amplitude(rng.uniform(6, 24))
        samples = np.tanh(samples * drive) / drive
    sound = torch.from_numpy(samples.astype(np.float32))
    if rng.random() < 0.3:
        sound = lowpass_biquad(sound, SAMPLE_RATE, rng.uniform(2000, 7500))
    if rng.random() < 0.2:
        sound = highpass_biquad(sound, SAMPLE_RATE, rng.uniform(60, 400))
    loudest = rng.uniform(0.1, 0.95)
    return sound.numpy() * np.float32(loudest / max(float(sound.abs().max()), 1e-6))


def amplitude(decibels: float) -> float:
    """What samples are multiplied by to be so many decibels louder."""
    return float(10 ** (decibels / 20))


@click.command()
@click.argument("dataset", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("recordings", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER")
@click.option("--number", type=click.IntRange(min=1), default=4400, show_default=True, help="How many to make.")
@click.option("--seed", type=int, default=7, show_default=True)
def mixes(dataset: Path, recordings: Path, out: Path, number: int, seed: int) -> None:
    """Make mixes of the songs in DATASET's train split in FOLDER, and songs.csv there, which names them.

    RECORDINGS, the songs.csv of `corpus`, tells which of them are speech. Mixes have no genre: the teachers name it.
    """
    sources = find_sources(load_prepared(dataset), recordings)
    save_drawn(out, "mix", number, seed, partial(mix, sources))
    click.echo(f"{number} mixes in {out}")


if __name__ == "__main__":
    mixes()
