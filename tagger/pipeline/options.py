"""The options of a tagging run: how to predict, how to decide, how to write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tagger.tags.policies import WriteOptions


@dataclass(frozen=True)
class PredictOptions:
    """How the model is run over songs."""

    model: str = "starter"  # the embedded checkpoint needs no network
    device: str = "auto"  # an accelerator where there is one
    precision: str = "auto"  # what is fastest, or cached already: see cache.Method
    n_snippets: int | None = 5  # evenly spread; three give 80 % of the gain over one, five 90-95 %; None: all
    until_clear: bool = False  # two are predicted first, and `n_snippets` where these two would decide differently
    batch_size: int | None = None  # see model.default_batch_size
    n_threads: int | None = None  # of a CPU, that the model computes on: see model.choices
    n_workers: int | None = None  # see run.default_workers
    time_limit_seconds: int = 60  # a broken file may keep a decoder busy for ever; a song takes well under 1 s
    reanalyze: bool = False  # what the same model predicted before is predicted again
    retry_failed: bool = False  # what could not be decoded cannot be decoded today, unless the file changes
    with_embeddings: bool = False  # only `learn` reads them; songs cached without them are predicted again for it


@dataclass(frozen=True)
class DecisionPolicy:
    """How a song's logits become the genres that are written."""

    aggregate: str = "mean"  # of logits: best or as good as any other in every comparison; max loses 3-4 points
    max_genres: int = 1  # half of all players show only the first
    min_confidence: float | None = None  # the checkpoint knows what its confidences are worth
    names: Mapping[str, str] = field(default_factory=dict)  # the model's own names
    by_album: bool = False  # songs of an album get one decision; how much that helps was not measured


DEFAULT_POLICY = DecisionPolicy()


@dataclass(frozen=True)
class TagOptions:
    """All options of a run."""

    predict: PredictOptions = field(default_factory=PredictOptions)
    decide: DecisionPolicy = field(default_factory=DecisionPolicy)
    write: WriteOptions = field(default_factory=WriteOptions)
