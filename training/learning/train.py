"""Training: from a prepared dataset to a checkpoint and what can be said of it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import ASTFeatureExtractor
from transformers.trainer_utils import get_last_checkpoint

from tagger.audio.decode import SAMPLE_RATE
from tagger.errors import ModelError, OutputError
from tagger.evaluation.metrics import song_artists, song_confidences, song_logits
from tagger.evaluation.predictions import FILE_NAME, Predictions, write_predictions
from tagger.models.description import snippet_seconds
from tagger.models.genre_model import choose_device
from tagger.models.torch_engine import is_out_of_memory, multiply_fast, release_memory
from tagger.models.transformer import TorchLogMel
from tagger.text import first_sentence, one_line
from training.dataset.notebook import NotebookFeatures
from training.dataset.soft_labels import SoftLabels, digest, read_soft_labels
from training.errors import DatasetError, TrainingError
from training.learning.config import TrainConfig
from training.learning.loader import SnippetDataset
from training.learning.network import Network, begin, device_batch
from training.learning.pretrained import quiet_transformers
from training.learning.processes import from_first, is_first_process, is_lost, join, least, n_processes
from training.learning.runs import Run
from training.learning.trainer import (
    SHARED_MEMORY,
    Evaluations,
    GenreTrainer,
    Watch,
    choose_precision,
    peak_memory_gb,
    training_arguments,
)
from training.outcome.calibrate import MinConfidence, fit_min_confidence, fit_temperature, training_values
from training.outcome.evaluations import best_epoch
from training.outcome.metrics import balanced_class_weights
from training.outcome.outcome import Outcome, contents, score_split, write_outcome

if TYPE_CHECKING:
    from training.dataset.data import Prepared

WANDB_PROJECT = "genre_classification"
HELD_OUT = ("validate", "test")


def train_run(
    run: Run, prepared: Prepared, *, device: str = "auto", device_batch: int = 0, wandb: bool = False,
    resume: bool = False, tell: Callable[[str], None] = print,
) -> Outcome | None:  # fmt: skip
    """Train as `run` says, and leave in its folder what came out; None on all devices but the first.

    A device computes `device_batch` snippets at once, or as many as fit its memory, and gathers them to a batch.

    The epoch whose songs of the validate split were named best is kept, temperature and threshold are fitted to that
    split, and only then the test split, if there is one, is classified, once. Raises TrainingError, ModelError,
    DatasetError, OutputError and RunError.
    """
    device = choose_device(device)
    join(device)
    multiply_fast(device)
    began = time.perf_counter()
    tell = _logged(run, tell)
    run = _with_digest(run)
    with quiet_transformers():
        trainer, log_mel, watch = _trained(run, prepared, device, device_batch, wandb, resume, tell)
        logits = {split: trainer.predict_split(prepared, split) for split in HELD_OUT if split in prepared.splits}
    if not trainer.is_world_process_zero():
        return None
    timing_seconds = {"all": time.perf_counter() - began, "training_steps": watch.seconds}
    machine = {
        "device": device,
        "processes": str(trainer.args.world_size),
        **({"training speed": f"{watch.snippets_per_second:.1f} snippets/s"} if watch.n_steps else {}),
        "peak memory": f"{peak_memory_gb():.1f} GB",
    }
    outcome, predictions = conclude(
        run,
        prepared,
        logits,
        trainer.state.log_history,
        trainer.network.trained,
        timing_seconds,
        environment() | machine,
    )
    save_checkpoint(run, trainer.network.trained, log_mel, outcome, prepared)
    write_predictions(run.folder / FILE_NAME, predictions)
    write_outcome(outcome)
    run.tidy()
    if best := best_epoch(outcome.history):
        tell(f"kept: epoch {best[0]:.0f} of {run.config.epochs}, songs {best[1]:.3f} on validate: {run.checkpoint}")
    if wandb:
        _tell_wandb(outcome, predictions)
    return outcome


def _logged(run: Run, tell: Callable[[str], None]) -> Callable[[str], None]:
    """`tell`, with every line also kept in the run's log, with the time (UTC), by the first process."""

    def tell_and_log(line: str) -> None:
        tell(line)
        if is_first_process():
            with run.log.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ} {line}\n")

    return tell_and_log


def _with_digest(run: Run) -> Run:
    """The run, which says what is in its soft labels; TrainingError where it was begun with others."""
    config = run.config
    if not config.soft_labels:
        return run
    found = digest(Path(config.soft_labels))
    if config.soft_labels_sha256 not in ("", found):
        raise TrainingError(config.soft_labels, f"has changed since {run.folder} was begun: begin another run")
    return replace(run, config=replace(config, soft_labels_sha256=found))


def _soft_labels(config: TrainConfig, prepared: Prepared) -> SoftLabels | None:
    """What is to be learned beside the labels of the train split, if anything. Raises DatasetError."""
    if not config.soft_labels:
        return None
    path = Path(config.soft_labels)
    soft_labels = read_soft_labels(path, prepared.genres)
    if not SnippetDataset(prepared, "train", config.crop, soft_labels=soft_labels).n_soft:
        column = soft_labels.song_column
        example = prepared.splits["train"][0][column]
        raise DatasetError(
            path, f"has no row of a snippet to learn from: {column} has to be as in the dataset, like {example!r}"
        )
    return soft_labels


def conclude(
    run: Run, prepared: Prepared, logits: dict[str, np.ndarray], history: list[dict[str, Any]], ast: Any,
    timing_seconds: dict[str, float], machine: dict[str, str],
) -> tuple[Outcome, Predictions]:  # fmt: skip
    """What can be said of a network, from its logits (n_rows, n_genres) of each held-out split."""
    validate = prepared.splits["validate"]
    songs = song_logits(logits["validate"], np.asarray(validate["label"]), validate["song"][:])
    temperature = fit_temperature(songs.logits["mean"], songs.labels)
    artists = song_artists(validate["song"][:], validate["artist"][:])
    threshold = fit_min_confidence(song_confidences(songs.logits["mean"], temperature), songs.correct(), artists)
    predictions = _predictions(prepared, logits, temperature, threshold)
    outcome = Outcome(
        folder=run.folder,
        genres=prepared.genres,
        model=run.config.model,
        n_parameters=sum(parameter.numel() for parameter in ast.parameters()),
        snippet_seconds=prepared.snippet_samples / SAMPLE_RATE,
        argv=run.argv,
        prepare_argv=prepared.argv,
        options=run.config.as_dict(),
        contents={
            name: contents(split["song"], split["artist"], split["label"], split["song_samples"], len(prepared.genres))
            for name, split in prepared.splits.items()
        },
        scores={split: score_split(predictions.of_split(split), run.config.seed) for split in logits},
        temperature=temperature,
        threshold=threshold,
        history=history,
        timing_seconds=timing_seconds,
        environment=machine,
    )
    return outcome, predictions


def _predictions(
    prepared: Prepared, logits: dict[str, np.ndarray], temperature: float, threshold: MinConfidence
) -> Predictions:
    """The log of the splits that were classified."""
    splits = {name: prepared.splits[name] for name in logits}

    def column(name: str, kind: Any) -> np.ndarray:
        return np.concatenate([np.asarray(split[name][:], kind) for split in splits.values()])

    return Predictions(
        genres=prepared.genres,
        temperature=temperature,
        min_confidence=threshold.value,
        splits=np.concatenate([np.full(len(split), name, object) for name, split in splits.items()]),
        songs=column("song", object),
        paths=column("path", object),
        artists=column("artist", object),
        starts_seconds=column("start_seconds", np.float64),
        labels=column("label", np.int64),
        logits=np.concatenate(list(logits.values())),
    )


def save_checkpoint(run: Run, ast: Any, log_mel: TorchLogMel, outcome: Outcome, prepared: Prepared) -> None:
    """Write the folder that `GenreModel.load` takes: whole, or not at all. Raises OutputError."""
    part = run.checkpoint.with_name("checkpoint.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _save_into(part, ast, log_mel, outcome, prepared)
        shutil.rmtree(run.checkpoint, ignore_errors=True)
        part.rename(run.checkpoint)
    except Exception as error:  # a full disk is an error of its own to safetensors
        raise OutputError(run.checkpoint, one_line(error)) from error


def _save_into(folder: Path, ast: Any, log_mel: TorchLogMel, outcome: Outcome, prepared: Prepared) -> None:
    with quiet_transformers():
        ast.save_pretrained(folder)
    ASTFeatureExtractor(
        num_mel_bins=ast.config.num_mel_bins, max_length=log_mel.n_frames, mean=log_mel.mean, std=log_mel.std
    ).save_pretrained(folder)
    training = {
        **training_values(outcome.temperature, outcome.threshold),
        "held_out": dict(zip(outcome.genres, outcome.contents["validate"].n_songs, strict=True)),
        "options": outcome.options,
        "data": {"fingerprint": prepared.fingerprint, "genres": list(prepared.genres)},
        "scores": {split: scored.scores for split, scored in outcome.scores.items()},
        "environment": outcome.environment,
    }
    (folder / "training.json").write_text(json.dumps(training, indent=1), encoding="utf-8")


def environment() -> dict[str, str]:
    """Versions of what decides the numbers."""
    modules = {name: name for name in ("torch", "transformers", "datasets", "numpy")} | {"genre-tag": "tagger"}
    # Of what runs, be it an installed distribution or not.
    versions = {name: str(sys.modules[module].__version__) for name, module in modules.items() if module in sys.modules}
    return {"python": platform.python_version(), **versions}


def _trained(
    run: Run, prepared: Prepared, device: str, at_once: int, wandb: bool, resume: bool, tell: Callable[[str], None]
) -> tuple[GenreTrainer, TorchLogMel, Watch]:
    """The trainer after its work, with the weights of the best epoch; `at_once` is 0 for as many as fit the memory."""
    share = _share(run.config.batch_size, n_processes())
    at_once = _even_part(share, at_once) if at_once else 0
    last = get_last_checkpoint(run.trainer) if resume and run.trainer.is_dir() else None
    while True:  # until a batch fits the memory
        trainer, log_mel = _trainer(run, prepared, device, share, at_once, wandb, tell)
        at_once = trainer.args.per_device_train_batch_size
        watch = Watch(tell, batch_size=run.config.batch_size, slow=device == "cpu")
        trainer.add_callback(watch)
        trainer.add_callback(Evaluations(trainer, run, prepared.genres, wandb=wandb))
        if run.config.epochs == 0:
            return trainer, log_mel, watch
        try:
            trainer.train(resume_from_checkpoint=last)
            return trainer, log_mel, watch
        except RuntimeError as error:
            at_once = _fewer_at_once(error, at_once, share, device)
        finally:
            watch.close()
        tell(f"out of memory: {at_once} snippets at a time from here on, gathered to steps of {run.config.batch_size}")
        last = get_last_checkpoint(run.trainer) if run.trainer.is_dir() else None
        del trainer, log_mel, watch
        release_memory(device)


def _trainer(
    run: Run, prepared: Prepared, device: str, share: int, at_once: int, wandb: bool, tell: Callable[[str], None]
) -> tuple[GenreTrainer, TorchLogMel]:
    """A network at its beginning, and what trains it `at_once` snippets at a time (0: as many as fit the memory).

    Makes the folder of the run when nothing is known to be in the way.
    """
    config, genres = run.config, prepared.genres
    soft_labels = _soft_labels(config, prepared)
    labels = np.asarray(prepared.splits["train"]["label"][:])
    ast, log_mel, knows = begin(config, genres, prepared.snippet_samples, tell)
    check_snippets(config, ast, log_mel, prepared)
    if config.epochs == 0 and not knows:
        raise ModelError(config.model, f"was not trained on these {len(genres)} genres: there is nothing to evaluate")
    from_first(run.begin)
    network = Network(
        ast, log_mel, config, _class_weights(config, labels, len(genres)),
        soft_labels.classes.shape[1] if soft_labels else 0,
    )  # fmt: skip
    fitting = at_once or least(device_batch(ast, config, choose_precision(config, device), share, device))
    arguments = training_arguments(
        run, len(labels), device=device, n_devices=n_processes(), device_batch=fitting,
        snippet_bytes=_snippet_bytes(prepared), wandb=wandb,
    )  # fmt: skip
    arguments._n_gpu = min(1, arguments.n_gpu)  # several are for torchrun: the Trainer would take DataParallel
    trainer = GenreTrainer(network, config, prepared, arguments, soft_labels)
    if soft_labels:
        tell(f"soft labels for {trainer.rows.n_soft} of {len(labels)} snippets")
    if wandb and trainer.is_world_process_zero():
        _begin_wandb(run)
    return trainer, log_mel


def _snippet_bytes(prepared: Prepared) -> int:
    """What a snippet takes on its way from a loader."""
    ready = prepared.features.get("train")
    return 2 * prepared.snippet_samples if ready is None else int(ready[0].nbytes)


def _share(batch_size: int, n_devices: int) -> int:
    """Snippets of a step for each device; TrainingError where they cannot have equally many."""
    if batch_size % n_devices:
        raise TrainingError("", f"--batch-size {batch_size} cannot be shared by {n_devices} devices: take a multiple")
    return batch_size // n_devices


def _class_weights(config: TrainConfig, labels: np.ndarray, n_genres: int) -> torch.Tensor | None:
    """The weight of each genre in the loss, (n_genres,); None where all weigh the same."""
    if not config.class_weights:
        return None
    return torch.tensor(balanced_class_weights(labels, n_genres), dtype=torch.float32)


def _fewer_at_once(error: RuntimeError, at_once: int, share: int, device: str) -> int:
    """How many snippets of a device's share to try at a time after so many were too many for its memory.

    Raises TrainingError where there are no fewer, and where others train too: they are in the midst of a step, and
    cannot go back with this one. Raises any other error again.
    """
    if is_lost(error):
        raise TrainingError("", "another process has ended, whose own message says why") from error
    if "shared memory" in str(error):
        what = f"a loader ended for lack of room in {SHARED_MEMORY}"
        raise TrainingError("", f"{what}: give the container more, as by docker run --shm-size=1g") from error
    if not is_out_of_memory(error):
        raise error
    if at_once == 1:
        raise TrainingError(
            "", f"one snippet does not fit into the memory of {device}: take a smaller --model"
        ) from error
    fewer = _even_part(share, at_once // 2)
    if n_processes() > 1:
        raise TrainingError(
            "", f"{at_once} snippets at once do not fit into the memory of a {device}: try --device-batch {fewer}"
        ) from error
    return fewer


def _even_part(share: int, most: int) -> int:
    """The largest even part of a device's share, of `most` snippets at most."""
    return next(n for n in range(min(share, most), 0, -1) if share % n == 0)


def check_snippets(config: TrainConfig, ast: Any, log_mel: TorchLogMel, prepared: Prepared) -> None:
    """Raise TrainingError unless the model takes the dataset's snippets, and they can be cut as asked for."""
    ready = prepared.features.get("train")
    if ready is not None and config.crop == "random":
        raise TrainingError(
            "", "the dataset's log-mels are ready, of snippets that cannot be cut again: add --crop fixed"
        )
    if isinstance(ready, NotebookFeatures):
        wanted, found = (log_mel.n_frames, ast.config.num_mel_bins), ready.shape[1:]
        if found != wanted:
            raise TrainingError(
                "",
                f"{config.model}: takes log-mels of {wanted[0]} frames and {wanted[1]} mels, and those of the dataset"
                f" have {found[0]} and {found[1]}: --max-length {found[0]} changes the model",
            )
        return
    wants, has = snippet_seconds(log_mel.n_frames), f"{prepared.snippet_samples / SAMPLE_RATE:g}"
    if prepared.snippet_samples != wants * SAMPLE_RATE:
        raise TrainingError(
            "",
            f"{config.model}: classifies snippets of {wants} s, and those of the dataset have {has} s:"
            f" prepare it again with --snippet-seconds {wants}",
        )


def _begin_wandb(run: Run) -> None:
    """Open the log of Weights & Biases, which the Trainer then writes to. Raises TrainingError."""
    os.environ.setdefault("WANDB_PROJECT", WANDB_PROJECT)
    import wandb

    if wandb.run is not None:
        return
    try:
        wandb.init(name=run.folder.name, dir=run.folder, config=run.config.as_dict())
    except Exception as error:  # no key, no network, no space: each has a class of its own
        why = first_sentence(error).rstrip(".")
        raise TrainingError(
            "", f"wandb: {why}: log in by `wandb login`, or keep the log here by WANDB_MODE=offline"
        ) from error


def _tell_wandb(outcome: Outcome, predictions: Predictions) -> None:
    """Log the scores and the confusion matrix of the split to judge by, and close the log."""
    import wandb

    split = outcome.judged
    rows = predictions.of_split(split)
    songs = song_logits(rows.logits, rows.labels, rows.songs)
    scores = {f"{split}/{name}": value for name, value in outcome.scores[split].scores.items()}
    matrix = wandb.plot.confusion_matrix(
        y_true=songs.labels.tolist(), preds=songs.predicted().tolist(), class_names=list(outcome.genres)
    )
    wandb.log({**scores, f"{split}/confusion": matrix})
    wandb.finish()
