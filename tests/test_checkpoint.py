import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from tagger.checkpoint import STARTER, find_checkpoint, read_checkpoint
from tagger.predict import ModelError
from tests.checkpoints import AUDIOSET, GENRES, edit_json, make_checkpoint


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with nothing wrong; tests spoil a copy."""
    return make_checkpoint(tmp_path_factory.mktemp("sound") / "checkpoint")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "checkpoint"))


def refused(name: str | Path) -> str:
    """Reads a checkpoint that must be refused, in one line; gives the reason."""
    with pytest.raises(ModelError) as caught:
        read_checkpoint(str(name))
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


# Where a checkpoint lies


def test_the_starter_is_embedded() -> None:
    checkpoint = read_checkpoint(STARTER)
    assert checkpoint.head.scale == "softmax" and len(checkpoint.head.genres) == 13
    assert checkpoint.head.genres[1] == "Classical" and checkpoint.head.genres[12] == "Rock"


def test_the_starter_writes_only_classical_by_default() -> None:
    head = read_checkpoint(STARTER).head
    written = {genre for genre, least in zip(head.genres, head.thresholds, strict=True) if least <= 1}
    assert written == {"Classical"}
    assert "only Classical" in head.threshold_reason


def test_a_run_folder_stands_for_its_checkpoint(folder: Path) -> None:
    assert find_checkpoint(str(folder.parent)) == folder
    assert read_checkpoint(str(folder.parent)).head.genres == GENRES


def test_a_folder_wins_over_a_hub_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent.parent)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    assert find_checkpoint(f"{folder.parent.name}/checkpoint").samefile(folder)


def test_a_hub_id_is_a_folder_of_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or str(folder))
    assert find_checkpoint("owner/name") == find_checkpoint("audioset") == folder
    assert asked == ["owner/name", "MIT/ast-finetuned-audioset-10-10-0.4593"]


@pytest.mark.parametrize("name", ["nonsense", "./nonsense", "a/b/c", "../owner/name", ""])
def test_what_can_be_no_hub_id_is_not_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    reason = refused(name)
    assert "give starter, audioset, a folder" in reason or "no config.json" in reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LocalEntryNotFoundError("no\nluck"), "the Hugging Face hub cannot be reached: go online once"),
        (ConnectionError("proxy\nsays no"), "the download failed (proxy)"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_what_the_hub_answers_becomes_one_line(error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    assert reason in refused("owner/name")


def test_offline_a_hub_id_outside_the_cache_is_one_line(tmp_path: Path) -> None:
    code = "from tagger.checkpoint import *\ntry: read_checkpoint('audioset')\nexcept ModelError as e: print(e)"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == (
        "audioset: not in the cache, and HF_HUB_OFFLINE is set: go online once, or give a checkpoint folder\n"
    )
    assert done.stderr == ""


# What is refused


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    assert "no config.json there" in refused(tmp_path)


def test_a_pickle(folder: Path) -> None:
    from transformers import ASTForAudioClassification

    torch.save(ASTForAudioClassification.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "only safetensors are read, never a pickle" in refused(folder)


def test_a_model_that_is_no_ast(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="wav2vec2")
    assert refused(folder) == "its model_type is wav2vec2: only audio-spectrogram-transformer can be used"


@pytest.mark.parametrize("text", ["{", "[]", "", "\xff"])
def test_a_config_that_is_no_table(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    assert "config.json cannot be read" in refused(folder)


@pytest.mark.parametrize("values", [{"hidden_size": "x"}, {"id2label": {"x": "Rock"}}])
def test_a_config_of_wrong_types(folder: Path, values: dict[str, Any]) -> None:
    edit_json(folder / "config.json", **values)
    assert "config.json cannot be used" in refused(folder)


@pytest.mark.parametrize("values", [{"hidden_act": "nonsense"}, {"patch_size": [16, 16]}])
def test_a_config_that_no_network_can_be_built_from(folder: Path, values: dict[str, Any]) -> None:
    edit_json(folder / "config.json", **values)
    assert "cannot be loaded" in refused(folder)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["Rock", "Jazz", "rock"], "names a label twice"),
        (["Rock", "Jazz", " "], "printable text"),
        (["Rock", "Jazz", "Pop\n"], "printable text"),
        (["Rock", "Jazz", "\x00"], "printable text"),
        (["Rock", "Jazz", None], "printable text"),
        (["Rock", "Jazz", 3], "printable text"),
        (["LABEL_0", "LABEL_1", "LABEL_2"], "no genre names"),
    ],
)
def test_labels_that_are_no_genre_names(folder: Path, labels: list[Any], reason: str) -> None:
    edit_json(folder / "config.json", id2label={str(index): label for index, label in enumerate(labels)})
    assert reason in refused(folder)


def test_labels_that_skip_a_number(folder: Path) -> None:
    edit_json(folder / "config.json", id2label={"0": "Rock", "1": "Jazz", "3": "Pop"})
    assert "number its labels from 0" in refused(folder)


@pytest.mark.parametrize("problem_type", [None, "regression"])
def test_one_label_that_would_always_win(tmp_path: Path, problem_type: str | None) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint", ["Rock"], multi_label=True)
    assert read_checkpoint(str(folder)).head.genres == ("Rock",)
    edit_json(folder / "config.json", problem_type=problem_type)
    assert "one label" in refused(folder)


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


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"feature_extractor_type": "MAESTFeatureExtractor"}, "asks for MAESTFeatureExtractor at 16000 Hz"),
        ({"sampling_rate": 44100}, "asks for ASTFeatureExtractor at 44100 Hz"),
        ({"max_length": 1024}, "says 1024 frames of 128 mels, config.json 128 of 128"),
        ({"num_mel_bins": 64}, "says 128 frames of 64 mels"),
        ({"std": 0}, "std above 0"),
        ({"mean": "loud"}, "must be numbers"),
        ({"mean": None}, "is missing or incomplete"),
    ],
)
def test_features_that_are_not_ours(folder: Path, values: dict[str, Any], reason: str) -> None:
    edit_json(folder / "preprocessor_config.json", **values)
    assert reason in refused(folder)


def test_no_word_about_the_features(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json is missing" in refused(folder)


def test_transformers_that_cannot_be_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "torch and torchaudio must be built for each other" in refused(folder)


# What the outputs mean


def test_labels_come_in_the_order_of_the_outputs(tmp_path: Path) -> None:
    labels = [f"Genre {index}" for index in range(12)]  # "10" sorts before "2" as text
    assert read_checkpoint(str(make_checkpoint(tmp_path / "c", labels))).head.genres == tuple(labels)


@pytest.mark.parametrize(("multi_label", "scale"), [(False, "softmax"), (True, "sigmoid")])
def test_without_training_json_the_threshold_is_called_a_guess(tmp_path: Path, multi_label: bool, scale: str) -> None:
    head = read_checkpoint(str(make_checkpoint(tmp_path / "c", multi_label=multi_label))).head
    assert (head.scale, head.thresholds, head.temperature) == (scale, (0.5, 0.5, 0.5), None)
    assert head.threshold_reason.startswith("not fitted: ")


def test_the_labels_of_audioset_are_read_through_its_table(tmp_path: Path) -> None:
    head = read_checkpoint(str(make_checkpoint(tmp_path / "c", AUDIOSET))).head
    assert head.scale == "margin" and head.members is not None and "Hip-Hop" in head.genres
    assert set(head.thresholds) == {0.8} and head.threshold_reason.startswith("not fitted: ")


def test_527_other_labels_are_genres(tmp_path: Path) -> None:
    labels = [f"Genre {index}" for index in range(527)]
    assert read_checkpoint(str(make_checkpoint(tmp_path / "c", labels))).head.genres == tuple(labels)


def test_training_json_brings_temperature_and_thresholds(folder: Path) -> None:
    training = {
        "temperature": 1.7,
        "min_confidence": {"Jazz": 0.6, "Rock": 1},
        "min_confidence_reason": "90 % right on held-out songs",
        "bias": [-1, 0.5, 0],
        "epochs": 3,
    }
    (folder / "training.json").write_text(json.dumps(training))
    head = read_checkpoint(str(folder)).head
    assert head.temperature == 1.7
    assert head.bias == (-1.0, 0.5, 0.0)
    assert head.thresholds == (math.inf, 0.6, 1.0)
    assert head.threshold_reason == "90 % right on held-out songs"


def test_one_number_is_every_genres_threshold(folder: Path) -> None:
    (folder / "training.json").write_text('{"min_confidence": 0.4}')
    assert read_checkpoint(str(folder)).head.thresholds == (0.4, 0.4, 0.4)


def test_a_temperature_alone_leaves_the_threshold_a_guess(folder: Path) -> None:
    (folder / "training.json").write_text('{"temperature": 2}')
    head = read_checkpoint(str(folder)).head
    assert head.temperature == 2.0 and head.threshold_reason.startswith("not fitted: ")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"temperature": 0}',
        '{"temperature": "hot"}',
        '{"temperature": NaN}',
        '{"temperature": true}',
        '{"min_confidence": 1.5}',
        '{"min_confidence": "high"}',
        '{"min_confidence": {"Jazz": -0.1}}',
        '{"min_confidence": {"Jazz": null}}',
        '{"min_confidence": {"Jaz": 0.5}}',
        '{"bias": [0, 0]}',
        '{"bias": [0, 0, "x"]}',
    ],
)
def test_a_bad_training_json_is_named(folder: Path, text: str) -> None:
    (folder / "training.json").write_text(text)
    assert "training.json" in refused(folder)


# Manners


def test_the_fingerprint_follows_what_decides_the_logits(folder: Path) -> None:
    before = read_checkpoint(str(folder)).fingerprint()
    (folder / "training.json").write_text('{"min_confidence": 0.4}')
    assert read_checkpoint(str(folder)).fingerprint() == before
    edit_json(folder / "preprocessor_config.json", mean=-4.0)
    features = read_checkpoint(str(folder)).fingerprint()
    edit_weights(folder, classifier__dense__bias=0.0)
    weights = read_checkpoint(str(folder)).fingerprint()
    assert len({before, features, weights}) == 3 and all(len(mark) == 64 for mark in (before, features, weights))


@pytest.mark.parametrize("progress_bars", [True, False])
def test_loading_is_silent_and_leaves_logging_as_it_was(
    folder: Path, capfd: pytest.CaptureFixture[str], progress_bars: bool
) -> None:
    from transformers.utils import logging

    (logging.enable_progress_bar if progress_bars else logging.disable_progress_bar)()
    logging.set_verbosity_info()
    try:
        read_checkpoint(str(folder))
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
    read_checkpoint(str(folder))
    assert not (folder / "was run").exists()
