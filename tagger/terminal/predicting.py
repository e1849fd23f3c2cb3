"""Songs that a command looks at and writes nothing to: found, classified or cached, with progress on the screen."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from tagger.audio.library import Found, find_songs, limited
from tagger.pipeline.cache import PredictionCache, cache_path
from tagger.pipeline.run import SongResult, load_model, tag_songs
from tagger.terminal.screen import Screen, counting

if TYPE_CHECKING:
    from tagger.models.description import Description
    from tagger.pipeline.options import TagOptions


def songs_at(paths: Sequence[str], exclude: Sequence[str], limit: int | None = None) -> list[Found]:
    """What is at the paths, `-` being standard input: up to `limit` songs. Raises UsageError where none can be read."""
    stdin = getattr(sys.stdin, "buffer", None)  # there is none under cron
    songs = limited(counting(find_songs(paths, exclude, stdin)), limit)
    if songs and all(found.problem and found.failed for found in songs):
        raise click.UsageError(f"{songs[0].path}: {songs[0].problem}")
    return songs


@contextmanager
def predicted(
    songs: Sequence[Found], description: Description, options: TagOptions
) -> Generator[tuple[Screen, Iterator[SongResult]], None, None]:
    """The screen, and the status of each of the songs, which is counted there as it is taken. Nothing is written."""
    screen = Screen(songs, rows=False, progress=True, verbose=False, write_tags=False)
    load = partial(load_model, description, options.predict)

    def shown(results: Iterable[SongResult]) -> Iterator[SongResult]:
        for result in results:
            screen.show(result)
            yield result

    try:
        with (
            screen,
            PredictionCache(cache_path(), lambda line: screen.tell(f"genre-tag: {line}")) as cache,
            closing(tag_songs(songs, description, load, options, cache)) as results,
        ):
            yield screen, shown(results)
    except KeyboardInterrupt:
        click.echo("Interrupted. What was predicted is cached; the same command goes on from here.", err=True)
        raise
