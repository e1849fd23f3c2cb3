"""A checkpoint to spoil."""

import shutil
from pathlib import Path

import pytest

from tests.support.checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with nothing wrong; tests spoil a copy."""
    return make_checkpoint(tmp_path_factory.mktemp("sound") / "checkpoint")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "checkpoint"))
