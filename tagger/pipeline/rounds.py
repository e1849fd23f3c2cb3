"""Songs predicted in rounds: a few snippets of each first, all of them where these leave it unclear, in one stream.

A song that is to be classified again goes back to the decoders ahead of those that wait, so batches stay full.
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
from tagger.pipeline.predict import Prediction

#: Snippets of the first round; `snippet_starts` puts two of them where the second and the fourth of five lie.
N_FIRST = 2

Item = TypeVar("Item")
Answer = Prediction | Failure | None


@dataclass(eq=False)
class RoundItem(Generic[Item]):
    """A song, what is wanted of it (None: nothing), and the prediction in the rounds so far."""

    item: Item
    wanted: Wanted | None
    answer: Answer = None
    is_done: bool = False


def predict_in_rounds(
    songs: Iterable[tuple[Item, Wanted | None]],
    predict_round: Callable[
        [Iterable[tuple[RoundItem[Item], Wanted | None]]],
        Generator[tuple[RoundItem[Item], Answer], None, None],
    ],
    want_more: Callable[[Wanted, Prediction], Wanted | None],
) -> Generator[RoundItem[Item], None, None]:
    """Each song when it is done, in the order they came.

    `predict_round` takes songs in any number; `want_more` says what else is wanted of a song, None when it is done. The
    last songs of a library may need a round of their own.
    """
    open_songs: deque[RoundItem[Item]] = deque()  # in the order they came
    again: deque[RoundItem[Item]] = deque()

    def waiting() -> Iterator[tuple[RoundItem[Item], Wanted | None]]:
        for item, wanted in songs:
            while again:
                yield again[0], again.popleft().wanted
            open_songs.append(RoundItem(item, wanted))
            yield open_songs[-1], wanted

    this_round: Iterable[tuple[RoundItem[Item], Wanted | None]] = waiting()
    while True:
        with closing(predict_round(this_round)) as answers:
            for song, answer in answers:
                song.answer = _joined(song, answer)
                more = (
                    want_more(song.wanted, song.answer) if song.wanted and isinstance(song.answer, Prediction) else None
                )
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


def _joined(song: RoundItem[Item], now: Answer) -> Answer:
    """The prediction of a song in this round and in those before it, in the order of the song.

    A later round that fails takes nothing away: the earlier ones are of the song, too, and the failure goes with them.
    """
    before = song.answer
    if isinstance(before, Prediction) and isinstance(now, Failure):
        return replace(before, failure=now)
    if (
        song.wanted is None
        or not song.wanted.without
        or not isinstance(before, Prediction)
        or not isinstance(now, Prediction)
    ):
        return now
    if not len(now.logits):
        return before
    starts = np.array([*before.starts_seconds, *now.starts_seconds])
    order = np.argsort(starts)
    logits = np.concatenate([before.logits, now.logits])[order]
    embeddings = None
    if before.embeddings is not None and now.embeddings is not None:
        embeddings = np.concatenate([before.embeddings, now.embeddings])[order]
    return Prediction(logits, tuple(starts[order].tolist()), now.duration_seconds, "", embeddings=embeddings)
