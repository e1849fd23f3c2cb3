"""Scores against the notebook's own function, against scikit-learn, and against being written down song by song."""

import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import evaluate
import numpy as np
import pytest
import sklearn.metrics
import torch
from sklearn.utils.class_weight import compute_class_weight

from tagger.evaluation.metrics import song_logits
from training.outcome.metrics import (
    F1,
    Accuracy,
    Precision,
    Recall,
    balanced_class_weights,
    scores,
    snippet_scores,
    song_scores,
)

ROOT = Path(__file__).parents[2]
GENRES = ("Blues", "Classical", "Country", "Hip-Hop", "Jazz", "Metal", "Pop", "Rock")

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(autouse=True)
def silent() -> None:
    """Nothing a score is made of may warn."""
    warnings.simplefilter("error")


def rows_of(n_songs: int, genres: tuple[str, ...] = GENRES, seed: int = 0) -> Rows:
    """Logits that know a little, labels and ids of songs of 1 to 30 snippets each, song after song."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 31, n_songs)
    song_labels = np.concatenate([np.arange(len(genres)), rng.integers(0, len(genres), n_songs - len(genres))])
    labels = np.repeat(song_labels, counts)
    ids = np.repeat([f"{number:016x}" for number in rng.permutation(n_songs)], counts)
    bias = np.repeat(rng.normal(scale=0.8, size=(n_songs, len(genres))), counts, axis=0)
    logits = bias + rng.normal(scale=2.0, size=(len(labels), len(genres))) + np.eye(len(genres))[labels]
    return logits.astype(np.float32), labels, ids


def notebook_scores(logits: torch.Tensor, labels: torch.Tensor, paths: list[str], genres: tuple[str, ...]) -> dict:
    """The notebook's `calc_aggregated_accuracy`, for rows that come song after song."""
    hits: Counter[str] = Counter()
    n_songs, n_right = [0] * len(genres), [0] * len(genres)
    start = 0
    for n_snippets in Counter(paths).values():
        label = labels[start].item()
        song = logits[start : start + n_snippets]
        start += n_snippets
        confidence = song.softmax(dim=1).max(dim=1).values
        predicted = {
            "voting_score": song.argmax(dim=1).mode().values.item(),
            "weighting_score": (song.T * confidence).T.mean(dim=0).argmax().item(),
            "mean_pooling_score": song.mean(dim=0).argmax().item(),
            "max_pooling_score": song.max(dim=0).values.argmax().item(),
        }
        hits.update(name for name, genre in predicted.items() if genre == label)
        n_songs[label] += 1
        n_right[label] += predicted["mean_pooling_score"] == label
    return {name: hits[name] / sum(n_songs) for name in predicted} | {
        f"{genre}_a_accuracy": right / n for genre, right, n in zip(genres, n_right, n_songs, strict=True)
    }


@pytest.mark.parametrize("seed", range(5))
def test_song_scores_are_the_notebooks(seed: int) -> None:
    logits, labels, songs = rows_of(200, seed=seed)
    expected = notebook_scores(torch.tensor(logits), torch.tensor(labels), list(songs), GENRES)
    found = song_scores(logits, labels, songs, GENRES)
    assert found.pop("song_macro_recall") == pytest.approx(np.mean([expected[f"{g}_a_accuracy"] for g in GENRES]))
    assert found == pytest.approx(expected, abs=1e-12)
    assert len({expected[name] for name in list(expected)[:4]}) > 2  # the songs do tell the aggregations apart


def test_voting_ties_fall_as_in_the_notebook() -> None:
    """Every song has two snippets that are sure of two genres, one of them its own."""
    pairs = [(first, second) for first in range(8) for second in range(8) if first != second]
    logits = np.concatenate([np.eye(8, dtype=np.float32)[list(pair)] for pair in pairs])
    labels = np.repeat([first for first, _ in pairs], 2)
    songs = np.repeat([f"{number:02}" for number in range(len(pairs))], 2)
    expected = notebook_scores(torch.tensor(logits), torch.tensor(labels), list(songs), GENRES)
    found = song_scores(logits, labels, songs, GENRES)
    assert {name: found[name] for name in expected} == expected
    assert found["voting_score"] == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_the_rows_may_come_in_any_order(seed: int) -> None:
    logits, labels, songs = rows_of(200)
    order = np.random.default_rng(seed).permutation(len(labels))
    assert scores(logits[order], labels[order], songs[order], GENRES) == scores(logits, labels, songs, GENRES)


def test_ids_may_be_numbers() -> None:
    logits, labels, songs = rows_of(40)
    numbers = [int(song, 16) for song in songs]
    assert song_scores(logits, labels, numbers, GENRES) == song_scores(logits, labels, songs, GENRES)


def test_a_genre_without_songs_has_no_accuracy() -> None:
    found = song_scores(np.eye(3)[[0, 2]], np.array([0, 1]), ["a", "b"], ("Blues", "Jazz", "Rock"))
    assert {name: value for name, value in found.items() if name.endswith("_a_accuracy")} == {
        "Blues_a_accuracy": 1.0,
        "Jazz_a_accuracy": 0.0,
    }
    assert found["song_macro_recall"] == found["mean_pooling_score"] == 0.5


def test_macro_recall_of_songs_is_balanced_accuracy() -> None:
    logits, labels, songs = rows_of(100)
    table = song_logits(logits, labels, songs)
    expected = sklearn.metrics.balanced_accuracy_score(table.labels, table.predicted())
    assert song_scores(logits, labels, songs, GENRES)["song_macro_recall"] == pytest.approx(expected)
    assert expected != pytest.approx(table.correct().mean(), abs=1e-3)


def test_scores_can_be_logged() -> None:
    found = scores(*rows_of(40), GENRES)
    assert {type(value) for value in found.values()} == {float}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found)[:8] == [
        *("accuracy", "precision", "recall", "f1"),
        *("voting_score", "weighting_score", "mean_pooling_score", "max_pooling_score"),
    ]


@pytest.mark.parametrize(("n_genres", "average"), [(2, "binary"), (3, "macro"), (8, "macro")])
def test_snippet_scores_are_those_of_scikit_learn(n_genres: int, average: str) -> None:
    logits, labels, _ = rows_of(30, GENRES[:n_genres])
    predicted = logits.argmax(1)
    assert snippet_scores(logits, labels) == pytest.approx(
        {
            "accuracy": sklearn.metrics.accuracy_score(labels, predicted),
            "precision": sklearn.metrics.precision_score(labels, predicted, average=average),
            "recall": sklearn.metrics.recall_score(labels, predicted, average=average),
            "f1": sklearn.metrics.f1_score(labels, predicted, average=average),
        }
    )


@pytest.mark.parametrize(
    ("n_genres", "labels", "predicted", "precision", "recall", "f1"),
    [
        (3, [0, 1, 2], [0, 0, 0], 1 / 9, 1 / 3, 1 / 6),  # two labels are never predicted
        (3, [0, 0, 0], [0, 1, 2], 1 / 3, 1 / 9, 1 / 6),  # two are only predicted
        (3, [1, 1], [1, 1], 1.0, 1.0, 1.0),  # labels that do not occur at all do not count
        (2, [0, 1], [0, 0], 0.0, 0.0, 0.0),
        (2, [0, 0], [0, 0], 0.0, 0.0, 0.0),
        (2, [1], [1], 1.0, 1.0, 1.0),
    ],
)
def test_where_nothing_is_divided_by_nothing(
    n_genres: int, labels: list[int], predicted: list[int], precision: float, recall: float, f1: float
) -> None:
    found = snippet_scores(np.eye(n_genres)[predicted], np.array(labels))
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((precision, recall, f1))


@pytest.mark.parametrize("metric", [Accuracy, Precision, Recall, F1])
def test_metrics_are_modules_of_evaluate(metric: type[evaluate.Metric]) -> None:
    module = metric()
    assert isinstance(module, evaluate.Metric)
    assert module.description == metric.__doc__
    for references, predictions in (([0, 1, 2], [0, 1, 2]), ([0, 1, 2], [1, 2, 0])):  # again with the same module
        assert module.compute(references=references, predictions=predictions) == {
            module.name: float(references == predictions)
        }
    module.add_batch(references=[0, 1], predictions=[0, 1])
    module.add(reference=2, prediction=2)
    assert module.compute() == {module.name: 1.0}


def test_scores_ask_no_network_and_leave_no_files(tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*address, **_): sys.exit('a connection was asked for')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "import numpy\n"
        "from training.outcome.metrics import scores\n"
        "print(scores(numpy.eye(3), numpy.arange(3), list('abc'), ('Blues', 'Jazz', 'Rock'))['f1'])\n"
    )
    homes = {name: str(tmp_path) for name in ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "HF_HOME", "XDG_CACHE_HOME")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | homes
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (done.returncode, done.stdout) == (0, "1.0\n"), done.stderr
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("logits", "labels", "songs", "reason"),
    [
        (np.eye(3), [0, 1, 0], ["one", "two", "two"], "song two has rows of label 1 and of label 0"),
        (np.eye(3), [0, 1, 2], ["one", "two"], r"song ids \(2,\) for 3 rows"),
        (np.eye(3), [0, 1, 2], "one", r"song ids \(\) for 3 rows"),
        (np.eye(3), [0, 1], ["one", "two"], "no rows of logits"),
        (np.eye(3), np.eye(3), ["one", "two", "three"], "no rows of logits"),
        (np.zeros((0, 3)), [], [], "no rows of logits"),
        (np.zeros(3), [0, 1, 2], ["one", "two", "three"], "no rows of logits"),
        (np.eye(3), [0, 1, 3], ["one", "two", "three"], "from 0 to 2"),
        (np.eye(3), [0, 1, -1], ["one", "two", "three"], "from 0 to 2"),
        (np.eye(3), [0.0, 1.0, 2.0], ["one", "two", "three"], "integers"),
        (np.full((3, 3), np.nan), [0, 1, 2], ["one", "two", "three"], "not finite"),
        (np.eye(4)[:3], [0, 1, 2], ["one", "two", "three"], "3 genres for 4 logits"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    logits: np.ndarray, labels: list[int], songs: list[str], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        scores(logits, np.array(labels), songs, GENRES[:3])


def test_class_weights_are_those_of_scikit_learn() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(balanced_class_weights(labels, 3), expected)
    assert (np.bincount(labels) * expected).tolist() == [2.0, 2.0, 2.0]
    np.testing.assert_allclose(balanced_class_weights(labels + 1, 5), [1.0, *expected, 1.0])
