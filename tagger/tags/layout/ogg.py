"""Ogg: the comments of its first stream of sound, and the pages that are laid again around them."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from typing import BinaryIO

from tagger.tags.layout.place import Layout, Place, at, spliced

OGG_PAGE = struct.Struct("<4sBBqIIIB")  # RFC 3533 §6
# Ogg: what a stream begins with, what stands in front of its comments, and how they are called.
OGG_STREAMS = (
    (b"\x01vorbis", b"\x03vorbis"), (b"OpusHead", b"OpusTags"), (b"\x7fFLAC", b""), (b"Speex   ", b""),
)  # fmt: skip


@dataclass(frozen=True)
class Page:
    """A page of Ogg; `lacing` are the sizes of its segments."""

    start: int
    flags: int
    granule: int
    serial: int
    number: int
    lacing: bytes
    body: bytes

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.start + OGG_PAGE.size + len(self.lacing) + len(self.body)

    def check(self, checksum: int) -> "Page":
        """Itself; ValueError if its bytes have another checksum: made right, decoders would play what they skip."""
        if OGG_PAGE.unpack_from(self.packed())[6] != checksum:
            raise ValueError(f"an Ogg page is damaged: its checksum is wrong (byte {self.start})")
        return self

    def packed(self) -> bytes:
        """Its bytes, with the checksum made right."""
        fields = (b"OggS", 0, self.flags, self.granule, self.serial, self.number)
        head, tail = OGG_PAGE.pack(*fields, 0, len(self.lacing)), self.lacing + self.body
        return OGG_PAGE.pack(*fields, ogg_checksum(head + tail), len(self.lacing)) + tail


def _page(file: BinaryIO, start: int) -> Page:
    header = at(file, start, OGG_PAGE.size)
    if len(header) < OGG_PAGE.size or header[:4] != b"OggS":
        raise ValueError(f"no Ogg page where one should begin (byte {start})")
    _, _, flags, granule, serial, number, checksum, n = OGG_PAGE.unpack(header)
    lacing = at(file, start + OGG_PAGE.size, n)
    body = at(file, start + OGG_PAGE.size + n, sum(lacing))
    if len(body) < sum(lacing) or len(lacing) < n:
        raise ValueError("an Ogg page runs past the end of the file: truncated")
    return Page(start, flags, granule, serial, number, lacing, body).check(checksum)


def in_ogg(file: BinaryIO) -> Layout:
    """The comments of the first stream of sound: its second packet, whatever streams are woven in between."""
    position, prefix = 0, None
    while prefix is None:  # each stream begins with a page of its own, all of them in front
        page = _page(file, position)
        if not page.flags & 2:
            raise ValueError("Ogg without a Vorbis, Opus, FLAC or Speex stream")
        prefix = next((prefix for magic, prefix in OGG_STREAMS if page.body.startswith(magic)), None)
        position, serial, is_flac = page.end, page.serial, page.body.startswith(b"\x7fFLAC")
    pages: list[Page] = []
    while not pages or _first_packet(pages) is None:
        page = _page(file, position)
        position = page.end
        if page.serial == serial:
            pages.append(page)
    packet = b"".join(page.body for page in pages)[: sum(_first_packet(pages) or b"")]
    n_prefix = 4 if is_flac else len(prefix)
    if not packet.startswith(prefix) or (is_flac and packet[0] & 0x7F != 4) or pages[0].flags & 1:
        raise ValueError("no comments where a stream of Ogg has them")

    def around(tag: bytes) -> bytes:
        return (packet[:1] + len(tag).to_bytes(3, "big") if is_flac else packet[:n_prefix]) + tag

    place = Place("vorbis", packet[n_prefix:], slice(pages[0].start, pages[-1].end), around)
    return Layout([place], put_own=partial(_put, pages=tuple(pages)))


def _first_packet(pages: Sequence[Page]) -> bytes | None:
    """The sizes of the segments of the first packet of these pages; None if it does not end in them."""
    lacing = b"".join(page.lacing for page in pages)
    end = next((i + 1 for i, size in enumerate(lacing) if size < 255), None)
    return None if end is None else lacing[:end]


def _put(data: bytes, packet: bytes, pages: Sequence[Page]) -> bytes:
    """The file with this packet in place of the first one of these pages; the pages behind it are numbered again."""
    old, last = _first_packet(pages) or b"", pages[-1]
    rest_lacing = b"".join(page.lacing for page in pages)[len(old) :]
    rest = b"".join(page.body for page in pages)[sum(old) :]
    lacing = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
    edges = [0, *(edge for edge in accumulate(len(page.lacing) for page in pages[:-1]) if edge < len(lacing))]
    edges += [*range(edges[-1] + 255, len(lacing), 255), len(lacing)]  # pages as they were before, as far as that goes
    parts = [(lacing[a:b], packet[255 * a : 255 * b]) for a, b in pairwise(edges)]
    if rest_lacing and len(parts[-1][0]) + len(rest_lacing) <= 255:
        parts[-1] = parts[-1][0] + rest_lacing, parts[-1][1] + rest
    elif rest_lacing:
        parts.append((rest_lacing, rest))
    new = []
    for i, (sizes, body) in enumerate(parts):
        is_last, is_continued = i == len(parts) - 1, i > 0 and parts[i - 1][0][-1] == 255
        granule = last.granule if is_last else -1 if sizes[-1] == 255 else 0
        flags = is_continued | (last.flags & 4 if is_last else 0)
        new.append(Page(0, flags, granule, last.serial, pages[0].number + i, sizes, body).packed())
    changes = [(pages[0].start, pages[0].end, b"".join(new)), *((page.start, page.end, b"") for page in pages[1:])]
    if len(new) != len(pages):
        changes += _renumbered(data, last, len(new) - len(pages))
    return spliced(data, changes)


def _renumbered(data: bytes, last: Page, step: int) -> Iterator[tuple[int, int, bytes]]:
    """The pages behind that one, of its stream, with their numbers moved on; as far as pages can be followed."""
    position, flags = last.end, last.flags
    while not flags & 4 and data[position : position + 4] == b"OggS" and len(data) - position >= OGG_PAGE.size:
        _, _, found, granule, serial, number, checksum, n = OGG_PAGE.unpack_from(data, position)
        lacing = data[position + OGG_PAGE.size : position + OGG_PAGE.size + n]
        start = position + OGG_PAGE.size + n
        body = data[start : start + sum(lacing)]
        if serial == last.serial:
            if found & 2 or len(body) < sum(lacing):
                return
            page = Page(position, found, granule, serial, number, lacing, body).check(checksum)
            moved = replace(page, number=(number + step) % (1 << 32)).packed()
            yield position, position + OGG_PAGE.size, moved[: OGG_PAGE.size]
            flags = found
        position = start + sum(lacing)


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ogg_checksum(page: bytes) -> int:
    """The CRC of Ogg, which is zlib's with bits mirrored and no inversions (RFC 3533 §6)."""
    crc = ~zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int.from_bytes(struct.pack("<I", crc).translate(_MIRRORED), "big")
