"""Studies: a training run for every combination of the values in a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from training.learning.config import DEFAULT_RECIPE


@dataclass(frozen=True)
class Cell:
    """One combination of a grid."""

    name: str  # of its run's folder: the values that it has and others have not
    recipe: str
    options: dict[str, Any]  # as `training.learning.config.configure` takes them

    def arguments(self) -> list[str]:
        """The options as they are typed."""
        typed = ["--recipe", self.recipe]
        for name, value in self.options.items():
            option = f"--{name.replace('_', '-')}"
            if value is not False:  # a flag that is off has no option
                typed += [option] if value is True else [option, _text(value)]
        return typed


def cells(values: Mapping[str, Any]) -> list[Cell]:
    """All combinations of options of which some have lists of values, the last list running fastest.

    Raises ValueError for a list without values or with one twice, and where there is nothing to compare.
    """
    lists = {name: value for name, value in values.items() if isinstance(value, list)}
    for name, each in lists.items():
        if not each or len(set(map(_text, each))) < len(each):
            raise ValueError(f"{name} has {'no values' if not each else 'a value twice'}")
    fixed = {name: value for name, value in values.items() if name not in lists}
    found = []
    for chosen in product(*lists.values()):
        of_lists = dict(zip(lists, chosen, strict=True))
        name = ",".join(f"{option}={_plain(value)}" for option, value in of_lists.items())
        options = fixed | of_lists
        found.append(Cell(name, options.pop("recipe", DEFAULT_RECIPE), options))
    if len(found) < 2:
        raise ValueError("there is nothing to compare: give an option a list of two values or more")
    if len({cell.name for cell in found}) < len(found):
        raise ValueError("values are too alike to name folders by: they differ in special characters alone")
    return found


def _plain(value: Any) -> str:
    """A value as part of a file's name."""
    return re.sub(r"[^\w.+-]+", "_", _text(value))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
