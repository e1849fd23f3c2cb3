"""GenreModel: a checkpoint on a device, which turns snippets into logits."""

from __future__ import annotations

import logging
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tagger import __version__
from tagger.audio.workers import usable_cores
from tagger.errors import ModelError
from tagger.models.architecture import flops_per_snippet
from tagger.models.checkpoint import Checkpoint, load_checkpoint
from tagger.models.description import ACCELERATOR_BATCH, STARTER, Description, describe
from tagger.models.engine import (
    N_LAYERS,
    Choice,
    Engine,
    EngineError,
    EngineMemoryError,
    Outputs,
    Timing,
    cached_result,
    fastest,
)

logger = logging.getLogger(__name__)

PRECISIONS = ("fp32", "bf16", "fp16")
BATCH_SECONDS = 0.5  # of work for a CPU at once, or a snippet a thread: Ctrl-C is answered when a batch ends
CLOCK_SECONDS = 1e-4  # resolution that a timing needs; the processor's clock of Windows has not got it
MPS_BATCH = 16  # snippets at once: a Mac's GPU is full with fewer, and has its memory from what is there for all
CPU_BATCH = 8  # snippets a thread at most: more would keep threads from waiting for the last one no better
# What shows that there may be a GPU for torch, whose import takes a second: drivers of NVIDIA and AMD, and of WSL.
GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class GenreModel:
    """Turns snippets into logits; what the logits mean is told by `head`.

    Features are computed in float32 whatever the precision.
    """

    def __init__(self, checkpoint: Checkpoint, device: str, precision: str = "auto", n_threads: int | None = None):
        """`precision` is "auto", the fastest, or one of `PRECISIONS`; so many threads of a CPU, or as is fastest."""
        description = checkpoint.description
        self.name, self.head, self.device = description.name, description.head, device
        self.n_outputs = checkpoint.architecture.num_labels
        self._weight, self._bias = checkpoint.weights["head.weight"], checkpoint.weights["head.bias"]
        self.snippet_samples = description.snippet_samples
        try:
            timing = timed(checkpoint, device, choices(device, precision, n_threads))
            self._engine = build_engine(checkpoint, device, timing.choice)
        except EngineMemoryError as error:
            raise self._too_large("the model") from error
        except EngineError as error:
            raise self._failed(error) from error
        self.engine = self._engine.name
        self.precision, self.n_threads = timing.choice.precision, timing.choice.n_threads
        self.precision_reason = "as asked for" if precision != "auto" else f"fastest here: {timing.told}"
        self.snippets_per_second = timing.snippets_per_second
        self.batch_size = default_batch_size(timing, device)
        logger.debug(
            "model %s on %s by %s in %s (%s), %d threads, %.3g snippets/s, batches of %d",
            self.name, device, self.engine, self.precision, self.precision_reason, self.n_threads,
            self.snippets_per_second, self.batch_size,
        )  # fmt: skip

    @classmethod
    def load(
        cls,
        model: str | Description = STARTER,
        device: str = "auto",
        precision: str = "auto",
        n_threads: int | None = None,
    ) -> GenreModel:
        """The model of that name (`description.describe`), or the one that was described.

        `device` is "auto", "cpu", "cuda", "cuda:1" or "mps". Only safetensors are read and no code of a checkpoint is
        run. Raises ModelError.
        """
        device = choose_device(device)
        description = describe(model) if isinstance(model, str) else model
        return cls(load_checkpoint(description), device, precision, n_threads)

    def logits(self, snippets: np.ndarray) -> np.ndarray:
        """The logits of `outputs`, (n_snippets, n_outputs) float32."""
        return self.outputs(snippets).logits

    def outputs(self, snippets: np.ndarray) -> Outputs:
        """Logits and embeddings of any number of snippets, (n_snippets, snippet_samples) int16.

        The last layer is computed here, in float32, for all engines and precisions. At most `batch_size` snippets go to
        the device at once. Where its memory is too small for that, the batch is halved and `batch_size` remembers it;
        ModelError when not even one snippet fits, and when the device fails.
        """
        if snippets.dtype != np.int16 or snippets.ndim != 2 or snippets.shape[1] != self.snippet_samples:
            expected = f"int16 (n_snippets, {self.snippet_samples})"
            raise ValueError(f"snippets must be {expected}, not {snippets.dtype} {snippets.shape}")
        embeddings = np.empty((len(snippets), self._weight.shape[1]), np.float32)
        n_done = 0
        while n_done < len(snippets):
            batch = snippets[n_done : n_done + self.batch_size]
            try:
                embeddings[n_done : n_done + len(batch)] = self._engine.embed(batch)
            except EngineMemoryError as error:
                if len(batch) == 1:
                    raise self._too_large("one snippet") from error
                self.batch_size = len(batch) // 2
                logger.debug("batches of %d from here on", self.batch_size, exc_info=True)
            except EngineError as error:
                raise self._failed(error) from error
            else:
                n_done += len(batch)
        return Outputs(embeddings @ self._weight.T + self._bias, embeddings)

    def _failed(self, error: EngineError) -> ModelError:
        return ModelError(self.name, f"{self.device} failed ({error}): begin again, or use the cpu")

    def _too_large(self, what: str) -> ModelError:
        return ModelError(self.name, f"{what} does not fit into the memory of {self.device}: free some, or use the cpu")


def choose_device(device: str) -> str:
    """The device asked for, "auto" being the fastest there is. Raises ModelError for one this machine lacks.

    torch is imported only if a GPU is asked for, or may be there.
    """
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return "cpu"
    if find_spec("torch") is None:
        if device == "auto":
            return "cpu"
        if re.fullmatch(r"cuda(:\d+)?|mps", device):
            raise ModelError(device, "needs torch: pip install 'genre-tag[torch]'")
        raise ModelError(device, "no such device here; there is cpu")
    from tagger.models.torch_engine import devices, n_cuda, why_not

    present = (*devices(), "cpu")
    if device == "auto":
        return present[0]
    if device not in present:
        is_there = re.fullmatch(r"cuda(:\d+)?", device) and int(device[5:] or 0) < n_cuda()
        raise ModelError(
            device, (is_there and why_not(device)) or f"no such device here; there is {', '.join(present)}"
        )
    return device


def may_have_gpu() -> bool:
    """Whether there may be a GPU that torch can use, as far as is seen without torch."""
    has_driver = shutil.which("nvidia-smi") is not None or any(Path(driver).exists() for driver in GPU_DRIVERS)
    return has_driver or sys.platform == "darwin"


def choices(device: str, precision: str = "auto", n_threads: int | None = None) -> list[Choice]:
    """The settings to choose from, by what the device can and by what is asked for. Raises ModelError."""
    if precision not in ("auto", *PRECISIONS):
        raise ModelError(precision, f"no such precision; there is auto, {', '.join(PRECISIONS)}")
    if device == "cpu":
        from tagger.models.openvino_engine import precisions

        present, n_cores = precisions(), usable_cores()
        # Two threads of one core may be slower than one of them.
        threads = [n_threads] if n_threads else sorted({n_cores, n_cores // 2 if n_cores >= 4 else n_cores})
    else:
        from tagger.models.torch_engine import precisions as precisions_of

        present, threads = precisions_of(device), [1]
    if precision != "auto" and precision not in present:
        raise ModelError(precision, f"this {device} does not compute in it: use auto or {' or '.join(present)}")
    wanted = (precision,) if precision != "auto" else present[:2]
    return [Choice(each, n) for each in wanted for n in threads]


def build_engine(checkpoint: Checkpoint, device: str, choice: Choice) -> Engine:
    """The network of a checkpoint on a device. Raises EngineMemoryError."""
    network = checkpoint.architecture, checkpoint.weights, checkpoint.log_mel
    if device == "cpu":
        from tagger.models.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(*network, choice.precision, choice.n_threads)
    from tagger.models.torch_engine import TorchEngine

    return TorchEngine(*network, device, choice.precision)


def timed(checkpoint: Checkpoint, device: str, of: Sequence[Choice]) -> Timing:
    """The fastest of some settings for this network, timed once a machine and version. Raises EngineMemoryError."""
    whole = checkpoint.architecture
    cut = replace(whole, num_hidden_layers=min(N_LAYERS, whole.num_hidden_layers))
    share = flops_per_snippet(cut, as_computed=True) / flops_per_snippet(whole, as_computed=True)
    lightened = replace(checkpoint, architecture=cut)

    def snippets(choice: Choice) -> np.ndarray:
        n_snippets = choice.n_threads if device == "cpu" else accelerator_batch(device)
        noise = np.random.default_rng(0).integers(-3000, 3000, checkpoint.description.snippet_samples, np.int16)
        return np.tile(noise, (n_snippets, 1))

    def measure() -> dict[str, object]:
        is_exact = time.get_clock_info("process_time").resolution < CLOCK_SECONDS
        is_of_processor = device == "cpu" and is_exact
        clock = time.process_time if is_of_processor else time.perf_counter
        found = fastest(of, partial(build_engine, lightened, device), snippets, clock, is_of_processor)
        return asdict(replace(found, snippets_per_second=share * found.snippets_per_second))

    sizes = "-".join(str(value) for value in asdict(whole).values())
    key = f"genre-tag {__version__}, {machine(device)}, {', '.join(map(str, of))}, {sizes}"
    values = cached_result(key, measure)
    logger.debug("timed on this machine: %s; %s", values["told"], key)
    return Timing(Choice(**values["choice"]), values["snippets_per_second"], values["told"])


def machine(device: str) -> str:
    """What a timing depends on besides the network and its settings."""
    if device == "cpu":
        from tagger.models.openvino_engine import processor, version

        return f"{version()}, {processor()}, {usable_cores()} cores"
    from tagger.models.torch_engine import describe_device

    return describe_device(device)


def accelerator_batch(device: str) -> int:
    """Snippets that go to a GPU at once."""
    return MPS_BATCH if device == "mps" else ACCELERATOR_BATCH


def default_batch_size(timing: Timing, device: str) -> int:
    """Snippets that are classified at once unless the user knows better."""
    if device != "cpu":
        return accelerator_batch(device)
    n_threads = timing.choice.n_threads
    a_thread = int(BATCH_SECONDS * timing.snippets_per_second / n_threads)
    return n_threads * min(CPU_BATCH, max(1, a_thread))
