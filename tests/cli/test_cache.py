"""What is known from earlier runs, as a user meets it: the second run, `genre-tag cache`, and what can go wrong."""

# ruff: noqa: F811  (fixtures are imported by name)

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tagger.models.description import describe
from tagger.pipeline.cache import Method, PredictionCache, cache_path
from tagger.pipeline.predict import Prediction
from tagger.tags import genre as tags
from tagger.tags.journal import Journal
from tagger.tags.undo import list_runs, undo
from tests.cli.test_tag import Run, genre_tag, music, tones  # noqa: F401
from tests.support.fakes import FakeModel, make_tone

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(nobody: Path) -> Path:
    """Where the cache of the tests' user lies."""
    return nobody / "state" / "genre-tag" / "cache.sqlite3"


def no_model(*_: object) -> FakeModel:
    raise AssertionError("loaded")


# ---- the second run


def test_the_second_run_says_the_same_and_how_much_of_it_was_known(
    genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = genre_tag(music)
    assert "cached" not in first.err
    monkeypatch.setattr("tagger.models.genre_model.GenreModel.load", no_model)
    second = genre_tag(music)
    assert second.out == first.out
    assert "0 failed; 2 cached; " in second.err
    assert "model fake on cpu" not in genre_tag("-v", music).err  # there is none to describe


def test_records_say_what_was_known(genre_tag: Callable[..., Run], music: Path) -> None:
    assert [record["cached"] for record in genre_tag("--json", "-", music).records] == [False, False]
    make_tone(music / "new.wav", "Blues")
    assert [record["cached"] for record in genre_tag("--json", "-", music).records] == [True, False, True]
    assert [line.rsplit(",", 1)[1] for line in genre_tag("--csv", "-", music).out.splitlines()] == [
        "cached", "True", "True", "True",
    ]  # fmt: skip


def test_reanalyze_classifies_everything_again(genre_tag: Callable[..., Run], music: Path) -> None:
    genre_tag(music)
    assert [record["cached"] for record in genre_tag("--json", "-", "--reanalyze", music).records] == [False, False]


def test_a_song_that_failed_is_tried_again_when_asked(genre_tag: Callable[..., Run], music: Path) -> None:
    data = (music / "blues.flac").read_bytes()
    (music / "blues.flac").write_bytes(data[:200] + bytes(len(data) - 200))
    runs = [genre_tag("--json", "-", *options, music) for options in ([], [], ["--retry-failed"])]
    assert [run.code for run in runs] == [1, 0, 1]  # known to fail, it is no news
    assert [(run.records[0]["status"], run.records[0]["cached"]) for run in runs] == [
        ("failed", False), ("failed", True), ("failed", False),
    ]  # fmt: skip
    assert runs[1].records[1]["cached"]


def test_a_wrong_model_or_map_is_told_even_when_nothing_is_to_be_classified(
    genre_tag: Callable[..., Run], music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genre_tag("--write-tags", music)
    (tmp_path / "my.map").write_text("Polka = Folk\n")
    assert genre_tag("--write-tags", "--map", tmp_path / "my.map", music).code == 2
    monkeypatch.setattr("tagger.models.description.describe", describe)
    run = genre_tag("--write-tags", "--model", "nonsense", music)
    assert run.code == 3 and run.err.startswith("genre-tag: nonsense: no such folder")


def garbage(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)


def older(path: Path) -> None:
    import sqlite3

    with sqlite3.connect(path) as database:
        database.execute("PRAGMA application_id = 0x67746167")
        database.execute("CREATE TABLE files (path BLOB)")
    database.close()


@pytest.mark.parametrize(("spoil", "reason"), [(garbage, "is damaged or no database"), (older, "of an older version")])
def test_a_cache_that_is_none_is_moved_aside_with_one_line(
    genre_tag: Callable[..., Run], music: Path, cache: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    cache.parent.mkdir(parents=True)
    spoil(cache)
    run = genre_tag("-q", music)
    (line,) = [line for line in run.err.splitlines() if "the cache" in line]
    assert line.startswith(f"genre-tag: the cache {cache} ") and reason in line and "cache.sqlite3.old-1" in line
    assert run.code == 0 and "2 would be tagged" in run.err
    assert "the cache" not in genre_tag(music).err


def test_without_a_place_for_the_cache_songs_are_classified_all_the_same(
    genre_tag: Callable[..., Run], music: Path, nobody: Path
) -> None:
    (nobody / "state").write_text("a file where the folder should be")
    for _ in range(2):
        run = genre_tag(music)
        assert run.code == 0 and "2 would be tagged" in run.err and "cached" not in run.err
        assert run.err.count("going on without it") == 1


# ---- genre-tag cache


def test_nothing_is_known_yet_and_nothing_is_made(genre_tag: Callable[..., Run], cache: Path) -> None:
    run = genre_tag("cache")
    assert (run.code, run.out, run.err) == (0, "", f"Nothing is cached yet: there is no {cache}.\n")
    assert not cache.exists()


def test_the_cache_is_shown(genre_tag: Callable[..., Run], music: Path, cache: Path) -> None:
    genre_tag(music)
    genre_tag("--snippets", "all", music)
    run = genre_tag("cache")
    lines = run.out.splitlines()
    assert run.code == 0 and run.err == ""
    assert lines[0].startswith(f"{cache}: 0.") and lines[0].endswith("2 files, 2 songs, 0 that could not be decoded")
    assert sorted(line.split()[:4] for line in lines[2:]) == [
        ["fake@fake8.0", "fp32", "5", "2"],
        ["fake@fake8.0", "fp32", "all", "2"],
    ]


def test_files_that_are_gone_are_forgotten(genre_tag: Callable[..., Run], music: Path) -> None:
    genre_tag(music)
    (music / "rock.mp3").unlink()
    run = genre_tag("cache", "--prune")
    assert run.code == 0 and run.out.splitlines()[0] == "Gone files forgotten: 1"
    assert "1 file, 1 song, 0 that" in run.out


def test_what_a_model_classified_is_forgotten(
    genre_tag: Callable[..., Run], music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(FakeModel):
        name, fingerprint = "runs/mine", "0123456789"  # type: ignore[assignment]

    def predict(model: FakeModel) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("tagger.models.description.describe", lambda _: model)
            patched.setattr("tagger.models.genre_model.GenreModel.load", lambda *_: model)
            genre_tag(music)

    for word in ("runs/mine", "runs/mine@01234567"):
        predict(FakeModel())
        predict(Other())
        assert "runs/mine@01234567" in genre_tag("cache").out
        run = genre_tag("cache", "--forget", word)
        assert run.code == 0 and run.out.splitlines()[0] == "Predictions forgotten: 2"
        assert "runs/mine" not in run.out and "fake@fake8.0" in run.out
        assert genre_tag("--json", "-", music).records[0]["cached"]


def test_a_model_that_classified_nothing_cannot_be_forgotten(genre_tag: Callable[..., Run], music: Path) -> None:
    genre_tag(music)
    run = genre_tag("cache", "--forget", "fake", "--forget", "starter")
    assert (
        run.code == 2 and run.err == "genre-tag: 'starter' has no cached predictions; those that have: fake@fake8.0\n"
    )
    assert genre_tag("--json", "-", music).records[0]["cached"]


def test_a_cache_that_cannot_be_used_is_exit_code_3(genre_tag: Callable[..., Run], music: Path, cache: Path) -> None:
    genre_tag(music)
    cache.with_name("cache.sqlite3.lock").unlink()
    cache.with_name("cache.sqlite3.lock").mkdir()
    run = genre_tag("cache", "--prune")
    assert run.code == 3 and run.err.count("\n") == 1 and "cannot be used" in run.err
    assert "files" not in run.out.replace("Gone files", "")


def test_a_damaged_cache_is_moved_aside_by_whoever_opens_it(genre_tag: Callable[..., Run], cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    garbage(cache)
    run = genre_tag("cache")
    assert run.code == 0 and "a new one is begun" in run.err and "0 files" in run.out


# ---- real processes

#: The command line with a fake model that takes its time over each song, without torch.
CHILD = """
import sys, time, types
import tagger.models.description
from tests.support.fakes import FakeModel

class Slow(FakeModel):
    batch_size = 1

    def logits(self, waveforms):
        time.sleep(0.1)
        return super().logits(waveforms)

model = Slow()
tagger.models.description.describe = lambda name: model
network = types.SimpleNamespace(load=lambda *_: model)
sys.modules["tagger.models.genre_model"] = types.SimpleNamespace(GenreModel=network)
from tagger.cli.main import main

if __name__ == "__main__":
    main(sys.argv[1:])
"""


def child(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CHILD, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.fixture
def dozen(tmp_path: Path) -> Path:
    """Twelve songs, no two alike."""
    folder = tmp_path / "dozen"
    folder.mkdir()
    for number in range(12):
        make_tone(folder / f"{number:02}.flac", ("Blues", "Classical", "Rock")[number % 3], seconds=11 + number / 10)
    return folder


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("options", [[], ["--write-tags"]], ids=["look", "write"])
def test_a_run_that_is_killed_is_continued_where_it_was(dozen: Path, options: list[str]) -> None:
    before = {path.name: path.read_bytes() for path in dozen.iterdir()}
    done: list[str] = []
    for n_lines in (3, 4):
        running = child("--json", "-", *options, dozen)
        assert running.stdout is not None
        lines = [running.stdout.readline() for _ in range(n_lines + len(done))]
        running.send_signal(signal.SIGKILL)
        rest, err = running.communicate(timeout=60)
        assert running.returncode == -signal.SIGKILL and "Traceback" not in err
        lines += [line + "\n" for line in rest.split("\n")[:-1]]  # whole ones
        records = [json.loads(line) for line in lines]
        assert not [r["path"] for r in records if r["path"] in done and not (r["cached"] or r["status"] == "kept")]
        done = [record["path"] for record in records]
    last = child("--json", "-", *options, dozen)
    out, err = last.communicate(timeout=60)
    assert last.returncode == 0, err
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 12 and 7 <= len(done) < 12
    for number, record in enumerate(records):
        if record["path"] in done:  # told before the kill: not classified again
            assert record["cached"] or record["status"] == "kept"
        if record["status"] != "kept":
            assert record["new"] == [("Blues", "Classical", "Rock")[number % 3]]
    assert sum(record["cached"] or record["status"] == "kept" for record in records) <= len(done) + 2
    if options:
        assert all(tags.read_genres(path) for path in dozen.iterdir())
        for told in list_runs():  # and every byte can be had back
            with Journal.open(dozen) as journal:
                assert {undone.result for undone in undo(told, journal)} <= {"bytes", "nothing"}
        assert {path.name: path.read_bytes() for path in dozen.iterdir()} == before


def test_two_runs_at_once_over_one_library(dozen: Path, cache: Path) -> None:
    runs = [child("--json", "-", "--write-tags", dozen) for _ in range(2)]
    for run in runs:
        out, err = run.communicate(timeout=60)
        records = [json.loads(line) for line in out.splitlines()]
        assert run.returncode in (0, 1) and "Traceback" not in err and "the cache" not in err
        # What one has written the other finds kept, the same, or changed under its hands: never anything else.
        assert {r["status"] for r in records} <= {"tagged", "kept", "unchanged", "failed", "skipped"}
        assert {r["reason"] for r in records if r["status"] == "failed"} <= {"changed by another program meanwhile"}
    for number, path in enumerate(sorted(dozen.iterdir())):
        assert tags.read_genres(path) == (("Blues", "Classical", "Rock")[number % 3],)
    with PredictionCache(cache, pytest.fail) as known:
        assert known.contents().n_songs == 12
    assert not list(dozen.glob(".gtag-*"))


def test_a_run_in_which_all_is_known_loads_no_torch(music: Path) -> None:
    starter = describe("starter")
    method = Method(starter.fingerprint, "fp32", 5, starter.snippet_samples, "starter")
    with PredictionCache(cache_path(), pytest.fail) as cache:
        for path in music.iterdir():
            logits = np.eye(1, len(starter.head.genres), 1, dtype=np.float32)
            cache.remember(cache.look(path), method, Prediction(logits, (0.0,), 10.0, ""))
    code = (
        "import sys; from tagger.cli.main import main\n"
        "try: main(['--min-confidence', '0', sys.argv[1]])\n"
        "except SystemExit: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, music], capture_output=True, text=True, cwd=ROOT, check=True)
    *rows, modules = done.stdout.splitlines()
    assert len(rows) == 2 and all("→ Classical" in row for row in rows), done.stderr
    assert not {"torch", "transformers", "safetensors", "multiprocessing.spawn"} & set(modules.split())


def test_a_moved_library_is_known_in_a_fresh_process(dozen: Path) -> None:
    first = child("--json", "-", dozen)
    assert len(first.communicate(timeout=60)[0].splitlines()) == 12
    shutil.move(dozen, dozen.with_name("moved"))
    again = child("--json", "-", dozen.with_name("moved"))
    assert all(json.loads(line)["cached"] for line in again.communicate(timeout=60)[0].splitlines())
