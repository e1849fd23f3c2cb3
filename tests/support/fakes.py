"""A model that answers by loudness, so that a test can say what each song is classified as."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from tagger.audio.decode import FULL_SCALE
from tagger.models.engine import Outputs
from tagger.models.head import GenreHead
from tagger.pipeline.options import DecisionPolicy, PredictOptions, TagOptions
from tagger.tags.policies import WriteOptions
from tests.support.songs import make_song

GENRES = ("Blues", "Classical", "Rock")


class FakeModel:
    """Classifies Blues in quiet songs (amplitude 0.05), Classical at 0.2 and Rock at 0.8; never sure below `logit`.

    It is its own description, too.
    """

    name, device, precision, precision_reason = "fake", "cpu", "fp32", "it is a fake"
    snippet_samples = 160_000
    backbone = ""
    batch_size, n_threads, engine, snippets_per_second = 4, 1, "no engine", 100.0

    def __init__(self, logit: float = 8.0, head: GenreHead | None = None) -> None:
        self.logit = logit
        self.head = head or GenreHead(GENRES, "softmax", thresholds=(0.5, 0.5, 0.5))
        self.n_classified = 0

    @property
    def fingerprint(self) -> str:
        return f"fake{self.logit}"

    def logits(self, snippets: np.ndarray) -> np.ndarray:
        self.n_classified += len(snippets)
        genre = np.digitize(np.abs(snippets / FULL_SCALE).max(axis=1), [0.1, 0.4])
        return self.logit * np.eye(3, dtype=np.float32)[genre]

    def outputs(self, snippets: np.ndarray) -> Outputs:
        """Its embeddings are the loudest sample and 1, (n_snippets, 2)."""
        loudest = np.abs(snippets / FULL_SCALE).max(axis=1)
        return Outputs(self.logits(snippets), np.stack([loudest, np.ones_like(loudest)], axis=1).astype(np.float32))


def make_tone(path: Path, genre: str, seconds: float = 11.0) -> None:
    """A song that FakeModel classifies as `genre`."""
    amplitude = {"Blues": 0.05, "Classical": 0.2, "Rock": 0.8}[genre]
    time = np.arange(int(seconds * 16_000)) / 16_000
    mono = amplitude * np.sin(2 * np.pi * 440 * time, dtype=np.float32)
    make_song(path, rate=16_000, signal=np.stack([mono, mono]))  # stereo: the Vorbis encoder knows nothing else


def make_options(**values: Any) -> TagOptions:
    """Options of a run by their names alone, each put where it belongs."""
    parts = (PredictOptions, DecisionPolicy, WriteOptions)
    names = [{field.name for field in fields(part)} for part in parts]
    assert values.keys() <= set().union(*names)
    return TagOptions(
        *(part(**{k: v for k, v in values.items() if k in own}) for part, own in zip(parts, names, strict=True))
    )
