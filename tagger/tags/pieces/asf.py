"""ASF: descriptors of the extended content description, records of the two metadata objects."""

import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tagger.tags.pieces.kind import NO_ROOM, Cut, Kind

_ASF_GENRE = "WM/Genre".encode("utf-16-le")


def _cut_asf(tag: bytes, _: Any = None) -> Cut:
    position, pieces = 2, []
    for _number in range(int.from_bytes(tag[:2], "little")):
        value = position + 2 + int.from_bytes(tag[position : position + 2], "little")
        end = value + 4 + int.from_bytes(tag[value + 2 : value + 4], "little")
        pieces.append(tag[position:end])
        position = end
    return _checked_asf(tag, pieces, position)


def _cut_asf_library(tag: bytes, _: Any = None) -> Cut:
    position, pieces = 2, []
    for _number in range(int.from_bytes(tag[:2], "little")):
        n_name, _, n_value = struct.unpack_from("<HHI", tag.ljust(position + 12, b"\0"), position + 4)
        pieces.append(tag[position : position + 12 + n_name + n_value])
        position += 12 + n_name + n_value
    return _checked_asf(tag, pieces, position)


def _asf_library_make(cut: Cut, old: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    name, texts = _ASF_GENRE + b"\0\0", [value.encode("utf-16-le") + b"\0\0" for value in values]
    return [struct.pack("<HHHHI", 0, 0, len(name), 0, len(text)) + name + text for text in texts]


def _checked_asf(tag: bytes, pieces: list[bytes], end: int) -> Cut:
    if end > max(2, len(tag)):
        raise ValueError("attributes of ASF that run past their end")
    return Cut(b"", tuple(pieces), tag[end:])


def _asf_is_genre(cut: Cut, piece: bytes) -> bool:
    return piece[2 : 2 + int.from_bytes(piece[:2], "little")].removesuffix(b"\0\0") == _ASF_GENRE


def _asf_library_is_genre(cut: Cut, piece: bytes) -> bool:
    return piece[12 : 12 + int.from_bytes(piece[4:6], "little")].removesuffix(b"\0\0") == _ASF_GENRE


def _asf_make(cut: Cut, _: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    name, made = _ASF_GENRE + b"\0\0", []
    for text in (value.encode("utf-16-le") + b"\0\0" for value in values):
        if len(text) > 0xFFFF:
            raise ValueError("a genre of more than 32 766 letters does not fit a WMA")
        made.append(struct.pack("<H", len(name)) + name + struct.pack("<HH", 0, len(text)) + text)
    return made


def _asf_join(cut: Cut, pieces: Sequence[bytes]) -> bytes:
    return struct.pack("<H", len(pieces)) + b"".join(pieces) + cut.tail


def _asf_text(piece: bytes, is_library: bool = False) -> tuple[str, str]:
    if is_library:
        n_name, kind, n_value = struct.unpack_from("<HHI", piece, 4)
        name, value = piece[12 : 12 + n_name], piece[12 + n_name : 12 + n_name + n_value]
    else:
        n_name = int.from_bytes(piece[:2], "little")
        name, value = piece[2 : 2 + n_name], piece[6 + n_name :]
        kind = int.from_bytes(piece[2 + n_name : 4 + n_name], "little")
    text = value.decode("utf-16-le", "replace").rstrip("\0") if kind == 0 else ""
    return name.decode("utf-16-le", "replace").rstrip("\0"), text


ASF = Kind(
    _cut_asf, _asf_is_genre, lambda cut, pieces: [_asf_text(p)[1] for p in pieces], _asf_make, _asf_join,
    lambda cut: map(_asf_text, cut.pieces), NO_ROOM,
)  # fmt: skip
ASF_LIBRARY = replace(
    ASF, cut=_cut_asf_library, is_genre=_asf_library_is_genre, make=_asf_library_make,
    values=lambda cut, pieces: [_asf_text(p, True)[1] for p in pieces],
    texts=lambda cut: (_asf_text(p, True) for p in cut.pieces),
)  # fmt: skip
