"""Decoding ahead in processes: order, bounds, and songs that crash or hang their decoder."""

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from multiprocessing import active_children
from pathlib import Path

import psutil
import pytest

from tagger.audio.workers import MOST_WAITING, PARTS_AHEAD, Failure, begin_workers, decode_ahead

ROOT = Path(__file__).parents[2]


class NamedError(Exception):
    reason = "a reason in plain words"


def parts_of(path: Path, deeds: list[str]) -> Iterator[str]:
    """One part for each deed; a number is that many parts."""
    for deed in deeds:
        for number in range(int(deed) if deed.isdigit() else 1):
            (path.parent / f"{path.name}.{number}").touch()  # tells how far it has come
            yield str(number) if deed.isdigit() else str(act(path.with_name(deed)))


def act(path: Path) -> str | Iterator[str]:
    """What a decoder may do, by the name of the file; runs in a worker process."""
    deed, _, argument = path.name.partition("-")
    if deed == "parts":
        return parts_of(path, argument.split("+"))
    if deed == "sleep":
        time.sleep(float(argument))
    elif deed == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
        while True:
            time.sleep(60)
    elif deed == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif deed == "exit":
        os._exit(int(argument))
    elif deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does where memory runs out
    elif deed == "raise":
        raise NamedError
    elif deed == "unread":
        raise NamedError from OSError(5, "Input/output error")
    elif deed == "bug":
        raise ZeroDivisionError("a bug")
    elif deed == "memory":
        raise MemoryError
    elif deed == "pid":
        return str(os.getpid())
    elif deed == "big":
        return "x" * 50_000_000
    elif deed == "blocked":
        return " ".join(sorted(signal.Signals(number).name for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    elif deed == "modules":
        return " ".join(sorted(sys.modules))
    return path.name


def run(names: list[str], n_workers: int = 2, look_ahead: int = 4, limit: float = 30.0) -> list[object]:
    songs = ((name, Path(name) if name else None) for name in names)
    options = {"n_workers": n_workers, "look_ahead": look_ahead, "time_limit_seconds": limit}
    answers = list(decode_ahead(songs, act, **options))  # type: ignore[arg-type]
    assert [item for item, _ in answers] == names
    return [answer for _, answer in answers]


def test_answers_keep_the_order_of_songs_whatever_takes_long() -> None:
    assert run(["sleep-0.5", "a", "", "b", "sleep-0.2", "c"]) == ["sleep-0.5", "a", None, "b", "sleep-0.2", "c"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_was_freed_is_there_for_the_next_song() -> None:
    code = (
        "import resource\n"
        "import numpy as np\n"
        "from tagger.audio.workers import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(10):\n"
        "        arrays = [np.ones(n_bytes, np.uint8) for n_bytes in (200_000,) * 40]\n"
        "        del arrays\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "print(faults(), faults())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    first, second = map(int, done.stdout.split())
    assert second < 100 < first  # pages of 4 KB


def test_workers_that_were_begun_are_the_first_to_work_and_end_with_the_others() -> None:
    [worker] = begin_workers(act, 1, 30)
    with closing(worker):
        [process] = active_children()
        songs = [("a", Path("pid")), ("b", Path("pid"))]
        answers = list(decode_ahead(songs, act, n_workers=1, look_ahead=2, time_limit_seconds=30, begun=[worker]))
        assert answers == [("a", str(process.pid)), ("b", str(process.pid))]
        assert not active_children() and worker.start() is None


def test_a_song_may_come_in_parts(tmp_path: Path) -> None:
    names = ["a", "parts-3", "b", "parts-2+raise+1", "parts-1+crash", "parts-0", "c"]
    songs = ((name, tmp_path / name) for name in names)
    answers = list(decode_ahead(songs, act, n_workers=2, look_ahead=4, time_limit_seconds=30))
    assert answers == [
        ("a", "a"),
        *[("parts-3", number) for number in "012"],
        ("b", "b"),
        *[("parts-2+raise+1", each) for each in ("0", "1", Failure("a reason in plain words"))],
        ("parts-1+crash", "0"),
        ("parts-1+crash", Failure("the decoder crashed (signal SIGSEGV)")),
        ("c", "c"),  # one that makes nothing has nothing to tell
    ]


def test_parts_wait_in_the_decoder_until_they_are_taken(tmp_path: Path) -> None:
    big = 60  # parts; a pipe holds 64 KB, so that few of them are on their way
    songs = iter([("big", tmp_path / f"parts-{big}"), ("a", tmp_path / "a")])
    answers = decode_ahead(songs, act_at_length, n_workers=2, look_ahead=4, time_limit_seconds=1)
    assert next(answers)[0] == "big"
    time.sleep(2)  # longer than the limit, which is not for who takes them
    assert len(list(tmp_path.glob("parts-*"))) <= 1 + PARTS_AHEAD + 3
    assert [item for item, _ in answers] == ["big"] * (big - 1) + ["a"]


def act_at_length(path: Path) -> str | Iterator[str]:
    made = act(path)
    return made if isinstance(made, str) else (part.ljust(1_000_000) for part in made)


def test_who_takes_no_more_parts_waits_for_nobody(tmp_path: Path) -> None:
    songs = ((name, tmp_path / name) for name in ("parts-60", "parts-50", "parts-40"))
    answers = decode_ahead(songs, act_at_length, n_workers=2, look_ahead=4, time_limit_seconds=30)
    next(answers)
    start = time.monotonic()
    answers.close()
    assert time.monotonic() - start < 5


def test_a_song_that_kills_its_decoder_costs_only_itself() -> None:
    answers = run(["a", "crash", "b", "exit-7", "c"])
    assert answers == [
        "a",
        Failure("the decoder crashed (signal SIGSEGV)"),
        "b",
        Failure("the decoder crashed (exit code 7)", is_lasting=False),
        "c",
    ]


def test_a_song_that_hangs_its_decoder_is_given_up_at_the_limit() -> None:
    answers = run(["a", "hang", "b"], n_workers=1, limit=3.0)
    assert answers == ["a", Failure("decoding took longer than 3 s", is_lasting=False), "b"]


def test_the_time_limit_is_for_decoding_not_for_starting_the_worker() -> None:
    assert run(["a", "b"], n_workers=1, limit=0.05) == ["a", "b"]  # no interpreter starts in 50 ms


def test_errors_come_back_with_their_reason_and_bugs_with_their_name() -> None:
    assert run(["raise", "bug", "memory"], n_workers=1) == [
        Failure("a reason in plain words"),
        Failure("unexpected ZeroDivisionError: a bug", is_lasting=False),
        Failure("out of memory while decoding", is_lasting=False),
    ]


def test_only_what_is_the_songs_own_fault_is_lasting() -> None:
    own, foreign = ["raise", "crash"], ["unread", "memory", "kill", "exit-1", "bug"]
    failures = run([*own, *foreign], n_workers=1)
    lasting = [name for name, failure in zip([*own, *foreign], failures, strict=True) if failure.is_lasting]  # type: ignore[attr-defined]
    assert lasting == own


def test_an_answer_larger_than_any_pipe_comes_through() -> None:
    (answer,) = run(["big"], n_workers=1)
    assert answer == "x" * 50_000_000


def test_workers_do_not_import_torch() -> None:
    (modules,) = run(["modules"], n_workers=1)
    assert isinstance(modules, str)
    assert "tagger.audio.workers" in modules.split()
    assert "torch" not in modules.split()


def test_a_decoder_starts_with_numpy_and_av_alone() -> None:
    code = (
        "import sys; before = {*sys.modules}; import tagger.audio.workers, tagger.audio.decode\n"
        "names = {name.split('.')[0] for name in {*sys.modules} - before}\n"
        "print(*sorted(name for name in names - sys.stdlib_module_names if not name.startswith('_')))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {*child.stdout.split()} - {"cython_runtime"} == {"av", "numpy", "tagger"}


def test_no_more_songs_are_taken_than_the_look_ahead_allows() -> None:
    taken: list[int] = []

    def songs() -> Iterator[tuple[int, Path]]:
        for number in range(1000):
            taken.append(number)
            yield number, Path("a")

    answers = decode_ahead(songs(), act, n_workers=2, look_ahead=5, time_limit_seconds=30)
    for number, _ in answers:
        assert len(taken) <= number + 5
        if number == 40:
            break
    answers.close()  # type: ignore[attr-defined]


def test_items_without_a_path_do_not_count_as_decoded_ahead() -> None:
    taken: list[int] = []

    def songs() -> Iterator[tuple[int, Path | None]]:
        for number in range(5000):
            taken.append(number)
            yield number, Path("sleep-0.3") if number % 500 == 0 else None

    answers = decode_ahead(songs(), act, n_workers=2, look_ahead=2, time_limit_seconds=30)
    next(answers)
    assert 500 < len(taken) <= 1100  # the second song to decode was found, and not all of the others taken
    answers.close()


def test_items_behind_a_song_that_takes_long_are_taken_up_to_a_bound() -> None:
    taken: list[int] = []

    def songs() -> Iterator[tuple[int, Path | None]]:
        for number in range(5000):
            taken.append(number)
            yield number, None if number else Path("sleep-1")

    answers = decode_ahead(songs(), act, n_workers=1, look_ahead=9, time_limit_seconds=30)
    assert next(answers) == (0, "sleep-1")
    assert MOST_WAITING < len(taken) <= MOST_WAITING + 2
    answers.close()


@pytest.mark.parametrize("busy", ["sleep-30", "hang"])
def test_stopping_early_ends_every_process_at_once(busy: str) -> None:
    songs = [("first", Path("a")), *[(busy, Path(busy))] * 4]
    answers = decode_ahead(iter(songs), act, n_workers=3, look_ahead=5, time_limit_seconds=60)
    next(answers)
    assert psutil.Process().children()
    started = time.monotonic()
    answers.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 10  # far below what the songs would take
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_decoders_of_a_run_that_is_killed_end_without_a_word() -> None:
    code = (
        "from tests.audio.test_workers import *\n"
        "songs = [(name, Path(name)) for name in ['a', 'sleep-0.5', 'sleep-0.5', 'b', 'b', 'b']]\n"
        "for _ in decode_ahead(songs, act, n_workers=2, look_ahead=6, time_limit_seconds=30): print('x', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1, cwd=ROOT) as run:
        assert run.stdout is not None
        run.stdout.readline()
        run.kill()
        assert run.communicate(timeout=20)[1] == b""  # which ends when the last process that could speak is gone


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs masks of signals")
def test_no_decoder_is_reached_by_what_ends_the_run() -> None:
    """Not while its interpreter starts either, also that of the first one, with which Python starts its tracker."""
    code = (
        "from tests.audio.test_workers import *\n"
        "songs = [(name, Path(name)) for name in ['blocked'] * 9]\n"
        "for _, answer in decode_ahead(songs, act, n_workers=3, look_ahead=9, time_limit_seconds=30): print(answer)\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert child.stderr == "" and child.stdout.splitlines() == ["SIGHUP SIGINT SIGTERM"] * 9 + ["set()"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_what_reaches_the_whole_group_fails_no_song(number: signal.Signals) -> None:
    """The run is to end by it, and its decoders when it says so."""
    code = (
        "from tests.audio.test_workers import *\n"
        f"signal.signal({number:d}, lambda *_: None)\n"
        "songs = [(name, Path(name)) for name in ['a', 'sleep-1', 'sleep-1', 'b', 'b']]\n"
        "for _, answer in decode_ahead(songs, act, n_workers=2, look_ahead=6, time_limit_seconds=30):\n"
        "    print(answer, flush=True)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdout=-1, stderr=-1, cwd=ROOT, text=True, start_new_session=True
    )
    assert run.stdout is not None
    run.stdout.readline()
    os.killpg(run.pid, number)
    out, err = run.communicate(timeout=60)
    assert (out.split(), err) == (["sleep-1", "sleep-1", "b", "b"], "")


def test_no_songs_need_no_processes() -> None:
    assert run([]) == []
