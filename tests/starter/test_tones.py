"""Sounds that are no music, made for the starter to be unsure of."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tagger.audio.decode import SAMPLE_RATE, decode
from training.starter.corpus import NO_MUSIC
from training.starter.labels import read_songs
from training.starter.tones import HIGHEST_HZ, LOWEST_HZ, SECONDS, WAVES, sound, tones


@pytest.mark.parametrize("kind", [*WAVES, "noise"])
def test_a_sound_is_a_minute_and_never_clips(kind: str) -> None:
    for seed in range(6):
        samples = sound(kind, np.random.default_rng(seed))
        assert samples.shape == (SECONDS * SAMPLE_RATE,)
        assert 0.04 < np.abs(samples).max() <= 0.9


@pytest.mark.parametrize("kind", [kind for kind in WAVES if kind != "pulse"])  # the fundamental of a pulse is weak
def test_a_tone_sounds_where_it_should(kind: str) -> None:
    loudest = []
    for seed in range(12):
        spectrum = np.abs(np.fft.rfft(sound(kind, np.random.default_rng(seed))))
        loudest.append(spectrum[50 * SECONDS // 2 :].argmax() / SECONDS + 25)  # above 25 Hz: no beat of the beeps
    assert all(LOWEST_HZ / 2.1 < hertz < HIGHEST_HZ * 2.1 for hertz in loudest)
    assert len(set(np.round(loudest))) > 9


def test_noise_has_no_tone() -> None:
    spectrum = np.abs(np.fft.rfft(sound("noise", np.random.default_rng(0))))
    octave = spectrum[500 * SECONDS : 1000 * SECONDS]
    assert octave.max() < 6 * octave.mean()


def test_the_command_makes_the_same_songs_each_time_and_says_that_they_are_no_music(tmp_path: Path) -> None:
    for name in ("a", "b"):
        done = CliRunner().invoke(tones, [str(tmp_path / name), "--number", "7"])
        assert done.exit_code == 0, done.output
    songs = list(read_songs([tmp_path / "a" / "songs.csv"]))
    assert [(song.genre, song.split) for song in songs] == [(NO_MUSIC, "train")] * 7
    assert len({song.album for song in songs}) == 7  # no two are taken for one record
    for song in songs:
        assert song.path.read_bytes() == (tmp_path / "b" / song.path.name).read_bytes()
        assert len(decode(song.path, 5).waveforms) == 5
