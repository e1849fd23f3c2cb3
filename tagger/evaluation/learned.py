"""Models that were learned from a library: where they are, and the newest for some of its folders or songs.

Each is named by a file of its own in the user's folder for state, beside which it lies unless it was to lie elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from pathlib import Path

import numpy as np
from platformdirs import user_state_path

from tagger.atomic import replacing
from tagger.debug import suppress
from tagger.errors import ModelError, OutputError
from tagger.evaluation.run_folder import read_split

MINE = "mine"  # what the newest one for the library at hand is called
N_RANKED = 5  # genres told of a song


@dataclass(frozen=True)
class LearnedModel:
    """A model that was learned."""

    folder: Path  # of the run
    library: tuple[str, ...]  # folders and songs that it was learned from, absolute
    made: str  # name of its file, which sorts by time


def learned_folder(state: str | PathLike[str] | None = None) -> Path:
    """Where models that were learned lie: in the given folder for state, or the user's."""
    return Path(state if state is not None else user_state_path("genre-tag")) / "learned"


def new_folder(state: str | PathLike[str] | None = None) -> Path:
    """A folder for a model that is about to be learned, which is not there yet."""
    now = f"{datetime.now():%Y-%m-%d-%H%M%S}"
    names = [now, *(f"{now}-{number}" for number in range(2, 1000))]
    return next(folder for name in names if not (folder := learned_folder(state) / name).exists())


def note_learned(folder: Path, library: Sequence[str], state: str | PathLike[str] | None = None) -> None:
    """Keep that the run in this folder was learned from that library. Raises OutputError."""
    path = learned_folder(state) / f"{datetime.now():%Y-%m-%dT%H%M%S.%f}.json"
    values = {"folder": os.path.abspath(folder), "library": [os.path.abspath(each) for each in library]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(values, indent=1).encode())
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error


def learned_models(state: str | PathLike[str] | None = None) -> list[LearnedModel]:
    """Those that are still there, the newest first."""
    found = []
    for path in sorted(learned_folder(state).glob("*.json"), reverse=True):
        with suppress(OSError, ValueError, KeyError, TypeError):
            values = json.loads(path.read_text(encoding="utf-8"))
            folder = Path(values["folder"])
            if (folder / "checkpoint" / "config.json").is_file():
                found.append(LearnedModel(folder, tuple(map(str, values["library"])), path.stem))
    return found


def newest_for(paths: Sequence[str], state: str | PathLike[str] | None = None) -> LearnedModel | None:
    """The newest that was learned from a library in which one of the paths lies, or which lies in one of them."""
    wanted = [os.path.abspath(path) for path in paths if path != "-"]
    for model in learned_models(state):
        if any(_is_within(one, other) or _is_within(other, one) for one in wanted for other in model.library):
            return model
    return None


def model_of(paths: Sequence[str], state: str | PathLike[str] | None = None) -> str:
    """Folder of the newest that was learned from the library of these paths. Raises ModelError."""
    found = newest_for(paths, state)
    if found is None:
        what = paths[0] if paths else "PATH"
        raise ModelError(MINE, f"no model was learned from this library yet: genre-tag learn {what}")
    return str(found.folder)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


@dataclass(frozen=True)
class Contradiction:
    """A song whose tag its prediction contradicts, by a model that was learned from its library without its artist."""

    path: str  # absolute
    genre: str  # that its tag was learned as
    ranking: tuple[tuple[str, float], ...]  # the best genres with their confidences, that which it seems to be first
    confidence: float  # of the genre of its tag


def contradictions(folder: Path) -> list[Contradiction]:
    """The songs of a run whose tags are likely wrong, the surest first. Raises RunError.

    A song counts for each genre whose confidence reaches the mean that the genre has among the songs tagged with it,
    for the best of these; it is suspected where that is not its own (confident learning: Northcutt, Jiang and Chuang
    2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, §3.1), and ranked by the lead.
    """
    split = read_split(folder, "test")
    labels, shares, genres = split.songs.labels, split.probabilities, split.rows.genres
    usual = np.array([
        shares[labels == label, label].mean() if (labels == label).any() else np.inf for label in range(len(genres))
    ])  # fmt: skip
    own = shares[np.arange(len(labels)), labels]
    best = np.where(shares >= usual, shares, -1.0).argmax(axis=1)
    lead = shares[np.arange(len(labels)), best] - own
    suspected = (shares >= usual).any(axis=1) & (best != labels) & (lead > 0)
    found = []
    for index in np.argsort(-lead, kind="stable").tolist():
        if suspected[index]:
            others = [each for each in np.argsort(-shares[index], kind="stable").tolist() if each != best[index]]
            order = [int(best[index]), *others[: N_RANKED - 1]]
            ranking = tuple((genres[each], float(shares[index, each])) for each in order)
            path = split.rows.paths[split.rows_of[index][0]]
            found.append(Contradiction(path, genres[labels[index]], ranking, float(own[index])))
    return found
