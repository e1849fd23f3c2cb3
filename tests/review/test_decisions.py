"""Decisions are on the disk when they are kept, whoever is killed then, and are known by the song alone."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tagger.errors import OutputError
from tagger.review.decisions import ALBUM, BULK, SONG, Decided, Decisions, decisions_path, labels
from tagger.review.plan import ACCEPT, REJECT, UNDECIDED, Row

ONE, TWO, THREE = (bytes([number]) * 32 for number in range(3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "decisions.sqlite3"


def test_what_is_kept_is_read_again(path: Path) -> None:
    kept = [
        Decided(ONE, ACCEPT, ("Rock", "=Pop"), SONG, "/music/caf\udce9.mp3"),
        Decided(TWO, ("Jazz", "שלום; עולם"), ("Rock",), ALBUM),
        Decided(THREE, REJECT, (), BULK),
    ]
    with Decisions(path) as decisions:
        assert decisions.since(0) == (0, [])
        assert decisions.keep(kept) == 1
    with Decisions(path) as decisions:
        assert decisions.since(0) == (1, kept)
        assert decisions.keep([Decided(TWO, UNDECIDED)]) == 2
        assert decisions.since(1) == (2, [Decided(TWO, UNDECIDED)])
        assert decisions.since(2) == (2, [])


def test_other_processes_see_what_is_kept(path: Path) -> None:
    with Decisions(path) as one, Decisions(path) as other:
        assert one.keep([Decided(ONE, ACCEPT)]) == 1
        assert other.keep([Decided(TWO, REJECT)]) == 2
        assert one.since(1) == (2, [Decided(TWO, REJECT)])


def test_many_at_once_are_kept_all(path: Path) -> None:
    def keep(first: int) -> None:
        with Decisions(path) as decisions:
            for number in range(first, first + 25):
                decisions.keep([Decided(number.to_bytes(32, "big"), ACCEPT)])

    threads = [threading.Thread(target=keep, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Decisions(path) as decisions:
        revision, found = decisions.since(0)
    assert (revision, len(found)) == (100, 100)


def test_all_or_none_of_them(path: Path) -> None:
    with Decisions(path) as decisions:
        with pytest.raises(TypeError):
            decisions.keep([Decided(ONE, ACCEPT), Decided(TWO, {1})])  # type: ignore[arg-type]
        assert decisions.since(0) == (0, [])
        assert decisions.keep([Decided(ONE, ACCEPT)]) == 1


KEEPER = """
import sys
from pathlib import Path
from tagger.review.decisions import Decided, Decisions
with Decisions(Path(sys.argv[1])) as decisions:
    for number in range(int(sys.argv[2]), 1 << 30):
        decisions.keep([Decided(number.to_bytes(32, "big"), (str(number),))])
        print(number, flush=True)
"""


def test_a_kill_at_any_moment_loses_none(path: Path) -> None:
    chance, told = random.Random(0), -1
    for _ in range(8):
        keeper = subprocess.Popen(
            [sys.executable, "-c", KEEPER, str(path), str(told + 1)], stdout=subprocess.PIPE, text=True
        )
        assert keeper.stdout is not None
        for _ in range(chance.randrange(1, 20)):
            told = int(keeper.stdout.readline())
        timer = threading.Timer(chance.uniform(0, 0.02), os.kill, (keeper.pid, signal.SIGKILL))
        timer.start()
        lines = keeper.stdout.read().split()
        told = int(lines[-1]) if lines else told
        keeper.wait()
        timer.join()
        with Decisions(path) as decisions:
            found = {each.identity: each.choice for each in decisions.since(0)[1]}
        assert len(found) in (told + 1, told + 2)  # one may be kept and not told of
        assert all(found[number.to_bytes(32, "big")] == (str(number),) for number in range(told + 1))
        told = len(found) - 1


def database_with(statement: str) -> Callable[[Path], None]:
    """What makes a database of somebody else's."""

    def make(path: Path) -> None:
        with closing(sqlite3.connect(path)) as database:
            database.execute(statement)
            database.commit()

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b"no database" * 100), "file is not a database"),
        (lambda path: path.mkdir(), "unable to open database file"),
        (database_with("CREATE TABLE theirs (x)"), "holds no decisions of this version"),
        (database_with("PRAGMA user_version = 9"), "holds no decisions of this version"),
    ],
)
def test_what_is_no_file_of_decisions_is_named_and_left_alone(
    path: Path, make: Callable[[Path], object], said: str
) -> None:
    path.parent.mkdir()
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(OutputError, match=said) as error:
        Decisions(path)
    assert error.value.path == path
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(OutputError, match=r"File exists|Not a directory"):
        Decisions(tmp_path / "state" / "decisions.sqlite3")


def test_a_damaged_decision_is_named(path: Path) -> None:
    with Decisions(path) as decisions:
        decisions.keep([Decided(ONE, ACCEPT)])
        decisions._database.execute("UPDATE decisions SET choice = '{'")
        with pytest.raises(OutputError, match="is damaged"):
            decisions.since(0)


ROW = Row("/a", ONE, proposed=("Rock",))


@pytest.mark.parametrize(
    ("decided", "now"),
    [
        (Decided(ONE, ACCEPT, ("Rock",)), ACCEPT),
        (Decided(ONE, REJECT, ("Rock",)), REJECT),
        (Decided(ONE, ("Jazz",), ("Rock",)), ("Jazz",)),
        (Decided(ONE, ACCEPT, ("Pop",)), ("Pop",)),  # it is Pop, whatever is proposed now
        (Decided(ONE, REJECT, ("Pop",)), UNDECIDED),  # it is not Pop: that says nothing of Rock
        (Decided(ONE, ("Rock",), ("Pop",)), ("Rock",)),
    ],
)
def test_what_a_decision_means_where_something_else_is_proposed(decided: Decided, now: object) -> None:
    assert decided.on(ROW) == now
    assert replace(ROW, decision=decided.on(ROW)).wanted == (decided.genres or None)


def test_accepted_and_corrected_genres_are_labels() -> None:
    assert labels() == {}
    with Decisions(decisions_path()) as decisions:
        decisions.keep([Decided(ONE, ACCEPT, ("Rock",)), Decided(TWO, ("Jazz", "Soul"), ("Pop",), ALBUM)])
        decisions.keep([Decided(THREE, ACCEPT, ("Rock",), BULK)])  # nobody looked at it
        assert labels() == {ONE: ("Rock",), TWO: ("Jazz", "Soul")}
        decisions.keep([Decided(ONE, REJECT, ("Rock",)), Decided(TWO, UNDECIDED)])
        assert labels() == {}
