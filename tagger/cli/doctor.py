"""`genre-tag doctor`."""

from __future__ import annotations

import copy
import logging
import shutil
import sys
import textwrap
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from tagger.cli.settings import SOME_FAILED, source_of
from tagger.cli.tag import settings_in_file, settings_of_tag, tag, tag_options
from tagger.debug import suppress
from tagger.errors import ModelError, SettingsError
from tagger.text import counted, printable

if TYPE_CHECKING:
    from tagger.doctor.checks import Check

logger = logging.getLogger(__name__)

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}
_INDENT = " " * 23


def _if_typed(name: str) -> click.Option:
    """An option of `tag`, None unless it is typed: settings that are wrong are to be found, not obeyed."""
    option = copy.copy(settings_of_tag()[name])
    option.default, option.envvar, option.show_default = None, None, False
    return option


@click.command(short_help="Check that everything works here, and how fast.")
@click.argument("paths", nargs=-1, metavar="[LIBRARY]...")
@click.option("--no-speed", is_flag=True, help="Leave the speed test out: seconds instead of half a minute.")
@click.pass_context
def doctor(ctx: click.Context, /, paths: tuple[str, ...], no_speed: bool, **typed: str | None) -> None:
    """Check that everything works here: libraries, device, decoders, settings, model; and how fast.

    With a LIBRARY, speed is measured on its songs, and told is how long a run over all of it would take. No song is
    written and nothing is fetched; kept are timings of this machine, for later runs.

    \b
    Exit codes: 0 it can work, 1 something does not.
    """
    from tagger.doctor.examine import Asked, examine

    settings, check = _settings()
    counts = Counter([check.state])
    _print(check)
    settings |= {name: value for name, value in typed.items() if value is not None}
    with suppress(ImportError, ModelError):  # is told of below
        from tagger.evaluation.learned import MINE, model_of

        if settings.get("model") == MINE:
            settings["model"] = model_of(paths)
    asked = Asked(tag_options(settings, {}), paths, settings.get("exclude", ()), with_speed=not no_speed)
    if not no_speed and sys.stderr.isatty():
        click.echo("(half a minute: the speed test comes last)", err=True)
    for check in examine(asked):
        counts[check.state] += 1
        _print(check)
    told = [(state, counts[state]) for state in ("problem", "warning") if counts[state]]
    click.echo(" and ".join(counted(n, state) for state, n in told) + "." if told else "All is well.")
    ctx.exit(SOME_FAILED if counts["problem"] else 0)


doctor.params += [_if_typed(name) for name in ("model", "device", "precision")]


def _settings() -> tuple[dict[str, Any], Check]:
    """The settings of `tag` in force, or its defaults where they are wrong, and what is to be said of them."""
    from tagger.doctor.checks import Check, failed

    defaults: dict[str, Any] = {}
    try:
        from tagger.cli.settings import config_path

        try:
            in_file = settings_in_file()
            with tag.make_context("tag", [], default_map=in_file) as context:
                path = config_path()
                said = f"{len(in_file)} in {path}" if path.exists() else f"no file: {path}"
                return context.params, Check("ok", "settings", said)
        except SettingsError as error:
            logger.debug("settings", exc_info=True)
            return defaults, Check("problem", "settings", str(error), "fix the file, or delete it")
        except click.BadParameter as error:
            logger.debug("settings", exc_info=True)
            source = source_of(error.ctx, error.param.name or "") if error.ctx and error.param else "settings"
            place = error.param.envvar if source == "environment" and error.param else f"it in {config_path()}"
            return defaults, Check(
                "problem", "settings", f"{error.format_message()} (from the {source})", f"fix {place}"
            )
    except Exception as error:
        logger.debug("settings", exc_info=True)
        return defaults, failed("settings", error)


def _print(check: Check) -> None:
    state = click.style(f"{check.state:<8}", fg=_COLOURS[check.state])
    text = printable(check.says)
    if check.remedy:
        text += f"\n→ {printable(check.remedy)}"
    width = max(40, shutil.get_terminal_size().columns - len(_INDENT)) if sys.stdout.isatty() else 10_000
    wrap = partial(textwrap.wrap, width=width, break_long_words=False, break_on_hyphens=False)  # paths stay whole
    lines = [wrapped for line in text.split("\n") for wrapped in wrap(line)]
    click.echo(f"{state} {check.name:<13} {f'{chr(10)}{_INDENT}'.join(lines)}")
