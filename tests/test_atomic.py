"""Files of our own: replaced as a whole, and what belongs to them stays."""

import os
import stat
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tagger.atomic import TEMPORARY, replacing
from tests.tags.test_swap import IS_ROOT, in_child

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def write(path: Path, data: bytes = b"new") -> None:
    with replacing(path) as file:
        file.write(data)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_has_the_mode_of_any_new_file(path: Path) -> None:
    write(path)
    (path.parent / "plain").write_bytes(b"")
    assert path.read_bytes() == b"new" and path.stat().st_mode == (path.parent / "plain").stat().st_mode
    assert left(path.parent) == ["plain", "report.html"]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_the_mode_stays(path: Path, mode: int) -> None:
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path)
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_what_is_not_there_yet_is_for_nobody_elses_eyes(path: Path) -> None:
    """Of a file that only its owner may read, others may not read the half either."""
    path.write_bytes(b"old")
    path.chmod(0o600)
    with replacing(path) as file:
        (half,) = (each for each in path.parent.iterdir() if TEMPORARY.fullmatch(each.name))
        assert stat.S_IMODE(half.stat().st_mode) == 0o600
        file.write(b"new")


@posix
@pytest.mark.skipif(not IS_ROOT, reason="needs root to make files of another user")
def test_the_owner_stays(path: Path) -> None:
    path.write_bytes(b"old")
    os.chown(path, 12, 34)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12, 34)


@posix
@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_one(path: Path, tmp_path_factory: pytest.TempPathFactory, is_there: bool) -> None:
    target = tmp_path_factory.mktemp("elsewhere") / "target"
    if is_there:
        target.write_bytes(b"old")
    path.symlink_to(target)
    write(path)
    assert path.is_symlink() and target.read_bytes() == b"new"
    assert left(path.parent) == ["report.html"] and left(target.parent) == ["target"]


@posix
def test_links_in_a_circle_stay(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        write(path)
    assert path.is_symlink() and left(path.parent) == ["report.html"]


@posix
def test_the_name_is_on_the_disk_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order: the bytes, the name, the folder."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(handle: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync file")
        fsync(handle)

    def spy_replace(source: Path, target: Path) -> None:
        steps.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    write(path)
    assert steps == ["sync file", "replace", "sync folder"]


@posix
def test_a_pipe_stays_one(path: Path) -> None:
    """As do /dev/stdout and /dev/null, which root could replace."""
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()), daemon=True)
    reader.start()
    write(path)
    reader.join(10)
    assert read == [b"new"] and stat.S_ISFIFO(path.stat().st_mode) and left(path.parent) == ["report.html"]


def test_a_folder_is_no_file(path: Path) -> None:
    path.mkdir()
    with pytest.raises((IsADirectoryError, PermissionError)):
        write(path)
    assert path.is_dir() and left(path.parent) == ["report.html"]


@posix
@pytest.mark.skipif(not IS_ROOT, reason="needs root to be somebody else")
def test_what_may_not_be_written_is_not_replaced(path: Path) -> None:
    path.write_bytes(b"old")
    path.chmod(0o444)
    for folder in (path.parent, *path.parent.parents[:2]):
        folder.chmod(0o777)
    os.chown(path, 65534, 65534)

    def work() -> None:
        try:
            write(path)
        except PermissionError as error:
            os._exit(5 if error.filename == str(path) else 6)

    assert in_child(work, uid=65534) == 5
    assert path.read_bytes() == b"old" and left(path.parent) == ["report.html"]


@pytest.mark.parametrize("error", [ValueError("x"), OSError(28, "full"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file(path: Path, error: BaseException) -> None:
    path.write_bytes(b"old")
    with pytest.raises(type(error)), replacing(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old" and left(path.parent) == ["report.html"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("kind", ["pipe", "file without a name"])
def test_what_is_open_already_is_written_to(path: Path, kind: str) -> None:
    """As /dev/stdout is."""
    with tempfile.TemporaryFile() as nameless:
        ends = os.pipe() if kind == "pipe" else (os.dup(nameless.fileno()), os.dup(nameless.fileno()))
        path.symlink_to(f"/proc/self/fd/{ends[1]}")
        write(path)
        assert os.read(ends[0], 10) == b"new"
        for end in ends:
            os.close(end)
    assert path.is_symlink() and left(path.parent) == ["report.html"]
