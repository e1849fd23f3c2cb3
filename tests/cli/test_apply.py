"""From a run to a plan, from a plan to tags, and back: `genre-tag PATH --plan` and `genre-tag apply`."""
# ruff: noqa: F811 (fixtures are imported by name)

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tagger.review.decisions import decisions_path, labels
from tagger.review.plan import REJECT, read_plan, write_plan
from tagger.tags import genre as tags
from tagger.tags.identity import identify
from tests.cli.test_tag import Run, genre_tag, music, tones  # noqa: F401
from tests.review.rows import row_for

GenreTag = Callable[..., Run]


def edited(path: Path, **decisions: str) -> None:
    """The plan with these decisions, as LibreOffice saves it in German."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["decision"] = decisions.get(Path(row["path"]).stem, row["decision"])
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], delimiter=";", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text("\ufeff" + text.getvalue(), encoding="utf-8")


def test_a_plan_is_made_edited_shown_written_and_undone(genre_tag: GenreTag, music: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in music.iterdir()}
    plan = tmp_path / "plan.csv"
    assert genre_tag(music, "--plan", plan).code == 0
    assert [(Path(row.path).name, row.proposed, row.decision) for row in read_plan(plan).rows] == [
        ("blues.flac", ("Blues",), "accept"),
        ("rock.mp3", ("Rock",), "accept"),
    ]
    edited(plan, blues="Jazz; Soul")
    shown = genre_tag("apply", plan)
    assert shown.code == 0
    assert shown.out.splitlines() == ["blues.flac  – → Jazz; Soul", "rock.mp3    – → Rock"]
    assert "2 songs: 2 would be tagged" in shown.err and "Nothing was written." in shown.err
    assert {path: path.read_bytes() for path in music.iterdir()} == before
    assert not decisions_path().exists()
    assert genre_tag("apply", plan, "--write-tags").code == 0
    assert tags.read_genres(music / "blues.flac") == ("Jazz", "Soul")
    assert tags.read_genres(music / "rock.mp3") == ("Rock",)
    assert labels() == {identify(music / "blues.flac"): ("Jazz", "Soul")}
    again = genre_tag("apply", plan, "--write-tags")
    assert (again.code, "0 tagged, 2 unchanged" in again.err) == (0, True)
    assert genre_tag("undo", "last").code == 0
    assert {path: path.read_bytes() for path in music.iterdir()} == before


def test_an_unedited_plan_does_what_the_run_would(genre_tag: GenreTag, music: Path, tmp_path: Path) -> None:
    genre_tag(music, "--plan", tmp_path / "plan.jsonl", "--existing", "append")
    assert genre_tag("apply", tmp_path / "plan.jsonl", "--write-tags").code == 0
    made = {path.name: path.read_bytes() for path in music.iterdir()}
    genre_tag("undo", "last")
    genre_tag(music, "--write-tags", "--existing", "append")
    assert {path.name: path.read_bytes() for path in music.iterdir()} == made


def test_what_cannot_be_done_is_named_and_the_rest_is_done(genre_tag: GenreTag, music: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.jsonl"
    genre_tag(music, "--plan", plan)
    with plan.open("a") as file:
        file.write("nonsense\n")
    (music / "blues.flac").unlink()
    run = genre_tag("apply", plan, "--write-tags")
    assert run.code == 1
    assert f"genre-tag: {plan}: line 3: not JSON: " in run.err
    assert "blues.flac  failed: no such file" in run.out
    assert "rock.mp3    – → Rock" in run.out
    assert tags.read_genres(music / "rock.mp3") == ("Rock",)
    assert genre_tag("apply", plan, "--write-tags", "--quiet").code == 1


def test_songs_that_nobody_decided_on_are_kept(genre_tag: GenreTag, music: Path, tmp_path: Path) -> None:
    genre_tag(music, "--plan", tmp_path / "plan.csv")
    edited(tmp_path / "plan.csv", blues="", rock="Reject")
    run = genre_tag("apply", tmp_path / "plan.csv", "--write-tags")
    assert run.code == 0
    assert run.out.splitlines() == ["blues.flac  –  kept: undecided", "rock.mp3    –  kept: rejected"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plan", "plan.csv", "--write-tags"], "--plan and --write-tags contradict each other"),
        (["--plan", "plan.xlsx"], "--plan plan.xlsx: name a file that ends in .csv or .jsonl."),
        (["--plan", "there.csv"], "--plan there.csv: it is there, and its decisions would be lost; name another file."),
        (["--plan", "nowhere/plan.csv"], "--plan nowhere/plan.csv: nothing can be written into its folder."),
        (["--plan", "plan.csv", "--engine", "ray"], "--plan is for --engine local."),
    ],
)
def test_a_plan_that_cannot_be_made(
    genre_tag: GenreTag, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("mine")
    run = genre_tag(music, *arguments)
    assert (run.code, said in run.err) == (2, True), run.err
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert not (tmp_path / "plan.csv").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.write_text("a,b\n"), "no plan of genre-tag: its first line has no column decision"),
        (lambda path: path.mkdir(), "Is a directory"),
    ],
)
def test_what_is_no_plan_is_one_line(
    genre_tag: GenreTag, tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:  # fmt: skip
    make(tmp_path / "plan.csv")
    run = genre_tag("apply", tmp_path / "plan.csv")
    assert (run.code, run.out, len(run.err.splitlines())) == (3, "", 1)
    assert f"genre-tag: {tmp_path / 'plan.csv'}: " in run.err and said in run.err


def test_a_journal_that_cannot_be_kept_is_one_line(genre_tag: GenreTag, music: Path, tmp_path: Path) -> None:
    genre_tag(music, "--plan", tmp_path / "plan.csv")
    journal = Path(os.environ["XDG_STATE_HOME"]) / "genre-tag" / "journal"
    journal.write_text("in the way")
    run = genre_tag("apply", tmp_path / "plan.csv", "--write-tags")
    assert (run.code, run.out) == (3, "")
    assert run.err.endswith(": nothing is written without a record of it\n") and len(run.err.splitlines()) == 1
    assert tags.read_genres(music / "rock.mp3") == ()


def test_a_full_disk_is_one_line_and_leaves_no_plan(
    genre_tag: GenreTag, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tagger.atomic.os.fsync", full)
    run = genre_tag(music, "--plan", tmp_path / "plan.csv", "--quiet")
    assert run.code == 3
    assert f"genre-tag: {tmp_path / 'plan.csv'}: No space left on device" in run.err
    assert not list(tmp_path.glob("*.csv")) and not list(tmp_path.glob("*.tmp"))


def test_decisions_that_cannot_be_kept_stop_nothing(genre_tag: GenreTag, music: Path, tmp_path: Path) -> None:
    genre_tag(music, "--plan", tmp_path / "plan.csv")
    edited(tmp_path / "plan.csv", rock="Punk")
    decisions_path().write_text("not a database, but long enough to be looked at as one" * 100)
    run = genre_tag("apply", tmp_path / "plan.csv", "--write-tags")
    assert run.code == 0
    assert f"{decisions_path()}: file is not a database: learn will not know of these genres" in run.err
    assert tags.read_genres(music / "rock.mp3") == ("Punk",)


def test_settings_say_how_to_write(genre_tag: GenreTag, music: Path, tmp_path: Path) -> None:
    genre_tag(music, "--plan", tmp_path / "plan.csv")
    edited(tmp_path / "plan.csv", blues="Jazz; Soul", rock="reject")
    (tmp_path / "config.toml").write_text('separator = " / "')
    genre_tag("apply", tmp_path / "plan.csv", "--write-tags")
    assert tags.read_genres(music / "blues.flac") == ("Jazz / Soul",)


def test_ctrl_c_ends_between_two_songs(music: Path, tmp_path: Path) -> None:
    song = music / "rock.mp3"
    for number in range(400):
        (music / f"{number}.mp3").write_bytes(song.read_bytes())
    rows = [row_for(path, decision=("Pop",)) for path in sorted(music.glob("*.mp3"))]
    write_plan(tmp_path / "plan.jsonl", rows)
    run = subprocess.Popen(
        [sys.executable, "-m", "tagger", "apply", str(tmp_path / "plan.jsonl"), "--write-tags", "--show", "all"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stdout is not None
    run.stdout.readline()
    time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Interrupted. These songs are done; run the same command again for the others." in told
    assert "Traceback" not in told
    n_written = sum(tags.read_genres(row.path) == ("Pop",) for row in rows)
    assert 0 < n_written < len(rows)
    assert f"{n_written} of {len(rows)} songs: {n_written} tagged" in told


def test_a_rejected_row_in_json_is_a_word(tmp_path: Path, music: Path) -> None:
    write_plan(tmp_path / "plan.jsonl", [row_for(music / "rock.mp3", decision=REJECT)])
    assert json.loads((tmp_path / "plan.jsonl").read_text())["decision"] == "reject"
