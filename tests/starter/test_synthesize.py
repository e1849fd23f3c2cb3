"""Songs of known genre: what MMA is asked for, and what becomes of it; MMA and FluidSynth are stood in for."""

import csv
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from training.starter import synthesize as module
from training.starter.synthesize import GENRES, grooves, recipes, score, synthesize

#: Stand in for the programs: MMA copies its score; of FluidSynth only blues is classified, and a waltz ends it.
PROGRAMS = {
    "mma": "import shutil, sys; shutil.copy(sys.argv[2], sys.argv[4])",
    "fluidsynth": """import sys
score = open(sys.argv[-1]).read()
if "Groove stdlib/waltz" in score:
    sys.exit(1)
size = 20_000 if "Groove stdlib/blues:" in score else 100
open(sys.argv[sys.argv.index("-F") + 1], "w").write(score.ljust(size))""",
}


@pytest.fixture(autouse=True)
def styles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Style files with an opening, a groove and an ending each."""
    folder = tmp_path / "styles"
    for names in GENRES.values():
        for name in names.split():
            path = folder / f"{name}.mma"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("DefGroove SongIntro\nDefGroove Song\n// DefGroove Gone\nDefGroove SongEnd\n")
    monkeypatch.setattr(module, "STYLES", folder)
    return folder


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, code in PROGRAMS.items():
        (folder / f"{name}.py").write_text(code)
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/{name}.py "$@"\n')
        (folder / name).chmod(0o755)
    (folder / "a.sf2").touch()
    (folder / "default.sf2").touch()
    monkeypatch.setattr(module, "SOUNDFONTS", folder)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def test_styles_take_turns_and_no_two_songs_are_one() -> None:
    made = list(recipes(["Blues", "Soul"], 20, 30.0, seed=1))
    assert [recipe.genre for recipe in made] == ["Blues"] * 20 + ["Soul"] * 20
    assert {recipe.style for recipe in made if recipe.genre == "Blues"} == set(GENRES["Blues"].split())
    assert len({recipe.name for recipe in made}) == 40
    assert len({score(recipe).partition("\n")[0] for recipe in made}) == 40


def test_grooves_begin_and_end_nothing(styles: Path) -> None:
    assert grooves("stdlib/blues") == ["Song"]
    (styles / "stdlib" / "blues.mma").write_text("DefGroove BluesEnd\n")
    assert grooves("stdlib/blues") == ["BluesEnd"]  # better than nothing


@pytest.mark.parametrize("seconds", [20.0, 90.0])
def test_a_score_is_about_as_long_as_asked_for_and_always_the_same(seconds: float) -> None:
    for recipe in recipes(["Jazz"], 10, seconds, seed=0):
        lines = score(recipe).splitlines()
        tempo = int(next(line for line in lines if line.startswith("Tempo")).split()[1])
        bars = [line for line in lines if line[0].isdigit()]
        assert [line.split()[0] for line in bars] == [str(number) for number in range(1, len(bars) + 1)]
        assert len(bars) * 4 * 60 / tempo == pytest.approx(seconds, abs=8 * 60 / tempo + 1)  # bars come in fours
        assert score(recipe) == "\n".join(lines) + "\n"


def test_the_command_writes_what_could_be_made_and_names_it(programs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "songs"
    arguments = [str(folder), "--per-genre", "1", "--genre", "Blues", "--genre", "Jazz", "--genre", "Waltz"]
    song = folder / "Blues stdlib blues 00.ogg"
    for again in (False, True):
        done = CliRunner().invoke(synthesize, arguments)
        assert done.exit_code == 0, done.output
        assert f"1 songs in {folder}, 2 could not be made" in done.output
        with (folder / "songs.csv").open(encoding="utf-8") as file:
            assert [*csv.reader(file)] == [
                ["path", "genre", "artist", "album"],
                [song.name, "Blues", "stdlib/blues", ""],
            ]
        assert song.read_text().startswith("kept" if again else "RndSeed ")
        song.write_text("kept")


def test_without_the_programs_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(synthesize, [str(tmp_path / "songs")])
    assert done.exit_code == 3
    assert "apt-get install mma fluidsynth" in done.output
    assert not (tmp_path / "songs").exists()
