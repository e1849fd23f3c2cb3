"""One run over a library: look, classify or recall, decide, write; one result per song, in library order."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from tagger.audio import decode as audio
from tagger.audio.decode import Snippets, Wanted
from tagger.audio.library import Found
from tagger.audio.workers import Failure, Worker, begin_workers, decode_ahead, usable_cores
from tagger.debug import suppress
from tagger.errors import TagError
from tagger.models.checkpoint import read_last_layer
from tagger.models.description import Description
from tagger.models.engine import decode_seconds
from tagger.pipeline.aggregate import Decision, confidence_scale, decide, unsure
from tagger.pipeline.albums import MOST_TOGETHER, album_folder, albums
from tagger.pipeline.cache import Method, PredictionCache, Seen
from tagger.pipeline.options import PredictOptions, TagOptions
from tagger.pipeline.predict import Prediction, predict
from tagger.pipeline.rounds import N_FIRST, Answer, RoundItem, predict_in_rounds
from tagger.tags import genre as tags
from tagger.tags.journal import Journal
from tagger.tags.swap import check_writable
from tagger.text import counted

if TYPE_CHECKING:
    from tagger.models.genre_model import GenreModel

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

MOST_AT_A_STRETCH = 16  # songs
MEANWHILE = "tagged by another run or program meanwhile"
#: The statuses of a song. "tagged": its genre is written, or would be with --write-tags.
STATUSES = ("tagged", "unchanged", "kept", "unsure", "skipped", "failed")


@dataclass(frozen=True)
class SongResult:
    """The status of one song."""

    path: Path | str  # a URI, on a cluster
    status: str
    #: Genres in the file before, and after; equal when nothing is (to be) written.
    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    #: None when the song was not classified.
    decision: Decision | None = None
    #: Why it was not tagged, or is decided on less than was wanted; "" when there is nothing to explain.
    reason: str = ""
    #: True when the file was changed.
    written: bool = False
    #: True when the prediction, or that the song fails, was known from an earlier run.
    cached: bool = False
    #: True when it failed, and would fail again as long as its file is the same.
    is_lasting: bool = False
    duration_seconds: float | None = None
    starts_seconds: tuple[float, ...] = ()
    #: What the numbers in `decision` are: see aggregate.confidence_scale.
    scale: str = ""
    #: What the decision was made on; None when the song was not classified.
    prediction: Prediction | None = field(default=None, compare=False, repr=False)
    #: Who the song is (`tags.identity`); None when it was not classified, or cannot be told.
    identity: bytes | None = field(default=None, compare=False, repr=False)


def load_model(description: Description, options: PredictOptions) -> GenreModel:
    """The model of that description, on the device and in the precision that is asked for; raises ModelError."""
    from tagger.models.genre_model import GenreModel

    return GenreModel.load(description, options.device, options.precision, options.n_threads)


def default_workers(model: GenreModel) -> int:
    """Decoders that keep the model fed: all cores beside a GPU; beside a CPU, by how long each has to do.

    There is one more than it takes. It costs little, as decoders that are ahead wait and leave their cores to the
    model, and no song is like another.
    """
    n_cores = usable_cores()
    if model.device == "cpu":
        decode = decode_seconds(model.snippet_samples)
        classify = model.n_threads / model.snippets_per_second
        return min(n_cores, 1 + math.ceil(n_cores * decode / (decode + classify)))
    return n_cores


def machine_line(model: GenreModel, options: PredictOptions) -> str:
    """What a run chose for this machine, in one line."""
    return (
        f"{model.name} on {model.device} by {model.engine} in {model.precision} ({model.precision_reason}), "
        f"{counted(model.n_threads, 'thread')}, batches of {options.batch_size or model.batch_size}, "
        f"{options.n_workers or default_workers(model)} decoders"
    )


def tag_songs(
    songs: Sequence[Found],
    description: Description,
    load_model: Callable[[], GenreModel],
    options: TagOptions,
    cache: PredictionCache,
    journal: Journal | None = None,
) -> Generator[SongResult, None, None]:
    """The status of each of `songs`, in their order, as soon as it is known.

    Songs that `cache` knows are decided on as they are cached. The model, whose `description` is given, is
    loaded when the first song is to be classified, and its answers are cached before anything is made of them. Genres
    are written, and recorded, in `journal`; without one nothing is written. ModelError and JournalError pass through
    and end the run; whatever is wrong with a song is a result with its reason.
    """
    run = Tagging(description, options, cache, (lambda: journal) if journal is not None else None)
    with closing(_classified(songs, description, load_model, options, cache, run)) as classified:
        if options.decide.by_album:
            yield from run.finish_albums(classified)
        else:
            yield from (run.finish(song, prediction) for song, prediction in classified)


def _classified(
    songs: Sequence[Found],
    description: Description,
    load_model: Callable[[], GenreModel],
    options: TagOptions,
    cache: PredictionCache,
    run: Tagging,
) -> Generator[tuple[SongResult | Song, Answer], None, None]:
    """Each song with what is predicted now; None for one that is cached, or need not be classified."""
    looked_at = _in_groups(map(run.look, songs))
    for song in looked_at:
        if _is_unclassified(song):
            break
        yield song, None
    else:
        return
    decode = partial(audio.decode_parts, snippet_samples=description.snippet_samples)
    time_limit_seconds, n_first = options.predict.time_limit_seconds, run.rounds[0]
    with ExitStack() as stack:
        # A decoder takes as long to start as a model to load; two there will be at least, if there are two songs.
        n_begun = min(options.predict.n_workers or 2, usable_cores(), len(songs))
        begun: list[Worker[Wanted, Snippets | Failure | None]] = begin_workers(decode, n_begun, time_limit_seconds)
        for worker in begun:
            stack.callback(worker.close)
        model = load_model()
        n_workers = options.predict.n_workers or default_workers(model)
        if options.predict.batch_size is not None:
            model.batch_size = options.predict.batch_size
        # Decoded ahead: one song in each worker, and enough for the batch that is classified and for the next one.
        n_batch_songs = 1 if n_first is None else math.ceil(model.batch_size / n_first)
        logger.debug("%d decoders, batches of %d snippets", n_workers, model.batch_size)

        def predict_round(
            songs: Iterable[tuple[RoundItem[SongResult | Song], Wanted | None]],
        ) -> Generator[tuple[RoundItem[SongResult | Song], Answer], None, None]:
            of_round, begun[:] = tuple(begun), ()
            decoded: Generator[tuple[RoundItem[SongResult | Song], Snippets | Failure | None], None, None] = (
                decode_ahead(
                    songs, decode, n_workers=n_workers, look_ahead=n_workers + 2 * n_batch_songs,
                    time_limit_seconds=time_limit_seconds, begun=of_round,
                )
            )  # fmt: skip
            with closing(decoded), closing(predict(decoded, model, model.batch_size)) as answers:
                yield from answers

        wanted = ((song, _wanted(song, n_first)) for song in chain([song], looked_at))
        with closing(predict_in_rounds(wanted, predict_round, run.want_more)) as round_items:
            for round_item in round_items:
                song, prediction = round_item.item, round_item.answer
                if isinstance(song, Song) and round_item.wanted is not None and prediction is not None:
                    method = replace(run.method, precision=model.precision, n_snippets=round_item.wanted.n_snippets)
                    _remember(cache, song.seen, method, prediction, n_first)
                yield song, prediction


def _in_groups(items: Iterator[Item]) -> Iterator[Item]:
    """The same, taken in groups of up to `MOST_AT_A_STRETCH`, which the processor's caches make a third faster.

    The first groups are small, so that nobody waits for them.
    """
    n_items = 1
    while group := list(islice(items, n_items)):
        yield from group
        n_items = min(2 * n_items, MOST_AT_A_STRETCH)


def _remember(
    cache: PredictionCache, seen: Seen, method: Method, prediction: Prediction | Failure, n_first: int | None
) -> None:
    """Cache the prediction; where its last round failed, that of the first one, and the failure."""
    if isinstance(prediction, Prediction) and prediction.failure is not None:
        cache.remember(seen, replace(method, n_snippets=n_first), prediction)
        cache.remember(seen, method, prediction.failure)
    else:
        cache.remember(seen, method, prediction)


class Memory(Protocol):
    """What is known of songs from earlier runs: a PredictionCache, or what stands for one."""

    def look(self, path: Path) -> Seen:
        """The file as it is now; raises OSError."""

    def recall(
        self, seen: Seen, method: Method, retry_failed: bool = False, with_embeddings: bool = False
    ) -> Prediction | Failure | None:
        """The prediction of the song by this method, with or without embeddings; None when it is to be classified."""

    def note_genres(self, seen: Seen, genres: Sequence[str]) -> None:
        """Keep the genres that were read in the tag."""

    def note_refusal(self, seen: Seen, reason: str) -> bool:
        """Keep that the song cannot be read or written; whether an earlier run had the same to say of this file."""

    def rewritten(self, seen: Seen) -> Seen | None:
        """The song in the version this program made of it; None if it is another song."""


@dataclass(frozen=True)
class Song:
    """A song that is to be decided on, and what is known of it."""

    path: Path | str  # a URI, which is classified and never written
    seen: Seen
    #: What its tag holds for a genre, value by value.
    values: tuple[str, ...]
    #: The genres in these values.
    old: tuple[str, ...]
    #: What was predicted in an earlier run.
    cached: Prediction | Failure | None


def _is_unclassified(song: SongResult | Song) -> bool:
    return isinstance(song, Song) and song.cached is None


def _wanted(song: SongResult | Song, n_snippets: int | None) -> Wanted | None:
    return Wanted(Path(song.path), n_snippets) if _is_unclassified(song) else None


@dataclass(frozen=True)
class Tagging:
    """The status of a song before and after it is classified."""

    description: Description
    options: TagOptions
    cache: Memory
    #: Gives the journal that writes are recorded in; None: nothing is written.
    open_journal: Callable[[], Journal] | None

    @cached_property
    def method(self) -> Method:
        """How songs are to be classified, in the precision that is asked for."""
        return Method.of(self.description, self.options.predict)

    @cached_property
    def methods(self) -> tuple[Method, ...]:
        """The same in each of `rounds`; one for all songs, as it is told by a digest of all that it says."""
        return tuple(replace(self.method, n_snippets=n_snippets) for n_snippets in self.rounds)

    @property
    def rounds(self) -> tuple[int | None, ...]:
        """Snippets that are classified of a song, and of one that this leaves unclear."""
        n_snippets = self.options.predict.n_snippets
        return (N_FIRST, n_snippets) if self.options.predict.until_clear else (n_snippets,)

    def want_more(self, wanted: Wanted, prediction: Prediction) -> Wanted | None:
        """What else to classify of a song; None when it is clear: each snippet alone would decide as they all do."""
        n_snippets = self.rounds[-1]
        n_there = int(prediction.duration_seconds * audio.SAMPLE_RATE / self.description.snippet_samples)
        if n_snippets is None or wanted.n_snippets == n_snippets or n_there <= N_FIRST:
            return None
        if len(prediction.logits) == N_FIRST:
            genres = self._decide(prediction.logits).genres
            if all(self._decide(row[None]).genres == genres for row in prediction.logits):
                return None
        # In a song too short for all of them the others lie elsewhere.
        return Wanted(wanted.path, n_snippets, prediction.starts_seconds if n_there >= n_snippets else ())

    def look(self, found: Found) -> SongResult | Song:
        """The song with what is known of it, or what becomes of it if it need not be classified."""
        path, options = found.path, self.options
        if found.problem:
            return SongResult(path, "failed" if found.failed else "skipped", reason=found.problem)
        old: tuple[str, ...] = ()
        seen: Seen | None = None
        try:
            seen = self.cache.look(path)
            values = self._read_genres(seen)
            old = tags.split_genres(values, options.write.separator)
            if self.open_journal is not None and options.write.existing == "keep" and old:
                return SongResult(path, "kept", old, old)
            cached = None if options.predict.reanalyze else self._recall(seen)
            if self.open_journal is not None and cached is None:
                check_writable(path, options.write.hardlinks)  # or it would be classified for nothing
        except TagError as error:
            logger.debug("%s is left alone", path, exc_info=True)
            return self._left(error, seen, partial(SongResult, path, old=old, new=old))
        except OSError as error:
            logger.debug("%s is left alone", path, exc_info=True)
            return SongResult(path, "failed", reason=error.strerror or str(error))
        logger.debug("%s is %s", path, "to be classified" if cached is None else "cached")
        return Song(path, seen, values, old, cached)

    def _left(self, error: TagError, seen: Seen | None, result: Callable[..., SongResult]) -> SongResult:
        """The status of a song that is left as it is; of one that fails for good, whether that is known."""
        if not error.refused:
            return result(status="skipped", reason=error.reason)
        if seen is None or not error.is_lasting:
            return result(status="failed", reason=error.reason, cached=False)
        cached = self.cache.note_refusal(seen, error.reason) and not self.options.predict.retry_failed
        return result(status="failed", reason=error.reason, cached=cached, is_lasting=True)

    def finish_albums(self, classified: Iterable[tuple[SongResult | Song, Answer]]) -> Iterator[SongResult]:
        """Decide on the songs of each album together; those of a folder wait for each other, up to `MOST_TOGETHER`."""
        waiting: list[tuple[SongResult | Song, Answer]] = []
        folder = ""
        for song, prediction in classified:
            where = album_folder(song.path) if isinstance(song.path, Path) else song.path
            if where != folder or len(waiting) == MOST_TOGETHER:
                yield from self._finish_folder(waiting)
                waiting = []
            folder = where
            waiting.append((song, prediction))
        yield from self._finish_folder(waiting)

    def _finish_folder(self, classified: Sequence[tuple[SongResult | Song, Answer]]) -> Iterator[SongResult]:
        """The songs of a folder, in their order, those of an album decided on by the snippets of all of them."""
        predicted = [
            (place, song, answer)
            for place, (song, prediction) in enumerate(classified)
            if isinstance(song, Song)
            and isinstance(answer := prediction or song.cached, Prediction)
            and len(answer.logits)
        ]
        together: dict[int, tuple[Decision, int]] = {}
        for album in albums([str(song.path) for _, song, _ in predicted]):
            decision = self._decide(np.concatenate([predicted[each][2].logits for each in album]))
            together |= {predicted[each][0]: (decision, len(album)) for each in album}
        for place, (song, prediction) in enumerate(classified):
            yield self.finish(song, prediction, together.get(place))

    def finish(
        self,
        song: SongResult | Song,
        prediction: Answer = None,
        of_album: tuple[Decision, int] | None = None,
    ) -> SongResult:
        """Decide on a song by the prediction in it, now or before, and write it if that is asked for.

        `of_album` is the decision on its album and how many songs of it that was made on.
        """
        if isinstance(song, SongResult):
            return song
        is_cached, prediction = prediction is None, prediction or song.cached
        if not isinstance(prediction, Prediction):
            reason, is_lasting = (prediction.reason, prediction.is_lasting) if prediction else ("not classified", False)
            return SongResult(
                song.path, "failed", song.old, song.old, reason=reason, cached=is_cached, is_lasting=is_lasting
            )
        shortfall = shortfall_of(prediction)
        if of_album is not None:
            decision, n_songs = of_album
            shortfall = "; ".join(filter(None, (f"by {n_songs} songs of its album", shortfall)))
        else:
            decision = unsure(prediction.unsure) if prediction.unsure else self._decide(prediction.logits)
        logger.debug("%s is decided on: %s of %s", song.path, decision.genres, decision.ranking[:3])
        result = partial(
            SongResult,
            song.path,
            old=song.old,
            decision=decision,
            reason=shortfall,
            cached=is_cached,
            duration_seconds=prediction.duration_seconds,
            starts_seconds=prediction.starts_seconds,
            scale=confidence_scale(self.description.head, self.options.decide.aggregate),
            prediction=prediction,
            identity=song.seen.identity,
        )
        if song.old and self.options.write.existing == "keep":
            return result(status="kept", new=song.old)
        if not decision.genres:
            return result(status="unsure", new=song.old, reason="; ".join(filter(None, (decision.reason, shortfall))))
        new = tags.merge(song.old, decision.genres, self.options.write.existing)
        if new == song.old:
            return result(status="unchanged", new=new)
        if isinstance(song.path, str):
            predicted_as = f"{'; '.join(decision.genres)} {decision.confidence:.2f}"
            return result(
                status="skipped", new=song.old, reason=f"{predicted_as}: analysed, not written, as it is no file"
            )
        return self._as_written(song, new, result)

    def _as_written(self, song: Song, new: tuple[str, ...], result: Callable[..., SongResult]) -> SongResult:
        """The `result` for a song that is to have these genres, which it has now if that is asked for."""
        try:
            if self.open_journal is None:
                check_writable(song.path, self.options.write.hardlinks)
                return result(status="tagged", new=new)
            logger.debug("%s is to be written: %s", song.path, new)
            if self._write(song, new, self.open_journal()):
                return result(status="tagged", new=new, written=True)
            left = result(status="unchanged", new=new)
        except TagError as error:
            logger.debug("%s is left alone", song.path, exc_info=True)
            left = self._left(error, song.seen, partial(result, new=song.old))
        if theirs := self._done_by_another(song, new):
            status, genres = theirs
            return replace(left, status=status, old=genres, new=genres, reason=MEANWHILE)
        return left

    def _recall(self, seen: Seen) -> Prediction | Failure | None:
        """The prediction of the song before, if it answers.

        That is the prediction in all rounds, or in the first if that leaves it clear, or the others failed for good.
        """
        failure: Failure | None = None
        for method in reversed(self.methods):
            cached = self._recall_by(seen, method)
            if isinstance(cached, Failure):
                failure = failure or cached
            elif cached is not None and self.want_more(Wanted(Path(seen.path), method.n_snippets), cached) is None:
                return cached
            elif cached is not None and failure is not None:
                return replace(cached, failure=failure)
        return failure

    def _recall_by(self, seen: Seen, method: Method) -> Prediction | Failure | None:
        """The prediction by one method; of a model with a new last layer also by what it was fitted on: embeddings."""
        options, backbone = self.options.predict, self.description.backbone
        cached = self.cache.recall(seen, method, options.retry_failed, options.with_embeddings)
        if cached is not None or not backbone:
            return cached
        by_backbone = self._by_backbone[method.n_snippets]
        cached = self.cache.recall(seen, by_backbone, options.retry_failed, with_embeddings=True)
        if not isinstance(cached, Prediction) or cached.embeddings is None:
            return cached
        weight, bias = self._last_layer
        return replace(cached, logits=cached.embeddings @ weight.T + bias)

    @cached_property
    def _by_backbone(self) -> dict[int | None, Method]:
        """The methods of the checkpoint whose embeddings the last layer reads, by their number of snippets."""
        return {each.n_snippets: replace(each, model=self.description.backbone) for each in self.methods}

    @cached_property
    def _last_layer(self) -> tuple[np.ndarray, np.ndarray]:
        return read_last_layer(self.description)

    def _decide(self, logits: np.ndarray) -> Decision:
        return decide(logits, self.description.head, self.options.decide)

    def _write(self, song: Song, genres: tuple[str, ...], journal: Journal) -> bool:
        """Whether the file was changed to have these genres; False if it has them. Raises TagError."""
        options = self.options
        if not song.seen.is_same_song():
            raise TagError(song.path, "replaced by another program meanwhile", refused=False)
        written = journal.write_genres(
            song.path,
            tags.join_genres(genres, options.write.separator),
            instead_of=song.values,
            id3v23_multi=options.write.id3v23_multi,
            preserve_mtime=options.write.preserve_mtime,
            hardlinks=options.write.hardlinks,
        )
        if written and (new := self.cache.rewritten(song.seen)) is not None:
            with suppress(TagError):  # it was written all the same
                self._read_genres(new)
        return written

    def _done_by_another(self, song: Song, wanted: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
        """The status and the genres of a song that another run, or program, has tagged meanwhile.

        None for one that has the genres it had, or such as were to be replaced or added to.
        """
        options, path = self.options.write, Path(song.path)
        try:
            data = path.read_bytes()
            values = tags.real_genres(data, path.suffix)
            new = tags.retag(data, path.suffix, tags.join_genres(wanted, options.separator), options.id3v23_multi)
        except (OSError, TagError):
            logger.debug("%s", path, exc_info=True)
            return None
        genres = tags.split_genres(values, options.separator)
        if values == song.values or not genres:
            return None
        if new is data:
            return "unchanged", genres
        return ("kept", genres) if options.existing == "keep" else None

    def _read_genres(self, seen: Seen) -> tuple[str, ...]:
        """What the tag holds for a genre; the file is read only if the cache does not know. Raises TagError."""
        if seen.genres is not None:
            return seen.genres
        genres = tags.read_genres(seen.path)
        self.cache.note_genres(seen, genres)
        return genres


def shortfall_of(prediction: Prediction) -> str:
    """That a song is decided on fewer snippets than were wanted, and why; "" if it is not."""
    if prediction.failure is None:
        return ""
    snippets = counted(len(prediction.starts_seconds), "snippet")
    return f"decided on {snippets}, as the others failed: {prediction.failure.reason}"
