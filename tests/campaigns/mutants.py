"""Faults put into the code on purpose, each of which must make a test fail: `make campaign-mutants`.

They are listed in mutants.txt beside this file: at least one for every requirement on safe writing. Each is put into a
copy of the tree, one at a time; the tests named beside it pass without it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Mutant(NamedTuple):
    """A fault: `old`, which occurs once in the file, becomes `new`; the `tests` (arguments of pytest) must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


def read_mutants(text: str) -> list[Mutant]:
    """The mutants in a text: blocks of `# name`, `file tests`, `- ` what is there, `+ ` what is put in its place."""
    found = []
    for block in text.split("\n\n"):
        if block.startswith("# "):
            name, where, *lines = block.strip("\n").split("\n")
            file, _, tests = where.partition(" ")
            old, new = ("\n".join(line[2:] for line in lines if line[0] == sign) for sign in "-+")
            found.append(Mutant(name.removeprefix("# "), file, old, new, tests))
    return found


def copy_of_the_tree(folder: Path) -> None:
    """What the tests need, in an empty folder."""
    for name in ("tagger", "training", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "Makefile", "LICENSE"):
        shutil.copy(ROOT / name, folder)


def failure(tests: str, tree: Path) -> str:
    """What the tests print when one of them fails in that tree, "" when all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *shlex.split(tests)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1, 2), f"{tests} could not be run\n{done.stdout}{done.stderr}"
    return done.stdout if done.returncode else ""


def main() -> None:
    """Try every mutant whose name holds `--only`, and print which tests noticed; exit 1 if one was not noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the names")
    options = parser.parse_args()
    mutants = read_mutants((ROOT / "tests" / "campaigns" / "mutants.txt").read_text(encoding="utf-8"))
    chosen = [mutant for mutant in mutants if options.only in mutant.name]
    start = time.monotonic()
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_of_the_tree(tree)
        where = [sys.executable, "-c", "import tagger; print(tagger.__file__)"]
        assert Path(subprocess.check_output(where, cwd=tree, text=True)).is_relative_to(tree.resolve())
        for tests in sorted({mutant.tests for mutant in chosen}):
            assert not (told := failure(tests, tree)), f"{tests} do not pass without a mutant\n{told}"
        for mutant in chosen:
            file = tree / mutant.file
            code = file.read_text(encoding="utf-8")
            assert code.count(mutant.old) == 1, f"{mutant.name}: {mutant.old!r} occurs {code.count(mutant.old)} times"
            file.write_text(code.replace(mutant.old, mutant.new), encoding="utf-8")
            survived = not failure(mutant.tests, tree)
            file.write_text(code, encoding="utf-8")
            survivors += [mutant.name] if survived else []
            print(f"{'SURVIVED' if survived else 'killed':9} {mutant.name}", flush=True)
    print(f"{len(chosen)} mutants, {len(survivors)} survived, {time.monotonic() - start:.0f} s")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
