"""Vorbis comments: vendor, number, (length, key=value) each, and whatever lies behind."""

import struct
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from tagger.tags.pieces.kind import Cut, Kind


def _cut_vorbis(tag: bytes, _: Any = None) -> Cut:
    try:
        start = 4 + struct.unpack_from("<I", tag)[0]
        position, pieces = start + 4, []
        for _number in range(struct.unpack_from("<I", tag, start)[0]):
            end = position + 4 + struct.unpack_from("<I", tag, position)[0]
            if end > len(tag):
                raise ValueError
            pieces.append(tag[position:end])
            position = end
    except (ValueError, struct.error):
        raise ValueError("Vorbis comments that run past their end") from None
    return Cut(tag[:start], tuple(pieces), tag[position:])


def _vorbis_text(piece: bytes) -> tuple[str, str]:
    key, _, value = piece[4:].partition(b"=")
    return key.decode("latin-1").lower(), value.decode(errors="replace")


def _vorbis_reach(cut: Cut) -> int:
    """Comments of the form key=value: exiftool stops at another."""
    return len(list(takewhile(lambda piece: b"=" in piece, cut.pieces)))


def _vorbis_make(cut: Cut, _: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    return [vorbis_comment(b"GENRE", value) for value in values]


def vorbis_comment(key: bytes, text: str) -> bytes:
    """A comment with its length."""
    comment = key + b"=" + text.encode()
    return struct.pack("<I", len(comment)) + comment


def _vorbis_join(cut: Cut, pieces: Sequence[bytes]) -> bytes:
    return cut.head + struct.pack("<I", len(pieces)) + b"".join(pieces) + cut.tail


VORBIS = Kind(
    _cut_vorbis, lambda cut, piece: piece[4:10].lower() == b"genre=",
    lambda cut, pieces: [_vorbis_text(piece)[1] for piece in pieces], _vorbis_make, _vorbis_join,
    lambda cut: map(_vorbis_text, cut.pieces), Cut(struct.pack("<I", 9) + b"genre-tag", ()), _vorbis_reach,
)  # fmt: skip
