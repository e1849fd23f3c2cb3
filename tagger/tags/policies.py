"""How a genre is written: the options, a default and a reason each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What becomes of the genres a song has: left alone, added to, or replaced.
Existing = Literal["keep", "append", "replace"]
#: The status of a song that has other names: it is passed over, or this name alone gets the new genre.
HardLinks = Literal["skip", "break"]
#: How several genres are put into ID3v2.3: joined by "; ", separated by NUL, or the first alone.
Multi = Literal["join", "null", "first"]


@dataclass(frozen=True)
class WriteOptions:
    """How genres are written."""

    existing: Existing = "keep"  # a genre somebody chose outweighs a guess
    separator: str | None = None  # genres are values of their own wherever a tag has room for several
    id3v23_multi: Multi = "join"  # ID3v2.3 has room for one genre; joined by "; " nothing is lost in any player
    hardlinks: HardLinks = "skip"  # the other names would keep the old tags, and take the room of a second copy
    preserve_mtime: bool = False  # music servers find changed files by it
