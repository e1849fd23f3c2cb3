"""From a training run to the embedded checkpoint: judged on real recordings, and told as it is.

    python -m training.starter.release runs/starter recordings/songs.csv --out tagger/models/starter

What is written has to be right, so the thresholds are fitted on recordings that people labelled and training did not
use, music and what is none; and judged on them too, for want of more, once as they are and once without the
recordings of each one's source.
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
from tqdm import tqdm

from tagger.audio.decode import decode
from tagger.errors import AudioError
from tagger.evaluation.metrics import Interval, confusion, interval, macro_recall
from tagger.models.genre_model import GenreModel
from tagger.pipeline.aggregate import AGGREGATORS, softmax
from tagger.pipeline.options import PredictOptions
from training.outcome.calibrate import fit_temperature
from training.outcome.card import markdown_templates
from training.starter.corpus import NO_MUSIC
from training.starter.labels import Song, read_songs

PRECISION = 0.8  # of what is written, at least
FEWEST_RIGHT = 5  # recordings of a genre that have to be written rightly before it is written at all
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


def predict(model: GenreModel, songs: Sequence[Song], n_snippets: int) -> Prediction:
    """What the model answers to songs as the product classifies them; those without sound are left out."""
    prediction, logits = [], []
    for song in tqdm(songs, unit="song", disable=None):
        try:
            snippets = decode(song.path, n_snippets, model.snippet_samples)
        except AudioError as error:
            click.echo(str(error), err=True)
            continue
        if not snippets.unsure:
            prediction.append(song)
            logits.append(AGGREGATORS["mean"](model.logits(snippets.samples)))
    return Prediction(tuple(prediction), np.array(logits))


def decide(prediction: Prediction, genres: Sequence[str]) -> Decision:
    """When to write a genre so that `PRECISION` of what is written is right, by recordings that people labelled.

    A genre's threshold is the least, in steps of .01, above which the next one can be expected to be right that often:
    by the rule of succession (n_right + 1) / (n_named + 2), since the share itself would be that of the luckiest of
    many thresholds. What is no music counts as named wrongly. Genres of which fewer than `FEWEST_RIGHT` are right stay
    silent. The temperature is fitted on the music.
    """
    labels = labels_of(prediction, genres)
    temperature = fit_temperature(prediction.logits[labels >= 0], labels[labels >= 0])
    probabilities = softmax(prediction.logits / temperature)
    predicted, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    least, told = {}, []
    for label, genre in enumerate(genres):
        for value in np.unique(np.floor(confidences[predicted == label] * 100) / 100).tolist():
            is_named = (predicted == label) & (confidences >= value)
            n_named, n_right = int(is_named.sum()), int((labels[is_named] == label).sum())
            if n_right >= FEWEST_RIGHT and (n_right + 1) / (n_named + 2) >= PRECISION:
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


def labels_of(prediction: Prediction, genres: Sequence[str]) -> np.ndarray:
    """The label that people gave each song, (n_songs,); -1 for what is no music."""
    return np.array([-1 if song.genre == NO_MUSIC else genres.index(song.genre) for song in prediction.songs])


def written(prediction: Prediction, genres: Sequence[str], decision: Decision) -> np.ndarray:
    """The label that each song would get, (n_songs,); -1 for one that the model is unsure of."""
    probabilities = softmax(prediction.logits / decision.temperature)
    labels = probabilities.argmax(axis=1)
    least = np.array([decision.min_confidence.get(genre, np.inf) for genre in genres])
    return np.where(probabilities.max(axis=1) >= least[labels], labels, -1)


def without_its_source(prediction: Prediction, genres: Sequence[str]) -> np.ndarray:
    """What `written` gives when the decision is made without the recordings of each song's own source, so that no
    song judges a threshold that it helped to choose, (n_songs,)."""
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
    return song.artist or song.album


def ship(run: Path, folder: Path, decision: Decision) -> None:
    """Write the checkpoint of a run to a folder, in float16 and with the decision; the card is another matter."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(run / "checkpoint" / name, folder)
    weights = load_file(run / "checkpoint" / "model.safetensors")
    half = {name: values.astype(np.float16) for name, values in weights.items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
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
        interval(is_right, seed=0),
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
    FOLDER, and beside it SCORES.md."""
    model = GenreModel.load(str(run), "cpu", "fp32")
    genres = model.head.genres
    songs = [song for song in read_songs([recordings]) if song.split in JUDGED and song.genre in {*genres, NO_MUSIC}]
    if not songs:
        raise click.ClickException(f"{recordings}: no song that is held out and labelled with a genre of the model")
    prediction = predict(model, songs, PredictOptions.n_snippets or 1)
    decision = decide(prediction, genres)
    ship(run, out, decision)
    text = report(prediction, genres, decision)
    (out / SCORES).write_text(text + "\n", encoding="utf-8")
    click.echo(text)


if __name__ == "__main__":
    release()
