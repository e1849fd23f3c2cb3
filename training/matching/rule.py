"""How the answers of both teachers become genres: a bias for each genre and a sharpness for each teacher.

The raters of AudioSet and the taggers of the Million Song Dataset used some words far more freely than others. The
numbers make the labels of 501 recordings likeliest, a source counting as the root of its recordings, with a normal
prior on the biases (of deviation 1 for mn04, 1.8 for FCN-MSD).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagger.models.head import audioset_head
from tagger.pipeline.aggregate import softmax
from training.starter.labels import GENRES
from training.teachers.musicnn import TAGS

FILE = Path(__file__).with_name("rule.json")
#: The power of the genres' frequencies that targets are divided by, and that by which these are then raised. With 0,
#: .25, .5, .75 and 1 the teachers are right for .57, .57, .57, .53 and .52 of 322 recordings that people labelled.
BALANCE, SURENESS = 0.35, 2.0
LEAST = -12.0  # logit of a genre that FCN-MSD has no tag for, and of any other at least


@dataclass(frozen=True, eq=False)
class Rule:
    """What turns answers of mn04 (527 classes) and of FCN-MSD (50 tags) into probabilities of `GENRES`."""

    mn04_bias: np.ndarray  # (n_genres,); so is FCN-MSD's
    mn04_sharpness: float
    fcn_bias: np.ndarray
    fcn_sharpness: float

    @classmethod
    def read(cls, path: Path = FILE) -> Rule:
        """The rule that is here."""
        table = json.loads(path.read_text(encoding="utf-8"))
        mn04, fcn = (np.array([table[teacher]["bias"][genre] for genre in GENRES]) for teacher in ("mn04", "fcn"))
        return cls(mn04, table["mn04"]["sharpness"], fcn, table["fcn"]["sharpness"])

    def genres(self, mn04: np.ndarray, fcn: np.ndarray) -> np.ndarray:
        """Logits (n_snippets, 527) and (n_snippets, 50) to probabilities (n_snippets, n_genres): the mean of both."""
        by_mn04 = softmax(mn04_scores(mn04) * self.mn04_sharpness + self.mn04_bias)
        by_fcn = softmax(fcn_scores(fcn) * self.fcn_sharpness + self.fcn_bias)
        mean: np.ndarray = (by_mn04 + by_fcn) / 2
        return mean


def mn04_scores(logits: np.ndarray) -> np.ndarray:
    """The highest logit of the classes of each genre, (n_snippets, n_genres)."""
    head = audioset_head()
    assert head.members is not None
    members = dict(zip(head.genres, head.members, strict=True))
    return np.stack([logits[:, list(members[genre])].max(axis=1) for genre in GENRES], axis=1)


def fcn_scores(logits: np.ndarray) -> np.ndarray:
    """The highest logit of the tags of each genre, (n_snippets, n_genres); `LEAST` where it has no tag."""
    columns = []
    for _, named in GENRES.values():
        tags = [TAGS.index(tag.strip()) for tag in named.split(",") if tag.strip()]
        columns.append(logits[:, tags].max(axis=1) if tags else np.full(len(logits), LEAST))
    return np.maximum(np.stack(columns, axis=1), LEAST)


def targets(probabilities: np.ndarray, is_music: np.ndarray) -> np.ndarray:
    """What the student is to answer, (n_snippets, n_genres), each row of sum 1: surer than the teachers, and less often
    of a genre that is frequent among the snippets.

    Free music is mostly electronic, and a student that is unsure falls back on what was frequent. The two teachers of
    which the mean was taken are seldom sure together, and a student of few parameters learns of many halves little.
    What is no music is every genre alike.
    """
    shares = probabilities[is_music].mean(axis=0)
    found: np.ndarray = (probabilities / shares**BALANCE) ** SURENESS
    found /= found.sum(axis=1, keepdims=True)
    found[~is_music] = 1 / probabilities.shape[1]
    return found
