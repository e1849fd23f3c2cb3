"""What is amiss with the genres in the tags of a library, whatever is predicted: spellings, lone genres, albums."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tagger.errors import TagError
from tagger.pipeline.albums import album_folder
from tagger.pipeline.genres import canonical, genre_key
from tagger.report.document import Column, Song, Table
from tagger.tags.genre import Metadata

logger = logging.getLogger(__name__)


def most_used(songs: Iterable[Song]) -> dict[str, str]:
    """For each genre in the tags, by its key (see `genres.genre_key`), the spelling that the most songs have."""
    return {key: spellings.most_common(1)[0][0] for key, spellings in _spellings_by_key(songs).items()}


def spellings(songs: Iterable[Song]) -> Table:
    """Genres that are spelt in several ways: letter case, accents, blanks and punctuation apart they are one."""
    rows: list[tuple[str, int, str, int]] = []
    for found in _spellings_by_key(songs).values():
        (best, n_best), *others = found.most_common()
        rows += [(spelling, n_songs, best, n_best) for spelling, n_songs in others]
    rows.sort(key=lambda row: (-row[3], row[2], -row[1], row[0]))
    return Table(
        "spellings",
        "Spellings",
        (Column("spelling"), Column("songs", "count"), Column("more often spelt"), Column("by songs", "count")),
        tuple(rows),
        "The same but for letter case, accents, blanks and punctuation; most players list them as several genres."
        if rows
        else "None: no genre is spelt in two ways.",
    )


def singles(songs: Sequence[Song]) -> Table:
    """Genres that one song has and no other, in any spelling."""
    by_key: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for song in songs:
        for genre in _by_key(song).values():
            by_key[genre_key(genre)].append((genre, song.path))
    lone = sorted(found[0] for found in by_key.values() if len(found) == 1)
    return Table(
        "singles",
        "Genres on one song only",
        (Column("genre"), Column("is a kind of"), Column("song")),
        tuple((genre, canonical(genre) or "–", path) for genre, path in lone),
        "" if lone else "None.",
    )


class _Album(NamedTuple):
    """Songs of an album that have a genre, with their tags."""

    songs: list[Song]
    tags: list[Metadata]

    def artist(self) -> str:
        """Who the album is by; "" for one by several artists that names none for itself."""
        artists = {tags.artist for tags in self.tags}
        return self.tags[0].album_artist or (artists.pop() if len(artists) == 1 else "")

    def is_compilation(self) -> bool:
        """Whether its songs are by several artists, none of whom the album is by."""
        artists = {tags.artist for tags in self.tags}
        return len(artists) > 1 and self.artist() not in artists


def mixed_albums(songs: Iterable[Song], read: Callable[[str], Metadata]) -> Table:
    """Albums without a genre that all of their songs have, those of one artist first; `read` gives a song's tags."""
    mixed = sorted(
        _albums(songs, read), key=lambda album: (album.is_compilation(), -len(album.songs), album.songs[0].path)
    )
    rows = []
    for album in mixed:
        best = Counter(song.predicted[0] for song in album.songs if song.predicted).most_common(1)
        rows.append((
            album.tags[0].album,
            album.artist() or "several artists",
            len(album.songs),
            _ranked(album.songs),
            f"{best[0][0]} ({best[0][1]})" if best else "–",
        ))  # fmt: skip
    return Table(
        "albums",
        "Albums of mixed genres",
        (
            Column("album"),
            Column("artist"),
            Column("songs", "count"),
            Column("genres", "genres"),
            Column("most predicted"),
        ),
        tuple(rows),
        "No genre is on all of their songs, songs without any left aside. Compilations come last."
        if rows
        else "None: on every album there is a genre that all of its songs have, or none has any.",
    )


def _albums(songs: Iterable[Song], read: Callable[[str], Metadata]) -> list[_Album]:
    """The albums that may be mixed: of one title and artist in one folder, or in its folders of discs.

    Where all songs of a folder share a genre those of its albums do: only the tags of the others are read.
    """
    folders: dict[str, list[Song]] = defaultdict(list)
    for song in songs:
        if song.reference:
            folders[album_folder(song.path)].append(song)
    albums: dict[tuple[str, str, str], _Album] = defaultdict(lambda: _Album([], []))
    for folder, found in folders.items():
        for song in found if _is_mixed(found) else ():
            try:
                tags = read(song.path)
            except TagError:  # gone or damaged since its genre was read
                logger.debug("%s", song.path, exc_info=True)
                continue
            if title := _plain(tags.album):
                album = albums[folder, title, _plain(tags.album_artist)]
                album.songs.append(song)
                album.tags.append(tags)
    return [album for album in albums.values() if _is_mixed(album.songs)]


def _is_mixed(songs: Iterable[Song]) -> bool:
    """Whether there is no genre that all of these songs have."""
    return not set.intersection(*(set(_by_key(song)) for song in songs))


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


def _ranked(songs: Iterable[Song]) -> tuple[str, ...]:
    """Genres in the tags of these songs, in the spelling most used among them, those of the most songs first."""
    found = _spellings_by_key(songs).values()
    return tuple(each.most_common(1)[0][0] for each in sorted(found, key=lambda each: -each.total()))


def _spellings_by_key(songs: Iterable[Song]) -> Mapping[str, Counter[str]]:
    """For each genre in the tags, how many songs have it in which spelling."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for song in songs:
        for key, genre in _by_key(song).items():
            found[key][genre] += 1
    return found


def _by_key(song: Song) -> dict[str, str]:
    """The genres in a song's tag by their keys; one that it has in two spellings counts in the first."""
    return {genre_key(genre): genre for genre in reversed(song.reference)}


@dataclass(frozen=True)
class Pair:
    """A song's tag and what it is classified as, in one vocabulary."""

    reference: str
    predicted: str
    verdict: str  # "agrees", "differs" or "incomparable"
    is_sure: bool  # whether it would be written


@dataclass(frozen=True)
class Vocabulary:
    """By which names the genres in tags are compared with those of a run: the run's own as far as it has them."""

    #: The names a run can give, in the order of the model's genres.
    names: tuple[str, ...]
    #: Which of them is meant by a genre, by its key.
    by_key: Mapping[str, frozenset[str]]
    #: Which of them may be meant by one of `genres.canonical`.
    by_canonical: Mapping[str | None, frozenset[str]]
    #: How a genre is spelt most often, by its key.
    spelling: Mapping[str, str]

    @classmethod
    def of(cls, genres: Sequence[str], names: Mapping[str, str], spelling: Mapping[str, str]) -> Vocabulary:
        """The vocabulary of a run by a model of these genres that gives them the user's `names` (see `read_map`)."""
        given = {genre: names.get(genre) or genre for genre in genres}
        by_key: dict[str, frozenset[str]] = {}
        by_canonical: dict[str | None, frozenset[str]] = {}
        for genre, name in given.items():
            by_key[genre_key(name)] = by_key.get(genre_key(name), frozenset()) | {name}
            if known := canonical(genre) or canonical(name):
                by_canonical[known] = by_canonical.get(known, frozenset()) | {name}
        for genre, name in given.items():
            by_key.setdefault(genre_key(genre), frozenset({name}))
        return cls(tuple(dict.fromkeys(given.values())), by_key, by_canonical, spelling)

    def meant(self, genre: str) -> frozenset[str]:
        """The names of the run that this genre of a tag may mean; several when it is broader than they are."""
        none: frozenset[str] = frozenset()
        return self.by_key.get(genre_key(genre)) or self.by_canonical.get(canonical(genre), none)

    def called(self, genre: str) -> str:
        """What a genre of a tag is compared as: the run's name, else that of the canonical vocabulary, else its own."""
        meant = self.meant(genre)
        if len(meant) == 1:
            return next(iter(meant))
        return canonical(genre) or self.spelling.get(genre_key(genre), genre)

    def compare(self, song: Song) -> Pair:
        """What a song with a genre is classified as, sure or not, beside its tag.

        Of several genres those count on which they agree; else the first in the tag that the run knows, and the best.
        """
        predicted = song.predicted or (song.ranking[0][0],)
        meant = [self.meant(genre) for genre in song.reference]
        for name in predicted:
            if any(name in names for names in meant):
                return Pair(name, name, "agrees", bool(song.predicted))
        first = next((genre for genre, names in zip(song.reference, meant, strict=True) if names), song.reference[0])
        verdict = "differs" if any(meant) else "incomparable"
        return Pair(self.called(first), predicted[0], verdict, bool(song.predicted))
