"""The dataset of the notebook: made by its own lines, learned from as it is, refused in one line where it is bad."""

import ast
import json
import pickle
import re
import shutil
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import DatasetDict

from tests.support.checkpoints import GENRES, make_checkpoint
from tests.support.labelled import make_dataset, make_library
from tests.support.prepared import N_SONGS, write_notebook
from training.dataset.data import load_prepared
from training.dataset.notebook import find_notebook, load_notebook, told
from training.dataset.notebook import write_notebook as write_dataset
from training.errors import DatasetError
from training.learning.loader import SnippetDataset
from training.outcome import metrics


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the notebook that nobody changes."""
    return write_notebook(tmp_path_factory.mktemp("notebook"))


def test_its_log_mels_are_those_that_the_notebooks_cell_would_load(dataset: Path) -> None:
    theirs = DatasetDict.load_from_disk(str(dataset))
    prepared = load_notebook(dataset)
    assert prepared.genres == GENRES and list(prepared.splits) == ["train", "validate", "test"]
    assert prepared.snippet_samples == 16_000
    for split, rows in theirs.items():
        ours = SnippetDataset(prepared, split).__getitems__(list(range(len(rows))))
        assert ours["input_values"].dtype.is_floating_point and "waveforms" not in ours
        np.testing.assert_array_equal(ours["input_values"].numpy(), np.array(rows["input_values"], np.float32))
        assert ours["labels"].tolist() == list(rows["labels"])
        assert list(prepared.splits[split]["path"]) == list(rows["paths"])


def test_its_songs_are_those_of_one_path_by_the_artist_in_their_tags(dataset: Path) -> None:
    prepared = load_notebook(dataset)
    for split, n_songs in N_SONGS.items():
        rows = prepared.splits[split]
        assert len(set(rows["song"])) == 3 * n_songs and len(rows) == 9 * n_songs
        assert list(rows["artist"]) == [f"Artist of {Path(path).stem}" for path in rows["path"]]
        assert list(rows["start_seconds"]) == [0.0, 1.0, 2.0] * 3 * n_songs
        assert set(rows["song_samples"]) == {48_000}
    assert prepared.overlap == ""
    assert told(prepared) == (
        "12 songs (36) to train, 6 songs (18) to validate, 6 songs (18) to test;"
        " log-mels of 128 frames and 128 mels, as they are"
    )


def test_it_is_not_held_in_memory_and_goes_to_other_processes_without_its_log_mels(dataset: Path) -> None:
    loader = SnippetDataset(load_notebook(dataset), "train")
    assert len(pickle.dumps(loader)) < 30_000
    again = pickle.loads(pickle.dumps(loader)).__getitems__([7])["input_values"]
    np.testing.assert_array_equal(again.numpy(), loader.__getitems__([7])["input_values"].numpy())


def test_it_is_found_where_the_notebook_has_it(dataset: Path, tmp_path: Path) -> None:
    assert find_notebook(dataset) == find_notebook(dataset.parent) == dataset
    assert find_notebook(tmp_path) is None and find_notebook(tmp_path / "none") is None
    shutil.copytree(dataset, tmp_path / "a")
    assert find_notebook(tmp_path) == tmp_path / "a"
    shutil.copytree(dataset, tmp_path / "b")
    with pytest.raises(DatasetError, match=r"holds 2 datasets \(a, b\): name one of them by --data"):
        find_notebook(tmp_path)
    shutil.copytree(dataset, tmp_path / "music_lib_balanced")
    assert find_notebook(tmp_path) == tmp_path / "music_lib_balanced"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `prepare --format notebook` makes of a library: the folder of the DatasetDict."""
    root = tmp_path_factory.mktemp("exported")
    library = make_library(root / "music")
    make_dataset(library, root / "dataset", snippet_seconds=1.0)
    return write_dataset(root / "dataset")


def test_what_is_prepared_for_the_notebook_is_what_its_feature_extractor_gives(exported: Path) -> None:
    from transformers import ASTFeatureExtractor

    prepared, theirs = load_prepared(exported.parent), DatasetDict.load_from_disk(str(exported))
    assert json.loads((exported.parent / "genres.json").read_text()) == list(prepared.genres)
    extract = ASTFeatureExtractor(max_length=128)
    for split, rows in prepared.splits.items():
        assert list(theirs[split]["labels"]) == list(rows["label"])
        assert list(theirs[split]["paths"]) == list(rows["path"])
        waveforms = SnippetDataset(prepared, split).__getitems__(list(range(len(rows))))["waveforms"].numpy()
        expected = extract(list(waveforms / np.float32(2**15)), sampling_rate=16_000, return_tensors="np")
        found = np.array(theirs[split]["input_values"], np.float32)
        np.testing.assert_allclose(found, expected["input_values"], atol=2e-4)
        assert len(list(groupby(theirs[split]["paths"]))) == len(set(theirs[split]["paths"]))  # song after song
    assert load_notebook(exported).genres == prepared.genres


CELLS = Path(__file__).parents[1] / "data" / "notebook_cells.txt"
#: What the cells have that a test has not: a GPU, a network, keys, seaborn, hours.
ABSENT = {
    "from seaborn import heatmap": "heatmap = lambda *_, **__: None",
    "MIT/ast-finetuned-audioset-10-10-0.4593": "./begin",
    'evaluate.load("accuracy")': "metrics.Accuracy()",
    'evaluate.load("recall")': "metrics.Recall()",
    'evaluate.load("precision")': "metrics.Precision()",
    'evaluate.load("f1")': "metrics.F1()",
    'device="cuda"': 'device="cpu"',
    "# compute_loss_func": "compute_loss_func",
    'report_to="wandb"': 'report_to="none"',
    "batch_size = 64": "batch_size = 8",
    "num_train_epochs=10": "num_train_epochs=1, use_cpu=True, disable_tqdm=True",
    "fp16=True": "fp16=False",
}


def test_the_notebooks_cells_run_on_it(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    (tmp_path / "dataset").symlink_to(exported.parent)
    make_checkpoint(tmp_path / "begin", ("A", "B"), n_frames=128)
    cells = CELLS.read_text(encoding="utf-8")
    for theirs, ours in ABSENT.items():
        assert cells.count(theirs) == 1
        cells = cells.replace(theirs, ours)
    notebook: dict[str, Any] = {"metrics": metrics}
    exec(cells, notebook)
    assert notebook["genres"] == list(load_prepared(exported.parent).genres)
    assert {"test_mean_pooling_score", "test_voting_score", "test_f1", "test_jazz_a_accuracy"} <= set(
        notebook["results"]
    )
    assert "runs/ast_classifier/checkpoint-" in capsys.readouterr().out


def test_it_is_written_once_and_never_over_anybody_elses(exported: Path, dataset: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported.parent, tmp_path / "dataset"))
    before = {path: path.stat().st_mtime_ns for path in (folder / exported.name).rglob("*")}
    assert write_dataset(folder) == folder / exported.name
    assert {path: path.stat().st_mtime_ns for path in (folder / exported.name).rglob("*")} == before
    mark = folder / exported.name / "genre-tag.json"
    mark.write_text(mark.read_text().replace("fingerprint", "other"))  # of an earlier dataset
    write_dataset(folder)
    assert "fingerprint" in mark.read_text()
    shutil.rmtree(folder / exported.name)
    shutil.copytree(dataset, folder / exported.name)
    with pytest.raises(DatasetError, match="music_lib_balanced: was not made by genre-tag, and is left alone"):
        write_dataset(folder)
    assert not list(folder.glob("*.part"))


def test_a_dataset_that_is_made_again_leaves_no_log_mels_of_the_old_one(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported.parent, tmp_path / "dataset"))
    make_dataset(exported.parents[1] / "music", folder, force=True, snippet_seconds=1.0, names={"jazz": "Swing"})
    assert not (folder / exported.name).exists() and "Swing" in load_prepared(folder).genres


def test_a_disk_that_is_too_small_for_the_log_mels_is_told(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(exported.parent, tmp_path / "dataset"))
    shutil.rmtree(folder / exported.name)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(DatasetError, match=r"the log-mels need 0\.0 GB, and its disk has 0\.0 GB left"):
        write_dataset(folder)
    assert not (folder / exported.name).exists()


def rewritten(dataset: Path, root: Path, change: Callable[[DatasetDict], Any], genres: Any = GENRES) -> Path:
    """A copy of the dataset in which rows are others, and genres.json, where there is to be one."""
    folder = root / "dataset" / "music_lib_balanced"
    DatasetDict(change(DatasetDict.load_from_disk(str(dataset)))).save_to_disk(folder)
    if genres is not None:
        text = genres if isinstance(genres, str) else json.dumps(genres)
        (folder.parent / "genres.json").write_text(text, encoding="utf-8")
    return folder


def test_a_class_label_needs_no_genres_json(dataset: Path, tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["a", "b", "c"])
    folder = rewritten(dataset, tmp_path, lambda each: each.cast_column("labels", names), None)
    assert load_notebook(folder).genres == ("a", "b", "c")


def test_an_array_of_two_dimensions_is_read_like_lists_of_lists(dataset: Path, tmp_path: Path) -> None:
    kind = datasets.Array2D((128, 128), "float32")
    folder = rewritten(dataset, tmp_path, lambda each: each.cast_column("input_values", kind))
    one, other = (load_notebook(each).features["test"] for each in (folder, dataset))
    np.testing.assert_array_equal(one[4], other[4])


def test_songs_and_artists_in_several_splits_are_counted(dataset: Path, tmp_path: Path) -> None:
    def share(each: DatasetDict) -> dict[str, datasets.Dataset]:
        both = [each["test"], each["validate"].select(range(6))]
        return {**each, "test": datasets.concatenate_datasets(both)}

    prepared = load_notebook(rewritten(dataset, tmp_path, share))
    first = dataset.parents[1] / "music" / "validate00.flac"
    assert prepared.overlap == (
        f"2 songs and 2 artists in more than one split (the song '{first}' is in validate and test)"
    )
    assert f"{first} (test)" in prepared.splits["test"]["song"]  # a song of a log is in one split


def without(each: DatasetDict, split: str) -> dict[str, datasets.Dataset]:
    return {name: rows for name, rows in each.items() if name != split}


def test_a_dataset_without_test_is_fine(dataset: Path, tmp_path: Path) -> None:
    folder = rewritten(dataset, tmp_path, lambda each: without(each, "test"))
    assert list(load_notebook(folder).splits) == ["train", "validate"]


def cut_one(each: DatasetDict) -> dict[str, datasets.Dataset]:
    rows = each["validate"].to_dict()
    rows["input_values"][3] = rows["input_values"][3][:100]
    return {**each, "validate": datasets.Dataset.from_dict(rows, each["validate"].features)}


def with_column(name: str, value: Any) -> Callable[[DatasetDict], dict[str, datasets.Dataset]]:
    def change(each: DatasetDict) -> dict[str, datasets.Dataset]:
        return {split: rows.remove_columns(name).add_column(name, [value] * len(rows)) for split, rows in each.items()}

    return change


SPOILT: dict[str, tuple[Callable[[DatasetDict], Any], Any, str]] = {
    "no genres": (dict, None, "its labels are numbers, and no genres.json beside it says of which genres"),
    "damaged genres": (dict, "[", r"genres\.json: cannot be read"),
    "genres that are no list": (dict, {"Rock": 0}, r"genres\.json: is no list of the genres' names"),
    "genres twice": (dict, ["Rock", "Rock", "Jazz"], r"genres\.json: names 3 genres, 2 of them different"),
    "too few genres": (dict, ["Rock", "Jazz"], "its split train has the label 2, and 2 genres are named"),
    "labels that are names": (with_column("labels", "Rock"), GENRES, "its split train has the label 'Rock'"),
    "shapes that differ": (
        cut_one, GENRES, r"of one shape, \(frames, 128 mels\), and split validate has \(100, 128\) and \(128, 128\)"
    ),
    "one dimension": (with_column("input_values", [0.5, 0.25]), GENRES, r"\(frames, 128 mels\), and is \(2,\)"),
    "no numbers": (with_column("input_values", "loud"), GENRES, r"\(frames, 128 mels\), and is no list of numbers"),
    "empty split": (
        lambda each: {**each, "validate": each["validate"].select([])}, GENRES, "its split validate is empty"
    ),
    "no validate": (
        lambda each: without(each, "validate"), GENRES,
        "its splits have to be train, validate and perhaps test, and are 'train', 'test'",
    ),
    "unknown split": (lambda each: {**each, "dev": each["test"]}, GENRES, "and are 'train', 'validate', 'test', 'dev'"),
    "unknown columns": (
        lambda each: {split: rows.rename_columns({"paths": "file"}) for split, rows in each.items()}, GENRES,
        "its split train has no column paths, .*found: .*file",
    ),
    "no path": (with_column("paths", ""), GENRES, "paths has '': every snippet needs the path of its song"),
    "two labels": (with_column("paths", "a.mp3"), GENRES, "the song 'a.mp3' is labelled Classical and Jazz"),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILT)
def test_what_cannot_be_learned_from_is_one_line(dataset: Path, tmp_path: Path, what: str) -> None:
    change, genres, reason = SPOILT[what]
    folder = rewritten(dataset, tmp_path, change, genres)
    with pytest.raises(DatasetError, match=reason) as raised:
        load_notebook(folder)
    assert "\n" not in str(raised.value)


def test_a_damaged_folder_is_one_line(dataset: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset.parent, tmp_path / "dataset")) / dataset.name
    (folder / "train" / "data-00000-of-00001.arrow").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="cannot be read as a DatasetDict") as raised:
        load_notebook(folder)
    assert "\n" not in str(raised.value)
    shutil.rmtree(folder)
    DatasetDict.load_from_disk(str(dataset))["train"].save_to_disk(folder)
    with pytest.raises(DatasetError, match="one Dataset, without splits"):
        load_notebook(folder)


MANUAL = Path(__file__).parents[2] / "docs" / "notebook.md"


def test_every_cell_has_a_row_in_the_manual_and_every_row_a_test() -> None:
    text = MANUAL.read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    head, *rows = rows
    assert head == ["cell", "the notebook", "genre-tag", "", "test"] and all(len(row) == 5 for row in rows)
    cells = re.findall(r"^# (In \[\d+\])$", CELLS.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(cells) <= {row[0] for row in rows}
    assert all(re.match("equal|different", row[3]) for row in rows)
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) == len(rows) + 2
    for file, test in named:
        tree = ast.parse((MANUAL.parents[1] / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test
