"""The songs of a review by number: in whose order, decided by whom, and what of it is written."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tagger.review import session as session_module
from tagger.review.decisions import Decided, Decisions
from tagger.review.plan import ACCEPT, REJECT, Row
from tagger.review.session import BusyError, Review
from tagger.tags import genre as tags
from tagger.tags.policies import WriteOptions
from tests.review.rows import many_rows, row_for
from tests.support.fakes import make_tone


@pytest.fixture
def decisions(tmp_path: Path) -> Iterator[Decisions]:
    with Decisions(tmp_path / "decisions.sqlite3") as kept:
        yield kept


def review_of(rows: list[Row], decisions: Decisions, **options: object) -> Review:
    return Review(rows, WriteOptions(**options), decisions, ["genre-tag", "review", "x"], "x")  # type: ignore[arg-type]


def finished(review: Review) -> session_module.Job:
    for _ in range(1000):
        job = review._job
        assert job is not None
        if not job.is_running:
            return job
        time.sleep(0.01)
    raise AssertionError("never done")


def test_songs_stand_by_album_as_people_count(decisions: Decisions) -> None:
    paths = ["/m/B/10 x.mp3", "/m/a/2.mp3", "/m/B/9 x.mp3", "/m/a/1.mp3", "/m/B/CD 2/1.mp3", f"/m/a/{'9' * 5000}.mp3"]
    review = review_of([Row(path, bytes(31) + bytes([n])) for n, path in enumerate(paths)], decisions)
    told = review.songs()
    assert told["albums"] == ["a", "B"]
    assert [(each[0], each[1][:10]) for each in told["songs"]] == [
        (0, "1.mp3"), (0, "2.mp3"), (0, "9999999999"), (1, "9 x.mp3"), (1, "10 x.mp3"), (1, "CD 2/1.mp3"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/m/a/1.mp3"], ["a"]),
        (["/m/1.mp3", "/m/a/1.mp3"], ["m", "a"]),
        (["/1.mp3", "/a/1.mp3"], ["/", "a"]),
    ],
)
def test_a_folder_that_holds_all_others_has_its_own_name(
    decisions: Decisions, paths: list[str], expected: list[str]
) -> None:
    """It stood there as a dot."""
    rows = [Row(path, bytes(31) + bytes([number])) for number, path in enumerate(paths)]
    assert review_of(rows, decisions).songs()["albums"] == expected


def test_a_plan_comes_with_decisions_that_those_of_the_page_outweigh(decisions: Decisions) -> None:
    rows = [replace(row, decision=ACCEPT) for row in many_rows(3)]
    decisions.keep([Decided(rows[1].identity, REJECT, rows[1].proposed)])
    review = review_of(rows, decisions)
    assert [each[7:9] for each in review.songs()["songs"]] == [[ACCEPT, "plan"], [REJECT, "song"], [ACCEPT, "plan"]]


def test_the_same_recording_in_two_places_is_decided_on_once(decisions: Decisions) -> None:
    rows = [replace(row, identity=bytes(32), proposed=("Rock",)) for row in many_rows(2)]
    review = review_of(rows, decisions)
    review.decide([(1, ("Jazz",))], "song")
    assert [each[0] for each in review.changes()] == [0, 1]


def test_decisions_of_another_process_are_taken_over(decisions: Decisions, tmp_path: Path) -> None:
    rows = many_rows(3)
    review = review_of(rows, decisions)
    with Decisions(tmp_path / "decisions.sqlite3") as other:
        other.keep([Decided(rows[2].identity, ("Jazz",))])
    assert review.news(0, 0)["decisions"] == [[2, ("Jazz",), "song"]]
    assert review.changes() == [(2, ("Jazz",))]


@pytest.fixture
def songs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "music" / f"{number}.mp3" for number in range(6)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        make_tone(path, "Rock", 1 + number / 10)
    return paths


def test_one_thing_after_the_other(songs: list[Path], decisions: Decisions, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, real = threading.Event(), session_module.apply_row

    def slowly(*arguments: object) -> object:
        gate.wait(10)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(session_module, "apply_row", slowly)
    review = review_of([row_for(path, decision=ACCEPT) for path in songs], decisions)
    review.write()
    for begin in (review.write, review.undo):
        with pytest.raises(BusyError):
            begin()
    gate.set()
    assert finished(review).n_written == 6
    review.undo()
    assert finished(review).n_written == 6
    assert [tags.read_genres(path) for path in songs] == [()] * 6


def test_closing_ends_after_the_song_that_is_written(
    songs: list[Path], decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, real = threading.Event(), session_module.apply_row

    def slowly(*arguments: object) -> object:
        begun.set()
        time.sleep(0.1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(session_module, "apply_row", slowly)
    review = review_of([row_for(path, decision=ACCEPT) for path in songs], decisions)
    review.write()
    begun.wait(10)
    review.close()
    job = finished(review)
    assert 1 <= job.n_done < 6 and job.error == "Interrupted"
    assert sum(tags.read_genres(path) == ("Rock",) for path in songs) == job.n_written == job.n_done
    with pytest.raises(BusyError):
        review.write()


def test_a_journal_that_cannot_be_kept_is_told(songs: list[Path], decisions: Decisions, nobody: Path) -> None:
    (nobody / "state" / "genre-tag").mkdir(parents=True)
    (nobody / "state" / "genre-tag" / "journal").write_text("in the way")
    review = review_of([row_for(path, decision=ACCEPT) for path in songs], decisions)
    review.write()
    job = finished(review)
    assert job.error.endswith(": nothing is written without a record of it") and job.n_written == 0
    assert [tags.read_genres(path) for path in songs] == [()] * 6


def test_what_nobody_foresaw_is_told_and_is_not_the_end(
    songs: list[Path], decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(session_module, "apply_row", lambda *_: 1 / 0)
        review = review_of([row_for(path, decision=ACCEPT) for path in songs], decisions)
        review.write()
        assert finished(review).error == "division by zero"
    review.write()
    assert finished(review).n_written == 6


def test_a_song_that_was_edited_since_is_not_undone_over(songs: list[Path], decisions: Decisions) -> None:
    review = review_of([row_for(path, decision=ACCEPT) for path in songs[:2]], decisions)
    review.write()
    finished(review)
    songs[0].write_bytes(tags.retag(songs[0].read_bytes(), ".mp3", ["Polka"]))
    review.undo()
    job = finished(review)
    assert [number for number, _ in job.failures] == [0]
    assert [tags.read_genres(path) for path in songs[:2]] == [("Polka",), ()]
    assert review.news(0, 0)["old"][-1] == [1, []]


def test_how_genres_are_written_is_as_asked(songs: list[Path], decisions: Decisions) -> None:
    review = review_of([row_for(songs[0], decision=("Jazz", "Soul"))], decisions, separator=" / ")
    review.write()
    finished(review)
    assert tags.read_genres(songs[0]) == ("Jazz / Soul",)
    assert review.changes() == []


def test_twenty_thousand_songs_are_told_of_in_time(decisions: Decisions) -> None:
    rows = many_rows(20_000)
    started = time.monotonic()
    review = review_of(rows, decisions)
    review.songs()
    review.decide([(number, ACCEPT) for number in range(20_000)], "bulk")
    assert len(review.news(0, 0)["decisions"]) == 20_000
    assert time.monotonic() - started < 10  # some 1.5 s on a machine that is not busy
