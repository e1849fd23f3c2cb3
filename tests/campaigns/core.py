"""Whether an environment with the core alone does the main job, for real: CI runs it there, no test does.

    cd /elsewhere && ENVIRONMENT/bin/python CHECKOUT/tests/campaigns/core.py

writes genres into a copy of the bundled clips, looks at the files, and undoes it. Needs nothing but the installed
genre-tag; the first thing that is not as it should be ends it with an AssertionError.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

#: What the core must not bring: libraries of the extras, of the tests and of the tools.
FOREIGN = (
    "accelerate", "datasets", "evaluate", "matplotlib", "mypy", "playwright", "pyarrow", "pytest", "ray", "ruff",
    "sklearn", "torch", "torchaudio", "transformers", "wandb",
)  # fmt: skip
#: Commands that need more, and the extra that each has to name.
NEED_MORE = {
    ("train",): "train",
    ("prepare", "music"): "train",
    ("report", "music", "--png", "confusion.png"): "train",
    ("explain", "music/Waves.wav", "--png", "waves.png"): "train",
    ("music", "--engine", "ray"): "ray",
    ("review", "music"): "review",
}


def main() -> None:
    """Go through it all, in a folder that is gone afterwards."""
    brought = [library for library in FOREIGN if find_spec(library)]
    assert not brought, f"the core brings {brought}"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        shutil.copytree(str(resources.files("tagger") / "samples"), "music")
        check_doctor()
        check_writing(Path("music").resolve())
        check_what_shows(Path("music"))
        check_what_needs_more()


def genre_tag(*arguments: str, code: int = 0) -> tuple[str, str]:
    """What a command prints on stdout and stderr; it has to exit with that code, and without a traceback."""
    here = os.getcwd()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GENRE_TAG_")}
    environment |= {"XDG_CONFIG_HOME": f"{here}/config", "XDG_STATE_HOME": f"{here}/state", "HF_HUB_OFFLINE": "1"}
    command = [str(Path(sys.executable).with_name("genre-tag")), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == code and "Traceback" not in done.stderr, (arguments, done)
    print(f"genre-tag {' '.join(arguments)}: exit code {code}", flush=True)
    return done.stdout, done.stderr


def check_doctor() -> None:
    """All is well, and what is not installed is said, not complained of."""
    out, _ = genre_tag("doctor", "--no-speed")
    assert "problem" not in out and "pip install 'genre-tag[train]'" in out, out


def check_writing(music: Path) -> None:
    """Genres are in the files that are said to be tagged, and in no other; undo gives back every byte."""
    before = digests(music)
    genre_tag(str(music))
    assert digests(music) == before, "changed without --write-tags"
    genre_tag(str(music), "--write-tags", "--json", "songs.json")
    records = [json.loads(line) for line in Path("songs.json").read_text(encoding="utf-8").splitlines()]
    assert len(records) == len(before) and not [each for each in records if each["status"] == "failed"], records
    tagged = {each["path"]: each["new"] for each in records if each["status"] == "tagged"}
    after = digests(music)
    assert tagged and {str(path) for path in before if after[path] != before[path]} == tagged.keys(), tagged
    for path, genres in tagged.items():
        assert genres and genres_in(path) == genres, (path, genres, genres_in(path))
    print(f"tagged: {len(tagged)} of {len(records)} songs, as mutagen reads them", flush=True)
    genre_tag("undo", "last")
    assert digests(music) == before, "undone, and not as before"


def check_what_shows(music: Path) -> None:
    """Report and explain work without an extra."""
    genre_tag("report", str(music), "--out", "library.html")
    assert "</html>" in Path("library.html").read_text(encoding="utf-8")
    assert json.loads(genre_tag("explain", str(music / "Waves.wav"), "--json")[0])


def check_what_needs_more() -> None:
    """A command whose extra is missing says in one line what to install."""
    for arguments, extra in NEED_MORE.items():
        out, said = genre_tag(*arguments, code=3)
        assert not out and said.count("\n") == 1 and said.endswith(f": pip install 'genre-tag[{extra}]'\n"), said


def digests(folder: Path) -> Mapping[Path, str]:
    """Song -> SHA-256 of its bytes."""
    songs = (path for path in sorted(folder.rglob("*")) if path.suffix not in ("", ".md", ".txt"))
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in songs}


def genres_in(path: str) -> list[str]:
    """The genres of a song, read by mutagen and not by genre-tag."""
    import mutagen

    tags = mutagen.File(path, easy=True).tags
    return list(tags["genre"] if "genre" in tags else tags["TCON"].genres)


if __name__ == "__main__":
    main()
