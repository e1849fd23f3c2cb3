"""Networks of transformers, which training needs whole; the product reads the same files without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tagger.errors import ModelError
from tagger.models.checkpoint import read_architecture, read_weights
from tagger.models.description import check_features, read_table
from tagger.models.transformer import TorchLogMel
from tagger.text import one_line

if TYPE_CHECKING:
    from transformers import ASTConfig, ASTForAudioClassification


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps log messages and progress bars of transformers off the terminal: what matters becomes a ModelError.

    Raises ModelError where transformers cannot be imported. The import takes seconds, so it happens in functions only.
    """
    try:
        from transformers import ASTConfig, ASTForAudioClassification  # noqa: F401 (imports all that may fail)
        from transformers.utils import logging
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError("transformers", f"cannot be imported ({one_line(error)}): see genre-tag doctor") from error
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


def read_network(name: str, folder: Path, config: ASTConfig, new_head: bool) -> ASTForAudioClassification:
    """The network in float32, its weights checked as for tagging; `config` may differ in the labels. Raises ModelError.

    With `new_head` these are other ones, and the head is not trained at all.
    """
    from transformers import ASTForAudioClassification

    read_weights(name, folder, read_architecture(name, folder), new_head)
    try:
        ast: ASTForAudioClassification = ASTForAudioClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=new_head,
        )
    except Exception as error:
        raise ModelError(name, f"cannot be loaded ({one_line(error)})") from error
    return ast


def read_features(name: str, folder: Path, config: ASTConfig) -> TorchLogMel:
    """The features the network was trained on, by preprocessor_config.json. Raises ModelError."""
    return TorchLogMel(**asdict(check_features(name, folder, config.num_mel_bins, config.max_length)))
