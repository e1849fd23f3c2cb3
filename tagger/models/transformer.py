"""Transformer: an Audio Spectrogram Transformer in torch, log-mel included, for GPUs and for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tagger.models.architecture import N_SPECIAL, Architecture, count_patches
from tagger.models.features import (
    AUDIOSET_MEAN,
    AUDIOSET_STD,
    FFT_SAMPLES,
    FLOOR,
    FRAME_HOP_SAMPLES,
    FRAME_SAMPLES,
    PREEMPHASIS,
    mel_filters,
)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}


class TorchLogMel(nn.Module):
    """`features.LogMel` in torch: waveforms (batch, n_samples) to log-mels (batch, n_frames, n_mels), on any device.

    Computed in float32 even under autocast: bfloat16 would cost three digits.
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(
        self, n_mels: int = 128, n_frames: int = 1024, mean: float = AUDIOSET_MEAN, std: float = AUDIOSET_STD
    ) -> None:
        super().__init__()
        self.n_frames, self.mean, self.std = n_frames, mean, std
        self.register_buffer("window", torch.hann_window(FRAME_SAMPLES, periodic=False), persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel_filters(n_mels)), persistent=False)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """(batch, n_samples) float32 to (batch, n_frames, n_mels); ValueError below one frame of 25 ms."""
        if waveforms.shape[-1] < FRAME_SAMPLES:
            raise ValueError(f"a waveform of {waveforms.shape[-1]} samples is shorter than a frame of {FRAME_SAMPLES}")
        with torch.autocast(waveforms.device.type, enabled=False):
            frames = waveforms.unfold(-1, FRAME_SAMPLES, FRAME_HOP_SAMPLES)[:, : self.n_frames]
            frames = frames - frames.mean(-1, keepdim=True)
            # The window begins with a zero, so that a frame's first sample counts as the neighbour of its second only.
            rises = frames[..., 1:] - PREEMPHASIS * frames[..., :-1]
            spectrum = torch.fft.rfft(F.pad(rises * self.window[1:], (1, FFT_SAMPLES - FRAME_SAMPLES)))
            power = spectrum.real.square() + spectrum.imag.square()
            log_mel = (power @ self.filters).clamp_min(FLOOR).log().sub(self.mean).div(2 * self.std)
            silence = -self.mean / (2 * self.std)  # zero, normalised
            return F.pad(log_mel, (0, 0, 0, self.n_frames - log_mel.shape[1]), value=silence)


class Transformer(nn.Module):
    """Turns log-mels (batch, n_frames, n_mels) into logits (batch, n_outputs), both float32.

    It answers what `ASTForAudioClassification` of transformers answers, in less time: weights are converted once
    instead of at every call, and in the last layer only the two tokens that the head reads are computed. The sum that
    runs through the layers, its norms and the head are in float32 whatever the precision.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width, epsilon = architecture.hidden_size, architecture.layer_norm_eps
        strides = architecture.frequency_stride, architecture.time_stride
        self.patches = nn.Conv2d(1, width, architecture.patch_size, strides)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, N_SPECIAL + count_patches(architecture), width))
        self.layers = nn.ModuleList(Layer(architecture) for _ in range(architecture.num_hidden_layers))
        self.norm, self.head_norm = nn.LayerNorm(width, epsilon), nn.LayerNorm(width, epsilon)
        self.head = nn.Linear(width, architecture.num_labels)

    @classmethod
    def of(cls, architecture: Architecture, weights: Mapping[str, np.ndarray], precision: str) -> Transformer:
        """One with these float32 weights, which stay as they are, that multiplies in `precision` (of `DTYPES`)."""
        with torch.device("meta"):
            transformer = cls(architecture)
        own = {name: torch.tensor(weights[name]) for name in transformer.state_dict()}
        transformer.load_state_dict(own, assign=True)
        for module in transformer.modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and module is not transformer.head:
                module.to(DTYPES[precision])
        return transformer

    def forward(self, log_mels: torch.Tensor) -> torch.Tensor:
        """(batch, n_frames, n_mels) to (batch, n_outputs)."""
        logits: torch.Tensor = self.head(self.embed(log_mels))
        return logits

    def embed(self, log_mels: torch.Tensor) -> torch.Tensor:
        """(batch, n_frames, n_mels) to the embeddings that the logits are linear in, (batch, width) float32."""
        images = log_mels.transpose(1, 2)[:, None].to(self.patches.weight.dtype)
        patches = self.patches(images).flatten(2).transpose(1, 2)
        special = torch.cat([self.class_token, self.distillation_token], dim=1).expand(len(images), -1, -1)
        hidden = torch.cat([special, patches], dim=1) + self.positions
        *layers, last = self.layers
        for layer in layers:
            hidden = layer(hidden, hidden.shape[1])
        embeddings: torch.Tensor = self.head_norm(self.norm(last(hidden, N_SPECIAL)).mean(dim=1))
        return embeddings


class Layer(nn.Module):
    """A pre-norm encoder block: self-attention, then an MLP, each added to what it was given."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width, inner = architecture.hidden_size, architecture.intermediate_size
        bias, epsilon = architecture.qkv_bias, architecture.layer_norm_eps
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width, bias=bias) for _ in range(3))
        self.out_proj = nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, epsilon), nn.LayerNorm(width, epsilon)
        self.activation, self.n_heads = ACTIVATIONS[architecture.hidden_act], architecture.num_attention_heads

    def forward(self, hidden: torch.Tensor, n_kept: int) -> torch.Tensor:
        """(batch, n_tokens, width) to (batch, n_kept, width), what becomes of the first `n_kept` tokens."""
        dtype = self.fc1.weight.dtype
        normed = self.norm1(hidden).to(dtype)
        projected = self.q_proj(normed[:, :n_kept]), self.k_proj(normed), self.v_proj(normed)
        heads = (each.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for each in projected)
        attended = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        hidden = hidden[:, :n_kept] + self.out_proj(attended)
        added: torch.Tensor = self.fc2(self.activation(self.fc1(self.norm2(hidden).to(dtype))))
        return hidden + added
