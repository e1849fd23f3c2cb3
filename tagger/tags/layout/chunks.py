"""Files of chunks: WAVE, AIFF, DSDIFF, and DSF with its one tag."""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from tagger.tags.layout.head_and_tail import id3_place, id3v2_size, id3v2_spans
from tagger.tags.layout.place import Count, Layout, Place, at

# Chunk files by their first four bytes: byte order and size field of RIFF (WAVE), EA IFF-85 (AIFF), DSDIFF 1.5 §3.
CHUNK_FILES = {b"RIFF": "<I", b"FORM": ">I", b"FRM8": ">Q"}
AUDIO_CHUNKS = (b"data", b"SSND", b"DSD ", b"DST ")
STREAMED = 0x7FFF0000  # a size from here on was never filled in: who wrote the file could not go back
DSF_HEADER = struct.Struct("<4sQQQ")  # "DSD ", size of this chunk, size of the file, offset of the ID3v2 tag or 0


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
    spans = list(id3v2_spans(file, pointer))[:1]
    if not spans:
        raise ValueError("no ID3v2 tag where the header says that one is")
    return Layout([id3_place(file, spans[0], counts=counts)])
