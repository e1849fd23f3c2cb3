"""Short instructions that turn the new bytes of a song back into the old ones."""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

Delta = list[list[Any]]  # ["c", start, length]: copy from the new bytes; ["l", text]: zlib-packed bytes in base64

MAX_LITERAL_BYTES = 256 << 10  # what is new to the old bytes: a tag, rarely a cover, never the audio
_BLOCK_BYTES = 64  # a stretch of twice this length that both have is always found
_SHORT_BYTES = 1024  # not worth the search


def delta(new: bytes, old: bytes) -> Delta | None:
    """Instructions to build `old` from `new`, None when they would hold more than MAX_LITERAL_BYTES of it.

    >>> rebuild(b"tag B, audio", delta(b"tag B, audio", b"tag AA, audio"))
    b'tag AA, audio'
    """
    copies: list[tuple[int, int, int]] = [(0, 0, _common(old, 0, new, 0))]  # (start in old, start in new, length)
    blocks: dict[bytes, int] = {}
    position, n_literal = copies[0][2], 0
    tail = _common_end(old, new, position)
    while position < len(old) - tail - _SHORT_BYTES:
        blocks = blocks or {new[at : at + _BLOCK_BYTES]: at for at in range(0, len(new), _BLOCK_BYTES)}
        for found in range(position, len(old) - tail):
            if (at := blocks.get(old[found : found + _BLOCK_BYTES])) is not None:
                break
            if n_literal + found - position > MAX_LITERAL_BYTES:
                return None
        else:
            break
        while found > position and at > 0 and old[found - 1] == new[at - 1]:
            found, at = found - 1, at - 1
        n_literal += found - position
        length = min(_common(old, found, new, at), len(old) - tail - found)
        copies.append((found, at, length))
        position = found + length
    copies.append((len(old) - tail, len(new) - tail, tail))
    return _instructions(old, copies)


def rebuild(new: bytes, instructions: Sequence[Sequence[Any]]) -> bytes:
    """The old bytes, given the new ones and their delta."""
    parts = []
    for kind, *values in instructions:
        parts.append(new[values[0] : values[0] + values[1]] if kind == "c" else zlib.decompress(b64decode(values[0])))
    return b"".join(parts)


def _instructions(old: bytes, copies: list[tuple[int, int, int]]) -> Delta:
    made: Delta = []
    position = 0
    for start, at, length in copies:
        if start > position:
            made.append(["l", b64encode(zlib.compress(old[position:start], 9)).decode()])
        if length:
            made.append(["c", at, length])
        position = start + length
    return made


def _common(old: bytes, start: int, new: bytes, at: int) -> int:
    """How many bytes from there on are the same; steps double, so that a long song takes few comparisons."""
    length, step = 0, 64
    longest = min(len(old) - start, len(new) - at)
    while step:
        size = min(step, longest - length)
        if size and old[start + length : start + length + size] == new[at + length : at + length + size]:
            length, step = length + size, min(2 * step, 1 << 20)
        else:
            step = min(step, size) // 2
    return length


def _common_end(old: bytes, new: bytes, after: int) -> int:
    """How many bytes at the end are the same, of those behind that position in both."""
    length, step = 0, 64
    longest = min(len(old), len(new)) - after
    while step:
        size = min(step, longest - length)
        stop = len(old) - length, len(new) - length
        if size and old[stop[0] - size : stop[0]] == new[stop[1] - size : stop[1]]:
            length, step = length + size, min(2 * step, 1 << 20)
        else:
            step = min(step, size) // 2
    return length
