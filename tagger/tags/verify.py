"""Proof that new bytes of a song differ from the old ones in the genre and nothing else.

A second parser, which shares no code with the one that writes, takes both files apart to the last byte: `dissect`. What
it finds must be the same, in the same order, but for the pieces that hold the genre, for room, and for numbers that
follow from a new length; positions in the file are compared by what they lead to. mutagen is a second witness of the
tags, and FFmpeg of the packets where a container had to be laid again.
"""

import logging
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO

import av
import mutagen

from tagger.errors import TagError
from tagger.tags import genre
from tagger.tags.policies import Multi

logger = logging.getLogger(__name__)

# What a file holds, by name: the pieces of a tag, the payload of a chunk. Tags are numbered in their order.
Parts = dict[str, list[bytes]]

#: Parts that may be there in the new file alone: a tag that was begun, and what has to be around it.
BEGUN = re.compile(
    r"(id3|id3 header|ape|ape header|comments|vendor|behind the comments|content description|"
    r"moov/udta/meta|moov/udta/meta/hdlr|moov/udta/meta/ilst) \d+"
)
MANY_PIECES = 10_000  # as no song has them; mutagen would take for ever
_BOXES_OF_BOXES = ("moov", "udta", "meta", "trak", "mdia", "minf", "stbl", "moof", "traf")
_ZEROS = re.compile(b"\\0+")
_POSITIONS = ("mfra", "sidx", "saio", "iloc")  # boxes with positions that nobody moves
_GENRE_16 = "WM/Genre".encode("utf-16-le")


def verify(old: bytes, new: bytes, suffix: str) -> None:
    """Return if both are the same song with the same tags but for the genre; raises TagError (with no path) if not."""
    before, after = dissect(old), dissect(new)
    for name, pieces in before.items():
        if pieces and after.get(name) != pieces:
            raise TagError("", f"cannot be written without changing other tags or parts ({name})")
    if [name for name in after if name in before] != [name for name in before if name in after]:
        raise TagError("", "cannot be written without changing the order of its parts")
    if more := [name for name in after.keys() - before.keys() if not BEGUN.fullmatch(name)]:
        raise TagError("", f"cannot be written without new parts ({more[0]})")
    if max(map(len, before.values()), default=0) < MANY_PIECES and not _is_subset(old, new, suffix):
        raise TagError("", "cannot be written without changing other tags, as mutagen sees them")
    if _is_rebuilt(old, new) and (packets := _packets(old)) is not None and _packets(new) != packets:
        raise TagError("", "the audio would change")


def verify_genres(new: bytes, suffix: str, genres: Sequence[str], id3v23_multi: Multi) -> None:
    """Return if the song reads as having these genres: writing them again changes nothing. TagError if not."""
    if genre.retag(new, suffix, genres, id3v23_multi) is not new:
        raise TagError("", "the genre would not read back as written")


def _is_rebuilt(old: bytes, new: bytes) -> bool:
    """Whether pages of Ogg were numbered again, or the audio of an MP4 has moved."""
    if old[:4] == b"OggS":
        return not new.endswith(old[len(old) // 2 :])
    return old[4:8] == b"ftyp" and old.find(b"mdat") != new.find(b"mdat")


def _is_subset(old: bytes, new: bytes, suffix: str) -> bool:
    """Whether mutagen sees every tag of the old song, but for the genre, in the new one; or cannot read the old one."""
    seen, now = _seen_by_mutagen(old, suffix), _seen_by_mutagen(new, suffix)
    return seen is None or (now is not None and set(seen) <= set(now))


def _seen_by_mutagen(data: bytes, suffix: str) -> list[str] | None:
    """The tags but the genre in lines, as mutagen prints them; None where it cannot read them."""
    file = BytesIO(data)
    file.name = f"song{suffix}"
    try:
        tags = mutagen.File(file).tags
        lines = tags.pprint().replace("=ID3v1 Comment=", "==").split("\n") if tags is not None else []
    except Exception:  # a dozen kinds of it
        logger.debug("mutagen cannot read it", exc_info=True)
        return None
    others = [line for line in lines if not re.match(r"(tcon|genre|©gen|wm/genre|----:[^=]*:genre)=|$", line.lower())]
    return [re.sub(r"^unknown\d+=", "unknown=", line) for line in others]


def _packets(data: bytes) -> list[tuple[int, int | None, bytes]] | None:
    """Stream, time and bytes of every packet that FFmpeg takes out, and the chapters; None where it cannot."""
    try:
        with av.open(BytesIO(data), metadata_errors="replace") as container:
            streams = [each for each in container.streams if not each.disposition & av.stream.Disposition.attached_pic]
            found = [(each.stream.index, each.pts, bytes(each)) for each in container.demux(streams) if each.size]
            return [*found, (-1, 0, repr(container.chapters()).encode())]
    except av.FFmpegError:
        logger.debug("FFmpeg cannot read it", exc_info=True)
        return None


def dissect(data: bytes) -> Parts:
    """The song in its parts, without the pieces that hold the genre; ValueError where it cannot be followed."""
    parts: Parts = {}
    if data[:4] == b"OggS":
        _dissect_ogg(data, parts)
    elif data[4:8] == b"ftyp":
        _dissect_mp4(data, parts)
    elif data[:4] == b"\x30\x26\xb2\x75":
        _dissect_asf(data, parts)
    elif data[:4] in (b"RIFF", b"FORM", b"FRM8"):
        _dissect_chunks(data, parts)
    elif data[:4] == b"DSD ":
        pointer = struct.unpack_from("<Q", data, 20)[0] or len(data)
        _part(parts, "audio").append(data[28:pointer])
        _part(parts, "sizes").append(b"right" if struct.unpack_from("<Q", data, 12)[0] == len(data) else b"wrong")
        end = _dissect_id3(data, pointer, parts) if data[pointer:] else pointer
        _part(parts, "behind").append(data[end:])
    else:
        _dissect_plain(data, parts)
    return parts


def _part(parts: Parts, name: str) -> list[bytes]:
    """A new part of that name, numbered."""
    number = 1 + sum(each.rpartition(" ")[0] == name for each in parts)
    return parts.setdefault(f"{name} {number}", [])


# --- tags


def _dissect_id3(data: bytes, start: int, parts: Parts) -> int:
    """One ID3v2 tag; returns where it ends."""
    version, flags = data[start + 3], data[start + 5]
    end = start + 10 + _seven_bits(data, start + 6)
    if end > len(data):
        raise ValueError("an ID3v2 tag runs past its end")
    body = data[start + 10 : end]
    if flags & 0x80 and version < 4:
        body = re.sub(b"\xff\0", b"\xff", body)
    _part(parts, "id3 header").append(bytes([version, flags]))
    part = _part(parts, "id3")
    if flags & 0x40 and not re.match(b"[A-Z]{3}[A-Z0-9]", body):
        size = _seven_bits(body, 0) if version == 4 else 4 + struct.unpack_from(">I", body)[0]
        part.append(body[:6] if version == 3 else body[:size])
        if version == 4 and body[5] & 0x20:  # a checksum of the frames follows from them
            part[-1] = body[:6]
        body = body[size:]
    ways = [list(_frames(body, version, bits)) for bits in ((7, 8) if version == 4 else (8,))]
    # Old iTunes wrote plain sizes into v2.4: whichever way meets more frames by their names is the right one.
    frames = max(ways, key=_likeliness)
    if frames and not frames[-1].strip(b"\0"):
        frames.pop()
    part += [each for each in frames if not re.match(rb"TCO(?![A-MO-Z0-9])" if version > 2 else b"TCO", each)]
    return end


def _likeliness(frames: list[bytes]) -> tuple[int, bool, int]:
    return sum(bool(re.match(b"[A-Z]{3}[A-Z0-9]", frame)) for frame in frames), b"" not in frames, -len(frames)


def _frames(body: bytes, version: int, bits: int) -> Iterator[bytes]:
    """Frames, runs of zeros between them, and what is left when no more can be followed."""
    form, length = ("3s3s", 6) if version == 2 else ("4s4sH", 10)
    start = 0
    while start < len(body):
        if zeros := _ZEROS.match(body, start):
            stop = zeros.end()
        else:
            size = struct.unpack(form, body[start : start + length].ljust(length, b"\0"))[1]
            number = sum(byte << bits * i for i, byte in enumerate(reversed(size)))
            stop = start + length + number if bits == 8 or max(size) < 128 else len(body) + 1
        yield body[start:stop]
        if stop > len(body):
            yield b""  # to tell it from one that ends where it says
        start = stop


def _seven_bits(data: bytes, position: int) -> int:
    a, b, c, d = data[position : position + 4]
    return a << 21 | b << 14 | c << 7 | d


def _dissect_ape(data: bytes, parts: Parts) -> None:
    foot, head = data[-32:], data[:32] if data[:8] == b"APETAGEX" else b""
    _part(parts, "ape header").append(head[:12] + head[20:] + foot[:12] + foot[20:])
    part, size = _part(parts, "ape"), struct.unpack_from("<I", foot, 12)[0]
    if len(data) - len(head) not in (size, 32):
        raise ValueError("an APE tag does not have the size that it says")
    start, end = len(head), len(data) - 32
    while start < end:
        name = data.index(b"\0", start + 8)
        stop = name + 1 + struct.unpack_from("<I", data, start)[0]
        if stop > end:
            raise ValueError("an item of an APE tag runs past its end")
        if data[start + 8 : name].lower() != b"genre":
            part.append(data[start:stop])
        start = stop


def _dissect_comments(data: bytes, parts: Parts) -> None:
    """Vorbis comments: the vendor, each comment, what lies behind them."""
    stream, part = BytesIO(data), _part(parts, "comments")

    def block() -> bytes:
        size = stream.read(4)
        text = stream.read(int.from_bytes(size, "little"))
        if len(size) < 4 or len(text) < int.from_bytes(size, "little"):
            raise ValueError("comments that run past their end")
        return text

    vendor = block()
    found = [block() for _ in range(int.from_bytes(stream.read(4), "little"))]
    others = [each for each in found if each[:6].upper() != b"GENRE="]
    behind = stream.read()
    part += others
    _part(parts, "vendor").append(vendor)
    _part(parts, "behind the comments").append(behind)


# --- head tags | audio | tail tags


def _dissect_plain(data: bytes, parts: Parts) -> None:
    start = 0
    if data[:3] != b"ID3" and data[:4] not in (b"fLaC", b"wvpk", b"MPCK", b"MAC ", b"tBaK", b"TTA1"):
        for found in re.finditer(rb"ID3[\2-\4][^\xff].[\0-\x7f]{4}", data[: 1 << 20], re.DOTALL):
            end = found.start() + 10 + _seven_bits(data, found.start() + 6)
            if re.match(b"\xff[\xe2-\xff]|ID3", data[end : end + 3]):
                start = found.start()
                break
    _part(parts, "in front").append(data[:start])
    while re.match(rb"ID3[^\xff]..[\0-\x7f]{4}", data[start : start + 10], re.DOTALL):
        start = _dissect_id3(data, start, parts)
    if data[start : start + 8] == b"APETAGEX":
        end = start + 32 + struct.unpack_from("<I", data, start + 12)[0]
        _dissect_ape(data[start:end], parts)
        start = end
    if data[start : start + 4] == b"fLaC":
        start = _dissect_flac(data, start + 4, parts)
    end, tail = len(data), []
    if end - start >= 128 and data[-128:-125] == b"TAG":
        end -= 128
        tail.append(("id3v1", data[-128:-1]))
    while True:
        if data[end - 32 : end - 24] == b"APETAGEX" and end - 32 >= start:
            size, _, flags = struct.unpack_from("<III", data, end - 20)
            begin = end - max(size, 32)
            begin -= 32 if flags >> 31 and data[max(0, begin - 32) : begin - 24] == b"APETAGEX" else 0
        elif data[end - 9 : end] in (b"LYRICS200", b"LYRICSEND"):
            begin = data.rfind(b"LYRICSBEGIN", start, end)
        else:
            break
        if begin < start:
            break
        tail.append(("ape" if data[end - 32 : end - 24] == b"APETAGEX" else "lyrics", data[begin:end]))
        end = begin
    _part(parts, "audio").append(data[start:end])
    for name, found_tag in reversed(tail):
        if name == "ape":
            _dissect_ape(found_tag, parts)
        else:
            _part(parts, name).append(found_tag)


def _dissect_flac(data: bytes, position: int, parts: Parts) -> int:
    is_last = False
    while not is_last:
        mark, size = data[position], int.from_bytes(data[position + 1 : position + 4], "big")
        is_last, payload = mark > 127, data[position + 4 : position + 4 + size]
        if len(payload) < size:
            raise ValueError("FLAC metadata runs past its end")
        if mark % 128 == 4:
            _dissect_comments(payload, parts)
        elif mark % 128 != 1 or payload.strip(b"\0"):
            _part(parts, f"block {mark % 128}").append(payload)
        position += 4 + size
    return position


# --- WAVE, AIFF, DSDIFF


def _dissect_chunks(data: bytes, parts: Parts) -> None:
    form = {b"RIFF": "<4sI", b"FORM": ">4sI", b"FRM8": ">4sQ"}[data[:4]]
    n = struct.calcsize(form)
    counted = struct.unpack_from(form, data)[1]
    is_streamed = not counted or counted >= 0x7FFF0000
    _part(parts, "form").append(data[n : n + 4] + (data[4:n] if is_streamed else b""))
    position, end = n + 4, n + 4
    while re.match(rb"[ -~]{4}", data[position : position + 4]) and position + n <= len(data):
        name, size = struct.unpack_from(form, data, position)
        start, where = position + n, "" if is_streamed or position < n + counted else " outside"
        if name == b"data" and (size >= 0x7FFF0000 or (is_streamed and not size)) and start + size != len(data):
            is_open = size or not re.match(rb"[ -~]{4}", data[start : start + 4])
            _part(parts, "size of the audio").append(data[position:start])
            size = len(data) - start if is_open else size
        payload = data[start : start + size]
        if len(payload) < size:
            break
        _dissect_chunk(name, payload, where, parts)
        if not where and not is_streamed and start + size > n + counted:
            _part(parts, "a size too small")
        position = start + size + size % 2
        end = end if where else position
    if not is_streamed and len(data) < n + counted - 1 and data[:4] != b"FRM8":
        _part(parts, "a size too large")
    _part(parts, "behind the chunks").append(data[position:])


def _dissect_chunk(name: bytes, payload: bytes, where: str, parts: Parts) -> None:
    if name.lower() == b"id3 " and payload[:3] == b"ID3":
        end = _dissect_id3(payload, 0, parts)
        if payload[end:]:
            _part(parts, "behind a tag").append(payload[end:])
    elif name == b"LIST" and payload[:4] == b"INFO":
        part, start, filled = _part(parts, f"info{where}"), 4, len(payload.rstrip(b"\0"))
        while start < filled:
            stop = start + 8 + int.from_bytes(payload[start + 4 : start + 8], "little")
            if stop > len(payload):
                raise ValueError("an item of an INFO list runs past its end")
            if payload[start : start + 4] != b"IGNR":
                part.append(payload[start : stop + stop % 2])
            start = stop + stop % 2
        part.append(payload[start:])
    else:
        _part(parts, f"{name.decode()}{where}").append(payload)


# --- MP4


def _dissect_mp4(data: bytes, parts: Parts) -> None:
    tops = [start for _, start, _, _ in _boxes(data, 0, len(data), True)]

    def leads_to(position: int) -> bytes:
        """A position in the file, told by the box of the first level and the distance from where that begins."""
        number = sum(start <= position for start in tops)
        return f"{number} {position - tops[number - 1] if number else position};".encode()

    _dissect_boxes(data, 0, len(data), "", parts, leads_to)


def _boxes(data: bytes, start: int, end: int, is_top: bool) -> Iterator[tuple[str, int, int, int]]:
    """(name, start, start of the payload, end) of boxes one behind the other, up to one of no size."""
    while end - start >= 8:
        size, head = int.from_bytes(data[start : start + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        if size == 0 and not is_top:
            break
        name = data[start + 4 : start + 8].decode("latin-1")
        stop = start + size if size else end
        if stop < start + head or (stop > end and not (is_top and name == "mdat")):
            raise ValueError(f"the box {name!r} runs past its end")
        yield name, start, start + head, min(stop, end)
        start = stop


def _dissect_boxes(
    data: bytes, start: int, end: int, above: str, parts: Parts, leads_to: Callable[[int], bytes]
) -> None:
    first = start
    for name, begin, payload, stop in _boxes(data, start, end, not above):
        path, start = above + name, stop
        content = data[payload:stop]
        if name in _BOXES_OF_BOXES:
            skip = 4 if name == "meta" and content[4:8] != b"hdlr" else 0
            if skip:
                _part(parts, path).append(content[:skip])
            _dissect_boxes(data, payload + skip, stop, path + "/", parts, leads_to)
        elif name in ("stco", "co64", "tfhd"):
            _part(parts, path).append(_positions(name, content, leads_to))
        elif name == "ilst":
            _part(parts, path).extend(_items(data[first:begin], content))
        elif name in _POSITIONS:
            _part(parts, path).append(content + b"%d" % data.find(b"mdat"))
        elif path != "moov/udta/\xa9gen" and (name not in ("free", "skip") or content.strip(b"\0")):
            _part(parts, path).append(content)
    if data[start:end]:
        _part(parts, above + "rest").append(data[start:end])


def _positions(name: str, content: bytes, leads_to: Callable[[int], bytes]) -> bytes:
    if name == "tfhd":
        if not content[3] & 1:
            return content
        return content[:8] + leads_to(struct.unpack_from(">Q", content, 8)[0]) + content[16:]
    number, form = struct.unpack_from(">I", content, 4)[0], "I" if name == "stco" else "Q"
    found = struct.unpack_from(f">{number}{form}", content, 8)
    return content[:8] + b"".join(map(leads_to, found)) + content[8 + number * struct.calcsize(form) :]


def _items(before: bytes, content: bytes) -> Iterator[bytes]:
    """The atoms of an `ilst` but those of the genre; `before` are bytes in front of it, the keys if there are any."""
    keys = re.split(rb"....mdta", before.rpartition(b"keys")[2], flags=re.DOTALL)[1:]
    for name, start, payload, stop in _boxes(content, 0, len(content), False):
        number = int.from_bytes(content[start + 4 : start + 8], "big")
        is_key = 1 <= number <= len(keys) and keys[number - 1].lower().endswith(b"genre")
        is_freeform = name == "----" and re.search(
            rb"name\0\0\0\0genre(?=....data|\Z)", content[payload:stop], re.I | re.S
        )
        if not (name in ("\xa9gen", "gnre") or is_freeform or is_key):
            yield content[start:stop]


# --- ASF


def _dissect_asf(data: bytes, parts: Parts) -> None:
    end, number = struct.unpack_from("<QI", data, 16)
    _part(parts, "header").append(data[28:30])
    n_objects = _dissect_objects(data, 30, end, parts)
    if n_objects != number:
        _part(parts, "a wrong number of objects").append(b"")
    _part(parts, "behind the header").append(data[end:])


def _dissect_objects(data: bytes, start: int, end: int, parts: Parts) -> int:
    number = 0
    while end - start >= 24:
        guid, size = data[start : start + 16].hex(), struct.unpack_from("<Q", data, start + 16)[0]
        content, number = data[start + 24 : start + size], number + 1
        if size < 24 or start + size > end:
            raise ValueError("an ASF object runs past its end")
        if guid == "b503bf5f2ea9cf118ee300c00c205365":
            _part(parts, "extension").append(content[:18])
            _dissect_objects(data, start + 46, start + size, parts)
        elif guid == "40a4d0d207e3d21197f000a0c95ea850":
            _part(parts, "content description").extend(_descriptors(content, "<H%ds HH"))
        elif guid in ("eacbf8c5af5b77488467aa8c44fa4cca", "941c23449894d149a1411d134e457054"):
            _part(parts, f"metadata {guid}").extend(_records(content))
        elif guid == "a1dcab8c47a9cf118ee400c00c205365":
            is_right = struct.unpack_from("<Q", content, 16)[0] == len(data)
            _part(parts, "properties").append(content[:16] + (b"right" if is_right else content[16:24]) + content[24:])
        else:
            _part(parts, guid).append(content)
        start += size
    return number


def _descriptors(content: bytes, _: str) -> Iterator[bytes]:
    stream = BytesIO(content[2:])
    for _number in range(int.from_bytes(content[:2], "little")):
        name = stream.read(int.from_bytes(n_name := stream.read(2), "little"))
        kind, size = stream.read(2), stream.read(2)
        value = stream.read(int.from_bytes(size, "little"))
        if name.rstrip(b"\0") != _GENRE_16.rstrip(b"\0"):
            yield n_name + name + kind + size + value
    yield stream.read()


def _records(content: bytes) -> Iterator[bytes]:
    stream = BytesIO(content[2:])
    for _number in range(int.from_bytes(content[:2], "little")):
        head = stream.read(12)
        if len(head) < 12:
            raise ValueError("ASF metadata that run past their end")
        name, value = stream.read(int.from_bytes(head[4:6], "little")), stream.read(int.from_bytes(head[8:], "little"))
        if name.rstrip(b"\0") != _GENRE_16.rstrip(b"\0"):
            yield head + name + value
    yield stream.read()


# --- Ogg


def _dissect_ogg(data: bytes, parts: Parts) -> None:
    pages = list(_pages(data))
    sound = next((p for p in pages if re.match(b"\x01vorbis|OpusHead|Speex   |\x7fFLAC", p[4])), None)
    if sound is None:
        raise ValueError("Ogg without a stream of sound")
    serial, packet, lacing, is_open, last = sound[1], b"", b"", True, -1
    rest = _part(parts, "pages")
    for flags, number, index, head, body, sizes, is_right, _ in pages:
        if number == serial and not flags & 2:
            if last >= 0 and index != last + 1:
                rest.append(b"%d pages are missing" % (index - last - 1))
            last = index
        if number != serial or flags & 2 or not is_open:
            rest.append(bytes([is_right]) + head + sizes + body)
            continue
        packet, lacing = packet + body, lacing + sizes
        if not is_right:
            _part(parts, "a wrong checksum of the comments")
        if min(sizes, default=255) < 255:
            n = next(i for i, size in enumerate(lacing) if size < 255) + 1
            stop = sum(lacing[:n])
            prefix = re.match(b"\x03vorbis|OpusTags", packet[:8])
            skip = prefix.end() if prefix else 4 if sound[4][:5] == b"\x7fFLAC" else 0
            _dissect_comments(packet[skip:stop], parts)
            _part(parts, "beside the comments").extend([packet[: skip and 1], lacing[n:], packet[stop:], head[:8]])
            is_open = False
    _part(parts, "behind the pages").append(data[pages[-1][7] :])


def _pages(data: bytes) -> Iterator[tuple[int, int, int, bytes, bytes, bytes, bool, int]]:
    position = 0
    while data[position : position + 4] == b"OggS" and len(data) - position >= 27:
        flags = data[position + 5]
        granule, serial, number, checksum = struct.unpack_from("<8sIII", data, position + 6)
        sizes = data[position + 27 : position + 27 + data[position + 26]]
        start = position + 27 + len(sizes)
        end = start + sum(sizes)
        body = data[start:end]
        page = data[position : position + 22] + bytes(4) + data[position + 26 : end]
        yield flags, serial, number, granule + bytes([flags]), body, sizes, _crc(page) == checksum, min(end, len(data))
        position = end


_BITS = bytes(sum((byte >> i & 1) << 7 - i for i in range(8)) for byte in range(256))


def _crc(page: bytes) -> int:
    """Ogg's checksum by zlib's, whose bits run the other way."""
    value = zlib.crc32(page.translate(_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)
