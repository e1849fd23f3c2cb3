"""The data of reports."""

import csv
import io
import json
import os
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from tagger.report.comparison import compare_runs
from tagger.report.document import CSV_FIELDS, Column, Matrix, Report, Song, Songs, Table, report_csv, report_json
from tagger.report.run import report_run
from tests.support.reports import example
from tests.support.runs import run_by_hand, seeded, write_run


def test_a_folded_confusion_keeps_the_genres_of_the_most_songs_and_every_song() -> None:
    counts = np.array([[5, 1, 2, 0], [0, 0, 1, 0], [3, 0, 9, 1]])
    matrix = Matrix("m", "Title", ("Rock", "Polka", "Jazz"), ("Rock", "Fado", "Jazz", "unsure"), counts, "Note")
    folded = matrix.folded(2)
    assert folded.references == ("Rock", "Jazz", "1 other references")
    assert folded.predicted == ("Rock", "Jazz", "2 other predictions")
    assert folded.counts.tolist() == [[5, 2, 1], [3, 9, 1], [0, 1, 0]]
    assert (folded.key, folded.title, folded.note) == ("m", "Title", "Note")
    assert matrix.folded(4) is matrix


def test_a_side_that_has_room_is_left_as_it_is() -> None:
    matrix = Matrix("m", "m", ("a", "b"), ("a", "b", "c"), np.array([[1, 0, 0], [0, 2, 3]]))
    folded = matrix.folded(2)
    assert folded.references == ("b", "1 other references")
    assert folded.predicted == ("b", "c", "1 other predictions")
    assert folded.counts.tolist() == [[2, 3, 0], [0, 0, 1]]


SCHEMA = json.loads(resources.files("tagger.report").joinpath("report.schema.json").read_text(encoding="utf-8"))
TYPES = {"text": str, "count": int, "share": float, "number": float, "seconds": float, "genres": list}


@pytest.fixture
def reports(tmp_path: Path) -> list[Report]:
    a, b = (write_run(tmp_path / name, seeded(("Blues", "Jazz"), 60, seed=seed)) for name, seed in (("a", 1), ("b", 2)))
    return [report_run(run_by_hand(tmp_path / "run")), compare_runs(a, b), example(20, 30), Report("run", "", (), ())]


def read(report: Report) -> dict[str, Any]:
    return json.loads(report_json(report), parse_constant=pytest.fail)


def errors(values: object) -> list[str]:
    return [error.json_path for error in Draft202012Validator(SCHEMA).iter_errors(values)]


# ---- JSON


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_report_is_as_the_schema_says(reports: list[Report]) -> None:
    for report in reports:
        assert errors(read(report)) == []
        assert report_json(report).isascii() and report_json(report).endswith("}\n")


def test_values_are_of_the_kind_of_their_column(reports: list[Report]) -> None:
    kinds = set()
    for section in (section for report in reports for section in read(report)["sections"].values()):
        for row in section.get("rows", ()):
            assert list(row) == [column["name"] for column in section["columns"]]
            for column in section["columns"]:
                value = row[column["name"]]
                assert isinstance(value, TYPES[column["kind"]]) or value is None
                assert column["kind"] != "share" or value is None or 0 <= value <= 1
                kinds.add(column["kind"])
    assert kinds == set(TYPES)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ((), []),
        (("version",), 2),
        (("kind",), "other"),
        (("title",), None),
        (("facts", 0), {"name": "x"}),
        (("facts", 0, "value"), 1),
        (("sections", "No Key"), {}),
        (("sections", "confusion", "type"), "table"),
        (("sections", "confusion", "counts", 0, 0), 0.5),
        (("sections", "confusion", "more"), 1),
        (("sections", "genres", "columns"), []),
        (("sections", "genres", "columns", 0, "kind"), "colour"),
        (("sections", "genres", "rows", 0), ["Blues"]),
        (("sections", "genres", "rows", 0, "genre"), {}),
        (("sections", "songs", "songs", 0, "confidence"), 1.5),
        (("sections", "songs", "songs", 0, "ranking", 0), ["Blues", 0.5]),
        (("sections", "songs", "songs", 0, "starts_seconds"), [-1]),
        (("sections", "songs", "songs", 0, "path"), None),
    ],
)
def test_the_schema_refuses_what_is_otherwise(tmp_path: Path, keys: tuple[str | int, ...], value: object) -> None:
    values: Any = {"": read(report_run(run_by_hand(tmp_path)))}
    place = values
    for key in ("", *keys)[:-1]:
        place = place[key]
    place[("", *keys)[-1]] = value
    assert errors(values[""])


def test_json_has_everything(tmp_path: Path) -> None:
    values = read(report_run(run_by_hand(tmp_path)))
    assert {"name": "snippet accuracy", "value": "0.667"} in values["facts"]
    sections = values["sections"]
    assert list(sections) == [
        "confusion", "confused_pairs", "genres", "aggregations", "reliability", "coverage", "songs"
    ]  # fmt: skip
    assert sections["confusion"]["counts"] == [[3, 1, 0, 0], [0, 2, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert sections["genres"]["rows"][1] == {
        "genre": "Jazz", "precision": 0.5, "recall": 1.0, "F1": pytest.approx(2 / 3), "songs": 2, "predicted": 4
    }  # fmt: skip
    assert sections["genres"]["rows"][3]["recall"] is None
    assert len(sections["songs"]["songs"]) == 8
    assert sections["songs"]["songs"][0] == {
        "path": "/music/r1.flac",
        "status": "wrong",
        "reference": ["Rock"],
        "predicted": ["Jazz"],
        "confidence": pytest.approx(0.92),
        "ranking": [
            {"genre": genre, "confidence": pytest.approx(share)}
            for genre, share in (("Jazz", 0.92), ("Blues", 0.04), ("Rock", 0.03), ("Waltz", 0.01))
        ],
        "starts_seconds": [10.0, 70.0, 130.0],
        "reason": "",
    }


def test_paths_that_are_not_utf_8_come_back(tmp_path: Path) -> None:
    path = os.fsdecode(b"/m/caf\xe9\n\x1b.mp3")
    song = replace(example(3, 1).sections[-1].songs[0], path=path)
    (read_song,) = read(Report("library", "T", (), (Songs("songs", "S", (song,)),)))["sections"]["songs"]["songs"]
    assert os.fsencode(read_song["path"]) == b"/m/caf\xe9\n\x1b.mp3"


def test_a_number_that_is_none_is_a_bug() -> None:
    table = Table("t", "T", (Column("x", "share"),), ((float("nan"),),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        report_json(Report("run", "T", (), (table,)))


# ---- CSV


def rows(report: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(report_csv(report), newline="")))


def test_csv_has_a_row_for_each_song(tmp_path: Path) -> None:
    found = rows(report_run(run_by_hand(tmp_path)))
    assert len(found) == 8 and tuple(found[0]) == CSV_FIELDS
    assert found[0] == {
        "path": "/music/r1.flac",
        "status": "wrong",
        "reference": "Rock",
        "predicted": "Jazz",
        "best": "Jazz",
        "confidence": "0.92",
        "reason": "",
        "sections": "songs",
    }
    assert found[3]["reason"] == "not written: below 0.5"


def test_confidences_in_csv_have_four_digits() -> None:
    song = Song("/m/a", (), ("Jazz",), 0.123456, (("Jazz", 0.123456),), (), "untagged")
    assert rows(Report("run", "T", (), (Songs("s", "S", (song,)),)))[0]["confidence"] == "0.1235"


def test_a_song_of_several_sections_has_one_row() -> None:
    one, two = (Song(f"/m/{name}", ("Rock", "Pop"), (), 0.5, (("Jazz", 0.5),), (), "unsure") for name in "ab")
    failed = Song("/m/c", (), (), None, (), (), "failed", "not audio")
    matrix = Matrix("m", "M", ("A",), ("A",), np.ones((1, 1), int))
    sections = (Songs("first", "", (one, two)), matrix, Songs("second", "", (two, failed)), Songs("third", "", (two,)))
    found = rows(Report("library", "T", (), sections))
    assert [(row["path"], row["sections"]) for row in found] == [
        ("/m/a", "first"), ("/m/b", "first; second; third"), ("/m/c", "second")
    ]  # fmt: skip
    assert (found[0]["reference"], found[0]["predicted"], found[0]["best"]) == ("Rock; Pop", "", "Jazz")
    assert (found[2]["confidence"], found[2]["best"], found[2]["reason"]) == ("", "", "not audio")


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "\ta", "=cmd|' /C calc'!A0"])
def test_no_cell_starts_a_formula(name: str) -> None:
    song = Song(name, (name, name), (name,), 0.5, ((name, 0.5),), (), name, name)
    (row,) = rows(Report("run", "T", (), (Songs("s", "S", (song,)),)))
    for field in ("path", "status", "reference", "predicted", "best", "reason"):
        assert row[field].startswith("'" + name)
        assert not [part for part in row[field].split(";") if part.strip().startswith(("=", "+", "-", "@"))]


def test_names_that_are_no_text_can_be_written() -> None:
    song = replace(example(3, 1).sections[-1].songs[0], path=os.fsdecode(b"/m/caf\xe9.mp3"))
    data = report_csv(Report("run", "T", (), (Songs("s", "S", (song,)),))).encode("utf-8")
    assert b"/m/caf\\udce9.mp3" in data


def test_a_report_without_songs_is_a_head() -> None:
    assert report_csv(Report("run", "T", (), ())) == ",".join(CSV_FIELDS) + "\n"
