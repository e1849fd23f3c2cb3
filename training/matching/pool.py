"""A pool of snippets with what the teachers answer to each.

    python -m training.matching.pool DATASET TABLE... --sung FOLDER --teachers FOLDER --out pool

Shards of `N_OF_SHARD` snippets, each drawn by its own number: stopped at any time, the same call goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import click
import numpy as np
import torch
from tqdm import tqdm

from tagger.models.features import LogMel
from training.dataset.data import load_prepared
from training.matching.singing import read_vocals
from training.matching.snippets import snippet
from training.starter.mixes import Sources, find_sources
from training.teachers.fcn import FcnMsd
from training.teachers.mn04 import Mn04

N_OF_SHARD, N_AT_ONCE = 512, 16
N_FRAMES = 512
#: Log-mels are kept in eighths of a bel or finer: a step of a byte is 0.0125, a hundredth of their deviation.
LOWEST, STEPS = -1.6, 80.0
LOG_MEL = LogMel(n_frames=N_FRAMES)


@dataclass(frozen=True, eq=False)
class Shard:
    """Snippets, one row each."""

    log_mels: np.ndarray  # uint8 (n_snippets, N_FRAMES, n_mels): see `unpacked`
    is_music: np.ndarray  # bool
    mn04: np.ndarray  # float16 (n_snippets, 527) logits
    mn04_embeddings: np.ndarray  # float16 (n_snippets, 384)
    fcn: np.ndarray  # float16 (n_snippets, 50) logits

    @classmethod
    def read(cls, path: Path) -> Shard:
        """A shard that `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def save(self, path: Path) -> None:
        """Write it, as a whole."""
        part = path.with_suffix(".part.npz")
        np.savez(part, **{field.name: getattr(self, field.name) for field in fields(self)})
        part.replace(path)


class Teachers:
    """mn04 and FCN-MSD, from a folder with their published variables."""

    def __init__(self, folder: Path) -> None:
        self._mn04, self._fcn = Mn04(folder), FcnMsd(folder)

    def __call__(self, waveforms: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Waveforms (batch, n_samples) to mn04's logits and embeddings and FCN-MSD's logits, float16."""
        answers = (*self._mn04.answer(waveforms), self._fcn(waveforms))
        logits, embeddings, tags = (each.numpy().astype(np.float16) for each in answers)
        return logits, embeddings, tags


def packed(log_mel: np.ndarray) -> np.ndarray:
    """A normalised log-mel as bytes."""
    return np.clip(np.round((log_mel - LOWEST) * STEPS), 0, 255).astype(np.uint8)


def unpacked(log_mels: torch.Tensor) -> torch.Tensor:
    """Bytes as normalised log-mels, float32."""
    return log_mels.float() / STEPS + LOWEST


def make_shard(number: int, sources: Sources, teachers: Teachers, seed: int) -> Shard:
    """The shard of a number: the same snippets each time."""
    rng = np.random.default_rng([seed, number])
    rows: list[tuple[np.ndarray, ...]] = []
    for _ in range(N_OF_SHARD // N_AT_ONCE):
        drawn = [snippet(sources, rng) for _ in range(N_AT_ONCE)]
        waveforms = np.stack([samples for samples, _ in drawn])
        log_mels = np.stack([packed(LOG_MEL(samples)) for samples in waveforms])
        is_music = np.array([music for _, music in drawn])
        rows.append((log_mels, is_music, *teachers(torch.from_numpy(waveforms))))
    return Shard(*map(np.concatenate, zip(*rows, strict=True)))


@click.command()
@click.argument("dataset", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("tables", type=click.Path(exists=True, dir_okay=False, path_type=Path), nargs=-1, required=True)
@click.option(
    "--sung",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Vocals.",
)
@click.option("--teachers", "folder", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER")
@click.option("--shards", type=click.IntRange(min=1), default=60, show_default=True, help="Of 512 snippets each.")
@click.option("--seed", type=int, default=77, show_default=True)
def pool(dataset: Path, tables: tuple[Path, ...], sung: Path, folder: Path, out: Path, shards: int, seed: int) -> None:
    """Make snippets of the songs in DATASET's train split, and ask the teachers about each; what is there stays.

    TABLES, the songs.csv of `corpus` and of `synthesize`, name the songs to take, and tell which of them are speech;
    `singing` made the vocals in --sung.
    """
    sources = replace(find_sources(load_prepared(dataset), *tables), sung=read_vocals(sung))
    teachers = Teachers(folder)
    out.mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(shards), unit="shard", disable=None):
        path = out / f"{number:05}.npz"
        if not path.exists():
            make_shard(number, sources, teachers, seed).save(path)
    click.echo(f"{shards * N_OF_SHARD} snippets in {out}")


if __name__ == "__main__":
    pool()
