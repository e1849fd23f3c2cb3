"""MP4: boxes in boxes, and tables of positions that move with them."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tagger.tags.layout.place import Count, Layout, Place, at

# Boxes that hold boxes, as far as a tag or an offset may lie in one (ISO/IEC 14496-12 §6.2, QuickTime's `meta`).
_BOXES_OF_BOXES = {b"moov", b"udta", b"meta", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
_ITUNES = b"\0\0\0\x21hdlr" + bytes(8) + b"mdirappl" + bytes(9)


@dataclass(frozen=True)
class Box:
    """A box of an MP4, as far as it is followed."""

    path: str
    start: int
    payload: int
    end: int
    counts: tuple[Count, ...]  # sizes of the boxes that hold it

    @property
    def inside(self) -> tuple[Count, ...]:
        """The sizes that count what it holds."""
        form = {8: ">I", 16: ">Q"}[self.payload - self.start]
        return (*self.counts, Count(self.start if form == ">I" else self.start + 8, form))


def mp4_boxes(file: BinaryIO, start: int, end: int, path: str = "", counts: tuple[Count, ...] = ()) -> Iterator[Box]:
    """Every box and those in it; a size of 0 ends a list, as the four zeros of QuickTime's `udta` do."""
    while start + 8 <= end:
        size, name = struct.unpack(">I4s", at(file, start, 8))
        payload = start + 8
        if size == 1:
            size, payload = struct.unpack(">Q", at(file, start + 8, 8))[0], start + 16
        if not size and path:
            return
        stop = start + size if size else end
        if stop < payload or (stop > end and (path or name != b"mdat")):
            raise ValueError(f"the MP4 box {(path + name.decode('latin-1'))!r} runs past its end")
        box = Box(path + name.decode("latin-1"), start, payload, min(stop, end), counts)
        yield box
        if name in _BOXES_OF_BOXES:
            skip = 4 if name == b"meta" and at(file, payload + 4, 4) != b"hdlr" else 0  # QuickTime's has no version
            yield from mp4_boxes(file, payload + skip, stop, box.path + "/", box.inside)
        start = stop


def in_mp4(file: BinaryIO) -> Layout:
    """The lists of items in `udta` and `meta`, the tables of positions, and free space in front of the audio."""
    boxes = list(mp4_boxes(file, 0, file.seek(0, 2)))
    by_path = {box.path: box for box in reversed(boxes)}
    if "moov" not in by_path or not by_path.keys() & {"mdat", "moof"}:
        raise ValueError("an MP4 without its `moov` or `mdat` box: truncated, or no song")
    found = sorted(_item_lists(file, boxes), key=lambda place: place.kind)
    if not found or found[0].kind != "mp4":
        found.insert(0, _new_list(by_path, boxes))
    found += _text_atoms(file, boxes)
    first = next((box.start for box in boxes if box.path == "mdat"), 0)
    rooms = tuple(
        (slice(box.payload, box.end), box.inside)
        for box in boxes
        if box.path.endswith(("free", "skip"))
        and (box.path.startswith("moov/") or by_path["moov"].start < box.start < first)
    )
    return Layout(found, rooms=rooms, offsets=tuple(_offsets(file, boxes)), fixed=_fixed(by_path, boxes))


def _item_lists(file: BinaryIO, boxes: list[Box]) -> Iterator[Place]:
    """Those of iTunes, which are called by names, and those of QuickTime whose keys know a genre (context: which)."""
    for meta in (box for box in boxes if box.path in ("moov/udta/meta", "moov/meta")):
        inner = {box.path.rpartition("/")[2]: box for box in boxes if meta.start < box.start < meta.end}
        if "ilst" not in inner:
            continue
        box, keys = inner["ilst"], None
        if "keys" in inner:
            keys = _genre_keys(at(file, inner["keys"].payload, inner["keys"].end - inner["keys"].payload))
            if not keys:
                continue
        tag = at(file, box.payload, box.end - box.payload)
        yield Place(
            "mp4" if keys is None else "mp4 keys", tag, slice(box.start, box.end), _box(b"ilst"), box.counts, (), keys
        )


def _genre_keys(keys: bytes) -> frozenset[bytes]:
    """The numbers, as names of items, of the keys that are called genre (QuickTime File Format, metadata keys)."""
    position, found = 8, []
    for number in range(1, int.from_bytes(keys[4:8], "big") + 1):
        size = int.from_bytes(keys[position : position + 4], "big")
        if size < 8:
            break
        if keys[position + 8 : position + size].lower().split(b".")[-1] == b"genre":
            found.append(struct.pack(">I", number))
        position += size
    return frozenset(found)


def _text_atoms(file: BinaryIO, boxes: list[Box]) -> Iterator[Place]:
    for box in boxes:
        if box.path == "moov/udta/\xa9gen":
            yield Place("qt", at(file, box.start, box.end - box.start), slice(box.start, box.end), counts=box.counts)


def _new_list(by_path: dict[str, Box], boxes: list[Box]) -> Place:
    """Where a list of items would be begun: in `meta`, in `udta`, or at the end of `moov`."""
    if meta := by_path.get("moov/udta/meta"):
        if "moov/udta/meta/ilst" in by_path or "moov/udta/meta/keys" in by_path:
            raise ValueError("its tag is of another kind (mdta), and leaves no place for the one that players read")
        last = max((box.end for box in boxes if meta.start < box.start < meta.end), default=meta.end)
        return Place("mp4", b"", slice(last, last), _box(b"ilst"), meta.inside)
    if udta := by_path.get("moov/udta"):
        last = max((box.end for box in boxes if udta.start < box.start < udta.end), default=udta.payload)
        return Place("mp4", b"", slice(last, last), _box(b"ilst", b"meta"), udta.inside)
    moov = by_path["moov"]
    return Place("mp4", b"", slice(moov.end, moov.end), _box(b"ilst", b"meta", b"udta"), moov.inside)


def _box(*names: bytes) -> Callable[[bytes], bytes]:
    """A box around a tag, and boxes around that."""

    def around(tag: bytes) -> bytes:
        for name in names:
            tag = (bytes(4) + _ITUNES if name == b"meta" else b"") + tag
            tag = struct.pack(">I", len(tag) + 8) + name + tag
        return tag

    return around


def _offsets(file: BinaryIO, boxes: list[Box]) -> Iterator[tuple[int, int, str]]:
    for box in boxes:
        name, head = box.path.rpartition("/")[2], at(file, box.payload, 8)
        if name in ("stco", "co64"):
            form = ">I" if name == "stco" else ">Q"
            n = int.from_bytes(head[4:8], "big")
            if n * struct.calcsize(form) > box.end - box.payload - 8:
                raise ValueError(f"the MP4 box {box.path!r} counts more positions than it holds")
            yield box.payload + 8, n, form
        elif name == "tfhd" and head[3] & 1:  # with an offset
            yield box.payload + 8, 1, ">Q"


def _fixed(by_path: dict[str, Box], boxes: list[Box]) -> str:
    names = {box.path.rpartition("/")[2] for box in boxes}
    sidx = by_path.get("sidx")
    found = [name for name in ("mfra", "saio", "iloc", "sidx") if name in names]
    if sidx and sidx.start > by_path["moov"].start:
        found.remove("sidx")  # its distances are counted from where it ends
    return f"MP4 with a table of positions ({', '.join(found)}), which would be wrong afterwards" if found else ""
