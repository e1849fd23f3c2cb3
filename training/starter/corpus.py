"""The free recordings that the starter learns from: where each lies, and how to fetch it.

    python -m training.starter.corpus FOLDER

`recordings.csv` names every one: its package or repository, the file in it, artist, title, licence, and its genre where
a person said so. Nothing of them is part of this project.
"""

from __future__ import annotations

import csv
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from hashlib import sha256
from importlib.resources import files
from io import StringIO
from itertools import groupby
from operator import attrgetter
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

import click
from tqdm import tqdm

from training.errors import SourceError
from training.starter import NothingDoneError

TABLE = "songs.csv"  # of what was fetched, as `genre-tag prepare` reads it
MODULES = frozenset({".it", ".mod", ".s3m", ".xm"})
RENDER = ["openmpt123", "--batch", "--quiet", "--force", "--no-float", "--samplerate", "32000"]
RENDER += ["--end-time", "150", "--output"]  # seconds: many go round for ever
NO_MUSIC = "no music"  # instead of a genre: speech and noises, of which the model shall be unsure


@dataclass(frozen=True)
class Recording:
    """A recording that may be learned from, and where it is to be had."""

    source: str  # debian:PACKAGE or github:OWNER/NAME
    path: str  # in the package or repository; ARCHIVE!PATH for a file inside a .zip or .pk3
    sha256: str  # of the file
    artist: str
    title: str
    genre: str  # "" where no person said
    evidence: str  # who said so
    licence: str
    split: str  # train, validate or test

    @property
    def is_module(self) -> bool:
        """Whether it is a tracker module: notes and sounds, to be rendered."""
        return PurePosixPath(self.path).suffix.lower() in MODULES

    @property
    def name(self) -> str:
        """File name under which it is kept: no two recordings share one, whatever they are called."""
        return self.sha256[:16] + (".flac" if self.is_module else PurePosixPath(self.path).suffix.lower())


def read_recordings() -> list[Recording]:
    """Every recording of `recordings.csv`."""
    text = files("training.starter").joinpath("recordings.csv").read_text(encoding="utf-8")
    return [Recording(**row) for row in csv.DictReader(StringIO(text))]


def write_recordings(path: Path, recordings: Iterable[Recording]) -> None:
    """Write a table that `read_recordings` reads, sorted."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([field.name for field in fields(Recording)])
        rows.writerows(sorted(map(astuple, recordings)))


def fetch(recordings: Sequence[Recording], folder: Path) -> Iterator[tuple[Recording, str]]:
    """Fetch what is not in `folder` yet, source by source: each recording, and "" or why it could not be had.

    A file is kept only if it is the very one that is named, to the byte.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_source = attrgetter("source")
    for source, group in groupby(sorted(recordings, key=by_source), key=by_source):
        members = list(group)
        missing = [recording for recording in members if not (folder / recording.name).exists()]
        yield from ((recording, "") for recording in members if recording not in missing)
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            try:
                tree = unpack(source, Path(scratch), [recording.path for recording in missing])
            except SourceError as error:
                yield from ((recording, error.reason) for recording in missing)
                continue
            for recording in missing:
                yield recording, _take(tree, recording, folder)


def unpack(source: str, scratch: Path, paths: Sequence[str]) -> Path:
    """The folder that has the files of a source, of which `paths` are wanted; raises SourceError."""
    kind, _, name = source.partition(":")
    tree = scratch / "tree"
    outer = sorted({path.partition("!")[0] for path in paths})
    if kind == "debian":
        _run(source, scratch, "apt-get", "download", name)
        package = next(scratch.glob("*.deb"))
        _run(source, scratch, "dpkg", "-x", package, tree)
    elif kind == "github":
        address = f"https://github.com/{name}.git"
        _run(source, scratch, "git", "clone", "--depth=1", "--filter=blob:none", "--no-checkout", address, tree)
        _run(source, tree, "git", "checkout", "HEAD", "--", *outer)
    else:
        raise SourceError(source, "neither a debian package nor a github repository")
    return tree


def _run(source: str, folder: Path, *command: object) -> None:
    """Run a command; SourceError with its last line where it fails."""
    try:
        subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise SourceError(source, f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise SourceError(source, lines[-1]) from error


def _take(tree: Path, recording: Recording, folder: Path) -> str:
    """Copy a recording out of the tree of its source: "", or why not."""
    outer, _, inner = recording.path.partition("!")
    try:
        data = _inside(tree, outer).read_bytes()
        if inner:
            with ZipFile(_inside(tree, outer)) as archive:
                data = archive.read(inner)
    except (OSError, KeyError, BadZipFile):
        return "no longer there"
    if sha256(data).hexdigest() != recording.sha256:
        return "another file now"
    part = folder / f"part-{recording.name}"
    if recording.is_module:
        module = tree / "module"
        module.write_bytes(data)
        try:
            _run(recording.source, tree, *RENDER, part.absolute(), module)
        except SourceError as error:
            return error.reason
    else:
        part.write_bytes(data)
    part.replace(folder / recording.name)
    return ""


def _inside(tree: Path, path: str) -> Path:
    """The path below a tree; OSError for one that leads out of it."""
    found = (tree / path).resolve()
    if not found.is_relative_to(tree.resolve()):
        raise FileNotFoundError(path)
    return found


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only this one, debian:NAME. Repeatable.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only N recordings of each source: a trial.")
def corpus(folder: Path, sources: tuple[str, ...], limit: int | None) -> None:
    """Fetch the starter's recordings into FOLDER, and write songs.csv there, which names them.

    What is there already is not fetched again. Needs apt-get, dpkg, git and openmpt123.
    """
    chosen: list[Recording] = []
    for source, group in groupby(read_recordings(), key=attrgetter("source")):
        if not sources or source in sources:
            chosen += list(group)[:limit]
    if not chosen:
        raise NothingDoneError(f"no recording is from {', '.join(sources)}")
    failed: list[str] = []
    fetched = []
    for recording, why in tqdm(fetch(chosen, folder), total=len(chosen), unit="recording", disable=None):
        if why:
            failed.append(f"{recording.source} {recording.path}: {why}")
        else:
            fetched.append(recording)
    write_table(folder / TABLE, fetched)
    for line in failed:
        click.echo(line, err=True)
    click.echo(f"{len(fetched)} of {len(chosen)} recordings in {folder}")
    if not fetched:
        raise NothingDoneError("nothing could be fetched")


def write_table(path: Path, recordings: Iterable[Recording]) -> None:
    """The table of songs that the teachers read: `path` beside it, and all that is known of each."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, ["path", *(field.name for field in fields(Recording) if field.name != "path")])
        rows.writeheader()
        for recording in sorted(recordings, key=astuple):
            rows.writerow(asdict(recording) | {"path": recording.name})


if __name__ == "__main__":
    corpus()
