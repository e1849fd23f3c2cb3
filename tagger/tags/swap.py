"""Safe replacement of a file: at every instant its name leads to the complete old or the complete new bytes."""

import contextlib
import ctypes
import errno
import logging
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from os import PathLike
from pathlib import Path

from tagger.atomic import TEMPORARY, sync_folder, temporary_name
from tagger.debug import suppress
from tagger.errors import TagError
from tagger.tags.containers import naming
from tagger.tags.policies import HardLinks

try:
    from fcntl import ioctl
except ImportError:  # Windows
    ioctl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

Announce = Callable[[bytes, bytes, os.stat_result], None]

# The whole file is held in memory, twice; no song comes near, an hour of 24-bit 192 kHz stereo WAV does.
MAX_BYTES = 2 << 30
SPARE_BYTES = 4 << 20  # what the file system may need beside the copy
STALE_SECONDS = 3600
_NO_ATTRIBUTES = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # of a file system that knows none
_COPYFILE_ACL, _COPYFILE_XATTR = 1, 4  # copyfile.h of macOS, where Python has no os.listxattr
_FS_IOC_GETFLAGS, _FS_IMMUTABLE, _FS_APPEND_ONLY = 0x80086601, 0x10, 0x20  # linux/fs.h


def check_writable(path: str | PathLike[str], hardlinks: HardLinks = "skip") -> None:
    """Return if the file may be replaced as far as can be told without reading it.

    Raises TagError (refused=False) for what a rename would ride over: a read-only file, also for root, hard links
    (the other names would keep the old bytes), an owner that cannot be kept.
    """
    with naming(path):
        # To follow folders that are links would ask for each of them.
        real = os.path.realpath(path) if os.path.islink(path) else os.fspath(path)
        status = os.stat(real)
        directory = os.path.dirname(real) or os.curdir
        if reason := _obstacle(real, status, directory, hardlinks):
            raise TagError(path, reason, refused=False)


def swap(
    path: str | PathLike[str],
    make: Callable[[bytes], bytes],
    *,
    announce: Announce | None = None,
    preserve_mtime: bool = False,
    hardlinks: HardLinks = "skip",
) -> bool:
    """Replace the file's bytes by what `make` returns for them: True, or False when they are the same.

    `announce(old, new, status)` is called when the new file lies ready on the disk, before it takes the name.
    Mode, owner, ACL and extended attributes stay, a symlink stays a symlink; the inode and birth time are new.
    Raises TagError, or the JournalError of `announce`, when the file is left as it was.
    """
    with naming(path):
        real = os.path.realpath(path)
        check_writable(real, hardlinks)
        status = os.stat(real)
        old = Path(real).read_bytes()
        new = make(old)
        if new == old:
            return False
        directory = os.path.dirname(real)
        usage = shutil.disk_usage(directory)
        if usage.total and usage.free < len(new) + SPARE_BYTES:  # file systems of FUSE need not know either
            raise TagError(path, "not enough free space beside it", is_lasting=False)
        _remove_stale(directory)
        temporary = os.path.join(directory, temporary_name())
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        opened = os.open(temporary, flags, 0o600)
        try:
            with open(opened, "wb") as file:
                file.write(new)
                file.flush()
                _carry_over(real, status, file.fileno(), temporary, preserve_mtime)
                os.fsync(file.fileno())
            _check_unchanged(real, status)
            if announce is not None:
                announce(old, new, status)
            _check_unchanged(real, status)
            _replace(temporary, real)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    return True


def _obstacle(real: str, status: os.stat_result, directory: str, hardlinks: HardLinks) -> str:
    """Why the file must not be replaced, or ""."""
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_nlink > 1 and hardlinks == "skip":
        return f"has {status.st_nlink} hard links"
    if not status.st_mode & 0o222 or not os.access(real, os.W_OK) or _is_immutable(real, status):
        return "read-only"
    if not os.stat(directory).st_mode & 0o222 or not os.access(directory, os.W_OK | os.X_OK):
        return "its directory is read-only"
    if status.st_size > MAX_BYTES:
        return f"larger than {MAX_BYTES >> 30} GiB"
    return "its owner or group could not be kept" if _would_change_owner(status, directory) else ""


def _is_immutable(real: str, status: os.stat_result) -> bool:
    flags = getattr(status, "st_flags", 0)  # macOS, BSD
    if ioctl is not None and sys.platform == "linux":
        with suppress(OSError), open(real, "rb", buffering=0) as file:
            flags = int.from_bytes(ioctl(file, _FS_IOC_GETFLAGS, bytes(8))[:4], sys.byteorder)
            return bool(flags & (_FS_IMMUTABLE | _FS_APPEND_ONLY))
    return bool(flags & (stat.UF_IMMUTABLE | stat.UF_APPEND | stat.SF_IMMUTABLE | stat.SF_APPEND))


def _would_change_owner(status: os.stat_result, directory: str) -> bool:
    """Whether a new file would belong to somebody else; asked of a nameless one, as mounts may invent owners."""
    if not hasattr(os, "O_TMPFILE") or os.geteuid() == 0:
        return False
    if (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid()):
        return False
    try:
        handle = os.open(directory, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except OSError:
        logger.debug("no nameless file in %s", directory, exc_info=True)
        return False  # a file system without nameless files: found out when the song is written
    try:
        return not _keep_owner(handle, status)
    finally:
        os.close(handle)


def _keep_owner(handle: int, status: os.stat_result) -> bool:
    """Give the open file the owner and group of the old one; whether it has them now."""
    if not hasattr(os, "fchown"):
        return True
    with suppress(OSError):
        os.fchown(handle, status.st_uid, status.st_gid)
    new = os.fstat(handle)
    return (new.st_uid, new.st_gid) == (status.st_uid, status.st_gid)


def _carry_over(real: str, status: os.stat_result, handle: int, temporary: str, preserve_mtime: bool) -> None:
    """Give the new file the owner, mode, ACL and attributes of the old one; TagError where that cannot be done."""
    if not _keep_owner(handle, status):
        raise TagError(real, "its owner or group could not be kept", refused=False)
    # By its handle where that can be done, not by its name, which somebody else may have put a link in place of.
    with suppress(OSError):
        os.chmod(handle if os.chmod in os.supports_fd else temporary, stat.S_IMODE(status.st_mode))
    if hasattr(os, "listxattr"):
        _carry_attributes_over(real, handle)
    if sys.platform == "darwin" and ctypes.CDLL(None).copyfile(
        os.fsencode(real), os.fsencode(temporary), None, _COPYFILE_ACL | _COPYFILE_XATTR
    ):
        raise TagError(real, "its attributes could not be kept", refused=False)
    if stat.S_IMODE(os.fstat(handle).st_mode) != stat.S_IMODE(status.st_mode):
        raise TagError(real, "its mode could not be kept", refused=False)
    if preserve_mtime:
        times = status.st_atime_ns, status.st_mtime_ns
        os.utime(handle if os.utime in os.supports_fd else temporary, ns=times)


def _carry_attributes_over(real: str, handle: int) -> None:
    """Give the new file the attributes and the ACL of the old one, and no ACL that its folder has for new files."""
    old = _attributes(real)
    for name in {**old, **_attributes(handle)}:
        try:
            if name in old:
                os.setxattr(handle, name, old[name])
            elif _is_users(name):
                os.removexattr(handle, name)
        except OSError as error:
            if _is_users(name):
                raise TagError(real, f"its attribute {name} could not be kept ({error})", refused=False) from error


def _attributes(file: str | int) -> dict[str, bytes]:
    """The extended attributes of a file, by its name or handle; TagError where they cannot be read."""
    found: dict[str, bytes] = {}
    try:
        names = os.listxattr(file)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return found
        raise TagError("", f"its attributes could not be read ({error.strerror})") from error
    for name in names:
        try:
            found[name] = os.getxattr(file, name)
        except OSError as error:
            is_systems = not _is_users(name) and error.errno in (errno.EACCES, errno.EPERM, errno.ENOTSUP)
            if error.errno != errno.ENODATA and not is_systems:  # gone meanwhile: `_check_unchanged` finds out
                raise TagError("", f"its attributes could not be read ({error.strerror})") from error
    return found


def _is_users(name: str) -> bool:
    """Whether an attribute is the user's and has to stay; the others are the system's own affair."""
    return name.startswith("user.") or name == "system.posix_acl_access"


def _check_unchanged(real: str, status: os.stat_result) -> None:
    now = os.stat(real)
    # The time of change too: taggers can keep size and modification time. (On Windows it is the time of birth.)
    if any(getattr(now, name) != getattr(status, name) for name in ("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")):
        raise TagError(real, "changed by another program meanwhile", is_lasting=False)


def _replace(temporary: str, real: str) -> None:
    for last in (False, False, True):
        try:
            os.replace(temporary, real)
            break
        except PermissionError as error:  # Windows: open in a player
            if last or os.name != "nt":
                raise TagError(real, "another program has it open", refused=False) from error
            time.sleep(1)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise TagError(real, "is a mount point", refused=False) from error
            raise
    sync_folder(os.path.dirname(real))


@lru_cache(maxsize=1024)  # a run goes folder by folder; a scan for each song would take ever longer in a large one
def _remove_stale(directory: str) -> None:
    """Remove what a killed run left behind, once in each folder."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    # Not by the time of modification, which a run under way may have set to that of the song.
                    if time.time() - entry.stat(follow_symlinks=False).st_ctime > STALE_SECONDS:
                        os.unlink(entry.path)
