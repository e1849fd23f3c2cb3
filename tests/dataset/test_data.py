"""A dataset is loaded as it was made, or not at all."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from tests.support.labelled import make_dataset, make_library
from training.dataset.cache import feature_bytes
from training.dataset.data import RECORD, is_prepared, load_prepared, read_record, save_dataset
from training.dataset.splits import SPLITS
from training.errors import DatasetError
from training.learning.loader import SnippetDataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that nobody changes, with log-mels of its snippets of 1 s."""
    root = tmp_path_factory.mktemp("prepared")
    make_dataset(make_library(root / "music"), root / "dataset", snippet_seconds=1.0, cache_features=True)
    return root / "dataset"


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    """A dataset to change."""
    return Path(shutil.copytree(dataset, tmp_path / "dataset"))


def change_rows(folder: Path, change: Callable[[str, list[dict[str, Any]]], None]) -> None:
    """Write the dataset again with other rows: `change` gets each split and its rows, label as a name."""
    prepared = load_prepared(folder)
    rows = {
        split: [{**row, "label": prepared.genres[row["label"]]} for row in prepared.splits[split]] for split in SPLITS
    }
    for split in SPLITS:
        change(split, rows[split])
    save_dataset(folder, prepared.genres, rows)


def change_record(folder: Path, **fields: Any) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, **fields}))


def test_what_was_made_is_loaded(dataset: Path) -> None:
    prepared = load_prepared(dataset)
    assert prepared.genres == ("blues", "hiphop", "jazz") and prepared.snippet_samples == 16_000
    assert isinstance(prepared.splits, datasets.DatasetDict) and tuple(prepared.splits) == SPLITS
    assert prepared.splits["train"].features["label"] == datasets.ClassLabel(names=["blues", "hiphop", "jazz"])
    kinds = {name: feature.dtype for name, feature in prepared.splits["train"].features.items()}
    assert kinds == {
        "song": "string", "path": "string", "artist": "string", "group": "string", "start_seconds": "float64",
        "shard": "int32", "first": "int64", "song_first": "int64", "song_samples": "int64", "label": "int64",
    }  # fmt: skip


def test_nothing_is_held_in_memory(dataset: Path) -> None:
    prepared = load_prepared(dataset)
    assert all(prepared.splits[split].cache_files for split in SPLITS)
    assert all(isinstance(prepared.features[split][0], np.memmap) for split in SPLITS)
    waveform = prepared.waveforms.read(0, 0, 100)
    assert isinstance(waveform.base, np.memmap) and waveform.dtype == np.int16
    assert len(pickle.dumps(prepared.waveforms)) < 1000


def test_what_loads_snippets_goes_to_other_processes_without_what_it_loads(dataset: Path) -> None:
    prepared = load_prepared(dataset)
    loader = SnippetDataset(prepared, "train")
    loader.__getitems__([0, 1])
    pickled = pickle.dumps(loader)
    assert len(pickled) < 20_000 < feature_bytes(prepared.snippet_samples)
    again = pickle.loads(pickled).__getitems__([1])
    np.testing.assert_array_equal(again["log_mels"].numpy(), loader.__getitems__([1])["log_mels"].numpy())


def test_the_fingerprint_is_of_the_content_alone(dataset: Path, copy: Path) -> None:
    before = load_prepared(dataset).fingerprint
    assert load_prepared(copy).fingerprint == before
    change_rows(copy, lambda split, rows: rows.reverse() if split == "validate" else None)
    assert load_prepared(copy).fingerprint != before


def test_what_is_a_dataset_is_known(dataset: Path, copy: Path, tmp_path: Path) -> None:
    assert is_prepared(dataset) and not is_prepared(tmp_path) and not is_prepared(tmp_path / "none")
    (copy / RECORD).unlink()
    assert is_prepared(copy)


def test_quiet(dataset: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_prepared(dataset)
    assert capfd.readouterr() == ("", "")


# Nothing may be in two splits


def test_a_group_in_two_splits_is_refused(copy: Path) -> None:
    group = load_prepared(copy).splits["test"][0]["group"]
    change_rows(copy, lambda split, rows: rows[0].update(group=group) if split == "train" else None)
    reason = r"splits overlap: 1 group in more than one split \(the group 'artist .*' is in train and test\); .*--force"
    with pytest.raises(DatasetError, match=reason):
        load_prepared(copy)


def test_a_song_in_two_splits_is_refused(copy: Path) -> None:
    song = load_prepared(copy).splits["validate"][0]["song"]
    change_rows(copy, lambda split, rows: rows[0].update(song=song) if split == "train" else None)
    with pytest.raises(
        DatasetError,
        match=rf"splits overlap: 1 song in more than one split \(the song '{song}' is in train and validate",
    ):
        load_prepared(copy)


def test_a_recording_in_two_splits_is_refused(copy: Path) -> None:
    splits = load_prepared(copy).splits
    one, other = splits["train"][0]["song"], splits["test"][0]["song"]
    audit = read_record(copy).audit
    change_record(copy, audit={**audit, "duplicates": [*audit["duplicates"], [one, other]]})
    with pytest.raises(
        DatasetError, match=f"1 recording in .* \\(the recording '{one} = {other}' is in train and test"
    ):
        load_prepared(copy)


# What is not whole is refused


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 2)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no dataset: make one with genre-tag prepare"),
    "not finished": (lambda folder: (folder / RECORD).unlink(), "begun but not finished: the same genre-tag prepare"),
    "damaged record": (lambda folder: (folder / RECORD).write_text("{"), "prepare.json: damaged; .*--force"),
    "record of something else": (lambda folder: (folder / RECORD).write_text("[]"), "prepare.json: damaged"),
    "another version": (lambda folder: change_record(folder, version=2), "by another version of genre-tag; .*--force"),
    "no genres": (lambda folder: (folder / "genres.json").unlink(), "not whole .*genres.json.*--force"),
    "other genres": (
        lambda folder: (folder / "genres.json").write_text('["a", "b", "c"]'), "not whole .other splits or genres"
    ),
    "no split": (lambda folder: shutil.rmtree(folder / "test"), "not whole .*test"),
    "no rows": (lambda folder: (folder / "train" / "data-00000-of-00001.arrow").unlink(), "not whole"),
    "damaged rows": (
        lambda folder: (folder / "train" / "data-00000-of-00001.arrow").write_bytes(b"nothing"), "not whole"
    ),
    "no waveforms": (lambda folder: (folder / "waveforms" / "00000.i16").unlink(), "waveforms/00000.i16 is missing"),
    "short waveforms": (
        lambda folder: (folder / "waveforms" / "00000.i16").open("r+b").truncate(99_999), "waveforms/00000.i16 is short"
    ),
    "no log-mels": (lambda folder: (folder / "features" / "test.f16").unlink(), "test.f16: missing or not whole"),
    "short log-mels": (lambda folder: truncate(folder / "features" / "train.f16"), "train.f16: missing or not whole"),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_not_whole_is_refused_with_a_way_out(copy: Path, what: str) -> None:
    spoil, reason = SPOILT[what]
    spoil(copy)
    with pytest.raises(DatasetError, match=reason) as raised:
        load_prepared(copy)
    assert "\n" not in str(raised.value) and str(raised.value).startswith(str(copy))
