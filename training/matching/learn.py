"""A student learns what the teachers answered to the snippets of a pool.

    python -m training.matching.learn pool --model starter/whole --out starter/matched

It goes on from a network that knows the genres. Beside the genres it learns all that the teachers answered, by a layer
that is thrown away. Stopped at any time, the same call goes on from the last of its saved states.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from tagger.models.description import find_checkpoint
from training.learning.augment import Patchout
from training.learning.config import TrainConfig
from training.learning.muon import Muon
from training.learning.network import Network, begin, parameter_groups
from training.learning.pretrained import quiet_transformers
from training.matching.pool import Shard, unpacked
from training.matching.rule import Rule, targets
from training.starter import NothingDoneError
from training.starter.labels import GENRES

BATCH = 64  # snippets to a step
LEFT_OUT = 0.5  # share of the columns of patches that the first steps leave out
WHOLE_FROM = 0.65  # share of the steps from which on nothing is left out
WARM_UP = 20  # steps
LEAST_RATE = 0.02  # of the learning rate, which falls in a straight line
FARTHEST = 6.0  # of what the teachers answered from its mean, in standard deviations
MOST_OFTEN = 4.0  # that a snippet of seldom genres is drawn, against one on average
CLIP = 5.0  # of the gradient
SAVE_EVERY = 50  # steps
STATE = "state.pt"


@dataclass(frozen=True, eq=False)
class Examples:
    """The snippets of a pool and what is to be learned of each."""

    log_mels: list[np.ndarray]  # uint8 (n_frames, n_mels) of each snippet: views, since all are gigabytes
    targets: torch.Tensor  # float32 (n_snippets, n_genres): probabilities
    answers: torch.Tensor  # float16 (n_snippets, n_answers), standardised
    chances: np.ndarray  # (n_snippets,): how often each is drawn

    @classmethod
    def read(cls, folder: Path, rule: Rule) -> Examples:
        """All shards of a folder."""
        shards = [Shard.read(path) for path in sorted(folder.glob("[0-9]*.npz"))]
        if not shards:
            raise NothingDoneError(f"{folder}: no pool of snippets")
        mn04, embeddings, fcn, is_music = (
            np.concatenate([getattr(shard, name) for shard in shards])
            for name in ("mn04", "mn04_embeddings", "fcn", "is_music")
        )
        probabilities = rule.genres(mn04.astype(np.float64), fcn.astype(np.float64))
        seldom = (probabilities / probabilities[is_music].mean(axis=0)).mean(axis=1)
        chances = np.where(is_music, np.minimum(seldom, MOST_OFTEN), 1.0)
        return cls(
            [log_mel for shard in shards for log_mel in shard.log_mels],
            torch.from_numpy(targets(probabilities, is_music).astype(np.float32)),
            torch.from_numpy(_standardised(np.hstack([mn04, embeddings, fcn]))),
            chances / chances.sum(),
        )

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-mels, targets and answers of a step, the same each time."""
        rows = np.random.default_rng([5, step]).choice(len(self.chances), BATCH, p=self.chances)
        log_mels = torch.from_numpy(np.stack([self.log_mels[row] for row in rows]))
        return unpacked(log_mels), self.targets[rows], self.answers[rows].float()


def _standardised(answers: np.ndarray) -> np.ndarray:
    rows = answers.astype(np.float32)
    scaled = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-3)
    return np.clip(scaled, -FARTHEST, FARTHEST).astype(np.float16)


class Student:
    """A network that learns, and all that is needed to go on with it."""

    def __init__(self, model: str, n_answers: int, lr: float) -> None:
        """Raises ModelError."""
        config = TrainConfig(model=model, optimizer="muon", lr=lr, weight_decay=0.02, ema=0.99, augment_p=0.0)
        ast, log_mel, _ = begin(config, list(GENRES))
        ast.set_attn_implementation("eager")  # the backward pass of the fused one takes twice as long on CPUs
        self.patchout = Patchout(ast, n_time=0, n_frequency=0)
        self.network = Network(ast, log_mel, config, None, n_classes=n_answers).train()
        self.optimizer = Muon(parameter_groups(self.network, config), lr=lr, betas=(0.9, 0.98))
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.step = 0

    def learn(self, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], n_steps: int) -> tuple[float, float]:
        """One step of `n_steps`; the losses of genres and of answers."""
        done = self.step / n_steps
        rate = min(1.0, (self.step + 1) / WARM_UP) * max(LEAST_RATE, 1 - done)
        for group, lr in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = lr * rate
        self.patchout.n_time = 0 if done >= WHOLE_FROM else int(LEFT_OUT * self.patchout.n_columns)
        log_mels, targets, answers = batch
        ast, auxiliary = self.network.ast, self.network.auxiliary
        assert auxiliary is not None
        with torch.autocast(log_mels.device.type, torch.bfloat16):
            pooled = ast.audio_spectrogram_transformer(log_mels).pooler_output
        of_genres = F.cross_entropy(ast.classifier(pooled.float()), targets)
        of_answers = (auxiliary(pooled.float()) - answers).square().mean()
        (of_genres + of_answers).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.network.update_average()
        self.step += 1
        return of_genres.item(), of_answers.item()

    def save(self, folder: Path) -> None:
        """Write what `resume` reads."""
        part = folder / f"{STATE}.part"
        torch.save(
            {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}, part
        )
        part.replace(folder / STATE)

    def resume(self, folder: Path) -> None:
        """Go on from what was saved, if anything was."""
        if (folder / STATE).exists():
            state = torch.load(folder / STATE, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def export(self, model: str, folder: Path) -> None:
        """Write the mean of its weights as a checkpoint that `GenreModel.load` takes."""
        with quiet_transformers():
            self.network.trained.save_pretrained(folder)
        shutil.copy(find_checkpoint(model) / "preprocessor_config.json", folder)


@click.command()
@click.argument("pool", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", required=True, help="What it goes on from: a run or a checkpoint of the starter's genres.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER")
@click.option("--steps", type=click.IntRange(min=1), default=1500, show_default=True, help=f"Of {BATCH} snippets.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), default=5e-4, show_default=True)
def learn(pool: Path, model: str, out: Path, steps: int, lr: float) -> None:
    """Let a student learn what the teachers answered to the snippets of POOL; write it to FOLDER/checkpoint."""
    examples = Examples.read(pool, Rule.read())
    student = Student(model, examples.answers.shape[1], lr)
    out.mkdir(parents=True, exist_ok=True)
    student.resume(out)
    for step in tqdm(range(student.step, steps), unit="step", disable=None):
        losses = student.learn(examples.batch(step), steps)
        if student.step % SAVE_EVERY == 0 or student.step == steps:
            student.save(out)
            click.echo(f"step {student.step}: genres {losses[0]:.3f}, answers {losses[1]:.3f}")
    student.export(model, out / "checkpoint")


if __name__ == "__main__":
    learn()
