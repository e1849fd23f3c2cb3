from dataclasses import fields
from typing import Any

import pytest
import torch

from tagger.models.architecture import ACTIVATIONS, Architecture, weight_shapes
from tagger.models.transformer import ACTIVATIONS as FUNCTIONS
from tagger.models.transformer import TorchLogMel, Transformer
from tests.models.networks import CONFIGS, architecture_of, log_mels, network, weights_of

PRECISIONS = ["fp32", "bf16"]


def transformer_of(ast: Any, precision: str = "fp32") -> Transformer:
    return Transformer.of(architecture_of(ast), weights_of(ast), precision)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("config", CONFIGS)
@torch.inference_mode()
def test_answers_what_transformers_answers(config: dict[str, Any]) -> None:
    ast, inputs = network(**config), log_mels(n_frames=config.get("max_length", 64))
    expected = ast(inputs).logits
    assert (expected[0] - expected[1]).abs().max() > 0.03
    torch.testing.assert_close(transformer_of(ast)(inputs), expected, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_fewer_digits_answer_nearly_so() -> None:
    ast, inputs = network(), log_mels()
    logits = transformer_of(ast, "bf16")(inputs)
    assert logits.dtype == torch.float32
    assert 0 < relative_error(logits, ast(inputs).logits) < 0.03


@torch.no_grad()
def test_all_of_it_is_one_graph_for_a_compiler() -> None:
    transformer, log_mel = transformer_of(network()).eval(), TorchLogMel(n_frames=64)
    for module, inputs in ((log_mel, torch.randn(2, 16_000)), (transformer, log_mels())):
        found = torch._dynamo.explain(module)(inputs)
        assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons
        torch._dynamo.reset()


@torch.inference_mode()
def test_log_mels_are_right_to_three_digits_where_cuda_multiplies_float32_as_tf32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log_mel, matmul = TorchLogMel(n_frames=98), torch.Tensor.__matmul__
    waveforms = torch.stack([0.3 * torch.randn(16_000), torch.sin(torch.arange(16_000) * 0.1)])
    expected = log_mel(waveforms)

    def rounded(values: torch.Tensor) -> torch.Tensor:
        """With the ten bits of a fraction that tensor cores read."""
        return ((values.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)

    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: matmul(rounded(a), rounded(b)))
    assert 0 < (log_mel(waveforms) - expected).abs().max() < 2e-4


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
    before = {name: weight.copy() for name, weight in weights.items()}
    transformer_of(ast, precision)
    for name, weight in weights.items():
        assert weight.dtype == before[name].dtype and (weight == before[name]).all(), name


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_transformers(name: str) -> None:
    from transformers.activations import ACT2FN

    inputs = torch.linspace(-6, 6, 1001)
    torch.testing.assert_close(FUNCTIONS[name](inputs), ACT2FN[name](inputs), rtol=0, atol=1e-6)


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


def test_the_weights_of_a_network_and_their_shapes() -> None:
    for config in CONFIGS:
        ast = network(**config)
        shapes = {name: weight.shape for name, weight in weights_of(ast).items()}
        assert weight_shapes(architecture_of(ast)) == shapes
