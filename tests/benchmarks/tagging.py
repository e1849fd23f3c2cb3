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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil

from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE, SNIPPET_SAMPLES, decode
from tagger.audio.library import Found, find_songs
from tagger.audio.workers import decode_ahead, rss_bytes, usable_cores
from tagger.pipeline.options import TagOptions
from tests.support.fakes import make_options
from tests.support.songs import make_song, synthesize

if TYPE_CHECKING:
    import torch

    from tagger.models.checkpoint import Checkpoint
    from tagger.models.description import Description
    from tagger.models.genre_model import GenreModel

FORMATS = (".mp3", ".flac", ".m4a", ".opus", ".ogg")
OPTIONS = make_options(reanalyze=True)  # the songs are copies of five, so they must not be known from one another
UNTIL_CLEAR = make_options(reanalyze=True, until_clear=True)
WATCHED = 10  # songs from one look at the memory to the next
TOLERANCE = 2e-3  # between logits that two programs compute in float32

# The process between this one and the one measured: on Linux a process inherits the peak memory of its parent.
LAUNCHER = """import resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(code)"""
IMPORT = "import os, openvino; os._exit(0)"  # at once: the end of the interpreter is no part of a start
LOAD_MODEL = "import os; from tagger.models.genre_model import GenreModel; GenreModel.load(); os._exit(0)"
DECODE_ALL = "import sys; from tagger.audio.decode import decode; [decode(song, 5, 80_000) for song in sys.argv[1:]]"


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    n_songs: int  # a multiple of the number of formats
    n_songs_full: int  # that a full-size AST classifies on a CPU, which takes seconds each; at most one of a format
    song_seconds: float
    n_turns: int
    product_rows: int  # of the square matrices whose product no model exceeds
    n_cached: int  # songs that are cached
    n_long_run: int  # songs of a run that is to end as it begins


THOROUGH = Size(
    n_songs=100, n_songs_full=3, song_seconds=240, n_turns=5, product_rows=2048, n_cached=10_000, n_long_run=3_000
)
QUICK = Size(n_songs=5, n_songs_full=1, song_seconds=16, n_turns=1, product_rows=512, n_cached=100, n_long_run=15)


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
    music = np.tile(synthesize("music", size.song_seconds / 4, rate=44_100, channels=2), 4)
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


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Let torch compute on that many threads, and afterwards on as many as before."""
    import torch

    n_before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(n_before)


class Cost(NamedTuple):
    """What a process and those that it started took."""

    seconds: float
    cpu_seconds: float
    peak_mb: float  # of the largest of them


def process_cost(n_turns: int, *command: object) -> Cost:
    """The median cost of a new `python COMMAND...` at its defaults."""
    words = [sys.executable, "-c", LAUNCHER, sys.executable, *map(str, command)]
    runs = []
    for _ in range(n_turns):
        done = subprocess.run(words, env=default_settings(), capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(words[4:])} failed:\n{done.stderr}")
        runs.append([float(word) for word in done.stdout.split()])
    seconds, cpu_seconds, peak = np.median(runs, axis=0).tolist()
    return Cost(seconds, cpu_seconds, rss_bytes(int(peak)) / 1e6)


def default_settings() -> dict[str, str]:
    """The environment of a command that is to run at its defaults, with the bytecode of its modules kept."""
    others = ("GENRE_TAG_", "PYTHONDONTWRITEBYTECODE")
    own = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return own | {"GENRE_TAG_CONFIG": os.devnull}


def decoding_times(songs: Sequence[Path], snippet_samples: int, size: Size) -> Iterator[Figure]:
    """The windows of a song of each format beside the whole of it, and that beside FFmpeg alone, on one core."""
    for song in songs[: len(FORMATS)]:
        n_few = OPTIONS.predict.n_snippets
        works = (partial(decode, song, n_snippets, snippet_samples) for n_snippets in (n_few, None))
        windows, whole, alone = median_seconds(size.n_turns, *works, partial(ffmpeg_alone, song))
        name, beside = f"decode {song.suffix[1:]}", f"all {size.song_seconds:g} s"
        yield Figure(name, 1e3 * windows, "ms per song", beside, 1e3 * whole)
        yield Figure(f"{name}, all", 1e3 * whole, "ms per song", "FFmpeg alone", 1e3 * alone)


def ffmpeg_alone(song: Path) -> None:
    """All of a song as FFmpeg decodes and resamples it at its own defaults, thrown away."""
    import av

    resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
    with av.open(str(song)) as container:
        for frame in container.decode(audio=0):
            resampler.resample(frame)


def feature_time(snippets: np.ndarray, size: Size) -> Figure:
    """The log-mel of a snippet beside the extractor of transformers, on one thread."""
    from transformers import ASTFeatureExtractor

    from tagger.models.features import LogMel

    waveforms = list(snippets.astype(np.float32) / FULL_SCALE)
    log_mel, extract = LogMel(), partial(ASTFeatureExtractor(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
    works = (lambda: [log_mel(snippet) for snippet in snippets]), partial(extract, waveforms)
    with torch_threads(1):
        own, theirs = median_seconds(size.n_turns, *works)
    to_ms = 1e3 / len(snippets)
    return Figure("log-mel", to_ms * own, "ms per snippet", "ASTFeatureExtractor", to_ms * theirs)


def model_speeds(description: Description, device: str, songs: Sequence[Path], size: Size) -> Iterator[Figure]:
    """The network beside stock engines, all on log-mels that are there, and from snippets on; by batch size."""
    from tagger.models.checkpoint import load_checkpoint
    from tagger.models.genre_model import GenreModel

    checkpoint, name = load_checkpoint(description), description.name
    snippets, extract = snippets_of(songs, description.snippet_samples), extractor_of(description)
    model, stock = GenreModel(checkpoint, device), stock_engines(description, device)
    *_, last = stock
    speeds: dict[int, float] = {}
    for batch in sorted({1, 8, model.batch_size, 2 * model.batch_size}):
        block = np.resize(snippets, (batch, snippets.shape[1]))
        log_mels = np.stack([checkpoint.log_mel(snippet) for snippet in block])
        model.batch_size = max(batch, model.batch_size)
        whole = partial(model.logits, block)
        network = network_alone(checkpoint, model, log_mels) if device == "cpu" else whole
        theirs = [partial(classify, log_mels) for classify in stock.values()]
        works = (whole, lambda block=block: stock[last](extract(block)), network, *theirs)
        own, their_whole, own_network, *theirs = np.divide(batch, median_seconds(size.n_turns, *works)).tolist()
        speeds[batch] = own
        for engine, speed in zip(stock, theirs, strict=True):
            yield Figure(f"{name}, batch {batch}, {engine}", own_network, "snippets/s", engine, speed)
        beside = f"{last}, ASTFeatureExtractor"
        yield Figure(f"{name}, batch {batch}, log-mels too", own, "snippets/s", beside, their_whole)
    batch = max(speeds, key=speeds.__getitem__)
    yield from shares_of_products(checkpoint, model, np.resize(snippets, (batch, snippets.shape[1])), size)


def shares_of_products(checkpoint: Checkpoint, model: GenreModel, block: np.ndarray, size: Size) -> Iterator[Figure]:
    """The model, log-mels included, beside large products in the same precision, and those of a layer.

    Operations are counted as spent: in the last layer only what the head reads. Where they are counted as published,
    it is called nominal.
    """
    from tagger.models.architecture import N_SPECIAL, count_patches, flops_per_snippet

    architecture, name, batch = checkpoint.architecture, checkpoint.description.name, len(block)
    nominal, spent = (1e-9 * flops_per_snippet(architecture, each) for each in (False, True))
    n = size.product_rows * (1 if model.device == "cpu" else 4)
    width, inner = architecture.hidden_size, architecture.intermediate_size
    layer = [(width, width)] * 4 + [(width, inner), (inner, width)]
    ceilings = [
        products(model.device, model.precision, (1, n), [(n, n)], n**3),
        products(model.device, model.precision, (batch, count_patches(architecture) + N_SPECIAL), layer, n**3),
    ]
    classify = partial(model.logits, block)
    taken, *others = median_seconds(size.n_turns, classify, *(multiply for multiply, _ in ceilings))
    large, own = (1e-9 * flop / each for (_, flop), each in zip(ceilings, others, strict=True))
    yield Figure(name, spent * batch / taken, "GFLOP/s", f"large products in {model.precision}", large)
    yield Figure(f"{name}, at its shapes", spent * batch / taken, "GFLOP/s", "products of a layer", own)
    yield Figure(f"{name}, nominal", nominal * batch / taken, "GFLOP/s", "the same", own)


def stock_engines(description: Description, device: str) -> dict[str, Callable[[np.ndarray], object]]:
    """What others would classify log-mels (batch, n_frames, n_mels) with: transformers, and OpenVINO on a CPU."""
    import torch
    from transformers import ASTForAudioClassification

    @torch.inference_mode()
    def classify(log_mels: np.ndarray, network: torch.nn.Module, dtype: torch.dtype) -> object:
        return network(torch.from_numpy(log_mels).to(device, dtype)).logits.float().cpu()

    engines: dict[str, Callable[[np.ndarray], object]] = {}
    for precision, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
        network = ASTForAudioClassification.from_pretrained(description.folder, dtype=dtype).to(device)
        engines[f"transformers {precision}"] = partial(classify, network=network, dtype=dtype)
    if device == "cpu":
        network = ASTForAudioClassification.from_pretrained(description.folder, dtype=torch.float32)
        features = description.features
        compiled = converted(network, torch.zeros(1, features.n_frames, features.n_mels))
        engines["OpenVINO"] = lambda log_mels: compiled([log_mels])[0]
    return engines


def extractor_of(description: Description) -> Callable[[np.ndarray], np.ndarray]:
    """What makes log-mels (batch, n_frames, n_mels) of snippets (batch, snippet_samples) int16 with transformers."""
    from transformers import ASTFeatureExtractor

    extractor = ASTFeatureExtractor.from_pretrained(description.folder)

    def extract(snippets: np.ndarray) -> np.ndarray:
        waveforms = list(snippets.astype(np.float32) / FULL_SCALE)
        log_mels: np.ndarray = extractor(waveforms, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_values"]
        return log_mels

    return extract


def network_alone(checkpoint: Checkpoint, model: GenreModel, log_mels: np.ndarray) -> Callable[[], object]:
    """The same network on a CPU, set as the model, on log-mels (batch, n_frames, n_mels) that are there."""
    from tagger.models.genre_model import GenreModel

    def look_up(snippet: np.ndarray) -> np.ndarray:
        return log_mels[snippet[0] % len(log_mels)]

    network = GenreModel(replace(checkpoint, log_mel=look_up), model.device, model.precision, model.n_threads)
    network.batch_size = len(log_mels)
    numbers = np.zeros((len(log_mels), model.snippet_samples), np.int16)  # in place of snippets
    numbers[:, 0] = np.arange(len(log_mels))
    return partial(network.logits, numbers)


def converted(network: torch.nn.Module, example: torch.Tensor) -> Any:
    """A network of torch as OpenVINO's own tools make it, at their defaults; without their telemetry."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino
    import torch
    from openvino.tools.ovc import convert_model

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network.requires_grad_(False)

        def forward(self, log_mels: torch.Tensor) -> torch.Tensor:
            return self.network(log_mels).logits

    return openvino.compile_model(convert_model(Logits().eval(), example_input=example), "CPU")


def products(
    device: str, precision: str, rows: tuple[int, int], shapes: Sequence[tuple[int, int]], n_least: int
) -> tuple[Callable[[], None], int]:
    """What multiplies (batch, n_rows) rows by matrices (inputs, outputs) in turn, and the operations it does.

    It does so as often as it takes for `n_least` multiplications.
    """
    import torch

    from tagger.models.transformer import DTYPES

    works: list[Callable[[], torch.Tensor]] = []
    for n_inputs, n_outputs in shapes:
        linear = torch.nn.Linear(n_inputs, n_outputs, bias=False, device=device).requires_grad_(False)
        inputs = torch.randn(*rows, n_inputs, device=device).to(DTYPES[precision])
        works.append(partial(linear.to(DTYPES[precision]), inputs))
    n_multiplications = math.prod(rows) * sum(map(math.prod, shapes))
    n_times = math.ceil(n_least / n_multiplications)

    @torch.inference_mode()
    def multiply() -> None:
        for _ in range(n_times):
            results = [work() for work in works]
        results[-1].flatten()[0].item()  # waits for the device

    return multiply, 2 * n_times * n_multiplications


def snippets_of(songs: Sequence[Path], snippet_samples: int) -> np.ndarray:
    """The snippets of a song of each format, (n_snippets, snippet_samples) int16."""
    n_snippets = OPTIONS.predict.n_snippets
    return np.concatenate([decode(song, n_snippets, snippet_samples).samples for song in songs[: len(FORMATS)]])


def run_speeds(songs: Sequence[Path], description: Description, device: str, size: Size) -> Iterator[Figure]:
    """A run without its start beside the slower of its halves, each alone on the cores it has there, and the script."""
    import torch

    from tagger.models.genre_model import GenreModel
    from tagger.pipeline.run import default_workers

    n_songs, n_threads, name = len(songs), torch.get_num_threads(), description.name
    model, script = GenreModel.load(description, device), script_of(description, device)
    check_script(script, songs[:1], description, device)
    n_snippets, snippet_samples, some = OPTIONS.predict.n_snippets, description.snippet_samples, songs[: len(FORMATS)]
    snippets = np.tile(snippets_of(some, snippet_samples), (n_songs // len(some), 1))

    def decode_all() -> None:
        windows = partial(decode, n_snippets=n_snippets, snippet_samples=snippet_samples)
        limits = {"look_ahead": n_songs, "time_limit_seconds": OPTIONS.predict.time_limit_seconds}
        pairs = ((song, song) for song in songs)
        deque(decode_ahead(pairs, windows, n_workers=default_workers(model), **limits), maxlen=0)

    def script_alone() -> None:
        with torch_threads(n_threads):  # a run may leave torch with fewer
            script(some, n_snippets)

    predict = partial(predict_all, songs, description, model, OPTIONS)
    with torch_threads(n_threads):
        seconds = median_seconds(
            min(3, size.n_turns), predict, decode_all, partial(model.logits, snippets), script_alone
        )
    together, decoders, alone, scripted = np.divide((n_songs, n_songs, n_songs, len(some)), seconds).tolist()
    yield Figure(f"{name} run", together, "songs/s", "slower half of it", min(decoders, alone))
    yield Figure(f"{name} decoders alone", decoders, "songs/s")
    yield Figure(f"{name} model alone", alone, "songs/s")
    yield Figure(f"{name} run, script on its snippets", together, "songs/s", "transformers.pipeline", scripted)


def other_run_speeds(songs: Sequence[Path], description: Description, device: str, size: Size) -> Iterator[Figure]:
    """Runs over songs of one format, and of as few snippets as will do, and the script on whole songs."""
    import torch

    from tagger.models.genre_model import GenreModel

    n_songs, n_threads, name = len(songs), torch.get_num_threads(), description.name
    model, script = GenreModel.load(description, device), script_of(description, device)
    mp3s, some = [song for song in songs if song.suffix == ".mp3"] * len(FORMATS), songs[: len(FORMATS)]

    def script_alone() -> None:
        with torch_threads(n_threads):
            script(some, None)

    works = [
        partial(predict_all, each, description, model, how)
        for each, how in ((songs, OPTIONS), (songs, UNTIL_CLEAR), (mp3s, OPTIONS))
    ]
    with torch_threads(n_threads):
        seconds = median_seconds(min(3, size.n_turns), *works, script_alone)
    together, clear, mp3, scripted = np.divide((n_songs, n_songs, len(mp3s), len(some)), seconds).tolist()
    yield Figure(f"{name} run, mp3s alone", mp3, "songs/s", "all formats", together)
    yield Figure(f"{name} run, --snippets auto", clear, "songs/s", "five snippets", together)
    yield Figure(f"{name} run, script on whole songs", together, "songs/s", "transformers.pipeline", scripted)


def predict_all(songs: Sequence[Path], description: Description, model: GenreModel, options: TagOptions) -> None:
    """A run over the songs, of which none is known."""
    from tagger.pipeline.cache import PredictionCache, cache_path
    from tagger.pipeline.run import tag_songs

    found = [Found(song) for song in songs]
    with TemporaryDirectory() as state, PredictionCache(cache_path(state), sys.exit) as cache:
        for result in tag_songs(found, description, lambda: model, options, cache):
            if result.status == "failed":
                sys.exit(f"{result.path} failed: {result.reason}")


def script_of(description: Description, device: str) -> Callable[[Sequence[Path], int | None], np.ndarray]:
    """What a user would write instead: the same checkpoint in a pipeline of transformers, song by song.

    It decodes as a run does, in its own process, and gives the logits of each snippet.
    """
    from transformers import pipeline

    classify = pipeline("audio-classification", model=str(description.folder), device=device)
    columns = classify.model.config.label2id

    def script(songs: Sequence[Path], n_snippets: int | None) -> np.ndarray:
        rows = []
        for song in songs:
            for waveform in decode(song, n_snippets, description.snippet_samples).waveforms:
                answers = classify(
                    {"raw": waveform, "sampling_rate": SAMPLE_RATE}, top_k=None, function_to_apply="none"
                )
                rows.append([answer["score"] for answer in sorted(answers, key=lambda each: columns[each["label"]])])
        return np.array(rows, np.float32)

    return script


def check_script(
    script: Callable[[Sequence[Path], int | None], np.ndarray],
    songs: Sequence[Path],
    description: Description,
    device: str,
) -> None:
    """End the benchmark if a model in float32 and the script do not agree about songs."""
    from tagger.models.genre_model import GenreModel

    exact = GenreModel.load(description, device, "fp32").logits(snippets_of(songs, description.snippet_samples))
    difference = float(np.abs(exact - script(songs, OPTIONS.predict.n_snippets)).max())
    if not difference <= TOLERANCE:
        sys.exit(f"{description.name}: the logits of the script differ by {difference:.2g}")


def growth(size: Size) -> Iterator[Figure]:
    """The end of a long run beside its beginning; songs of 2 s: the less is classified, the more the rest shows."""
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
    """A run over a library in which every song is cached, from walking to deciding, beside its stats."""
    from tagger.pipeline.cache import Method, PredictionCache, cache_path
    from tagger.pipeline.predict import Prediction
    from tagger.pipeline.run import tag_songs

    def no_model() -> GenreModel:
        raise AssertionError("a song is not known")

    def run() -> None:
        with PredictionCache(cache_path(folder), sys.exit) as cache:
            deque(tag_songs(list(find_songs([folder])), description, no_model, TagOptions(), cache), maxlen=0)

    with TemporaryDirectory() as folder, PredictionCache(cache_path(folder), sys.exit) as cache:
        method = Method(description.fingerprint, "fp32", OPTIONS.predict.n_snippets, description.snippet_samples)
        songs = [Path(folder, f"{number}.wav") for number in range(size.n_cached)]
        for number, song in enumerate(songs):
            make_song(song, seconds=0.1, rate=8_000, channels=1, signal="noise", seed=number)
            logits = np.zeros((5, len(description.head.genres)), np.float32)
            cache.remember(cache.look(song), method, Prediction(logits, (0.0,) * 5, 60.0, ""))
        known, stats = median_seconds(size.n_turns, run, lambda: [song.stat() for song in songs])
    to_ms = 1e3 / size.n_cached
    return Figure("a song known before", to_ms * known, "ms per song", "a stat", to_ms * stats)


def command_costs(songs: Sequence[Path], n_workers: int, size: Size) -> Iterator[Figure]:
    """The command as users start it: its speed, its start and its memory."""
    folder = songs[0].parent
    command = ("-m", "tagger", folder, "--json", os.devnull)
    run_seconds, _, run_mb = process_cost(min(3, size.n_turns), *command, "--reanalyze")
    yield Figure("genre-tag FOLDER", len(songs) / run_seconds, "songs/s")
    again_seconds = process_cost(size.n_turns, *command).seconds
    yield Figure("the same again", again_seconds, "s", "the first time", run_seconds)
    help_seconds = process_cost(size.n_turns, "-m", "tagger", "--help").seconds
    python_seconds = process_cost(size.n_turns, "-c", "pass").seconds
    yield Figure("genre-tag --help", help_seconds, "s", "python alone", python_seconds)
    load_seconds = process_cost(size.n_turns, "-c", LOAD_MODEL).seconds
    import_seconds = process_cost(size.n_turns, "-c", IMPORT).seconds
    yield Figure("start to loaded model", load_seconds, "s", "import openvino", import_seconds)
    one_seconds = process_cost(size.n_turns, "-m", "tagger", songs[0], "--json", os.devnull, "--reanalyze").seconds
    yield Figure("genre-tag SONG", one_seconds, "s", "start to loaded model", load_seconds)
    decoder_mb = process_cost(1, "-c", DECODE_ALL, *songs).peak_mb
    yield Figure("peak memory, main process", run_mb, "MB")
    yield Figure("peak memory, with decoders", run_mb + n_workers * decoder_mb, "MB")


def full_size_memory(song: Path, full: Description) -> Figure:
    """What the command holds in memory with a full-size AST, of which a song shows all."""
    words = ("-m", "tagger", song, "--model", full.folder, "--json", os.devnull, "--reanalyze")
    return Figure("full size peak memory, main process", process_cost(1, *words).peak_mb, "MB")


def machine_facts(model: GenreModel) -> dict[str, object]:
    """What the figures depend on."""
    import torch

    from tagger.pipeline.run import default_workers

    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "engine": model.engine,
        "torch": torch.__version__,
        "device": model.device,
        "precision": model.precision,
        "why": model.precision_reason,
        "cores": usable_cores(),
        "threads": model.n_threads,
        "torch threads": torch.get_num_threads(),
        "decoders": default_workers(model),
        "load before": round(os.getloadavg()[0], 2),
    }


def full_size(folder: Path) -> Description:
    """An AST of the size of the AudioSet checkpoint, with random weights, written to `folder`."""
    from tagger.models.architecture import Architecture
    from tagger.models.description import N_FRAMES, describe
    from tests.support.checkpoints import AUDIOSET, make_checkpoint

    usual = asdict(Architecture())
    usual = {name: usual[name] for name in usual.keys() - {"num_labels", "num_mel_bins", "max_length"}}
    make_checkpoint(folder, AUDIOSET, n_frames=N_FRAMES, **usual)
    return replace(describe(str(folder)), name="full size")


def all_figures(
    songs: Sequence[Path], starter: Description, full: Description | None, device: str, n_workers: int, size: Size
) -> Iterator[Figure]:
    """Every figure, one after the other; those of a full-size AST if there is one."""
    yield from decoding_times(songs, starter.snippet_samples, size)
    yield feature_time(snippets_of(songs, SNIPPET_SAMPLES)[:8], size)
    yield from model_speeds(starter, device, songs, size)
    yield from run_speeds(songs, starter, device, size)
    yield from other_run_speeds(songs, starter, device, size)
    if full:
        yield from model_speeds(full, device, songs[:1], size)
        prediction = songs[: size.n_songs_full] if device == "cpu" else songs
        yield from run_speeds(prediction, full, device, size)
        yield full_size_memory(songs[0], full)
    yield second_run_time(starter, size)
    yield from command_costs(songs, n_workers, size)
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
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # the table is to stand alone; transformers looks when imported

    from tagger.models.description import STARTER, describe
    from tagger.models.genre_model import GenreModel

    size = QUICK if arguments.quick else THOROUGH
    with TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = str(Path(folder, "state"))  # nothing is known before, and no cache the larger
        model = GenreModel.load()
        facts, device = machine_facts(model), model.device
        songs = make_songs(Path(folder, "songs"), size)
        full = full_size(Path(folder, "full")) if arguments.full else None
        n_workers = int(str(facts["decoders"]))
        figures = list(all_figures(songs, describe(STARTER), full, device, n_workers, size))
    show(facts, figures)
    if arguments.json:
        table = [asdict(figure) | {"ratio": figure.ratio} for figure in figures]
        arguments.json.write_text(json.dumps({"machine": facts, "figures": table}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
