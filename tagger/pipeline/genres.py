"""Genre vocabulary: what a checkpoint's outputs mean, the AudioSet table, other names, and the user's map file."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path

from tagger.errors import SettingsError
from tagger.models.head import GenreHead, audioset_genres


def canonical(genre: str) -> str | None:
    """What the vocabulary calls a genre that somebody has named, one of the 20 of `audioset_head`; None if nothing.

    Letter case, accents, blanks and punctuation do not count. Known are the AudioSet labels, and names from ID3v1 and
    Winamp, Discogs, MusicBrainz and the shops; not known are those that stand for no genre or for several
    ("Oldies", "Acoustic", "Hardcore").

    >>> canonical("hip hop"), canonical("R&B"), canonical("Drum'n'Bass"), canonical("Folk, World, & Country")
    ('Hip-Hop', 'Soul', 'Electronic', 'Folk')
    """
    return _canonical_names().get(genre_key(genre))


def genre_key(genre: str) -> str:
    """The letters and digits of a genre's name, by which two spellings are known to be one.

    >>> genre_key("Drum & Bass") == genre_key("drum-and-bass")
    True
    """
    spelt_out = unicodedata.normalize("NFKD", genre.replace("&", " and ").replace("+", " and ")).casefold()
    return "".join(character for character in spelt_out if character.isalnum()) or spelt_out.strip()


@cache
def _canonical_names() -> dict[str, str]:
    table, aliases = audioset_genres(), _aliases()
    return {
        genre_key(name): genre
        for genre, columns in table["canonical"].items()
        for name in (genre, *(table["names"][str(column)] for column in columns), *aliases[genre])
    }


def _aliases() -> dict[str, list[str]]:
    names: dict[str, list[str]] = json.loads(
        resources.files("tagger.pipeline").joinpath("genre_aliases.json").read_text(encoding="utf-8")
    )
    return names


def read_map(path: Path) -> dict[str, str]:
    """What the user wants each genre called, `{"Hip-Hop": "Rap", "Children's": ""}`; "" means never write it.

    One `Genre = Name` a line, letter case of the name kept as written; blank lines and lines that begin with # are
    passed over. Raises SettingsError.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(getattr(error, "strerror", error))
        raise SettingsError(path, reason) from error
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        genre, equals, name = (part.strip() for part in line.partition("="))
        if not equals or not genre:
            raise SettingsError(path, f"line {number}: expected 'Genre = Name', found {line.strip()!r}")
        if not name.isprintable():
            raise SettingsError(path, f"line {number}: a genre name cannot hold control characters")
        if genre in names:
            raise SettingsError(path, f"line {number}: {genre!r} is mapped twice")
        names[genre] = " ".join(name.split())
    return names


def check_map(path: Path, names: Iterable[str], head: GenreHead) -> None:
    """Raise SettingsError for a mapped genre the model does not have: it is a typo, or the map of another model."""
    for genre in names:
        if genre not in head.genres:
            raise SettingsError(path, f"the model has no genre {genre!r}; it has: {', '.join(head.genres)}")
