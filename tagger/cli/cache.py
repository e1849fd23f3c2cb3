"""`genre-tag cache`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tagger.cli.settings import NOTHING_DONE

if TYPE_CHECKING:
    from tagger.pipeline.cache import Method, PredictionCache


@click.command(short_help="Show the cached predictions, or forget them.")
@click.option("--prune", is_flag=True, help="Forget files that are gone. On a drive that is away, nothing is gone.")
@click.option(
    "--forget", multiple=True, metavar="MODEL", help="Forget the predictions of MODEL, as listed here. Repeatable."
)
@click.pass_context
def cache(ctx: click.Context, prune: bool, forget: tuple[str, ...]) -> None:
    """Show of how many songs predictions are cached, and by which model.

    It is kept so that no song is classified twice: what is forgotten is classified again when it is
    asked for. --prune and --forget touch no music.

    \b
    Exit codes: 0 fine, 2 wrong usage, 3 the cache cannot be used.
    """
    from tagger.pipeline.cache import PredictionCache, cache_path, is_begun
    from tagger.terminal.screen import print_contents
    from tagger.text import printable

    path = cache_path()
    if not is_begun(path):
        click.echo(f"Nothing is cached yet: there is no {printable(str(path))}.", err=True)
        return
    with PredictionCache(path, lambda line: click.echo(printable(f"genre-tag: {line}"), err=True)) as opened:
        if forget:
            click.echo(f"Predictions forgotten: {opened.prune_methods(_predicted_by(forget, opened))}")
        if prune:
            click.echo(f"Gone files forgotten: {opened.prune_gone()}")
        contents = opened.contents()
        if not opened.is_usable:
            ctx.exit(NOTHING_DONE)
    print_contents(contents)


def _predicted_by(models: Sequence[str], opened: PredictionCache) -> list[Method]:
    """The methods of these models; raises UsageError for one that has classified nothing."""
    methods = [each.method for each in opened.contents().predictions]
    for model in models:
        if not any(model in (method.name, method.label) for method in methods):
            known = ", ".join(sorted({method.label for method in methods})) or "none"
            raise click.UsageError(f"{model!r} has no cached predictions; those that have: {known}")
    return [method for method in methods if {method.name, method.label} & set(models)]
