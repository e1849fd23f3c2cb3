"""The command line: which commands there are, and what becomes of their errors. Imports no more than `--help` needs."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from tagger import __version__, debug
from tagger.cli.settings import NOTHING_DONE, UNREAD, USAGE
from tagger.debug import suppress
from tagger.errors import GenreTagError, SettingsError
from tagger.terminal.signals import exit_code, install_handlers, is_ended

logger = logging.getLogger(__name__)

#: Where each command is; it is imported when it is asked for.
COMMANDS = {
    "tag": "tagger.cli.tag:tag",
    "apply": "tagger.cli.apply:apply",
    "review": "tagger.cli.review:review",
    "prepare": "training.cli_prepare:prepare",
    "train": "training.cli:train",
    "learn": "training.cli_learn:learn",
    "report": "tagger.cli.report:report",
    "explain": "tagger.cli.explain:explain",
    "doctor": "tagger.cli.doctor:doctor",
    "undo": "tagger.cli.undo:undo",
    "cache": "tagger.cli.cache:cache",
    "config": "tagger.cli.tag:config",
}
#: Those that the settings file of `tag` holds for.
CONFIGURED = ("tag", "apply", "review", "config", "explain", "report", "learn")


class _NobodyReadsError(Exception):
    """The output is a pipe whose reader has gone: no failure, but the end of a program that is about to print."""


@contextmanager
def _telling_that_nobody_reads() -> Iterator[None]:
    """Click and rich would both exit with 1, as if songs had failed."""
    try:
        yield
    except BrokenPipeError as error:
        raise _NobodyReadsError from error
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            raise _NobodyReadsError from error
        raise


class _Commands(click.Group):
    """A group whose first word may be left out: `genre-tag PATH` is `genre-tag tag PATH`."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _telling_that_nobody_reads():  # of --help
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _telling_that_nobody_reads():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, function = COMMANDS[name].partition(":")
        command: click.Command = getattr(import_module(module), function)
        if all(param.name != "debug" for param in command.params):  # it may be typed behind the command too
            command.params.append(_debug_option(hidden=True))
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        n_first = int(args[:1] == ["--debug"])
        options, words = args[:n_first], args[n_first:]
        if not words:
            return super().parse_args(ctx, [])
        if words[0] not in (*COMMANDS, "--help", "-h", "--version"):
            if meant := _meant(words[0]):
                raise click.UsageError(
                    f"{words[0]}: no such file, folder or command: did you mean genre-tag {meant}?", ctx
                )
            words = ["tag", *words]
        return super().parse_args(ctx, [*options, *words])


def _meant(word: str) -> str | None:
    """The command that a word was to be, None for one that looks like no command or is a path that is there."""
    if not word.isalpha() or os.path.lexists(word):
        return None
    return next(iter(get_close_matches(word.lower(), COMMANDS, n=1)), None)


def _debug(ctx: click.Context, _: click.Parameter, is_asked_for: bool) -> None:
    """Turn logging on, once."""
    if is_asked_for and not debug.is_on():
        debug.turn_on()
        debug.log_versions(ctx.obj)


def _debug_option(hidden: bool = False) -> click.Option:
    return click.Option(
        ["--debug"], is_flag=True, is_eager=True, expose_value=False, callback=_debug, hidden=hidden,
        help="Log to standard error what a report of a bug needs, for any command.",
    )  # fmt: skip


@click.group(
    cls=_Commands,
    params=[_debug_option()],
    subcommand_metavar="PATH... | COMMAND [ARGS]...",
    options_metavar="",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="genre-tag")
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Classify songs and write their genre into the files.

    \b
    genre-tag ~/Music                 show what each song sounds like; change nothing
    genre-tag ~/Music --write-tags    write the genre into songs that have none

    All options: genre-tag tag --help. A folder that is named like a command is reached as ./NAME.
    """
    if ctx.invoked_subcommand not in CONFIGURED:
        return
    from tagger.cli.tag import settings_in_file

    ctx.default_map = dict.fromkeys(CONFIGURED, settings_in_file())


def _named_source(error: click.BadParameter) -> str:
    """Where a wrong value came from, when not from the command line."""
    from tagger.cli.settings import config_path

    name = error.param.name if error.param else None
    source = error.ctx.get_parameter_source(name) if error.ctx and name else None
    if source is ParameterSource.DEFAULT_MAP:
        return f" (set in {config_path()})"
    if source is ParameterSource.ENVIRONMENT and error.param:
        return f" (set by {error.param.envvar} in the environment)"
    return ""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; every expected trouble is one line on stderr, never a traceback."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        if hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")  # a terminal may lack a character
    install_handlers()  # finished songs stay done
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except (_NobodyReadsError, BrokenPipeError):
        logger.debug("ended", exc_info=True)
        code = UNREAD
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            raise
        with suppress(OSError):
            click.echo(f"genre-tag: nothing more can be printed: {error.strerror}", err=True)
        code = NOTHING_DONE
    debug.turn_off()
    _drop_what_cannot_be_printed()
    sys.exit(exit_code() if is_ended() else code)


def _run(typed: Sequence[str]) -> int:
    """Run the command line; the exit code. Raises what goes wrong with the streams."""
    try:
        return int(commands.main(typed, prog_name="genre-tag", standalone_mode=False, obj=["genre-tag", *typed]) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return USAGE
    except click.ClickException as error:
        logger.debug("ended", exc_info=True)
        from tagger.text import printable

        where = _named_source(error) if isinstance(error, click.BadParameter) else ""
        click.echo(printable(f"genre-tag: {error.format_message()}{where}"), err=True)
        return error.exit_code
    except GenreTagError as error:
        logger.debug("ended", exc_info=True)
        from tagger.text import printable

        click.echo(printable(f"genre-tag: {error}"), err=True)
        return USAGE if isinstance(error, SettingsError) else NOTHING_DONE
    except (KeyboardInterrupt, click.Abort):
        logger.debug("ended", exc_info=True)
        return exit_code()


def _drop_what_cannot_be_printed() -> None:
    """Or Python tries once more on exit, and exits with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
