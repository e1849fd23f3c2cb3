"""Genre vocabulary: what a checkpoint's outputs mean, the AudioSet table, other names, and the user's map file."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Gate:
    """Output columns that tell music from speech; a song that fails the gate is unsure, whatever genre fits best.

    The song fails when its mean probability of music is below `min_music`, or below that of speech.
    """

    music: int
    speech: int
    min_music: float = 0.3


@dataclass(frozen=True)
class GenreHead:
    """What the outputs of a checkpoint mean, and how sure they must be before a genre is written.

    `n_outputs` below is the width of the logits, (n_snippets, n_outputs); each field but the first two may be left out.
    """

    genres: tuple[str, ...]
    #: "softmax": one genre a song; "sigmoid": several; "margin": sigmoid of the lead over the best other genre,
    #: for scores that rank well but are no probabilities.
    scale: str
    #: Output columns that speak for each genre (the highest counts); None: column i is genre i.
    members: tuple[tuple[int, ...], ...] | None = None
    #: Divides a song's mean logits, fitted on held-out songs. None: confidences are not calibrated.
    temperature: float | None = None
    #: Least confidence at which each genre is written by default; math.inf: never by default.
    thresholds: tuple[float, ...] = ()
    #: Why these thresholds: one sentence, shown to the user.
    threshold_reason: str = ""
    gate: Gate | None = None
    #: Mean logit of every output column over unlabelled music, (n_outputs,), taken off before outputs are compared.
    bias: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.scale not in ("softmax", "sigmoid", "margin"):
            raise ValueError(f"scale must be softmax, sigmoid or margin, not {self.scale!r}")
        for field, values in (("members", self.members), ("thresholds", self.thresholds)):
            if values and len(values) != len(self.genres):
                raise ValueError(f"{field} must name {len(self.genres)} genres, not {len(values)}")


@cache
def audioset_head() -> GenreHead:
    """The 527 AudioSet outputs read as 20 canonical genres, behind a gate that tells music from speech.

    A genre speaks with its strongest member label; confidence is the lead over the runner-up, because AudioSet's
    raters used umbrella labels far less consistently than narrow ones, so that the scores rank well within a label
    but compare badly across labels (Gemmeke et al. 2017, ICASSP; label order of the AST authors' class table).
    """
    table = _read("audioset_genres.json")
    return GenreHead(
        genres=tuple(table["canonical"]),
        scale="margin",
        members=tuple(tuple(columns) for columns in table["canonical"].values()),
        gate=Gate(music=table["gate"]["music"], speech=table["gate"]["speech"]),
    )


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
    table, aliases = _read("audioset_genres.json"), _read("genre_aliases.json")
    return {
        genre_key(name): genre
        for genre, columns in table["canonical"].items()
        for name in (genre, *(table["names"][str(column)] for column in columns), *aliases[genre])
    }


def _read(name: str) -> Any:
    return json.loads(resources.files("tagger.pipeline").joinpath(name).read_text(encoding="utf-8"))


class MapError(Exception):
    """A map file that cannot be used: `path`, and `reason` with the line number."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def read_map(path: Path) -> dict[str, str]:
    """What the user wants each genre called, `{"Hip-Hop": "Rap", "Children's": ""}`; "" means never write it.

    One `Genre = Name` a line, letter case of the name kept as written; blank lines and lines that begin with # are
    passed over. Raises MapError.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(getattr(error, "strerror", error))
        raise MapError(path, reason) from error
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        genre, equals, name = (part.strip() for part in line.partition("="))
        if not equals or not genre:
            raise MapError(path, f"line {number}: expected 'Genre = Name', found {line.strip()!r}")
        if not name.isprintable():
            raise MapError(path, f"line {number}: a genre name cannot hold control characters")
        if genre in names:
            raise MapError(path, f"line {number}: {genre!r} is mapped twice")
        names[genre] = " ".join(name.split())
    return names


def check_map(path: Path, names: Iterable[str], head: GenreHead) -> None:
    """Raise MapError for a mapped genre the model does not have: it is a typo, or the map of another model."""
    for genre in names:
        if genre not in head.genres:
            raise MapError(path, f"the model has no genre {genre!r}; it has: {', '.join(head.genres)}")
