"""Transformer: the forward pass of an Audio Spectrogram Transformer, in the number format its device is fastest in."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from transformers import ASTForAudioClassification

#: What each precision multiplies in; "int8" is about the linear layers, and what lies between them is in bf16.
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.bfloat16}

LARGEST_INT8, LARGEST_UINT8 = 127, 255
TINY = torch.finfo(torch.float32).tiny

Converted = TypeVar("Converted", bound=nn.Module)


class Transformer(nn.Module):
    """Turns log-mels (batch, n_frames, n_mels) into logits (batch, n_outputs), both float32.

    It is the `ASTForAudioClassification` whose weights it takes, computed in less time: weights are converted once
    instead of at every call, and in the last layer only the two tokens that the head reads are computed. The sum that
    runs through the layers, its norms and the head are in float32 whatever the precision (a key of `DTYPES`).
    """

    def __init__(self, ast: ASTForAudioClassification, precision: str) -> None:
        super().__init__()
        body: Any = ast.audio_spectrogram_transformer
        embeddings = body.embeddings
        self.patches = convert(embeddings.patch_embeddings.projection, DTYPES[precision])
        tokens = torch.cat([embeddings.cls_token, embeddings.distillation_token], dim=1)
        self.tokens = nn.Parameter(tokens, requires_grad=False)  # those that the head reads
        self.positions = nn.Parameter(embeddings.position_embeddings, requires_grad=False)
        self.layers = nn.ModuleList(Layer(layer, precision) for layer in body.layers)
        self.norm, self.head = body.layernorm, ast.classifier

    def forward(self, log_mels: torch.Tensor) -> torch.Tensor:
        """(batch, n_frames, n_mels) to (batch, n_outputs)."""
        images = log_mels.transpose(1, 2)[:, None].to(self.patches.weight.dtype)
        patches = self.patches(images).flatten(2).transpose(1, 2)
        hidden = torch.cat([self.tokens.expand(len(images), -1, -1), patches], dim=1) + self.positions
        *layers, last = self.layers
        for layer in layers:
            hidden = layer(hidden, hidden.shape[1])
        hidden = last(hidden, self.tokens.shape[1])
        logits: torch.Tensor = self.head(self.norm(hidden).mean(dim=1))
        return logits


class Layer(nn.Module):
    """Every token hears all tokens, then thinks for itself."""

    def __init__(self, layer: Any, precision: str) -> None:
        super().__init__()
        attention, mlp, self.dtype = layer.attention, layer.mlp, DTYPES[precision]

        def linear(module: nn.Linear) -> nn.Module:
            return Int8Linear(module) if precision == "int8" else convert(module, self.dtype)

        self.queries, self.keys, self.values = map(linear, (attention.q_proj, attention.k_proj, attention.v_proj))
        self.merge, self.widen, self.narrow = map(linear, (attention.o_proj, mlp.fc1, mlp.fc2))
        self.before, self.after, self.activation = layer.layernorm_before, layer.layernorm_after, mlp.activation_fn
        self.n_heads = attention.num_attention_heads

    def forward(self, hidden: torch.Tensor, n_kept: int) -> torch.Tensor:
        """(batch, n_tokens, width) to (batch, n_kept, width), what becomes of the first `n_kept` tokens."""
        normed = self.before(hidden).to(self.dtype)
        projected = self.queries(normed[:, :n_kept]), self.keys(normed), self.values(normed)
        heads = (each.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for each in projected)
        hidden = hidden[:, :n_kept] + self.merge(attend(*heads).transpose(1, 2).flatten(2))
        normed = self.after(hidden).to(self.dtype)
        return hidden + self.narrow(self.activation(self.widen(normed)))


def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """What each token hears, (batch, n_heads, n_tokens, head_width) like `queries`."""
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
        return torch.stack([self._multiply(rows.float()) for rows in inputs])

    def _multiply(self, rows: torch.Tensor) -> torch.Tensor:
        lowest, highest = (float(each) for each in rows.aminmax())
        lowest, highest = min(lowest, 0.0), max(highest, 0.0)  # zero is a level
        scale = max((highest - lowest) / LARGEST_UINT8, TINY)
        zero = round(-lowest / scale)
        quantized = torch.quantize_per_tensor(rows, scale, zero, torch.quint8)
        # The bytes themselves: `int_repr` copies them, in more time than it took to make them.
        levels = torch.empty(0, dtype=torch.uint8).set_(quantized.untyped_storage()).view(rows.shape)
        product: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            levels, scale, zero, self.weight, self.scales, self.zeros, self.bias, 1.0, 0, torch.bfloat16, "none", [], ""
        )
        return product


def convert(module: Converted, dtype: torch.dtype) -> Converted:
    """The module in that number format: itself, or a copy."""
    return module if dtype == torch.float32 else deepcopy(module).to(dtype)
