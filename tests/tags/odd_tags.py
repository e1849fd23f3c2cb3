"""Songs with tags as odd as they are met with: ODD maps a file name to the recipe of its bytes.

Each breaks a tagger that saves what it has parsed: bytes nobody can parse, tags in places where few look, several tags
of which only one is known, sizes that are wrong or were never filled in. `REFUSED` are those to be left alone, and why.
"""

import struct
from collections.abc import Callable

from mutagen import flac
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis

from tests.support import tag_files as files
from tests.support.tag_files import atom, build, chunk, damaged, frame, frame22, id3v1, id3v2, info, song, text, wav

OLDER = text(b"TCON", "Older")
TITLED = text(b"TIT2", "Title") + text(b"TPE1", "Artist")
OLD, OLD4, TITLE4 = text(b"TCON", "Old"), text(b"TCON", "Old", 4), text(b"TIT2", "Title", 4)
COVERS = frame22(b"PIC", b"\0JPG\3same\0front") + frame22(b"PIC", b"\0JPG\4same\0back")
WORDS = frame22(b"COM", b"\0eng\0one") + frame22(b"COM", b"\0eng\0two")
BROKEN = frame(b"COMM", b"\x09engx", 4)
ITUNES = frame(b"PCS\0", bytes(4)) + frame(b"CAT\0", b"\0Cat") + frame(b"RVA\0", b"x" * 10)


def id3v1_in(charset: str) -> bytes:
    """An ID3v1 block whose title is in that charset."""
    return b"TAG" + "Этот".encode(charset).ljust(30, b"\0") + id3v1(255)[33:]


# --- MP4


def m4a(*boxes: bytes) -> bytes:
    """A song that ends with `moov`, with these boxes in place of its `udta`."""
    data = song(".m4a")
    at, udta = data.index(b"moov") - 4, data.index(b"udta") - 4
    assert data.index(b"mdat") < at < udta
    return data[:at] + atom(b"moov", data[at + 8 : udta] + b"".join(boxes))


def m4a_in_front(*boxes: bytes) -> bytes:
    """A song with `moov` in front of the audio, with these boxes in place of its `udta`: positions move with it."""
    data = m4a(*boxes)
    moov = data.index(b"moov") - 4
    start = data.index(b"mdat") - 4
    growth, table = len(data) - moov, data.index(b"stco") + 12
    new = bytearray(data)
    for at in range(table, table + 4 * struct.unpack_from(">I", data, table - 4)[0], 4):
        struct.pack_into(">I", new, at, struct.unpack_from(">I", data, at)[0] + growth)
    return bytes(new[:start] + new[moov:] + new[start:moov])


def item(name: bytes, value: bytes, kind: int = 1, locale: int = 0) -> bytes:
    return atom(name, atom(b"data", struct.pack(">II", kind, locale) + value))


def freeform(name: bytes, value: bytes) -> bytes:
    mean = atom(b"mean", bytes(4) + b"com.apple.iTunes")
    return atom(b"----", mean + atom(b"name", bytes(4) + name) + atom(b"data", struct.pack(">II", 1, 0) + value))


HANDLER = atom(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))


def meta(*items: bytes, version: bytes = bytes(4), handler: bytes = HANDLER) -> bytes:
    return atom(b"meta", version + handler + atom(b"ilst", b"".join(items)))


def mdta(**keys: bytes) -> bytes:
    """The tag of a phone: items by the numbers of keys."""
    names = b"".join(atom(b"mdta", f"com.apple.quicktime.{key}".encode()) for key in keys)
    items = b"".join(item(struct.pack(">I", i), value) for i, value in enumerate(keys.values(), 1))
    handler = atom(b"hdlr", bytes(8) + b"mdta" + bytes(13))
    return atom(b"meta", handler + atom(b"keys", struct.pack(">II", 0, len(keys)) + names) + atom(b"ilst", items))


OLD_ITEM = item(b"\xa9gen", b"Old")
NAMED = item(b"\xa9nam", b"Title") + item(b"\xa9ART", b"Artist")
ODD_ITEMS = (
    item(b"trkn", b"\0\0\0\3\0\x0c", 0) + item(b"tmpo", b"\x80", 21) + item(b"stik", b"\0\0\0\1", 21)
    + item(b"plID", bytes(8), 21) + item(b"\xa9grp", b"") + item(b"xxxx", b"unknown") + item(b"\xa9nam", b"Second")
)  # fmt: skip


# --- chunks


def sized(data: bytes, form: str, size: int, audio: int | None = None) -> bytes:
    """A chunk file that says it has that size, and its audio too."""
    data = damaged(data, 4, struct.pack(form, size))
    return data if audio is None else damaged(data, data.index(b"data") + 4, struct.pack(form, audio))


def titled_wav(*chunks: bytes) -> bytes:
    return wav(after=b"".join(chunks))


def dff_with(*chunks: bytes) -> bytes:
    body = song(".dff")[12:] + b"".join(chunks)
    return b"FRM8" + struct.pack(">Q", len(body)) + body


def chunk8(name: bytes, body: bytes) -> bytes:
    return name + struct.pack(">Q", len(body)) + body + bytes(len(body) % 2)


AIFF_TAG = chunk(b"ID3 ", id3v2(3, TITLED), ">")
DIIN = chunk8(b"DIIN", chunk8(b"DITI", b"\0\0\0\5Title") + chunk8(b"DIAR", b"\0\0\0\6Artist"))


# --- Ogg, FLAC


def with_skeleton(data: bytes) -> bytes:
    """The Ogg song behind the head of a skeleton, a stream of its own that most players skip (Ogg Skeleton 3.0)."""
    end = 27 + data[26] + sum(data[27 : 27 + data[26]])
    fishead = b"fishead\0" + struct.pack("<HHqqqq", 3, 0, 0, 1000, 0, 1000) + bytes(20)
    return page(2, 77, 0, fishead) + data[:end] + page(4, 77, 1, b"") + data[end:]


def page(flags: int, serial: int, number: int, body: bytes) -> bytes:
    lacing = bytes([255] * (len(body) // 255) + [len(body) % 255]) if body else b"\0"
    made = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, 0, serial, number, 0, len(lacing)) + lacing + body
    return made[:22] + struct.pack("<I", checksum(made)) + made[26:]


def full_page() -> bytes:
    """An Opus song with one page of comments in which no more have room: a genre takes another page."""
    data = song(".opus")
    first = data.index(b"OggS", 4)
    second = data.index(b"OggS", first + 4)
    (serial,) = struct.unpack_from("<I", data, 14)
    return data[:first] + page(0, serial, 1, b"OpusTags" + comments(b"NOTE=" + b"x" * 64_990)) + data[second:]


def checked(data: bytes) -> bytes:
    """The Ogg song with the checksum of its second page made right."""
    at = data.index(b"OggS", 4)
    end = at + 27 + data[at + 26] + sum(data[at + 27 : at + 27 + data[at + 26]])
    value = checksum(data[at : at + 22] + bytes(4) + data[at + 26 : end])
    return damaged(data, at + 22, struct.pack("<I", value))


def checksum(data: bytes) -> int:
    """The CRC of Ogg, bit by bit (RFC 3533 §6)."""
    value = 0
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7) & 0xFFFFFFFF if value & 1 << 31 else value << 1
    return value


def comments(*pairs: bytes, vendor: bytes = b"reference") -> bytes:
    counted = b"".join(struct.pack("<I", len(each)) + each for each in (vendor,))
    return counted + struct.pack("<I", len(pairs)) + b"".join(struct.pack("<I", len(p)) + p for p in pairs)


def flac_with(*blocks: tuple[int, bytes]) -> bytes:
    """A FLAC song with these metadata blocks behind its stream info."""
    data = files.without_comments(song(".flac"))
    body = b"".join(bytes([code]) + len(each).to_bytes(3, "big") + each for code, each in blocks)
    return b"fLaC\0" + data[5:42] + body + b"\x81\0\0\x04" + bytes(4) + data[42:]


# --- APE


def old_ape(**items: bytes) -> bytes:
    """An APEv1 tag: no header, bytes of any charset."""
    body = b"".join(struct.pack("<II", len(v), 0) + key.encode() + b"\0" + v for key, v in items.items())
    return body + b"APETAGEX" + struct.pack("<IIII", 1000, len(body) + 32, len(items), 0) + bytes(8)


def miscounted(data: bytes, step: int) -> bytes:
    """The song with an APEv2 tag behind it whose header and footer count that many items too many."""
    new = bytearray(data)
    for at in (data.index(b"APETAGEX"), data.rindex(b"APETAGEX")):
        struct.pack_into("<I", new, at + 16, struct.unpack_from("<I", data, at + 16)[0] + step)
    return bytes(new)


def short(suffix: str) -> bytes:
    """A hundred samples, 2.3 ms."""
    if suffix == ".wav":
        body = b"WAVE" + song(".wav")[12:36] + chunk(b"data", bytes(range(200)) + bytes(200))
        return b"RIFF" + struct.pack("<I", len(body)) + body
    data = song(suffix)
    at = 26 if suffix == ".flac" else 0
    return data if not at else data[:21] + struct.pack(">Q", struct.unpack_from(">Q", data, 18)[0])[3:8] + data[26:]


ODD: dict[str, Callable[[], bytes]] = {
    # Bytes that nobody parses, or of which a parser keeps one.
    "v22 of one key.mp3": lambda: id3v2(2, frame22(b"TT2", b"\0T") + frame22(b"TCO", b"\0Old") + COVERS + WORDS)
    + song(".mp3"),
    "v22 unknown.mp3": lambda: id3v2(2, frame22(b"TT2", b"\0T") + frame22(b"XYZ", b"mine"), 40) + song(".mp3"),
    "v22 unsynchronised.mp3": lambda: id3v2(2, frame22(b"TT2", b"\1\xff\xfeA\0") + COVERS, 40, 0x80) + song(".mp3"),
    "v23 names of itunes.mp3": lambda: id3v2(3, TITLED + ITUNES + OLD) + song(".mp3"),
    "v23 gap.mp3": lambda: id3v2(3, text(b"TIT2", "Title") + bytes(20) + text(b"TPE1", "Artist")) + song(".mp3"),
    "v23 genre behind a gap.mp3": lambda: id3v2(3, TITLED + bytes(20) + OLD + text(b"TALB", "LP")) + song(".mp3"),
    "v23 data in the padding.mp3": lambda: id3v2(3, TITLED + OLD + bytes(30) + b"private data", 30) + song(".mp3"),
    "v23 last frame cut short.mp3": lambda: id3v2(3, TITLED + OLD + frame(b"APIC", b"x" * 99)[:50]) + song(".mp3"),
    "v23 checksum.mp3": lambda: id3v2(3, TITLED + OLD, 9, 0x40, struct.pack(">IHII", 10, 0x8000, 9, 1)) + song(".mp3"),
    "v24 small letters.mp3": lambda: id3v2(4, TITLE4 + frame(b"xapp", b"private", 4) + OLD4)
    + song(".mp3"),
    "v24 unsynchronised, broken frame.mp3": lambda: id3v2(4, TITLE4 + BROKEN, 20, 0x80)
    + song(".mp3"),
    "v24 empty frame.mp3": lambda: id3v2(4, TITLE4 + frame(b"TALB", b"", 4) + OLD4)
    + song(".mp3"),
    "aiff of one key.aiff": lambda: files.aiff(chunk(b"ID3 ", id3v2(2, frame22(b"TT2", b"\0T") + COVERS + WORDS), ">")),
    # Other atoms, descriptors, items, comments as they stand.
    "odd items.m4a": lambda: m4a(atom(b"udta", meta(NAMED, ODD_ITEMS))),
    "language.m4a": lambda: m4a(atom(b"udta", meta(item(b"\xa9nam", b"T", locale=0x5504), OLD_ITEM))),
    "not UTF-8.flac": lambda: flac_with((4, comments(b"TITLE=Title", b"ARTIST=Bj\xf6rk", b"no key", b"GENRE=Old"))),
    "not UTF-8.ogg": lambda: checked(files.commented(song(".ogg"), OggVorbis, ARTIST="xx").replace(b"xx", b"\xf6k")),
    "not UTF-8.wv": lambda: build("full.wv").replace("Üß".encode(), b"\xdc\xdf--", 1),
    "cover as text.wv": lambda: song(".wv") + files.ape(**{"Cover Art (Front)": "x"}).replace(b"x", b"\xff"),
    "bytes behind.flac": lambda: flac_with((4, comments(b"TITLE=x") + b"trailing")),
    "bytes behind.opus": lambda: files.commented(song(".opus"), OggOpus, TITLE="x"),
    "version 1.ape": lambda: files.monkeys_audio() + old_ape(Title=b"\xc4", Genre=b"Old"),
    # A new tag would hide the old one.
    "bare with id3.flac": lambda: id3v2(3, TITLED + OLD) + files.without_comments(song(".flac")),
    "bare with v1.flac": lambda: files.without_comments(song(".flac")) + id3v1(12),
    "empty comments and v1.flac": lambda: flac_with((4, comments())) + id3v1(255),
    "v1.wv": lambda: song(".wv") + id3v1(12),
    "v1.mpc": lambda: build("plain.mpc") + id3v1(12),
    "v1.tta": lambda: song(".tta") + id3v1(12),
    "id3 in front.wv": lambda: id3v2(3, TITLED + OLD) + song(".wv"),
    "id3 in front.mpc": lambda: id3v2(3, TITLED) + build("plain.mpc"),
    "id3 in front.ape": lambda: id3v2(3, TITLED) + build("full.ape"),
    "behind the form.aiff": lambda: song(".aiff") + chunk(b"ID3 ", id3v2(3, TITLED + OLD), ">"),
    "behind the form.wav": lambda: wav() + chunk(b"id3 ", id3v2(3, TITLED + OLD)),
    "zeros in front.mp3": lambda: bytes(512) + id3v2(3, TITLED + OLD) + song(".mp3"),
    "junk in front of id3.mp3": lambda: b"junk" * 99 + id3v2(3, TITLED + OLD, 50) + song(".mp3"),
    "ape with a year.mp3": lambda: song(".mp3") + files.ape(Year="1999", Track="3"),
    "empty id3 and v1.mp3": lambda: id3v2(4, b"", 100) + song(".mp3") + id3v1(255),
    "diin.dff": lambda: dff_with(DIIN),
    "comment alone.wav": lambda: titled_wav(info(ICMT=b"a comment")),
    # Several places for a genre.
    "two ids.wav": lambda: wav(chunk(b"ID3 ", id3v2(3, TITLED + OLD)), chunk(b"id3 ", id3v2(3, OLDER))),
    "info and id3.wav": lambda: titled_wav(info(INAM=b"T", IART=b"A"), chunk(b"id3 ", id3v2(3, TITLED))),
    "two infos.wav": lambda: wav(info(INAM=b"T", IGNR=b"Old"), info(IGNR=b"Older")),
    "id3 and comments.flac": lambda: id3v2(3, TITLED + OLD) + flac_with((4, comments(b"ENCODER=x"))),
    "two comments.flac": lambda: flac_with((4, comments(b"TITLE=T", b"GENRE=Old")), (4, comments(b"GENRE=Older"))),
    "two udta.m4a": lambda: m4a(atom(b"udta", meta(NAMED)), atom(b"udta", meta(item(b"\xa9gen", b"Older")))),
    "freeform.m4a": lambda: m4a(atom(b"udta", meta(NAMED, item(b"\xa9gen", b"Old"), freeform(b"GENRE", b"Older")))),
    "freeform alone.m4a": lambda: m4a(atom(b"udta", meta(NAMED, freeform(b"Genre", b"Old")))),
    "text of quicktime.m4a": lambda: m4a(atom(b"udta", atom(b"\xa9gen", b"\0\3\x55\xc4Old") + meta(NAMED))),
    "key of a genre.m4a": lambda: m4a(mdta(title=b"Title", genre=b"Old", artist=b"Artist")),
    "two tags.mp3": lambda: id3v2(4, OLD4) + id3v2(3, TITLED + OLD) + song(".mp3"),
    "ape and id3.wv": lambda: id3v2(3, OLD) + build("full.wv"),
    # Whole files that are called broken.
    "keys.m4a": lambda: m4a(mdta(title=b"Title", artist=b"Artist")),
    "keys in front.m4a": lambda: m4a_in_front(mdta(title=b"Title", artist=b"Artist")),
    "zeros in udta.m4a": lambda: m4a(atom(b"udta", bytes(4))),
    "zeros in udta in front.m4a": lambda: m4a_in_front(atom(b"udta", bytes(4))),
    "zeros behind meta.m4a": lambda: m4a_in_front(atom(b"udta", meta(NAMED) + bytes(4))),
    "meta without version.m4a": lambda: m4a_in_front(atom(b"udta", meta(NAMED, version=b""))),
    "meta without items.m4a": lambda: m4a_in_front(atom(b"udta", atom(b"meta", bytes(4) + HANDLER))),
    "streamed.wav": lambda: sized(wav(info(ISFT=b"Lavf")), "<I", 0xFFFFFFFF, 0xFFFFFFFF),
    "streamed without info.wav": lambda: sized(wav(), "<I", 0xFFFFFFFF, 0xFFFFFFFF),
    "streamed to a pipe.wav": lambda: sized(wav(), "<I", 0, 0),
    "eight too many.wav": lambda: sized(wav(), "<I", len(wav())),
    "eight too many.aiff": lambda: sized(files.aiff(AIFF_TAG), ">I", len(song(".aiff") + AIFF_TAG)),
    "pointer to the end.dsf": lambda: damaged(song(".dsf"), 20, struct.pack("<Q", len(song(".dsf")))),
    "counts one too many.mpc": lambda: miscounted(build("full.mpc"), 1),
    "counts one too few.ape": lambda: miscounted(build("full.ape"), -1),
    "unknown rate.wv": lambda: damaged(song(".wv"), 26, bytes([song(".wv")[26] | 0x80, song(".wv")[27] | 0x07])),
    "short.wav": lambda: short(".wav"),
    "skeleton.ogg": lambda: with_skeleton(files.commented(song(".ogg"), OggVorbis, TITLE="Title", GENRE="Old")),
    "skeleton.oga": lambda: with_skeleton(files.commented(song(".oga"), OggFLAC, TITLE="Title")),
    "genres by a semicolon.mp3": lambda: id3v2(3, TITLED + text(b"TCON", "Rock;Pop"), 99) + song(".mp3"),
    "full page.opus": full_page,
    "another vendor.flac": lambda: files.commented(flac_with((4, comments())), flac.FLAC, TITLE="Title"),
}  # fmt: skip

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "v1 in UTF-8.mp3": (lambda: song(".mp3") + id3v1_in("utf-8"), "unknown charset"),
    "v1 in another charset.wv": (lambda: song(".wv") + id3v1_in("cp1251"), "unknown charset"),
    "v1 in another charset.flac": (lambda: files.without_comments(song(".flac")) + id3v1_in("koi8-r"), "charset"),
    "id3 in front.wav": (lambda: id3v2(3, TITLED) + wav(), "ID3v2 tag in front of WAVE"),
    "id3 in front.m4a": (lambda: id3v2(3, TITLED) + song(".m4a"), "ID3v2 tag in front of MP4"),
    "keys in udta.m4a": (lambda: m4a(atom(b"udta", mdta(title=b"Title"))), "another kind"),
    "really truncated.wav": (lambda: wav()[:-1000], "truncated"),
    "items that do not add up.wv": (
        lambda: damaged(build("full.wv"), build("full.wv").index(b"APETAGEX") + 32, b"\xff\xff\0\0"),
        "add up",
    ),
    "damaged comments.spx": (lambda: damaged(build("speech.spx"), 172, b"?"), "its checksum is wrong"),
    "damaged behind more pages.opus": (lambda: damaged(full_page(), -100, b"?"), "its checksum is wrong"),
}
