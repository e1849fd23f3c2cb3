"""The network of a checkpoint, read from its safetensors and checked before it classifies a song."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from tagger.errors import ModelError
from tagger.models.architecture import Architecture, weight_shapes
from tagger.models.description import WEIGHTS, Description, read_table
from tagger.models.features import LogMel
from tagger.text import one_line

logger = logging.getLogger(__name__)

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"

#: What safetensors calls a number format that weights may have -> numpy's name of it, which has none for bfloat16.
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}

# What a weight is called here (`architecture.weight_shapes`), where its name in a file matches. Files have the names of
# transformers 4, which transformers 5 goes on writing, though its own are those after the bar.
NAMES = (
    (r"^audio_spectrogram_transformer\.(embeddings\.)?", ""),
    (r"^patch_embeddings\.projection\.", "patches."),
    (r"^cls_token$", "class_token"),
    (r"^position_embeddings$", "positions"),
    (r"^(encoder\.layer|layers)\.", "layers."),
    (r"\.attention\.(attention\.query|q_proj)\.", ".q_proj."),
    (r"\.attention\.(attention\.key|k_proj)\.", ".k_proj."),
    (r"\.attention\.(attention\.value|v_proj)\.", ".v_proj."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".out_proj."),
    (r"\.(intermediate\.dense|mlp\.fc1)\.", ".fc1."),
    (r"\.(output\.dense|mlp\.fc2)\.", ".fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.layernorm\.", "head_norm."),
    (r"^classifier\.dense\.", "head."),
)
HEAD = "head."  # the layer with a row for each label


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, the features it was trained on, and what its files say."""

    description: Description
    architecture: Architecture
    #: As `architecture.weight_shapes` names them, in float32.
    weights: Mapping[str, np.ndarray]
    log_mel: LogMel


def load_checkpoint(description: Description) -> Checkpoint:
    """The checkpoint that was described. Raises ModelError."""
    name, folder = description.name, description.folder
    architecture = read_architecture(name, folder)
    weights = read_weights(name, folder, architecture)
    return Checkpoint(description, architecture, weights, LogMel(**asdict(description.features)))


def read_architecture(name: str, folder: Path) -> Architecture:
    """The network that config.json describes. Raises ModelError."""
    table = read_table(name, folder)
    values = {field.name: table[field.name] for field in fields(Architecture) if field.name in table}
    try:
        if "id2label" in table:
            values["num_labels"] = len(table["id2label"])
        return Architecture(**values)
    except (TypeError, ValueError) as error:
        raise ModelError(name, f"config.json cannot be used ({one_line(error)})") from error


def read_weights(name: str, folder: Path, architecture: Architecture, new_head: bool = False) -> dict[str, np.ndarray]:
    """The weights of the network, in float32: they fit the architecture, and were trained. Raises ModelError.

    With `new_head`, the head may be of other labels, and is left out.
    """
    shapes = weight_shapes(architecture)
    weights: dict[str, np.ndarray] = {}
    misfits = []
    for stored, tensor in read_tensors(name, folder).items():
        own = own_name(stored)
        if own in weights or tensor.shape != shapes.get(own) or tensor.dtype != np.float32:
            misfits.append(stored)
        weights[own] = tensor
    misfits += shapes.keys() - weights.keys()
    if new_head:
        misfits = [each for each in misfits if not own_name(each).startswith(HEAD)]
        weights = {own: weight for own, weight in weights.items() if not own.startswith(HEAD)}
    bias = weights.get(f"{HEAD}bias")
    if bias is not None and bias.size != architecture.num_labels and len(misfits) <= 2:
        raise ModelError(name, f"config.json names {architecture.num_labels} labels, the weights have {bias.size}")
    if misfits:
        raise ModelError(name, f"the weights do not fit config.json: {len(misfits)} tensors, such as {min(misfits)}")
    if not weights["positions"].any():
        raise ModelError(
            name, "its position embeddings are all zero, as after a change of input length: train it again"
        )
    if not all(np.isfinite(weight).all() for weight in weights.values()):
        raise ModelError(name, "some weights are NaN or infinite: train it again")
    return weights


def read_last_layer(description: Description) -> tuple[np.ndarray, np.ndarray]:
    """Weight (n_outputs, width) and bias (n_outputs,) of the head, in float32. Raises ModelError.

    No more is read than these, where the weights are in one file of numbers that NumPy has.
    """
    from safetensors import safe_open

    found = {}
    try:
        with safe_open(description.folder / FILE, "numpy") as tensors:
            for stored in tensors.keys():  # noqa: SIM118 - it is no mapping
                if own_name(stored).startswith(HEAD):
                    found[own_name(stored)] = tensors.get_tensor(stored).astype(np.float32)
    except Exception:
        logger.debug("the weights of %s are read whole", description.name, exc_info=True)
        stored_tensors = read_tensors(description.name, description.folder)
        found = {own_name(stored): tensor for stored, tensor in stored_tensors.items()}
    try:
        return found[f"{HEAD}weight"], found[f"{HEAD}bias"]
    except KeyError as error:
        raise ModelError(description.name, f"the weights have no {error.args[0]}") from error


def read_tensors(name: str, folder: Path) -> dict[str, np.ndarray]:
    """All that the safetensors of a folder hold; floating-point numbers in float32. Raises ModelError."""
    from safetensors import deserialize

    read: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = deserialize
    tensors: dict[str, np.ndarray] = {}
    for file in [FILE] if (folder / FILE).exists() else read_index(name, folder):
        try:
            stored = read((folder / file).read_bytes())
            tensors |= {each: as_array(tensor["data"], tensor["dtype"], tensor["shape"]) for each, tensor in stored}
        except Exception as error:
            raise ModelError(name, f"{file} is damaged or cut off ({one_line(error)}): fetch it again") from error
    return tensors


def as_array(data: bytes, dtype: str, shape: Sequence[int]) -> np.ndarray:
    """A tensor of a file, in float32 if it is of floating-point numbers, else its bytes."""
    if dtype not in FLOATS:
        return np.frombuffer(data, np.uint8)
    values = np.frombuffer(data, FLOATS[dtype]).reshape(shape)
    if dtype == "BF16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
        return values.astype(np.float32)


def read_index(name: str, folder: Path) -> list[str]:
    """The shards that the weights are spread over. Raises ModelError where the index names anything but such files."""
    try:
        shards = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except Exception as error:
        raise ModelError(name, f"{INDEX} cannot be read ({one_line(error)})") from error
    for shard in set(shards) - {file.name for file in folder.glob(WEIGHTS)}:
        raise ModelError(name, f"{INDEX} names {shard!r}, no {WEIGHTS} of this folder: only safetensors are read")
    return shards


def own_name(stored: str) -> str:
    """What a weight is called here, or a name that none has.

    >>> own_name("audio_spectrogram_transformer.encoder.layer.0.attention.attention.query.weight")
    'layers.0.q_proj.weight'
    """
    for pattern, name in NAMES:
        stored = re.sub(pattern, name, stored)
    return stored
