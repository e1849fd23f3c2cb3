"""ID3v2: frames, gaps of zeros between them, and bytes behind the last one that can be followed; and ID3v1."""

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

from tagger.tags.pieces.kind import NO_ROOM, Cut, Kind, plain_join

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
    tag = _id3_join(cut, [piece for piece in cut.pieces if not _id3_is_genre(cut, piece)])
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


ID3V2 = Kind(
    _cut_id3, _id3_is_genre, _id3_values, _id3_make, _id3_join, _id3_texts,
    Cut(b"ID3\4\0\0" + bytes(4), ()), _id3_reach,
)  # fmt: skip
ID3V1 = Kind(
    _cut_id3v1, lambda cut, piece: True, lambda cut, pieces: [str(pieces[0][0])] if cut.head else [],
    lambda cut, old, values: [bytes([int(values[0])])], plain_join, _id3v1_texts, NO_ROOM,
)  # fmt: skip
