"""`genre-tag tag`, the default command, and `genre-tag config`."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import fields, replace
from datetime import date, time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tagger import debug
from tagger.cli.settings import (
    SOME_FAILED,
    UNREAD,
    USAGE,
    CountOr,
    Fraction,
    Separator,
    command_line,
    option,
    source_of,
    values_in_file,
    variable_of,
)
from tagger.errors import GenreTagError, JournalError, OutputError, SettingsError
from tagger.extras import need
from tagger.pipeline.options import DecisionPolicy, PredictOptions, TagOptions
from tagger.tags.policies import WriteOptions
from tagger.terminal.signals import exit_code, finish_first

if TYPE_CHECKING:
    from tagger.audio.library import Found
    from tagger.models.description import Description
    from tagger.models.genre_model import GenreModel
    from tagger.pipeline.run import SongResult
    from tagger.terminal.screen import Screen

logger = logging.getLogger(__name__)

ENOUGH_TO_LEARN = 50  # songs with a genre: with fewer, learning is seldom better
#: What must be asked for on the command line, each time: never set by a file or the environment.
NEVER_CONFIGURED = (
    "write-tags", "dry-run", "plan", "overwrite", "reanalyze", "retry-failed", "quiet", "verbose", "debug",
)  # fmt: skip


@click.command(short_help="Classify songs, show or write their genre (the default command).")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--write-tags", is_flag=True, help="Write the genres into the files. Without it nothing is changed.")
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing: the same as leaving --write-tags out.")
@option(
    "--existing",
    type=click.Choice(["keep", "append", "replace"]),
    default=WriteOptions.existing,
    help="For songs that have a genre: leave it, add to it, or replace it.",
)
@click.option("--overwrite", is_flag=True, help="The same as --existing replace.")
@option(
    "--model",
    default=PredictOptions.model,
    metavar="NAME",
    help="'starter' (built in), 'audioset', 'mine' (the newest that was learned from this library), a checkpoint"
    " folder, or a hub id.",
)
@option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default=PredictOptions.device,
    help="Where the model runs.",
)
@option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default=PredictOptions.precision,
    help="Arithmetic of the model; auto takes what is timed to be the fastest, and cached predictions of any.",
)
@option("--batch-size", type=CountOr("auto"), default="auto", help="Snippets in one batch of the model.")
@option("--threads", type=CountOr("auto"), default="auto", help="Threads of a CPU that the model computes on.")
@option("-j", "--jobs", type=CountOr("auto"), default="auto", help="Processes that decode.")
@option(
    "--snippets",
    type=CountOr("all", "auto"),
    default=PredictOptions.n_snippets,
    help="Snippets classified of each song, spread evenly; auto: two, and five where these two differ.",
)
@option(
    "--aggregate",
    type=click.Choice(["mean", "weighted", "vote", "max"]),
    default=DecisionPolicy.aggregate,
    help="How the snippets of a song become one answer.",
)
@option(
    "--max-genres",
    type=click.IntRange(min=1),
    metavar="N",
    default=DecisionPolicy.max_genres,
    help="Genres predicted for a song at most; --existing append adds them to those it has.",
)
@option(
    "--min-confidence",
    type=Fraction(),
    default=DecisionPolicy.min_confidence,
    help="Least confidence for a genre to be written. [default: set per genre by the model]",
)
@option(
    "--map",
    "map_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File of 'Genre = Name' lines; 'Genre =' drops one.",
)
@option(
    "--by-album",
    is_flag=True,
    help="One decision for the songs of an album, by all their snippets; not for compilations.",
)
@option("--exclude", multiple=True, metavar="GLOB", help="Pass over files and folders of that name. Repeatable.")
@option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N songs: a trial.")
@option("--json", "json_target", metavar="FILE|-", help="One JSON object per song; '-' for stdout.")
@option("--csv", "csv_target", metavar="FILE|-", help="One CSV row per song; '-' for stdout.")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Put into a .csv or .jsonl file what would be written, to be edited: see genre-tag apply.",
)
@option(
    "--time-limit",
    type=click.IntRange(min=1, max=86_400),
    metavar="SECONDS",
    default=PredictOptions.time_limit_seconds,
    help="Give a song up when its decoding takes longer.",
)
@option("--preserve-mtime", is_flag=True, help="Keep the date of files. Music servers then miss the change.")
@option(
    "--hardlinks",
    type=click.Choice(["skip", "break"]),
    default=WriteOptions.hardlinks,
    help="For files with several names: pass over them, or write this name and leave the others the old file.",
)
@option(
    "--id3v23-multi",
    type=click.Choice(["join", "null", "first"]),
    default=WriteOptions.id3v23_multi,
    help="How ID3v2.3, with room for one genre, gets several: joined by '; ', separated by NUL, or the first.",
)
@option(
    "--separator",
    type=Separator(),
    default=WriteOptions.separator,
    help="For players that read one genre only: write several as one, joined by this, as in '; '.",
)
@option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="Where songs are classified: in this process, or on a cluster (the extra 'ray').",
)
@option(
    "--ray-address",
    metavar="ADDRESS",
    help="The cluster: auto, HOST:PORT or ray://HOST:PORT. [default: one of this machine's cores]",
)
@option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where --engine ray keeps its predictions, as Parquet. [default: beside the cache]",
)
@option(
    "--show",
    type=click.Choice(["all", "changes", "unsure", "failed", "kept"]),
    help="Which songs are listed. [default: all; of more than 50, those that change, failed or are unsure]",
)
@click.option("--reanalyze", is_flag=True, help="Classify all songs again, also those that are cached.")
@click.option("--retry-failed", is_flag=True, help="Try songs again that could not be decoded before.")
@click.option("-q", "--quiet", is_flag=True, help="Only new failures and the summary.")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Name the device, the three best genres of each song, and songs that failed before too.",
)
@click.pass_context
def tag(ctx: click.Context, /, paths: tuple[str, ...], **settings: Any) -> None:
    """Classify the songs at each PATH and show their genre; with --write-tags, write it.

    PATH is a song, a folder, a playlist (.m3u, .m3u8), or - for paths on standard input, one a line or NUL-separated;
    with --engine ray also a manifest (.parquet, .csv with a column uri or path) or a URI.

    \b
    Exit codes: 0 fine, 1 new failures, 2 wrong usage, 3 nothing could be done, 130 interrupted.
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
    if settings["plan_file"]:
        _check_plan(settings)
    if settings["engine"] == "ray":
        _check_ray(settings)
    else:
        for name in ("ray_address", "results"):
            if settings[name]:
                raise click.UsageError(f"--{name.replace('_', '-')} is for --engine ray.", ctx)


def _check_plan(settings: Mapping[str, Any]) -> None:
    """Raise UsageError where a plan cannot be made, or would take the place of one that somebody has edited."""
    from tagger.review.plan import SUFFIXES

    path: Path = settings["plan_file"]
    if settings["write_tags"]:
        raise click.UsageError("--plan and --write-tags contradict each other: genre-tag apply writes a plan.")
    if settings["engine"] == "ray":
        raise click.UsageError("--plan is for --engine local.")
    if path.suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"--plan {path}: name a file that ends in {' or '.join(SUFFIXES)}.")
    if path.exists():
        raise click.UsageError(f"--plan {path}: it is there, and its decisions would be lost; name another file.")
    if not os.access(path.absolute().parent, os.W_OK):
        raise click.UsageError(f"--plan {path}: nothing can be written into its folder.")


def _check_ray(settings: Mapping[str, Any]) -> None:
    """Raise UsageError for what Ray cannot do, MissingExtraError where it is not there."""
    need("--engine ray", "ray")
    if isinstance(settings["snippets"], str):
        raise click.UsageError(f"--engine ray takes a number of snippets of each song, not {settings['snippets']}.")
    if settings["by_album"]:
        raise click.UsageError("--engine ray decides song by song, not --by-album.")
    if settings["device"] == "mps":
        raise click.UsageError("--engine ray knows --device cpu and cuda, not mps.")


def _run(paths: Sequence[str], settings: dict[str, Any]) -> int:
    """Tag the songs at `paths`; the exit code."""
    from tagger.terminal.screen import Screen
    from tagger.text import printable

    quiet, targets = settings["quiet"], (settings["json_target"], settings["csv_target"])
    empty: list[str] = []
    songs = _find(paths, settings, empty.append)
    if settings["write_tags"] and not songs:
        hint = ": a share that is not mounted looks like an empty folder" if any(map(os.path.isdir, empty)) else ""
        raise GenreTagError("", f"no songs found in {', '.join(empty)}{hint}")
    for path in empty:
        click.echo(f"No songs found in {printable(path)}.", err=True)
    screen = Screen(
        songs, rows=not quiet and "-" not in targets, progress=not quiet, verbose=settings["verbose"],
        write_tags=settings["write_tags"], show=settings["show"],
    )  # fmt: skip
    stopped, code = "", 0
    try:
        description, options = asked_for(settings, paths)
        if options.decide.min_confidence is None:
            screen.threshold_reason = description.head.threshold_reason.rstrip(".")
        with ExitStack() as stack:
            records = _open_records(stack, targets)
            if settings["plan_file"]:
                records.append(_begin_plan(stack, settings["plan_file"]))
            stack.enter_context(screen)
            tag_songs = _tag_on_ray if settings["engine"] == "ray" else _tag_here
            results = tag_songs(songs, _library_root(paths, songs), description, options, settings, screen, stack)
            for result in stack.enter_context(closing(results)):
                with finish_first():
                    _tell(result, [*records, screen.show])
    except GenreTagError as error:
        if screen.counts:
            click.echo(screen.summary("Ended early"), err=True)
        if isinstance(error, JournalError):
            raise JournalError(error.path, f"{error.reason}: nothing is written without a record of it") from error
        raise
    except KeyboardInterrupt:
        stopped, code = "Interrupted", exit_code()
    except BrokenPipeError:
        stopped, code = "Nobody reads the output any more", UNREAD
    if songs and (code != UNREAD or settings["write_tags"]):  # else there is nothing left to be told of
        advice = "" if stopped or quiet else _advice(paths, settings, screen)
        click.echo(screen.summary(stopped, advice), err=True)
        if not stopped and not quiet and (told := _learned_line(paths, settings["model"])):
            click.echo(told, err=True)
    if stopped:
        return code
    if songs and all(found.problem and found.failed for found in songs):
        return USAGE
    return SOME_FAILED if screen.n_new_failures or (settings["write_tags"] and empty) else 0


def _advice(paths: Sequence[str], settings: Mapping[str, Any], screen: Screen) -> str:
    """What would have more songs written, in a line; "" where none is unsure for want of confidence."""
    if not screen.n_below_threshold:
        return ""
    is_built_in, ways = settings["model"] == PredictOptions.model, []
    if is_built_in and screen.n_tagged_before >= ENOUGH_TO_LEARN:
        ways.append(f"genre-tag learn {shlex.join(paths)} ({screen.n_tagged_before} songs have a genre)")
    if is_built_in:
        ways.append("--model audioset (20 genres, 350 MB, once)")
    if settings["min_confidence"] is None:
        ways.append("--min-confidence 0.5 (and more of it wrong)")
    return f"To have more written: {'; '.join(ways)}." if ways else ""


def _learned_line(paths: Sequence[str], model: str) -> str:
    """That a model was learned from this library, to who uses the built-in one; "" where there is none."""
    from tagger.evaluation.learned import newest_for

    if model != PredictOptions.model or newest_for(paths) is None:
        return ""
    return "A model was learned from this library: genre-tag --model mine uses it."


def _tell(result: SongResult, everywhere: Sequence[Callable[[SongResult], None]]) -> None:
    """Tell of a song that is done, also where it cannot be told in some of the places; raises the first error."""
    errors = []
    for tell in everywhere:
        try:
            tell(result)
        except (OSError, OutputError) as error:
            logger.debug("a result cannot be told", exc_info=True)
            errors.append(error)
    if errors:
        raise errors[0]


def _open_records(stack: ExitStack, targets: Sequence[str | None]) -> list[Callable[[SongResult], None]]:
    """What writes the records of --json and --csv; raises UsageError for a place where none can be written."""
    from tagger.pipeline.records import csv_rows, json_lines

    kinds = [kind(target) for kind, target in zip((json_lines, csv_rows), targets, strict=True) if target]
    try:
        return [stack.enter_context(kind) for kind in kinds]
    except OutputError as error:
        raise click.UsageError(str(error)) from error


def _begin_plan(stack: ExitStack, path: Path) -> Callable[[SongResult], None]:
    """What puts songs into the plan, which is written when all of them are in it."""
    from tagger.review.plan import planning

    return stack.enter_context(planning(path))


def _find(paths: Sequence[str], settings: Mapping[str, Any], on_empty: Callable[[str], None]) -> list[Found]:
    """What is at the paths, as far as the engine can classify it; `on_empty` is told of those with nothing."""
    from tagger.audio.library import find_songs, limited
    from tagger.terminal.screen import counting

    find = find_songs
    if settings["engine"] == "ray":
        from tagger.cluster.manifest import find_everywhere as find

    stdin = getattr(sys.stdin, "buffer", None)  # there is none under cron
    found = find(paths, settings["exclude"], stdin, on_empty)
    return limited(counting(found, not settings["quiet"]), settings["limit"])


def _tag_here(
    songs: Sequence[Found], root: str, description: Description, options: TagOptions, settings: Mapping[str, Any],
    screen: Screen, stack: ExitStack,
) -> Generator[SongResult, None, None]:  # fmt: skip
    """What becomes of the songs, predicted in this process; what is opened for it is closed by `stack`."""
    from tagger.pipeline.cache import PredictionCache, cache_path
    from tagger.pipeline.run import tag_songs
    from tagger.tags.journal import Journal

    journal = stack.enter_context(Journal.open(root, command_line())) if settings["write_tags"] else None
    cache = stack.enter_context(PredictionCache(cache_path(), lambda line: screen.tell(f"genre-tag: {line}")))
    load_model = partial(_load_model, description, options, screen)
    return tag_songs(songs, description, load_model, options, cache, journal)


def _tag_on_ray(
    songs: Sequence[Found], root: str, description: Description, options: TagOptions, settings: Mapping[str, Any],
    screen: Screen, stack: ExitStack,
) -> Generator[SongResult, None, None]:  # fmt: skip
    """The same, classified on a cluster, which reads the model under its name; the results are kept in a folder."""
    from tagger.cluster.engine import tag_songs
    from tagger.cluster.results import Results
    from tagger.cluster.stages import Plan, load_model_here
    from tagger.pipeline.cache import PredictionCache, cache_path
    from tagger.tags.journal import new_run

    model = options.predict.model
    model = os.path.abspath(model) if os.path.isdir(model) else model
    load = partial(load_model_here, description.fingerprint, replace(options.predict, model=model))
    run = new_run() if settings["write_tags"] else None
    plan = Plan(description, load, options, run, root, tuple(command_line()), debug.is_on())
    results = stack.enter_context(Results(settings["results"] or cache_path().with_name("results"), plan.method))
    screen.tell(f"Results: {results.folder}")
    cache = stack.enter_context(PredictionCache(cache_path(), lambda line: screen.tell(f"genre-tag: {line}")))
    return tag_songs(songs, plan, results, cache, settings["ray_address"])


def _library_root(paths: Sequence[str], songs: Sequence[Found]) -> str:
    """The folder that holds all that was asked for: what has moved when the user says that the library has."""
    from tagger.audio.library import common_folder

    folders = [path if os.path.isdir(path) else os.path.dirname(path) for path in paths if path != "-"]
    folders += [os.path.dirname(found.path) for found in songs if not (found.problem or found.uri)]
    return common_folder(folders)


def asked_for(settings: Mapping[str, Any], paths: Sequence[str]) -> tuple[Description, TagOptions]:
    """The model a command is to use on these paths, and how; raises UsageError, SettingsError, ModelError."""
    from tagger.evaluation.learned import MINE, model_of
    from tagger.models.description import describe
    from tagger.pipeline.genres import check_map, read_map

    file = settings["map_file"]
    names = read_map(file) if file else {}
    if settings["model"] == MINE:
        settings = {**settings, "model": model_of(paths)}
        description = replace(describe(settings["model"]), name=MINE)
    else:
        description = describe(settings["model"])
    if file:
        check_map(file, names, description.head)
    options = tag_options(settings, names)
    _check_separator(options, description.head.genres)
    return description, options


def tag_options(settings: Mapping[str, Any], names: Mapping[str, str]) -> TagOptions:
    """The settings of a command as options of a run; what the command has no setting for is as by default."""
    field_of = {
        "snippets": "n_snippets",
        "threads": "n_threads",
        "jobs": "n_workers",
        "time_limit": "time_limit_seconds",
    }
    values = {field_of.get(name, name): value for name, value in settings.items()} | {"names": names}
    if values.get("n_snippets") == "auto":
        values |= {"n_snippets": PredictOptions.n_snippets, "until_clear": True}
    for count in ("n_snippets", "n_threads", "n_workers", "batch_size"):
        if isinstance(values.get(count), str):  # "all", "auto"
            values[count] = None

    def chosen(kind: type[Any]) -> Any:
        return kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})

    return TagOptions(chosen(PredictOptions), chosen(DecisionPolicy), chosen(WriteOptions))


def _check_separator(options: TagOptions, genres: Sequence[str]) -> None:
    """Raise UsageError for a separator that would cut a genre in two when it is read again."""
    for genre in (options.decide.names.get(genre, genre) for genre in genres):
        if options.write.separator is not None and options.write.separator in genre:
            raise click.UsageError(f"--separator {options.write.separator!r} is part of the genre {genre!r}: try '; '.")


def _load_model(description: Description, options: TagOptions, screen: Screen) -> GenreModel:
    """The model that is asked for, and what was chosen for this machine said; raises ModelError."""
    from tagger.pipeline.run import load_model, machine_line
    from tagger.text import printable

    model = load_model(description, options.predict)
    if screen.verbose:
        screen.tell(f"model {printable(machine_line(model, options.predict))}")
    return model


def options_of_tag(*names: str) -> Callable[[click.Command], click.Command]:
    """A decorator that gives a command options of `tag`, by their names in the settings file: the very same."""

    def extend(command: click.Command) -> click.Command:
        n_arguments = sum(isinstance(param, click.Argument) for param in command.params)
        command.params[n_arguments:n_arguments] = [settings_of_tag()[name] for name in names]
        return command

    return extend


def settings_of_tag() -> dict[str, click.Option]:
    """The options of `tag` that have a place in the settings file, by their names there."""
    options = {name.removeprefix("--"): param for param in tag.params for name in param.opts if name.startswith("--")}
    return {
        name: param
        for name, param in options.items()
        if isinstance(param, click.Option) and name not in NEVER_CONFIGURED
    }


def settings_in_file() -> dict[str, Any]:
    """What the settings file says, by parameter of `tag`, for click's `default_map`.

    Raises SettingsError, also where file or environment set what is for the command line alone.
    """
    from tagger.cli.settings import config_path, read_config, typed_only_error

    for name in NEVER_CONFIGURED:
        if os.environ.get(variable_of(name)):
            raise typed_only_error(Path(variable_of(name)), name)
    path, options = config_path(), settings_of_tag()
    return {
        options[name].name or name: _setting(path, options[name], name, value)
        for name, value in read_config(path, options, NEVER_CONFIGURED).items()
    }


def _setting(path: Path, option: click.Option, name: str, value: Any) -> Any:
    """What a setting in the file at `path` stands for; raises SettingsError for a value of the wrong type."""
    types, words = values_in_file(option)
    texts = value if type(value) is list else []
    if type(value) not in types or not all(type(text) is str for text in texts):  # to Python, true is a number
        shown = value if isinstance(value, date | time) else json.dumps(value, default=str)
        raise SettingsError(path, f"{name} is {shown}, and has to be {words}")
    if name in PATHS_IN_SETTINGS:
        return PATHS_IN_SETTINGS[name](value, Path(os.path.abspath(path)).parent)
    return [value] if option.multiple and isinstance(value, str) else value


def _path_from(value: str, folder: Path) -> str:
    return str(folder / os.path.expanduser(value))


def _target_from(value: str, folder: Path) -> str:
    return value if value == "-" else _path_from(value, folder)


def _model_from(value: str, folder: Path) -> str:
    """A folder where it is written like one or there is one; else the name of a model."""
    from tagger.evaluation.learned import MINE
    from tagger.models.description import HUB_IDS, STARTER

    path = _path_from(value, folder)
    is_name = value in (STARTER, MINE) or value in HUB_IDS
    is_path = value.startswith(("~", ".")) or os.path.isabs(value) or (os.path.exists(path) and not is_name)
    return path if is_path else value


#: Settings that lead to files: in the settings file they begin in its folder, and `~` is the user's.
PATHS_IN_SETTINGS: dict[str, Callable[[str, Path], str]] = {
    "map": _path_from,
    "results": _path_from,
    "json": _target_from,
    "csv": _target_from,
    "model": _model_from,
}


@click.command(short_help="Show the settings in force and where each comes from.")
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show the settings in force and where each comes from.

    The command line outweighs the environment (GENRE_TAG_MIN_CONFIDENCE=0.7), that the settings file
    (min-confidence = 0.7 in TOML), and that the defaults.
    """
    from tagger.cli.settings import config_path
    from tagger.terminal.screen import print_settings

    path = config_path()
    rows = []
    with tag.make_context("tag", [], parent=ctx.parent) as context:
        for name, param in settings_of_tag().items():
            rows.append((name, context.params[param.name or name], source_of(context, param.name or name)))
    print_settings(f"settings file: {path}{'' if path.exists() else ' (not there)'}", rows)
