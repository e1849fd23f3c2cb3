"""The last layer of a network, corrected by what people called recordings; the network under it stays as it is.

A few hundred labels are too few to train a network, but the logits are linear in the embedding of a song, and a
regression on that alone knows something else than the teachers did. So it is fitted by itself and added to the layer
that was distilled: where both agree the answer is surer, where they differ it is less sure. (Fitted together with that
layer, shrunk towards it, it gained half as much.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from tagger.audio.decode import decode
from tagger.errors import AudioError
from tagger.models.checkpoint import load_checkpoint, read_last_layer
from tagger.models.description import describe
from tagger.models.transformer import Transformer
from tagger.pipeline.options import PredictOptions
from training.probe.regression import Linear
from training.starter.evidence import source_weights
from training.starter.labels import Song

SHRINKAGE = 100.0  # of the regression towards 0; from 30 to 300 made no difference that could be told from chance
SHARE = 0.6  # of the regression's logits that is added: by itself it is right less often than the distilled layer
N_STEPS = 50  # of L-BFGS: the loss is convex
N_FOLDS = 10  # that the sources are shared out into: a fit for each source would take ten times as long


@dataclass(frozen=True, eq=False)
class Embedded:
    """Songs with the mean embedding of their snippets, one row each."""

    songs: tuple[Song, ...]
    embeddings: np.ndarray  # (n_songs, width)
    labels: np.ndarray  # (n_songs,); -1 for what is no music

    @property
    def sources(self) -> np.ndarray:
        """The package or repository of each song, (n_songs,) of str; its artist or album where no table says."""
        return np.array([song.source or song.artist or song.album for song in self.songs])


def embed(run: str, songs: Sequence[Song]) -> Iterator[tuple[Song, np.ndarray]]:
    """Songs with the mean embedding of the snippets that the product cuts, (width,).

    `run` is a checkpoint, as `description.describe` takes it. Songs that cannot be decoded are reported and left out,
    and silent ones too.
    """
    checkpoint = load_checkpoint(describe(run))
    network = Transformer.of(checkpoint.architecture, checkpoint.weights, "fp32")
    n_samples = checkpoint.description.snippet_samples
    for song in tqdm(songs, unit="song", disable=None):
        try:
            snippets = decode(song.path, PredictOptions.n_snippets, n_samples)
        except AudioError as error:
            click.echo(str(error), err=True)
            continue
        if not snippets.unsure:
            log_mels = np.stack([checkpoint.log_mel(samples) for samples in snippets.samples])
            with torch.inference_mode():
                rows = network.embed(torch.from_numpy(log_mels))
            yield song, rows.double().mean(dim=0).numpy()


def distilled_head(run: str | Path) -> Linear:
    """The last layer of a checkpoint."""
    weight, bias = read_last_layer(describe(str(run)))
    return Linear(weight.astype(np.float64), bias.astype(np.float64))


def regression(embeddings: np.ndarray, labels: np.ndarray, sources: np.ndarray, n_genres: int) -> Linear:
    """A multinomial ridge regression on embeddings (n_songs, width), a source counting as the root of its songs.

    Least cross-entropy plus half of `SHRINKAGE` times the squared weights, in standard deviations of each column.
    """
    centre, scale = embeddings.mean(axis=0), embeddings.std(axis=0) + 1e-6
    columns, truth = torch.from_numpy((embeddings - centre) / scale), torch.from_numpy(labels)
    counts = torch.from_numpy(source_weights(sources.tolist()))
    weight = torch.zeros((n_genres, columns.shape[1]), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(n_genres, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=N_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        errors = F.cross_entropy(columns @ weight.T + bias, truth, reduction="none")
        total: torch.Tensor = counts @ errors + (SHRINKAGE * weight.square().sum() + bias.square().sum()) / 2
        total.backward()
        return total

    optimizer.step(loss)
    scaled = weight.detach().numpy() / scale
    return Linear(scaled, bias.detach().numpy() - scaled @ centre)


def corrected(songs: Embedded, distilled: Linear, rows: np.ndarray) -> Linear:
    """The distilled head and the regression on those of some songs, bool (n_songs,), that are music; as it is where
    none is.
    """
    rows = rows & (songs.labels >= 0)
    if not rows.any():
        return distilled
    added = regression(songs.embeddings[rows], songs.labels[rows], songs.sources[rows], len(distilled.bias))
    return distilled.plus(added, SHARE)


def logits_without_source(songs: Embedded, distilled: Linear) -> np.ndarray:
    """Logits (n_songs, n_genres) of each song by the head that was corrected without any song of its source; nor of
    the sources that are in one of `N_FOLDS` parts with it.
    """
    logits, names = np.empty((len(songs.songs), len(distilled.bias))), songs.sources
    fold = {name: place % N_FOLDS for place, name in enumerate(np.random.default_rng(0).permutation(np.unique(names)))}
    folds = np.array([fold[name] for name in names])
    for left_out in (folds == number for number in np.unique(folds)):
        logits[left_out] = corrected(songs, distilled, ~left_out).logits(songs.embeddings[left_out])
    return logits
