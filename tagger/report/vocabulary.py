"""What the genres in tags are to a run: by which names they are compared with what is heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tagger.pipeline.genres import canonical, genre_key
from tagger.report.document import Song


@dataclass(frozen=True)
class Pair:
    """A song's tag and what it is heard as, in one vocabulary."""

    reference: str
    predicted: str
    verdict: str  # "agrees", "differs" or "incomparable"
    is_sure: bool  # whether it would be written


@dataclass(frozen=True)
class Vocabulary:
    """By which names the genres in tags are compared with those of a run: the run's own as far as it has them."""

    #: The names a run can give, in the order of the model's genres.
    names: tuple[str, ...]
    #: Which of them is meant by a genre, by its key.
    by_key: Mapping[str, frozenset[str]]
    #: Which of them may be meant by one of `genres.canonical`.
    by_canonical: Mapping[str | None, frozenset[str]]
    #: How a genre is spelt most often, by its key.
    spelling: Mapping[str, str]

    @classmethod
    def of(cls, genres: Sequence[str], names: Mapping[str, str], spelling: Mapping[str, str]) -> Vocabulary:
        """The vocabulary of a run by a model of these genres that gives them the user's `names` (see `read_map`)."""
        given = {genre: names.get(genre) or genre for genre in genres}
        by_key: dict[str, frozenset[str]] = {}
        by_canonical: dict[str | None, frozenset[str]] = {}
        for genre, name in given.items():
            by_key[genre_key(name)] = by_key.get(genre_key(name), frozenset()) | {name}
            if known := canonical(genre) or canonical(name):
                by_canonical[known] = by_canonical.get(known, frozenset()) | {name}
        for genre, name in given.items():
            by_key.setdefault(genre_key(genre), frozenset({name}))
        return cls(tuple(dict.fromkeys(given.values())), by_key, by_canonical, spelling)

    def meant(self, genre: str) -> frozenset[str]:
        """The names of the run that this genre of a tag may mean; several when it is broader than they are."""
        none: frozenset[str] = frozenset()
        return self.by_key.get(genre_key(genre)) or self.by_canonical.get(canonical(genre), none)

    def called(self, genre: str) -> str:
        """What a genre of a tag is compared as: the run's name, else that of the canonical vocabulary, else its own."""
        meant = self.meant(genre)
        if len(meant) == 1:
            return next(iter(meant))
        return canonical(genre) or self.spelling.get(genre_key(genre), genre)

    def compare(self, song: Song) -> Pair:
        """What a song with a genre is heard as, sure or not, beside its tag.

        Of several genres those count on which they agree; else the first in the tag that the run knows, and the best.
        """
        predicted = song.predicted or (song.ranking[0][0],)
        meant = [self.meant(genre) for genre in song.reference]
        for name in predicted:
            if any(name in names for names in meant):
                return Pair(name, name, "agrees", bool(song.predicted))
        first = next((genre for genre, names in zip(song.reference, meant, strict=True) if names), song.reference[0])
        verdict = "differs" if any(meant) else "incomparable"
        return Pair(self.called(first), predicted[0], verdict, bool(song.predicted))
