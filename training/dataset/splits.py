"""Splits that share no artist and no recording: who belongs together, who goes where, and the proof of it.

A network that was given an artist in training knows the next song of that artist by the voice and the studio: with
songs of one artist on both sides, scores on GTZAN are 87 % instead of 79 %, and elsewhere the gap is larger still
(Pampalk, Flexer, Widmer 2005; Flexer and Schnitzer 2010).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tagger.evaluation.predictions import SPLITS
from tagger.text import counted
from training.dataset.options import Balance
from training.dataset.songs import LabelledSong

MOST_IN_FOLDER = 50  # songs without an artist: as many as an album set has; more is a heap
#: Names that stand for nobody, as `_plain` spells them.
NOBODY = frozenset({
    "", "variousartists", "various", "va", "unknownartist", "unknown", "artist", "none", "compilation", "diverse",
    "diverseinterpreten", "verschiedeneinterpreten", "verschiedene", "unbekannterinterpret", "artistesdivers",
    "artistasvarios", "variosartistas", "variosinterpretes", "artistivari", "aavv", "soundtrack", "originalsoundtrack",
})  # fmt: skip
_GUESTS = re.compile(r"[\s(\[]+(?:feat|ft|featuring)\b.*", re.IGNORECASE | re.DOTALL)

N_PLACED = 40_000  # groups, over all trials: some seconds; where there are many, one trial is as good as the next
MOST_TRIALS = 100
MOST_SWEEPS = 10
EMPTY = 1e6  # what a genre without songs in a split costs: more than any deviation


@dataclass(frozen=True)
class Grouping:
    """Which songs must stay together, one entry a song."""

    groups: tuple[str, ...]
    #: By what each song is known to belong where it does: "artist", "album", "folder", or "" when nothing is known.
    known_by: tuple[str, ...]


def group_songs(songs: Mapping[str, LabelledSong], duplicates: Iterable[tuple[str, str]] = ()) -> Grouping:
    """Groups of songs, by identity, that share an artist, an album or a recording, directly or through others.

    A song belongs to the album's artist, else to its own; where none is named, to its album, else to its folder.
    Compilations hold nothing together. An album whose files name an artist for each song but none for the album
    belongs, with all its songs, to the artist of more than half of them. Duplicates of songs that are not here are
    passed over.
    """
    keys = _artist_keys(songs)
    leader = {key: key for key in keys.values()}

    def find(key: str) -> str:
        while leader[key] != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    def unite(one: str, other: str) -> None:
        low, high = sorted((find(one), find(other)))
        leader[high] = low

    for members in _albums(songs):
        counts = Counter(keys[song] for song in members)
        if counts.most_common(1)[0][1] * 2 > len(members):
            for song in members:
                unite(keys[members[0]], keys[song])
    for one, other in duplicates:
        if one in keys and other in keys:
            unite(keys[one], keys[other])
    known_by = tuple("" if kind == "song" else kind for kind in (key.partition(" ")[0] for key in keys.values()))
    return Grouping(tuple(find(key) for key in keys.values()), known_by)


def _artist_keys(songs: Mapping[str, LabelledSong]) -> dict[str, str]:
    """For each song, "artist NAME", "album TITLE in FOLDER", "folder PATH" or "song IDENTITY"."""
    keys = {}
    n_in_folder = Counter(song.folder for song in songs.values() if not artist_key(song))
    for identity, song in songs.items():
        if artist := artist_key(song):
            keys[identity] = f"artist {artist}"
        elif album := _plain(song.album):
            keys[identity] = f"album {album} in {song.path.parent}"
        elif song.folder and n_in_folder[song.folder] <= MOST_IN_FOLDER:
            keys[identity] = f"folder {song.folder}"
        else:
            keys[identity] = f"song {identity}"
    return keys


def artist_key(song: LabelledSong) -> str:
    """The plain name of the album's artist, else of the song's; "" where neither names anybody."""
    return next((key for key in (_plain(song.album_artist), _plain(song.artist)) if key not in NOBODY), "")


def _plain(name: str) -> str:
    """A name by which spellings of one artist are one: letters and digits, without articles and guests.

    >>> _plain("The Beatles"), _plain("Beatles, The"), _plain("Beyoncé feat. Jay-Z"), _plain("Simon & Garfunkel")
    ('beatles', 'beatles', 'beyonce', 'simonandgarfunkel')
    """
    name = _GUESTS.sub("", name.split("; ")[0].strip())
    letters = unicodedata.normalize("NFKD", name.replace("&", " and ")).casefold().strip()
    letters = letters.removeprefix("the ").removesuffix(", the")
    return "".join(letter for letter in letters if letter.isalnum()) or letters


def _albums(songs: Mapping[str, LabelledSong]) -> list[list[str]]:
    """Songs of the albums whose files do not name the album's artist: of one title, in one folder."""
    albums = defaultdict(list)
    for identity, song in songs.items():
        if _plain(song.album) and not song.album_artist:
            albums[_plain(song.album), song.path.parent].append(identity)
    return list(albums.values())


@dataclass(frozen=True)
class Audit:
    """What can be said for the splits, and against them."""

    n_groups: int
    #: "artist", "album", "folder", or "" for nothing → songs known by it.
    known_by: dict[str, int]
    #: Songs, by identity, that share a recording; and those pairs, as paths, that are given different genres.
    duplicates: list[tuple[str, str]]
    contradictions: list[str]
    #: Albums of several artists, and artists who are guests on albums of others, with songs in several splits.
    albums_crossing: list[str]
    artists_crossing: list[str]
    #: Songs, by path, whose artist or recording is in a later split too, as somebody wanted it, and where each is.
    crossing: dict[str, str]

    @property
    def is_artist_disjoint(self) -> bool:
        """Whether the artist, album or folder of every song is known and on one side."""
        return not self.known_by.get("", 0) and not self.crossing

    def lines(self) -> list[str]:
        """The audit in words."""
        n_songs, n_unknown = sum(self.known_by.values()), self.known_by.get("", 0)
        by = ", ".join(f"by {kind} for {count}" for kind, count in self.known_by.items() if kind)
        if self.crossing:
            some = "; ".join(f"{path}: {where}" for path, where in list(self.crossing.items())[:3])
            found = [
                f"NOT ARTIST-DISJOINT: splits are as given. {counted(len(self.crossing), 'song')} of {n_songs} would"
                " have been left out, whose artist or recording is in a split that is held out, and scores are too high"
                f" ({some}{'; …' * (len(self.crossing) > 3)})."
            ]
        elif n_unknown:
            found = [
                f"NOT ARTIST-DISJOINT: nothing tells whose {n_unknown} of the {n_songs} songs are. Where an artist has"
                " songs in training and in the test, scores are too good: on GTZAN, 87 % where 79 % is true. Tag the"
                " songs with their artists, or give a table with a column `artist`."
            ]
        else:
            found = [f"No artist is in two splits: {self.n_groups} groups of songs, told {by}."]
        pairs = f"{len(self.duplicates)} pair{'s' * (len(self.duplicates) != 1)} of songs"
        found.append(
            f"{pairs} share a recording{'' if self.crossing else ', each on one side'}."
            if self.duplicates
            else "No recording is there twice."
        )
        for what, names in (
            ("Recordings that are given two genres", self.contradictions),
            ("Albums of several artists, in several splits", self.albums_crossing),
            ("Artists in several splits, as guests on albums of others", self.artists_crossing),
        ):
            if names:
                found.append(f"{what}: {len(names)} ({', '.join(names[:3])}{', …' * (len(names) > 3)}).")
        return found


def audit_splits(
    songs: Mapping[str, LabelledSong], splits: Sequence[str], grouping: Grouping, duplicates: Iterable[tuple[str, str]],
    crossing_songs: Mapping[str, str] | None = None,
) -> Audit:  # fmt: skip
    """The audit of songs that are shared out: `splits` and `grouping` have an entry for each; see `Audit.crossing`."""
    in_splits: dict[str, list[LabelledSong]] = defaultdict(list)
    for song, split in zip(songs.values(), splits, strict=True):
        in_splits[split].append(song)
    artists = {
        split: [song.artist for song in each if _plain(song.artist) not in NOBODY] for split, each in in_splits.items()
    }
    albums = {
        split: [f"{song.album} ({song.album_artist or song.path.parent.name})" for song in each if song.album]
        for split, each in in_splits.items()
    }
    pairs = list(duplicates)
    return Audit(
        n_groups=len(set(grouping.groups)),
        known_by=dict(Counter(grouping.known_by)),
        duplicates=pairs,
        contradictions=[
            " = ".join(f"{songs[song].path.name} ({songs[song].genre})" for song in pair)
            for pair in pairs
            if songs[pair[0]].genre != songs[pair[1]].genre
        ],
        albums_crossing=sorted(crossing(albums)),
        artists_crossing=sorted(crossing(artists)),
        crossing=dict(crossing_songs or {}),
    )


def split_groups(genres: Sequence[str], groups: Sequence[str], shares: Sequence[float], seed: int) -> list[str]:
    """The split of each song: groups stay whole, each genre is shared out as `shares` (of SPLITS) say, as nearly as
    groups allow, and has songs in all three splits wherever that is possible.

    Groups are placed one after the other, the largest first, where they fit best, and moved while that helps; the
    best of many seeded trials is taken.
    """
    totals = Counter(genres)
    wanted = [{genre: count * share / sum(shares) for genre, count in totals.items()} for share in shares]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for genre, group in zip(genres, groups, strict=True):
        counts[group][genre] += 1
    rng = np.random.default_rng(seed)
    n_trials = min(MOST_TRIALS, math.ceil(N_PLACED / len(counts)))
    trials = (_place(counts, wanted, rng.permutation(len(counts))) for _ in range(n_trials))
    _, placed = min(trials, key=lambda trial: trial[0])
    return [SPLITS[placed[group]] for group in groups]


def crossing_songs(splits: Sequence[str], groups: Sequence[str]) -> list[str]:
    """For each song whose group is also in a later one of SPLITS, that split; "" for the others, which may stay."""
    last: dict[str, int] = {}
    for split, group in zip(splits, groups, strict=True):
        last[group] = max(last.get(group, 0), SPLITS.index(split))
    return [
        SPLITS[last[group]] if SPLITS[last[group]] != split else "" for split, group in zip(splits, groups, strict=True)
    ]


def _place(
    counts: Mapping[str, Mapping[str, int]], wanted: Sequence[Mapping[str, float]], chance: np.ndarray
) -> tuple[float, dict[str, int]]:
    """A split for each group, and how far the songs of each genre are from what is `wanted` in each split.

    `counts` is group → genre → songs; `chance` decides between groups of one size.
    """
    has = [dict.fromkeys(each, 0) for each in wanted]
    placed: dict[str, int] = {}

    def cost(split: int, genre: str, n_more: int = 0) -> float:
        n_songs, n_wanted = has[split][genre] + n_more, wanted[split][genre]
        return (n_songs - n_wanted) ** 2 / n_wanted + (EMPTY if n_songs == 0 else 0.0)

    def put(group: str, split: int, sign: int = 1) -> None:
        for genre, count in counts[group].items():
            has[split][genre] += sign * count

    order = [
        group
        for group, _ in sorted(zip(counts, chance, strict=True), key=lambda g: (-sum(counts[g[0]].values()), g[1]))
    ]
    for _ in range(MOST_SWEEPS):  # the first one places, the others move
        before = dict(placed)
        for group in order:
            if group in placed:
                put(group, placed[group], -1)
            added = [
                sum(cost(split, genre, count) - cost(split, genre) for genre, count in counts[group].items())
                for split in range(len(SPLITS))
            ]
            placed[group] = added.index(min(added))
            put(group, placed[group])
        if placed == before:
            break
    return sum(cost(split, genre) for split, each in enumerate(wanted) for genre in each), placed


BALANCES: dict[Balance, Callable[[int, int], int]] = {
    "none": lambda n_songs, n_least: n_songs,
    "sqrt": lambda n_songs, n_least: round(math.sqrt(n_songs * n_least)),
    "truncate": lambda n_songs, n_least: n_least,
}


def balance_songs(genres: Sequence[str], balance: Balance, seed: int) -> list[bool]:
    """Which songs to keep so that genres are as even as asked for; which of a genre's songs is left to chance.

    "truncate" keeps as many songs of each genre as the rarest has, "sqrt" the geometric mean of that and all.
    """
    counts = Counter(genres)
    n_least = min(counts.values(), default=0)
    left = {genre: BALANCES[balance](count, n_least) for genre, count in counts.items()}
    keep = [False] * len(genres)
    for i in np.random.default_rng(seed).permutation(len(genres)):
        keep[i] = left[genres[i]] > 0
        left[genres[i]] -= 1
    return keep


def crossing(values: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """What is in more than one split, and in which: split → values in it, to value → splits."""
    found: dict[str, list[str]] = defaultdict(list)
    for split, each in values.items():
        for value in dict.fromkeys(each):
            found[value].append(split)
    return {value: tuple(splits) for value, splits in found.items() if len(splits) > 1}
