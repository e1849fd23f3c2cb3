"""transformers' Trainer as this project uses it: its arguments, its rows, its optimizer, and what it tells."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import distributed
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from tagger.audio.workers import rss_bytes, usable_cores
from tagger.evaluation.metrics import confused_pairs, confusion, song_logits
from tagger.models.torch_engine import computes_bf16
from tagger.text import duration_text
from training.errors import TrainingError
from training.learning.config import TrainConfig
from training.learning.loader import EpochSampler, SnippetDataset, as_they_are, sqrt_weights
from training.learning.muon import Muon
from training.learning.network import Network, parameter_groups
from training.learning.runs import Run
from training.outcome.evaluations import write_evaluation
from training.outcome.metrics import scores

if TYPE_CHECKING:
    from training.dataset.data import Prepared
    from training.dataset.soft_labels import SoftLabels

SHARED_MEMORY = "/dev/shm"
MOST_WORKERS = 4
BATCHES_AHEAD = 3  # of each worker: two that torch keeps ready, and the one that is made
LEAST_LR = 0.01  # share of the lr that the cosine ends at


def training_arguments(
    run: Run, n_rows: int, *, device: str = "cpu", n_devices: int = 1, device_batch: int = 0, snippet_bytes: int = 0,
    wandb: bool = False,
) -> TrainingArguments:  # fmt: skip
    """What transformers' Trainer is told; `device_batch` snippets at once (0: all of a batch), the rest accumulated."""
    config, precision = run.config, choose_precision(run.config, device)
    n_rows = max(n_rows, least_rows(config))
    per_device = config.batch_size // n_devices
    at_once = min(device_batch or per_device, per_device)
    workers = 0 if device == "cpu" else n_workers(at_once * snippet_bytes * (1 + config.mixup))
    return TrainingArguments(
        output_dir=str(run.trainer),
        run_name=run.folder.name,
        report_to=["wandb"] if wandb else [],
        num_train_epochs=config.epochs,
        per_device_train_batch_size=at_once,
        per_device_eval_batch_size=at_once,
        gradient_accumulation_steps=max(1, per_device // at_once),
        learning_rate=config.lr,
        weight_decay=config.weight_decay,
        warmup_steps=round(n_rows / config.batch_size * config.warmup_epochs),
        lr_scheduler_type="linear" if config.schedule == "linear" else "cosine_with_min_lr",
        lr_scheduler_kwargs=None if config.schedule == "linear" else {"min_lr_rate": LEAST_LR},
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="mean_pooling_score",
        greater_is_better=True,
        save_total_limit=3,
        logging_strategy="steps",
        logging_steps=config.log_steps,
        logging_nan_inf_filter=False,  # a loss that is no number is to be seen
        push_to_hub=False,
        seed=config.seed,
        use_cpu=device == "cpu",
        label_names=["labels", "rows"],  # rows come back with the logits, so that songs survive any order
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        average_tokens_across_devices=True,  # losses of devices are parts of the global batch's: summed, not averaged
        dataloader_pin_memory=device.startswith("cuda"),
        accelerator_config={"non_blocking": device.startswith("cuda")},
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # all have the same, and would wait for each other before every part of a batch
        log_level="error",
        disable_tqdm=True,
    )


def least_rows(config: TrainConfig) -> int:
    """Snippets that an epoch has to have at least for all epochs to make `min_steps`."""
    return math.ceil(config.min_steps / config.epochs) * config.batch_size if config.epochs else 0


def n_workers(batch_bytes: float) -> int:
    """Processes that load snippets for a device: as many as have work, and cores, and room for what they hand over.

    Batches go through /dev/shm, of which a container has 64 MB unless it is told otherwise; where it is full, a loader
    dies of a bus error. 0: the training loads them itself.
    """
    cores = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    room = shutil.disk_usage(SHARED_MEMORY).free if os.path.isdir(SHARED_MEMORY) else math.inf
    n_fitting = room // (batch_bytes * BATCHES_AHEAD) if batch_bytes else math.inf
    return int(min(MOST_WORKERS, cores, n_fitting))


def choose_precision(config: TrainConfig, device: str) -> str:
    """Number format of the transformer in training: as asked for, else what the recipe wants and the device has.

    The seed's fp16 needs a scaler for its gradients and a CUDA device; bf16 needs neither.
    """
    if config.precision != "auto":
        if config.precision == "fp16" and not device.startswith("cuda"):
            raise TrainingError("", "--precision fp16 trains on CUDA devices only: use auto, fp32 or bf16")
        return config.precision
    if config.recipe == "seed":
        return "fp16" if device.startswith("cuda") else "fp32"
    if computes_bf16(device):
        return "bf16"
    return "fp16" if device.startswith("cuda") else "fp32"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How the songs of validate were classified."""

    confusion: np.ndarray  # (n_genres, n_genres) songs, row = reference, by the mean of logits
    scores: dict[str, float]  # as training.outcome.metrics.scores names them


class GenreTrainer(Trainer):
    """transformers' Trainer with rows drawn per epoch, and a learning rate for each depth."""

    def __init__(
        self,
        network: Network,
        config: TrainConfig,
        prepared: Prepared,
        args: TrainingArguments,
        soft_labels: SoftLabels | None = None,
    ) -> None:
        self.network, self.config = network, config
        self.rows = SnippetDataset(prepared, "train", config.crop, config.seed, soft_labels)
        validate = SnippetDataset(prepared, "validate")
        self.labels = np.asarray(prepared.splits["train"]["label"][:])
        songs = np.asarray(prepared.splits["validate"]["song"][:])

        self.evaluation: Evaluation | None = None  # the last

        def compute_metrics(answer: Any) -> dict[str, float]:
            labels, rows = answer.label_ids
            found = scores(answer.predictions, labels, songs[rows], prepared.genres)
            of_songs = song_logits(answer.predictions, labels, songs[rows])
            self.evaluation = Evaluation(confusion(of_songs.labels, of_songs.predicted(), len(prepared.genres)), found)
            return found

        super().__init__(
            model=network,
            args=args,
            data_collator=as_they_are,
            train_dataset=self.rows,
            eval_dataset=validate,
            compute_metrics=compute_metrics,
        )
        set_seed(config.seed + args.process_index)  # all have the same network: from here on each has its own chance
        self._n_batches = 0  # since the loss was last logged
        for noisy in (PrinterCallback, ProgressCallback):
            self.remove_callback(noisy)

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        weights = sqrt_weights(self.labels) if self.config.sampler == "sqrt" else None
        n_devices = self.args.world_size
        multiple = n_devices * self.args.per_device_train_batch_size if n_devices > 1 else 1
        finish = self.config.epochs - self.config.finish_epochs
        sampler = EpochSampler(
            len(self.labels), self.config.seed, weights,
            mixup=self.config.mixup, unmixed_from=finish, least=least_rows(self.config), multiple=multiple,
        )  # fmt: skip
        self.add_callback(Order(sampler, self.network, finish))
        return sampler

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor]:
        """The parts of a global batch that this device computes, and the weight of all of it, `Network.weight`."""
        parts = list(islice(epoch_iterator, num_batches))
        self._n_batches += 1
        weight = torch.zeros(2, device=device)
        for part in parts:
            weight += self.network.weight(part["labels"].to(device))
        if self.args.world_size > 1:
            distributed.all_reduce(weight)
        return parts, weight

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> None:
        """Of evaluation: a batch is its own mean."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW or Muon over `parameter_groups`."""
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            if self.config.optimizer == "muon":
                kind, options = Muon, {name: options[name] for name in ("lr", "betas", "eps")}
            self.optimizer = kind(parameter_groups(self.network, self.config), **options)
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and beside the loss the parts it is the sum of, where there are several: means over the steps."""
        if "loss" in logs and self.network.losses:
            parts = torch.stack(self.network.losses).sum(dim=0)
            if self.args.world_size > 1:
                distributed.all_reduce(parts)
            logs |= dict(zip(("genre_loss", "auxiliary_loss"), (parts / self._n_batches).tolist(), strict=True))
        if "loss" in logs:
            self.network.losses.clear()
            self._n_batches = 0
        super().log(logs, start_time)

    def predict_split(self, prepared: Prepared, split: str) -> np.ndarray:
        """Logits (n_rows, n_genres) of the rows of a split, in their order."""
        self.compute_metrics = None
        answer: Any = self.predict(SnippetDataset(prepared, split))
        _, rows = answer.label_ids
        logits = np.empty((len(prepared.splits[split]), len(prepared.genres)), np.float32)
        if sorted(rows) != list(range(len(logits))):
            raise RuntimeError(f"{len(set(rows))} rows came back of {len(logits)}")
        logits[rows] = answer.predictions
        return logits


class Order(TrainerCallback):
    """Takes the rows to each epoch: not every accelerate finds their sampler where several processes train.

    From the epoch `finish` on, counted from 0, they are whole.
    """

    def __init__(self, sampler: EpochSampler, network: Network, finish: int) -> None:
        self.sampler, self.network, self.finish = sampler, network, finish

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Go to the epoch that begins."""
        epoch = round(state.epoch or 0)
        self.sampler.set_epoch(epoch)
        self.network.leave_out_patches(epoch < self.finish)


class Evaluations(TrainerCallback):
    """Keeps what each evaluation showed in the folder of the run, and in Weights & Biases where that is asked for."""

    def __init__(self, trainer: GenreTrainer, run: Run, genres: Sequence[str], *, wandb: bool) -> None:
        self.trainer, self.run, self.genres, self.wandb = trainer, run, genres, wandb

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the evaluation that is done; raises OutputError."""
        found = self.trainer.evaluation
        if not state.is_world_process_zero or found is None:
            return
        picture = write_evaluation(self.run.folder, state.epoch, self.genres, found.confusion, found.scores)
        if self.wandb:
            import wandb

            pairs = [
                [pair.reference, pair.predicted, pair.share] for pair in confused_pairs(found.confusion, self.genres)
            ]
            table = wandb.Table(columns=["True Class", "Predicted Class", "Confusion Value"], data=pairs)
            wandb.log(
                {
                    "eval/confusion": wandb.Image(str(picture)),
                    "eval/confused_pairs": table,
                    "train/global_step": state.global_step,
                }
            )


class Watch(TrainerCallback):
    """Keeps the running mean of the weights, a progress bar, and a line for each epoch."""

    def __init__(self, tell: Callable[[str], None], *, batch_size: int, slow: bool) -> None:
        self.tell, self.batch_size, self.slow = tell, batch_size, slow
        self.losses: list[float] = []
        self.bar: tqdm | None = None
        self.epoch_began = self.estimated_from = 0.0
        self.seconds = 0.0  # spent on training steps
        self.n_steps = 0

    @property
    def snippets_per_second(self) -> float:
        """Speed of the whole epochs so far, evaluation left out."""
        return self.n_steps * self.batch_size / self.seconds if self.seconds else 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show how far it is."""
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", leave=False, disable=None)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self.epoch_began = time.perf_counter()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Move the running mean of the weights on."""
        others["model"].update_average()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count; on a CPU, tell how long it will take as soon as it can be told."""
        self.n_steps += 1
        if self.bar is not None:
            self.bar.update()
        if self.slow and self.n_steps == 1:  # the first one also warms up
            self.estimated_from = time.perf_counter()
        if self.slow and self.n_steps == 3:
            each = (time.perf_counter() - self.estimated_from) / 2
            remaining = each * (state.max_steps - state.global_step)
            speed = f"{self.batch_size / each:.1f} snippets/s"
            self.tell(f"about {duration_text(remaining)} to go, {speed}, evaluation not counted")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Watch the loss."""
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                "", f"the loss is no finite number at step {state.global_step}: try a smaller --lr, or --precision fp32"
            )
        self.losses.append(logs["loss"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clock."""
        self.seconds += time.perf_counter() - self.epoch_began

    def on_evaluate(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """One line."""
        metrics = others["metrics"]
        self.tell(
            f"epoch {state.epoch:.0f}/{args.num_train_epochs:.0f}  loss {np.mean(self.losses[-50:] or [math.nan]):.3f}"
            f"  validate: loss {metrics['eval_loss']:.3f}, snippets {metrics['eval_accuracy']:.3f},"
            f" songs {metrics['eval_mean_pooling_score']:.3f}"
            f"  {self.snippets_per_second:.1f} snippets/s  {peak_memory_gb():.1f} GB"
        )

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the bar away."""
        self.close()

    def close(self) -> None:
        """Take the bar away, also where training ends otherwise."""
        if self.bar is not None:
            self.bar.close()


def peak_memory_gb() -> float:
    """Most memory this process has had: of the GPU where one is used, else of the machine."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e9
    with suppress(ImportError):  # Windows has no such module
        import resource

        return rss_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1e9
    return math.nan
