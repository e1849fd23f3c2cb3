"""`genre-tag report` as a user meets it: which run, which form, where to, and one line for each trouble."""

# ruff: noqa: F811  (fixtures are imported by name)

import csv
import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_tag import Run, genre_tag, music, tones  # noqa: F401
from tests.support.runs import run_by_hand, seeded, write_run

GENRES = ("Blues", "Jazz", "Rock")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with the runs a (newest) and b."""
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs/b"), seeded(GENRES, lead=1, seed=2))
    os.utime("runs/b/metrics.json", (1, 1))
    write_run(Path("runs/a"), seeded(GENRES, lead=3, seed=1))
    return tmp_path


def test_no_arguments_report_on_the_newest_run(genre_tag: Callable[..., Run], here: Path) -> None:
    newest = genre_tag("report")
    assert (newest.code, newest.err) == (0, "")
    assert newest.out.startswith("How accurate runs/a is\n")
    assert newest.out == genre_tag("report", "runs/a").out
    older = genre_tag("report", "runs/b")
    assert older.out.startswith("How accurate runs/b is\n") and older.out != newest.out


def test_a_split_can_be_chosen(genre_tag: Callable[..., Run], here: Path) -> None:
    assert "test split               200 songs" in genre_tag("report").out
    assert "test split               200 songs" in genre_tag("report", "--split", "test").out
    validate = " ".join(genre_tag("report", "runs/b", "--split", "validate").out.split())
    assert "validate split 100 songs" in validate and "were chosen on" in validate
    assert genre_tag("report", "--split", "train").code == 2


def test_two_runs_are_compared(genre_tag: Callable[..., Run], here: Path) -> None:
    run = genre_tag("report", "--compare", "runs/b")
    assert run.code == 0
    assert [line.split()[-1] for line in run.out.splitlines() if line.startswith(("mean ", "vote "))] == ["better"] * 2
    assert "  worse" in genre_tag("report", "runs/b", "--compare", "runs/a").out
    assert "100 songs in both" in genre_tag("report", "--compare", "runs/b", "--split", "validate").out


def test_several_runs_are_a_study_however_they_are_named(genre_tag: Callable[..., Run], here: Path) -> None:
    write_run(Path("runs/c"), seeded(GENRES, lead=2, seed=3))
    named = genre_tag("report", "runs/a", "runs/b", "runs/c")
    assert (named.code, named.err) == (0, "") and named.out.startswith("A study of 3 runs\n")
    assert genre_tag("report", "runs/a", "--compare", "runs/b", "--compare", "runs/c").out == named.out
    assert genre_tag("report", "runs").out == named.out  # by their names
    assert genre_tag("report", "--compare", "runs/a", "--compare", "runs/b").out.startswith("A study of 3 runs\n")
    rows = list(csv.DictReader(io.StringIO(genre_tag("report", "runs", "--format", "csv").out)))
    assert [row["run"] for row in rows] == ["a", "b", "c"]
    assert [row["mean is"] for row in rows] == ["", "worse", "worse"]
    kinds = [genre_tag("report", "runs", "--format", form).out for form in ("json", "html")]
    assert json.loads(kinds[0])["kind"] == "study" and "By mean of the snippets" in kinds[1]


@pytest.mark.parametrize("how", ["--format", "--out"])
def test_forms(genre_tag: Callable[..., Run], here: Path, how: str) -> None:
    def made(form: str) -> str:
        if how == "--format":
            run = genre_tag("report", "--format", form)
            assert run.err == ""
            return run.out
        file = Path(f"report.{form}")
        run = genre_tag("report", "--out", file)
        assert (run.code, run.out, run.err) == (0, "", f"Written: {file}\n")
        return file.read_text(encoding="utf-8")

    assert json.loads(made("json"))["kind"] == "run"
    assert len(list(csv.DictReader(io.StringIO(made("csv"))))) == 200
    assert made("html").startswith("<!doctype html>")
    assert made("text").startswith("How accurate runs/a is\n")


@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
def test_a_report_takes_the_place_of_the_last_one_with_its_mode(genre_tag: Callable[..., Run], here: Path) -> None:
    for name in ("report.html", "a.png"):
        Path("elsewhere").mkdir(exist_ok=True)
        Path("elsewhere", name).write_bytes(b"old")
        Path("elsewhere", name).chmod(0o600)
        Path(name).symlink_to(Path("elsewhere", name))
    assert genre_tag("report", "--out", "report.html", "--png", "a.png").code == 0
    for name, head in (("report.html", b"<!doc"), ("a.png", b"\x89PNG")):
        assert Path(name).is_symlink() and Path(name).read_bytes().startswith(head)
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600
        assert os.listdir("elsewhere").count(name) == 1 and len(os.listdir("elsewhere")) == 2


def test_a_form_outweighs_the_name_of_the_file(genre_tag: Callable[..., Run], here: Path) -> None:
    assert genre_tag("report", "--format", "json", "--out", "a.html").code == 0
    assert json.loads(Path("a.html").read_text())["kind"] == "run"
    assert genre_tag("report", "--out", "A.HTM").code == 0
    assert Path("A.HTM").read_text().startswith("<!doctype html>")


def test_the_confusion_is_drawn(genre_tag: Callable[..., Run], here: Path) -> None:
    run = genre_tag("report", "--png", "a.png")
    assert run.code == 0 and run.out.startswith("How accurate") and run.err == "Written: a.png\n"
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        ("runs/a --compare runs/a", 3, "runs/a: is the very run it is to be compared with"),
        ("--compare nothing", 3, "nothing: no run folder: no predictions.jsonl in there"),
        ("nothing --compare runs/a", 2, "nothing: --compare is for a run, and that is no run folder."),
        ("music --split test", 2, "music: --split is for a run, and that is no run folder."),
        ("runs/a --model audioset", 2, "--model is for a library: name a folder of music."),
        ("--playlists lists", 2, "--playlists is for a library: name a folder of music."),
        ("--compare runs/b --png a.png", 2, "--png is for one run: of several there is no one confusion to draw."),
        ("runs/a runs/a", 3, "runs/a: a run is named twice"),
        ("runs --compare runs/a", 3, "runs/a: a run is named twice"),
        ("runs/a music", 2, "music: no run, and beside runs nothing else is reported on."),
        ("runs --png a.png", 2, "--png is for one run: of several there is no one confusion to draw."),
        ("--png a.jpg", 2, "--png a.jpg: name a file that ends in .png, no other is written over."),
        ("--out a.png", 2, "--out a.png: a picture is drawn by --png a.png."),
        ("--out song.mp3", 2, "song.mp3: that is the name of a music file or a playlist; records would replace it"),
        ("--out list.m3u8", 2, "list.m3u8: that is the name of a music file or a playlist; records would replace it"),
        ("--out no/a.html", 3, "no/a.html: No such file or directory"),
        ("--out runs", 3, "runs: Is a directory"),
        ("--png no/a.png", 3, "no/a.png: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    genre_tag: Callable[..., Run], here: Path, arguments: str, code: int, line: str
) -> None:
    Path("song.mp3").write_bytes(b"music")
    run = genre_tag("report", *arguments.split())
    assert run.code == code
    assert run.err.startswith(f"genre-tag: {line}") and run.err.count("\n") == 1
    assert Path("song.mp3").read_bytes() == b"music"


def test_settings_of_tag_are_no_options_of_a_run(
    genre_tag: Callable[..., Run], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("config.toml").write_text('model = "audioset"\nsnippets = 3\n')
    monkeypatch.setenv("GENRE_TAG_DEVICE", "cpu")
    assert genre_tag("report").code == 0


def test_a_folder_of_music_is_a_library(genre_tag: Callable[..., Run], here: Path, music: Path) -> None:
    run = genre_tag("report", music, "--playlists", "lists", "--png", "a.png")
    assert run.code == 3 and "there is no confusion to draw" in run.err  # no song has a genre in its tag
    run = genre_tag("report", music, "--format", "json", "--playlists", "lists")
    assert run.code == 0 and json.loads(run.out)["kind"] == "library"
    assert Path("lists/Rock.m3u8").read_text().splitlines()[-1].endswith("rock.mp3")
    assert genre_tag("report", "--model", "starter", "runs/a", "--format", "json").code == 2


def test_a_folder_of_neither_is_said_to_be(genre_tag: Callable[..., Run], here: Path) -> None:
    Path("empty").mkdir()
    run = genre_tag("report", "empty")
    assert run.err == "No songs found in empty, and no run.\n"
    assert "\nNo songs were found.\n" in run.out


def test_where_there_is_no_run_there_is_a_way_out(
    genre_tag: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = genre_tag("report")
    assert (run.code, run.out) == (3, "")
    assert run.err == (
        "genre-tag: runs: no run there yet: train one (genre-tag train), or name a run folder, or a folder of music\n"
    )


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (b"", "empty"),
        (b"\x00\x01", "line 1: no predictions log"),
        (b'{"format": "genre-tag predictions", "version": 7}\n', "line 1: version 7 where this genre-tag reads 1: upd"),
        (b'{"format": "genre-tag predictions", "version": 0}\n', "line 1: version 0 where this genre-tag reads 1: tra"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_line(
    genre_tag: Callable[..., Run], here: Path, damage: bytes, line: str
) -> None:
    Path("runs/a/predictions.jsonl").write_bytes(damage)
    for arguments in ((), ("runs/a",), ("runs/b", "--compare", "runs/a")):
        run = genre_tag("report", *arguments)
        assert (run.code, run.out) == (3, "")
        assert run.err.startswith(f"genre-tag: runs/a/predictions.jsonl: {line}") and run.err.count("\n") == 1


def test_a_run_without_songs_of_a_split_is_one_line(genre_tag: Callable[..., Run], here: Path) -> None:
    run_by_hand(Path("runs/c"))
    run = genre_tag("report", "runs/c", "--split", "validate")
    assert run.code == 3
    assert run.err == "genre-tag: runs/c/predictions.jsonl: no songs of the validate split, only of test\n"


def test_html_is_not_poured_into_a_terminal(
    genre_tag: Callable[..., Run], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    run = genre_tag("report", "--format", "html")
    assert run.code == 2 and "--out report.html" in run.err
    assert genre_tag("report", "--format", "html", "--out", "a.html").code == 0


def test_asking_for_help_loads_little() -> None:
    code = (
        "import sys\nfrom tagger.cli.main import main\n"
        "try: main(['report', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit(' '.join(sys.modules.keys() & {'numpy', 'rich', 'torch', 'av', 'mutagen', 'matplotlib'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "\n" and "genre-tag report RUN --compare RUN2" in done.stdout


def test_a_report_loads_neither_torch_nor_matplotlib(here: Path) -> None:
    code = (
        "import sys\nfrom tagger.cli.main import main\n"
        "try: main(['report', '--format', 'json'])\nexcept SystemExit: pass\n"
        "sys.exit(' '.join(sys.modules.keys() & {'torch', 'matplotlib', 'sklearn', 'datasets', 'transformers'}))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stderr == "\n" and json.loads(done.stdout)["kind"] == "run"
