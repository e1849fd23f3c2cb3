"""What a user installs holds everything the tool needs."""

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tagger.doctor.checks import DISTRIBUTIONS
from tagger.extras import EXTRAS
from tests.campaigns import constraints as make_constraints
from tests.test_architecture import MODULES, half_of, imports

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_model_samples_and_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    source = tmp_path / "source"  # a copy, for the build leaves its own folders behind
    for name in ("tagger", "training"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*command, str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("genre_tag-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {
        path.relative_to(ROOT).as_posix()
        for folder in ("tagger", "training")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped <= names
    assert "tagger/models/starter/model.safetensors" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "build/")) for name in names)


def declared(extra: str = "") -> set[str]:
    """Distributions that pyproject.toml names for tagging, or for an extra."""
    project = make_constraints.pyproject()["project"]
    return {
        canonicalize_name(Requirement(text).name)
        for text in (project["optional-dependencies"][extra] if extra else project["dependencies"])
    }


def imported(half: str) -> set[str]:
    """Distributions whose modules are imported anywhere in `tagger` or `training`."""
    modules = {name.partition(".")[0] for path in MODULES if half_of(path) == half for name in imports(path)}
    foreign = modules - sys.stdlib_module_names - {"tagger", "training", "tests"}
    distributions = DISTRIBUTIONS | {"pyworld": "pyworld-prebuilt"}
    return {canonicalize_name(distributions.get(module, module)) for module in foreign - {"tomli"}}


def test_what_is_imported_is_declared() -> None:
    """What only comes with something else goes when that does without it."""
    assert imported("tagger") <= declared() | declared("train") | declared("ray") | declared("review")
    assert imported("training") <= declared() | declared("train") | declared("starter")


def test_the_core_is_what_tagging_imports() -> None:
    for extra, libraries in EXTRAS.items():
        assert {canonicalize_name(DISTRIBUTIONS.get(each, each)) for each in libraries} <= declared(extra) - declared()
    extras = declared("ray") | declared("review") | (declared("train") - declared())
    assert declared() - {"tomli"} == imported("tagger") - extras


def test_dev_brings_all() -> None:
    project = make_constraints.pyproject()["project"]
    (brought,) = (Requirement(text).extras for text in project["optional-dependencies"]["dev"] if "genre-tag" in text)
    assert brought == set(EXTRAS)


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize(
    ("target", "installed"),
    [("tag", ["."]), ("test", [".", "'.[dev]'"]), ("starter", [".", "'.[dev]'", "'.[starter]'"])],
)
def test_a_command_of_make_installs_what_it_needs(target: str, installed: list[str]) -> None:
    told = subprocess.run(
        ["make", "--dry-run", "--always-make", target, "VENV=nosuch"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    lines = [line for line in told.splitlines() if "pip install" in line]
    assert all(" --constraint constraints.txt " in line for line in lines)
    assert [line.split(" --editable ")[1] for line in lines if "--editable" in line] == installed


def pins() -> dict[str, list[Requirement]]:
    """Name of each distribution in constraints.txt -> its lines."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found: dict[str, list[Requirement]] = {}
    for line in lines:
        if not line.startswith("#"):
            found.setdefault(canonicalize_name(Requirement(line).name), []).append(Requirement(line))
    return found


def test_constraints_are_names_and_versions() -> None:
    """A hash, an address or a build such as +cpu would tie the file to one place."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    marker = r"(; python_version [<>]= \"3\.\d+\"( and python_version <= \"3\.\d+\")?)?"
    assert not [line for line in text.splitlines() if not re.fullmatch(rf"#.*|[a-z\d-]+==[\w.]+{marker}", line)]


def test_every_requirement_has_a_pin_that_it_allows() -> None:
    """A pin outside the range of pyproject.toml could not be installed; none would be as good as no file."""
    project = make_constraints.pyproject()["project"]
    for text in [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]:
        needed = Requirement(text)
        if needed.name == "genre-tag" or (needed.marker and not needed.marker.evaluate({"python_version": "3.11"})):
            continue
        (pin,) = pins()[canonicalize_name(needed.name)]
        (version,) = (each.version for each in pin.specifier)
        assert needed.specifier.contains(version, prereleases=True), f"{pin} is not {needed}"


@pytest.mark.parametrize("python", make_constraints.supported_pythons())
def test_constraints_hold_one_version_for_each_python(python: str) -> None:
    for name, lines in pins().items():
        assert sum(not line.marker or line.marker.evaluate({"python_version": python}) for line in lines) <= 1, name


def test_constraints_are_made_of_what_is_installed() -> None:
    metadata = [
        {"name": "typing_extensions", "version": "4.1", "requires_python": ">=3.9"},
        {"name": "genre-tag", "version": "0.1.0", "requires_python": ">=3.10"},
        {"name": "NumPy", "version": "2.4.6+local", "requires_python": ">=3.11"},
        {"name": "triton", "version": "3.8.0", "requires_python": ">=3.11.2,<3.13"},
    ]
    installed = [{"metadata": each} for each in metadata]
    text = make_constraints.constraints_of(installed, ["3.10", "3.11", "3.12", "3.13"])
    assert [line for line in text.splitlines() if line[0] != "#"] == [
        'numpy==2.4.6; python_version >= "3.11"',
        'triton==3.8.0; python_version >= "3.11" and python_version <= "3.12"',
        "typing-extensions==4.1",
    ]


def test_new_constraints_are_kept_only_if_the_tests_pass_with_them(tmp_path: Path) -> None:
    path = tmp_path / "constraints.txt"
    path.write_text("old\n")
    assert not make_constraints.keep_if("new\n", lambda: path.read_text() == "", path) and path.read_text() == "old\n"
    with pytest.raises(KeyboardInterrupt):
        make_constraints.keep_if("new\n", interrupt, path)
    assert path.read_text() == "old\n"
    assert make_constraints.keep_if("new\n", lambda: path.read_text() == "new\n", path)
    assert path.read_text() == "new\n"


def interrupt() -> bool:
    raise KeyboardInterrupt


@pytest.mark.skipif(not find_spec("torchaudio"), reason="needs torchaudio")
def test_torchaudio_fits_torch() -> None:
    """A pair that was not built for each other ends in an undefined symbol; the numbers of the versions do not tell."""
    subprocess.run([sys.executable, "-c", "import torch, torchaudio"], check=True)
