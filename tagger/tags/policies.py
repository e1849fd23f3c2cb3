"""What a user may choose about the writing of a genre."""

from typing import Literal

#: What becomes of a song that has other names: it is passed over, or this name alone gets the new genre.
HardLinks = Literal["skip", "break"]
#: How several genres are put into ID3v2.3: joined by "; ", separated by NUL, or the first alone.
Multi = Literal["join", "null", "first"]
#: What becomes of the genres a song has: left alone, added to, or replaced.
Existing = Literal["keep", "append", "replace"]
