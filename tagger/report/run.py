"""A report on a training run: how well it classifies songs it was not trained on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from tagger.evaluation.metrics import (
    CONFIDENCE,
    N_RESAMPLES,
    Calibration,
    GenreScore,
    calibration,
    confused_pairs,
    confusion,
    coverage,
    genre_scores,
    interval,
    macro_recall,
    song_confidences,
)
from tagger.evaluation.run_folder import SplitPredictions, epochs_of, read_split, told
from tagger.pipeline.aggregate import AGGREGATORS
from tagger.pipeline.options import DecisionPolicy
from tagger.report.document import Column, Curves, Matrix, Report, Song, Songs, Table
from tagger.text import counted

#: What is told of each epoch → its name in the log of the training.
EPOCH_SCORES = {
    "mean": "mean_pooling_score",
    "weighted": "weighting_score",
    "vote": "voting_score",
    "max": "max_pooling_score",
    "snippets": "accuracy",
}
N_RANKED = 5  # genres told of each song
BOOTSTRAP = f"{CONFIDENCE:.0%} intervals are a percentile bootstrap over artists, {N_RESAMPLES} draws."


def report_run(folder: Path, split: str = "test") -> Report:
    """How well a run classifies the songs of a split. Raises RunError and RunError."""
    predictions = read_split(folder, split)
    matrix = confusion(predictions.songs.labels, predictions.songs.predicted(), len(predictions.rows.genres))
    by_genre = genre_scores(matrix, predictions.rows.genres)
    held = calibration(
        predictions.songs.logits["mean"], predictions.songs.labels, predictions.temperature, predictions.min_confidence
    )
    return Report(
        "run",
        f"How accurate {folder} is",
        _facts(predictions, by_genre, held),
        (
            _confusion(predictions, matrix),
            _pairs(predictions, matrix),
            _genres(by_genre),
            _aggregations(predictions),
            _reliability(held),
            _coverage(predictions),
            *_curves(predictions),
            _songs(predictions),
        ),
    )


def _facts(predictions: SplitPredictions, by_genre: list[GenreScore], held: Calibration) -> tuple[tuple[str, str], ...]:
    rows, correct = predictions.rows, predictions.songs.correct()
    found = [score for score in by_genre if score.n_songs]
    common = max(found, key=lambda score: score.n_songs)
    recall, f1 = (float(np.mean([getattr(score, name) for score in found])) for name in ("recall", "f1"))
    low, high = interval(correct, predictions.artists, predictions.seed)
    songs = f"{counted(len(correct), 'song')} of {counted(len(found), 'genre')}"
    without = "without a temperature: none was fitted"
    if rows.temperature is not None:
        without = f"and {held.error_before:.3f} without the temperature {rows.temperature:g}"
    return (
        ("run", str(predictions.folder)),
        *_trained(predictions.told),
        (f"{predictions.split} split", f"{songs}, {counted(len(rows.labels), 'snippet')}"),
        ("accuracy", f"{correct.mean():.3f} (95% interval {low:.3f} to {high:.3f})"),
        ("by genre", f"recall {recall:.3f}, F1 {f1:.3f} (means of the genres)"),
        ("snippet accuracy", f"{(rows.logits.argmax(axis=1) == rows.labels).mean():.3f}"),
        (
            "majority-class baseline",
            f"{common.n_songs / len(correct):.3f} would be right if all were called {common.genre}",
        ),
        ("calibration error", f"{held.error:.3f}, {without}"),
        ("written by default", _written(predictions, held)),
        *(("caution", each) for each in _cautions(predictions)),
    )


def _trained(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """What the network began as, and what it was trained on, as far as that is told."""
    began, n_parameters = told(metrics, "model"), told(metrics, "n_parameters")
    n_songs, n_artists, hours = (told(metrics, "counts", "train", name) for name in ("songs", "artists", "hours"))
    facts = []
    if isinstance(began, str) and isinstance(n_parameters, int):
        facts.append(("model", f"began as {began}, {n_parameters / 1e6:.1f} million parameters"))
    if isinstance(n_songs, int) and isinstance(n_artists, int) and isinstance(hours, float | int):
        facts.append(("trained on", f"{counted(n_songs, 'song')} of {counted(n_artists, 'artist')}, {hours:.1f} hours"))
    return facts


def _written(predictions: SplitPredictions, held: Calibration) -> str:
    if math.isinf(predictions.min_confidence):
        reason = told(predictions.told, "calibration", "min_confidence_reason")
        return reason if isinstance(reason, str) else "nothing: no threshold was good enough"
    share = f"{held.coverage:.3f} of the songs, from {predictions.min_confidence:g} on"
    return share if math.isnan(held.precision) else f"{share}; {held.precision:.3f} of them right"


def _cautions(predictions: SplitPredictions) -> list[str]:
    """What makes the scores worth less than they seem."""
    cautions = [predictions.doubt] if predictions.doubt else []
    if predictions.split != "test":
        cautions.append("the epoch, the temperature and the threshold were chosen on these songs: scores are too high")
    n_shared = told(predictions.told, "shared_artists")
    if isinstance(n_shared, int) and n_shared:
        cautions.append(f"artists in more than one split: {n_shared}. Their songs are alike: scores are too high")
    found = set(predictions.songs.labels.tolist())
    missing = [genre for label, genre in enumerate(predictions.rows.genres) if label not in found]
    if missing:
        some = ", ".join(missing[:5]) + ", …" * (len(missing) > 5)
        cautions.append(f"no songs of {len(missing)} of the {len(predictions.rows.genres)} genres: {some}")
    return cautions


def _confusion(predictions: SplitPredictions, matrix: np.ndarray) -> Matrix:
    genres = predictions.rows.genres
    return Matrix(
        "confusion",
        "Confusion",
        genres,
        genres,
        matrix,
        "Rows: the genre the songs are of. Columns: the genre that was predicted.",
    )


def _pairs(predictions: SplitPredictions, matrix: np.ndarray) -> Table:
    pairs = confused_pairs(matrix, predictions.rows.genres)
    some = "Of the songs of a genre, more than a tenth was predicted to be of one other."
    return Table(
        "confused_pairs",
        "Confused pairs",
        (Column("reference"), Column("predicted"), Column("songs", "count"), Column("share", "share")),
        tuple((pair.reference, pair.predicted, pair.n_songs, pair.share) for pair in pairs),
        some if pairs else "None: of no genre was more than a tenth of the songs predicted to be of one other.",
    )


def _genres(by_genre: list[GenreScore]) -> Table:
    return Table(
        "genres",
        "Genres",
        (
            *(Column("genre"), Column("precision", "share"), Column("recall", "share"), Column("F1", "share")),
            *(Column("songs", "count"), Column("predicted", "count")),
        ),
        tuple((each.genre, each.precision, each.recall, each.f1, each.n_songs, each.n_predicted) for each in by_genre),
        "Precision: share of the songs predicted to be of it that are. Recall: share of its songs that are predicted "
        "to be of it. F1: their harmonic mean.",
    )


def _aggregations(predictions: SplitPredictions) -> Table:
    labels = predictions.songs.labels
    rows = []
    for name in AGGREGATORS:
        correct = predictions.songs.correct(name)
        ends = interval(correct, predictions.artists, predictions.seed)
        rows.append((name, float(correct.mean()), *ends, macro_recall(correct, labels)))
    return Table(
        "aggregations",
        "From snippets to songs",
        (
            *(Column("aggregate"), Column("right", "share"), Column("from", "share"), Column("to", "share")),
            Column("macro recall", "share"),
        ),
        tuple(rows),
        f"The default is {DecisionPolicy.aggregate}. {BOOTSTRAP}",
    )


def _reliability(held: Calibration) -> Table:
    return Table(
        "reliability",
        "Confidence",
        (
            *(Column("from", "share"), Column("to", "share"), Column("songs", "count")),
            *(Column("confidence", "share"), Column("right", "share")),
        ),
        tuple((each.low, each.high, each.n_songs, each.confidence, each.accuracy) for each in held.bins),
        "It can be trusted where the last two columns agree: the calibration error is their mean distance. Chance "
        "alone makes that some 0.12 of 50 songs, 0.06 of 200, 0.03 of 1000.",
    )


def _coverage(predictions: SplitPredictions) -> Table:
    """The points of the curve at which a tenth of the songs, two tenths and so on are taken, or just more."""
    curve = coverage(
        song_confidences(predictions.songs.logits["mean"], predictions.temperature), predictions.songs.correct()
    )
    n_songs = len(predictions.songs.labels)
    n_taken = np.rint(curve.coverage * n_songs).astype(int)
    points = np.unique(np.searchsorted(n_taken, [math.ceil(tenths * n_songs / 10) for tenths in range(1, 11)]))
    return Table(
        "coverage",
        "Accuracy against coverage",
        (
            *(Column("min confidence", "share"), Column("songs", "count")),
            *(Column("coverage", "share"), Column("right", "share")),
        ),
        tuple(
            (float(curve.confidence[at]), int(n_taken[at]), float(curve.coverage[at]), float(curve.accuracy[at]))
            for at in points
        ),
        "What --min-confidence would leave to be written, and how much of that is right.",
    )


def _curves(predictions: SplitPredictions) -> tuple[Curves, ...]:
    """How the training went, as far as it is told: losses, and the accuracy on validate."""
    epochs = epochs_of(predictions.told)
    if not epochs:
        return ()
    kept = told(predictions.told, "best_epoch")
    loss = Curves(
        "loss",
        "Loss by epoch",
        (Column("epoch", "count"), Column("train", "number"), Column("validate", "number")),
        tuple((round(each["epoch"]), each.get("train_loss"), each["loss"]) for each in epochs),
        "Cross-entropy; that of train is a mean over the epoch, of snippets as they were altered.",
    )
    accuracy = Curves(
        "epochs",
        "Accuracy on validate by epoch",
        (Column("epoch", "count"), *(Column(name, "share") for name in EPOCH_SCORES)),
        tuple((round(each["epoch"]), *(each.get(name) for name in EPOCH_SCORES.values())) for each in epochs),
        f"Kept: epoch {kept:g}, the best by mean." if isinstance(kept, int | float) else "",
    )
    return loss, accuracy


def _songs(predictions: SplitPredictions) -> Songs:
    labels, correct = predictions.songs.labels, predictions.songs.correct()
    own = predictions.probabilities[np.arange(len(labels)), labels]
    n_wrong = int((~correct).sum())
    note = "The worst are those whose own genre got the least confidence. A wrong label looks like a wrong answer."
    return Songs(
        "songs",
        "Songs, the worst first",
        tuple(song(predictions, index) for index in np.lexsort((own, correct)).tolist()),
        f"{n_wrong} of {len(labels)} are wrong. {note}" if n_wrong else f"All {len(labels)} are right.",
        n_brief=min(10, n_wrong),
    )


def song(predictions: SplitPredictions, index: int) -> Song:
    """The song at this place in a split."""
    genres, rows, label = predictions.rows.genres, predictions.rows_of[index], predictions.songs.labels[index]
    probabilities = predictions.probabilities[index]
    best = np.argsort(-predictions.songs.logits["mean"][index], kind="stable")[:N_RANKED].tolist()
    ranking = tuple((genres[each], float(probabilities[each])) for each in best)
    reasons = [] if label in best[:3] else [f"{genres[label]} got {probabilities[label]:.3f}"]
    if ranking[0][1] < predictions.min_confidence < math.inf:
        reasons.append(f"not written: below {predictions.min_confidence:g}")
    return Song(
        path=predictions.rows.paths[rows[0]],
        reference=(genres[label],),
        predicted=(genres[best[0]],),
        confidence=ranking[0][1],
        ranking=ranking,
        starts_seconds=tuple(sorted(predictions.rows.starts_seconds[rows].tolist())),
        status="right" if best[0] == label else "wrong",
        reason="; ".join(reasons),
    )
