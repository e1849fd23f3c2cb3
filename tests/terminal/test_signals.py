"""What ends a run: Ctrl-C, a service that stops, a terminal that is closed, and nobody who reads what is printed."""

# ruff: noqa: F811  (fixtures are imported by name)

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tagger.tags.genre import read_genres
from tagger.tags.undo import list_runs, undo
from tagger.terminal.signals import ENDING, exit_code, finish_first, install_handlers, interrupt
from tests.cli.test_tag import Run, genre_tag, music, tones  # noqa: F401

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
NAMES = [number.name for number in ENDING]

#: The command line around a model that answers at once; it says when a song is about to be replaced, and waits.
CHILD = """
import sys, time
from pathlib import Path
from tagger.tags import swap
from tests.campaigns.kill import run_with_fake_model
check = swap._check_unchanged
n_checked = 0
def slow(*args):
    global n_checked
    n_checked += 1
    if n_checked == 4:  # of the second song, with its record on the disk
        Path(sys.argv[1]).touch()
        time.sleep(60)
    check(*args)
swap._check_unchanged = slow
run_with_fake_model(sys.argv[2:])
"""


@pytest.fixture(autouse=True)
def as_before() -> None:
    """What a test makes of the signals is its own affair."""
    handlers, hook = {number: signal.getsignal(number) for number in ENDING}, sys.unraisablehook
    for number in ENDING:
        if handlers[number] is signal.SIG_IGN:  # by nohup, which children of these tests are not to obey
            signal.signal(number, signal.SIG_DFL)
    yield
    sys.unraisablehook = hook
    for number, handler in handlers.items():
        signal.signal(number, handler)


def started(folder: Path, *arguments: str | Path, **options: object) -> subprocess.Popen[str]:
    """A run that is about to replace its second song."""
    mark = folder / "mark"
    run = subprocess.Popen(
        [sys.executable, "-c", CHILD, mark, *arguments], cwd=ROOT, text=True, start_new_session=True,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")}, **options,
    )  # type: ignore[call-overload]  # fmt: skip
    deadline = time.monotonic() + 120
    while not mark.exists():
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return run


def check_what_is_left(folder: Path, music: Path, old: dict[Path, bytes]) -> None:
    """One song is tagged, the other as it was; no temporary file; and the journal takes all of it back."""
    assert {path.name for path in music.iterdir()} == {path.name for path in old}
    assert [path.read_bytes() != data for path, data in sorted(old.items())] == [True, False]
    (run,) = list_runs(folder / "state" / "genre-tag")
    assert [undone.result for undone in undo(run, None)] == ["nothing", "bytes"]


@posix
@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_is_ended_leaves_nothing_half_done(name: str, music: Path, tmp_path: Path) -> None:
    old = {path: path.read_bytes() for path in music.iterdir()}
    records = tmp_path / "records.jsonl"
    run = started(tmp_path, music, "--write-tags", "--json", records, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.killpg(run.pid, getattr(signal, name))
    out, err = run.communicate(timeout=60)
    assert run.returncode == 128 + getattr(signal, name)
    assert "1 of 2 songs: 1 tagged" in err and "Interrupted." in err and "Traceback" not in err
    assert out.startswith("blues.flac") and len(records.read_text().splitlines()) == 1
    check_what_is_left(tmp_path, music, old)


@posix
def test_a_terminal_that_is_closed_ends_the_run_on_it(music: Path, tmp_path: Path) -> None:
    """The system sends SIGHUP, and nothing can be printed any more."""
    import pty

    old = {path: path.read_bytes() for path in music.iterdir()}
    ours, theirs = pty.openpty()
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    mark = tmp_path / "mark"
    run = subprocess.Popen(
        [sys.executable, "-c", take, sys.executable, "-c", CHILD, mark, music, "--write-tags"],
        cwd=ROOT, start_new_session=True, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
    )  # fmt: skip
    os.close(theirs)
    deadline = time.monotonic() + 120
    while not mark.exists():
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.close(ours)
    assert run.wait(60) == 128 + signal.SIGHUP
    check_what_is_left(tmp_path, music, old)


@posix
def test_nohup_is_obeyed() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    install_handlers()
    os.kill(os.getpid(), signal.SIGHUP)
    with finish_first():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_where_there_is_no_such_signal_it_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    code = (
        "import signal\n"
        "for name in ('SIGHUP', 'pthread_sigmask', 'SIGPIPE', 'SIGALRM'):\n"
        "    if hasattr(signal, name): delattr(signal, name)\n"
        "import tagger.audio.workers\n"
        "from tagger.cli.main import main\n"
        "main(['config'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@posix
def test_an_interruption_that_nobody_could_catch_comes_again() -> None:
    class Collected:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass

    install_handlers()
    with pytest.raises(KeyboardInterrupt):
        Collected()
        time.sleep(5)
        pytest.fail("nothing came")
    assert exit_code() == 130


@posix
def test_a_second_one_does_not_disturb_the_ending() -> None:
    install_handlers()
    with pytest.raises(KeyboardInterrupt):
        interrupt(signal.SIGTERM)
    for number in ENDING:
        os.kill(os.getpid(), number)
    assert exit_code() == 128 + signal.SIGTERM


@posix
@pytest.mark.parametrize("name", NAMES)
def test_what_has_begun_is_finished_first(name: str) -> None:
    install_handlers()
    done = False
    with pytest.raises(KeyboardInterrupt), finish_first():
        os.kill(os.getpid(), getattr(signal, name))
        done = True
    assert done and exit_code() == 128 + getattr(signal, name)
    assert not [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]


@posix
def test_ctrl_c_while_the_libraries_are_loaded_needs_no_traceback() -> None:
    code = (
        "import builtins, os, signal\n"
        "real = builtins.__import__\n"
        "def load(name, *rest):\n"
        "    if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(name, *rest)\n"
        "from tagger.__main__ import main\n"
        "builtins.__import__ = load\n"
        "main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


# ---- nobody reads


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a stream a pipe whose reader has gone."""

    def close(*names: str) -> None:
        for name in names:
            ours, theirs = os.pipe()
            os.close(ours)
            monkeypatch.setattr(sys, name, io.TextIOWrapper(open(theirs, "wb")))  # noqa: SIM115

    return close


COMMANDS = {
    "--help": ("--help",), "tag --help": ("tag", "--help"), "config": ("config",),
    "explain": ("explain", "MUSIC/rock.mp3"), "explain --json": ("explain", "--json", "MUSIC/rock.mp3"),
    "report": ("report", "MUSIC"), "report --format json": ("report", "MUSIC", "--format", "json"),
    "json": ("MUSIC", "--json", "-"), "csv": ("MUSIC", "--csv", "-"), "rows": ("MUSIC",), "-v": ("MUSIC", "-v"),
    "doctor": ("doctor", "--no-speed"), "cache": ("cache",),
    "undo": ("undo", "last"), "undo --list": ("undo", "--list"),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("closed", [("stdout",), ("stdout", "stderr")], ids=len)
def test_nobody_who_reads_is_no_failure(
    genre_tag: Callable[..., Run], music: Path, unread: Callable[..., None], command: str, closed: tuple[str, ...]
) -> None:
    """As `| head -1` leaves it; 141 is what shells say of programs that SIGPIPE ends."""
    if command.startswith(("undo", "cache")):
        genre_tag(music, "--write-tags")
    unread(*closed)
    run = genre_tag(*(word.replace("MUSIC", str(music)) for word in COMMANDS[command]))
    assert run.code == 141
    assert "fail" not in run.err.replace("0 failed", "")


def test_who_asks_for_a_file_gets_it_though_nobody_reads(
    genre_tag: Callable[..., Run], music: Path, unread: Callable[..., None], tmp_path: Path
) -> None:
    unread("stdout")
    assert genre_tag("explain", music / "rock.mp3", "--png", tmp_path / "a.png").code == 141
    unread("stdout")
    assert genre_tag("report", music, "--playlists", tmp_path / "lists").code == 141
    assert (tmp_path / "a.png").exists() and (tmp_path / "lists" / "Rock.m3u8").exists()


@pytest.mark.parametrize("told", ["rows", "json", "csv"])
def test_every_song_that_is_written_has_its_records_though_nobody_reads(
    genre_tag: Callable[..., Run], music: Path, unread: Callable[..., None], tmp_path: Path, told: str
) -> None:
    kinds = {"rows": ("json", "csv"), "json": ("csv",), "csv": ("json",)}[told]
    targets = [part for kind in kinds for part in (f"--{kind}", tmp_path / kind)]
    stdout = () if told == "rows" else (f"--{told}", "-")
    unread("stdout")
    run = genre_tag(music, "--write-tags", *targets, *stdout)
    assert run.code == 141 and "1 of 2 songs: 1 tagged" in run.err and "Nobody reads the output any more" in run.err
    assert read_genres(music / "blues.flac") == ("Blues",) and read_genres(music / "rock.mp3") == ()
    for kind in kinds:
        lines = (tmp_path / kind).read_text().splitlines()
        assert len(lines) == (1 if kind == "json" else 2) and "blues.flac" in lines[-1]
    (undoable,) = list_runs()
    assert [undone.result for undone in undo(undoable, None)] == ["bytes"]
    again = genre_tag(music, "--write-tags", "-q")
    assert again.code == 0 and read_genres(music / "rock.mp3") == ("Rock",)


def test_nothing_is_said_of_a_run_that_changed_nothing(
    genre_tag: Callable[..., Run], music: Path, unread: Callable[..., None]
) -> None:
    unread("stdout")
    assert genre_tag(music).err == ""


def test_an_undoing_that_nobody_reads_says_where_it_stopped(
    genre_tag: Callable[..., Run], music: Path, unread: Callable[..., None]
) -> None:
    genre_tag(music, "--write-tags")
    unread("stdout")
    run = genre_tag("undo", "last")
    assert run.code == 141 and run.err == "Stopped after 1 song: the same command goes on with the others.\n"
    assert [read_genres(music / name) for name in ("blues.flac", "rock.mp3")] == [("Blues",), ()]


@posix
def test_a_full_disk_under_one_record_loses_no_other(
    genre_tag: Callable[..., Run], music: Path, tmp_path: Path
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    run = genre_tag(music, "--write-tags", "--json", "/dev/full", "--csv", tmp_path / "csv")
    assert run.code == 3 and "/dev/full: No space left on device" in run.err
    assert "blues.flac" in (tmp_path / "csv").read_text().splitlines()[-1] and "blues.flac" in run.out


@posix
def test_a_pipeline_that_nobody_reads_is_quiet(music: Path) -> None:
    """`true` is gone before the first row; whether `head -1` is gone before the last one is a race."""
    command = f"{sys.executable} -m tagger {music} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("141\n", "")
