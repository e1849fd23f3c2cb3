"""The settings file."""

from pathlib import Path

import pytest

from tagger.cli.settings import config_path, read_config
from tagger.errors import SettingsError

KNOWN = ("min-confidence", "model", "exclude")


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_keys_may_be_spelt_like_the_options(tmp_path: Path) -> None:
    path = write(tmp_path, 'min-confidence = 0.7\nmodel = "audioset"\nexclude = ["*.wav"]\n')
    assert read_config(path, KNOWN) == {"min-confidence": 0.7, "model": "audioset", "exclude": ["*.wav"]}


def test_no_file_is_no_settings(tmp_path: Path) -> None:
    assert read_config(tmp_path / "none.toml", KNOWN) == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("min_confidence 0.7", "not valid TOML"),
        ("min-confidnce = 1", "unknown setting 'min-confidnce'; known are: exc"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as raised:
        read_config(path, KNOWN)
    assert raised.value.path == path
    assert raised.value.reason.startswith(reason)


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Is a directory"):
        read_config(tmp_path, KNOWN)


def test_the_environment_can_name_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GENRE_TAG_CONFIG", str(tmp_path / "mine.toml"))
    assert config_path() == tmp_path / "mine.toml"
    monkeypatch.setenv("GENRE_TAG_CONFIG", "~/mine.toml")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_path() == tmp_path / "mine.toml"
    monkeypatch.delenv("GENRE_TAG_CONFIG")
    assert config_path().name == "config.toml"
