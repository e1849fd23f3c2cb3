"""The rules of who may import whom, held to the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TORCH = {"features.py", "checkpoint.py", "model.py", "transformer.py"}
MODULES = sorted(path for half in ("tagger", "training") for path in (ROOT / half).rglob("*.py"))

#: Foreign library -> the modules that may import it: of the product, and of the workshop.
HOMES: dict[str, tuple[set[str], set[str]]] = {
    "mutagen": ({"containers.py"}, set()),
    "av": ({"audio.py", "decoders.py", "verify.py"}, set()),
    "torch": (
        TORCH | {"machine.py"},
        {
            "augment.py",
            "cache.py",
            "loader.py",
            "mixes.py",
            "muon.py",
            "musicnn.py",
            "network.py",
            "pretrained.py",
            "teachers.py",
            "train.py",
            "trainer.py",
        },
    ),
    "torchaudio": (set(), {"mixes.py", "musicnn.py"}),
    "transformers": (set(), {"network.py", "pretrained.py", "train.py", "trainer.py"}),
    "safetensors": ({"checkpoint.py"}, {"release.py"}),
    "huggingface_hub": ({"description.py", "doctor.py"}, set()),
    "click": (
        {
            "cli.py",
            "cli_doctor.py",
            "cli_explain.py",
            "cli_report.py",
            "cli_store.py",
            "cli_tag.py",
            "cli_undo.py",
            "params.py",
            "terminal.py",
        },
        {"cli.py", "cli_prepare.py", "corpus.py", "labels.py", "mixes.py", "release.py", "synthesize.py", "tones.py"},
    ),
    "rich": ({"confusion_text.py", "explain_text.py", "report_text.py", "terminal.py"}, {"cli_prepare.py"}),
    "sqlite3": ({"store.py"}, set()),
    "tqdm": (
        {"terminal.py"},
        {
            "cli_prepare.py",
            "corpus.py",
            "data.py",
            "labels.py",
            "mixes.py",
            "release.py",
            "synthesize.py",
            "trainer.py",
        },
    ),
    "tomllib": ({"config.py"}, set()),
    "ray": ({"cluster.py"}, set()),
    "fsspec": ({"manifest.py"}, set()),
    "pyarrow": ({"manifest.py", "results.py"}, {"labels.py", "soft_labels.py"}),
    "ai_edge_litert": (set(), {"teachers.py"}),
    "datasets": (set(), {"data.py", "metrics.py"}),
    "evaluate": (set(), {"metrics.py"}),
    "sklearn": (set(), {"metrics.py"}),
    "matplotlib": ({"explain_png.py", "report_png.py"}, {"outcome.py"}),
    "wandb": (set(), {"train.py"}),
}


def half_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


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


@pytest.mark.parametrize("path", [p for p in MODULES if half_of(p) == "tagger"], ids=lambda p: p.name)
def test_the_product_never_imports_the_workshop(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] == "training"}


@pytest.mark.parametrize("path", [p for p in MODULES if half_of(p) == "training"], ids=lambda p: p.name)
def test_the_workshop_cannot_write_into_anyones_music(path: Path) -> None:
    writers = {"tagger.cli_tag", "tagger.cli_undo", "tagger.tags", "tagger.swap", "tagger.journal", "tagger.undo"}
    door = {"tagger.cli"} if path.name != "__main__.py" else set()  # `python -m training` is `genre-tag train`
    assert not imports(path) & (writers | door)


@pytest.mark.parametrize("library", HOMES)
def test_every_foreign_library_has_its_home(library: str) -> None:
    for half, homes in zip(("tagger", "training"), HOMES[library], strict=True):
        modules = [path for path in MODULES if half_of(path) == half]
        users = {path.name for path in modules if any(name.split(".")[0] == library for name in imports(path))}
        assert users <= homes, f"{library} is imported by {users - homes} of {half}"


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", [p.stem for p in MODULES if half_of(p) == "tagger" and p.name not in TORCH])
def test_only_the_torch_strand_loads_torch(module: str) -> None:
    if module not in ("__main__", "__init__"):
        assert "torch" not in modules_after(f"import tagger.{module}")


def test_help_loads_nothing_heavy() -> None:
    loaded = modules_after("from tagger.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass")
    heavy = {"torch", "numpy", "av", "mutagen", "rich", "transformers", "torchaudio", "datasets", "wandb"}
    assert not loaded & heavy


def test_a_model_is_loaded_without_what_only_training_needs() -> None:
    loaded = modules_after("from tagger.model import GenreModel; GenreModel.load(device='cpu')")
    slow = {"transformers", "torchaudio", "torch._dynamo", "sympy", "scipy", "sklearn", "pandas", "datasets", "pyarrow"}
    assert "torch" in loaded and not loaded & (slow | {"matplotlib", "rich", "huggingface_hub"})


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    assert not {path.stem for path in MODULES} & {"utils", "helpers", "common", "core", "misc"}
