"""LogMel: the log-mel spectrogram that an Audio Spectrogram Transformer was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE

FRAME_SAMPLES = SAMPLE_RATE * 25 // 1000
FRAME_HOP_SAMPLES = SAMPLE_RATE * 10 // 1000
FFT_SAMPLES = 512  # the power of two that holds a frame
PREEMPHASIS = 0.97
LOWEST_HZ, HIGHEST_HZ = 20.0, SAMPLE_RATE / 2
FLOOR = float(np.finfo(np.float32).eps)  # least mel energy, so that silence has a logarithm

# Of a product of 64 frames with 16 filters, 257 bins each at most, OpenBLAS makes no work for several threads, which
# would take twice the time to wait for each other: the cores are busy with other snippets. And what so few frames come
# to stays in the cache of a core.
BLOCK_FRAMES, BAND_MELS = 64, 16

# Mean and half the spread of the log-mel values of AudioSet (YuanGongND/ast, egs/audioset/run.sh).
AUDIOSET_MEAN, AUDIOSET_STD = -4.2677393, 4.5689974


def mels(hz: np.ndarray) -> np.ndarray:
    """Frequencies in Hz on the mel scale (Kaldi, src/feat/mel-computations.h), in the precision they come in."""
    return 1127.0 * np.log(1.0 + hz / 700.0)


def mel_filters(n_mels: int) -> np.ndarray:
    """Kaldi's overlapping triangles, (n_bins, n_mels) float32: power spectra times this are mel energies.

    The triangles are straight on the mel scale and equally high; the Nyquist bin belongs to none. At the low end they
    are narrower than a bin, so a few hold none at all and stay at the floor, as they did in training.
    """
    lowest, highest = mels(np.array([LOWEST_HZ, HIGHEST_HZ])).tolist()
    width = np.float32((highest - lowest) / (n_mels + 1))
    # float32 like Kaldi: at 2840 mel its rounding shows in the logarithm of a filter's edge.
    edges = np.float32(lowest) + width * np.arange(n_mels + 2, dtype=np.float32)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = mels(np.arange(FFT_SAMPLES // 2, dtype=np.float32) * np.float32(SAMPLE_RATE / FFT_SAMPLES))[:, None]
    filters = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clip(0)
    return np.pad(filters, ((0, 1), (0, 0)))


def filter_bands(filters: np.ndarray) -> tuple[tuple[slice, slice], ...]:
    """Blocks (bins, mels) of `filters` that hold all that is not zero; most of the zeros are elsewhere."""
    bands = []
    for first in range(0, filters.shape[1], BAND_MELS):
        mels = slice(first, first + BAND_MELS)
        bins = np.flatnonzero(filters[:, mels].any(axis=1)).tolist() or [0]
        bands.append((slice(bins[0], bins[-1] + 1), mels))
    return tuple(bands)


@dataclass(frozen=True)
class LogMel:
    """Turns a waveform (n_samples,) at 16 kHz, about [-1, 1], into its log-mel (n_frames, n_mels) float32.

    Equal to `transformers.ASTFeatureExtractor`, that is to Kaldi's `compute-fbank-feats` (src/feat/feature-fbank.cc)
    with a Hann window and no dither, then `(log-mel - mean) / (2 * std)`. Waveforms shorter than the input are
    followed by zeros in the log-mel (which are louder than most music, so cut snippets that fill it), longer ones
    are cut.
    """

    n_mels: int = 128
    n_frames: int = 1024
    mean: float = AUDIOSET_MEAN
    std: float = AUDIOSET_STD

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """(n_samples,), float32 or int16 of full scale, to (n_frames, n_mels); ValueError below one frame of 25 ms."""
        if len(waveform) < FRAME_SAMPLES:
            raise ValueError(f"a waveform of {len(waveform)} samples is shorter than a frame of {FRAME_SAMPLES}")
        scale = 1 / FULL_SCALE if waveform.dtype == np.int16 else 1
        waveform = waveform.astype(np.float32) * np.float32(scale)
        frames = np.lib.stride_tricks.sliding_window_view(waveform, FRAME_SAMPLES)[::FRAME_HOP_SAMPLES][: self.n_frames]
        log_mel = np.full((self.n_frames, self.n_mels), -self.mean / (2 * self.std), np.float32)  # zero, normalised
        padded = np.zeros((BLOCK_FRAMES, FFT_SAMPLES), np.float32)
        for first in range(0, len(frames), BLOCK_FRAMES):
            block = frames[first : first + BLOCK_FRAMES]
            self._write_block(block, padded[: len(block)], log_mel[first : first + len(block)])
        return log_mel

    def _write_block(self, frames: np.ndarray, padded: np.ndarray, log_mel: np.ndarray) -> None:
        """Write the `log_mel` (n, n_mels) of frames (n, FRAME_SAMPLES); `padded`, (n, FFT_SAMPLES), is zero around."""
        # The window begins with a zero, so that a frame's first sample counts as the neighbour of its second only.
        centred = frames - frames.mean(axis=1, keepdims=True)
        falls = padded[:, 1:FRAME_SAMPLES]  # as loud as rises
        np.multiply(centred[:, :-1], np.float32(PREEMPHASIS), out=falls)
        falls -= centred[:, 1:]
        falls *= self._window
        spectrum = np.fft.rfft(padded)
        power = np.square(spectrum.real, dtype=np.float32) + np.square(spectrum.imag, dtype=np.float32)
        for bins, mels, filters in self._bands:
            np.matmul(power[:, bins], filters, out=log_mel[:, mels])
        np.log(np.maximum(log_mel, np.float32(FLOOR), out=log_mel), out=log_mel)
        log_mel -= np.float32(self.mean)
        log_mel /= np.float32(2 * self.std)

    @cached_property
    def _window(self) -> np.ndarray:
        return np.hanning(FRAME_SAMPLES)[1:].astype(np.float32)

    @cached_property
    def _bands(self) -> list[tuple[slice, slice, np.ndarray]]:
        filters = mel_filters(self.n_mels)
        return [(bins, mels, np.ascontiguousarray(filters[bins, mels])) for bins, mels in filter_bands(filters)]
