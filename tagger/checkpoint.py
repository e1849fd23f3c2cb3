"""The network of a checkpoint: loaded by transformers, and checked before it may hear a song."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tagger.description import WEIGHTS, Description, check_features, one_line, read_table
from tagger.features import LogMel
from tagger.predict import ModelError

if TYPE_CHECKING:
    from transformers import ASTConfig, ASTForAudioClassification

HEAD = "classifier.dense."  # the layer that has a row for each label


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, the features it was trained on, and what its files say."""

    description: Description
    ast: ASTForAudioClassification
    log_mel: LogMel


def load_checkpoint(description: Description) -> Checkpoint:
    """The checkpoint that was described, on the CPU in float32. Raises ModelError."""
    name, folder = description.name, description.folder
    with quiet_transformers():
        config = read_config(name, folder)
        return Checkpoint(description, read_network(name, folder, config), read_features(name, folder, config))


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
    """config.json as transformers understands it. Raises ModelError."""
    from transformers import ASTConfig

    read_table(name, folder)
    try:
        return ASTConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ModelError(name, f"config.json cannot be used ({one_line(error)})") from error


def check_shards(name: str, folder: Path) -> None:
    """Raise ModelError where the index of the shards names anything but safetensors of this folder.

    transformers reads whatever file it names, a pickle too.
    """
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except Exception as error:
        raise ModelError(name, f"{index.name} cannot be read ({one_line(error)})") from error
    for shard in shards - {file.name for file in folder.glob(WEIGHTS)}:
        raise ModelError(name, f"{index.name} names {shard!r}, no {WEIGHTS} of this folder: only safetensors are read")


def read_network(name: str, folder: Path, config: ASTConfig, new_head: bool = False) -> ASTForAudioClassification:
    """The network in float32, its weights checked: they fit `config`, and were trained. Raises ModelError.

    With `new_head`, the head may be of other labels, and is then not trained at all.
    """
    from safetensors import safe_open
    from transformers import ASTForAudioClassification

    check_shards(name, folder)
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
    if new_head:
        misfits = [key for key in misfits if not key.startswith(HEAD)]
    for key, stored, named in info["mismatched_keys"]:
        if key == f"{HEAD}bias" and not new_head and len(misfits) <= 2:
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
    return LogMel(**asdict(check_features(name, folder, config.num_mel_bins, config.max_length)))
