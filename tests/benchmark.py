"""How fast genre-tag is on this machine, each figure beside what it could be: `make bench`.

Songs are made on the spot. A figure is the median of repeats, and what is compared is measured in turns, so that
other work on the machine slows both alike. Imports nothing heavy: every worker process imports this file too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import psutil

from tagger.audio import SAMPLE_RATE, SNIPPET_SAMPLES, decode
from tagger.library import Found, find_songs
from tagger.options import TagOptions
from tagger.workers import decode_ahead, usable_cores
from tests.songs import make_song, synthesize

if TYPE_CHECKING:
    from tagger.checkpoint import Checkpoint
    from tagger.description import Description
    from tagger.model import GenreModel

#: Formats and the lengths of their songs, in minutes.
FORMATS = {".mp3": 4, ".flac": 2, ".m4a": 6, ".opus": 3, ".ogg": 5}
BATCHES = (1, 8, 16)
OPTIONS = TagOptions(reanalyze=True)  # the songs are copies of five, so they must not be known from one another
UNTIL_CLEAR = replace(OPTIONS, until_clear=True)
WATCHED = 10  # songs from one look at the memory to the next
TOLERANCE = 2e-3  # between logits that two programs compute in float32

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
    minute: float  # seconds in one
    n_turns: int
    product_rows: int  # of the square matrices whose product is the ceiling of the model
    n_known: int  # songs that were heard before
    n_long_run: int  # songs of a run that is to end as it begins


THOROUGH = Size(n_songs=100, minute=60, n_turns=5, product_rows=2048, n_known=10_000, n_long_run=3_000)
QUICK = Size(n_songs=5, minute=4, n_turns=1, product_rows=512, n_known=100, n_long_run=15)


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
    """The corpus: a song in each format, copied until there are enough."""
    folder.mkdir()
    music = synthesize("music", size.minute, rate=44_100, channels=2)
    songs = [make_song(folder / f"0{suffix}", signal=np.tile(music, minutes)) for suffix, minutes in FORMATS.items()]
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
    words = [sys.executable, "-c", LAUNCHER, sys.executable, *map(str, command)]
    runs = []
    for _ in range(n_turns):
        done = subprocess.run(words, env=default_settings(), capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(words[4:])} failed:\n{done.stderr}")
        runs.append([float(word) for word in done.stdout.split()])
    seconds, peak = np.median(runs, axis=0).tolist()
    return seconds, peak / (1e6 if sys.platform == "darwin" else 1e3)


def default_settings() -> dict[str, str]:
    """The environment of a command that is to run at its defaults."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GENRE_TAG_")}
    return own | {"GENRE_TAG_CONFIG": os.devnull}


def decoding_times(songs: Sequence[Path], size: Size) -> Iterator[Figure]:
    """The windows of a song of each format beside the whole of it, on one core."""
    for song, minutes in zip(songs, FORMATS.values(), strict=False):
        hear_windows, hear_all = partial(decode, song, OPTIONS.n_snippets), partial(decode, song, None)
        windows, whole = median_seconds(size.n_turns, hear_windows, hear_all)
        name, beside = f"decode {song.suffix[1:]}", f"all {minutes * size.minute:g} s"
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
    """The automatic precision and int8 beside fp32 at each batch size, then the fastest of each beside its ceiling.

    Operations are counted as published (nominal), and as spent: in the last layer only what the head reads.
    """
    from tagger.model import GenreModel, choose_precision, computes_int8, flops_per_snippet

    names = ("auto", "fp32", *(["int8"] if computes_int8(device) else []))
    precisions = [choose_precision(name, device) for name in names]
    models = {precision.name: GenreModel(checkpoint, device, precision) for precision in precisions}
    auto, name = precisions[0].name, checkpoint.description.name
    fastest = dict.fromkeys(models, 0.0)
    for batch in batches:
        for model in models.values():
            model.batch_size = batch
        block = np.resize(waveforms, (batch, waveforms.shape[1]))
        seconds = median_seconds(size.n_turns, *(partial(model.logits, block) for model in models.values()))
        speeds = {precision: batch / taken for precision, taken in zip(models, seconds, strict=True)}
        fastest = {precision: max(fastest[precision], speed) for precision, speed in speeds.items()}
        yield Figure(f"{name}, batch {batch}", speeds[auto], "snippets/s", "fp32", speeds["fp32"])
        if "int8" in speeds:
            yield Figure(f"{name} int8, batch {batch}", speeds["int8"], "snippets/s", "fp32", speeds["fp32"])
    nominal, spent = (1e-9 * flops_per_snippet(checkpoint.architecture, each) for each in (False, True))
    for precision, speed in fastest.items():
        ceiling, which = product_speed(device, precision, size), f"{name} {precision}, fastest"
        yield Figure(f"{which}, nominal", nominal * speed, "GFLOP/s", "matrix product", ceiling)
        yield Figure(f"{which}, as computed", spent * speed, "GFLOP/s", "matrix product", ceiling)
        yield Figure(f"{which}, share of ceiling", 100 * spent * speed / ceiling, "% as computed")


def product_speed(device: str, precision: str, size: Size) -> float:
    """GFLOP a second of a large matrix product, which no model exceeds."""
    import torch

    from tagger.transformer import DTYPES, Int8Linear

    n = size.product_rows * (1 if device == "cpu" else 4)
    if precision == "int8":
        levels, linear = torch.randint(256, (n, n), dtype=torch.uint8), Int8Linear(torch.nn.Linear(n, n, bias=False))

        def multiply() -> torch.Tensor:
            return linear.multiply(levels, 0.01, 128)

    else:
        matrix = torch.randn(n, n, device=device).to(DTYPES[precision])

        def multiply() -> torch.Tensor:
            return matrix @ matrix

    (seconds,) = median_seconds(size.n_turns, lambda: multiply()[0, 0].item())  # item waits for the device
    return 2e-9 * n**3 / seconds


def one_of_each(songs: Sequence[Path], snippet_samples: int) -> np.ndarray:
    """The snippets of a song of each format, (n_snippets, snippet_samples)."""
    return np.concatenate(
        [decode(song, OPTIONS.n_snippets, snippet_samples).waveforms for song in songs[: len(FORMATS)]]
    )


def run_speeds(songs: Sequence[Path], description: Description, model: GenreModel, size: Size) -> Iterator[Figure]:
    """A run without its start, beside the slower of its two halves, each alone on the cores that the run gives it."""
    from tagger.run import default_workers

    n_songs = len(songs)
    snippets = np.tile(one_of_each(songs, model.snippet_samples), (n_songs // len(FORMATS), 1))

    def decode_all() -> None:
        windows = partial(decode, n_snippets=OPTIONS.n_snippets, snippet_samples=model.snippet_samples)
        limits = {"look_ahead": n_songs, "time_limit_seconds": OPTIONS.time_limit_seconds}
        pairs = ((song, song) for song in songs)
        deque(decode_ahead(pairs, windows, n_workers=default_workers(model.device), **limits), maxlen=0)

    hear, hear_some = (partial(hear_all, songs, description, model, how) for how in (OPTIONS, UNTIL_CLEAR))
    works = (hear, hear_some, decode_all, partial(model.logits, snippets))
    together, some, decoders, alone = (n_songs / taken for taken in median_seconds(min(3, size.n_turns), *works))
    yield Figure("run, model loaded", together, "songs/s", "slower half of it", min(decoders, alone))
    yield Figure("its decoders alone", decoders, "songs/s")
    yield Figure("its model alone", alone, "songs/s")
    yield Figure("run, --snippets auto", some, "songs/s", "five snippets", together)


def hear_all(songs: Sequence[Path], description: Description, model: GenreModel, options: TagOptions) -> None:
    """A run over the songs, of which none is known."""
    from tagger.run import tag_songs
    from tagger.store import Store, store_path

    found = [Found(song) for song in songs]
    with TemporaryDirectory() as state, Store(store_path(state), sys.exit) as store:
        for result in tag_songs(found, description, lambda: model, options, store):
            if result.status == "failed":
                sys.exit(f"{result.path} failed: {result.reason}")


def script_speeds(songs: Sequence[Path], description: Description, model: GenreModel, size: Size) -> Iterator[Figure]:
    """A run beside what a user would write instead: the same checkpoint in a pipeline of transformers, song by song.

    The script decodes as the run does, in its own process. Ends the benchmark if their logits are not the same.
    """
    import torch
    from transformers import pipeline

    from tagger.model import GenreModel

    classify = pipeline("audio-classification", model=str(description.folder), device=model.device)
    columns = classify.model.config.label2id

    def script(n_snippets: int | None) -> np.ndarray:
        """Logits of the snippets of a song in each format."""
        rows = []
        for song in songs[: len(FORMATS)]:
            for waveform in decode(song, n_snippets, model.snippet_samples).waveforms:
                answers = classify(
                    {"raw": waveform, "sampling_rate": SAMPLE_RATE}, top_k=None, function_to_apply="none"
                )
                rows.append([answer["score"] for answer in sorted(answers, key=lambda each: columns[each["label"]])])
        return np.array(rows, np.float32)

    def run() -> None:
        hear_all(songs, description, model, OPTIONS)

    n_threads = torch.get_num_threads()

    def script_alone(n_snippets: int | None) -> None:
        torch.set_num_threads(usable_cores())  # as torch begins
        script(n_snippets)
        torch.set_num_threads(n_threads)

    exact = GenreModel.load(description, model.device, "fp32").logits(one_of_each(songs, model.snippet_samples))
    difference = float(np.abs(exact - script(OPTIONS.n_snippets)).max())
    if difference > TOLERANCE:
        sys.exit(f"the logits of the script differ by {difference:.2g}")
    works = (run, partial(script_alone, OPTIONS.n_snippets), partial(script_alone, None))
    ours, same, everything = median_seconds(min(3, size.n_turns), *works)
    speed = len(songs) / ours
    for which, seconds in (("same", same), ("all", everything)):
        name = f"run beside script, {which} snippets"
        yield Figure(name, speed, "songs/s", "transformers.pipeline", len(FORMATS) / seconds)


def growth(size: Size) -> Iterator[Figure]:
    """The end of a long run beside its beginning; songs of 2 s, because the less is heard, the more the rest shows."""
    times: list[float] = []
    memory: list[float] = []
    with TemporaryDirectory() as folder:
        for number in range(size.n_long_run):
            song = Path(folder, f"{number}.wav")
            make_song(song, seconds=2, rate=8_000, channels=1, signal="noise", seed=number)
        words = (sys.executable, "-m", "tagger", folder, "--json", "-")
        environment = default_settings() | {"XDG_STATE_HOME": folder}
        with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
            assert run.stdout is not None
            for number, _ in enumerate(run.stdout):
                times.append(time.perf_counter())
                if number % WATCHED == 0:
                    memory.append(resident_megabytes(run.pid))
    n_songs, half = len(times), len(times) // 2
    if n_songs != size.n_long_run:
        sys.exit(f"a run over {size.n_long_run} songs told of {n_songs}")
    begin, middle, end = times[0], times[half], times[-1]
    first, second = (middle - begin) / half, (end - middle) / (n_songs - 1 - half)
    yield Figure(f"second half of {n_songs}", 1e3 * second, "ms per song", "first half", 1e3 * first)
    peak = max(memory[: math.ceil(size.n_songs / WATCHED)])
    yield Figure(f"peak memory in {n_songs}", max(memory), "MB", f"in the first {size.n_songs}", peak)


def resident_megabytes(pid: int) -> float:
    """What a process and its children hold in memory; 0 when they are at their end."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return sum(each.memory_info().rss for each in (process, *process.children())) / 1e6
    return 0.0


def second_run_time(description: Description, size: Size) -> Figure:
    """A run over a library in which every song was heard before, from walking to deciding, beside its stats."""
    from tagger.predict import Heard
    from tagger.run import tag_songs
    from tagger.store import Method, Store, store_path

    def no_model() -> GenreModel:
        raise AssertionError("a song is not known")

    def run() -> None:
        with Store(store_path(folder), sys.exit) as store:
            deque(tag_songs(list(find_songs([folder])), description, no_model, TagOptions(), store), maxlen=0)

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
    one_seconds, _ = process_cost(size.n_turns, "-m", "tagger", songs[0], "--json", os.devnull, "--reanalyze")
    yield Figure("genre-tag SONG", one_seconds, "s", "start to loaded model", load_seconds)
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
    from tagger.checkpoint import Checkpoint, load_checkpoint
    from tagger.description import N_AUDIOSET_LABELS, N_FRAMES, describe
    from tagger.features import LogMel
    from tagger.model import default_batch_size
    from tagger.run import default_workers
    from tagger.transformer import Architecture, Transformer

    ten_seconds = one_of_each(songs, SNIPPET_SAMPLES)
    yield from decoding_times(songs, size)
    yield feature_time(ten_seconds[:8], size)
    starter = load_checkpoint(describe("starter"))
    yield from model_speeds(starter, model.device, BATCHES, one_of_each(songs, model.snippet_samples), size)
    if full:
        full_size = replace(starter.description, name="full size")
        full_size = replace(full_size, features=replace(full_size.features, n_frames=N_FRAMES))
        architecture = Architecture(N_AUDIOSET_LABELS)
        random = Checkpoint(full_size, architecture, Transformer(architecture).state_dict(), LogMel())
        batches = [default_batch_size(architecture, model.device)]
        yield from model_speeds(random, model.device, batches, ten_seconds, size)
    yield from run_speeds(songs, starter.description, model, size)
    yield from script_speeds(songs, starter.description, model, size)
    yield second_run_time(starter.description, size)
    yield from command_costs(songs, default_workers(model.device), size)
    yield from growth(size)


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
