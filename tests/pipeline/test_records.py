"""Records for other programs: complete, streamed, harmless."""

import csv
import json
import os
from pathlib import Path

import pytest

from tagger.errors import OutputError
from tagger.pipeline.aggregate import Decision
from tagger.pipeline.records import csv_rows, json_lines
from tagger.pipeline.run import SongResult

RESULT = SongResult(
    Path("a.mp3"),
    "tagged",
    old=("Pop",),
    new=("Jazz", "Blues"),
    decision=Decision(("Jazz", "Blues"), (("Jazz", 0.81234), ("Blues", 0.1)), ""),
    written=True,
    duration_seconds=61.23456,
    starts_seconds=(10.0, 20.5),
    scale="softmax",
    cached=True,
)
UNCLASSIFIED = SongResult(Path(os.fsdecode(b"caf\xe9\n.mp3")), "failed", reason="empty file")


def test_json_lines_hold_everything_and_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with json_lines(str(path)) as write:
        write(RESULT)
        assert json.loads(path.read_text()) == {  # already there, before the file is closed
            "path": "a.mp3",
            "status": "tagged",
            "written": True,
            "old": ["Pop"],
            "new": ["Jazz", "Blues"],
            "predicted": "Jazz",
            "confidence": 0.8123,
            "scale": "softmax",
            "scores": {"Jazz": 0.8123, "Blues": 0.1},
            "reason": "",
            "duration_seconds": 61.235,
            "starts_seconds": [10.0, 20.5],
            "cached": True,
        }
        write(UNCLASSIFIED)
    assert path.read_bytes().isascii()
    record = json.loads(path.read_text().splitlines()[1])
    assert os.fsencode(record["path"]) == b"caf\xe9\n.mp3"
    assert record["predicted"] is record["confidence"] is record["duration_seconds"] is None


def test_csv_rows_read_back(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with csv_rows(str(path)) as write:
        write(RESULT)
        write(UNCLASSIFIED)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["new"] == "Jazz; Blues"
    assert rows[0]["confidence"] == "0.8123"
    assert (rows[0]["cached"], rows[1]["cached"]) == ("True", "False")
    assert rows[1]["reason"] == "empty file"
    assert rows[1]["path"] == "caf\\udce9\n.mp3"


@pytest.mark.parametrize("name", ["=1+1.mp3", "+a.mp3", "-a.mp3", "@a.mp3", "\ta.mp3"])
def test_csv_cells_are_no_formulas(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out.csv"
    with csv_rows(str(path)) as write:
        write(SongResult(Path(name), "unsure", old=(name,), reason=name))
    row = next(csv.DictReader(path.open(newline="", encoding="utf-8")))
    assert row["path"] == row["old"] == row["reason"] == "'" + name


@pytest.mark.parametrize("name", ["song.mp3", "list.m3u8", "x.MKA"])
def test_a_record_never_replaces_music(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"music")
    with pytest.raises(OutputError, match="music file or a playlist"), json_lines(str(path)):
        pass
    assert path.read_bytes() == b"music"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as raised, csv_rows(str(tmp_path / "no" / "out.csv")):
        pass
    assert raised.value.path == tmp_path / "no" / "out.csv"
    assert raised.value.reason == "No such file or directory"
