"""Speech made to sing and to rap. What comes out is measured by spectra, which share nothing with WORLD."""

import csv
import wave
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE
from training.dataset.waveforms import Waveforms
from training.matching import singing as module
from training.matching.singing import FRAMES, SCALES, Voice, rapped, read_vocals, singing, sung
from training.starter.mixes import Sources

pytest.importorskip("pyworld", reason="needs pyworld-prebuilt")

VOWEL, PAUSE = 0.3, 0.2  # seconds of each syllable


def buzz(hertz: np.ndarray) -> np.ndarray:
    """Harmonics of a gliding pitch, those about 700 Hz the loudest; 0 Hz is noise."""
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    voiced = sum(np.sin(k * phase) * np.exp(-(((k * hertz - 700) / 500) ** 2)) for k in range(1, 30))
    noise = np.random.default_rng(0).normal(0, 0.003, len(hertz))
    return 0.2 * np.where(hertz > 0, voiced, 0) + noise


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Ten syllables, each of which falls from 140 to 100 Hz."""
    syllable = np.r_[np.linspace(140, 100, int(VOWEL * SAMPLE_RATE)), np.zeros(int(PAUSE * SAMPLE_RATE))]
    return buzz(np.tile(syllable, 10))


@pytest.fixture(scope="module")
def voice(speech: np.ndarray) -> Voice:
    return Voice.of(speech)


def spectrum(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hz and magnitudes."""
    hertz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    return hertz, np.abs(np.fft.rfft(samples * np.hanning(len(samples))))


def lowest_tone(samples: np.ndarray) -> float:
    """Hz of the fundamental: where an even comb of harmonics finds most."""
    hertz, magnitudes = spectrum(samples)
    tones = np.arange(70, 700, 0.5)
    found = [np.interp(tone * np.arange(1, 6), hertz, magnitudes).sum() for tone in tones]
    good = np.flatnonzero(np.array(found) > 0.85 * max(found))
    return float(tones[good[-1]])  # the highest: half of a tone has all its harmonics, too


def test_syllables_are_what_swings(voice: Voice) -> None:
    syllables = voice.syllables()
    assert len(syllables) == 10
    for number, (consonant, first, end) in enumerate(syllables):
        assert first == pytest.approx(number * (VOWEL + PAUSE) * FRAMES, abs=5)
        assert end - first == pytest.approx(VOWEL * FRAMES, abs=8)
        assert first - 15 <= consonant <= first


@pytest.mark.parametrize("hertz", [150.0, 220.0, 330.0])
def test_a_vowel_is_held_at_another_pitch(voice: Voice, hertz: float) -> None:
    _, first, end = voice.syllables()[3]
    frames = np.linspace(first + 5, end - 5, 2 * FRAMES).astype(int)
    samples = voice.at(frames, np.full(len(frames), hertz)).samples()
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE, rel=0.01)
    assert lowest_tone(samples[SAMPLE_RATE // 2 : -SAMPLE_RATE // 2]) == pytest.approx(hertz, abs=2)


def test_formants_move_and_semitones_do(voice: Voice) -> None:
    _, first, end = voice.syllables()[3]
    frames = np.linspace(first + 5, end - 5, FRAMES).astype(int)
    held = voice.at(frames, np.full(FRAMES, 200.0))

    def middle(samples: np.ndarray) -> float:
        hertz, magnitudes = spectrum(samples)
        return float((hertz * magnitudes**2).sum() / (magnitudes**2).sum())

    assert middle(held.with_formants(1.2).samples()) / middle(held.samples()) == pytest.approx(1.2, abs=0.1)
    assert lowest_tone(held.samples(7)) == pytest.approx(200 * 2 ** (7 / 12), abs=3)


def test_a_melody_keeps_to_its_scale_and_stays_within_two_octaves() -> None:
    for seed in range(20):
        notes = np.array(list(islice(module._melody(np.random.default_rng(seed)), 200)))
        steps = {int(step) % 12 for step in np.round(notes - notes.min())}
        assert any(
            {(note - scale[0]) % 12 for note in scale} >= {(s + r) % 12 for s in steps}
            for scale in SCALES
            for r in scale
        )
        assert np.ptp(notes) <= 24 and len(set(notes)) > 4


@pytest.mark.parametrize("make", [sung, rapped])
def test_a_vocal_is_what_was_asked_for(voice: Voice, make: type) -> None:
    vocals = [make([voice], np.random.default_rng(seed), 4.0) for seed in (1, 1, 2)]
    for vocal in vocals:
        assert vocal.shape == (4 * SAMPLE_RATE,) and vocal.dtype == np.float32
        assert np.abs(vocal).max() == pytest.approx(0.9, abs=1e-6)
        assert np.square(vocal).mean() > 1e-3
    assert (vocals[0] == vocals[1]).all() and (vocals[0] != vocals[2]).any()


def test_singing_holds_its_notes_where_speech_falls(voice: Voice, speech: np.ndarray) -> None:
    """In most windows of .1 s a single pitch is as good as a falling one: harmonics do not smear."""

    def sharpness(samples: np.ndarray) -> float:
        found = []
        for first in range(0, len(samples) - 3200, 3200):
            part = samples[first : first + 3200]
            hertz, magnitudes = spectrum(part)
            near = magnitudes[(hertz > 500) & (hertz < 1100)]
            if np.square(part).mean() > 1e-3:
                found.append(near.max() / near.mean())
        return float(np.median(found))

    vocal = np.concatenate([sung([voice], np.random.default_rng(seed)) for seed in range(4)])
    assert sharpness(vocal) > 1.2 * sharpness(speech)


def test_rapped_syllables_begin_on_sixteenths(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    at = Voice.at
    monkeypatch.setattr(
        Voice, "at", lambda self, frames, pitch: (lengths.append(len(frames)), at(self, frames, pitch))[1]
    )
    rapped([voice], np.random.default_rng(3), 6.0)
    sixteenth = FRAMES * 60 / np.random.default_rng(3).uniform(75, 110) / 4
    steps = np.cumsum(lengths) / sixteenth
    assert len(lengths) > 8
    assert np.abs(steps - np.round(steps)).max() * sixteenth < 0.51


def test_the_command_writes_vocals_and_names_them(
    tmp_path: Path, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = (speech * 32767).astype("<i2")
    (tmp_path / "waveforms").mkdir()
    samples.tofile(tmp_path / "waveforms" / "00000.i16")
    sources = Sources(Waveforms(tmp_path), [], [(0, 0, len(samples))], np.array([]))
    monkeypatch.setattr(module, "load_prepared", lambda folder: None)
    monkeypatch.setattr(module, "find_sources", lambda prepared, *tables: sources)
    (tmp_path / "songs.csv").touch()
    words = [tmp_path, tmp_path / "songs.csv", "--out", tmp_path / "sung", "--number", 2]
    done = CliRunner().invoke(singing, list(map(str, words)))
    assert done.exit_code == 0, done.output
    with (tmp_path / "sung" / "songs.csv").open() as file:
        assert [(row["path"], row["genre"], row["split"]) for row in csv.DictReader(file)] == [
            ("00000.wav", "", "train"),
            ("00001.wav", "", "train"),
        ]
    with wave.open(str(tmp_path / "sung" / "00001.wav")) as vocal:
        assert (vocal.getframerate(), vocal.getnframes()) == (SAMPLE_RATE, 10 * SAMPLE_RATE)
    vocals = read_vocals(tmp_path / "sung")
    assert [vocal.shape for vocal in vocals] == [(10 * SAMPLE_RATE,)] * 2 and np.abs(vocals[1] / FULL_SCALE).max() > 0.8
