"""From a layer that was learned to a checkpoint: the network as it is, and the new layer in the place of its last."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tagger.atomic import replacing
from tagger.errors import OutputError
from tagger.models.checkpoint import FILE, HEAD, own_name, read_tensors
from tagger.models.description import CONFIGS, TRAINING, Description
from training.outcome.calibrate import training_values
from training.probe.base import Base
from training.probe.folds import Learned
from training.probe.songs import Tagged

GATE = "gate: {}"  # label of an output that tells music from speech


@dataclass(frozen=True, eq=False)
class LastLayer:
    """A last layer, an output a row, and what its outputs mean."""

    weight: np.ndarray  # (n_outputs, width) float32
    bias: np.ndarray  # (n_outputs,) float32
    labels: tuple[str, ...]
    #: Genre -> the labels of its outputs, the learned genres first.
    genres: dict[str, list[str]]
    #: As training.json has it; None where the model has none.
    gate: dict[str, Any] | None


def last_layer(learned: Learned, base: Base, tagged: Tagged, labels: tuple[str, ...]) -> LastLayer:
    """The layer by which embeddings give what was learned; `labels` are those of the outputs of the model."""
    rows: list[tuple[np.ndarray, float]] = []
    names: list[str] = []
    genres: dict[str, list[str]] = {}

    def add(genre: str, outputs: Iterator[tuple[str, np.ndarray, float]]) -> None:
        genres[genre] = []
        for label, weight, bias in outputs:
            genres[genre].append(label)
            names.append(label)
            rows.append((weight, bias))

    for index, genre in enumerate(tagged.genres):
        add(genre, _outputs_of_learned(index, genre, learned, base, labels))
    for other in base.others if learned.strength.prior else ():
        add(base.head.genres[other], _outputs_of(base.head.genres[other], other, base, learned.strength.prior, labels))
    gate = base.head.gate
    told = None
    if gate is not None:
        told = {"music": GATE.format("music"), "speech": GATE.format("speech"), "min_music": gate.min_music}
        for name, column in ((told["music"], gate.music), (told["speech"], gate.speech)):
            names.append(str(name))
            rows.append((base.weight[column], float(base.bias[column])))
    weight = np.stack([row for row, _ in rows]).astype(np.float32)
    return LastLayer(weight, np.array([bias for _, bias in rows], np.float32), tuple(names), genres, told)


def _outputs_of(
    genre: str, of_model: int, base: Base, share: float, labels: tuple[str, ...]
) -> Iterator[tuple[str, np.ndarray, float]]:
    """Label, weight (width,) and bias of each output by which a share of the model's own scores is given."""
    weight, bias = base.layer_of(of_model)
    members = base.members[of_model]
    for row, column in enumerate(members):
        yield (
            genre if len(members) == 1 else f"{genre}: {labels[column]}",
            share * weight[row],
            share * float(bias[row]),
        )


def _outputs_of_learned(
    index: int, genre: str, learned: Learned, base: Base, labels: tuple[str, ...]
) -> Iterator[tuple[str, np.ndarray, float]]:
    strength, parent = learned.strength, base.parents[index]
    weight, bias = strength.share * learned.regression.weight[index], strength.share * learned.regression.bias[index]
    if parent is None or not strength.prior:
        yield genre, weight, float(bias)
        return
    for label, own_weight, own_bias in _outputs_of(genre, parent, base, strength.prior, labels):
        yield label, own_weight + weight, own_bias + float(bias)


def write_checkpoint(
    folder: Path, description: Description, layer: LastLayer, learned: Learned, tagged: Tagged
) -> None:
    """Write the checkpoint, a folder `GenreModel.load` takes; `description` is of the model. Raises OutputError."""
    from safetensors.numpy import save

    tensors = read_tensors(description.name, description.folder)
    for stored in tensors:
        if own_name(stored).startswith(HEAD):
            tensors[stored] = layer.weight if own_name(stored) == f"{HEAD}weight" else layer.bias
    config = json.loads((description.folder / CONFIGS[0]).read_text(encoding="utf-8"))
    config |= {
        "id2label": {str(index): label for index, label in enumerate(layer.labels)},
        "label2id": {label: index for index, label in enumerate(layer.labels)},
        "problem_type": "single_label_classification",
        "num_labels": len(layer.labels),
    }
    files = {
        name: (description.folder / name).read_bytes() for name in CONFIGS[1:] if (description.folder / name).exists()
    }
    files |= {
        CONFIGS[0]: json.dumps(config, indent=1).encode(),
        TRAINING: json.dumps(training_table(description, layer, learned, tagged), indent=1).encode(),
        FILE: save({name: np.ascontiguousarray(each) for name, each in tensors.items()}, {"format": "pt"}),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            with replacing(folder / name) as file:
                file.write(data)
    except OSError as error:
        raise OutputError(folder, error.strerror or str(error)) from error


def training_table(description: Description, layer: LastLayer, learned: Learned, tagged: Tagged) -> dict[str, Any]:
    """What training.json says: thresholds of the learned genres (the others are never written), and the evidence."""
    values = training_values(learned.temperature, learned.threshold)
    if math.isfinite(learned.threshold.value):
        values["min_confidence"] = dict.fromkeys(tagged.genres, learned.threshold.value)
    counts = np.bincount(tagged.labels, minlength=len(tagged.genres)).tolist()
    return values | {
        "genres": layer.genres,
        **({"gate": layer.gate} if layer.gate else {}),
        "backbone": description.fingerprint,
        "began_as": description.name,
        "held_out": dict(zip(tagged.genres, counts, strict=True)),
        "held_out_artists": int(tagged.artists.max()) + 1,
    }
