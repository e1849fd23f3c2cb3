from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch

from tagger.models.checkpoint import own_name
from tagger.models.genre_model import computes_int8
from tagger.models.transformer import ACTIVATIONS, Architecture, Int8Linear, Transformer, attend

needs_int8 = pytest.mark.skipif(not computes_int8("cpu"), reason="needs a CPU that multiplies int8")
PRECISIONS = ["fp32", "bf16", pytest.param("int8", marks=needs_int8)]


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


def weights_of(ast: Any) -> dict[str, torch.Tensor]:
    return {own_name(name): weight for name, weight in ast.state_dict().items()}


def transformer_of(ast: Any, precision: str = "fp32") -> Transformer:
    architecture = Architecture(**{field.name: getattr(ast.config, field.name) for field in fields(Architecture)})
    return Transformer.of(architecture, weights_of(ast), precision)


def log_mels(batch: int = 3, n_frames: int = 64) -> torch.Tensor:
    return torch.randn(batch, n_frames, 32, generator=torch.Generator().manual_seed(1))


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_hidden_layers": 1},
        {"qkv_bias": False},
        {"hidden_act": "relu"},
        {"hidden_act": "gelu_new"},
        {"frequency_stride": 16, "time_stride": 16, "max_length": 48},
        {"frequency_stride": 3, "time_stride": 11, "patch_size": 8},
        {"hidden_size": 60, "num_attention_heads": 1, "intermediate_size": 50, "num_labels": 1},
        {"hidden_size": 30, "num_attention_heads": 10, "num_labels": 13},
        {"layer_norm_eps": 0.1},
    ],
)
@torch.inference_mode()
def test_answers_what_transformers_answers(config: dict[str, Any]) -> None:
    ast, inputs = network(**config), log_mels(n_frames=config.get("max_length", 64))
    expected = ast(inputs).logits
    assert (expected[0] - expected[1]).abs().max() > 0.03
    torch.testing.assert_close(transformer_of(ast)(inputs), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("precision", "most"), [("bf16", 0.03), pytest.param("int8", 0.1, marks=needs_int8)])
@torch.inference_mode()
def test_fewer_digits_answer_nearly_so(precision: str, most: float) -> None:
    ast, inputs = network(), log_mels()
    logits = transformer_of(ast, precision)(inputs)
    assert logits.dtype == torch.float32
    assert 0 < relative_error(logits, ast(inputs).logits) < most


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.inference_mode()
def test_the_rest_of_the_batch_does_not_change_an_answer(precision: str) -> None:
    transformer, inputs = transformer_of(network(), precision), log_mels()
    inputs[1] *= 100
    alone = torch.cat([transformer(each[None]) for each in inputs])
    torch.testing.assert_close(transformer(inputs), alone, rtol=0, atol=1e-4 if precision == "fp32" else 0.02)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_weights_it_is_made_of_stay_as_they_were(precision: str) -> None:
    ast = network()
    weights = weights_of(ast)
    before = {name: weight.clone() for name, weight in weights.items()}
    transformer_of(ast, precision)
    for name, weight in weights.items():
        assert weight.dtype == before[name].dtype and torch.equal(weight, before[name]), name


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_transformers(name: str) -> None:
    from transformers.activations import ACT2FN

    inputs = torch.linspace(-6, 6, 1001)
    torch.testing.assert_close(ACTIVATIONS[name](inputs), ACT2FN[name](inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_queries", [2, 10])
def test_attention_by_heads_is_the_fused_one(n_queries: int) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(2, 3, 10, 16, generator=generator) for _ in range(3))
    queries = queries[:, :, :n_queries]
    expected = attend(queries, keys, values)
    found = attend(queries.bfloat16(), keys.bfloat16(), values.bfloat16())
    assert found.dtype == torch.bfloat16
    assert 0 < relative_error(found.float(), expected) < 0.02


# Architecture


def test_what_is_left_out_is_as_in_transformers() -> None:
    from transformers import ASTConfig

    config = ASTConfig()
    for field in fields(Architecture):
        assert getattr(Architecture(), field.name) == getattr(config, field.name), field.name


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": "768"},
        {"hidden_size": 768.0},
        {"hidden_size": True},
        {"num_hidden_layers": 0},
        {"num_labels": 0},
        {"time_stride": -1},
        {"patch_size": [16, 16]},
        {"patch_size": 129},
        {"num_attention_heads": 7},
        {"layer_norm_eps": "1e-12"},
        {"layer_norm_eps": -1e-12},
        {"layer_norm_eps": float("nan")},
        {"layer_norm_eps": None},
        {"qkv_bias": 1},
        {"hidden_act": "gelu_python"},
        {"hidden_act": ["gelu"]},
    ],
)
def test_what_no_network_can_be_built_from(values: dict[str, Any]) -> None:
    (name,) = values
    words = {"num_attention_heads": "7 attention heads do not divide", "patch_size": "patch"}
    with pytest.raises(ValueError, match=words.get(name, f"{name} is ")):
        Architecture(**values)


# Int8Linear


def linear(adjust: Callable[[torch.Tensor], object] = lambda weight: None, bias: bool = True) -> torch.nn.Linear:
    torch.manual_seed(0)
    module = torch.nn.Linear(64, 48, bias=bias)
    with torch.no_grad():
        adjust(module.weight)
    return module


@needs_int8
@pytest.mark.parametrize(
    "inputs",
    [
        torch.linspace(-1, 1, 640).reshape(1, 10, 64),
        torch.linspace(3, 5, 640).reshape(1, 10, 64),  # zero lies outside the range
        torch.linspace(-5, -3, 640).reshape(1, 10, 64),
        torch.linspace(-1e-6, 1e-6, 640).reshape(1, 10, 64),
        torch.linspace(-1, 1, 640).reshape(1, 10, 64).bfloat16(),
        torch.stack([torch.linspace(-100, 100, 640), torch.linspace(0, 0.1, 640)]).reshape(2, 10, 64),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_int8_multiplies_nearly_as_float32(inputs: torch.Tensor, bias: bool) -> None:
    module = linear(bias=bias)
    for found, expected in zip(Int8Linear(module)(inputs), module(inputs.float()), strict=True):
        assert found.dtype == torch.bfloat16
        assert relative_error(found.float(), expected) < 0.02


@needs_int8
@torch.inference_mode()
def test_an_output_with_large_weights_does_not_coarsen_the_others() -> None:
    module = linear(lambda weight: weight[0].mul_(1000))
    inputs = torch.linspace(-1, 1, 640).reshape(1, 10, 64)
    assert relative_error(Int8Linear(module)(inputs)[..., 1:].float(), module(inputs)[..., 1:]) < 0.02


@needs_int8
@torch.inference_mode()
def test_zeros_give_the_bias_alone() -> None:
    module = linear(lambda weight: weight[0].zero_())
    found = Int8Linear(module)(torch.zeros(1, 3, 64))
    torch.testing.assert_close(found[0].float(), module.bias.bfloat16().float().expand(3, -1))
