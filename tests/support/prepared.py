"""Small datasets: in memory, as `dataset.data.load_prepared` would give them, and on disk as the notebook made its own.
Their genres are such as a tiny network can tell.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, disable_progress_bars
from pyarrow import parquet

from tagger.audio.decode import SAMPLE_RATE, snippet_starts
from tests.support.checkpoints import GENRES
from tests.support.songs import make_song

COLUMNS = ("song", "path", "artist", "group", "label", "start_seconds", "shard", "first", "song_first", "song_samples")


class Waveforms:
    """Songs one after the other in one shard, int16."""

    def __init__(self, songs: list[np.ndarray]) -> None:
        self.shard = np.concatenate(songs)

    def read(self, shard: int, first: int, n_samples: int) -> np.ndarray:
        assert shard == 0 and first >= 0 and first + n_samples <= len(self.shard)
        return self.shard[first : first + n_samples]

    def snippet(self, shard: int, first: int, song_first: int, song_samples: int, n_samples: int) -> np.ndarray:
        if song_samples < n_samples:
            return np.resize(self.read(shard, song_first, song_samples), n_samples)
        return self.read(shard, first, n_samples)


def song(label: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Noise, and a tone whose pitch tells the label."""
    n_samples = int(seconds * SAMPLE_RATE)
    tone = np.sin(2 * np.pi * 300 * 3**label * np.arange(n_samples) / SAMPLE_RATE + rng.uniform(0, 6))
    return ((0.3 * tone + 0.03 * rng.standard_normal(n_samples)) * 10_000).astype(np.int16)


def write_soft_labels(path: Path, prepared: Any, *, n_classes: int = 5, noise: float = 0.1, seed: int = 0) -> Path:
    """What a good teacher says of each row of the train split: shares of its true genre, and classes that tell it.

    The truth is in the name of the song, whatever the label says.
    """
    rng = np.random.default_rng(seed)
    rows = prepared.splits["train"]
    truth = np.array([int(name.removeprefix("train")[0]) for name in rows["song"]])
    shares = 0.05 + 0.85 * np.eye(len(GENRES))[truth]
    classes = rng.standard_normal((len(GENRES), n_classes))[truth] + noise * rng.standard_normal(
        (len(truth), n_classes)
    )
    columns = {"song": rows["song"][:], "start_seconds": rows["start_seconds"][:]}
    columns |= dict(zip(GENRES, shares.T, strict=True)) | {f"class {i}": classes[:, i] for i in range(n_classes)}
    parquet.write_table(pa.table(columns), path)
    return path


def make_prepared(
    n_songs: dict[str, int] | None = None, *, seconds: float = 4.0, n_snippets: int = 2, seed: int = 0
) -> Any:
    """A dataset of 1 s snippets, with that many songs of each genre of `support.checkpoints.GENRES` in each split."""
    rng = np.random.default_rng(seed)
    songs: list[np.ndarray] = []
    splits = {}
    first = 0
    for split, n in (n_songs or {"train": 6, "validate": 3, "test": 3}).items():
        rows: dict[str, list] = {name: [] for name in COLUMNS}
        for number in range(n):
            for label in range(len(GENRES)):
                waveform = song(label, seconds, rng)
                for start in snippet_starts(seconds, n_snippets, 1.0):
                    name = f"{split}{label}{number}"
                    begin = first + round(start * SAMPLE_RATE)
                    values = (name, f"{name}.mp3", name, name, label, start, 0, begin, first, len(waveform))
                    for column, value in zip(rows.values(), values, strict=True):
                        column.append(value)
                songs.append(waveform)
                first += len(waveform)
        splits[split] = Dataset.from_dict(rows).cast_column("label", ClassLabel(names=list(GENRES)))
    return SimpleNamespace(
        genres=GENRES,
        splits=DatasetDict(splits),
        snippet_samples=SAMPLE_RATE,
        fingerprint=f"fake {seed}",
        waveforms=Waveforms(songs),
        features={},
        argv=("genre-tag", "prepare", "music"),
    )


N_SONGS = {"train": 4, "validate": 2, "test": 2}


def write_notebook(root: Path, n_songs: dict[str, int] = N_SONGS, *, n_frames: int = 128) -> Path:
    """The notebook's dataset below `root`: so many songs of 3 s of each genre in each split, cut end to end.

    By the notebook's own lines: the feature extractor, a DatasetDict that is saved, genres.json beside it. The songs
    lie in root/music, each by an artist of its own.
    """
    from transformers import ASTFeatureExtractor

    disable_progress_bars()
    feature_extractor = ASTFeatureExtractor(max_length=n_frames)
    rng = np.random.default_rng(0)
    (root / "music").mkdir(parents=True)
    splits = {}
    for split, n in n_songs.items():
        rows: dict[str, list[Any]] = {"audio": [], "labels": [], "paths": []}
        for number in range(n):
            for label in range(len(GENRES)):
                waveform = song(label, 3.0, rng)
                path = root / "music" / f"{split}{label}{number}.flac"
                signal = np.stack([waveform / 2**15])
                make_song(path, 3, SAMPLE_RATE, 1, signal, metadata={"artist": f"Artist of {path.stem}"})
                for snippet in np.split(waveform / 2**15, 3):
                    for column, value in zip(
                        rows.values(), (snippet.astype(np.float32), label, str(path)), strict=True
                    ):
                        column.append(value)

        def preprocess(batch: Any) -> Any:
            inputs = feature_extractor(batch["audio"], sampling_rate=SAMPLE_RATE, return_tensors="np")
            return {"input_values": inputs["input_values"]}

        splits[split] = (
            Dataset.from_dict(rows).with_format("numpy").map(preprocess, batched=True, remove_columns="audio")
        )
    dataset = root / "dataset"
    DatasetDict(splits).with_format(None).save_to_disk(dataset / "music_lib_balanced")
    (dataset / "genres.json").write_text(json.dumps(GENRES), encoding="utf-8")
    return dataset / "music_lib_balanced"
