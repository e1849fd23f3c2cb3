"""MP4: the atoms of `ilst`, and the text atom ©gen of QuickTime's `udta`.

The genre is ©gen and gnre by name, ----:…:GENRE by its name atom, items of `mdta` by their key.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from mutagen.id3 import TCON

from tagger.tags.pieces.kind import NO_ROOM, Cut, Kind, no_texts, plain_join


def atoms(data: bytes, start: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of the atoms that lie one behind the other; what cannot be followed is left out."""
    while start + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, start)
        if not 8 <= size <= len(data) - start:
            return
        yield name, start, start + size
        start += size


def atom(name: bytes, payload: bytes) -> bytes:
    """An atom with its size."""
    return struct.pack(">I", len(payload) + 8) + name + payload


def _cut_ilst(tag: bytes, keys: Any = None) -> Cut:
    found = [(start, end) for _, start, end in atoms(tag)]
    return Cut(b"", tuple(tag[start:end] for start, end in found), tag[found[-1][1] if found else 0 :], keys)


def _ilst_is_genre(cut: Cut, piece: bytes) -> bool:
    if cut.context is not None:
        return piece[4:8] in cut.context
    names = [piece[start + 12 : end] for name, start, end in atoms(piece, 8) if name == b"name"]
    return piece[4:8] in (b"\xa9gen", b"gnre") or (
        piece[4:8] == b"----" and [each.lower() for each in names] == [b"genre"]
    )


def _ilst_values(cut: Cut, pieces: Sequence[bytes]) -> list[str]:
    """Those of ©gen if there are any, else of a number, else of a freeform genre."""
    ranked = sorted(pieces, key=lambda piece: (piece[4:8] != b"\xa9gen") + (piece[4:8] == b"----"))
    for piece in ranked:
        data = [piece[start + 8 : end] for name, start, end in atoms(piece, 8) if name == b"data"]
        if piece[4:8] == b"gnre":
            number = int.from_bytes(data[0][8:][-2:], "big") if data else 0
            found = [TCON.GENRES[number - 1]] if 1 <= number <= len(TCON.GENRES) else []
        else:
            found = [each[8:].decode("utf-16-be" if each[3:4] == b"\2" else "utf-8", "replace") for each in data]
        if any(found):
            return found
    return []


def _ilst_make(cut: Cut, old: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    data = b"".join(atom(b"data", struct.pack(">II", 1, 0) + value.encode()) for value in values)
    if cut.context is not None:
        return [atom(name, data) for name in dict.fromkeys(piece[4:8] for piece in old)]
    freeform = [piece for piece in old if piece[4:8] == b"----"]
    kept = [b"".join(p[start:end] for name, start, end in atoms(p, 8) if name != b"data") for p in freeform]
    return [atom(b"\xa9gen", data), *(atom(b"----", head + data) for head in kept)]


def _ilst_texts(cut: Cut) -> Iterator[tuple[str, str]]:
    for piece in cut.pieces:
        for name, start, end in atoms(piece, 8):
            if name == b"data" and piece[start + 11 : start + 12] == b"\1":
                yield piece[4:8].decode("latin-1"), piece[start + 16 : end].decode(errors="replace")


# --- the text atom of QuickTime: length, language, text


def _cut_qt(tag: bytes, _: Any = None) -> Cut:
    return Cut(b"", (tag,) if tag else ())


def _qt_values(cut: Cut, pieces: Sequence[bytes]) -> list[str]:
    return [piece[12 : 12 + int.from_bytes(piece[8:10], "big")].decode(errors="replace") for piece in pieces]


def _qt_make(cut: Cut, old: Sequence[bytes], values: Sequence[str]) -> list[bytes]:
    text = "; ".join(values).encode()
    return [atom(b"\xa9gen", struct.pack(">H", len(text)) + (old[0][10:12] if old else b"\x55\xc4") + text)]


ILST = Kind(_cut_ilst, _ilst_is_genre, _ilst_values, _ilst_make, plain_join, _ilst_texts, NO_ROOM)
QUICKTIME = Kind(_cut_qt, lambda cut, piece: True, _qt_values, _qt_make, plain_join, no_texts, NO_ROOM)
