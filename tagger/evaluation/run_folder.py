"""Folders of training runs: which there are, and what one of them says of the songs of a split."""

from __future__ import annotations

import json
import logging
import math
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tagger.errors import RunError
from tagger.evaluation.metrics import SongLogits, song_artists, song_logits
from tagger.evaluation.predictions import FILE_NAME, SPLITS, Predictions, read_predictions
from tagger.pipeline.aggregate import softmax

logger = logging.getLogger(__name__)

RUNS = Path("runs")  # where `genre-tag train` puts them
RECORD = "run.json"  # what was asked for: written first
FINISHED = "metrics.json"  # written last
VERSION = 1  # of metrics.json
_MARKS = (FILE_NAME, FINISHED, RECORD)  # no folder of music holds any


def is_run(folder: Path) -> bool:
    """Whether a training was begun in this folder."""
    return any((folder / name).is_file() for name in _MARKS)


def runs_in(folder: Path) -> list[Path]:
    """The finished runs in a folder, by name; [] where there are none."""
    return sorted(path.parent for path in folder.glob(f"*/{FINISHED}") if (path.parent / FILE_NAME).is_file())


def newest_run(folder: Path = RUNS) -> Path:
    """The run in `folder` that was finished last; raises RunError when there is none."""
    finished = runs_in(folder)
    if finished:
        return max(finished, key=lambda run: ((run / FINISHED).stat().st_mtime, run.name))
    if any(map(is_run, folder.glob("*"))):
        raise RunError(folder, "no run in there is finished: genre-tag train --resume goes on with the newest")
    raise RunError(folder, "no run there yet: train one (genre-tag train), or name a run folder, or a folder of music")


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """The songs of one split as a run classified them; rows are in the order of `songs.songs`."""

    folder: Path
    split: str
    rows: Predictions
    songs: SongLogits
    told: dict[str, Any]  # metrics.json, {} where there is none to be had
    doubt: str  # why there is none; "" when there is

    @property
    def temperature(self) -> float:
        """Divides mean logits; 1 where none was fitted."""
        return self.rows.temperature or 1.0

    @property
    def min_confidence(self) -> float:
        """Least confidence at which a genre is written by default; math.inf: none is."""
        return (
            0.5 if self.rows.min_confidence is None else self.rows.min_confidence
        )  # as tagger.pipeline.aggregate.decide

    @property
    def seed(self) -> int:
        """That of the training, so that intervals are the same wherever the run is told of."""
        seed = told(self.told, "options", "seed")
        return seed if isinstance(seed, int) and seed >= 0 else 0

    @cached_property
    def artists(self) -> np.ndarray:
        """Which songs are of one artist, (n_songs,): intervals draw them at once."""
        return song_artists(self.rows.songs, self.rows.artists)

    @property
    def references(self) -> np.ndarray:
        """The genre each song is of, (n_songs,) str."""
        genres: np.ndarray = np.array(self.rows.genres, object)[self.songs.labels]
        return genres

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(n_songs, n_genres), at the fitted temperature, from the mean of logits."""
        return softmax(self.songs.logits["mean"] / self.temperature)

    @cached_property
    def rows_of(self) -> list[np.ndarray]:
        """The rows of each song."""
        _, song, counts = np.unique(self.rows.songs, return_inverse=True, return_counts=True)
        return np.split(np.argsort(song, kind="stable"), np.cumsum(counts)[:-1])


def told(values: Any, *keys: str) -> Any:
    """The value at the end of keys, None where there is none: nobody vouches for what a file holds."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def epochs_of(metrics: dict[str, Any]) -> list[dict[str, float]]:
    """What was measured after each epoch of a run, from its metrics.json: `epoch`, `loss` and scores of validate by
    the names of `training.outcome.metrics`, and `train_loss`, the mean of what was logged meanwhile; [] where that is
    not told.
    """
    history = told(metrics, "history")
    entries = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    logged = [{name: value for name, value in entry.items() if _is_number(value)} for entry in entries]
    losses = [(entry["epoch"], entry["loss"]) for entry in logged if {"epoch", "loss"} <= set(entry)]
    epochs: list[dict[str, float]] = []
    for entry in logged:
        if not {"epoch", "eval_loss"} <= set(entry):
            continue
        before = epochs[-1]["epoch"] if epochs else 0.0
        meanwhile = [loss for epoch, loss in losses if before < epoch <= entry["epoch"]]
        row = {name.removeprefix("eval_"): float(value) for name, value in entry.items()}
        epochs.append(row | ({"train_loss": sum(meanwhile) / len(meanwhile)} if meanwhile else {}))
    return epochs


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_split(folder: Path, split: str) -> SplitPredictions:
    """A split of a run. Raises RunError and RunError."""
    if not (folder / FILE_NAME).is_file():
        if not is_run(folder):
            raise RunError(folder, f"no run folder: no {FILE_NAME} in there")
        go_on = f"genre-tag train --resume --out {shlex.quote(str(folder))}"
        raise RunError(folder, f"no {FILE_NAME}: not finished ({go_on}), or of an older genre-tag (train again)")
    log = read_predictions(folder / FILE_NAME)
    rows = log.of_split(split)
    if not len(rows.labels):
        others = " and ".join(name for name in SPLITS if name in set(log.splits))
        raise RunError(folder / FILE_NAME, f"no songs of the {split} split, only of {others}")
    metrics, doubt = _read_metrics(folder / FINISHED)
    return SplitPredictions(folder, split, rows, song_logits(rows.logits, rows.labels, rows.songs), metrics, doubt)


def _read_metrics(path: Path) -> tuple[dict[str, Any], str]:
    """What metrics.json tells beside the log, and why it tells nothing: the log suffices for all scores."""
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, "no metrics.json: the training did not end well"
    except (OSError, ValueError, RecursionError):
        logger.debug("%s", path, exc_info=True)
        return {}, "metrics.json cannot be read: what is told here comes from the log alone"
    if told(metrics, "format") != "genre-tag metrics" or told(metrics, "version") != VERSION:
        return {}, "metrics.json is of another version: what is told here comes from the log alone"
    return metrics, ""
