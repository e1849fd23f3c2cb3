"""The options of a tagging run: a default and a reason each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tagger.tags.policies import Existing, HardLinks, Multi


@dataclass(frozen=True)
class TagOptions:
    """How songs are heard and decided on, and what is written."""

    existing: Existing = "keep"  # a genre somebody chose outweighs a guess
    precision: str = "auto"  # what is fastest, or known already: see store.Method
    n_snippets: int | None = 5  # evenly spread; three give 80 % of the gain over one, five 90-95 %; None: all
    until_clear: bool = False  # two are heard first, and `n_snippets` where these two would decide differently
    aggregate: str = "mean"  # of logits: best or as good as any other in every comparison; max loses 3-4 points
    max_genres: int = 1  # predicted ones, what the song has left aside: half of all players show only the first
    min_confidence: float | None = None  # the checkpoint knows what its confidences are worth
    names: Mapping[str, str] = field(default_factory=dict)  # the model's own names
    batch_size: int | None = None  # see model.default_batch_size
    n_workers: int | None = None  # see default_workers
    time_limit_seconds: int = 60  # a broken file may keep a decoder busy for ever; a song takes well under 1 s
    preserve_mtime: bool = False  # music servers find changed files by it
    hardlinks: HardLinks = "skip"  # the other names would keep the old tags, and take the room of a second copy
    separator: str | None = None  # genres are values of their own wherever a tag has room for several
    id3v23_multi: Multi = "join"  # ID3v2.3 has room for one genre; joined by "; " nothing is lost in any player
    reanalyze: bool = False  # what was heard by the same model is heard again
    retry_failed: bool = False  # what could not be heard cannot be heard today, unless the file changes
