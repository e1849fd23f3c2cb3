"""Reports on training runs side by side, over songs that none was trained on: on two of them, and on a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from tagger.errors import RunError
from tagger.evaluation.metrics import Interval, interval, macro_recall, paired_interval
from tagger.evaluation.run_folder import SplitPredictions, epochs_of, read_split, told
from tagger.pipeline.aggregate import AGGREGATORS
from tagger.report.document import Column, Curves, Kind, Report, Songs, Table
from tagger.report.run import BOOTSTRAP, EPOCH_SCORES, song
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
    return (name, *scores, scores[0] - scores[1], *difference, _verdict(difference))


def _verdict(difference: Interval) -> str:
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "no difference shown"


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


# A study: any number of runs, each set beside the first


#: A setting: what differs between runs but for the seed, as text.
Setting = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Study:
    """Runs, what differs between them, and how right each is on the songs it shares with the first."""

    runs: tuple[SplitPredictions, ...]
    names: tuple[str, ...]  # of options that differ
    values: tuple[Setting, ...]  # of these options, for each run

    @property
    def numbers(self) -> list[str]:
        """What the runs are called in tables: "1" and on."""
        return [str(number) for number in range(1, len(self.runs) + 1)]

    def right(self, run: SplitPredictions, measure: str) -> np.ndarray:
        """How right each song is, (n_songs,) float: 0 or 1 by an aggregation, or the share of its snippets."""
        if measure in AGGREGATORS:
            return run.songs.correct(measure).astype(np.float64)
        correct = run.rows.logits.argmax(axis=1) == run.rows.labels
        return np.array([correct[rows].mean() for rows in run.rows_of])

    def settings(self) -> dict[Setting, list[SplitPredictions]]:
        """The runs of each setting, which differ in the seed alone."""
        found: dict[Setting, list[SplitPredictions]] = {}
        for run, values in zip(self.runs, self.values, strict=True):
            found.setdefault(tuple(self._without_seed(values)), []).append(run)
        return found

    def _without_seed(self, values: Sequence[str]) -> list[str]:
        return [value for name, value in zip(self.names, values, strict=True) if name != "seed"]

    @property
    def setting_names(self) -> list[str]:
        """The options that settings differ in."""
        return self._without_seed(self.names)


def study_runs(folders: Sequence[Path], split: str = "test") -> Report:
    """What differs between runs, how right each is, and whether it is more accurate than the first. Raises RunError."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise RunError(folders[-1], "a run is named twice")
    runs = tuple(read_split(folder, split) for folder in folders)
    for run in runs[1:]:
        if not len(_share(runs[0], run).in_a):
            raise RunError(
                run.folder, f"its {split} split and that of {folders[0]} share no songs: train on one dataset"
            )
    study = _Study(runs, *_differing(runs))
    n_artists = len(np.unique(runs[0].artists))
    facts = [
        ("runs", f"{len(runs)}, each set beside the first, {folders[0]}"),
        (
            f"{split} split",
            f"{counted(len(runs[0].songs.songs), 'song')} of {counted(n_artists, 'artist')} in the first",
        ),
        ("differs", ", ".join(study.names) or "nothing that is told"),
    ]
    if split != "test":
        facts.append(("caution", "the epochs were chosen on these songs: scores are too high"))
    return Report(
        "study",
        f"A study of {counted(len(runs), 'run')}",
        tuple(facts),
        (_runs(study), *(_measured(study, name) for name in MEASURES), *_settings(study), *_study_curves(study)),
    )


MEASURES = (*AGGREGATORS, "snippets")
SNIPPETS = "Snippets: the share of a song's snippets that are right, and of that the mean of the songs. "


def _differing(runs: Sequence[SplitPredictions]) -> tuple[tuple[str, ...], tuple[Setting, ...]]:
    """The options that differ, in the order in which they are told, and their values in each run."""
    options = [found if isinstance(found := told(run.told, "options"), dict) else {} for run in runs]
    names = dict.fromkeys(name for each in options for name in each)
    shown = {name: tuple(_value(each.get(name)) for each in options) for name in names}
    differing = {name: values for name, values in shown.items() if len(set(values)) > 1}
    return tuple(differing), tuple(zip(*differing.values(), strict=True)) or ((),) * len(runs)


def _value(value: object) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _runs(study: _Study) -> Table:
    parents = {run.folder.parent for run in study.runs}
    rows = [
        (
            number,
            run.folder.name if len(parents) == 1 else str(run.folder),
            *values,
            _whole(told(run.told, "best_epoch")),
            len(run.songs.songs),
        )
        for number, run, values in zip(study.numbers, study.runs, study.values, strict=True)
    ]
    columns = (
        Column("#"),
        Column("run"),
        *map(Column, study.names),
        Column("epoch", "count"),
        Column("songs", "count"),
    )
    return Table("runs", "Runs", columns, tuple(rows), "Epoch: the one that was kept.")


def _whole(value: object) -> int | None:
    return round(value) if isinstance(value, int | float) else None


def _measured(study: _Study, measure: str) -> Table:
    """How right the runs are by one measure, with intervals, and against the first."""
    first, rows = study.runs[0], []
    for number, run in zip(study.numbers, study.runs, strict=True):
        right = study.right(run, measure)
        shared = _share(first, run)
        beside = study.right(first, measure)[shared.in_a]
        difference = _difference(right[shared.in_b], beside, first, shared.in_a) if run is not first else (None,) * 4
        rows.append((number, float(right.mean()), *interval(right, run.artists, run.seed), *difference))
    columns = (
        *(Column("#"), Column("right", "share"), Column("from", "share"), Column("to", "share")),
        *(Column("- first", "number"), Column("low", "number"), Column("high", "number"), Column("is")),
    )
    note = f"Low, high: what the difference from the first may be with songs of other artists. {BOOTSTRAP}"
    title = "By snippets" if measure == "snippets" else f"By {measure} of the snippets of a song"
    return Table(measure, title, columns, tuple(rows), (SNIPPETS if measure == "snippets" else "") + note)


def _difference(
    right: np.ndarray, of_first: np.ndarray, first: SplitPredictions, in_first: np.ndarray
) -> tuple[Any, ...]:
    """How much more right songs are, its interval, and what that says."""
    ends = paired_interval(right, of_first, first.artists[in_first], first.seed)
    return (float(right.mean() - of_first.mean()), *ends, _verdict(ends))


def _settings(study: _Study) -> list[Table]:
    """Means over runs that differ in the seed alone, where there are any, and whether a setting is more accurate."""
    settings = study.settings()
    if not study.setting_names or max(map(len, settings.values())) < 2:
        return []
    first, shared = study.runs[0], [_share(study.runs[0], run) for run in study.runs]
    in_first = reduce(np.intersect1d, [each.in_a for each in shared])
    of_run = {
        run.folder: study.right(run, "mean")[each.in_b[np.searchsorted(each.in_a, in_first)]]
        for run, each in zip(study.runs, shared, strict=True)
    }
    right = {values: np.mean([of_run[run.folder] for run in runs], axis=0) for values, runs in settings.items()}
    of_first = next(iter(right.values()))
    means, differences = [], []
    for number, (values, runs) in enumerate(settings.items()):
        scores = [float(np.mean([study.right(run, measure).mean() for run in runs])) for measure in MEASURES]
        means.append((*values, len(runs), *scores))
        against = _difference(right[values], of_first, first, in_first) if number and len(in_first) else (None,) * 4
        differences.append((*values, *against))
    names = [Column(name) for name in study.setting_names]
    scored = (Column("runs", "count"), *(Column(name, "share") for name in MEASURES))
    compared = (Column("- first", "number"), Column("low", "number"), Column("high", "number"), Column("is"))
    note = f"On {counted(len(in_first), 'song')} that all runs have. {BOOTSTRAP} They know of songs, not of seeds."
    return [
        Table("settings", "Settings, means over their seeds", (*names, *scored), tuple(means), SNIPPETS.strip()),
        Table("differences", "Settings against the first, by mean", (*names, *compared), tuple(differences), note),
    ]


def _study_curves(study: _Study) -> list[Curves]:
    """Accuracy and loss on validate by epoch, a line for each run; and each measure, as the mean of the runs."""
    epochs = [{round(each["epoch"]): each for each in epochs_of(run.told)} for run in study.runs]
    steps = sorted({step for each in epochs for step in each})
    if not steps:
        return []
    found = []
    drawn: tuple[tuple[str, str, Kind, str], ...] = (
        ("epochs", "Accuracy on validate by epoch, by mean", "share", "mean_pooling_score"),
        ("loss", "Loss on validate by epoch", "number", "loss"),
    )
    for key, title, kind, name in drawn:
        columns = (Column("epoch", "count"), *(Column(number, kind) for number in study.numbers))
        rows = tuple((step, *(each.get(step, {}).get(name) for each in epochs)) for step in steps)
        found.append(Curves(key, title, columns, rows))
    columns = (Column("epoch", "count"), *(Column(name, "share") for name in EPOCH_SCORES))
    rows = tuple((step, *(_mean_of(epochs, step, name) for name in EPOCH_SCORES.values())) for step in steps)
    return [*found, Curves("measures", "Accuracy on validate by epoch, mean of the runs", columns, rows)]


def _mean_of(epochs: Sequence[dict[int, dict[str, float]]], step: int, name: str) -> float | None:
    found = [each[step][name] for each in epochs if name in each.get(step, {})]
    return sum(found) / len(found) if found else None
