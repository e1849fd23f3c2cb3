"""Where tags lie in a file, and how other bytes are put there: byte ranges, and the numbers that count them.

No tag is taken apart here and no foreign library asked. A container is a function that finds its `Place`s; `put` is
the same for all of them but Ogg, whose pages are laid again. Where bytes cannot be placed a ValueError says why.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Count:
    """A number in the file that counts bytes of a tag."""

    at: int
    format: str
    error: int = 0  # to be added: how far it is off today


@dataclass(frozen=True)
class Place:
    """One tag, or the place where one would be begun."""

    kind: str  # a key of `splice.KINDS`
    tag: bytes
    span: slice  # of the file, what is around it included; empty for a new one
    around: Callable[[bytes], bytes] = bytes  # from the bytes of a tag to what lies in the span
    counts: tuple[Count, ...] = ()
    begun: tuple[tuple[Count, int], ...] = ()  # numbers that change when it is begun, and by how much
    context: Any = None  # for `Kind.cut`

    @property
    def is_new(self) -> bool:
        """Whether there is no tag yet."""
        return bool(self.span.start == self.span.stop)


@dataclass(frozen=True)
class Layout:
    """The places of a file, the first one where its kind of file has its tag, and what a change of length touches."""

    places: list[Place]
    audio: slice = field(default_factory=lambda: slice(0))  # of head | audio | tail files
    rooms: tuple[
        tuple[slice, tuple[Count, ...]], ...
    ] = ()  # zeros that may become fewer, and the numbers counting them
    offsets: tuple[tuple[int, int, str], ...] = ()  # tables of positions in the file: (where, how many, format)
    fixed: str = ""  # why the audio may not move
    #: From the file and its one new tag to the new file, where bytes cannot simply be exchanged: in Ogg.
    put_own: Callable[[bytes, bytes], bytes] | None = None


def put(data: bytes, layout: Layout, edits: Sequence[tuple[Place, bytes]]) -> bytes:
    """The file with these tags in these places; b"" takes the place of a tag as well."""
    if layout.put_own is not None:
        return layout.put_own(data, edits[0][0].around(edits[0][1]))
    changes: list[tuple[int, int, bytes]] = []
    counts: Counter[Count] = Counter()
    for place, tag in edits:
        new = place.around(tag)
        changes.append((place.span.start, place.span.stop, new))
        counts.update(dict.fromkeys(place.counts, 0))
        for count in place.counts:
            counts[count] += len(new) - (place.span.stop - place.span.start)
        for count, number in place.begun if place.is_new else ():
            counts[count] += number
    growth = sum(len(new) - (stop - start) for start, stop, new in changes)
    rooms = layout.rooms if growth else ()
    room = next(((s, c) for s, c in rooms if s.stop - s.start >= growth and not data[s].strip(b"\0")), None)
    if room:
        changes.append((room[0].start, room[0].stop, bytes(room[0].stop - room[0].start - growth)))
        for count in room[1]:
            counts[count] -= growth
    changes.sort(key=lambda change: change[:2])
    for (at, form), number in _by_number(counts).items():
        number += struct.unpack_from(form, data, at)[0]
        if not 0 <= number < 1 << 8 * struct.calcsize(form):
            raise ValueError("the tag does not fit: its container has no number for such a size")
        changes.append((at, at + struct.calcsize(form), struct.pack(form, number)))
    changes += _moved(data, layout, changes[: len(edits) + bool(room)])
    return spliced(data, changes)


def _by_number(counts: Counter[Count]) -> Counter[tuple[int, str]]:
    numbers: Counter[tuple[int, str]] = Counter()
    for count, number in counts.items():
        numbers[count.at, count.format] += number + count.error
    return numbers


def spliced(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """The bytes with others in their place: (start, stop, new ones). ValueError where two of them overlap."""
    view, position = memoryview(data), 0
    parts: list[bytes | memoryview] = []
    for start, stop, new in sorted(changes, key=lambda change: change[:2]):
        if start < position:
            raise ValueError("two tags lie in each other")
        parts += [view[position:start], new]
        position = stop
    return b"".join([*parts, view[position:]])


def _moved(data: bytes, layout: Layout, changes: list[tuple[int, int, bytes]]) -> Iterator[tuple[int, int, bytes]]:
    """The tables of positions, where the bytes they lead to have moved."""
    steps = [(stop, len(new) - (stop - start)) for start, stop, new in changes]
    if layout.fixed and sum(growth for _, growth in steps):
        raise ValueError(layout.fixed)
    for at, n, form in layout.offsets:
        size = struct.calcsize(form)
        old = struct.unpack_from(f"{form[0]}{n}{form[1]}", data, at)
        new = [offset + sum(growth for stop, growth in steps if stop <= offset) for offset in old]
        if tuple(new) != old:
            if max(new) >= 1 << 8 * size:
                raise ValueError("its table of positions has no room for 4 GiB and more")
            yield at, at + n * size, struct.pack(f"{form[0]}{n}{form[1]}", *new)


def at(file: BinaryIO, position: int, n_bytes: int) -> bytes:
    """Up to that many bytes from that position on."""
    file.seek(position)
    return file.read(max(0, n_bytes))


def cut(file: BinaryIO, span: slice) -> bytes:
    """The bytes of a range."""
    return at(file, span.start, span.stop - span.start)
