"""`genre-tag review`."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tagger.cli.apply import plan_in
from tagger.cli.settings import command_line
from tagger.cli.tag import asked_for, options_of_tag, tag_options
from tagger.errors import GenreTagError
from tagger.extras import need
from tagger.terminal.signals import finish_first

if TYPE_CHECKING:
    from tagger.review.plan import Row
    from tagger.tags.policies import WriteOptions

#: Options of `tag` that have a say in what is proposed and how it is written.
OPTIONS = (
    "model", "snippets", "aggregate", "max-genres", "min-confidence", "map", "by-album", "exclude", "limit", "device",
    "precision", "batch-size", "threads", "jobs", "time-limit", "preserve-mtime", "hardlinks", "id3v23-multi",
    "separator",
)  # fmt: skip


@options_of_tag(*OPTIONS)
@click.command(short_help="Look, listen, correct in the browser, then write.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH... | PLAN")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    metavar="N",
    help="Port of the page; 0: one that is free.",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def review(paths: tuple[str, ...], port: int, no_browser: bool, **settings: Any) -> None:
    """Show the songs at PATH, or of a PLAN, on a page of this machine: listen, accept, reject, correct, write, undo.

    The page is for this user of this machine alone, at an address of its own each time. Decisions are kept as
    they are made: the same command goes on from there. Nothing is written before the page is told to.

    Songs at PATH are classified first, by the options from --model on, as in genre-tag tag.

    \b
    Exit codes: 0 closed by the page, 2 wrong usage, 3 nothing could be done, 130 ended by Ctrl-C.
    """
    need("genre-tag review", "review")
    from tagger.review.decisions import Decisions, decisions_path
    from tagger.review.server import Server
    from tagger.review.session import Review
    from tagger.text import counted

    rows, options = _rows(paths, settings)
    if not rows:
        raise GenreTagError("", f"no song to review in {', '.join(paths)}")
    with (
        Decisions(decisions_path()) as decisions,
        closing(Review(rows, options, decisions, command_line(), ", ".join(paths))) as session,
    ):
        server = Server(session, port)

        def end() -> None:
            session.stop()
            server.end()

        try:
            click.echo(server.address)
            sys.stdout.flush()
            click.echo(f"{counted(len(rows), 'song')} to review there. Ctrl-C ends it; decisions are kept.", err=True)
            if not no_browser and _has_screen():
                webbrowser.open(server.address_for_once())
            with finish_first(end):
                server.run()
        finally:
            click.echo("Closed. The same command goes on from here.", err=True)


def _has_screen() -> bool:
    """Whether a browser that is opened can be seen: not by one that would take over the terminal."""
    try:
        return type(webbrowser.get()) is not webbrowser.GenericBrowser
    except webbrowser.Error:
        return False


def _rows(paths: Sequence[str], settings: dict[str, Any]) -> tuple[list[Row], WriteOptions]:
    """The songs of a plan, or those at the paths, and how they are to be written."""
    from tagger.review.plan import SUFFIXES

    if any(Path(path).suffix.lower() in SUFFIXES for path in paths):
        if len(paths) > 1:
            raise click.UsageError("a plan is reviewed alone.")
        return plan_in(Path(paths[0])).rows, tag_options(settings, {}).write
    return _classified(paths, settings)


def _classified(paths: Sequence[str], settings: dict[str, Any]) -> tuple[list[Row], WriteOptions]:
    """The songs at the paths that could be classified, none of them decided on."""
    from dataclasses import replace

    from tagger.review.plan import UNDECIDED, row_of
    from tagger.terminal.predicting import predicted, songs_at

    songs = songs_at(paths, settings["exclude"], settings["limit"])
    description, options = asked_for(settings, paths)
    with predicted(songs, description, options) as (_, results):
        rows = [replace(row, decision=UNDECIDED) for row in map(row_of, results) if row is not None]
    return rows, options.write
