"""From a music library to a dataset.

    find → tell apart → decode → cut → find duplicates → group → split → balance → save

Decoding is what takes long, and is done once: everything behind it can be done again, from what is in store.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from tagger.audio.decode import SAMPLE_RATE, snippet_starts
from tagger.audio.workers import usable_cores
from tagger.evaluation.provenance import Provenance
from training.dataset import cache
from training.dataset.data import RECORD, VERSION, Record, fingerprint, read_record, save_dataset, write_record
from training.dataset.duplicates import find_duplicates
from training.dataset.notebook import drop_notebook
from training.dataset.options import PrepareOptions
from training.dataset.songs import Labelled, LabelledSong, LeftOut, Watch, find_labelled, identify_songs, unwatched
from training.dataset.splits import (
    SPLITS,
    Audit,
    artist_key,
    audit_splits,
    balance_songs,
    crossing_songs,
    group_songs,
    split_groups,
)
from training.dataset.waveforms import (
    BYTES_PER_SAMPLE,
    Place,
    Waveforms,
    WaveformStore,
    decode_songs,
    is_audible,
    is_waveform_store,
)
from training.errors import DatasetError

SPARE_BYTES = 1 << 28  # for tables and indices, and because lengths are estimates

Songs = dict[str, LabelledSong]  # by identity


@dataclass(frozen=True)
class DecodedSongs:
    """Songs that were decoded and are not silent."""

    songs: Songs
    places: Mapping[str, Place]
    #: Song → samples of the song at which its audible snippets begin.
    firsts: Mapping[str, list[int]]


@dataclass(frozen=True)
class Entry:
    """A song of the dataset and where it goes."""

    song: str
    labelled: LabelledSong
    split: str
    group: str


def prepare(
    source: Path,
    folder: Path,
    options: PrepareOptions,
    *,
    argv: Sequence[str] = (),
    n_workers: int | None = None,
    force: bool = False,
    watch: Watch = unwatched,
    tell: Callable[[str], None] = lambda line: None,
) -> Record:
    """Make a dataset of the songs of a source in `folder`, and give its record; raises DatasetError.

    `argv` is the command that makes it again, for the record.

    Stopped at any time, the same call goes on where it was. A finished dataset is left as it is when songs and options
    are those it was made from; `force` makes it again from others, and decodes only songs it does not have.
    """
    source = Path(os.path.abspath(source))
    old = _look_at(folder, force)
    labelled, songs = _found(source, options, watch, tell)
    left_out = labelled.left_out
    given = {**options.as_dict(), "source": str(source)}
    inputs = _digest([VERSION, given, [[song, *map(str, vars(each).values())] for song, each in songs.items()]])
    if old is not None and old.inputs == inputs:
        tell(f"{folder} is the dataset of these songs and options already: nothing to do.")
        return old
    if old is not None and not force:
        raise DatasetError(folder, _what_changed(old.options, given))
    with WaveformStore(folder) as store:
        _check_space(folder, songs, store, options)
        decoded = _decode(store, songs, options, left_out, n_workers or usable_cores(), watch)
        entries, audit = _split(source, store, decoded, options, left_out, tell)
        kept = _balanced(entries, options)
        record = Record(
            version=VERSION,
            inputs=inputs,
            options=given,
            labels=labelled.reason,
            audit={**asdict(audit), "artist_disjoint": audit.is_artist_disjoint, "lines": audit.lines()},
            left_out={str(path): reason for path, reason in left_out.songs.items()},
            unknown=dict(left_out.unknown.most_common()),
            n_untagged=left_out.n_untagged,
            n_unbalanced=len(entries) - len(kept),
            unbalanced=_left_of_genres(entries, kept),
            argv=list(argv),
            **_save(folder, kept, decoded, options, watch),
        )
        write_record(folder, record)
    return record


def _found(source: Path, options: PrepareOptions, watch: Watch, tell: Callable[[str], None]) -> tuple[Labelled, Songs]:
    """The labelled songs of a source, and those of them that can be in the dataset."""
    provenance = Provenance.read(on_damage=lambda error: tell(str(error)))
    labelled = find_labelled(source, options.labels, options.names, options.exclude, watch, provenance)
    tell(f"{len(labelled.songs)} songs, labelled {labelled.reason}.")
    if options.splits == "as-given" and not labelled.songs[0].split:
        raise DatasetError(source, "says no splits that could be taken: --splits as-given is for a table with them")
    for line in (*labelled.overruled, *labelled.left_out.unlabelled()):
        tell(line)
    songs = identify_songs(_limited(labelled.songs, options), labelled.left_out, watch)
    return labelled, _with_enough_groups(source, songs, [], options, labelled.left_out)


def _split(
    source: Path,
    store: WaveformStore,
    decoded: DecodedSongs,
    options: PrepareOptions,
    left_out: LeftOut,
    tell: Callable[[str], None],
) -> tuple[list[Entry], Audit]:
    """The songs that were decoded with their splits: none is in two of them, under whatever name; and but for splits
    as they are given, no artist.
    """
    tell("Looking for recordings that are there twice.")
    duplicates = _find_duplicates(store, decoded)
    crossing, songs = LeftOut(), decoded.songs
    if options.splits == "as-given":
        _without_crossing(songs, duplicates, crossing, lambda line: None)
    else:
        songs = _without_crossing(songs, duplicates, left_out, tell)
    songs = _with_enough_groups(source, songs, duplicates, options, left_out)
    entries, audit = _share_out(source, songs, duplicates, options, crossing)
    if not any(entry.split == "test" for entry in entries):
        tell("No songs are in test: a training will be judged by validate, which chose its epoch, alone.")
    return entries, audit


def snippet_samples(options: PrepareOptions) -> int:
    """Length of a snippet in samples."""
    return round(options.snippet_seconds * SAMPLE_RATE)


def _look_at(folder: Path, force: bool) -> Record | None:
    """The record of a finished dataset in the folder; DatasetError where something else is."""
    if (folder / RECORD).exists():
        try:
            return read_record(folder)
        except DatasetError:
            if force:
                return None
            raise
    if folder.exists() and not is_waveform_store(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise DatasetError(folder, "holds something else, and is left alone: name a new folder with --out")
    return None


def _limited(songs: Sequence[LabelledSong], options: PrepareOptions) -> Sequence[LabelledSong]:
    """As many songs as are asked for: by chance, but of every genre in turn, and of new artists first."""
    if options.limit is None:
        return songs
    n_of_artist: Counter[tuple[str, str]] = Counter()
    by_genre: dict[str, list[tuple[int, int, int]]] = {}
    for chance, i in enumerate(np.random.default_rng(options.seed).permutation(len(songs))):
        artist = songs[i].genre, artist_key(songs[i]) or str(songs[i].path)
        n_of_artist[artist] += 1
        by_genre.setdefault(songs[i].genre, []).append((n_of_artist[artist], chance, int(i)))
    turns = [(turn, i) for each in by_genre.values() for turn, (_, _, i) in enumerate(sorted(each))]
    return [songs[i] for i in sorted(i for _, i in sorted(turns)[: options.limit])]


def _without_crossing(
    songs: Songs, duplicates: list[tuple[str, str]], left_out: LeftOut, tell: Callable[[str], None]
) -> Songs:
    """The songs but for those whose split the source says, and whose artist or recording is also in a later split."""
    kept = songs
    while _splits_are_given(kept):
        groups = group_songs(kept, duplicates).groups
        wheres = crossing_songs([each.split for each in kept.values()], groups)
        if not any(wheres):
            break
        for each, where in zip(kept.values(), wheres, strict=True):
            if where:
                left_out.songs[each.path] = f"left out of {each.split}: the same artist or recording is in {where}"
        kept = {song: each for song, each in kept.items() if each.path not in left_out.songs}  # who may group otherwise
    if len(kept) < len(songs):
        n_crossing = len(songs) - len(kept)
        tell(f"{n_crossing} songs are left out: the same artist or recording is in a split that is held out.")
    return kept


def _splits_are_given(songs: Songs) -> bool:
    return any(each.split for each in songs.values())


def _with_enough_groups(
    source: Path, songs: Songs, duplicates: list[tuple[str, str]], options: PrepareOptions, left_out: LeftOut
) -> Songs:
    """The songs of genres that can be shared out; the others are dropped if asked for, else an error."""
    small = _small_genres(songs, duplicates)
    if small and not options.drop_small:
        genre = next(iter(small))
        others = f" (and {len(small) - 1} more genres)" if len(small) > 1 else ""
        raise DatasetError(
            source,
            f"{genre!r}{others} has {small[genre]}:"
            " add songs, call it something else with --map, or leave such genres out with --drop-small",
        )
    for each in songs.values():
        if each.genre in small:
            left_out.songs[each.path] = f"{each.genre!r} has {small[each.genre]}"
    genres = sorted({each.genre for each in songs.values()} - set(small))
    if len(genres) < 2:
        only = f": {genres[0]!r}" if genres else ""
        raise DatasetError(
            source, f"there is nothing to tell apart: songs of {len(genres)} genre{'s' * (len(genres) != 1)}{only}"
        )
    kept = {song: each for song, each in songs.items() if each.genre not in small}
    if _splits_are_given(songs) and not any(each.split == "validate" for each in kept.values()):
        raise DatasetError(
            source, "no songs are left in validate: give some that share no artist with the other splits"
        )
    return kept


def _small_genres(songs: Songs, duplicates: list[tuple[str, str]]) -> dict[str, str]:
    """Genres that cannot be in all splits, or be learned where the source says the splits → what they have instead."""
    genres = [each.genre for each in songs.values()]
    if _splits_are_given(songs):
        learned = {each.genre for each in songs.values() if each.split == SPLITS[0]}
        return {genre: f"no songs in {SPLITS[0]}" for genre in genres if genre not in learned}
    groups = group_songs(songs, duplicates).groups
    n_groups = Counter(genre for genre, _ in set(zip(genres, groups, strict=True)))
    return {
        genre: f"songs of {count} artist{'s' * (count != 1)} (albums or folders, where none is named), and three splits"
        f" that share none need {len(SPLITS)}"
        for count, genre in sorted((count, genre) for genre, count in n_groups.items())
        if count < len(SPLITS)
    }


def _what_changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = {"names": "map", "n_snippets": "snippets"}
    changed = [
        f"{names.get(name, name).replace('_', '-')} {old.get(name)!r}, now {value!r}"
        for name, value in json.loads(json.dumps(new)).items()
        if old.get(name) != value
    ]
    what = f"with other options ({'; '.join(changed)})" if changed else "before songs or their tags changed"
    return f"was prepared {what}. --force makes it again, and decodes only what is new; --out makes another one"


def _decode(
    store: WaveformStore, songs: Songs, options: PrepareOptions, left_out: LeftOut, n_workers: int, watch: Watch
) -> DecodedSongs:
    """Decode the songs that are not in store, and look where to cut all of them."""
    failed = decode_songs(store, {song: each.path for song, each in songs.items()}, n_workers, watch)
    waveforms = Waveforms(store.folder)
    firsts = {
        song: audible_firsts(waveforms, store.places[song], options)
        for song in watch([song for song in songs if song not in failed], "Cutting", len(songs) - len(failed))
    }
    failed |= {song: "silent" for song, found in firsts.items() if not found}
    left_out.songs |= {songs[song].path: reason for song, reason in failed.items()}
    return DecodedSongs({song: each for song, each in songs.items() if song not in failed}, store.places, firsts)


def _find_duplicates(store: WaveformStore, decoded: DecodedSongs) -> list[tuple[str, str]]:
    """Pairs of songs that share a recording."""
    songs = list(decoded.songs)
    return [(songs[found.first], songs[found.second]) for found in find_duplicates(store.fingerprints(songs))]


def _check_space(folder: Path, songs: Songs, store: WaveformStore, options: PrepareOptions) -> None:
    """DatasetError when what is to be written will not fit on the disk, by the lengths that headers tell."""
    needed = SPARE_BYTES
    for song, each in songs.items():
        try:
            n_bytes = each.path.stat().st_size
        except OSError:
            continue  # it is told of when it cannot be decoded
        # Of unknown length are files of plain samples, as a rule; 8 kbit/s is as little as anybody codes music with.
        seconds = min(each.seconds or n_bytes / BYTES_PER_SAMPLE / SAMPLE_RATE, n_bytes / 1000)
        if song not in store.places:
            needed += int(seconds * SAMPLE_RATE * BYTES_PER_SAMPLE)
        if options.cache_features:
            n_snippets = options.n_snippets or 1 + int(seconds / options.snippet_seconds)
            needed += n_snippets * cache.feature_bytes(snippet_samples(options))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            folder,
            f"needs {needed / 1e9:.1f} GB, and its disk has {free / 1e9:.1f} GB left: make room, choose another disk"
            " with --out, or try fewer songs with --limit",
        )


def audible_firsts(waveforms: Waveforms, place: Place, options: PrepareOptions) -> list[int]:
    """Samples of a song at which its snippets begin: where the product classifies it, silent ones left out as there."""
    length = snippet_samples(options)
    starts = snippet_starts(place.n_samples / SAMPLE_RATE, options.n_snippets, length / SAMPLE_RATE)
    firsts = []
    for first in (round(start * SAMPLE_RATE) for start in starts):
        snippet = waveforms.snippet(place.shard, place.first + first, place.first, place.n_samples, length)
        if is_audible(snippet):
            firsts.append(first)
    return firsts


def _share_out(
    source: Path, songs: Songs, duplicates: list[tuple[str, str]], options: PrepareOptions, crossing: LeftOut
) -> tuple[list[Entry], Audit]:
    """Each song with its split, and the audit of that; DatasetError when a genre has no song in some split, and nobody
    said so. `crossing` are the songs that would have been left out, had the splits not to be as given.
    """
    duplicates = [(one, other) for one, other in duplicates if one in songs and other in songs]
    grouping = group_songs(songs, duplicates)
    genres = [each.genre for each in songs.values()]
    if _splits_are_given(songs):
        splits = [each.split for each in songs.values()]
    else:
        splits = split_groups(genres, grouping.groups, options.split, options.seed)
        n_splits = Counter(genre for genre, _ in set(zip(genres, splits, strict=True)))
        for genre, count in n_splits.items():
            if count < len(SPLITS):
                raise DatasetError(
                    source, f"{genre!r} cannot be shared out: its artists are tied to those of other genres"
                )
    entries = [
        Entry(song, each, split, group)
        for (song, each), split, group in zip(songs.items(), splits, grouping.groups, strict=True)
    ]
    crossing_songs = {str(path): where for path, where in crossing.songs.items()}
    return entries, audit_splits(songs, splits, grouping, duplicates, crossing_songs)


def _balanced(entries: list[Entry], options: PrepareOptions) -> list[Entry]:
    """The entries without those songs that are too many to learn from; in the other splits all count."""
    genres = [entry.labelled.genre for entry in entries if entry.split == "train"]
    is_kept = iter(balance_songs(genres, options.balance, options.seed))
    return [entry for entry in entries if entry.split != "train" or next(is_kept)]


def _left_of_genres(entries: list[Entry], kept: list[Entry]) -> dict[str, int]:
    """Genre → how many of its songs were left out of training."""
    counts = [Counter(entry.labelled.genre for entry in each) for each in (entries, kept)]
    return {genre: counts[0][genre] - counts[1][genre] for genre in sorted(counts[0], key=str.casefold)}


def _save(
    folder: Path, entries: list[Entry], decoded: DecodedSongs, options: PrepareOptions, watch: Watch
) -> dict[str, Any]:
    """Write splits and log-mels; what the record has to say of them."""
    genres = sorted({entry.labelled.genre for entry in entries}, key=str.casefold)
    rows = {
        split: [row for entry in entries if entry.split == split for row in _rows(entry, decoded)] for split in SPLITS
    }
    n_samples: Counter[str] = Counter()
    for entry in entries:
        n_samples[entry.labelled.genre] += decoded.places[entry.song].n_samples
    drop_notebook(folder)
    (folder / RECORD).unlink(missing_ok=True)  # from here on it is no dataset, until it is a new one
    splits = save_dataset(folder, genres, rows)
    digest = fingerprint(genres, splits, snippet_samples(options))
    if options.cache_features:
        cache.cache_features(folder, splits, snippet_samples(options), digest, watch)
    else:
        cache.drop_features(folder)
    return {
        "snippet_samples": snippet_samples(options),
        "fingerprint": digest,
        "n_songs": _count(genres, ((entry.labelled.genre, entry.split) for entry in entries)),
        "n_groups": _count(genres, {(entry.labelled.genre, entry.split, entry.group) for entry in entries}),
        "n_snippets": {split: len(rows[split]) for split in SPLITS},
        "seconds": {genre: n_samples[genre] / SAMPLE_RATE for genre in genres},
    }


def _rows(entry: Entry, decoded: DecodedSongs) -> list[dict[str, Any]]:
    """The rows of a song: one for each of its snippets."""
    each, place = entry.labelled, decoded.places[entry.song]
    return [
        {
            "song": entry.song,
            "path": str(each.path).encode("utf-8", "backslashreplace").decode(),  # Arrow knows no undecodable names
            "artist": each.album_artist or each.artist,
            "group": entry.group.encode("utf-8", "backslashreplace").decode(),
            "label": each.genre,
            "start_seconds": first / SAMPLE_RATE,
            "shard": place.shard,
            "first": place.first + first,
            "song_first": place.first,
            "song_samples": place.n_samples,
        }
        for first in decoded.firsts[entry.song]
    ]


def _count(genres: Iterable[str], entries: Iterable[tuple[str, ...]]) -> dict[str, dict[str, int]]:
    """Genre → split → number of entries, which begin with genre and split."""
    counts = Counter((genre, split) for genre, split, *_ in entries)
    return {genre: {split: counts[genre, split] for split in SPLITS} for genre in genres}


def _digest(value: Any) -> str:
    return sha256(json.dumps(value).encode()).hexdigest()
