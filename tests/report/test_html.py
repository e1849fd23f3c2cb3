"""The HTML report as text: all of the report is in it, and nothing in the report can be anything but text."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from tagger.report.document import Column, Curves, Matrix, Report, Song, Songs, Table
from tagger.report.html import MOST_GENRES, MOST_STARTS, N_AT_ONCE, render
from tagger.text import printable
from tests.support.reports import HOSTILE, STATUSES, example, genres_of, kinds, matrix_from, matrix_of, songs_of

VOID = {"meta", "input"}


@dataclass
class Element:
    """An element of a page, with its elements and texts in their order."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, tag: str = "", **attributes: str) -> list["Element"]:
        """The elements below with this tag and these words in their attributes, in the order of the page."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if tag in ("", child.tag) and all(
                    value in child.attributes.get(name.rstrip("_"), "").split() for name, value in attributes.items()
                ):
                    found.append(child)
                found += child.all(tag, **attributes)
        return found

    def one(self, tag: str = "", **attributes: str) -> "Element":
        (found,) = self.all(tag, **attributes)
        return found


class Page(HTMLParser):
    """Reads a page whose elements are all closed; SVG elements may close themselves."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Element("")
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def page_of(report: Report) -> Element:
    return Page(render(report)).root


def page_with(*sections: Table | Matrix | Songs) -> Element:
    return page_of(Report("library", "t", (), sections))


def cells_of(table: Element) -> list[list[Element]]:
    return [[cell for cell in row.children if isinstance(cell, Element)] for row in table.one("tbody").all("tr")]


def script_of(page: Element) -> Element:
    """The one script that runs: the others are data."""
    (script,) = (each for each in page.all("script") if each.attributes != {"type": "application/json"})
    return script


def data_of(page: Element) -> dict[str, list[Any]]:
    """The songs of the one list of a page, as its script reads them."""
    data: dict[str, list[Any]] = json.loads(page.one("script", type="application/json").text)
    return data


# A page of its own


def test_the_policy_allows_the_one_style_and_the_one_script_only() -> None:
    page = page_of(example(3, 20))
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for kind, element in (("style-src", page.one("style")), ("script-src", script_of(page))):
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert allowed.pop(kind) == f"'sha256-{digest}'"
    assert allowed == dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    assert not [element for element in page.all() if "style" in element.attributes]


def test_nothing_is_fetched() -> None:
    text = render(example(3, 20))
    page = Page(text).root
    links = {name: value for each in page.all() for name, value in each.attributes.items() if name in ("href", "src")}
    assert links
    assert all(value.startswith("#") for value in links.values())
    assert not re.search(r"https?:|url\(|@import", text)


def test_the_policy_comes_before_all_it_governs_and_the_encoding_within_the_first_kilobyte() -> None:
    text = render(replace(example(3, 20), title="W" * 5000))
    assert text.index("Content-Security-Policy") < min(
        text.index("<style"), text.index("<script"), text.index("<title")
    )
    assert text.encode().index(b'<meta charset="utf-8">') < 1024


def test_a_report_makes_the_same_page_every_time() -> None:
    assert render(example(20, 100)) == render(example(20, 100))


@pytest.mark.parametrize("n_genres", [3, 20, 60])
def test_three_thousand_songs_weigh_less_than_five_megabytes(n_genres: int) -> None:
    assert len(render(example(n_genres, 3000)).encode()) < 5e6


# Names


def test_names_are_nothing_but_text() -> None:
    report = example(20, len(HOSTILE))
    hostile = replace(
        report,
        title=HOSTILE[0],
        facts=tuple((name, name) for name in HOSTILE),
        sections=tuple(replace(section, title=HOSTILE[0], note=HOSTILE[1]) for section in report.sections),
    )
    page, plain = page_of(hostile), page_of(report)
    assert len(page.all("script")) == 2 and script_of(page) and len(page.all("style")) == 1
    assert {each.tag for each in page.all()} == {each.tag for each in plain.all()}
    assert {name for each in page.all() for name in each.attributes} == {
        name for each in plain.all() for name in each.attributes
    }
    assert page.one("head").one("title").text == HOSTILE[0]
    assert page.one("h1").text == HOSTILE[0]
    assert [each.text for each in page.one("dl").all("dd")] == [printable(name) for name in HOSTILE]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_the_same_wherever_it_stands(name: str) -> None:
    counts = np.array([[1, 2], [3, 4]])
    song = Song(f"/music/{name}", (name,), (name,), 0.5, ((name, 0.5),), (), name, name)
    page = page_with(
        Matrix("m", name, (name, "b"), (name, "b"), counts, name), Table("t", name, (Column(name),), ((name,),), name),
        Songs("s", name, (song,), name),
    )  # fmt: skip
    shown = printable(name)
    table = page.one("section", id="t")
    assert [each.text for each in (*table.all("h2"), *table.all("p"), *table.all("th"))] == [shown] * 4
    (cells,) = cells_of(page.one("table", class_="songs"))
    path, reference, predicted, ranking, _, status = (cell.text for cell in cells)
    assert f"/music/{path}" in (f"/music/{shown}", f"/music/{shown.rpartition('/')[2]}")  # a name may not hold a slash
    assert (reference, predicted, ranking) == (shown, shown, f"{shown}\u00a00.50")
    assert status == f"{shown} {shown}"
    values = [option.attributes["value"] for option in page.one("section", id="s").all("option")]
    assert values == ["", shown, "", shown, "", shown]
    titles = [each.text for each in page.all("title")][1:]
    assert titles[0] == f"{shown} predicted as {shown}: 1 of 3 songs, 0.333"
    assert linked(page) == {(shown, shown)}


def test_names_cannot_turn_the_direction_of_what_stands_beside_them() -> None:
    name = "שלום"
    page = page_with(
        Table("t", "t", (Column("a"), Column("b", "genres")), ((name, (name, "Rock")),), name),
        Songs("s", "s", (Song(f"/{name}/{name}", (name, name), (name,), 0.5, ((name, 0.5),), (), "right", name),)),
    )
    isolated = [each.text for each in page.all("bdi")]
    assert isolated.count(name) == 8
    assert isolated.count(f"{name}/") == 0  # all paths are below it
    holders = {each.tag for each in page.all() if any(isinstance(x, str) and name in x for x in each.children)}
    assert holders == {"bdi", "span", "option"}
    for tag in ("span", "option"):
        assert {each.attributes.get("dir") for each in page.all(tag) if name in each.text} == {"auto"}


def test_the_page_is_utf_8_whatever_the_names_hold() -> None:
    assert "caf\\xe9" in render(example(3, 20)).encode().decode()


# Sections


def test_every_section_is_named_and_linked_to() -> None:
    report = example(3, 20)
    page = page_of(report)
    links = {link.attributes["href"]: link.text for link in page.one("nav").all("a")}
    assert links == {f"#{section.key}": section.title for section in report.sections}
    for section in report.sections:
        found = page.one("section", id=section.key)
        assert page.one("h2", id=found.attributes["aria-labelledby"]).text == section.title
        assert not section.note or section.note in [each.text for each in found.all("bdi")]
    ids = [each.attributes["id"] for each in page.all() if "id" in each.attributes]
    assert len(set(ids)) == len(ids)


def test_a_report_of_nothing_is_a_page() -> None:
    page = page_with(
        Matrix("m", "Matrix", (), (), np.zeros((0, 0), int), "No songs have a genre."),
        Table("t", "Table", (Column("a"),), (), "None."),
        Songs("s", "Songs", (), "None."),
    )
    assert [each.text for each in page.all("h2")] == ["Matrix", "Table", "Songs"]
    assert [each.text for each in page.all("bdi")][1:] == ["No songs have a genre.", "None.", "None."]
    assert not page.all("table")
    assert not page.all("svg")
    assert page_of(Report("run", "t", (), ())).one("h1").text == "t"


# Tables


def test_a_table_has_every_value_as_people_read_it_and_as_it_is_sorted() -> None:
    table = page_with(kinds()).one("table")
    assert [(each.text, each.attributes["data-sort"]) for each in table.one("thead").all("th")] == [
        ("name", "text"), ("songs", "number"), ("share right", "number"), ("ratio", "number"), ("length", "number"),
        ("genres", "text"),
    ]  # fmt: skip
    rows = cells_of(table)
    assert len(rows) == len(HOSTILE)
    assert {cells[0].tag for cells in rows} == {"th"}
    shown = [[cell.text for cell in cells[1:5]] for cells in rows]
    assert shown[:4] == [
        ["0", "0.000", "5.500", "0:00"],
        ["621", "0.077", "4.500", "10:11"],
        ["265", "–", "3.500", "20:23"],
        ["886", "0.231", "–", "30:34"],
    ]
    assert shown[6][1:] == ["0.462", "-0.500", "1:01:09"]
    values = [[cell.attributes["data-value"] for cell in cells[1:5]] for cells in rows]
    assert (values[2][1], values[3][2]) == ("", "")
    for at, (count, share, number, length) in enumerate(values):
        assert float(count) == 12345 * at % 977
        assert at == 2 or float(share) == at / 13
        assert at == 3 or float(number) == 5.5 - at
        assert float(length) == 611.5 * at
    for cells, row in zip(rows, kinds().rows, strict=True):
        assert cells[5].text == ("; ".join(map(printable, row[5])) or "–")
        assert cells[5].attributes == ({} if row[5] else {"data-value": ""})


def test_numbers_of_numpy_and_what_is_no_number_have_their_cells() -> None:
    columns = (Column("a", "count"), Column("b", "share"), Column("c", "number"))
    rows = ((np.int64(12345), np.float32(0.5), float("nan")), (1, None, float("inf")))
    first, second = cells_of(page_with(Table("t", "t", columns, rows)).one("table"))
    assert [(cell.text, cell.attributes["data-value"]) for cell in first] == [
        ("12,345", "12345"), ("0.500", "0.5"), ("–", ""),
    ]  # fmt: skip
    assert [cell.text for cell in second] == ["1", "–", "–"]
    assert {cell.tag for cell in first} == {"td"}


def test_long_tables_have_a_filter_which_waits_for_the_script() -> None:
    def table(n_rows: int) -> Table:
        return Table("t", "Title", (Column("a"),), tuple((f"row {at}",) for at in range(n_rows)))

    controls = page_with(table(1300)).one(role="search")
    assert controls.attributes["hidden"] == ""
    assert controls.attributes["aria-label"] == "Title"
    assert controls.one("output").text == "1,300 rows"
    assert controls.one("label").one("input")
    assert not page_with(table(5)).all(role="search")


# Heat maps


@pytest.mark.parametrize("n_genres", [3, 20, 60])
def test_a_heat_map_has_every_cell_that_holds_songs(n_genres: int) -> None:
    matrix = matrix_of(n_genres)
    svg = page_with(matrix).one("svg", class_="cells")
    found = {}
    for cell in [*svg.all(class_="hit"), *svg.all(class_="miss")]:
        title = cell.one("title").text
        reference, predicted, count, n_songs, share = re.fullmatch(
            r"(.*) predicted as (.*): ([\d,]+) of ([\d,]+) songs, ([\d.]+)", title
        ).groups()  # type: ignore[union-attr]
        row, column = matrix.references.index(reference), matrix.predicted.index(predicted)
        found[row, column] = int(count.replace(",", ""))
        whole = matrix.counts[row].sum()
        assert int(n_songs.replace(",", "")) == whole
        assert share == f"{matrix.counts[row, column] / whole:.3f}"
        assert [each.text for each in cell.all("text")] == (
            [f"{100 * matrix.counts[row, column] / whole:.0f}"] if matrix.counts[row, column] / whole >= 0.005 else []
        )
        classes = cell.attributes["class"].split()
        assert classes[0] == ("hit" if row == column else "miss")
        step = int(classes[1][1:])
        assert (step - 1) ** 2 < 100 * matrix.counts[row, column] / whole <= step**2 or step == found[row, column] == 0
    assert {place: count for place, count in found.items() if count} == {
        (row, column): count for (row, column), count in np.ndenumerate(matrix.counts) if count
    }
    n_filled = int((matrix.counts.sum(axis=1) > 0).sum())
    assert len(svg.all("rect", class_="ground")) == n_filled
    sums = [each.text for each in svg.one("g", class_="sums").all("text")]
    assert sums == ["songs", *(f"{number:,}" for number in matrix.counts.sum(axis=1))]


def test_the_cells_of_a_heat_map_are_in_the_row_and_column_of_their_names() -> None:
    counts = np.array([[5, 0, 1], [0, 0, 0], [2, 0, 0]])
    svg = page_with(Matrix("m", "t", ("a", "b", "c"), ("a", "b", "d"), counts)).one("svg", class_="cells")
    size = 44
    found = {}
    for cell in svg.all("g"):
        if cell.attributes.get("class", "").startswith(("hit", "miss")):
            rect, names = cell.one("rect").attributes, cell.one("title").text.partition(":")[0]
            found[names] = float(rect["x"]) / size, float(rect["y"]) / size
    assert found == {"a predicted as a": (0, 0), "a predicted as d": (2, 0), "c predicted as a": (0, 2)}


def test_the_numbers_of_a_heat_map_are_in_a_table_too() -> None:
    matrix = Matrix("m", "t", ("a", "b"), ("b", "unsure"), np.array([[3, 1], [0, 2000]]))
    table = page_with(matrix).one("details").one("table")
    assert [[cell.text for cell in cells] for cells in cells_of(table)] == [
        ["a", "b", "3", "0.750"], ["a", "unsure", "1", "0.250"], ["b", "unsure", "2,000", "1.000"],
    ]  # fmt: skip


def test_of_very_many_genres_those_of_few_songs_are_one_row_but_the_table_has_all() -> None:
    matrix = matrix_of(500)
    page = page_with(matrix)
    names = [each.text for each in page.one("svg", class_="names").all("text")]
    assert len(names) == 1 + MOST_GENRES + 1
    assert names[-1] == "400 other references"
    assert page.one("svg", class_="cells").one("g", class_="sums").all("text")[-1].text == (
        f"{matrix.counts.sum() - matrix.folded(MOST_GENRES).counts[:-1].sum():,}"
    )
    rows = cells_of(page.one("details").one("table"))
    assert len(rows) == np.count_nonzero(matrix.counts)
    last = [each for each in page.all("title") if each.text.startswith("400 other references predicted as 400 other")]
    assert len(last) == 1
    assert not [each for each in page.all("g", class_="hit") if "other" in each.text]


def linked(page: Element) -> set[tuple[str, str]]:
    return {
        (each.attributes["data-reference"], each.attributes["data-predicted"])
        for each in page.all("g")
        if "data-reference" in each.attributes
    }


def test_a_cell_leads_to_its_songs_where_the_longest_list_has_them_all() -> None:
    genres, songs = genres_of(3), songs_of(40, genres_of(3))
    matrix = matrix_from(songs, genres)
    all_songs, some = Songs("s", "s", songs), Songs("some", "s", songs[:30])
    filled = {(genres[row], genres[column]) for row, column in np.argwhere(matrix.counts)}
    assert linked(page_with(matrix, some, all_songs)) == filled
    matrix.counts[0, 1] += 1
    assert linked(page_with(matrix, all_songs)) == filled - {(genres[0], genres[1])}
    assert linked(page_with(matrix)) == set()


# Songs


def test_every_song_is_a_row_with_all_that_is_told_of_it() -> None:
    songs = songs_of(200, genres_of(20))
    table = page_with(Songs("s", "Songs", songs)).one("table")
    rows = cells_of(table)
    assert {song.status for song in songs} == set(STATUSES)
    for song, cells in zip(songs, rows, strict=True):
        path, reference, predicted, ranking, starts, status = cells
        assert "/home/anna/Music/" + path.text == printable(song.path)
        assert reference.text == ("; ".join(song.reference) or "–")
        assert predicted.text == ("; ".join(song.predicted) or "–")
        ranked = " · ".join(f"{genre}\u00a0{confidence:.2f}" for genre, confidence in song.ranking[:3])
        assert ranking.text == (ranked or "–")
        times = " ".join(f"{int(start) // 60}:{int(start) % 60:02}" for start in song.starts_seconds)
        assert starts.text == (times or "–")
        assert status.text == song.status + f" {song.reason}" * bool(song.reason)
    assert table.attributes["aria-rowcount"] == "201"
    assert [row.attributes["aria-rowindex"] for row in table.all("tr")] == [str(at) for at in range(1, 202)]
    roles = [cell.attributes["role"] for cell in rows[0]]
    assert roles == ["rowheader", *["cell"] * 5]
    assert {row.attributes["role"] for row in table.all("tr")} == {"row"}
    assert {each.attributes["role"] for each in (table.one("thead"), table.one("tbody"))} == {"rowgroup"}
    assert {each.attributes["role"] for each in table.one("thead").all("th")} == {"columnheader"}


def test_all_songs_are_there_as_data_and_the_first_as_rows() -> None:
    songs = songs_of(N_AT_ONCE + 50, genres_of(20))
    page = page_with(Songs("s", "Songs", songs))
    table, data = page.one("table"), data_of(page)
    assert len(cells_of(table)) == N_AT_ONCE and len(data["songs"]) == len(songs)
    assert table.attributes["aria-rowcount"] == str(len(songs) + 1)
    texts = data["texts"]
    assert len(set(texts)) == len(texts)
    for song, values in zip(songs, data["songs"], strict=True):
        folder, name, reference, predicted, ranking, confidence, bar, starts, status, reason = values
        assert "/home/anna/Music/" + texts[folder] + name == printable(song.path)
        assert [texts[genre] for genre in reference] == [*song.reference]
        assert [texts[genre] for genre in predicted] == [*song.predicted]
        assert [(texts[genre], shown) for genre, shown in ranking] == [(g, f"{x:.2f}") for g, x in song.ranking[:3]]
        assert confidence == ("" if song.confidence is None else f"{song.confidence:.6g}")
        assert len(bar) == len(song.ranking)
        assert len(starts.split()) == len(song.starts_seconds)
        assert (texts[status], texts[reason]) == (song.status, song.reason)


@pytest.mark.parametrize("name", [*HOSTILE, "a\u2028b\u2029c", "]]>", "--></script >"])
def test_a_name_cannot_end_the_data_that_it_is_in(name: str) -> None:
    songs = (Song(f"/m/{name}/{name}", (name,), (name,), 0.5, ((name, 0.5),), (), name, name),)
    page = page_with(Songs("s", "s", songs))
    text = page.one("script", type="application/json").text
    assert text.isascii() and not set(text) & set("<>&'")
    data = data_of(page)
    assert printable(name) in data["texts"]
    assert data["songs"][0][1] == printable(name.rpartition("/")[2])


def test_a_confidence_that_is_no_number_is_none() -> None:
    songs = (Song("a", (), (), float("nan"), (("Rock", float("nan")), ("Pop", 0.5)), (), "unsure"),)
    ((*_, confidence, bar, _, _, _),) = data_of(page_with(Songs("s", "s", songs)))["songs"]
    assert (confidence, bar) == ("", [50.0])


def test_without_the_script_it_is_said_what_is_missing() -> None:
    def note(n_songs: int) -> str:
        return page_with(Songs("s", "s", songs_of(n_songs, genres_of(3)))).one("noscript").text

    assert note(N_AT_ONCE) == "JavaScript is off, which sorts and filters."
    assert note(N_AT_ONCE + 1).endswith(f"and shows the other songs of a list than its first {N_AT_ONCE}.")


@pytest.mark.parametrize("confidences", [(0.6, 0.3, 0.1), (0.5, 0.2), (0.9, 0.8, 0.3), (1.0, 0.0), (0.0,)])
def test_the_bar_of_a_song_has_its_confidences_end_to_end(confidences: tuple[float, ...]) -> None:
    ranking = tuple((f"genre {at}", confidence) for at, confidence in enumerate(confidences))
    song = Song("a.mp3", (), (), confidences[0], ranking, (), "unsure")
    rects = page_with(Songs("s", "s", (song,))).one("table").one("svg").all("rect")
    widths = [float(rect.attributes["width"]) for rect in rects]
    assert widths == pytest.approx([100 * each / max(1, sum(confidences)) for each in confidences], abs=0.06)
    starts = [float(rect.attributes["x"]) for rect in rects]
    assert starts == pytest.approx([sum(widths[:at]) for at in range(len(widths))], abs=0.2)
    assert starts[-1] + widths[-1] <= 100.2


def test_of_many_snippets_the_first_times_and_the_last_are_told() -> None:
    def starts(n_snippets: int) -> str:
        song = Song("a", (), (), None, (), tuple(10.0 * at for at in range(n_snippets)), "right")
        return cells_of(page_with(Songs("s", "s", (song,))).one("table"))[0][4].text

    assert starts(MOST_STARTS) == "0:00 0:10 0:20 0:30 0:40 0:50"
    assert starts(400) == "0:00 0:10 0:20 0:30 0:40 … 1:06:30 (400)"


@pytest.mark.parametrize(
    ("paths", "root", "shown"),
    [
        (("/m/a/1.mp3", "/m/b/2.mp3"), "/m/", ["a/1.mp3", "b/2.mp3"]),
        (("/m/ab/1.mp3", "/m/ac/2.mp3"), "/m/", ["ab/1.mp3", "ac/2.mp3"]),
        (("/a/1.mp3", "/b/2.mp3"), "", ["/a/1.mp3", "/b/2.mp3"]),
        (("/m/1.mp3", "m/2.mp3"), "", ["/m/1.mp3", "m/2.mp3"]),
        (("m/1.mp3", "m/x/2.mp3"), "m/", ["1.mp3", "x/2.mp3"]),
        (("1.mp3", "2.mp3"), "", ["1.mp3", "2.mp3"]),
        (("/m//a/1.mp3",), "/m/a/", ["/m//a/1.mp3"]),
    ],
)
def test_paths_leave_out_the_folder_they_share(paths: tuple[str, ...], root: str, shown: list[str]) -> None:
    songs = tuple(Song(path, (), (), None, (), (), "failed") for path in paths)
    section = page_with(Songs("s", "s", songs)).one("section")
    assert [cells[0].text for cells in cells_of(section.one("table"))] == shown
    assert [each.text for each in section.all("p")] == ([f"Paths are below {root}"] if root else [])


def test_songs_can_be_chosen_by_what_is_in_their_columns() -> None:
    songs = songs_of(200, genres_of(3))
    controls = page_with(Songs("s", "s", songs)).one(role="search")
    status = controls.one("select", name="status")
    assert [option.attributes["value"] for option in status.all("option")] == ["", *sorted(STATUSES)]
    n_right = sum(song.status == "right" for song in songs)
    assert f"right ({n_right})" in [option.text for option in status.all("option")]
    prediction = [option.attributes["value"] for option in controls.one("select", name="predicted").all("option")]
    assert prediction == ["", *sorted(genres_of(3)), "–"]
    assert controls.one("output").text == "200 songs"


def test_columns_are_called_what_they_are_in_this_kind_of_report() -> None:
    def heads(kind: str) -> list[str]:
        page = page_of(replace(example(3, 20), kind=kind))
        return [each.text for each in page.one("table", class_="songs").one("thead").all("th")]

    assert heads("library")[1:3] == ["In the tag", "Predicted"]
    assert heads("run")[1:3] == ["Reference", "Predicted"]


def test_curves_are_lines_of_what_is_finite_beside_their_names() -> None:
    rows = ((1, 0.25, None), (2, 0.5, 1.0), (3, None, 0.0))
    heads = (Column("epoch", "count"), Column("first", "share"), Column("second", "share"))
    report = Report("run", "Title", (), (Curves("epochs", "Epochs", heads, rows, "Note."),))
    section = Page(render(report)).root.one("section", id="epochs")
    svg = section.one("svg", class_="curves")
    lines = {line.one("title").text: line.all("polyline")[0].attributes["points"] for line in svg.all("g")[1:]}
    assert lines == {"first": "0.0,165.0 260.0,110.0", "second": "260.0,0.0 520.0,220.0"}
    texts = [text.text for text in svg.all("text")]
    assert texts == ["0", "0.25", "0.5", "0.75", "1", "1", "2", "3", "epoch", "first", "second"]
    assert len(section.one("table").one("tbody").all("tr")) == 3
    empty = Page(render(Report("run", "Title", (), (Curves("epochs", "Epochs", heads, ()),)))).root
    assert not empty.all("svg")


def test_curves_of_numbers_reach_a_round_number() -> None:
    heads = (Column("epoch", "count"), Column("loss", "number"))
    report = Report("run", "Title", (), (Curves("loss", "Loss", heads, ((1, 2.3), (2, 1.1))),))
    svg = Page(render(report)).root.one("svg", class_="curves")
    assert [text.text for text in svg.all("text", class_="y")] == ["0", "0.5", "1", "1.5", "2", "2.5"]


def test_a_text_that_is_not_there_is_a_dash() -> None:
    table = Table("runs", "Runs", (Column("run"), Column("is")), (("1", None), ("2", "better")))
    page = Page(render(Report("study", "Title", (), (table,)))).root
    assert [cell.text for cell in page.one("tbody").all("td")] == ["–", "better"]
