"""The command line: parse, call one function, show what comes back. Imports no more than `--help` needs."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from tagger import __version__
from tagger.options import TagOptions

if TYPE_CHECKING:
    from tagger.library import Found
    from tagger.model import GenreModel
    from tagger.terminal import Screen

SOME_FAILED, USAGE, NOTHING_DONE, INTERRUPTED = 1, 2, 3, 130  # exit codes; 0: all fine

#: Commands to come; their names are kept free so that a script means the same tomorrow.
RESERVED = ("train", "prepare", "report", "store", "explain", "doctor")
#: What must be asked for on the command line, each time: never set by a file or the environment.
NEVER_CONFIGURED = ("write-tags", "dry-run", "overwrite", "quiet", "verbose")


class _Commands(click.Group):
    """A group whose first word may be left out: `genre-tag PATH` is `genre-tag tag PATH`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in RESERVED and args[0] not in self.commands:
            raise click.UsageError(f"{args[0]!r} is not in this version; a folder of that name is ./{args[0]}")
        if args and args[0] not in (*self.commands, "--help", "-h", "--version"):
            args = ["tag", *args]
        return super().parse_args(ctx, args)


class _NothingDoneError(click.ClickException):
    exit_code = NOTHING_DONE


class _CountOr(click.ParamType):
    """A count from 1, or a word that stands for none given."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.name = f"N|{word}"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == self.word:
            return self.word
        try:
            count = int(value)
        except (TypeError, ValueError):
            count = 0
        if count < 1 or isinstance(value, bool | float):
            self.fail(f"{value!r} is neither a count from 1 up nor {self.word!r}.", param, ctx)
        return count


class _Fraction(click.ParamType):
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


def _option(*names: str, **attributes: Any) -> Callable[[Any], Any]:
    """An option that the environment (GENRE_TAG_NAME) and the settings file can give as well."""
    name = next(name for name in names if name.startswith("--")).removeprefix("--")
    return click.option(*names, envvar=f"GENRE_TAG_{name.replace('-', '_').upper()}", show_default=True, **attributes)


def _settings() -> dict[str, click.Option]:
    """The options of `tag` that have a place in the settings file, by their names there."""
    options = {name.removeprefix("--"): param for param in tag.params for name in param.opts if name.startswith("--")}
    return {
        name: param
        for name, param in options.items()
        if isinstance(param, click.Option) and name not in NEVER_CONFIGURED
    }


@click.group(
    cls=_Commands,
    subcommand_metavar="PATH... | COMMAND [ARGS]...",
    options_metavar="",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="genre-tag")
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Hear songs and write their genre into the files.

    \b
    genre-tag ~/Music                 show what each song sounds like; change nothing
    genre-tag ~/Music --write-tags    write the genre into songs that have none

    All options: genre-tag tag --help. A folder that is named like a command is reached as ./NAME.
    """
    from tagger.config import ConfigError, config_path, read_config

    if ctx.invoked_subcommand not in ("tag", "config"):
        return
    options = _settings()
    try:
        settings = read_config(config_path(), options)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    ctx.default_map = {
        "tag": {
            options[name].name: [value] if options[name].multiple and isinstance(value, str) else value
            for name, value in settings.items()
        }
    }


@commands.command(short_help="Hear songs, show or write their genre (the default command).")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--write-tags", is_flag=True, help="Write the genres into the files. Without it nothing is changed.")
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing: the same as leaving --write-tags out.")
@_option(
    "--existing",
    type=click.Choice(["keep", "append", "replace"]),
    default=TagOptions.existing,
    help="For songs that have a genre: leave it, add to it, or replace it.",
)
@click.option("--overwrite", is_flag=True, help="The same as --existing replace.")
@_option(
    "--model",
    default="starter",
    metavar="NAME",
    help="'starter' (built in), 'audioset', a checkpoint folder, or a hub id.",
)
@_option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", help="Where the model runs.")
@_option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    help="Arithmetic of the model; auto takes the fastest that is safe on the device.",
)
@_option("--batch-size", type=_CountOr("auto"), default="auto", help="Snippets the model hears at once.")
@_option("-j", "--jobs", type=_CountOr("auto"), default="auto", help="Processes that decode.")
@_option(
    "--snippets",
    type=_CountOr("all"),
    default=TagOptions.n_snippets,
    help="Ten-second snippets heard of each song, spread evenly.",
)
@_option(
    "--aggregate",
    type=click.Choice(["mean", "weighted", "vote", "max"]),
    default=TagOptions.aggregate,
    help="How the snippets of a song become one answer.",
)
@_option(
    "--max-genres",
    type=click.IntRange(min=1),
    metavar="N",
    default=TagOptions.max_genres,
    help="Genres a song gets at most.",
)
@_option(
    "--min-confidence",
    type=_Fraction(),
    default=TagOptions.min_confidence,
    help="Least confidence for a genre to be written. [default: set per genre by the model]",
)
@_option(
    "--map",
    "map_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File of 'Genre = Name' lines; 'Genre =' drops one.",
)
@_option("--exclude", multiple=True, metavar="GLOB", help="Pass over files and folders of that name. Repeatable.")
@_option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N songs: a trial.")
@_option("--json", "json_target", metavar="FILE|-", help="One JSON object per song; '-' for stdout.")
@_option("--csv", "csv_target", metavar="FILE|-", help="One CSV row per song; '-' for stdout.")
@_option(
    "--time-limit",
    type=click.IntRange(min=1, max=86_400),
    metavar="SECONDS",
    default=TagOptions.time_limit_seconds,
    help="Give a song up when its decoding takes longer.",
)
@_option("--preserve-mtime", is_flag=True, help="Keep the date of files. Music servers then miss the change.")
@_option(
    "--hardlinks",
    type=click.Choice(["skip", "break"]),
    default=TagOptions.hardlinks,
    help="For files with several names: pass over them, or write this name and leave the others the old file.",
)
@_option(
    "--id3v23-multi",
    type=click.Choice(["join", "null", "first"]),
    default=TagOptions.id3v23_multi,
    help="How ID3v2.3, with room for one genre, gets several: joined by '; ', separated by NUL, or the first.",
)
@click.option("-q", "--quiet", is_flag=True, help="Only failures and the summary.")
@click.option("-v", "--verbose", is_flag=True, help="Name the device and the three best genres of each song.")
@click.pass_context
def tag(ctx: click.Context, paths: tuple[str, ...], **settings: Any) -> None:
    """Hear the songs at each PATH and show their genre; with --write-tags, write it.

    PATH is a song, a folder, a playlist (.m3u, .m3u8), or - for paths on standard input, one a line or NUL-separated.

    \b
    Exit codes: 0 fine, 1 some files failed, 2 wrong usage, 3 nothing could be done, 130 interrupted.
    """
    _check_usage(ctx, paths, settings)
    ctx.exit(_run(paths, settings))


def _check_usage(ctx: click.Context, paths: Sequence[str], settings: dict[str, Any]) -> None:
    if not paths:
        raise click.UsageError("no PATH given: name a folder of music, for example genre-tag ~/Music", ctx)
    if settings["write_tags"] and settings["dry_run"]:
        raise click.UsageError("--write-tags and --dry-run contradict each other.", ctx)
    if settings["overwrite"]:
        given = ctx.get_parameter_source("existing") is ParameterSource.COMMANDLINE
        if given and settings["existing"] != "replace":
            raise click.UsageError(f"--overwrite and --existing {settings['existing']} contradict each other.", ctx)
        settings["existing"] = "replace"
    targets = [os.path.realpath(target) for target in (settings["json_target"], settings["csv_target"]) if target]
    if len(targets) > len(set(targets)):
        raise click.UsageError("--json and --csv cannot both go to the same place.", ctx)
    if settings["quiet"] and settings["verbose"]:
        raise click.UsageError("--quiet and --verbose contradict each other.", ctx)


def _run(paths: Sequence[str], settings: dict[str, Any]) -> int:
    """Tag the songs at `paths`; the exit code."""
    from tagger.genres import MapError, read_map
    from tagger.journal import Journal, JournalError
    from tagger.library import find_songs
    from tagger.predict import ModelError
    from tagger.records import RecordError, csv_rows, json_lines
    from tagger.run import tag_songs
    from tagger.terminal import Screen, printable

    quiet, targets = settings["quiet"], (settings["json_target"], settings["csv_target"])
    stdin = getattr(sys.stdin, "buffer", None)  # there is none under cron
    songs = _limited(find_songs(paths, settings["exclude"], stdin), settings["limit"])
    if not songs:
        click.echo(f"No songs found in {printable(', '.join(paths))}.", err=True)
    try:
        names = read_map(settings["map_file"]) if settings["map_file"] else {}
    except MapError as error:
        raise click.UsageError(str(error)) from error
    options = _tag_options(settings, names)
    screen = Screen(
        songs, rows=not quiet and "-" not in targets, progress=not quiet, verbose=settings["verbose"],
        write_tags=settings["write_tags"],
    )  # fmt: skip
    is_begun = interrupted = False
    try:
        with ExitStack() as stack:
            records = [
                stack.enter_context(kind(target))
                for kind, target in zip((json_lines, csv_rows), targets, strict=True)
                if target
            ]
            stack.enter_context(screen)
            journal = Journal.open(_library_root(paths, songs), _command_line()) if settings["write_tags"] else None
            if journal is not None:
                stack.enter_context(journal)
            results = tag_songs(songs, lambda: _load_model(settings, options, screen), options, journal)
            is_begun = True
            for result in stack.enter_context(closing(results)):
                with _finish_first():
                    for write_record in records:
                        write_record(result)
                    screen.show(result)
    except MapError as error:
        raise click.UsageError(str(error)) from error
    except RecordError as error:
        raise (_NothingDoneError if is_begun else click.UsageError)(str(error)) from error
    except (JournalError, ModelError) as error:
        if screen.counts:
            click.echo(screen.summary(interrupted=True), err=True)
        hint = ": nothing is written without a record of it" if isinstance(error, JournalError) else ""
        raise _NothingDoneError(f"{error}{hint}") from error
    except KeyboardInterrupt:
        interrupted = True
    if songs:
        click.echo(screen.summary(interrupted), err=True)
    if interrupted:
        return INTERRUPTED
    if songs and all(found.problem and found.failed for found in songs):
        return USAGE
    return SOME_FAILED if screen.counts["failed"] else 0


def _limited(found: Iterable[Found], limit: int | None) -> list[Found]:
    """What was found, up to that many songs."""
    songs = []
    n_songs = 0
    for each in found:
        if n_songs == limit:
            break
        songs.append(each)
        n_songs += not each.problem
    return songs


def _library_root(paths: Sequence[str], songs: Sequence[Found]) -> str:
    """The folder that holds all that was asked for: what has moved when the user says that the library has."""
    folders = [path if os.path.isdir(path) else os.path.dirname(path) for path in paths if path != "-"]
    folders += [os.path.dirname(found.path) for found in songs if not found.problem]
    try:
        return os.path.commonpath([os.path.abspath(folder) for folder in folders])
    except ValueError:  # several drives
        return os.getcwd()


def _interrupt(*_: object) -> NoReturn:
    """End what is going on as after Ctrl-C; a second one must not disturb the ending."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _finish_first() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done, so that a song that is done is told everywhere or nowhere."""
    asked: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda number, _: asked.append(number)) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)
    if asked:
        _interrupt()


def _command_line() -> list[str]:
    """What the user typed, for the journal."""
    return click.get_current_context().obj


def _tag_options(settings: dict[str, Any], names: dict[str, str]) -> TagOptions:
    def count(name: str) -> int | None:
        return None if isinstance(settings[name], str) else settings[name]

    return TagOptions(
        existing=settings["existing"],
        n_snippets=count("snippets"),
        aggregate=settings["aggregate"],
        max_genres=settings["max_genres"],
        min_confidence=settings["min_confidence"],
        names=names,
        batch_size=count("batch_size"),
        n_workers=count("jobs"),
        time_limit_seconds=settings["time_limit"],
        preserve_mtime=settings["preserve_mtime"],
        hardlinks=settings["hardlinks"],
        id3v23_multi=settings["id3v23_multi"],
    )


def _load_model(settings: dict[str, Any], options: TagOptions, screen: Screen) -> GenreModel:
    """The model that is asked for; raises ModelError, and MapError for a map that does not fit it."""
    from tagger.genres import check_map
    from tagger.model import GenreModel
    from tagger.terminal import describe_machine

    model = GenreModel.load(settings["model"], settings["device"], settings["precision"])
    if settings["map_file"]:
        check_map(settings["map_file"], options.names, model.head)
    if options.min_confidence is None:
        screen.threshold_reason = model.head.threshold_reason.rstrip(".")
    if settings["verbose"]:
        click.echo(describe_machine(model, options), err=True)
    return model


@commands.command(short_help="Show the settings in force and where each comes from.")
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show the settings in force and where each comes from.

    The command line outweighs the environment (GENRE_TAG_MIN_CONFIDENCE=0.7), that the settings file
    (min-confidence = 0.7 in TOML), and that the defaults.
    """
    from tagger.config import config_path
    from tagger.terminal import print_settings

    path = config_path()
    sources = {ParameterSource.ENVIRONMENT: "environment", ParameterSource.DEFAULT_MAP: "settings file"}
    rows = []
    with tag.make_context("tag", [], parent=ctx.parent) as context:
        for name, param in _settings().items():
            source = context.get_parameter_source(param.name or name) or ParameterSource.DEFAULT
            rows.append((name, context.params[param.name or name], sources.get(source, "default")))
    print_settings(f"settings file: {path}{'' if path.exists() else ' (not there)'}", rows)


@commands.command(short_help="Take back what a run wrote.")
@click.argument("run", required=False, metavar="[RUN]")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-l", "--list", "only_list", is_flag=True, help="List the runs that can be undone. So does no RUN.")
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be taken back.")
@click.option("--root", type=click.Path(), help="Where the library is now, if it was moved since the run.")
@click.option("--force", is_flag=True, help="Take a genre back even where somebody changed it since.")
@click.pass_context
def undo(
    ctx: click.Context, run: str | None, paths: tuple[str, ...], only_list: bool, dry_run: bool, root: str | None,
    force: bool,
) -> None:  # fmt: skip
    """Take back what RUN wrote, newest song first. PATH limits it to these songs and folders.

    'last' stands for the newest run that is no undoing itself.

    A song nobody touched since gets back every byte it had. Where other tags were edited, these stay and the genre is
    put back; where the genre was changed, the song is left alone and named. Undoing can be undone in turn.

    
    Exit codes: 0 fine, 1 some songs could not be taken back, 2 wrong usage, 3 the journal cannot be used.
    """
    from tagger.journal import JournalError

    try:
        ctx.exit(_undo(run, paths, only_list, dry_run, root, force))
    except JournalError as error:
        raise _NothingDoneError(str(error)) from error


def _undo(
    run_id: str | None, paths: Sequence[str], only_list: bool, dry_run: bool, root: str | None, force: bool
) -> int:
    from tagger.journal import Journal
    from tagger.terminal import printable, run_line, undone_line
    from tagger.undo import list_runs
    from tagger.undo import undo as take_back

    runs = list_runs(on_damage=lambda error: click.echo(printable(f"genre-tag: {error}"), err=True))
    if only_list or run_id is None:
        for run in runs:
            click.echo(run_line(run))
        click.echo("Take one back: genre-tag undo RUN" if runs else "No run has written anything yet.", err=True)
        return 0
    if run_id == "last":
        chosen = [run for run in runs if "undo" not in run.argv[1:2]][:1]
    else:
        chosen = [run for run in runs if run.id == run_id]
    if not chosen:
        raise click.UsageError(f"no run {run_id!r}: see genre-tag undo --list")
    n_left = n_songs = 0
    with ExitStack() as stack:
        journal = None if dry_run else stack.enter_context(Journal.open(root or chosen[0].root, _command_line()))
        for undone in take_back(chosen[0], journal, paths=paths, root=root, force=force):
            with _finish_first():
                n_songs += 1
                n_left += undone.result in ("conflict", "missing", "failed")
                click.echo(undone_line(undone, dry_run))
    if not n_songs:
        raise click.UsageError(f"run {chosen[0].id} wrote nothing there")
    return SOME_FAILED if n_left else 0


def _named_source(error: click.BadParameter) -> str:
    """Where a wrong value came from, when not from the command line."""
    from tagger.config import config_path

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
    for number in (signal.SIGINT, signal.SIGTERM):  # finished songs stay done
        signal.signal(number, _interrupt)
    try:
        typed = list(sys.argv[1:] if arguments is None else arguments)
        code = commands.main(typed, prog_name="genre-tag", standalone_mode=False, obj=["genre-tag", *typed])
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        code = USAGE
    except click.ClickException as error:
        from tagger.terminal import printable

        where = _named_source(error) if isinstance(error, click.BadParameter) else ""
        click.echo(printable(f"genre-tag: {error.format_message()}{where}"), err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            raise
        click.echo(f"genre-tag: nothing more can be printed: {error.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries once more on exit, and exits with 120
        code = NOTHING_DONE
    sys.exit(code)
