"""Odd tags: the genre is written, and to every reader all else is as it was."""

import re
import struct
import tempfile
import zlib
from io import BytesIO
from pathlib import Path

import av
import pytest

from tagger.errors import TagError
from tagger.tags.genre import Song, merge, real_genres, retag
from tagger.tags.verify import verify
from tests.campaigns.foreign import Views, genres, missing, readers
from tests.support.tag_files import atom, build, decoded
from tests.tags.odd_tags import ODD, REFUSED, comments, flac_with
from tests.tags.test_genre import other_lines

ONE, THREE = ["Acid Jazz"], ["Acid Jazz", "R&B/Soul", "Psy-Trance"]
READERS = ("TagLib", "ffprobe", "exiftool")
#: Where a reader shows no genre, and why. (It shows none of the other tags either, or those of another place.)
BLIND = {
    ("ffprobe", r"ape with a year\.mp3"): "FFmpeg reads no APEv2 in an MP3",
    ("ffprobe", r"v1\.mpc|counts .*\.ape"): "nor one that ID3v1 follows",
    ("ffprobe", r"v22 unsynchronised\.mp3"): "FFmpeg counts frames of an unsynchronised tag by their raw bytes",
    ("ffprobe", r"behind the form\.aiff|zeros in front\.mp3"): "FFmpeg does not look for ID3v2 there",
    ("ffprobe", r"diin\.dff"): "FFmpeg shows no ID3v2 where DSDIFF has fields of its own",
    ("TagLib", r"v23 checksum\.mp3"): "TagLib takes the extended header of v2.3 for a frame, and shows no tag at all",
    ("TagLib", r"id3 in front\.(wv|mpc)"): "TagLib skips ID3v2 there",
    ("exiftool", r"v23 checksum\.mp3"): "the same",
    ("exiftool", r"(?!v1|id3 in|ape and).*\.wv|counts.*\.mpc|.*\.dff"): "exiftool reads no tags of these",
    ("exiftool", r"meta without version\.m4a"): "exiftool reads no `meta` without a version",
    ("exiftool", r"zeros in front\.mp3|junk in front of id3\.mp3"): "exiftool does not look for ID3v2 there",
}


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Views:
    """reader → what it shows of each song before and after."""
    folders = {when: tmp_path_factory.mktemp(when) for when in ("before", "after")}
    for name, recipe in ODD.items():
        (folders["before"] / name).write_bytes(recipe())
        (folders["after"] / name).write_bytes(retag(recipe(), Path(name).suffix, ONE))
    return {
        reader: {when: view(sorted(folder.iterdir())) for when, folder in folders.items()}
        for reader, view in readers().items()
    }


@pytest.mark.parametrize("name", ODD)
def test_the_genre_is_written_and_proven(name: str) -> None:
    old, suffix = ODD[name](), Path(name).suffix
    for wanted in (ONE, THREE, ["Techno " * 3000 + "end"]):
        new = retag(old, suffix, wanted)
        verify(old, new, suffix)
        assert real_genres(new, suffix) == tuple(wanted)
        assert retag(new, suffix, wanted) is new
        for place, values in Song(BytesIO(new), suffix).places().items():
            assert place.startswith("asf library") or place == "id3v1" or values


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ODD)
def test_readers_see_the_new_genre_and_all_else_as_before(name: str, reader: str, views: Views) -> None:
    if reader not in views:
        pytest.skip(f"{reader} is not installed")
    old, new = views[reader]["before"].get(name), views[reader]["after"].get(name)
    if old is None:
        pytest.skip(f"{reader} does not open it")
    assert new is not None
    assert missing(old, new) == {}
    is_blind = any(reader == who and re.fullmatch(names, name) for who, names in BLIND)
    assert set(genres(new)) == (set() if is_blind else {"Acid Jazz"})


@pytest.mark.parametrize("name", ODD)
def test_mutagen_sees_all_else_as_before(name: str) -> None:
    old, suffix = ODD[name](), Path(name).suffix
    try:
        before = other_lines(old, name)
    except Exception:  # of a dozen kinds
        pytest.skip("mutagen cannot read it")
    after = other_lines(retag(old, suffix, ONE), name)
    unnumbered = [{re.sub(r"^unknown\d+|=ID3v1 Comment", "", line) for line in lines} for lines in (before, after)]
    assert unnumbered[0] <= unnumbered[1]


@pytest.mark.parametrize("name", ODD)
def test_the_song_sounds_the_same(name: str) -> None:
    old = ODD[name]()
    if Path(name).suffix in (".ape", ".mpc", ".wv") or "ape with" in name:
        pytest.skip("made by hand, or with a tail tag that FFmpeg decodes as well")
    try:
        before = decoded(old)
    except av.FFmpegError:
        pytest.skip("FFmpeg takes what is in front for something else")
    assert decoded(retag(old, Path(name).suffix, ONE)) == before


IS_OLD = re.compile(
    r"v22 of one key|v23 (names|genre|data|last|checksum)|v24 (small|empty)|language|not UTF-8.(flac|wv)|version 1|"
    r"bare with id3|id3 in front.(wv|ape)|behind the form|zeros in front|junk|two |id3 and comments|freeform|text of|"
    r"key of|ape and|counts|skeleton.ogg"
)


@pytest.mark.parametrize("name", ODD)
def test_a_genre_is_seen_wherever_a_reader_would_see_it(name: str) -> None:
    found = real_genres(ODD[name](), Path(name).suffix)
    if IS_OLD.match(name):
        assert found[0] in ("Old", "Older")
    else:
        assert found == (("Rock", "Pop") if "semicolon" in name else ())


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_written_is_refused_for_a_reason_that_is_true(name: str) -> None:
    recipe, reason = REFUSED[name]
    with pytest.raises(TagError, match=reason) as caught:
        retag(recipe(), Path(name).suffix, ONE)
    assert caught.value.refused


def test_genres_joined_by_a_semicolon_are_several() -> None:
    old = real_genres(ODD["genres by a semicolon.mp3"](), ".mp3")
    assert merge(old, ["Rock", "Jazz"], "append") == ("Rock", "Pop", "Jazz")
    assert merge(["Rock;Pop"], ["Pop", "Jazz"], "append") == ("Rock;Pop", "Jazz")


def test_the_best_genre_of_a_wma_is_the_first_to_every_reader_of_lists() -> None:
    taglib = pytest.importorskip("taglib")
    for name in ("plain.wma", "several.wma", "full.wma"):
        with tempfile.TemporaryDirectory() as folder:
            (path := Path(folder) / name).write_bytes(retag(build(name), ".wma", THREE))
            with taglib.File(str(path)) as file:
                assert file.tags["GENRE"] == THREE


@pytest.mark.parametrize(
    ("name", "behind", "before"),
    [
        ("v23 genre behind a gap.mp3", b"TPE1", b"TALB"),
        ("v24 small letters.mp3", b"TIT2", b"xapp"),
        ("v24 empty frame.mp3", b"TIT2", b"TALB"),
        ("v23 data in the padding.mp3", b"TPE1", b"private"),
        ("not UTF-8.flac", b"ARTIST", b"no key"),
    ],
)
def test_a_genre_is_put_where_every_reader_gets_to(name: str, behind: bytes, before: bytes) -> None:
    new = retag(ODD[name](), Path(name).suffix, ONE)
    assert new.index(behind) < new.index(b"Acid Jazz") < new.index(before)


def test_the_checksum_of_an_extended_header_is_made_right() -> None:
    new = retag(ODD["v23 checksum.mp3"](), ".mp3", ONE)
    size = new[8] << 7 | new[9]
    room, checksum = struct.unpack_from(">II", new, 16)
    assert not new[10 + size - room : 10 + size].strip(b"\0") and room == 2
    assert checksum == zlib.crc32(new[24 : 10 + size - room])
    new = retag(build("v24 extended header.mp3"), ".mp3", ONE)
    size = new[8] << 7 | new[9]
    extended = new[10 : 10 + new[13]]
    checksum = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(reversed(extended[7:12])))
    assert checksum == zlib.crc32(new[10 + len(extended) : 10 + size])


def test_room_that_holds_data_is_no_room() -> None:
    data, free = ODD["odd items.m4a"](), atom(b"free", b"somebody's data".ljust(99, b"\0"))
    old = data[: data.index(b"moov") - 4] + atom(b"moov", data[data.index(b"moov") + 4 :] + free)
    assert free in retag(old, ".m4a", ONE)
    old = old.replace(b"somebody's data", bytes(15))
    assert len(retag(old, ".m4a", ONE)) == len(old)
    flac = flac_with((4, comments(b"TITLE=T")), (1, b"data".ljust(99, b"\0")))
    assert b"data".ljust(99, b"\0") in retag(flac, ".flac", ONE)


@pytest.mark.parametrize("name", ["eight too many.wav", "eight too many.aiff", "streamed.wav", "behind the form.aiff"])
def test_sizes_are_right_or_as_open_as_they_were(name: str) -> None:
    old, new = ODD[name](), retag(ODD[name](), Path(name).suffix, ONE)
    size = struct.unpack_from("<I" if new[:4] == b"RIFF" else ">I", new, 4)[0]
    if name == "streamed.wav":
        assert size == 0xFFFFFFFF and new.index(b"IGNR") < new.index(b"data")
    elif "behind" in name:
        assert new[4:8] == old[4:8]
    else:
        assert size == len(new) - 8
