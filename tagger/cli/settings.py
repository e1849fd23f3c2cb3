"""Parameter types and exit codes that the commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tagger.errors import SettingsError

SOME_FAILED, USAGE, NOTHING_DONE = 1, 2, 3  # exit codes; 0: all fine; see also `signals.exit_code`
UNREAD = 141  # as shells have it for a program that is ended by SIGPIPE: nobody reads what it prints


class CountOr(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A count from 1, or one of the words that stand for none given."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.name = "|".join(("N", *words))

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value in self.words:
            return str(value)
        try:
            count = int(value)
        except (TypeError, ValueError):
            count = 0
        if count < 1 or isinstance(value, bool | float):
            self.fail(f"{value!r} is neither a count from 1 up nor {' nor '.join(map(repr, self.words))}.", param, ctx)
        return count


class Fraction(click.ParamType):  # type: ignore[type-arg]
    """A number from 0 to 1."""

    name = "0..1"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a number from 0 to 1.", param, ctx)
        if 1 < number <= 100:
            self.fail(
                f"{value} is above 1. It is a fraction, not a percentage: did you mean {number / 100:g}?", param, ctx
            )
        if not 0 <= number <= 1:
            self.fail(f"{value} is not between 0 and 1.", param, ctx)
        return number


class Separator(click.ParamType):  # type: ignore[type-arg]
    """Text that tells genres apart within one value of a tag."""

    name = "TEXT"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not isinstance(value, str) or not value.isprintable() or not value.strip() or any(map(str.isalnum, value)):
            self.fail(f"{value!r} does not tell genres apart: try '; '.", param, ctx)
        return value


def variable_of(name: str) -> str:
    """The variable of the environment that stands for an option.

    >>> variable_of("min-confidence")
    'GENRE_TAG_MIN_CONFIDENCE'
    """
    return f"GENRE_TAG_{name.replace('-', '_').upper()}"


def option(*names: str, **attributes: Any) -> Callable[[Any], Any]:
    """An option that the environment (GENRE_TAG_NAME) and the settings file can give as well."""
    name = next(name for name in names if name.startswith("--")).removeprefix("--")
    return click.option(*names, envvar=variable_of(name), show_default=True, **attributes)


def values_in_file(option: click.Option) -> tuple[tuple[type, ...], str]:
    """Types of TOML in which the settings file may give an option, and what they are in words."""
    kind = option.type
    if option.is_flag:
        return (bool,), "true or false"
    if option.multiple:
        return (str, list), "a list of texts in quotes"
    if isinstance(kind, CountOr):
        return (int, str), f"a whole number or one of {', '.join(kind.words)}"
    if isinstance(kind, click.IntRange):
        return (int, str), "a whole number"
    if isinstance(kind, Fraction):
        return (int, float, str), "a number from 0 to 1"
    return (str,), f"one of {', '.join(kind.choices)}" if isinstance(kind, click.Choice) else "text in quotes"


def source_of(ctx: click.Context, name: str) -> str:
    """Where the value of a parameter comes from, in words."""
    words = {
        ParameterSource.COMMANDLINE: "command line",
        ParameterSource.ENVIRONMENT: "environment",
        ParameterSource.DEFAULT_MAP: "settings file",
    }
    source = ctx.get_parameter_source(name)
    return words.get(source, "default") if source else "default"


def command_line() -> list[str]:
    """What the user typed, for the journal."""
    typed: list[str] = click.get_current_context().obj
    return typed


if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def config_path() -> Path:
    """Where the settings are: GENRE_TAG_CONFIG, else config.toml in the system's place for settings."""
    given = os.path.expanduser(os.environ.get("GENRE_TAG_CONFIG", ""))
    if given:
        return Path(given)
    from platformdirs import user_config_path  # not at the head: doctor looks also where it is broken

    return user_config_path("genre-tag") / "config.toml"


def read_config(path: Path, known: Collection[str], typed_only: Collection[str] = ()) -> dict[str, Any]:
    """Settings by option name (`min-confidence`; the file may write `min_confidence`), {} when there is no file.

    Raises SettingsError for a file that is not TOML and for a key that is not in `known`: a misspelt setting would
    otherwise go unnoticed. Those in `typed_only` are for the command line alone, and the error says so.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(path, error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(path, f"not valid TOML: {error}") from error
    named = {key.replace("_", "-"): value for key, value in settings.items()}
    for key in named:
        if key in typed_only:
            raise typed_only_error(path, key)
        if key not in known:
            raise SettingsError(path, f"unknown setting {key!r}; known are: {', '.join(sorted(known))}")
    return named


def typed_only_error(place: Path, name: str) -> SettingsError:
    """The error for an option that is given in a place other than the command line."""
    return SettingsError(place, f"{name} is for the command line alone: type --{name}")
