"""Tiny checkpoints for tests, made on the spot by transformers, laid out as on the Hugging Face hub."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tagger.errors import ModelError
from tagger.models.description import AUDIOSET_LABELS, N_AUDIOSET_LABELS
from tagger.models.features import AUDIOSET_MEAN, AUDIOSET_STD

GENRES = ("Classical", "Jazz", "Rock")
AUDIOSET = tuple(AUDIOSET_LABELS.get(index, f"Sound {index}") for index in range(N_AUDIOSET_LABELS))


def make_checkpoint(
    folder: Path,
    labels: Sequence[str] = GENRES,
    *,
    n_mels: int = 128,
    n_frames: int = 128,
    mean: float = AUDIOSET_MEAN,
    std: float = AUDIOSET_STD,
    multi_label: bool = False,
    training: dict[str, Any] | None = None,
    seed: int = 0,
    **config: Any,
) -> Path:
    """A checkpoint folder whose seeded random network tells waveforms apart; `training` becomes its training.json."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    torch.manual_seed(seed)
    tiny = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    strides = {"time_stride": 16, "frequency_stride": 16}
    ast = ASTForAudioClassification(
        ASTConfig(
            **(tiny | strides | config),
            num_mel_bins=n_mels,
            max_length=n_frames,
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            problem_type="multi_label_classification" if multi_label else "single_label_classification",
        )
    )
    with torch.no_grad():
        for weight in ast.parameters():
            weight.normal_(std=0.2)
    ast.save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=n_mels, max_length=n_frames, mean=mean, std=std).save_pretrained(folder)
    if training is not None:
        (folder / "training.json").write_text(json.dumps(training), encoding="utf-8")
    return folder


def edit_json(file: Path, **values: Any) -> None:
    """Sets keys of a JSON file; None deletes one."""
    table = json.loads(file.read_text(encoding="utf-8")) | values
    kept = {key: value for key, value in table.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")


def why_refused(use: Callable[[str], object], name: str | Path) -> str:
    """The reason why `use` refuses a checkpoint, which it must, in one line."""
    with pytest.raises(ModelError) as caught:
        use(str(name))
    assert "\n" not in str(caught.value)
    assert str(caught.value) == f"{caught.value.path}: {caught.value.reason}".removeprefix(": ")
    return caught.value.reason
