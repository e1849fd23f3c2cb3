"""The options of a preparation: a default and a reason each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

#: Where genres come from in a folder: see `songs.find_labelled`.
Labels = Literal["auto", "folders", "tags"]
#: How many songs of each genre there are to learn from: see `splits.balance_songs`.
Balance = Literal["none", "sqrt", "truncate"]


@dataclass(frozen=True)
class PrepareOptions:
    """What decides which snippets are in a dataset, and in which split."""

    labels: Labels = "auto"
    names: Mapping[str, str] = field(default_factory=dict)  # the genres' own names
    exclude: tuple[str, ...] = ()
    n_snippets: int | None = 5  # what the product classifies of a song; None: all of it
    snippet_seconds: float = 10.0  # what the AudioSet checkpoint was trained on
    balance: Balance = "none"  # a sampler evens genres out without throwing songs away
    split: tuple[float, float, float] = (70.0, 15.0, 15.0)
    seed: int = 0
    drop_small: bool = False  # a genre that cannot be tested is better dropped knowingly
    limit: int | None = None
    cache_features: bool = False  # 256 kB a snippet; a GPU makes them again in less time than a disk reads them

    def as_dict(self) -> dict[str, Any]:
        """Every option by name, for JSON."""
        return {**asdict(self), "names": dict(self.names), "exclude": list(self.exclude), "split": list(self.split)}
