"""The networks that training begins with: checked as for tagging, then built by transformers."""

import sys
from pathlib import Path

import pytest
import torch

from tagger.errors import ModelError
from tests.support.checkpoints import edit_json, make_checkpoint
from training.learning.pretrained import quiet_transformers, read_config, read_features, read_network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "checkpoint")


@pytest.mark.parametrize("new_head", [False, True])
def test_the_network_is_that_of_transformers(folder: Path, new_head: bool) -> None:
    from transformers import ASTForAudioClassification

    expected = ASTForAudioClassification.from_pretrained(folder, dtype=torch.float32)
    config = read_config("it", folder)
    if new_head:
        config.num_labels = 5
    ast = read_network("it", folder, config, new_head)
    heads = ("classifier.dense.weight", "classifier.dense.bias") if new_head else ()
    for name, weight in expected.state_dict().items():
        found = ast.state_dict()[name]
        assert found.shape == (5, *weight.shape[1:]) if name in heads else torch.equal(found, weight), name
    assert {weight.dtype for weight in ast.parameters()} == {torch.float32}
    log_mel = read_features("it", folder, config)
    assert (log_mel.n_frames, log_mel.filters.shape[1]) == (128, 128)


def test_what_only_training_reads_is_checked_too(folder: Path) -> None:
    edit_json(folder / "config.json", initializer_range="x")
    with pytest.raises(ModelError, match=r"it: config\.json cannot be used"):
        read_config("it", folder)
    edit_json(folder / "config.json", initializer_range=0.02, hidden_act="linear")  # known to transformers alone
    with pytest.raises(ModelError, match="hidden_act is 'linear'"):
        read_network("it", folder, read_config("it", folder), new_head=True)


def test_transformers_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"cannot be imported \(.+\): see genre-tag doctor"), quiet_transformers():
        pass


@pytest.mark.parametrize("progress_bars", [True, False])
def test_transformers_is_silent_and_its_logging_left_as_it_was(
    folder: Path, capfd: pytest.CaptureFixture[str], progress_bars: bool
) -> None:
    from transformers.utils import logging

    (logging.enable_progress_bar if progress_bars else logging.disable_progress_bar)()
    logging.set_verbosity_info()
    try:
        with quiet_transformers():
            read_network("it", folder, read_config("it", folder), new_head=False)
        assert capfd.readouterr() == ("", "")
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.INFO, progress_bars)
    finally:
        logging.set_verbosity_warning()
        logging.enable_progress_bar()
