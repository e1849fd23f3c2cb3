"""Labelled songs: what a folder per genre, a tagged library or a table says each song is."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from tagger.audio.library import find_songs
from tagger.errors import TagError
from tagger.evaluation.predictions import SPLITS
from tagger.evaluation.provenance import NOTHING_WRITTEN, Provenance
from tagger.pipeline.genres import canonical, genre_key
from tagger.tags.genre import Metadata, read_metadata
from tagger.tags.identity import identify
from training.dataset.options import Labels
from training.errors import DatasetError

#: Shows how far a loop is: (items, what is done with them, how many there are) to the same items.
Watch = Callable[[Iterable[Any], str, int], Iterable[Any]]

#: No genre can be written into these, but they can be decoded; GTZAN came as .au.
DECODED_ALL_THE_SAME = frozenset({".au", ".aac", ".ac3", ".caf", ".mka", ".rf64", ".w64", ".webm"})
MOST_NAMED = 20  # unknown genres


@dataclass(frozen=True)
class LabelledSong:
    """A song and its genre, with what tells whose song it is; "" for what is not known."""

    path: Path
    genre: str
    artist: str = ""
    album: str = ""
    album_artist: str = ""
    #: The folder it lies in; "" where that holds a genre, or everything.
    folder: str = ""
    #: About how long it is, by its headers; 0 where they do not say.
    seconds: float = 0.0
    #: Where it is to go, one of SPLITS; "" where that is for `splits.split_groups` to say.
    split: str = ""


@dataclass
class LeftOut:
    """Songs that are not in the dataset."""

    #: Song → why, in plain words.
    songs: dict[Path, str] = field(default_factory=dict)
    #: Genre tags that the vocabulary does not know → number of songs that have nothing else.
    unknown: Counter[str] = field(default_factory=Counter)
    n_untagged: int = 0

    def unlabelled(self) -> list[str]:
        """How many songs have no genre or one that is not known, in words, with the names to put in a map."""
        lines = [f"{self.n_untagged} songs have no genre tag."] if self.n_untagged else []
        if self.unknown:
            named = ", ".join(f"{genre} ({count})" for genre, count in self.unknown.most_common(MOST_NAMED))
            lines.append(f"{self.unknown.total()} songs have a genre that is not known; for a --map: {named}")
        return lines


@dataclass(frozen=True)
class Labelled:
    """The songs of a source."""

    songs: tuple[LabelledSong, ...]
    left_out: LeftOut
    #: Where the genres come from, and why from there, as a sentence.
    reason: str
    #: What the songs' own tags say otherwise than the table, in a sentence for each of its columns.
    overruled: tuple[str, ...] = ()


def unwatched(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    """The items, with nobody looking."""
    return items


def find_labelled(
    source: Path,
    labels: Labels = "auto",
    names: Mapping[str, str] | None = None,
    exclude: Sequence[str] = (),
    watch: Watch = unwatched,
    provenance: Provenance = NOTHING_WRITTEN,
) -> Labelled:
    """The songs of a source with their genres, in library order; raises DatasetError where there are none.

    A file is a table (CSV or TSV) with a header: `path`, `genre`, and perhaps `artist`, `album`, `album_artist`, and
    `split`; paths are relative to its folder, and its columns outweigh the songs' own tags. In a folder, genres are the
    names of its sub-folders or the songs' own tags: see `_folders_are_genres` for what "auto" takes. `names` (a map
    file) renames genres, "" drops one. Names of folders and tables are kept as they are; tags become the canonical
    genres, the first that is known; those that this program wrote, by `provenance`, tell nothing.
    """
    by_key = {genre_key(genre): name for genre, name in (names or {}).items()}
    if source.is_file():
        return _table(source, by_key, watch)
    if not source.is_dir():
        raise DatasetError(source, "no such file or folder")
    left_out = LeftOut()
    paths = list(_songs_below(source, exclude, left_out))
    if not paths:
        raise DatasetError(source, "no songs in it")
    metadata = {path: _metadata(path) for path in watch(paths, "Reading tags", len(paths))}
    by_folder, why = _folders_are_genres(source, metadata, by_key)
    if labels != "auto":
        by_folder, why = labels == "folders", "as asked for"
    read = _by_folder if by_folder else partial(_by_tag, provenance=provenance)
    songs = tuple(read(source, metadata, by_key, left_out))
    if not songs:
        found = "lies in the folder of a genre" if by_folder else "has a genre tag that is known"
        told = "".join(f". {line}" for line in left_out.unlabelled())
        raise DatasetError(source, f"none of its {len(paths)} songs {found}: name genres by folders or a table{told}")
    return Labelled(songs, left_out, f"by {'folders' if by_folder else 'their own tags'}: {why}")


def _songs_below(source: Path, exclude: Sequence[str], left_out: LeftOut) -> Iterator[Path]:
    for found in find_songs([str(source)], exclude):
        if found.failed:
            raise DatasetError(found.path, found.problem)
        if not found.problem or found.path.suffix.lower() in DECODED_ALL_THE_SAME:
            yield found.path
        else:
            left_out.songs[found.path] = found.problem


def _metadata(path: Path) -> Metadata | TagError:
    try:
        return read_metadata(path)
    except TagError as error:
        return error


def _folders_are_genres(
    source: Path, metadata: Mapping[Path, Metadata | TagError], names: Mapping[str, str]
) -> tuple[bool, str]:
    """Whether sub-folders are genres, and why: every song lies in one of several, and either most of these are named
    like genres, or the songs lie directly in them and most have no genre tag.
    """
    parts = [path.relative_to(source).parts for path in metadata]
    folders = sorted({part[0] for part in parts if len(part) > 1})
    if any(len(part) == 1 for part in parts):
        return False, "there are songs beside the folders" if folders else "there are no folders"
    if len(folders) < 2:
        return False, f"there is but one folder, {folders[0]!r}"
    named = [folder for folder in folders if genre_key(folder) in names or canonical(folder)]
    if len(named) * 2 >= len(folders):
        return True, f"{len(named)} of {len(folders)} are named like genres"
    tagged = sum(isinstance(found, Metadata) and bool(found.genres) for found in metadata.values())
    if all(len(part) == 2 for part in parts) and tagged * 2 < len(metadata):
        return True, f"only {tagged} of {len(metadata)} songs have a genre tag"
    return False, f"{len(folders) - len(named)} of {len(folders)} folders are not named like genres"


def _by_folder(
    source: Path, metadata: Mapping[Path, Metadata | TagError], names: Mapping[str, str], left_out: LeftOut
) -> Iterator[LabelledSong]:
    for path, found in metadata.items():
        parts = path.relative_to(source).parts
        genre = " ".join(parts[0].split()) if len(parts) > 1 else ""
        genre = names.get(genre_key(genre), genre) if genre else ""
        if not genre:
            left_out.songs[path] = "the map drops its genre" if len(parts) > 1 else "lies in no genre's folder"
        else:
            yield labelled_song(path, genre, found, source / parts[0])


def _by_tag(
    source: Path, metadata: Mapping[Path, Metadata | TagError], names: Mapping[str, str], left_out: LeftOut,
    provenance: Provenance,
) -> Iterator[LabelledSong]:  # fmt: skip
    for path, found in metadata.items():
        if isinstance(found, TagError):
            left_out.songs[path] = found.reason
            continue
        persons = provenance.persons(path, found.genres)
        genres = [_known(tag, names) for tag in persons]
        genre = next(filter(None, genres), None)
        if genre:
            yield labelled_song(path, genre, found, source)
        elif not found.genres:
            left_out.n_untagged += 1
        elif not persons:
            left_out.songs[path] = "genre-tag wrote its genre"
        elif None in genres:
            left_out.unknown[persons[genres.index(None)]] += 1
        else:
            left_out.songs[path] = "the map drops its genre"


def _known(tag: str, names: Mapping[str, str]) -> str | None:
    """What a genre tag is called here; "" when the map drops it, None when nothing is known of it."""
    genre = canonical(tag)
    name = names.get(genre_key(tag))
    return name if name is not None or genre is None else names.get(genre_key(genre), genre)


def labelled_song(path: Path, genre: str, found: Metadata | TagError, heap: Path) -> LabelledSong:
    """The song; `heap` is a folder that is nobody's, as is one that is named like a genre."""
    name = path.parent.name
    is_nobodys = path.parent == heap or genre_key(name) == genre_key(genre) or canonical(name) is not None
    folder = "" if is_nobodys else str(path.parent)
    if isinstance(found, TagError):
        return LabelledSong(path, genre, folder=folder)
    return LabelledSong(path, genre, found.artist, found.album, found.album_artist, folder, found.seconds)


def _table(source: Path, names: Mapping[str, str], watch: Watch) -> Labelled:
    """The songs of a CSV or TSV table; artist and album from the songs' own tags where it has no column for them."""
    left_out, overruled = LeftOut(), Overruled()
    songs: list[LabelledSong] = []
    rows = _rows(source)
    _check_splits(source, rows)
    for row in watch(rows, "Reading tags", len(rows)):
        path = source.parent / row["path"]
        genre = " ".join(row["genre"].split())
        genre = names.get(genre_key(genre), genre) if genre else ""
        if not row["path"] or not path.is_file():
            left_out.songs[path] = "no such file"
        elif not genre:
            left_out.songs[path] = "the map drops its genre" if row["genre"].strip() else "no genre"
        else:
            found = _metadata(path)
            song = labelled_song(path, genre, found, source.parent)
            given = {name: row[name].strip() for name in ("artist", "album", "album_artist") if name in row}
            overruled.note(path, found, given | {"genre": genre}, names)
            if "artist" in given:  # says whose song it is; else the artist of the album in its tags would
                given.setdefault("album_artist", "")
            songs.append(LabelledSong(**{**vars(song), **given, "split": row.get("split", "")}))
    if not songs:
        raise DatasetError(source, "no song in it with a genre that can be found")
    reason = f"by the table{', which also says the splits' * bool(songs[0].split)}"
    return Labelled(tuple(songs), left_out, reason, overruled.lines())


@dataclass
class Overruled:
    """What songs' own tags say otherwise than a table."""

    #: Column → number of songs.
    n_songs: Counter[str] = field(default_factory=Counter)
    #: Column → its first song, what that has in its tags, and in the table.
    examples: dict[str, tuple[Path, str, str]] = field(default_factory=dict)

    def note(self, path: Path, found: Metadata | TagError, given: Mapping[str, str], names: Mapping[str, str]) -> None:
        """Compare the tags of a song with what is given by column; names of genres are as in `_known`."""
        if isinstance(found, TagError):
            return
        tags: dict[str, tuple[str, ...]] = {
            "artist": (found.artist,), "album": (found.album,), "album_artist": (found.album_artist,),
        }  # fmt: skip
        if "album_artist" not in given:
            tags["artist"] = (found.artist, found.album_artist)
        for column, value in given.items():
            if column == "genre":
                same = {genre_key(value), genre_key(canonical(value) or value)}
                agree = any(same & {genre_key(tag), genre_key(_known(tag, names) or tag)} for tag in found.genres)
                other = "" if agree else next(iter(found.genres), "")
            else:
                other = next((tag for tag in tags[column] if tag and _spelt(tag) != _spelt(value)), "")
            if other:
                self.n_songs[column] += 1
                self.examples.setdefault(column, (path, other, value))

    def lines(self) -> tuple[str, ...]:
        """How many songs, and one of them, a sentence for each column."""
        return tuple(
            f"{count} song{'s have' if count > 1 else ' has'} another {column.replace('_', ' ')} in"
            f" {'their' if count > 1 else 'its'} tags than in the table, which counts:"
            " {} has {!r} there, and {!r} in the table.".format(*self.examples[column])
            for column, count in sorted(self.n_songs.items())
        )


def _spelt(name: str) -> str:
    """A name by which two spellings that differ in letter case or blanks are one."""
    return " ".join(name.casefold().split())


def _check_splits(source: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """DatasetError unless a column `split`, where there is one, names a split in every row."""
    for number, row in enumerate(rows, 1):
        if row.get("split", SPLITS[0]) not in SPLITS:
            raise DatasetError(
                source,
                f"song {number} ({row['path']}) has the split {row['split']!r}: every song needs one of"
                f" {', '.join(SPLITS)}, or none of them a column `split`",
            )


def _rows(source: Path) -> list[dict[str, str]]:
    """Rows of a table by the names of its columns in small letters; the delimiter is what the header has most of."""
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not a table in UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
        raise DatasetError(source, reason) from error
    header = text.partition("\n")[0]
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), restval="")
    columns = [name.strip().lower() for name in reader.fieldnames or ()]
    if not {"path", "genre"} <= set(columns):
        found = f"found: {', '.join(columns)}" if any(columns) else "it is empty"
        raise DatasetError(source, f"a table of songs begins with the names of its columns, path and genre; {found}")
    reader.fieldnames = columns
    try:
        return [{name: value for name, value in row.items() if isinstance(name, str)} for row in reader]
    except csv.Error as error:
        raise DatasetError(source, f"line {reader.line_num}: {error}") from error


def identify_songs(
    songs: Sequence[LabelledSong], left_out: LeftOut, watch: Watch = unwatched
) -> dict[str, LabelledSong]:
    """Songs by who they are (`tagger.tags.identity`, hex), in their order, each once.

    Files with the same audio are one song, unless they are given different genres: then none of them is used. Given
    different splits, it is in the last of SPLITS that it is given.
    """
    copies: dict[str, list[LabelledSong]] = {}
    for song in watch(songs, "Telling songs apart", len(songs)):
        try:
            copies.setdefault(identify(song.path).hex(), []).append(song)
        except (OSError, ValueError) as error:
            left_out.songs[song.path] = getattr(error, "strerror", None) or str(error)
    for each in copies.values():
        each.sort(key=lambda song: -SPLITS.index(song.split or SPLITS[0]))
        for song in each:
            other = next((other for other in each if other.genre != song.genre), None)
            if other:
                left_out.songs[song.path] = f"{song.genre!r} here, and {other.genre!r} as {other.path}: the same audio"
            elif song.path != each[0].path:
                where = f", which is in {each[0].split}" if song.split != each[0].split else ""
                left_out.songs[song.path] = f"the same audio as {each[0].path}{where}"
    return {identity: each[0] for identity, each in copies.items() if each[0].path not in left_out.songs}
