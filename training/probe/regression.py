"""Multinomial logistic regression on embeddings, shrunk to what the model said before: NumPy alone, so that `learn`
needs no more than tagging does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tagger.pipeline.aggregate import softmax

MOST_STEPS = 100
TOLERANCE = 1e-3  # of the gradient, as a share of the first one: more digits change no song
N_REMEMBERED = 10  # pairs of steps and changes of the gradient
SUFFICIENT, HALVINGS = 1e-4, 30  # of the line search


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer: `weight` (n_genres, width) and `bias` (n_genres,)."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """(n_songs, width) to (n_songs, n_genres)."""
        logits: np.ndarray = embeddings @ self.weight.T + self.bias
        return logits

    def plus(self, other: Linear, share: float) -> Linear:
        """The layer whose logits are those of this one and a share of the other's."""
        return Linear(self.weight + share * other.weight, self.bias + share * other.bias)


def fit_linear(
    embeddings: np.ndarray, labels: np.ndarray, n_genres: int, shrinkage: float, offset: np.ndarray | None = None
) -> Linear:
    """The layer that is added to `offset`, (n_songs, n_genres) logits, to tell the genres of songs (n_songs, width).

    Least cross-entropy plus half of `shrinkage` times the squared weights, for columns of unit variance; the bias is
    free but for a hundredth of that, by which a genre without songs has one. A convex problem, by L-BFGS (Nocedal and
    Wright 2006, algorithm 7.4).
    """
    centre, scale = embeddings.mean(axis=0), embeddings.std(axis=0) + 1e-6
    columns = np.concatenate([(embeddings - centre) / scale, np.ones((len(embeddings), 1))], axis=1, dtype=np.float32)
    truth = np.eye(n_genres)[labels]
    strength = np.full((columns.shape[1], 1), shrinkage)
    strength[-1] = shrinkage / 100

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        matrix = weights.reshape(columns.shape[1], n_genres)
        logits = (columns @ matrix.astype(np.float32)).astype(np.float64)
        logits += 0.0 if offset is None else offset
        probabilities = softmax(logits)
        own = np.maximum(probabilities[np.arange(len(labels)), labels], 1e-300)
        value = -np.log(own).sum() + (strength * matrix**2).sum() / 2
        return float(value), (columns.T @ (probabilities - truth).astype(np.float32) + strength * matrix).ravel()

    found = minimize(loss, np.zeros(columns.shape[1] * n_genres)).reshape(columns.shape[1], n_genres)
    weight = found[:-1].T / scale
    return Linear(weight, found[-1] - weight @ centre)


def minimize(function: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray) -> np.ndarray:
    """Where a convex function, which gives its value and gradient, is least."""
    at, (value, gradient) = start, function(start)
    enough = TOLERANCE * np.linalg.norm(gradient)
    pairs: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=N_REMEMBERED)
    for _ in range(MOST_STEPS):
        if np.linalg.norm(gradient) <= enough:
            break
        direction = _direction(gradient, pairs)
        slope = float(gradient @ direction)
        step = 1.0 if pairs else 1.0 / max(1.0, float(np.linalg.norm(gradient)))
        for _ in range(HALVINGS):
            new_value, new_gradient = function(at + step * direction)
            if new_value <= value + SUFFICIENT * step * slope:
                break
            step /= 2
        else:
            break  # no better within what a float can tell
        if (step * direction) @ (new_gradient - gradient) > 0:
            pairs.append((step * direction, new_gradient - gradient))
        at, value, gradient = at + step * direction, new_value, new_gradient
    return at


def _direction(gradient: np.ndarray, pairs: deque[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Downhill, by the curvature that the last steps showed: the two loops of L-BFGS."""
    direction = -gradient
    shares = []
    for step, change in reversed(pairs):
        share = (step @ direction) / (step @ change)
        direction = direction - share * change
        shares.append(share)
    if pairs:
        step, change = pairs[-1]
        direction = direction * ((step @ change) / (change @ change))
    for (step, change), share in zip(pairs, reversed(shares), strict=True):
        direction = direction + (share - (change @ direction) / (step @ change)) * step
    return direction
