"""Run folders: what was asked for, what is needed to go on, and what came out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tagger.atomic import replacing
from tagger.evaluation.run_folder import FINISHED, RECORD, RUNS
from training.errors import TrainingError
from training.learning.config import OPTION_NAMES, TrainConfig


@dataclass(frozen=True)
class Run:
    """A training that was begun in a folder, or is about to be."""

    folder: Path
    config: TrainConfig
    fingerprint: str  # of the dataset
    argv: tuple[str, ...]  # what the user typed

    @property
    def trainer(self) -> Path:
        """Folder of what is needed to go on: weights, optimizer and random state after each epoch."""
        return self.folder / "trainer"

    @property
    def checkpoint(self) -> Path:
        """Folder of the network that came out, as `GenreModel.load` takes it."""
        return self.folder / "checkpoint"

    @property
    def is_finished(self) -> bool:
        """Whether all that comes out is there."""
        return (self.folder / FINISHED).exists()

    @property
    def log(self) -> Path:
        """What the user was told, a line for each epoch among it."""
        return self.folder / "log.txt"

    def begin(self) -> None:
        """Make the folder and record what was asked for, unless that was done. Raises TrainingError."""
        if (self.folder / RECORD).exists():
            return
        record = {"options": self.config.as_dict(), "fingerprint": self.fingerprint, "argv": list(self.argv)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / RECORD) as file:
                file.write(json.dumps(record, indent=1).encode())
        except OSError as error:
            raise TrainingError(self.folder, f"{error.strerror or error}: give another place by --out") from error

    def tidy(self) -> None:
        """Delete what only an unfinished training needs: the weights and optimizers of three epochs, nine times what
        is kept.
        """
        shutil.rmtree(self.trainer, ignore_errors=True)


def new_folder(recipe: str, out: Path | None) -> Path:
    """Folder of a run that is to begin; raises TrainingError when there is one already."""
    if out is None:
        return RUNS / f"{recipe}-{datetime.now():%Y%m%d-%H%M%S}"
    if (out / RECORD).exists():
        raise TrainingError(out, "there is a run already: give another --out, or --resume to go on with it")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainingError(out, "is there already, and no run: give another --out")
    return out


def resumed(out: Path | None, given: Mapping[str, Any], fingerprint: str) -> Run:
    """The unfinished run at `out`, or the newest; raises TrainingError where it cannot go on.

    `given` are options by name: they may repeat what the run was begun with, and not contradict it.
    """
    if out is None:
        begun = sorted(RUNS.glob(f"*/{RECORD}"), key=lambda path: path.stat().st_mtime)
        open_runs = [path.parent for path in begun if not (path.parent / FINISHED).exists()]
        if not open_runs:
            raise TrainingError("", f"no unfinished run in {RUNS}/: give its folder by --out")
        out = open_runs[-1]
    if (out / FINISHED).exists():
        raise TrainingError(out, "this run is finished")
    return _begun(out, given, fingerprint)


def run_of_grid(out: Path, config: TrainConfig, fingerprint: str, argv: Sequence[str]) -> Run:
    """The run at `out`, be it finished, begun or new; raises TrainingError where it is one of other options or data."""
    if not (out / RECORD).exists():
        return Run(new_folder(config.recipe, out), config, fingerprint, tuple(argv))
    given = {name: getattr(config, name) for name in ("recipe", *OPTION_NAMES)}
    return _begun(out, given, fingerprint)


def _begun(out: Path, given: Mapping[str, Any], fingerprint: str) -> Run:
    """The run that was begun at `out`, with these options and on this data, or TrainingError."""
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
        config = TrainConfig(**record["options"])
        begun_with, argv = record["fingerprint"], tuple(record["argv"])
    except FileNotFoundError as error:
        raise TrainingError(out, "no run was begun there") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(out / RECORD, f"cannot be read, or is of another version ({error})") from error
    if begun_with != fingerprint:
        raise TrainingError(out, "was begun on other data: name the dataset it was begun on by --data")
    for name, value in given.items():
        if value is not None and value != getattr(config, name):
            option = f"--{name.replace('_', '-')}"
            raise TrainingError(out, f"was begun with {option} {getattr(config, name)}: leave {option} out")
    return Run(out, config, fingerprint, argv)
