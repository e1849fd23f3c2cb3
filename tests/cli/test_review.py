"""`genre-tag review` as a user starts and ends it; what the page does is in tests/review."""
# ruff: noqa: F811 (fixtures are imported by name)

import os
import re
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tagger.cli import review as review_module
from tagger.review import server as server_module
from tagger.review.decisions import decisions_path
from tagger.tags import genre as tags
from tests.cli.test_tag import Run, genre_tag, music, tones  # noqa: F401
from tests.review.rows import many_rows, plan_of, row_for
from tests.review.serving import Served, login

GenreTag = Callable[..., Run]


@pytest.fixture
def reviews(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The reviews that were begun; each ends at once, as if the page had closed it."""
    found: list[Any] = []

    class Closed(server_module.Server):
        def __init__(self, review: Any, port: int = 0) -> None:
            super().__init__(review, port)
            found.append(review)

        def run(self) -> None:
            self._socket.close()

    monkeypatch.setattr(server_module, "Server", Closed)
    return found


def test_songs_are_classified_and_nothing_is_decided_on(genre_tag: GenreTag, music: Path, reviews: list[Any]) -> None:
    run = genre_tag("review", music, "--no-browser")
    assert run.code == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}\n", run.out)
    assert "2 songs to review there. Ctrl-C ends it; decisions are kept." in run.err
    (review,) = reviews
    assert [(Path(row.path).name, row.proposed, row.decision) for row in review.rows] == [
        ("blues.flac", ("Blues",), ""),
        ("rock.mp3", ("Rock",), ""),
    ]
    assert [tags.read_genres(path) for path in music.iterdir()] == [(), ()]


def test_a_plan_is_reviewed_with_its_decisions(
    genre_tag: GenreTag, music: Path, reviews: list[Any], tmp_path: Path
) -> None:
    rows = [row_for(path, decision=("Jazz",)) for path in sorted(music.iterdir())]
    plan_of(tmp_path / "plan.csv", rows)
    with (tmp_path / "plan.csv").open("a") as file:
        file.write("nonsense\n")
    run = genre_tag("review", tmp_path / "plan.csv", "--no-browser", "--separator", " / ")
    assert run.code == 0
    assert f"genre-tag: {tmp_path / 'plan.csv'}: line 4: " in run.err
    (review,) = reviews
    assert [row.decision for row in review.rows] == [("Jazz",), ("Jazz",)]
    assert review._options.separator == " / "


def test_a_browser_is_opened_where_it_can_be_seen(
    genre_tag: GenreTag, music: Path, reviews: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    for seen, browser in ((True, webbrowser.BackgroundBrowser("x")), (False, webbrowser.GenericBrowser("w3m"))):
        monkeypatch.setattr(webbrowser, "get", lambda browser=browser: browser)
        assert review_module._has_screen() is seen
        opened.clear()
        run = genre_tag("review", music)
        assert len(opened) == seen
        assert all(re.match(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}$", each) for each in opened)
        assert run.out.strip() not in opened  # other users of the machine can read a command line
    assert genre_tag("review", music, "--no-browser").code == 0

    def none() -> None:
        raise webbrowser.Error("no browser")

    monkeypatch.setattr(webbrowser, "get", none)
    assert not review_module._has_screen()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Missing argument 'PATH... | PLAN'"),
        (["nowhere"], 2, "nowhere: no such file or folder"),
        (["empty"], 3, "no song to review in empty"),
        (["plan.csv", "empty"], 2, "a plan is reviewed alone."),
        (["plan.csv"], 3, "plan.csv: No such file or directory"),
        (["empty", "--port", "70000"], 2, "70000 is not in the range 0<=x<=65535"),
    ],
)
def test_what_cannot_be_reviewed_is_one_line(
    genre_tag: GenreTag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    run = genre_tag("review", *arguments)
    assert (run.code, run.out, len(run.err.splitlines())) == (code, "", 1)
    assert said in run.err


def test_a_port_that_is_taken_is_one_line(genre_tag: GenreTag, tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "plan.csv", many_rows(2))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = genre_tag("review", plan, "--port", str(port))
    assert (run.code, run.out) == (3, "")
    assert run.err == f"genre-tag: 127.0.0.1:{port}: Address already in use\n"


def test_decisions_that_cannot_be_kept_are_one_line(genre_tag: GenreTag, tmp_path: Path) -> None:
    decisions_path().parent.mkdir(parents=True)
    decisions_path().write_bytes(b"no database" * 100)
    run = genre_tag("review", plan_of(tmp_path / "plan.csv", many_rows(2)))
    assert (run.code, run.err) == (3, f"genre-tag: {decisions_path()}: file is not a database\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_it_ends_when_it_is_asked_to(tmp_path: Path, number: signal.Signals, code: int) -> None:
    plan = plan_of(tmp_path / "plan.csv", many_rows(20))
    command = [sys.executable, "-m", "tagger", "review", str(plan), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().startswith("http://127.0.0.1:")
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == code
    assert told.strip().splitlines()[-1] == "Closed. The same command goes on from here."
    assert "Traceback" not in told and not os.path.exists(tmp_path / "core")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_end_in_the_midst_of_writing_can_be_undone(
    genre_tag: GenreTag, music: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Each song is as it was, or is written and has its record."""
    for copy in range(60):
        (music / f"{copy}.mp3").write_bytes((music / "rock.mp3").read_bytes())
    before = {path: path.read_bytes() for path in sorted(music.glob("*.mp3"))}
    plan = plan_of(tmp_path / "plan.jsonl", [row_for(path, decision=("Pop",)) for path in before])
    command = [sys.executable, "-m", "tagger", "review", str(plan), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    server: Any = SimpleNamespace(address=process.stdout.readline().strip())
    served = Served(None, server)  # type: ignore[arg-type]
    served.cookie = login(served)
    assert served.post("/write").status == 200
    while tags.read_genres(next(iter(before))) != ("Pop",):
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    written = [path for path in before if path.read_bytes() != before[path]]
    assert 0 < len(written) < len(before)
    assert all(tags.read_genres(path) == ("Pop",) for path in written)
    assert genre_tag("undo", "last").code == 0
    assert {path: path.read_bytes() for path in before} == before
