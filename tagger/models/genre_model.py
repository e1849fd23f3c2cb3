"""GenreModel: a checkpoint on a device, which turns snippets into logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tagger.audio.workers import usable_cores
from tagger.errors import ModelError
from tagger.models.checkpoint import Checkpoint, load_checkpoint
from tagger.models.description import ACCELERATOR_BATCH, STARTER, Description, describe
from tagger.models.transformer import DTYPES, N_SPECIAL, Architecture, Transformer, count_patches

CPU_BATCH = 8  # more are slower: their buffers outgrow the cache and the allocator
# A core does some 80 GFLOP a second: a batch on a CPU ends, and Ctrl-C is answered, within about a second.
CPU_BATCH_GFLOP = 40


@dataclass(frozen=True)
class Precision:
    """Number format the transformer computes in (a key of `DTYPES`), and why."""

    name: str
    reason: str


class GenreModel:
    """Turns snippets into logits; what the logits mean is told by `head`.

    Features are computed on the model's device, in float32 whatever the precision.
    """

    def __init__(self, checkpoint: Checkpoint, device: str, precision: Precision) -> None:
        architecture, description = checkpoint.architecture, checkpoint.description
        self.name, self.head, self.device = description.name, description.head, device
        self.precision, self.precision_reason = precision.name, precision.reason
        self.n_outputs = architecture.num_labels
        self.snippet_samples = description.snippet_samples
        self.batch_size = default_batch_size(architecture, device)
        try:
            self._transformer = Transformer.of(architecture, checkpoint.weights, precision.name).to(device)
            self._log_mel = checkpoint.log_mel.to(device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise self._too_large("the model") from error

    @classmethod
    def load(cls, model: str | Description = STARTER, device: str = "auto", precision: str = "auto") -> GenreModel:
        """The model of that name (`description.describe`), or the one that was described.

        `device` is "auto", "cpu", "cuda", "cuda:1" or "mps"; `precision` is "auto" or a key of `DTYPES`. Only
        safetensors are read and no code of a checkpoint is run. Raises ModelError.
        """
        device = choose_device(device)
        description = describe(model) if isinstance(model, str) else model
        return cls(load_checkpoint(description), device, choose_precision(precision, device))

    def logits(self, waveforms: np.ndarray) -> np.ndarray:
        """Any number of snippets (n_snippets, snippet_samples) float32 to logits (n_snippets, n_outputs) float32.

        At most `batch_size` go to the device at once. Where its memory is too small for that, the batch is halved
        and `batch_size` remembers it; ModelError when not even one snippet fits.
        """
        if waveforms.dtype != np.float32 or waveforms.ndim != 2 or waveforms.shape[1] != self.snippet_samples:
            expected = f"float32 (n_snippets, {self.snippet_samples})"
            raise ValueError(f"waveforms must be {expected}, not {waveforms.dtype} {waveforms.shape}")
        logits = np.empty((len(waveforms), self.n_outputs), np.float32)
        n_done = 0
        while n_done < len(waveforms):
            batch = waveforms[n_done : n_done + self.batch_size]
            try:
                logits[n_done : n_done + len(batch)] = self._forward(batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise self._too_large("one snippet") from error
                self.batch_size = len(batch) // 2
            else:
                n_done += len(batch)
                continue
            # Only here, past the except block, has the error let go of the tensors of the batch that failed.
            if self.device.startswith("cuda"):
                torch.cuda.empty_cache()
        return logits

    def leave_cores(self, n_decoders: int) -> None:
        """Compute beside that many decoders: with the cores they leave, if the model runs on the CPU and is light.

        Threads that outnumber the cores wait for each other at every layer: on two cores, a decoder beside two
        threads made the starter half as fast as beside one. A heavy model keeps all cores: its decoders mostly wait.
        """
        if self.device == "cpu" and self.batch_size > 1:
            torch.set_num_threads(max(1, usable_cores() - n_decoders))

    @torch.inference_mode()
    def _forward(self, batch: np.ndarray) -> np.ndarray:
        waveforms = torch.from_numpy(np.require(batch, requirements=["C", "W"])).to(self.device)
        logits: torch.Tensor = self._transformer(self._log_mel(waveforms))
        return logits.cpu().numpy()

    def _too_large(self, what: str) -> ModelError:
        return ModelError(self.name, f"{what} does not fit into the memory of {self.device}: free some, or use the cpu")


def choose_device(device: str) -> str:
    """The device asked for, "auto" being the fastest there is. Raises ModelError for one this machine lacks."""
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda", *(f"cuda:{index}" for index in range(n_cuda))] if n_cuda else []
    present = [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    if device == "auto":
        return present[0]
    if device not in present:
        raise ModelError(device, f"no such device here; there is {', '.join(present)}")
    return device


def choose_precision(precision: str, device: str) -> Precision:
    """The precision asked for, "auto" being the fastest that this device computes in hardware. Raises ModelError."""
    kind = torch.device(device).type
    has_bf16 = computes_bf16(device)
    if precision == "auto":
        # Measured on one core with AVX512-BF16, against fp32: 1.8 times as fast for the starter (2 M parameters) and
        # 2 times for a full-size AST (87 M), so its size does not matter. Without the instructions bf16 is emulated.
        # int8 is another 1.3 times as fast for a full-size AST, and no faster for the starter. It has to be asked for:
        # that it moves no decision was seen with the starter, not with a trained model of the size that gains by it.
        if has_bf16:
            return Precision("bf16", f"this {kind} computes bf16 in hardware")
        if kind == "cuda":
            return Precision("fp16", "this cuda device has no bf16")
        return Precision("fp32", f"bf16 would not be faster on this {kind}")
    if precision not in DTYPES:
        raise ModelError(precision, f"no such precision; there is auto, {', '.join(DTYPES)}")
    if precision == "fp16" and kind == "cpu":
        raise ModelError(precision, "no CPU is faster in fp16: use auto, fp32 or bf16")
    if precision == "bf16" and kind == "cuda" and not has_bf16:
        raise ModelError(precision, "this cuda device has no bf16: use auto, fp16 or fp32")
    if precision == "int8" and not computes_int8(device):
        raise ModelError(precision, "only for CPUs that multiply int8 in hardware, which this is not: use auto")
    return Precision(precision, "as asked for")


def computes_bf16(device: str) -> bool:
    """Whether a device has instructions for bfloat16 products: CUDA from Ampere on, x86 with AVX512-BF16 or AMX."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    instructions = torch.cpu.get_capabilities() if kind == "cpu" else {}
    return bool(instructions.get("avx512_bf16") or instructions.get("amx_bf16"))


def computes_int8(device: str) -> bool:
    """Whether a device is a CPU with instructions for the int8 products that `Int8Linear` is made of."""
    instructions = torch.cpu.get_capabilities() if device == "cpu" else {}
    return any(instructions.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def default_batch_size(architecture: Architecture, device: str) -> int:
    """Snippets that go to the device at once unless the user knows better."""
    if device != "cpu":
        return ACCELERATOR_BATCH
    return min(CPU_BATCH, max(1, int(CPU_BATCH_GFLOP * 1e9 / flops_per_snippet(architecture))))


def flops_per_snippet(architecture: Architecture, as_computed: bool = False) -> int:
    """Floating point operations of one forward pass of one snippet, a multiply-add counting as two.

    Matrix products, attention and the patch convolution, as `torch.utils.flop_counter` counts them: 261 GFLOP for
    the AudioSet checkpoint. The often quoted 103 GMAC leave out the two products inside attention. `as_computed`, it
    is what a `Transformer` spends, which computes of the last layer only what is read: 242 GFLOP.
    """
    width, inner, n_patches = architecture.hidden_size, architecture.intermediate_size, count_patches(architecture)
    n_tokens = n_patches + N_SPECIAL

    def layer(n_kept: int) -> int:
        linear = n_tokens * 2 * width**2 + n_kept * (2 * width**2 + 2 * width * inner)
        return linear + 2 * n_tokens * n_kept * width

    layers = (architecture.num_hidden_layers - 1) * layer(n_tokens) + layer(N_SPECIAL if as_computed else n_tokens)
    return 2 * (layers + n_patches * architecture.patch_size**2 * width + width * architecture.num_labels)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory: CUDA has an error class for it, CPU, MPS and cuBLAS only words."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)
