"""Files of head tags | audio | tail tags: MPEG audio, TrueAudio, FLAC, WavPack, Musepack, Monkey's Audio, TAK."""

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from tagger.tags.layout.place import Count, Layout, Place, at, cut

_SEARCHED = (1 << 14, 1 << 20)  # junk in front of the first frame of MPEG audio, and at most


def head_and_tail(file: BinaryIO, leading: str) -> Layout:
    """Stacked ID3v2, FLAC blocks | APEv2, Lyrics3, ID3v1; `leading` is the kind of tag these files are known for."""
    size = file.seek(0, 2)
    id3 = [id3_place(file, span) for span in id3v2_spans(file, 0)]
    start = id3[-1].span.stop if id3 else 0
    rooms: tuple[tuple[slice, tuple[Count, ...]], ...] = ()
    vorbis: list[Place] = []
    ape: list[Place] = []
    if step := _ape_size(at(file, start, 32)):
        ape, start = [_ape_place(file, slice(start, start + step))], start + step
    if leading == "vorbis":
        vorbis, rooms, start = _flac_blocks(file, start)
    elif leading == "id3" and at(file, start, 3) != b"TTA":
        first = mpeg_start(file, start)
        junk = (
            re.search(rb"ID3[\2-\4][^\xff].[\0-\x7f]{4}", at(file, start, first - start), re.DOTALL)
            if not id3
            else None
        )
        if junk:
            id3 = [id3_place(file, span) for span in id3v2_spans(file, start + junk.start())]
            start = id3[-1].span.stop
    end = size - 128 if size - 128 >= start and at(file, size - 128, 3) == b"TAG" else size
    v1 = [Place("id3v1", at(file, end, 128), slice(end, size))] if end < size else []
    tail = end
    while True:
        if step := _lyrics3_size(file, start, end):
            end -= step
        elif end - start >= 32 and (step := _ape_size(at(file, end - 32, 32))) and end - step >= start:
            step += 32 if at(file, max(start, end - step - 32), 8) == b"APETAGEX" else 0
            ape = ape or [_ape_place(file, slice(end - step, end))]
            end -= step
        else:
            break
    if start > end:
        raise ValueError("the tags run into each other")
    new = {"id3": slice(0, 0), "ape": slice(tail, tail)}
    found = {"id3": id3, "ape": ape, "vorbis": vorbis}
    first_places = found.pop(leading) or [Place(leading, b"", new[leading])]
    return Layout([*first_places, *(p for each in found.values() for p in each), *v1], slice(start, end), rooms)


def id3_place(file: BinaryIO, span: slice, **options: Any) -> Place:
    """The place of an ID3 tag in that range; `options` are of a Place."""
    return Place("id3", cut(file, span), span, **options)


def id3v2_spans(file: BinaryIO, position: int) -> Iterator[slice]:
    """The tags one behind the other from there on; some programs put a second one in front of the first."""
    while step := id3v2_size(at(file, position, 10)):
        if position + step > file.seek(0, 2):
            raise ValueError("ID3v2 tag runs past its end")
        yield slice(position, position + step)
        position += step


def id3v2_size(header: bytes) -> int:
    """Bytes an ID3v2 tag takes by its 10-byte header, footer included; 0 when it is none (ID3v2.4 §3.1)."""
    if len(header) < 10 or header[:3] != b"ID3" or header[3] == 0xFF or max(header[6:10]) > 0x7F:
        return 0
    size = header[6] << 21 | header[7] << 14 | header[8] << 7 | header[9]
    return 10 + size + (10 if header[3] == 4 and header[5] & 0x10 else 0)


def _ape_place(file: BinaryIO, span: slice) -> Place:
    return Place("ape", cut(file, span), span)


def _ape_size(marker: bytes) -> int:
    """Bytes an APE tag takes by its 32-byte header or footer; 0 when it is none."""
    if len(marker) < 32 or marker[:8] != b"APETAGEX":
        return 0
    size, _, flags = struct.unpack_from("<III", marker, 12)  # the size counts the footer, not the header
    return int(max(32, size) + (32 if flags & 1 << 29 else 0))


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


def _flac_blocks(file: BinaryIO, start: int) -> tuple[list[Place], tuple[tuple[slice, tuple[Count, ...]], ...], int]:
    """The comments, the padding, and where the audio begins (RFC 9639 §8)."""
    size, position, last = file.seek(0, 2), start + 4, 0
    found, rooms = [], []
    while not last:
        header = at(file, position, 4)
        if len(header) < 4 or (end := position + 4 + int.from_bytes(header[1:], "big")) > size:
            raise ValueError("FLAC metadata runs past the end of the file")
        last, kind = header[0] & 0x80, header[0] & 0x7F
        if position == start + 4 and (kind or end - position != 38):
            raise ValueError("FLAC without its stream info in front")
        if kind == 4:
            tag = at(file, position + 4, end - position - 4)
            found.append(Place("vorbis", tag, slice(position, end), _flac_block(header[0])))
        if kind == 1:
            rooms.append((slice(position + 4, end), (Count(position, ">I"),)))
        position = end
    new = start + 42  # behind the stream info, which is no longer the last block then
    is_last = at(file, start + 4, 1)[0] & 0x80
    begun = ((Count(start + 4, ">I"), -(0x80 << 24)),) if is_last else ()
    found = found or [Place("vorbis", b"", slice(new, new), _flac_block(4 | is_last), begun=begun)]
    return found, tuple(rooms), position


def _flac_block(mark: int) -> Callable[[bytes], bytes]:
    def around(tag: bytes) -> bytes:
        if len(tag) >= 1 << 24:
            raise ValueError("a FLAC block cannot be that large")
        return bytes([mark]) + len(tag).to_bytes(3, "big") + tag

    return around


def mpeg_start(file: BinaryIO, start: int) -> int:
    """Where the first frame of MPEG audio begins that another one follows, or a tag, or the end of the file."""
    for n_bytes in _SEARCHED:
        data = at(file, start, n_bytes)
        for match in re.finditer(rb"\xff[\xe2-\xff]", data):
            begin = match.start()
            step = _mpeg_frame_bytes(data[begin : begin + 4])
            following = data[begin + step : begin + step + 4]
            if len(following) < 4:
                following = at(file, start + begin + step, 4)
            if step and (_mpeg_frame_bytes(following) or following[:3] in (b"", b"TAG", b"APE", b"LYR")):
                return start + begin
    raise ValueError("no MPEG audio in it")


# Bit rates in kbit/s: of version 1, layers I, II, III; of versions 2 and 2.5, layer I, and II or III (ISO/IEC 11172-3).
_BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _mpeg_frame_bytes(header: bytes) -> int:
    """Bytes of the frame that these four bytes begin; 0 where none begins, or its rate is not one of the table."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    rate, sampling, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or rate in (0, 15) or sampling == 3:
        return 0
    bits = 1000 * _BIT_RATES[1 if version == 3 else 2, layer][rate - 1]
    hertz = (44100, 48000, 32000)[sampling] >> (0 if version == 3 else 1 if version == 2 else 2)
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding
