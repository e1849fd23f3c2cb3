"""A report on two training runs side by side, over songs that neither was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tagger.errors import RunError
from tagger.evaluation.metrics import Interval, macro_recall, paired_interval
from tagger.evaluation.run_folder import SplitPredictions, read_split
from tagger.pipeline.aggregate import AGGREGATORS
from tagger.report.document import Column, Report, Songs, Table
from tagger.report.run import BOOTSTRAP, song
from tagger.text import counted


@dataclass(frozen=True, eq=False)
class _Shared:
    """The songs that two runs classified, and where each run has them."""

    a: SplitPredictions
    b: SplitPredictions
    in_a: np.ndarray  # (n_songs,)
    in_b: np.ndarray  # (n_songs,)
    n_relabelled: int  # songs of both that are left out: they are of another genre in `b`

    def correct(self, aggregate: str = "mean") -> tuple[np.ndarray, np.ndarray]:
        """Whether each song is right in `a`, and in `b`, bool (n_songs,)."""
        return self.a.songs.correct(aggregate)[self.in_a], self.b.songs.correct(aggregate)[self.in_b]

    @property
    def labels(self) -> np.ndarray:
        """(n_songs,), as `a` counts them."""
        labels: np.ndarray = self.a.songs.labels[self.in_a]
        return labels


def compare_runs(folder: Path, other: Path, split: str = "test") -> Report:
    """Whether the run A in `folder` is more accurate than B in `other`. Raises RunError and RunError."""
    if folder.resolve() == other.resolve():
        raise RunError(other, "is the very run it is to be compared with")
    shared = _share(read_split(folder, split), read_split(other, split))
    if not len(shared.in_a):
        why = f"{counted(shared.n_relabelled, 'song')}, all under other genres" if shared.n_relabelled else "no songs"
        raise RunError(other, f"its {split} split and that of {folder} share {why}: train both on one dataset")
    n_alone = [len(run.songs.songs) - len(shared.in_a) - shared.n_relabelled for run in (shared.a, shared.b)]
    correct_a, correct_b = shared.correct()
    n_both, n_a, n_b, n_neither = (
        int(each.sum())
        for each in (correct_a & correct_b, correct_a & ~correct_b, ~correct_a & correct_b, ~correct_a & ~correct_b)
    )
    facts = [
        ("A", str(folder)),
        ("B", str(other)),
        (
            f"{split} split",
            f"{counted(len(shared.in_a), 'song')} in both; {n_alone[0]} only in A, {n_alone[1]} only in B",
        ),
        ("accuracy", f"{n_both} in both, {n_a} only in A, {n_b} only in B, {n_neither} in neither"),
    ]
    if shared.n_relabelled:
        facts.append(("left out", f"{counted(shared.n_relabelled, 'song')} of another genre in B"))
    return Report(
        "comparison",
        "Which of two runs is more accurate",
        tuple(facts),
        (_scores(shared), _genres(shared), _songs(shared)),
    )


def _share(a: SplitPredictions, b: SplitPredictions) -> _Shared:
    _, in_a, in_b = np.intersect1d(a.songs.songs, b.songs.songs, assume_unique=True, return_indices=True)
    is_same = a.references[in_a] == b.references[in_b]
    return _Shared(a, b, in_a[is_same], in_b[is_same], int((~is_same).sum()))


def _scores(shared: _Shared) -> Table:
    seed, labels, artists = shared.a.seed, shared.labels, shared.a.artists[shared.in_a]
    rows = []
    for name in AGGREGATORS:
        both = shared.correct(name)
        rows.append(_row(name, [float(each.mean()) for each in both], paired_interval(*both, artists, seed)))
    both = shared.correct()
    recalls = [macro_recall(each, labels) for each in both]
    rows.append(_row("macro recall", recalls, paired_interval(*both, artists, seed, labels)))
    return Table(
        "comparison",
        "Accuracy",
        (
            *(Column("by"), Column("A", "share"), Column("B", "share"), Column("A - B", "number")),
            *(Column("from", "number"), Column("to", "number"), Column("A is")),
        ),
        tuple(rows),
        f"From, to: what A - B may be with songs of other artists of the same kind. {BOOTSTRAP} Of twenty such "
        "intervals one misses the truth. Macro recall is the mean of the genres, by mean.",
    )


def _row(name: str, scores: list[float], difference: Interval) -> tuple[object, ...]:
    verdict = "better" if difference.low > 0 else "worse" if difference.high < 0 else "no difference shown"
    return (name, *scores, scores[0] - scores[1], *difference, verdict)


def _genres(shared: _Shared) -> Table:
    rows = []
    for label in np.unique(shared.labels).tolist():
        recall_a, recall_b = (float(each[shared.labels == label].mean()) for each in shared.correct())
        n_songs = int((shared.labels == label).sum())
        rows.append((shared.a.rows.genres[label], n_songs, recall_a, recall_b, recall_a - recall_b))
    return Table(
        "genres",
        "Recall of the genres",
        (
            *(Column("genre"), Column("songs", "count")),
            *(Column("A", "share"), Column("B", "share"), Column("A - B", "number")),
        ),
        tuple(rows),
    )


def _songs(shared: _Shared) -> Songs:
    correct_a, correct_b = shared.correct()
    sure = shared.a.probabilities.max(axis=1)[shared.in_a]
    order = [index for index in np.lexsort((-sure, correct_a)).tolist() if correct_a[index] != correct_b[index]]
    found = []
    for index in order:
        of_a, of_b = song(shared.a, shared.in_a[index]), song(shared.b, shared.in_b[index])
        found.append(replace(of_a, reason=f"B predicted {of_b.predicted[0]} {of_b.confidence:.3f}"))
    return Songs(
        "songs",
        "Songs that only one has right",
        tuple(found),
        "As A predicted them. First those that B has right, and of these first those of which A was surest."
        if found
        else "None.",
    )
