"""Engine: what computes the network on a device; and which of its settings are fastest on this machine.

What depends on the machine is timed once and remembered. A processor may have instructions for a number format and be
no faster in it, and what is fastest differs by the size of the network. A timing takes a fraction of a second: of a
network of at most two layers, since all layers are alike.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from platformdirs import user_state_path

from tagger import __version__
from tagger.atomic import replacing
from tagger.audio.decode import SAMPLE_RATE, decode
from tagger.debug import suppress
from tagger.text import counted

FILE = "timings.json"
MOST_KEPT = 100
N_LAYERS = 2  # a usual one, and the last, of which less is computed
N_TURNS = 5  # of which the fastest counts: the others shared the machine
LEAST_GAIN = 1.1  # for which digits are given up


# A clip that stands for all songs, MP3 as most are; and what is decoded of a song around each snippet.
CLIP = "Pachelbel - Canon in D.mp3"
AROUND_SECONDS = 1.0


class EngineMemoryError(Exception):
    """The device has not enough memory for so many snippets, or for the network."""


class EngineError(Exception):
    """The device has failed, in the words of its library."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a network makes of snippets, a row each: the logits are linear in the embeddings."""

    logits: np.ndarray  # (n_snippets, n_outputs) float32
    embeddings: np.ndarray  # (n_snippets, width) float32


class Engine(Protocol):
    """A network up to its last layer, its features included, on one device in one precision."""

    #: The library and its version, as in "OpenVINO 2026.4.1".
    name: str
    precision: str
    #: On a CPU: snippets that are computed side by side.
    n_threads: int

    def embed(self, snippets: np.ndarray) -> np.ndarray:
        """(n_snippets, snippet_samples) int16 to (n_snippets, width) float32.

        Raises EngineMemoryError and EngineError.
        """


@dataclass(frozen=True)
class Choice:
    """How an engine may be set."""

    precision: str
    n_threads: int

    def __str__(self) -> str:
        return f"{self.precision} on {counted(self.n_threads, 'thread')}"


@dataclass(frozen=True)
class Timing:
    """The fastest choice, and how fast each of them was."""

    choice: Choice
    snippets_per_second: float
    told: str  # "bf16 on 2 threads 151/s, fp32 on 2 threads 88/s"


def cached_result(key: str, measure: Callable[[], dict[str, Any]], folder: Path | None = None) -> dict[str, Any]:
    """What was measured under this key before, or else is measured now; kept in `folder`, the user's for state.

    `key` names all that the values depend on: processor, cores, versions, model. Where they cannot be kept, every run
    measures.
    """
    path = (folder or user_state_path("genre-tag")) / FILE
    kept = _read(path)
    known = kept.get(key)
    if isinstance(known, dict):
        return known
    found = measure()
    others = [(name, values) for name, values in kept.items() if name != key]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(dict([*others[1 - MOST_KEPT :], (key, found)]), indent=1).encode())
    return found


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(kept, dict):
            return kept
    return {}


def decode_seconds(snippet_samples: int) -> float:
    """Seconds that a core takes to decode a snippet, timed once a machine."""

    def measure() -> dict[str, Any]:
        clip, shortest = Path(str(resources.files("tagger") / "samples" / CLIP)), math.inf
        for _ in range(N_TURNS):
            began = time.process_time()
            length = decode(clip, None).duration_seconds
            shortest = min(shortest, time.process_time() - began)
        return {"seconds": max(shortest, 1e-3) / length}

    key = f"genre-tag {__version__}, decoding, {platform.machine()}"  # to ask for more starts a process
    return float(cached_result(key, measure)["seconds"]) * (snippet_samples / SAMPLE_RATE + AROUND_SECONDS)


def fastest(
    choices: Sequence[Choice],
    build: Callable[[Choice], Engine],
    snippets: Callable[[Choice], np.ndarray],
    clock: Callable[[], float] = time.perf_counter,
    is_of_processor: bool = False,
) -> Timing:
    """The choice by which most snippets are classified a second; `snippets` gives those of a turn.

    Engines take turns, so that other work on the machine slows all alike. A shorter format than fp32 has to be faster
    by `LEAST_GAIN`. `is_of_processor`: the clock counts what all threads spend together, whoever else wants the cores.
    """
    engines = [(build(choice), snippets(choice)) for choice in choices]
    seconds = np.full(len(choices), np.inf)
    for turn in range(1 + N_TURNS):
        for index, (engine, batch) in enumerate(engines):
            began = clock()
            engine.embed(batch)
            if turn:  # the first one allocates
                seconds[index] = min(seconds[index], clock() - began)
    if is_of_processor:
        seconds = seconds / [choice.n_threads for choice in choices]
    speeds = np.array([len(batch) for _, batch in engines]) / np.maximum(seconds, 1e-6)
    weights = [LEAST_GAIN if choice.precision == "fp32" else 1.0 for choice in choices]
    best = int(np.argmax(speeds * weights))
    told = ", ".join(f"{choice} {speed:.3g}/s" for choice, speed in zip(choices, speeds.tolist(), strict=True))
    return Timing(choices[best], float(speeds[best]), told)
