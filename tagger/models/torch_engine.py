"""TorchEngine: the network on a GPU, or wherever else torch computes."""

from __future__ import annotations

import gc
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch

from tagger.audio.decode import FULL_SCALE
from tagger.models.engine import EngineError, EngineMemoryError
from tagger.models.transformer import TorchLogMel, Transformer
from tagger.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tagger.models.architecture import Architecture
    from tagger.models.features import LogMel


def devices() -> tuple[str, ...]:
    """The GPUs that this torch can use, the fastest first: "cuda", "cuda:0", ..., "mps"."""
    cuda = [f"cuda:{index}" for index in range(n_cuda()) if not why_not(f"cuda:{index}")]
    first = ["cuda"] if "cuda:0" in cuda else []
    return (*first, *cuda, *(["mps"] if torch.backends.mps.is_available() else []))


def n_cuda() -> int:
    """How many CUDA devices there are, whether or not this torch can use them."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def why_not(device: str) -> str:
    """Why this torch has no kernels for a CUDA device that is there; "" where it has."""
    capability = torch.cuda.get_device_capability(device)
    if is_built_for(capability, torch.cuda.get_arch_list()):
        return ""
    name = torch.cuda.get_device_name(device)
    return f"torch {torch.__version__} was not built for a {name} ({capability[0]}.{capability[1]}); there is cpu"


def is_built_for(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Whether kernels for these architectures run on a device of that compute capability.

    Machine code (`sm_86`) runs on its major version from its minor one on, that of one model (`sm_90a`) on it alone,
    and PTX (`compute_90`) is compiled for all later ones (CUDA C++ Programming Guide, 3.1). Other names are AMD's,
    which its own torch has looked after.
    """
    named = [re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", each) for each in architectures]
    for found in filter(None, named):
        kind, major, minor, model = found.groups()
        built = int(major), int(minor)
        if model:
            fits = capability == built
        elif kind == "sm":
            fits = capability[0] == built[0] and capability >= built
        else:
            fits = capability >= built
        if fits:
            return True
    return not any(named)


def computes_bf16(device: str) -> bool:
    """Whether a device has instructions for bfloat16 products: CUDA from Ampere on, x86 with AVX512-BF16 or AMX."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    instructions = torch.cpu.get_capabilities() if kind == "cpu" else {}
    return bool(instructions.get("avx512_bf16") or instructions.get("amx_bf16"))


def precisions(device: str) -> tuple[str, ...]:
    """What a GPU computes in; of the short formats bf16 first, whose range is that of fp32, unless it is emulated, as
    by the first of Apple's.
    """
    if device == "mps":
        return ("fp32", "fp16", "bf16")
    return ("fp32", "bf16", "fp16") if computes_bf16(device) else ("fp32", "fp16")


def describe_device(device: str) -> str:
    """The device and its libraries, as far as its speed depends on them."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return f"torch {torch.__version__}, {name}"


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory: CUDA has an error class for it, CPU, MPS and cuBLAS only words."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def is_device_error(error: RuntimeError) -> bool:
    """Whether a GPU or one of its libraries failed, but for lack of memory: mostly, nothing works on it afterwards."""
    words = ("CUDA error", "CUDA driver", "HIP error", "CUBLAS_STATUS", "CUDNN_STATUS", "cuDNN error", "cuFFT error")
    is_one = isinstance(error, torch.AcceleratorError) or any(word in str(error) for word in words)
    return is_one and not is_out_of_memory(error)


def multiply_fast(device: str) -> None:
    """Let this process multiply float32 in tensor cores, as TF32: a few times as fast on CUDA from Ampere on, with the
    ten bits of a fraction that float16 has, summed up in float32. What has no such cores goes on as it did.
    """
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")


class TorchEngine:
    """The network on a device of torch: a batch at once, its log-mels in float32 whatever the precision.

    To CUDA a batch goes in halves, through page-locked memory and on a stream of its own: while one half is computed,
    the other is copied.
    """

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
        self._buffers: list[torch.Tensor] = []  # page-locked, int16 (n_snippets, snippet_samples)
        multiply_fast(device)
        with out_of_memory():
            self._transformer = Transformer.of(architecture, weights, precision).to(device)
            self._log_mel = TorchLogMel(**asdict(log_mel)).to(device)
            self._copying = torch.cuda.Stream(device) if device.startswith("cuda") else None  # type: ignore[no-untyped-call]

    def embed(self, snippets: np.ndarray) -> np.ndarray:
        """(n_snippets, snippet_samples) int16 to (n_snippets, width) float32.

        Raises EngineMemoryError, and EngineError where the device has failed.
        """
        try:
            return self._forward(snippets)
        except RuntimeError as error:
            if is_device_error(error):
                raise EngineError(one_line(error)) from error
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        release_memory(self.device)  # only here, past the block, has the error let go of the batch that failed
        raise EngineMemoryError(reason)

    @torch.inference_mode()
    def _forward(self, snippets: np.ndarray) -> np.ndarray:
        parts = [self._transformer.embed(self._log_mel(part.float() / FULL_SCALE)) for part in self._copied(snippets)]
        embeddings = torch.cat(parts).cpu()  # waits for the device, which is done with the buffers then
        return embeddings.numpy()

    def _copied(self, snippets: np.ndarray) -> Iterator[torch.Tensor]:
        """The parts of a batch on the device, int16 as they came, each when the one before is being computed."""
        samples = torch.from_numpy(np.require(snippets, requirements=["C", "W"]))
        if self._copying is None:
            yield samples.to(self.device)
            return
        halves = samples.chunk(2)
        if not self._buffers or len(self._buffers[0]) < len(halves[0]):
            self._buffers = [torch.empty(halves[0].shape, dtype=torch.int16, pin_memory=True) for _ in range(2)]
        computing = torch.cuda.current_stream(self.device)
        for half, buffer in zip(halves, self._buffers, strict=False):
            locked = buffer[: len(half)].copy_(half)
            with torch.cuda.stream(self._copying):
                there = locked.to(self.device, non_blocking=True)
            computing.wait_stream(self._copying)
            there.record_stream(computing)  # or its memory would be given away once it is copied
            yield there


@contextmanager
def out_of_memory() -> Iterator[None]:
    """Makes of what torch raises for lack of memory an EngineMemoryError."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error)
    else:
        return
    raise EngineMemoryError(reason)


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
