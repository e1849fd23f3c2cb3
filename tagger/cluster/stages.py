"""What a node of a cluster does to a part of a library: a few songs, predicted and decided as `pipeline.run` does it.

    decode_part (look, decode) → Predictor (log-mel, model) → finish (decide, write)

A part goes from stage to stage as bytes, perhaps from node to node. None of them raises for what is wrong with a song.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property, partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tagger.audio import decode as audio
from tagger.audio.decode import Snippets, Wanted
from tagger.audio.library import Found
from tagger.audio.workers import Failure, Worker
from tagger.cluster.manifest import fetch, name_of, suffix_of
from tagger.debug import suppress
from tagger.errors import JournalError, ModelError
from tagger.models.description import Description, describe
from tagger.pipeline.cache import Method, Seen, see
from tagger.pipeline.options import PredictOptions, TagOptions
from tagger.pipeline.predict import Prediction, predict
from tagger.pipeline.run import Song, SongResult, Tagging, load_model
from tagger.tags.journal import Journal

if TYPE_CHECKING:
    from tagger.models.genre_model import GenreModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a node is told: how songs are classified and decided on, and the run that writes are journalled under."""

    description: Description
    load_model: Callable[[], GenreModel]
    options: TagOptions
    #: None: nothing is written.
    run: str | None = None
    root: str = ""
    argv: tuple[str, ...] = ()
    is_debugging: bool = False

    def tagging(self, cached_result: CachedResult) -> Tagging:
        """The status of a song of which that is known."""
        journal = partial(_journal, self.run, self.root, self.argv) if self.run else None
        return Tagging(self.description, self.options, cached_result, journal)

    @property
    def method(self) -> Method:
        """What results are filed under: the precision as it is asked for."""
        return Method.of(self.description, self.options.predict)

    @cached_property
    def asked(self) -> str:
        """A digest of all that decides what becomes of a song once it is classified."""
        values = asdict(self.options.decide) | asdict(self.options.write) | {"writes": self.run is not None}
        del values["preserve_mtime"]
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class CachedResult:
    """What an earlier run predicted in one song: on a node, this is all the cache there is."""

    identity: bytes | None = None
    stamp: str = ""
    answer: Prediction | Failure | None = None
    old: tuple[str, ...] = ()  # genres in its tag then
    refusal: str = ""  # why it could not be read or written then

    def look(self, path: Path) -> Seen:
        return see(path)

    def recall(
        self, seen: Seen, method: Method, retry_failed: bool = False, with_embeddings: bool = False
    ) -> Prediction | Failure | None:
        if isinstance(self.answer, Failure):
            return None if retry_failed or seen.stamp != self.stamp else self.answer
        return self.answer if self.answer is not None and seen.identity == self.identity else None

    def note_genres(self, seen: Seen, genres: Sequence[str]) -> None:
        pass

    def note_refusal(self, seen: Seen, reason: str) -> bool:
        return seen.stamp == self.stamp and reason == self.refusal

    def rewritten(self, seen: Seen) -> Seen | None:
        with suppress(OSError):
            new = see(seen.path)
            return new if new.identity == seen.identity else None
        return None


@dataclass
class WorkItem:
    """A song on its way through the stages."""

    where: Path | str
    cached_result: CachedResult = field(default_factory=CachedResult)
    precision: str = ""  # that it was classified in
    song: SongResult | Song | None = None
    stamp: str = ""  # version of the file when it was looked at
    decoded: Snippets | Failure | None = None
    prediction: Prediction | Failure | None = None


@dataclass(frozen=True)
class Stop:
    """Comes back in the place of a part, or of the rest of one, where a node cannot go on; ends the run."""

    error: type[ModelError] | type[JournalError]
    name: str
    reason: str


@dataclass(frozen=True)
class Answer:
    """The outcome for a song on a cluster: a row of the results."""

    name: str  # see manifest.name_of
    result: SongResult
    identity: bytes | None = None
    stamp: str = ""
    precision: str = ""  # that it was classified in
    asked: str = ""  # see Plan.asked


def decode_part(data: bytes, plan: Plan) -> bytes:
    """A part with its songs looked at and, those that are to be classified, decoded."""
    part: list[WorkItem] = pickle.loads(data)
    decoder = _decoder(plan.options.predict.time_limit_seconds)
    for each in part:
        cached_result = each.cached_result
        if (
            isinstance(each.where, str)
            and isinstance(cached_result.answer, Prediction)
            and not plan.options.predict.reanalyze
        ):
            seen = Seen(each.where, "", "", known_identity=cached_result.identity)  # not fetched again to be looked at
            each.song = Song(each.where, seen, (), cached_result.old, cached_result.answer)
            continue
        with _at_hand(each.where, decoder) as path:
            _decode_item(each, path, plan, decoder)
    return pickle.dumps(part)


def _decode_item(each: WorkItem, path: Path | Failure, plan: Plan, decoder: Worker[Callable[[], Any], Any]) -> None:
    looked = (
        path if isinstance(path, Failure) else decoder.run(partial(_look, path, each.where, plan, each.cached_result))
    )
    if isinstance(looked, Failure):
        each.song = SongResult(each.where, "failed", reason=looked.reason, is_lasting=looked.is_lasting)
    else:
        each.song, each.stamp = looked.song, looked.stamp
    if isinstance(each.song, Song) and each.song.cached is None and isinstance(path, Path):
        wanted = Wanted(path, plan.options.predict.n_snippets)
        each.decoded = decoder.run(partial(audio.decode_wanted, wanted, plan.description.snippet_samples))


@dataclass(frozen=True)
class Looked:
    """What is known of a song, and the version of its file that this is of; "" for a URI."""

    song: SongResult | Song
    stamp: str


def _look(path: Path, where: Path | str, plan: Plan, cached_result: CachedResult) -> Looked:
    """What is known of the song; of one that was fetched no more is asked than what is in it."""
    stamp = ""
    with suppress(OSError):  # is told of below
        stamp = see(path).stamp if isinstance(where, Path) else ""
    looked = (plan if isinstance(where, Path) else replace(plan, run=None)).tagging(cached_result).look(Found(path))
    if isinstance(looked, Song):
        _ = looked.seen.identity  # here, where a file that kills its reader fails alone
    return Looked(replace(looked, path=where), stamp)


@contextmanager
def _at_hand(where: Path | str, decoder: Worker[Callable[[], Any], Any]) -> Iterator[Path | Failure]:
    """The file of a song; for a URI a copy, for as long as it is needed."""
    if isinstance(where, Path):
        yield where
        return
    with tempfile.TemporaryDirectory(prefix="genre-tag-") as folder:
        path = Path(folder, f"song{suffix_of(where)}")
        failure = decoder.run(partial(fetch, where, str(path)))
        yield replace(failure, is_lasting=False) if failure else path


class Predictor:
    """A model on a node, which classifies parts.

    Two threads may ask it: while the device works for one, the other has its parts unpacked, and waits.
    """

    def __init__(self, plan: Plan, load_now: bool = True) -> None:
        """`load_now`: while the first part is decoded; else if a part comes that is to be classified."""
        self._plan = plan
        self._model: GenreModel | None = None
        self._stop: Stop | None = None
        self._is_free = Lock()
        if load_now:
            with self._stopping():
                self._load()

    def predict(self, data: Sequence[bytes]) -> list[bytes]:
        """Parts with the prediction in their songs; batches of the model are filled from all of them."""
        parts: list[list[WorkItem]] = [pickle.loads(part) for part in data]
        songs = [each for part in parts for each in part]
        with self._is_free, self._stopping():
            if self._stop is None and any(each.decoded is not None for each in songs):
                model = self._load()
                decoded = ((each, each.decoded) for each in songs)
                for each, prediction in predict(decoded, model, model.batch_size):
                    each.prediction, each.decoded = prediction, None
                    if prediction is not None:
                        each.precision = model.precision
        if self._stop is not None:
            return [pickle.dumps(self._stop)]
        return [pickle.dumps(part) for part in parts]

    def _load(self) -> GenreModel:
        if self._model is None:
            self._model = self._plan.load_model()
            if self._plan.options.predict.batch_size is not None:
                self._model.batch_size = self._plan.options.predict.batch_size
        return self._model

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        try:
            yield
        except ModelError as error:
            logger.debug("the run ends", exc_info=True)
            self._stop = Stop(ModelError, str(error.path), error.reason)


def finish(data: bytes, plan: Plan) -> bytes:
    """The answers to a part: its songs decided on and, if that is asked for, written."""
    part: list[WorkItem] | Stop = pickle.loads(data)
    if isinstance(part, Stop):
        return data
    answers: list[Answer | Stop] = []
    try:
        for each in part:
            answers.append(_answer(each, plan))
    except JournalError as error:  # songs before this one are written
        logger.debug("the run ends", exc_info=True)
        answers.append(Stop(JournalError, os.fspath(error.path), error.reason))
    return pickle.dumps(answers)


def _answer(each: WorkItem, plan: Plan) -> Answer:
    assert each.song is not None
    result = plan.tagging(each.cached_result).finish(each.song, each.prediction)
    answer = Answer(name_of(each.where), result, precision=each.precision, asked=plan.asked)
    if not isinstance(each.song, Song):
        return replace(answer, stamp=each.stamp if result.is_lasting else "")
    seen = each.song.seen
    if result.written:
        seen = each.cached_result.rewritten(seen) or seen
    stamp = seen.stamp if isinstance(each.where, Path) else ""
    return replace(answer, identity=each.song.seen.identity, stamp=stamp)


# What a process of a node keeps from part to part.


@cache
def _decoder(time_limit_seconds: float) -> Worker[Callable[[], Any], Any]:
    """A process in which files are opened: one that crashes it, or keeps it busy, fails alone."""
    return Worker(_call, time_limit_seconds)


def _call(task: Callable[[], Any]) -> Any:
    return task()


def load_model_here(fingerprint: str, options: PredictOptions) -> GenreModel:
    """The model as this node has it; raises ModelError if it is not the one the run was started with."""
    description = describe(options.model)
    if description.fingerprint != fingerprint:
        where = socket.gethostname()
        raise ModelError(options.model, f"differs on {where}: every node needs the same model and genre-tag")
    return load_model(description, replace(options, n_threads=1))  # there is one for every core of a CPU


@cache
def _journal(run: str, root: str, argv: tuple[str, ...]) -> Journal:
    """The journal of this process in a run that has one on each node."""
    return Journal.open(root, argv, run=run, writer=f"{socket.gethostname()}-{os.getpid()}")
