"""Tags as lists of opaque raw pieces, of which the genre's are replaced: everything else goes through byte for byte.

Each kind of tag (`KINDS`) knows how to cut its bytes into pieces, which of them hold the genre, what they say, how new
ones are made, and how a tag is put together again. Whether anybody can parse the other pieces is of no matter.
"""

from collections.abc import Sequence

from tagger.tags.pieces.ape import APE
from tagger.tags.pieces.asf import ASF, ASF_LIBRARY
from tagger.tags.pieces.id3 import ID3V1, ID3V2
from tagger.tags.pieces.kind import Cut, Kind
from tagger.tags.pieces.mp4 import ILST, QUICKTIME
from tagger.tags.pieces.riff import DIIN, INFO
from tagger.tags.pieces.vorbis import VORBIS

KINDS = {
    "id3": ID3V2, "id3v1": ID3V1, "vorbis": VORBIS, "mp4": ILST, "mp4 keys": ILST, "qt": QUICKTIME, "asf": ASF,
    "asf library": ASF_LIBRARY, "ape": APE, "info": INFO, "diin": DIIN,
}  # fmt: skip


def with_genre(kind: Kind, cut: Cut, values: Sequence[str], more: Sequence[bytes] = ()) -> bytes:
    """The tag's bytes with these values for its genre, none for (); `more` are pieces to put in front of it."""
    old = [piece for piece in cut.pieces if kind.is_genre(cut, piece)]
    made = [*more, *(kind.make(cut, old, values) if values else ())]
    first = next((i for i, piece in enumerate(cut.pieces) if kind.is_genre(cut, piece)), len(cut.pieces))
    at = min(first, kind.reach(cut))
    kept = [[p for p in part if not kind.is_genre(cut, p)] for part in (cut.pieces[:at], cut.pieces[at:])]
    return kind.join(cut, [*kept[0], *made, *kept[1]])


def genre_values(kind: Kind, cut: Cut) -> tuple[str, ...]:
    """What is stored for the genre, in order."""
    return tuple(kind.values(cut, [piece for piece in cut.pieces if kind.is_genre(cut, piece)]))


def others(kind: Kind, cut: Cut) -> list[bytes]:
    """The pieces that hold something else."""
    return [piece for piece in cut.pieces if piece.strip(b"\0") and not kind.is_genre(cut, piece)]
