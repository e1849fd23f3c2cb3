"""The proof beside the tags: no byte outside of them may change, in whatever container."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from mutagen.oggflac import OggFLAC
from mutagen.oggvorbis import OggVorbis

from tagger.errors import TagError
from tagger.tags.delta import delta
from tagger.tags.genre import retag
from tagger.tags.verify import pieces, verify
from tests.support import tag_files as files
from tests.support.tag_files import FILES, build

GENRES = ["Techno", "R&B/Soul"]
WOVEN = [
    name for name in FILES if name.endswith((".m4a", ".m4b", ".mp4", ".wma", ".ogg", ".oga", ".opus", ".spx", ".flac"))
]


@pytest.mark.parametrize("name", FILES)
def test_the_pieces_stay_when_the_tag_grows(name: str) -> None:
    suffix = Path(name).suffix
    old = pieces(build(name))
    for genres in (GENRES, ["Techno " * 3000 + "end"]):
        new = pieces(retag(build(name), suffix, genres))
        assert {key: new.get(key) for key in old} == old


@pytest.mark.parametrize("name", WOVEN)
def test_a_flipped_byte_is_noticed_wherever_it_lies(name: str) -> None:
    """Of the bytes that the new file has from the old one; room, which is zeros, may hold anything."""
    old, suffix = build(name), Path(name).suffix
    new = retag(old, suffix, GENRES)
    kept = [i for kind, *at in delta(new, old) or () if kind == "c" for i in range(at[0], sum(at)) if new[i]]
    rng = random.Random(3)
    unnoticed = []
    for position in rng.sample(kept[:2000] + kept[-2000:], min(len(kept), 40)):
        flipped = bytearray(new)
        flipped[position] ^= 0x21
        try:
            verify(old, bytes(flipped), suffix)
        except Exception:  # as `tags.naming` has it
            continue
        unnoticed.append(bytes(new[position - 8 : position + 8]))
    # A page of Ogg has a number and a checksum, which no reader minds where the page holds no audio.
    assert len(unnoticed) <= (name == "flac.oga"), unnoticed


def lose(data: bytes, lost: bytes, instead: bytes = b"") -> bytes:
    assert data.count(lost) == 1
    return data.replace(lost, instead)


def asf_with(guid: bytes) -> bytes:
    """A WMA song with one more object in its header, and in the extension of that."""
    data = build("full.wma")
    thing = guid + struct.pack("<Q", 24 + 8) + b"markers!"
    size, number = struct.unpack_from("<QI", data, 16)
    return data[:16] + struct.pack("<QI", size + len(thing), number + 1) + data[28:30] + thing + data[30:]


def vendor(data: bytes) -> bytes:
    return data.replace(b"Lavf", b"Xavf", 1)


CHANGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "id3 in front.flac": (lambda new: new[new.index(b"fLaC") :], "in front"),
    "full.flac": (vendor, "vendor"),
    "garbage behind.wav": (lambda new: new.removesuffix(b"garbage"), "behind"),
    "full.dsf": (lambda new: files.damaged(new, 100_000, bytes(9)), "audio"),
    "full.wma": (lambda new: new + b"index", "behind the header"),
    "full.m4a": (lambda new: lose(new, b"SoundHandler", b"NoiseHandler"), "hdlr"),
    "song.mp4": (lambda new: lose(new, b"isomiso2mp41", b"isomiso2mp42"), "ftyp"),
    "plain.m4a": (lambda new: new + files.atom(b"free", b"x")[:-1], "rest|free"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_lost_beside_the_tags_is_named(name: str) -> None:
    change, lost = CHANGED[name]
    suffix = Path(name).suffix
    with pytest.raises(TagError, match=lost):
        verify(build(name), change(retag(build(name), suffix, GENRES)), suffix)


def test_an_object_nobody_knows_stays_in_a_wma() -> None:
    old = asf_with(bytes(range(16)))
    new = retag(old, ".wma", GENRES)
    assert b"markers!" in new
    verify(old, new, ".wma")
    with pytest.raises(TagError, match="000102030405"):
        verify(old, retag(build("full.wma"), ".wma", GENRES), ".wma")


def test_chapters_that_would_start_elsewhere_are_noticed() -> None:
    """Their track is no audio, and its positions are turned with those of the audio."""
    old = build("chapters.m4b")
    new = retag(old, ".m4b", ["Techno " * 3000 + "end"])
    assert len(new) > len(old)
    verify(old, new, ".m4b")
    at = new.rindex(b"stco") + 12
    assert new.count(b"stco") == 2
    wrong = files.damaged(new, at, struct.pack(">I", struct.unpack_from(">I", new, at)[0] + 1))
    with pytest.raises(TagError, match="audio would change"):
        verify(old, wrong, ".m4b")


def test_headers_of_ogg_beside_the_comments_are_compared() -> None:
    for name, kind in (("full.ogg", OggVorbis), ("flac.oga", OggFLAC)):
        old = build(name)
        before = pieces(old)["headers"]
        assert before and pieces(files.commented(old, kind, ARTIST="Other"))["headers"] == before
        at = old.index(b"\x05vorbis" if name == "full.ogg" else b"\x7fFLAC") + 20
        assert pieces(files.damaged(old, at, b"\0\1\2"))["headers"] != before


@pytest.mark.parametrize("broken", ["box", "nested box", "object", "page"])
def test_what_cannot_be_taken_apart_is_an_error(broken: str) -> None:
    m4a, wma, ogg = build("full.m4a"), build("full.wma"), build("full.ogg")
    data = {
        "box": files.damaged(m4a, 0, b"\0\0\0\4"),
        "nested box": files.damaged(m4a, m4a.index(b"udta") - 4, b"\x7f"),
        "object": files.damaged(wma, 30 + 16, bytes(8)),
        "page": ogg[:27] + ogg[28:],
    }[broken]
    with pytest.raises(ValueError):
        pieces(data)
