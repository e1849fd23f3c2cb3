"""The proof that only the genre changed: it must notice everything else."""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import mutagen
import pytest
from mutagen.oggflac import OggFLAC
from mutagen.oggvorbis import OggVorbis

from tagger.errors import TagError
from tagger.tags import splice
from tagger.tags.genre import retag
from tagger.tags.journal import delta
from tagger.tags.layout import ogg, place
from tagger.tags.pieces.kind import Cut, Kind
from tagger.tags.verify import dissect, verify, verify_genres
from tests.support import tag_files as files
from tests.support.tag_files import FILES, build
from tests.tags.odd_tags import ODD

GENRES = ["Techno", "R&B/Soul"]
LARGE = ["Techno " * 3000 + "end"]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_genre_passes(name: str) -> None:
    old, suffix = build(name), Path(name).suffix
    for genres in (LARGE, GENRES):
        new = retag(old, suffix, genres)
        verify(old, new, suffix)
    verify_genres(new, suffix, GENRES, "join")
    with pytest.raises(TagError, match="not read back"):
        verify_genres(new, suffix, ["Rock"], "join")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_of_audio_does_not(name: str) -> None:
    old, suffix = build(name), Path(name).suffix
    new = bytearray(retag(old, suffix, GENRES))
    new[len(new) // 2] ^= 1
    with pytest.raises((TagError, ValueError)):
        verify(old, bytes(new), suffix)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_noticed_wherever_it_lies(name: str) -> None:
    """Of the bytes that the new file has from the old one; numbers of sizes and room may change."""
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
        except Exception:  # as `containers.naming` has it
            continue
        unnoticed.append((position, bytes(new[position - 8 : position + 8])))
    # An ID3v1 byte of the genre, a letter of the genre itself, a checksum that nobody minds.
    assert len(unnoticed) <= 1, unnoticed


# --- faults of a writer, each of which must be noticed by the proof alone


def drops(kind: Kind, at: int) -> Kind:
    """A writer that loses one of the other pieces."""
    return replace(kind, join=lambda cut, pieces: kind.join(cut, others_without(kind, cut, pieces, at)))


def others_without(kind: Kind, cut: Cut, pieces: Sequence[bytes], at: int) -> list[bytes]:
    others = [piece for piece in pieces if not kind.is_genre(cut, piece)]
    return [piece for piece in pieces if piece is not others[at]]


def reorders(kind: Kind) -> Kind:
    return replace(kind, join=lambda cut, pieces: kind.join(cut, pieces[::-1]))


def doubles(kind: Kind) -> Kind:
    return replace(kind, join=lambda cut, pieces: kind.join(cut, [*pieces, pieces[0], pieces[-1]]))


def _key(piece: bytes) -> bytes:
    return piece[4:8] if piece[:1] == b"\0" else piece[:3]


def merges(kind: Kind) -> Kind:
    """A writer that keeps one of the pieces with one name."""
    return replace(kind, join=lambda cut, pieces: kind.join(cut, list({_key(p): p for p in pieces}.values())))


def reencodes(kind: Kind) -> Kind:
    """A writer that knows better how a piece is to be written: the last byte of each but the genre becomes another."""

    def join(cut: Cut, pieces: Sequence[bytes]) -> bytes:
        return kind.join(cut, [p if kind.is_genre(cut, p) else p[:-1] + bytes([p[-1] ^ 1]) for p in pieces])

    return replace(kind, join=join)


def loses_the_rest(kind: Kind) -> Kind:
    """A writer that forgets what lies behind the pieces."""
    return replace(kind, join=lambda cut, pieces: kind.join(replace(cut, tail=b""), pieces))


FAULTS: dict[str, tuple[Callable[[Kind], Kind], dict[str, str]]] = {
    "drops the first": (lambda kind: drops(kind, 0), {
        "id3": "v23 names of itunes.mp3", "vorbis": "not UTF-8.flac", "mp4": "odd items.m4a", "ape": "not UTF-8.wv",
        "info": "info and id3.wav", "asf": "full.wma",
    }),
    "drops the last": (lambda kind: drops(kind, -1), {
        "id3": "v22 unknown.mp3", "vorbis": "full.ogg", "mp4": "odd items.m4a", "ape": "full.wv",
        "info": "info after.wav", "asf": "full.wma",
    }),
    "reorders": (reorders, {
        "id3": "v22 of one key.mp3", "vorbis": "full.flac", "mp4": "odd items.m4a", "ape": "full.wv",
        "info": "info before.wav", "asf": "full.wma",
    }),
    "doubles": (doubles, {
        "id3": "v24 full.mp3", "vorbis": "r128.opus", "mp4": "odd items.m4a",
        "ape": "full.mpc", "info": "info before.wav", "asf": "full.wma",
    }),
    "merges": (merges, {"id3": "v22 of one key.mp3", "mp4": "odd items.m4a"}),
    "re-encodes": (reencodes, {
        "id3": "v23 full.mp3", "vorbis": "full.flac", "mp4": "odd items.m4a", "ape": "full.wv",
        "info": "info before.wav", "asf": "full.wma",
    }),
    "loses the rest": (loses_the_rest, {"vorbis": "bytes behind.flac", "info": "info with room.wav"}),
}  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "kind", "name"), [(fault, *each) for fault, (_, names) in FAULTS.items() for each in names.items()]
)
def test_a_faulty_writer_is_noticed(fault: str, kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old, suffix = (ODD.get(name) or FILES[name])(), Path(name).suffix
    verify(old, retag(old, suffix, GENRES), suffix)
    monkeypatch.setitem(splice.KINDS, kind, FAULTS[fault][0](splice.KINDS[kind]))
    new = retag(old, suffix, GENRES)
    with pytest.raises((TagError, ValueError), match=r"without changing|run past|runs past"):
        verify(old, new, suffix)


def test_positions_that_are_not_moved_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_moved", lambda data, layout, changes: iter(()))
    for name in ("faststart.m4a", "zeros in udta in front.m4a"):
        old = (ODD.get(name) or FILES[name])()
        with pytest.raises(TagError, match="stco"):
            verify(old, retag(old, ".m4a", LARGE), ".m4a")


def test_pages_that_are_not_numbered_again_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ogg, "_renumbered", lambda data, last, step: iter(()))
    old = build("full.ogg")
    with pytest.raises(TagError, match="pages"):
        verify(old, retag(old, ".ogg", ["Techno " * 30_000 + "end"]), ".ogg")


def test_a_wrong_checksum_of_ogg_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ogg.Page, "check", lambda page, checksum: page)  # what the writer sees by itself
    monkeypatch.setattr(ogg, "ogg_checksum", lambda page: 7)
    with pytest.raises(TagError, match="checksum"):
        verify(build("full.ogg"), retag(build("full.ogg"), ".ogg", GENRES), ".ogg")


@pytest.mark.parametrize("name", ["full.dsf", "full.wma", "id3.wav", "full.aif"])
def test_sizes_that_are_not_counted_are_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_by_number", lambda counts: {})
    old, suffix = build(name), Path(name).suffix
    with pytest.raises((TagError, ValueError)):
        verify(old, retag(old, suffix, LARGE), suffix)


def saved(name: str, change: Callable[[mutagen.FileType], object], **options: object) -> tuple[bytes, bytes]:
    """The song before and after mutagen saved it with one change."""
    file = BytesIO((ODD.get(name) or FILES[name])())
    file.name = name
    old = file.getvalue()
    song = mutagen.File(file)
    change(song)
    file.seek(0)
    song.save(file, **options)
    return old, file.getvalue()


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
def test_a_lost_tag_does_not_pass(name: str, key: str) -> None:
    old, new = saved(name, lambda song: song.pop(key))
    with pytest.raises(TagError, match="other tags"):
        verify(old, new, Path(name).suffix)


@pytest.mark.parametrize("name", ["v23 full.mp3", "v22 of one key.mp3", "odd items.m4a", "v24 small letters.mp3"])
def test_how_mutagen_saves_by_default_does_not_pass(name: str) -> None:
    """It turns v2.3 into v2.4, drops frames it cannot parse or has two of, and encodes atoms as it likes."""
    old, new = saved(name, lambda song: None)
    with pytest.raises(TagError, match=r"other tags or parts \((id3|moov)"):
        verify(old, new, Path(name).suffix)


def lose(data: bytes, lost: bytes, instead: bytes = b"") -> bytes:
    assert data.count(lost) == 1
    return data.replace(lost, instead)


CHANGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "id3 in front.flac": (lambda new: new[new.index(b"fLaC") :], "id3"),
    "full.flac": (lambda new: new.replace(b"Lavf", b"Xavf", 1), "vendor"),
    "blocks.flac": (lambda new: lose(new, b"aPpLdata", b"aPpLdate"), "block 2"),
    "garbage behind.wav": (lambda new: new.removesuffix(b"garbage"), "behind"),
    "bext.wav": (lambda new: lose(new, b"desc", b"desk"), "bext"),
    "info before.wav": (lambda new: lose(new, b"ISFT", b"ISFX"), "info"),
    "full.dsf": (lambda new: files.damaged(new, 100_000, bytes(9)), "audio"),
    "full.wma": (lambda new: new + b"index", "behind the header"),
    "full.m4a": (lambda new: lose(new, b"SoundHandler", b"NoiseHandler"), "hdlr"),
    "song.mp4": (lambda new: lose(new, b"isomiso2mp41", b"isomiso2mp42"), "ftyp"),
    "plain.m4a": (lambda new: new + files.atom(b"free", b"x")[:-1], "rest|free|runs past"),
    "ape and v24 and v1.mp3": (lambda new: lose(new, b"MP3GAIN", b"MP4GAIN"), "ape"),
    "v24 with v1.mp3": (lambda new: lose(new, b"Old artist", b"New artist"), "id3v1"),
    "stacked.mp3": (lambda new: files.damaged(new, new.rindex(b"second"), b"SECOND"), "id3"),
    "lyrics3.mp3": (lambda new: files.damaged(new, new.rindex(b"la la"), b"LA LA"), "lyrics"),
    "full.ape": (lambda new: files.damaged(new, 16, (48000).to_bytes(4, "little")), "audio"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_lost_beside_the_genre_is_named(name: str) -> None:
    change, lost = CHANGED[name]
    suffix = Path(name).suffix
    with pytest.raises((TagError, ValueError), match=lost):
        verify(build(name), change(retag(build(name), suffix, GENRES)), suffix)


def test_the_order_of_the_parts_is_compared() -> None:
    parts = [files.chunk(b"bext", b"desc".ljust(603, b"\0")), files.chunk(b"cue ", bytes(28))]
    with pytest.raises(TagError, match="order"):
        verify(files.wav(b"".join(parts)), retag(files.wav(b"".join(parts[::-1])), ".wav", GENRES), ".wav")


def test_an_object_nobody_knows_stays_in_a_wma() -> None:
    data, thing = build("full.wma"), bytes(range(16)) + struct.pack("<Q", 24 + 8) + b"markers!"
    size, number = struct.unpack_from("<QI", data, 16)
    old = data[:16] + struct.pack("<QI", size + len(thing), number + 1) + data[28:30] + thing + data[30:]
    new = retag(old, ".wma", GENRES)
    assert b"markers!" in new
    verify(old, new, ".wma")
    with pytest.raises(TagError, match="000102030405"):
        verify(old, retag(data, ".wma", GENRES), ".wma")


def test_chapters_that_would_start_elsewhere_are_noticed() -> None:
    """Their track is no audio, and its positions are turned with those of the audio."""
    old = build("chapters.m4b")
    new = retag(old, ".m4b", LARGE)
    assert len(new) > len(old)
    verify(old, new, ".m4b")
    at = new.rindex(b"stco") + 12
    assert new.count(b"stco") == 2
    wrong = files.damaged(new, at, struct.pack(">I", struct.unpack_from(">I", new, at)[0] + 1))
    with pytest.raises(TagError, match="stco"):
        verify(old, wrong, ".m4b")


def test_headers_of_ogg_beside_the_comments_are_compared() -> None:
    for name, kind in (("full.ogg", OggVorbis), ("flac.oga", OggFLAC)):
        old = build(name)
        at = old.index(b"\x05vorbis" if name == "full.ogg" else b"\x7fFLAC") + 20
        changed = files.commented(files.damaged(old, at, b"\0\1\2"), kind)
        assert dissect(changed) != dissect(files.commented(old, kind))


@pytest.mark.parametrize("broken", ["box", "nested box", "object", "page", "frame", "item", "comments", "chunk"])
def test_what_cannot_be_taken_apart_is_an_error(broken: str) -> None:
    m4a, wma, ogg, wv = build("full.m4a"), build("full.wma"), build("full.ogg"), build("full.wv")
    data = {
        "box": files.damaged(m4a, 0, b"\0\0\0\4"),
        "nested box": files.damaged(m4a, m4a.index(b"udta") - 4, b"\x7f"),
        "object": files.damaged(wma, 30 + 16, bytes(8)),
        "page": b"OggS" + bytes(99),
        "frame": b"ID3\3\0\0\x7f\x7f\x7f\x7f" + bytes(99),
        "item": files.damaged(wv, wv.index(b"APETAGEX") + 32, b"\xff\xff\0\0"),
        "comments": files.damaged(ogg, ogg.index(b"\x03vorbis") + 7, b"\xff\xff\0\0"),
        "chunk": files.damaged(build("info before.wav"), build("info before.wav").index(b"ICMT") + 4, b"\x44"),
    }[broken]
    with pytest.raises((ValueError, struct.error)):
        dissect(data)
