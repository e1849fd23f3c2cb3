"""Files of our own that are replaced as a whole."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tagger.debug import suppress

#: Names of files on their way to their place: hidden and not named as audio, so scanners and sync tools pass by.
TEMPORARY = re.compile(r"\.gtag-[0-9a-f]{16}\.tmp")


def temporary_name() -> str:
    """A name as TEMPORARY, which no file has yet."""
    return f".gtag-{secrets.token_hex(8)}.tmp"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write what `path` shall hold; at every instant there is all of the old or all of the new.

    It takes its place, and is on the disk, when the block ends; when the block raises, `path` stays as it was. Mode
    and owner stay, a symlink stays a symlink. What is no file with a name (a pipe, /dev/stdout) is written to as it
    is. Raises OSError, also for a file that may not be written. Songs are replaced by `tags.swap`, which keeps far
    more of them.
    """
    real, old = Path(os.path.realpath(path)), _status(path)
    if old is not None and not _is_file_of_that_name(real, old):
        with path.open("wb") as file:
            yield file
        return
    temporary = real.with_name(temporary_name())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(temporary, flags, 0o666 if old is None else 0o600), "wb") as file:
            yield file
            file.flush()
            if old is not None:
                _carry_over(old, file.fileno(), temporary)
            os.fsync(file.fileno())
        os.replace(temporary, real)
        sync_folder(real.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _status(path: Path) -> os.stat_result | None:
    """What is there, None for nothing; raises OSError for what may not be written."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return status


def _is_file_of_that_name(path: Path, status: os.stat_result) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(status.st_mode) and os.path.samestat(path.stat(), status)
    return False  # as of /dev/stdout, where it was opened and its name taken away


def _carry_over(old: os.stat_result, handle: int, temporary: Path) -> None:
    if hasattr(os, "fchown") and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        with suppress(OSError):  # another's file is the writer's own from now on, where the system has it so
            os.fchown(handle, old.st_uid, old.st_gid)
    os.chmod(handle if os.chmod in os.supports_fd else temporary, stat.S_IMODE(old.st_mode))


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Put the names in a folder on the disk, where the file system can (Windows and some network mounts cannot)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
