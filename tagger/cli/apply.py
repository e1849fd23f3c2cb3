"""`genre-tag apply`."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tagger.cli.settings import SOME_FAILED, command_line
from tagger.cli.tag import options_of_tag, tag_options
from tagger.errors import JournalError, OutputError
from tagger.terminal.signals import exit_code, finish_first

if TYPE_CHECKING:
    from tagger.review.plan import Plan, Row
    from tagger.tags.policies import WriteOptions

logger = logging.getLogger(__name__)

#: Options of `tag` that have a say in how genres are written.
OPTIONS = ("preserve-mtime", "hardlinks", "id3v23-multi", "separator")


@options_of_tag(*OPTIONS)
@click.command(short_help="Show or write what a plan says.")
@click.argument("plan", metavar="PLAN", type=click.Path(path_type=Path))
@click.option("--write-tags", is_flag=True, help="Write the genres into the files. Without it nothing is changed.")
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing: the same as leaving --write-tags out.")
@click.option(
    "--show",
    type=click.Choice(["all", "changes", "failed", "kept"]),
    help="Which songs are listed. [default: all; of more than 50, those that change or failed]",
)
@click.option("-q", "--quiet", is_flag=True, help="Only failures and the summary.")
@click.pass_context
def apply(
    ctx: click.Context, /, plan: Path, write_tags: bool, dry_run: bool, show: str | None, quiet: bool, **settings: Any
) -> None:
    """Show what a PLAN of genre-tag PATH --plan would write; with --write-tags, write it.

    In its column decision, accept writes the genres that are proposed, reject and nothing leave the song as it is,
    and anything else is the genres to write: Jazz; Blues. Spreadsheets may save it in their own way.

    A song that changed since the plan was made is left alone and named, and so is a row that cannot be understood.

    \b
    Exit codes: 0 fine, 1 some of it could not be done, 2 wrong usage, 3 nothing could be done, 130 interrupted.
    """
    if write_tags and dry_run:
        raise click.UsageError("--write-tags and --dry-run contradict each other.", ctx)
    found = plan_in(plan)
    options = tag_options(settings, {}).write
    ctx.exit(_apply(found, options, write_tags, show, quiet))


def plan_in(path: Path) -> Plan:
    """The plan in a file; rows that cannot be used are told on stderr. Raises OutputError."""
    from tagger.review.plan import read_plan
    from tagger.text import printable

    plan = read_plan(path)
    for line in plan.broken:
        click.echo(printable(f"genre-tag: {path}: {line}"), err=True)
    return plan


def _apply(plan: Plan, options: WriteOptions, write_tags: bool, show: str | None, quiet: bool) -> int:
    """Do what the plan says; the exit code."""
    from tagger.audio.library import Found, common_folder
    from tagger.review.apply import apply_row
    from tagger.tags.journal import Journal
    from tagger.terminal.screen import Screen

    songs = [Found(Path(row.path)) for row in plan.rows]
    screen = Screen(songs, rows=not quiet, progress=not quiet, verbose=False, write_tags=write_tags, show=show)
    stopped, n_left = "", len(plan.broken)
    try:
        with ExitStack() as stack:
            root = common_folder(os.path.dirname(row.path) for row in plan.rows)
            journal = stack.enter_context(Journal.open(root, command_line())) if write_tags else None
            if write_tags:
                _keep_corrections(plan.rows)
            stack.enter_context(screen)
            for row in plan.rows:
                with finish_first():
                    result = apply_row(row, options, journal)
                    n_left += result.status in ("skipped", "failed")
                    screen.show(result)
    except KeyboardInterrupt:
        stopped = "Interrupted"
    except JournalError as error:
        if screen.counts:
            click.echo(screen.summary("Ended early"), err=True)
        raise JournalError(error.path, f"{error.reason}: nothing is written without a record of it") from error
    click.echo(screen.summary(stopped), err=True)
    if stopped:
        return exit_code()
    return SOME_FAILED if n_left else 0


def _keep_corrections(rows: Sequence[Row]) -> None:
    """Keep the genres that a person put into the plan, for `learn`; what the plan proposed may be nobody's decision."""
    from tagger.review.decisions import Decided, Decisions, decisions_path

    corrected = [
        Decided(row.identity, row.decision, row.proposed, path=row.path)
        for row in rows
        if isinstance(row.decision, tuple)
    ]
    if not corrected:
        return
    try:
        with Decisions(decisions_path()) as decisions:
            decisions.keep(corrected)
    except OutputError as error:
        logger.debug("%s", error, exc_info=True)
        click.echo(f"genre-tag: {error}: learn will not know of these genres", err=True)
