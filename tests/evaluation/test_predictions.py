"""The log of a run gives back what was put in, to the bit, and names the line of whatever is wrong."""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagger.errors import RunError
from tagger.evaluation.predictions import FILE_NAME, Predictions, read_predictions, write_predictions
from tagger.models.head import GenreHead
from tagger.pipeline.aggregate import decide

GENRES = ("Blues", "Hip-Hop", "Rock")
HEAD = {"format": "genre-tag predictions", "version": 1, "genres": ["Blues", "Rock"]}
HEAD |= {"temperature": 1.5, "min_confidence": 0.6}
ROW = {"split": "test", "song": "a1", "path": "/m/a.mp3", "artist": "A", "start_seconds": 1.5, "reference": "Rock"}
ROW |= {"logits": [0.5, -2]}


def make(n_songs: int = 12, n_snippets: int = 3, **given: Any) -> Predictions:
    """Seeded predictions of songs of all splits, the snippets of a song not side by side."""
    random = np.random.default_rng(5)
    songs = np.tile(np.arange(n_songs), n_snippets)

    def texts(*options: str) -> np.ndarray:
        return np.array([options[song % len(options)] for song in songs], object)

    columns = {
        "genres": GENRES,
        "temperature": 1.25,
        "min_confidence": 0.55,
        "splits": texts("train", "validate", "test", "test"),
        "songs": np.array([f"{song:032x}" for song in songs], object),
        "paths": texts("/m/a b.mp3", os.fsdecode(b"/m/caf\xe9.mp3"), "/m/\u30b8\n\u202e\U0001f3b5.flac"),
        "artists": texts("", "Björk", 'a "quoted" \\ name'),
        "starts_seconds": random.uniform(0, 300, len(songs)),
        "labels": songs % 3,
        "logits": random.normal(scale=3, size=(len(songs), 3)).astype(np.float32),
    }
    return Predictions(**columns | given)


def assert_equal(one: Predictions, other: Predictions) -> None:
    for field in dataclasses.fields(Predictions):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


@pytest.mark.parametrize("given", [{}, {"temperature": None, "min_confidence": None}, {"min_confidence": math.inf}])
def test_a_log_gives_back_every_column(tmp_path: Path, given: dict[str, Any]) -> None:
    predictions = make(**given)
    write_predictions(tmp_path / FILE_NAME, predictions)
    assert_equal(read_predictions(tmp_path / FILE_NAME), predictions)


def test_every_float32_comes_back_to_the_bit(tmp_path: Path) -> None:
    bits = np.random.default_rng(6).integers(0, 2**32, 60_000, dtype=np.uint32).view(np.float32)
    edges = np.array([0.0, -0.0, np.finfo(np.float32).tiny, 1e-45, 1 / 3], np.float32)
    kept = np.concatenate([edges, bits[np.isfinite(bits) & (np.abs(bits) < 1e38)]])
    logits = kept[: len(kept) // 3 * 3].reshape(-1, 3)
    predictions = make(n_songs=len(logits), n_snippets=1, logits=logits)
    write_predictions(tmp_path / "log", predictions)
    assert read_predictions(tmp_path / "log").logits.tobytes() == np.where(logits == 0, 0, logits).tobytes()


def test_what_is_decided_from_a_log_is_what_was_decided_from_the_network(tmp_path: Path) -> None:
    predictions = make(n_songs=200)
    write_predictions(tmp_path / "log", predictions)
    read = read_predictions(tmp_path / "log")
    head = GenreHead(GENRES, "softmax", temperature=1.25, thresholds=(0.55,) * 3)
    decisions = [
        [decide(log.logits[log.songs == song], head) for song in np.unique(log.songs)] for log in (predictions, read)
    ]
    assert decisions[0] == decisions[1]
    assert 20 < sum(bool(decision.genres) for decision in decisions[0]) < 180


def test_the_file_is_lines_of_strict_ascii_json(tmp_path: Path) -> None:
    write_predictions(tmp_path / "log", make())
    lines = (tmp_path / "log").read_bytes().decode("ascii").split("\n")
    assert lines.pop() == ""
    head, *rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert head == HEAD | {"genres": list(GENRES), "temperature": 1.25, "min_confidence": 0.55}
    assert len(rows) == 36
    assert set(map(frozenset, rows)) == {frozenset(ROW)}


def test_rows_of_a_song_share_their_texts(tmp_path: Path) -> None:
    write_predictions(tmp_path / "log", make())
    read = read_predictions(tmp_path / "log")
    assert read.songs[0] == read.songs[12]
    assert read.songs[0] is read.songs[12]
    assert read.paths[0] is read.paths[3]


def test_a_split_has_its_rows_in_their_order() -> None:
    predictions = make()
    validate = predictions.of_split("validate")
    rows = [row for row in range(36) if row % 12 % 4 == 1]
    np.testing.assert_array_equal(validate.logits, predictions.logits[rows])
    assert list(validate.paths) == [predictions.paths[row] for row in rows]
    assert set(validate.splits) == {"validate"}
    assert (validate.genres, validate.temperature) == (GENRES, 1.25)
    assert len(validate.of_split("test").labels) == 0
    with pytest.raises(ValueError, match="'valid'"):
        predictions.of_split("valid")


@pytest.mark.parametrize(
    "given",
    [
        {"labels": np.zeros(35, np.int64)},
        {"logits": np.zeros((36, 2), np.float32)},
        {"logits": np.full((36, 3), np.nan, np.float32)},
        {"starts_seconds": np.full(36, np.inf)},
        {"labels": np.full(36, 3)},
        {"labels": np.full(36, -1)},
    ],
)
def test_columns_that_do_not_fit_are_a_bug(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        make(**given)


@pytest.mark.parametrize("culprit", ["os.fsync", "os.replace"])
def test_a_write_that_fails_leaves_the_old_log_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, culprit: str
) -> None:
    write_predictions(tmp_path / "log", make())
    old = (tmp_path / "log").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(culprit, fail)
    with pytest.raises(RunError, match="No space left") as caught:
        write_predictions(tmp_path / "log", make(n_songs=2))
    assert caught.value.path == tmp_path / "log"
    assert (tmp_path / "log").read_bytes() == old
    assert list(tmp_path.iterdir()) == [tmp_path / "log"]


def test_an_interrupted_write_leaves_the_old_log_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_predictions(tmp_path / "log", make())
    assert not list(tmp_path.iterdir())


def log(path: Path, *lines: object) -> Path:
    """A file of these lines, JSON unless they are text or bytes."""
    as_bytes = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    path.write_bytes(b"".join(line + b"\n" for line in as_bytes))
    return path


def test_numbers_may_be_whole(tmp_path: Path) -> None:
    read = read_predictions(log(tmp_path / "log", HEAD | {"temperature": 1, "min_confidence": 0}, ROW))
    assert read.logits.tolist() == [[0.5, -2.0]]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "empty"),
        ([HEAD], "no line after the first"),
        (["ID3\x04"], "line 1: no predictions log"),
        ([b"\xff\xfe"], "line 1: no predictions log"),
        (["[" * 100_000], "line 1: no predictions log"),
        (["[]"], "line 1: no predictions log"),
        ([{"version": 1}], "line 1: no predictions log"),
        ([HEAD | {"version": 2}, ROW], "line 1: version 2 where this genre-tag reads 1: update genre-tag"),
        ([HEAD | {"version": 0}, ROW], "line 1: version 0 where this genre-tag reads 1: train again"),
        ([HEAD | {"version": None}, ROW], "line 1: version None where this genre-tag reads 1: train again"),
        ([HEAD | {"genres": []}, ROW], "line 1: genres must be a list of names"),
        ([HEAD | {"genres": "Rock"}, ROW], "line 1: genres must be a list of names"),
        ([HEAD | {"genres": ["Rock", 1]}, ROW], "line 1: genres must be a list of names"),
        ([HEAD | {"genres": ["Rock", "Rock"]}, ROW], "line 1: genres names one twice"),
        ([HEAD | {"temperature": 0}, ROW], "line 1: temperature 0 must"),
        ([HEAD | {"temperature": "hot"}, ROW], "line 1: temperature 'hot' must"),
        ([json.dumps(HEAD | {"temperature": math.nan}), ROW], "line 1: temperature nan must"),
        ([HEAD | {"min_confidence": 1.5}, ROW], "line 1: min_confidence 1.5 must"),
        ([HEAD | {"min_confidence": {"Rock": 0.5}}, ROW], "line 1: min_confidence {'Rock': 0.5} must"),
        ([HEAD, ROW, "{"], "line 3: not JSON"),
        ([HEAD, ROW, ""], "line 3: not JSON"),
        ([HEAD, ROW, b'{"split": "\xff"}'], "line 3: not JSON"),
        ([HEAD, ROW, "[" * 100_000], "line 3: not JSON"),
        ([HEAD, json.dumps(ROW)[:40]], "line 2: not JSON"),
        ([HEAD, [1, 2]], "line 2: must have split, song, path, artist, reference, start_seconds, logits"),
        ([HEAD, {"split": "test"}], "line 2: must have split, song"),
        ([HEAD, ROW | {"path": None}], "line 2: split, song, path, artist, reference must be text"),
        ([HEAD, ROW | {"split": "valid"}], "line 2: split 'valid' is none of train, validate, test"),
        ([HEAD, ROW | {"reference": "Jazz"}], "line 2: reference 'Jazz' is no genre of line 1"),
        ([HEAD, ROW, ROW | {"reference": "Blues"}], "line 3: song a1 is test Blues here, test Rock above"),
        ([HEAD, ROW, ROW | {"split": "train"}], "line 3: song a1 is train Rock here, test Rock above"),
        ([HEAD, ROW, ROW | {"logits": [1.0]}], "line 3: logits must be a list of 2 numbers"),
        ([HEAD, ROW | {"logits": 1.0}], "line 2: logits must be a list of 2 numbers"),
        ([HEAD, ROW | {"logits": [1.0, "2"]}], "line 2: start_seconds and logits must be finite numbers"),
        ([HEAD, ROW | {"logits": [1.0, True]}], "line 2: start_seconds and logits must be finite numbers"),
        ([HEAD, ROW, ROW | {"logits": [1.0, math.nan]}], "line 3: start_seconds and logits must be finite numbers"),
        ([HEAD, ROW | {"logits": [1.0, -math.inf]}], "line 2: start_seconds and logits must be finite numbers"),
        ([HEAD, ROW | {"logits": [1.0, 1e39]}], "line 2: start_seconds and logits must be finite numbers"),
        ([HEAD, ROW | {"logits": [1.0, 10**400]}], "line 2: start_seconds and logits must be finite numbers"),
        ([HEAD, ROW | {"start_seconds": math.nan}], "line 2: start_seconds and logits must be finite numbers"),
        ([HEAD, ROW | {"start_seconds": None}], "line 2: start_seconds and logits must be finite numbers"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, lines: list[object], reason: str) -> None:
    path = log(tmp_path / "log", *lines)
    with pytest.raises(RunError) as caught:
        read_predictions(path)
    assert caught.value.path == path
    assert caught.value.reason.startswith(reason)
    assert "\n" not in str(caught.value)


def test_a_missing_log_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No such file"):
        read_predictions(tmp_path / "log")
    with pytest.raises(RunError, match="No such file"):
        write_predictions(tmp_path / "nowhere" / "log", make())
