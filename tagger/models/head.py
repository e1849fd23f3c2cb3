"""What the outputs of a checkpoint mean: genres, thresholds, and the reading of AudioSet's 527 labels."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

N_AUDIOSET_LABELS = 527
# Held-out songs behind a temperature and thresholds, in all and of each genre, from which on confidences are called
# calibrated. Of songs that are calibrated perfectly, 200 come to a calibration error of .06 by chance.
LEAST_HELD_OUT, LEAST_OF_EACH = 200, 20


@dataclass(frozen=True)
class Gate:
    """Output columns that tell music from speech; a song that fails the gate is unsure, whatever genre fits best.

    The song fails when its mean probability of music is below `min_music`, or below that of speech.
    """

    music: int
    speech: int
    min_music: float = 0.3


@dataclass(frozen=True)
class GenreHead:
    """What the outputs of a checkpoint mean, and how sure they must be before a genre is written.

    `n_outputs` below is the width of the logits, (n_snippets, n_outputs); each field but the first two may be left out.
    """

    genres: tuple[str, ...]
    #: "softmax": one genre a song; "sigmoid": several; "margin": sigmoid of the lead over the best other genre,
    #: for scores that rank well but are no probabilities.
    scale: str
    #: Output columns that speak for each genre (the highest counts); None: column i is genre i.
    members: tuple[tuple[int, ...], ...] | None = None
    #: Divides a song's mean logits, fitted on songs whose genre is known. None: none was fitted.
    temperature: float | None = None
    #: Held-out songs of each genre that the temperature and the thresholds were fitted on; (): nothing is said of them.
    n_held_out: tuple[int, ...] = ()
    #: Least confidence at which each genre is written by default; math.inf: never by default.
    thresholds: tuple[float, ...] = ()
    #: Why these thresholds: one sentence, shown to the user.
    threshold_reason: str = ""
    gate: Gate | None = None
    #: Mean logit of every output column over unlabelled music, (n_outputs,), taken off before outputs are compared.
    bias: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.scale not in ("softmax", "sigmoid", "margin"):
            raise ValueError(f"scale must be softmax, sigmoid or margin, not {self.scale!r}")
        for field, values in (
            ("members", self.members), ("thresholds", self.thresholds), ("n_held_out", self.n_held_out)
        ):  # fmt: skip
            if values and len(values) != len(self.genres):
                raise ValueError(f"{field} must name {len(self.genres)} genres, not {len(values)}")

    @property
    def is_calibrated(self) -> bool:
        """Whether its confidences, of the mean of logits, may be called calibrated: by what it says of the evidence.

        A genre that is never written, and of which there is no evidence, takes nothing from the others.
        """
        if self.temperature is None or not self.n_held_out:
            return False
        least = self.thresholds or (0.0,) * len(self.n_held_out)
        told = [n for n, needed in zip(self.n_held_out, least, strict=True) if n or needed < math.inf]
        return is_enough_evidence(told)


def is_enough_evidence(n_held_out: Sequence[int]) -> bool:
    """Whether so many held-out songs of each genre, (n_genres,), are enough to call confidences calibrated.

    >>> [is_enough_evidence(n_held_out) for n_held_out in ((180, 20), (200, 19), (90, 90), ())]
    [True, False, False, False]
    """
    return sum(n_held_out) >= LEAST_HELD_OUT and min(n_held_out) >= LEAST_OF_EACH


@cache
def audioset_head() -> GenreHead:
    """The 527 AudioSet outputs read as 20 canonical genres, behind a gate that tells music from speech.

    A genre speaks with its strongest member label; confidence is the lead over the runner-up, because AudioSet's
    raters used umbrella labels far less consistently than narrow ones, so that the scores rank well within a label
    but compare badly across labels (Gemmeke et al. 2017, ICASSP; label order of the AST authors' class table).

    What the table calls `fitted` corrects for that: a bias for each genre, the least lead and the least probability
    of music, by `training.starter.audioset` with a small network that answers the same 527 labels.
    """
    table = audioset_genres()
    fitted, members = table["fitted"], table["canonical"]
    bias = [0.0] * N_AUDIOSET_LABELS
    for genre, columns in members.items():
        for column in columns:
            bias[column] = fitted["bias"][genre]
    return GenreHead(
        genres=tuple(members),
        scale="margin",
        members=tuple(tuple(columns) for columns in members.values()),
        thresholds=(fitted["min_confidence"],) * len(members),
        threshold_reason=fitted["reason"],
        gate=Gate(table["gate"]["music"], table["gate"]["speech"], fitted["min_music"]),
        bias=tuple(bias),
    )


def audioset_genres() -> dict[str, Any]:
    """The table of AudioSet's music labels: columns of each of the 20 genres, of the gate, and the labels' names."""
    table: dict[str, Any] = json.loads(
        resources.files("tagger.models").joinpath("audioset_genres.json").read_text(encoding="utf-8")
    )
    return table
