"""From a training run to the embedded checkpoint: judged on real recordings, and told as it is.

    python -m training.starter.release runs/starter recordings/songs.csv --out tagger/models/starter

What is written has to be right, so the thresholds are fitted on recordings that people labelled and training did not
use, music and what is none; and judged on them too, for want of more, once as they are and once without the
recordings of each one's source. On the same recordings the last layer is corrected (`head`), and no song is judged by
one that was corrected with a song of its source.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from safetensors.numpy import load_file, save_file

from tagger.evaluation.metrics import Interval, confusion, interval, macro_recall
from tagger.models.description import describe
from tagger.models.head import GenreHead
from tagger.pipeline import aggregate
from tagger.pipeline.aggregate import softmax
from training.outcome.calibrate import fit_temperature
from training.outcome.markdown import markdown_templates
from training.probe.regression import Linear
from training.starter import NothingDoneError
from training.starter.corpus import NO_MUSIC
from training.starter.evidence import genre_weights, kind
from training.starter.head import Embedded, corrected, distilled_head, embed, logits_without_source
from training.starter.labels import Song, read_songs

PRECISION = 0.8  # of what is written, at least
FEWEST_RIGHT = 5  # recordings of a genre that have to be written rightly before it is written at all
FEWEST_KINDS = 2  # of sources (`evidence.kind`) that some of them have to be of
JUDGED = ("validate", "test")
COVERAGES = (0.1, 0.2, 0.4)  # shares of all recordings that are told of, the surest first
SCORES = "SCORES.md"


@dataclass(frozen=True, eq=False)
class Prediction:
    """Songs with what the model answered, one row each."""

    songs: tuple[Song, ...]
    logits: np.ndarray  # (n_songs, n_genres): mean of the snippets

    def chosen(self, keep: Iterable[bool]) -> Prediction:
        """Some of the songs."""
        rows = np.flatnonzero(list(keep))
        return Prediction(tuple(self.songs[row] for row in rows), self.logits[rows])


@dataclass(frozen=True)
class Decision:
    """When a genre is written."""

    temperature: float
    #: Genre → the least confidence at which it is written; the others never are.
    min_confidence: dict[str, float]
    reason: str


def decide(prediction: Prediction, genres: Sequence[str]) -> Decision:
    """When to write a genre so that `PRECISION` of what is written is right, by recordings that people labelled.

    A genre's threshold is the least, in steps of .01, above which the next one can be expected to be right that often:
    by the rule of succession (n_right + 1) / (n_named + 2), since the share itself would be that of the luckiest of
    many thresholds; of the songs as they are, and as if each genre were as frequent (`evidence.genre_weights`). What is
    no music counts as named wrongly. A genre of which fewer than `FEWEST_RIGHT` are right, or those of one kind of
    source alone, stays silent. The temperature is fitted on the music.
    """
    labels = labels_of(prediction, genres)
    temperature = fit_temperature(prediction.logits[labels >= 0], labels[labels >= 0])
    probabilities = softmax(prediction.logits / temperature)
    predicted, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    kinds, weights = np.array([kind(song) for song in prediction.songs]), genre_weights(labels)
    least, told = {}, []
    for label, genre in enumerate(genres):
        for value in np.unique(np.floor(confidences[predicted == label] * 100) / 100).tolist():
            is_named = (predicted == label) & (confidences >= value)
            is_right = is_named & (labels == label)
            n_named, n_right = int(is_named.sum()), int(is_right.sum())
            if n_right < FEWEST_RIGHT or len(set(kinds[is_right])) < FEWEST_KINDS:
                continue
            if min(expected(n_right, n_named), expected(weights[is_right].sum(), weights[is_named].sum())) >= PRECISION:
                least[genre] = round(float(value), 2)
                told.append(f"{genre} was right {n_right} of {n_named} times")
                break
    if not least:
        return Decision(temperature, {}, "this model was not right often enough on real recordings to write any genre")
    reason = (
        f"this model writes only {' and '.join(least)} by default; its other answers were wrong too often on real"
        f" recordings, or too seldom tested ({', '.join(told)})"
    )
    return Decision(temperature, least, reason)


def expected(n_right: float, n_named: float) -> float:
    """The chance that the next one is right, by the rule of succession."""
    return float((n_right + 1) / (n_named + 2))


def labels_of(prediction: Prediction, genres: Sequence[str]) -> np.ndarray:
    """The label that people gave each song, (n_songs,); -1 for what is no music."""
    return np.array([-1 if song.genre == NO_MUSIC else genres.index(song.genre) for song in prediction.songs])


def written(prediction: Prediction, genres: Sequence[str], decision: Decision) -> np.ndarray:
    """The label that each song would get, (n_songs,); -1 for one that the model is unsure of."""
    thresholds = tuple(decision.min_confidence.get(genre, math.inf) for genre in genres)
    head = GenreHead(tuple(genres), "softmax", temperature=decision.temperature, thresholds=thresholds)
    decided = (aggregate.decide(logits[None], head).genres for logits in prediction.logits)
    return np.array([head.genres.index(named[0]) if named else -1 for named in decided])


def without_its_source(prediction: Prediction, genres: Sequence[str]) -> np.ndarray:
    """What `written` gives when the decision is made without the recordings of each song's own source, so that no
    song judges a threshold that it helped to choose, (n_songs,).
    """
    labels, is_music = np.full(len(prediction.songs), -1), labels_of(prediction, genres) >= 0
    sources = np.array([_source(song) for song in prediction.songs])
    for source in np.unique(sources):
        is_held_out = sources == source
        if not is_music[~is_held_out].any():
            continue  # none is left to decide by
        labels[is_held_out] = written(
            prediction.chosen(is_held_out), genres, decide(prediction.chosen(~is_held_out), genres)
        )
    return labels


def _source(song: Song) -> str:
    return song.source or song.artist or song.album


def ship(checkpoint: Path, folder: Path, head: Linear, decision: Decision) -> None:
    """Write a checkpoint to a folder, in float16, with another head and the decision; the card is another matter."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(checkpoint / name, folder)
    weights = load_file(checkpoint / "model.safetensors")
    weights |= {"classifier.dense.weight": head.weight, "classifier.dense.bias": head.bias}
    half = {name: values.astype(np.float16) for name, values in weights.items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    # No `held_out`: the same recordings corrected the last layer, so that nothing may be called calibrated on them.
    training = {
        "temperature": decision.temperature,
        "min_confidence": decision.min_confidence,
        "min_confidence_reason": decision.reason,
    }
    (folder / "training.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Score:
    """How often a genre is right, among the first one or two that are named."""

    n_songs: int
    top_1: float
    top_1_interval: Interval
    top_2: float
    macro_recall: float


def score(prediction: Prediction, genres: Sequence[str]) -> Score:
    """Scores of songs that people labelled."""
    labels = np.array([genres.index(song.genre) for song in prediction.songs])
    order = np.argsort(-prediction.logits, axis=1)
    is_right = order[:, 0] == labels
    is_second = order[:, 1] == labels
    return Score(
        len(labels),
        float(is_right.mean()),
        interval(is_right, np.array([_source(song) or str(song.path) for song in prediction.songs]), seed=0),
        float((is_right | is_second).mean()),
        macro_recall(is_right, labels),
    )


@dataclass(frozen=True)
class Tally:
    """How many recordings get a genre, and how many of those that are music the right one."""

    n_music: int
    n_written: int
    n_right: int
    n_noises: int
    n_noises_written: int


def report(prediction: Prediction, genres: Sequence[str], decision: Decision) -> str:
    """All that the card says of real recordings, as Markdown."""
    scores = {}
    for split in JUDGED:
        some = prediction.chosen(song.split == split and song.genre != NO_MUSIC for song in prediction.songs)
        if some.songs:
            scores[split] = score(some, genres)
    labels = labels_of(prediction, genres)
    music, music_labels = prediction.chosen(labels >= 0), labels[labels >= 0]
    predicted = music.logits.argmax(axis=1)
    confidences = softmax(music.logits / decision.temperature).max(axis=1)
    is_right = (predicted == music_labels)[np.argsort(-confidences)]
    n_surest = [math.ceil(coverage * len(is_right)) for coverage in COVERAGES]
    text = (
        markdown_templates("training.starter")
        .get_template("SCORES.md.j2")
        .render(
            scores=scores,
            tallies={
                "on them": _tally(written(prediction, genres, decision), labels),
                "without their own source": _tally(without_its_source(prediction, genres), labels),
            },
            surest=[(share, n, is_right[:n].mean()) for share, n in zip(COVERAGES, n_surest, strict=True)],
            genres=genres,
            matrix=confusion(music_labels, predicted, len(genres)),
        )
    )
    return text.rstrip("\n")


def _tally(named: np.ndarray, labels: np.ndarray) -> Tally:
    """Of the labels that songs get, -1 for none, beside those that people gave them, -1 for what is no music."""
    is_music, is_written = labels >= 0, named >= 0
    return Tally(
        n_music=int(is_music.sum()),
        n_written=int((is_music & is_written).sum()),
        n_right=int((is_music & (named == labels)).sum()),
        n_noises=int((~is_music).sum()),
        n_noises_written=int((~is_music & is_written).sum()),
    )


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("recordings", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER")
def release(run: Path, recordings: Path, out: Path) -> None:
    """Judge the checkpoint of RUN on the songs of a table that people labelled and training never used; write it to
    FOLDER, and beside it SCORES.md.
    """
    checkpoint = describe(str(run)).folder
    genres = describe(str(run)).head.genres
    songs = [song for song in read_songs([recordings]) if song.split in JUDGED and song.genre in {*genres, NO_MUSIC}]
    if not songs:
        raise NothingDoneError(f"{recordings}: no song that is held out and labelled with a genre of the model")
    kept, rows = zip(*embed(str(run), songs), strict=True)
    labels = np.array([-1 if song.genre == NO_MUSIC else genres.index(song.genre) for song in kept])
    embedded, distilled = Embedded(kept, np.stack(rows), labels), distilled_head(run)
    prediction = Prediction(kept, logits_without_source(embedded, distilled))
    decision = decide(prediction, genres)
    ship(checkpoint, out, corrected(embedded, distilled, np.ones(len(kept), bool)), decision)
    text = report(prediction, genres, decision)
    (out / SCORES).write_text(text + "\n", encoding="utf-8")
    click.echo(text)


if __name__ == "__main__":
    release()
