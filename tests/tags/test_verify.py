"""The proof that only the genre changed: it must notice everything else."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import mutagen
import pytest
from mutagen.id3 import ID3

from tagger.errors import TagError
from tagger.tags.genre import retag
from tagger.tags.layout import layout
from tagger.tags.verify import HEAD_AND_TAIL, coded_audio_digest, verify, verify_genres
from tests.support import tag_files as files
from tests.support.tag_files import FILES, build

GENRES = ["Techno", "R&B/Soul"]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_genre_passes(name: str) -> None:
    old, suffix = build(name), Path(name).suffix
    new = retag(old, suffix, GENRES)
    verify(old, new, suffix)
    verify_genres(new, suffix, GENRES, "join")
    with pytest.raises(TagError, match="not read back"):
        verify_genres(new, suffix, ["Rock"], "join")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_of_audio_does_not(name: str) -> None:
    old, suffix = build(name), Path(name).suffix
    new = bytearray(retag(old, suffix, GENRES))
    if suffix in HEAD_AND_TAIL:
        audio = layout(BytesIO(new)).audio
        new[(audio.start + audio.stop) // 2] ^= 1
    else:
        new[len(new) // 2] ^= 1
    with pytest.raises(TagError):
        verify(old, bytes(new), suffix)


def saved(name: str, change: Callable[[mutagen.FileType], object], **options: object) -> tuple[bytes, bytes]:
    """The song before and after mutagen saved it with one change."""
    file = BytesIO(build(name))
    file.name = name
    song = mutagen.File(file)
    change(song)
    file.seek(0)
    song.save(file, **options)
    return build(name), file.getvalue()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("v24 full.mp3", "TPE1"),
        ("v24 full.mp3", "CHAP:c1"),
        ("full.flac", "artist"),
        ("full.ogg", "artist"),
        ("full.m4a", "covr"),
        ("full.wma", "WM/Year"),
        ("full.wv", "Title"),
        ("full.dsf", "TPE1"),
        ("id3.wav", "TPE1"),
        ("full.aif", "TPE1"),
    ],
)
def test_a_lost_tag_does_not(name: str, key: str) -> None:
    old, new = saved(name, lambda song: song.pop(key))
    with pytest.raises(TagError, match="other tags"):
        verify(old, new, Path(name).suffix)


def test_how_mutagen_saves_by_default_does_not() -> None:
    """It turns v2.3 into v2.4 and drops the frames that have no twin there."""
    old, new = saved("v23 full.mp3", lambda song: None)
    with pytest.raises(TagError, match=r"other tags \(id3\)"):
        verify(old, new, ".mp3")


def test_lost_pieces_outside_the_tag_do_not() -> None:
    cases = {
        "bext.wav": (files.wav(files.chunk(b"cue ", bytes(28))), "chunks"),
        "info before.wav": (files.wav(files.info(IGNR=b"Old")), "info"),
        "blocks.flac": (files.flac_song(40), "blocks"),
        "ape and v24 and v1.mp3": (files.tag24() + files.song(".mp3") + files.id3v1(12), "ape"),
        "v24 with v1.mp3": (files.tag24() + files.song(".mp3") + files.id3v1(0, b"another comment"), "id3v1"),
        "stacked.mp3": (files.tag24() + files.song(".mp3"), "audio"),
        "lyrics3.mp3": (files.tag23() + files.song(".mp3") + files.id3v1(12), "audio"),
    }
    for name, (new, lost) in cases.items():
        with pytest.raises(TagError, match=lost):
            verify(build(name), new, Path(name).suffix)


def test_another_stream_does_not() -> None:
    new = bytearray(build("full.ofr"))
    new[16:20] = (48000).to_bytes(4, "little")
    with pytest.raises(TagError, match="stream"):
        verify(build("full.ofr"), bytes(new), ".ofr")


@pytest.mark.parametrize("data", [files.tag24(), b"fLaC\x80\0\0\x22" + bytes(34)], ids=["mp3", "flac"])
def test_no_audio_is_no_song(data: bytes) -> None:
    with pytest.raises(ValueError, match="no audio"):
        coded_audio_digest(data, ".flac" if data.startswith(b"fLaC") else ".mp3")
    header = build("plain.wav")
    empty = header[: header.index(b"data") + 4] + bytes(4)
    empty = empty[:4] + (len(empty) - 8).to_bytes(4, "little") + empty[8:]
    with pytest.raises(ValueError, match="no audio"):
        coded_audio_digest(empty, ".wav")


def test_the_digest_of_an_mp3_covers_what_follows_the_audio() -> None:
    assert ID3(BytesIO(build("stacked.mp3")))["TIT2"] != "second"
    assert coded_audio_digest(build("stacked.mp3"), ".mp3") != coded_audio_digest(build("v24 full.mp3"), ".mp3")
    assert coded_audio_digest(build("v23 full.mp3"), ".mp3") == coded_audio_digest(build("v24 full.mp3"), ".mp3")
