"""The rules of who may import whom, held to the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TORCH = {
    "tagger/models/features.py",
    "tagger/models/checkpoint.py",
    "tagger/models/genre_model.py",
    "tagger/models/transformer.py",
}
MODULES = sorted(path for half in ("tagger", "training") for path in (ROOT / half).rglob("*.py"))

#: Foreign library -> the modules that may import it: of the product, and of the workshop.
HOMES: dict[str, set[str]] = {
    "mutagen": {"tagger/tags/containers.py"},
    "av": {"tagger/audio/decode.py", "tagger/audio/codecs.py", "tagger/tags/verify.py"},
    "torch": {
        "tagger/models/checkpoint.py",
        "tagger/models/features.py",
        "tagger/doctor/torch_probe.py",
        "tagger/models/genre_model.py",
        "tagger/models/transformer.py",
        "training/learning/augment.py",
        "training/dataset/cache.py",
        "training/learning/loader.py",
        "training/learning/muon.py",
        "training/learning/network.py",
        "training/learning/pretrained.py",
        "training/starter/mixes.py",
        "training/starter/musicnn.py",
        "training/starter/teachers.py",
        "training/learning/train.py",
        "training/learning/trainer.py",
    },
    "torchaudio": {"training/starter/mixes.py", "training/starter/musicnn.py"},
    "transformers": {
        "training/learning/network.py",
        "training/learning/pretrained.py",
        "training/learning/train.py",
        "training/learning/trainer.py",
    },
    "safetensors": {"tagger/models/checkpoint.py", "training/starter/release.py"},
    "huggingface_hub": {"tagger/models/description.py", "tagger/doctor/examine.py"},
    "click": {
        "tagger/cli/main.py",
        "tagger/cli/doctor.py",
        "tagger/cli/explain.py",
        "tagger/cli/report.py",
        "tagger/cli/store.py",
        "tagger/cli/tag.py",
        "tagger/cli/undo.py",
        "tagger/cli/settings.py",
        "tagger/cli/terminal.py",
        "training/cli.py",
        "training/cli_prepare.py",
        "training/starter/corpus.py",
        "training/starter/labels.py",
        "training/starter/mixes.py",
        "training/starter/release.py",
        "training/starter/tones.py",
        "training/starter/synthesize.py",
    },
    "rich": {
        "tagger/report/confusion_text.py",
        "tagger/cli/explain_text.py",
        "tagger/report/text.py",
        "tagger/cli/terminal.py",
        "training/cli_prepare.py",
    },
    "sqlite3": {"tagger/pipeline/store.py"},
    "tqdm": {
        "tagger/cli/terminal.py",
        "training/cli_prepare.py",
        "training/dataset/data.py",
        "training/starter/corpus.py",
        "training/starter/labels.py",
        "training/starter/mixes.py",
        "training/starter/release.py",
        "training/starter/synthesize.py",
        "training/learning/trainer.py",
    },
    "tomllib": {"tagger/cli/config.py"},
    "ray": {"tagger/cluster/engine.py"},
    "fsspec": {"tagger/cluster/manifest.py"},
    "pyarrow": {
        "tagger/cluster/manifest.py",
        "tagger/cluster/results.py",
        "training/dataset/soft_labels.py",
        "training/starter/labels.py",
    },
    "ai_edge_litert": {"training/starter/teachers.py"},
    "datasets": {"training/dataset/data.py", "training/outcome/metrics.py"},
    "evaluate": {"training/outcome/metrics.py"},
    "sklearn": {"training/outcome/metrics.py"},
    "matplotlib": {"tagger/report/explain_png.py", "tagger/report/plots.py", "training/outcome/outcome.py"},
    "wandb": {"training/learning/train.py"},
}


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


@pytest.mark.parametrize("path", [p for p in MODULES if half_of(p) == "tagger"], ids=lambda p: p.name)
def test_the_product_never_imports_the_workshop(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] == "training"}


@pytest.mark.parametrize("path", [p for p in MODULES if half_of(p) == "training"], ids=lambda p: p.name)
def test_the_workshop_cannot_write_into_anyones_music(path: Path) -> None:
    writers = {
        "tagger.cli.tag",
        "tagger.cli.undo",
        "tagger.tags.genre",
        "tagger.tags.swap",
        "tagger.tags.journal",
        "tagger.tags.undo",
    }
    door = {"tagger.cli.main"} if path.name != "__main__.py" else set()  # `python -m training` is `genre-tag train`
    assert not imports(path) & (writers | door)


@pytest.mark.parametrize("library", HOMES)
def test_every_foreign_library_has_its_home(library: str) -> None:
    users = {path for path in MODULES if any(name.split(".")[0] == library for name in imports(path))}
    strangers = {path.relative_to(ROOT).as_posix() for path in users} - HOMES[library]
    assert not strangers, f"{library} is imported by {strangers}"


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
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
    heavy = {"torch", "numpy", "av", "mutagen", "rich", "transformers", "torchaudio", "datasets", "wandb"}
    assert not loaded & heavy


def test_a_model_is_loaded_without_what_only_training_needs() -> None:
    loaded = modules_after("from tagger.models.genre_model import GenreModel; GenreModel.load(device='cpu')")
    slow = {"transformers", "torchaudio", "torch._dynamo", "sympy", "scipy", "sklearn", "pandas", "datasets", "pyarrow"}
    assert "torch" in loaded and not loaded & (slow | {"matplotlib", "rich", "huggingface_hub"})


@pytest.mark.parametrize("path", [p for p in MODULES if "starter" not in p.parts], ids=lambda p: p.name)
def test_files_of_our_own_are_replaced_as_a_whole(path: Path) -> None:
    """By `replacing`, which keeps mode and links; but for what lies in a folder that is itself put in place at last."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    written = {call for call in calls if call.rpartition(".")[2] in ("write_bytes", "write_text")}
    in_a_new_folder = {"train.py": "(part / 'training.json').write_text", "synthesize.py": "text.write_text"}
    assert written <= {in_a_new_folder.get(path.name)}


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    assert not {path.stem for path in MODULES} & {"utils", "helpers", "common", "core", "misc"}
