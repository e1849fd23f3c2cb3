"""What each evaluation of a training showed, in a folder of its run: heat map and confused pairs of every epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tagger.atomic import replacing
from tagger.errors import OutputError
from tagger.evaluation.metrics import confused_pairs
from tagger.report.document import Matrix
from tagger.report.plots import confusion_figure, png

FOLDER = "evaluations"


def write_evaluation(
    run_folder: Path, epoch: float, genres: Sequence[str], matrix: np.ndarray, scores: Mapping[str, float]
) -> Path:
    """Keep what the songs of validate were predicted to be after an epoch, as epoch-NN.json and epoch-NN.png.

    `matrix` are songs, (n_genres, n_genres), row = reference. Gives the path of the picture. Raises OutputError.
    """
    stem = run_folder / FOLDER / f"epoch-{epoch:02.0f}"
    title = f"validate, epoch {epoch:.0f}: {matrix.sum()} songs, {np.trace(matrix)} right"
    values: dict[str, Any] = {
        "epoch": epoch,
        "genres": list(genres),
        "scores": dict(scores),
        "confusion": matrix.tolist(),
        "confused_pairs": [asdict(pair) for pair in confused_pairs(matrix, genres)],
    }
    picture = png(confusion_figure(Matrix("confusion", title, tuple(genres), tuple(genres), matrix)))
    for suffix, data in {".json": json.dumps(values, indent=1).encode(), ".png": picture}.items():
        path = stem.with_suffix(suffix)
        try:
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as file:
                file.write(data)
        except OSError as error:
            raise OutputError(path, error.strerror or str(error)) from error
    return stem.with_suffix(".png")


def best_epoch(history: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """The epoch that is kept and its accuracy over the songs of validate, from the log of transformers' Trainer; None
    where nothing was trained. Of equal ones it is the first, as the Trainer has it.
    """
    name = "eval_mean_pooling_score"
    found = [(float(entry["epoch"]), float(entry[name])) for entry in history if name in entry]
    is_trained = any("loss" in entry for entry in history)
    return max(found, key=lambda each: each[1]) if found and is_trained else None
