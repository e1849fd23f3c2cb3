"""`genre-tag report`."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tagger.cli.settings import SOME_FAILED
from tagger.cli.tag import asked_for, options_of_tag
from tagger.errors import GenreTagError, OutputError, RunError
from tagger.extras import need

if TYPE_CHECKING:
    from tagger.evaluation.learned import Contradiction
    from tagger.report.document import Report

logger = logging.getLogger(__name__)

#: Options of `tag` that have a say in how a library is classified.
OPTIONS = (
    "model", "snippets", "aggregate", "min-confidence", "map", "exclude", "limit", "device", "precision", "batch-size",
    "jobs", "time-limit", "max-genres", "separator",
)  # fmt: skip
#: Suffix of --out -> the format it stands for when --format is not given.
SUFFIXES = {".html": "html", ".htm": "html", ".json": "json", ".csv": "csv"}


@options_of_tag(*OPTIONS)
@click.command(short_help="Show how good a trained model is, or what the genres of a library are worth.")
@click.argument("paths", nargs=-1, metavar="[RUN | PATH...]")
@click.option(
    "--split",
    type=click.Choice(["test", "validate"]),
    default="test",
    show_default=True,
    help="Of a run: the songs that nothing was chosen by, or those by which the epoch was chosen.",
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="RUN",
    help="Of a run: is it better than this one? Given several times: as if all were named.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv", "html"]),
    help="csv has a row for each song, json and html have everything. [default: what --out ends in, else text]",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it there.  [default: print it]")
@click.option("--png", type=click.Path(path_type=Path), metavar="FILE", help="Draw the confusion there as well.")
@click.option(
    "--playlists",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Of a library: write a playlist of each genre there, and of the songs that need a look.",
)
@click.pass_context
def report(
    ctx: click.Context, /, paths: tuple[str, ...], split: str, compare: tuple[Path, ...], form: str | None,
    out: Path | None, png: Path | None, playlists: Path | None, **settings: Any,
) -> None:  # fmt: skip
    """Show what a training run confuses with what, or how the genres of a library agree with what is predicted.

    \b
    genre-tag report                       the newest run in ./runs
    genre-tag report RUN --compare RUN2    whether a run is better than another
    genre-tag report RUN RUN2 RUN3 ...     a study: what differs, and each beside the first
    genre-tag report FOLDER_OF_RUNS        the same of all that are in there
    genre-tag report ~/Music               the genres that the songs there have

    The options from --model on are for libraries and as in genre-tag tag. No file of music is changed.

    \b
    Exit codes: 0 fine, 1 new failures, 2 wrong usage, 3 nothing could be done.
    """
    form = _check_targets(form, out, png)
    runs = _runs(paths)
    if runs or not paths:
        given = [name for name in settings if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
        names = ["playlists"] * bool(playlists) + given
        if names:
            raise click.UsageError(f"{_option(ctx, names[0])} is for a library: name a folder of music.")
        if png and (compare or len(runs) > 1):
            raise click.UsageError("--png is for one run: of several there is no one confusion to draw.")
        found, code = _report_on_runs(runs, compare, split), 0
    else:
        for name in ("split", "compare"):
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"{paths[0]}: {_option(ctx, name)} is for a run, and that is no run folder.")
        found, code = _report_on_library(paths, settings)
    try:
        _show(found, form, out)
    finally:  # also where nobody reads what is printed
        if png is not None:
            _write(png, _drawn(found))
        if playlists is not None:
            _write_playlists(found, playlists)
    ctx.exit(code)


def _option(ctx: click.Context, name: str) -> str:
    """An option as it is typed, by the name of its parameter."""
    return next(param.opts[0] for param in ctx.command.params if param.name == name)


def _check_targets(form: str | None, out: Path | None, png: Path | None) -> str:
    """The format; raises UsageError for one that cannot go where it is to go, MissingExtraError."""
    from tagger.pipeline.records import check_target

    form = form or (SUFFIXES.get(out.suffix.lower(), "text") if out else "text")
    try:
        if out is not None:
            check_target(out)
    except OutputError as error:
        raise click.UsageError(str(error)) from error
    if out is not None and out.suffix.lower() == ".png":
        raise click.UsageError(f"--out {out}: a picture is drawn by --png {out}.")
    if png is not None and png.suffix.lower() != ".png":
        raise click.UsageError(f"--png {png}: name a file that ends in .png, no other is written over.")
    if png is not None:
        need("--png", "train", "matplotlib")
    if form == "html" and out is None and sys.stdout.isatty():
        raise click.UsageError("--format html is for a browser: give it a place by --out report.html")
    return form


def _runs(paths: Sequence[str]) -> list[Path]:
    """The runs at these paths, those in a folder of runs among them; [] where there are none. Raises UsageError."""
    from tagger.evaluation.run_folder import is_run, runs_in

    found = [(path, [Path(path)] if is_run(Path(path)) else runs_in(Path(path))) for path in paths]
    others = [path for path, runs in found if not runs]
    if others and len(others) < len(paths):
        raise click.UsageError(f"{others[0]}: no run, and beside runs nothing else is reported on.")
    return [run for _, runs in found for run in runs]


def _report_on_runs(runs: Sequence[Path], compare: Sequence[Path], split: str) -> Report:
    """The report on a run, the newest if none is named; on two of which --compare names the second; or on a study."""
    from tagger.evaluation.run_folder import newest_run
    from tagger.report.comparison import compare_runs, study_runs
    from tagger.report.run import report_run

    first, *others = runs or [newest_run()]
    if not others and len(compare) < 2:
        return compare_runs(first, compare[0], split) if compare else report_run(first, split)
    return study_runs([first, *others, *compare], split)


def _report_on_library(paths: Sequence[str], settings: dict[str, Any]) -> tuple[Report, int]:
    """The report on the music at these paths, and the exit code."""
    from tagger.evaluation.provenance import Provenance
    from tagger.report.library import report_library
    from tagger.terminal.predicting import predicted, songs_at
    from tagger.text import printable

    songs = songs_at(paths, settings["exclude"], settings["limit"])
    if not songs:
        click.echo(f"No songs found in {printable(', '.join(paths))}, and no run.", err=True)
    description, options = asked_for(settings, paths)
    with predicted(songs, description, options) as (screen, results):
        provenance = Provenance.read(on_damage=lambda error: screen.tell(f"genre-tag: {error}"))
        contradicted = _contradicted(paths, screen.tell)
        found = report_library(paths, results, description, options, provenance=provenance, contradicted=contradicted)
    return found, SOME_FAILED if screen.n_new_failures else 0


def _contradicted(paths: Sequence[str], tell: Callable[[str], None]) -> list[Contradiction] | None:
    """The songs whose tags the newest model that was learned from this library contradicts; None without one."""
    from tagger.evaluation.learned import contradictions, newest_for

    learned = newest_for(paths)
    try:
        return None if learned is None else contradictions(learned.folder)
    except RunError as error:
        logger.debug("%s", error, exc_info=True)
        tell(f"genre-tag: {error}")
        return None


def _write_playlists(found: Report, folder: Path) -> None:
    """Write the playlists of a report on a library; raises OutputError."""
    from tagger.report.library import all_songs, wrong_tags
    from tagger.report.playlists import write_playlists
    from tagger.text import printable

    written = write_playlists(folder, all_songs(found), wrong_tags(found))
    for path in written.left_out:
        click.echo(f"{printable(path)}: in no playlist, which is lines of UTF-8", err=True)
    click.echo(f"Written: {len(written.files)} playlists in {printable(str(folder))}", err=True)
    if written.removed:
        click.echo(f"Removed: {len(written.removed)} of an earlier report, of genres with no songs now", err=True)


def _show(found: Report, form: str, out: Path | None) -> None:
    if form != "text":
        data = _rendered(found, form).encode()
        click.echo(data, nl=False) if out is None else _write(out, data)
        return
    from tagger.report.text import print_report

    if out is None:
        print_report(found)
        return
    text = io.StringIO()
    print_report(found, text)
    _write(out, text.getvalue().encode())


def _rendered(found: Report, form: str) -> str:
    from tagger.report import html
    from tagger.report.document import report_csv, report_json

    renderers: dict[str, Callable[[Report], str]] = {
        "json": report_json,
        "csv": report_csv,
        "html": html.render,
    }
    return renderers[form](found)


def _drawn(found: Report) -> bytes:
    from tagger.report.plots import render

    picture = render(found)
    if picture is None:
        raise GenreTagError("", "there is no confusion to draw: no song has both a genre and a prediction")
    return picture


def _write(path: Path, data: bytes) -> None:
    from tagger.atomic import replacing
    from tagger.text import printable

    try:
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    click.echo(f"Written: {printable(str(path))}", err=True)
