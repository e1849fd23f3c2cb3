"""The command line, as a user meets it: options, settings, streams, exit codes, one line per trouble."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from tagger.cli.main import main
from tagger.cli.tag import PATHS_IN_SETTINGS, settings_of_tag, tag_options
from tagger.errors import ModelError
from tagger.tags import genre as tags
from tagger.terminal.signals import ENDING
from tests.support.fakes import FakeModel, make_options, make_tone

ROOT = Path(__file__).parents[2]


class Run:
    """What a command did: its exit code and what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def records(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def genre_tag(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Run]:
    """Runs the command line in this process, with a fake model and no settings but the test's own."""
    monkeypatch.setenv("GENRE_TAG_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setattr("tagger.models.description.describe", lambda name: FakeModel())
    monkeypatch.setattr("tagger.models.genre_model.GenreModel.load", lambda *_: FakeModel())
    previous = {number: signal.getsignal(number) for number in ENDING}

    def run(*arguments: str | Path) -> Run:
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Run(int(exit_.value.code or 0), captured.out, captured.err)

    yield run
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tones")
    make_tone(folder / "blues.flac", "Blues")
    make_tone(folder / "rock.mp3", "Rock")
    return folder


@pytest.fixture
def music(tones: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tones, tmp_path / "music"))


def settings(genre_tag: Callable[..., Run]) -> dict[str, tuple[str, str]]:
    """name -> (value, source), as `genre-tag config` prints them."""
    rows = (re.split(r"  +", line.strip()) for line in genre_tag("config").out.splitlines())
    return {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}


# ---- the default command


def test_a_path_alone_is_the_tag_command(genre_tag: Callable[..., Run], music: Path) -> None:
    run = genre_tag(music)
    assert run.code == 0
    assert run.out.splitlines() == ["blues.flac  – → Blues (1.00)", "rock.mp3    – → Rock (1.00)"]
    assert genre_tag("tag", music).out == run.out
    assert "2 songs: 2 would be tagged" in run.err and "Nothing was written" in run.err


def test_options_may_come_before_the_path(genre_tag: Callable[..., Run], music: Path) -> None:
    assert genre_tag("--write-tags", music).code == 0
    assert tags.read_genres(music / "rock.mp3") == ("Rock",)


@pytest.mark.parametrize("name", ["config", "undo", "explain"])
def test_a_folder_named_like_a_command_is_reached_by_dot_slash(
    genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(music.parent)
    music.rename(name)
    assert "rock.mp3" in genre_tag(f"./{name}").out
    assert "rock.mp3" not in genre_tag(name).out  # the command


def test_a_path_that_begins_with_a_dash(
    genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(music)
    (music / "rock.mp3").rename("-rock.mp3")
    assert "-rock.mp3  – → Rock (1.00)" in genre_tag("--", "-rock.mp3").out


def test_no_arguments_show_help(genre_tag: Callable[..., Run]) -> None:
    run = genre_tag()
    assert run.code == 2 and "genre-tag ~/Music" in run.err


def test_version(genre_tag: Callable[..., Run]) -> None:
    from tagger import __version__

    assert genre_tag("--version").out == f"genre-tag, version {__version__}\n"


# ---- wrong usage: one line, exit code 2, nothing done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--time-limit", "inf"], "'inf' is not a valid integer"),
        (["--time-limit", "0"], "0 is not in the range"),
        (["--json", "o", "--csv", "./o"], "same place"),
        (["--write-tags", "--dry-run"], "contradict"),
        (["--overwrite", "--existing", "append"], "contradict"),
        (["--quiet", "--verbose"], "contradict"),
        (["--min-confidence", "50"], "a fraction, not a percentage: did you mean 0.5?"),
        (["--min-confidence", "-0.1"], "not between 0 and 1"),
        (["--min-confidence", "nan"], "not between 0 and 1"),
        (["--min-confidence", "high"], "not a number from 0 to 1"),
        (["--snippets", "0"], "neither a count from 1 up nor 'all'"),
        (["--snippets", "2.5"], "neither a count"),
        (["--jobs", "many"], "neither a count from 1 up nor 'auto'"),
        (["--max-genres", "0"], "0 is not in the range"),
        (["--aggregate", "median"], "'median' is not one of"),
        (["--device", "tpu"], "'tpu' is not one of"),
        (["--separator", ""], "'' does not tell genres apart"),
        (["--separator", " "], "' ' does not tell genres apart"),
        (["--separator", "; \n"], "does not tell genres apart"),
        (["--separator", " and "], "does not tell genres apart"),
        (["--separator", "-", "--map", "hip-hop.map"], "'-' is part of the genre 'Hip-Hop'"),
        (["--wirte-tags"], "No such option"),
        (["--json", "-", "--csv", "-"], "same place"),
        (["--json", "x.mp3"], "x.mp3: that is the name of a music file"),
        (["--csv", "no/such/folder/x.csv"], "no/such/folder/x.csv: No such file or directory"),
        (["--map", "no.map"], "no.map: No such file or directory"),
    ],
)
def test_wrong_usage_is_one_line(
    genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (music / "hip-hop.map").write_text("Rock = Hip-Hop")
    monkeypatch.chdir(music)
    run = genre_tag(*arguments, music)
    assert (run.code, run.out) == (2, "")
    assert run.err.count("\n") == 1 and run.err.startswith("genre-tag: ")
    assert message in run.err


def test_no_path_is_wrong_usage(genre_tag: Callable[..., Run]) -> None:
    run = genre_tag("--write-tags")
    assert run.code == 2 and "no PATH given" in run.err


def test_a_hostile_argument_is_printed_harmlessly(genre_tag: Callable[..., Run]) -> None:
    run = genre_tag("--device", "\x1b[31mcpu\n[red]", "x")
    assert run.code == 2 and "\x1b" not in run.err and run.err.count("\n") == 1


def test_a_map_for_another_model_is_wrong_usage(genre_tag: Callable[..., Run], music: Path, tmp_path: Path) -> None:
    (tmp_path / "my.map").write_text("Polka = Folk\n")
    run = genre_tag("--map", tmp_path / "my.map", music)
    assert run.code == 2 and "no genre 'Polka'" in run.err.splitlines()[-1]


def test_max_genres_limits_what_is_predicted_and_append_adds_it(genre_tag: Callable[..., Run], music: Path) -> None:
    path = music / "rock.mp3"
    path.write_bytes(tags.retag(path.read_bytes(), ".mp3", ["My Own"]))
    options = ("--max-genres", "2", "--min-confidence", "0", "--existing", "append")
    record = json.loads(genre_tag("explain", "--json", *options, path).out)
    assert genre_tag("--write-tags", *options, path).code == 0
    assert tags.read_genres(path) == ("My Own", "Rock", "Blues") == tuple(record["new"])
    assert record["with_existing"] == {
        "keep": ["My Own"], "append": ["My Own", "Rock", "Blues"], "replace": ["Rock", "Blues"],
    }  # fmt: skip
    for command in ("tag", "explain", "report"):
        said = " ".join(genre_tag(command, "--help").out.split())
        assert "Genres predicted for a song at most; --existing append adds them to those it has." in said


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("tagg", "tag"), ("tga", "tag"), ("Undo", "undo"), ("repotr", "report"), ("tain", "train"), ("doctr", "doctor")],
)
def test_a_mistyped_command_is_told_what_was_meant(
    genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch, typed: str, meant: str
) -> None:
    monkeypatch.chdir(music)
    run = genre_tag(typed, music)
    assert (run.code, run.out) == (2, "")
    assert run.err == f"genre-tag: {typed}: no such file, folder or command: did you mean genre-tag {meant}?\n"
    music.rename(music.with_name("music2"))
    (music.parent / "music2" / typed).mkdir()
    assert "did you mean" not in genre_tag(typed).err  # it is there


@pytest.mark.parametrize("path", ["Queen", "tag.mp3", "./tagg", "no/tagg", "s3://tagg"])
def test_other_paths_that_are_not_there_are_no_commands(genre_tag: Callable[..., Run], path: str) -> None:
    run = genre_tag(path)
    assert run.code == 2 and "did you mean" not in run.err and "no such file or folder" in run.out


# ---- exit codes of runs


def test_a_missing_path_beside_songs_fails_alone(genre_tag: Callable[..., Run], music: Path) -> None:
    run = genre_tag(music, music / "nope")
    assert run.code == 1
    assert "nope" in run.out and "failed: no such file or folder" in run.out and "→ Rock" in run.out


def test_nothing_but_missing_paths_is_wrong_usage(genre_tag: Callable[..., Run], music: Path) -> None:
    assert genre_tag(music / "nope").code == 2


def test_an_empty_folder_is_fine_and_says_so(genre_tag: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = genre_tag(tmp_path / "empty")
    assert (run.code, run.out) == (0, "")
    assert run.err == f"No songs found in {tmp_path / 'empty'}.\n"


@pytest.mark.parametrize(
    ("engine", "name"),
    [(engine, name) for engine in ("local", "ray") for name in ("folder", "list.m3u", "-")] + [("ray", "list.csv")],
)
def test_nothing_to_write_into_is_exit_code_3(
    genre_tag: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, name: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("list.m3u").write_text("#EXTM3U\n")
    Path("list.csv").write_text("uri\n")
    Path("out.jsonl").write_text("of a run that found songs")
    run = genre_tag("--write-tags", "--engine", engine, "--json", "out.jsonl", name)
    hint = ": a share that is not mounted looks like an empty folder" if name == "folder" else ""
    assert (run.code, run.out) == (3, "") and run.err == f"genre-tag: no songs found in {name}{hint}\n"
    assert Path("out.jsonl").read_text() == "of a run that found songs"
    assert genre_tag("--engine", engine, name).code == 0  # who only looks may find nothing


def test_one_path_with_nothing_to_write_into_is_exit_code_1(
    genre_tag: Callable[..., Run], tmp_path: Path, music: Path
) -> None:
    (tmp_path / "empty").mkdir()
    run = genre_tag("--write-tags", music, tmp_path / "empty")
    assert run.code == 1 and f"No songs found in {tmp_path / 'empty'}.\n" in run.err and "2 tagged" in run.err
    assert genre_tag(music, tmp_path / "empty").code == 0
    run = genre_tag("--write-tags", music, music / "rock.mp3")  # found already is not nothing
    assert run.code == 0 and "No songs" not in run.err


def test_a_song_that_fails_is_exit_code_1(genre_tag: Callable[..., Run], music: Path) -> None:
    (music / "bad.mp3").touch()
    run = genre_tag(music)
    assert run.code == 1 and "bad.mp3     failed: empty file" in run.out and "1 failed" in run.err


@pytest.mark.parametrize("write", [[], ["--write-tags"]])
def test_a_song_that_failed_before_is_counted_and_no_news(
    genre_tag: Callable[..., Run], music: Path, write: list[str]
) -> None:
    (music / "bad.mp3").touch()
    data = (music / "blues.flac").read_bytes()
    (music / "cut.flac").write_bytes(data[:200] + bytes(len(data) - 200))  # its tag is whole, none of its frames is
    assert genre_tag("-q", *write, music).code == 1
    for options in ([], ["-q"], ["--json", "-"]):
        run = genre_tag(*options, *write, music)
        assert run.code == 0
        assert ", 2 failed; " in run.err and "cached, 2 of them failed (-v lists them)" in run.err
        assert "empty file" not in run.err and ("empty file" in run.out) == (options == ["--json", "-"])
    assert {r["path"][-8:]: (r["status"], r["cached"]) for r in run.records if r["status"] == "failed"} == {
        "/bad.mp3": ("failed", True), "cut.flac": ("failed", True),
    }  # fmt: skip
    run = genre_tag("-v", *write, music)
    assert run.code == 0 and "failed: empty file" in run.out and "cut.flac" in run.out
    assert genre_tag("--retry-failed", *write, music).code == 1
    (music / "new.mp3").touch()
    run = genre_tag("-q", *write, music)
    assert run.code == 1 and "new.mp3: empty file" in run.err and "bad.mp3" not in run.err
    assert ", 3 failed; " in run.err and "2 of them failed" in run.err


def test_no_model_is_exit_code_3_and_one_line(
    genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> FakeModel:
        raise ModelError("x/y", "not in the cache: go online once")

    monkeypatch.setattr("tagger.models.genre_model.GenreModel.load", load)
    run = genre_tag(music)
    assert (run.code, run.out) == (3, "")
    assert run.err == "genre-tag: x/y: not in the cache: go online once\n"


def test_a_model_that_gives_up_ends_the_run_with_its_reason(
    genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exhausted(FakeModel):
        batch_size = 1

        def logits(self, waveforms: object) -> object:  # type: ignore[override]
            if self.n_classified:
                raise ModelError("fake", "a snippet does not fit into the memory of cuda")
            return super().logits(waveforms)  # type: ignore[arg-type]

    monkeypatch.setattr("tagger.models.genre_model.GenreModel.load", lambda *_: Exhausted())
    run = genre_tag(music)
    assert run.code == 3 and "→ Blues" in run.out and "1 of 2 songs" in run.err
    assert run.err.endswith("genre-tag: fake: a snippet does not fit into the memory of cuda\n")


def test_no_journal_is_exit_code_3_and_nothing_is_written(
    genre_tag: Callable[..., Run], music: Path, nobody: Path
) -> None:
    (nobody / "state").write_text("a file where the folder should be")
    run = genre_tag("--write-tags", music)
    assert run.code == 3 and "nothing is written without a record of it" in run.err
    assert tags.read_genres(music / "rock.mp3") == ()
    assert genre_tag(music).code == 0  # looking needs no journal


def test_ctrl_c_keeps_what_is_done(genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(FakeModel):
        batch_size = 1

        def logits(self, waveforms: object) -> object:  # type: ignore[override]
            if self.n_classified:
                raise KeyboardInterrupt
            return super().logits(waveforms)  # type: ignore[arg-type]

    monkeypatch.setattr("tagger.models.genre_model.GenreModel.load", lambda *_: Interrupted())
    run = genre_tag("--write-tags", music)
    assert run.code == 130
    assert "1 of 2 songs" in run.err and "Interrupted" in run.err
    assert tags.read_genres(music / "blues.flac") == ("Blues",)
    assert tags.read_genres(music / "rock.mp3") == ()


# ---- streams


def test_json_on_stdout_is_nothing_but_json(genre_tag: Callable[..., Run], music: Path) -> None:
    (music / "bad\x1b[31m\n.mp3").touch()
    run = genre_tag("--json", "-", music)
    assert [record["predicted"] for record in run.records] == [None, "Blues", "Rock"]
    assert "bad\\x1b[31m\\n.mp3: empty file" in run.err


def test_an_old_record_stays_until_there_is_a_new_one(
    genre_tag: Callable[..., Run], music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.csv").write_text("precious")
    with monkeypatch.context() as patched:

        def load(*_: object) -> FakeModel:
            raise ModelError("x", "no such model")

        patched.setattr("tagger.models.genre_model.GenreModel.load", load)
        assert genre_tag("--csv", tmp_path / "out.csv", music).code == 3
    assert (tmp_path / "out.csv").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    genre_tag("--csv", tmp_path / "out.csv", tmp_path / "empty")
    assert (tmp_path / "out.csv").read_text().startswith("path,status")


def test_records_go_to_files_beside_the_rows(genre_tag: Callable[..., Run], music: Path, tmp_path: Path) -> None:
    run = genre_tag("--json", tmp_path / "out.jsonl", "--csv", tmp_path / "out.csv", music)
    assert "– → Rock" in run.out
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 3


def test_quiet_prints_failures_and_the_summary_only(genre_tag: Callable[..., Run], music: Path) -> None:
    (music / "bad.mp3").touch()
    run = genre_tag("-q", music)
    assert run.out == ""
    assert f"{music / 'bad.mp3'}: empty file" in run.err and "3 songs:" in run.err


def test_verbose_names_device_and_runners_up(genre_tag: Callable[..., Run], music: Path) -> None:
    run = genre_tag("-v", music)
    assert "model fake on cpu by no engine in fp32 (it is a fake), 1 thread, batches of 4" in run.err
    assert "– → Rock (Rock 1.00, Blues 0.00, Classical 0.00)" in run.out


def test_paths_on_standard_input(genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(f"{music}/rock.mp3\0".encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert genre_tag("-").out.splitlines() == ["rock.mp3  – → Rock (1.00)"]


def test_no_standard_input_is_needed(
    genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert genre_tag(music).code == 0
    assert genre_tag("-").err == "No songs found in -.\n"


def test_a_path_with_two_slashes(genre_tag: Callable[..., Run], music: Path) -> None:
    assert genre_tag(f"/{music}").out.count("→") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_takes_no_more_records_is_one_line(genre_tag: Callable[..., Run], music: Path) -> None:
    run = genre_tag("--json", "/dev/full", music)
    assert run.code == 3 and "/dev/full: No space left on device" in run.err


def test_limit_and_exclude(genre_tag: Callable[..., Run], music: Path) -> None:
    (music / "a.mka").touch()
    assert genre_tag("--limit", "1", music).out.count("→") == 1
    (music / "a.mka").unlink()
    assert genre_tag("--limit", "1", music).out.count("\n") == 1
    assert genre_tag("--exclude", "*.flac", music).out.splitlines() == ["rock.mp3  – → Rock (1.00)"]


# ---- settings


def test_command_line_outweighs_environment_outweighs_file(
    genre_tag: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, music: Path
) -> None:
    assert settings(genre_tag)["aggregate"] == ("mean", "default")
    (tmp_path / "config.toml").write_text('aggregate = "vote"\nmin-confidence = 0.9\nexclude = ["*.flac"]\n')
    assert settings(genre_tag)["aggregate"] == ("vote", "settings file")
    assert settings(genre_tag)["min-confidence"] == ("0.9", "settings file")
    monkeypatch.setenv("GENRE_TAG_AGGREGATE", "max")
    assert settings(genre_tag)["aggregate"] == ("max", "environment")
    assert {r["scale"] for r in genre_tag("--json", "-", music).records} == {"softmax"}
    records = genre_tag("--json", "-", "--aggregate", "vote", music).records
    assert [(Path(r["path"]).name, r["scale"]) for r in records] == [("rock.mp3", "share of snippets")]


@pytest.mark.parametrize(
    "name", ["write-tags", "dry-run", "overwrite", "reanalyze", "retry-failed", "quiet", "verbose", "debug"]
)
def test_what_is_for_the_command_line_alone_is_told_so(
    genre_tag: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, music: Path, name: str
) -> None:
    (tmp_path / "config.toml").write_text(f"{name.replace('-', '_')} = true")
    run = genre_tag(music)
    assert (run.code, run.out) == (2, "")
    assert run.err == f"genre-tag: {tmp_path / 'config.toml'}: {name} is for the command line alone: type --{name}\n"
    (tmp_path / "config.toml").unlink()
    variable = f"GENRE_TAG_{name.replace('-', '_').upper()}"
    monkeypatch.setenv(variable, "1")
    run = genre_tag(music)
    assert (run.code, run.out) == (2, "")
    assert run.err == f"genre-tag: {variable}: {name} is for the command line alone: type --{name}\n"
    assert tags.read_genres(music / "rock.mp3") == ()
    monkeypatch.setenv(variable, "")
    assert genre_tag(music).code == 0


def test_an_unknown_setting_is_refused(genre_tag: Callable[..., Run], tmp_path: Path, music: Path) -> None:
    (tmp_path / "config.toml").write_text("typo = 1")
    run = genre_tag(music)
    assert run.code == 2 and "config.toml: unknown setting 'typo'" in run.err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("min-confidence = true", "min-confidence is true, and has to be a number from 0 to 1"),
        ("min-confidence = [0.5]", "min-confidence is [0.5], and has to be a number from 0 to 1"),
        ("limit = true", "limit is true, and has to be a whole number"),
        ("limit = 7.5", "limit is 7.5, and has to be a whole number"),
        ("snippets = false", "snippets is false, and has to be a whole number or one of all, auto"),
        ("jobs = 2.0", "jobs is 2.0, and has to be a whole number or one of auto"),
        ("existing = true", "existing is true, and has to be one of keep, append, replace"),
        ("json = true", "json is true, and has to be text in quotes"),
        ("model = 3", "model is 3, and has to be text in quotes"),
        ("map = 1979-05-27", "map is 1979-05-27, and has to be text in quotes"),
        ("results = {}", "results is {}, and has to be text in quotes"),
        ("exclude = [1]", "exclude is [1], and has to be a list of texts in quotes"),
        ("exclude = 1", "exclude is 1, and has to be a list of texts in quotes"),
        ('preserve-mtime = "no"', 'preserve-mtime is "no", and has to be true or false'),
        ("preserve-mtime = 1", "preserve-mtime is 1, and has to be true or false"),
        ("[existing]\nkeep = true", 'existing is {"keep": true}, and has to be one of keep, append, replace'),
    ],
)
def test_a_setting_of_the_wrong_type_is_one_line(
    genre_tag: Callable[..., Run], tmp_path: Path, music: Path, setting: str, message: str
) -> None:
    (tmp_path / "config.toml").write_text(setting)
    run = genre_tag(music)
    assert (run.code, run.out, run.err) == (2, "", f"genre-tag: {tmp_path / 'config.toml'}: {message}\n")


def test_paths_in_the_settings_file_begin_where_it_lies(
    genre_tag: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "400")
    for value, expected in (("x/y", tmp_path / "x/y"), ("~/y", tmp_path / "home/y"), ("/y", Path("/y"))):
        for name in PATHS_IN_SETTINGS:
            written = f"./{value}" if (name, value) == ("model", "x/y") else value
            (tmp_path / "config.toml").write_text(f'{name} = "{written}"')
            assert settings(genre_tag)[name] == (str(expected), "settings file")
    for name in ("json", "csv"):
        (tmp_path / "config.toml").write_text(f'{name} = "-"')
        assert settings(genre_tag)[name][0] == "-"
    monkeypatch.setenv("GENRE_TAG_CONFIG", "../config.toml")
    (tmp_path / "config.toml").write_text('map = "my.map"')
    assert settings(genre_tag)["map"][0] == str(tmp_path / "my.map")


def test_every_setting_that_is_a_path_begins_there() -> None:
    paths = {name for name, option in settings_of_tag().items() if isinstance(option.type, click.Path)}
    assert paths | {"json", "csv", "model"} == PATHS_IN_SETTINGS.keys()


@pytest.mark.parametrize("value", ["starter", "audioset", "owner/name"])
def test_a_model_in_the_settings_may_be_a_name_or_a_folder(
    genre_tag: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "config.toml").write_text(f'model = "{value}"')
    assert settings(genre_tag)["model"][0] == value
    (tmp_path / value).mkdir(parents=True)
    is_name = value in ("starter", "audioset")
    assert settings(genre_tag)["model"][0] == (value if is_name else str(tmp_path / value))


def test_a_map_in_the_settings_is_used_from_any_folder(
    genre_tag: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, music: Path
) -> None:
    (tmp_path / "my.map").write_text("Rock = Stone\n")
    (tmp_path / "config.toml").write_text('map = "my.map"')
    monkeypatch.chdir(music)
    assert "– → Stone" in genre_tag("rock.mp3").out


def test_a_wrong_value_is_traced_to_its_source(
    genre_tag: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, music: Path
) -> None:
    (tmp_path / "config.toml").write_text("min-confidence = 60")
    run = genre_tag(music)
    assert run.code == 2 and f"did you mean 0.6? (set in {tmp_path / 'config.toml'})" in run.err
    monkeypatch.setenv("GENRE_TAG_MIN_CONFIDENCE", "70")
    assert "(set by GENRE_TAG_MIN_CONFIDENCE in the environment)" in genre_tag(music).err


def test_every_setting_is_shown(genre_tag: Callable[..., Run]) -> None:
    assert {"existing", "model", "device", "snippets", "min-confidence", "map", "json"} <= settings(genre_tag).keys()
    assert "write-tags" not in settings(genre_tag)


#: A setting -> a value that is not its default, as typed.
SETTINGS = {
    "existing": "append", "model": "audioset", "device": "cpu", "precision": "fp32", "batch-size": "3", "jobs": "2",
    "threads": "1",
    "snippets": "all", "aggregate": "vote", "max-genres": "4", "min-confidence": "0.25", "map": "my.map",
    "exclude": "*.wav", "limit": "7", "json": "out.jsonl", "csv": "out.csv", "time-limit": "9",
    "preserve-mtime": "true", "hardlinks": "break", "separator": "/",
    "id3v23-multi": "first", "engine": "ray", "ray-address": "auto", "results": "predicted",
    "by-album": "true", "show": "unsure",
}  # fmt: skip
FOR_RAY = ("engine", "ray-address", "results")


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_come_from_environment_and_file(
    genre_tag: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert SETTINGS.keys() == settings(genre_tag).keys() - {"setting"}
    value = SETTINGS[name]
    shown = "True" if value == "true" else value
    in_file = str(tmp_path / value) if name in PATHS_IN_SETTINGS and value != "audioset" else shown
    (tmp_path / "config.toml").write_text(f"{name} = {value}" if value in ("true", "4") else f'{name} = "{value}"')
    assert settings(genre_tag)[name] == (in_file, "settings file")
    (tmp_path / "config.toml").unlink()
    monkeypatch.setenv(f"GENRE_TAG_{name.replace('-', '_').upper()}", value)
    assert settings(genre_tag)[name] == (shown, "environment")


def test_every_option_reaches_the_run(
    genre_tag: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, music: Path
) -> None:
    seen: list[object] = []
    model = FakeModel()
    monkeypatch.setattr("tagger.models.description.describe", lambda name: seen.append(name) or model)
    monkeypatch.setattr("tagger.models.genre_model.GenreModel.load", lambda *arguments: seen.append(arguments) or model)

    def tag_songs(
        songs: object, description: object, load_model: Callable[[], object], options: object, *_: object
    ) -> Iterator[None]:
        load_model()
        seen.append(options)
        yield from ()

    monkeypatch.setattr("tagger.pipeline.run.tag_songs", tag_songs)
    (music.parent / "my.map").write_text("Rock = Stone\n")
    arguments = {**SETTINGS, "map": music.parent / "my.map", "json": "-", "csv": music.parent / "out.csv"}
    given = {name: value for name, value in arguments.items() if value != "true" and name not in FOR_RAY}
    typed = [part for name, value in given.items() for part in (f"--{name}", value)]
    genre_tag(*typed, "--preserve-mtime", "--by-album", "--reanalyze", "--retry-failed", music)
    assert seen == [
        "audioset",
        (model, "cpu", "fp32", 1),
        make_options(
            model="audioset", device="cpu", existing="append", precision="fp32", n_snippets=None, aggregate="vote",
            max_genres=4, min_confidence=0.25,
            names={"Rock": "Stone"}, batch_size=3, n_threads=1, n_workers=2, time_limit_seconds=9, preserve_mtime=True,
            hardlinks="break", separator="/", id3v23_multi="first", reanalyze=True, retry_failed=True, by_album=True,
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("snippets", "n_snippets", "until_clear"), [("auto", 5, True), ("all", None, False), (3, 3, False)]
)
def test_snippets_are_a_count_or_one_of_two_words(snippets: object, n_snippets: int | None, until_clear: bool) -> None:
    options = tag_options({"snippets": snippets}, {})
    assert (options.predict.n_snippets, options.predict.until_clear) == (n_snippets, until_clear)


def test_other_commands_do_not_mind_the_settings(genre_tag: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("nonsense")
    assert genre_tag("undo").code == 0


# ---- undo


def test_undo_gives_back_every_byte(genre_tag: Callable[..., Run], music: Path) -> None:
    before = {path.name: path.read_bytes() for path in music.iterdir()}
    assert genre_tag("undo").err == "No run has written anything yet.\n"
    genre_tag("--write-tags", music)
    assert {path.name: path.read_bytes() for path in music.iterdir()} != before
    listed = genre_tag("undo", "--list").out.splitlines()
    assert len(listed) == 1 and listed[0].endswith(f"  2 songs  genre-tag --write-tags {music}")
    run_id = listed[0].split()[0]
    would = genre_tag("undo", "--dry-run", run_id)
    assert would.code == 0 and would.out.count("would be every byte as before") == 2
    assert would.err == "2 songs: 2 every byte as before. Nothing was written\n"
    undone = genre_tag("undo", run_id)
    assert undone.out.count("every byte as before") == 2
    assert re.fullmatch(r"2 songs: 2 every byte as before; \d+ s\n", undone.err)
    assert {path.name: path.read_bytes() for path in music.iterdir()} == before
    again = genre_tag("undo", run_id)
    assert again.code == 0 and again.out.count("is as before already") == 2


def test_what_was_undone_is_marked_in_the_list(genre_tag: Callable[..., Run], music: Path) -> None:
    genre_tag("--write-tags", music)

    def listed() -> list[str]:
        return [line.split("  ")[2] for line in genre_tag("undo", "--list").out.splitlines()]

    assert listed() == ["2 songs"]
    genre_tag("undo", "last", music / "rock.mp3")
    assert listed() == ["1 song", "2 songs, 1 taken back"]
    genre_tag("undo", "last")
    assert listed() == ["1 song", "1 song", "2 songs, taken back"]
    genre_tag("undo", genre_tag("undo").out.split()[0])
    assert listed() == ["1 song", "1 song, taken back", "1 song", "2 songs, 1 taken back"]


def test_undo_of_some_songs_and_of_the_undoing(genre_tag: Callable[..., Run], music: Path) -> None:
    genre_tag("--write-tags", music)
    assert genre_tag("undo", "last", music / "rock.mp3").out.count("\n") == 1
    assert (tags.read_genres(music / "rock.mp3"), tags.read_genres(music / "blues.flac")) == ((), ("Blues",))
    undoing = genre_tag("undo").out.split()[0]
    assert genre_tag("undo", undoing).code == 0
    assert tags.read_genres(music / "rock.mp3") == ("Rock",)
    assert genre_tag("undo", "last").code == 0  # the newest run that wrote genres, not the newest undoing
    assert tags.read_genres(music / "rock.mp3") == ()


def test_a_damaged_journal_is_named_and_stops_no_undo(genre_tag: Callable[..., Run], music: Path, nobody: Path) -> None:
    genre_tag("--write-tags", music)
    (nobody / "state" / "genre-tag" / "journal" / "zzz.jsonl").write_text("garbage")
    run = genre_tag("undo", "last")
    assert run.code == 0 and run.out.count("every byte as before") == 2
    damaged, summary = run.err.splitlines()
    assert "zzz.jsonl: cannot be read" in damaged and summary.startswith("2 songs: ")


def test_undo_of_a_library_that_moved(genre_tag: Callable[..., Run], music: Path, tmp_path: Path) -> None:
    genre_tag("--write-tags", music)
    moved = music.rename(tmp_path / "moved")
    gone = genre_tag("undo", "last")
    assert gone.code == 1 and gone.out.count("missing: no such file") == 2
    assert genre_tag("undo", "last", "--root", moved).code == 0
    assert tags.read_genres(moved / "rock.mp3") == ()


def test_undo_of_a_library_whose_songs_lie_deep(genre_tag: Callable[..., Run], music: Path, tmp_path: Path) -> None:
    (music / "Artist").mkdir()
    (music / "rock.mp3").rename(music / "Artist" / "rock.mp3")
    (music / "blues.flac").unlink()
    genre_tag("--write-tags", music)
    moved = music.rename(tmp_path / "moved")
    assert genre_tag("undo", "last", "--root", moved).code == 0
    assert tags.read_genres(moved / "Artist" / "rock.mp3") == ()


def test_undo_of_songs_the_run_did_not_write_is_wrong_usage(
    genre_tag: Callable[..., Run], music: Path, tmp_path: Path
) -> None:
    genre_tag("--write-tags", music)
    run = genre_tag("undo", "last", tmp_path / "elsewhere")
    assert run.code == 2 and "wrote nothing there" in run.err


def test_undo_leaves_a_genre_somebody_changed(genre_tag: Callable[..., Run], music: Path) -> None:
    genre_tag("--write-tags", music)
    path = music / "rock.mp3"
    path.write_bytes(tags.retag(path.read_bytes(), ".mp3", ["My Own"]))
    run = genre_tag("undo", "last")
    assert run.code == 1 and "conflict: its genre has become My Own" in run.out
    assert tags.read_genres(path) == ("My Own",)


def test_undo_of_an_unknown_run_is_wrong_usage(genre_tag: Callable[..., Run]) -> None:
    run = genre_tag("undo", "yesterday")
    assert run.code == 2 and "no run 'yesterday'" in run.err


# ---- real processes


def process(*arguments: str | Path, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tagger", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, **options,
    )  # type: ignore[call-overload]  # fmt: skip


def test_the_embedded_model_classifies_real_files_in_a_fresh_process(music: Path) -> None:
    done = process("--json", "-", "--min-confidence", "0", "--write-tags", music)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    records = [json.loads(line) for line in out.splitlines()]
    assert all(record["written"] and record["scale"] == "softmax" for record in records)
    for record in records:
        assert abs(sum(record["scores"].values()) - 1) < 0.01
        assert tags.read_genres(Path(record["path"])) == (record["predicted"],)


def test_ctrl_c_stops_a_real_run_within_seconds(tmp_path: Path) -> None:
    for number in range(60):  # of different lengths, as the second of two that are the same is cached
        make_tone(tmp_path / f"{number:02}.wav", "Rock", seconds=60 + number / 10)
    running = process("--json", "-", "--batch-size", "1", "--snippets", "all", tmp_path, start_new_session=True)
    assert running.stdout is not None
    first = running.stdout.readline()  # the run is under way
    os.killpg(running.pid, signal.SIGINT)
    asked = time.monotonic()
    out, err = running.communicate(timeout=60)
    assert time.monotonic() - asked < 15  # seconds, on a busy machine too
    assert running.returncode == 130
    done = len((first + out).splitlines())
    assert f"{done} of 60 songs" in err and "Traceback" not in err


def test_more_ctrl_c_than_one_changes_nothing(tmp_path: Path) -> None:
    for number in range(30):
        make_tone(tmp_path / f"{number:02}.wav", "Rock", seconds=60 + number / 10)
    running = process("--json", "-", "--batch-size", "1", "--snippets", "all", tmp_path, start_new_session=True)
    assert running.stdout is not None
    running.stdout.readline()
    for _ in range(4):
        os.killpg(running.pid, signal.SIGINT)
        time.sleep(0.02)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in err and "Interrupted" in err


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">/dev/full"])
def test_closed_and_full_streams_leave_no_traceback(music: Path, tmp_path: Path, closed: str) -> None:
    command = f"{sys.executable} -m tagger {music} --limit 1 2>{tmp_path / 'err'} {closed}"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == (3 if "full" in closed else 0)
    assert "Traceback" not in done.stderr + (tmp_path / "err").read_text()


def test_a_closed_pipe_ends_the_run_without_a_traceback(music: Path) -> None:
    running = process("--json", "-", music)
    assert running.stdout is not None
    running.stdout.close()
    _, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (141, "")


def test_an_ascii_terminal_is_no_reason_to_fail(music: Path) -> None:
    done = process(music, env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert "rock.mp3" in out and "Traceback" not in err


# ---- what would help


def test_unsure_songs_come_with_advice(
    genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagger.models.description.describe", lambda name: FakeModel(logit=0.3))
    monkeypatch.setattr("tagger.models.genre_model.GenreModel.load", lambda *_: FakeModel(logit=0.3))
    err = genre_tag(music).err
    expected = "To have more written: --model audioset (20 genres, 350 MB, once); --min-confidence 0.5"
    assert expected in err and "genre-tag learn" not in err
    assert "To have more written" not in genre_tag(music, "--quiet").err
    assert "--min-confidence 0.5" not in genre_tag(music, "--min-confidence", "0.9").err
    assert "To have more written: --min-confidence" in genre_tag(music, "--model", "another").err
    monkeypatch.setattr("tagger.cli.tag.ENOUGH_TO_LEARN", 1)
    write_genre(music / "rock.mp3", "Polka")
    assert f"To have more written: genre-tag learn {music} (1 songs have a genre); " in genre_tag(music).err


def test_ray_decides_song_by_song(genre_tag: Callable[..., Run], music: Path) -> None:
    run = genre_tag(music, "--engine", "ray", "--by-album")
    assert run.code == 2 and "--engine ray decides song by song, not --by-album" in run.err


def test_where_all_is_sure_there_is_no_advice(genre_tag: Callable[..., Run], music: Path) -> None:
    assert "To have more written" not in genre_tag(music).err


def test_what_is_listed_can_be_set(genre_tag: Callable[..., Run], music: Path) -> None:
    write_genre(music / "rock.mp3", "Polka")
    assert (
        "blues" in genre_tag(music, "--show", "changes").out and "rock" not in genre_tag(music, "--show", "changes").out
    )
    (music.parent / "config.toml").write_text('show = "kept"')
    assert "blues" not in genre_tag(music).out and "rock" in genre_tag(music).out


def write_genre(path: Path, genre: str) -> None:
    path.write_bytes(tags.retag(path.read_bytes(), path.suffix, [genre]))
