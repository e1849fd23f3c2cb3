"""APEv2, and APEv1, which has no header: items between header and footer."""

import struct
from collections.abc import Sequence
from typing import Any

from tagger.tags.pieces.kind import Cut, Kind

APE_MARK = b"APETAGEX"


def _cut_ape(tag: bytes, _: Any = None) -> Cut:
    has_header, count = tag.startswith(APE_MARK), struct.unpack_from("<I", tag, len(tag) - 16)[0]
    position, pieces = 32 * has_header, []
    end = len(tag) - 32
    while position < end:
        value = tag.find(b"\0", position + 8, end) + 1
        stop = value + struct.unpack_from("<I", tag.ljust(position + 4, b"\0"), position)[0]
        if not value or stop > end:
            raise ValueError(f"APE tag whose items do not add up (it counts {count})")
        pieces.append(tag[position:stop])
        position = stop
    return Cut(tag[: 32 * has_header], tuple(pieces), tag[-32:])


def _ape_item(piece: bytes) -> tuple[bytes, bytes]:
    key, _, value = piece[8:].partition(b"\0")
    return key, value


def _ape_values(cut: Cut, pieces: Sequence[bytes]) -> list[str]:
    return [part for piece in pieces for part in _ape_item(piece)[1].decode(errors="replace").split("\0")]


def _ape_make(cut: Cut, _: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    return [ape_item(b"Genre", "\0".join(values))]


def ape_item(key: bytes, text: str) -> bytes:
    """An item with that text."""
    return struct.pack("<II", len(text.encode()), 0) + key + b"\0" + text.encode()


def _ape_join(cut: Cut, pieces: Sequence[bytes]) -> bytes:
    body = b"".join(pieces)
    counts = struct.pack("<II", len(body) + 32, len(pieces))
    ends = [end[:12] + counts + end[20:] if end else b"" for end in (cut.head, cut.tail)]
    return ends[0] + body + ends[1]


_END = APE_MARK + struct.pack("<III", 2000, 32, 0)
APE = Kind(
    _cut_ape, lambda cut, piece: _ape_item(piece)[0].lower() == b"genre", _ape_values, _ape_make, _ape_join,
    lambda cut: ((key.decode("latin-1"), text) for key, value in map(_ape_item, cut.pieces)
                 for text in value.decode(errors="replace").split("\0")),
    Cut(_END + struct.pack("<IQ", 1 << 31 | 1 << 29, 0), (), _END + struct.pack("<IQ", 1 << 31, 0)),
)  # fmt: skip
