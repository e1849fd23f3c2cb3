"""What learning came to: beside the model it began from, as a run folder with its log, its numbers and its card."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tagger.atomic import replacing
from tagger.errors import OutputError
from tagger.evaluation.predictions import FILE_NAME, Predictions, write_predictions
from tagger.evaluation.run_folder import FINISHED, RECORD, VERSION
from tagger.models.description import Description
from tagger.models.head import LEAST_HELD_OUT, LEAST_OF_EACH
from tagger.pipeline.genres import genre_key
from training.outcome.markdown import markdown_templates
from training.probe.base import Base
from training.probe.folds import Comparison, Learned, compare
from training.probe.songs import FEWEST_ARTISTS, FEWEST_SONGS, Tagged


@dataclass(frozen=True)
class GenreOutcome:
    """A genre that was learned: how many of its songs are predicted rightly, and written."""

    genre: str
    n_songs: int
    n_artists: int
    before: float  # accuracy of the model
    after: float
    n_written: int  # songs that would be written as it
    n_written_right: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """What is told of a layer that was learned."""

    tagged: Tagged
    base: Base
    learned: Learned
    description: Description  # of the model it began from
    left_out: tuple[str, ...]
    is_right_before: np.ndarray  # bool (n_songs,)
    comparison: Comparison
    against_majority: Comparison

    @classmethod
    def of(
        cls, tagged: Tagged, base: Base, learned: Learned, description: Description, left_out: Sequence[str]
    ) -> Outcome:
        """By the held-out songs, and what the model itself predicts of them, under the names that it has."""
        names = [genre_key(genre) for genre in base.head.genres]
        best = base.scores(tagged.logits).argmax(axis=1)
        before = np.array([names[index] for index in best]) == [genre_key(tagged.genres[at]) for at in tagged.labels]
        after = learned.predicted == tagged.labels
        majority = tagged.labels == np.bincount(tagged.labels).argmax()
        return cls(
            tagged, base, learned, description, tuple(left_out), before,
            compare(before, after, tagged.artists), compare(majority, after, tagged.artists),
        )  # fmt: skip

    @property
    def is_kept(self) -> bool:
        """Whether it is better than the model, and than always the same genre, by more than chance explains."""
        return self.comparison.is_better and self.against_majority.is_better

    @property
    def columns(self) -> tuple[str, ...]:
        """Genres of the columns of the logits."""
        return (*self.tagged.genres, *(self.base.head.genres[other] for other in self.base.others))

    @property
    def written_right(self) -> tuple[int, int]:
        """How many held-out songs would be written, and how many of these rightly."""
        is_written = self.learned.is_written
        return int(is_written.sum()), int((self.learned.predicted == self.tagged.labels)[is_written].sum())

    def of_genres(self) -> list[GenreOutcome]:
        """Each genre, the one with most songs first."""
        labels, predicted = self.tagged.labels, self.learned.predicted
        right, found = predicted == labels, []
        for label, genre in enumerate(self.tagged.genres):
            own, written = labels == label, self.learned.is_written & (predicted == label)
            found.append(GenreOutcome(
                genre, int(own.sum()), self.tagged.n_artists(label), float(self.is_right_before[own].mean()),
                float(right[own].mean()), int(written.sum()), int((written & right).sum()),
            ))  # fmt: skip
        return sorted(found, key=lambda each: (-each.n_songs, each.genre))

    def verdict(self) -> str:
        """Whether it is kept, and why, in a sentence."""
        gain, (low, high) = self.comparison.after - self.comparison.before, self.comparison.gain_interval
        told = f"{gain:+.3f} ({low:+.3f} to {high:+.3f}) against {self.description.name}"
        if self.is_kept:
            return f"Better, {told}: kept."
        if self.comparison.is_better:
            low, high = self.against_majority.gain_interval
            return f"Not better than always {self.majority}, {low:+.3f} to {high:+.3f}: nothing is kept."
        return f"Not better beyond chance, {told}: nothing is kept."

    @property
    def majority(self) -> str:
        """The genre of most songs."""
        return self.tagged.genres[int(np.bincount(self.tagged.labels).argmax())]


def write_run(folder: Path, outcome: Outcome, argv: Sequence[str], options: dict[str, Any]) -> None:
    """Write all of a run but its checkpoint, metrics.json last: a run that has one is finished. Raises OutputError."""
    record = {"options": options, "argv": list(argv)}
    card = _card(folder, outcome, argv).encode("utf-8", "backslashreplace")
    _write(folder / RECORD, json.dumps(record, indent=1).encode())
    write_predictions(folder / FILE_NAME, predictions(outcome))
    _write(folder / "MODEL_CARD.md", card)
    _write(folder / FINISHED, json.dumps(metrics(outcome, argv, options), indent=1, allow_nan=False).encode())


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error


def predictions(outcome: Outcome) -> Predictions:
    """The log that `genre-tag report` reads: each song once, as a layer predicted it that did not know its artist."""
    tagged, learned = outcome.tagged, outcome.learned
    n_songs = len(tagged.labels)
    paths = np.array([str(song.path) for song in tagged.songs], object)
    return Predictions(
        genres=outcome.columns,
        temperature=learned.temperature,
        min_confidence=learned.threshold.value,
        splits=np.full(n_songs, "test", object),
        songs=paths,
        paths=paths,
        artists=np.array([song.artist for song in tagged.songs], object),
        starts_seconds=np.zeros(n_songs),
        labels=tagged.labels.astype(np.int64),
        logits=learned.logits.astype(np.float32),
    )


def metrics(outcome: Outcome, argv: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    """The numbers as JSON has them; what is no finite number is null."""
    tagged, comparison, threshold = outcome.tagged, outcome.comparison, outcome.learned.threshold
    n_written, n_right = outcome.written_right
    counts = {
        "songs": len(tagged.labels),
        "artists": int(tagged.artists.max()) + 1,
        "songs_without_artist": tagged.n_nameless,
        "hours": round(sum(song.seconds for song in tagged.songs) / 3600, 3),
        "songs_of": {each.genre: each.n_songs for each in outcome.of_genres()},
    }
    return {
        "format": "genre-tag metrics",
        "version": VERSION,
        "genres": outcome.columns,
        "scores": {
            "test": {"mean_pooling_score": comparison.after},
            "before": {"mean_pooling_score": comparison.before},
        },
        "intervals": {"test": {"mean_pooling_score": comparison.after_interval}, "gain": comparison.gain_interval},
        "counts": {"train": counts, "test": counts},
        "shared_artists": 0,
        "calibration": {
            "temperature": outcome.learned.temperature,
            "min_confidence": threshold.value if math.isfinite(threshold.value) else None,
            "min_confidence_reason": threshold.reason,
            "test": {
                "coverage": n_written / len(tagged.labels),
                "precision": n_right / n_written if n_written else None,
                "written_without_genre": outcome.learned.written_without_genre,
            },
        },
        "model": outcome.description.name,
        "command": list(argv),
        "options": options,
    }


def _card(folder: Path, outcome: Outcome, argv: Sequence[str]) -> str:
    return markdown_templates("training.probe").get_template("MODEL_CARD.md.j2").render(
        outcome=outcome,
        name=folder.name,
        genres=outcome.of_genres(),
        n_artists=int(outcome.tagged.artists.max()) + 1,
        fewest_songs=FEWEST_SONGS,
        fewest_artists=FEWEST_ARTISTS,
        fewest_held_out=LEAST_HELD_OUT,
        fewest_of_genre=LEAST_OF_EACH,
        commands=[shlex.join(argv)],
        tag_command=f"genre-tag --model {shlex.quote(str(folder))} ~/Music",
    )  # fmt: skip
