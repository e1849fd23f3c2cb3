"""One run over a library: look, hear, decide, write; one result per song, in library order."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tagger import audio, tags
from tagger.aggregate import Decision, confidence_scale, decide, unsure
from tagger.journal import Journal
from tagger.library import Found
from tagger.options import TagOptions
from tagger.predict import Heard, hear
from tagger.swap import check_writable
from tagger.workers import Failure, decode_ahead, usable_cores

if TYPE_CHECKING:
    from tagger.model import GenreModel

#: What can become of a song. "tagged": its genre is written, or would be with --write-tags.
STATUSES = ("tagged", "unchanged", "kept", "unsure", "skipped", "failed")


@dataclass(frozen=True)
class SongResult:
    """What became of one song."""

    path: Path
    status: str
    #: Genres in the file before, and after; equal when nothing is (to be) written.
    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    #: None when the song was not heard.
    decision: Decision | None = None
    #: Why it was not tagged; "" when there is nothing to explain.
    reason: str = ""
    #: True when the file was changed.
    written: bool = False
    duration_seconds: float | None = None
    starts_seconds: tuple[float, ...] = ()
    #: What the numbers in `decision` are: see aggregate.confidence_scale.
    scale: str = ""


def default_workers(device: str) -> int:
    """Decoders that keep the model fed without taking its cores: all cores beside a GPU, half of them beside a CPU."""
    return max(1, usable_cores() // (2 if device == "cpu" else 1))


def tag_songs(
    songs: Sequence[Found],
    load_model: Callable[[], GenreModel],
    options: TagOptions,
    journal: Journal | None = None,
) -> Generator[SongResult, None, None]:
    """What became of each of `songs`, in their order, as soon as it is known.

    Genres are written, and recorded, in `journal`; without one nothing is written. The model is loaded when the first
    song is to be heard. ModelError and JournalError pass through and end the run; whatever is wrong with a song is a
    result with its reason.
    """
    looked_at = (_look(found, options, writing=journal is not None) for found in songs)
    for seen in looked_at:
        if seen.result is not None:
            yield seen.result
        else:
            break
    else:
        return
    model = load_model()
    n_workers = options.n_workers or default_workers(model.device)
    model.leave_cores(n_workers)
    if options.batch_size is not None:
        model.batch_size = options.batch_size
    # Decoded ahead: one song in each worker, and enough for the batch that is heard and for the next one.
    n_batch_songs = 1 if options.n_snippets is None else math.ceil(model.batch_size / options.n_snippets)
    decoded = decode_ahead(
        ((song, None if song.result else song.path) for song in chain([seen], looked_at)),
        partial(audio.decode, n_snippets=options.n_snippets, snippet_samples=model.snippet_samples),
        n_workers=n_workers,
        look_ahead=n_workers + 2 * n_batch_songs,
        time_limit_seconds=options.time_limit_seconds,
    )
    with closing(decoded), closing(hear(decoded, model, model.batch_size)) as answers:
        for song, heard in answers:
            yield song.result or _finish(song, heard, model, options, journal)


@dataclass(frozen=True)
class _Looked:
    """A song before it is heard: the genres in its tag, or the result when it need not be heard."""

    path: Path
    old: tuple[str, ...] = ()
    #: Why the file could not be written, though it can be heard.
    obstacle: str = ""
    result: SongResult | None = None


def _look(found: Found, options: TagOptions, writing: bool) -> _Looked:
    path = found.path
    if found.problem:
        return _Looked(path, result=SongResult(path, "failed" if found.failed else "skipped", reason=found.problem))
    try:
        old = tags.read_genres(path)
    except tags.TagError as error:
        status = "failed" if error.refused else "skipped"
        return _Looked(path, result=SongResult(path, status, reason=error.reason))
    if writing and options.existing == "keep" and old:
        return _Looked(path, result=SongResult(path, "kept", old, old))
    try:
        check_writable(path, options.hardlinks)
    except tags.TagError as error:
        if writing:
            return _Looked(path, result=SongResult(path, "skipped", old, old, reason=error.reason))
        return _Looked(path, old, obstacle=error.reason)
    return _Looked(path, old)


def _finish(
    song: _Looked, heard: Heard | Failure | None, model: GenreModel, options: TagOptions, journal: Journal | None
) -> SongResult:
    """Decide on a song that was heard, and write it if that is asked for."""
    if not isinstance(heard, Heard):
        return SongResult(song.path, "failed", song.old, song.old, reason=heard.reason if heard else "not heard")
    decision = unsure(heard.unsure) if heard.unsure else _decide(heard.logits, model, options)
    result = partial(
        SongResult,
        song.path,
        old=song.old,
        decision=decision,
        duration_seconds=heard.duration_seconds,
        starts_seconds=heard.starts_seconds,
        scale=confidence_scale(model.head, options.aggregate),
    )
    if song.old and options.existing == "keep":
        return result(status="kept", new=song.old)
    if not decision.genres:
        return result(status="unsure", new=song.old, reason=decision.reason)
    new = tags.merge(song.old, decision.genres, options.existing)
    if new == song.old:
        return result(status="unchanged", new=new)
    if song.obstacle:
        return result(status="skipped", new=song.old, reason=song.obstacle)
    if journal is None:
        return result(status="tagged", new=new)
    try:
        written = journal.write_genres(
            song.path,
            new,
            instead_of=song.old,
            id3v23_multi=options.id3v23_multi,
            preserve_mtime=options.preserve_mtime,
            hardlinks=options.hardlinks,
        )
    except tags.TagError as error:
        return result(status="failed" if error.refused else "skipped", new=song.old, reason=error.reason)
    return result(status="tagged" if written else "unchanged", new=new, written=written)


def _decide(logits: np.ndarray, model: GenreModel, options: TagOptions) -> Decision:
    return decide(
        logits,
        model.head,
        aggregate=options.aggregate,
        min_confidence=options.min_confidence,
        max_genres=options.max_genres,
        names=options.names,
    )
