"""The network of a checkpoint: what is refused before it may hear a song, and with what manners it is loaded."""

import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tagger.checkpoint import Checkpoint, load_checkpoint
from tagger.description import describe
from tagger.predict import ModelError
from tests.checkpoints import edit_json, make_checkpoint


def load(name: str | Path) -> Checkpoint:
    return load_checkpoint(describe(str(name)))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with nothing wrong; tests spoil a copy."""
    return make_checkpoint(tmp_path_factory.mktemp("sound") / "checkpoint")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "checkpoint"))


def refused(name: str | Path) -> str:
    """Loads a checkpoint that must be refused, in one line; gives the reason."""
    with pytest.raises(ModelError) as caught:
        load(name)
    assert "\n" not in str(caught.value)
    assert str(caught.value) == f"{caught.value.name}: {caught.value.reason}"
    return caught.value.reason


def edit_weights(folder: Path, **values: float) -> None:
    """Fills the tensors whose names end like a key, a dot of which is written as two underscores."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    for ending, value in values.items():
        (key,) = (key for key in tensors if key.endswith(ending.replace("__", ".")))
        tensors[key] = torch.full_like(tensors[key], value)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# What is refused


@pytest.mark.parametrize("values", [{"hidden_size": "x"}, {"initializer_range": "x"}])
def test_a_config_of_wrong_types(folder: Path, values: dict[str, Any]) -> None:
    edit_json(folder / "config.json", **values)
    assert "config.json cannot be used" in refused(folder)


@pytest.mark.parametrize("values", [{"hidden_act": "nonsense"}, {"patch_size": [16, 16]}])
def test_a_config_that_no_network_can_be_built_from(folder: Path, values: dict[str, Any]) -> None:
    edit_json(folder / "config.json", **values)
    assert "cannot be loaded" in refused(folder)


def test_more_labels_than_outputs(folder: Path) -> None:
    edit_json(folder / "config.json", id2label={str(index): f"Genre {index}" for index in range(5)})
    assert refused(folder) == "config.json names 5 labels, the weights have 3"


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
    assert "no finite numbers" in refused(folder)


def test_transformers_that_cannot_be_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "torch and torchaudio must be built for each other" in refused(folder)


# Manners


@pytest.mark.parametrize("progress_bars", [True, False])
def test_loading_is_silent_and_leaves_logging_as_it_was(
    folder: Path, capfd: pytest.CaptureFixture[str], progress_bars: bool
) -> None:
    from transformers.utils import logging

    (logging.enable_progress_bar if progress_bars else logging.disable_progress_bar)()
    logging.set_verbosity_info()
    try:
        load(folder)
        edit_json(folder / "config.json", num_hidden_layers=3)
        refused(folder)
        assert capfd.readouterr() == ("", "")
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.INFO, progress_bars)
    finally:
        logging.set_verbosity_warning()
        logging.enable_progress_bar()


def test_the_code_of_a_checkpoint_is_never_run(folder: Path) -> None:
    edit_json(folder / "config.json", auto_map={"AutoModelForAudioClassification": "evil.Model"})
    (folder / "evil.py").write_text(f"open({str(folder / 'was run')!r}, 'w')")
    load(folder)
    assert not (folder / "was run").exists()
