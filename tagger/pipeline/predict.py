"""The pipeline: snippets of many songs fill one batch of the model, and logits come back to their song."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from tagger.audio.decode import Snippets
from tagger.audio.workers import MOST_WAITING, Failure
from tagger.models.engine import Outputs

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


class Model(Protocol):
    """What the pipeline needs of a model."""

    def outputs(self, snippets: np.ndarray) -> Outputs:
        """Snippets (batch, snippet_samples) int16 to their logits and embeddings. May raise ModelError."""


@dataclass(frozen=True)
class Prediction:
    """What the model answered to the snippets of one song."""

    logits: np.ndarray  # (n_snippets, n_outputs) float32
    starts_seconds: tuple[float, ...]
    duration_seconds: float
    #: "", or why there was nothing to classify: no snippets, no logits.
    unsure: str
    #: Why these are not all the snippets that were wanted: what came of a second round. None: they are.
    failure: Failure | None = None
    #: What the logits are linear in, (n_snippets, width) float32; None where they are not known.
    embeddings: np.ndarray | None = None


@dataclass
class _Song(Generic[Item]):
    """A song on its way through the model: it is answered when all of it has come and no snippet waits any more."""

    item: Item
    decoded: Snippets | Failure | None = None  # the last part of it, without its samples
    starts_seconds: list[float] = field(default_factory=list)
    n_classified: int = 0  # counted by the model's thread, and nothing else of it
    outputs: list[Outputs] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether more of it is to come."""
        return isinstance(self.decoded, Snippets) and self.decoded.more

    @property
    def is_answered(self) -> bool:
        return not self.is_open and self.n_classified == len(self.starts_seconds)

    def take(self, part: Snippets | Failure | None) -> np.ndarray | None:
        """The samples of what was decoded of it now."""
        self.decoded = part
        if not isinstance(part, Snippets):
            return None
        self.decoded = replace(part, samples=part.samples[:0].copy())  # else they would be kept until it is answered
        self.starts_seconds.extend(part.starts_seconds)
        return part.samples

    def answer(self) -> Prediction | Failure | None:
        decoded, starts = self.decoded, tuple(self.starts_seconds)
        if not isinstance(decoded, Snippets):
            return decoded
        if not self.outputs:
            return Prediction(np.empty((0, 0), np.float32), starts, decoded.duration_seconds, decoded.unsure)
        logits = np.concatenate([each.logits for each in self.outputs])
        if not np.isfinite(logits).all():
            return Failure("the model gave no finite scores; try --precision fp32")
        embeddings = np.concatenate([each.embeddings for each in self.outputs])
        return Prediction(logits, starts, decoded.duration_seconds, decoded.unsure, embeddings=embeddings)


def predict(
    decoded: Iterable[tuple[Item, Snippets | Failure | None]], model: Model, batch_size: int
) -> Generator[tuple[Item, Prediction | Failure | None], None, None]:
    """Each item with what the model predicted in its snippets, in the order they came, as soon as it is known.

    A song may come in parts, one right behind the other, of which all but the last say that there are more. Failures,
    and items without snippets, pass through. A batch holds `batch_size` snippets, of as many songs as it takes; fewer
    at the end, and where `MOST_WAITING` items without snippets wait behind a song. The model has a thread of its own:
    while it classifies a batch, the caller sees to the songs of the last and fills the next one.
    """
    songs: deque[_Song[Item]] = deque()  # every song not yet answered, in the order they came
    waiting: deque[tuple[_Song[Item], np.ndarray]] = deque()  # snippets that wait for a full batch
    n_waiting_snippets = 0
    with ThreadPoolExecutor(1, "model") as thread:
        prediction: Future[None] | None = None
        for item, part in decoded:
            goes_on = bool(songs) and songs[-1].is_open
            if goes_on and isinstance(part, Snippets) and part.instead:
                songs.pop()  # whoever still waits of it waits in vain
                goes_on = False
            if not goes_on:
                songs.append(_Song(item))
            snippets = songs[-1].take(part)
            if snippets is not None and len(snippets):
                waiting.append((songs[-1], snippets))
                n_waiting_snippets += len(snippets)
            while n_waiting_snippets >= batch_size or (n_waiting_snippets and len(songs) > MOST_WAITING):
                batch, samples = _next_batch(waiting, batch_size)
                n_waiting_snippets -= len(samples)
                if prediction:
                    prediction.result()
                prediction = thread.submit(_predict_batch, batch, samples, model)
                yield from _answered(songs)
            yield from _answered(songs)
        if prediction:
            prediction.result()
        if waiting:
            _predict_batch(*_next_batch(waiting, batch_size), model)
        yield from _answered(songs)


def _next_batch(
    waiting: deque[tuple[_Song[Item], np.ndarray]], batch_size: int
) -> tuple[list[tuple[_Song[Item], int]], np.ndarray]:
    """Up to `batch_size` snippets from the front: how many are of which song, and their samples."""
    parts: list[tuple[_Song[Item], np.ndarray]] = []
    room = batch_size
    while waiting and room:
        song, samples = waiting.popleft()
        parts.append((song, samples[:room]))
        if len(samples) > room:
            waiting.appendleft((song, samples[room:]))
        room -= len(parts[-1][1])
    return [(song, len(samples)) for song, samples in parts], np.concatenate([samples for _, samples in parts])


def _predict_batch(batch: Iterable[tuple[_Song[Item], int]], samples: np.ndarray, model: Model) -> None:
    """Give the songs of a batch what the model made of their snippets."""
    began = time.perf_counter()
    outputs = model.outputs(samples)
    logger.debug("%d snippets are classified in %.3f s", len(samples), time.perf_counter() - began)
    start = 0
    for song, n_snippets in batch:
        rows = slice(start, start + n_snippets)
        song.outputs.append(Outputs(outputs.logits[rows], outputs.embeddings[rows]))
        song.n_classified += n_snippets  # last: from then on the song may be answered
        start = rows.stop


def _answered(songs: deque[_Song[Item]]) -> Iterator[tuple[Item, Prediction | Failure | None]]:
    while songs and songs[0].is_answered:
        song = songs.popleft()
        yield song.item, song.answer()
