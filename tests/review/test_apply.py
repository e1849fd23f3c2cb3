"""What a plan decides is written by the one writer there is, and nothing else is: songs that changed are left alone."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tagger.review.apply import OTHER_GENRE, OTHER_SONG, apply_row
from tagger.review.plan import ACCEPT, REJECT, UNDECIDED, Choice
from tagger.tags import genre as tags
from tagger.tags.journal import Journal, journal_folder
from tagger.tags.policies import WriteOptions
from tagger.tags.undo import list_runs, undo
from tests.review.rows import row_for
from tests.support.fakes import make_tone

OPTIONS = WriteOptions()


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make_tone(path := tmp_path_factory.mktemp("tone") / "song.mp3", "Rock", 1)
    return path


@pytest.fixture
def song(tone: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tone, tmp_path / "song.mp3"))


def write(path: Path, *genres: str) -> None:
    """As another program does."""
    path.write_bytes(tags.retag(path.read_bytes(), path.suffix, genres))


@pytest.mark.parametrize(
    ("decision", "status", "genres"),
    [
        (ACCEPT, "tagged", ("Rock",)),
        (("Jazz", "Blues"), "tagged", ("Jazz", "Blues")),
        (REJECT, "kept", ()),
        (UNDECIDED, "kept", ()),
    ],
)
def test_what_is_decided_is_written_and_can_be_undone(
    song: Path, decision: Choice, status: str, genres: tuple[str, ...]
) -> None:
    before = song.read_bytes()
    row = row_for(song, decision=decision)
    shown = apply_row(row, OPTIONS, None)
    assert (shown.status, shown.old, shown.new, shown.written) == (status, (), genres, False)
    assert song.read_bytes() == before
    with Journal.open(song.parent) as journal:
        result = apply_row(row, OPTIONS, journal)
    assert (result.status, result.new, result.written) == (status, genres, status == "tagged")
    assert tags.read_genres(song) == genres
    for run in list_runs():
        assert [each.result for each in undo(run, None)] == ["bytes"]
        with Journal.open(song.parent) as journal:
            list(undo(run, journal))
    assert song.read_bytes() == before


def test_a_song_that_has_the_genres_is_unchanged_whatever_it_had(song: Path) -> None:
    row = row_for(song, decision=ACCEPT)
    write(song, "Rock")
    for journal in (None, Journal.open(song.parent)):
        assert apply_row(row, OPTIONS, journal).status == "unchanged"
    assert not list_runs()


def other_genre(song: Path) -> None:
    write(song, "Pop")


def other_song(song: Path) -> None:
    make_tone(song, "Blues", 2)


def gone(song: Path) -> None:
    song.unlink()


def emptied(song: Path) -> None:
    song.write_bytes(b"")


def linked(song: Path) -> None:
    os.link(song, song.with_name("other"))


def folder(song: Path) -> None:
    song.unlink()
    song.mkdir()


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        (other_genre, "skipped", OTHER_GENRE),
        (other_song, "skipped", OTHER_SONG),
        (gone, "failed", "no such file"),
        (emptied, "failed", "no audio in it"),
        (linked, "skipped", "has 2 hard links"),
        (folder, "failed", "not a regular file"),
    ],
)
@pytest.mark.parametrize("is_written", [False, True])
def test_a_song_that_is_not_as_the_plan_has_it_is_left_alone(
    song: Path, change: Callable[[Path], None], status: str, reason: str, is_written: bool
) -> None:
    row = row_for(song, decision=ACCEPT)
    change(song)
    before = song.read_bytes() if song.is_file() else None
    with Journal.open(song.parent) as journal:
        result = apply_row(row, OPTIONS, journal if is_written else None)
    assert (result.status, result.reason, result.written) == (status, reason, False)
    assert (song.read_bytes() if song.is_file() else None) == before
    assert not list(journal_folder().glob("*.jsonl"))


def test_other_tags_may_change(song: Path) -> None:
    """The plan is about the genre; the writer keeps all other tags as it finds them."""
    import mutagen

    row = row_for(song, decision=ACCEPT)
    file = mutagen.File(song, easy=True)
    if file.tags is None:
        file.add_tags()
    file["title"] = "New"
    file.save()
    with Journal.open(song.parent) as journal:
        assert apply_row(row, OPTIONS, journal).status == "tagged"
    assert mutagen.File(song, easy=True)["title"] == ["New"]


def test_genres_that_are_joined_by_a_separator_are_told_apart_and_joined_again(song: Path) -> None:
    write(song, "Pop / Soul")
    options = WriteOptions(separator=" / ")
    row = row_for(song, old=("Pop", "Soul"), decision=("Jazz", "Rock"))
    with Journal.open(song.parent) as journal:
        assert apply_row(row, options, journal).status == "tagged"
    assert tags.read_genres(song) == ("Jazz / Rock",)
    assert apply_row(replace(row, decision=ACCEPT), OPTIONS, None).reason == OTHER_GENRE
