"""Which files under the user's folders, playlists and lists are songs."""

from __future__ import annotations

import codecs
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO
from urllib.request import url2pathname

logger = logging.getLogger(__name__)

SONG_SUFFIXES = frozenset({
    ".mp3", ".mp2", ".flac", ".ogg", ".oga", ".opus", ".spx", ".m4a", ".m4b", ".mp4", ".wma", ".wav",
    ".aif", ".aiff", ".aifc", ".wv", ".mpc", ".ape", ".tak", ".tta", ".dsf", ".dff",
})  # fmt: skip
#: Music whose tags cannot be written safely: named, not silently passed over.
UNSUPPORTED_SUFFIXES = {
    ".mka": "Matroska tags cannot be written safely",
    ".mkv": "video",
    ".webm": "Matroska tags cannot be written safely",
    ".m4p": "DRM-protected",
    ".m4v": "video",
    ".mov": "video",
    ".wmv": "video",
    ".aac": "raw AAC has no place for a genre",
    ".ac3": "raw AC-3 has no place for a genre",
    ".caf": "CAF tags cannot be written safely",
    ".au": "AU has no place for a genre",
    ".w64": "Wave64 tags cannot be written safely",
    ".rf64": "RF64 tags cannot be written safely",
    ".ofr": "OptimFROG's author keeps the format to himself: no FFmpeg decodes it",
}
PLAYLIST_SUFFIXES = frozenset({".m3u", ".m3u8"})
#: Byte order mark of a playlist or list -> the encoding behind it; those that begin like another stand before it.
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
#: A folder that holds one of these files is left alone, with all below it.
MARKER_FILES = frozenset({".nomusic", ".nomedia", ".notmusic"})
#: Folders of thumbnails, recycled and old files that servers and systems keep (matched against lower case).
SYSTEM_FOLDERS = ("@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information")


@dataclass(frozen=True)
class Found:
    """A file the user pointed at: a song to classify, or one that is passed over and why."""

    path: Path
    #: "" for a song; else why it is not classified.
    problem: str = ""
    #: True when the user asked for this very path and it cannot be had; False when it is only passed over.
    failed: bool = False
    #: (device, inode) of a song: one file under two names is one song. None where the file system numbers no files.
    file: tuple[int, int] | None = None
    #: What a song is known by that is no file; `path` leads nowhere then.
    uri: str = ""

    @property
    def where(self) -> Path | str:
        """The path of the song, or its URI."""
        return self.uri or self.path


def find_songs(
    paths: Iterable[str],
    exclude: Sequence[str] = (),
    stdin: BinaryIO | None = None,
    on_empty: Callable[[str], None] | None = None,
) -> Iterator[Found]:
    """Songs under folders, files, playlists (.m3u, .m3u8) and `-` (paths on `stdin`), in library order, each once.

    Files of a folder come sorted by name, then its subfolders. Linked folders are not followed, linked songs are;
    a song reached twice is given once. Names that match an `exclude` glob (of the name, or of the path below the given
    folder) are passed over, as are hidden files and folders, system folders, folders with a marker file, and
    everything that is not music. `on_empty` is told of each path with nothing at all in it.
    """
    seen: set[tuple[int, int]] = set()
    for path in paths:
        for found in noticing(_expand(path, exclude, stdin), path, on_empty):
            if found.file in seen:
                continue
            if found.file is not None:
                seen.add(found.file)
            yield found


def common_folder(folders: Iterable[str]) -> str:
    """The folder that all of these are in; the current one where there is none: of no folders, or several drives."""
    try:
        return os.path.commonpath([os.path.abspath(folder) for folder in folders])
    except ValueError:
        return os.getcwd()


def noticing(found: Iterable[Found], path: str, on_empty: Callable[[str], None] | None) -> Iterator[Found]:
    """What was found at a path; `on_empty` is told of it when that is nothing."""
    is_empty = True
    for each in found:
        is_empty = False
        yield each
    if is_empty and on_empty is not None:
        on_empty(path)


def _expand(path: str, exclude: Sequence[str], stdin: BinaryIO | None) -> Iterator[Found]:
    if path == "-":
        try:
            paths = read_paths(stdin.read() if stdin else b"")
        except UnicodeError:
            logger.debug("standard input is no list", exc_info=True)
            yield Found(Path(path), "list cannot be read: neither UTF-8 nor UTF-16 with a mark", failed=True)
            return
        for listed in paths:
            if listed != "-":
                yield from _expand(listed, exclude, None)
    elif os.path.isdir(path):
        yield from _walk(Path(path), exclude)
    elif Path(path).suffix.lower() in PLAYLIST_SUFFIXES:
        yield from _read_playlist(Path(path))
    else:
        yield _look_at(Path(path), asked_for=True)


def _look_at(path: Path, asked_for: bool) -> Found:
    """What a path is that is not a folder; only the file system is asked, nothing is opened."""
    suffix = path.suffix.lower()
    try:
        status = path.stat()
    except FileNotFoundError:
        return Found(path, "dangling link" if path.is_symlink() else "no such file or folder", asked_for)
    except OSError as error:  # a link loop, a name too long, a folder that may not be searched
        logger.debug("%s cannot be looked at", path, exc_info=True)
        return Found(path, error.strerror or str(error), asked_for)
    except ValueError:  # a NUL in the name, from a list
        logger.debug("%s cannot be looked at", path, exc_info=True)
        return Found(path, "no such file or folder", asked_for)
    if not stat.S_ISREG(status.st_mode):
        return Found(path, "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    if suffix in UNSUPPORTED_SUFFIXES:
        return Found(path, UNSUPPORTED_SUFFIXES[suffix])
    if suffix not in SONG_SUFFIXES:
        return Found(path, f"not a music file: {suffix or 'no'} extension")
    return Found(path, file=(status.st_dev, status.st_ino) if status.st_ino else None)


def _walk(root: Path, exclude: Sequence[str]) -> Iterator[Found]:
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: (entry.name.casefold(), entry.name))
        except OSError as error:
            logger.debug("%s cannot be listed", folder, exc_info=True)
            yield Found(folder, f"folder cannot be read: {error.strerror or error}", failed=folder == root)
            continue
        if any(entry.name.casefold() in MARKER_FILES for entry in entries):
            continue
        folders = []
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith(".") or (exclude and _matches(path.relative_to(root), exclude)):
                continue
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.casefold().startswith(SYSTEM_FOLDERS):
                    folders.append(path)
            elif path.suffix.lower() in SONG_SUFFIXES or path.suffix.lower() in UNSUPPORTED_SUFFIXES:
                is_folder = entry.is_symlink() and os.path.isdir(path)  # a linked one that is named like a song
                if not is_folder:
                    yield _look_at(path, asked_for=False)
        pending.extend(reversed(folders))


def _matches(relative: Path, globs: Sequence[str]) -> bool:
    return any(
        fnmatchcase(relative.name, glob.rstrip("/")) or fnmatchcase(relative.as_posix(), glob.rstrip("/"))
        for glob in globs
    )


def read_paths(data: bytes) -> list[str]:
    r"""Paths of a list, one a line, or NUL-separated when there is a NUL in it (as `find -print0` writes).

    Raises UnicodeError for UTF-16 without a byte order mark: its characters would be taken for paths.

    >>> read_paths(b"a.mp3\r\n\nb c.flac\n"), read_paths(b"new\nline.mp3\0b.flac\0")
    (['a.mp3', 'b c.flac'], ['new\nline.mp3', 'b.flac'])
    """
    data = _in_utf8(data)
    names = [name for name in data.split(b"\0") if name]
    if b"\0" not in data:
        names = [line for each in data.split(b"\n") if (line := each.removesuffix(b"\r"))]
    elif b"\n" in names or (b"." in names and len(names) > 2 and max(map(len, names)) == 1):
        raise UnicodeError("UTF-16 without a mark")
    return [os.fsdecode(name) for name in names]


def _in_utf8(text: bytes) -> bytes:
    """A text in UTF-8 if a byte order mark says what it is in, else as it is. Raises UnicodeError."""
    for mark, encoding in MARKS.items():
        if text.startswith(mark):
            text = text.removeprefix(mark)
            return text if encoding == "utf-8" else text.decode(encoding).encode()
    return text


def _read_playlist(playlist: Path) -> Iterator[Found]:
    """Entries of an M3U playlist, relative ones from the playlist's folder; links to streams are passed over."""
    if os.path.exists(playlist) and not os.path.isfile(playlist):  # a FIFO would be waited for
        yield _look_at(playlist, asked_for=True)
        return
    try:
        lines = _in_utf8(playlist.read_bytes()).splitlines()
        if lines and 2 * sum(b"\0" in line for line in lines) >= len(lines):
            raise UnicodeError("binary, or UTF-16 without a mark")
    except (OSError, UnicodeError) as error:
        logger.debug("%s cannot be read", playlist, exc_info=True)
        reason = (
            "neither UTF-8 nor UTF-16 with a mark" if isinstance(error, UnicodeError) else error.strerror or str(error)
        )
        yield Found(playlist, f"playlist cannot be read: {reason}", failed=True)
        return
    for line in lines:
        entry = os.fsdecode(line.strip())
        if not entry or entry.startswith("#"):
            continue
        if entry.startswith("file://"):
            yield _look_at(Path(url2pathname("/" + entry.removeprefix("file://").partition("/")[2])), asked_for=True)
        elif "://" in entry:
            yield Found(Path(entry), "a stream, not a file")
        else:
            # As written; made on Windows; made where names were Latin-1. None there: report it as written.
            spellings = (entry, entry.replace("\\", "/"), line.strip().decode("latin-1"))
            paths = [playlist.parent / spelling for spelling in spellings]
            yield _look_at(next((path for path in paths if os.path.exists(path)), paths[0]), asked_for=True)


def limited(found: Iterable[Found], limit: int | None) -> list[Found]:
    """What was found, up to that many songs; None: all."""
    songs = []
    n_songs = 0
    for each in found:
        if n_songs == limit:
            break
        songs.append(each)
        n_songs += not each.problem
    return songs
