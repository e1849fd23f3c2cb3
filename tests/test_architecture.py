"""The rules of who may import whom, held to the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TORCH = {"features.py", "checkpoint.py", "model.py"}
MODULES = sorted(path for half in ("tagger", "training") for path in (ROOT / half).glob("*.py"))

#: Foreign library -> the modules that may import it.
HOMES = {
    "mutagen": {"containers.py"},
    "av": {"audio.py", "verify.py"},
    "torch": TORCH,
    "torchaudio": set(),
    "transformers": {"checkpoint.py", "model.py"},
    "click": {"cli.py", "cli_tag.py", "cli_undo.py", "params.py", "terminal.py"},
    "rich": {"terminal.py"},
    "sqlite3": {"store.py"},
    "tqdm": {"terminal.py"},
    "tomllib": {"config.py"},
    "datasets": set(),
    "evaluate": set(),
    "wandb": set(),
}


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


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.name == "tagger"], ids=lambda p: p.name)
def test_the_product_never_imports_the_workshop(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] == "training"}


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.name == "training"], ids=lambda p: p.name)
def test_the_workshop_cannot_write_into_anyones_music(path: Path) -> None:
    assert not imports(path) & {"tagger.cli", "tagger.cli_tag", "tagger.tags", "tagger.swap", "tagger.journal"}


@pytest.mark.parametrize("library", HOMES)
def test_every_foreign_library_has_its_home(library: str) -> None:
    users = {path.name for path in MODULES if any(name.split(".")[0] == library for name in imports(path))}
    assert users <= HOMES[library], f"{library} is imported by {users - HOMES[library]}"


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", [p.stem for p in MODULES if p.parent.name == "tagger" and p.name not in TORCH])
def test_only_the_torch_strand_loads_torch(module: str) -> None:
    if module not in ("__main__", "__init__"):
        assert "torch" not in modules_after(f"import tagger.{module}")


def test_help_loads_nothing_heavy() -> None:
    loaded = modules_after("from tagger.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass")
    heavy = {"torch", "numpy", "av", "mutagen", "rich", "transformers", "torchaudio", "datasets", "wandb"}
    assert not loaded & heavy


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    assert not {path.stem for path in MODULES} & {"utils", "helpers", "common", "core", "misc"}
