"""Tables of soft labels: which row is of which snippet, what its numbers become, and what is no such table."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from tests.support.checkpoints import GENRES
from training.dataset.soft_labels import SoftLabels, digest, read_soft_labels
from training.errors import DatasetError

SONGS = {"song": ["a", "a", "b"], "start_seconds": [0.0, 10.0, 5.0]}
SHARES = {"Rock": [0.1, 0.0, 0.2], "Jazz": [0.1, 0.0, 0.2], "Classical": [0.2, 1.0, 0.4]}


def write(path: Path, columns: dict[str, Any]) -> Path:
    (parquet.write_table if path.suffix == ".parquet" else csv.write_csv)(pa.table(columns), path)
    return path


def read(path: Path, columns: dict[str, Any]) -> SoftLabels:
    return read_soft_labels(write(path, columns), GENRES)


def test_each_snippet_gets_the_nearest_row_of_its_song(tmp_path: Path) -> None:
    soft = read(tmp_path / "soft.csv", SONGS | {"class": [1, 2, 3]})
    songs, starts = ["a", "a", "a", "b", "c"], [0.0, 5.1, 90.0, 0.0, 0.0]
    assert soft.nearest(songs, starts).tolist() == [0, 1, 1, 2, -1]
    assert soft.nearest(songs, starts, within=5.0).tolist() == [0, 1, -1, 2, -1]
    assert soft.nearest(songs, starts, within=4.8).tolist() == [0, -1, -1, -1, -1]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_shares_of_genres_come_to_1_in_the_order_of_the_dataset(tmp_path: Path, suffix: str) -> None:
    soft = read(tmp_path / f"soft{suffix}", SONGS | SHARES)
    np.testing.assert_allclose(soft.genres, [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.5, 0.25, 0.25]], rtol=1e-6)
    assert soft.classes.size == 0 and soft.song_column == "song"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_other_columns_are_standardised_and_constant_ones_dropped(tmp_path: Path, suffix: str) -> None:
    classes = {"logit": [-3.0, 0.0, 3.0], "same": [7.0, 7.0, 7.0], "count": [10, 10, 40]}
    soft = read(tmp_path / f"soft{suffix}", SONGS | SHARES | classes)
    expected = [[-1.2247, -0.7071], [0.0, -0.7071], [1.2247, 1.4142]]
    np.testing.assert_allclose(soft.classes.astype(float), expected, atol=1e-3)
    assert soft.classes.dtype == np.float16 and soft.genres.shape == (3, 3)


def test_the_song_counts_where_there_is_a_path_too_and_stays_text(tmp_path: Path) -> None:
    paths = {"path": ["x.mp3", "x.mp3", "y.mp3"]}
    starts = {"start_seconds": [0.0, 10.0, 5.0], "class": [1, 2, 3]}
    by_path = read(tmp_path / "paths.csv", paths | starts)
    assert by_path.song_column == "path" and by_path.nearest(["y.mp3"], [0.0]).tolist() == [2]
    both = read(tmp_path / "both.csv", paths | {"song": ["0012", "0012", "34e5"]} | starts)
    assert both.song_column == "song" and both.nearest(["0012", "34e5"], [9.0, 9.0]).tolist() == [1, 2]
    assert both.classes.shape == (3, 1)  # neither name is a class


def test_a_batch_says_what_is_known(tmp_path: Path) -> None:
    soft = read(tmp_path / "soft.csv", SONGS | SHARES | {"class": [-3.0, 0.0, 3.0]})
    batch = soft.batch(np.array([1, -1, 2]))
    assert batch["soft_known"].tolist() == [[1.0], [0.0], [1.0]]
    assert batch["soft_genres"][[0, 2]].tolist() == soft.genres[1:].tolist()
    assert batch["soft_classes"][[0, 2]].tolist() == soft.classes[1:].tolist()
    assert {values.dtype for values in batch.values()} == {np.dtype(np.float32)}
    genres_only = read(tmp_path / "genres.csv", SONGS | SHARES)
    assert set(genres_only.batch(np.array([0]))) == {"soft_known", "soft_genres"}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"start_seconds": [0.0], "class": [1]}, "needs the columns song .or path. and start_seconds"),
        ({"song": ["a"], "class": [1]}, "start_seconds.*found: song, class"),
        (SONGS, "nothing to learn from"),
        (SONGS | {"class": [1, 1, 1]}, "nothing to learn from"),
        (SONGS | {"class": ["high", "low", "low"]}, "column 'class' is not all finite numbers"),
        (SONGS | {"class": [1.0, None, 2.0]}, "column 'class' is not all finite numbers"),
        (SONGS | {"class": [1.0, float("inf"), 2.0]}, "column 'class' is not all finite numbers"),
        (
            {"song": ["a", "b"], "start_seconds": ["first", "last"], "class": [1, 2]},
            "column 'start_seconds' is not all finite numbers",
        ),
        (SONGS | {name: SHARES[name] for name in ("Rock", "Jazz")}, "but not for Classical: add these, or rename"),
        (SONGS | SHARES | {"Rock": [0.1, 1.5, 0.2]}, "from 0 to 1"),
        (SONGS | SHARES | {"Rock": [0.1, -0.5, 0.2]}, "from 0 to 1"),
        (SONGS | SHARES | {"Classical": [0.1, 0.0, 0.2]}, "not all 0 in a row"),
        ({"song": pa.array([], pa.string()), "start_seconds": pa.array([], pa.float64())}, "has no rows"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_cannot_be_learned_from_is_one_line(tmp_path: Path, columns: dict, reason: str, suffix: str) -> None:
    path = write(tmp_path / f"soft{suffix}", columns)
    with pytest.raises(DatasetError, match=reason) as raised:
        read_soft_labels(path, GENRES)
    assert raised.value.path == path and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["soft.csv", "soft.parquet", "none.csv"])
def test_a_file_that_is_no_table_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "soft.csv").write_text("")
    (tmp_path / "soft.parquet").write_text("song,start_seconds,class\na,0,1\n")
    with pytest.raises(DatasetError, match="no table of soft labels") as raised:
        read_soft_labels(tmp_path / name, GENRES)
    assert "\n" not in str(raised.value)


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "soft.csv").write_text("song,start_seconds,class,class\na,0,1,2\nb,0,2,3\n")
    with pytest.raises(DatasetError, match="no name twice"):
        read_soft_labels(tmp_path / "soft.csv", GENRES)


def test_the_digest_is_of_the_whole_file(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes((1 << 20) + 3)
    (tmp_path / "soft.csv").write_bytes(data)
    assert digest(tmp_path / "soft.csv") == hashlib.sha256(data).hexdigest()
    with pytest.raises(DatasetError, match="No such file"):
        digest(tmp_path / "none.csv")
