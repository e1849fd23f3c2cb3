"""How fast genre-tag is on this machine, each figure beside what it could be: `make bench`.

Songs are made on the spot. A figure is the median of repeats, and what is compared is measured in turns, so that
other work on the machine slows both alike. Imports nothing heavy: every worker process imports this file too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from tagger.audio import SAMPLE_RATE, decode
from tagger.library import find_songs
from tagger.options import TagOptions
from tagger.workers import decode_ahead, usable_cores
from tests.songs import make_song, synthesize

if TYPE_CHECKING:
    from tagger.checkpoint import Checkpoint
    from tagger.description import Description
    from tagger.model import GenreModel

FORMATS = (".mp3", ".flac", ".m4a", ".opus", ".ogg")
BATCHES = (1, 8, 16)
OPTIONS = TagOptions()

# The process between this one and the one measured: on Linux a process inherits the peak memory of its parent.
LAUNCHER = """import resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)"""
IMPORT_TORCH = "import os, torch; os._exit(0)"  # at once: the end of the interpreter is no part of a start
LOAD_MODEL = "import os; from tagger.model import GenreModel; GenreModel.load(); os._exit(0)"
DECODE_ALL = "import sys; from tagger.audio import decode; [decode(song, 5) for song in sys.argv[1:]]"


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    n_songs: int  # a multiple of the number of formats
    song_seconds: float
    n_turns: int
    product_rows: int  # of the square matrices whose product is the ceiling of the model
    n_known: int  # songs that were heard before


THOROUGH = Size(n_songs=40, song_seconds=180, n_turns=5, product_rows=2048, n_known=10_000)
QUICK = Size(n_songs=5, song_seconds=15, n_turns=1, product_rows=512, n_known=100)


@dataclass(frozen=True)
class Figure:
    """A value and, where there is one, what to compare it with, in the same unit."""

    name: str
    value: float
    unit: str
    beside: str = ""
    beside_value: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as fast as what stands beside it."""
        if self.beside_value is None:
            return None
        return self.value / self.beside_value if self.unit.endswith("/s") else self.beside_value / self.value


def make_songs(folder: Path, size: Size) -> list[Path]:
    """The corpus: one piece of music in each format, copied until there are enough."""
    folder.mkdir()
    music = synthesize("music", size.song_seconds, rate=44_100, channels=2)
    songs = [make_song(folder / f"0{suffix}", signal=music) for suffix in FORMATS]
    for i in range(len(FORMATS), size.n_songs):
        song = songs[i % len(FORMATS)]
        songs.append(shutil.copyfile(song, folder / f"{i // len(FORMATS)}{song.suffix}"))
    return songs


def median_seconds(n_turns: int, *works: Callable[[], object]) -> list[float]:
    """Median seconds of each work; all of them take turns, of which the first does not count unless it is the last."""
    turns = []
    for _ in range(n_turns):
        times = [time.perf_counter()]
        for work in works:
            work()
            times.append(time.perf_counter())
        turns.append(np.diff(times))
    return np.median(turns[1:] or turns, axis=0).tolist()


def process_cost(n_turns: int, *command: object) -> tuple[float, float]:
    """Median seconds of a new `python COMMAND...` at its defaults, and peak MB of the largest of its processes."""
    settings = {"GENRE_TAG_CONFIG": os.devnull}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GENRE_TAG_")} | settings
    words = [sys.executable, "-c", LAUNCHER, sys.executable, *map(str, command)]
    runs = []
    for _ in range(n_turns):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(words[4:])} failed:\n{done.stderr}")
        runs.append([float(word) for word in done.stdout.split()])
    seconds, peak = np.median(runs, axis=0).tolist()
    return seconds, peak / (1e6 if sys.platform == "darwin" else 1e3)


def decoding_times(songs: Sequence[Path], size: Size) -> Iterator[Figure]:
    """The windows of a song of each format beside the whole of it, on one core."""
    for song in songs[: len(FORMATS)]:
        hear_windows, hear_all = partial(decode, song, OPTIONS.n_snippets), partial(decode, song, None)
        windows, whole = median_seconds(size.n_turns, hear_windows, hear_all)
        name, beside = f"decode {song.suffix[1:]}", f"all {size.song_seconds:g} s"
        yield Figure(name, 1e3 * windows, "ms per song", beside, 1e3 * whole)


def feature_time(waveforms: np.ndarray, size: Size) -> Figure:
    """The log-mel of a snippet beside the extractor of transformers, on one thread."""
    import torch
    from transformers import ASTFeatureExtractor

    from tagger.features import LogMel

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ours, theirs = median_seconds(
        size.n_turns,
        partial(LogMel(), torch.from_numpy(waveforms)),
        partial(ASTFeatureExtractor(), list(waveforms), sampling_rate=SAMPLE_RATE, return_tensors="pt"),
    )
    torch.set_num_threads(n_threads)
    to_ms = 1e3 / len(waveforms)
    return Figure("log-mel", to_ms * ours, "ms per snippet", "ASTFeatureExtractor", to_ms * theirs)


def model_speeds(
    checkpoint: Checkpoint, device: str, batches: Sequence[int], waveforms: np.ndarray, size: Size
) -> Iterator[Figure]:
    """The automatic precision beside fp32 at each batch size, then the fastest of them beside a bare matrix product."""
    from tagger.model import GenreModel, choose_precision, flops_per_snippet

    precisions = [choose_precision(name, device) for name in ("auto", "fp32")]
    models = {precision.name: GenreModel(checkpoint, device, precision) for precision in precisions}
    fastest = dict.fromkeys(models, 0.0)
    for batch in batches:
        for model in models.values():
            model.batch_size = batch
        block = np.resize(waveforms, (batch, waveforms.shape[1]))
        seconds = median_seconds(size.n_turns, *(partial(model.logits, block) for model in models.values()))
        speeds = {name: batch / taken for name, taken in zip(models, seconds, strict=True)}
        fastest = {name: max(fastest[name], speed) for name, speed in speeds.items()}
        auto, name = precisions[0].name, checkpoint.description.name
        yield Figure(f"{name}, batch {batch}", speeds[auto], "snippets/s", "fp32", speeds["fp32"])
    gflop = 1e-9 * flops_per_snippet(checkpoint.ast.config)
    for precision, speed in fastest.items():
        ceiling = product_speed(device, precision, size)
        name = f"{checkpoint.description.name} {precision}, fastest"
        yield Figure(name, gflop * speed, "GFLOP/s", "matrix product", ceiling)


def product_speed(device: str, precision: str, size: Size) -> float:
    """GFLOP a second of a large matrix product, which no model exceeds."""
    import torch

    from tagger.model import DTYPES

    n = size.product_rows * (1 if device == "cpu" else 4)
    matrix = torch.randn(n, n, device=device).to(DTYPES[precision])
    (seconds,) = median_seconds(size.n_turns, lambda: (matrix @ matrix)[0, 0].item())  # item waits for the device
    return 2e-9 * n**3 / seconds


def run_speeds(
    songs: Sequence[Path], description: Description, model: GenreModel, waveforms: np.ndarray, size: Size
) -> Iterator[Figure]:
    """A run without its start, beside the slower of its two halves; on a CPU those share cores and never reach 1."""
    from tagger.run import default_workers, tag_songs
    from tagger.store import Store, store_path

    found = list(find_songs([str(songs[0].parent)]))
    snippets = np.tile(waveforms, (len(songs) // len(FORMATS), 1))

    def run() -> None:
        with TemporaryDirectory() as state, Store(store_path(state), sys.exit) as store:
            for result in tag_songs(found, description, lambda: model, OPTIONS, store):
                if result.status == "failed":
                    sys.exit(f"{result.path} failed: {result.reason}")

    def decode_all() -> None:
        windows = partial(decode, n_snippets=OPTIONS.n_snippets)
        limits = {"look_ahead": len(songs), "time_limit_seconds": OPTIONS.time_limit_seconds}
        pairs = ((song, song) for song in songs)
        deque(decode_ahead(pairs, windows, n_workers=default_workers(model.device), **limits), maxlen=0)

    seconds = median_seconds(min(3, size.n_turns), run, decode_all, partial(model.logits, snippets))
    together, decoders, alone = (len(songs) / taken for taken in seconds)
    yield Figure("run, model loaded", together, "songs/s", "slower half of it", min(decoders, alone))
    yield Figure("its decoders alone", decoders, "songs/s")
    yield Figure("its model alone", alone, "songs/s")


def second_run_time(description: Description, size: Size) -> Figure:
    """A run over a library in which every song was heard before, from walking to deciding, beside its stats."""
    from tagger.predict import Heard
    from tagger.run import tag_songs
    from tagger.store import Method, Store, store_path

    def no_model() -> GenreModel:
        raise AssertionError("a song is not known")

    def run() -> None:
        with Store(store_path(folder), sys.exit) as store:
            deque(tag_songs(list(find_songs([folder])), description, no_model, OPTIONS, store), maxlen=0)

    with TemporaryDirectory() as folder, Store(store_path(folder), sys.exit) as store:
        method = Method(description.fingerprint, "fp32", OPTIONS.n_snippets, description.snippet_samples)
        songs = [Path(folder, f"{number}.wav") for number in range(size.n_known)]
        for number, song in enumerate(songs):
            make_song(song, seconds=0.1, rate=8_000, channels=1, signal="noise", seed=number)
            logits = np.zeros((5, len(description.head.genres)), np.float32)
            store.remember(store.look(song), method, Heard(logits, (0.0,) * 5, 60.0, ""))
        known, stats = median_seconds(size.n_turns, run, lambda: [song.stat() for song in songs])
    to_ms = 1e3 / size.n_known
    return Figure("a song known before", to_ms * known, "ms per song", "a stat", to_ms * stats)


def command_costs(songs: Sequence[Path], n_workers: int, size: Size) -> Iterator[Figure]:
    """The command as users start it: its speed, its start and its memory."""
    folder = songs[0].parent
    command = ("-m", "tagger", folder, "--json", os.devnull)
    run_seconds, run_mb = process_cost(min(3, size.n_turns), *command, "--reanalyze")
    yield Figure("genre-tag FOLDER", len(songs) / run_seconds, "songs/s")
    again_seconds, _ = process_cost(size.n_turns, *command)
    yield Figure("the same again", again_seconds, "s", "the first time", run_seconds)
    help_seconds, _ = process_cost(size.n_turns, "-m", "tagger", "--help")
    python_seconds, _ = process_cost(size.n_turns, "-c", "pass")
    yield Figure("genre-tag --help", help_seconds, "s", "python alone", python_seconds)
    load_seconds, _ = process_cost(size.n_turns, "-c", LOAD_MODEL)
    torch_seconds, _ = process_cost(size.n_turns, "-c", IMPORT_TORCH)
    yield Figure("start to loaded model", load_seconds, "s", "import torch", torch_seconds)
    _, decoder_mb = process_cost(1, "-c", DECODE_ALL, *songs)
    yield Figure("peak memory, main process", run_mb, "MB")
    yield Figure("peak memory, with decoders", run_mb + n_workers * decoder_mb, "MB")


def machine_facts(model: GenreModel) -> dict[str, object]:
    """What the figures depend on."""
    import torch

    from tagger.run import default_workers

    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": model.device,
        "precision": model.precision,
        "cores": usable_cores(),
        "torch threads": torch.get_num_threads(),
        "decoders": default_workers(model.device),
        "load before": round(os.getloadavg()[0], 2),
    }


def all_figures(songs: Sequence[Path], model: GenreModel, size: Size, full: bool) -> Iterator[Figure]:
    """Every figure, one after the other."""
    from transformers import ASTConfig, ASTForAudioClassification

    from tagger.checkpoint import load_checkpoint
    from tagger.description import describe
    from tagger.model import default_batch_size
    from tagger.run import default_workers

    one_each = [decode(song, OPTIONS.n_snippets) for song in songs[: len(FORMATS)]]
    waveforms = np.concatenate([snippets.waveforms for snippets in one_each])
    yield from decoding_times(songs, size)
    yield feature_time(waveforms[:8], size)
    starter = load_checkpoint(describe("starter"))
    yield from model_speeds(starter, model.device, BATCHES, waveforms, size)
    if full:
        full_size = replace(starter.description, name="full size")
        random = replace(starter, description=full_size, ast=ASTForAudioClassification(ASTConfig(num_labels=527)))
        batches = [default_batch_size(random.ast.config, model.device)]
        yield from model_speeds(random, model.device, batches, waveforms, size)
    yield from run_speeds(songs, starter.description, model, waveforms, size)
    yield second_run_time(starter.description, size)
    yield from command_costs(songs, default_workers(model.device), size)


def show(facts: dict[str, object], figures: Sequence[Figure]) -> None:
    """Print the figures as a table, under what they depend on."""
    from rich.console import Console
    from rich.table import Table

    def text(value: float) -> str:
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"

    table = Table("figure", "", "", "beside", "", "times as fast", box=None)
    for column in (1, 4, 5):
        table.columns[column].justify = "right"
    for figure in figures:
        compared = () if figure.ratio is None else (figure.beside, text(figure.beside_value), text(figure.ratio))
        table.add_row(figure.name, text(figure.value), figure.unit, *compared)
    console = Console(width=120, highlight=False)
    console.print("; ".join(f"{name} {value}" for name, value in facts.items()))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a handful of short songs, each thing once")
    parser.add_argument("--full", action="store_true", help="a full-size AST with random weights too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    arguments = parser.parse_args()

    from tagger.model import GenreModel

    size, model = QUICK if arguments.quick else THOROUGH, GenreModel.load()
    facts = machine_facts(model)
    with TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = str(Path(folder, "state"))  # nothing is known before, and no store the larger
        songs = make_songs(Path(folder, "songs"), size)
        figures = list(all_figures(songs, model, size, arguments.full))
    show(facts, figures)
    if arguments.json:
        table = [asdict(figure) | {"ratio": figure.ratio} for figure in figures]
        arguments.json.write_text(json.dumps({"machine": facts, "figures": table}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
