"""The HTML report in a real browser: Debian's chromium without a window, driven by Playwright."""

import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tagger.report.document import Column, Matrix, Report, Song, Songs, Table
from tagger.report.html import N_AT_ONCE, render
from tagger.text import printable
from tests.support.reports import HOSTILE, STATUSES, example, genres_of, kinds, matrix_from, matrix_of, songs_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


Open = Callable[..., "Page"]


@pytest.fixture
def show(browser: "Browser", tmp_path: Path) -> Iterator[Open]:
    """Opens a report as a file; fails the test when the page said anything on the console or asked for anything."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_report(report: Report, **settings: Any) -> "Page":
        path = tmp_path / "report.html"
        path.write_text(render(report), encoding="utf-8")
        context = browser.new_context(**{"viewport": WIDE, **settings})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert said == []
    assert set(asked) <= {(tmp_path / "report.html").as_uri()}


def library(*sections: Table | Matrix | Songs) -> Report:
    return Report("library", "A library", (("songs", "3"),), sections)


def texts(page: "Page", selector: str) -> list[str]:
    """The texts of the elements that are shown, in their order."""
    found: list[str] = page.eval_on_selector_all(
        selector, "all => all.filter(each => each.checkVisibility()).map(each => each.textContent)"
    )
    return found


def column(page: "Page", number: int) -> list[str]:
    """What is shown in a column of the first table, from 1."""
    return texts(page, f"tbody tr > :nth-child({number})")


def head(page: "Page", name: str) -> "Locator":
    return page.get_by_role("columnheader", name=name, exact=True)


# Opening


def test_a_page_of_three_thousand_songs_opens_with_hostile_names_and_all(show: Open) -> None:
    page = show(example(20, 3000))
    assert page.title() == "Music in /home/anna/Music"
    assert page.locator(".songs").get_attribute("aria-rowcount") == "3001"
    assert page.locator("script, img, iframe, object, style").count() == 3
    shown = "".join(texts(page, "#kinds th bdi"))
    assert shown == "".join(map(printable, HOSTILE))
    page.locator("#songs").evaluate("each => each.scrollIntoView()")
    page.locator(".songs tbody tr").first.wait_for()
    shown = "".join(texts(page, ".songs tbody .path bdi:last-child")[: len(HOSTILE)])
    assert shown == "".join(printable(name.rpartition("/")[2]) for name in HOSTILE)


def row_number(page: "Page", number: int) -> "Locator":
    """The row of the song that stands at this place, from 1."""
    return page.locator(f'.songs tbody [aria-rowindex="{number + 1}"]')


def wait_until(page: "Page", condition: str) -> None:
    """Wait for a condition in the page, whose policy forbids Playwright's own way."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never so: {condition}")


def test_songs_are_drawn_as_they_are_scrolled_to(show: Open) -> None:
    songs = songs_of(3000, genres_of(3))
    page = show(library(Songs("s", "Songs", songs)), reduced_motion="reduce")
    drawn = "document.querySelectorAll('.songs tbody tr').length"
    for at in (3000, 1500, 1):  # a leap to the end, to the middle, and back
        page.evaluate(f"scrollTo(0, {(at - 1) / 3000} * document.body.scrollHeight)")
        row_number(page, at).wait_for()
        assert row_number(page, at).locator("bdi").nth(1).text_content() == printable(
            songs[at - 1].path.rpartition("/")[2]
        )
        assert page.evaluate(drawn) <= 1000
    for _ in range(40):  # a screen after the other
        page.keyboard.press("PageDown")
        wait_until(
            page,
            "[...document.querySelectorAll('.songs tbody tr')].some((row) => {"
            " const { top, bottom } = row.getBoundingClientRect(); return top < innerHeight / 2 && bottom > 0; })",
        )
    assert page.evaluate(drawn) <= 1000


def test_the_script_draws_a_row_as_it_is_in_the_page(show: Open) -> None:
    page = show(library(Songs("s", "Songs", songs_of(200, genres_of(3)))))
    html = "all => all.map(each => each.outerHTML)"
    written = page.eval_on_selector_all(".songs tbody tr", html)
    for _ in range(3):
        head(page, "Song").get_by_role("button").click()
    drawn = page.eval_on_selector_all(".songs tbody tr", html)
    assert len(drawn) == 200
    assert drawn == written


def test_all_songs_are_searched_and_sorted_whether_drawn_or_not(show: Open) -> None:
    songs = songs_of(3000, genres_of(3))
    page = show(library(Songs("s", "Songs", songs)))
    page.get_by_role("searchbox").fill("2987.flac")
    assert texts(page, "tbody .path bdi:last-child") == [songs[2987].path.rpartition("/")[2]]
    assert page.locator("#s output").text_content() == "1 of 3,000 songs"
    assert page.locator(".songs").get_attribute("aria-rowcount") == "2"
    page.get_by_role("searchbox").fill("")
    head(page, "Confidence").get_by_role("button").click()
    best = max(song.confidence or 0 for song in songs)
    assert f"{best:.2f}" in (row_number(page, 1).text_content() or "")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    row_number(page, 3000).wait_for()
    assert "failed" in (row_number(page, 3000).text_content() or "")  # without a confidence


def test_the_policy_stops_whatever_were_to_come_in(browser: "Browser", tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    bad = (
        "<script>document.title = 'owned'</script><style>h1 {color: rgb(1, 2, 3)}</style>"
        "<img src=x.png onerror='document.title = 1'><p style='color: red'>"
    )
    path.write_text(render(library()).replace("</h1>", f"</h1>{bad}"), encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("requestfinished", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert page.title() == "A library"
    assert page.locator("h1").evaluate("each => getComputedStyle(each).color") != "rgb(1, 2, 3)"
    assert asked == [path.as_uri()]
    assert len(said) >= 4
    assert all("Content Security Policy" in each for each in said)
    context.close()


def test_all_is_there_without_the_script(show: Open) -> None:
    page = show(example(20, 100), java_script_enabled=False)
    assert page.locator(".songs tbody tr").count() == 100
    assert page.locator(".songs tbody tr").last.is_visible()
    assert page.locator("noscript p").is_visible()
    assert page.locator("button").count() == 0
    assert not page.get_by_role("search").first.is_visible()
    page.get_by_text("The same numbers as a table").first.click()
    assert page.locator("details table").first.is_visible()


def test_of_very_many_songs_the_first_are_there_without_the_script(show: Open) -> None:
    page = show(library(Songs("s", "Songs", songs_of(300, genres_of(3)))), java_script_enabled=False)
    assert page.locator(".songs tbody tr").count() == N_AT_ONCE
    assert f"first {N_AT_ONCE}" in page.locator("noscript p").inner_text()


def test_with_the_script_nothing_is_said_to_be_missing(show: Open) -> None:
    assert not show(example(3, 20)).locator("noscript").is_visible()


# Sorting


def test_a_click_sorts_another_turns_round_a_third_restores(show: Open) -> None:
    page = show(library(kinds()))
    start = column(page, 2)
    for direction, reverse in (("descending", True), ("ascending", False)):
        head(page, "songs").get_by_role("button").click()
        assert column(page, 2) == sorted(start, key=int, reverse=reverse)
        assert head(page, "songs").get_attribute("aria-sort") == direction
        assert head(page, "name").get_attribute("aria-sort") == "none"
    head(page, "songs").get_by_role("button").click()
    assert head(page, "songs").get_attribute("aria-sort") == "none"
    assert column(page, 2) == start
    names = column(page, 1)
    head(page, "length").get_by_role("button").click()
    assert column(page, 1) == names[::-1]
    head(page, "songs").get_by_role("button").click()
    assert head(page, "length").get_attribute("aria-sort") == "none"


def test_what_has_no_value_is_last_whichever_way(show: Open) -> None:
    page = show(library(kinds()))
    for name, number in (("share right", 3), ("ratio", 4), ("genres", 6)):
        n_empty = column(page, number).count("–")
        assert n_empty
        for _ in range(2):
            head(page, name).get_by_role("button").click()
            shown = column(page, number)
            assert shown[-n_empty:] == ["–"] * n_empty
            assert "–" not in shown[:-n_empty]


def test_numbers_are_sorted_by_what_they_are_and_not_by_what_they_look_like(show: Open) -> None:
    rows = tuple((value, value, value) for value in (9.0, 10.0, -1.0, 0.0001, 0.0002, 100.0, 3600.0))
    columns = (Column("count", "count"), Column("number", "number"), Column("time", "seconds"))
    page = show(library(Table("t", "t", columns, tuple((int(a), b, max(c, 0)) for a, b, c in rows))))
    head(page, "number").get_by_role("button").click()
    values = page.eval_on_selector_all("tbody tr > :nth-child(2)", "all => all.map(each => each.dataset.value)")
    assert [float(value) for value in values] == sorted((row[1] for row in rows), reverse=True)


def test_text_is_sorted_as_people_do(show: Open) -> None:
    names = ["Song 10", "song 9", "Émile", "Zoe", "eagle", "song 2"]
    page = show(library(Table("t", "t", (Column("name"),), tuple((name,) for name in names))))
    head(page, "name").get_by_role("button").click()
    assert column(page, 1) == ["eagle", "Émile", "song 2", "song 9", "Song 10", "Zoe"]


def test_songs_are_sorted_too_by_keyboard(show: Open) -> None:
    page = show(library(Songs("s", "Songs", songs_of(60, genres_of(3)))))
    start = column(page, 1)
    head(page, "Confidence").get_by_role("button").focus()
    page.keyboard.press("Enter")
    shown = [text.partition("\u00a0")[2][:4] for text in column(page, 4)]
    n_empty = shown.count("")
    assert n_empty
    assert shown == sorted(shown, reverse=True)
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    assert column(page, 1) == start


# Filtering


def songs_page(show: Open, n_songs: int = 200) -> tuple["Page", tuple[Song, ...]]:
    songs = songs_of(n_songs, genres_of(3))
    return show(library(matrix_from(songs, genres_of(3)), Songs("s", "Songs", songs))), songs


def test_the_box_finds_all_its_words_anywhere_in_a_row(show: Open) -> None:
    page, songs = songs_page(show)
    box = page.get_by_role("searchbox", name="Filter")
    box.fill("WRONG  7.flac")
    names = [song.path.rpartition("/")[2] for song in songs if song.status == "wrong"]
    expected = [name for name in names if name.endswith("7.flac")]
    assert 0 < len(expected) < 50
    assert texts(page, "tbody .path bdi:last-child") == expected
    assert page.locator("#s output").text_content() == f"{len(expected)} of 200 songs"
    box.fill("no song is called this")
    assert column(page, 1) == []
    assert page.locator("#s output").text_content() == "0 of 200 songs"
    box.fill("")
    assert len(column(page, 1)) == 200
    assert page.locator("#s output").text_content() == "200 songs"


def test_the_box_finds_names_however_their_accents_are_written(show: Open) -> None:
    paths = [unicodedata.normalize(form, f"/m/Café del Mar {form}.mp3") for form in ("NFC", "NFD")]
    songs = tuple(Song(path, (), (), None, (), (), "failed") for path in (*paths, "/m/Cafe.mp3"))
    page = show(library(Songs("s", "Songs", songs)))
    for form in ("NFC", "NFD"):
        page.get_by_role("searchbox").fill(unicodedata.normalize(form, "CAFÉ"))
        assert len(column(page, 1)) == 2


def test_songs_can_be_chosen_by_genre_and_status(show: Open) -> None:
    page, songs = songs_page(show)
    for status in STATUSES:
        page.get_by_label("Status").select_option(status)
        assert len(column(page, 1)) == sum(song.status == status for song in songs)
    page.get_by_label("Status").select_option("wrong")
    page.get_by_label("In the tag").select_option("Rock")
    page.locator("select[name=predicted]").select_option("Pop")
    expected = [s for s in songs if (s.status, s.reference, s.predicted) == ("wrong", ("Rock",), ("Pop",))]
    assert expected
    assert len(column(page, 1)) == len(expected)
    page.get_by_label("Status").select_option("")
    page.get_by_label("In the tag").select_option("")
    page.locator("select[name=predicted]").select_option("–")
    assert len(column(page, 1)) == sum(not song.predicted for song in songs)


def test_what_was_filtered_stays_so_when_it_is_sorted(show: Open) -> None:
    page, _ = songs_page(show)
    page.get_by_label("Status").select_option("failed")
    before = column(page, 1)
    assert before
    head(page, "Song").get_by_role("button").click()
    assert sorted(column(page, 1)) == sorted(before)


def test_tables_are_filtered_one_by_one(show: Open) -> None:
    many = tuple((f"row {at}", at) for at in range(20))
    columns = (Column("name"), Column("songs", "count"))
    page = show(library(Table("a", "A", columns, many), Table("b", "B", columns, many)))
    page.get_by_role("search", name="B").get_by_role("searchbox").fill("row 1")
    assert len(texts(page, "#a tbody tr")) == 20
    assert len(texts(page, "#b tbody tr")) == 11


def test_a_click_on_a_cell_shows_its_songs_in_the_longest_list(show: Open) -> None:
    songs = songs_of(300, genres_of(3))
    some = Songs("some", "Some songs", songs[:100])
    page = show(library(matrix_from(songs, genres_of(3)), some, Songs("s", "Songs", songs)), reduced_motion="reduce")
    page.get_by_role("searchbox").last.fill("what was looked for before")
    cell = page.locator('[data-reference="Rock"][data-predicted="Hip-Hop"]')
    cell.click()
    n_songs = sum((song.reference, song.predicted) == (("Rock",), ("Hip-Hop",)) for song in songs)
    assert n_songs
    assert len(texts(page, "#s tbody tr")) == n_songs
    assert len(texts(page, "#some tbody tr")) == 100
    assert page.evaluate("document.activeElement.id") == "s"
    assert page.locator("#s h2").evaluate("each => each.getBoundingClientRect().top < innerHeight / 2")


# Looks

VARIANTS = [(WIDE, "light"), (WIDE, "dark"), (PHONE, "light"), (PHONE, "dark")]


@pytest.mark.parametrize(
    ("viewport", "scheme"), VARIANTS, ids=lambda each: each if isinstance(each, str) else each["width"]
)
def test_axe_finds_nothing_that_keeps_people_out(show: Open, viewport: dict[str, int], scheme: str) -> None:
    page = show(example(8, 20), viewport=viewport, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_axe_finds_nothing_in_songs_that_are_drawn_as_they_are_scrolled_to(show: Open) -> None:
    page = show(library(Songs("s", "Songs", songs_of(1200, genres_of(3)))), reduced_motion="reduce")
    page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    row_number(page, 600).wait_for()
    found = axe.Axe().run(page, options={"rules": {"color-contrast": {"enabled": False}}})  # slow; seen to above
    assert found.violations_count == 0, found.generate_report()


CONTRASTS = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.map((x) => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = parse(getComputedStyle(document.querySelector('.ground')).fill);
  return [...document.querySelectorAll('.hit, .miss')].filter((cell) => cell.querySelector('text')).map((cell) => {
    const rect = getComputedStyle(cell.querySelector('rect'));
    const share = Number(rect.fillOpacity), over = parse(rect.fill);
    const seen = ground.map((x, at) => x * (1 - share) + over[at] * share);
    const both = [light(seen), light(parse(getComputedStyle(cell.querySelector('text')).fill))];
    const contrast = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    return [...cell.getAttribute('class').split(' h'), contrast, light(seen)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_number_of_a_heat_map_stands_out_from_its_cell(show: Open, scheme: str) -> None:
    shares = [((step - 0.2) / 10) ** 2 for step in range(1, 11)]  # one of every step of colour
    counts = np.array([[round(1e4 * share), round(1e4 * (1 - share))] for share in shares])
    matrix = Matrix("m", "m", ("a",) * 20, ("a", "b"), np.concatenate([counts, counts[:, ::-1]]))
    found = show(library(matrix), color_scheme=scheme).evaluate(CONTRASTS)
    assert {(hue, int(step)) for hue, step, _, _ in found} == {
        (hue, at) for hue in ("hit", "miss") for at in range(1, 11)
    }
    assert min(contrast for _, _, contrast, _ in found) >= 4.5
    for hue in ("hit", "miss"):  # more is further from the ground: readable without telling hues apart
        lights = [light for _, light in sorted({(int(step), light) for name, step, _, light in found if name == hue})]
        assert len(lights) == 10
        assert lights == sorted(lights, reverse=scheme == "light")


def test_the_page_follows_the_colours_of_the_system(show: Open) -> None:
    lightness = {}
    for scheme in ("light", "dark"):
        page = show(example(3, 20), color_scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        lightness[scheme] = sum(map(int, re.findall(r"\d+", colour)))
    assert lightness["dark"] < 150 < 600 < lightness["light"]


@pytest.mark.parametrize("n_genres", [3, 20, 60])
def test_on_a_phone_nothing_sticks_out(show: Open, n_genres: int) -> None:
    hostile = tuple((name, name) for name in HOSTILE)
    page = show(replace(example(n_genres, 60), title=HOSTILE[-3], facts=hostile), viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    outside = page.eval_on_selector_all(
        "body *",
        "all => all.filter(each => !each.closest('.scroll, .skip, svg, caption') && each.checkVisibility()"
        " && (each.getBoundingClientRect().right > 360.5 || each.getBoundingClientRect().left < -0.5))"
        ".map(each => each.outerHTML.slice(0, 100))",
    )
    assert outside == []
    assert page.locator(".legend").evaluate("each => each.getBoundingClientRect().right < innerWidth")
    heat = page.locator(".heat")
    assert heat.evaluate("each => each.scrollWidth > each.clientWidth") is (n_genres > 3)
    heat.evaluate("each => each.scrollTo(200, 0)")
    names = page.locator("svg.names").bounding_box() or {}
    assert names["x"] == 16
    assert names["width"] < 200


@pytest.mark.parametrize("n_genres", [3, 20, 60])
def test_no_name_of_a_heat_map_is_cut_off_or_lies_on_another(show: Open, n_genres: int) -> None:
    matrix = matrix_of(n_genres)
    names = (*HOSTILE, *matrix.references[len(HOSTILE) :])[-n_genres:]
    page = show(library(replace(matrix, references=names, predicted=names[::-1])), viewport={**WIDE, "width": 2400})
    outside = page.eval_on_selector_all(
        "figure svg",
        """all => all.flatMap((svg) => {
          const frame = svg.getBoundingClientRect();
          return [...svg.querySelectorAll('text, rect')].filter((each) => {
            const box = each.getBoundingClientRect();
            return box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1
              || box.bottom > frame.bottom + 1;
          }).map((each) => each.outerHTML);
        })""",
    )
    assert outside == []
    overlaps = page.eval_on_selector_all(
        ".names text, .sums text",
        """all => {
          const boxes = all.map((each) => each.getBoundingClientRect());
          return boxes.some((a, i) => boxes.some((b, j) => i < j && a.left < b.right && b.left < a.right
            && a.top + 1 < b.bottom && b.top + 1 < a.bottom));
        }""",
    )
    assert overlaps is False
    numbers = page.eval_on_selector_all(
        ".cells text + title, .cells title",
        """all => all.map((each) => each.parentNode).filter((cell) => cell.querySelector('text')).map((cell) =>
          cell.querySelector('text').getBBox().width / cell.querySelector('rect').getBBox().width)""",
    )
    assert numbers
    assert max(numbers) < 1


def test_the_keyboard_reaches_all_and_is_seen_to(show: Open) -> None:
    page = show(example(3, 20))
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    assert (skip.bounding_box() or {})["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    reached = []
    for _ in range(100):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "[(document.activeElement.textContent || document.activeElement.type || '').slice(0, 40),"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        if page.evaluate("document.activeElement === document.body"):
            break
        reached.append(name)
        assert outline != "none", name
    everything = page.eval_on_selector_all(
        ":is(main button, main input, main select, main summary, .heat, .plot)",
        "all => all.filter(each => each.checkVisibility()).map(each =>"
        " (each.textContent || each.type || '').slice(0, 40))",
    )
    assert reached == everything


def test_a_screen_reader_is_told_of_tables_heads_and_what_is_shown(browser: "Browser", show: Open) -> None:
    page, songs = songs_page(show, 30)
    table = page.get_by_role("table", name="Songs")
    assert table.get_by_role("row").count() == 31
    assert table.get_by_role("rowheader").count() == 30
    assert table.get_by_role("columnheader").count() == 6
    assert table.get_by_role("cell").count() == 150
    assert page.get_by_role("img", name="Heat map of 3 by 3 genres").is_visible()
    assert page.get_by_role("region", name="Songs").is_visible()
    page.get_by_label("Status").select_option("wrong")
    n_wrong = sum(song.status == "wrong" for song in songs)
    assert page.get_by_role("status").last.text_content() == f"{n_wrong} of 30 songs"


def test_nothing_moves_for_those_who_want_it_still(show: Open) -> None:
    page = show(example(3, 0), reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_on_paper_there_is_what_was_on_the_screen_without_its_controls(show: Open) -> None:
    page = show(example(20, 100), color_scheme="dark")
    page.get_by_label("Status").select_option("wrong")
    n_shown = len(texts(page, ".songs tbody tr"))
    assert 0 < n_shown < 100
    page.emulate_media(media="print")
    assert len(texts(page, ".songs tbody tr")) == n_shown
    for selector in (".filter", "nav", ".skip", "details"):
        assert texts(page, selector) == []
    style = "getComputedStyle(document.querySelector('{}')).{}"
    assert page.evaluate(style.format("body", "backgroundColor")) == "rgb(255, 255, 255)"
    assert page.evaluate(style.format("body", "color")) == "rgb(0, 0, 0)"
    assert page.evaluate(style.format(".songs thead", "display")) == "table-header-group"  # again on every page
    assert page.evaluate(style.format(".songs thead button", "display")) == "contents"  # else the repeated are empty
    assert page.evaluate(style.format(".cells rect", "printColorAdjust")) == "exact"
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) >= 3


def test_on_paper_are_the_first_of_very_many_songs_and_how_many_are_not(show: Open) -> None:
    page = show(library(Songs("s", "Songs", songs_of(2600, genres_of(3)))))
    for way in ("media", "event"):
        page.emulate_media(media="print")
        if way == "event":
            page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.locator(".more").wait_for()
        assert len(texts(page, ".songs tbody tr")) == 2000
        assert texts(page, ".more") == ["600 more are not printed: filter them first."]
        page.emulate_media(media="screen")
        if way == "event":
            page.evaluate("dispatchEvent(new Event('afterprint'))")
        wait_until(page, "document.querySelectorAll('.songs tbody tr').length <= 1000")
        assert texts(page, ".more") == []
