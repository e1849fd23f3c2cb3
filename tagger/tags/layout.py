"""Where tags lie in a file, and how other bytes are put there: byte ranges, and the numbers that count them.

No tag is taken apart here and no foreign library asked. A container is a function that finds its `Place`s; `put` is
the same for all of them but Ogg, whose pages are laid again. Where bytes cannot be placed a ValueError says why.
"""

import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any, BinaryIO

# Chunk files by their first four bytes: byte order and size field of RIFF (WAVE), EA IFF-85 (AIFF), DSDIFF 1.5 §3.
CHUNK_FILES = {b"RIFF": "<I", b"FORM": ">I", b"FRM8": ">Q"}
AUDIO_CHUNKS = (b"data", b"SSND", b"DSD ", b"DST ")
STREAMED = 0x7FFF0000  # a size from here on was never filled in: who wrote the file could not go back
DSF_HEADER = struct.Struct("<4sQQQ")  # "DSD ", size of this chunk, size of the file, offset of the ID3v2 tag or 0
OGG_PAGE = struct.Struct("<4sBBqIIIB")  # RFC 3533 §6
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # ASF specification §10.1
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_EXTENSION = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")
_ASF_CONTENT = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850")
_ASF_METADATA = (
    bytes.fromhex("eacbf8c5af5b77488467aa8c44fa4cca"),
    bytes.fromhex("941c23449894d149a1411d134e457054"),
)
# Boxes that hold boxes, as far as a tag or an offset may lie in one (ISO/IEC 14496-12 §6.2, QuickTime's `meta`).
_BOXES_OF_BOXES = {b"moov", b"udta", b"meta", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
_ITUNES = b"\0\0\0\x21hdlr" + bytes(8) + b"mdirappl" + bytes(9)
# Ogg: what a stream begins with, what stands in front of its comments, and how they are called.
OGG_STREAMS = (
    (b"\x01vorbis", b"\x03vorbis"), (b"OpusHead", b"OpusTags"), (b"\x7fFLAC", b""), (b"Speex   ", b""),
)  # fmt: skip
_SEARCHED = (1 << 14, 1 << 20)  # junk in front of the first frame of MPEG audio, and at most


@dataclass(frozen=True)
class Count:
    """A number in the file that counts bytes of a tag."""

    at: int
    format: str
    error: int = 0  # to be added: how far it is off today


@dataclass(frozen=True)
class Place:
    """One tag, or the place where one would be begun."""

    kind: str  # a key of `splice.KINDS`
    tag: bytes
    span: slice  # of the file, what is around it included; empty for a new one
    around: Callable[[bytes], bytes] = bytes  # from the bytes of a tag to what lies in the span
    counts: tuple[Count, ...] = ()
    begun: tuple[tuple[Count, int], ...] = ()  # numbers that change when it is begun, and by how much
    context: Any = None  # for `Kind.cut`

    @property
    def is_new(self) -> bool:
        """Whether there is no tag yet."""
        return bool(self.span.start == self.span.stop)


@dataclass(frozen=True)
class Layout:
    """The places of a file, the first one where its kind of file has its tag, and what a change of length touches."""

    places: list[Place]
    audio: slice = field(default_factory=lambda: slice(0))  # of head | audio | tail files
    rooms: tuple[
        tuple[slice, tuple[Count, ...]], ...
    ] = ()  # zeros that may become fewer, and the numbers counting them
    offsets: tuple[tuple[int, int, str], ...] = ()  # tables of positions in the file: (where, how many, format)
    fixed: str = ""  # why the audio may not move
    pages: "tuple[Page, ...]" = ()  # of Ogg: those with the comments


def put(data: bytes, layout: Layout, edits: Sequence[tuple[Place, bytes]]) -> bytes:
    """The file with these tags in these places; b"" takes the place of a tag as well."""
    if layout.pages:
        return _put_ogg(data, layout.pages, edits[0][0].around(edits[0][1]))
    changes: list[tuple[int, int, bytes]] = []
    counts: Counter[Count] = Counter()
    for place, tag in edits:
        new = place.around(tag)
        changes.append((place.span.start, place.span.stop, new))
        counts.update(dict.fromkeys(place.counts, 0))
        for count in place.counts:
            counts[count] += len(new) - (place.span.stop - place.span.start)
        for count, number in place.begun if place.is_new else ():
            counts[count] += number
    growth = sum(len(new) - (stop - start) for start, stop, new in changes)
    rooms = layout.rooms if growth else ()
    room = next(((s, c) for s, c in rooms if s.stop - s.start >= growth and not data[s].strip(b"\0")), None)
    if room:
        changes.append((room[0].start, room[0].stop, bytes(room[0].stop - room[0].start - growth)))
        for count in room[1]:
            counts[count] -= growth
    changes.sort(key=lambda change: change[:2])
    for (at, form), number in _by_number(counts).items():
        number += struct.unpack_from(form, data, at)[0]
        if not 0 <= number < 1 << 8 * struct.calcsize(form):
            raise ValueError("the tag does not fit: its container has no number for such a size")
        changes.append((at, at + struct.calcsize(form), struct.pack(form, number)))
    changes += _moved(data, layout, changes[: len(edits) + bool(room)])
    return _spliced(data, changes)


def _by_number(counts: Counter[Count]) -> Counter[tuple[int, str]]:
    numbers: Counter[tuple[int, str]] = Counter()
    for count, number in counts.items():
        numbers[count.at, count.format] += number + count.error
    return numbers


def _spliced(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    view, position = memoryview(data), 0
    parts: list[bytes | memoryview] = []
    for start, stop, new in sorted(changes, key=lambda change: change[:2]):
        if start < position:
            raise ValueError("two tags lie in each other")
        parts += [view[position:start], new]
        position = stop
    return b"".join([*parts, view[position:]])


def _moved(data: bytes, layout: Layout, changes: list[tuple[int, int, bytes]]) -> Iterator[tuple[int, int, bytes]]:
    """The tables of positions, where the bytes they lead to have moved."""
    steps = [(stop, len(new) - (stop - start)) for start, stop, new in changes]
    if layout.fixed and sum(growth for _, growth in steps):
        raise ValueError(layout.fixed)
    for at, n, form in layout.offsets:
        size = struct.calcsize(form)
        old = struct.unpack_from(f"{form[0]}{n}{form[1]}", data, at)
        new = [offset + sum(growth for stop, growth in steps if stop <= offset) for offset in old]
        if tuple(new) != old:
            if max(new) >= 1 << 8 * size:
                raise ValueError("its table of positions has no room for 4 GiB and more")
            yield at, at + n * size, struct.pack(f"{form[0]}{n}{form[1]}", *new)


def at(file: BinaryIO, position: int, n_bytes: int) -> bytes:
    """Up to that many bytes from that position on."""
    file.seek(position)
    return file.read(max(0, n_bytes))


def _cut(file: BinaryIO, span: slice) -> bytes:
    return at(file, span.start, span.stop - span.start)


# --- head tags | audio | tail tags: MPEG audio, TrueAudio, FLAC, WavPack, Musepack, Monkey's Audio, TAK


def head_and_tail(file: BinaryIO, leading: str) -> Layout:
    """Stacked ID3v2, FLAC blocks | APEv2, Lyrics3, ID3v1; `leading` is the kind of tag these files are known for."""
    size = file.seek(0, 2)
    id3 = [_id3_place(file, span) for span in _id3v2_spans(file, 0)]
    start = id3[-1].span.stop if id3 else 0
    rooms: tuple[tuple[slice, tuple[Count, ...]], ...] = ()
    vorbis: list[Place] = []
    ape: list[Place] = []
    if step := _ape_size(at(file, start, 32)):
        ape, start = [_ape_place(file, slice(start, start + step))], start + step
    if leading == "vorbis":
        vorbis, rooms, start = _flac_blocks(file, start)
    elif leading == "id3" and at(file, start, 3) != b"TTA":
        first = _mpeg_start(file, start)
        junk = (
            re.search(rb"ID3[\2-\4][^\xff].[\0-\x7f]{4}", at(file, start, first - start), re.DOTALL)
            if not id3
            else None
        )
        if junk:
            id3 = [_id3_place(file, span) for span in _id3v2_spans(file, start + junk.start())]
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


def _id3_place(file: BinaryIO, span: slice, **options: Any) -> Place:
    return Place("id3", _cut(file, span), span, **options)


def _id3v2_spans(file: BinaryIO, position: int) -> Iterator[slice]:
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
    return Place("ape", _cut(file, span), span)


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


def _mpeg_start(file: BinaryIO, start: int) -> int:
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


# --- chunks: WAVE, AIFF, DSDIFF


@dataclass(frozen=True)
class Chunk:
    """One chunk of a RIFF, IFF or DSDIFF file and the byte range of its payload."""

    name: bytes
    start: int
    end: int
    is_inside: bool = True  # of what the file's own size counts


def chunks(file: BinaryIO) -> list[Chunk]:
    """The chunks in order, those behind the counted ones too if they fit; ValueError where they cannot be followed.

    The file's own size may be wrong, as some taggers write it, and that of the audio may never have been filled in.
    """
    size, number = file.seek(0, 2), struct.Struct(CHUNK_FILES[at(file, 0, 4)])
    n_header = 4 + number.size
    counted = number.unpack(at(file, 4, number.size))[0]
    is_streamed = counted == 0 or counted >= STREAMED
    stop = size if is_streamed else n_header + counted
    position, found = n_header + 4, []
    while position < size:
        header = at(file, position, n_header)
        is_inside = position < stop
        if len(header) < n_header or not re.fullmatch(rb"[ -~]{4}", header[:4]):
            if is_inside and len(header) < n_header:
                raise ValueError("a chunk runs past the end of the file: truncated")
            if is_inside and header.strip(b"\0"):
                raise ValueError(f"no chunk where one should begin (byte {position})")
            break
        start, end = position + n_header, position + n_header + number.unpack(header[4:])[0]
        is_open = end - start >= STREAMED or is_streamed
        if (
            header[:4] in AUDIO_CHUNKS
            and is_open
            and (end > size or (end == start and not _is_chunk(file, end, n_header)))
        ):
            end = size
        if end > size:
            if is_inside:
                raise ValueError("a chunk runs past the end of the file: truncated")
            break
        found.append(Chunk(header[:4], start, end, is_inside))
        position = end + end % 2
    if not any(chunk.name in AUDIO_CHUNKS and chunk.is_inside for chunk in found):
        raise ValueError("no audio in it, or outside of what it says is its size")
    return found


def _is_chunk(file: BinaryIO, position: int, n_header: int) -> bool:
    return bool(re.fullmatch(rb"[ -~]{4}.{%d}" % (n_header - 4), at(file, position, n_header), re.DOTALL))


def in_chunks(file: BinaryIO) -> Layout:
    """The `id3 ` chunks and INFO lists of a file, in- and outside of what its size counts."""
    magic = at(file, 0, 4)
    form = CHUNK_FILES[magic]
    size, n_header = file.seek(0, 2), 4 + struct.calcsize(form)
    counted, found = struct.unpack(form, at(file, 4, n_header - 4))[0], chunks(file)
    inside = [chunk for chunk in found if chunk.is_inside]
    is_streamed = counted == 0 or counted >= STREAMED
    end = inside[-1].end
    error = end + end % 2 - (n_header + counted) if n_header + counted > size else 0
    counts = () if is_streamed else (Count(4, form, error),)
    ids, infos = [], []
    for chunk in found:
        head = at(file, chunk.start, 4)
        where = slice(chunk.start - n_header, min(chunk.end + chunk.end % 2, size))
        options: dict[str, Any] = {"counts": counts if chunk.is_inside else ()}
        if chunk.name.lower() == b"id3 " and head[:3] == b"ID3":
            tag = at(file, chunk.start, chunk.end - chunk.start)
            ids.append(Place("id3", tag, where, _chunk(chunk.name, form, id3v2_size(tag[:10]), tag), **options))
        elif chunk.name == b"LIST" and head == b"INFO" and magic == b"RIFF":
            tag = at(file, chunk.start, chunk.end - chunk.start)
            infos.append(Place("info", tag, where, _chunk(b"LIST", form), **options))
        elif chunk.name == b"DIIN":
            infos.append(Place("diin", at(file, chunk.start, chunk.end - chunk.start), where))
    if not ids:
        audio = next(chunk for chunk in inside if chunk.name in AUDIO_CHUNKS)
        is_open = audio.end == size and inside[-1] == audio and is_streamed
        new = audio.start - n_header if is_open else min(end + end % 2, size)
        wrap = _chunk(b"id3 " if magic == b"RIFF" else b"ID3 ", form)
        lead = bytes(0 if is_open else end + end % 2 - min(end + end % 2, size))
        ids = [Place("id3", b"", slice(new, new), lambda tag: lead + wrap(tag), counts)]
    return Layout([*ids, *infos])


def _chunk(name: bytes, form: str, n_bytes: int = 0, old: bytes = b"") -> Callable[[bytes], bytes]:
    """A chunk around a tag; what lay behind the old tag's `n_bytes` in its chunk stays there."""

    def around(tag: bytes) -> bytes:
        payload = tag + (old[n_bytes:] if old else b"")
        return name + struct.pack(form, len(payload)) + payload + bytes(len(payload) % 2)

    return around


def in_dsf(file: BinaryIO) -> Layout:
    """The ID3v2 tag that the header of a DSF file points to; the pointer may be 0, or lead to the end."""
    header, size = at(file, 0, DSF_HEADER.size), file.seek(0, 2)
    if len(header) < DSF_HEADER.size or (pointer := DSF_HEADER.unpack(header)[3]) > size:
        raise ValueError("the ID3v2 tag should lie behind the end of the file: truncated")
    counts = (Count(12, "<Q", size - DSF_HEADER.unpack(header)[2]),)
    if not pointer or pointer == size:
        begun = ((Count(20, "<Q"), size - pointer),)
        return Layout([Place("id3", b"", slice(size, size), counts=counts, begun=begun)])
    spans = list(_id3v2_spans(file, pointer))[:1]
    if not spans:
        raise ValueError("no ID3v2 tag where the header says that one is")
    return Layout([_id3_place(file, spans[0], counts=counts)])


# --- MP4


@dataclass(frozen=True)
class Box:
    """A box of an MP4, as far as it is followed."""

    path: str
    start: int
    payload: int
    end: int
    counts: tuple[Count, ...]  # sizes of the boxes that hold it

    @property
    def inside(self) -> tuple[Count, ...]:
        """The sizes that count what it holds."""
        form = {8: ">I", 16: ">Q"}[self.payload - self.start]
        return (*self.counts, Count(self.start if form == ">I" else self.start + 8, form))


def mp4_boxes(file: BinaryIO, start: int, end: int, path: str = "", counts: tuple[Count, ...] = ()) -> Iterator[Box]:
    """Every box and those in it; a size of 0 ends a list, as the four zeros of QuickTime's `udta` do."""
    while start + 8 <= end:
        size, name = struct.unpack(">I4s", at(file, start, 8))
        payload = start + 8
        if size == 1:
            size, payload = struct.unpack(">Q", at(file, start + 8, 8))[0], start + 16
        if not size and path:
            return
        stop = start + size if size else end
        if stop < payload or (stop > end and (path or name != b"mdat")):
            raise ValueError(f"the MP4 box {(path + name.decode('latin-1'))!r} runs past its end")
        box = Box(path + name.decode("latin-1"), start, payload, min(stop, end), counts)
        yield box
        if name in _BOXES_OF_BOXES:
            skip = 4 if name == b"meta" and at(file, payload + 4, 4) != b"hdlr" else 0  # QuickTime's has no version
            yield from mp4_boxes(file, payload + skip, stop, box.path + "/", box.inside)
        start = stop


def in_mp4(file: BinaryIO) -> Layout:
    """The lists of items in `udta` and `meta`, the tables of positions, and free space in front of the audio."""
    boxes = list(mp4_boxes(file, 0, file.seek(0, 2)))
    by_path = {box.path: box for box in reversed(boxes)}
    if "moov" not in by_path or not by_path.keys() & {"mdat", "moof"}:
        raise ValueError("an MP4 without its `moov` or `mdat` box: truncated, or no song")
    found = sorted(_item_lists(file, boxes), key=lambda place: place.kind)
    if not found or found[0].kind != "mp4":
        found.insert(0, _new_list(by_path, boxes))
    found += _text_atoms(file, boxes)
    first = next((box.start for box in boxes if box.path == "mdat"), 0)
    rooms = tuple(
        (slice(box.payload, box.end), box.inside)
        for box in boxes
        if box.path.endswith(("free", "skip"))
        and (box.path.startswith("moov/") or by_path["moov"].start < box.start < first)
    )
    return Layout(found, rooms=rooms, offsets=tuple(_offsets(file, boxes)), fixed=_fixed(by_path, boxes))


def _item_lists(file: BinaryIO, boxes: list[Box]) -> Iterator[Place]:
    """Those of iTunes, which are called by names, and those of QuickTime whose keys know a genre (context: which)."""
    for meta in (box for box in boxes if box.path in ("moov/udta/meta", "moov/meta")):
        inner = {box.path.rpartition("/")[2]: box for box in boxes if meta.start < box.start < meta.end}
        if "ilst" not in inner:
            continue
        box, keys = inner["ilst"], None
        if "keys" in inner:
            keys = _genre_keys(at(file, inner["keys"].payload, inner["keys"].end - inner["keys"].payload))
            if not keys:
                continue
        tag = at(file, box.payload, box.end - box.payload)
        yield Place(
            "mp4" if keys is None else "mp4 keys", tag, slice(box.start, box.end), _box(b"ilst"), box.counts, (), keys
        )


def _genre_keys(keys: bytes) -> frozenset[bytes]:
    """The numbers, as names of items, of the keys that are called genre (QuickTime File Format, metadata keys)."""
    position, found = 8, []
    for number in range(1, int.from_bytes(keys[4:8], "big") + 1):
        size = int.from_bytes(keys[position : position + 4], "big")
        if size < 8:
            break
        if keys[position + 8 : position + size].lower().split(b".")[-1] == b"genre":
            found.append(struct.pack(">I", number))
        position += size
    return frozenset(found)


def _text_atoms(file: BinaryIO, boxes: list[Box]) -> Iterator[Place]:
    for box in boxes:
        if box.path == "moov/udta/\xa9gen":
            yield Place("qt", at(file, box.start, box.end - box.start), slice(box.start, box.end), counts=box.counts)


def _new_list(by_path: dict[str, Box], boxes: list[Box]) -> Place:
    """Where a list of items would be begun: in `meta`, in `udta`, or at the end of `moov`."""
    if meta := by_path.get("moov/udta/meta"):
        if "moov/udta/meta/ilst" in by_path or "moov/udta/meta/keys" in by_path:
            raise ValueError("its tag is of another kind (mdta), and leaves no place for the one that players read")
        last = max((box.end for box in boxes if meta.start < box.start < meta.end), default=meta.end)
        return Place("mp4", b"", slice(last, last), _box(b"ilst"), meta.inside)
    if udta := by_path.get("moov/udta"):
        last = max((box.end for box in boxes if udta.start < box.start < udta.end), default=udta.payload)
        return Place("mp4", b"", slice(last, last), _box(b"ilst", b"meta"), udta.inside)
    moov = by_path["moov"]
    return Place("mp4", b"", slice(moov.end, moov.end), _box(b"ilst", b"meta", b"udta"), moov.inside)


def _box(*names: bytes) -> Callable[[bytes], bytes]:
    """A box around a tag, and boxes around that."""

    def around(tag: bytes) -> bytes:
        for name in names:
            tag = (bytes(4) + _ITUNES if name == b"meta" else b"") + tag
            tag = struct.pack(">I", len(tag) + 8) + name + tag
        return tag

    return around


def _offsets(file: BinaryIO, boxes: list[Box]) -> Iterator[tuple[int, int, str]]:
    for box in boxes:
        name, head = box.path.rpartition("/")[2], at(file, box.payload, 8)
        if name in ("stco", "co64"):
            form = ">I" if name == "stco" else ">Q"
            n = int.from_bytes(head[4:8], "big")
            if n * struct.calcsize(form) > box.end - box.payload - 8:
                raise ValueError(f"the MP4 box {box.path!r} counts more positions than it holds")
            yield box.payload + 8, n, form
        elif name == "tfhd" and head[3] & 1:  # with an offset
            yield box.payload + 8, 1, ">Q"


def _fixed(by_path: dict[str, Box], boxes: list[Box]) -> str:
    names = {box.path.rpartition("/")[2] for box in boxes}
    sidx = by_path.get("sidx")
    found = [name for name in ("mfra", "saio", "iloc", "sidx") if name in names]
    if sidx and sidx.start > by_path["moov"].start:
        found.remove("sidx")  # its distances are counted from where it ends
    return f"MP4 with a table of positions ({', '.join(found)}), which would be wrong afterwards" if found else ""


# --- ASF


def in_asf(file: BinaryIO) -> Layout:
    """The extended content description, and the two metadata objects of the header's extension (ASF specification)."""
    size, head = file.seek(0, 2), at(file, 0, 30)
    end = int.from_bytes(head[16:24], "little")
    if not 30 <= end <= size:
        raise ValueError("the header of the ASF file runs past its end")
    counts: tuple[Count, ...] = (Count(16, "<Q"),)
    content, library = [], []
    for guid, start, _ in _asf_objects(file, 30, end):
        if guid == _ASF_PROPERTIES and at(file, start + 40, 8) == struct.pack("<Q", size):
            counts += (Count(start + 40, "<Q"),)
    for guid, start, stop in _asf_objects(file, 30, end):
        if guid == _ASF_CONTENT:
            content.append(_asf_place(file, "asf", guid, start, stop, counts))
        elif guid == _ASF_EXTENSION:
            inner = (*counts, Count(start + 16, "<Q"), Count(start + 42, "<I"))
            for inner_guid, a, b in _asf_objects(file, start + 46, stop):
                if inner_guid in _ASF_METADATA:
                    library.append(_asf_place(file, "asf library", inner_guid, a, b, inner))
    if not content:
        content = [Place("asf", b"", slice(end, end), _asf_object(_ASF_CONTENT), counts, ((Count(24, "<I"), 1),))]
    return Layout([*content, *library])


def _asf_objects(file: BinaryIO, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while position + 24 <= end:
        guid, size = struct.unpack("<16sQ", at(file, position, 24))
        if size < 24 or position + size > end:
            raise ValueError("an object in the header of the ASF file runs past its end")
        yield guid, position, position + size
        position += size


def _asf_place(file: BinaryIO, kind: str, guid: bytes, start: int, stop: int, counts: tuple[Count, ...]) -> Place:
    return Place(kind, at(file, start + 24, stop - start - 24), slice(start, stop), _asf_object(guid), counts)


def _asf_object(guid: bytes) -> Callable[[bytes], bytes]:
    return lambda tag: guid + struct.pack("<Q", 24 + len(tag)) + tag


# --- Ogg


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
    return Layout([place], pages=tuple(pages))


def _first_packet(pages: Sequence[Page]) -> bytes | None:
    """The sizes of the segments of the first packet of these pages; None if it does not end in them."""
    lacing = b"".join(page.lacing for page in pages)
    end = next((i + 1 for i, size in enumerate(lacing) if size < 255), None)
    return None if end is None else lacing[:end]


def _put_ogg(data: bytes, pages: Sequence[Page], packet: bytes) -> bytes:
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
    return _spliced(data, changes)


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
