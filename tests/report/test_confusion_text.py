"""A confusion as text: every number is read off again, whatever the width, and colours say what the numbers say."""

import re

import numpy as np
import pytest
from rich.text import Text

from tagger.report.confusion_text import confusion_text
from tagger.report.document import Matrix
from tests.support.reports import matrix_of


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
