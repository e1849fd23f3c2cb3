"""Snippets that never repeat."""

from pathlib import Path

import numpy as np
import pytest

from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE
from training.dataset.waveforms import Waveforms
from training.matching.snippets import HIGHEST_PEAK, LOWEST_PEAK, N_SAMPLES, NO_MUSIC, snippet
from training.starter.mixes import Sources

pytest.importorskip("torchaudio", reason="needs torchaudio")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """Two songs and a voice, of 30 s each."""
    (tmp_path / "waveforms").mkdir()
    n_samples = 30 * SAMPLE_RATE
    seconds = np.arange(n_samples) / SAMPLE_RATE
    tones = np.concatenate([np.sin(2 * np.pi * hertz * seconds) for hertz in (300, 900, 2000)])
    (tones * FULL_SCALE / 2).astype("<i2").tofile(tmp_path / "waveforms" / "00000.i16")
    places = [(0, index * n_samples, n_samples) for index in range(3)]
    return Sources(Waveforms(tmp_path), places[:2], places[2:], np.array([0.5, 0.5]))


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
