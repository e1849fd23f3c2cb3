"""A dataset on disk: splits of snippets, the waveforms they are cut from, and the record of how they came about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets

from tagger.atomic import replacing
from tagger.text import counted
from training.dataset.cache import Features, load_features
from training.dataset.splits import SPLITS, crossing
from training.dataset.waveforms import BYTES_PER_SAMPLE, Waveforms, is_waveform_store, shard_path
from training.errors import DatasetError

if TYPE_CHECKING:
    from training.dataset.notebook import NotebookFeatures

VERSION = 1  # of the folder
RECORD, GENRES = "prepare.json", "genres.json"
COLUMNS = {
    "song": "string", "path": "string", "artist": "string", "group": "string", "start_seconds": "float64",
    "shard": "int32", "first": "int64", "song_first": "int64", "song_samples": "int64",
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """What is told of a dataset beside it, in prepare.json; written last, so that a dataset that has one is whole."""

    version: int
    #: Digest of the songs and of the options: where it is equal, so is the dataset.
    inputs: str
    options: dict[str, Any]
    #: Where the genres come from, and why from there.
    labels: str
    snippet_samples: int
    fingerprint: str
    #: Genre → split → number of songs, and of groups.
    n_songs: dict[str, dict[str, int]]
    n_groups: dict[str, dict[str, int]]
    n_snippets: dict[str, int]
    #: Genre → length of its songs.
    seconds: dict[str, float]
    #: See `splits.Audit`; "lines" tell it in words.
    audit: dict[str, Any]
    #: Path → why the song is not in the dataset.
    left_out: dict[str, str]
    #: Genre tags that the vocabulary does not know → number of songs, the most frequent first.
    unknown: dict[str, int]
    n_untagged: int
    #: Songs left out of training so that genres are even.
    n_unbalanced: int
    #: The command that makes it again; none in what earlier versions made.
    argv: list[str] = field(default_factory=list)
    #: Genre → how many of these; none in what earlier versions made.
    unbalanced: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A dataset, ready to be learned from."""

    genres: tuple[str, ...]
    splits: datasets.DatasetDict  # of SPLITS; perhaps without test
    snippet_samples: int
    fingerprint: str
    waveforms: Waveforms
    #: Split → its log-mels, where they are ready: cached, or the notebook's.
    features: Mapping[str, Features | NotebookFeatures]
    #: The command that makes it again; () where that is not known.
    argv: tuple[str, ...]
    #: What splits share that somebody else made, as a sentence without its end; "" where they share nothing.
    overlap: str = ""


def save_dataset(
    folder: Path, genres: Iterable[str], rows: Mapping[str, Sequence[Mapping[str, Any]]]
) -> datasets.DatasetDict:
    """Write the rows of each split that has some, with `label` as the name of a genre; raises DatasetError."""
    datasets.disable_progress_bars()
    names = list(genres)
    features = datasets.Features(
        {name: datasets.Value(kind) for name, kind in COLUMNS.items()} | {"label": datasets.ClassLabel(names=names)}
    )
    columns = {
        split: {name: [row[name] for row in rows[split]] for name in features} for split in SPLITS if rows[split]
    }
    splits = datasets.DatasetDict(
        {split: datasets.Dataset.from_dict(each, features) for split, each in columns.items()}
    )
    try:
        for split in SPLITS:
            shutil.rmtree(folder / split, ignore_errors=True)
        with replacing(folder / GENRES) as file:
            file.write(json.dumps(names, ensure_ascii=False).encode() + b"\n")
        splits.save_to_disk(str(folder))
    except OSError as error:
        raise DatasetError(folder, f"cannot be written: {error.strerror or error}") from error
    return splits


def write_record(folder: Path, record: Record) -> None:
    """Finish a dataset."""
    try:
        with replacing(folder / RECORD) as file:
            file.write(json.dumps(asdict(record), indent=1).encode() + b"\n")
    except OSError as error:
        raise DatasetError(folder, f"cannot be written: {error.strerror or error}") from error


def read_record(folder: Path) -> Record:
    """The record of a finished dataset; raises DatasetError where there is none of this version."""
    path = folder / RECORD
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["version"] != VERSION:
            raise DatasetError(
                folder, "was prepared by another version of genre-tag; genre-tag prepare --force redoes it"
            )
        return Record(**fields)
    except FileNotFoundError:
        half = "a dataset that was begun but not finished: the same genre-tag prepare as before goes on with it"
        raise DatasetError(
            folder, half if is_waveform_store(folder) else "no dataset: make one with genre-tag prepare"
        ) from None
    except OSError as error:
        raise DatasetError(path, error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(path, "damaged; genre-tag prepare --force writes it again") from error


def is_prepared(folder: Path) -> bool:
    """Whether a folder is a dataset, finished or not."""
    return (folder / RECORD).is_file() or is_waveform_store(folder)


def fingerprint(genres: Iterable[str], splits: datasets.DatasetDict, snippet_samples: int) -> str:
    """A digest of what is learned from: which snippets of which songs, as which genre, in which split."""
    digest = sha256(json.dumps([list(genres), snippet_samples]).encode())
    for split in sorted(splits, key=SPLITS.index):
        rows = splits[split]
        digest.update(json.dumps([split, *(list(rows[name]) for name in ("song", "label", "start_seconds"))]).encode())
    return digest.hexdigest()


def load_prepared(folder: Path) -> Prepared:
    """The dataset in a folder, memory-mapped. Raises DatasetError, with what to do, for one that is not whole, and
    for one in which a song, a group or a recording is in more than one split, unless somebody wanted it so.
    """
    record = read_record(folder)
    datasets.disable_progress_bars()
    try:
        genres = tuple(json.loads((folder / GENRES).read_text(encoding="utf-8")))
        splits = datasets.load_from_disk(str(folder))
        held = {split for split, n_snippets in record.n_snippets.items() if n_snippets}
        if set(splits) != held or any(rows.features["label"].names != list(genres) for rows in splits.values()):
            raise ValueError("other splits or genres than in genres.json")
        shared = _overlap(folder, splits, record)
        _check_shards(folder, splits)
    except (OSError, ValueError, KeyError) as error:
        reason = f"not whole ({error}); genre-tag prepare --force makes it again and keeps what is decoded"
        raise DatasetError(folder, reason) from error
    features = load_features(folder, splits, record.snippet_samples) if record.options["cache_features"] else {}
    digest = fingerprint(genres, splits, record.snippet_samples)
    return Prepared(
        genres, splits, record.snippet_samples, digest, Waveforms(folder), features, tuple(record.argv), shared
    )


def overlap(found: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """What splits share, in words, with an example; "" where that is nothing. `found` is kind → value → its splits."""
    counts = " and ".join(counted(len(each), kind) for kind, each in found.items() if each)
    examples = [
        f"the {kind} {value!r} is in {' and '.join(where)}"
        for kind, each in found.items()
        for value, where in each.items()
    ]
    return f"{counts} in more than one split ({examples[0]})" if examples else ""


def _overlap(folder: Path, splits: datasets.DatasetDict, record: Record) -> str:
    """What splits share that were to be as given; DatasetError when others share anything. Recomputed from the rows,
    whatever the record says.
    """
    split_of = {song: split for split, rows in splits.items() for song in rows.unique("song")}
    found: dict[str, Mapping[str, Sequence[str]]] = {
        what: crossing({split: rows.unique(what) for split, rows in splits.items()}) for what in ("song", "group")
    }
    found["recording"] = {
        f"{one} = {other}": (split_of[one], split_of[other])
        for one, other in record.audit["duplicates"]
        if one in split_of and other in split_of and split_of[one] != split_of[other]
    }
    told = overlap(found)
    if told and record.options.get("splits") != "as-given":
        raise DatasetError(folder, f"splits overlap: {told}; genre-tag prepare --force shares it out again")
    return told


def _check_shards(folder: Path, splits: datasets.DatasetDict) -> None:
    needed: dict[int, int] = {}
    for rows in splits.values():
        for shard, first, length in zip(rows["shard"], rows["song_first"], rows["song_samples"], strict=True):
            needed[shard] = max(needed.get(shard, 0), first + length)
    for shard, n_samples in sorted(needed.items()):
        path = shard_path(folder, shard)
        if not path.exists() or path.stat().st_size < n_samples * BYTES_PER_SAMPLE:
            raise ValueError(f"{path.relative_to(folder)} is {'short' if path.exists() else 'missing'}")
