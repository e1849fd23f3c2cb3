"""A command whose libraries are not installed says in one line what to install, before it does anything."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tagger import extras
from tagger.errors import MissingExtraError
from tagger.extras import EXTRAS, need
from tests.cli.test_tag import Run, genre_tag  # noqa: F401 (a fixture is imported by name)
from tests.test_architecture import MODULES, TORCH, half_of, is_in, name_of

ROOT = Path(extras.__file__).parents[1]
PLOTS = "tagger/report/plots.py"
PAGE = ("tagger/review/guard.py", "tagger/review/server.py")
COMMANDS = [
    (("train",), "genre-tag train", "train", "transformers"),
    (("train",), "genre-tag train", "train", "accelerate"),
    (("train", "--wandb"), "--wandb", "train", "wandb"),
    (("prepare", "music"), "genre-tag prepare", "train", "datasets"),
    (("report", "--png", "confusion.png"), "--png", "train", "matplotlib"),
    (("report", "music", "--png", "confusion.png"), "--png", "train", "matplotlib"),
    (("explain", "song.mp3", "--png", "song.png"), "--png", "train", "matplotlib"),
    (("review", "music"), "genre-tag review", "review", "starlette"),
    (("review", "music"), "genre-tag review", "review", "uvicorn"),
    (("tag", "music", "--engine", "ray"), "--engine ray", "ray", "ray"),
    (("music", "--engine", "ray"), "--engine ray", "ray", "fsspec"),
]


@pytest.mark.parametrize(("arguments", "what", "extra", "library"), COMMANDS)
def test_a_command_says_what_to_install(
    genre_tag: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,  # noqa: F811
    arguments: tuple[str, ...], what: str, extra: str, library: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    run = genre_tag(*arguments)
    assert (run.code, run.out) == (3, "")
    assert run.err == f"genre-tag: {what} needs {library}: pip install 'genre-tag[{extra}]'\n"


@pytest.mark.parametrize("command", sorted({arguments[0] for arguments, *_ in COMMANDS} - {"music"}))
def test_help_needs_no_extra(
    genre_tag: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, command: str  # noqa: F811
) -> None:  # fmt: skip
    for library in {*EXTRAS["train"], *EXTRAS["ray"], *EXTRAS["review"], "wandb", "torchaudio"}:
        monkeypatch.setitem(sys.modules, library, None)
    assert genre_tag(command, "--help").code == 0


def test_only_what_an_extra_is_for_imports_its_libraries() -> None:
    """One interpreter without them imports all the rest: the text of `explain`, for one, needs no plots."""
    libraries = {*EXTRAS["train"], *EXTRAS["ray"], *EXTRAS["review"], "wandb", "torchaudio"}
    rest = [
        name_of(path)
        for path in MODULES
        if half_of(path) == "tagger"
        and path.name != "__main__.py"
        and not is_in(path, ("tagger/cluster", *PAGE, PLOTS, *TORCH))
    ]
    hidden = f"import sys; sys.modules |= dict.fromkeys({sorted(libraries)})"
    code = f"{hidden}; from importlib import import_module; [import_module(name) for name in {rest}]"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_torchaudio_is_imported_where_it_is_asked_for(path: Path) -> None:
    """Inside functions: beside another torch than its own, its import fails, and so would that of the module."""
    at_the_head = {
        (name or "").partition(".")[0]
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        for name in names_imported(node)
    }
    assert "torchaudio" not in at_the_head


def names_imported(node: ast.stmt) -> list[str | None]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) else []


def test_all_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    need("it", "train")  # all is here
    for library in ("transformers", "evaluate"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"^it needs evaluate, transformers: pip install 'genre-tag\[train\]'$"):
        need("it", "train")
    need("it", "train", "matplotlib")


def test_a_folder_of_that_name_is_no_library(tmp_path: Path) -> None:
    """wandb, for one, leaves a folder of its own name wherever it was used."""
    (tmp_path / "nosuch_library").mkdir()
    code = "from tagger.extras import missing; print(missing('nosuch_library', 'click', 'sys'))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout == "['nosuch_library']\n"
