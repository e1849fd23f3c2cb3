"""The README tells the truth: its commands run, and print what it says they print.

Blocks marked `console` hold commands after "$ " and what they print; … stands for anything within a line. They run in
order, in a folder of their own with the Makefile, a copy of the bundled clips as ~/Music, and nothing else.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

#: Commands that cannot run here as they stand, and what runs in their place.
INSTALL = f"{sys.executable} -m pip install -q --no-deps --no-build-isolation --target installed ."
STAND_INS = {
    "make test": "make --dry-run test",  # this very test is part of it
    "pip install -c constraints.txt .": INSTALL,
}


def commands() -> list[tuple[str, str]]:
    """(command, expected output) of every console block, in order."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", README, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose environment is this one, and a home folder with music: the same folder."""
    home = tmp_path_factory.mktemp("home")
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, home)
    for name in ("tagger", "training"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tagger" / "samples", home / "Music", ignore=shutil.ignore_patterns("README.md"))
    (home / ".venv").mkdir()
    (home / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (home / ".venv" / "installed").touch()
    return home


def run(command: str, home: Path) -> str:
    """What a command prints on both streams, as a terminal would show it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GENRE_TAG_", "MAKE"))}
    environment |= {
        "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "XDG_STATE_HOME": str(home / ".state"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    command = STAND_INS.get(command, command)
    done = subprocess.run(
        command, shell=True, executable="/bin/bash", cwd=home, env=environment, text=True, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip
    return done.stdout


def as_pattern(output: str) -> str:
    """A pattern for the output: … is anything within a line, and alone on its line any lines.

    Spaces at the ends of lines are not told apart. Fractions may have other digits: the processor decides on the
    precision, and that on the last digit.
    """
    lines = [re.escape(line.rstrip()).replace("…", ".*") for line in output.rstrip().splitlines()]
    lines = [r"[\s\S]*" if line == ".*" else line for line in lines]
    lines = [re.sub(r"([01])\\\.\d{2,}", r"[01]\\.\\d{2,4}", line) for line in lines]
    return "\n".join(f"{line} *" for line in lines)


def test_every_command_prints_what_the_readme_says(home: Path) -> None:
    assert len(commands()) >= 8
    for command, output in commands():
        printed = run(command, home).rstrip()
        assert "Traceback" not in printed, command
        if output.strip():
            assert re.fullmatch(as_pattern(output), printed), f"$ {command}\n{printed}"


def test_make_test_runs_the_tests(home: Path) -> None:
    assert "-m pytest" in run("make test", home)


def test_every_option_is_in_the_readme() -> None:
    from tagger.cli.tag import tag

    for param in tag.params:
        for name in param.opts:
            if name.startswith("--"):
                assert name in README, name


def test_every_format_is_in_the_readme() -> None:
    from tagger.audio.library import SONG_SUFFIXES

    assert not [suffix for suffix in SONG_SUFFIXES if f"`{suffix}`" not in README]
