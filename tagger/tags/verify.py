"""Proof that new bytes of a song differ from the old ones in the genre and nothing else."""

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from io import BytesIO

import av

from tagger.tags import genre as tags
from tagger.tags import layout
from tagger.tags.identity import ASF_HEADER, OGG_PAGE

# Files that are head tags | audio | tail tags: the bytes between can be compared as they are. In the others the
# container is woven again around the audio, so FFmpeg, which had no part in the writing, takes the packets out again.
# (FFmpeg counts a tail tag of Monkey's Audio, and Lyrics3 behind an MP3, as audio: no packets from those.)
HEAD_AND_TAIL = frozenset({".mp3", ".mp2", ".tta", ".flac", ".wv", ".mpc", ".ape", ".ofr", ".tak"})


def verify(old: bytes, new: bytes, suffix: str) -> None:
    """Return if both are the same song with the same tags but for the genre; raises TagError (with no path) if not."""
    before, after = tags.inspect(old, suffix), tags.inspect(new, suffix)
    for name, tag in before.others.items():
        if after.others.get(name) != tag:
            raise tags.TagError("", f"cannot be written without changing other tags ({name})")
    before_pieces, after_pieces = pieces(old), pieces(new)
    for name, piece in before_pieces.items():
        if after_pieces.get(name) != piece:
            raise tags.TagError("", f"cannot be written without changing other parts ({name})")
    if after.stream != before.stream:
        raise tags.TagError("", "the stream would read differently")
    if coded_audio_digest(new, suffix) != coded_audio_digest(old, suffix):
        raise tags.TagError("", "the audio would change")


def verify_genres(new: bytes, suffix: str, genres: Sequence[str], id3v23_multi: tags.Multi) -> None:
    """Return if the song reads as having these genres: writing them again changes nothing. TagError if not."""
    if tags.retag(new, suffix, genres, id3v23_multi) is not new:
        raise tags.TagError("", "the genre would not read back as written")


def coded_audio_digest(data: bytes, suffix: str) -> bytes:
    """SHA-256 of the coded audio; of everything but the tags this program may edit, where that can be cut out.

    Raises ValueError when there is no audio, av.error.FFmpegError when FFmpeg cannot read the container.
    """
    digest = sha256()
    if suffix.lower() in HEAD_AND_TAIL:
        spans = layout.layout(BytesIO(data))
        if spans.audio.start == spans.audio.stop:
            raise ValueError("no audio in it")
        start = spans.audio.start if suffix.lower() == ".flac" else spans.id3v2.stop
        view = memoryview(data)
        digest.update(view[start : max(start, spans.ape.start)])
        digest.update(view[max(start, spans.ape.stop) : spans.id3v1.start])
        return digest.digest()
    n_packets = 0
    with av.open(BytesIO(data), metadata_errors="replace") as container:
        streams = [each for each in container.streams if not each.disposition & av.stream.Disposition.attached_pic]
        for packet in container.demux(streams):
            if packet.size:
                n_packets += 1
                digest.update(f"{packet.stream.index} {packet.pts} {packet.size};".encode())
                digest.update(bytes(packet))
        digest.update(repr(container.chapters()).encode())  # those of MP4 are a track that is not given out as packets
    if not n_packets:
        raise ValueError("no audio in it")
    return digest.digest()


Pieces = Mapping[str, list[bytes]]  # name → SHA-256 of every piece of that name, in order

# Boxes that hold boxes, as far as a tag or an offset may lie in one (ISO/IEC 14496-12 §6.2, QuickTime's `meta`).
_BOXES_OF_BOXES = {b"moov", b"udta", b"meta", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
_OFFSETS = (b"stco", b"co64")  # they move with the audio; that they lead to the same bytes, the packets tell
_TAG_BOXES = ("moov/udta/meta/ilst", "moov/udta/meta/free")
# Objects that mutagen builds again from the attributes (ASF specification §10.2 and §10.3).
_ASF_TAGS = {
    bytes.fromhex(guid)
    for guid in (
        "3326b2758e66cf11a6d900aa0062ce6c",  # content description
        "40a4d0d207e3d21197f000a0c95ea850",  # extended content description
        "eacbf8c5af5b77488467aa8c44fa4cca",  # metadata
        "941c23449894d149a1411d134e457054",  # metadata library
        "74d40618dfca0945a4ba9aabcb96aae8",  # padding
    )
}
# The object that holds more objects.
_ASF_EXTENSION = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")


def pieces(data: bytes) -> Pieces:
    """Digests of the pieces that no change of tags may change; {} for a container that `tags.verify` cuts by itself.

    Raises ValueError or struct.error where the structure cannot be followed.
    """
    found: dict[str, list[bytes]] = defaultdict(list)
    for name, piece in _take_apart(data):
        found[name].append(sha256(piece).digest())
    return dict(found)


def _take_apart(data: bytes) -> Iterator[tuple[str, bytes | memoryview]]:
    magic, file = data[:4], BytesIO(data)
    if data[4:8] == b"ftyp":
        yield from _boxes(memoryview(data), 0, len(data), "")
    elif data[:16] == ASF_HEADER:
        end = struct.unpack_from("<Q", data, 16)[0]
        yield "header", data[28:30]
        yield from _asf_objects(data, 30, end)
        yield "behind the header", data[end:]
    elif magic == b"OggS":
        for number, packet in enumerate(_ogg_headers(data)):
            if number != 1:  # the comments
                yield "headers", packet
    elif magic in layout.CHUNK_FILES:
        yield "behind the chunks", data[layout.chunks(file)[-1].end :].lstrip(b"\0")
    elif magic == b"DSD ":
        yield "audio", data[layout.DSF_HEADER.size : len(data) - len(layout.cut_id3(file))]
    elif data.startswith(b"fLaC", start := layout.after_id3v2(file)):
        yield "in front", data[:start]


def _boxes(data: memoryview, position: int, end: int, above: str) -> Iterator[tuple[str, bytes | memoryview]]:
    """(path, payload) of every box of an MP4 file that holds no other, but for tags and offsets."""
    while position + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if size == 1:
            size, start = struct.unpack_from(">Q", data, start)[0], start + 8
        stop = position + size if size else end
        if stop < start or (above and stop > end):
            raise ValueError("an MP4 box that does not fit where it lies")
        path, payload = above + name.decode("latin-1"), data[start:stop]
        if name in _BOXES_OF_BOXES:
            yield from _boxes(data, start + 4 if name == b"meta" else start, stop, path + "/")
        elif name == b"tfhd" and payload[3] & 1:  # with an offset
            yield path, bytes(payload[:8]) + payload[16:]
        elif path not in _TAG_BOXES:
            yield path, payload[:8] if name in _OFFSETS else payload
        position = stop
    yield above + "rest", data[position:end]


def _asf_objects(data: bytes, position: int, end: int) -> Iterator[tuple[str, bytes]]:
    """(GUID, payload) of every object of an ASF header, but for tags."""
    while position < end:
        guid, size = struct.unpack_from("<16sQ", data, position)
        if size < 24 or position + size > end:
            raise ValueError("an ASF object that does not fit where it lies")
        if guid == _ASF_EXTENSION:
            yield "extension", data[position + 24 : position + 42]
            yield from _asf_objects(data, position + 46, position + size)
        elif guid not in _ASF_TAGS:
            yield guid.hex(), data[position + 24 : position + size]
        position += size


def _ogg_headers(data: bytes) -> Iterator[bytes]:
    """The packets of the first stream of an Ogg file that lie in front of its audio."""
    position, packet = 0, b""
    serial = OGG_PAGE.unpack_from(data)[4]
    while position < len(data):
        magic, _, _, time, number, _, _, n_segments = OGG_PAGE.unpack_from(data, position)
        if magic != b"OggS":
            raise ValueError(f"no Ogg page where one should begin (byte {position})")
        sizes = data[position + OGG_PAGE.size :][:n_segments]
        position += OGG_PAGE.size + n_segments
        if number == serial and time > 0:
            return
        for size in sizes:
            if number == serial:
                packet += data[position : position + size]
                if size < 255:
                    yield packet
                    packet = b""
            position += size
