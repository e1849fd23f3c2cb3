"""Writing genres with a record: a new song is always in the journal, whenever the run dies."""

import json
import os
import signal
import stat
import sys
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tagger.atomic import TEMPORARY
from tagger.errors import JournalError, TagError
from tagger.tags import journal as journal_module
from tagger.tags import swap as swap_module
from tagger.tags.genre import read_genres
from tagger.tags.journal import Journal, journal_folder
from tagger.tags.swap import swap
from tagger.tags.undo import list_runs, undo
from tests.campaigns.fuzz import OUTCOMES, fuzz
from tests.support.tag_files import FILES, build, decoded, id3v2, text
from tests.support.tag_files import song as plain_song
from tests.tags.test_genre import SPELLINGS
from tests.tags.test_swap import in_child

GENRES = ["Techno", "R&B/Soul"]
SEVEN = ["v23 full.mp3", "ape and v24 and v1.mp3", "cover.flac", "cover.ogg", "faststart.m4a", "full.dsf"]
SEVEN += ["v1 behind.wv"]
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    return folder


def add(library: Path, name: str) -> Path:
    path = library / name
    path.write_bytes(build(name))
    return path


def records(state: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in sorted(journal_folder(state).iterdir()) for line in path.read_text().splitlines()
    ]


@pytest.mark.parametrize("name", FILES)
def test_write_and_take_back_every_container(name: str, library: Path, state: Path) -> None:
    song = add(library, name)
    with Journal.open(library, ["genre-tag"], state) as journal:
        assert journal.write_genres(song, GENRES) is True
        assert read_genres(song) == tuple(GENRES)
        assert journal.write_genres(song, GENRES) is False
    head, record = records(state)
    assert (head["op"], record["op"], record["n"]) == ("run", "write", 1)
    assert len(json.dumps(record)) < 2500
    with Journal.open(library, ["genre-tag", "undo"], state) as journal:
        assert [undone.result for undone in undo(list_runs(state)[-1], journal)] == ["bytes"]
    assert song.read_bytes() == build(name)
    assert [path.name for path in library.iterdir()] == [name]


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("stored", SPELLINGS, ids=repr)
def test_a_genre_in_any_spelling_is_taken_back_as_it_was(stored: str, version: int, library: Path, state: Path) -> None:
    song = library / "a.mp3"
    old = id3v2(version, text(b"TCON", stored, version)) + plain_song(".mp3")
    song.write_bytes(old)
    with Journal.open(library, [], state) as journal:
        assert journal.write_genres(song, GENRES)
    assert decoded(song.read_bytes()) == decoded(old)
    with Journal.open(library, [], state) as journal:
        assert [undone.result for undone in undo(list_runs(state)[0], journal)] == ["bytes"]
    assert song.read_bytes() == old


def test_what_a_record_holds(library: Path, state: Path) -> None:
    song = add(library, "v23 with v1.mp3")
    before = song.stat()
    with Journal.open(library, ["genre-tag", "~/Music"], state) as journal:
        journal.write_genres(song, GENRES)
    head, record = records(state)
    assert (
        head["argv"] == ["genre-tag", "~/Music"]
        and head["tool"].startswith("genre-tag ")
        and head["v"] == record["v"] == 1
    )
    assert record["before"]["raw"] == {"id3": ["Old"], "id3v1": ["12"]}
    assert record["before"]["size"] == before.st_size and record["before"]["mtime_ns"] == before.st_mtime_ns
    assert record["after"]["raw"] == {"id3": ["Techno; R&B/Soul"], "id3v1": ["18"]}
    assert record["after"]["genres"] == GENRES and record["after"]["size"] == song.stat().st_size
    assert record["show"].endswith("v23 with v1.mp3") and record["rel"]
    (path,) = journal_folder(state).iterdir()
    assert os.name != "posix" or stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_run_that_wrote_nothing_leaves_no_journal(library: Path, state: Path) -> None:
    song = add(library, "none.mp3")
    with Journal.open(library, [], state) as journal:
        assert journal.path.exists()
        with pytest.raises(ValueError, match="genre"):
            journal.write_genres(song, [" "])
    assert not list(journal_folder(state).iterdir())


@pytest.mark.parametrize("name", ["none.mp3", "full.m4a"])
def test_a_song_that_is_refused_keeps_its_bytes(
    name: str, library: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = add(library, name)

    def fail(*args: object) -> None:
        raise TagError("", "the audio would change")

    monkeypatch.setattr(journal_module, "verify", fail)
    with Journal.open(library, [], state) as journal, pytest.raises(TagError, match="audio") as caught:
        journal.write_genres(song, GENRES)
    assert caught.value.refused and caught.value.path == song
    assert song.read_bytes() == build(name) and len(list(library.iterdir())) == 1


def test_bytes_that_do_not_read_back_are_never_swapped_in(
    library: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = add(library, "full.flac")
    retag = journal_module.retag
    with Journal.open(library, [], state) as journal:
        for wrong, reason in (
            (lambda old, suffix, genres, multi: retag(old, suffix, ["Wrong"], multi), "read back"),
            (lambda old, suffix, genres, multi: retag(old, suffix, genres, multi)[:-9000], "audio"),
        ):
            monkeypatch.setattr(journal_module, "retag", wrong)
            with pytest.raises(TagError, match=reason):
                journal.write_genres(song, GENRES)
    assert song.read_bytes() == build("full.flac")


def test_a_song_that_could_not_be_taken_back_is_not_written(
    library: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = add(library, "full.flac")
    monkeypatch.setattr(journal_module, "delta", lambda new, old: [["c", 0, len(old)]])
    with Journal.open(library, [], state) as journal, pytest.raises(TagError, match="old bytes") as caught:
        journal.write_genres(song, GENRES)
    assert caught.value.refused and song.read_bytes() == build("full.flac")


def test_a_song_outside_the_root_is_recorded_too(library: Path, state: Path, tmp_path: Path) -> None:
    song = add(tmp_path, "none.mp3")
    with Journal.open(library, [], state) as journal:
        assert journal.write_genres(song, GENRES)
    assert [undone.result for undone in undo(list_runs(state)[0], None)] == ["bytes"]


def test_options_reach_the_file(library: Path, state: Path) -> None:
    song = add(library, "v23 full.mp3")
    os.utime(song, ns=(1, 1_000_000_000_000_000_000))
    os.link(song, library / "other.mp3")
    check = pytest.raises(TagError, match="hard links")
    with Journal.open(library, [], state) as journal:
        with check:
            journal.write_genres(song, GENRES)
        assert journal.write_genres(song, GENRES, id3v23_multi="first", preserve_mtime=True, hardlinks="break")
    assert read_genres(song) == ("Techno",) and song.stat().st_mtime_ns == 1_000_000_000_000_000_000


# --- when the journal fails


def test_no_journal_no_writing(library: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    with pytest.raises(JournalError) as caught:
        Journal.open(library, [], tmp_path / "state")
    assert "state" in str(caught.value.path) and caught.value.reason


def test_a_journal_without_a_head_is_none(library: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda handle, data: 5)
    with pytest.raises(JournalError, match="in part"):
        Journal.open(library, [], state)
    assert not list(journal_folder(state).iterdir())


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_journal_that_fills_up_stops_the_run(
    failing: str, library: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = add(library, "none.mp3")
    with Journal.open(library, [], state) as journal:
        real = getattr(os, failing)

        def fail(handle: int, *args: bytes) -> int:
            if handle == journal._handle:
                raise OSError(28, "No space left on device")
            return int(real(handle, *args) or 0)

        monkeypatch.setattr(os, failing, fail)
        with pytest.raises(JournalError, match="No space left"):
            journal.write_genres(song, GENRES)
        monkeypatch.undo()
    assert song.read_bytes() == build("none.mp3") and len(list(library.iterdir())) == 1


def torn_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk take a part of the next record, and all that comes after it."""
    write, n_calls = os.write, 0

    def fail(handle: int, data: bytes) -> int:
        nonlocal n_calls
        n_calls += handle == journal._handle
        if handle != journal._handle or n_calls > 2:
            return write(handle, data)
        if n_calls == 2:
            raise OSError(28, "No space left on device")
        return write(handle, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", fail)


def test_a_record_that_was_torn_leaves_no_trace_when_the_disk_has_room_again(
    library: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker of a cluster keeps its journal, and goes on with the next song."""
    first, torn, last = (add(library, name) for name in ("none.mp3", "full.flac", "v23 full.mp3"))
    with Journal.open(library, [], state) as journal:
        journal.write_genres(first, GENRES)
        torn_once(journal, monkeypatch)
        with pytest.raises(JournalError, match="No space left"):
            journal.write_genres(torn, GENRES)
        journal.write_genres(last, GENRES)
    assert [record.get("n") for record in records(state)] == [None, 1, 2]
    (run,) = list_runs(state)
    assert [(Path(undone.path), undone.result) for undone in undo(run, None)] == [(last, "bytes"), (first, "bytes")]


@posix
def test_a_limit_that_tears_a_record_and_is_lifted(library: Path, state: Path) -> None:
    """The same without a fake: the file may grow by a hundred bytes, and then without bounds."""
    import resource

    songs = [add(library, name) for name in ("none.mp3", "full.flac", "v23 full.mp3")]

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with Journal.open(library, [], state) as journal:
            journal.write_genres(songs[0], GENRES)
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            announce = journal.recorder(songs[1])

            def limited(old: bytes, new: bytes, status: os.stat_result) -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 100, limits[1]))
                announce(old, new, status)

            with pytest.raises(JournalError, match="File too large"):
                swap(songs[1], lambda old: journal_module.retag(old, ".flac", GENRES), announce=limited)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            journal.write_genres(songs[2], GENRES)

    assert in_child(work) == 0
    assert [record["op"] for record in records(state)] == ["run", "write", "write"]
    (run,) = list_runs(state)
    assert run.n_writes == 2 and [undone.result for undone in undo(run, None)] == ["bytes", "bytes"]


@pytest.mark.parametrize("failing", ["fsync", "interrupt"])
def test_a_record_of_a_song_that_was_not_written_does_not_stay(
    failing: str, library: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = add(library, "none.mp3")
    other = add(library, "full.flac")
    with Journal.open(library, [], state) as journal:
        real, error = os.fsync, KeyboardInterrupt() if failing == "interrupt" else OSError(5, "Input/output error")

        def fail(handle: int) -> None:
            if handle == journal._handle:
                raise error
            real(handle)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            with pytest.raises((KeyboardInterrupt, JournalError)):
                journal.write_genres(song, GENRES)
        assert song.read_bytes() == build("none.mp3")
        journal.write_genres(other, GENRES)
    assert [Path(record["show"]) for record in records(state)[1:]] == [other]


def test_a_journal_that_cannot_be_cut_back_is_closed_for_good(
    library: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next record would be glued to the torn one, and its song could not be taken back."""
    first, torn, last = (add(library, name) for name in ("none.mp3", "full.flac", "v23 full.mp3"))

    def fail(handle: int, length: int) -> None:
        raise OSError(5, "Input/output error")

    with Journal.open(library, [], state) as journal:
        journal.write_genres(first, GENRES)
        with monkeypatch.context() as patched:
            torn_once(journal, patched)
            patched.setattr(os, "ftruncate", fail)
            with pytest.raises(JournalError, match="No space left"):
                journal.write_genres(torn, GENRES)
        size = journal.path.stat().st_size
        for _ in range(2):
            with pytest.raises(JournalError, match="torn"):
                journal.write_genres(last, GENRES)
        assert journal.path.stat().st_size == size and last.read_bytes() == build("v23 full.mp3")
    (run,) = list_runs(state)
    assert [Path(undone.path) for undone in undo(run, None)] == [first]


# --- when the run dies


#: What touches no file and has lines for each byte or letter; a death there is one before the next line of the caller.
PURE = ("<genexpr>", "<dictcomp>", "delta", "rebuild", "_instructions", "_common", "_common_end")


def lines_of(work: Callable[[], object], kill_at: int = -1) -> int:
    """Run that work, counting the lines executed in the two modules that write; die before the line `kill_at`."""
    modules = {swap_module.__file__, journal_module.__file__}
    swap_module._remove_stale.cache_clear()  # each time as in a run of its own
    n_lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal n_lines
        if frame.f_code.co_filename not in modules or frame.f_code.co_name in PURE:
            return None
        if event == "line":
            if n_lines == kill_at:
                os._exit(9)
            n_lines += 1
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return n_lines


@posix
@pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger or a coverage tool is tracing")
@pytest.mark.parametrize("name", SEVEN)
def test_killed_at_any_line(name: str, library: Path, state: Path) -> None:
    """The song is the old one or the new one, a new one is in the journal, and undo gives the old bytes."""
    # Hundreds of forks of a process that holds what other tests have loaded would take ten times as long.
    process = get_context("spawn").Process(target=kill_at_each_line, args=(name, library, state))
    process.start()
    process.join()
    assert process.exitcode == 0


def kill_at_each_line(name: str, library: Path, state: Path) -> None:
    """Runs in a process of its own."""
    os.fsync = lambda handle: None  # what counts after a loss of power only, and takes the time
    song = add(library, name)
    old, suffix = song.read_bytes(), song.suffix
    new = journal_module.retag(old, suffix, GENRES)
    make = lambda data: new if data == old else data  # noqa: E731  (proven elsewhere; here only the swap is of interest)

    def work() -> None:
        with Journal.open(library, [], state) as journal:
            swap(song, make, announce=journal.recorder(song))

    def as_before() -> None:
        song.write_bytes(old)
        for journal in journal_folder(state).iterdir():
            journal.unlink()

    work()  # makes the folder of journals
    as_before()
    n_lines = lines_of(work)
    assert song.read_bytes() == new and n_lines > 60
    outcomes = set()
    for step in range(n_lines):
        as_before()
        pid = os.fork()
        if pid == 0:
            lines_of(work, step)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        now = song.read_bytes()
        assert now in (old, new), step
        outcomes.add(now == new)
        if now == new:
            (run,) = list_runs(state)
            with Journal.open(library, [], state) as journal:
                assert [undone.result for undone in undo(run, journal)] == ["bytes"], step
            assert song.read_bytes() == old
        for path in library.iterdir():
            assert path == song or TEMPORARY.fullmatch(path.name)
            if path != song:
                path.unlink()
    assert outcomes == {True, False}


# --- whatever the bytes are


def test_fuzz(library: Path, state: Path) -> None:
    """200 damaged songs; `make campaign-fuzz` takes thousands."""
    small = [name for name in FILES if len(build(name)) < 100_000]
    counts = fuzz(library, state, n_songs=200, seed=1, names=small)
    total = sum(counts.values(), Counter())
    assert sum(total[outcome] for outcome in OUTCOMES) == 200
    assert total["written"] > 60 and total["refused"] > 30 and total["decoded"] > 30
