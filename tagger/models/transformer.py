"""Transformer: the forward pass of an Audio Spectrogram Transformer, in the number format its device is fastest in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

#: What each precision multiplies in; "int8" is about the linear layers, and what lies between them is in bf16.
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.bfloat16}

#: Values of `hidden_act`.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}

N_SPECIAL = 2  # tokens that are no patches: the class and the distillation token, which the head reads
LARGEST_INT8, LARGEST_UINT8 = 127, 255
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Architecture:
    """What a config.json says of its network, in its words; what it leaves out is as in transformers' `ASTConfig`.

    ValueError for what no network can be built from.
    """

    num_labels: int = 2
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    patch_size: int = 16
    qkv_bias: bool = True
    frequency_stride: int = 10
    time_stride: int = 10
    max_length: int = 1024
    num_mel_bins: int = 128

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and not (type(value) is int and value > 0):
                raise ValueError(f"{field.name} is {value!r}, which is no count")
        epsilon = self.layer_norm_eps
        if type(epsilon) not in (int, float) or not 0 <= epsilon < math.inf:
            raise ValueError(f"layer_norm_eps is {epsilon!r}, which is no small number")
        if type(self.qkv_bias) is not bool:
            raise ValueError(f"qkv_bias is {self.qkv_bias!r}, neither true nor false")
        if self.hidden_act not in list(ACTIVATIONS):
            raise ValueError(f"hidden_act is {self.hidden_act!r}, none of {', '.join(ACTIVATIONS)}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"{self.num_attention_heads} attention heads do not divide a width of {self.hidden_size}")
        if self.patch_size > min(self.num_mel_bins, self.max_length):
            raise ValueError(f"a patch of {self.patch_size} does not fit {self.max_length} x {self.num_mel_bins}")


def count_patches(architecture: Architecture) -> int:
    """Patches that an input is cut into."""
    patch, n_mels, n_frames = architecture.patch_size, architecture.num_mel_bins, architecture.max_length
    n_mel_patches = (n_mels - patch) // architecture.frequency_stride + 1
    n_time_patches = (n_frames - patch) // architecture.time_stride + 1
    return n_mel_patches * n_time_patches


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
    def shapes(cls, architecture: Architecture) -> dict[str, torch.Size]:
        """The weights it needs: their names and shapes."""
        with torch.device("meta"):
            return {name: weight.shape for name, weight in cls(architecture).state_dict().items()}

    @classmethod
    def of(cls, architecture: Architecture, weights: Mapping[str, torch.Tensor], precision: str) -> Transformer:
        """One with these float32 weights, which stay as they are, that multiplies in `precision` (of `DTYPES`)."""
        with torch.device("meta"):
            transformer = cls(architecture)
        transformer.load_state_dict(weights, assign=True)
        transformer.patches.to(DTYPES[precision])
        for module in transformer.modules():
            if isinstance(module, Layer):
                module.multiply_in(precision)
        return transformer

    def forward(self, log_mels: torch.Tensor) -> torch.Tensor:
        """(batch, n_frames, n_mels) to (batch, n_outputs)."""
        images = log_mels.transpose(1, 2)[:, None].to(self.patches.weight.dtype)
        patches = self.patches(images).flatten(2).transpose(1, 2)
        special = torch.cat([self.class_token, self.distillation_token], dim=1).expand(len(images), -1, -1)
        hidden = torch.cat([special, patches], dim=1) + self.positions
        *layers, last = self.layers
        for layer in layers:
            hidden = layer(hidden, hidden.shape[1])
        pooled = self.norm(last(hidden, N_SPECIAL)).mean(dim=1)
        logits: torch.Tensor = self.head(self.head_norm(pooled))
        return logits


class Layer(nn.Module):
    """Every token classifies all tokens, then goes through an MLP of its own."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width, inner = architecture.hidden_size, architecture.intermediate_size
        bias, epsilon = architecture.qkv_bias, architecture.layer_norm_eps
        self.queries, self.keys, self.values = (nn.Linear(width, width, bias=bias) for _ in range(3))
        self.merge, self.widen, self.narrow = nn.Linear(width, width), nn.Linear(width, inner), nn.Linear(inner, width)
        self.before, self.after = nn.LayerNorm(width, epsilon), nn.LayerNorm(width, epsilon)
        self.activation, self.n_heads = ACTIVATIONS[architecture.hidden_act], architecture.num_attention_heads
        self.dtype = torch.float32

    def multiply_in(self, precision: str) -> None:
        """Convert the matrices, whose weights are in float32, to a precision (a key of `DTYPES`)."""
        self.dtype = DTYPES[precision]
        for name, module in list(self.named_children()):
            if isinstance(module, nn.Linear):
                setattr(self, name, Int8Linear(module) if precision == "int8" else module.to(self.dtype))

    def forward(self, hidden: torch.Tensor, n_kept: int) -> torch.Tensor:
        """(batch, n_tokens, width) to (batch, n_kept, width), what becomes of the first `n_kept` tokens."""
        normed = self.before(hidden).to(self.dtype)
        projected = self.queries(normed[:, :n_kept]), self.keys(normed), self.values(normed)
        heads = (each.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for each in projected)
        hidden = hidden[:, :n_kept] + self.merge(attend(*heads).transpose(1, 2).flatten(2))
        normed = self.after(hidden).to(self.dtype)
        return hidden + self.narrow(self.activation(self.widen(normed)))


def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """What each token classifies, (batch, n_heads, n_tokens, head_width) like `queries`."""
    if queries.device.type != "cpu" or queries.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(queries, keys, values)
    # The fused attention of torch multiplies bf16 no faster than float32 on a CPU. One head at a time, whose scores
    # stay in the cache, takes two thirds of its time.
    scaled = queries * queries.shape[-1] ** -0.5
    heads = zip(*(each.flatten(0, 1) for each in (scaled, keys, values)), strict=True)
    return torch.stack([(query @ key.T).softmax(-1) @ value for query, key, value in heads]).view_as(queries)


class Int8Linear(nn.Module):
    """A linear layer, on the CPU only, that multiplies int8 weights with uint8 inputs.

    Every output has a scale for its weights, every snippet one for its inputs, so that its logits do not depend on
    what else is in the batch. oneDNN does it by the operation that the compiler of torch emits; the quantized layers
    of torch itself take 1.3 times as long.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.scales = (weight.abs().amax(dim=1) / LARGEST_INT8).clamp_min(TINY)
        self.zeros = torch.zeros(len(weight), dtype=torch.long)
        levels = (weight / self.scales[:, None]).round().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(levels, None)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(batch, n_tokens, n_inputs) to (batch, n_tokens, n_outputs) in bf16."""
        return torch.stack([self._quantize_and_multiply(rows.float()) for rows in inputs])

    def _quantize_and_multiply(self, rows: torch.Tensor) -> torch.Tensor:
        lowest, highest = (float(each) for each in rows.aminmax())
        lowest, highest = min(lowest, 0.0), max(highest, 0.0)  # zero is a level
        scale = max((highest - lowest) / LARGEST_UINT8, TINY)
        zero = round(-lowest / scale)
        quantized = torch.quantize_per_tensor(rows, scale, zero, torch.quint8)
        # The bytes themselves: `int_repr` copies them, in more time than it took to make them.
        levels = torch.empty(0, dtype=torch.uint8).set_(quantized.untyped_storage()).view(rows.shape)
        return self.multiply(levels, scale, zero)

    def multiply(self, levels: torch.Tensor, scale: float, zero: int) -> torch.Tensor:
        """`scale * (levels - zero)`, levels being uint8 (n_tokens, n_inputs), to (n_tokens, n_outputs) in bf16."""
        product: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            levels, scale, zero, self.weight, self.scales, self.zeros, self.bias, 1.0, 0, torch.bfloat16, "none", [], ""
        )
        return product
