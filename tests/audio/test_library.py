"""Which files are songs: real folders, links, playlists and lists."""

import codecs
import io
import os
import subprocess
from pathlib import Path

import pytest

from tagger.audio.library import Found, find_songs


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def songs(*paths: Path | str, **options: object) -> list[Path]:
    return [found.path for found in find_songs(map(str, paths), **options) if not found.problem]  # type: ignore[arg-type]


def problems(*paths: Path | str, **options: object) -> list[Found]:
    return [found for found in find_songs(map(str, paths), **options) if found.problem]  # type: ignore[arg-type]


def test_songs_come_in_library_order_files_before_subfolders(tmp_path: Path) -> None:
    make(tmp_path, "b.mp3", "A.flac", "c/1.ogg", "c/d/2.opus", "B side/3.M4A", "z.WAV")
    names = [path.relative_to(tmp_path).as_posix() for path in songs(tmp_path)]
    assert names == ["A.flac", "b.mp3", "z.WAV", "B side/3.M4A", "c/1.ogg", "c/d/2.opus"]


def test_what_is_not_music_is_passed_over_in_silence(tmp_path: Path) -> None:
    make(tmp_path, "cover.jpg", "a.cue", "a.m3u", "noext", "._a.mp3", ".b.mp3", "a.mp3.part", "Thumbs.db", ".DS_Store")
    make(tmp_path, "@eaDir/a.mp3", "#recycle/a.mp3", ".Trash-1000/a.mp3", "lost+found/a.mp3", ".stversions/a.mp3")
    assert list(find_songs([str(tmp_path)])) == []


@pytest.mark.parametrize("marker", [".nomusic", ".nomedia", ".notmusic"])
def test_a_marked_folder_is_left_alone_with_all_below(tmp_path: Path, marker: str) -> None:
    make(tmp_path, "a.mp3", f"books/{marker}", "books/b.mp3", "books/deep/c.mp3")
    assert songs(tmp_path) == [tmp_path / "a.mp3"]


def test_exclude_matches_names_and_paths_below_the_folder(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3", "a.wav", "Podcasts/x.mp3", "Jazz/live/y.mp3", "Jazz/z.mp3")
    assert songs(tmp_path, exclude=["*.wav", "Podcasts", "Jazz/live/*"]) == [
        tmp_path / "a.mp3",
        tmp_path / "Jazz/z.mp3",
    ]
    assert songs(tmp_path, exclude=["Jazz/"]) == [tmp_path / "a.mp3", tmp_path / "a.wav", tmp_path / "Podcasts/x.mp3"]


def test_music_that_cannot_be_tagged_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a.mka", "b.m4p", "c.aac")
    found = problems(tmp_path)
    assert [(f.path.name, f.failed) for f in found] == [("a.mka", False), ("b.m4p", False), ("c.aac", False)]
    assert found[1].problem == "DRM-protected"


def test_a_song_reached_twice_is_given_once(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3", "sub/b.mp3")
    (tmp_path / "link.mp3").symlink_to(tmp_path / "a.mp3")
    os.link(tmp_path / "a.mp3", tmp_path / "same.mp3")
    assert songs(tmp_path, tmp_path / "a.mp3", tmp_path, tmp_path / "sub") == [
        tmp_path / "a.mp3",
        tmp_path / "sub/b.mp3",
    ]


def test_links_to_folders_are_not_followed_so_loops_end(tmp_path: Path) -> None:
    make(tmp_path, "a/x.mp3")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "a/folder.mp3").symlink_to(tmp_path)
    assert list(find_songs([str(tmp_path)])) == [Found(tmp_path / "a/x.mp3", file=number(tmp_path / "a/x.mp3"))]


def number(path: Path) -> tuple[int, int]:
    return path.stat().st_dev, path.stat().st_ino


def test_a_link_given_as_the_path_is_followed(tmp_path: Path) -> None:
    make(tmp_path, "real/x.mp3")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert songs(tmp_path / "link") == [tmp_path / "link/x.mp3"]


def test_odd_files_are_named_and_none_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp3")  # opening it would hang
    (tmp_path / "dangling.mp3").symlink_to(tmp_path / "gone.mp3")
    (tmp_path / "self.mp3").symlink_to(tmp_path / "self.mp3")
    found = {f.path.name: (f.problem, f.failed) for f in problems(tmp_path)}
    assert found.pop("self.mp3")[1] is False
    assert found == {"fifo.mp3": ("not a regular file", False), "dangling.mp3": ("dangling link", False)}


def test_what_was_asked_for_and_is_not_there_has_failed(tmp_path: Path) -> None:
    assert problems(tmp_path / "nope") == [Found(tmp_path / "nope", "no such file or folder", failed=True)]
    assert problems("a" * 5000)[0].failed


def test_a_file_that_is_no_music_is_named_when_asked_for(tmp_path: Path) -> None:
    make(tmp_path, "cover.jpg", "noext")
    assert [f.problem for f in problems(tmp_path / "cover.jpg", tmp_path / "noext")] == [
        "not a music file: .jpg extension",
        "not a music file: no extension",
    ]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.mp3", "locked/b.mp3")
    real = os.scandir

    def scandir(path: Path) -> object:  # root reads everything, so the refusal is played
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert problems(tmp_path) == [Found(tmp_path / "locked", "folder cannot be read: Permission denied")]
    assert problems(tmp_path / "locked")[0].failed


def test_names_of_any_bytes_are_found(tmp_path: Path) -> None:
    for name in (b"caf\xe9.mp3", b"new\nline.mp3", b"-n.mp3", b"[red].mp3", b"\x1b[31m.mp3", b"x" * 251 + b".mp3"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"x")
    assert len(songs(tmp_path)) == 6


def test_stdin_lists_files_and_folders(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3", "sub/b.mp3", "new\nline.mp3")
    lines = f"{tmp_path}/a.mp3\r\n{tmp_path}/sub\n".encode()
    assert songs("-", stdin=io.BytesIO(lines)) == [tmp_path / "a.mp3", tmp_path / "sub/b.mp3"]
    nul = f"{tmp_path}/new\nline.mp3\0{tmp_path}/a.mp3\0".encode()
    assert songs("-", stdin=io.BytesIO(nul)) == [tmp_path / "new\nline.mp3", tmp_path / "a.mp3"]


def test_playlist_entries_are_relative_to_the_playlist(tmp_path: Path) -> None:
    make(tmp_path, "music/a.mp3", "music/sub/b c.mp3", "music/é.mp3")
    latin1 = os.fsdecode(os.fsencode(tmp_path) + b"/music/\xfc.mp3")
    Path(latin1).write_bytes(b"x")
    lines = [
        b"#EXTM3U",
        b"#EXTINF:1,Title",
        b"../music/a.mp3",
        b"../music\\sub\\b c.mp3",
        f"file://{tmp_path}/music/sub/b%20c.mp3".encode(),
        "../music/é.mp3".encode(),
        "../music/é.mp3".encode("latin-1"),
        b"../music/\xfc.mp3",
        b"http://radio.example/stream.mp3",
        b"http://[x/stream",
        b"gone.mp3",
        b"",
    ]
    playlist = tmp_path / "lists" / "mine.m3u8"
    playlist.parent.mkdir()
    playlist.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    assert [os.path.normpath(path) for path in songs(playlist)] == [
        str(tmp_path / "music/a.mp3"),
        str(tmp_path / "music/sub/b c.mp3"),
        str(tmp_path / "music/é.mp3"),
        latin1,
    ]
    assert [(f.problem, f.failed) for f in problems(playlist)] == [
        ("a stream, not a file", False),
        ("a stream, not a file", False),
        ("no such file or folder", True),
    ]


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
BOMS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["x.m3u", "x.m3u8"])
def test_a_playlist_is_read_in_the_encoding_that_its_mark_names(tmp_path: Path, encoding: str, name: str) -> None:
    make(tmp_path, "a.mp3", "é 日本.mp3")
    text = "#EXTM3U\r\n#EXTINF:1,é\r\na.mp3\r\né 日本.mp3\r\n"
    (tmp_path / name).write_bytes(BOMS.get(encoding, b"") + text.encode(encoding))
    assert list(find_songs([str(tmp_path / name)])) == [
        Found(path, file=number(path)) for path in (tmp_path / "a.mp3", tmp_path / "é 日本.mp3")
    ]


@pytest.mark.parametrize(
    "data", ["#EXTM3U\né.mp3\n".encode("utf-16-be"), b"ID3\3\0\0\0\n\0\n", codecs.BOM_UTF16_LE + b"a\0b"]
)
def test_a_playlist_that_is_no_text_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.m3u").write_bytes(data)
    (found,) = find_songs([str(tmp_path / "x.m3u")])
    assert found == Found(
        tmp_path / "x.m3u", "playlist cannot be read: neither UTF-8 nor UTF-16 with a mark", failed=True
    )


def test_a_playlist_with_one_odd_entry_is_read_all_the_same(tmp_path: Path) -> None:
    make(tmp_path, "a.mp3")
    (tmp_path / "x.m3u").write_bytes(b"a.mp3\nb\0c.mp3\ngone.mp3\n")
    assert [(each.path.name, each.problem) for each in find_songs([str(tmp_path / "x.m3u")])] == [
        ("a.mp3", ""), ("b\0c.mp3", "no such file or folder"), ("gone.mp3", "no such file or folder"),
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_list_on_standard_input_is_read_in_the_encoding_that_its_mark_names(tmp_path: Path, encoding: str) -> None:
    make(tmp_path, "a.mp3", "é 日本.mp3")
    lines = BOMS.get(encoding, b"") + f"{tmp_path}/a.mp3\r\n{tmp_path}/é 日本.mp3\r\n".encode(encoding)
    assert songs("-", stdin=io.BytesIO(lines)) == [tmp_path / "a.mp3", tmp_path / "é 日本.mp3"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_list_in_an_encoding_that_nothing_names_is_one_line(encoding: str) -> None:
    for data in ("/m/é.mp3\n/m/b.mp3\n".encode(encoding), codecs.BOM_UTF16_LE + b"a\0b"):
        (found,) = find_songs(["-"], stdin=io.BytesIO(data))
        assert found == Found(Path("-"), "list cannot be read: neither UTF-8 nor UTF-16 with a mark", failed=True)


def test_names_of_one_letter_between_nuls_are_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/x.mp3", "b/y.mp3")
    monkeypatch.chdir(tmp_path)
    assert [path.name for path in songs("-", stdin=io.BytesIO(b"a\0b\0"))] == ["x.mp3", "y.mp3"]


def test_a_fifo_named_like_a_playlist_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.m3u")
    assert problems(tmp_path / "x.m3u")[0].problem == "not a regular file"


def test_a_missing_playlist_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path / "x.m3u")[0].problem.startswith("playlist cannot be read: No such file")


def test_ten_thousand_files_in_one_folder(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number:05}.mp3").touch()
    found = songs(tmp_path)
    assert len(found) == 10_000
    assert found == sorted(found)


def test_folders_nested_deeper_than_python_recurses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    Path("deep.mp3").touch()
    os.chdir(tmp_path)
    try:
        assert [path.name for path in songs("d")] == ["deep.mp3"]
    finally:
        subprocess.run(["rm", "-rf", "d"], check=True)  # too deep for shutil, which pytest cleans up with
