"""What a checkpoint's files say, by whatever name it is called, and what is refused before any network is loaded."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from tagger.errors import ModelError
from tagger.models.description import N_FRAMES, N_MELS, STARTER, describe, find_checkpoint
from tagger.models.head import Gate
from tests.support.checkpoints import AUDIOSET, GENRES, edit_json, make_checkpoint, why_refused


def refused(name: str | Path) -> str:
    """Why a checkpoint is not even described."""
    return why_refused(describe, name)


# Where a checkpoint lies


def test_the_starter_is_embedded() -> None:
    checkpoint = describe(STARTER)
    assert checkpoint.head.scale == "softmax" and len(checkpoint.head.genres) == 15
    assert checkpoint.head.genres[1] == "Classical" and checkpoint.head.genres[13] == "Rock"


def test_the_starter_writes_only_what_it_was_right_at_by_default() -> None:
    head = describe(STARTER).head
    written = {genre for genre, least in zip(head.genres, head.thresholds, strict=True) if least <= 1}
    assert written == {"Classical"}
    assert "only Classical by default" in head.threshold_reason


def test_a_run_folder_stands_for_its_checkpoint(folder: Path) -> None:
    assert find_checkpoint(str(folder.parent)) == folder
    assert describe(str(folder.parent)).head.genres == GENRES


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
    code = "from tagger.models.description import *\ntry: describe('audioset')\nexcept ModelError as e: print(e)"
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
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "only safetensors are read, never a pickle" in refused(folder)


def test_a_model_that_is_no_ast(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="wav2vec2")
    assert refused(folder) == "its model_type is wav2vec2: only audio-spectrogram-transformer can be used"


@pytest.mark.parametrize("text", ["{", "[]", "", "\xff"])
def test_a_config_that_is_no_table(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    assert "config.json cannot be read" in refused(folder)


@pytest.mark.parametrize("size", ["null", "true", "0", "128.0", '"128"'])
def test_a_size_that_is_no_count(folder: Path, size: str) -> None:
    for file in (folder / "config.json", folder / "preprocessor_config.json"):
        file.write_text(file.read_text().replace('"max_length": 128', f'"max_length": {size}'))
    assert "both must be counts" in refused(folder)


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
        ([], "number its labels from 0"),
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
    assert describe(str(folder)).head.genres == ("Rock",)
    edit_json(folder / "config.json", problem_type=problem_type)
    assert "one label" in refused(folder)


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


def test_features_may_be_told_in_the_config_of_a_processor(folder: Path) -> None:
    table = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": table | {"mean": -1.5}}))
    assert describe(str(folder)).features.mean == -1.5
    (folder / "preprocessor_config.json").unlink()
    assert describe(str(folder)).features.mean == -1.5


def test_sizes_that_config_json_leaves_out_are_those_of_transformers() -> None:
    from transformers import ASTConfig

    assert (ASTConfig().num_mel_bins, ASTConfig().max_length) == (N_MELS, N_FRAMES)


@pytest.mark.parametrize("values", [{}, {"do_normalize": False}])
def test_the_features_are_those_of_transformers(folder: Path, values: dict[str, Any]) -> None:
    from transformers import ASTFeatureExtractor

    edit_json(folder / "preprocessor_config.json", mean=-3.0, std=2.0, **values)
    theirs, ours = ASTFeatureExtractor.from_pretrained(folder), describe(str(folder)).features
    assert (ours.n_mels, ours.n_frames) == (theirs.num_mel_bins, theirs.max_length)
    assert (ours.mean, ours.std) == ((theirs.mean, theirs.std) if theirs.do_normalize else (0.0, 0.5))


def test_no_word_about_the_features(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json is missing" in refused(folder)


# What the outputs mean


def test_labels_come_in_the_order_of_the_outputs(tmp_path: Path) -> None:
    labels = [f"Genre {index}" for index in range(12)]  # "10" sorts before "2" as text
    assert describe(str(make_checkpoint(tmp_path / "c", labels))).head.genres == tuple(labels)


@pytest.mark.parametrize(("multi_label", "scale"), [(False, "softmax"), (True, "sigmoid")])
def test_without_training_json_the_threshold_is_called_a_guess(tmp_path: Path, multi_label: bool, scale: str) -> None:
    head = describe(str(make_checkpoint(tmp_path / "c", multi_label=multi_label))).head
    assert (head.scale, head.thresholds, head.temperature) == (scale, (0.5, 0.5, 0.5), None)
    assert head.threshold_reason.startswith("not fitted: ")


def test_the_labels_of_audioset_are_read_through_its_table(tmp_path: Path) -> None:
    head = describe(str(make_checkpoint(tmp_path / "c", AUDIOSET))).head
    assert head.scale == "margin" and head.members is not None and "Hip-Hop" in head.genres
    assert set(head.thresholds) == {0.89} and head.threshold_reason.startswith("fitted ")
    assert head.bias is not None and len(head.bias) == 527


def test_thresholds_of_a_checkpoint_go_before_those_of_the_table_of_audioset(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "c", AUDIOSET)
    (folder / "training.json").write_text('{"min_confidence": {"Jazz": 0.7}}', encoding="utf-8")
    head = describe(str(folder)).head
    assert head.thresholds[head.genres.index("Jazz")] == 0.7 and math.inf in head.thresholds


def test_527_other_labels_are_genres(tmp_path: Path) -> None:
    labels = [f"Genre {index}" for index in range(527)]
    assert describe(str(make_checkpoint(tmp_path / "c", labels))).head.genres == tuple(labels)


def test_training_json_brings_temperature_and_thresholds(folder: Path) -> None:
    training = {
        "temperature": 1.7,
        "min_confidence": {"Jazz": 0.6, "Rock": 1},
        "min_confidence_reason": "90 % right on held-out songs",
        "bias": [-1, 0.5, 0],
        "held_out": {"Rock": 100, "Jazz": 150},
        "epochs": 3,
    }
    (folder / "training.json").write_text(json.dumps(training))
    head = describe(str(folder)).head
    assert head.temperature == 1.7
    assert head.bias == (-1.0, 0.5, 0.0)
    assert head.thresholds == (math.inf, 0.6, 1.0)
    assert head.threshold_reason == "90 % right on held-out songs"
    assert head.n_held_out == (0, 150, 100) and head.is_calibrated  # Classical is never written
    (folder / "training.json").write_text(json.dumps(training | {"held_out": dict.fromkeys(head.genres, 70)}))
    assert describe(str(folder)).head.is_calibrated
    del training["held_out"]
    (folder / "training.json").write_text(json.dumps(training))
    assert describe(str(folder)).head.n_held_out == ()


def test_one_number_is_every_genres_threshold(folder: Path) -> None:
    (folder / "training.json").write_text('{"min_confidence": 0.4}')
    assert describe(str(folder)).head.thresholds == (0.4, 0.4, 0.4)


def test_a_temperature_alone_leaves_the_threshold_a_guess(folder: Path) -> None:
    (folder / "training.json").write_text('{"temperature": 2}')
    head = describe(str(folder)).head
    assert head.temperature == 2.0 and head.threshold_reason.startswith("not fitted: ")


def test_several_outputs_may_speak_for_a_genre_and_others_for_music(tmp_path: Path) -> None:
    labels = ("Speech", "Rock: 1", "Rock: 2", "Shoegaze", "Music")
    folder = make_checkpoint(tmp_path / "c", labels)
    training = {
        "genres": {"Rock": ["Rock: 1", "Rock: 2"], "Shoegaze": ["Shoegaze"]},
        "gate": {"music": "Music", "speech": "Speech", "min_music": 0.4},
        "min_confidence": {"Shoegaze": 0.7},
        "backbone": "abc",
    }
    (folder / "training.json").write_text(json.dumps(training))
    description = describe(str(folder))
    assert (description.head.genres, description.head.scale) == (("Rock", "Shoegaze"), "softmax")
    assert description.head.members == ((1, 2), (3,))
    assert description.head.gate == Gate(4, 0, 0.4)
    assert description.head.thresholds == (math.inf, 0.7)
    assert description.backbone == "abc"


@pytest.mark.parametrize(
    "text",
    [
        '{"genres": {"Rock": ["Rock"]}}',
        '{"genres": {"Rock": ["Rock"], "Jazz": []}}',
        '{"genres": {"Rock": ["Rock"], "Jazz": ["Swing"]}}',
        '{"genres": {"Rock": ["Rock"], "Jazz": 7}}',
        '{"genres": ["Rock", "Jazz"]}',
        '{"genres": {"Rock": ["Rock"], "Jazz": ["Jazz"]}, "gate": {"music": "Music"}}',
        '{"genres": {"Rock": ["Rock"], "Jazz": ["Jazz"]}, "gate": 7}',
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
        '{"held_out": 200}',
        '{"held_out": {"Jaz": 200}}',
        '{"held_out": {"Jazz": -1}}',
        '{"held_out": {"Jazz": 20.5}}',
        '{"bias": [0, 0]}',
        '{"bias": [0, 0, "x"]}',
    ],
)
def test_a_bad_training_json_is_named(folder: Path, text: str) -> None:
    (folder / "training.json").write_text(text)
    assert "training.json" in refused(folder)


# Manners


def test_the_fingerprint_follows_what_decides_the_logits(folder: Path) -> None:
    before = describe(str(folder)).fingerprint
    (folder / "training.json").write_text('{"min_confidence": 0.4}')
    assert describe(str(folder)).fingerprint == before
    edit_json(folder / "preprocessor_config.json", mean=-4.0)
    features = describe(str(folder)).fingerprint
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    weights = describe(str(folder)).fingerprint
    assert len({before, features, weights}) == 3 and all(len(mark) == 64 for mark in (before, features, weights))


def test_weights_that_cannot_be_read_are_named(folder: Path) -> None:
    description = describe(str(folder))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        _ = description.fingerprint


def test_describing_a_checkpoint_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from tagger.models.description import describe\n"
        "print(describe('starter').fingerprint, *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    fingerprint, *modules = done.stdout.split()
    assert fingerprint == describe(STARTER).fingerprint
    assert not {"torch", "transformers"} & set(modules)


def test_a_genre_that_is_never_written_and_was_not_learned_does_not_undo_the_evidence(folder: Path) -> None:
    training = {
        "temperature": 1.5,
        "held_out": {"Jazz": 150, "Rock": 100},
        "min_confidence": {"Jazz": 0.5, "Rock": 0.5},
    }
    (folder / "training.json").write_text(json.dumps(training))
    assert describe(str(folder)).head.is_calibrated
    (folder / "training.json").write_text(json.dumps(training | {"min_confidence": 0.5}))
    assert not describe(str(folder)).head.is_calibrated  # Classical would be written
