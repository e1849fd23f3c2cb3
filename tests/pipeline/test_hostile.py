"""Songs, playlists, maps and models made by somebody who means harm."""

import csv
import io
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tagger.cli import main as cli
from tagger.errors import ModelError
from tagger.models import description
from tagger.tags.genre import read_genres, retag
from tests.support.fakes import FakeModel, make_tone
from tests.support.tag_files import frame, id3v2, text

Command = Callable[..., tuple[int, str, str]]

# What a terminal obeys: controls, 8-bit controls, direction overrides, and what says where a line ends.
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
NAMES = [
    "\x1b]0;owned\x07\x1b[2J.mp3",
    "\x9b31mred\x9b0m.mp3",
    "new\nline\r.mp3",
    "\u202e3pm.exe.mp3",
    "[bold red]x [link=http:x]y.mp3",
    "=HYPERLINK(1).mp3",
    "x;=1+1;@SUM(1).mp3",
    "-rf.mp3",
    "--write-tags.mp3",
    os.fsdecode(b"caf\xe9\xff.mp3"),
    '"quoted", and more.mp3',
    "$(touch owned) `touch owned`.mp3",
]
GENRES = ["\x1b[31mred\x07", "=cmd|' /C calc'!A0", "[red]x[/]", "x;=1+1", "\u202eabc", "a\nb"]


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tone") / "rock.mp3"
    make_tone(path, "Rock")
    return path.read_bytes()


@pytest.fixture
def music(tmp_path: Path, tone: bytes) -> Path:
    """Songs with hostile names, with and without hostile tags, and one that is damaged in hostile words."""
    folder = tmp_path / "music \x1b[2J"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        genre = GENRES[number % len(GENRES)]
        frames = text(b"TIT2", "\x1b[2J") + (frame(b"TCON", b"\1" + genre.encode("utf-16")) if number % 2 else b"")
        (folder / name).write_bytes(id3v2(3, frames) + tone[tone.index(b"\xff\xfb") :])
    (folder / "\x1b[7mbad.mp3").write_bytes(b"\x1b[7m" * 400)
    return folder


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line, with a fake model; gives the exit code and both streams."""
    model = ModuleType("tagger.models.genre_model")
    model.GenreModel = SimpleNamespace(load=lambda *_: FakeModel())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tagger.models.genre_model", model)
    monkeypatch.setattr(description, "describe", lambda name: FakeModel())

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        return int(left.value.code or 0), *capsys.readouterr()

    return run


@pytest.mark.parametrize("options", [[], ["-v"], ["-q"], ["--write-tags", "--overwrite"], ["--existing", "append"]])
def test_no_name_and_no_tag_is_obeyed_by_a_terminal(command: Command, music: Path, options: list[str]) -> None:
    code, out, err = command(music, *options)
    assert code == 1  # the damaged one
    assert "\\x1b" in out + err
    assert not OBEYED.findall(out + err)
    assert "-q" in options or len(out.splitlines()) >= len(NAMES)
    if "-q" not in options:
        assert "[bold red]x [link=http:x]y" in out  # no markup either
    assert not Path("owned").exists()


def test_what_is_undone_and_listed_is_obeyed_by_no_terminal(command: Command, music: Path, nobody: Path) -> None:
    command(music, "--write-tags", "--overwrite", "--exclude", "\x1b[2J")
    song = music / NAMES[2]
    song.write_bytes(retag(song.read_bytes(), ".mp3", ["Other"]))
    (nobody / "state" / "genre-tag" / "journal" / "\x1b[2J.jsonl").write_text("{}\n")
    for arguments in (["--list"], ["last", "--dry-run"], ["last"], ["\x1b[2J"], ["last", "\x1b[2J"]):
        _, out, err = command("undo", *arguments)
        assert out + err and not OBEYED.findall(out + err), arguments


def test_records_are_harmless_too(command: Command, music: Path, tmp_path: Path) -> None:
    command(music, "--json", tmp_path / "out.json", "--csv", tmp_path / "out.csv")
    lines = (tmp_path / "out.json").read_bytes().splitlines()
    assert len(lines) == len(NAMES) + 1 and not [line for line in lines if OBEYED.search(line.decode("ascii"))]
    assert {Path(json.loads(line)["path"]).name for line in lines} == {*NAMES, "\x1b[7mbad.mp3"}
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len(rows) == len(NAMES) + 2
    for separator in ",;\t|":  # a spreadsheet asks its user's country
        with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file, delimiter=separator) for cell in row]
        assert not [cell for cell in cells if re.match(r"\s*[=+\-@＝＋－＠]", cell)]


def test_a_playlist_leads_to_the_songs_it_names_and_no_further(command: Command, music: Path, tmp_path: Path) -> None:
    """Nothing else is written: not the playlist, not what it names that is no song, not what lies beside."""
    others = tmp_path / "others"
    others.mkdir()
    shutil.copy(music / NAMES[0], others / "named.mp3")
    shutil.copy(music / NAMES[0], others / "beside.mp3")
    (others / "secret.txt").write_text("secret")
    (others / "link.mp3").symlink_to(others / "secret.txt")
    playlist = music / "list.m3u"
    entries = [
        "../others/named.mp3", str(others / "secret.txt"), "../others/link.mp3", "/etc/passwd", "/dev/zero",
        "../others", "file:///etc/passwd", "http://example.org/x.mp3", "|touch owned", "$(touch owned).mp3",
        "\x1b[2J.mp3", "a\0b.mp3", "../" * 40 + "etc/passwd", "list.m3u", "concat:/etc/passwd|x.mp3", "-",
    ]  # fmt: skip
    playlist.write_bytes("\n".join(entries).encode())

    def bytes_of_all() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = bytes_of_all()
    _, out, err = command(playlist, "--write-tags")
    assert not OBEYED.findall(out + err)
    after = bytes_of_all()
    assert {path for path in after if before.get(path) != after[path]} == {others / "named.mp3"}
    assert read_genres(others / "named.mp3") == ("Rock",)


def test_a_map_renames_genres_and_nothing_else(command: Command, music: Path, tmp_path: Path) -> None:
    (tmp_path / "my.map").write_text("Rock = ../../owned.mp3\nBlues = /etc/passwd\n")
    names = sorted(path.name for path in tmp_path.rglob("*"))
    code, out, _ = command("--map", tmp_path / "my.map", "--write-tags", music / NAMES[0])
    assert code == 0 and "../../owned.mp3" in out
    assert read_genres(music / NAMES[0]) == ("../../owned.mp3",)
    assert sorted(path.name for path in tmp_path.rglob("*")) == names
    for line in ("Rock = \x1b[31mx", "Rock = a\x9bb", "Rock = a\u202eb"):
        (tmp_path / "my.map").write_text(line + "\n")
        code, out, err = command("--map", tmp_path / "my.map", music)
        assert code == 2 and "control characters" in err and not OBEYED.findall(out + err)


def test_settings_are_shown_as_they_are(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENRE_TAG_MODEL", "[red]x\x1b[2J")
    _, out, err = command("config")
    assert "[red]x\\x1b[2J" in out and not OBEYED.findall(out + err)


# --- models


class Bomb:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {os.environ['BOMB']}",)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from tests.support.checkpoints import make_checkpoint

    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    return make_checkpoint(tmp_path / "model")


def load(folder: Path) -> None:
    from tagger.models.checkpoint import load_checkpoint

    load_checkpoint(description.describe(str(folder)))


def test_a_pickle_beside_the_weights_is_not_opened(checkpoint: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "adapter_model.bin", "model.pt", "optimizer.pt"):
        (checkpoint / name).write_bytes(pickle.dumps(Bomb()))
    (checkpoint / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "x"}')
    load(checkpoint)
    assert not (checkpoint.parent / "exploded").exists()
    pickle.loads((checkpoint / "model.pt").read_bytes())
    assert (checkpoint.parent / "exploded").exists()  # it would have


@pytest.mark.parametrize("shard", ["pickle.bin", "../outside.safetensors", "/etc/passwd", "model-other.safetensors"])
def test_an_index_leads_to_no_file_but_safetensors_of_the_folder(
    checkpoint: Path, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    weights = checkpoint / "model.safetensors"
    shutil.copy(weights, checkpoint.parent / "outside.safetensors")
    from safetensors.torch import load_file

    tensors = load_file(weights)
    torch.save(tensors, checkpoint / "pickle.bin")
    weights.rename(checkpoint / "model-1.safetensors")
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(tensors, shard)}))
    with pytest.raises(ModelError, match="only safetensors"):
        load(checkpoint)
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(tensors, "model-1.safetensors")}))
    load(checkpoint)
    index.write_text("[]")
    with pytest.raises(ModelError, match=r"index\.json cannot be read"):
        load(checkpoint)


def test_a_pickle_named_safetensors_is_refused(checkpoint: Path) -> None:
    stream = io.BytesIO()
    pickle.dump(Bomb(), stream)
    (checkpoint / "model.safetensors").write_bytes(stream.getvalue())
    with pytest.raises(ModelError, match="damaged"):
        load(checkpoint)
    assert not (checkpoint.parent / "exploded").exists()
