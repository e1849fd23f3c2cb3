"""Networks of transformers with random weights, which every engine has to answer like."""

from dataclasses import fields
from typing import Any

import numpy as np
import torch

from tagger.models.architecture import Architecture
from tagger.models.checkpoint import own_name

CONFIGS: list[dict[str, Any]] = [
    {},
    {"num_hidden_layers": 1},
    {"qkv_bias": False},
    {"hidden_act": "relu"},
    {"hidden_act": "silu"},
    {"hidden_act": "gelu_new"},
    {"frequency_stride": 16, "time_stride": 16, "max_length": 48},
    {"frequency_stride": 3, "time_stride": 11, "patch_size": 8},
    {"hidden_size": 60, "num_attention_heads": 1, "intermediate_size": 50, "num_labels": 1},
    {"hidden_size": 30, "num_attention_heads": 10, "num_labels": 13},
    {"layer_norm_eps": 0.1},
]


def network(**config: Any) -> Any:
    """A network of transformers with seeded random weights, large enough to tell log-mels apart."""
    from transformers import ASTConfig, ASTForAudioClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    inputs = {"max_length": 64, "num_mel_bins": 32, "num_labels": 7}
    ast = ASTForAudioClassification(ASTConfig(**(sizes | inputs | config))).eval()
    with torch.no_grad():
        for weight in ast.parameters():
            weight.normal_(std=0.2)
    return ast


def architecture_of(ast: Any) -> Architecture:
    return Architecture(**{field.name: getattr(ast.config, field.name) for field in fields(Architecture)})


def weights_of(ast: Any) -> dict[str, np.ndarray]:
    return {own_name(name): weight.numpy() for name, weight in ast.state_dict().items()}


def log_mels(batch: int = 3, n_frames: int = 64) -> torch.Tensor:
    return torch.randn(batch, n_frames, 32, generator=torch.Generator().manual_seed(1))
