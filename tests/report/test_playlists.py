"""Playlists: which songs are in which, that players find them, and that no file of the user's is lost."""

import os
from pathlib import Path

import pytest

from tagger.audio.library import find_songs
from tagger.errors import OutputError
from tagger.report.document import Song
from tagger.report.playlists import file_names, playlists, write_playlists
from tests.support.reports import HOSTILE

FIXED = {"unsure.m3u8", "failed.m3u8", "disagree.m3u8"}


def song(path: Path | str, genre: str = "", status: str = "untagged", confidence: float = 0.9) -> Song:
    return Song(str(path), (), (genre,) if genre else (), confidence, (), (), status)


def make(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def listed(playlist: Path) -> list[Path]:
    """The songs of a playlist as genre-tag itself reads it."""
    found = list(find_songs([str(playlist)]))
    assert not [each for each in found if each.problem]
    return [Path(os.path.normpath(each.path)) for each in found]


def entries(playlist: Path) -> list[str]:
    return [line for line in playlist.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


# ---- which songs


def test_a_song_is_in_the_playlist_of_what_it_is_classified_as_and_of_why_it_needs_a_look() -> None:
    songs = [
        song("1.mp3", "Rock", "agrees"),
        song("2.mp3", "Rock", "differs", 0.6),
        song("3.mp3", "Jazz", "differs", 0.8),
        song("4.mp3", "Jazz", "untagged"),
        song("5.mp3", "", "unsure"),
        song("6.mp3", "", "failed"),
        song("7.mkv", "", "skipped"),
        song("no such folder", "", "failed"),
    ]
    found = {name: [each.path for each in listed] for name, listed in playlists(songs).items()}
    assert found == {
        "unsure": ["5.mp3"],
        "failed": ["6.mp3"],
        "disagree": ["3.mp3", "2.mp3"],  # the most confident first
        "Jazz": ["3.mp3", "4.mp3"],
        "Rock": ["1.mp3", "2.mp3"],
    }


def test_there_are_three_playlists_even_of_nothing(tmp_path: Path) -> None:
    written = write_playlists(tmp_path / "new" / "lists", [])
    assert {file.name for file in written.files} == FIXED == set(os.listdir(tmp_path / "new" / "lists"))
    assert all(listed(file) == [] for file in written.files)


# ---- that players find them


def test_playlists_lead_to_the_songs_from_wherever_they_are(tmp_path: Path) -> None:
    songs = [tmp_path / "music" / name for name in ("a/1 ä 日本.mp3", "a/#2.mp3", "3.mp3", "a/back\\slash.mp3")]
    make(*songs)
    for folder in (tmp_path / "music", tmp_path / "music" / "a", tmp_path / "x" / "y" / "lists"):
        write_playlists(folder, [song(path, "Rock") for path in songs])
        assert listed(folder / "Rock.m3u8") == songs
        assert not any(line.startswith("/") for line in entries(folder / "Rock.m3u8"))
    assert entries(tmp_path / "music" / "a" / "Rock.m3u8") == [
        "1 ä 日本.mp3",
        "./#2.mp3",
        "../3.mp3",
        "back\\slash.mp3",
    ]


def test_a_name_that_begins_with_a_blank_or_looks_like_a_stream(tmp_path: Path) -> None:
    songs = [tmp_path / name for name in (" 1.mp3", "\t2.mp3", "http:/3.mp3", "file:/4.mp3", "\ufeff5.mp3")]
    make(*songs)
    write_playlists(tmp_path, [song(path, "Rock") for path in songs])
    assert listed(tmp_path / "Rock.m3u8") == songs


def test_paths_given_relative_are_found_from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "music" / "1.mp3")
    monkeypatch.chdir(tmp_path)
    write_playlists(Path("lists"), [song("music/1.mp3", "Rock")])
    assert entries(tmp_path / "lists" / "Rock.m3u8") == ["../music/1.mp3"]


def test_a_folder_reached_by_a_link_leads_to_the_songs(tmp_path: Path) -> None:
    make(tmp_path / "music" / "1.mp3")
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    write_playlists(tmp_path / "link", [song(tmp_path / "music" / "1.mp3", "Rock")])
    (found,) = listed(tmp_path / "far" / "away" / "Rock.m3u8")
    assert found.samefile(tmp_path / "music" / "1.mp3")


def test_another_drive_is_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_way(*_: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    make(tmp_path / "1.mp3")
    monkeypatch.setattr("tagger.report.playlists.os.path.relpath", no_way)
    write_playlists(tmp_path, [song(tmp_path / "1.mp3", "Rock")])
    assert entries(tmp_path / "Rock.m3u8") == [str(tmp_path / "1.mp3")]


@pytest.mark.parametrize("name", ["new\nline.mp3", "return\r.mp3", os.fsdecode(b"caf\xe9.mp3")])
def test_what_no_playlist_can_hold_is_left_out_and_named(tmp_path: Path, name: str) -> None:
    make(tmp_path / "1.mp3")
    songs = [song(tmp_path / name, "Rock", "differs"), song(tmp_path / "1.mp3", "Rock")]
    written = write_playlists(tmp_path, songs)
    assert written.left_out == (str(tmp_path / name),)  # once, though two playlists lack it
    assert listed(tmp_path / "Rock.m3u8") == [tmp_path / "1.mp3"]
    (tmp_path / "Rock.m3u8").read_text(encoding="utf-8")


# ---- names of files


def test_names_of_genres_become_names_of_files() -> None:
    genres = ["R&B / Soul", "CON", "com1.x", "..", ".hidden", "a:b*c?", "trailing. ", "W" * 200, "ß" * 200, "", "日本"]
    names = file_names(genres)
    assert names == {
        "R&B / Soul": "R&B - Soul", "CON": "_CON", "com1.x": "_com1.x", "..": "_ (2)", "": "_", ".hidden": "hidden",
        "a:b*c?": "a-b-c-", "trailing. ": "trailing", "W" * 200: "W" * 120, "ß" * 200: "ß" * 60, "日本": "日本",
    }  # fmt: skip


def test_no_two_genres_share_a_file_on_any_system() -> None:
    genres = ["Rock", "ROCK", "rock", "Caf\u00e9", "Cafe\u0301", "A/B", "A-B", "A:B", "Unsure", "W" * 200, "W" * 201]
    names = file_names(genres, taken=["unsure"])
    assert len({name.casefold() for name in names.values()}) == len(genres)
    assert names["Unsure"] == "Unsure (2)"
    assert names == file_names(genres[::-1], taken=["unsure"])  # whatever the order


def test_hostile_genres_stay_inside_the_folder(tmp_path: Path) -> None:
    make(tmp_path / "1.mp3")
    genres = [*HOSTILE, "..", "../up", "/etc/passwd", "NUL", "\\\\host\\share"]
    written = write_playlists(tmp_path / "lists", [song(tmp_path / "1.mp3", genre) for genre in genres])
    assert {file.name for file in written.files} == set(os.listdir(tmp_path / "lists"))
    assert len(written.files) == len(genres) + 3
    assert sorted(os.listdir(tmp_path)) == ["1.mp3", "lists"]
    assert all(listed(file) == [tmp_path / "1.mp3"] for file in written.files if file.name not in FIXED)


# ---- files that are there already


def test_a_new_report_replaces_its_playlists_and_removes_those_that_are_over(tmp_path: Path) -> None:
    make(tmp_path / "1.mp3")
    write_playlists(tmp_path, [song(tmp_path / "1.mp3", "Rock"), song(tmp_path / "1.mp3", "Jazz")])
    written = write_playlists(tmp_path, [song(tmp_path / "1.mp3", "", "failed")])
    assert [file.name for file in written.removed] == ["Jazz.m3u8", "Rock.m3u8"]
    assert set(os.listdir(tmp_path)) == FIXED | {"1.mp3"}
    assert listed(tmp_path / "failed.m3u8") == [tmp_path / "1.mp3"]


@pytest.mark.parametrize("theirs", ["#EXTM3U\n1.mp3\n", "", "#EXTM3U\n#genre-tag 00000000\n#PLAYLIST:Rock\n"])
def test_a_playlist_of_somebody_else_is_an_error_before_anything_is_written(tmp_path: Path, theirs: str) -> None:
    (tmp_path / "Rock.m3u8").write_text(theirs)
    with pytest.raises(OutputError) as error:
        write_playlists(tmp_path, [song("1.mp3", "Jazz"), song("1.mp3", "Rock")])
    assert error.value.path == tmp_path / "Rock.m3u8"
    assert os.listdir(tmp_path) == ["Rock.m3u8"]
    assert (tmp_path / "Rock.m3u8").read_text() == theirs


def test_a_playlist_that_was_edited_or_copied_is_the_users(tmp_path: Path) -> None:
    write_playlists(tmp_path, [song(tmp_path / "1.mp3", "Rock")])
    ours = (tmp_path / "Rock.m3u8").read_bytes()
    (tmp_path / "My favourites.m3u8").write_bytes(ours)
    (tmp_path / "unreadable.m3u8").mkdir()
    write_playlists(tmp_path, [song(tmp_path / "1.mp3", "Rock")])
    assert (tmp_path / "My favourites.m3u8").read_bytes() == ours
    (tmp_path / "Rock.m3u8").write_bytes(ours + b"2.mp3\n")
    with pytest.raises(OutputError, match=r"Rock\.m3u8: is no playlist as genre-tag left it"):
        write_playlists(tmp_path, [song(tmp_path / "1.mp3", "Rock")])
    write_playlists(tmp_path, [song(tmp_path / "1.mp3", "Jazz")])  # nor is it removed
    assert (tmp_path / "Rock.m3u8").read_bytes() == ours + b"2.mp3\n"


def test_links_and_pipes_are_not_ours(tmp_path: Path) -> None:
    write_playlists(tmp_path / "a", [song("1.mp3", "Rock")])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "Rock.m3u8").symlink_to(tmp_path / "a" / "Rock.m3u8")
    with pytest.raises(OutputError):
        write_playlists(tmp_path / "b", [song("1.mp3", "Rock")])
    (tmp_path / "c").mkdir()
    os.mkfifo(tmp_path / "c" / "Rock.m3u8")
    with pytest.raises(OutputError):
        write_playlists(tmp_path / "c", [song("1.mp3", "Rock")])


def test_a_disk_that_fails_leaves_the_old_playlist_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_playlists(tmp_path, [song(tmp_path / "1.mp3", "Rock")])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_playlists(tmp_path, [song(tmp_path / "2.mp3", "Rock")])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as error:
        write_playlists(tmp_path / "file" / "lists", [])
    assert "file" in str(error.value.path) and error.value.reason


def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        (file, *_) = write_playlists(tmp_path, []).files
    finally:
        os.umask(previous)
    assert file.stat().st_mode & 0o777 == 0o644
