"""The options of a preparation: a default and a reason each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

#: Where genres come from in a folder: see `songs.find_labelled`.
Labels = Literal["auto", "folders", "tags"]
#: How many songs of each genre there are to learn from: see `splits.balance_songs`.
Balance = Literal["none", "sqrt", "truncate"]
#: What to do with songs of a table whose artist or recording is in a later split too: see `prepare._split`.
Splits = Literal["disjoint", "as-given"]


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
    splits: Splits = "disjoint"  # scores of songs whose artist was learned from are too high
    seed: int = 0
    drop_small: bool = False  # a genre that cannot be tested is better dropped knowingly
    limit: int | None = None
    cache_features: bool = False  # 256 kB a snippet; a GPU makes them again in less time than a disk reads them

    def as_dict(self) -> dict[str, Any]:
        """Every option by name, for JSON; but for what earlier versions did not have and did as by default."""
        values = {**asdict(self), "names": dict(self.names), "exclude": list(self.exclude), "split": list(self.split)}
        if self.splits == PrepareOptions.splits:
            del values["splits"]
        return values
