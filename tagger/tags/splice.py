"""Tags as lists of opaque raw pieces, of which the genre's are replaced: everything else goes through byte for byte.

Each kind of tag (`KINDS`) knows how to cut its bytes into pieces, which of them hold the genre, what they say, how new
ones are made, and how a tag is put together again. Whether anybody can parse the other pieces is of no matter.
"""

import re
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import pairwise, takewhile
from typing import Any, BinaryIO, Protocol, cast

from mutagen.id3 import ID3, TCO, TCON, Frames

ROOM_BYTES = 1024  # left behind the frames of an ID3v2 tag that has to grow, or is new: the next edit moves no audio


class Id3Frame(Protocol):
    """What is used of mutagen's frames of text, which have no types."""

    text: list[str]  # or what `str` makes one of: a time stamp
    desc: str
    genres: list[str]


class Id3Tags(Protocol):
    """What is used of mutagen's ID3, which has no types."""

    def add(self, frame: Id3Frame) -> None:
        """Add a frame, in the place of one of its key."""

    def getall(self, name: str) -> list[Id3Frame]:
        """All frames of that name."""

    def setall(self, name: str, frames: list[Id3Frame]) -> None:
        """Put these in the place of all frames of that name."""

    def delall(self, name: str) -> None:
        """Take all frames of that name away."""

    def items(self) -> Iterable[tuple[str, Id3Frame]]:
        """Keys and frames."""

    def save(self, file: BinaryIO, **options: object) -> None:
        """Write them as a tag."""


#: Makes tags, of the file that is given or without frames.
id3_tags: Callable[..., Id3Tags] = ID3


def id3_text(name: str, text: str | list[str], encoding: int = 3) -> Id3Frame:
    """A frame of text; 3 is UTF-8."""
    return cast(Id3Frame, Frames[name](encoding=encoding, text=text))


@dataclass(frozen=True)
class Cut:
    """A tag in its parts: `head`, `pieces`, and what lies behind them (`tail`; of ID3v2 the room, in zeros)."""

    head: bytes
    pieces: tuple[bytes, ...]
    tail: bytes = b""
    #: What a kind must know to tell its pieces: the sizes of ID3v2.4, the keys of MP4's `mdta`.
    context: Any = None


@dataclass(frozen=True)
class Kind:
    """What is done with a kind of tag; every function is given the tag as it was cut."""

    cut: Callable[[bytes, Any], Cut]
    is_genre: Callable[[Cut, bytes], bool]
    values: Callable[[Cut, Sequence[bytes]], Iterable[str]]  # of the pieces with the genre
    make: Callable[[Cut, Sequence[bytes], Sequence[str]], list[bytes]]  # given the old pieces with it
    join: Callable[[Cut, Sequence[bytes]], bytes]
    texts: Callable[[Cut], Iterator[tuple[str, str]]]  # (key, text) of all that is text
    new: Cut  # one without pieces, to begin a tag with
    reach: Callable[[Cut], int] = lambda cut: len(cut.pieces)  # where a new piece is seen by every reader


def with_genre(kind: Kind, cut: Cut, values: Sequence[str], more: Sequence[bytes] = ()) -> bytes:
    """The tag's bytes with these values for its genre, none for (); `more` are pieces to put in front of it."""
    old = [piece for piece in cut.pieces if kind.is_genre(cut, piece)]
    made = [*more, *(kind.make(cut, old, values) if values else ())]
    first = next((i for i, piece in enumerate(cut.pieces) if kind.is_genre(cut, piece)), len(cut.pieces))
    at = min(first, kind.reach(cut))
    kept = [[p for p in part if not kind.is_genre(cut, p)] for part in (cut.pieces[:at], cut.pieces[at:])]
    return kind.join(cut, [*kept[0], *made, *kept[1]])


def genre_values(kind: Kind, cut: Cut) -> tuple[str, ...]:
    """What is stored for the genre, in order."""
    return tuple(kind.values(cut, [piece for piece in cut.pieces if kind.is_genre(cut, piece)]))


def others(kind: Kind, cut: Cut) -> list[bytes]:
    """The pieces that hold something else."""
    return [piece for piece in cut.pieces if piece.strip(b"\0") and not kind.is_genre(cut, piece)]


# --- ID3v2: frames, gaps of zeros between them, and bytes behind the last one that can be followed


@dataclass(frozen=True)
class _Frames:
    """How the frames of an ID3v2 tag are to be followed."""

    edges: list[int]  # where each begins, and the last one ends; runs of zeros count as frames
    n_odd: int  # gaps between frames, and those with a name that no frame has
    is_whole: bool = True  # False: the last one is all that is left where no frame could be followed
    has_plain_sizes: bool = False  # in v2.4, where seven bits of each byte count: a fault of old iTunes


def _cut_id3(tag: bytes, _: Any = None) -> Cut:
    version, flags, end = tag[3], tag[5], 10 + from_synchsafe(tag[6:10])
    if version not in (2, 3, 4):
        raise ValueError(f"ID3v2.{version} tags are not supported")
    if version == 2 and flags & 0x40:
        raise ValueError("ID3v2.2 tag that is compressed as a whole")
    if version == 4 and flags & 0x10:
        raise ValueError("ID3v2.4 tag with a footer")
    if len(tag) < end:
        raise ValueError("ID3v2 tag runs past its end")
    body, raw = _synchronised(tag[10:end]) if version < 4 and flags & 0x80 else (tag[10:end], lambda position: position)
    start = _extended_size(body, version) if flags & 0x40 else 0
    frames = _follow(body, start, version)
    if version == 4 and (frames.n_odd or not frames.is_whole):
        plain = _follow(body, start, 3)
        if plain.is_whole and not plain.n_odd:
            frames = replace(plain, has_plain_sizes=True)
    pieces = [tag[10 + raw(a) : 10 + raw(b)] for a, b in pairwise(frames.edges)]
    room = pieces.pop() if pieces and not pieces[-1].strip(b"\0") else b""
    return Cut(tag[: 10 + raw(start)], tuple(pieces), room, frames)


def _synchronised(body: bytes) -> tuple[bytes, Callable[[int], int]]:
    """The body without the zeros of unsynchronisation, and where in the raw one its positions are (ID3v2.3 §5)."""
    removed = [match.start() + 1 - i for i, match in enumerate(re.finditer(b"\xff\0", body))]

    def raw(position: int) -> int:
        return position + bisect_right(removed, position)

    return body.replace(b"\xff\0", b"\xff"), raw


def _extended_size(body: bytes, version: int) -> int:
    """Bytes of the extended header; none where only its flag is there, as some program writes it."""
    if body[:4].decode("latin-1") in Frames or len(body) < 10:
        return 0
    return from_synchsafe(body[:4]) if version == 4 else 4 + int.from_bytes(body[:4], "big")


def _follow(body: bytes, start: int, version: int) -> _Frames:
    """The frames from there on; what can no longer be followed is one last piece."""
    edges, n_odd, is_whole = [start], 0, True
    while (position := edges[-1]) < len(body):
        if body[position] == 0:
            following = _NOT_ZERO.search(body, position)
            edges.append(following.start() if following else len(body))
            n_odd += following is not None
            continue
        size = _frame_size(body[position : position + 10], version)
        n_odd += not _ID3_NAMES[version].match(body[position : position + 4])
        is_whole = 0 <= size <= len(body) - position
        edges.append(position + size if is_whole else len(body))
    return _Frames(edges, n_odd, is_whole)


def _frame_size(header: bytes, version: int) -> int:
    """Bytes of a frame with its header; -1 if it is none."""
    if version == 2:
        return 6 + int.from_bytes(header[3:6], "big") if len(header) >= 6 else -1
    if len(header) < 10 or (version == 4 and max(header[4:8]) > 0x7F):
        return -1
    return 10 + (from_synchsafe(header[4:8]) if version == 4 else int.from_bytes(header[4:8], "big"))


_NOT_ZERO = re.compile(rb"[^\0]")
_ID3_NAMES = {2: re.compile(rb"[A-Z0-9]{3}"), 3: re.compile(rb"[A-Z0-9]{3}[A-Z0-9\0]"), 4: re.compile(rb"[A-Z0-9]{4}")}
_ID3_GENRES = {2: (b"TCO",), 3: (b"TCON", b"TCO\0"), 4: (b"TCON", b"TCO\0")}


def _id3_is_genre(cut: Cut, piece: bytes) -> bool:
    return piece.startswith(_ID3_GENRES[cut.head[3]])


def _id3_reach(cut: Cut) -> int:
    """Frames that every reader can follow: some stop at a gap, at an empty frame, at a name of small letters."""
    name, header = _ID3_NAMES[cut.head[3]], 6 if cut.head[3] == 2 else 10
    return len(list(takewhile(lambda piece: name.match(piece) and len(piece) > header, cut.pieces)))


def _id3_values(cut: Cut, pieces: Sequence[bytes]) -> Iterator[str]:
    version = cut.head[3]
    for piece in pieces:
        if version > 2 and piece[3] == 0:
            piece = b"TCON" + piece[4:]
        if cut.context and cut.context.has_plain_sizes:
            piece = piece[:4] + synchsafe(int.from_bytes(piece[4:8], "big")) + piece[8:]
        header = b"ID3" + bytes([version, 0, cut.head[5] & 0x80]) + synchsafe(len(piece))
        known: dict[str, Any] = {"TCON": TCON, "TCO": TCO}
        # The zeros keep mutagen from taking the end of the frame for an ID3v1 block.
        tags = id3_tags(BytesIO(header + piece + bytes(256)), known_frames=known, translate=False, load_v1=False)
        yield from (text for frame in tags.getall("TCON") for text in frame.text)


def _id3_make(cut: Cut, _: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    version = cut.head[3]
    encoding = 3 if version == 4 else 0 if all(value.isascii() for value in values) else 1
    tags = id3_tags()
    tags.add(id3_text("TCON", list(values), encoding))
    frame = id3_frames(tags, version)
    if version == 2:
        frame = b"TCO" + (len(frame) - 10).to_bytes(3, "big") + frame[10:]
    elif cut.context and cut.context.has_plain_sizes:
        frame = frame[:4] + struct.pack(">I", len(frame) - 10) + frame[8:]
    return [frame.replace(b"\xff", b"\xff\0") if version < 4 and cut.head[5] & 0x80 else frame]


def id3_frames(tags: Id3Tags, version: int = 4) -> bytes:
    """The bytes of these frames, as mutagen writes them."""
    file = BytesIO()
    tags.save(file, v2_version=4 if version == 4 else 3, v23_sep=None, padding=lambda info: 0)
    return file.getvalue()[10:]


def _id3_join(cut: Cut, pieces: Sequence[bytes]) -> bytes:
    frames = b"".join(pieces)
    room = sum(map(len, cut.pieces)) + len(cut.tail) - len(frames)
    if cut.context and not cut.context.is_whole:
        room = 0  # zeros would become part of a frame that is cut short
    elif room < 0:
        room = ROOM_BYTES
    body = _extended(cut, frames, room) + frames + bytes(room)
    if len(body) >= 1 << 28:
        raise ValueError("an ID3v2 tag cannot be that large")
    return cut.head[:6] + synchsafe(len(body)) + body


def _extended(cut: Cut, frames: bytes, room: int) -> bytes:
    """The extended header, with the room and the checksum that it may tell (ID3v2.3 §3.2, ID3v2.4 §3.2)."""
    extended, is_raw = cut.head[10:], cut.head[3] < 4 and cut.head[5] & 0x80
    if not extended:
        return b""
    if cut.head[3] == 4:
        flags, at = extended[5], 6
        for flag in (0x40, 0x20):
            if flags & flag and flag == 0x20:
                checksum = zlib.crc32(frames + bytes(room))
                extended = extended[: at + 1] + synchsafe(checksum, 5) + extended[at + 6 :]
            at += 1 + extended[at] if flags & flag and at < len(extended) else 0
        return extended
    plain = bytearray(extended.replace(b"\xff\0", b"\xff") if is_raw else extended)
    if int.from_bytes(plain[6:10], "big") == len(cut.tail):
        plain[6:10] = struct.pack(">I", room)
    if plain[4] & 0x80 and len(plain) >= 14:
        plain[10:14] = struct.pack(">I", zlib.crc32(frames.replace(b"\xff\0", b"\xff") if is_raw else frames))
    return bytes(plain).replace(b"\xff", b"\xff\0") if is_raw else bytes(plain)


def _id3_texts(cut: Cut) -> Iterator[tuple[str, str]]:
    tag = with_genre(ID3V2, cut, ())
    tags = id3_tags(BytesIO(tag + bytes(256)), translate=False, load_v1=False)
    yield from (
        (name, str(text)) for name, frame in tags.items() if name[0] == "T" for text in getattr(frame, "text", ())
    )


def from_synchsafe(number: bytes) -> int:
    """The number that seven bits of each byte make."""
    value = 0
    for byte in number:
        value = value << 7 | byte & 0x7F
    return value


def synchsafe(number: int, n_bytes: int = 4) -> bytes:
    """The number with seven bits to a byte."""
    return bytes(number >> 7 * i & 0x7F for i in reversed(range(n_bytes)))


# --- ID3v1: one block of fixed fields


def _cut_id3v1(tag: bytes, _: Any = None) -> Cut:
    return Cut(tag[:127], (tag[127:128],))


def id3v1_fields(block: bytes) -> list[bytes]:
    """Title, artist, album, year, comment (with the track in its last byte), without blanks and zeros around them."""
    return [block[a:b].strip(b"\0 ") for a, b in ((3, 33), (33, 63), (63, 93), (93, 97), (97, 127))]


def _id3v1_texts(cut: Cut) -> Iterator[tuple[str, str]]:
    names = ("title", "artist", "album", "year", "comment")
    texts = dict(zip(names, (each.decode("latin-1") for each in id3v1_fields(cut.head)), strict=True))
    if cut.head[125] == 0 and cut.head[126]:
        texts["comment"] = cut.head[97:125].strip(b"\0 ").decode("latin-1")
        texts["track"] = str(cut.head[126])
    yield from texts.items()


# --- Vorbis comments: vendor, number, (length, key=value) each, and whatever lies behind


def _cut_vorbis(tag: bytes, _: Any = None) -> Cut:
    try:
        start = 4 + struct.unpack_from("<I", tag)[0]
        position, pieces = start + 4, []
        for _number in range(struct.unpack_from("<I", tag, start)[0]):
            end = position + 4 + struct.unpack_from("<I", tag, position)[0]
            if end > len(tag):
                raise ValueError
            pieces.append(tag[position:end])
            position = end
    except (ValueError, struct.error):
        raise ValueError("Vorbis comments that run past their end") from None
    return Cut(tag[:start], tuple(pieces), tag[position:])


def _vorbis_text(piece: bytes) -> tuple[str, str]:
    key, _, value = piece[4:].partition(b"=")
    return key.decode("latin-1").lower(), value.decode(errors="replace")


def _vorbis_reach(cut: Cut) -> int:
    """Comments of the form key=value: exiftool stops at another."""
    return len(list(takewhile(lambda piece: b"=" in piece, cut.pieces)))


def _vorbis_make(cut: Cut, _: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    return [vorbis_comment(b"GENRE", value) for value in values]


def vorbis_comment(key: bytes, text: str) -> bytes:
    """A comment with its length."""
    comment = key + b"=" + text.encode()
    return struct.pack("<I", len(comment)) + comment


def _vorbis_join(cut: Cut, pieces: Sequence[bytes]) -> bytes:
    return cut.head + struct.pack("<I", len(pieces)) + b"".join(pieces) + cut.tail


# --- MP4: the atoms of `ilst`; ©gen and gnre by name, ----:…:GENRE by its name atom, items of `mdta` by their key


def atoms(data: bytes, start: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of the atoms that lie one behind the other; what cannot be followed is left out."""
    while start + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, start)
        if not 8 <= size <= len(data) - start:
            return
        yield name, start, start + size
        start += size


def atom(name: bytes, payload: bytes) -> bytes:
    """An atom with its size."""
    return struct.pack(">I", len(payload) + 8) + name + payload


def _cut_ilst(tag: bytes, keys: Any = None) -> Cut:
    found = [(start, end) for _, start, end in atoms(tag)]
    return Cut(b"", tuple(tag[start:end] for start, end in found), tag[found[-1][1] if found else 0 :], keys)


def _ilst_is_genre(cut: Cut, piece: bytes) -> bool:
    if cut.context is not None:
        return piece[4:8] in cut.context
    names = [piece[start + 12 : end] for name, start, end in atoms(piece, 8) if name == b"name"]
    return piece[4:8] in (b"\xa9gen", b"gnre") or (
        piece[4:8] == b"----" and [each.lower() for each in names] == [b"genre"]
    )


def _ilst_values(cut: Cut, pieces: Sequence[bytes]) -> list[str]:
    """Those of ©gen if there are any, else of a number, else of a freeform genre."""
    ranked = sorted(pieces, key=lambda piece: (piece[4:8] != b"\xa9gen") + (piece[4:8] == b"----"))
    for piece in ranked:
        data = [piece[start + 8 : end] for name, start, end in atoms(piece, 8) if name == b"data"]
        if piece[4:8] == b"gnre":
            number = int.from_bytes(data[0][8:][-2:], "big") if data else 0
            found = [TCON.GENRES[number - 1]] if 1 <= number <= len(TCON.GENRES) else []
        else:
            found = [each[8:].decode("utf-16-be" if each[3:4] == b"\2" else "utf-8", "replace") for each in data]
        if any(found):
            return found
    return []


def _ilst_make(cut: Cut, old: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    data = b"".join(atom(b"data", struct.pack(">II", 1, 0) + value.encode()) for value in values)
    if cut.context is not None:
        return [atom(name, data) for name in dict.fromkeys(piece[4:8] for piece in old)]
    freeform = [piece for piece in old if piece[4:8] == b"----"]
    kept = [b"".join(p[start:end] for name, start, end in atoms(p, 8) if name != b"data") for p in freeform]
    return [atom(b"\xa9gen", data), *(atom(b"----", head + data) for head in kept)]


def _ilst_texts(cut: Cut) -> Iterator[tuple[str, str]]:
    for piece in cut.pieces:
        for name, start, end in atoms(piece, 8):
            if name == b"data" and piece[start + 11 : start + 12] == b"\1":
                yield piece[4:8].decode("latin-1"), piece[start + 16 : end].decode(errors="replace")


# --- the text atom ©gen of QuickTime's `udta`: length, language, text


def _cut_qt(tag: bytes, _: Any = None) -> Cut:
    return Cut(b"", (tag,) if tag else ())


def _qt_values(cut: Cut, pieces: Sequence[bytes]) -> list[str]:
    return [piece[12 : 12 + int.from_bytes(piece[8:10], "big")].decode(errors="replace") for piece in pieces]


def _qt_make(cut: Cut, old: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    text = "; ".join(values).encode()
    return [atom(b"\xa9gen", struct.pack(">H", len(text)) + (old[0][10:12] if old else b"\x55\xc4") + text)]


# --- ASF: descriptors of the extended content description, records of the two metadata objects

_ASF_GENRE = "WM/Genre".encode("utf-16-le")


def _cut_asf(tag: bytes, _: Any = None) -> Cut:
    position, pieces = 2, []
    for _number in range(int.from_bytes(tag[:2], "little")):
        value = position + 2 + int.from_bytes(tag[position : position + 2], "little")
        end = value + 4 + int.from_bytes(tag[value + 2 : value + 4], "little")
        pieces.append(tag[position:end])
        position = end
    return _checked_asf(tag, pieces, position)


def _cut_asf_library(tag: bytes, _: Any = None) -> Cut:
    position, pieces = 2, []
    for _number in range(int.from_bytes(tag[:2], "little")):
        n_name, _, n_value = struct.unpack_from("<HHI", tag.ljust(position + 12, b"\0"), position + 4)
        pieces.append(tag[position : position + 12 + n_name + n_value])
        position += 12 + n_name + n_value
    return _checked_asf(tag, pieces, position)


def _asf_library_make(cut: Cut, old: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    name, texts = _ASF_GENRE + b"\0\0", [value.encode("utf-16-le") + b"\0\0" for value in values]
    return [struct.pack("<HHHHI", 0, 0, len(name), 0, len(text)) + name + text for text in texts]


def _checked_asf(tag: bytes, pieces: list[bytes], end: int) -> Cut:
    if end > max(2, len(tag)):
        raise ValueError("attributes of ASF that run past their end")
    return Cut(b"", tuple(pieces), tag[end:])


def _asf_is_genre(cut: Cut, piece: bytes) -> bool:
    return piece[2 : 2 + int.from_bytes(piece[:2], "little")].removesuffix(b"\0\0") == _ASF_GENRE


def _asf_library_is_genre(cut: Cut, piece: bytes) -> bool:
    return piece[12 : 12 + int.from_bytes(piece[4:6], "little")].removesuffix(b"\0\0") == _ASF_GENRE


def _asf_make(cut: Cut, _: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    name, made = _ASF_GENRE + b"\0\0", []
    for text in (value.encode("utf-16-le") + b"\0\0" for value in values):
        if len(text) > 0xFFFF:
            raise ValueError("a genre of more than 32 766 letters does not fit a WMA")
        made.append(struct.pack("<H", len(name)) + name + struct.pack("<HH", 0, len(text)) + text)
    return made


def _asf_join(cut: Cut, pieces: Sequence[bytes]) -> bytes:
    return struct.pack("<H", len(pieces)) + b"".join(pieces) + cut.tail


def _asf_text(piece: bytes, is_library: bool = False) -> tuple[str, str]:
    if is_library:
        n_name, kind, n_value = struct.unpack_from("<HHI", piece, 4)
        name, value = piece[12 : 12 + n_name], piece[12 + n_name : 12 + n_name + n_value]
    else:
        n_name = int.from_bytes(piece[:2], "little")
        name, value = piece[2 : 2 + n_name], piece[6 + n_name :]
        kind = int.from_bytes(piece[2 + n_name : 4 + n_name], "little")
    text = value.decode("utf-16-le", "replace").rstrip("\0") if kind == 0 else ""
    return name.decode("utf-16-le", "replace").rstrip("\0"), text


# --- APEv2 (and APEv1, which has no header): items between header and footer

APE_MARK = b"APETAGEX"


def _cut_ape(tag: bytes, _: Any = None) -> Cut:
    has_header, count = tag.startswith(APE_MARK), struct.unpack_from("<I", tag, len(tag) - 16)[0]
    position, pieces = 32 * has_header, []
    end = len(tag) - 32
    while position < end:
        value = tag.find(b"\0", position + 8, end) + 1
        stop = value + struct.unpack_from("<I", tag.ljust(position + 4, b"\0"), position)[0]
        if not value or stop > end:
            raise ValueError(f"APE tag whose items do not add up (it counts {count})")
        pieces.append(tag[position:stop])
        position = stop
    return Cut(tag[: 32 * has_header], tuple(pieces), tag[-32:])


def _ape_item(piece: bytes) -> tuple[bytes, bytes]:
    key, _, value = piece[8:].partition(b"\0")
    return key, value


def _ape_values(cut: Cut, pieces: Sequence[bytes]) -> list[str]:
    return [part for piece in pieces for part in _ape_item(piece)[1].decode(errors="replace").split("\0")]


def _ape_make(cut: Cut, _: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    return [ape_item(b"Genre", "\0".join(values))]


def ape_item(key: bytes, text: str) -> bytes:
    """An item with that text."""
    return struct.pack("<II", len(text.encode()), 0) + key + b"\0" + text.encode()


def _ape_join(cut: Cut, pieces: Sequence[bytes]) -> bytes:
    body = b"".join(pieces)
    counts = struct.pack("<II", len(body) + 32, len(pieces))
    ends = [end[:12] + counts + end[20:] if end else b"" for end in (cut.head, cut.tail)]
    return ends[0] + body + ends[1]


# --- RIFF INFO: (name, value) of even length


def _cut_info(tag: bytes, _: Any = None) -> Cut:
    position, pieces, stop = 4, [], len(tag.rstrip(b"\0"))
    while position < stop:
        end = position + 8 + int.from_bytes(tag[position + 4 : position + 8], "little")
        if end > len(tag) or len(tag) < position + 8:
            raise ValueError("INFO list whose items do not add up")
        pieces.append(tag[position : end + end % 2].ljust(end + end % 2 - position, b"\0"))
        position = end + end % 2
    return Cut(b"INFO", tuple(pieces), tag[position:])


def _info_text(piece: bytes) -> tuple[str, str]:
    value = piece[8 : 8 + int.from_bytes(piece[4:8], "little")].rstrip(b"\0")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("cp1252", "replace")  # what Windows wrote before UTF-8 was usual
    return piece[:4].decode("latin-1"), text


def _info_make(cut: Cut, _: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    made = [value.encode() + b"\0" for value in values]
    return [b"IGNR" + struct.pack("<I", len(each)) + each + bytes(len(each) % 2) for each in made]


def _cut_diin(tag: bytes, _: Any = None) -> Cut:
    """Title and artist of a DSDIFF file, in chunks of their own (DSDIFF 1.5 §3.3): a count of letters, and those."""
    position, pieces = 0, []
    while position + 12 <= len(tag):
        end = position + 12 + int.from_bytes(tag[position + 4 : position + 12], "big")
        pieces.append(tag[position:end])
        position = end + end % 2
    return Cut(b"", tuple(pieces))


def _diin_texts(cut: Cut) -> Iterator[tuple[str, str]]:
    names = {b"DITI": "title", b"DIAR": "artist"}
    yield from ((names[p[:4]], p[16:].rstrip(b"\0").decode("latin-1")) for p in cut.pieces if p[:4] in names)


def _plain_join(cut: Cut, pieces: Sequence[bytes]) -> bytes:
    return cut.head + b"".join(pieces) + cut.tail


def _no_texts(cut: Cut) -> Iterator[tuple[str, str]]:
    return iter(())


_NO_ROOM = Cut(b"", ())
ID3V2 = Kind(
    _cut_id3, _id3_is_genre, _id3_values, _id3_make, _id3_join, _id3_texts,
    Cut(b"ID3\4\0\0" + bytes(4), ()), _id3_reach,
)  # fmt: skip
_ILST = Kind(_cut_ilst, _ilst_is_genre, _ilst_values, _ilst_make, _plain_join, _ilst_texts, _NO_ROOM)
_ASF = Kind(
    _cut_asf, _asf_is_genre, lambda cut, pieces: [_asf_text(p)[1] for p in pieces], _asf_make, _asf_join,
    lambda cut: map(_asf_text, cut.pieces), _NO_ROOM,
)  # fmt: skip
_APE_END = APE_MARK + struct.pack("<III", 2000, 32, 0)
KINDS = {
    "id3": ID3V2,
    "id3v1": Kind(
        _cut_id3v1, lambda cut, piece: True, lambda cut, pieces: [str(pieces[0][0])] if cut.head else [],
        lambda cut, old, values: [bytes([int(values[0])])], _plain_join, _id3v1_texts, _NO_ROOM,
    ),
    "vorbis": Kind(
        _cut_vorbis, lambda cut, piece: piece[4:10].lower() == b"genre=",
        lambda cut, pieces: [_vorbis_text(piece)[1] for piece in pieces], _vorbis_make, _vorbis_join,
        lambda cut: map(_vorbis_text, cut.pieces), Cut(struct.pack("<I", 9) + b"genre-tag", ()), _vorbis_reach,
    ),
    "mp4": _ILST,
    "mp4 keys": _ILST,
    "qt": Kind(_cut_qt, lambda cut, piece: True, _qt_values, _qt_make, _plain_join, _no_texts, _NO_ROOM),
    "asf": _ASF,
    "asf library": replace(
        _ASF, cut=_cut_asf_library, is_genre=_asf_library_is_genre, make=_asf_library_make,
        values=lambda cut, pieces: [_asf_text(p, True)[1] for p in pieces],
        texts=lambda cut: (_asf_text(p, True) for p in cut.pieces),
    ),
    "ape": Kind(
        _cut_ape, lambda cut, piece: _ape_item(piece)[0].lower() == b"genre", _ape_values, _ape_make, _ape_join,
        lambda cut: ((key.decode("latin-1"), text) for key, value in map(_ape_item, cut.pieces)
                     for text in value.decode(errors="replace").split("\0")),
        Cut(_APE_END + struct.pack("<IQ", 1 << 31 | 1 << 29, 0), (), _APE_END + struct.pack("<IQ", 1 << 31, 0)),
    ),
    "diin": Kind(
        _cut_diin, lambda cut, piece: False, lambda cut, pieces: [], lambda cut, old, values: [], _plain_join,
        _diin_texts, _NO_ROOM,
    ),
    "info": Kind(
        _cut_info, lambda cut, piece: piece[:4] == b"IGNR", lambda cut, pieces: [_info_text(p)[1] for p in pieces],
        _info_make, _plain_join, lambda cut: map(_info_text, cut.pieces), Cut(b"INFO", ()),
    ),
}  # fmt: skip
