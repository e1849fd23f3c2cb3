"""`genre-tag explain`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tagger.cli.settings import SOME_FAILED, USAGE, source_of
from tagger.cli.tag import asked_for, options_of_tag
from tagger.errors import OutputError
from tagger.extras import need

if TYPE_CHECKING:
    from tagger.audio.library import Found
    from tagger.pipeline.explain import Explanation

#: Options of `tag` that have a say in what becomes of a song.
OPTIONS = (
    "model", "snippets", "aggregate", "min-confidence", "max-genres", "map", "existing", "separator", "hardlinks",
    "time-limit", "device", "precision",
)  # fmt: skip


@options_of_tag(*OPTIONS)
@click.command(short_help="Show why a song gets the genre it gets.")
@click.argument("path", metavar="FILE")
@click.option("--png", type=click.Path(path_type=Path), metavar="FILE", help="Draw the genres along the song.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("--reanalyze", is_flag=True, help="Classify the song again, also if it is cached.")
@click.pass_context
def explain(ctx: click.Context, /, path: str, png: Path | None, as_json: bool, **settings: Any) -> None:
    """Show what is predicted along the song FILE, what that makes of the song, and why it is written or not.

    The settings of genre-tag tag hold here too. Nothing is written into the song.

    \b
    Exit codes: 0 fine, 1 the song cannot be decoded, 2 wrong usage, 3 nothing could be done.
    """
    from tagger.pipeline.explain import explanation_record
    from tagger.report.explanation import print_explanation

    song = _one_song(path)
    if png is not None and png.suffix.lower() != ".png":
        raise click.UsageError(f"--png {png}: name a file that ends in .png, no other is written over.")
    if png is not None:
        need("--png", "train", "matplotlib")
    explanation = _explain(song, settings)
    try:
        if as_json:
            click.echo(json.dumps(explanation_record(explanation)))
        else:
            print_explanation(explanation, {name: source_of(ctx, name) for name in settings})
    finally:  # also where nobody reads what is printed
        if png is not None:
            _draw(explanation, png)
    if explanation.result.status == "failed":
        ctx.exit(USAGE if song.failed else SOME_FAILED)


def _one_song(path: str) -> Found:
    """The song of that name; raises UsageError for a folder, a playlist, or a list."""
    from tagger.audio.library import PLAYLIST_SUFFIXES, find_songs

    if path == "-" or Path(path).is_dir() or Path(path).suffix.lower() in PLAYLIST_SUFFIXES:
        raise click.UsageError(f"{path}: name one song; a folder or list of songs is for genre-tag tag and report.")
    (song,) = find_songs([path])
    return song


def _explain(song: Found, settings: dict[str, Any]) -> Explanation:
    from tagger.pipeline.cache import PredictionCache, cache_path
    from tagger.pipeline.explain import explain
    from tagger.pipeline.run import load_model
    from tagger.text import printable

    description, options = asked_for(settings | {"retry_failed": True}, [str(song.where)])
    with PredictionCache(cache_path(), lambda line: click.echo(printable(f"genre-tag: {line}"), err=True)) as cache:
        return explain(song, description, partial(load_model, description, options.predict), options, cache)


def _draw(explanation: Explanation, file: Path) -> None:
    """Raises OutputError where there is nothing to draw, or nowhere to."""
    if not explanation.aggregates:
        raise OutputError(file, "is not drawn, as nothing was classified")
    from tagger.atomic import replacing
    from tagger.report.plots import explanation_png

    picture = explanation_png(explanation)
    try:
        with replacing(file) as out:
            out.write(picture)
    except OSError as error:
        raise OutputError(file, error.strerror or str(error)) from error
