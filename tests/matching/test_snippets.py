"""Snippets that never repeat."""

from pathlib import Path

import numpy as np
import pytest

from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE
from training.dataset.waveforms import Waveforms
from training.matching import snippets as module
from training.matching.snippets import (
    HIGHEST_PEAK,
    LOWEST_PEAK,
    N_SAMPLES,
    NO_MUSIC,
    SUNG_ALONE,
    SUNG_OVER,
    snippet,
)
from training.starter.mixes import Sources

pytest.importorskip("torchaudio", reason="needs torchaudio")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """Two songs and a voice, of 30 s each, and a vocal: each a tone of its own."""
    (tmp_path / "waveforms").mkdir()
    n_samples = 30 * SAMPLE_RATE
    seconds = np.arange(n_samples) / SAMPLE_RATE
    tones = np.concatenate([np.sin(2 * np.pi * hertz * seconds) for hertz in (300, 900, 2000)])
    (tones * FULL_SCALE / 2).astype("<i2").tofile(tmp_path / "waveforms" / "00000.i16")
    places = [(0, index * n_samples, n_samples) for index in range(3)]
    sung = (np.sin(2 * np.pi * 5000 * seconds[: 10 * SAMPLE_RATE]) * FULL_SCALE / 2).astype(np.int16)
    return Sources(Waveforms(tmp_path), places[:2], places[2:], np.array([0.5, 0.5]), [sung])


def test_a_snippet_is_a_sound_of_16_bits(sources: Sources) -> None:
    for seed in range(20):
        samples, _ = snippet(sources, np.random.default_rng(seed))
        assert samples.shape == (N_SAMPLES,) and samples.dtype == np.float32
        assert LOWEST_PEAK - 0.001 < np.abs(samples).max() < HIGHEST_PEAK + 0.001
        assert (samples * 32768 == np.round(samples * 32768)).all()


def test_a_seed_gives_the_same_snippet_and_another_another(sources: Sources) -> None:
    first, again, other = (snippet(sources, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_some_are_no_music(sources: Sources) -> None:
    n_no_music = sum(not snippet(sources, np.random.default_rng([3, seed]))[1] for seed in range(200))
    assert 200 * NO_MUSIC / 3 < n_no_music < 200 * NO_MUSIC * 3


def test_most_music_is_sung_over(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is between 3.9 and 6.6 kHz, where nothing else is: a tone of 5 kHz at 0.8 to 1.25 of its speed."""
    monkeypatch.setattr(module, "_altered", lambda samples, rng: samples)
    n_music = n_sung = 0
    for seed in range(200):
        samples, is_music = snippet(sources, np.random.default_rng([4, seed]))
        power = np.square(np.abs(np.fft.rfft(samples)))
        hertz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
        n_music += is_music
        n_sung += is_music and power[(hertz > 3900) & (hertz < 6600)].sum() > 0.02 * power.sum()
    share = (SUNG_ALONE + (1 - NO_MUSIC - SUNG_ALONE) * SUNG_OVER) / (1 - NO_MUSIC)
    assert n_sung / n_music == pytest.approx(share, abs=0.12)
