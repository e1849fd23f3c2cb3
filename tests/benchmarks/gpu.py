"""What a GPU makes of genre-tag, and whether it is right there: `make bench-gpu`, at most seven minutes.

For a machine that is had for minutes and has nothing: torch, transformers and numpy are enough for most of it. Each
stage is a process of its own with a limit of its own, so that one that fails or hangs costs no other its turn; every
figure is a line of JSON, written at once. A figure with "ok" is a check, and "left out" says what could not be had.
`--device cpu --tiny` walks through all of it in seconds. What takes long to import is imported once, and inherited:
nothing may use a GPU, or several threads of torch, before a stage does.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from tagger.models.torch_engine import TorchEngine
    from training.learning.network import Network

MINUTES = 7.0
LEAST_SECONDS = 0.1  # for a stage
ROOT = Path(__file__).parents[2]
GENRES = tuple(f"Genre {number}" for number in range(10))


@dataclass(frozen=True)
class Size:
    """How much is measured, and of which network; AudioSet's by default."""

    shape: tuple[tuple[str, int], ...] = (("max_length", 1024),)
    snippet_samples: int = 160_000
    batches: tuple[int, ...] = (1, 16, 64, 256)
    micro_batches: tuple[int, ...] = (8, 16, 32, 64)
    n_parts: int = 4  # of a batch of the largest micro-batch
    product_rows: int = 8192
    copied_bytes: int = 1 << 28
    seconds: float = 1.0  # of each measurement
    n_songs: int = 600
    song_seconds: float = 60.0


TINY = Size(
    shape=(("hidden_size", 32), ("num_hidden_layers", 2), ("num_attention_heads", 2), ("intermediate_size", 64),
           ("max_length", 128), ("time_stride", 16), ("frequency_stride", 16)),
    snippet_samples=16_000, batches=(1, 4), micro_batches=(2, 4), n_parts=2, product_rows=128, copied_bytes=1 << 16,
    seconds=0.02, n_songs=2, song_seconds=6.0,
)  # fmt: skip


def tell(figure: str, value: object, unit: str = "", **more: object) -> None:
    """Write a line of JSON."""
    if isinstance(value, float):
        value = float(f"{value:.4g}") if math.isfinite(value) else str(value)
    line = {"stage": os.environ.get("STAGE", ""), "figure": figure, "value": value, "unit": unit, **more}
    sys.stdout.write(json.dumps({name: each for name, each in line.items() if each != ""}) + "\n")
    sys.stdout.flush()


def check(figure: str, value: float, most: float, **more: object) -> None:
    """Write whether a value is at most as large as it may be."""
    tell(figure, value, most=most, ok=bool(value <= most), **more)


# What stages share


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()


def per_second(work: Callable[[], object], device: str, seconds: float) -> float:
    """How often a work is done in a second: the median of five runs, in `seconds` of them altogether."""
    work()
    wait(device)
    began = time.perf_counter()
    work()
    wait(device)
    n = max(1, int(seconds / 5 / max(time.perf_counter() - began, 1e-6)))
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(n):
            work()
        wait(device)
        taken.append((time.perf_counter() - began) / n)
    return 1 / statistics.median(taken)


def precisions(device: str) -> tuple[str, ...]:
    from tagger.models.torch_engine import precisions as of_gpu

    return ("fp32", "bf16") if device == "cpu" else of_gpu(device)


def product_speed(device: str, precision: str, size: Size) -> float:
    """Operations a second of a large matrix product: the ceiling of every network."""
    import torch

    from tagger.models.transformer import DTYPES

    n = size.product_rows
    a, b = (torch.randn(n, n, device=device, dtype=DTYPES[precision]) for _ in range(2))
    return 2 * n**3 * per_second(lambda: a @ b, device, size.seconds)


def random_ast(size: Size) -> Any:
    """A network of transformers with seeded random weights, as training begins with; float32 on the CPU."""
    import torch
    from transformers import ASTConfig, ASTForAudioClassification

    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(GENRES)), "label2id": {genre: label for label, genre in enumerate(GENRES)}}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "attn_implementation": "sdpa"}
    ast = ASTForAudioClassification(ASTConfig(**dict(size.shape), **labels, **quiet))
    embeddings = ast.audio_spectrogram_transformer.embeddings
    with torch.no_grad():
        for weights in (embeddings.position_embeddings, embeddings.cls_token, embeddings.distillation_token):
            weights.normal_(std=0.02)
    return ast.eval()


def engine_of(ast: Any, device: str, precision: str) -> TorchEngine:
    from tagger.models.features import LogMel
    from tagger.models.torch_engine import TorchEngine
    from tests.models.networks import architecture_of, weights_of

    log_mel = LogMel(n_frames=ast.config.max_length)
    return TorchEngine(architecture_of(ast), weights_of(ast), log_mel, device, precision)


def noise(n: int, size: Size) -> np.ndarray:
    """Snippets (n, snippet_samples) int16."""
    few = np.random.default_rng(0).integers(-9000, 9000, (min(n, 16), size.snippet_samples), np.int16)
    return np.resize(few, (n, size.snippet_samples))


def learner(ast: Any, device: str, recipe: str, **options: Any) -> Network:
    """A network in training mode on the device."""
    from tagger.models.transformer import TorchLogMel
    from training.learning.config import configure
    from training.learning.network import Network

    log_mel = TorchLogMel(n_frames=ast.config.max_length)
    return Network(ast, log_mel, configure(recipe, **options), None).to(device).train()


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.double().cpu(), expected.double().cpu()
    return float((found - expected).norm() / expected.norm())


# Stages


def facts(device: str, size: Size) -> None:
    """What there is: names, versions, and how fast bytes and products are."""
    import torch
    import transformers

    from tagger.audio.workers import usable_cores
    from tagger.models.torch_engine import describe_device

    tell("machine", describe_device(device), transformers=transformers.__version__, cores=usable_cores())
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        tell("memory", properties.total_memory / 1e9, "GB", capability=[properties.major, properties.minor])
        tell("built for", " ".join(torch.cuda.get_arch_list()), cuda=str(torch.version.cuda))
    source = torch.empty(size.copied_bytes, dtype=torch.uint8)
    kinds = {"pageable": source} | ({"pinned": source.pin_memory()} if device.startswith("cuda") else {})
    for name, held in kinds.items():
        copies = per_second(partial(held.to, device, non_blocking=True, copy=True), device, size.seconds)
        tell(f"copy to the device, {name}", copies * size.copied_bytes / 1e9, "GB/s")
    there = source.to(device)
    copies = per_second(lambda: there.to("cpu", copy=True), device, size.seconds)
    tell("copy from the device", copies * size.copied_bytes / 1e9, "GB/s")
    for precision in precisions(device):
        tell(f"matrix product, {precision}", product_speed(device, precision, size) / 1e12, "TFLOP/s")
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
        tell("matrix product, tf32", product_speed(device, "fp32", size) / 1e12, "TFLOP/s")


def correct(device: str, size: Size) -> None:
    """What the device computes, beside what the CPU does in float32."""
    import torch

    from tagger.audio.decode import FULL_SCALE
    from tagger.models.transformer import TorchLogMel
    from training.learning.network import device_batch

    ast, snippets = random_ast(size), noise(2, size)
    log_mel, waveforms = TorchLogMel(n_frames=ast.config.max_length), torch.from_numpy(snippets).float() / FULL_SCALE
    expected = log_mel(waveforms)
    check("log-mel, largest difference", float((log_mel.to(device)(waveforms.to(device)).cpu() - expected).abs().max()),
          1e-3)  # fmt: skip
    golden = torch.from_numpy(engine_of(ast, "cpu", "fp32").embed(snippets))
    for precision, most in {"fp32": 5e-3, "bf16": 0.05, "fp16": 0.02}.items():
        if precision in precisions(device):
            embeddings = torch.from_numpy(engine_of(ast, device, precision).embed(snippets))
            check(f"embeddings in {precision}, relative error", relative_error(embeddings, golden), most)
    labels = torch.tensor([1, 3])

    def gradient(on: str, parts: tuple[np.ndarray, ...], of: torch.Tensor) -> torch.Tensor:
        network = learner(random_ast(size), on, "seed", augment_p=0.0)
        weight, first = network.weight(of.to(on)), 0
        for part in parts:
            own = of[first : first + len(part)].to(on)
            network(torch.from_numpy(part.copy()).to(on), labels=own, num_items_in_batch=weight)["loss"].backward()
            first += len(part)
        return torch.cat([each.grad.flatten().cpu() for each in network.parameters() if each.grad is not None])

    found, golden = (gradient(on, (snippets,), labels) for on in (device, "cpu"))
    check("gradients of a step, relative error", relative_error(found, golden), 1e-2)  # in TF32
    config, most = configured("seed"), size.micro_batches[-1]
    many = noise(max(size.n_parts, device_batch(ast, config, "fp32", most, device)), size)
    labels = torch.arange(len(many)) % len(GENRES)
    whole, parts = (gradient(device, each, labels) for each in ((many,), tuple(np.split(many, size.n_parts))))
    name = f"gradients of {len(many)} and of {size.n_parts} × {len(many) // size.n_parts}, relative error"
    check(name, relative_error(parts, whole), 1e-2)


def memory(device: str, size: Size) -> None:
    """Running out of it: the tagger goes on with less, and answers the same."""
    import torch

    from tagger.models.engine import EngineMemoryError
    from tagger.models.genre_model import GenreModel

    snippets = noise(size.batches[-1], size)
    with TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), size)
        if device == "cpu":
            from tagger.models.checkpoint import load_checkpoint
            from tagger.models.description import describe

            model = GenreModel(load_checkpoint(describe(folder)), "cpu", "fp32")
            model._engine = engine_of(random_ast(size), "cpu", "fp32")
        else:
            model = GenreModel.load(folder, device)
    few = len(snippets) // 4
    model.batch_size = few
    expected = model.logits(snippets)
    model.batch_size = len(snippets)
    forward = model._engine._forward  # type: ignore[attr-defined]

    def cramped(batch: np.ndarray) -> Any:
        if len(batch) > few and device == "cpu":  # whose memory nobody can make small
            raise torch.OutOfMemoryError("out of memory")
        return forward(batch)

    model._engine._forward = cramped  # type: ignore[attr-defined]
    if device.startswith("cuda"):
        forward(snippets[:few])
        peak, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(device).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5 * peak / total))
    try:
        check("tagger out of memory, difference of logits", float(np.abs(model.logits(snippets) - expected).max()), 0.1,
              batch=len(snippets), goes_on_with=model.batch_size)  # fmt: skip
        check("snippets it goes on with, of all", model.batch_size / len(snippets), 0.5)
    except EngineMemoryError as error:
        tell("tagger out of memory", str(error), ok=False)


def inference(device: str, size: Size) -> None:
    """Snippets a second by batch and precision: as it is, compiled, and as a CUDA graph."""
    import torch

    from tagger.models.architecture import flops_per_snippet
    from tests.models.networks import architecture_of

    ast = random_ast(size)
    flops = flops_per_snippet(architecture_of(ast), as_computed=True)
    for precision in reversed(precisions(device)):
        ceiling, engine = product_speed(device, precision, size), engine_of(ast, device, precision)

        def report(kind: str, n: int, work: Callable[[], object], precision: str = precision, top: float = ceiling):
            speed = n * per_second(work, device, size.seconds)
            tell(f"{kind}, {precision}, batch {n}", speed, "snippets/s", of_ceiling=float(f"{speed * flops / top:.3f}"))

        for n in size.batches:
            report("inference", n, partial(engine.embed, noise(n, size)))
        if precision == "fp32":
            continue
        n = size.batches[-2]
        log_mels = torch.randn(n, ast.config.max_length, 128, device=device)
        transformer = engine._transformer
        with torch.inference_mode():
            report("network alone", n, partial(transformer, log_mels))
            if device.startswith("cuda"):
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    transformer(log_mels)
                report("CUDA graph", n, graph.replay)
            else:
                tell("CUDA graph", "left out: no CUDA")
            compiled = torch.compile(transformer, backend="inductor" if device.startswith("cuda") else "eager")
            report("compiled", n, partial(compiled, log_mels))


def save_checkpoint(folder: Path, size: Size) -> None:
    """The network as a checkpoint that `--model` takes."""
    from transformers import ASTFeatureExtractor

    ast = random_ast(size)
    ast.save_pretrained(folder)
    ASTFeatureExtractor(max_length=ast.config.max_length).save_pretrained(folder)


def pipeline(device: str, size: Size) -> None:
    """Songs a second: decoding alone, and a run of the command."""
    from tagger.audio.decode import decode
    from tagger.audio.workers import decode_ahead, usable_cores
    from tests.support.songs import make_song

    with TemporaryDirectory() as folder:
        songs, checkpoint = Path(folder, "songs"), Path(folder, "checkpoint")
        songs.mkdir()
        save_checkpoint(checkpoint, size)
        made = [make_song(songs / f"0{kind}", size.song_seconds) for kind in (".mp3", ".flac")]
        for number in range(len(made), size.n_songs):
            source = made[number % len(made)]
            os.link(source, songs / f"{number}{source.suffix}")
        paths = sorted(songs.iterdir())
        began = time.perf_counter()
        cut = partial(decode, n_snippets=3, snippet_samples=size.snippet_samples)
        limits = {"n_workers": usable_cores(), "look_ahead": 4 * usable_cores(), "time_limit_seconds": 60.0}
        n_decoded = sum(1 for _ in decode_ahead(((path, path) for path in paths), cut, **limits))
        tell("decoding alone", n_decoded / (time.perf_counter() - began), "songs/s")
        seconds = []
        for n in sorted({2, len(paths)}):  # of which the few tell what a start takes
            began = time.perf_counter()
            command = [sys.executable, "-m", "tagger", "--device", device, "--model", str(checkpoint), "--reanalyze",
                       "--snippets", "3", "--quiet", "--json", str(Path(folder, f"{n}.jsonl")),
                       *map(str, paths[:n])]  # fmt: skip
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            seconds.append(time.perf_counter() - began)
            if done.returncode:
                tell("run", done.stderr.strip()[-300:], ok=False)
                return
        tell("start", seconds[0], "s")
        n_lines = len(Path(folder, f"{len(paths)}.jsonl").read_text(encoding="utf-8").splitlines())
        check("songs without an answer", float(len(paths) - n_lines), 0.0)
        if len(paths) > 2:
            tell("run", (len(paths) - 2) / max(seconds[-1] - seconds[0], 1e-9), "songs/s")


def training(device: str, size: Size) -> None:
    """Snippets a second that each recipe learns, by micro-batch; and what they take of the memory."""
    import torch

    from tagger.models.architecture import flops_per_snippet
    from tagger.models.torch_engine import computes_bf16
    from tagger.models.transformer import DTYPES
    from training.learning.network import bytes_per_snippet, parameter_groups

    kind = torch.device(device).type
    for recipe in ("seed", "v2"):
        precision = "bf16" if computes_bf16(device) else "fp16" if kind == "cuda" else "fp32"
        network = learner(random_ast(size), device, recipe)
        config = configured(recipe)
        optimizer = torch.optim.AdamW(parameter_groups(network, config), fused=True)
        ceiling, peaks = product_speed(device, precision, size), {}
        for n in size.micro_batches:
            batch = training_batch(n, size, device, mixing=bool(config.mixup))

            def step(batch: Any = batch, network: Any = network, optimizer: Any = optimizer) -> None:
                with torch.autocast(kind, DTYPES[precision], enabled=precision != "fp32"):  # noqa: B023
                    loss = network(**batch)["loss"]
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                network.update_average()

            if kind == "cuda":
                torch.cuda.reset_peak_memory_stats()
            try:
                speed = n * per_second(step, device, size.seconds)
            except torch.OutOfMemoryError:
                tell(f"training, {recipe} in {precision}, {n} at once", "out of memory")
                break
            share = (
                "" if config.patchout else float(f"{3 * speed * flops_per_snippet(network.ast.config) / ceiling:.3f}")
            )
            tell(f"training, {recipe} in {precision}, {n} at once", speed, "snippets/s", of_ceiling=share)
            if kind == "cuda":
                peaks[n] = torch.cuda.max_memory_allocated()
        if len(peaks) > 1:
            few, many = min(peaks), max(peaks)
            told = bytes_per_snippet(network.ast, config, precision)
            taken = (peaks[many] - peaks[few]) / (many - few)
            check(
                f"memory of a snippet, {recipe}, beside what is reckoned with", taken / told, 1.1, gigabytes=taken / 1e9
            )


def configured(recipe: str) -> Any:
    from training.learning.config import configure

    return configure(recipe)


def training_batch(n: int, size: Size, device: str, mixing: bool) -> dict[str, Any]:
    """What a loader gives, on the device: half of the snippets are to be mixed where a recipe mixes."""
    import torch

    batch: dict[str, Any] = {"waveforms": torch.from_numpy(noise(n, size)), "labels": torch.arange(n) % len(GENRES)}
    moved = {name: column.to(device) for name, column in batch.items()}
    if mixing:
        into = torch.arange(0, n, 2)
        partners = {name: column[into] for name, column in batch.items()}
        partners |= {"into": into, "kept": torch.full((len(into),), 0.3)}
        moved["partners"] = {name: column.to(device) for name, column in partners.items()}
    return moved


def resume(device: str, size: Size) -> None:
    """A training that runs out of memory and is stopped, and resumed: to the same weights as one that is not."""
    try:
        from tests.support.checkpoints import make_checkpoint
        from tests.support.prepared import make_prepared
        from training.learning.network import Network
        from training.learning.runs import Run
        from training.learning.train import train_run
    except ImportError as error:
        tell("resume", f"left out: {error}")
        return
    import torch
    from safetensors.torch import load_file

    from training.learning.config import configure

    class StoppedError(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise StoppedError

    forward = Network.forward

    def cramped(network: Network, waveforms: Any = None, **others: Any) -> Any:
        if network.training and len(waveforms) > 4:
            raise torch.OutOfMemoryError("out of memory")
        return forward(network, waveforms, **others)

    with TemporaryDirectory() as folder:
        begin = make_checkpoint(Path(folder, "begin"), ("A", "B", "C"))
        config = configure("v2", model=str(begin), epochs=2, batch_size=8, lr=3e-3, precision="fp32")
        runs = {name: Run(Path(folder, name), config, "", ()) for name in ("whole", "stopped")}
        quiet = {"device": device, "tell": lambda line: None}
        few = {"train": 4, "validate": 2, "test": 1}
        train_run(runs["whole"], make_prepared(few), device_batch=4, **quiet)
        Network.forward = cramped  # type: ignore[method-assign]
        try:
            train_run(runs["stopped"], make_prepared(few), device=device, tell=stop)
        except StoppedError:
            train_run(runs["stopped"], make_prepared(few), resume=True, **quiet)
        whole, stopped = (load_file(run.checkpoint / "model.safetensors") for run in runs.values())
        worst = max(relative_error(stopped[name], whole[name]) for name in whole)
        check("out of memory, stopped and resumed: weights, relative error", worst, 1e-4)


def shared(device: str, size: Size) -> None:
    """Two processes on one device, together and one alone."""
    speeds: dict[int, float] = {}
    for n in (1, 2):
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        processes = [context.Process(target=_infer, args=(device, size, results)) for _ in range(n)]
        for process in processes:
            process.start()
        speeds[n] = sum(results.get(timeout=100) for _ in processes)
        for process in processes:
            process.join()
    tell("two processes on one device", speeds[2], "snippets/s", alone=float(f"{speeds[1]:.4g}"))


def _infer(device: str, size: Size, results: Any) -> None:
    from tagger.models.genre_model import choose_device

    device, n = choose_device(device), size.batches[-2]
    engine = engine_of(random_ast(size), device, precisions(device)[1])
    results.put(n * per_second(partial(engine.embed, noise(n, size)), device, 3 * size.seconds))


#: Each with its limit in seconds, in the order in which they are worth their time.
STAGES: dict[str, tuple[Callable[[str, Size], None], float]] = {
    "facts": (facts, 40), "correct": (correct, 80), "memory": (memory, 40), "training": (training, 100),
    "inference": (inference, 100), "pipeline": (pipeline, 100), "resume": (resume, 60), "shared": (shared, 40),
}  # fmt: skip


FORKING = {"shared"}


# The parent


def run_stage(name: str, device: str, size: Size, limit: float) -> bool:
    """Run a stage in a process of its own; whether it ended well, and in time."""
    if limit < LEAST_SECONDS:
        _told(name, "no time was left")
        return False
    process = multiprocessing.get_context("fork").Process(target=_stage, args=(name, device, size))
    began = time.perf_counter()
    process.start()
    process.join(limit)
    if process.is_alive():
        os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        _told(name, f"longer than {limit:.0f} s")
        return False
    if process.exitcode not in (0, 1):
        _told(name, f"ended with {process.exitcode}")
    _told(name, "", seconds=round(time.perf_counter() - began, 1))
    return process.exitcode == 0


def _told(stage: str, error: str, **more: object) -> None:
    os.environ["STAGE"] = stage
    tell("failed" if error else "done", error or True, **more)


def _stage(name: str, device: str, size: Size) -> None:
    os.setsid()  # so that it can be ended with all that it has started
    os.environ["STAGE"] = name
    try:
        from tagger.models.genre_model import choose_device

        # Those that fork must not have looked for a GPU before.
        STAGES[name][0](device if name in FORKING else choose_device(device), size)
    except Exception as error:  # whatever it is, the other stages have their turn
        tell("failed", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}")
        sys.exit(1)


def import_what_stages_share() -> None:
    """So that it takes its seconds once; none of it starts a thread or looks for a GPU, which no fork would survive."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import ASTForAudioClassification  # noqa: F401

    import training.learning.network  # noqa: F401

    gc.freeze()  # what is shared is no garbage


def install(wheels: Path, folder: str) -> None:
    """Unpack what the machine lacks where this process and its children look for it."""
    names = [str(wheel) for wheel in sorted(wheels.glob("*.whl"))]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", folder, *names]
    subprocess.run(pip, check=True)
    sys.path.append(folder)  # behind what is there
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), folder]))


def main() -> None:
    """Run the stages, as far as the time goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="a tiny network, seconds in all")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--stages", default=",".join(STAGES), help="some of %(default)s")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels for what the machine lacks")
    options = parser.parse_args()
    ends = time.perf_counter() + 60 * options.minutes
    with TemporaryDirectory() as folder:
        if options.wheels:
            install(options.wheels, folder)
        import_what_stages_share()
        size = TINY if options.tiny else Size()
        # Limits are for a device that is had for minutes; a CPU may be busy.
        limits = {name: 60 * options.minutes if options.tiny else limit for name, (_, limit) in STAGES.items()}
        is_fine = [
            run_stage(name, options.device, size, min(limits[name], ends - time.perf_counter()))
            for name in options.stages.split(",")
        ]
    sys.exit(not all(is_fine))


if __name__ == "__main__":
    main()
