"""The user's settings file: TOML, keys named like the options of `genre-tag tag`."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import platformdirs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class ConfigError(Exception):
    """A settings file that cannot be used: `path`, and `reason` with the line or the key."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def config_path() -> Path:
    """Where the settings are: GENRE_TAG_CONFIG, else config.toml in the system's place for settings."""
    given = os.path.expanduser(os.environ.get("GENRE_TAG_CONFIG", ""))
    return Path(given or platformdirs.user_config_path("genre-tag") / "config.toml")


def read_config(path: Path, known: Collection[str], typed_only: Collection[str] = ()) -> dict[str, Any]:
    """Settings by option name (`min-confidence`; the file may write `min_confidence`), {} when there is no file.

    Raises ConfigError for a file that is not TOML and for a key that is not in `known`: a misspelt setting would
    otherwise go unnoticed. Those in `typed_only` are for the command line alone, and the error says so.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(path, error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"not valid TOML: {error}") from error
    named = {key.replace("_", "-"): value for key, value in settings.items()}
    for key in named:
        if key in typed_only:
            raise typed_only_error(path, key)
        if key not in known:
            raise ConfigError(path, f"unknown setting {key!r}; known are: {', '.join(sorted(known))}")
    return named


def typed_only_error(place: Path, name: str) -> ConfigError:
    """The error for an option that is given in a place other than the command line."""
    return ConfigError(place, f"{name} is for the command line alone: type --{name}")
