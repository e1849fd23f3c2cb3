"""RIFF INFO: (name, value) of even length; and the texts of DSDIFF."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from tagger.tags.pieces.kind import NO_ROOM, Cut, Kind, plain_join


def _cut_info(tag: bytes, _: Any = None) -> Cut:
    position, pieces, stop = 4, [], len(tag.rstrip(b"\0"))
    while position < stop:
        end = position + 8 + int.from_bytes(tag[position + 4 : position + 8], "little")
        if end > len(tag) or len(tag) < position + 8:
            raise ValueError("INFO list whose items do not add up")
        pieces.append(tag[position : end + end % 2].ljust(end + end % 2 - position, b"\0"))
        position = end + end % 2
    return Cut(b"INFO", tuple(pieces), tag[position:])


def _info_text(piece: bytes) -> tuple[str, str]:
    value = piece[8 : 8 + int.from_bytes(piece[4:8], "little")].rstrip(b"\0")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("cp1252", "replace")  # what Windows wrote before UTF-8 was usual
    return piece[:4].decode("latin-1"), text


def _info_make(cut: Cut, _: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    made = [value.encode() + b"\0" for value in values]
    return [b"IGNR" + struct.pack("<I", len(each)) + each + bytes(len(each) % 2) for each in made]


def _cut_diin(tag: bytes, _: Any = None) -> Cut:
    """Title and artist of a DSDIFF file, in chunks of their own (DSDIFF 1.5 §3.3): a count of letters, and those."""
    position, pieces = 0, []
    while position + 12 <= len(tag):
        end = position + 12 + int.from_bytes(tag[position + 4 : position + 12], "big")
        pieces.append(tag[position:end])
        position = end + end % 2
    return Cut(b"", tuple(pieces))


def _diin_texts(cut: Cut) -> Iterator[tuple[str, str]]:
    names = {b"DITI": "title", b"DIAR": "artist"}
    yield from ((names[p[:4]], p[16:].rstrip(b"\0").decode("latin-1")) for p in cut.pieces if p[:4] in names)


INFO = Kind(
    _cut_info, lambda cut, piece: piece[:4] == b"IGNR", lambda cut, pieces: [_info_text(p)[1] for p in pieces],
    _info_make, plain_join, lambda cut: map(_info_text, cut.pieces), Cut(b"INFO", ()),
)  # fmt: skip
DIIN = Kind(
    _cut_diin, lambda cut, piece: False, lambda cut, pieces: [], lambda cut, old, values: [], plain_join,
    _diin_texts, NO_ROOM,
)  # fmt: skip
