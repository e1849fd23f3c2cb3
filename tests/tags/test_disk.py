"""When the disk does not take it: full, limited, failing at any call, read-only. The old song stays, in plain words."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tagger.errors import JournalError, TagError
from tagger.tags import swap as swap_module
from tagger.tags.genre import read_genres
from tagger.tags.journal import Journal, journal_folder
from tagger.tags.swap import check_writable
from tagger.tags.undo import list_runs, undo
from tests.support.tag_files import build
from tests.tags.test_swap import in_child, root_only

GENRES = ["Techno"]
LARGE = ["Techno " * 3000 + "end"]
KINDS = ["v23 full.mp3", "cover.flac", "cover.ogg", "faststart.m4a", "full.wma", "id3.wav", "full.dsf", "v1 behind.wv"]
ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


@pytest.fixture
def library() -> Iterator[Path]:
    """A library that everybody may enter, other than pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    (folder / "library").mkdir(mode=0o777)
    (folder / "library").chmod(0o777)
    yield folder / "library"
    shutil.rmtree(folder)


@pytest.fixture
def state(library: Path) -> Path:
    return library.parent / "state"


def add(library: Path, name: str) -> Path:
    path = library / name
    path.write_bytes(build(name))
    return path


def left(library: Path) -> list[str]:
    return sorted(path.name for path in library.iterdir())


@posix
@pytest.mark.parametrize("name", KINDS)
def test_a_limit_on_file_sizes_leaves_the_old_song(name: str, library: Path, state: Path) -> None:
    """As a quota does: what was written of the new file goes, and the journal tells of a song that was not written."""
    import resource

    song = add(library, name)

    def write() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with Journal.open(library, [], state) as journal:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(build(name)) // 2,) * 2)
            journal.write_genres(song, LARGE)

    assert in_child(write) == 1  # refused
    assert song.read_bytes() == build(name) and left(library) == [name]


#: What swap and journal ask of the system, but for the unlink that cleans up.
CALLS = ("open", "write", "fsync", "fchown", "chmod", "setxattr", "utime", "stat", "replace", "close")
CALLS += ("scandir", "listdir")


@posix
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_fails_at_any_call(error: int, library: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th call fails, for every n: a song is the old one, or the new one with a record that takes it back."""
    song = add(library, "v23 full.mp3")
    old = song.read_bytes()
    n_calls, fail_at = 0, -1

    def failing(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal n_calls
            n_calls += 1
            if n_calls == fail_at:
                if real is os_close:
                    real(*args)  # the handle is gone all the same
                raise OSError(error, os.strerror(error))
            return real(*args, **options)

        return call

    os_close = os.close
    reasons = set()
    for fail_at in range(1, 1000):
        n_calls = 0
        with pytest.MonkeyPatch.context() as patched:
            for name in CALLS:
                patched.setattr(os, name, failing(getattr(os, name)))
            try:
                with Journal.open(library, [], state) as journal:
                    journal.write_genres(song, GENRES)
                outcome = "written"
            except (TagError, JournalError) as failure:
                reasons.add(failure.reason)
                outcome = "left"
            except OSError:  # of closing the journal, when all is done
                outcome = "written"
        names = left(library)
        assert [name for name in names if not name.startswith(".gtag-")] == [song.name], fail_at
        assert names == [song.name], fail_at
        if song.read_bytes() != old:
            (run,) = list_runs(state)
            with Journal.open(library, [], state) as journal:
                assert [undone.result for undone in undo(run, journal)] == ["bytes"], fail_at
            assert song.read_bytes() == old
        elif outcome == "written":
            pytest.fail(f"call {fail_at}: told to be written, and is not")
        if n_calls < fail_at:
            break
        shutil.rmtree(state, ignore_errors=True)  # not there yet where the first call fails
    assert fail_at > 20
    assert os.strerror(error) in reasons


FULL = """
import os, subprocess, sys
from pathlib import Path
from tagger.tags import swap
from tagger.tags.journal import Journal
from tagger.errors import JournalError
from tagger.errors import TagError
from tests.support.tag_files import build
library, state, full, is_late = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "late"
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", full]).returncode:
    sys.exit(77)
song = library / "a.mp3"
song.write_bytes(build("v23 full.mp3"))
with Journal.open(library, [], state) as journal:
    disk = os.statvfs(full)
    (full / "ballast").write_bytes(bytes(disk.f_bavail * disk.f_bsize - (0 if full == state else 8192)))
    if is_late:
        swap.SPARE_BYTES = -1 << 30
    try:
        journal.write_genres(song, ["Techno " * 3000 + "end"])
    except (TagError, JournalError) as error:
        print(type(error).__name__, error.reason)
assert song.read_bytes() == build("v23 full.mp3")
assert {path.name for path in library.iterdir()} <= {"a.mp3", "ballast"}
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
@pytest.mark.parametrize(
    ("full", "when", "answer"),
    [
        ("library", "early", "TagError not enough free space beside it"),
        ("library", "late", "TagError No space left on device"),
        ("state", "late", "JournalError No space left on device"),
    ],
)
def test_a_disk_that_is_really_full(full: str, when: str, answer: str, library: Path, state: Path) -> None:
    """On a small disk in memory; "late": as if the free space had been there when it was asked for."""
    state.mkdir()
    command = [sys.executable, "-c", FULL, library, state, {"library": library, "state": state}[full], when]
    done = subprocess.run(["unshare", "-Urm", *command], capture_output=True, text=True, cwd=ROOT)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mounts here")
    assert (done.stderr, done.stdout.strip()) == ("", answer)


@posix
@root_only
@pytest.mark.parametrize("what", ["song", "folder", "journal folder"])
def test_what_a_user_may_not_write(what: str, library: Path, state: Path) -> None:
    """Somebody who is not root: the song is passed over; without a journal nothing is begun."""
    song = add(library, "none.mp3")
    state.mkdir()
    for path in (song, library, state):
        os.chown(path, 65534, 65534)
    locked = {"song": song, "folder": library, "journal folder": state}[what]
    locked.chmod(0o500 if locked.is_dir() else 0o400)

    def write() -> None:
        with Journal.open(library, [], state) as journal:
            journal.write_genres(song, GENRES)

    def begin() -> None:
        try:
            Journal.open(library, [], state)
        except JournalError as error:
            assert "Permission denied" in error.reason
            raise TagError("", "", refused=False) from error

    assert in_child(begin if what == "journal folder" else write, uid=65534) == 2  # skipped
    library.chmod(0o777)
    assert song.read_bytes() == build("none.mp3") and left(library) == ["none.mp3"]
    if what == "folder":
        library.chmod(0o500)
        assert in_child(lambda: check_writable(song), uid=65534) == 2
        library.chmod(0o777)


def test_a_song_above_two_gigabytes_is_passed_over(library: Path) -> None:
    song = library / "long.wav"
    with song.open("wb") as file:
        file.truncate(swap_module.MAX_BYTES + 1)
    with pytest.raises(TagError, match="larger than 2 GiB") as caught:
        check_writable(song)
    assert not caught.value.refused


def test_nothing_is_opened_for_writing_without_being_asked(library: Path, state: Path) -> None:
    """Looking at songs leaves every time of them and of their folder as it was, but for the time of reading."""
    for name in KINDS:
        add(library, name)

    def times() -> dict[str, tuple[int, ...]]:
        paths = [library, *library.iterdir()]
        return {
            str(p): (s.st_ino, s.st_size, s.st_mode, s.st_mtime_ns, s.st_ctime_ns) for p in paths if (s := p.stat())
        }

    before = times()
    for name in KINDS:
        read_genres(library / name)
        check_writable(library / name)
    with Journal.open(library, [], state):
        pass
    assert times() == before and not list(journal_folder(state).iterdir())
