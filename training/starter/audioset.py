"""What the AudioSet head needs to be sure with reason: a bias for each genre, a least lead, and a gate.

    python -m training.starter.audioset starter/recordings/songs.csv --teachers FOLDER

The raters of AudioSet used some labels far more freely than others, so the same logit does not mean the same in each.
Fitted on recordings that people labelled, with mn04, which answers the same classes and runs anywhere; written into
the table that `tagger.models.head.audioset_head` reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

import tagger.models
from tagger.audio.decode import decode
from tagger.errors import AudioError
from tagger.evaluation.metrics import interval, macro_recall, paired_interval
from tagger.models.head import GenreHead, audioset_head
from tagger.pipeline.aggregate import Decision, decide, sigmoid, song_scores
from tagger.pipeline.options import DecisionPolicy, PredictOptions
from training.starter import NothingDoneError
from training.starter.corpus import NO_MUSIC
from training.starter.evidence import genre_weights, kind, source_weights
from training.starter.labels import Song, read_songs
from training.teachers.mn04 import Mn04

TABLE = Path(tagger.models.__path__[0], "audioset_genres.json")
SNIPPET_SAMPLES = 160_000  # of the AST checkpoint: 10 s
SHRINKAGE = 3.0  # of the biases towards 0: as many songs against a genre as would move it by a logit
PRECISION = 0.8  # of what is written, at least
FEWEST_WRITTEN = 10  # songs of a kind of source, before it counts as evidence
LETS_THROUGH = 0.99  # share of the labelled music that passes the gate
N_STEPS = 100  # of L-BFGS


@dataclass(frozen=True, eq=False)
class Answered:
    """A song and what the network answered, logits (n_snippets, 527)."""

    song: Song
    logits: np.ndarray

    @property
    def is_music(self) -> bool:
        """Whether people called it a genre."""
        return self.song.genre != NO_MUSIC


def ask(songs: Sequence[Song], network: Mn04) -> Iterator[Answered]:
    """What the network answers to the snippets that the product would cut; songs that cannot be decoded are reported
    and left out.
    """
    for song in tqdm(songs, unit="song", disable=None):
        try:
            snippets = decode(song.path, PredictOptions.n_snippets, SNIPPET_SAMPLES)
        except AudioError as error:
            click.echo(str(error), err=True)
            continue
        if not snippets.unsure:
            yield Answered(song, network(torch.from_numpy(snippets.waveforms)).numpy())


def fit_biases(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What to take off each genre's score, (n_genres,), from scores (n_songs, n_genres) and labels (n_songs,).

    The softmax of the corrected scores makes the labels likeliest, at the temperature that suits it best; a normal
    prior holds the biases of seldom classified genres near 0, and those that nothing was labelled with fall behind.
    """
    columns, truth, counts = map(torch.from_numpy, (scores, labels, weights))
    bias, sharpness = torch.zeros(scores.shape[1], dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    free = [bias.requires_grad_(), sharpness.requires_grad_()]
    optimizer = torch.optim.LBFGS(free, max_iter=N_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        errors = F.cross_entropy((columns - bias) * sharpness.exp(), truth, reduction="none")
        total: torch.Tensor = counts @ errors + SHRINKAGE * bias.square().sum() / 2
        total.backward()
        return total

    optimizer.step(loss)
    found: np.ndarray = bias.detach().numpy()
    return found


def with_bias(head: GenreHead, bias: np.ndarray) -> GenreHead:
    """The head with what is taken off each genre's outputs, (n_genres,)."""
    assert head.members is not None and head.bias is not None
    columns = np.zeros(len(head.bias))
    for value, members in zip(bias, head.members, strict=True):
        columns[list(members)] = value
    return replace(head, bias=tuple(columns.tolist()))


class Evidence:
    """Answers to labelled recordings, and what they say of heads."""

    def __init__(self, answers: Sequence[Answered], head: GenreHead) -> None:
        self.answers, self.head = answers, replace(head, bias=(0.0,) * len(head.bias or ()))
        self.labels = np.array([head.genres.index(each.song.genre) if each.is_music else -1 for each in answers])
        self.sources = np.array([each.song.source or each.song.album for each in answers])
        self.kinds = np.array([kind(each.song) for each in answers])
        self.scores = np.stack([song_scores(each.logits, self.head) for each in answers])

    def bias(self, rows: np.ndarray) -> np.ndarray:
        """The biases (n_genres,) by some of the songs, bool (n_songs,)."""
        rows = rows & (self.labels >= 0)
        return fit_biases(self.scores[rows], self.labels[rows], source_weights(self.sources[rows].tolist()))

    def heads_without_source(self) -> dict[str, GenreHead]:
        """For each source the head whose biases were fitted without its songs."""
        return {source: with_bias(self.head, self.bias(self.sources != source)) for source in np.unique(self.sources)}

    def least_music(self) -> float:
        """The greatest least probability of music, in steps of .05, that lets `LETS_THROUGH` of the music pass."""
        assert self.head.gate is not None
        columns = [self.head.gate.music, self.head.gate.speech]
        music, speech = np.stack(
            [sigmoid(each.logits[:, columns].astype(np.float64)).mean(axis=0) for each in self.answers]
        )[self.labels >= 0].T
        steps = np.arange(1, 20) / 20
        passing = [value for value in steps if (music >= np.maximum(value, speech)).mean() >= LETS_THROUGH]
        return float(max(passing, default=steps[0]))

    def decisions(self, heads: dict[str, GenreHead], min_confidence: float) -> list[Decision]:
        """What the product decides of each song, by the head of its source."""
        return [
            decide(each.logits, heads[source], DecisionPolicy(min_confidence=min_confidence))
            for each, source in zip(self.answers, self.sources, strict=True)
        ]

    def named(self, heads: dict[str, GenreHead]) -> tuple[np.ndarray, np.ndarray]:
        """The label that each song would get, -1 for none, and how sure its source's head is; both (n_songs,)."""
        decisions = self.decisions(heads, 0.0)
        labels = np.array([self.head.genres.index(each.genres[0]) if each.genres else -1 for each in decisions])
        return labels, np.array([each.confidence if each.genres else -1.0 for each in decisions])

    def least_confidence(self, named: np.ndarray, confidences: np.ndarray, rows: np.ndarray) -> float:
        """The least confidence, in steps of .01, from which on what is written is right often enough, by some of the
        songs, bool (n_songs,): of all of them, as if each genre were as frequent, and in each kind of source of which
        enough is written. 1 where none is.
        """
        for value in np.arange(51, 100) / 100:
            is_written = (confidences >= value) & rows
            if is_written.any() and self.precision(named, is_written, rows) >= PRECISION:
                return float(value)
        return 1.0

    def written_without_source(self, named: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """What is written, bool (n_songs,), where each song's threshold is chosen without its source."""
        is_written = np.zeros(len(named), bool)
        for source in np.unique(self.sources):
            held_out = self.sources == source
            least = self.least_confidence(named, confidences, ~held_out)
            is_written[held_out] = confidences[held_out] >= least
        return is_written

    def precision(self, named: np.ndarray, is_written: np.ndarray, rows: np.ndarray) -> float:
        """The worst share that is right: of all, as if genres were as frequent in `rows`, of each kind of source."""
        is_right, weights = is_written & (named == self.labels), genre_weights(np.where(rows, self.labels, -1))
        shares = [is_right.sum() / is_written.sum(), weights[is_right].sum() / weights[is_written].sum()]
        for name in np.unique(self.kinds):
            of_kind = is_written & (self.kinds == name)
            if of_kind.sum() >= FEWEST_WRITTEN:
                shares.append(is_right[of_kind].sum() / of_kind.sum())
        return float(min(shares))


def report(evidence: Evidence, heads: dict[str, GenreHead], min_confidence: float) -> list[str]:
    """How often the head is right, without biases and with those that were fitted without each song's source."""
    is_music = evidence.labels >= 0
    labels = evidence.labels[is_music]
    before = evidence.scores[is_music].argmax(axis=1) == labels
    scores = np.stack(
        [
            song_scores(each.logits, heads[source])
            for each, source in zip(evidence.answers, evidence.sources, strict=True)
        ]
    )[is_music]
    after = scores.argmax(axis=1) == labels
    lines = [
        f"{name}: {len(labels)} recordings, top-1 {right.mean():.3f} ({low:.2f} to {high:.2f}),"
        f" macro recall {macro_recall(right, labels):.3f}"
        for name, right in (("without biases", before), ("with biases, sources left out", after))
        for low, high in [interval(right, evidence.sources[is_music], seed=0)]
    ]
    low, high = paired_interval(after, before, evidence.sources[is_music], seed=0)
    lines.append(f"more often right by {after.mean() - before.mean():.3f} ({low:.3f} to {high:.3f})")
    named, confidences = evidence.named(heads)
    without = evidence.written_without_source(named, confidences)
    for threshold, is_written in (
        (f"from {min_confidence:.2f} on", confidences >= min_confidence),
        ("from where on is chosen without the source", without),
    ):
        is_right = is_written & (named == evidence.labels)
        for name in (*np.unique(evidence.kinds), None):
            some = is_music & (evidence.kinds == name if name else True)
            told = f"{is_written[some].sum()} of {some.sum()} written, {is_right[some].sum()} rightly"
            lines.append(f"{threshold}, {name or 'all'}: {told}")
        lines.append(f"{threshold}: of {(~is_music).sum()} that are no music {is_written[~is_music].sum()} written")
    return lines


@click.command()
@click.argument("recordings", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--teachers", "folder", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--table", default=TABLE, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def audioset(recordings: Path, folder: Path, table: Path) -> None:
    """Fit the AudioSet head on the labelled songs of RECORDINGS, the songs.csv of `corpus`; write the table."""
    head = audioset_head()
    songs = [song for song in read_songs([recordings]) if song.genre in {*head.genres, NO_MUSIC}]
    songs = [song for song in songs if song.genre != NO_MUSIC or song.split == "test"]
    answers = list(ask(songs, Mn04(folder)))
    if not any(each.is_music for each in answers):
        raise NothingDoneError(f"{recordings}: no music that is labelled with a genre of AudioSet's table")
    lines = fit_table(answers, table)
    click.echo("\n".join(lines))


def fit_table(answers: Sequence[Answered], table: Path) -> list[str]:
    """Fit all of it and write it into a table; what there is to tell of it."""
    evidence = Evidence(answers, audioset_head())
    assert evidence.head.gate is not None
    min_music = evidence.least_music()
    evidence.head = replace(evidence.head, gate=replace(evidence.head.gate, min_music=min_music))
    heads = evidence.heads_without_source()
    named, confidences = evidence.named(heads)
    min_confidence = evidence.least_confidence(named, confidences, np.ones(len(answers), bool))
    is_written = confidences >= min_confidence
    n_written, n_right = is_written.sum(), (is_written & (named == evidence.labels)).sum()
    bias = evidence.bias(np.ones(len(answers), bool))
    fitted = {
        "bias": dict(zip(evidence.head.genres, np.round(bias, 2).tolist(), strict=True)),
        "min_confidence": min_confidence,
        "min_music": min_music,
        "reason": f"fitted with a smaller network of the same labels: of {len(answers)} recordings"
        f" {n_written} would be written, {n_right} of them rightly",
    }
    values = json.loads(table.read_text(encoding="utf-8"))
    table.write_text(json.dumps(values | {"fitted": fitted}, indent=1) + "\n", encoding="utf-8")
    return report(evidence, heads, min_confidence)


if __name__ == "__main__":
    audioset()
