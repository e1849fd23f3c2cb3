"""`genre-tag learn` as a user types it: from tags to a model that tags, and a clear line for what cannot be."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger.cli.main import main
from tagger.evaluation.learned import learned_models
from tagger.pipeline import cache as cache_module
from tagger.review.decisions import Decided, Decisions, decisions_path
from tagger.review.plan import read_plan, write_plan
from tagger.tags import genre as tags
from tests.support.checkpoints import make_checkpoint
from tests.support.songs import make_song

RATE = 16_000
N_ARTISTS, N_SONGS = 5, 3


def sound(genre: str, artist: int, number: int) -> np.ndarray:
    """A second of a genre, (2, n_samples): Rock is noise, Jazz a low tone, Polka a high one."""
    rng, time = np.random.default_rng(100 * artist + number), np.arange(RATE) / RATE
    hertz = {"Jazz": 150, "Rock": 600, "Polka": 3000}[genre] * (1 + 0.02 * artist + 0.005 * number)
    tone = np.sin(2 * np.pi * hertz * time) * 0.4
    mono = 0.2 * rng.standard_normal(RATE) if genre == "Rock" else tone + 0.01 * rng.standard_normal(RATE)
    return np.stack([mono, mono]).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Songs of three genres by five artists each, a folder an artist, without tags."""
    folder = tmp_path_factory.mktemp("recordings")
    for genre in ("Jazz", "Rock", "Polka"):
        for artist in range(N_ARTISTS):
            (folder / f"{genre} artist {artist}").mkdir()
            for number in range(N_SONGS):
                path = folder / f"{genre} artist {artist}" / f"{number}.flac"
                make_song(path, rate=RATE, signal=sound(genre, artist, number))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights, which knows Jazz and Rock by name and not by sound."""
    return make_checkpoint(tmp_path_factory.mktemp("model") / "network", ("Classical", "Jazz", "Rock"), seed=3)


@pytest.fixture
def library(recordings: Path, tmp_path: Path) -> Path:
    """The songs, but for one of each artist tagged with what they are."""
    folder = Path(shutil.copytree(recordings, tmp_path / "library"))
    for path in folder.rglob("[0-1].flac"):
        write(path, path.parent.name.split()[0])
    return folder


def write(path: Path, genre: str) -> None:
    """As another program writes a genre."""
    path.write_bytes(tags.retag(path.read_bytes(), path.suffix, [genre]))


@pytest.fixture
def genre_tag(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as done:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(done.value.code or 0), captured.out + captured.err

    return run


def test_from_tags_to_a_model_that_tags(
    genre_tag: Callable[..., tuple[int, str]], library: Path, model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before = {path: path.read_bytes() for path in library.rglob("*.flac")}
    code, told = genre_tag("learn", library, "--model", model, "--genres", "own", "-j", "1")
    assert code == 0 and {path: path.read_bytes() for path in library.rglob("*.flac")} == before
    assert "30 songs of 3 genres and 15 artists." in told and "Left out: 15 without a genre." in told
    assert "Better, +" in told and f"Use it: genre-tag --model mine {library}" in told
    (found,) = learned_models()
    training = json.loads((found.folder / "checkpoint" / "training.json").read_text())
    assert training["held_out"] == {"Jazz": 10, "Polka": 10, "Rock": 10} and training["held_out_artists"] == 15

    def no_model(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("tagger.models.genre_model.GenreModel.load", no_model)
    songs = tmp_path / "songs.jsonl"
    untagged = sorted(library.rglob("2.flac"))
    code, told = genre_tag(*untagged, "--model", "mine", "--min-confidence", "0", "--json", songs)
    assert code == 0 and "15 cached" in told
    records = [json.loads(line) for line in songs.read_text().splitlines()]
    right = [each["new"] == [Path(each["path"]).parent.name.split()[0]] for each in records]
    assert len(right) == 15 and sum(right) >= 13

    assert "A model was learned from this library" not in told
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(found.folder.parents[2]))
    assert "A model was learned from this library: genre-tag --model mine" in genre_tag(untagged[0])[1]
    assert "A model was learned from this library" not in genre_tag(untagged[0], "--quiet")[1]
    code, told = genre_tag("report", found.folder)
    assert code == 0 and "test split" in told and "30 songs of 3 genres" in told
    assert "# " in (found.folder / "MODEL_CARD.md").read_text() and str(model.name) in told + str(model)


def test_what_was_known_from_embeddings_is_what_the_checkpoint_computes(
    genre_tag: Callable[..., tuple[int, str]], library: Path, model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("tagger.models.openvino_engine.precisions", lambda: ("fp32",))  # or bf16 may be chosen for one
    genre_tag("learn", library, "--model", model, "--genres", "own", "-j", "1", "--out", tmp_path / "out")
    confidences = []
    for name in ("cached.jsonl", "computed.jsonl"):
        genre_tag(library, "--model", tmp_path / "out", "--json", tmp_path / name, "-j", "1")
        records = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert {each["cached"] for each in records} == {name == "cached.jsonl"}
        confidences.append([[each["scores"][genre] for genre in ("Jazz", "Polka", "Rock")] for each in records])
        cache_module.cache_path().unlink()
    np.testing.assert_allclose(confidences[0], confidences[1], atol=0.03)


def test_a_second_learning_begins_where_the_first_one_did(
    genre_tag: Callable[..., tuple[int, str]], library: Path, model: Path
) -> None:
    genre_tag("learn", library, "--model", model, "--genres", "own", "-j", "1")
    (first,) = learned_models()
    for name in (first.folder, "mine"):
        code, told = genre_tag("learn", library, "--model", name, "--genres", "own", "-j", "1")
        assert code == 0 and "Better, +" in told
        newest = learned_models()[0]
        training = json.loads((newest.folder / "checkpoint" / "training.json").read_text())
        assert newest.folder != first.folder and training["began_as"] == str(model)


def test_what_the_program_wrote_itself_is_not_learned_from(
    genre_tag: Callable[..., tuple[int, str]], recordings: Path, model: Path, tmp_path: Path
) -> None:
    library = Path(shutil.copytree(recordings, tmp_path / "library"))
    code, _ = genre_tag(library, "--model", model, "--write-tags", "--min-confidence", "0", "-j", "1")
    assert code == 0 and tags.read_genres(library / "Jazz artist 0" / "0.flac")
    code, told = genre_tag("learn", library, "--model", model)
    assert code == 3 and "45 of a genre that genre-tag wrote" in told and len(told.strip().splitlines()) == 1


def test_what_was_decided_in_a_review_is_learned_from(
    genre_tag: Callable[..., tuple[int, str]], recordings: Path, model: Path, tmp_path: Path
) -> None:
    """Songs that nobody tagged, but for what was decided on them; those of Polka by a plan that was edited."""
    library = Path(shutil.copytree(recordings, tmp_path / "library"))
    genre_tag(library, "--model", model, "--plan", tmp_path / "plan.jsonl", "-j", "1")
    plan = read_plan(tmp_path / "plan.jsonl")
    assert len(plan.rows) == 45
    kind = {row.path: Path(row.path).parent.name.split()[0] for row in plan.rows}
    polka = [replace(row, decision=("Polka",)) for row in plan.rows if kind[row.path] == "Polka"]
    write_plan(tmp_path / "polka.jsonl", polka)
    assert genre_tag("apply", tmp_path / "polka.jsonl", "--write-tags")[0] == 0
    with Decisions(decisions_path()) as decisions:
        others = [row for row in plan.rows if kind[row.path] != "Polka"]
        decisions.keep(Decided(row.identity, (kind[row.path],), row.proposed) for row in others)
    code, told = genre_tag("learn", library, "--model", model, "--genres", "own", "-j", "1")
    assert code == 0 and "45 songs of 3 genres and 15 artists." in told
    assert "Decided on in a review: 45 songs." in told and "Use it: genre-tag --model mine" in told


def test_decisions_that_cannot_be_read_are_done_without(
    genre_tag: Callable[..., tuple[int, str]], library: Path, model: Path
) -> None:
    decisions_path().parent.mkdir(parents=True)
    decisions_path().write_bytes(b"no database" * 100)
    code, told = genre_tag("learn", library, "--model", model, "--genres", "own", "-j", "1")
    assert code == 0 and "30 songs of 3 genres" in told
    assert f"{decisions_path()}: file is not a database: what was decided in reviews is not learned from" in told


def test_where_nothing_is_better_nothing_is_kept(
    genre_tag: Callable[..., tuple[int, str]], library: Path, model: Path
) -> None:
    rng = np.random.default_rng(1)
    for path in library.rglob("[0-1].flac"):
        write(path, str(rng.choice(["Jazz", "Rock"])))
    code, told = genre_tag("learn", library, "--model", model, "-j", "1")
    assert code == 0 and "nothing is kept" in told and "Use it" not in told
    assert learned_models() == []


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ([], 2, "Missing argument"),
        (["nowhere"], 2, "nowhere: no such file or folder"),
        (["empty"], 3, "no songs found in empty"),
        (["few"], 3, "too few songs: it takes 10 songs of 3 artists, of each of two genres at least"),
        (["one"], 3, "all tagged songs are of one genre"),
        (["one", "--model", "nobody/nothing"], 3, "nobody/nothing"),
        (["one", "--model", "mine"], 3, "all tagged songs are of one genre"),
        (["one", "--out", "full"], 2, "there is something in it"),
    ],
)
def test_bad_input_is_one_clear_line(
    genre_tag: Callable[..., tuple[int, str]], library: Path, model: Path, tmp_path: Path, arguments: list[str],
    code: int, expected: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "few", "one", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "file").touch()
    for artist in ("Jazz artist 0", "Rock artist 0"):
        shutil.copytree(library / artist, tmp_path / "few" / artist)
    shutil.copytree(library / "Jazz artist 0", tmp_path / "one" / "Jazz artist 0")
    named = [] if "--model" in arguments else ["--model", str(model)]
    found, told = genre_tag("learn", *arguments, *named, "-j", "1")
    assert found == code and expected in told
    assert len([line for line in told.splitlines() if not line.endswith("left")]) == 1


def test_mine_is_the_newest_of_the_library_and_none_without_one(
    genre_tag: Callable[..., tuple[int, str]], library: Path, tmp_path: Path
) -> None:
    code, told = genre_tag(library, "--model", "mine")
    assert code == 3 and f"no model was learned from this library yet: genre-tag learn {library}" in told


def test_doctor_looks_at_the_model_of_the_library(
    genre_tag: Callable[..., tuple[int, str]], library: Path, model: Path, machine_is_well: None
) -> None:
    told = genre_tag("doctor", library, "--model", "mine", "--no-speed")[1]
    assert f"mine: no model was learned from this library yet: genre-tag learn {library}" in " ".join(told.split())
    genre_tag("learn", library, "--model", model, "--genres", "own", "-j", "1")
    (found,) = learned_models()
    assert f"{found.folder}: 4 genres" in " ".join(
        genre_tag("doctor", library, "--model", "mine", "--no-speed")[1].split()
    )
