"""Where tags lie in a file: byte ranges only, nothing is decoded and no foreign library is asked.

Three families hold their tag as one closed block of bytes that can be cut out and put back:
head | audio | tail files (MP3, FLAC, WavPack, ...), files made of chunks (WAV, AIFF, DFF), and DSF with its pointer.
Whatever does not tile exactly is a ValueError: bytes nobody can place are bytes nobody may move.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

# Chunk files by their first four bytes: byte order and size field of RIFF (WAVE), EA IFF-85 (AIFF), DSDIFF 1.5 §3.
CHUNK_FILES = {b"RIFF": "<I", b"FORM": ">I", b"FRM8": ">Q"}
DSF_HEADER = struct.Struct("<4sQQQ")  # "DSD ", size of this chunk, size of the file, offset of the ID3v2 tag or 0


@dataclass(frozen=True)
class Layout:
    """Byte ranges of a head | audio | tail file; an absent tag is an empty range where it would be put."""

    id3v2: slice  # the first one, if several are stacked
    ape: slice
    id3v1: slice
    audio: slice  # between the last head tag and the first tail tag


@dataclass(frozen=True)
class Chunk:
    """One chunk of a RIFF, IFF or DSDIFF file and the byte range of its payload."""

    name: bytes
    start: int
    end: int


def layout(file: BinaryIO) -> Layout:
    """Byte ranges of the tags around the audio: stacked ID3v2, FLAC blocks | APEv2, Lyrics3, ID3v1."""
    size = file.seek(0, 2)
    first = id3v2_size(at(file, 0, 10))
    found_ape = None
    start = after_id3v2(file)
    if step := _ape_size(at(file, start, 32)):
        found_ape, start = slice(start, start + step), start + step
    if at(file, start, 4) == b"fLaC":
        start = max(span.stop for _, span in flac_blocks(file))
    end = size - 128 if size - 128 >= start and at(file, size - 128, 3) == b"TAG" else size
    id3v1 = slice(end, size)
    while True:
        if step := _lyrics3_size(file, start, end):
            end -= step
        elif end - start >= 32 and (step := _ape_size(at(file, end - 32, 32))) and end - step >= start:
            found_ape = found_ape or slice(end - step, end)
            end -= step
        else:
            break
    if start > end:
        raise ValueError("the tags run into each other")
    return Layout(slice(0, first), found_ape or slice(id3v1.start, id3v1.start), id3v1, slice(start, end))


def id3v2_size(header: bytes) -> int:
    """Bytes an ID3v2 tag takes by its 10-byte header, footer included; 0 when it is none (ID3v2.4 §3.1)."""
    if len(header) < 10 or header[:3] != b"ID3" or header[3] == 0xFF or max(header[6:10]) > 0x7F:
        return 0
    size = header[6] << 21 | header[7] << 14 | header[8] << 7 | header[9]
    return 10 + size + (10 if has_footer(header) else 0)


def has_footer(header: bytes) -> bool:
    """Whether an ID3v2 header announces ten more bytes behind the tag (ID3v2.4 §3.4)."""
    return header[:4] == b"ID3\x04" and bool(header[5] & 0x10)


def chunks(file: BinaryIO) -> list[Chunk]:
    """The chunks of a RIFF, IFF or DSDIFF file in order; ValueError unless they tile its container exactly."""
    size = file.seek(0, 2)
    length = struct.Struct(CHUNK_FILES[at(file, 0, 4)])
    stop = 4 + length.size + length.unpack(at(file, 4, length.size))[0]
    position, found = 8 + length.size, []
    while position < min(stop, size):
        header = at(file, position, 4 + length.size)
        if len(header) < 4 + length.size or not re.fullmatch(rb"[ -~]{4}", header[:4]):
            raise ValueError(f"no chunk where one should begin (byte {position})")
        start = position + len(header)
        end = start + length.unpack(header[4:])[0]
        found.append(Chunk(header[:4], start, end))
        position = end + end % 2
    if not found or found[-1].end > min(stop, size) or stop > size + 1:
        raise ValueError("a chunk runs past the end of the file: truncated")
    return found


def with_chunk(data: bytes, place: Chunk | None, name: bytes, payload: bytes) -> bytes:
    """The chunk file with the payload at that place, or as a new last chunk where it is None; sizes made right."""
    length = struct.Struct(CHUNK_FILES[data[:4]])
    found = chunks(BytesIO(data))
    new = name + length.pack(len(payload)) + payload + bytes(len(payload) % 2)
    parts = [data[4 + length.size : 8 + length.size]]
    for chunk in found:
        header, padded = chunk.start - 4 - length.size, chunk.end + chunk.end % 2
        parts.append(new if chunk == place else data[header:padded].ljust(padded - header, b"\0"))
    if place is None:
        parts.append(new)
    body = b"".join(parts)
    behind = max(4 + length.size + length.unpack_from(data, 4)[0], padded)
    return data[:4] + length.pack(len(body)) + body + data[behind:]


def cut_id3(file: BinaryIO) -> bytes:
    """The bytes that hold the file's (first) ID3v2 tag, or b"" when it has none."""
    magic = at(file, 0, 4)
    if magic in CHUNK_FILES:
        place = id3_chunk(file)
        return at(file, place.start, place.end - place.start) if place else b""
    if magic == b"DSD ":
        start = _dsf_pointer(file)
        return at(file, start, file.seek(0, 2) - start) if start else b""
    return at(file, 0, id3v2_size(at(file, 0, 10)))


def paste_id3(data: bytes, tag: bytes) -> bytes:
    """The file with that ID3v2 tag in place of the one `cut_id3` finds, or put where its container wants it."""
    magic, file = data[:4], BytesIO(data)
    if magic in CHUNK_FILES:
        place = id3_chunk(file)
        new = b"id3 " if magic == b"RIFF" else b"ID3 "
        return with_chunk(data, place, place.name if place else new, tag)
    if magic == b"DSD ":
        start = _dsf_pointer(file) or len(data)
        header = DSF_HEADER.pack(magic, DSF_HEADER.size, start + len(tag), start)
        return header + data[DSF_HEADER.size : start] + tag
    return tag + data[id3v2_size(data[:10]) :]


def id3v1(file: BinaryIO) -> bytes:
    """The 128 bytes of an ID3v1 tag at the end, or b""."""
    span = layout(file).id3v1
    return at(file, span.start, span.stop - span.start)


def id3_chunk(file: BinaryIO) -> Chunk | None:
    """The chunk with the ID3v2 tag; `id3 ` and `ID3 ` are both in use."""
    return next((chunk for chunk in chunks(file) if chunk.name.lower() == b"id3 "), None)


def info_chunk(file: BinaryIO) -> Chunk | None:
    """The LIST chunk of type INFO of a WAV file."""
    return next((c for c in chunks(file) if c.name == b"LIST" and at(file, c.start, 4) == b"INFO"), None)


def info_items(payload: bytes) -> list[tuple[bytes, bytes]]:
    """The (name, value) pairs of an INFO list, values as stored, closing NULs included; zeros behind them are room."""
    position, items = 4, []
    while payload[position:].strip(b"\0"):
        name, length = struct.unpack_from("<4sI", payload, position)
        items.append((name, payload[position + 8 : position + 8 + length]))
        position += 8 + length + length % 2
        if position > len(payload) + 1:
            raise ValueError("INFO list whose items do not add up")
    return items


def info_payload(items: list[tuple[bytes, bytes]]) -> bytes:
    """The payload of an INFO list with these (name, value) pairs."""
    return b"INFO" + b"".join(n + struct.pack("<I", len(v)) + v + bytes(len(v) % 2) for n, v in items)


def ape_items(tag: bytes) -> list[tuple[int, bytes, bytes]]:
    """The (flags, key, value) items of an APEv2 tag, footer included; ValueError when they do not fill it exactly."""
    if not tag:
        return []
    version, size, n_items = struct.unpack_from("<III", tag, len(tag) - 24)
    position, items = len(tag) - size, []
    for _ in range(n_items):
        length, flags = struct.unpack_from("<II", tag, position)
        value = tag.index(b"\0", position + 8) + 1
        items.append((flags, tag[position + 8 : value - 1], tag[value : value + length]))
        position = value + length
    if position != len(tag) - 32 or version != 2000:
        raise ValueError("APEv2 tag whose items do not add up" if version == 2000 else "APE tag of another version")
    return items


def ape_tag(items: list[tuple[int, bytes, bytes]]) -> bytes:
    """An APEv2 tag, header and footer included, with these (flags, key, value) items."""
    body = b"".join(struct.pack("<II", len(v), flags) + key + b"\0" + v for flags, key, v in items)
    ends = [
        b"APETAGEX" + struct.pack("<IIII", 2000, len(body) + 32, len(items), flags) + bytes(8)
        for flags in (1 << 31 | 1 << 29, 1 << 31)
    ]
    return ends[0] + body + ends[1]


def flac_blocks(file: BinaryIO) -> Iterator[tuple[int, slice]]:
    """(type, byte range of the payload) of the metadata blocks of a FLAC file (RFC 9639 §8)."""
    last, position = False, after_id3v2(file) + len(b"fLaC")
    while not last:
        header = at(file, position, 4)
        if len(header) < 4:
            raise ValueError("FLAC metadata runs past the end of the file")
        last, start = header[0] >= 0x80, position + 4
        position = start + int.from_bytes(header[1:], "big")
        yield header[0] & 0x7F, slice(start, position)


def after_id3v2(file: BinaryIO) -> int:
    """Where the last of the ID3v2 tags at the head ends; some programs put a second one in front of the first."""
    position = 0
    while step := id3v2_size(at(file, position, 10)):
        position += step
    return position


def _ape_size(marker: bytes) -> int:
    """Bytes an APEv2 tag takes by its 32-byte header or footer; 0 when it is none."""
    if len(marker) < 32 or marker[:8] != b"APETAGEX":
        return 0
    size, _, flags = struct.unpack_from("<III", marker, 12)  # the size counts the footer, not the header
    return size + (32 if flags & 1 << 31 else 0)


def _lyrics3_size(file: BinaryIO, start: int, end: int) -> int:
    """Bytes a Lyrics3 tag takes that ends there; 0 when there is none. Version 1 has no size field, 5100 at most."""
    mark = at(file, max(start, end - 15), 15)
    if mark.endswith(b"LYRICS200") and mark[:6].isdigit():
        size = int(mark[:6]) + 15
        return size if end - size >= start and at(file, end - size, 11) == b"LYRICSBEGIN" else 0
    if mark.endswith(b"LYRICSEND"):
        begin = max(start, end - 5100 - 20)
        offset = at(file, begin, end - begin).rfind(b"LYRICSBEGIN")
        return end - begin - offset if offset >= 0 else 0
    return 0


def _dsf_pointer(file: BinaryIO) -> int:
    """Offset of the ID3v2 tag of a DSF file, 0 when it has none."""
    header = at(file, 0, DSF_HEADER.size)
    if len(header) < DSF_HEADER.size or not 0 <= (start := DSF_HEADER.unpack(header)[3]) < file.seek(0, 2):
        raise ValueError("the ID3v2 tag should lie behind the end of the file: truncated")
    return start


def at(file: BinaryIO, position: int, n_bytes: int) -> bytes:
    """Up to that many bytes from that position on."""
    file.seek(position)
    return file.read(n_bytes)
