"""How fast songs are classified here: the beginning of a run, with a clock beside it."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING

from tagger.audio.library import Found
from tagger.models.description import Description
from tagger.pipeline.cache import PredictionCache, cache_path
from tagger.pipeline.options import TagOptions
from tagger.pipeline.run import tag_songs

if TYPE_CHECKING:
    from tagger.models.genre_model import GenreModel

LEAST_SONGS, LEAST_SECONDS, MOST_SECONDS = 20, 10.0, 40.0
MOST_SONGS = 5_000  # are laid out; no machine classifies more in so short a time


@dataclass(frozen=True)
class Speed:
    """How fast songs were classified, from the first one that was done on."""

    start_seconds: float  # until the first one was done: what it takes to load the model and fill its first batch
    seconds: float
    n_songs: int
    n_snippets: int
    n_failed: int
    reason: str  # why the first of these failed


def measure(
    songs: Sequence[Found],
    description: Description,
    load_model: Callable[[], GenreModel],
    options: TagOptions,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """How fast a run classifies such songs: at least 20 of them and 10 s long. Nothing is kept. May raise ModelError.

    They are taken from all over the library, and again and again if there are few.
    """
    mixed = random.Random(0).sample(list(songs), len(songs))
    options = replace(options, predict=replace(options.predict, reanalyze=True, retry_failed=True))
    n_songs = n_snippets = n_failed = 0
    reason = ""
    began = clock()
    first = now = None
    with (
        tempfile.TemporaryDirectory() as state,
        PredictionCache(cache_path(state), lambda _: None) as cache,
        closing(tag_songs(list(islice(cycle(mixed), MOST_SONGS)), description, load_model, options, cache)) as results,
    ):
        for result in results:
            now = clock()
            if first is None:
                first = now
                continue
            n_songs += 1
            n_snippets += len(result.starts_seconds)
            if result.status == "failed":
                n_failed += 1
                reason = reason or result.reason
            if now - first >= (LEAST_SECONDS if n_songs >= LEAST_SONGS else MOST_SECONDS):
                break
    if first is None or now is None:
        raise ValueError("no songs")
    return Speed(first - began, max(now - first, 1e-3), n_songs, n_snippets, n_failed, reason)
