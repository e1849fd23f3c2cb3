"""Reports as text: whole and right at 80 columns, without colour, and whatever the names are."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from tagger.report.document import Column, Curves, Matrix, Report, Song, Songs, Table
from tagger.report.run import report_run
from tagger.report.text import cell_text, confusion_text, print_report, print_section, song_text
from tagger.text import shown
from tests.support.reports import HOSTILE, example, matrix_of
from tests.support.runs import run_by_hand


def text(report: Report, columns: int = 80, **given: object) -> str:
    file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        for name in ("FORCE_COLOR", "NO_COLOR", "COLORTERM"):
            patch.delenv(name, raising=False)
        for name, value in given.items():
            patch.setenv(name, str(value))
        print_report(report, file)
    return file.getvalue()


BY_HAND = """\
Confusion
      songs Blues  Jazz  Rock Waltz
Blues     4    75    25     ·     ·
                3     1
Jazz      2     ·   100     ·     ·
                      2
Rock      2     ·    50    50     ·
                      1     1
Waltz     0     –     –     –     –

Above, per cent of the songs of a row; below, songs.
Rows: the genre the songs are of. Columns: the genre that was predicted.

Confused pairs
reference  predicted  songs  share
Rock       Jazz           1  0.500
Blues      Jazz           1  0.250
Of the songs of a genre, more than a tenth was predicted to be of one other.

Genres
genre  precision  recall     F1  songs  predicted
Blues      1.000   0.750  0.857      4          3
Jazz       0.500   1.000  0.667      2          4
Rock       1.000   0.500  0.667      2          1
Waltz          –       –      –      0          0
Precision: share of the songs predicted to be of it that are. Recall: share of
its songs that are predicted to be of it. F1: their harmonic mean.

From snippets to songs
aggregate  right   from     to  macro recall
mean       0.750  -----  -----         0.750
weighted   0.750  -----  -----         0.750
vote       0.625  -----  -----         0.667
max        0.625  -----  -----         0.667
The default is mean. 95% intervals are a percentile bootstrap over artists,
10000 draws.

Confidence
 from     to  songs  confidence  right
0.300  0.400      1       0.360  1.000
0.400  0.500      2       0.435  1.000
0.500  0.600      1       0.520  1.000
0.600  0.700      1       0.620  0.000
0.700  0.800      1       0.720  1.000
0.800  0.900      1       0.820  1.000
0.900  1.000      1       0.920  0.000
It can be trusted where the last two columns agree: the calibration error is
their mean distance. Chance alone makes that some 0.12 of 50 songs, 0.06 of 200,
0.03 of 1000.

Accuracy against coverage
min confidence  songs  coverage  right
         0.920      1     0.125  0.000
         0.820      2     0.250  0.500
         0.720      3     0.375  0.667
         0.620      4     0.500  0.500
         0.520      5     0.625  0.600
         0.450      6     0.750  0.667
         0.420      7     0.875  0.714
         0.360      8     1.000  0.750
What --min-confidence would leave to be written, and how much of that is right.

Songs, the worst first
/music/r1.flac
    Rock, wrong: predicted Jazz 0.920, Blues 0.040, Rock 0.030
/music/b2.flac
    Blues, wrong: predicted Jazz 0.620, Rock 0.200, Blues 0.100
… and 6 more: all are in --format html, json and csv
2 of 8 are wrong. The worst are those whose own genre got the least confidence.
A wrong label looks like a wrong answer.
"""


def test_a_report_of_songs_that_were_counted_by_hand(tmp_path: Path) -> None:
    report = report_run(run_by_hand(tmp_path))
    found = text(report)
    drawn_lots = r"^((?:mean|weighted|vote|max) +0\.\d{3}  )\d\.\d{3}  \d\.\d{3}"  # NumPy promises no one sequence
    assert re.sub(drawn_lots, r"\1-----  -----", found[found.index("Confusion\n") :], flags=re.MULTILINE) == BY_HAND
    facts = found[: found.index("\n\nConfusion")].splitlines()
    assert found[: found.index("run   ")].split() == [
        "How",
        "accurate",
        str(tmp_path),
        "is",
    ]  # however it is folded
    assert "test split               8 songs of 3 genres, 24 snippets" in facts
    assert "caution                  no songs of 1 of the 4 genres: Waltz" in facts


# ---- everything


@pytest.mark.parametrize("counts", [np.zeros((0, 0), int), np.zeros((3, 3), int)])
def test_a_confusion_of_no_songs_is_its_note(counts: np.ndarray) -> None:
    names = tuple("ABC"[: len(counts)])
    report = Report("library", "Empty", (), (Matrix("m", "Confusion", names, names, counts, "No song has a genre."),))
    assert text(report) == "Empty\n\nConfusion\nNo song has a genre.\n"


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("n_genres", [1, 5, 20, 500])
def test_no_line_is_longer_than_the_terminal_but_paths(n_genres: int, columns: int) -> None:
    report = example(n_genres, 30)
    paths = {shown(song.path) for section in report.sections if isinstance(section, Songs) for song in section.songs}
    lines = text(report, columns).splitlines()
    assert max(cell_len(line) for line in lines if line not in paths) <= columns
    assert len(paths & set(lines)) == 10


def test_hostile_names_are_harmless() -> None:
    found = text(example())
    assert all(character.isprintable() or character in "\n\u200e" for character in found)
    assert "</script><script>" in found and "\\x1b[31m\\x00" in found and "caf\\xe9" in found
    song = Song("/m/[bold]x[/bold].mp3", ("[red]A",), ("B",), 0.5, (("[link=x]B", 0.5),), (), "wrong", ":smile:")
    named = Report("run", "[bold]T", (("[i]f", "[i]v"),), (Songs("s", "[b]S", (song,), "[b]n"),))
    for told in ("[bold]T", "[i]f  [i]v", "[b]S", "/m/[bold]x[/bold].mp3", "[red]A", "[link=x]B", ":smile:", "[b]n"):
        assert told in text(named)


def test_numbers_stay_beside_names_that_run_from_right_to_left() -> None:
    """Unicode Standard Annex 9, rule N1: blanks and numbers behind such a letter would join it."""
    arabic, hebrew = "\u0645\u0648\u0633\u064a\u0642\u0649", "\u05de\u05d5\u05d6\u05d9\u05e7\u05d4"
    matrix = Matrix("m", "M", (arabic, hebrew), (arabic, hebrew), np.array([[3, 1], [2, 5]]))
    rows = ((arabic, 4), (hebrew, 7))
    report = Report("run", "T", (), (matrix, Table("t", "T", (Column("genre"), Column("songs", "count")), rows)))
    for line in text(report).splitlines():
        for found in re.finditer(r"[\u0590-\u06ff]+", line):
            assert line[found.end()] == "\u200e"
    assert len(re.findall("\u200e", text(report))) == 6


def test_names_that_are_cut_keep_their_direction() -> None:
    assert shown("\u05d0" * 30, 10) == "\u05d0" * 9 + "…\u200e"
    assert shown("ジャズジャズ", 7) == "ジャズ…"
    assert cell_len(shown("ジャズジャズ", 6)) <= 6


def test_colour_is_for_terminals_that_have_it() -> None:
    report = example(5, 3)
    plain = text(report)
    assert "\x1b" not in plain
    coloured = text(report, FORCE_COLOR=1, TERM="xterm-256color")
    assert "\x1b[1;38;5;16;48;5;39m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    assert "48;5" not in text(report, FORCE_COLOR=1, NO_COLOR=1, TERM="xterm-256color")


def test_a_narrow_table_folds_names_and_keeps_numbers_whole() -> None:
    names = "a long name of two words here", "".join(chr(0x61 + number % 26) for number in range(90))
    rows = tuple((name, 1234567, 0.125) for name in names)
    columns = (Column("genre"), Column("how many songs", "count"), Column("share right", "share"))
    found = text(Report("run", "T", (), (Table("t", "Table", columns, rows),)), 50).splitlines()[3:]
    assert found[0].split() == ["genre", "how", "many", "songs", "share", "right"]
    assert [line.split()[-2:] for line in found if "1234567" in line] == [["1234567", "0.125"]] * 2
    folded = "".join(line.replace("1234567", "").replace("0.125", "").strip() for line in found[1:])
    assert folded.replace(" ", "") == "".join(names).replace(" ", "")


def test_a_long_table_says_how_much_of_it_is_missing() -> None:
    rows = tuple((f"Genre {number}", number) for number in range(100))
    table = Table("t", "Genres", (Column("genre"), Column("songs", "count")), rows)
    found = text(Report("run", "T", (), (table,)))
    assert "Genre 59 " in found and "Genre 60 " not in found
    assert "… and 40 more: all are in --format html and json" in found
    short = text(Report("run", "T", (), (replace(table, rows=rows[:60]),)))
    assert "Genre 59 " in short and "more" not in short


@pytest.mark.parametrize(
    ("n_brief", "line"),
    [(0, "30 songs: all are in"), (1, "… and 29 more: all are in"), (29, "… and 1 more: all"), (30, ""), (31, "")],
)
def test_many_songs_are_shown_in_brief(n_brief: int, line: str) -> None:
    songs = replace(example(3, 30).sections[-1], n_brief=n_brief)
    found = text(Report("run", "T", (), (songs,)))
    assert found.count("\n/home") == min(30, n_brief)
    assert line in found and ("all are in" in found) == bool(line)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", "a\tb", "a\\tb"),
        ("count", 12345, "12345"),
        ("share", 0.12345, "0.123"),
        ("share", None, "–"),
        ("number", -0.5, "-0.500"),
        ("number", None, "–"),
        ("seconds", 3725.9, "62:05"),
        ("genres", ("Rock", "Pop"), "Rock; Pop"),
        ("genres", (), "–"),
    ],
)
def test_values_of_every_kind(kind: str, value: object, expected: str) -> None:
    assert cell_text(Column("c", kind), value) == expected


@pytest.mark.parametrize(
    ("song", "expected"),
    [
        (Song("x", (), (), None, (), (), "failed", "not audio"), "–, failed; not audio"),
        (Song("x", ("Rock",), ("Pop",), 0.5, (("Pop", 0.5),), (1.0,), "wrong"), "Rock, wrong: predicted Pop 0.500"),
        (
            Song("x", ("Rock", "Pop"), (), 0.4, tuple((name, 0.1) for name in "ABCD"), (), "unsure", "below 0.5"),
            "Rock; Pop, unsure: predicted A 0.100, B 0.100, C 0.100; below 0.5",
        ),
    ],
)
def test_a_song_in_a_line(song: Song, expected: str) -> None:
    assert song_text(song) == expected


def test_something_that_is_no_section_is_a_bug() -> None:
    with pytest.raises(TypeError, match="no section"):
        print_section("x", Console())


def test_the_hostile_names_are_in_what_is_tested() -> None:
    assert len({song.path for song in example().sections[-1].songs if song.path.endswith(HOSTILE)}) == len(HOSTILE)


def read(lines: list[str], n_rows: int, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares and counts of a printed confusion, read off as a person does: by the columns that end below each other."""
    name_cells = re.match(r"(.*?) songs", lines[0]).end(1) + len(" songs")
    ends = [found.end() for found in re.finditer(r"\S+", lines[0][name_cells:])]
    assert len(ends) == n_columns
    shares, counts = np.zeros((n_rows, n_columns)), np.zeros((n_rows, n_columns), int)
    for row in range(n_rows):
        for values, line in ((shares, lines[1 + 2 * row]), (counts, lines[2 + 2 * row])):
            for found in re.finditer(r"\S+", line[name_cells:]):
                value = found.group().replace("<1", "0.4").replace("·", "0").replace("–", "0")
                values[row, ends.index(found.end())] = float(value)
    return shares, counts


@pytest.mark.parametrize("n_genres", [2, 3, 8, 10, 16, 20])
def test_every_number_of_a_confusion_is_in_80_columns(n_genres: int) -> None:
    matrix = matrix_of(n_genres)
    lines = [line.plain for line in confusion_text(matrix, 80)[0]]
    assert max(map(len, lines)) <= 80
    shares, counts = read(lines, n_genres, n_genres)
    assert (counts == matrix.counts).all()
    n_songs = np.maximum(1, matrix.counts.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(shares, 100 * matrix.counts / n_songs, rtol=0, atol=0.5)


@pytest.mark.parametrize("n_genres", [17, 40, 100, 500])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_of_too_many_genres_those_are_shown_that_are_confused_most(n_genres: int, width: int) -> None:
    matrix = matrix_of(n_genres)
    if width == 120 and n_genres == 17:
        return  # has room for all
    misses = matrix.counts.copy()
    np.fill_diagonal(misses, 0)
    row, column = np.unravel_index(misses.argmax(), misses.shape)
    lines, legend = confusion_text(matrix, width)
    plain = [line.plain for line in lines]
    assert max(map(len, plain)) <= width
    n_shown = len(lines) // 2
    shares, counts = read(plain, n_shown, n_shown + 1)
    assert legend[1].startswith(f"{n_shown} of {n_genres} rows and {n_shown} of {n_genres} columns")
    if n_shown > 1:
        assert misses.max() in counts[:, :-1]
        assert any(matrix.references[row][:4] in line for line in plain)
        assert any(matrix.references[column][:4] in line for line in plain)
    pattern = rf" (\d+)(?: +[\d·<–]+){{{n_shown + 1}}}$"
    songs_of_rows = [int(re.search(pattern, line).group(1)) for line in plain[1::2]]
    assert counts.sum(axis=1).tolist() == songs_of_rows  # the others are in the last column
    assert all(total == 0 or 95 < total < 105 for total in shares.sum(axis=1))


def test_genres_of_a_library_and_of_a_model_need_not_be_the_same() -> None:
    counts = np.zeros((50, 3), int)
    counts[:, 0], counts[7, 1], counts[9, 2] = 2, 30, 1
    tags = (*(f"Tag {number}" for number in range(49)), "Rock")
    matrix = Matrix("m", "M", tags, ("Rock", "Pop", "Jazz"), counts)
    lines, legend = confusion_text(matrix, 80)
    plain = [line.plain for line in lines]
    assert plain[0].split() == ["songs", "Rock", "Pop", "Jazz"]
    assert len(lines) == 1 + 2 * 30
    assert legend[1].startswith("30 of 50 rows and 3 of 3 columns")
    assert {line.split()[1] for line in plain[1::2] if line.startswith("Tag")} >= {"7", "9"}
    (rock,) = (line for line in lines if line.plain.startswith("Rock"))
    (tag,) = (line for line in lines if line.plain.startswith("Tag 7 "))
    assert colours(rock) == ["bold #000000 on #00afff"]  # what is right is so by its name, not by its place
    assert colours(tag) == ["#000000 on #ff5f00"]


def colours(line: Text) -> list[str]:
    return [str(span.style) for span in line.spans if span.style != "dim"]


def test_columns_have_numbers_where_beginnings_of_names_do_not_tell_them_apart() -> None:
    names = ("Folk Rock", "Folk Metal", "Folk Pop")
    matrix = Matrix("m", "M", names[:2], names, np.eye(2, 3, dtype=int))
    lines, legend = confusion_text(matrix, 32)
    assert [line.plain.split() for line in lines[:2]] == [
        ["songs", "1", "2", "3"],
        ["1", "Folk", "Ro…", "1", "100", "·", "·"],
    ]
    assert legend[1:] == ["3: Folk Pop"]
    lines, legend = confusion_text(matrix, 80)
    assert lines[0].plain.split() == ["songs", "Folk", "Rock", "Folk", "Metal", "Folk", "Pop"]
    assert len(legend) == 1


def test_the_more_the_hotter() -> None:
    counts = np.array([[90, 10, 0, 0], [15, 60, 25, 0], [1, 49, 10, 40], [1, 0, 0, 0]])
    lines, _ = confusion_text(Matrix("m", "M", tuple("ABCD"), tuple("ABCD"), counts), 80)
    for line, below in zip(lines[1::2], lines[2::2], strict=True):
        assert colours(line) == colours(below)
    assert [colours(line) for line in lines[1::2]] == [
        ["bold #000000 on #00afff"],  # 10 % is not more than a tenth
        ["#000000 on #af875f", "bold #000000 on #0087d7", "#000000 on #d78700"],
        ["#000000 on #ff5f00", "bold #000000 on #5f87af", "#000000 on #d78700"],
        ["#000000 on #ff5f00"],
    ]


def test_lines_that_do_not_fit_are_left_to_the_page() -> None:
    for n_lines, expected in ((3, "    1  0.500  0.500  0.500"), (12, "12 lines: they are drawn in --format html")):
        heads = (Column("epoch", "count"), *(Column(str(line), "share") for line in range(n_lines)))
        curves = Curves("epochs", "Epochs", heads, ((1, *[0.5] * n_lines),))
        assert expected in text(Report("study", "Title", (), (curves,)))
