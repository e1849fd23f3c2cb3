"""Songs heard in rounds: a few snippets of each first, all of them where these leave it unclear, in one stream.

A song that is to be heard again goes back to the decoders ahead of those that wait, so batches stay full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from tagger.audio.decode import Wanted
from tagger.audio.workers import Failure
from tagger.pipeline.predict import Heard

#: Snippets of the first round; `snippet_starts` puts two of them where the second and the fourth of five lie.
N_FIRST = 2

Item = TypeVar("Item")
Answer = Heard | Failure | None


@dataclass(eq=False)
class Hearing(Generic[Item]):
    """A song, what is wanted of it (None: nothing), and what was heard in the rounds so far."""

    item: Item
    wanted: Wanted | None
    answer: Answer = None
    is_done: bool = False


def hear_in_rounds(
    songs: Iterable[tuple[Item, Wanted | None]],
    hear_round: Callable[
        [Iterable[tuple[Hearing[Item], Wanted | None]]],
        Generator[tuple[Hearing[Item], Answer], None, None],
    ],
    want_more: Callable[[Wanted, Heard], Wanted | None],
) -> Generator[Hearing[Item], None, None]:
    """Each song when it is done, in the order they came.

    `hear_round` hears songs in any number; `want_more` says what else is wanted of a song, None when it is done. The
    last songs of a library may need a round of their own.
    """
    open_songs: deque[Hearing[Item]] = deque()  # in the order they came
    again: deque[Hearing[Item]] = deque()

    def waiting() -> Iterator[tuple[Hearing[Item], Wanted | None]]:
        for item, wanted in songs:
            while again:
                yield again[0], again.popleft().wanted
            open_songs.append(Hearing(item, wanted))
            yield open_songs[-1], wanted

    this_round: Iterable[tuple[Hearing[Item], Wanted | None]] = waiting()
    while True:
        with closing(hear_round(this_round)) as answers:
            for song, answer in answers:
                song.answer = _joined(song, answer)
                more = want_more(song.wanted, song.answer) if song.wanted and isinstance(song.answer, Heard) else None
                if more is None:
                    song.is_done = True
                else:
                    song.wanted = more
                    again.append(song)
                while open_songs and open_songs[0].is_done:
                    yield open_songs.popleft()
        if not again:
            return
        this_round = [(song, song.wanted) for song in again]
        again.clear()


def _joined(song: Hearing, now: Answer) -> Answer:
    """What was heard of a song in this round and in those before it, in the order of the song.

    A later round that fails takes nothing away: the earlier ones are of the song, too, and the failure goes with them.
    """
    before = song.answer
    if isinstance(before, Heard) and isinstance(now, Failure):
        return replace(before, failure=now)
    if song.wanted is None or not song.wanted.without or not isinstance(before, Heard) or not isinstance(now, Heard):
        return now
    if not len(now.logits):
        return before
    starts = np.array([*before.starts_seconds, *now.starts_seconds])
    order = np.argsort(starts)
    logits = np.concatenate([before.logits, now.logits])[order]
    return Heard(logits, tuple(starts[order].tolist()), now.duration_seconds, "")
