"""Albums: songs that are to get one decision, made of all their snippets."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence

from tagger.errors import TagError
from tagger.tags.genre import Metadata, read_credits

logger = logging.getLogger(__name__)

DISC = re.compile(r"(cd|dis[ck]|medium)\W*\d+.*", re.IGNORECASE)  # what people call the folders of an album's discs
#: Artists of albums that are by nobody, as `_plain` spells them.
VARIOUS = frozenset({"various artists", "various", "va", "v.a.", "v/a", "verschiedene interpreten", "artistes divers"})
MOST_TOGETHER = 60  # songs of one folder that wait for each other: as many as a large set has; more is a heap


def album_folder(path: str | os.PathLike[str]) -> str:
    """The folder of the album that a song lies in: of one on a disc, the folder of the discs.

    >>> album_folder("/music/Ann/Rocks/CD 2/1.mp3")
    '/music/Ann/Rocks'
    """
    folder, name = os.path.split(os.path.dirname(os.path.abspath(path)))
    return folder if DISC.fullmatch(name) else os.path.join(folder, name)


def albums(paths: Sequence[str], read: Callable[[str], Metadata] = read_credits) -> list[list[int]]:
    """Which songs of one folder are one album, as places in `paths`; a song that is on none is left out.

    An album has one title and one artist of the album, or no title at all. One by several artists of whom none is the
    album's is a compilation, and none.
    """
    found: dict[tuple[str, str], list[tuple[int, Metadata]]] = defaultdict(list)
    for place, path in enumerate(paths):
        try:
            tags = read(path)
        except TagError:
            logger.debug("%s", path, exc_info=True)
            continue
        if _plain(tags.album_artist) not in VARIOUS:
            found[_plain(tags.album), _plain(tags.album_artist)].append((place, tags))
    return [[place for place, _ in songs] for songs in found.values() if len(songs) > 1 and not _is_compilation(songs)]


def _is_compilation(songs: Sequence[tuple[int, Metadata]]) -> bool:
    artists = {_plain(tags.artist) for _, tags in songs}
    return len(artists) > 1 and _plain(songs[0][1].album_artist) not in artists


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())
