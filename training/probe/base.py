"""What the model said before, as a linear layer that another is added to: its outputs, read as genres.

A song's score for a genre is the highest of the outputs that speak for it, less the mean of all of them, so that a
genre of which the model knows nothing scores 0. At the model's temperature, that is its zero-shot answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tagger.models.head import GenreHead
from tagger.pipeline.genres import canonical, genre_key


@dataclass(frozen=True, eq=False)
class Base:
    """The last layer of a model and what its outputs mean, beside genres that are to be learned."""

    head: GenreHead
    weight: np.ndarray  # (n_outputs, width)
    bias: np.ndarray  # (n_outputs,)
    #: Of each learned genre the genre of the model that it is, or is a kind of; None: the model knows nothing of it.
    parents: tuple[int | None, ...]

    @classmethod
    def of(cls, head: GenreHead, weight: np.ndarray, bias: np.ndarray, learned: Sequence[str]) -> Base:
        """The model beside these genres."""
        return cls(
            head, weight.astype(np.float64), bias.astype(np.float64), tuple(_parent(name, head) for name in learned)
        )

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """Outputs that speak for each genre of the model."""
        return self.head.members or tuple((index,) for index in range(len(self.head.genres)))

    @property
    def others(self) -> tuple[int, ...]:
        """The genres of the model that no learned one is of: a song may be of one of them all the same."""
        return tuple(index for index in range(len(self.head.genres)) if index not in self.parents)

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Scores of the genres of the model, (n_songs, n_outputs) mean logits to (n_songs, n_genres)."""
        logits = logits.astype(np.float64) - (0.0 if self.head.bias is None else np.asarray(self.head.bias))
        spoken = sorted({column for own in self.members for column in own})
        centred = (logits - logits[:, spoken].mean(axis=1, keepdims=True)) / self.temperature
        return np.stack([centred[:, own].max(axis=1) for own in self.members], axis=1)

    def prior(self, logits: np.ndarray) -> np.ndarray:
        """Scores of the learned genres, then of the others, (n_songs, n_learned + n_others)."""
        scores = self.scores(logits)
        learned = [np.zeros(len(scores)) if parent is None else scores[:, parent] for parent in self.parents]
        return np.stack([*learned, *(scores[:, other] for other in self.others)], axis=1)

    @property
    def temperature(self) -> float:
        """That of the model; 1 where none was fitted."""
        return self.head.temperature or 1.0

    def layer_of(self, genre: int) -> tuple[np.ndarray, np.ndarray]:
        """Weight (n_members, width) and bias (n_members,) by which embeddings give the scores of a genre's outputs."""
        spoken = sorted({column for own in self.members for column in own})
        own = list(self.members[genre])
        bias = self.bias - (0.0 if self.head.bias is None else np.asarray(self.head.bias))
        return (
            (self.weight[own] - self.weight[spoken].mean(axis=0)) / self.temperature,
            (bias[own] - bias[spoken].mean()) / self.temperature,
        )


def _parent(name: str, head: GenreHead) -> int | None:
    """The genre of a model that another is: of that name, or of the same one of the vocabulary."""
    keys = [genre_key(genre) for genre in head.genres]
    if genre_key(name) in keys:
        return keys.index(genre_key(name))
    known = canonical(name)
    return next((index for index, genre in enumerate(head.genres) if known and canonical(genre) == known), None)
