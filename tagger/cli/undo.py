"""`genre-tag undo`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, groupby

import click

from tagger.cli.settings import SOME_FAILED, command_line
from tagger.terminal.signals import finish_first


@click.command(short_help="Take back what a run wrote.")
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

    \b
    Exit codes: 0 fine, 1 some songs could not be taken back, 2 wrong usage, 3 the journal cannot be used.
    """
    ctx.exit(_undo(run, paths, only_list, dry_run, root, force))


def _undo(
    run_id: str | None, paths: Sequence[str], only_list: bool, dry_run: bool, root: str | None, force: bool
) -> int:
    from tagger.tags.journal import Journal
    from tagger.tags.undo import LEFT, list_runs
    from tagger.tags.undo import undo as take_back
    from tagger.terminal.screen import Progress, run_line, undone_line, undone_summary
    from tagger.text import counted, printable

    runs = list_runs(on_damage=lambda error: click.echo(printable(f"genre-tag: {error}"), err=True))
    if only_list or run_id is None:
        for _, journals in groupby(runs, key=lambda run: run.id):  # on a cluster, each process that writes has its own
            first, *others = journals
            n_writes = first.n_writes + sum(other.n_writes for other in others)
            n_undone = first.n_undone + sum(other.n_undone for other in others)
            click.echo(run_line(replace(first, n_writes=n_writes, n_undone=n_undone)))
        click.echo("Take one back: genre-tag undo RUN" if runs else "No run has written anything yet.", err=True)
        return 0
    if run_id == "last":
        run_id = next((run.id for run in runs if "undo" not in run.argv[1:2]), run_id)
    chosen = [run for run in runs if run.id == run_id]
    if not chosen:
        raise click.UsageError(f"no run {run_id!r}: see genre-tag undo --list")
    counts: Counter[str] = Counter()
    started = time.monotonic()
    try:
        with ExitStack() as stack:
            progress = stack.enter_context(Progress(sum(run.n_writes for run in chosen)))
            journal = None if dry_run else stack.enter_context(Journal.open(root or chosen[0].root, command_line()))
            for undone in chain(*(take_back(run, journal, paths=paths, root=root, force=force) for run in chosen)):
                with finish_first():
                    counts[undone.result] += 1
                    progress.print(undone_line(undone, dry_run), sys.stdout)
                    progress.advance({result: counts[result] for result in LEFT if counts[result]})
    except (KeyboardInterrupt, BrokenPipeError):
        if not dry_run:
            songs = counted(counts.total(), "song")
            click.echo(f"Stopped after {songs}: the same command goes on with the others.", err=True)
        raise
    if not counts:
        raise click.UsageError(f"run {chosen[0].id} wrote nothing there")
    click.echo(undone_summary(counts, time.monotonic() - started, dry_run), err=True)
    return SOME_FAILED if any(counts[result] for result in LEFT) else 0
