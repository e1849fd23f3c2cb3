"""Songs whose genre a person gave, with what a model made of them: what a new last layer is fitted on."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tagger.errors import TagError
from tagger.evaluation.provenance import Provenance
from tagger.pipeline.genres import canonical, genre_key
from tagger.pipeline.run import SongResult
from tagger.tags.genre import Metadata, read_credits
from tagger.text import counted
from training.dataset.songs import LabelledSong, labelled_song
from training.dataset.splits import group_songs
from training.errors import TrainingError

FEWEST_SONGS, FEWEST_ARTISTS = 10, 3  # of a genre: with less it is not learned, for nobody could say how well
FEWEST_GENRES = 2
NOTHING_DECIDED: Mapping[bytes, tuple[str, ...]] = {}
MOST_NAMED = 8  # genres that are left out


def canonical_genre(name: str) -> str | None:
    """One of the 20 genres of the vocabulary; None for what it does not know."""
    return canonical(name)


def own_genre(name: str) -> str | None:
    """A genre as it is written; None for nothing that can be printed."""
    name = " ".join(name.split())
    return name if name.isprintable() and genre_key(name) else None


#: What a person's genres are learned as.
VOCABULARIES: dict[str, Callable[[str], str | None]] = {"canonical": canonical_genre, "own": own_genre}


@dataclass(frozen=True, eq=False)
class Tagged:
    """Songs of genres, with what tells whose they are and what the model made of them; one row each."""

    genres: tuple[str, ...]
    songs: tuple[LabelledSong, ...]
    labels: np.ndarray  # (n_songs,) int64: index of the song's genre
    artists: np.ndarray  # (n_songs,) int64: songs of one artist, album or folder have one number
    embeddings: np.ndarray  # (n_songs, width) float32, mean over the snippets
    logits: np.ndarray  # (n_songs, n_outputs) float32, mean over the snippets
    n_nameless: int = 0  # of these songs nothing tells whose they are: each counts as of an artist of its own

    def n_artists(self, label: int) -> int:
        """Artists that have songs of a genre."""
        return len(np.unique(self.artists[self.labels == label]))


@dataclass
class Gathering:
    """Songs as they come from the model, and how many are left out for what."""

    vocabulary: str
    #: What a person decided in a review, by the identity of the song: it outweighs the tag.
    decided: Mapping[bytes, tuple[str, ...]] = field(default_factory=dict)
    n_decided: int = 0  # songs that are learned as that
    songs: list[LabelledSong] = field(default_factory=list)
    rows: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    _known: dict[bytes, int] = field(default_factory=dict)
    _contradicted: set[int] = field(default_factory=set)

    def add(self, result: SongResult, provenance: Provenance, heap: Path) -> None:
        """One more song; `heap` is the folder of the library, by which no song belongs to another."""
        prediction, path = result.prediction, Path(os.path.abspath(result.path))
        if prediction is None or prediction.embeddings is None:
            self.left_out["could not be classified"] += 1
            return
        decided = self.decided.get(result.identity or b"", ())
        genres = decided or provenance.persons(path, result.old)
        if not genres:
            self.left_out["of a genre that genre-tag wrote" if result.old else "without a genre"] += 1
            return
        name = next(filter(None, map(VOCABULARIES[self.vocabulary], genres)), None)
        if name is None:
            self.left_out["of a genre that is not known: see --genres own"] += 1
            return
        rows = prediction.embeddings.mean(axis=0), prediction.logits.mean(axis=0)
        n_before = len(self.songs)
        self._add(path, name, rows, prediction.duration_seconds, heap)
        self.n_decided += bool(decided) and len(self.songs) > n_before

    def _add(self, path: Path, genre: str, rows: tuple[np.ndarray, np.ndarray], seconds: float, heap: Path) -> None:
        copy = self._known.setdefault(rows[0].tobytes(), len(self.songs))
        if copy < len(self.songs):
            self.left_out["the same audio as another"] += 1
            if genre_key(self.songs[copy].genre) != genre_key(genre):
                self._contradicted.add(copy)
            return
        try:
            found: Metadata | TagError = read_credits(path)
        except TagError as error:
            found = error
        self.songs.append(replace(labelled_song(path, genre, found, heap), seconds=seconds))
        self.rows.append(rows)

    def tagged(self) -> Tagged:
        """The songs of genres that have enough of them, of enough artists. Raises TrainingError where too few have."""
        keep = [index for index in range(len(self.songs)) if index not in self._contradicted]
        self.left_out["the same audio as another of another genre"] += len(self._contradicted)
        songs = [self.songs[index] for index in keep]
        keys = [genre_key(song.genre) for song in songs]
        grouping = group_songs({str(index): song for index, song in enumerate(songs)})
        artists_of: dict[str, set[str]] = defaultdict(set)
        for key, group in zip(keys, grouping.groups, strict=True):
            artists_of[key].add(group)
        n_songs = Counter(keys)
        enough = {
            key for key, count in n_songs.items()
            if count >= FEWEST_SONGS and len(artists_of[key]) >= FEWEST_ARTISTS
        }  # fmt: skip
        spelling = dict(_spellings(songs))
        self._check(n_songs, artists_of, enough, spelling, len(set(grouping.groups)))
        for key in n_songs.keys() - enough:
            self.left_out[f"of {spelling[key]} (of {counted(len(artists_of[key]), 'artist')})"] = n_songs[key]
        rows = [row for row, key in enumerate(keys) if key in enough]
        genres = sorted((spelling[key] for key in enough), key=lambda name: (name.casefold(), name))
        label = {genre_key(genre): index for index, genre in enumerate(genres)}
        return Tagged(
            tuple(genres),
            tuple(songs[row] for row in rows),
            np.array([label[keys[row]] for row in rows]),
            np.unique([grouping.groups[row] for row in rows], return_inverse=True)[1],
            np.stack([self.rows[keep[row]][0] for row in rows]),
            np.stack([self.rows[keep[row]][1] for row in rows]),
            sum(not grouping.known_by[row] for row in rows),
        )

    def _check(
        self, n_songs: Counter[str], artists_of: dict[str, set[str]], enough: set[str], spelling: dict[str, str],
        n_artists: int,
    ) -> None:  # fmt: skip
        """Raise TrainingError, which says what there is and what it takes, where there is not enough to learn from."""
        if len(enough) >= FEWEST_GENRES:
            return
        if not n_songs:
            told = "; ".join(self.told()) or "no songs"
            raise TrainingError("", f"no song has a genre that a person gave: nothing to learn from ({told})")
        named = [
            f"{spelling[key]} ({counted(count, 'song')} of {counted(len(artists_of[key]), 'artist')})"
            for key, count in n_songs.most_common(MOST_NAMED)
        ]
        has = ", ".join(named) + ", …" * (len(n_songs) > MOST_NAMED)
        if len(n_songs) == 1:
            why = "all tagged songs are of one genre: there is nothing to tell apart"
        elif n_artists == 1:
            why = "all tagged songs are of one artist: how others would fare, nothing tells"
        else:
            why = "too few songs"
        takes = f"it takes {FEWEST_SONGS} songs of {FEWEST_ARTISTS} artists, of each of two genres at least"
        raise TrainingError("", f"{why}: {takes}, and there are {has}")

    def told(self) -> Iterator[str]:
        """What is left out, in a few words each, the most first."""
        for why, count in self.left_out.most_common():
            if count:
                yield f"{count} {why}"


def gather(
    results: Iterable[SongResult],
    provenance: Provenance,
    vocabulary: str,
    heap: Path,
    decided: Mapping[bytes, tuple[str, ...]] = NOTHING_DECIDED,
) -> Gathering:
    """The songs of a run `with_embeddings` whose genre a person gave; `vocabulary` is one of `VOCABULARIES`."""
    gathering = Gathering(vocabulary, decided)
    for result in results:
        gathering.add(result, provenance, heap)
    return gathering


def _spellings(songs: Iterable[LabelledSong]) -> Iterator[tuple[str, str]]:
    """Each genre, by its key, with the spelling that most songs have."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for song in songs:
        counts[genre_key(song.genre)][song.genre] += 1
    for key, names in counts.items():
        yield key, names.most_common(1)[0][0]
