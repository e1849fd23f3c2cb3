"""The genre of a song, read and written: which of its tags hold one, which are to hold it, what becomes of an old one.

`retag` is pure: old bytes in, new bytes out. Nothing in this module touches the disk but to read.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import mutagen
from mutagen.id3 import TCON

from tagger.errors import TagError
from tagger.tags import splice
from tagger.tags.containers import layout_of, naming
from tagger.tags.layout.place import Place, put
from tagger.tags.pieces import id3
from tagger.tags.pieces.ape import ape_item
from tagger.tags.pieces.kind import Cut
from tagger.tags.pieces.vorbis import vorbis_comment
from tagger.tags.policies import Existing, Multi
from tagger.tags.splice import KINDS

logger = logging.getLogger(__name__)

Places = Mapping[str, tuple[str, ...]]  # where a genre lives → the values as stored there

# What rippers and shops write when they do not know; compared case-folded. ID3v1 byte 255 reads as "Unknown".
PLACEHOLDERS = frozenset({"", "other", "unknown", "unknown genre", "none", "misc", "genre", "undefined"})
_ID3V1_NUMBERS = {name.casefold(): number for number, name in enumerate(TCON.GENRES)}
# No tag of these kinds is the one that a song is known by: its genre is written there only if it has one.
_BESIDE = frozenset({"id3v1", "diin", "mp4 keys", "qt", "asf library"})
# Artist, album artist, album, title: their keys in lower case without blanks.
_CREDITS = {
    "id3": ("tpe1", "tpe2", "talb", "tit2"),
    "id3v1": ("artist", "", "album", "title"),
    "diin": ("artist", "", "", "title"),
    "ape": ("artist", "albumartist", "album", "title"),
    "info": ("iart", "", "iprd", "inam"),
    "vorbis": ("artist", "albumartist", "album", "title"),
    "mp4": ("\xa9art", "aart", "\xa9alb", "\xa9nam"),
    "asf": ("author", "wm/albumartist", "wm/albumtitle", "title"),
}
# Fields of ID3v1 (and title and artist of DSDIFF) in the tags they may be copied to.
_PROMOTED = {
    "ape": {"title": b"Title", "artist": b"Artist", "album": b"Album", "year": b"Year", "comment": b"Comment"},
    "vorbis": {"title": b"TITLE", "artist": b"ARTIST", "album": b"ALBUM", "year": b"DATE", "comment": b"COMMENT"},
}


@dataclass(frozen=True)
class _Tag:
    """A tag of a song, taken to pieces; an empty one where it would be begun."""

    name: str
    place: Place
    cut: Cut

    @cached_property
    def values(self) -> tuple[str, ...]:
        """What it holds for the genre."""
        return splice.genre_values(KINDS[self.place.kind], self.cut)

    @cached_property
    def is_filled(self) -> bool:
        """Whether it holds anything else."""
        if self.place.kind == "id3v1":
            return any(id3.id3v1_fields(self.cut.head))
        return bool(splice.others(KINDS[self.place.kind], self.cut))

    def texts(self) -> list[tuple[str, str]]:
        """Its (key, text) pairs, keys in lower case, without blanks."""
        found = KINDS[self.place.kind].texts(self.cut) if not self.place.is_new else ()
        return [(re.sub("[ _]", "", key).lower(), text) for key, text in found]


class Song:
    """A song opened for its genre; raises TagError when it is none of the kinds that can be written safely."""

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self.file = file
        self.kind, self.layout = layout_of(file, suffix)
        self.tags: list[_Tag] = []
        for place in self.layout.places:
            kind = KINDS[place.kind]
            cut = kind.new if place.is_new else kind.cut(place.tag, place.context)
            number = 1 + sum(tag.place.kind == place.kind for tag in self.tags)
            self.tags.append(_Tag(place.kind + (f" {number}" if number > 1 else ""), place, cut))

    @property
    def is_tagged(self) -> bool:
        """Whether it has a tag with anything in it, beside ID3v1."""
        return any(tag.is_filled or tag.values for tag in self.tags if tag.place.kind != "id3v1")

    @cached_property
    def leading(self) -> _Tag:
        """The tag by which this song is known: that of its container, or another if that holds nothing.

        A tag is never begun beside another one that holds title or artist: readers would see the new one only.
        """
        own = self.tags[0]
        filled = [tag for tag in self.tags if tag.is_filled and tag.place.kind not in _BESIDE]
        return own if own in filled or not filled or own.place.kind in ("mp4", "asf") else filled[0]

    def written(self) -> Iterator[_Tag]:
        """The tags that hold, or are to hold, the genre: the leading one, all in which a reader finds one, and more.

        FFmpeg looks at an INFO list alone where there is one, and at ID3v2 in front of what has other tags.
        """
        preferred = {"info", *(["id3"] if self.tags[0].place.kind != "id3" else [])}
        yield self.leading
        for tag in self.tags:
            is_read = tag.values or (tag.place.kind in preferred and tag.is_filled)
            if tag is not self.leading and (is_read or tag.place.kind == "asf library"):
                yield tag

    def places(self) -> Places:
        """Where this song keeps, or is to keep, its genre, the leading place first, and what is stored there."""
        return {tag.name: tag.values for tag in self.written()}

    def names(self, place: str, values: Sequence[str]) -> tuple[str, ...]:
        """Genre names from stored values: "(17)Hard Rock" is Rock and Hard Rock, "17" is Rock (ID3v2.3 §4.2.1)."""
        if self._has_one_value(place):
            values = [part for value in values for part in value.split(";") if part.strip()]
        return tuple(id3.id3_text("TCON", [clean(value) for value in values]).genres)

    def spelled(self, place: str, genres: Sequence[str], multi: Multi) -> tuple[str, ...]:
        """The values to store in that place for these genres."""
        if place == "id3v1":
            return (str(_ID3V1_NUMBERS.get(genres[0].casefold(), 255)),)
        if place.startswith("asf library"):  # all genres in one object, so that every reader has them in order
            return ()
        if self._has_one_value(place) and not (place.startswith("id3") and multi == "null"):
            return (genres[0],) if multi == "first" else ("; ".join(genres),)
        return tuple(genres)

    def put(self, data: bytes, values: Places) -> bytes:
        """The song's bytes with these values in these places; a place without values is left without a genre."""
        edits = []
        for tag in self.tags:
            if tag.name in values:
                found = values[tag.name]
                more = self._promoted() if found and tag is self.leading and not tag.is_filled else []
                if found or not tag.place.is_new:
                    kind = KINDS[tag.place.kind]
                    edits.append((tag.place, splice.with_genre(kind, tag.cut, found, more)))
        return put(data, self.layout, edits)

    def _promoted(self) -> list[bytes]:
        """Pieces that say what ID3v1 says (or DSDIFF's own fields), so that a new tag hides nothing."""
        source = next((tag for tag in self.tags if tag.place.kind in ("id3v1", "diin") and tag.is_filled), None)
        kind = self.leading.place.kind
        if source is None or kind not in ("id3", *_PROMOTED):
            return []
        if not (source.cut.head or b"".join(source.cut.pieces)).isascii():
            raise TagError("", "its ID3v1 tag is in an unknown charset: a better tag beside it would hide or garble it")
        texts = dict(source.texts())
        if kind == "id3" and source.place.kind == "id3v1":
            tags = id3.id3_tags(BytesIO(source.place.tag))
            tags.delall("TCON")
            for comment in tags.getall("COMM"):
                comment.desc = ""  # mutagen's name for it would keep players from showing it
            return [id3.id3_frames(tags)]
        if kind == "id3":
            tags = id3.id3_tags()
            tags.setall("TIT2", [id3.id3_text("TIT2", texts["title"])] if "title" in texts else [])
            tags.setall("TPE1", [id3.id3_text("TPE1", texts["artist"])] if "artist" in texts else [])
            return [id3.id3_frames(tags)]
        make = ape_item if kind == "ape" else vorbis_comment
        track = texts.pop("track", "")
        found = [(key, texts[name]) for name, key in _PROMOTED[kind].items() if texts.get(name)]
        found += [(b"Track" if kind == "ape" else b"TRACKNUMBER", track)] if track else []
        return [make(key, text) for key, text in found]

    def credits(self) -> tuple[str, str, str, str]:
        """Artist, album artist, album and title; several of one kind joined by "; ", "" where there is none."""
        found = [("", "", "", "")]
        for tag in sorted(self.tags, key=lambda tag: (tag is not self.leading, tag.place.kind == "id3v1")):
            texts, keys = [(key, clean(text)) for key, text in tag.texts()], _CREDITS.get(tag.place.kind, ("",) * 4)
            artist, album_artist, album, title = (
                "; ".join(dict.fromkeys(text for key, text in texts if key == wanted and text)) for wanted in keys
            )
            found.append((artist, album_artist, album, title))
        artist, album_artist, album, title = (next(filter(None, texts), "") for texts in zip(*found, strict=True))
        return artist, album_artist, album, title

    def seconds(self) -> float:
        """About how long it is, by its headers; 0 where they do not say, or not to mutagen."""
        try:
            self.file.seek(0)
            return float(mutagen.File(self.file).info.length)
        except Exception:  # a dozen kinds of it for what is damaged, or of a rate that it does not know
            logger.debug("its length is unknown", exc_info=True)
            return 0.0

    def _has_one_value(self, place: str) -> bool:
        """INFO, the text of QuickTime and ID3v2.2 and 2.3 have room for one value."""
        tag = next(tag for tag in self.tags if tag.name == place)
        return tag.place.kind in ("info", "qt") or (tag.place.kind == "id3" and tag.cut.head[3] < 4)


def clean(genre: str) -> str:
    """One line of text without outer blanks or control characters."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", genre).split())


def genres_of(song: Song, placeholders: frozenset[str] = PLACEHOLDERS) -> tuple[str, ...]:
    """What `read_genres` gives for a song that is open."""
    stored = dict(song.places())
    for place in [place for place in stored if place.startswith("asf library")]:
        stored["asf"] += stored.pop(place)  # several objects of one tag
    for place, values in stored.items():
        if place == "id3v1" and values == ("0",) and song.is_tagged:
            continue  # byte 0 is Blues, and what is left when a tagger fills the block with zeros
        if genres := tuple(g for g in song.names(place, values) if g.casefold() not in placeholders):
            return genres
    return ()


def read_genres(path: str | PathLike[str], placeholders: frozenset[str] = PLACEHOLDERS) -> tuple[str, ...]:
    """The genres a song already has, in order, numbers turned into names; () when there are none but placeholders.

    Reads headers only. Raises TagError, with a reason in plain words, for a song that could not be written either.
    """
    with naming(path), Path(path).open("rb") as file:
        return genres_of(Song(file, Path(path).suffix), placeholders)


def real_genres(data: bytes, suffix: str) -> tuple[str, ...]:
    """What `read_genres` gives for a song of these bytes; raises TagError (with no path)."""
    with naming(""):
        return genres_of(Song(BytesIO(data), suffix))


def merge(old: Sequence[str], predicted: Sequence[str], existing: Existing) -> tuple[str, ...]:
    """The genres to write, given what the song has (`old`, without placeholders) and what was predicted.

    >>> merge(["rock;Jazz"], ["Rock", "Pop"], "append")
    ('rock;Jazz', 'Pop')
    >>> merge(["rock"], ["Pop"], "keep"), merge([], ["Pop"], "keep"), merge(["rock"], ["Pop"], "replace")
    (('rock',), ('Pop',), ('Pop',))
    """
    if old and (existing == "keep" or not predicted):
        return tuple(old)
    if existing == "append":
        known = {part.strip().casefold() for genre in old for part in (genre, *genre.split(";"))}
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


def restore(data: bytes, suffix: str, stored: Places) -> bytes:
    """The bytes of the song with what an earlier version stored in its places; `data` itself when that is there.

    A place that has come since is left without a genre, one that is gone is not made again.
    """
    with naming(""):
        song = Song(BytesIO(data), suffix)
        now = song.places()
        new = {place: tuple(stored.get(place, ("255",) if place == "id3v1" else ())) for place in now}
        return data if new == now else song.put(data, new)


def check_genres(genres: Sequence[str]) -> None:
    """ValueError unless there is a genre and none is empty, has outer blanks or control characters."""
    if not genres or isinstance(genres, str):
        raise ValueError("no genres to write")
    for genre in genres:
        if genre != clean(genre) or not genre:
            raise ValueError(f"not a genre: {genre!r}")


@dataclass(frozen=True)
class Metadata:
    """The tags of a song; several artists are joined by "; ", and what is not there is "" or ()."""

    genres: tuple[str, ...] = ()  # as `read_genres` gives them: in order, placeholders left out
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


def read_credits(path: str | PathLike[str]) -> Metadata:
    """Artists, album and title alone, in a sixth of the time. Raises TagError."""
    with naming(path), Path(path).open("rb") as file:
        return Metadata((), *Song(file, Path(path).suffix).credits())
