"""Whose genre it is, by journals that real runs leave."""

from pathlib import Path

import pytest

from tagger.evaluation.provenance import Provenance
from tagger.tags import genre as tags
from tagger.tags.journal import Journal
from tagger.tags.undo import Written, list_runs, undo
from tests.support.fakes import make_tone


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "library" / "song.mp3"
    path.parent.mkdir()
    make_tone(path, "Rock", seconds=1.0)
    return path


def write(song: Path, *genres: str) -> None:
    """As a run of the program writes."""
    with Journal.open(song.parent, state=song.parent.parent) as journal:
        assert journal.write_genres(song, genres)


def change(song: Path, *genres: str) -> None:
    """As another program writes."""
    song.write_bytes(tags.retag(song.read_bytes(), song.suffix, genres))


def persons(song: Path) -> tuple[str, ...]:
    return Provenance.read(song.parent.parent, pytest.fail).persons(song, tags.read_genres(song))


def test_a_genre_that_nothing_is_known_of_is_a_persons(song: Path) -> None:
    assert persons(song) == ()
    change(song, "Rock", "Pop")
    assert persons(song) == ("Rock", "Pop")


def test_what_was_written_and_not_changed_since_is_none(song: Path) -> None:
    write(song, "Rock")
    assert persons(song) == ()
    write(song, "Jazz")  # over its own
    assert persons(song) == ()


def test_what_somebody_changed_since_is_a_persons(song: Path) -> None:
    write(song, "Rock")
    change(song, "Shoegaze")
    assert persons(song) == ("Shoegaze",)
    write(song, "Rock")
    assert persons(song) == ()


def test_of_what_was_added_to_the_rest_is_a_persons(song: Path) -> None:
    change(song, "Shoegaze")
    write(song, "Shoegaze", "Rock")
    assert persons(song) == ("Shoegaze",)
    write(song, "Shoegaze", "Rock", "Pop")
    assert persons(song) == ("Shoegaze",)


def test_what_was_put_back_is_whose_it_was(song: Path) -> None:
    change(song, "Shoegaze")
    write(song, "Rock")
    state = song.parent.parent
    (run,) = list_runs(state)
    with Journal.open(song.parent, state=state) as journal:
        assert [undone.result for undone in undo(run, journal)] == ["bytes"]
    assert persons(song) == ("Shoegaze",)


def test_what_was_put_back_may_have_been_written_before(song: Path) -> None:
    write(song, "Rock")
    write(song, "Jazz")
    state = song.parent.parent
    with Journal.open(song.parent, state=state) as journal:
        assert [undone.result for undone in undo(list_runs(state)[0], journal)] == ["bytes"]
    assert tags.read_genres(song) == ("Rock",) and persons(song) == ()


def test_genres_that_were_written_in_a_circle_are_no_persons() -> None:
    writes = [Written("/a", (), ("Rock",)), Written("/a", ("Jazz",), ("Pop",)), Written("/a", ("Pop",), ("Jazz",))]
    known = Provenance.of(writes)
    assert [known.persons("/a", (genre,)) for genre in ("Rock", "Pop", "Jazz", "Soul")] == [(), (), (), ("Soul",)]
    assert known.persons("/b", ("Rock",)) == ("Rock",)


def test_a_damaged_journal_is_told_of_and_costs_no_other(song: Path) -> None:
    write(song, "Rock")
    state, told = song.parent.parent, []
    (state / "journal" / "0.jsonl").write_bytes(b"damaged\n")
    with (next((state / "journal").glob("2*.jsonl"))).open("ab") as file:
        file.write(b'{"v":1,"op":"write","n":7}\n{"v":1,"op":"wri')
    assert Provenance.read(state, told.append).persons(song, ("Rock",)) == ()
    assert [Path(error.path).name for error in told] == ["0.jsonl"]
