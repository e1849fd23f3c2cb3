"""The commands of `make starter`: whether there are such, and whether each finds what it reads."""

import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path, PurePosixPath

import click
import pytest

ROOT = Path(__file__).parents[2]
#: The others write into what is named first.
NAMED_BY_OUT = {"labels", "prepare", "mixes", "train", "singing", "pool", "learn", "release"}


def commands() -> list[tuple[click.Command, list[str]]]:
    """Each command of the target, and what it is given."""
    words = ["make", "--dry-run", "starter", "STARTER=there", "TEACHERS=weights", "OPTIONS=--limit 4"]
    told = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.replace("\\\n", " ")
    found = []
    for line in told.splitlines():
        program, *given = shlex.split(line)
        if program.endswith("genre-tag"):
            module = {"prepare": "training.cli_prepare", "train": "training.cli"}[given[0]]
            found.append((getattr(import_module(module), given[0]), given[1:]))
        elif given[:1] == ["-m"] and given[1].startswith("training."):
            found.append((getattr(import_module(given[1]), given[1].rpartition(".")[2]), given[2:]))
    return found


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_each_command_takes_what_it_is_given_and_finds_what_it_reads() -> None:
    made: set[str] = set()
    names = []
    for command, given in commands():
        options, rest, _ = command.make_parser(click.Context(command)).parse_args(
            list(given)
        )  # other options: an error
        out = options["out"] if command.name in NAMED_BY_OUT else given[0]
        assert out and rest == []
        below = {PurePosixPath(word).parts[1] for word in given if word.startswith("there/")}
        folder = PurePosixPath(out).parts[1]
        assert below - {folder} <= made, f"{command.name} reads {below - made} before it is there"
        made.add(folder)
        names.append(command.name)
    trained = {"corpus", "labels", "prepare", "mixes", "tones", "synthesize", "train"}
    assert set(names) == trained | {"singing", "pool", "learn", "release"}
    whole = {"recordings", "labels", "dataset", "mixes", "tones", "synthesised", "run", "whole"}
    assert made == whole | {"sung", "pool", "matched", "model"}
    assert names[-6:] == ["train", "train", "singing", "pool", "learn", "release"]
