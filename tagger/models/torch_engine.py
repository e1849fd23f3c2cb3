"""TorchEngine: the network on a GPU, or wherever else torch computes."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch

from tagger.audio.decode import FULL_SCALE
from tagger.models.engine import EngineMemoryError
from tagger.models.transformer import TorchLogMel, Transformer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tagger.models.architecture import Architecture
    from tagger.models.features import LogMel


def devices() -> tuple[str, ...]:
    """The GPUs that this torch can use, the fastest first: "cuda", "cuda:0", ..., "mps"."""
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda", *(f"cuda:{index}" for index in range(n_cuda))] if n_cuda else []
    return (*cuda, *(["mps"] if torch.backends.mps.is_available() else []))


def computes_bf16(device: str) -> bool:
    """Whether a device has instructions for bfloat16 products: CUDA from Ampere on, x86 with AVX512-BF16 or AMX."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    instructions = torch.cpu.get_capabilities() if kind == "cpu" else {}
    return bool(instructions.get("avx512_bf16") or instructions.get("amx_bf16"))


def precisions(device: str) -> tuple[str, ...]:
    """What a GPU computes in; of the short formats bf16 first, whose range is that of fp32, unless it is emulated."""
    return ("fp32", "bf16", "fp16") if device == "mps" or computes_bf16(device) else ("fp32", "fp16")


def describe_device(device: str) -> str:
    """The device and its libraries, as far as its speed depends on them."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return f"torch {torch.__version__}, {name}"


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory: CUDA has an error class for it, CPU, MPS and cuBLAS only words."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


class TorchEngine:
    """The network on a device of torch: a batch at once, its log-mels in float32 whatever the precision."""

    n_threads = 1

    def __init__(
        self,
        architecture: Architecture,
        weights: Mapping[str, np.ndarray],
        log_mel: LogMel,
        device: str,
        precision: str,
    ) -> None:
        self.name, self.device, self.precision = f"torch {torch.__version__}", device, precision
        with out_of_memory():
            self._transformer = Transformer.of(architecture, weights, precision).to(device)
            self._log_mel = TorchLogMel(**asdict(log_mel)).to(device)

    def embed(self, snippets: np.ndarray) -> np.ndarray:
        """(n_snippets, snippet_samples) int16 to (n_snippets, width) float32. Raises EngineMemoryError."""
        try:
            return self._forward(snippets)
        except RuntimeError as error:
            reason = memory_reason(error)
        release_memory(self.device)  # only here, past the block, has the error let go of the batch that failed
        raise EngineMemoryError(reason)

    @torch.inference_mode()
    def _forward(self, snippets: np.ndarray) -> np.ndarray:
        samples = torch.from_numpy(np.require(snippets, requirements=["C", "W"])).to(self.device)
        embeddings = self._transformer.embed(self._log_mel(samples.float() / FULL_SCALE))
        return embeddings.cpu().numpy()


@contextmanager
def out_of_memory() -> Iterator[None]:
    """Makes of what torch raises for lack of memory an EngineMemoryError."""
    try:
        yield
    except RuntimeError as error:
        reason = memory_reason(error)
    else:
        return
    raise EngineMemoryError(reason)


def memory_reason(error: RuntimeError) -> str:
    """What torch says of a lack of memory; any other error is raised again."""
    if not is_out_of_memory(error):
        raise error
    return str(error)


def release_memory(device: str) -> None:
    """Give back what no tensor needs any more: Python's cycles hold some until they are collected, torch's cache all.

    An error holds what it was raised above: call this when it is gone.
    """
    gc.collect()
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()
