"""A plan is read as it was written, as a spreadsheet saved it, and what is broken is named by its line."""

import csv
import io
import json
import os
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tagger.errors import OutputError
from tagger.pipeline.aggregate import Decision
from tagger.pipeline.run import SongResult
from tagger.review.plan import (
    ACCEPT,
    FIELDS,
    REJECT,
    UNDECIDED,
    Row,
    join_genres,
    marked,
    read_plan,
    row_of,
    split_genres,
    unmarked,
    write_plan,
)
from tests.support.reports import HOSTILE

IDENTITY = bytes(range(32))
ROW = Row(
    "/music/Ann/One.mp3", IDENTITY, ("Pop",), ("Rock", "Folk; World"), 0.8125, "Jazz", 0.0625, ACCEPT, (1.5, 20.25)
)


def rows_of(path: Path) -> list[Row]:
    plan = read_plan(path)
    assert plan.broken == []
    return [replace(row, line=0) for row in plan.rows]


# Written and read again


@pytest.mark.parametrize("name", ["plan.csv", "plan.jsonl"])
def test_a_plan_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    decisions = (UNDECIDED, ACCEPT, REJECT, ("Jazz", "Rock; Roll", "AC\\DC", "=1+1"))
    rows = [replace(ROW, path=f"/music/{n}.mp3", decision=decision) for n, decision in enumerate(decisions)]
    rows.append(Row("/music/bare.mp3", IDENTITY))
    write_plan(tmp_path / name, rows)
    assert rows_of(tmp_path / name) == rows


@pytest.mark.parametrize("name", ["plan.csv", "plan.jsonl"])
def test_names_of_all_kinds_come_back(tmp_path: Path, name: str) -> None:
    names = [
        *HOSTILE,
        "=cmd|' /C calc'!A0",
        "'=x",
        "a;=1",
        "a;'=1",
        "\u2028 line",
        "\x0b\x0c\x85",
        "a\r\nb",
        "-1",
        "\t-x",
    ]
    rows = [replace(ROW, path=f"/music/{each.replace('/', '_')}") for each in names if "\0" not in each]
    rows += [replace(ROW, path=f"/music/{each}/x", old=(each,)) for each in ("=1", "+1", "'@x", "@x")]
    write_plan(tmp_path / name, rows)
    assert rows_of(tmp_path / name) == rows


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.csv", [replace(ROW, old=("=1+1",), second="@SUM(A1)", decision=("+1", "-1"))])
    cells = next(csv.DictReader(io.StringIO((tmp_path / "plan.csv").read_text("utf-8-sig"))))
    assert (cells["old"], cells["second"], cells["decision"]) == ("'=1+1", "'@SUM(A1)", "'+1;' -1")


def test_marks_are_taken_away_as_they_were_put() -> None:
    chance = random.Random(0)
    for _ in range(20_000):
        text = "".join(chance.choices("=+'; |\t\n\ra", k=chance.randrange(8)))
        assert unmarked(marked(text)) == text


def test_genres_come_back_from_a_cell() -> None:
    chance = random.Random(0)
    for _ in range(20_000):
        genres = tuple("".join(chance.choices("a\\; ", k=4)).strip() or "a" for _ in range(3))
        assert split_genres(join_genres(genres)) == genres
    assert split_genres(" Jazz;Blues ;; ") == ("Jazz", "Blues")


def test_a_spreadsheet_knows_the_encoding(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.csv", [ROW])
    assert (tmp_path / "plan.csv").read_bytes().startswith(b"\xef\xbb\xbfpath,")


# As spreadsheets save it


def saved(
    rows: list[Row], tmp_path: Path, *, delimiter: str = ";", end: str = "\r\n", quote: int = csv.QUOTE_ALL
) -> str:
    """The text of a plan as LibreOffice saves it, which read it before."""
    write_plan(tmp_path / "made.csv", rows)
    with (tmp_path / "made.csv").open(encoding="utf-8-sig", newline="") as file:
        cells = list(csv.reader(file))
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quote).writerows(cells)  # type: ignore[call-overload]
    return text.getvalue()


ROWS = [
    replace(ROW, path="/music/Ä \"quoted\"; here, 'there'.mp3", decision=("Jazz", "Blues")),
    replace(ROW, path="/music/two\nlines.mp3", decision=REJECT),
    replace(ROW, path="/music/=1.mp3", old=("=1",), decision=UNDECIDED),
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quote", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
def test_what_spreadsheets_save_is_read(tmp_path: Path, encoding: str, delimiter: str, end: str, quote: int) -> None:
    text = saved(ROWS, tmp_path, delimiter=delimiter, end=end, quote=quote)
    (tmp_path / "plan.csv").write_bytes(text.encode(encoding))
    assert rows_of(tmp_path / "plan.csv") == ROWS


def test_columns_may_be_moved_added_and_left_out(tmp_path: Path) -> None:
    names = ("note", "identity", "Decision", "old", "proposed", "path")
    cells = ("mine", IDENTITY.hex().upper(), " Accept ", "", "Rock", "/music/a.mp3")
    (tmp_path / "plan.csv").write_text("sep=;\r\n" + ";".join(names) + "\r\n" + ";".join(cells) + "\r\n\r\n;;;;;\r\n")
    assert rows_of(tmp_path / "plan.csv") == [Row("/music/a.mp3", IDENTITY, (), ("Rock",), decision=ACCEPT)]


def test_numbers_of_other_languages_are_read(tmp_path: Path) -> None:
    text = saved([ROW], tmp_path).replace("0.8125", "0,8125")
    (tmp_path / "plan.csv").write_text(text)
    assert rows_of(tmp_path / "plan.csv") == [ROW]


def test_an_apostrophe_that_a_spreadsheet_took_is_not_missed(tmp_path: Path) -> None:
    row = replace(ROW, old=("=1",))
    (tmp_path / "plan.csv").write_text(saved([row], tmp_path).replace("'=1", "=1"))
    assert rows_of(tmp_path / "plan.csv") == [row]


def test_letters_that_are_no_utf_8_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "plan.csv"
    path.write_bytes(saved(ROWS, tmp_path).encode("cp1252"))
    with pytest.raises(OutputError, match="line 2 is not UTF-8: save it as CSV again, in the character set UTF-8"):
        read_plan(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "its first line has no column decision, identity, old, path, proposed"),
        (b"path,status\n/a,kept\n", "no column decision, identity, old, proposed"),
        ("x".encode("utf-16")[:-1], "is cut off in the middle of a character"),
        (b"\xff\xd8\xff\xe0 a picture", "line 1 is not UTF-8"),
    ],
)
def test_what_is_no_plan_is_said_to_be_none(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "plan.csv").write_bytes(data)
    with pytest.raises(OutputError, match=said):
        read_plan(tmp_path / "plan.csv")


def test_a_plan_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        read_plan(tmp_path / "plan.csv")


SOFFICE = shutil.which("soffice")


@pytest.mark.skipif(SOFFICE is None, reason="LibreOffice is not installed: apt-get install libreoffice-calc")
@pytest.mark.parametrize("saving", ["44,34,76,1", "59,34,76,1", "59,34,76,1,,0,true", "9,34,65535,1"])
def test_what_libreoffice_saves_is_read(tmp_path: Path, saving: str) -> None:
    """Separator, quote, character set: commas, semicolons, all cells in quotes, UTF-16 with tabs."""
    names = [name.replace("/", "_").replace("\0", "") for name in HOSTILE]
    rows = [*ROWS, *(replace(ROW, path=f"/music/{name}.mp3", old=("=1+1",)) for name in names)]
    write_plan(tmp_path / "plan.csv", rows)
    command = [
        str(SOFFICE), "--headless", f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}",
        "--infilter=CSV:44,34,76,1", "--convert-to", f"csv:Text - txt - csv (StarCalc):{saving}",
        "--outdir", str(tmp_path / "saved"), str(tmp_path / "plan.csv"),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert rows_of(tmp_path / "saved" / "plan.csv") == rows


# Broken rows

BROKEN = [
    ({"decision": "acept"}, "decision 'acept': did you mean accept?"),
    ({"decision": "Rejected"}, "decision 'Rejected': did you mean reject?"),
    ({"decision": "yes"}, "decision 'yes': write accept, reject, or the genres"),
    ({"decision": "x" * 201}, "a genre of 201 characters"),
    ({"decision": ";".join(map(str, range(21)))}, "21 genres for one song"),
    ({"identity": "abc"}, "its identity is not as the plan had it"),
    ({"path": "a.mp3"}, "its path is not absolute, as the plan had it"),
    ({"confidence": "high"}, "confidence 'high' is no number"),
    ({"confidence": "nan"}, "confidence 'nan' is no number"),
    ({"decision": "accept", "proposed": ""}, "accepted, but no genre is proposed"),
    ({"starts_seconds": "a b"}, "starts_seconds 'a' is no number"),
]


@pytest.mark.parametrize(("values", "said"), BROKEN)
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_broken_row_is_named_by_line_and_the_others_are_read(
    tmp_path: Path, form: str, values: dict[str, str], said: str
) -> None:
    good = {"path": "/a", "identity": IDENTITY.hex(), "old": "", "proposed": "Rock", "confidence": "", "decision": ""}
    good |= {"starts_seconds": ""}
    rows = [{**good, "path": "/1"}, {**good, "path": "/2", **values}, {**good, "path": "/3"}]
    text = io.StringIO()
    if form == "csv":
        writer = csv.DictWriter(text, list(good))
        writer.writeheader()
        writer.writerows(rows)
    else:
        text.write("\n".join(map(json.dumps, [good, *rows])))
    (tmp_path / f"plan.{form}").write_text(text.getvalue())
    plan = read_plan(tmp_path / f"plan.{form}")
    assert [row.path for row in plan.rows if row.path != "/a"] == ["/1", "/3"]
    assert plan.broken == [f"line 3: {said}"]


def test_rows_of_csv_are_named_where_they_begin(tmp_path: Path) -> None:
    head, first, second = ",".join(FIELDS), '"/two\nlines",,Rock,,,,maybe yes,x,', f"/b,,Rock,,,,,{IDENTITY.hex()},"
    (tmp_path / "plan.csv").write_text(f'{head}\n{second}\n{first}\n/c,,\n{second}\n/d,"Rock\n/e\n')
    plan = read_plan(tmp_path / "plan.csv")
    assert [row.line for row in plan.rows] == [2]
    assert plan.broken == [
        "line 3: its identity is not as the plan had it",
        "line 5: has no decision, identity",
        "line 6: the same song as in line 2",
        "line 7: quotes do not match: unexpected end of data",
    ]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "null", '{"path": 1}', '{"path": "/a", "identity": 5, "old": [], "proposed": [], "decision": ""}'],
)
def test_broken_json_is_named_by_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "plan.jsonl").write_text(f"\n{line}\n")
    plan = read_plan(tmp_path / "plan.jsonl")
    assert plan.rows == [] and len(plan.broken) == 1 and plan.broken[0].startswith("line 2: ")


@pytest.mark.parametrize("value", [5, [5], {"a": 1}, ["\ud800"], [""], True])
def test_a_decision_in_json_that_is_none_is_broken(tmp_path: Path, value: object) -> None:
    values = {"path": "/a", "identity": IDENTITY.hex(), "old": [], "proposed": ["Rock"], "decision": value}
    (tmp_path / "plan.jsonl").write_text(json.dumps(values))
    assert read_plan(tmp_path / "plan.jsonl").rows == []


def test_a_path_that_is_no_utf_8_is_found_again(tmp_path: Path) -> None:
    song = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    literal = f"{tmp_path}/plain\\udce9"
    Path(literal).touch()
    write_plan(tmp_path / "plan.csv", [replace(ROW, path=song), replace(ROW, path=literal)])
    assert [row.path for row in read_plan(tmp_path / "plan.csv").rows] == [song, literal]


# What a run puts into it

RANKING = (("Rock", 0.7), ("Jazz", 0.2), ("Pop", 0.1))


@pytest.mark.parametrize(
    ("status", "old", "new", "genres", "proposed", "decision"),
    [
        ("tagged", (), ("Rock",), ("Rock",), ("Rock",), ACCEPT),
        ("tagged", ("Pop",), ("Pop", "Rock"), ("Rock",), ("Pop", "Rock"), ACCEPT),
        ("unchanged", ("Rock",), ("Rock",), ("Rock",), ("Rock",), UNDECIDED),
        ("kept", ("Pop",), ("Pop",), ("Rock", "Jazz"), ("Rock", "Jazz"), UNDECIDED),
        ("kept", ("Pop",), ("Pop",), (), ("Rock",), UNDECIDED),
        ("unsure", (), (), (), ("Rock",), UNDECIDED),
    ],
)
def test_the_plan_does_what_the_run_would(
    status: str, old: tuple[str, ...], new: tuple[str, ...], genres: tuple[str, ...], proposed: tuple[str, ...],
    decision: str,
) -> None:  # fmt: skip
    found = Decision(genres, RANKING, "")
    result = SongResult(Path("/a"), status, old, new, found, starts_seconds=(1.0,), identity=IDENTITY)
    assert row_of(result) == Row("/a", IDENTITY, old, proposed, 0.7, "Jazz", 0.2, decision, (1.0,))


@pytest.mark.parametrize(
    "result",
    [
        SongResult(Path("/a"), "failed", reason="cannot be decoded"),
        SongResult(Path("/a"), "unsure", decision=Decision((), (), "silent"), identity=IDENTITY),
        SongResult("s3://a", "kept", decision=Decision(("Rock",), RANKING, ""), identity=IDENTITY),
    ],
)
def test_what_was_not_classified_is_not_in_the_plan(result: SongResult) -> None:
    assert row_of(result) is None
