"""What a song's tags say of it, read in one go: genres, artist, album, title."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from tagger.tags.containers import Song, TagError, naming
from tagger.tags.genre import genres_of

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
