"""What a run leaves for people: its scores as JSON and as pictures, and a model card made of the same numbers."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tagger.atomic import replacing
from tagger.audio.decode import SAMPLE_RATE
from tagger.errors import OutputError
from tagger.evaluation.metrics import (
    Calibration,
    Interval,
    calibration,
    confused_pairs,
    confusion,
    interval,
    song_artists,
    song_logits,
)
from tagger.evaluation.predictions import SPLITS, Predictions
from tagger.evaluation.run_folder import FINISHED, VERSION
from tagger.report.document import Matrix
from tagger.report.plots import confusion_figure, png
from training.outcome.calibrate import MinConfidence, training_values
from training.outcome.card import model_card
from training.outcome.evaluations import best_epoch
from training.outcome.metrics import SONG_SCORES, scores_of_songs, snippet_scores

N_SMOOTH = 40  # a running mean is drawn over so many pieces of a training
#: Colours that people with any colour blindness tell apart (Okabe and Ito 2008, "Color Universal Design").
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


@dataclass(frozen=True)
class Contents:
    """What a split holds."""

    n_songs: tuple[int, ...]  # of each genre, (n_genres,)
    n_snippets: int
    artists: frozenset[str]  # in lower case; "" is none
    n_nameless: int  # songs without an artist
    hours: float  # length of the songs


def contents(
    songs: Sequence[str], artists: Sequence[str], labels: Sequence[int], song_samples: Sequence[int], n_genres: int
) -> Contents:
    """What the rows of a split hold, a snippet each; the columns are those of the dataset, (n_rows,)."""
    artists = artists[:]  # all at once: datasets are slow row by row
    _, first = np.unique(np.asarray(songs[:], object), return_index=True)
    of_songs = [" ".join(artists[row].casefold().split()) for row in first]
    return Contents(
        n_songs=tuple(np.bincount(np.asarray(labels[:], np.int64)[first], minlength=n_genres).tolist()),
        n_snippets=len(songs),
        artists=frozenset(of_songs) - {""},
        n_nameless=of_songs.count(""),
        hours=float(np.asarray(song_samples[:], np.int64)[first].sum()) / SAMPLE_RATE / 3600,
    )


@dataclass(frozen=True, eq=False)
class SplitScores:
    """How well the songs of a split were classified."""

    scores: Mapping[str, float]  # as training.outcome.metrics.scores names them
    intervals: Mapping[str, Interval]  # of the song scores
    confusion: np.ndarray  # (n_genres, n_genres) songs, row = reference, by the mean of logits
    calibration: Calibration


def score_split(predictions: Predictions, seed: int) -> SplitScores:
    """The scores of one split, from its rows in the log of a run whose temperature and threshold are fitted."""
    if predictions.temperature is None or predictions.min_confidence is None:
        raise ValueError("no temperature or threshold: fit them first")
    rows = predictions.logits, predictions.labels, predictions.songs
    songs, artists = song_logits(*rows), song_artists(predictions.songs, predictions.artists)
    return SplitScores(
        scores=snippet_scores(predictions.logits, predictions.labels) | scores_of_songs(songs, predictions.genres),
        intervals={score: interval(songs.correct(name), artists, seed) for name, score in SONG_SCORES.items()},
        confusion=confusion(songs.labels, songs.predicted(), len(predictions.genres)),
        calibration=calibration(
            songs.logits["mean"], songs.labels, predictions.temperature, predictions.min_confidence
        ),
    )


@dataclass(frozen=True, eq=False)
class Outcome:
    """All that is told of a run. ValueError where its parts contradict each other."""

    folder: Path  # of the run, as the user wrote it
    genres: tuple[str, ...]
    model: str  # what the network began as: a hub id, a folder, a name of training.learning.config.NEW_MODELS
    n_parameters: int
    snippet_seconds: float  # length of what it takes
    argv: tuple[str, ...]  # what the user typed
    prepare_argv: tuple[str, ...]  # to make the dataset; () where an earlier version made it, and did not keep it
    options: Mapping[str, Any]
    contents: Mapping[str, Contents]  # of every split
    scores: Mapping[str, SplitScores]  # of validate, and of test where there is one
    temperature: float
    threshold: MinConfidence
    history: Sequence[Mapping[str, Any]]  # log of transformers' Trainer: state.log_history
    timing_seconds: Mapping[str, float]
    environment: Mapping[str, str]

    def __post_init__(self) -> None:
        if not {"train", *self.scores} <= set(self.contents) <= set(SPLITS) or "validate" not in self.scores:
            raise ValueError(f"splits: contents of {list(self.contents)}, scores of {list(self.scores)}")
        for split, held in self.contents.items():
            if len(held.n_songs) != len(self.genres):
                raise ValueError(f"{split}: {len(held.n_songs)} numbers of songs for {len(self.genres)} genres")
        for split, scored in self.scores.items():
            if tuple(scored.confusion.sum(axis=1)) != self.contents[split].n_songs:
                raise ValueError(f"{split}: the confusion has not as many songs of each genre as the split")
            for score in SONG_SCORES.values():
                low, high = scored.intervals[score]
                if not 0 <= low <= high <= 1 or not 0 <= scored.scores[score] <= 1:
                    raise ValueError(f"{split}: {score} {scored.scores[score]} ({low} to {high}) is no share")

    @property
    def judged(self) -> str:
        """The split to judge by."""
        return "test" if "test" in self.scores else "validate"

    @property
    def is_trained(self) -> bool:
        """Whether a step was made, not only an evaluation."""
        return any("loss" in entry for entry in self.history)

    @property
    def shared_artists(self) -> tuple[str, ...]:
        """Artists that are in more than one split: their songs make the scores too high."""
        found = [artist for held in self.contents.values() for artist in held.artists]
        return tuple(sorted(artist for artist in set(found) if found.count(artist) > 1))


def write_outcome(outcome: Outcome) -> None:
    """Write confusion.png, MODEL_CARD.md and, of what was trained, training.png into the run's folder, and metrics.json
    when all else is there: a run that has one is finished. Raises OutputError.
    """
    matrix = outcome.scores[outcome.judged].confusion
    title = f"{outcome.judged}: {matrix.sum()} songs, {np.trace(matrix)} right"
    files = {
        "confusion.png": png(confusion_figure(Matrix("confusion", title, outcome.genres, outcome.genres, matrix))),
        # A path that is not UTF-8 holds what UTF-8 cannot: lone surrogates.
        "MODEL_CARD.md": model_card(outcome).encode("utf-8", "backslashreplace"),
    }
    if outcome.is_trained:
        files["training.png"] = png(training_figure(outcome.history))
    files[FINISHED] = json.dumps(metrics(outcome), indent=1, allow_nan=False).encode()
    for name, data in files.items():
        try:
            with replacing(outcome.folder / name) as file:
                file.write(data)
        except OSError as error:
            raise OutputError(outcome.folder / name, error.strerror or str(error)) from error


def metrics(outcome: Outcome) -> dict[str, Any]:
    """The numbers of a run as JSON has them; what is no finite number is null."""
    threshold = training_values(outcome.temperature, outcome.threshold)
    values = {
        "format": "genre-tag metrics",
        "version": VERSION,
        "genres": outcome.genres,
        "scores": {split: scored.scores for split, scored in outcome.scores.items()},
        "intervals": {split: scored.intervals for split, scored in outcome.scores.items()},
        "counts": {
            split: {
                "songs": sum(held.n_songs),
                "snippets": held.n_snippets,
                "artists": len(held.artists),
                "songs_without_artist": held.n_nameless,
                "hours": round(held.hours, 3),
                "songs_of": dict(zip(outcome.genres, held.n_songs, strict=True)),
            }
            for split, held in outcome.contents.items()
        },
        "shared_artists": len(outcome.shared_artists),
        "confusion": {split: scored.confusion for split, scored in outcome.scores.items()},
        "confused_pairs": {
            split: confused_pairs(scored.confusion, outcome.genres) for split, scored in outcome.scores.items()
        },
        "calibration": threshold | {split: scored.calibration for split, scored in outcome.scores.items()},
        "model": outcome.model,
        "n_parameters": outcome.n_parameters,
        "command": outcome.argv,
        "options": outcome.options,
        "best_epoch": best[0] if (best := best_epoch(outcome.history)) else None,
        "history": list(outcome.history),
        "timing_seconds": outcome.timing_seconds,
        "environment": outcome.environment,
    }
    plain: dict[str, Any] = _plain(values)
    return plain


def _plain(value: Any) -> Any:
    """A value in the types of JSON; TypeError for what has none."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{value!r} has no place in JSON")


def training_figure(history: Sequence[Mapping[str, Any]]) -> Figure:
    """A picture of a training, from the log of transformers' Trainer: loss, scores on validate, and learning rate.

    The dotted line is the epoch that is kept. What is not in the log, or no finite number, is not drawn.
    """
    with style.context("default"):
        figure = Figure(figsize=(8, 8), layout="constrained")
        losses, shares, rates = figure.subplots(3, sharex=True, height_ratios=[2, 2, 1])
        epochs, values = _series(history, "loss")
        width = max(1, len(values) // N_SMOOTH)
        losses.plot(epochs, values, color=BLUE, alpha=0.35 if width > 1 else 1, linewidth=1, label="train")
        if width > 1:
            means = np.convolve(values, np.ones(width) / width, "valid")
            losses.plot(epochs[width - 1 :], means, color=BLUE, label=f"train, mean of {width} in a row")
        losses.plot(*_series(history, "eval_loss"), color=ORANGE, marker="o", label="validate")
        epochs, values = _series(history, "eval_mean_pooling_score")
        shares.plot(epochs, values, color=BLUE, marker="o", label="songs, mean of logits")
        shares.plot(*_series(history, "eval_accuracy"), color=ORANGE, marker="s", linestyle="--", label="snippets")
        shares.plot(*_series(history, "eval_f1"), color=GREEN, marker="^", linestyle=":", label="snippets, F1")
        rates.plot(*_series(history, "learning_rate"), color="black", label="learning rate")
        for axes in (losses, shares, rates):
            if len(values):
                axes.axvline(epochs[values.argmax()], color="black", linestyle=":", linewidth=1)
            axes.grid(color="0.9")
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_ylim(bottom=0)
        shares.set_ylim(top=1)
        if len(values):
            shares.set_title(f"kept: epoch {epochs[values.argmax()]:g}, {values.max():.3f} accuracy", size=10)
        losses.set_ylabel("loss (cross-entropy)")
        shares.set_ylabel("accuracy on validate")
        rates.set_ylabel("learning rate")
        rates.set_xlabel("epoch")
        rates.set_xlim(left=0)
        rates.xaxis.set_major_locator(MaxNLocator(integer=True))
        losses.legend(frameon=False)
        shares.legend(frameon=False)
    return figure


def _series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values of what is logged under a key, as far as it is finite, in the order of time."""
    found = [(entry["epoch"], entry[key]) for entry in history if key in entry and "epoch" in entry]
    points = np.array([point for point in found if math.isfinite(point[1])], float).reshape(-1, 2)
    return points[:, 0], points[:, 1]
