"""Speech made to sing and to rap: among free recordings there is hardly a voice that sings.

    python -m training.matching.singing DATASET RECORDINGS --out FOLDER

WORLD (Morise, Yokomori, Ozawa 2016) takes speech apart into pitch, spectral envelope and noise. Its vowels are held, a
melody takes the place of its pitch, its formants are moved, and WORLD puts it together again. mn04 takes 8 % of the
snippets of a pool with such vocals for singing (a probability of .1 and more), of one with speech alone 0.4 %, and 10 %
of the recordings that people labelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE, as_int16, decode_song
from training.dataset.data import load_prepared
from training.starter import NothingDoneError
from training.starter.mixes import find_sources
from training.starter.sounds import save_drawn

FRAMES = 100  # a second
SECONDS = 10  # of a vocal
PARTS = 3  # recordings of speech that a vocal is made of
RAPPED = 0.2  # share of the vocals
SHORTEST = 4  # frames of a syllable
CONSONANT = 15  # frames before a syllable that are kept as they are, at most
LOWEST_NOTE, HIGHEST_NOTE = 48.0, 62.0  # of a melody's lowest: MIDI numbers, C3 to D4
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10), (0, 2, 3, 5, 7, 9, 10))
BEATS = (0.25, 0.5, 1.0, 1.5, 2.0)  # that a note lasts, and how often each does
OFTEN = (0.10, 0.50, 0.30, 0.05, 0.05)
STEPS = (-3, -2, -1, 0, 1, 2, 4)  # of the scale, from note to note


@dataclass(frozen=True, eq=False)
class Voice:
    """Speech as WORLD sees it, a row for each hundredth of a second."""

    pitch: np.ndarray  # (n_frames,) Hz, 0 where unvoiced
    envelope: np.ndarray  # (n_frames, n_bins): power
    noise: np.ndarray  # (n_frames, n_bins): share of the power that is noise

    @classmethod
    def of(cls, samples: np.ndarray) -> Voice:
        """Of samples (n_samples,) at `SAMPLE_RATE`."""
        import pyworld

        x = samples.astype(np.float64)
        rough, times = pyworld.dio(x, SAMPLE_RATE, f0_floor=70, f0_ceil=600, frame_period=1000 / FRAMES)
        pitch = pyworld.stonemask(x, rough, times, SAMPLE_RATE)
        return cls(pitch, pyworld.cheaptrick(x, pitch, times, SAMPLE_RATE), pyworld.d4c(x, pitch, times, SAMPLE_RATE))

    def syllables(self) -> list[tuple[int, int, int]]:
        """Voiced stretches: where the consonant before each begins, its first frame, and the one after its last."""
        edges = np.flatnonzero(np.diff(np.r_[False, self.pitch > 0, False].astype(int)))
        ends = [0, *edges[1::2]]
        return [
            (max(before, first - CONSONANT), first, end)
            for before, first, end in zip(ends, edges[::2], edges[1::2], strict=False)
            if end - first >= SHORTEST
        ]

    def at(self, frames: np.ndarray, pitch: np.ndarray) -> Voice:
        """These frames, at another pitch."""
        return Voice(pitch, self.envelope[frames], self.noise[frames])

    def with_formants(self, times: float) -> Voice:
        """With formants that many times as high."""
        n_bins = self.envelope.shape[1]
        places = np.clip(np.arange(n_bins) / times, 0, n_bins - 1.001)
        below, share = places.astype(int), places % 1
        levels = np.log(self.envelope + 1e-16)
        return replace(self, envelope=np.exp(levels[:, below] * (1 - share) + levels[:, below + 1] * share))

    def samples(self, semitones: float = 0.0) -> np.ndarray:
        """float64 (n_samples,), so many semitones higher."""
        import pyworld

        arrays = (self.pitch * 2 ** (semitones / 12), self.envelope, self.noise)
        pitch, envelope, noise = map(np.ascontiguousarray, arrays)
        samples: np.ndarray = pyworld.synthesize(pitch, envelope, noise, SAMPLE_RATE, 1000 / FRAMES)
        return samples


def sung(voices: Sequence[Voice], rng: np.random.Generator, seconds: float = SECONDS) -> np.ndarray:
    """What they say, to a melody: float32 (n_samples,) within -1 to 1."""
    melody, beat, hold = _melody(rng), FRAMES * 60 / rng.uniform(60, 150), rng.uniform(0.5, 1.0)
    depth, rate = rng.uniform(0, 0.5), rng.uniform(4.8, 6.8)  # of the vibrato: semitones, Hz
    pieces: list[Voice] = []
    n_frames = 0
    while n_frames < seconds * FRAMES:
        voice = voices[int(rng.integers(len(voices)))]
        for consonant, first, end in voice.syllables():
            n_notes = max(1, round((end - first) / rng.uniform(14, 35)))
            bounds = np.linspace(first, end, n_notes + 1).astype(int)
            for start, stop in pairwise(bounds):
                length = max(stop - start, int(beat * hold * rng.choice(BEATS, p=OFTEN)))
                frames = np.r_[np.arange(consonant, first) if start == first else [], _held(start, stop, length)]
                note = _note(next(melody), length, depth, rate, rng)
                pieces.append(voice.at(frames.astype(int), np.r_[np.zeros(len(frames) - length), note]))
                n_frames += len(frames)
        if rng.random() < 0.5:
            pieces.append(_silence(voice, int(beat * rng.uniform(0.2, 2))))
    return _performed(pieces, rng, seconds, formants=rng.uniform(0.82, 1.22), harmony=True)


def rapped(voices: Sequence[Voice], rng: np.random.Generator, seconds: float = SECONDS) -> np.ndarray:
    """What they say, each syllable on a sixteenth: float32 (n_samples,) within -1 to 1."""
    sixteenth, shift = FRAMES * 60 / rng.uniform(75, 110) / 4, rng.uniform(0.75, 1.15)
    pieces: list[Voice] = []
    n_steps = 0
    while n_steps * sixteenth < seconds * FRAMES:
        voice = voices[int(rng.integers(len(voices)))]
        for consonant, first, end in voice.syllables():
            start, begun = max(consonant, first - CONSONANT // 2), round(n_steps * sixteenth)
            n_steps += max(1, round((end - start) / rng.uniform(12, 20)))
            frames = np.linspace(start, end - 1, round(n_steps * sixteenth) - begun).astype(int)
            pieces.append(voice.at(frames, voice.pitch[frames] * shift))
    return _performed(pieces, rng, seconds, formants=rng.uniform(0.85, 1.15), harmony=False)


def _melody(rng: np.random.Generator) -> Iterator[float]:
    """MIDI numbers, without end: up and down a scale, within two octaves."""
    scale, lowest = SCALES[int(rng.integers(len(SCALES)))], rng.uniform(LOWEST_NOTE, HIGHEST_NOTE)
    degree = int(rng.integers(0, 8))
    while True:
        degree = int(np.clip(degree + rng.choice(STEPS), 0, 2 * len(scale) - 1))
        octave, place = divmod(degree, len(scale))
        yield lowest + 12 * octave + scale[place]


def _held(start: int, stop: int, length: int) -> np.ndarray:
    """Frames of a syllable as it is drawn out: its beginning as it is, most of it in the middle of its vowel."""
    share = np.linspace(0, 1, length)
    if length > stop - start:
        share = np.where(share < 0.25, share * 1.2, 0.3 + (share - 0.25) * 0.75)
    frames: np.ndarray = np.round(start + (stop - 1 - start) * share)
    return frames


def _note(midi: float, length: int, depth: float, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Hz (length,): slid up to, then held with a vibrato, never quite steady."""
    seconds = np.arange(length) / FRAMES
    vibrato = depth * np.sin(2 * np.pi * rate * seconds) * np.clip((seconds - 0.15) / 0.3, 0, 1)
    unsteady = np.convolve(rng.normal(0, 0.15, length + 7), np.ones(8) / 8, "valid")
    semitones = midi + vibrato + unsteady - rng.uniform(0, 1.5) * np.exp(-seconds / 0.04)
    hertz: np.ndarray = 440 * 2 ** ((semitones - 69) / 12)
    return hertz


def _silence(voice: Voice, length: int) -> Voice:
    shape = (length, voice.envelope.shape[1])
    return Voice(np.zeros(length), np.full(shape, 1e-12), np.ones(shape))


def _performed(
    pieces: Sequence[Voice], rng: np.random.Generator, seconds: float, *, formants: float, harmony: bool
) -> np.ndarray:
    """By one voice, half of the time doubled, or by another in harmony."""
    together = Voice(*(np.concatenate([getattr(piece, part.name) for piece in pieces]) for part in fields(Voice)))
    together = together.with_formants(formants)
    samples, chance = together.samples(), rng.random()
    if harmony and chance < 0.25:
        second = together.samples(float(rng.choice([3, 4, 5, 7, -5, -3])))
        samples = samples + 0.6 * np.roll(second, int(rng.integers(500)))
    elif chance < 0.5:
        double = together.samples(rng.uniform(-0.3, 0.3))
        samples = samples + 0.7 * np.roll(double, int(rng.integers(200, 900)))
    samples = samples[: int(seconds * SAMPLE_RATE)]
    performed: np.ndarray = (samples * (0.9 / max(float(np.abs(samples).max()), 1e-9))).astype(np.float32)
    return performed


def vocal(speech: Sequence[Voice], rng: np.random.Generator) -> np.ndarray:
    """Some of the speech, sung or rapped; what is next to one another is mostly by one speaker."""
    first = int(rng.integers(len(speech)))
    return (rapped if rng.random() < RAPPED else sung)(speech[first : first + PARTS], rng)


def read_vocals(folder: Path) -> list[np.ndarray]:
    """What `singing` made: int16 (n_samples,) each. Raises NothingDoneError where there is nothing."""
    vocals = [as_int16(decode_song(path)) for path in sorted(folder.glob("*.wav"))]
    if not vocals:
        raise NothingDoneError(f"{folder}: no vocals; training.matching.singing makes them")
    return vocals


@click.command()
@click.argument("dataset", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("recordings", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER")
@click.option("--number", type=click.IntRange(min=1), default=1200, show_default=True, help=f"Of {SECONDS} s each.")
@click.option("--seed", type=int, default=31, show_default=True)
def singing(dataset: Path, recordings: Path, out: Path, number: int, seed: int) -> None:
    """Let the speech in DATASET's train split sing in FOLDER, and write songs.csv there, which names the vocals.

    RECORDINGS, the songs.csv of `corpus`, tells which of the songs are speech.
    """
    sources = find_sources(load_prepared(dataset), recordings)
    said = (sources.waveforms.read(shard, first, min(n, SECONDS * SAMPLE_RATE)) for shard, first, n in sources.speech)
    voices = [Voice.of(samples / FULL_SCALE) for samples in tqdm(said, unit="voice", disable=None)]
    speech = [voice for voice in voices if voice.syllables()]
    if not speech:
        raise NothingDoneError(f"{recordings}: none of the speech has a vowel")
    save_drawn(out, "sung", number, seed, partial(vocal, speech))
    click.echo(f"{number} vocals in {out}")


if __name__ == "__main__":
    singing()
