"""The network of a checkpoint: which files are understood, and what is refused before it may classify a song."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tagger.errors import ModelError
from tagger.models.architecture import Architecture, weight_shapes
from tagger.models.checkpoint import Checkpoint, load_checkpoint, own_name, read_last_layer
from tagger.models.description import N_AUDIOSET_LABELS, describe
from tests.support.checkpoints import edit_json, make_checkpoint, why_refused


def load(name: str | Path) -> Checkpoint:
    return load_checkpoint(describe(str(name)))


def refused(name: str | Path) -> str:
    """Why a checkpoint is not loaded."""
    return why_refused(load, name)


def edit_tensors(folder: Path, edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Replaces the tensors of a checkpoint."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = {key: tensor.clone() for key, tensor in load_file(file).items()}
    save_file(edit(tensors), file, metadata={"format": "pt"})


def edit_weights(folder: Path, **values: float) -> None:
    """Fills the tensors whose names end like a key, a dot of which is written as two underscores."""

    def edit(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for ending, value in values.items():
            (key,) = (key for key in tensors if key.endswith(ending.replace("__", ".")))
            tensors[key] = torch.full_like(tensors[key], value)
        return tensors

    edit_tensors(folder, edit)


# What is understood

BODY, LAYER = "audio_spectrogram_transformer.", "audio_spectrogram_transformer.encoder.layer."
#: Of MIT/ast-finetuned-audioset-10-10-0.4593, as published in 2022.
PUBLISHED = (
    *(f"{BODY}embeddings.{name}" for name in ("cls_token", "distillation_token", "position_embeddings")),
    *(f"{BODY}embeddings.patch_embeddings.projection.{kind}" for kind in ("bias", "weight")),
    *(
        f"{LAYER}{index}.{name}.{kind}"
        for index in range(12)
        for name in (
            "attention.attention.key", "attention.attention.query", "attention.attention.value",
            "attention.output.dense", "intermediate.dense", "layernorm_after", "layernorm_before", "output.dense",
        )
        for kind in ("bias", "weight")
    ),
    *(f"{BODY}layernorm.{kind}" for kind in ("bias", "weight")),
    *(f"classifier.{name}.{kind}" for name in ("dense", "layernorm") for kind in ("bias", "weight")),
)  # fmt: skip


def test_the_names_of_the_published_audioset_checkpoint_are_understood() -> None:
    shapes = weight_shapes(Architecture(N_AUDIOSET_LABELS))
    assert sorted(map(own_name, PUBLISHED)) == sorted(shapes)
    assert shapes["positions"] == (1, 1214, 768) and shapes["head.weight"] == (527, 768)


def test_each_weight_is_where_transformers_has_it(sound: Path) -> None:
    from transformers import ASTForAudioClassification

    ast = ASTForAudioClassification.from_pretrained(sound, dtype=torch.float32)
    expected = ast.state_dict()
    weights = load(sound).weights
    assert len(weights) == len(expected)
    for name, weight in expected.items():
        assert np.array_equal(weights[own_name(name)], weight.numpy()), name


def test_the_names_inside_transformers_are_understood_too(folder: Path) -> None:
    from transformers import ASTForAudioClassification

    expected = load(folder).weights
    ast = ASTForAudioClassification.from_pretrained(folder, dtype=torch.float32)
    edit_tensors(folder, lambda _: dict(ast.state_dict()))
    weights = load(folder).weights
    assert weights.keys() == expected.keys()
    assert all(np.array_equal(weights[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_in_other_formats_become_float32(folder: Path, dtype: torch.dtype) -> None:
    expected = load(folder).weights
    edit_tensors(folder, lambda tensors: {key: tensor.to(dtype) for key, tensor in tensors.items()})
    for name, weight in load(folder).weights.items():
        rounded = torch.from_numpy(expected[name]).to(dtype).float().numpy()
        assert weight.dtype == np.float32 and np.array_equal(weight, rounded), name


def test_shards_are_one_network(folder: Path, tmp_path: Path) -> None:
    from transformers import ASTForAudioClassification

    expected = load(folder).weights
    sharded = tmp_path / "sharded"
    ASTForAudioClassification.from_pretrained(folder).save_pretrained(sharded, max_shard_size="20KB")
    shutil.copy(folder / "preprocessor_config.json", sharded)
    shards = sorted(file.name for file in sharded.glob("*.safetensors"))
    assert len(shards) > 2
    weights = load(sharded).weights
    assert weights.keys() == expected.keys()
    assert all(np.array_equal(weights[name], weight) for name, weight in expected.items())

    (sharded / shards[1]).write_bytes((sharded / shards[1]).read_bytes()[:-10])
    assert refused(sharded).startswith(f"{shards[1]} is damaged or cut off")
    (sharded / shards[1]).unlink()
    assert f"names {shards[1]!r}, no model*.safetensors of this folder" in refused(sharded)
    (sharded / "model.safetensors.index.json").unlink()
    assert "model.safetensors.index.json cannot be read" in refused(sharded)


def test_of_a_network_in_one_file_the_index_is_not_asked(folder: Path) -> None:
    expected = load(folder).weights
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "pickle.bin"}}))
    assert load(folder).weights.keys() == expected.keys()


def test_weights_are_no_view_of_the_file(folder: Path) -> None:
    """A file that is written over during a run must not change, or end, what was loaded."""
    weights = load(folder).weights
    before = {name: weight.copy() for name, weight in weights.items()}
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(bytes((folder / "model.safetensors").stat().st_size))
    assert all(np.array_equal(weights[name], weight) for name, weight in before.items())


# What is refused


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hidden_size": "x"}, "hidden_size is 'x', which is no count"),
        ({"num_attention_heads": 3}, "3 attention heads do not divide a width of 16"),
        ({"hidden_act": "nonsense"}, "hidden_act is 'nonsense', none of gelu, "),
        ({"patch_size": [16, 16]}, "patch_size is [16, 16], which is no count"),
        ({"layer_norm_eps": "x"}, "layer_norm_eps is 'x'"),
        ({"qkv_bias": "x"}, "qkv_bias is 'x'"),
    ],
)
def test_a_config_that_no_network_can_be_built_from(folder: Path, values: dict[str, Any], words: str) -> None:
    edit_json(folder / "config.json", **values)
    assert refused(folder).startswith(f"config.json cannot be used ({words}")


def test_more_labels_than_outputs(folder: Path) -> None:
    edit_json(folder / "config.json", id2label={str(index): f"Genre {index}" for index in range(5)})
    assert refused(folder) == "config.json names 5 labels, the weights have 3"


@pytest.mark.parametrize(
    "values", [{"intermediate_size": 33}, {"qkv_bias": False}, {"patch_size": 8}, {"hidden_size": 10**12}]
)
def test_weights_of_other_sizes(folder: Path, values: dict[str, Any]) -> None:
    edit_json(folder / "config.json", **values)
    assert "the weights do not fit config.json" in refused(folder)


def test_a_weight_that_is_missing(folder: Path) -> None:
    edit_tensors(folder, lambda tensors: {key: tensors[key] for key in tensors if key != "classifier.layernorm.bias"})
    assert refused(folder) == "the weights do not fit config.json: 1 tensors, such as head_norm.bias"


def test_a_weight_too_many(folder: Path) -> None:
    edit_tensors(folder, lambda tensors: tensors | {"adapter.weight": torch.zeros(2)})
    assert refused(folder) == "the weights do not fit config.json: 1 tensors, such as adapter.weight"


def test_a_weight_by_both_its_names(folder: Path) -> None:
    other = "audio_spectrogram_transformer.layers.0.mlp.fc1.bias"
    edit_tensors(folder, lambda tensors: tensors | {other: torch.zeros(32)})
    assert "the weights do not fit config.json: 1 tensors, such as audio_spectrogram_transformer." in refused(folder)


def test_weights_that_are_quantized(folder: Path) -> None:
    n_weights = len(load(folder).weights)
    edit_tensors(folder, lambda tensors: {key: (9 * tensor).to(torch.int8) for key, tensor in tensors.items()})
    assert f"the weights do not fit config.json: {n_weights} tensors" in refused(folder)


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"version https://git-lfs", lambda _: b""])
def test_weights_cut_off(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    assert "model.safetensors is damaged or cut off" in refused(folder)


def test_weights_of_another_input_length(folder: Path) -> None:
    edit_json(folder / "config.json", max_length=1024)
    edit_json(folder / "preprocessor_config.json", max_length=1024)
    assert "do not fit config.json: 1 tensors, such as audio_spectrogram" in refused(folder)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_weights_of_another_depth(folder: Path, n_layers: int) -> None:
    edit_json(folder / "config.json", num_hidden_layers=n_layers)
    assert "do not fit config.json: 16 tensors" in refused(folder)


def test_position_embeddings_that_were_never_trained(folder: Path) -> None:
    edit_weights(folder, position_embeddings=0.0)
    assert "position embeddings are all zero" in refused(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_of_a_training_that_diverged(folder: Path, value: float) -> None:
    edit_weights(folder, classifier__dense__bias=value)
    assert "NaN or infinite" in refused(folder)


# Manners


def test_loading_is_silent(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(folder)
    edit_json(folder / "config.json", num_hidden_layers=3)
    refused(folder)
    assert capfd.readouterr() == ("", "")


def test_the_code_of_a_checkpoint_is_never_run(folder: Path) -> None:
    edit_json(folder / "config.json", auto_map={"AutoModelForAudioClassification": "evil.Model"})
    (folder / "evil.py").write_text(f"open({str(folder / 'was run')!r}, 'w')")
    load(folder)
    assert not (folder / "was run").exists()


def test_the_last_layer_is_read_alone() -> None:
    weights = load("starter").weights
    weight, bias = read_last_layer(describe("starter"))
    np.testing.assert_array_equal(weight, weights["head.weight"])
    np.testing.assert_array_equal(bias, weights["head.bias"])


def test_a_last_layer_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    description = describe(str(folder))
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        read_last_layer(description)
    save_file({"other": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"the weights have no head\.weight"):
        read_last_layer(description)


def test_the_last_layer_of_shards_and_of_bfloat16(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    expected = load(folder).weights["head.weight"]
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    shards = {
        "model-1.safetensors": dict(list(tensors.items())[::2]),
        "model-2.safetensors": dict(list(tensors.items())[1::2]),
    }
    for name, shard in shards.items():
        save_file(shard, folder / name)
    weight_map = {tensor: name for name, shard in shards.items() for tensor in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    weight, _ = read_last_layer(describe(str(folder)))
    np.testing.assert_allclose(weight, expected, rtol=0.01)
