"""LogMel: the log-mel spectrogram an Audio Spectrogram Transformer was trained on, batched, on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tagger.audio.decode import SAMPLE_RATE

FRAME_SAMPLES = SAMPLE_RATE * 25 // 1000
FRAME_HOP_SAMPLES = SAMPLE_RATE * 10 // 1000
FFT_SAMPLES = 512  # the power of two that holds a frame
N_BANDS = 4  # more would save no more time
PREEMPHASIS = 0.97
LOWEST_HZ, HIGHEST_HZ = 20.0, SAMPLE_RATE / 2
FLOOR = torch.finfo(torch.float32).eps  # least mel energy, so that silence has a logarithm

# Mean and half the spread of the log-mel values of AudioSet (YuanGongND/ast, egs/audioset/run.sh).
AUDIOSET_MEAN, AUDIOSET_STD = -4.2677393, 4.5689974


def mels(hz: torch.Tensor) -> torch.Tensor:
    """Frequencies in Hz on the mel scale (Kaldi, src/feat/mel-computations.h)."""
    return 1127.0 * (1.0 + hz / 700.0).log()


def mel_filters(n_mels: int) -> torch.Tensor:
    """Kaldi's overlapping triangles, (n_bins, n_mels): power spectra times this are mel energies.

    The triangles are straight on the mel scale and equally high; the Nyquist bin belongs to none. At the low end they
    are narrower than a bin, so a few hold none at all and stay at the floor, as they did in training.
    """
    lowest, highest = mels(torch.tensor([LOWEST_HZ, HIGHEST_HZ], dtype=torch.float64)).tolist()
    width = (highest - lowest) / (n_mels + 1)
    # float32 like Kaldi: at 2840 mel its rounding shows in the logarithm of a filter's edge.
    edges = lowest + width * torch.arange(n_mels + 2, dtype=torch.float32)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = mels(SAMPLE_RATE / FFT_SAMPLES * torch.arange(FFT_SAMPLES // 2, dtype=torch.float32))[:, None]
    filters = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp_min(0.0)
    return F.pad(filters, (0, 0, 0, 1))


def filter_bands(filters: torch.Tensor) -> tuple[tuple[slice, slice], ...]:
    """Blocks (bins, mels) of `filters` that hold all that is not zero, three quarters of the zeros being elsewhere."""
    n_mels, bands = filters.shape[1], []
    width = -(-n_mels // N_BANDS)
    for first in range(0, n_mels, width):
        mels = slice(first, first + width)
        bins = filters[:, mels].any(dim=1).nonzero().flatten().tolist() or [0]
        bands.append((slice(bins[0], bins[-1] + 1), mels))
    return tuple(bands)


class LogMel(nn.Module):
    """Turns waveforms (batch, n_samples) at 16 kHz, about [-1, 1], into log-mels (batch, n_frames, n_mels).

    Equal to `transformers.ASTFeatureExtractor`, that is to Kaldi's `compute-fbank-feats` (src/feat/feature-fbank.cc)
    with a Hann window and no dither, then `(log-mel - mean) / (2 * std)`. Waveforms shorter than the input are
    followed by zeros in the log-mel (which are louder than most music, so cut snippets that fill it), longer ones
    are cut. Computed in float32 even under autocast: bfloat16 would cost three digits.
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(
        self, n_mels: int = 128, n_frames: int = 1024, mean: float = AUDIOSET_MEAN, std: float = AUDIOSET_STD
    ) -> None:
        super().__init__()
        self.n_frames, self.mean, self.std = n_frames, mean, std
        filters = mel_filters(n_mels)
        self.register_buffer("window", torch.hann_window(FRAME_SAMPLES, periodic=False), persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        self.bands = filter_bands(filters)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """(batch, n_samples) float32 to (batch, n_frames, n_mels); ValueError below one frame of 25 ms."""
        if waveforms.shape[-1] < FRAME_SAMPLES:
            raise ValueError(f"a waveform of {waveforms.shape[-1]} samples is shorter than a frame of {FRAME_SAMPLES}")
        with torch.autocast(waveforms.device.type, enabled=False):
            if waveforms.device.type == "cpu" and len(waveforms) > 1:  # one at a time, its frames stay in the cache
                return torch.cat([self(waveform) for waveform in waveforms.split(1)])
            frames = waveforms.unfold(-1, FRAME_SAMPLES, FRAME_HOP_SAMPLES)[:, : self.n_frames]
            frames = frames - frames.mean(-1, keepdim=True)
            # The window begins with a zero, so that a frame's first sample counts as the neighbour of its second only.
            padded = frames.new_zeros(*frames.shape[:-1], FFT_SAMPLES)
            falls = padded[..., 1:FRAME_SAMPLES]  # as loud as rises
            torch.mul(frames[..., :-1], PREEMPHASIS, out=falls).sub_(frames[..., 1:]).mul_(self.window[1:])
            spectrum = torch.fft.rfft(padded)
            power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
            energies = torch.cat([power[..., bins] @ self.filters[bins, mels] for bins, mels in self.bands], dim=-1)
            log_mel = energies.clamp_min_(FLOOR).log_().sub_(self.mean).div_(2 * self.std)
            silence = -self.mean / (2 * self.std)  # zero, normalised
            return F.pad(log_mel, (0, 0, 0, self.n_frames - log_mel.shape[1]), value=silence)
