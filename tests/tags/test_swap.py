"""Replacing a file: all that belongs to it stays, and whatever goes wrong leaves the old one."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tagger.errors import TagError
from tagger.tags import swap as swap_module
from tagger.tags.swap import STALE_SECONDS, check_writable, swap

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
needs_attributes = pytest.mark.skipif(not hasattr(os, "listxattr"), reason="needs extended attributes")
root_only = pytest.mark.skipif(not IS_ROOT, reason="needs root to make files of another user")


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.mp3"
    path.write_bytes(b"old")
    return path


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder everybody may enter, other than pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def to_new(old: bytes) -> bytes:
    return b"new" if old == b"old" else old


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_child(work: Callable[[], object], uid: int | None = None) -> int:
    """The exit code of that work in a child process: 0, 1 for TagError (refused), 2 for TagError (skipped), 3."""
    pid = os.fork()
    if pid == 0:
        try:
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            work()
            os._exit(0)
        except TagError as error:
            os._exit(1 if error.refused else 2)
        finally:
            os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_file_is_replaced_once(song: Path) -> None:
    assert swap(song, to_new) is True
    assert song.read_bytes() == b"new"
    inode = song.stat().st_ino
    assert swap(song, to_new) is False
    assert song.stat().st_ino == inode
    assert left(song.parent) == ["song.mp3"]


def test_the_announcement_comes_before_the_name_changes(song: Path) -> None:
    seen = []

    def announce(old: bytes, new: bytes, status: os.stat_result) -> None:
        (temporary,) = song.parent.glob(".gtag-*.tmp")
        seen.append((old, new, status.st_size, song.read_bytes(), temporary.read_bytes(), len(temporary.name)))

    assert swap(song, to_new, announce=announce)
    assert seen == [(b"old", b"new", 3, b"old", b"new", 26)]
    seen.clear()
    assert not swap(song, to_new, announce=announce) and not seen


@pytest.mark.parametrize("error", [ValueError("x"), OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), MemoryError()])
def test_an_error_at_any_moment_leaves_the_old_file(song: Path, error: BaseException) -> None:
    def fail(*args: object) -> bytes:
        raise error

    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else TagError
    for options in ({"make": fail}, {"make": to_new, "announce": fail}):
        with pytest.raises(expected) as caught:
            swap(song, **options)  # type: ignore[arg-type]
        assert song.read_bytes() == b"old" and left(song.parent) == ["song.mp3"]
        if isinstance(caught.value, TagError):
            assert caught.value.refused and caught.value.path == song and caught.value.__cause__ is error


@posix
def test_mode_and_attributes_stay(song: Path) -> None:
    song.chmod(0o640)
    os.utime(song, ns=(1, 1_234_567_890_123_456_789))
    try:
        os.setxattr(song, "user.note", b"mine")
    except (AttributeError, OSError):
        pytest.skip("no extended attributes here")
    swap(song, to_new)
    assert stat.S_IMODE(song.stat().st_mode) == 0o640
    assert os.getxattr(song, "user.note") == b"mine"
    assert time.time() - song.stat().st_mtime < 1000


@needs_attributes
@pytest.mark.parametrize(("name", "is_kept"), [("security.selinux", False), ("user.note", True)])
def test_an_attribute_that_cannot_be_set(song: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_kept: bool) -> None:
    """The user's are kept or the song is passed over; those of the system are its own affair."""
    error = OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "listxattr", lambda path: [name])
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"mine")
    monkeypatch.setattr(os, "setxattr", refuse)
    if is_kept:
        with pytest.raises(TagError, match=r"user\.note could not be kept") as caught:
            swap(song, to_new)
        assert not caught.value.refused and song.read_bytes() == b"old" and left(song.parent) == ["song.mp3"]
    else:
        assert swap(song, to_new)


@needs_attributes
@pytest.mark.parametrize("asked", ["listxattr", "getxattr"])
@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.E2BIG])
def test_attributes_that_cannot_be_read_are_not_taken_for_none(
    song: Path, monkeypatch: pytest.MonkeyPatch, asked: str, error: int
) -> None:
    def refuse(path: str, name: str = "") -> bytes:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "listxattr", lambda path: ["user.note"])
    monkeypatch.setattr(os, asked, refuse)
    with pytest.raises(TagError, match="attributes could not be read") as caught:
        swap(song, to_new)
    assert os.strerror(error) in caught.value.reason and caught.value.refused
    assert song.read_bytes() == b"old" and left(song.parent) == ["song.mp3"]


@needs_attributes
@pytest.mark.parametrize(
    ("asked", "name", "error"),
    [
        ("listxattr", "", errno.ENOTSUP),
        ("listxattr", "", errno.ENOSYS),
        ("getxattr", "security.foreign", errno.EACCES),  # of the system, and its own affair
        ("getxattr", "user.note", errno.ENODATA),  # gone since it was listed, which shows in the time of change
    ],
)
def test_a_file_system_without_attributes_has_none(
    song: Path, monkeypatch: pytest.MonkeyPatch, asked: str, name: str, error: int
) -> None:
    def refuse(path: str, name: str = "") -> bytes:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "listxattr", lambda path: [name])
    monkeypatch.setattr(os, asked, refuse)
    assert swap(song, to_new) and song.read_bytes() == b"new"


@needs_attributes
def test_the_default_acl_of_a_folder_does_not_come_upon_a_song_without_one(song: Path) -> None:
    """Somebody who may enter the folder now, and could not read this song, cannot read it when it is written."""
    acl = struct.pack("<I", 2)
    for tag, permissions, user in ((1, 7, -1), (2, 6, 1234), (4, 5, -1), (16, 7, -1), (32, 0, -1)):
        acl += struct.pack("<HHi", tag, permissions, user)  # linux/posix_acl_xattr.h
    song.chmod(0o640)
    try:
        os.setxattr(song.parent, "system.posix_acl_default", acl)
    except OSError:
        pytest.skip("no ACLs here")
    assert swap(song, to_new)
    assert "system.posix_acl_access" not in os.listxattr(song) and stat.S_IMODE(song.stat().st_mode) == 0o640


@posix
def test_the_time_stays_if_asked(song: Path) -> None:
    os.utime(song, ns=(1, 1_234_567_890_123_456_789))
    swap(song, to_new, preserve_mtime=True)
    assert song.read_bytes() == b"new" and song.stat().st_mtime_ns == 1_234_567_890_123_456_789


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="needs setfacl")
def test_an_acl_stays(song: Path) -> None:
    if subprocess.run(["setfacl", "-m", "u:1:r", song], check=False, capture_output=True).returncode:
        pytest.skip("no ACLs here")
    before = os.getxattr(song, "system.posix_acl_access")
    swap(song, to_new)
    assert os.getxattr(song, "system.posix_acl_access") == before


@posix
@root_only
def test_the_owner_stays(song: Path) -> None:
    os.chown(song, 12, 34)
    swap(song, to_new)
    assert (song.stat().st_uid, song.stat().st_gid) == (12, 34)


@posix
@root_only
@pytest.mark.parametrize("asked", [check_writable, lambda path: swap(path, to_new)], ids=["check", "swap"])
def test_a_song_of_somebody_else_is_skipped(open_folder: Path, asked: Callable[[Path], object]) -> None:
    path = open_folder / "song.mp3"
    path.write_bytes(b"old")
    path.chmod(0o666)
    assert in_child(lambda: asked(path), uid=65534) == 2
    assert path.read_bytes() == b"old" and left(open_folder) == ["song.mp3"]
    os.chown(path, 65534, 65534)
    assert in_child(lambda: asked(path), uid=65534) == 0


@posix
@root_only
def test_an_owner_found_out_late_is_skipped(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On file systems without nameless files only the file itself tells whose it becomes."""
    path = open_folder / "song.mp3"
    path.write_bytes(b"old")
    path.chmod(0o666)
    monkeypatch.setattr(swap_module, "_would_change_owner", lambda status, directory: False)
    assert in_child(lambda: swap(path, to_new), uid=65534) == 2
    assert path.read_bytes() == b"old" and left(open_folder) == ["song.mp3"]


def test_a_symlink_stays_one(song: Path) -> None:
    link = song.parent / "link.mp3"
    try:
        link.symlink_to("song.mp3")
    except OSError:
        pytest.skip("no symlinks here")
    swap(link, to_new)
    assert link.is_symlink() and song.read_bytes() == b"new"


@posix
def test_a_link_is_as_read_only_as_the_folder_that_it_leads_to(
    song: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("links")
    (elsewhere / "link.mp3").symlink_to(song)
    (elsewhere / "folder").symlink_to(song.parent)
    mode = song.parent.stat().st_mode
    song.parent.chmod(0o555)
    try:
        for link in (elsewhere / "link.mp3", elsewhere / "folder" / song.name):
            for asked in (check_writable, lambda path: swap(path, to_new)):
                with pytest.raises(TagError, match="directory is read-only"):
                    asked(link)
    finally:
        song.parent.chmod(mode)
    for link in (elsewhere / "link.mp3", elsewhere / "folder" / song.name):
        check_writable(link)


def test_a_name_without_a_folder_lies_in_the_one_that_is_worked_in(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(song.parent)
    check_writable(song.name)
    swap(song.name, to_new)
    assert song.read_bytes() == b"new"


@posix
def test_hard_links(song: Path) -> None:
    other = song.parent / "seeding.mp3"
    os.link(song, other)
    for asked in (check_writable, lambda path: swap(path, to_new)):
        with pytest.raises(TagError, match="2 hard links") as caught:
            asked(song)
        assert not caught.value.refused
    assert swap(song, to_new, hardlinks="break")
    assert (song.read_bytes(), other.read_bytes()) == (b"new", b"old")


@posix
@pytest.mark.parametrize("what", ["file", "folder"])
def test_read_only_means_no_for_root_too(song: Path, what: str) -> None:
    target = song if what == "file" else song.parent
    mode = target.stat().st_mode
    target.chmod(0o444 if what == "file" else 0o555)
    try:
        for asked in (check_writable, lambda path: swap(path, to_new)):
            with pytest.raises(TagError, match="read-only") as caught:
                asked(song)
            assert not caught.value.refused
    finally:
        target.chmod(mode)
    assert song.read_bytes() == b"old"


@pytest.mark.skipif(shutil.which("chattr") is None, reason="needs chattr")
def test_an_immutable_file_is_read_only(song: Path) -> None:
    if subprocess.run(["chattr", "+i", song], check=False, capture_output=True).returncode:
        pytest.skip("no such flag here")
    try:
        with pytest.raises(TagError, match="read-only") as caught:
            check_writable(song)
        assert not caught.value.refused
    finally:
        subprocess.run(["chattr", "-i", song], check=True)


@posix
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp3")
    (tmp_path / "folder.mp3").mkdir()
    for name, reason in (
        ("pipe.mp3", "not a regular file"),
        ("folder.mp3", "not a regular file"),
        ("no.mp3", "No such file"),
    ):
        with pytest.raises(TagError, match=reason):
            check_writable(tmp_path / name)


def test_too_large(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap_module, "MAX_BYTES", 2)
    with pytest.raises(TagError, match="larger than") as caught:
        check_writable(song)
    assert not caught.value.refused


@pytest.mark.parametrize("when", ["make", "announce"])
def test_a_file_changed_meanwhile_stays_as_it_was_changed(song: Path, when: str) -> None:
    def interfere(*args: object) -> bytes:
        song.write_bytes(b"theirs")
        return b"new"

    told: list[object] = []
    options = {"make": interfere, "announce": lambda *args: told.append(args)}
    if when == "announce":
        options = {"make": to_new, "announce": interfere}
    with pytest.raises(TagError, match="another program") as caught:
        swap(song, **options)  # type: ignore[arg-type]
    assert caught.value.refused and not told  # no record of a song that is not written
    assert song.read_bytes() == b"theirs" and left(song.parent) == ["song.mp3"]


@posix
def test_an_edit_that_kept_size_and_time_is_noticed(song: Path) -> None:
    """Taggers that fill their room and put the old time back leave no other trace than the time of change."""
    os.utime(song, ns=(1, 1_234_567_890_123_456_789))

    def interfere(old: bytes) -> bytes:
        time.sleep(0.02)  # clocks of file systems tick in steps
        with song.open("r+b") as file:
            file.write(b"THE")
        os.utime(song, ns=(1, 1_234_567_890_123_456_789))
        return b"new"

    with pytest.raises(TagError, match="another program"):
        swap(song, interfere)
    assert song.read_bytes() == b"THE"


@posix
@pytest.mark.parametrize("preserve_mtime", [False, True])
def test_a_link_in_place_of_the_new_file_gets_nothing(
    song: Path, monkeypatch: pytest.MonkeyPatch, preserve_mtime: bool
) -> None:
    """Mode and times go to the file that was opened: whoever may write to the folder cannot point them elsewhere."""
    victim = song.parent / "victim"
    victim.write_bytes(b"secret")
    victim.chmod(0o600)
    song.chmod(0o666)
    os.utime(song, ns=(1, 1_234_567_890_123_456_789))
    before = victim.stat()

    def keep_owner(handle: int, status: os.stat_result) -> bool:
        (temporary,) = song.parent.glob(".gtag-*.tmp")
        temporary.unlink()
        temporary.symlink_to(victim)
        return True

    monkeypatch.setattr(swap_module, "_keep_owner", keep_owner)
    with contextlib.suppress(TagError):
        swap(song, to_new, preserve_mtime=preserve_mtime)
    after = victim.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert victim.read_bytes() == b"secret"


@posix
@pytest.mark.parametrize("planted", ["file", "link"])
def test_a_name_that_is_taken_is_not_written_to(
    song: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda n_bytes: "0" * 2 * n_bytes)
    victim = tmp_path_factory.mktemp("elsewhere") / "victim"
    victim.write_bytes(b"secret")
    name = song.parent / f".gtag-{'0' * 16}.tmp"
    if planted == "file":
        name.write_bytes(b"theirs")
    else:
        name.symlink_to(victim)
    with pytest.raises(TagError, match="exists"):
        swap(song, to_new)
    assert song.read_bytes() == b"old" and victim.read_bytes() == b"secret"
    assert os.path.lexists(name) and (planted == "link" or name.read_bytes() == b"theirs")


@posix
def test_the_new_file_is_opened_for_nobody_else(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = os.open, []

    def spy(path: str, flags: int, mode: int = 0o777) -> int:
        if os.fspath(path).endswith(".tmp"):
            seen.append((flags & os.O_EXCL > 0, flags & os.O_NOFOLLOW > 0, mode))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", spy)
    swap(song, to_new)
    assert seen == [(True, True, 0o600)]


def test_a_file_system_that_does_not_know_its_size_is_no_full_one(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(song)._replace(total=0, free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert swap(song, to_new)


def test_a_full_disk_is_noticed_before(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(song)._replace(free=swap_module.SPARE_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(TagError, match="free space") as caught:
        swap(song, to_new)
    assert caught.value.refused and song.read_bytes() == b"old"


@posix
def test_a_disk_that_fills_up_leaves_the_old_file(song: Path) -> None:
    import resource
    import signal

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        swap(song, lambda old: bytes(5000))

    assert in_child(work) == 1
    assert song.read_bytes() == b"old" and left(song.parent) == ["song.mp3"]


@pytest.mark.parametrize(
    ("error", "reason"), [(errno.EBUSY, "mount point"), (errno.EACCES, "open"), (errno.EIO, "Input/output")]
)
def test_a_name_that_cannot_be_taken(song: Path, monkeypatch: pytest.MonkeyPatch, error: int, reason: str) -> None:
    def fail(source: str, target: str) -> None:
        raise OSError(error, os.strerror(error), source)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(TagError, match=reason) as caught:
        swap(song, to_new)
    assert caught.value.refused is (error == errno.EIO)
    assert song.read_bytes() == b"old" and left(song.parent) == ["song.mp3"]


def test_leftovers_of_a_killed_run_go(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = (".gtag-0123456789abcdef.tmp", ".gtag-fedcba9876543210.tmp", ".gtag-x.tmp")
    for name in names:
        (song.parent / name).write_bytes(b"half")
    os.utime(song.parent / names[1], (1, 1))  # of a run under way that keeps the date of the song: no leftover
    swap(song, to_new)
    assert left(song.parent) == sorted(["song.mp3", *names])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + STALE_SECONDS + 9)
    swap_module._remove_stale.cache_clear()  # as of another run
    swap(song, lambda old: b"newer")
    assert left(song.parent) == ["song.mp3", ".gtag-x.tmp"][::-1]


@posix
def test_everything_is_on_the_disk_before_the_name_changes(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order: the new bytes, the record, the name, the folder."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(handle: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync file")
        fsync(handle)

    def spy_replace(source: str, target: str) -> None:
        steps.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    swap(song, to_new, announce=lambda *args: steps.append("record"))
    assert steps == ["sync file", "record", "replace", "sync folder"]


@posix
@pytest.mark.parametrize(
    "name",
    [
        b"\xff\xfe.mp3",
        b"new\nline.mp3",
        b"-rf.mp3",
        b"x" * 251 + b".mp3",
        "ö.mp3".encode(),
        "o\u0308.mp3".encode(),
    ],
)
def test_any_file_name(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    try:
        path.write_bytes(b"old")
    except OSError:
        pytest.skip("this file system has its own idea of names")
    assert swap(path, to_new) and path.read_bytes() == b"new"
    assert os.listdir(os.fsencode(tmp_path)) == [name]


def test_a_folder_is_searched_for_leftovers_once(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Songs of one large folder would each take as long as it is large."""
    searched: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(swap_module.os, "scandir", lambda folder: searched.append(folder) or scandir(folder))
    for number in range(3):
        assert swap(song, lambda _, number=number: b"new %d" % number)  # type: ignore[misc]
    assert searched.count(str(song.parent)) == 1
