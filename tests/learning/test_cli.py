"""`genre-tag train` as a user types it."""

import csv
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tqdm import tqdm

from tagger.cli.main import main
from tagger.errors import OutputError
from tests.support.checkpoints import make_checkpoint
from tests.support.prepared import write_notebook
from tests.support.screens import Terminal
from tests.support.songs import make_song
from training.cli import train
from training.learning.runs import Run
from training.learning.train import train_run

GENRES = ("Drone", "Hiss", "Whistle")


def genre_tag(*arguments: str | Path) -> int:
    """Exit code of a command."""
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return int(done.value.code or 0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_dataset_it_says_in_two_lines_what_to_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert genre_tag("train") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "no dataset in dataset/" in lines[0] and lines[0].endswith("genre-tag prepare ~/Music")
    assert lines[1].endswith("genre-tag train --data ~/Music")


@pytest.mark.parametrize(
    ("arguments", "expected", "code"),
    [
        (("--data", "nowhere"), "--data nowhere: no such file or folder", 2),
        (("--recipe", "v2", "--class-weights", "--sampler", "sqrt"), "twice", 2),
        (("--recipe", "v4"), "'v4' is not one of", 2),
        (("--epochs", "-1"), "-1 is not in the range", 2),
        (("--mixup", "50"), "did you mean 0.5", 2),
        (("--wandb-host", "https://example.org"), "--wandb-project and --wandb-host say where to log: add --wandb", 2),
    ],
)
def test_wrong_usage_is_one_clear_line(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str, code: int
) -> None:
    assert genre_tag("train", *arguments) == code
    error = capsys.readouterr().err.strip()
    assert expected in error and len(error.splitlines()) == 1


def test_what_is_in_force_is_shown_with_where_it_comes_from(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--recipe", "v2", "--model", "new-mini", "--hidden-dropout", "0.1")
    assert genre_tag("train", *options, "--show-config") == 0
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    shown = {option: (value, source) for option, value, source in lines}
    assert len(shown) == len(lines)
    assert shown["--hidden-dropout"] == ("0.1", "command line") and shown["--recipe"] == ("v2", "command line")
    assert shown["--mixup"] == ("0.5", "recipe v2") and shown["--lr"] == ("0.0005", "recipe v2, for random weights")
    assert shown["--device"] == ("auto", "default") and shown["--data"] == ("none", "default")
    assert shown["--low-pass"] == ("off", "recipe v2")
    assert set(shown) == {param.opts[0] for param in train.params if param.expose_value} - {"--show-config"}
    assert not list(here.iterdir())


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six songs each of three genres, every one by an artist of its own."""
    folder = tmp_path_factory.mktemp("songs")
    rows = []
    for number in range(6):
        for genre, signal in zip(GENRES, ("music", "noise", "music"), strict=True):
            path = folder / f"{genre} {number}.wav"
            make_song(path, seconds=3.0, rate=32_000 if genre == "Whistle" else 8000, signal=signal, seed=len(rows))
            rows.append((path.name, genre, f"artist {len(rows)}", ""))
    with (folder / "songs.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "genre", "artist", "album"), *rows])
    return folder


def test_from_music_to_a_model_that_tags(
    here: Path, songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    begin = make_checkpoint(tmp_path / "begin", ("A", "B"), n_frames=128)
    options = ("--model", begin, "--epochs", "2", "--batch-size", "4", "--lr", "0.003", "--device", "cpu")
    assert genre_tag("train", "--data", songs / "songs.csv", *options, "--out", "runs/first") == 0
    out, err = capsys.readouterr()
    assert (here / "dataset" / "genres.json").exists()
    assert err.count("\nepoch ") == 2 and "kept: epoch " in err and "songs (groups that share no artist)" in out
    assert "test: 3 songs, accuracy by mean pooling" in out
    assert "Use it: genre-tag --model runs/first ~/Music" in out

    card = (here / "runs/first/MODEL_CARD.md").read_text(encoding="utf-8")
    assert "takes snippets of 1 s of" in card
    made = [shlex.split(line)[1:] for line in card.splitlines() if line.startswith("$ genre-tag ")]
    assert ["genre-tag", "prepare", str(songs / "songs.csv"), "--out", "dataset", "--snippet-seconds", "1"] in made
    assert made[-1][:4] == ["genre-tag", "train", "--data", str(songs / "songs.csv")]

    assert genre_tag("--model", "runs/first", songs, "--min-confidence", "0", "--json", "-", "--quiet") == 0
    prediction = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(prediction) == 18 and {each["new"][0] for each in prediction} <= set(GENRES)

    assert genre_tag("train", *options, "--out", "runs/first") == 3
    assert "runs/first: there is a run already" in capsys.readouterr().err
    assert genre_tag("train", *options, "--out", "runs/first", "--resume") == 3
    assert "this run is finished" in capsys.readouterr().err
    assert genre_tag("train", "--epochs", "0", "--model", "runs/first", "--out", "runs/again", "--batch-size", "4") == 0
    first, again = (json.loads((here / "runs" / name / "metrics.json").read_text()) for name in ("first", "again"))
    assert again["scores"]["test"]["mean_pooling_score"] == first["scores"]["test"]["mean_pooling_score"]
    longer = make_checkpoint(tmp_path / "longer", n_frames=1024)
    assert genre_tag("train", "--model", longer, "--out", "runs/longer") == 3
    assert "classifies snippets of 10 s, and those of the dataset have 1 s" in capsys.readouterr().err
    assert not (here / "runs" / "longer").exists()  # so that the fixed command can take its place

    (here / "soft.csv").write_text("song,start_seconds,class\nnobody,0,1\nnobody,5,2\n")
    soft = ("--model", "new-micro", "--out", "runs/soft", "--soft-labels", "soft.csv")
    assert genre_tag("train", *soft) == 3
    error = capsys.readouterr().err
    assert "soft.csv: has no row of a snippet to learn from" in error and len(error.splitlines()) == 1
    assert genre_tag("train", "--soft-labels", "none.csv") == 2


def test_wandb_is_told_its_project_and_host(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}

    def train_run(*_: object, **__: object) -> None:
        found.update({name: os.environ[name] for name in ("WANDB_PROJECT", "WANDB_BASE_URL")})

    for name in ("WANDB_PROJECT", "WANDB_BASE_URL"):
        monkeypatch.setenv(name, "before")  # which is also restored behind the test
    monkeypatch.setattr("training.cli._dataset", lambda *_: SimpleNamespace(fingerprint="x"))
    monkeypatch.setattr("training.learning.train.train_run", train_run)
    assert genre_tag("train", "--wandb", "--wandb-project", "mine", "--wandb-host", "https://example.org") == 0
    assert found == {"WANDB_PROJECT": "mine", "WANDB_BASE_URL": "https://example.org"}


def test_what_cannot_be_written_is_one_line_that_says_how_to_go_on(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_run(*_: object, **__: object) -> None:
        raise OutputError(Path("runs/my run/MODEL_CARD.md"), "No space left on device")

    monkeypatch.setattr("training.cli._dataset", lambda *_: SimpleNamespace(fingerprint="x"))
    monkeypatch.setattr("training.learning.train.train_run", train_run)
    assert genre_tag("train", "--out", "runs/my run") == 3
    assert capsys.readouterr().err == (
        "genre-tag: runs/my run/MODEL_CARD.md: No space left on device: what was learned is kept,"
        " genre-tag train --resume --out 'runs/my run' writes the rest\n"
    )


def test_what_a_training_tells_stands_alone_above_its_bar(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train_run(*_: object, tell: Callable[[str], None], **__: object) -> None:
        with tqdm(total=2, leave=False) as bar:
            bar.update()
            tell("epoch 1/2")

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("training.cli._dataset", lambda *_: SimpleNamespace(fingerprint="x"))
    monkeypatch.setattr("training.learning.train.train_run", train_run)
    assert genre_tag("train") == 0
    assert terminal.lines() == ["epoch 1/2"]


def test_a_dataset_that_is_damaged_is_one_line(here: Path, songs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert genre_tag("prepare", songs / "songs.csv", "--snippet-seconds", "1") == 0
    shard = next((here / "dataset" / "waveforms").glob("*.i16"))
    shard.write_bytes(shard.read_bytes()[:-1000])
    capsys.readouterr()
    assert genre_tag("train", "--model", "new-micro") == 3
    assert "00000.i16 is short" in capsys.readouterr().err


NOTEBOOK_OPTIONS = ("--epochs", "15", "--batch-size", "8", "--lr", "0.003", "--device", "cpu")


def test_the_notebooks_dataset_is_found_trained_on_reported_and_its_model_tags(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    write_notebook(here)
    begin = make_checkpoint(here / "begin", ("A", "B"), n_frames=128)
    assert genre_tag("train", "--model", begin, *NOTEBOOK_OPTIONS, "--out", "runs/first") == 0
    out, err = capsys.readouterr()
    assert "dataset/music_lib_balanced: 12 songs (36) to train, 6 songs (18) to validate, 6 songs (18) to test" in err
    assert "test: 6 songs, accuracy by mean pooling" in out
    metrics = json.loads((here / "runs/first/metrics.json").read_text())
    assert metrics["scores"]["test"]["mean_pooling_score"] == 1.0  # tones: a third of it by chance
    assert metrics["counts"]["test"] == {
        "songs": 6, "snippets": 18, "artists": 6, "songs_without_artist": 0, "hours": 0.005,
        "songs_of": {"Classical": 2, "Jazz": 2, "Rock": 2},
    }  # fmt: skip

    assert genre_tag("report", "runs/first", "--format", "json") == 0
    report = json.loads(capsys.readouterr().out)
    songs = {song["path"]: song["predicted"] for song in report["sections"]["songs"]["songs"]}
    assert len(songs) == 6 and all(Path(path).is_file() for path in songs)
    tag = ("--model", "runs/first", "--min-confidence", "0", "--snippets", "all", "--json", "-", "--quiet")
    assert genre_tag(*tag, *songs) == 0
    tagged = {record["path"]: record["new"] for record in map(json.loads, capsys.readouterr().out.splitlines())}
    assert tagged == songs  # the features of the notebook are the product's
    assert genre_tag("report", "runs/first", "--out", "report.html") == 0
    assert "Accuracy on validate by epoch" in (here / "report.html").read_text()
    capsys.readouterr()
    assert genre_tag("explain", "--model", "runs/first", next(iter(songs))) == 0
    assert "Classical" in capsys.readouterr().out
    again = ("train", "--model", "runs/first", "--epochs", "0", "--out", "runs/again", "--batch-size", "8")
    assert genre_tag(*again, "--data", "dataset/music_lib_balanced") == 0
    assert json.loads((here / "runs/again/metrics.json").read_text())["scores"] == metrics["scores"]


def test_what_the_notebooks_dataset_is_no_good_for_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import datasets

    folder = write_notebook(here, {"train": 2, "validate": 1, "test": 1})
    splits = dict(datasets.DatasetDict.load_from_disk(str(folder)))
    both = datasets.DatasetDict({**splits, "test": datasets.concatenate_datasets([splits["test"], splits["validate"]])})
    both.save_to_disk(here / "both" / "songs")
    (here / "both" / "genres.json").write_text((folder.parent / "genres.json").read_text())
    longer = make_checkpoint(here / "longer", n_frames=1024)
    capsys.readouterr()
    wrong = {
        ("--model", longer): "takes log-mels of 1024 frames and 128 mels, and those of the dataset have 128 and 128",
        ("--model", "new-micro", "--recipe", "v2"): "of snippets that cannot be cut again: add --crop fixed",
        ("--model", "new-micro", "--data", "both", "--strict-splits"): "both/songs: 3 songs and 3 artists in more than",
    }
    for options, reason in wrong.items():
        assert genre_tag("train", *options, "--out", "runs/wrong") == 3
        error = [line for line in capsys.readouterr().err.splitlines() if "as they are" not in line]
        assert len(error) == 1 and reason in error[0]
    assert not (here / "runs").exists()
    small = ("--model", "new-micro", "--epochs", "1", "--batch-size", "9", "--device", "cpu")
    assert genre_tag("train", *small, "--data", "both", "--out", "runs/both") == 0
    assert "scores are too high. --strict-splits makes this an error." in capsys.readouterr().err
    assert genre_tag("report", "runs/both") == 0
    assert "artists in more than one split: 3" in capsys.readouterr().out
    (folder.parent / "genres.json").unlink()
    assert genre_tag("train", *small) == 3
    error = capsys.readouterr().err
    assert "no genres.json beside it" in error and len(error.splitlines()) == 1


GRID = """
model = "new-micro"
epochs = 2
batch-size = 9
hidden_dropout = [0.0, 0.1]
seed = [1, 2]
"""


def test_a_grid_is_trained_reported_and_goes_on_where_it_was(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    write_notebook(here, {"train": 2, "validate": 2, "test": 2})
    (here / "study.toml").write_text(GRID)
    names = [f"hidden_dropout={dropout},seed={seed}" for dropout in ("0", "0.1") for seed in (1, 2)]
    real = train_run

    def interrupted(run: Run, *arguments: object, tell: Callable[[str], None], **how: object) -> object:
        def stopping(line: str) -> None:
            tell(line)
            if run.folder.name == names[1] and line.startswith("epoch 2/"):
                raise KeyboardInterrupt

        return real(run, *arguments, tell=stopping, **how)

    with monkeypatch.context() as patched:
        patched.setattr("training.learning.train.train_run", interrupted)
        assert genre_tag("train", "--grid", "study.toml", "--device", "cpu") == 130
    error = capsys.readouterr().err
    assert error.endswith("Interrupted. To go on from the last whole epoch: the same command\n")
    assert sorted(path.name for path in (here / "runs" / "study").iterdir()) == names[:2]
    first = (here / "runs/study" / names[0] / "metrics.json").stat().st_mtime_ns

    assert genre_tag("train", "--grid", "study.toml", "--device", "cpu") == 0
    out, error = capsys.readouterr()
    assert [line for line in error.splitlines() if line.startswith("Run ")] == [
        f"Run 1 of 4: {names[0]}, finished", *(f"Run {number} of 4: {names[number - 1]}" for number in (2, 3, 4))
    ]  # fmt: skip
    assert error.count("epoch 1/2") == 2 and error.count("epoch 2/2") == 3  # the second run had its first epoch
    assert (here / "runs/study" / names[0] / "metrics.json").stat().st_mtime_ns == first
    assert out.startswith("A study of 4 runs\n") and "Settings, means over their seeds" in out
    assert genre_tag("report", "runs/study") == 0
    assert capsys.readouterr().out == out
    metrics = json.loads((here / "runs/study" / names[3] / "metrics.json").read_text())
    assert (metrics["options"]["hidden_dropout"], metrics["options"]["seed"]) == (0.1, 2)
    expected = "genre-tag train --recipe seed --model new-micro --epochs 2 --batch-size 9 --hidden-dropout 0.1 --seed 2"
    assert shlex.join(metrics["command"]) == f"{expected} --out runs/study/{names[3]}"

    (here / "study.toml").write_text(GRID.replace("epochs = 2", "epochs = 1"))
    assert genre_tag("train", "--grid", "study.toml", "--device", "cpu") == 3
    assert f"{names[0]}: was begun with --epochs 2: leave --epochs out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("grid", "options", "reason"),
    [
        ("lr = 0.1", (), "study.toml: there is nothing to compare"),
        ("lr = [0.1, -1]", (), "-1.0 is not in the range x>0"),
        ("epochs = [1.5, 2]", (), "'1.5' is not a valid integer range"),
        ("mixup = [0, 50]", (), "did you mean 0.5"),
        ("mixing = [0, 1]", (), "unknown setting 'mixing'"),
        ("lr = [", (), "not valid TOML"),
        ("seed = [1, 2]", ("--seed", "3"), "--seed is given, and study.toml has seed: leave one of them out"),
        ("class_weights = [true, false]\nsampler = 'sqrt'", (), "twice"),
        ("seed = [1, 2]", ("--resume",), "--grid goes on where it was by itself: leave --resume out"),
    ],
)
def test_a_grid_that_makes_no_sense_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], grid: str, options: tuple[str, ...], reason: str
) -> None:
    (here / "study.toml").write_text(grid)
    assert genre_tag("train", "--grid", "study.toml", *options) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error and len(error.splitlines()) == 1
    assert not (here / "runs").exists()
