"""ASF, the container of WMA: objects, two of which hold tags."""

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from tagger.tags.layout.place import Count, Layout, Place, at

ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # ASF specification §10.1
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_EXTENSION = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")
_ASF_CONTENT = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850")
_ASF_METADATA = (
    bytes.fromhex("eacbf8c5af5b77488467aa8c44fa4cca"),
    bytes.fromhex("941c23449894d149a1411d134e457054"),
)


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
