"""The dataset of the notebook this project began from: log-mels that are ready for the model, as transformers'
`ASTFeatureExtractor` makes them, the label and the path of each, and the genres' names in a file beside them.

    dataset/genres.json                    ["Blues", "Jazz", …]
    dataset/music_lib_balanced/            DatasetDict: train, validate, perhaps test
        input_values (n_frames, n_mels), labels, paths
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from tagger.atomic import replacing
from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE
from tagger.errors import TagError
from tagger.models.description import N_MELS, snippet_seconds
from tagger.models.transformer import TorchLogMel
from tagger.tags.genre import Metadata, read_metadata
from tagger.text import counted, one_line
from training.dataset.cache import input_frames
from training.dataset.data import COLUMNS, GENRES, Prepared, Waveforms, fingerprint, load_prepared, overlap
from training.dataset.songs import LabelledSong, labelled_song
from training.dataset.splits import SPLITS, artist_key, crossing
from training.errors import DatasetError

NAME = "music_lib_balanced"
INPUT, LABELS, PATHS = "input_values", "labels", "paths"
MARK = "dataset_dict.json"  # of every DatasetDict on disk
LEAST_FRAMES, MOST_FRAMES = 16, 6000  # a patch; a minute, as long as the product's snippets may be
BATCH = 64  # rows that are looked at, or written, at once
MADE_HERE = "genre-tag.json"  # in a dataset that `write_notebook` made
PLACE = ("shard", "first", "song_first", "song_samples")


class NotebookFeatures:
    """Log-mels of a split as the notebook keeps them: normalised, padded, memory-mapped."""

    key = INPUT  # of `training.learning.network.Network.forward`

    def __init__(self, rows: datasets.Dataset, shape: tuple[int, int]) -> None:
        self._rows, self.shape = rows.with_format("arrow"), (len(rows), *shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> np.ndarray:
        """The log-mel of a row, float32 (n_frames, n_mels)."""
        values, _ = _flat(self._rows[[row]][INPUT])
        return values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(self.shape[1:])


def find_notebook(folder: Path) -> Path | None:
    """The notebook's dataset in a folder, or the folder itself where that is one; None where there is none.

    Raises DatasetError where there are several, and none is called as the notebook's is.
    """
    found = [each for each in (folder, folder / NAME) if (each / MARK).is_file()]
    found = found or sorted(path.parent for path in folder.glob(f"*/{MARK}"))
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise DatasetError(folder, f"holds {len(found)} datasets ({names}): name one of them by --data")
    return found[0] if found else None


def load_notebook(folder: Path) -> Prepared:
    """The notebook's dataset in a folder, memory-mapped, with its splits as they are.

    A song is what has one path. Whose it is comes from its own tags, where there is a file. Where the notebook cut the
    snippets is not kept: they are told as lying end to end. Raises DatasetError for what cannot be learned from.
    """
    datasets.disable_progress_bars()
    splits = _read_splits(folder)
    genres = _genres(folder, splits)
    shape = _shape(folder, splits)
    songs = _songs(folder, splits, genres)
    found = {
        "song": crossing({split: rows.unique(PATHS) for split, rows in splits.items()}),
        "artist": crossing({split: _artists(rows, songs) for split, rows in splits.items()}),
    }
    snippet_samples = snippet_seconds(shape[0]) * SAMPLE_RATE
    tables = datasets.DatasetDict(
        {
            split: _table(split, rows, songs, genres, set(found["song"]), snippet_samples)
            for split, rows in splits.items()
        }
    )
    return Prepared(
        genres=genres,
        splits=tables,
        snippet_samples=snippet_samples,
        fingerprint=fingerprint(genres, tables, snippet_samples),
        waveforms=Waveforms(folder),
        features={split: NotebookFeatures(rows.select_columns([INPUT]), shape) for split, rows in splits.items()},
        argv=(),
        overlap=overlap(found),
    )


def _read_splits(folder: Path) -> datasets.DatasetDict:
    """The splits in the order of SPLITS, of which train and validate are there and none is empty."""
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # datasets raises whatever Arrow, JSON and its own checks do
        empty = _empty_split(folder)
        reason = f"its split {empty} is empty" if empty else f"cannot be read as a DatasetDict ({one_line(error)})"
        raise DatasetError(folder, reason) from error
    if not isinstance(found, datasets.DatasetDict):
        raise DatasetError(folder, "is one Dataset, without splits: save a DatasetDict of train, validate and test")
    names = list(found)
    if not {"train", "validate"} <= set(names) <= set(SPLITS):
        some = ", ".join(map(repr, names)) or "none"
        raise DatasetError(folder, f"its splits have to be train, validate and perhaps test, and are {some}")
    for split, rows in found.items():
        missing = [name for name in (INPUT, LABELS, PATHS) if name not in rows.column_names]
        if missing:
            raise DatasetError(
                folder,
                f"its split {split} has no column {' and no '.join(missing)}, of the notebook's {INPUT}, {LABELS} and"
                f" {PATHS}; found: {', '.join(rows.column_names) or 'none'}",
            )
        if not len(rows):
            raise DatasetError(folder, f"its split {split} is empty")
    return datasets.DatasetDict({split: found[split] for split in SPLITS if split in found})


def _empty_split(folder: Path) -> str:
    """A split that was saved without a row, which datasets cannot load; "" where there is none."""
    for path in sorted(folder.glob("*/state.json")):
        with suppress(OSError, ValueError, AttributeError):
            if json.loads(path.read_text(encoding="utf-8")).get("_data_files") == []:
                return path.parent.name
    return ""


def _genres(folder: Path, splits: datasets.DatasetDict) -> tuple[str, ...]:
    """The names of the labels: a ClassLabel's, else those of genres.json beside the dataset or in it."""
    feature = splits["train"].features[LABELS]
    path = next((path for path in (folder.parent / GENRES, folder / GENRES) if path.is_file()), None)
    if isinstance(feature, datasets.ClassLabel):
        genres = feature.names
    elif path is None:
        raise DatasetError(folder, f"its labels are numbers, and no {GENRES} beside it says of which genres")
    else:
        try:
            genres = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DatasetError(path, f"cannot be read ({one_line(error)})") from error
    if not isinstance(genres, list) or not all(isinstance(genre, str) and genre for genre in genres):
        raise DatasetError(path or folder, "is no list of the genres' names")
    if len(set(genres)) < max(2, len(genres)):
        raise DatasetError(path or folder, f"names {len(genres)} genres, {len(set(genres))} of them different")
    for split, rows in splits.items():
        strangers = set(rows.unique(LABELS)) - set(range(len(genres)))
        if strangers:
            some = ", ".join(map(repr, sorted(strangers, key=str)[:3]))
            raise DatasetError(
                folder, f"its split {split} has the label {some}, and {len(genres)} genres are named: 0 is the first"
            )
    return tuple(genres)


def _flat(column: pa.ChunkedArray) -> tuple[pa.Array, set[tuple[int, ...]]]:
    """The numbers of a column of log-mels, one after the other, and the shapes of its rows: () for what is no list of
    numbers. Only where lists begin is looked at, not what is in them.
    """
    array = column.combine_chunks()
    if isinstance(array, pa.ExtensionArray):  # datasets.Array2D
        array = array.storage
    sizes: list[list[int]] = []
    while pa.types.is_nested(array.type) and hasattr(array, "value_lengths") and not array.null_count:
        sizes.append(array.value_lengths().unique().to_pylist())
        array = array.flatten()
    if not pa.types.is_floating(array.type) or array.null_count:
        return array, {()}
    return array, set(product(*sizes))


def _shape(folder: Path, splits: datasets.DatasetDict) -> tuple[int, int]:
    """Frames and mels of every log-mel; DatasetError where they differ, or are none."""
    wanted = f"{INPUT} has to be log-mels of one shape, (frames, {N_MELS} mels)"
    shapes: set[tuple[int, ...]] = set()
    for split, rows in splits.items():
        for batch in rows.select_columns([INPUT]).with_format("arrow").iter(BATCH):
            shapes |= _flat(batch[INPUT])[1]
            if len(shapes) > 1:
                several = " and ".join(map(str, sorted(shapes)[:2]))
                raise DatasetError(folder, f"{wanted}, and split {split} has {several}")
    (shape,) = shapes
    if len(shape) != 2 or not LEAST_FRAMES <= shape[0] <= MOST_FRAMES:
        raise DatasetError(folder, f"{wanted}, and is {shape or 'no list of numbers'}")
    return shape[0], shape[1]


def _songs(folder: Path, splits: datasets.DatasetDict, genres: Sequence[str]) -> dict[str, LabelledSong]:
    """Path → the song, with what its own tags say of whose it is."""
    labels: dict[str, set[int]] = defaultdict(set)
    for rows in splits.values():
        for path, label in zip(rows[PATHS], rows[LABELS], strict=True):
            labels[path].add(label)
    for path, found in labels.items():
        if not isinstance(path, str) or not path:
            raise DatasetError(folder, f"{PATHS} has {path!r}: every snippet needs the path of its song")
        if len(found) > 1:
            several = " and ".join(genres[label] for label in sorted(found))
            raise DatasetError(folder, f"the song {path!r} is labelled {several}")
    return {path: _song(path, genres[min(found)]) for path, found in labels.items()}


def _song(path: str, genre: str) -> LabelledSong:
    try:
        found: Metadata | TagError = read_metadata(path)
    except (TagError, OSError, ValueError) as error:
        found = TagError(path, one_line(error))
    return labelled_song(Path(path), genre, found, Path(path).parent)


def _artists(rows: datasets.Dataset, songs: Mapping[str, LabelledSong]) -> Iterator[str]:
    yield from filter(None, (artist_key(songs[path]) for path in rows.unique(PATHS)))


def _table(
    split: str, rows: datasets.Dataset, songs: Mapping[str, LabelledSong], genres: Sequence[str], shared: set[str],
    snippet_samples: int,
) -> datasets.Dataset:  # fmt: skip
    """The rows as `training.dataset.data` has them, but for where samples lie; a song that is also in another split is
    one of its own here, for a song is in one split.
    """
    counts, so_far = Counter(rows[PATHS]), Counter[str]()
    table: dict[str, list[Any]] = {name: [] for name in (*COLUMNS, "label")}
    for path, label in zip(rows[PATHS], rows[LABELS], strict=True):
        song = songs[path]
        first = so_far[path] * snippet_samples
        so_far[path] += 1
        row = {
            "song": f"{path} ({split})" if path in shared else path,
            "path": path,
            "artist": song.album_artist or song.artist,
            "group": artist_key(song) or path,
            "start_seconds": first / SAMPLE_RATE,
            "shard": 0,
            "first": first,
            "song_first": 0,
            "song_samples": counts[path] * snippet_samples,
            "label": int(label),
        }
        for name, value in row.items():
            table[name].append(value)
    kinds = {name: datasets.Value(kind) for name, kind in COLUMNS.items()}
    features = datasets.Features(kinds | {"label": datasets.ClassLabel(names=list(genres))})
    return datasets.Dataset.from_dict(table, features)


def told(prepared: Prepared) -> str:
    """What a dataset of the notebook holds, in a line."""
    n_frames, n_mels = next(iter(prepared.features.values())).shape[1:]
    counts = ", ".join(
        f"{counted(len(set(rows['song'])), 'song')} ({len(rows)}) to {split}" for split, rows in prepared.splits.items()
    )
    return f"{counts}; log-mels of {n_frames} frames and {n_mels} mels, as they are"


def write_notebook(folder: Path) -> Path:
    """Write the prepared dataset in `folder` once more, inside it, as the notebook has its own, and give its folder.

    What is there already of the same dataset is left. Raises DatasetError, also where there is something else.
    """
    prepared, target, part = load_prepared(folder), folder / NAME, folder / f"{NAME}.part"
    mark = {"format": "genre-tag notebook", "fingerprint": prepared.fingerprint}
    if target.exists():
        found = _mark(target)
        if found == mark:
            return target
        if found.get("format") != mark["format"]:
            raise DatasetError(target, "was not made by genre-tag, and is left alone: name a new folder with --out")
    _check_space(folder, sum(map(len, prepared.splits.values())) * input_frames(prepared.snippet_samples))
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        splits = {split: _log_mels(prepared, split, part / f"{split}.arrow") for split in prepared.splits}
        datasets.DatasetDict(splits).save_to_disk(str(part / NAME))
        with replacing(part / NAME / MADE_HERE) as file:
            file.write(json.dumps(mark).encode())
        shutil.rmtree(target, ignore_errors=True)
        (part / NAME).rename(target)
        shutil.rmtree(part)
    except OSError as error:
        raise DatasetError(target, f"cannot be written: {error.strerror or error}; the same command resumes") from error
    return target


def _log_mels(prepared: Prepared, split: str, file: Path) -> datasets.Dataset:
    """The rows of a split as the notebook has them, kept in a file; log-mels are what its feature extractor gives."""
    import torch

    rows, log_mel = prepared.splits[split], TorchLogMel(N_MELS, input_frames(prepared.snippet_samples))

    def converted(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
        places = zip(*(batch[name] for name in PLACE), strict=True)
        read = prepared.waveforms.snippet
        snippets = np.stack([read(*map(int, place), prepared.snippet_samples) for place in places])  # type: ignore[call-arg]
        with torch.inference_mode():
            values = log_mel(torch.from_numpy(snippets).float() / FULL_SCALE).numpy()
        return {INPUT: values, LABELS: batch["label"], PATHS: batch["path"]}

    features = datasets.Features(
        {
            INPUT: datasets.List(datasets.List(datasets.Value("float32"))),
            LABELS: datasets.Value("int64"),
            PATHS: datasets.Value("string"),
        }
    )
    return rows.map(
        converted, batched=True, batch_size=BATCH, remove_columns=rows.column_names, features=features,
        cache_file_name=str(file), new_fingerprint=f"{prepared.fingerprint[:32]}-{split}",
    )  # fmt: skip


def drop_notebook(folder: Path) -> None:
    """Delete what `write_notebook` made in `folder`: its labels are those of the dataset before. Others stay."""
    if _mark(folder / NAME):
        shutil.rmtree(folder / NAME, ignore_errors=True)


def _mark(folder: Path) -> dict[str, str]:
    """What genre-tag left in a dataset that it made for the notebook; {} in others."""
    with suppress(OSError, ValueError):
        found = json.loads((folder / MADE_HERE).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _check_space(folder: Path, n_frames: int) -> None:
    """DatasetError when so many frames of log-mels, which are written and then copied, will not fit on the disk."""
    needed, free = 2 * 4 * N_MELS * n_frames, shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            folder, f"the log-mels need {needed / 1e9:.1f} GB, and its disk has {free / 1e9:.1f} GB left"
        )
