"""Architecture: the network a config.json describes, in plain numbers, for whichever engine computes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish")  # values of `hidden_act`
N_SPECIAL = 2  # tokens that are no patches: the class and the distillation token, which the head reads


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


def weight_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The weights of the network: their names and shapes, those of a linear layer being (n_outputs, n_inputs)."""
    width, inner, patch = architecture.hidden_size, architecture.intermediate_size, architecture.patch_size

    def linear(name: str, n_inputs: int, n_outputs: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (n_outputs, n_inputs)} | ({f"{name}.bias": (n_outputs,)} if bias else {})

    def norm(name: str) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}

    shapes: dict[str, tuple[int, ...]] = {
        "class_token": (1, 1, width),
        "distillation_token": (1, 1, width),
        "positions": (1, N_SPECIAL + count_patches(architecture), width),
        "patches.weight": (width, 1, patch, patch),
        "patches.bias": (width,),
    }
    for layer in (f"layers.{index}" for index in range(architecture.num_hidden_layers)):
        for name in ("q_proj", "k_proj", "v_proj"):
            shapes |= linear(f"{layer}.{name}", width, width, architecture.qkv_bias)
        shapes |= norm(f"{layer}.norm1") | norm(f"{layer}.norm2") | linear(f"{layer}.out_proj", width, width)
        shapes |= linear(f"{layer}.fc1", width, inner) | linear(f"{layer}.fc2", inner, width)
    return shapes | norm("norm") | norm("head_norm") | linear("head", width, architecture.num_labels)


def flops_per_snippet(architecture: Architecture, as_computed: bool = False) -> int:
    """Floating point operations of one forward pass of one snippet, a multiply-add counting as two.

    Matrix products, attention and the patch convolution, as `torch.utils.flop_counter` counts them: 261 GFLOP for
    the AudioSet checkpoint. The often quoted 103 GMAC leave out the two products inside attention. `as_computed`, it
    is what the engines spend, which compute of the last layer only what is read: 242 GFLOP.
    """
    width, inner, n_patches = architecture.hidden_size, architecture.intermediate_size, count_patches(architecture)
    n_tokens = n_patches + N_SPECIAL

    def layer(n_kept: int) -> int:
        linear = n_tokens * 2 * width**2 + n_kept * (2 * width**2 + 2 * width * inner)
        return linear + 2 * n_tokens * n_kept * width

    layers = (architecture.num_hidden_layers - 1) * layer(n_tokens) + layer(N_SPECIAL if as_computed else n_tokens)
    return 2 * (layers + n_patches * architecture.patch_size**2 * width + width * architecture.num_labels)
