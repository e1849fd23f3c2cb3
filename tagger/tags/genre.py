"""The genre tag of a song, read and written: policy here, containers in `tagger.tags.containers`.

`retag` is pure: old bytes in, new bytes out. Nothing in this module touches the disk but to read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

from tagger.errors import TagError
from tagger.tags.containers import Places, Song, clean, naming
from tagger.tags.policies import Existing, Multi

__all__ = ["PLACEHOLDERS", "Inspection", "TagError", "check_genres", "genres_in", "genres_of", "inspect"]
__all__ += ["join_genres", "merge", "naming", "read_genres", "real_genres", "restore", "retag", "split_genres"]

# What rippers and shops write when they do not know; compared case-folded. ID3v1 byte 255 reads as "Unknown".
PLACEHOLDERS = frozenset({"", "other", "unknown", "unknown genre", "none", "misc", "genre", "undefined"})


def read_genres(path: str | PathLike[str], placeholders: frozenset[str] = PLACEHOLDERS) -> tuple[str, ...]:
    """The genres a song already has, in order, numbers turned into names; () when there are none but placeholders.

    Reads headers only. Raises TagError, with a reason in plain words, for a song that could not be written either.
    """
    with naming(path), Path(path).open("rb") as file:
        return genres_of(Song(file, Path(path).suffix), placeholders)


def genres_of(song: Song, placeholders: frozenset[str] = PLACEHOLDERS) -> tuple[str, ...]:
    """What `read_genres` gives for a song that is open."""
    for place, values in song.places().items():
        if place == "id3v1" and values == ("0",) and song.is_tagged:
            continue  # byte 0 is Blues, and what is left when a tagger fills the block with zeros
        if genres := tuple(g for g in song.names(place, values) if g.casefold() not in placeholders):
            return genres
    return ()


def real_genres(data: bytes, suffix: str) -> tuple[str, ...]:
    """What `read_genres` gives for a song of these bytes; raises TagError (with no path)."""
    with naming(""):
        return genres_of(Song(BytesIO(data), suffix))


def merge(old: Sequence[str], predicted: Sequence[str], existing: Existing) -> tuple[str, ...]:
    """The genres to write, given what the song has (`old`, without placeholders) and what was predicted.

    >>> merge(["rock"], ["Rock", "Pop"], "append")
    ('rock', 'Pop')
    >>> merge(["rock"], ["Pop"], "keep"), merge([], ["Pop"], "keep"), merge(["rock"], ["Pop"], "replace")
    (('rock',), ('Pop',), ('Pop',))
    """
    if old and (existing == "keep" or not predicted):
        return tuple(old)
    if existing == "append":
        known = {genre.casefold() for genre in old}
        return (*old, *(genre for genre in predicted if genre.casefold() not in known))
    return tuple(predicted)


def split_genres(values: Sequence[str], separator: str | None) -> tuple[str, ...]:
    """The genres in values that may hold several each, joined by `separator`; None: each value is one genre.

    >>> split_genres(["Rock; Pop", "Jazz"], "; "), split_genres(["Folk; World"], None)
    (('Rock', 'Pop', 'Jazz'), ('Folk; World',))
    """
    if separator is None:
        return tuple(values)
    return tuple(part.strip() for value in values for part in value.split(separator) if part.strip())


def join_genres(genres: Sequence[str], separator: str | None) -> tuple[str, ...]:
    """The values to write for these genres: one that holds them all, or with None one for each.

    >>> join_genres(["Rock", "Pop"], " / "), join_genres(["Rock", "Pop"], None)
    (('Rock / Pop',), ('Rock', 'Pop'))
    """
    return tuple(genres) if separator is None else (separator.join(genres),)


def retag(old: bytes, suffix: str, genres: Sequence[str], id3v23_multi: Multi = "join") -> bytes:
    """The bytes of the song with exactly these genres, best first; `old` itself when it has them already.

    Raises ValueError for genres no file should hold, TagError (with no path) for a song that cannot be written.
    """
    check_genres(genres)
    with naming(""):
        song = Song(BytesIO(old), suffix)
        now = song.places()
        new = {place: song.spelled(place, genres, id3v23_multi) for place in now}
        if all(song.names(place, now[place]) == song.names(place, new[place]) for place in now):
            return old
        return song.put(old, new)


def genres_in(data: bytes, suffix: str) -> tuple[tuple[str, ...], Places]:
    """The song's genres, placeholders included, and what is stored in every place of one; raises TagError."""
    with naming(""):
        song = Song(BytesIO(data), suffix)
        return genres_of(song, frozenset()), song.places()


def restore(data: bytes, suffix: str, places: Places) -> bytes:
    """The bytes of the song with what an earlier version stored in its places; `data` itself when that is there.

    A place that has come since is left without a genre, one that is gone is not made again.
    """
    with naming(""):
        song = Song(BytesIO(data), suffix)
        now = song.places()
        new = {place: tuple(places.get(place, ("255",) if place == "id3v1" else ())) for place in now}
        return data if new == now else song.put(data, new)


def check_genres(genres: Sequence[str]) -> None:
    """ValueError unless there is a genre and none is empty, has outer blanks or control characters."""
    if not genres or isinstance(genres, str):
        raise ValueError("no genres to write")
    for genre in genres:
        if genre != clean(genre) or not genre:
            raise ValueError(f"not a genre: {genre!r}")


@dataclass(frozen=True)
class Inspection:
    """What a song's bytes say but for its genre, comparable."""

    others: Mapping[str, Any]  # all other tags
    stream: tuple[float, ...]  # sample rate, channels, bits, seconds


def inspect(data: bytes, suffix: str) -> Inspection:
    """All other tags and the stream, as mutagen reads them in full; raises TagError (with no path)."""
    with naming(""):
        song = Song(BytesIO(data), suffix)
        return Inspection(song.others(), song.stream())


__all__ = ["Metadata", "TagError", "read_metadata"]


@dataclass(frozen=True)
class Metadata:
    """The tags of a song; several artists are joined by "; ", and what is not there is "" or ()."""

    genres: tuple[str, ...] = ()  # as `tags.read_genres` gives them: in order, placeholders left out
    artist: str = ""
    album_artist: str = ""
    album: str = ""
    title: str = ""
    #: About how long the song is, by its headers; 0 where they do not say.
    seconds: float = 0.0


def read_metadata(path: str | PathLike[str]) -> Metadata:
    """What the tags of a song say; reads headers only. Raises TagError for a song that could not be written either."""
    with naming(path), Path(path).open("rb") as file:
        song = Song(file, Path(path).suffix)
        return Metadata(genres_of(song), *song.credits(), seconds=song.seconds())
