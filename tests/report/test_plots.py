"""The confusion as a picture: its numbers are those of the matrix, its texts can be read, whatever is in them."""

import io
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

import tagger.report.plots
from tagger.report.document import Matrix, Report
from tagger.report.plots import MOST_GENRES, confusion_figure, png, render
from tests.support.reports import HOSTILE, example, matrix_of


def confusion_of(n_genres: int, n_predicted: int | None = None) -> Matrix:
    random = np.random.default_rng(n_genres)
    counts = np.eye(n_genres, n_predicted, dtype=int) * random.integers(1, 40) + 1
    counts[0, 1:] = 0  # 100 % is the widest number
    names = [f"{'Folk, World, & Country' if number % 3 else 'Pop'} {number}" for number in range(max(counts.shape))]
    return Matrix("c", "97 songs, 60 right", (*names[:n_genres],), (*names[: counts.shape[1]],), counts)


def two(references: tuple[str, str], counts: list[list[int]] | None = None) -> Matrix:
    return Matrix("c", "t $x", references, references, np.array(counts or [[3, 1], [0, 0]]))


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (10, 10), (13, 13), (50, 50), (3, 30), (30, 3)], ids=str)
def test_no_text_of_a_confusion_lies_on_another(shape: tuple[int, int]) -> None:
    figure = confusion_figure(confusion_of(*shape))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    rows = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in pairwise(rows))
    if shape[1] > 12:  # slanted ones have no upright boxes
        columns = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert all(left.x1 <= right.x0 for left, right in pairwise(columns))
    assert axes.yaxis.label.get_window_extent().x1 < min(box.x0 for box in rows)
    cell = axes.transData.transform([[0, 0], [1, 1]])
    width, height = np.abs(cell[1] - cell[0])
    assert width == pytest.approx(height)
    assert axes.texts
    for number in axes.texts:
        box = number.get_window_extent()
        assert box.width < 0.9 * width
        assert box.height < 0.9 * height
    assert max(figure.bbox.size) < 4000


@pytest.mark.filterwarnings("error")
def test_a_confusion_shows_shares_of_rows_and_counts_of_songs() -> None:
    figure = confusion_figure(two(("a $x$ b", "A name that has more characters than fit")))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    shown = {(round(text.get_position()[0], 1), round(text.get_position()[1], 1)): text for text in axes.texts}
    assert {place: text.get_text() for place, text in shown.items()} == {(0.5, 0.5): "75", (1.5, 0.5): "25"}
    assert [text.get_color() for text in axes.texts] == ["white", "black"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a $x$ b (4)", "A name that has more ch… (0)"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a $x$ b", "A name that has more ch…"]
    texts = (*axes.get_xticklabels(), *axes.get_yticklabels(), axes.title)
    assert not any(text.get_parse_math() for text in texts)
    assert axes.get_title() == "t $x"
    assert axes.yaxis_inverted()
    most, less, *unknown = axes.collections[0].get_facecolors()
    assert most[:3].sum() < less[:3].sum()  # more is darker
    assert [colour[3] for colour in unknown] == [0, 0]  # so that the grey behind shows


def test_rows_and_columns_may_be_of_different_genres() -> None:
    axes = confusion_figure(Matrix("c", "t", ("a", "b"), ("a", "b", "unsure"), np.array([[1, 2, 1], [0, 0, 3]]))).axes[
        0
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "unsure"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a (4)", "b (3)"]
    shown = [(*text.get_position(), text.get_text()) for text in axes.texts]
    assert shown == [(0.5, 0.5, "25"), (1.5, 0.5, "50"), (2.5, 0.5, "25"), (2.5, 1.5, "100")]


def test_a_long_title_has_several_lines() -> None:
    axes = confusion_figure(replace(confusion_of(3), title="How well " + "/a/long/path" * 20 + " classifies")).axes[0]
    assert max(map(len, axes.get_title().splitlines())) <= 60
    assert axes.get_title().endswith(" classifies")


def test_of_very_many_genres_those_of_few_songs_are_drawn_as_one() -> None:
    axes = confusion_figure(matrix_of(500)).axes[0]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert len(rows) == len(axes.get_xticklabels()) == MOST_GENRES + 1
    assert rows[-1].startswith("400 other references (")


def test_pictures_do_not_change_from_one_run_to_the_next() -> None:
    matrix = confusion_of(3)
    first = png(confusion_figure(matrix))
    settings = dict(matplotlib.rcParams)
    try:
        matplotlib.rcParams.update({"font.size": 30, "figure.facecolor": "black", "savefig.transparent": True})
        assert png(confusion_figure(matrix)) == first
        assert matplotlib.rcParams["font.size"] == 30
    finally:
        matplotlib.rcParams.update(settings)
    assert not re.search(rb"tIME|tEXt|iTXt|zTXt", first)
    matrix.counts[0, 1] += 5
    assert png(confusion_figure(matrix)) != first


def test_pictures_are_made_without_global_figures() -> None:
    assert "pyplot" not in Path(tagger.report.plots.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*HOSTILE, "ジャズ", "$\\frac{", "_", ""])
def test_no_name_breaks_a_picture_or_says_anything_on_the_terminal(
    name: str, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    assert render(replace(example(3, 0), title=name, sections=(two((name, "Rock")),)))
    assert not list(recwarn)
    assert capfd.readouterr() == ("", "")


def test_a_report_gives_its_first_confusion_that_holds_songs() -> None:
    report = example(3, 0)
    empty = two(("a", "b"), [[0, 0], [0, 0]])
    first, second = confusion_of(3), confusion_of(4)
    titled = replace(first, title=f"Music in /home/anna/Music: {first.title}")
    assert render(replace(report, sections=(report.sections[1], empty, first, second))) == png(confusion_figure(titled))
    assert render(replace(report, sections=(empty, report.sections[1]))) is None
    assert render(Report("run", "t", (), ())) is None
    picture = imread(io.BytesIO(render(report) or b""))
    assert min(picture.shape[:2]) > 300
