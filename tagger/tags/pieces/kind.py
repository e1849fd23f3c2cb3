"""What is done with a kind of tag, and what a tag is when it is cut."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cut:
    """A tag in its parts: `head`, `pieces`, and what lies behind them (`tail`; of ID3v2 the room, in zeros)."""

    head: bytes
    pieces: tuple[bytes, ...]
    tail: bytes = b""
    #: What a kind must know to tell its pieces: the sizes of ID3v2.4, the keys of MP4's `mdta`.
    context: Any = None


@dataclass(frozen=True)
class Kind:
    """What is done with a kind of tag; every function is given the tag as it was cut."""

    cut: Callable[[bytes, Any], Cut]
    is_genre: Callable[[Cut, bytes], bool]
    values: Callable[[Cut, Sequence[bytes]], Iterable[str]]  # of the pieces with the genre
    make: Callable[[Cut, Sequence[bytes], Sequence[str]], list[bytes]]  # given the old pieces with it
    join: Callable[[Cut, Sequence[bytes]], bytes]
    texts: Callable[[Cut], Iterator[tuple[str, str]]]  # (key, text) of all that is text
    new: Cut  # one without pieces, to begin a tag with
    reach: Callable[[Cut], int] = lambda cut: len(cut.pieces)  # where a new piece is seen by every reader


def plain_join(cut: Cut, pieces: Sequence[bytes]) -> bytes:
    """A tag that is its head, its pieces and its tail."""
    return cut.head + b"".join(pieces) + cut.tail


def no_texts(cut: Cut) -> Iterator[tuple[str, str]]:
    """None, of a tag that holds nothing but the genre."""
    return iter(())


NO_ROOM = Cut(b"", ())
