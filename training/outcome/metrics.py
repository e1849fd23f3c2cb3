"""Scores of a network under the names they are logged by: of its snippets one by one, and of songs.

A snippet is a row: logits (n_rows, n_genres), a label (n_rows,) and the id of its song (n_rows,). The rows of a song
may lie anywhere. Every function raises ValueError for what does not fit together.
"""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryDirectory

import evaluate
import numpy as np
from datasets import Features, Value
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from sklearn.utils.class_weight import compute_class_weight

from tagger.evaluation.metrics import SongLogits, checked, macro_recall, song_logits

#: What the accuracy of songs is called under each aggregation: the names of the notebook this project began from.
SONG_SCORES = {
    "vote": "voting_score",
    "weighted": "weighting_score",
    "mean": "mean_pooling_score",
    "max": "max_pooling_score",
}


class LabelMetric(evaluate.Metric):
    """A metric of predicted and reference labels, (n_rows,) each, that asks no network and leaves no cache."""

    def __init__(self) -> None:
        with TemporaryDirectory() as folder:  # evaluate makes a cache folder even for what it keeps in memory
            super().__init__(cache_dir=folder, keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        features = Features({"predictions": Value("int64"), "references": Value("int64")})
        return evaluate.MetricInfo(
            description=self.__doc__ or "", citation="", inputs_description="", features=features, format="numpy"
        )


class Accuracy(LabelMetric):
    """Share of the rows whose label is predicted."""

    def _compute(self, *, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}


class Precision(LabelMetric):
    """Share of the rows predicted to have a label that do; 0 for a label that is never predicted."""

    def _compute(self, *, predictions: np.ndarray, references: np.ndarray, average: str = "macro") -> dict[str, float]:
        return {"precision": float(precision_score(references, predictions, average=average, zero_division=0))}


class Recall(LabelMetric):
    """Share of the rows of a label that are predicted to have it; 0 for a label that is only predicted."""

    def _compute(self, *, predictions: np.ndarray, references: np.ndarray, average: str = "macro") -> dict[str, float]:
        return {"recall": float(recall_score(references, predictions, average=average, zero_division=0))}


class F1(LabelMetric):
    """Harmonic mean of a label's precision and recall; 0 where both are 0."""

    def _compute(self, *, predictions: np.ndarray, references: np.ndarray, average: str = "macro") -> dict[str, float]:
        return {"f1": float(f1_score(references, predictions, average=average, zero_division=0))}


def snippet_scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`accuracy`, `precision`, `recall` and `f1` of the rows.

    Of two genres the last three are those of the second; of more, their mean over the labels that occur.
    """
    logits, labels = checked(logits, labels)
    average = "macro" if logits.shape[1] > 2 else "binary"
    rows = {"predictions": logits.argmax(axis=1), "references": labels}
    scores = Accuracy().compute(**rows)
    for metric in (Precision(), Recall(), F1()):
        scores |= metric.compute(**rows, average=average)
    return scores


def song_scores(
    logits: np.ndarray, labels: np.ndarray, songs: Sequence[str] | np.ndarray, genres: Sequence[str]
) -> dict[str, float]:
    """Accuracy of songs under the notebook's names, one for each aggregation, and more on that of `mean`.

    `{genre}_a_accuracy` is the accuracy among the songs of a genre; a genre without songs has none, and no key.
    `song_macro_recall` is the mean of these, also called balanced accuracy: every genre counts alike.
    """
    return scores_of_songs(song_logits(logits, labels, songs), genres)


def scores_of_songs(table: SongLogits, genres: Sequence[str]) -> dict[str, float]:
    """What `song_scores` gives, of songs that are put together already."""
    if len(genres) != table.logits["mean"].shape[1]:
        raise ValueError(f"{len(genres)} genres for {table.logits['mean'].shape[1]} logits")
    correct = table.correct()
    by_genre = {
        f"{genres[label]}_a_accuracy": float(correct[table.labels == label].mean()) for label in np.unique(table.labels)
    }
    return {
        **{score: float(table.correct(name).mean()) for name, score in SONG_SCORES.items()},
        "song_macro_recall": macro_recall(correct, table.labels),
        **by_genre,
    }


def scores(
    logits: np.ndarray, labels: np.ndarray, songs: Sequence[str] | np.ndarray, genres: Sequence[str]
) -> dict[str, float]:
    """All of `snippet_scores` and `song_scores`, flat."""
    return snippet_scores(logits, labels) | song_scores(logits, labels, songs, genres)


def balanced_class_weights(labels: np.ndarray, n_genres: int) -> np.ndarray:
    """Weight of each genre in the loss, (n_genres,), with which all that occur count alike; 1 where one does not.

    scikit-learn's "balanced": n_rows / (n_genres_that_occur * n_rows_of_the_genre).
    """
    weights = np.ones(n_genres)
    found = np.unique(labels)
    weights[found] = compute_class_weight("balanced", classes=found, y=labels)
    return weights
