"""Playlists of a report on a library: one for each predicted genre, and one each of the songs that need a look."""

from __future__ import annotations

import logging
import os
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from tagger.atomic import replacing
from tagger.audio.library import SONG_SUFFIXES
from tagger.debug import suppress
from tagger.errors import OutputError
from tagger.report.document import Song
from tagger.report.library import disagreements

logger = logging.getLogger(__name__)

SUFFIX = ".m3u8"
#: The second line of a playlist of ours: its name and a checksum. One that was changed or renamed is the user's.
MARK = b"#genre-tag "
#: Names that Windows keeps for devices, with any suffix (Microsoft, "Naming Files, Paths, and Namespaces").
DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³")})
LONGEST_NAME = 120  # bytes of a genre in a file name: file systems take 255, encrypted ones 143


@dataclass(frozen=True)
class Written:
    """The playlists that were written and removed."""

    files: tuple[Path, ...]
    #: Playlists of ours that an earlier report left and this one has no songs for.
    removed: tuple[Path, ...]
    #: Songs whose paths no UTF-8 playlist can hold.
    left_out: tuple[str, ...]


def write_playlists(folder: Path, songs: Sequence[Song], wrong: Sequence[Song] = ()) -> Written:
    """Write the playlists of `songs` into `folder`, which is made if it is not there, in place of earlier ones.

    `wrong` are those whose tags seem wrong, the surest first.

    Songs are named from the folder, or whole where they lie on another drive. No file is overwritten but a playlist
    that is as this function wrote it. Raises OutputError, for one that is not before anything is written.
    """
    left_out: dict[str, None] = {}
    files: dict[Path, bytes] = {}
    for name, listed in playlists(songs, wrong).items():
        entries = {song.path: _entry(song.path, folder) for song in listed}
        left_out |= dict.fromkeys(path for path, entry in entries.items() if entry is None)
        file = folder / (name + SUFFIX)
        files[file] = _playlist(file.name, [entry for entry in entries.values() if entry is not None])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            if os.path.lexists(file) and not _is_ours(file):
                raise OutputError(file, "is no playlist as genre-tag left it: move it away, or name another folder")
        old = [file for file in sorted(folder.glob(f"*{SUFFIX}")) if file not in files and _is_ours(file)]
        for file, data in files.items():
            with replacing(file) as out:
                out.write(data)
        # What differs from a new name in letter case alone is the same file to some file systems.
        new = {_number(file) for file in files}
        removed = [file for file in old if _number(file) not in new]
        for file in removed:
            file.unlink()
    except OSError as error:
        raise OutputError(Path(error.filename or folder), error.strerror or str(error)) from error
    return Written(tuple(files), tuple(removed), tuple(left_out))


def playlists(songs: Sequence[Song], wrong: Sequence[Song] = ()) -> dict[str, list[Song]]:
    """Songs by the name of their playlist, without suffix; those of songs to look at may be empty, but `wrong`."""
    found = {
        "unsure": [song for song in songs if song.status == "unsure"],
        "failed": [song for song in songs if song.status == "failed" and _is_music(song.path)],
        "disagree": disagreements(songs),
    } | ({"wrong tags": list(wrong)} if wrong else {})
    by_genre: dict[str, list[Song]] = defaultdict(list)
    for song in songs:
        for genre in song.predicted:
            by_genre[genre].append(song)
    for genre, name in file_names(by_genre, taken=found).items():
        found[name] = by_genre[genre]
    return found


def file_names(genres: Iterable[str], taken: Iterable[str] = ()) -> Mapping[str, str]:
    """For each genre a name that is a file's on every system, and no other's, not even in other letter case.

    >>> file_names(["R&B / Soul", "CON", "..", "rock", "Rock"])
    {'..': '_', 'CON': '_CON', 'R&B / Soul': 'R&B - Soul', 'Rock': 'Rock', 'rock': 'rock (2)'}
    """
    used = {_folded(name) for name in taken}
    names = {}
    for genre in sorted(genres):
        plain = name = _file_name(genre)
        number = 1
        while _folded(name) in used:
            number += 1
            name = f"{plain} ({number})"
        used.add(_folded(name))
        names[genre] = name
    return names


def _file_name(genre: str) -> str:
    spelt = unicodedata.normalize("NFC", genre)
    harmless = "".join("-" if each in '<>:"/\\|?*' or not each.isprintable() else each for each in spelt)
    cut = harmless.encode()[:LONGEST_NAME].decode(errors="ignore")
    name = cut.lstrip(". ").rstrip(". ") or "_"
    return f"_{name}" if name.partition(".")[0].rstrip().casefold() in DEVICES else name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name.casefold())


def _is_music(path: str) -> bool:
    """Whether it is a song that failed, not a folder or something that was never there."""
    return PurePath(path).suffix.lower() in SONG_SUFFIXES


def _entry(path: str, folder: Path) -> str | None:
    """The line that names a song in a playlist in `folder`; None where no line can."""
    path = os.path.abspath(path)
    with suppress(ValueError):  # on another drive
        path = PurePath(os.path.relpath(path, os.path.realpath(folder))).as_posix()  # understood everywhere
    try:
        path.encode()
    except UnicodeEncodeError:
        return None
    if "\n" in path or "\r" in path:
        return None
    return f"./{path}" if path.startswith("#") or path != path.lstrip() else path  # else a comment; else stripped


def _playlist(name: str, entries: Sequence[str]) -> bytes:
    """The bytes of a playlist that is to be called `name`."""
    title = name.removesuffix(SUFFIX)
    body = "".join(f"{line}\n" for line in (f"#PLAYLIST:{title}", *entries)).encode()
    return b"#EXTM3U\n" + _mark(name, body) + body


def _mark(name: str, body: bytes) -> bytes:
    return MARK + f"{zlib.crc32(_folded(name).encode() + body):08x}\n".encode()


def _is_ours(file: Path) -> bool:
    """Whether it is a playlist as we wrote it: under this name, and nothing in it was changed."""
    if not file.is_file() or file.is_symlink():
        return False
    try:
        lines = file.read_bytes().split(b"\n", 2)
    except OSError:
        logger.debug("%s", file, exc_info=True)
        return False
    return len(lines) == 3 and lines[0] == b"#EXTM3U" and lines[1] + b"\n" == _mark(file.name, lines[2])


def _number(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_dev, status.st_ino
