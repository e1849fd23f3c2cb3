"""Who a song is, whatever its name and tags: a digest of samples of the coded audio.

No format is decoded and no foreign library asked: where the coded audio lies is told by the container's outermost
structure, a few blocks of it are read at fixed fractions, and their bytes and the length of the whole are hashed.

What it does not see: a change between the blocks that keeps the length, a flipped byte for example. It tells songs
apart and is no proof that two are equal; that proof is `tagger.tags.verify`.
"""

import logging
import os
import re
import stat
import struct
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import accumulate
from os import PathLike
from typing import BinaryIO

from tagger.tags.containers import audio_span
from tagger.tags.layout.asf import ASF_HEADER
from tagger.tags.layout.chunks import AUDIO_CHUNKS, CHUNK_FILES, DSF_HEADER, chunks
from tagger.tags.layout.ogg import OGG_PAGE
from tagger.tags.layout.place import at

logger = logging.getLogger(__name__)

VERSION = b"genre-tag identity 1\n"  # another one makes every song a stranger
N_BLOCKS = 8  # a few round trips of a network drive; an edit of an eighth of the song always meets one
BLOCK_BYTES = 4096
CHUNK_BYTES = 1 << 20  # read at a time where a few blocks do not suffice

ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
# In chunk files: what the samples mean (rate, channels, bits) and the samples themselves.
FORMAT_CHUNKS = (b"fmt ", b"COMM", b"PROP")
# Header of an Ogg page (RFC 3533 §6). Longer comments renumber the pages behind them: number and checksum change.
OGG_NUMBERING = re.compile(rb"(OggS.{14}).{8}", re.DOTALL)
OGG_REACH = 26  # bytes from the start of a page to the end of its checksum


@dataclass(frozen=True)
class _Audio:
    """The coded audio of a file as one run of bytes, without what changes with the tags."""

    file: BinaryIO
    spans: list[slice]
    #: What the audio means, where that is told outside of it.
    meaning: bytes = b""
    is_ogg: bool = False

    @cached_property
    def ends(self) -> list[int]:
        """Where in the run each span ends."""
        return list(accumulate(span.stop - span.start for span in self.spans))

    def read(self, position: int, n_bytes: int) -> bytes:
        """Up to that many bytes of the run from that position on."""
        if not self.is_ogg:
            return self._raw(position, n_bytes)
        before = min(position, OGG_REACH)  # a page may begin on one side of an edge and be numbered on the other
        raw = self._raw(position - before, before + n_bytes + OGG_REACH)
        return OGG_NUMBERING.sub(rb"\1" + bytes(8), raw)[before : before + n_bytes]

    def _raw(self, position: int, n_bytes: int) -> bytes:
        parts = []
        for i in range(bisect_right(self.ends, position), len(self.spans)):
            start = self.spans[i].stop - (self.ends[i] - position)
            parts.append(at(self.file, start, min(n_bytes, self.spans[i].stop - start)))
            position, n_bytes = self.ends[i], n_bytes - len(parts[-1])
            if n_bytes <= 0:
                break
        return b"".join(parts)


def identify(path: str | PathLike[str]) -> bytes:
    """The 32 bytes that identify a song by its coded audio: the same after it is renamed, moved or tagged again.

    Reads headers and eight blocks of 4 KiB; all of the audio only where those blocks hold little but repetition
    (digital silence), in which files of equal length could differ elsewhere. A file whose structure cannot be
    followed is taken as one piece, so that it is a stranger when its tags change. Raises OSError when it cannot be
    read, ValueError when there is no audio in it.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")
    with open(path, "rb") as file:
        try:
            audio = _find(file)
        except (ValueError, struct.error):
            logger.debug("%s is identified as one piece", path, exc_info=True)
            audio = _Audio(file, [slice(0, file.seek(0, 2))])
        n_bytes = audio.ends[-1] if audio.ends else 0
        if n_bytes <= 0:
            raise ValueError("no audio in it")
        digest = sha256(VERSION + audio.meaning + struct.pack("<Q", n_bytes))
        last = max(0, n_bytes - BLOCK_BYTES)
        blocks = [audio.read(last * i // (N_BLOCKS - 1), BLOCK_BYTES) for i in range(N_BLOCKS)]
        if n_bytes <= N_BLOCKS * BLOCK_BYTES or _is_repetitive(b"".join(blocks)):
            for position in range(0, n_bytes, CHUNK_BYTES):
                digest.update(audio.read(position, min(CHUNK_BYTES, n_bytes - position)))
        else:
            for block in blocks:
                digest.update(block)
        return digest.digest()


def _is_repetitive(data: bytes) -> bool:
    """Whether more than half of the bytes repeat others: words of eight bytes hardly ever do by chance."""
    words = memoryview(data).cast("Q")
    return len(set(words)) < len(words) / 2


def _find(file: BinaryIO) -> _Audio:
    """The coded audio of a file; ValueError or struct.error when its structure cannot be followed."""
    size, magic = file.seek(0, 2), at(file, 0, 16)
    if magic[:4] == b"OggS":
        return _Audio(file, [slice(_ogg_audio(file), size)], is_ogg=True)
    if magic[:4] in CHUNK_FILES:
        found = chunks(file)
        meaning = b"".join(at(file, c.start, c.end - c.start) for c in found if c.name in FORMAT_CHUNKS)
        return _Audio(file, [slice(c.start, c.end) for c in found if c.name in AUDIO_CHUNKS], meaning)
    if magic[:4] == b"DSD ":
        tag = DSF_HEADER.unpack(at(file, 0, DSF_HEADER.size))[3]
        return _Audio(file, [slice(DSF_HEADER.size, min(tag or size, size))])
    if magic[4:8] == b"ftyp":
        return _Audio(file, _mp4_audio(file, size))
    if magic == ASF_HEADER:
        return _Audio(file, [_asf_audio(file, size)])
    return _Audio(file, [audio_span(file)])


def _ogg_audio(file: BinaryIO) -> int:
    """Where the first page begins that completes a packet of audio: all before it are at time 0, or -1 for none."""
    page = 0
    while True:
        magic, _, _, time, _, _, _, n_segments = OGG_PAGE.unpack(at(file, page, OGG_PAGE.size))
        if magic != b"OggS":
            raise ValueError(f"no Ogg page where one should begin (byte {page})")
        if time > 0:
            return page
        page += OGG_PAGE.size + n_segments + sum(at(file, page + OGG_PAGE.size, n_segments))


def _mp4_audio(file: BinaryIO, size: int) -> list[slice]:
    """The payloads of the `mdat` boxes (ISO/IEC 14496-12 §4.2, §8.1.1)."""
    found, box = [], 0
    while box < size:
        n_bytes, name = struct.unpack(">I4s", at(file, box, 8))
        n_header = 8
        if n_bytes == 1:
            n_bytes, n_header = struct.unpack(">Q", at(file, box + 8, 8))[0], 16
        end = min(box + n_bytes, size) if n_bytes else size
        if end < box + n_header:
            raise ValueError("an MP4 box smaller than its header")
        if name == b"mdat":
            found.append(slice(box + n_header, end))
        box = end
    return found


def _asf_audio(file: BinaryIO, size: int) -> slice:
    """The payload of the data object, which follows the header object (ASF specification §5)."""
    start = struct.unpack("<Q", at(file, len(ASF_HEADER), 8))[0]
    name, n_bytes = struct.unpack("<16sQ", at(file, min(start, size), 24))
    if name != ASF_DATA:
        raise ValueError("no ASF data where it should begin")
    return slice(start + 24, min(start + n_bytes, size) if n_bytes else size)
