"""What tags say of a song, in every container."""

from pathlib import Path

import pytest

from tagger.errors import TagError
from tagger.tags.genre import Metadata, read_genres, read_metadata
from tests.support.songs import make_song
from tests.support.tag_files import FILES, build

TAGS = {"genre": "Jazz", "artist": "Ärtist", "album_artist": "Someone Else", "album": "An Album", "title": "A Title"}


def read(folder: Path, name: str) -> Metadata:
    path = folder / name
    path.write_bytes(build(name))
    return read_metadata(path)


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".opus", ".oga", ".m4a", ".wma", ".tta", ".wv"])
def test_what_a_tagger_wrote_is_read(tmp_path: Path, suffix: str) -> None:
    found = read_metadata(make_song(tmp_path / f"song{suffix}", 2, metadata=TAGS))
    # FFmpeg writes APEv2 for WavPack, with its own name for the album's artist.
    assert found == Metadata(
        ("Jazz",), "Ärtist", "Someone Else", "An Album", "A Title", seconds=pytest.approx(2, abs=0.1)
    )


@pytest.mark.parametrize(
    ("name", "artist", "album", "title"),
    [
        ("v22.mp3", "Çelik", "", "Title"),
        ("v23 full.mp3", "Someone", "LP", "Übermorgen 日本"),
        ("v24 itunes sizes.mp3", "A", "", "Title"),
        ("v1.mp3", "Old artist", "Old album", "Old title"),
        ("ape only.mp3", "One; Two", "LP", "Üß"),
        ("ape only with v1.mp3", "One; Two", "LP", "Üß"),  # ID3v1 has room for 30 letters
        ("ape and v24 and v1.mp3", "Someone", "LP", "Übermorgen 日本"),
        ("full.ogg", "One; Two", "", "Ü 日本"),
        ("of FFmpeg.wma", "Someone", "LP", "A Title"),  # it writes the artist twice
        ("full.m4a", "", "", "Ü 日本"),
        ("full.wv", "One; Two", "LP", "Üß"),
        ("info before.wav", "Artist", "", "Title"),
        ("id3 and info.wav", "Someone", "LP", "Übermorgen 日本"),
        ("full.aif", "Someone", "LP", "Übermorgen 日本"),
        ("full.dff", "Someone", "LP", "Übermorgen 日本"),
        ("plain.mpc", "", "", ""),
    ],
)
def test_old_and_odd_tags_are_read_too(tmp_path: Path, name: str, artist: str, album: str, title: str) -> None:
    found = read(tmp_path, name)
    assert (found.artist, found.album, found.title) == (artist, album, title)


@pytest.mark.parametrize("name", FILES)
def test_genres_are_those_that_are_read_for_writing(tmp_path: Path, name: str) -> None:
    before = build(name)
    assert read(tmp_path, name).genres == read_genres(tmp_path / name)
    assert (tmp_path / name).read_bytes() == before


def test_both_spellings_of_the_albums_artist_are_known(tmp_path: Path) -> None:
    path = make_song(tmp_path / "song.flac", 1, metadata={"ALBUM ARTIST": "Someone"})
    assert read_metadata(path).album_artist == "Someone"


def test_control_characters_do_not_come_through(tmp_path: Path) -> None:
    path = make_song(tmp_path / "song.flac", 1, metadata={"artist": "a\x1b[31m\nb "})
    assert read_metadata(path).artist == "a [31m b"


def test_what_is_no_song_is_named(tmp_path: Path) -> None:
    path = tmp_path / "song.flac"
    path.write_bytes(b"no song")
    with pytest.raises(TagError) as raised:
        read_metadata(path)
    assert raised.value.path == path
