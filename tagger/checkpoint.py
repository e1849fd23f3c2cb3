"""Checkpoints: where they lie, and what is read from one, checked, before it may hear a song."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tagger.audio import SAMPLE_RATE
from tagger.features import LogMel
from tagger.genres import GenreHead, audioset_head
from tagger.predict import ModelError

if TYPE_CHECKING:
    from transformers import ASTConfig, ASTForAudioClassification

STARTER = "starter"  # embedded: tagger/models/starter
HUB_IDS = {"audioset": "MIT/ast-finetuned-audioset-10-10-0.4593"}

CONFIGS = ["config.json", "preprocessor_config.json", "processor_config.json"]
TRAINING = "training.json"
WEIGHTS = "model*.safetensors"  # one file, or the shards that model.safetensors.index.json names

# A checkpoint with this many labels, these among them, has the outputs of AudioSet.
N_AUDIOSET_LABELS = 527
AUDIOSET_LABELS = {0: "Speech", 137: "Music", 216: "Pop music", 265: "Independent music"}

# Least confidence at which a genre is written where training fitted none.
DEFAULT_CONFIDENCE = {"softmax": 0.5, "sigmoid": 0.5, "margin": 0.8}


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, the features it was trained on, and what its outputs mean."""

    name: str
    folder: Path
    ast: ASTForAudioClassification
    log_mel: LogMel
    head: GenreHead

    def fingerprint(self) -> str:
        """SHA-256, in hex, of the files that decide the logits: configs and weights."""
        digest = hashlib.sha256()
        configs = (self.folder / name for name in CONFIGS)
        for file in (*filter(Path.exists, configs), *sorted(self.folder.glob(WEIGHTS))):
            digest.update(f"{file.name}:{file.stat().st_size}:".encode())
            with file.open("rb") as data:
                while block := data.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def read_checkpoint(name: str) -> Checkpoint:
    """The checkpoint called `name`, on the CPU in float32. Raises ModelError.

    A name is "starter", "audioset", a checkpoint folder, a run folder that holds `checkpoint/`, or a hub id.
    """
    folder = find_checkpoint(name)
    with quiet_transformers():
        config = read_config(name, folder)
        return Checkpoint(
            name=name,
            folder=folder,
            ast=read_network(name, folder, config),
            log_mel=read_features(name, folder, config),
            head=read_head(name, folder, config),
        )


def find_checkpoint(name: str) -> Path:
    """Folder of the checkpoint called `name`, fetched from the hub if need be. Raises ModelError."""
    path = Path(name).expanduser()
    if name == STARTER:
        folder = Path(str(resources.files("tagger") / "models" / STARTER))
    elif path.exists() and name not in HUB_IDS:
        is_run = (path / "checkpoint").is_dir() and not (path / "config.json").exists()
        folder = path / "checkpoint" if is_run else path
    else:
        folder = fetch_checkpoint(name)
    if not (folder / "config.json").is_file():
        raise ModelError(name, "no config.json there: give the folder of a checkpoint, or a run that holds one")
    if not any(folder.glob(WEIGHTS)):
        raise ModelError(name, "no model.safetensors there: only safetensors are read, never a pickle (.bin, .pt)")
    return folder


def fetch_checkpoint(name: str) -> Path:
    """Folder in the hub's local cache that mirrors a hub id, downloaded unless it is there. Raises ModelError."""
    hub_id = HUB_IDS.get(name, name)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", hub_id):
        known = ", ".join([STARTER, *HUB_IDS])
        raise ModelError(name, f"no such folder, nor a model built in: give {known}, a folder, or a hub id owner/name")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    absent = "not in the cache" if name in HUB_IDS else "no such folder, not in the cache"
    wanted = [*CONFIGS, WEIGHTS, "model.safetensors.index.json", TRAINING]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted))
    except RepositoryNotFoundError as error:
        reason = "no such folder, and no such model on the Hugging Face hub (a private one needs: hf auth login)"
        raise ModelError(name, reason) from error
    except LocalEntryNotFoundError as error:
        state = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hugging Face hub cannot be reached"
        raise ModelError(name, f"{absent}, and {state}: go online once, or give a checkpoint folder") from error
    except Exception as error:  # those of whichever HTTP library this release of the hub client uses
        raise ModelError(name, f"{absent}, and the download failed ({one_line(error)})") from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps log messages and progress bars of transformers off the terminal: what matters becomes a ModelError.

    Raises ModelError where transformers cannot be imported. The import takes seconds, so it happens in functions only.
    """
    try:
        from transformers import ASTConfig, ASTForAudioClassification  # noqa: F401 (imports all that may fail)
        from transformers.utils import logging
    except (ImportError, OSError, RuntimeError) as error:
        pair = "torch and torchaudio must be built for each other: reinstall genre-tag"
        raise ModelError("transformers", f"cannot be imported ({one_line(error)}); {pair}") from error
    verbosity, progress_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if progress_bars:
            logging.enable_progress_bar()


# Bad values make transformers stumble anywhere, with any error: below, each `except Exception` is around one such call.


def read_config(name: str, folder: Path) -> ASTConfig:
    """config.json, with labels that can serve as genre names. Raises ModelError."""
    from transformers import ASTConfig

    try:
        values, _ = ASTConfig.get_config_dict(folder, local_files_only=True)
        model_type = values.get("model_type")
    except Exception as error:
        raise ModelError(name, f"config.json cannot be read ({one_line(error)})") from error
    if model_type != ASTConfig.model_type:
        raise ModelError(name, f"its model_type is {model_type}: only {ASTConfig.model_type} can be used")
    try:
        return ASTConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ModelError(name, f"config.json cannot be used ({one_line(error)})") from error


def read_network(name: str, folder: Path, config: ASTConfig) -> ASTForAudioClassification:
    """The network in float32, its weights checked: they fit `config`, and were trained. Raises ModelError."""
    from safetensors import safe_open
    from transformers import ASTForAudioClassification

    for file in sorted(folder.glob(WEIGHTS)):
        try:
            with safe_open(file, framework="pt"):
                pass
        except Exception as error:
            raise ModelError(name, f"{file.name} is damaged or cut off ({one_line(error)}): fetch it again") from error
    try:
        loaded: Any = ASTForAudioClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, in fewer words
        )
    except Exception as error:
        raise ModelError(name, f"cannot be loaded ({one_line(error)})") from error
    ast: ASTForAudioClassification
    ast, info = loaded
    misfits = sorted({*info["missing_keys"], *info["unexpected_keys"], *(key for key, *_ in info["mismatched_keys"])})
    for key, stored, named in info["mismatched_keys"]:
        if key == "classifier.dense.bias" and len(misfits) <= 2:
            raise ModelError(name, f"config.json names {named[0]} labels, the weights have {stored[0]}")
    if misfits:
        raise ModelError(name, f"the weights do not fit config.json: {len(misfits)} tensors, such as {misfits[0]}")
    if not ast.audio_spectrogram_transformer.embeddings.position_embeddings.any():
        raise ModelError(
            name, "its position embeddings are all zero, as after a change of input length: train it again"
        )
    if not all(weight.isfinite().all() for weight in ast.parameters()):
        raise ModelError(name, "some weights are no finite numbers: train it again")
    return ast


def read_features(name: str, folder: Path, config: ASTConfig) -> LogMel:
    """The features the network was trained on, by preprocessor_config.json. Raises ModelError."""
    from transformers.feature_extraction_utils import FeatureExtractionMixin

    file = "preprocessor_config.json"
    try:
        values, _ = FeatureExtractionMixin.get_feature_extractor_dict(folder, local_files_only=True)
        extractor = f"{values['feature_extractor_type']} at {values['sampling_rate']} Hz"
        n_mels, n_frames = values["num_mel_bins"], values["max_length"]
        mean, std = (values["mean"], values["std"]) if values.get("do_normalize", True) else (0.0, 0.5)
    except Exception as error:
        reason = f"{file} is missing or incomplete ({one_line(error)}): it says what features the model was trained on"
        raise ModelError(name, reason) from error
    if extractor != f"ASTFeatureExtractor at {SAMPLE_RATE} Hz":
        raise ModelError(name, f"{file} asks for {extractor}: only ASTFeatureExtractor at {SAMPLE_RATE} Hz is known")
    if (n_mels, n_frames) != (config.num_mel_bins, config.max_length):
        size = f"{n_frames} frames of {n_mels} mels, config.json {config.max_length} of {config.num_mel_bins}"
        raise ModelError(name, f"{file} says {size}: they must agree")
    if not (is_number(mean) and is_number(std) and std > 0):
        raise ModelError(name, f"{file}: mean {mean!r} and std {std!r} must be numbers, std above 0")
    return LogMel(n_mels, n_frames, mean, std)


def read_head(name: str, folder: Path, config: ASTConfig) -> GenreHead:
    """What the outputs mean, by the labels in config.json and by training.json if there is one. Raises ModelError."""
    id2label: dict[Any, Any] = config.id2label or {}
    labels: list[str] = [id2label.get(index, "") for index in range(len(id2label))]
    if not labels or not all(
        isinstance(label, str) and label and label == " ".join(label.split()) and label.isprintable()
        for label in labels
    ):
        raise ModelError(name, "config.json: id2label must number its labels from 0 and name each in printable text")
    if len({label.casefold() for label in labels}) < len(labels):
        raise ModelError(name, "config.json: id2label names a label twice")
    if all(re.fullmatch(r"LABEL_\d+", label) for label in labels):
        raise ModelError(name, "config.json: id2label has no genre names, only LABEL_0, LABEL_1, ...")
    multi_label = config.problem_type == "multi_label_classification"
    if len(labels) == 1 and not multi_label:
        raise ModelError(name, "config.json: has one label, which would win over none with confidence 1")
    if len(labels) == N_AUDIOSET_LABELS and all(labels[index] == name for index, name in AUDIOSET_LABELS.items()):
        head = audioset_head()
    else:
        head = GenreHead(tuple(labels), "sigmoid" if multi_label else "softmax")
    return read_training(name, folder / TRAINING, head, len(labels))


def read_training(name: str, file: Path, head: GenreHead, n_outputs: int) -> GenreHead:
    """`head` with the temperature, the thresholds and the biases that training fitted, if it did. Raises ModelError.

    The file may hold `temperature`, `min_confidence` (a number, or a table: a genre left out of it is never written
    by default), `min_confidence_reason`, and `bias` (mean logit of each output over unlabelled music). Its other keys
    are for other readers.
    """
    guess = DEFAULT_CONFIDENCE[head.scale]
    reason = f"not fitted: the checkpoint names no min_confidence, so {guess} is a guess"
    head = replace(head, thresholds=(guess,) * len(head.genres), threshold_reason=reason)
    if not file.exists():
        return head
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(name, f"{file.name} cannot be read ({one_line(error)})") from error
    if not isinstance(values, dict):
        raise ModelError(name, f"{file.name} must be a table")
    temperature, least = values.get("temperature"), values.get("min_confidence")
    if temperature is not None:
        if not is_number(temperature) or temperature <= 0:
            raise ModelError(name, f"{file.name}: temperature {temperature!r} must be a number above 0")
        head = replace(head, temperature=float(temperature))
    bias = values.get("bias")
    if bias is not None:
        if not isinstance(bias, list) or len(bias) != n_outputs or not all(map(is_number, bias)):
            raise ModelError(name, f"{file.name}: bias must be a list of {n_outputs} numbers")
        head = replace(head, bias=tuple(map(float, bias)))
    if least is None:
        return head
    table: dict[str, Any] = least if isinstance(least, dict) else dict.fromkeys(head.genres, least)
    for genre, value in table.items():
        if genre not in head.genres:
            raise ModelError(name, f"{file.name}: min_confidence names {genre!r}, no genre of this checkpoint")
        if not is_number(value) or not 0 <= value <= 1:
            raise ModelError(name, f"{file.name}: min_confidence {value!r} must be a number from 0 to 1")
    return replace(
        head,
        thresholds=tuple(float(table.get(genre, math.inf)) for genre in head.genres),
        threshold_reason=str(values.get("min_confidence_reason", "fitted in training")),
    )


def is_number(value: object) -> bool:
    """Whether JSON gave a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def one_line(error: Exception) -> str:
    """The first line of what a library says, which may be a page."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
