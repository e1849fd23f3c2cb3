"""Songs for a cluster: folders and playlists, lists of millions, and whatever fsspec opens.

A manifest is a Parquet or CSV file with a column `uri` (or `path`). A URI that names a file system which nodes see
(`file://`) is a path; all others (`s3://`, `https://`, `zip://a.mp3::/archive.zip`, ...) are fetched to be classified.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import quote, unquote_to_bytes

from tagger.audio.library import SONG_SUFFIXES, Found, find_songs, noticing
from tagger.errors import AudioError
from tagger.text import one_line

logger = logging.getLogger(__name__)

MANIFEST_SUFFIXES = frozenset({".parquet", ".csv"})
COLUMNS = ("uri", "path")
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # one letter is a drive


def find_everywhere(
    paths: Iterable[str],
    exclude: Sequence[str] = (),
    stdin: BinaryIO | None = None,
    on_empty: Callable[[str], None] | None = None,
) -> Iterator[Found]:
    """What `library.find_songs` finds, and the songs of manifests and of URIs: one song, or all below it.

    What a manifest names is not looked for: whether it is there is found out where it is classified.
    """
    for path in paths:
        if URI.match(path):
            yield from noticing(_below(path), path, on_empty)
        elif Path(path).suffix.lower() in MANIFEST_SUFFIXES and os.path.isfile(path):
            yield from noticing(_listed(Path(path)), path, on_empty)
        else:
            yield from find_songs([path], exclude, stdin, on_empty)


def locate(name: str) -> Path | str:
    """Where a song is that goes by this name: a path for a file system that nodes see, else the URI as it is."""
    if name.startswith("file://"):
        return Path(os.fsdecode(unquote_to_bytes("/" + name.removeprefix("file://").partition("/")[2])))
    return name if URI.match(name) else Path(os.path.abspath(name))


def name_of(where: Path | str) -> str:
    """The name that `locate` finds a song by, in UTF-8 whatever its path: that of its results."""
    if isinstance(where, str):
        return where
    path = os.path.abspath(where)
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + quote(os.fsencode(path))
    return path


def fetch(uri: str, target: str) -> None:
    """Copy what lies at the URI into a file. Raises AudioError."""
    import fsspec

    try:
        with fsspec.open(uri, "rb") as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except Exception as error:  # each file system has its own
        raise AudioError(uri, f"cannot be fetched: {_reason(error)}") from error


def suffix_of(uri: str) -> str:
    """The extension of what a URI names; of a chain (`zip://a.mp3::/archive.zip`) what lies innermost."""
    return PurePosixPath(uri.partition("::")[0].partition("?")[0]).suffix.lower()


def _below(uri: str) -> Iterator[Found]:
    where = locate(uri)
    if isinstance(where, Path):
        yield from find_songs([str(where)])
        return
    if suffix_of(uri) in SONG_SUFFIXES:
        yield _found(where)
        return
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(uri)
        for name in sorted(system.find(root)):
            if PurePosixPath(name).suffix.lower() in SONG_SUFFIXES:
                yield _found(system.unstrip_protocol(name))
    except Exception as error:
        logger.debug("%s cannot be listed", uri, exc_info=True)
        yield replace(_found(uri), problem=f"cannot be listed: {_reason(error)}", failed=True)


def _found(where: Path | str) -> Found:
    return Found(where) if isinstance(where, Path) else Found(Path(where), uri=where)


def _listed(manifest: Path) -> Iterator[Found]:
    try:
        for name in _names(manifest):
            # As in a playlist: from where the list is.
            yield _found(locate(name if URI.match(name) else os.path.join(manifest.parent, name)))
    except (OSError, ValueError) as error:  # Arrow's errors are kinds of both
        logger.debug("%s cannot be read", manifest, exc_info=True)
        yield Found(manifest, f"manifest cannot be read: {_reason(error)}", failed=True)


def _names(manifest: Path) -> Iterator[str]:
    import pyarrow.csv
    import pyarrow.parquet

    if manifest.suffix.lower() == ".parquet":
        file = pyarrow.parquet.ParquetFile(manifest)
        column = _column(file.schema_arrow.names)
        batches = file.iter_batches(columns=[column])
    else:
        batches = pyarrow.csv.open_csv(manifest)
        column = _column(batches.schema.names)
    for batch in batches:
        yield from (str(name) for name in batch.column(column).to_pylist() if name)


def _column(names: Sequence[str]) -> str:
    found = [name for name in COLUMNS if name in names]
    if not found:
        raise ValueError("it has neither a column uri nor path")
    return found[0]


def _reason(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, (FileNotFoundError, KeyError)):  # those of fsspec say only where; an archive's are KeyErrors
        return "no such file"
    return one_line(error)
