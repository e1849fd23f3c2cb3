"""`kill -9` at random moments of whole runs that write: `make campaign-kill`.

A run over 300 songs is killed, with its decoders, at a seeded moment after its first song was recorded; then every
song must be the old one or a new one that is in a journal. The same run is started again until all songs are written,
every run is undone, newest first, and every byte must be as before.

Two series: with `--real` the command line as a user starts it, with the built-in model; without, the same command line
around a model that answers at once and needs no torch, so that the many kills fall into the writing. All else is real
in both: walk, decoder processes, cache, journal, writing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType, SimpleNamespace

from tagger.audio import decode as audio
from tagger.cli import main as cli
from tagger.models import description
from tagger.tags.genre import genres_in, real_genres
from tagger.tags.journal import Journal, journal_folder, unpack
from tagger.tags.undo import list_runs, undo
from tests.support.fakes import FakeModel
from tests.support.tag_files import FILES, UNDECODED, build, decoded

ROOT = Path(__file__).parents[2]
N_SONGS = 300
CHILD = "--child"
LARGEST_BYTES = 120_000  # many small songs: much writing, little prediction
START_SECONDS = 300  # to start, classify and record the first song on a busy machine


def make_library(folder: Path) -> dict[Path, bytes]:
    """N_SONGS songs of every kind that are classified and have no genre, and their bytes."""
    names = []
    folder.mkdir()
    for name in FILES:
        suffix, data = Path(name).suffix, build(name)
        if len(data) > LARGEST_BYTES or name in UNDECODED or real_genres(data, suffix):
            continue
        (probe := folder / name).write_bytes(data)
        try:
            prediction = not audio.decode(probe, n_snippets=1).unsure
        except audio.AudioError:
            prediction = False
        probe.unlink()
        if prediction:
            names.append(name)
    made = {}
    for number in range(N_SONGS):
        name = names[number % len(names)]
        path = folder / f"{number // 30}" / f"{number} {name}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(build(name))
        made[path] = path.read_bytes()
    return made


def start_run(library: Path, state: Path, real: bool) -> subprocess.Popen[bytes]:
    """Start a run that writes, in a process group of its own."""
    command = [sys.executable, "-m", *(["tagger"] if real else ["tests.campaigns.kill", CHILD])]
    command += [str(library), "--write-tags", "--min-confidence", "0", "--quiet", "--jobs", "1"]
    environment = {**os.environ, "XDG_STATE_HOME": str(state), "XDG_CONFIG_HOME": str(state), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.PIPE)


def run_with_fake_model(arguments: list[str]) -> None:
    """The command line around a model that needs no torch."""
    model = ModuleType("tagger.models.genre_model")
    model.GenreModel = SimpleNamespace(load=lambda *_: FakeModel())  # type: ignore[attr-defined]
    sys.modules[model.__name__] = model
    description.describe = lambda name: FakeModel()  # type: ignore[assignment,return-value]
    cli.main(arguments)


def kill(run: subprocess.Popen[bytes]) -> None:
    """End the run and its decoders as a loss of power would."""
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


@dataclass
class Look:
    """The library after a kill."""

    n_new: int
    damaged: list[Path]
    unrecorded: list[Path]
    n_temporary: int
    n_torn: int


def look(library: Path, state: Path, made: dict[Path, bytes]) -> Look:
    """Compare every song with what it was and with what the journals say it became."""
    recorded: dict[Path, set[str]] = {}
    n_torn = 0
    for journal in journal_folder(state / "genre-tag").glob("*.jsonl"):
        for line in journal.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                n_torn += 1
            elif (record := json.loads(line))["op"] == "write":
                assert record["before"]["sha256"] and record["delta"] is not None
                recorded.setdefault(library / unpack(record["rel"]), set()).add(record["after"]["sha256"])
    seen = Look(0, [], [], len(list(library.rglob(".gtag-*.tmp"))), n_torn)
    for path, old in made.items():
        now = path.read_bytes() if path.exists() else b""
        if now == old:
            continue
        seen.n_new += 1
        if sha256(now).hexdigest() in recorded.get(path, ()):
            continue
        try:
            genres_in(now, path.suffix)
            seen.unrecorded.append(path)
        except Exception:
            seen.damaged.append(path)
    extra = {path for path in library.rglob("*") if path.is_file()} - made.keys()
    assert all(path.name.startswith(".gtag-") for path in extra), extra
    return seen


def n_recorded(state: Path) -> int:
    """How many songs the newest journal tells of."""
    journals = sorted(journal_folder(state / "genre-tag").glob("*.jsonl"))
    return journals[-1].read_bytes().count(b'"op":"write"') if journals else 0


def campaign(n_kills: int, seed: int, real: bool, scratch: Path) -> Counter[str]:
    """Kill so many runs, and count the song's statuss."""
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    spread_seconds = 2.0 if real else 0.5
    while counts["kills"] < n_kills:
        counts["libraries"] += 1
        library, state = scratch / "library", scratch / "state"
        made = make_library(library)
        finished = False
        while not finished:
            n_journals = len(list(journal_folder(state / "genre-tag").glob("*.jsonl")))
            run = start_run(library, state, real)
            is_early = rng.random() < 0.1  # before the first song
            moment = rng.uniform(0, spread_seconds)
            if counts["kills"] < n_kills:
                started = time.monotonic()
                while run.poll() is None and time.monotonic() - started < START_SECONDS:
                    if len(list(journal_folder(state / "genre-tag").glob("*.jsonl"))) > n_journals and (
                        is_early or n_recorded(state)
                    ):
                        break
                    time.sleep(0.002)
                time.sleep(moment)
                if run.poll() is None:
                    kill(run)
                    counts["kills"] += 1
                    seen = look(library, state, made)
                    counts["damaged"] += len(seen.damaged)
                    counts["unrecorded"] += len(seen.unrecorded)
                    counts["within a swap"] += seen.n_temporary > 0
                    counts["torn"] += seen.n_torn
                    counts["midway"] += 0 < seen.n_new < len(made)
                    for path in library.rglob(".gtag-*.tmp"):  # of this run: the next would take them after an hour
                        path.unlink()
                    continue
            _, errors = run.communicate()
            assert run.returncode == 0, errors.decode()
            finished = True
        seen = look(library, state, made)
        counts["damaged"] += len(seen.damaged)
        counts["unrecorded"] += len(seen.unrecorded)
        counts["written"] += seen.n_new
        counts["unwritten"] += len(made) - seen.n_new
        if counts["libraries"] == 1:
            for path, old in made.items():
                counts["decoded alike"] += decoded(path.read_bytes()) == decoded(old)
        for told in list_runs(state / "genre-tag"):
            with Journal.open(library, ["genre-tag", "undo"], scratch / "undoing") as journal:
                counts.update(f"undo {undone.result}" for undone in undo(told, journal))
        counts["songs"] += len(made)
        counts["restored"] += sum(path.read_bytes() == old for path, old in made.items())
        shutil.rmtree(library)
        shutil.rmtree(state)
    return counts


def main() -> None:
    """Run one series and print the song's statuss; exit 1 if one was damaged or lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        counts = campaign(options.kills, options.seed, options.real, Path(scratch))
    print(
        f"{counts['kills']} runs killed ({'the command line' if options.real else 'fake model'}, {N_SONGS} songs, seed "
        f"{options.seed}): {counts['midway']} with some songs written, {counts['within a swap']} within a swap, "
        f"{counts['torn']} within a record\n"
        f"{counts['damaged']} damaged songs, {counts['unrecorded']} new songs without a record\n"
        f"started again: {counts['written']} of {counts['songs']} songs written in {counts['libraries']} libraries; "
        f"{counts['decoded alike']} of the first {N_SONGS} decode to the same samples\n"
        f"undone: {counts['restored']} of {counts['songs']} songs have every byte as before "
        f"({counts['undo bytes']} taken back, {counts['undo nothing']} were recorded and not yet written)\n"
        f"{time.monotonic() - start:.0f} s"
    )
    bad = counts["damaged"] + counts["unrecorded"] + counts["unwritten"] + counts["songs"] - counts["restored"]
    others = {key for key in counts if key.startswith("undo ")} - {"undo bytes", "undo nothing"}
    sys.exit(bool(bad or others or counts["decoded alike"] < N_SONGS))


if __name__ == "__main__":
    if CHILD in sys.argv[1:2]:
        run_with_fake_model(sys.argv[2:])
    main()
