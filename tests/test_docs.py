"""The manual tells the truth: its commands run and print what it says, its links lead somewhere, nothing is left out.

Blocks marked `console` hold commands after "$ " and what they print, compared as `tests.console` says. Those of a
document run in order, in a home of its own: a checkout of this project that is installed, the bundled clips as ~/Music,
and, but for the README, what an earlier `genre-tag ~/Music` has cached, and two made-up trainings (`EXAMPLE_RUNS`).
That of learning.md has a library of made-up songs besides.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from tagger.audio.library import SONG_SUFFIXES
from tagger.cli.main import COMMANDS, commands
from tagger.tags.genre import retag
from tests.console import difference
from tests.support.runs import seeded, write_run
from tests.support.songs import make_song

ROOT = Path(__file__).parent.parent
MANUAL = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS = [
    *MANUAL, ROOT / "CHANGELOG.md", ROOT / ".github" / "CONTRIBUTING.md", ROOT / "tagger" / "samples" / "README.md",
    ROOT / "tagger" / "models" / "starter" / "MODEL_CARD.md", ROOT / "training" / "starter" / "README.md",
]  # fmt: skip
WITH_COMMANDS = [document for document in DOCUMENTS if "```console" in document.read_text(encoding="utf-8")]
MOST_README_LINES = 200

#: Commands that cannot run here as they stand, and what runs in their place.
INSTALL = f"{sys.executable} -m pip install -q --no-deps --no-build-isolation --target installed ."
STAND_INS = {
    "make test": "make --dry-run test",  # this very test is part of it
    "pip install -c constraints.txt .": INSTALL,
}
#: Made-up runs of 60 test songs: name → how far the right genre's logit leads, and the seed of the predictions.
EXAMPLE_RUNS = {"one": (3.0, 0), "two": (1.5, 1)}
EXAMPLE_GENRES = ("Blues", "Jazz", "Rock", "Soul")


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def console_commands(text: str) -> Iterator[tuple[str, str]]:
    """(command, expected output) of every console block, in order."""
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == text.count("```console"), "a block that is indented or not closed would not run"
    for block in blocks:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def make_home(home: Path) -> Path:
    """A checkout whose environment is this one, and a home folder with music: the same folder."""
    home.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, home)
    for name in ("tagger", "training"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tagger" / "samples", home / "Music", ignore=shutil.ignore_patterns("README.md"))
    (home / ".venv").mkdir()
    (home / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    for stamp in ("core", "installed"):
        (home / ".venv" / stamp).touch()
    return home


def make_library(folder: Path) -> None:
    """A library of noises, hums and whistles by artists of their own, all tagged but for one of each."""
    time = np.arange(3 * 16_000) / 16_000
    for genre, hertz in {"Hiss": 0, "Hum": 90, "Whistle": 2500}.items():
        for number in range(13):
            artist = folder / f"{genre} artist {number % 4}"
            artist.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).standard_normal(len(time))
            mono = 0.2 * noise if not hertz else np.sin(2 * np.pi * hertz * (1 + number / 50) * time) / 2 + 0.01 * noise
            name = "new.flac" if number == 12 else f"{number}.flac"
            path = make_song(artist / name, rate=16_000, signal=np.stack([mono, mono]))
            if number < 12:
                path.write_bytes(retag(path.read_bytes(), path.suffix, [genre]))


def run(command: str, home: Path) -> tuple[str, int]:
    """What a command prints on both streams, as a terminal would show it, and its exit code."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GENRE_TAG_", "MAKE"))}
    environment |= {
        "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "XDG_STATE_HOME": str(home / ".state"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    done = subprocess.run(
        STAND_INS.get(command, command), shell=True, executable="/bin/bash", cwd=home, env=environment, text=True,
        encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip
    printed = re.sub(r"^\d+/\d+ songs, .* left.*\n", "", done.stdout, flags=re.MULTILINE)  # of runs that take long
    return printed.rstrip(), done.returncode


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for state after a first run over the music: what is classified once is known in every home."""
    home = make_home(tmp_path_factory.mktemp("first") / "home")
    printed, code = run("genre-tag ~/Music", home)
    assert code == 0, printed
    return home / ".state"


@pytest.mark.parametrize("document", WITH_COMMANDS, ids=name_of)
def test_every_command_prints_what_is_said(document: Path, tmp_path: Path, cache: Path) -> None:
    blocks = list(console_commands(document.read_text(encoding="utf-8")))
    home = make_home(tmp_path / "home")
    if document.name == "learning.md":
        make_library(home / "Library")
    if document.name != "README.md":
        shutil.copytree(cache, home / ".state")
        for name, (lead, seed) in EXAMPLE_RUNS.items():
            write_run(home / "runs" / name, seeded(EXAMPLE_GENRES, 90, lead=lead, seed=seed))
    wrong = []
    for command, output in blocks:
        printed, code = run(command, home)
        found = difference(output, printed) if output.strip() else code and f"exit code {code}"
        if found or "Traceback" in printed:
            wrong.append(f"$ {command}\n{printed}\n[{found}]")
    assert not wrong, "\n\n".join(wrong)


def test_the_readme_shows_how_to_start() -> None:
    shown = [command for command, _ in console_commands(MANUAL[0].read_text(encoding="utf-8"))]
    assert shown[:2] == ["make tag", "make test"] and len(shown) >= 6


def test_the_first_training_in_the_readme_is_one_for_a_cpu() -> None:
    trainings = re.findall(r"^(?:\$ )?genre-tag train (.*)$", MANUAL[0].read_text(encoding="utf-8"), re.MULTILINE)
    assert "--model starter" in trainings[0]


def test_make_test_runs_the_tests(tmp_path: Path) -> None:
    printed, _ = run("make test", make_home(tmp_path / "home"))
    assert "-m pytest" in printed


def test_the_readme_is_short() -> None:
    assert len(MANUAL[0].read_text(encoding="utf-8").splitlines()) <= MOST_README_LINES


def options(name: str) -> list[str]:
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    shown = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    return [option for param in shown for option in param.opts]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_the_manual(command: str) -> None:
    """In the document that shows the help of its command."""
    (shown,) = [text for text in texts(MANUAL[1:]) if f"$ genre-tag {command} --help\n" in text]
    missing = [option for option in options(command) if not re.search(rf"(?<![\w-]){option}(?![\w-])", shown)]
    assert not missing


def test_the_option_of_every_command_is_in_the_manual() -> None:
    assert any("`genre-tag --debug`" in text for text in texts(MANUAL))


def test_every_format_is_in_the_manual() -> None:
    assert not [suffix for suffix in SONG_SUFFIXES if f"`{suffix}`" not in "".join(texts(MANUAL))]


def texts(documents: list[Path]) -> list[str]:
    return [document.read_text(encoding="utf-8") for document in documents]


def without_code(text: str) -> str:
    """Markdown without blocks and spans of code, in which a bracket is no link and # begins a comment."""
    return re.sub(r"`[^`\n]+`", "code", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings: in lower case, without punctuation, blanks as hyphens."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text(encoding="utf-8"))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        leads_to = (document.parent / path).resolve() if path else document
        assert leads_to.exists(), target
        assert not anchor or anchor in anchors(leads_to.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_what_is_mentioned_is_there(document: Path) -> None:
    """Files and folders of the project, modules to run, targets of make."""
    text = document.read_text(encoding="utf-8")
    paths = re.findall(r"(?<![\w./-])((?:tagger|training|tests|docs|\.github)/[\w./-]*\w)", text)
    modules = re.findall(r"-m ((?:tagger|training|tests)[\w.]*\w)", text)
    modules += re.findall(r"`((?:tagger|training|tests)\.(?!json|png)\w[\w.]*)`", text)
    paths += [module.replace(".", "/") for module in modules]
    missing = [path for path in paths if not (ROOT / path).exists() and not (ROOT / f"{path}.py").exists()]
    targets = re.findall(r"(?:`|\$ )make ([a-z][\w-]*)", text)
    assert not missing
    assert not [target for target in targets if not is_made(target)]


def is_made(target: str) -> bool:
    """Whether the Makefile has a rule for it, or a pattern and a module."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    if target.startswith("campaign-"):
        return (ROOT / "tests" / "campaigns" / f"{target.removeprefix('campaign-')}.py").is_file()
    return re.search(rf"^{target}:", makefile, re.MULTILINE) is not None


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached, todo = set(), [MANUAL[0]]
    while todo:
        document = todo.pop()
        reached.add(document)
        links = re.findall(r"\]\(([^)\s#]+\.md)[^)]*\)", document.read_text(encoding="utf-8"))
        todo += {(document.parent / link).resolve() for link in links} - reached
    assert set(DOCUMENTS) <= reached


def test_stored_formats_are_described() -> None:
    """Every field that a program may read, and the versions in force."""
    from tagger.cluster import results
    from tagger.evaluation import predictions, run_folder
    from tagger.pipeline import cache, records
    from tagger.pipeline.run import STATUSES, SongResult
    from tagger.report import document
    from tagger.review import decisions, plan
    from tagger.tags import journal
    from training.dataset import data, waveforms

    text = (ROOT / "docs" / "file-formats.md").read_text(encoding="utf-8")
    fields = {
        *records.CSV_FIELDS, *records.as_record(SongResult(Path("song"), "kept")), *STATUSES, *document.CSV_FIELDS,
        *plan.FIELDS, *results.SCHEMA.names, *predictions._FIELDS, *data.COLUMNS,
        *re.findall(r'TABLE "?(\w+)', " ".join((*cache.SCHEMA, *decisions.SCHEMA))),
    }  # fmt: skip
    assert not [name for name in fields if f"`{name}`" not in text]
    versions = dict(re.findall(r"^\| `?([^|`]+)`? \| (\d+) \|", text, re.MULTILINE))
    assert {name: int(version) for name, version in versions.items()} == {
        "journal": journal.VERSION, "cache": cache.SCHEMA_VERSION, "prediction": cache.PREDICTION_VERSION,
        "report as JSON": document.VERSION, "decisions": decisions.VERSION,
        "predictions.jsonl": predictions.VERSION, "metrics.json": run_folder.VERSION, "dataset": data.VERSION,
        "waveforms of a dataset": waveforms.HEAD["version"],
    }  # fmt: skip
