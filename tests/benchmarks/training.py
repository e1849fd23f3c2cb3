"""How fast a training is: the loader alone, the network alone, both together, and patchout.

    make bench-train        (OPTIONS="--model new-mini --batch-size 32")

Prints snippets a second as medians of repeats, and ratios from the same run; on a GPU also the share of a measured
matrix product ceiling (operations as `architecture.flops_per_snippet` counts them, three times for a training step).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict
from torch.utils.data import DataLoader

from tagger.audio.decode import SNIPPET_SAMPLES
from tagger.models.architecture import flops_per_snippet
from tagger.models.genre_model import choose_device
from tagger.models.transformer import DTYPES
from training.dataset.waveforms import Waveforms, shard_path
from training.learning.config import configure
from training.learning.loader import EpochSampler, SnippetDataset, as_they_are
from training.learning.network import Network, begin, parameter_groups
from training.learning.runs import Run
from training.learning.trainer import choose_precision, training_arguments

GENRES = tuple(f"Genre {number}" for number in range(10))
SONG_SAMPLES = 4 * SNIPPET_SAMPLES
N_SONGS = 300
SIDE, CUDA_SIDE = 2048, 8192  # of the matrices whose product is the ceiling


def waveforms(folder: Path) -> Waveforms:
    """Songs of noise on disk, memory-mapped, as a prepared dataset has them."""
    rng = np.random.default_rng(0)
    song = (rng.standard_normal(SONG_SAMPLES) * 3000).astype("<i2").tobytes()
    shard = shard_path(folder, 0)
    shard.parent.mkdir()
    with shard.open("wb") as file:
        file.writelines(song for _ in range(N_SONGS))
    return Waveforms(folder)


def dataset(folder: Path) -> Any:
    """As `load_prepared` gives them, four snippets a song."""
    firsts = [song * SONG_SAMPLES + snippet * SNIPPET_SAMPLES for song in range(N_SONGS) for snippet in range(4)]
    rows = {
        "label": [number % len(GENRES) for number in range(len(firsts))],
        "shard": [0] * len(firsts),
        "first": firsts,
        "song_first": [first - first % SONG_SAMPLES for first in firsts],
        "song_samples": [SONG_SAMPLES] * len(firsts),
        "song": [str(first // SONG_SAMPLES) for first in firsts],
    }
    train = Dataset.from_dict(rows).cast_column("label", ClassLabel(names=list(GENRES)))
    return SimpleNamespace(
        splits=DatasetDict(train=train),
        waveforms=waveforms(folder),
        features={},
        snippet_samples=SNIPPET_SAMPLES,
        genres=GENRES,
    )


def speed(batches: Iterator[Any], step: Callable[[Any], None], n_batches: int, batch_size: int, device: str) -> float:
    """Snippets a second, the median over three runs of `n_batches`."""
    seconds = []
    step(next(batches))
    for _ in range(3):
        wait(device)
        began = time.perf_counter()
        for batch in islice(batches, n_batches):
            step(batch)
        wait(device)
        seconds.append(time.perf_counter() - began)
    return n_batches * batch_size / statistics.median(seconds)


def moved(batch: Any, device: str) -> Any:
    """A batch on a device, the partners of its snippets among it."""
    if isinstance(batch, dict):
        return {name: moved(each, device) for name, each in batch.items()}
    return batch.to(device, non_blocking=True)


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def ceiling(device: str, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product."""
    n = CUDA_SIDE if device.startswith("cuda") else SIDE
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    seconds = []
    for _ in range(7):
        wait(device)
        began = time.perf_counter()
        a @ b
        wait(device)
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / statistics.median(seconds)


@click.command()
@click.option("--model", default="new-mini", show_default=True)
@click.option("--batch-size", default=16, show_default=True)
@click.option("--batches", default=6, show_default=True, help="Of each measurement.")
@click.option("--device", default="auto", show_default=True)
def benchmark(model: str, batch_size: int, batches: int, device: str) -> None:
    """Measure and print."""
    device = choose_device(device)
    with tempfile.TemporaryDirectory() as folder:
        prepared = dataset(Path(folder))
        for name, options in (
            ("seed", {}),
            ("v2", {}),
            ("v2 without patchout", {"patchout": 0.0, "frequency_patchout": 0.0}),
        ):
            config = configure(name.split()[0], model=model, batch_size=batch_size, **options)
            ast, log_mel, _ = begin(config, GENRES)
            network = Network(ast, log_mel, config, None).to(device).train()
            optimizer = torch.optim.AdamW(parameter_groups(network, config), fused=True)
            precision = choose_precision(config, device)
            scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")

            def step(batch: Any, network=network, optimizer=optimizer, precision=precision, scaler=scaler) -> None:
                batch = moved(batch, device)
                with torch.autocast(device.split(":")[0], DTYPES[precision], enabled=precision != "fp32"):
                    loss = network(**batch)["loss"]
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()

            rows = SnippetDataset(prepared, "train", config.crop)
            arguments = training_arguments(Run(Path(folder), config, "", ()), len(rows), device=device)
            loader = DataLoader(
                rows, batch_size, sampler=EpochSampler(len(rows), 0, mixup=config.mixup), drop_last=True,
                collate_fn=as_they_are, num_workers=arguments.dataloader_num_workers,
                pin_memory=arguments.dataloader_pin_memory,
                persistent_workers=arguments.dataloader_persistent_workers,
            )  # fmt: skip

            def endless(loader=loader) -> Iterator[Any]:
                while True:
                    yield from loader

            held = list(islice(endless(), 2))
            alone = speed(endless(), lambda batch: None, 10 * batches, batch_size, device)
            network_alone = speed(cycle(held), step, batches, batch_size, device)
            together = speed(endless(), step, batches, batch_size, device)
            share = 3 * network_alone * flops_per_snippet(ast.config) / ceiling(device, DTYPES[precision])
            without = "" if config.patchout else f", {share:.0%} of the {precision} matrix product ceiling"
            click.echo(
                f"{name}: loader {alone:.0f}, network {network_alone:.1f}, together {together:.1f} snippets/s"
                f" ({together / min(alone, network_alone):.2f} of the slower{without})"
            )


if __name__ == "__main__":
    benchmark()
