"""What the files of a checkpoint say, read and checked without its network and so without torch.

A run in which every song is known needs no more: where the checkpoint lies, what its outputs mean, how long its
snippets are, and a fingerprint to file answers under.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from tagger.audio.decode import SAMPLE_RATE
from tagger.errors import ModelError
from tagger.models.head import N_AUDIOSET_LABELS, Gate, GenreHead, audioset_head
from tagger.text import one_line

logger = logging.getLogger(__name__)

STARTER = "starter"  # embedded: tagger/models/starter
HUB_IDS = {"audioset": "MIT/ast-finetuned-audioset-10-10-0.4593"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

MODEL_TYPE = "audio-spectrogram-transformer"
CONFIGS = ["config.json", "preprocessor_config.json", "processor_config.json"]
TRAINING = "training.json"
WEIGHTS = "model*.safetensors"  # one file, or the shards that model.safetensors.index.json names

# A checkpoint with this many labels, these among them, has the outputs of AudioSet.
AUDIOSET_LABELS = {0: "Speech", 137: "Music", 216: "Pop music", 265: "Independent music"}

N_MELS, N_FRAMES = 128, 1024  # where config.json does not say, as in transformers' ASTConfig
FRAMES_PER_SECOND = 100  # of every AST: `features.FRAME_HOP_SAMPLES` is 10 ms

# Least confidence at which a genre is written where training fitted none.
DEFAULT_CONFIDENCE = {"softmax": 0.5, "sigmoid": 0.5, "margin": 0.8}

ACCELERATOR_BATCH = 64  # snippets that go to a GPU at once where no `batch_size` is asked for


@dataclass(frozen=True)
class Features:
    """The log-mels a network was trained on: what `features.LogMel` is made of."""

    n_mels: int
    n_frames: int
    mean: float
    std: float


@dataclass(frozen=True)
class Description:
    """A checkpoint but for its network."""

    name: str
    folder: Path
    features: Features
    head: GenreHead
    #: Fingerprint of the checkpoint of which this one has all but the last layer; "" where it is nobody's.
    backbone: str = ""

    @property
    def snippet_samples(self) -> int:
        """What the network classifies at once."""
        return snippet_seconds(self.features.n_frames) * SAMPLE_RATE

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the files that decide the logits: weights, config and features. May raise ModelError."""
        digest = hashlib.sha256()
        configs = (self.folder / name for name in CONFIGS)
        try:
            for file in (*filter(Path.exists, configs), *sorted(self.folder.glob(WEIGHTS))):
                digest.update(f"{file.name}:{file.stat().st_size}:".encode())
                with file.open("rb") as data:
                    while block := data.read(1 << 20):
                        digest.update(block)
        except OSError as error:
            raise ModelError(self.name, f"cannot be read ({error})") from error
        return digest.hexdigest()


def snippet_seconds(n_frames: int) -> int:
    """Whole seconds that fit an input, at least one: 10 for 1024 frames (AudioSet's clips were 10 s too)."""
    return max(1, n_frames // FRAMES_PER_SECOND)


def describe(name: str) -> Description:
    """The checkpoint called `name`, without its network. Raises ModelError.

    A name is "starter", "audioset", a checkpoint folder, a run folder that holds `checkpoint/`, or a hub id
    "owner/name"; a folder wins over a hub id.
    """
    folder = find_checkpoint(name)
    logger.debug("model %s lies in %s", name, folder)
    table = read_table(name, folder)
    n_mels, n_frames = table.get("num_mel_bins", N_MELS), table.get("max_length", N_FRAMES)
    fitted = read_fitted(name, folder / TRAINING)
    head, backbone = read_head(name, table, fitted), str(fitted.get("backbone", ""))
    return Description(name, folder, check_features(name, folder, n_mels, n_frames), head, backbone)


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
    if not HUB_ID.fullmatch(hub_id):
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


def read_table(name: str, folder: Path) -> Mapping[str, Any]:
    """What config.json says, if it is that of an AST. Raises ModelError."""
    try:
        table: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model_type = table.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(name, f"config.json cannot be read ({one_line(error)})") from error
    if model_type != MODEL_TYPE:
        raise ModelError(name, f"its model_type is {model_type}: only {MODEL_TYPE} can be used")
    return table


def check_features(name: str, folder: Path, n_mels: int, n_frames: int) -> Features:
    """The features the network was trained on, by preprocessor_config.json. Raises ModelError.

    `n_mels` and `n_frames` are the size of its input, by config.json.
    """
    file = "preprocessor_config.json"
    try:
        values = read_extractor(folder)
        extractor = f"{values['feature_extractor_type']} at {values['sampling_rate']} Hz"
        size = values["num_mel_bins"], values["max_length"]
        mean, std = (values["mean"], values["std"]) if values.get("do_normalize", True) else (0.0, 0.5)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = f"{file} is missing or incomplete ({one_line(error)}): it says what features the model was trained on"
        raise ModelError(name, reason) from error
    if extractor != f"ASTFeatureExtractor at {SAMPLE_RATE} Hz":
        raise ModelError(name, f"{file} asks for {extractor}: only ASTFeatureExtractor at {SAMPLE_RATE} Hz is known")
    if size != (n_mels, n_frames):
        both = f"{size[1]} frames of {size[0]} mels, config.json {n_frames} of {n_mels}"
        raise ModelError(name, f"{file} says {both}: they must agree")
    if not all(type(n) is int and n > 0 for n in size):
        raise ModelError(name, f"{file}: {n_frames!r} frames of {n_mels!r} mels: both must be counts")
    if not (is_number(mean) and is_number(std) and std > 0):
        raise ModelError(name, f"{file}: mean {mean!r} and std {std!r} must be numbers, std above 0")
    return Features(n_mels, n_frames, mean, std)


def read_extractor(folder: Path) -> Any:
    """What is said of the features; as transformers looks for it: in processor_config.json first, if that has it."""
    try:
        nested = json.loads((folder / CONFIGS[2]).read_text(encoding="utf-8"))
    except FileNotFoundError:
        nested = {}
    for key in ("feature_extractor", "audio_processor"):
        if key in nested:
            return nested[key]
    return json.loads((folder / CONFIGS[1]).read_text(encoding="utf-8"))


def read_head(name: str, table: Mapping[str, Any], fitted: Mapping[str, Any]) -> GenreHead:
    """What the outputs mean, by the labels in config.json and by what training.json says. Raises ModelError."""
    id2label = table.get("id2label")
    labels = [id2label.get(str(index), "") for index in range(len(id2label))] if isinstance(id2label, dict) else []
    if not labels or not all(
        isinstance(label, str) and label and label == " ".join(label.split()) and label.isprintable()
        for label in labels
    ):
        raise ModelError(name, "config.json: id2label must number its labels from 0 and name each in printable text")
    if len({label.casefold() for label in labels}) < len(labels):
        raise ModelError(name, "config.json: id2label names a label twice")
    if all(re.fullmatch(r"LABEL_\d+", label) for label in labels):
        raise ModelError(name, "config.json: id2label has no genre names, only LABEL_0, LABEL_1, ...")
    multi_label = table.get("problem_type") == "multi_label_classification"
    if len(labels) == 1 and not multi_label:
        raise ModelError(name, "config.json: has one label, which would win over none with confidence 1")
    if len(labels) == N_AUDIOSET_LABELS and all(labels[index] == name for index, name in AUDIOSET_LABELS.items()):
        head = audioset_head()
    else:
        head = GenreHead(tuple(labels), "sigmoid" if multi_label else "softmax")
    if "genres" in fitted:
        head = read_members(name, labels, fitted)
    return with_fitted(name, head, len(labels), fitted)


def read_members(name: str, labels: Sequence[str], fitted: Mapping[str, Any]) -> GenreHead:
    """A head of which several outputs may speak for a genre, and others tell music from speech. Raises ModelError.

    `genres` is a table of genres, each with the labels of its outputs; `gate` names those of music and of speech.
    """
    column = {label: index for index, label in enumerate(labels)}
    try:
        members = {str(genre): tuple(column[label] for label in own) for genre, own in fitted["genres"].items()}
        told = fitted.get("gate")
        gate = told and Gate(column[told["music"]], column[told["speech"]], float(told["min_music"]))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"{TRAINING}: genres and gate must name labels of config.json ({one_line(error)})"
        raise ModelError(name, reason) from error
    if len(members) < 2 or not all(members.values()):
        raise ModelError(name, f"{TRAINING}: genres must name two genres or more, and outputs for each")
    return GenreHead(tuple(members), "softmax", tuple(members.values()), gate=gate or None)


def read_fitted(name: str, file: Path) -> Mapping[str, Any]:
    """What training.json says, nothing where there is none. Raises ModelError."""
    if not file.exists():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(name, f"{file.name} cannot be read ({one_line(error)})") from error
    if not isinstance(values, dict):
        raise ModelError(name, f"{file.name} must be a table")
    return values


def with_fitted(name: str, head: GenreHead, n_outputs: int, values: Mapping[str, Any]) -> GenreHead:
    """`head` with the temperature, the thresholds and the biases that training fitted, if it did. Raises ModelError.

    They are `temperature`, `min_confidence` (a number, or a table: a genre left out of it is never written by
    default), `min_confidence_reason`, `held_out` (a table: songs of each genre that these were fitted on), and `bias`
    (mean logit of each output over unlabelled music).
    """
    if not head.thresholds:
        guess = DEFAULT_CONFIDENCE[head.scale]
        reason = f"not fitted: the checkpoint names no min_confidence, so {guess} is a guess"
        head = replace(head, thresholds=(guess,) * len(head.genres), threshold_reason=reason)
    temperature, least = values.get("temperature"), values.get("min_confidence")
    if temperature is not None:
        if not is_number(temperature) or temperature <= 0:
            raise ModelError(name, f"{TRAINING}: temperature {temperature!r} must be a number above 0")
        head = replace(head, temperature=float(temperature))
    head = replace(head, n_held_out=_n_held_out(name, head, values))
    bias = values.get("bias")
    if bias is not None:
        if not isinstance(bias, list) or len(bias) != n_outputs or not all(map(is_number, bias)):
            raise ModelError(name, f"{TRAINING}: bias must be a list of {n_outputs} numbers")
        head = replace(head, bias=tuple(map(float, bias)))
    if least is None:
        return head
    table: dict[str, Any] = least if isinstance(least, dict) else dict.fromkeys(head.genres, least)
    for genre, value in table.items():
        if genre not in head.genres:
            raise ModelError(name, f"{TRAINING}: min_confidence names {genre!r}, no genre of this checkpoint")
        if not is_number(value) or not 0 <= value <= 1:
            raise ModelError(name, f"{TRAINING}: min_confidence {value!r} must be a number from 0 to 1")
    return replace(
        head,
        thresholds=tuple(float(table.get(genre, math.inf)) for genre in head.genres),
        threshold_reason=str(values.get("min_confidence_reason", "fitted in training")),
    )


def is_number(value: object) -> bool:
    """Whether JSON gave a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _n_held_out(name: str, head: GenreHead, values: Mapping[str, Any]) -> tuple[int, ...]:
    """Songs of each genre, (n_genres,), by the table `held_out`; () where there is none. Raises ModelError."""
    table = values.get("held_out")
    if table is None:
        return ()
    if not isinstance(table, dict) or not all(type(count) is int and count >= 0 for count in table.values()):
        raise ModelError(name, f"{TRAINING}: held_out must give a count for each genre")
    for genre in table:
        if genre not in head.genres:
            raise ModelError(name, f"{TRAINING}: held_out names {genre!r}, no genre of this checkpoint")
    return tuple(table.get(genre, 0) for genre in head.genres)
