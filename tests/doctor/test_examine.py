"""The doctor finds what is broken, names it and what to do, and never stumbles over it itself."""

# ruff: noqa: F811  (fixtures are imported by name)

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tagger.audio import codecs as decoders
from tagger.audio.library import SONG_SUFFIXES, Found, find_songs
from tagger.doctor import benchmark as speed
from tagger.doctor import checks
from tagger.doctor import examine as doctor
from tagger.doctor import torch_probe as machine
from tagger.doctor.checks import Check, guarded, in_a_line, reinstall
from tagger.doctor.torch_probe import Machine
from tagger.errors import ModelError
from tagger.extras import EXTRAS
from tagger.pipeline.options import TagOptions
from tests.cli.test_tag import Run, genre_tag, music, tones  # noqa: F401
from tests.support.fakes import FakeModel

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "tagger" / "models" / "starter"


def break_library(folder: Path, name: str, code: str) -> None:
    """A library of that name, ahead of the real one in `folder`, that runs this code when it is imported."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)


def break_others(folder: Path) -> None:
    """Spares a test that is about torch the seconds that the libraries of the extras take."""
    for name in ("accelerate", "ray"):
        break_library(folder, name, f"raise ImportError('{name} is spared')")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A speed test of three songs."""
    monkeypatch.setattr(speed, "LEAST_SONGS", 3)
    monkeypatch.setattr(speed, "LEAST_SECONDS", 0.0)


def states(checks: Iterator[Check]) -> list[tuple[str, str]]:
    return [(check.state, check.name) for check in checks]


# ---- what goes wrong with a check


def test_whatever_goes_wrong_is_a_problem() -> None:
    def look() -> Iterator[Check]:
        yield Check("ok", "first", "fine")
        raise OSError("no\nway")

    assert list(guarded("disk", look)) == [Check("ok", "first", "fine"), Check("problem", "disk", "no")]
    assert in_a_line(ValueError()) == "ValueError"


def test_a_library_that_cannot_be_imported_is_named_with_the_command_that_mends_it() -> None:
    def look() -> Iterator[Check]:
        yield Check("ok", "decoders", f"{__import__('av.nosuch')}")

    (check,) = guarded("decoders", look)
    assert check.state == "problem" and check.says == "cannot be imported: No module named 'av.nosuch'"
    assert re.fullmatch(r"pip install --force-reinstall 'av\W[^;]+'", check.remedy)


def test_the_command_asks_for_the_versions_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = [
        "torch<2.16,>=2.11", 'tomli>=2.0; python_version < "3.11"', 'ruff>=0.9; extra == "dev"',
        'scikit-learn>=1.4; extra == "train"', 'torch>=2.13; extra == "train"', 'ray[data]>=2.60; extra == "ray"',
    ]  # fmt: skip
    monkeypatch.setattr(checks.metadata, "requires", lambda _: needed)
    command = "pip install --force-reinstall 'tomli>=2.0' 'ruff>=0.9' 'scikit-learn>=1.4' 'ray[data]>=2.60' 'other'"
    assert reinstall("tomli", "ruff", "sklearn", "ray", "other") == command
    assert machine.repair() == "pip install --force-reinstall 'torch<2.16,>=2.11'"


def test_without_being_installed_the_names_alone_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> list[str]:
        raise checks.metadata.PackageNotFoundError

    monkeypatch.setattr(checks.metadata, "requires", absent)
    assert reinstall("av") == "pip install --force-reinstall 'av'"
    assert states(doctor.libraries()) == [("ok", "libraries")]


# ---- libraries


def test_the_libraries_here_fit() -> None:
    found = list(doctor.libraries())
    assert not [check for check in found if check.state == "problem"]
    pattern = r"openvino 20\S+, torch 2\.\S+, av \S+, mutagen 1\.\S+, numpy \S+, transformers 5\.\S+, ray 2"
    assert re.search(pattern, found[-1].says)


def test_a_library_that_is_too_old_or_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {
        "": ["numpy>=99", "nosuch-library>=1", 'gone; python_version < "3"', "mutagen"],
        "train": ['transformers<5; extra == "train"', 'nosuch-extra>=1; extra == "train"'],
    }
    monkeypatch.setattr(
        doctor, "requirements", lambda extra: {re.split(r"\W", text)[0]: text for text in needed.get(extra, ())}
    )
    old, absent, new, fine = doctor.libraries()
    assert (old.state, absent.state, new.state, fine.state) == ("warning", "problem", "warning", "ok")
    assert re.fullmatch(r"transformers \S+ is installed, needed is transformers<5", new.says)
    assert re.fullmatch(r"numpy \S+ is installed, needed is numpy>=99", old.says)
    assert absent.says == "nosuch-library is not installed" and "nosuch-library" in absent.remedy


# ---- torch, in a process of its own


@pytest.fixture
def fresh_torchaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchaudio that was not imported yet; what the test imports or hides is forgotten behind it."""
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    monkeypatch.delitem(sys.modules, "torchaudio")


@pytest.mark.usefixtures("fresh_torchaudio")
def test_a_pair_fits_if_it_can_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The numbers do not tell: torchaudio 2.11.1 fits torch 2.14, and not 2.11."""
    break_library(tmp_path / "pair", "torchaudio", "__version__ = '2.11.1+cu132'")
    monkeypatch.syspath_prepend(tmp_path / "pair")
    assert list(machine.beside("2.14.1")) == [Check("ok", "torch", "2.14.1, with torchaudio 2.11.1+cu132")]


@pytest.mark.usefixtures("fresh_torchaudio")
@pytest.mark.parametrize(
    ("torch", "remedy"),
    [
        ("2.11.0+cu130", "pip install --force-reinstall --no-deps 'torchaudio==2.11.0', or pip uninstall torchaudio"),
        ("2.12.1", "pip install --force-reinstall --no-deps 'torchaudio==2.11.0', or pip uninstall torchaudio"),
        ("2.13.0", "pip install --force-reinstall --no-deps 'torchaudio==2.11.1', or pip uninstall torchaudio"),
        ("2.15.0+cu132", "pip install --force-reinstall --no-deps 'torchaudio==2.11.1', or pip uninstall torchaudio"),
        ("2.14.1+cpu", "pip uninstall torchaudio"),
        ("2.16.0", "pip uninstall torchaudio"),
        ("2.10.0", "pip uninstall torchaudio"),
        ("3.0a1", "pip uninstall torchaudio"),
    ],
)
def test_a_torchaudio_for_another_torch_is_fixed_by_the_one_that_fits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, torch: str, remedy: str
) -> None:
    break_library(tmp_path / "broken", "torchaudio", "raise OSError('undefined symbol: _ZN3c10')")
    monkeypatch.syspath_prepend(tmp_path / "broken")
    found, broken = machine.beside(torch)
    assert found == Check("ok", "torch", torch)
    says = f"cannot be imported beside torch {torch}: undefined symbol: _ZN3c10; no command needs it"
    assert broken == Check("warning", "torchaudio", says, remedy)
    assert machine.missing("torchaudio") == ["torchaudio"]  # hidden from whom it would break


def test_without_torchaudio_nothing_is_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    assert list(machine.beside("2.14.1")) == [Check("ok", "torch", "2.14.1")]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise OSError('libcudart.so.13: cannot open shared object file')", "cannot be imported: libcudart.so.13"),
        ("raise RuntimeError('built for another\\nlong story')", "cannot be imported: built for another"),
        ("print('hello'); import nosuch_part", "cannot be imported: No module named 'nosuch_part'"),
        ("", "cannot be imported: module 'torch' has no attribute '__version__'"),
        ("import os; os._exit(3)", "its import ends the process (code 3): it said nothing"),
        ("import sys; sys.exit('sorry')", "its import ends the process (code 1): sorry"),
        ("import os; os.abort()", "its import ends the process (code -6)"),
        ("import time; time.sleep(60)", "its import takes longer than 3 s"),
    ],
)
def test_a_broken_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, words: str) -> None:
    break_others(tmp_path / "broken")
    break_library(tmp_path / "broken", "torch", code)
    monkeypatch.syspath_prepend(tmp_path / "broken")
    if "sleep" in code:
        monkeypatch.setattr(machine, "LIMIT_SECONDS", 3.0)
    process = Machine("cuda", "auto")
    (check,) = (check for check in process.checks() if check.name == "torch")
    process.close()
    assert (check.state, check.name) == ("problem", "torch")
    assert words in check.says and check.remedy == machine.repair()


def test_a_broken_torch_is_in_the_way_of_gpus_and_of_training_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    break_others(tmp_path / "broken")
    break_library(tmp_path / "broken", "torch", "raise OSError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path / "broken")
    process = Machine("cpu", "fp32")
    _, torch, *others = process.checks()
    process.close()
    assert torch.state == "warning" and torch.says.endswith("only training and GPUs need it")
    assert states(iter(others))[:2] == [("ok", "device"), ("ok", "precision")]


@pytest.mark.parametrize(
    ("device", "has_card", "state", "words"),
    [
        ("auto", False, "ok", "is not installed, and not needed"),
        ("auto", True, "warning", "with it the NVIDIA card here would be used"),
        ("cpu", True, "ok", "is not installed, and not needed"),
        ("cuda", True, "problem", "--device cuda needs it"),
        ("mps", False, "problem", "--device mps needs it"),
    ],
)
def test_without_torch(monkeypatch: pytest.MonkeyPatch, device: str, has_card: bool, state: str, words: str) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda _: "/usr/bin/nvidia-smi" if has_card else None)
    check = machine.without_torch(device)
    assert (check.state, check.name) == (state, "torch") and words in check.says
    assert check.remedy == ("" if state == "ok" else "pip install 'genre-tag[torch]'")


def test_a_broken_openvino(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    break_library(tmp_path / "broken", "openvino", "raise OSError('undefined symbol: _ZN2ov')")
    monkeypatch.syspath_prepend(tmp_path / "broken")
    process = Machine("cpu", "fp32")
    (check,) = process.checks()
    process.close()
    assert (check.state, check.name) == ("problem", "openvino") and "undefined symbol: _ZN2ov" in check.says
    assert check.remedy.startswith("pip install --force-reinstall 'openvino")


def test_a_library_that_ends_the_process_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    break_library(tmp_path / "broken", "accelerate", "import os; os.abort()")
    monkeypatch.syspath_prepend(tmp_path / "broken")
    process = Machine("cpu", "fp32")
    *found, check = process.checks()
    process.close()
    assert (check.state, check.name) == ("problem", "train") and "(code -6)" in check.says
    assert check.remedy == reinstall(*EXTRAS["train"])
    assert "problem" not in dict(states(iter(found))) and {"torch", "device"} <= {each.name for each in found}


# ---- the extras


def test_every_extra_is_looked_at() -> None:
    assert machine.USERS.keys() == EXTRAS.keys()


def test_an_extra_that_is_not_installed_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    says = "not installed (no datasets); pip install 'genre-tag[train]' brings it"
    assert list(machine.works("train")) == [Check("ok", "train", says)]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("import nosuch_part", "pip install --force-reinstall 'nosuch_part'"),
        ("raise RuntimeError('built for another numpy')", reinstall("datasets")),
        ("import torch.nosuch_part", reinstall("torch")),
    ],
)
def test_training_that_is_installed_and_does_not_work_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, remedy: str
) -> None:
    monkeypatch.setattr(machine, "EXTRAS", {"train": ("datasets",)})
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.delitem(sys.modules, "datasets")
    break_library(tmp_path / "broken", "datasets", code)
    monkeypatch.syspath_prepend(tmp_path / "broken")
    (check,) = machine.works("train")
    assert (check.state, check.name, check.remedy) == ("problem", "train", remedy)
    assert check.says.startswith("is installed, and cannot be used: ")


def test_a_python_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nosuch/python")
    process = Machine("auto", "auto")
    (check,) = process.checks()
    process.close()
    assert check.state == "problem" and "/nosuch/python does not start" in check.says


def test_the_device_and_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(machine, "usable_cores", lambda: 3)
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    for backend in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(backend, "is_available", lambda: False)
    device, precision = machine.choice("auto", "fp32")
    assert device == Check("ok", "device", f"cpu: 3 of {os.cpu_count()} cores usable; OpenVINO computes on it")
    assert precision == Check("ok", "precision", "fp32: as asked for")
    assert states(machine.choice("cuda", "auto")) == [("problem", "device")]
    device, precision = machine.choice("cpu", "fp16")
    assert (device.state, precision.state, precision.remedy) == ("ok", "problem", "use --precision auto")

    monkeypatch.setattr(machine.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    device, _ = machine.choice("auto", "auto")
    assert device.state == "warning" and "there is an NVIDIA driver, but this torch" in device.says
    assert states(machine.choice("cpu", "auto")) == [("ok", "device"), ("ok", "precision")]  # as it was asked for


def test_a_graphics_card(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    class Card:
        name, total_memory = "H200", 139 * 2**30

    monkeypatch.setattr("tagger.models.genre_model.may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    device, precision = machine.choice("auto", "auto")
    assert device.says.startswith("cuda: H200, 139 GiB; ")
    assert precision.says == "fp32 or bf16: whichever is timed to be faster with the model"


# ---- decoders


def test_every_kind_of_song_has_its_decoders() -> None:
    assert decoders.DECODERS.keys() == SONG_SUFFIXES
    assert not decoders.missing_decoders()  # so all their names are right
    (check,) = doctor.decoders()
    assert check.state == "ok"
    assert re.fullmatch(rf"FFmpeg \d\S* decodes all {len(SONG_SUFFIXES)} kinds of songs", check.says)


def test_a_decoder_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = decoders._has
    monkeypatch.setattr(decoders, "_has", lambda name: name not in ("ape", "alac") and usual(name))
    (check,) = doctor.decoders()
    assert check.state == "warning" and ".ape (ape); .m4a (alac); .m4b (alac); .mp4 (alac)" in check.says
    assert check.remedy.startswith("pip install --force-reinstall 'av")
    monkeypatch.setattr(decoders, "_has", lambda name: False)
    assert states(doctor.decoders()) == [("problem", "decoders")]


# ---- folders


def test_folders_that_are_still_to_be_made_are_not_made(nobody: Path) -> None:
    (check,) = doctor.journal()
    assert check == Check("ok", "journal", f"{nobody / 'state' / 'genre-tag' / 'journal'} can be made")
    (nobody / "state" / "genre-tag").mkdir(parents=True)
    (check,) = doctor.cache()
    assert check == Check("ok", "cache", f"{nobody / 'state' / 'genre-tag'} can be written")
    assert [path.name for path in nobody.rglob("*")] == ["state", "genre-tag"]


def test_a_folder_that_cannot_be_written(nobody: Path) -> None:
    (nobody / "state").write_text("in the way")
    (journal,), (cache,) = doctor.journal(), doctor.cache()
    assert journal.state == "problem" and "no genre is written without a record of it" in journal.says
    assert cache.state == "warning" and "every run classifies every song again" in cache.says
    assert str(nobody / "state") in journal.says and "XDG_STATE_HOME" in journal.remedy


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, nobody: Path) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10 * 2**20))
    (check,) = doctor.journal()
    assert check.state == "warning" and "has only 10 MiB left" in check.says


def test_a_cache_that_may_not_be_written(monkeypatch: pytest.MonkeyPatch, nobody: Path) -> None:
    (nobody / "state" / "genre-tag").mkdir(parents=True)
    (nobody / "state" / "genre-tag" / "cache.sqlite3").touch()
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)  # root may write everything
    (check,) = doctor.cache()
    assert check.state == "warning" and "cache.sqlite3 cannot be written" in check.says


# ---- the model


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The empty cache of a hub that must not be asked."""
    import huggingface_hub

    def ask(*_: object, **__: object) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", ask)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cache_model(hub: Path, hub_id: str, ignore: Callable | None = None) -> None:
    """Put the starter into the cache under another name, as the hub's client would."""
    folder = hub / f"models--{hub_id.replace('/', '--')}"
    shutil.copytree(STARTER, folder / "snapshots" / "0123", ignore=ignore)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123")


def test_the_model_that_is_built_in(hub: Path) -> None:
    model, audioset = doctor.model("starter")
    assert model == Check("ok", "model", "starter: 15 genres, snippets of 5 s")
    assert audioset.state == "ok" and "is not on this machine; --model audioset fetches it" in audioset.says


@pytest.mark.parametrize("name", ["audioset", "somebody/a-model"])
def test_a_model_of_the_hub_is_looked_for_in_the_cache_alone(hub: Path, name: str) -> None:
    check = next(doctor.model(name))
    assert (check.state, check.says) == ("warning", f"{name} is not on this machine")
    cache_model(hub, {"audioset": "MIT/ast-finetuned-audioset-10-10-0.4593"}.get(name, name))
    check = next(doctor.model(name))
    assert check == Check("ok", "model", f"{name}: 15 genres, snippets of 5 s")


def test_half_a_model_in_the_cache_is_none(hub: Path) -> None:
    cache_model(hub, "somebody/a-model", ignore=shutil.ignore_patterns("*.safetensors"))
    assert doctor.local_name("somebody/a-model") is None


@pytest.mark.parametrize("name", ["nosuch", "/nosuch/folder", "../.."])
def test_a_model_that_is_none(hub: Path, name: str) -> None:
    check = next(doctor.model(name))
    assert check.state == "problem" and name in check.says and "starter" in check.remedy


def test_a_checkpoint_without_its_weights(hub: Path, tmp_path: Path) -> None:
    shutil.copytree(STARTER, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    check = next(doctor.model(str(tmp_path / "model")))
    assert check.state == "problem" and "no model.safetensors there" in check.says


# ---- speed


def ticking(step: float) -> Callable[[], float]:
    return partial(next, count(0.0, step))


@pytest.mark.parametrize(
    ("step", "n_songs", "seconds"),
    [
        (0.4375, 23, 10.0625),  # fast: ten seconds
        (1.0, 20, 20.0),  # slow: twenty songs
        (9.0, 5, 45.0),  # very slow: what comes in 40 seconds
        (100.0, 1, 100.0),
    ],
)
def test_the_speed_is_that_of_the_songs_behind_the_first(
    tones: Path, nobody: Path, step: float, n_songs: int, seconds: float
) -> None:
    model = FakeModel()
    found = list(find_songs([str(tones)]))
    measured = speed.measure(found, model, lambda: model, TagOptions(), ticking(step))
    assert (measured.n_songs, measured.n_snippets, measured.n_failed) == (n_songs, n_songs, 0)
    assert measured.seconds == pytest.approx(seconds) and measured.start_seconds == pytest.approx(step)
    assert [path.name for path in nobody.rglob("*.*")] == ["timings.json"]  # of the machine, not of songs


def test_songs_are_taken_from_all_over_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Found] = []

    def tag_songs(songs: list[Found], *_: object) -> Iterator[object]:
        asked.extend(songs)
        yield from ()

    monkeypatch.setattr(speed, "tag_songs", tag_songs)
    library = [Found(Path(f"{i}.mp3")) for i in range(20_000)]
    with pytest.raises(ValueError, match="no songs"):
        speed.measure(library, FakeModel(), FakeModel, TagOptions())
    assert len(asked) == len(set(asked)) == speed.MOST_SONGS
    assert 8_000 < sum(int(found.path.stem) for found in asked[:100]) / 100 < 12_000


# ---- the command


def test_all_is_well(
    genre_tag: Callable[..., Run], music: Path, machine_is_well: None, quick: None, hub: Path, nobody: Path
) -> None:
    run = genre_tag("doctor", music)
    assert run.code == 0 and run.err == ""
    rows = [line.split(maxsplit=2) for line in run.out.splitlines()]
    assert {row[0] for row in rows[:-1]} == {"ok"} and run.out.endswith("All is well.\n")
    assert [row[1] for row in rows[:-1]] == [
        "settings", "genre-tag", "libraries", "decoders", "journal", "cache", "model", "audioset", "torch", "engine",
        "speed", "library",
    ]  # fmt: skip
    assert re.fullmatch(r"\d\S* songs/s, after \d+ seconds? to start", rows[-3][2])
    assert re.fullmatch(r"2 songs: \d+ seconds? or so; .+", rows[-2][2])
    assert [path.name for path in (nobody / "state").rglob("*.*")] == ["timings.json"]


def test_without_the_speed_test_nothing_is_classified(
    genre_tag: Callable[..., Run], music: Path, machine_is_well: None, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagger.models.genre_model.GenreModel.load", lambda *_: pytest.fail("loaded"))
    run = genre_tag("doctor", "--no-speed", music)
    assert run.code == 0 and "songs/s" not in run.out and "library       2 songs\n" in run.out
    monkeypatch.setenv("GENRE_TAG_EXCLUDE", "*.mp3")
    assert "library       1 song\n" in genre_tag("doctor", "--no-speed", music).out
    monkeypatch.setenv("GENRE_TAG_EXCLUDE", "*.mp3 *.flac")
    assert "warning  library       there are no songs\n" in genre_tag("doctor", "--no-speed", music).out


def test_without_a_library_the_bundled_clips_are_classified(
    genre_tag: Callable[..., Run], machine_is_well: None, quick: None, hub: Path
) -> None:
    run = genre_tag("doctor")
    assert run.code == 0 and "to judge by the bundled clips" in run.out and "\nok       library" not in run.out


def test_a_library_that_is_not_there(genre_tag: Callable[..., Run], machine_is_well: None, hub: Path) -> None:
    run = genre_tag("doctor", "--no-speed", "/nosuch/\x1b[31mmusic")
    assert run.code == 1 and "problem  library       /nosuch/\\x1b[31mmusic: no such file or folder" in run.out
    assert run.out.endswith("1 problem.\n")


def test_songs_that_cannot_be_decoded(
    genre_tag: Callable[..., Run], music: Path, machine_is_well: None, hub: Path, quick: None
) -> None:
    (music / "rock.mp3").write_bytes(b"no music" * 1000)
    run = genre_tag("doctor", music)
    assert run.code == 0 and re.search(
        r"warning  speed +\d of \d songs cannot be decoded, the first because: ", run.out
    )
    assert "songs/s" in run.out
    (music / "blues.flac").unlink()
    run = genre_tag("doctor", music)
    assert run.code == 1 and re.search(r"problem  speed +(\d+) of \1 songs cannot be decoded", run.out)
    assert "songs/s" not in run.out


def test_a_model_that_cannot_be_loaded(
    genre_tag: Callable[..., Run], music: Path, machine_is_well: None, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> FakeModel:
        raise ModelError("starter", "model.safetensors is damaged")

    monkeypatch.setattr("tagger.models.genre_model.GenreModel.load", load)
    run = genre_tag("doctor", music)
    assert run.code == 1 and "problem  speed         starter: model.safetensors is damaged" in run.out


@pytest.mark.parametrize(
    ("settings", "environment", "words"),
    [
        (
            "device = 'tpu'",
            {},
            "'tpu' is not one of 'auto', 'cpu', 'cuda', 'mps'. (from the settings file)\n{indent}→ fix it in {file}",
        ),
        ("min-confidence = 50", {}, "did you mean 0.5? (from the settings file)"),
        (
            "",
            {"GENRE_TAG_MODEL": "starter", "GENRE_TAG_SNIPPETS": "few"},
            "nor 'all' nor 'auto'. (from the environment)\n{indent}→ fix GENRE_TAG_SNIPPETS",
        ),
        ("modle = 'starter'", {}, "unknown setting 'modle'"),
        ("= [", {}, "not valid TOML"),
    ],
)
def test_settings_that_are_wrong_hinder_no_other_check(
    genre_tag: Callable[..., Run], tmp_path: Path, machine_is_well: None, hub: Path, monkeypatch: pytest.MonkeyPatch,
    settings: str, environment: dict[str, str], words: str,
) -> None:  # fmt: skip
    (tmp_path / "config.toml").write_text(settings)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run = genre_tag("doctor", "--no-speed")
    words = words.format(indent=" " * 23, file=tmp_path / "config.toml")
    assert run.code == 1 and run.out.startswith("problem  settings ") and words in run.out
    assert "ok       model         starter" in run.out and run.out.endswith("1 problem.\n")


def test_the_run_that_settings_and_options_ask_for_is_looked_at(
    genre_tag: Callable[..., Run], tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[doctor.Asked] = []
    monkeypatch.setattr(doctor, "examine", lambda what: asked.append(what) or iter(()))
    (tmp_path / "config.toml").write_text("model = 'audioset'\nsnippets = 3\nprecision = 'fp32'\n")
    monkeypatch.setenv("GENRE_TAG_JOBS", "1")
    run = genre_tag("doctor", "--model", "starter", "--device", "cpu")
    assert run.out == f"ok       settings      3 in {tmp_path / 'config.toml'}\nAll is well.\n"
    (what,) = asked
    predict = what.options.predict
    assert (predict.model, predict.device, predict.precision) == ("starter", "cpu", "fp32")
    assert (predict.n_snippets, predict.n_workers, predict.batch_size) == (3, 1, None)


def test_what_is_not_there_is_not_tested(
    genre_tag: Callable[..., Run], music: Path, machine_is_well: None, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = genre_tag("doctor", "--model", "audioset", music)
    assert run.code == 0 and "warning  speed         not measured" in run.out
    monkeypatch.setattr(Machine, "checks", lambda _: iter([Check("problem", "torch", "broken", "fix it")]))
    run = genre_tag("doctor", music)
    assert run.code == 1 and "warning  speed         not measured" in run.out
    assert f"problem  torch         broken\n{' ' * 23}→ fix it\n" in run.out


# ---- for real


def test_everything_is_broken_and_nothing_stumbles(tmp_path: Path, nobody: Path) -> None:
    """Whatever can be missing is missing: every line is a problem, none a traceback."""
    for name in (
        "av", "huggingface_hub", "mutagen", "numpy", "openvino", "packaging", "platformdirs", "rich", "torch",
        "torchaudio", "tqdm", "transformers",
    ):  # fmt: skip
        break_library(tmp_path, name, f"raise ImportError('{name} is broken', name='{name}')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tagger", "doctor", str(ROOT / "tagger" / "samples")],
        capture_output=True, text=True, env=environment, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr == ""
    problems = re.findall(r"^problem  (\S+) +(.*)$", done.stdout, re.MULTILINE)
    assert [name for name, _ in problems] == [
        "settings", "libraries", "decoders", "journal", "cache", "model", "openvino"
    ]  # fmt: skip
    assert all("is broken" in says for _, says in problems)
    assert "pip install --force-reinstall 'av" in done.stdout
    assert done.stdout.endswith("7 problems and 1 warning.\n")


def test_a_machine_that_works() -> None:
    """Nothing is a fake but the number of songs."""
    code = (
        "from tagger.cli.main import main; from tagger.doctor import benchmark;"
        " benchmark.LEAST_SONGS, benchmark.LEAST_SECONDS = 3, 0; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", str(ROOT / "tagger" / "samples")],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    for name in ("openvino", "torch", "device", "engine", "precision", "speed", "library"):
        assert re.search(rf"^(ok|warning) +{name} ", done.stdout, re.MULTILINE), name
    assert re.search(r"11 songs: \d+ (seconds?|minutes) or so", done.stdout)
