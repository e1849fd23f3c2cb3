"""Snippets that never repeat: songs at other speeds, over one another, under voices that sing or speak, and as a room
or a codec leaves them.

The student and its teachers are given what comes out, so anything may be done to a song, as long as it stays a sound.
"""

from __future__ import annotations

import numpy as np
import torch

from tagger.audio.decode import SAMPLE_RATE
from training.starter.mixes import Sources, amplitude
from training.starter.tones import WAVES, sound

SECONDS = 5
N_SAMPLES = SECONDS * SAMPLE_RATE
NO_MUSIC, SUNG_ALONE = 0.06, 0.03  # shares of the snippets
SUNG_OVER, SPEECH_OVER = 0.60, 0.07  # shares of the music
VOICES = (0.55, 0.35, 0.10)  # shares of the music that is one, two and three songs
SOFTEST = -14.0  # dB of a second or third song, against the first
LOWEST_PEAK, HIGHEST_PEAK = 0.08, 0.97


def snippet(sources: Sources, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """float32 (N_SAMPLES,) within -1 to 1 as 16 bits hold it, and whether it is music."""
    chance = rng.random()
    is_music = bool(chance >= NO_MUSIC)
    if chance < NO_MUSIC:
        samples = _no_music(sources, rng)
    elif chance < NO_MUSIC + SUNG_ALONE:
        samples = sources.sung_voice(rng, N_SAMPLES)
    else:
        samples = _music(sources, rng)
    samples = _altered(samples, rng)
    loudest = rng.uniform(LOWEST_PEAK, HIGHEST_PEAK)
    scaled = samples * np.float32(loudest / max(float(np.abs(samples).max()), 1e-6))
    whole: np.ndarray = np.round(scaled * 32767).astype(np.float32) / np.float32(32768)
    return whole, is_music


def _music(sources: Sources, rng: np.random.Generator) -> np.ndarray:
    samples = sources.music_voice(rng, N_SAMPLES)
    for _ in range(int(rng.choice(len(VOICES), p=VOICES))):
        samples = samples + sources.music_voice(rng, N_SAMPLES) * amplitude(rng.uniform(SOFTEST, 0))
    chance = rng.random()
    if chance < SUNG_OVER:
        samples = samples + sources.sung_voice(rng, N_SAMPLES) * amplitude(rng.uniform(-4, 8))
    elif chance < SUNG_OVER + SPEECH_OVER:
        samples = samples + sources.speech_voice(rng, N_SAMPLES) * amplitude(rng.uniform(-9, 5))
    return samples


def _no_music(sources: Sources, rng: np.random.Generator) -> np.ndarray:
    """Speech, and now and then a bare tone or noise."""
    if rng.random() < 0.6:
        return sources.speech_voice(rng, N_SAMPLES)
    tone = sound([*WAVES, "noise"][int(rng.integers(len(WAVES) + 1))], rng)
    first = int(rng.integers(len(tone) - N_SAMPLES + 1))
    return tone[first : first + N_SAMPLES]


def _altered(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each by its own chance: mastered to be loud, equalised, dull, thin, in a room, in noise."""
    from torchaudio.functional import equalizer_biquad, highpass_biquad, lowpass_biquad

    if rng.random() < 0.25:
        drive = amplitude(rng.uniform(6, 22))
        samples = np.tanh(samples * drive) / drive
    x = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    if rng.random() < 0.3:
        for _ in range(2):
            hertz = float(np.exp(rng.uniform(np.log(80), np.log(6000))))
            x = equalizer_biquad(x, SAMPLE_RATE, hertz, float(rng.uniform(-9, 9)))
    if rng.random() < 0.15:
        x = lowpass_biquad(x, SAMPLE_RATE, float(rng.uniform(1800, 7500)))
    if rng.random() < 0.12:
        x = highpass_biquad(x, SAMPLE_RATE, float(rng.uniform(60, 400)))
    altered: np.ndarray = x.numpy()
    if rng.random() < 0.12:
        altered = _in_a_room(altered, rng)
    if rng.random() < 0.12:
        noise = rng.standard_normal(len(altered), np.float32)
        altered = altered + noise * np.float32(altered.std() * amplitude(rng.uniform(-40, -15)))
    return altered


def _in_a_room(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With an echo of noise that dies away within 0.2 to 1.5 s."""
    n_echo = int(rng.uniform(0.2, 1.5) * SAMPLE_RATE)
    echo = rng.standard_normal(n_echo) * np.exp(-6 * np.arange(n_echo) / n_echo)
    echo[0] = rng.uniform(4, 20)
    n_both = len(samples) + n_echo
    convolved = np.fft.irfft(np.fft.rfft(samples, n_both) * np.fft.rfft(echo / echo[0], n_both), n_both)
    with_echo: np.ndarray = convolved[: len(samples)].astype(np.float32)
    return with_echo
