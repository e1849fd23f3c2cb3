"""The rules of who may import whom, held to the code."""

import ast
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for half in ("tagger", "training") for path in (ROOT / half).rglob("*.py"))

#: Rooms by level: a module imports from its own room and from lower levels, never from another room of its level.
LEVELS = (
    ("tagger/__init__.py", "tagger/errors.py", "tagger/text.py"),
    ("tagger/debug.py",),
    ("tagger/atomic.py",),
    ("tagger/extras.py",),
    ("tagger/tags/layout", "tagger/tags/pieces"),
    ("tagger/audio", "tagger/tags"),
    ("tagger/models",),
    ("tagger/pipeline",),
    ("tagger/evaluation", "tagger/cluster"),
    ("tagger/report", "tagger/terminal", "tagger/doctor"),
    ("tagger/review",),
    ("tagger/cli",),
    ("tagger/__main__.py", "training"),
)
MOST_FILES = 10  # of a room, __init__.py not counted

#: Modules of the product that load torch; all others are imported without it.
TORCH = {"tagger/models/torch_engine.py", "tagger/models/transformer.py"}

#: Foreign library → the rooms or modules that may import it.
HOMES: dict[str, set[str]] = {
    "mutagen": {"tagger/tags"},
    "av": {"tagger/audio", "tagger/tags/verify.py"},
    "torch": {*TORCH, "tagger/doctor/torch_probe.py", "training"},
    "openvino": {"tagger/models/openvino_engine.py"},
    "torchaudio": {"training/starter", "training/teachers", "training/matching"},
    "transformers": {"training/learning"},
    "safetensors": {"tagger/models", "training/probe", "training/starter"},
    "huggingface_hub": {"tagger/models", "tagger/doctor"},
    "click": {
        "tagger/cli",
        "tagger/terminal",
        "training/cli.py",
        "training/cli_learn.py",
        "training/cli_prepare.py",
        "training/starter",
        "training/matching",
    },
    "rich": {
        "tagger/terminal",
        "tagger/report",
        "tagger/text.py",
        "training/cli_learn.py",
        "training/cli_prepare.py",
    },
    "jinja2": {"tagger/report", "training/outcome", "training/starter"},
    "markupsafe": {"tagger/report", "training/outcome"},
    "starlette": {"tagger/review"},
    "uvicorn": {"tagger/review"},
    "sqlite3": {"tagger/pipeline/cache.py", "tagger/review/decisions.py"},
    "tqdm": {"tagger/terminal", "training"},
    "tomllib": {"tagger/cli"},
    "ray": {"tagger/cluster"},
    "fsspec": {"tagger/cluster"},
    "pyarrow": {"tagger/cluster", "training"},
    "ai_edge_litert": {"training/teachers"},
    "datasets": {"training/dataset", "training/outcome"},
    "evaluate": {"training/outcome"},
    "sklearn": {"training/outcome"},
    "matplotlib": {"tagger/report", "training/outcome"},
    "wandb": {"training/learning"},
}


def is_in(path: Path, places: Collection[str]) -> bool:
    """Whether a module is one of these, or in a room of these."""
    name = path.relative_to(ROOT).as_posix()
    return any(name == place or name.startswith(f"{place}/") for place in places)


def level_of(path: Path) -> int:
    return next(level for level, places in enumerate(LEVELS) if is_in(path, places))


def file_of(module: str) -> Path | None:
    """The file of a module of ours; None for another's, and for a name that is not a module."""
    base = ROOT / module.replace(".", "/")
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()), None)


def room_of(path: Path) -> Path:
    """Its folder; a module right under tagger/ or training/ is a room of its own."""
    return path if path.parent.parent == ROOT else path.parent


def half_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def name_of(path: Path) -> str:
    """tagger/audio/decode.py → tagger.audio.decode"""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Every module a file imports, at its head or inside functions, but for type checkers only."""
    found = set()
    for node in ast.walk(without_type_checking(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def without_type_checking(tree: ast.Module) -> ast.Module:
    class Drop(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node

    return Drop().visit(tree)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    upward = set()
    for other in filter(None, map(file_of, imports(path))):
        elsewhere = room_of(other) != room_of(path) and half_of(other) == "tagger" and other.name != "__init__.py"
        if elsewhere and level_of(other) >= level_of(path):
            upward.add(name_of(other))
    assert not upward


def test_no_module_of_the_product_imports_the_workshop() -> None:
    for path in MODULES:
        if half_of(path) == "tagger":
            assert not {name for name in imports(path) if name.split(".")[0] == "training"}, path


def test_no_imports_go_in_a_circle() -> None:
    graph = {
        path: {
            other for other in map(file_of, imports(path)) if other and other != path and other.name != "__init__.py"
        }
        for path in MODULES
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


def test_a_room_holds_at_most_ten_files() -> None:
    rooms = {path.parent for half in ("tagger", "training", "tests") for path in (ROOT / half).rglob("*.py")}
    sizes = {room: sum(path.name != "__init__.py" for path in room.glob("*.py")) for room in rooms}
    assert not {str(room.relative_to(ROOT)): size for room, size in sizes.items() if size > MOST_FILES}


def test_what_is_named_here_is_there() -> None:
    named = {place for level in LEVELS for place in level} | {place for homes in HOMES.values() for place in homes}
    assert not {place for place in named | TORCH if not (ROOT / place).exists()}


@pytest.mark.parametrize("path", [p for p in MODULES if half_of(p) == "training"], ids=name_of)
def test_the_workshop_cannot_write_into_anyones_music(path: Path) -> None:
    writers = {
        "tagger.cli.apply",
        "tagger.cli.tag",
        "tagger.cli.undo",
        "tagger.review.apply",
        "tagger.review.session",
        "tagger.tags.swap",
        "tagger.tags.journal",
        "tagger.tags.undo",
    }
    door = {"tagger.cli.main"} if path.name != "__main__.py" else set()  # `python -m training` is `genre-tag train`
    assert not imports(path) & (writers | door)


@pytest.mark.parametrize("library", HOMES)
def test_every_foreign_library_has_its_home(library: str) -> None:
    users = [path for path in MODULES if any(name.split(".")[0] == library for name in imports(path))]
    strangers = [name_of(path) for path in users if not is_in(path, HOMES[library])]
    assert users and not strangers


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(name for name, module in sys.modules.items() if module))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_only_the_torch_strand_loads_torch() -> None:
    """All other modules are imported one after the other: the first that brings torch is named."""
    others = [name_of(p) for p in MODULES if half_of(p) == "tagger" and p.relative_to(ROOT).as_posix() not in TORCH]
    code = (
        "import importlib, sys\n"
        f"for name in {[name for name in others if not name.endswith('__main__')]}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_help_loads_nothing_heavy() -> None:
    loaded = modules_after("from tagger.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass")
    heavy = {"torch", "openvino", "numpy", "av", "mutagen", "rich", "transformers", "torchaudio", "datasets", "wandb"}
    assert not loaded & heavy


def test_learning_needs_no_extra() -> None:
    rooms = ("checkpoint", "folds", "outcome", "songs")
    loaded = modules_after(f"import training.cli_learn, {', '.join(f'training.probe.{name}' for name in rooms)}")
    assert not loaded & {"torch", "sklearn", "scipy", "datasets", "evaluate", "transformers", "matplotlib", "pyarrow"}


def test_a_model_is_loaded_without_what_only_training_needs() -> None:
    loaded = modules_after("from tagger.models.genre_model import GenreModel; GenreModel.load(device='cpu')")
    slow = {"torch", "transformers", "sympy", "scipy", "sklearn", "pandas", "datasets", "pyarrow", "openvino_telemetry"}
    assert "openvino" in loaded and not loaded & (slow | {"matplotlib", "rich", "huggingface_hub"})


@pytest.mark.parametrize("path", [p for p in MODULES if "starter" not in p.parts], ids=lambda p: p.name)
def test_files_of_our_own_are_replaced_as_a_whole(path: Path) -> None:
    """By `replacing`, which keeps mode and links; but for what lies in a folder that is itself put in place at last."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    written = {call for call in calls if call.rpartition(".")[2] in ("write_bytes", "write_text")}
    in_a_new_folder = {"train.py": "(folder / 'training.json').write_text", "synthesize.py": "text.write_text"}
    assert written <= {in_a_new_folder.get(path.name)}


#: Exceptions that are an answer (there is no such file; nobody reads any more) and no trouble.
ANSWERS = {
    "BrokenPipeError", "FileNotFoundError", "ImportError", "KeyboardInterrupt", "UnicodeDecodeError",
    "UnicodeEncodeError", "metadata.PackageNotFoundError", "HFValidationError", "click.exceptions.NoArgsIsHelpError",
}  # fmt: skip
#: Functions in which others are one.
ANSWERED = {
    "tagger/audio/codecs.py:_has": "whether FFmpeg has a decoder",
    "tagger/audio/workers.py:give": "raised again where the parts are taken",
    "tagger/audio/decode.py:seek": "what FFmpeg expects of a senseless seek",
    "tagger/audio/decode.py:intact_frames": "a damaged frame, of which a song may have thousands",
    "tagger/audio/decode.py:_mixed": "the filter wants more frames",
    "tagger/cli/main.py:_drop_what_cannot_be_printed": "nothing can be printed any more",
    "tagger/cli/settings.py:convert": "what was typed is no number",
    "tagger/cli/review.py:_has_screen": "there is no browser",
    "tagger/audio/library.py:common_folder": "several drives",
    "tagger/terminal/screen.py:_common_folder": "several drives",
    "tagger/report/html.py:_root": "several drives",
    "tagger/tags/containers.py:_is_mpeg_audio": "no frames anywhere is an answer, too",
    "tagger/evaluation/predictions.py:_read_row": "no float can hold it, which is then raised",
}


def swallowing(node: ast.AST, function: str = "") -> Iterator[tuple[str, int, set[str]]]:
    """Where exceptions are caught, neither raised again nor logged: the function, the line, the kinds of them."""
    for child in ast.iter_child_nodes(node):
        name = child.name if isinstance(child, ast.FunctionDef) else function
        if isinstance(child, ast.ExceptHandler):
            inside = [each for statement in child.body for each in ast.walk(statement)]
            is_logged = any(isinstance(each, ast.keyword) and each.arg == "exc_info" for each in inside)
            if not is_logged and not any(isinstance(each, ast.Raise) for each in inside):
                kinds = child.type.elts if isinstance(child.type, ast.Tuple) else [child.type]
                yield name, child.lineno, {ast.unparse(kind) for kind in kinds if kind}
        yield from swallowing(child, name)


@pytest.mark.parametrize("path", [p for p in MODULES if half_of(p) == "tagger"], ids=name_of)
def test_what_is_swallowed_is_logged(path: Path) -> None:
    """With its traceback, for --debug; `suppress` does so when it is that of `tagger.debug`."""
    file, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    silent = [
        line
        for name, line, kinds in swallowing(ast.parse(text))
        if f"{file}:{name}" not in ANSWERED and kinds - ANSWERS
    ]
    assert not silent
    if file != "tagger/debug.py":
        assert "contextlib.suppress" not in imports(path)
        assert set(re.findall(r"contextlib\.suppress\((.*?)\)", text)) <= {"FileNotFoundError"}


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    assert not {path.stem for path in MODULES} & {"utils", "helpers", "common", "core", "misc"}
