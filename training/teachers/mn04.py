"""mn04 in torch: a small network that answers the 527 classes of AudioSet in the order of the AST checkpoint.

The 0.98 million parameter MobileNetV3 of Schmid, Koutini and Widmer 2023 ("Efficient large-scale audio tagging via
transformer-to-CNN knowledge distillation"), MIT, mAP .432 on AudioSet, from its published variables (`mn04_as.npz`).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tagger.audio.decode import SAMPLE_RATE

FILE = "mn04_as.npz"
OWN_RATE = 32_000
N_FFT, HOP, FRAME = 1024, 320, 800  # samples
N_MELS, HIGHEST_HZ = 128, 15_000.0
EPSILON = 1e-3  # of its batch norms
N_BLOCKS, FIRST_HARDSWISH = 15, 7  # inverted residual blocks, counted from 1
STRIDES = {2: 2, 4: 2, 7: 2, 13: 2}  # of the blocks; 1 for the others


class Mn04:
    """Waveforms (batch, n_samples) float32 at 16 kHz to logits (batch, 527), float32."""

    def __init__(self, folder: Path) -> None:
        """`folder` has `FILE`, in which each variable is an array of its name in the published checkpoint."""
        with np.load(folder / FILE) as arrays:
            self._v = {name: torch.tensor(arrays[name]) for name in arrays.files}
        self._window = torch.hann_window(FRAME, periodic=False)
        self._banks = _mel_banks()

    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        """What it answers; half of what it takes, from 8 kHz on, is not there."""
        return self.answer(waveforms)[0]

    @torch.inference_mode()
    def answer(self, waveforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (batch, 527) and the embeddings (batch, 384) before its last two layers."""
        from torchaudio.functional import resample

        x = self._convolved(self._log_mel(resample(waveforms, SAMPLE_RATE, OWN_RATE))[:, None], "features.0", 2)
        x = F.hardswish(x)
        for number in range(1, N_BLOCKS + 1):
            x = self._block(x, number)
        embeddings = F.hardswish(self._convolved(x, f"features.{N_BLOCKS + 1}")).mean((2, 3))
        return self._linear(F.hardswish(self._linear(embeddings, "classifier.2")), "classifier.5"), embeddings

    def _log_mel(self, waveforms: torch.Tensor) -> torch.Tensor:
        """(batch, n_samples) at `OWN_RATE` to (batch, N_MELS, n_frames)."""
        emphasised = F.conv1d(waveforms[:, None], torch.tensor([[[-0.97, 1.0]]]))[:, 0]
        spectrum = torch.stft(emphasised, N_FFT, HOP, FRAME, self._window, center=True, return_complex=True)
        return ((self._banks @ spectrum.abs().square() + 1e-5).log() + 4.5) / 5

    def _block(self, x: torch.Tensor, number: int) -> torch.Tensor:
        name, shortcut = f"features.{number}.block", x
        activation = F.hardswish if number >= FIRST_HARDSWISH else F.relu
        part = 0
        if number > 1:  # all but the first widen before the depthwise convolution
            x, part = activation(self._convolved(x, f"{name}.0")), 1
        stride = STRIDES.get(number, 1)
        x, part = activation(self._convolved(x, f"{name}.{part}", stride)), part + 1
        squeeze = f"{name}.{part}.conc_se_layers.0"
        if f"{squeeze}.fc1.weight" in self._v:
            weights = self._linear(F.relu(self._linear(x.mean((2, 3)), f"{squeeze}.fc1")), f"{squeeze}.fc2")
            x, part = x * torch.sigmoid(weights)[:, :, None, None], part + 1
        x = self._convolved(x, f"{name}.{part}")
        return x + shortcut if stride == 1 and x.shape == shortcut.shape else x

    def _convolved(self, x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        """Convolution and batch norm."""
        weight = self._v[f"{name}.0.weight"]
        is_depthwise = weight.shape[1] == 1 and x.shape[1] > 1
        x = F.conv2d(x, weight, None, stride, (weight.shape[-1] - 1) // 2, 1, x.shape[1] if is_depthwise else 1)
        mean, variance = self._v[f"{name}.1.running_mean"], self._v[f"{name}.1.running_var"]
        return F.batch_norm(x, mean, variance, self._v[f"{name}.1.weight"], self._v[f"{name}.1.bias"], eps=EPSILON)

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self._v[f"{name}.weight"], self._v[f"{name}.bias"])


def _mel_banks() -> torch.Tensor:
    """Triangles over the frequencies of a frame, (N_MELS, N_FFT // 2 + 1), as kaldi lays them."""
    highest = 1127.0 * math.log(1 + HIGHEST_HZ / 700.0)
    edges = torch.linspace(0.0, highest, N_MELS + 2, dtype=torch.float64)
    mels = 1127.0 * torch.log(1 + OWN_RATE / N_FFT * torch.arange(N_FFT // 2, dtype=torch.float64) / 700.0)
    up = (mels - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - mels) / (edges[2:] - edges[1:-1])[:, None]
    return F.pad(torch.minimum(up, down).clamp(min=0).float(), (0, 1))  # none reaches the last frequency
