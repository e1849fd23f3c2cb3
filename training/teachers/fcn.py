"""FCN in torch: a convolutional network that answers 50 tags of the Million Song Dataset, the same as musicnn's.

Of Choi, Fazekas and Sandler 2016, as trained by Won et al. 2020 ("Evaluation of CNN-based automatic music tagging
models"), from its published variables (`fcn_msd.npz`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tagger.audio.decode import SAMPLE_RATE

FILE = "fcn_msd.npz"
N_FFT, HOP = 512, 256  # samples
N_MELS = 96
EPSILON = 1e-5  # of its batch norms
POOLS = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4))  # mels and frames, after each layer
COLUMN_FRAMES = 64  # that its first three layers make one column of
#: It learned from 29 s, of which its last layers see 28 columns. Of 5 s they would see five, and answer nearly the same
#: whatever they are given; so they are given these as often as 29 s have them, as if the snippet went on and on.
N_REPEATS = 5


class FcnMsd:
    """Waveforms (batch, n_samples) float32 at 16 kHz, about 5 s, to logits (batch, 50) of musicnn.TAGS."""

    def __init__(self, folder: Path) -> None:
        """`folder` has `FILE`, in which each variable is an array of its name in the published checkpoint."""
        torch.set_flush_denormal(True)  # else it takes several times as long
        with np.load(folder / FILE) as arrays:
            self._v = {name: torch.tensor(arrays[name]) for name in arrays.files}
        self._window = torch.hann_window(N_FFT)
        self._banks = _mel_banks()

    @torch.inference_mode()
    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        """What it answers."""
        x = self._norm(self._log_mel(_whole_columns(waveforms))[:, None], "spec_bn")
        for number, pool in enumerate(POOLS, 1):
            if number == len(POOLS) - 1:
                x = torch.cat([x] * N_REPEATS, dim=3)
            weight, bias = (self._v[f"layer{number}.conv.{part}"] for part in ("weight", "bias"))
            x = F.relu(self._norm(F.conv2d(x, weight, bias, 1, 1), f"layer{number}.bn"))
            x = F.max_pool2d(x, pool) if number < len(POOLS) else x.amax((2, 3))
        return F.linear(x, self._v["dense.weight"], self._v["dense.bias"])

    def _log_mel(self, waveforms: torch.Tensor) -> torch.Tensor:
        """(batch, n_samples) to (batch, N_MELS, n_frames), in decibels."""
        power = torch.stft(waveforms, N_FFT, HOP, window=self._window, return_complex=True).abs().square()
        return 10 * torch.log10((self._banks @ power).clamp(min=1e-10))

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance, weight, bias = (
            self._v[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, weight, bias, eps=EPSILON)


def _whole_columns(waveforms: torch.Tensor) -> torch.Tensor:
    """The waveforms, followed by their beginning, so that they fill a whole number of columns."""
    n_missing = -waveforms.shape[1] % (COLUMN_FRAMES * HOP)
    return torch.cat([waveforms, waveforms[:, :n_missing]], dim=1)


def _mel_banks() -> torch.Tensor:
    """Triangles over the frequencies of a frame, (N_MELS, N_FFT // 2 + 1), of equal height (HTK's mel scale)."""
    highest = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, N_MELS + 2) / 2595) - 1)
    ramps = edges[:, None] - np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    steps = np.diff(edges)[:, None]
    banks = np.maximum(0, np.minimum(-ramps[:-2] / steps[:-1], ramps[2:] / steps[1:]))
    return torch.tensor(banks, dtype=torch.float32)
