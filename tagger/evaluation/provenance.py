"""Whose genre it is: what a person gave a song, told from what this program wrote and nobody changed since."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike

from tagger.errors import JournalError
from tagger.tags.undo import Written, written_songs

Genres = tuple[str, ...]


@dataclass(frozen=True)
class Provenance:
    """What this program wrote, as its journals tell. They know a song by its path: one that was moved is a person's."""

    #: Path and the genres that were written there -> those that the song had before.
    before: dict[tuple[str, Genres], Genres]

    @classmethod
    def of(cls, writes: Iterable[Written]) -> Provenance:
        """By what was written, the oldest first."""
        before: dict[tuple[str, Genres], Genres] = {}
        for each in writes:
            before.setdefault((each.path, each.after), each.before)
        return cls(before)

    @classmethod
    def read(
        cls,
        state: str | PathLike[str] | None = None,
        on_damage: Callable[[JournalError], None] = lambda error: None,
    ) -> Provenance:
        """By the journals in the given folder for state, or the user's; `on_damage` is told of each unreadable one."""
        return cls.of(written_songs(state, on_damage))

    def persons(self, path: str | PathLike[str], genres: Sequence[str]) -> Genres:
        """Those of a song's genres that a person gave.

        What was written stands as long as the song has exactly that; of it a person's are those that the song had
        before, if it has them still.
        """
        place, left, seen = os.path.abspath(path), tuple(genres), set[Genres]()
        now = left
        while (place, now) in self.before and now not in seen:
            seen.add(now)
            now = self.before[place, now]
            left = tuple(genre for genre in left if genre in now)
        return () if now in seen else left


#: That of a library in which this program wrote nothing.
NOTHING_WRITTEN = Provenance({})
