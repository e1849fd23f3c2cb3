"""Makes constraints.txt again: `make constraints`, or python -m tests.campaigns.constraints. For developers.

A fresh environment gets the newest of everything that pyproject.toml allows and runs the tests. Only if they pass
are its versions kept; else constraints.txt is as it was. A quarter of an hour and 7 GB.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
FRESH = ROOT / ".venv-fresh"
WANTED = ".[dev,starter]"

HEAD = """\
# The version of every distribution that the tests ran with, on Python {python} and {system}: `make constraints` makes
# this file again. A pin that has a marker has no release for the other Pythons: there, pip takes the newest one that
# pyproject.toml allows, and the tests were not run with it.
"""


def main() -> int:
    """The exit code of the tests in the fresh environment."""
    try:
        python = fresh_environment(FRESH)
        inspected = json.loads(
            subprocess.run([python, "-m", "pip", "inspect"], check=True, stdout=subprocess.PIPE).stdout
        )
        tests = [python, "-m", "pytest", "--numprocesses", "auto", "--dist", "loadfile"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        kept = keep_if(
            constraints_of(inspected["installed"], supported_pythons()),
            lambda: subprocess.run(tests, cwd=ROOT, env=environment, check=False).returncode == 0,
            CONSTRAINTS,
        )
    finally:
        shutil.rmtree(FRESH, ignore_errors=True)
    print(f"{CONSTRAINTS.name} {'is new' if kept else 'is as it was: the tests failed'}.")
    return 0 if kept else 1


def fresh_environment(folder: Path) -> str:
    """The Python of an environment made there, with the newest of everything that is wanted, bound by nothing."""
    venv.create(folder, clear=True, with_pip=True)
    python = str(folder / "bin" / "python")
    for what in (["pip"], ["--editable", WANTED]):
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", *what], cwd=ROOT, check=True)
    return python


def pyproject() -> dict[str, Any]:
    """What pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def supported_pythons() -> list[str]:
    """The Pythons that pyproject.toml names, `3.10` first."""
    named = (text.rpartition(" ")[2] for text in pyproject()["project"]["classifiers"] if " Python :: 3." in text)
    return sorted(named, key=Version)


def constraints_of(installed: Iterable[dict[str, Any]], pythons: list[str]) -> str:
    """The file for what `pip inspect` found installed; genre-tag itself has no line."""
    found = sorted((each["metadata"] for each in installed), key=lambda metadata: canonicalize_name(metadata["name"]))
    pins = [pin(metadata, pythons) for metadata in found if metadata["name"] != "genre-tag"]
    head = HEAD.format(python=platform.python_version(), system=f"{platform.system()} {platform.machine()}")
    return head + "\n".join(pins) + "\n"


def pin(metadata: dict[str, Any], pythons: list[str]) -> str:
    """The line of one distribution, for those of these Pythons that its version is made for.

    >>> pin({"name": "NumPy", "version": "2.4.6", "requires_python": ">=3.11"}, ["3.10", "3.11", "3.12"])
    'numpy==2.4.6; python_version >= "3.11"'
    >>> pin({"name": "torch", "version": "2.14.1+cpu"}, ["3.10", "3.11"])
    'torch==2.14.1'
    """
    line = f"{canonicalize_name(metadata['name'])}=={metadata['version'].partition('+')[0]}"
    needed = SpecifierSet(metadata.get("requires_python") or "")
    fitting = [python for python in pythons if any(needed.contains(f"{python}.{patch}") for patch in range(30))]
    markers = []
    if fitting and fitting[0] != pythons[0]:
        markers.append(f'python_version >= "{fitting[0]}"')
    if fitting and fitting[-1] != pythons[-1]:
        markers.append(f'python_version <= "{fitting[-1]}"')
    return "; ".join([line, *filter(None, [" and ".join(markers)])])


def keep_if(text: str, is_good: Callable[[], bool], path: Path) -> bool:
    """Write the file, look whether all is good with it, and if not, or if that cannot be told, put the old one back."""
    old = path.read_bytes()
    path.write_text(text, encoding="utf-8")
    kept = False
    try:
        kept = is_good()
    finally:
        if not kept:
            path.write_bytes(old)
    return kept


if __name__ == "__main__":
    sys.exit(main())
