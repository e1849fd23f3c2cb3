"""The network of a checkpoint, read from its safetensors and checked before it may classify a song."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from tagger.errors import ModelError
from tagger.models.description import WEIGHTS, Description, one_line, read_table
from tagger.models.features import LogMel
from tagger.models.transformer import Architecture, Transformer

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"

# What a weight is called in a `Transformer`, where its name in a file matches. Files have the names of transformers 4,
# which transformers 5 goes on writing, though its own are those after the bar.
NAMES = (
    (r"^audio_spectrogram_transformer\.(embeddings\.)?", ""),
    (r"^patch_embeddings\.projection\.", "patches."),
    (r"^cls_token$", "class_token"),
    (r"^position_embeddings$", "positions"),
    (r"^(encoder\.layer|layers)\.", "layers."),
    (r"\.attention\.(attention\.query|q_proj)\.", ".queries."),
    (r"\.attention\.(attention\.key|k_proj)\.", ".keys."),
    (r"\.attention\.(attention\.value|v_proj)\.", ".values."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".merge."),
    (r"\.(intermediate\.dense|mlp\.fc1)\.", ".widen."),
    (r"\.(output\.dense|mlp\.fc2)\.", ".narrow."),
    (r"\.layernorm_(before|after)\.", r".\1."),
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
    #: By their names in `Transformer`, on the CPU in float32.
    weights: Mapping[str, torch.Tensor]
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
        architecture = Architecture(**values)
        Transformer.shapes(architecture)
    except (TypeError, ValueError, RuntimeError) as error:  # torch has no tensors of some sizes
        raise ModelError(name, f"config.json cannot be used ({one_line(error)})") from error
    return architecture


def read_weights(
    name: str, folder: Path, architecture: Architecture, new_head: bool = False
) -> dict[str, torch.Tensor]:
    """The weights of a `Transformer`, in float32: they fit the architecture, and were trained. Raises ModelError.

    With `new_head`, the head may be of other labels, and is left out.
    """
    shapes = Transformer.shapes(architecture)
    weights: dict[str, torch.Tensor] = {}
    misfits = []
    for stored, tensor in read_tensors(name, folder).items():
        own = own_name(stored)
        if own in weights or tensor.shape != shapes.get(own) or not tensor.is_floating_point():
            misfits.append(stored)
        weights[own] = tensor.to(torch.float32, copy=True)  # or it would be a view of the file, which may change
    misfits += shapes.keys() - weights.keys()
    if new_head:
        misfits = [each for each in misfits if not own_name(each).startswith(HEAD)]
        weights = {own: weight for own, weight in weights.items() if not own.startswith(HEAD)}
    bias = weights.get(f"{HEAD}bias")
    if bias is not None and bias.numel() != architecture.num_labels and len(misfits) <= 2:
        named, n_outputs = architecture.num_labels, bias.numel()
        raise ModelError(name, f"config.json names {named} labels, the weights have {n_outputs}")
    if misfits:
        raise ModelError(name, f"the weights do not fit config.json: {len(misfits)} tensors, such as {min(misfits)}")
    if not weights["positions"].any():
        raise ModelError(
            name, "its position embeddings are all zero, as after a change of input length: train it again"
        )
    if not all(weight.isfinite().all() for weight in weights.values()):
        raise ModelError(name, "some weights are no finite numbers: train it again")
    return weights


def read_tensors(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """All that the safetensors of a folder hold. Raises ModelError."""
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for file in [FILE] if (folder / FILE).exists() else read_index(name, folder):
        try:
            tensors |= load_file(folder / file)
        except Exception as error:
            raise ModelError(name, f"{file} is damaged or cut off ({one_line(error)}): fetch it again") from error
    return tensors


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
    """What a weight is called in a `Transformer`, or a name that none has.

    >>> own_name("audio_spectrogram_transformer.encoder.layer.0.attention.attention.query.weight")
    'layers.0.queries.weight'
    """
    for pattern, name in NAMES:
        stored = re.sub(pattern, name, stored)
    return stored
