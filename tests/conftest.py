"""Every test runs with the settings, state and cache of nobody, and off the network."""

import gc
import os
from pathlib import Path

import pytest

from tagger.doctor.checks import Check
from tagger.doctor.torch_probe import Machine


def pytest_collection_finish() -> None:
    """What is imported by now is garbage never: to look for it takes half a second, which a training does twice."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or nanobind finds that what OpenVINO made was never deleted


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home for settings and state, also of the processes a test starts; returns its folder."""
    home = tmp_path_factory.mktemp("nobody")
    for name in list(os.environ):
        if name.startswith("GENRE_TAG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return home


@pytest.fixture
def machine_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares a test the seconds that torch takes to say that all is well."""
    monkeypatch.setattr(Machine, "__init__", lambda *_: None)
    monkeypatch.setattr(Machine, "checks", lambda _: iter([Check("ok", "torch", "fits")]))
    monkeypatch.setattr(Machine, "close", lambda _: None)
