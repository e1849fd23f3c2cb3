"""OpenVinoEngine: the network on a CPU, built of OpenVINO's own operations from the weights of a checkpoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from queue import SimpleQueue
from threading import BoundedSemaphore
from typing import Any

import numpy as np

from tagger.audio.workers import keep_freed_memory
from tagger.models.architecture import N_SPECIAL, Architecture, count_patches
from tagger.models.engine import EngineMemoryError
from tagger.models.features import LogMel

#: Precision -> OpenVINO's name of it, as a capability of a device and as a hint to it.
PRECISIONS = {"fp32": ("FP32", "f32"), "bf16": ("BF16", "bf16"), "fp16": ("FP16", "f16")}


@cache
def openvino() -> Any:
    """The module `openvino`, without the tools for conversion that it imports at its end.

    They take half of the time, and report to their makers that they were imported.
    """
    tools = "openvino.tools.ovc"
    is_kept_out = tools not in sys.modules
    if is_kept_out:
        sys.modules[tools] = None  # type: ignore[assignment]
    try:
        import openvino
        import openvino.opset13
    finally:
        if is_kept_out:
            del sys.modules[tools]
    return openvino


@cache
def core() -> Any:
    """What knows the devices of this machine, and uses all that its processor can.

    A part of OpenVINO minds the variable ONEDNN_MAX_CPU_ISA and a part does not: below AVX-512 networks of odd widths,
    or in short formats, end the process (2026.4). It is read once, when the first network is compiled.
    """
    most = os.environ.pop("ONEDNN_MAX_CPU_ISA", None)
    made = openvino().Core()
    if most is not None:
        op = openvino().opset13
        row = op.parameter([1, 8], np.float32)
        made.compile_model(openvino().Model([op.matmul(row, np.eye(8, dtype=np.float32), False, False)], [row]), "CPU")
        os.environ["ONEDNN_MAX_CPU_ISA"] = most
    return made


def version() -> str:
    """As in "OpenVINO 2026.4.1"."""
    return f"OpenVINO {openvino().__version__.partition('-')[0]}"


def processor() -> str:
    """What this machine's processor calls itself."""
    return str(core().get_property("CPU", "FULL_DEVICE_NAME")).strip()


def precisions() -> tuple[str, ...]:
    """Those of `PRECISIONS` that this processor has instructions for, which does not mean that they are faster."""
    capabilities = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name, (capability, _) in PRECISIONS.items() if capability in capabilities)


class OpenVinoEngine:
    """The network on this machine's processor: each thread computes a snippet from its log-mel to its embedding.

    Threads that share the layers of a snippet would wait for each other at every one of them, above all beside
    decoders, which want the cores too.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Mapping[str, np.ndarray],
        log_mel: LogMel,
        precision: str,
        n_threads: int,
    ) -> None:
        self.name = version()
        self.precision, self.n_threads = precision, n_threads
        self._log_mel, self._width = log_mel, architecture.hidden_size
        config = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision][1],
            "NUM_STREAMS": str(n_threads),
            "INFERENCE_NUM_THREADS": n_threads,
            "ENABLE_HYPER_THREADING": True,  # as many threads as are asked for
            "ENABLE_CPU_PINNING": False,  # the system knows best which cores the decoders leave
        }
        keep_freed_memory()
        with out_of_memory():
            compiled = core().compile_model(build(architecture, weights), "CPU", config)
            self._requests: SimpleQueue[Any] = SimpleQueue()
            for _ in range(n_threads):
                request = compiled.create_infer_request()
                # Made here, in one thread: the first views of two threads at once would wait for each other for ever.
                self._requests.put((request, request.get_input_tensor().data, request.get_output_tensor().data))
        self._threads = ThreadPoolExecutor(n_threads, "engine")
        # Log-mels are many short steps of numpy, at each of which threads that do the same hand the interpreter's lock
        # to each other: it takes less time to let half of them wait, which the network of the others fills.
        self._log_mel_turn = BoundedSemaphore((n_threads + 1) // 2)

    def embed(self, snippets: np.ndarray) -> np.ndarray:
        """(n_snippets, snippet_samples) int16 to (n_snippets, width) float32. Raises EngineMemoryError."""
        with out_of_memory():
            rows = list(self._threads.map(self._embed, snippets))
        return np.stack(rows) if rows else np.empty((0, self._width), np.float32)

    def _embed(self, snippet: np.ndarray) -> np.ndarray:
        with self._log_mel_turn:
            log_mel = self._log_mel(snippet)
        request, inputs, outputs = slot = self._requests.get()
        try:
            inputs[0] = log_mel
            request.start_async()
            request.wait()
            embedding: np.ndarray = outputs[0].copy()
            return embedding
        finally:
            self._requests.put(slot)


@contextmanager
def out_of_memory() -> Iterator[None]:
    """Makes of what OpenVINO and numpy raise for lack of memory an EngineMemoryError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "alloc" not in str(error):
            raise
        raise EngineMemoryError(str(error)) from error


def build(architecture: Architecture, weights: Mapping[str, np.ndarray]) -> Any:
    """The network as a model of OpenVINO: a log-mel (1, n_frames, n_mels) in, an embedding (1, width) out, float32.

    It is what the last layer of `ASTForAudioClassification` of transformers reads. In the last encoder block only the
    two tokens that go into it are computed.
    """
    op = openvino().opset13
    width, n_heads = architecture.hidden_size, architecture.num_attention_heads
    n_tokens = N_SPECIAL + count_patches(architecture)
    activate = activations(op)[architecture.hidden_act]
    # Constants that are made of arrays where they are used would become lists of Python's numbers on their way.
    constants = {name: op.constant(weight, shared_memory=True) for name, weight in weights.items()}

    def linear(name: str, inputs: Any) -> Any:
        product = op.matmul(inputs, constants[f"{name}.weight"], False, True)
        bias = constants.get(f"{name}.bias")
        return product if bias is None else op.add(product, bias)

    def norm(name: str, inputs: Any) -> Any:
        normed = op.mvn(inputs, np.array([-1]), True, architecture.layer_norm_eps, "inside_sqrt")
        return op.add(op.multiply(normed, constants[f"{name}.weight"]), constants[f"{name}.bias"])

    def first(inputs: Any, n_kept: int) -> Any:
        if n_kept == n_tokens:
            return inputs
        return op.slice(inputs, np.array([0]), np.array([n_kept]), np.array([1]), np.array([1]))

    def heads(inputs: Any) -> Any:
        """(1, n, width) to (1, n_heads, n, width of a head)."""
        apart = op.reshape(inputs, np.array([0, -1, n_heads, width // n_heads]), True)
        return op.transpose(apart, np.array([0, 2, 1, 3]))

    def layer(name: str, hidden: Any, n_kept: int) -> Any:
        """A pre-norm encoder block of which the first `n_kept` tokens are computed."""
        normed = norm(f"{name}.norm1", hidden)
        query = heads(linear(f"{name}.q_proj", first(normed, n_kept)))
        key, value = (heads(linear(f"{name}.{each}", normed)) for each in ("k_proj", "v_proj"))
        attended = op.transpose(op.scaled_dot_product_attention(query, key, value), np.array([0, 2, 1, 3]))
        attended = op.reshape(attended, np.array([0, 0, width]), True)
        hidden = op.add(first(hidden, n_kept), linear(f"{name}.out_proj", attended))
        inner = activate(linear(f"{name}.fc1", norm(f"{name}.norm2", hidden)))
        return op.add(hidden, linear(f"{name}.fc2", inner))

    log_mel = op.parameter([1, architecture.max_length, architecture.num_mel_bins], np.float32)
    hidden = op.add(embed(op, architecture, constants, log_mel), constants["positions"])
    for index in range(architecture.num_hidden_layers):
        is_last = index == architecture.num_hidden_layers - 1
        hidden = layer(f"layers.{index}", hidden, N_SPECIAL if is_last else n_tokens)
    pooled = op.reduce_mean(norm("norm", hidden), np.array([1]), False)
    return openvino().Model([norm("head_norm", pooled)], [log_mel], "ast")


def embed(op: Any, architecture: Architecture, constants: Mapping[str, Any], log_mel: Any) -> Any:
    """The tokens of a log-mel (1, n_frames, n_mels) without their positions, (1, n_tokens, width)."""
    strides = [architecture.frequency_stride, architecture.time_stride]
    image = op.unsqueeze(op.transpose(log_mel, np.array([0, 2, 1])), np.array(1))
    patches = op.convolution(image, constants["patches.weight"], strides, [0, 0], [0, 0], [1, 1])
    patches = op.reshape(patches, np.array([0, architecture.hidden_size, -1]), True)
    patches = op.add(op.transpose(patches, np.array([0, 2, 1])), constants["patches.bias"])
    return op.concat([constants["class_token"], constants["distillation_token"], patches], 1)


def activations(op: Any) -> dict[str, Callable[[Any], Any]]:
    """Each of `architecture.ACTIVATIONS` as an operation."""
    tanh = partial(op.gelu, approximation_mode="tanh")
    return {
        "gelu": partial(op.gelu, approximation_mode="erf"),
        "gelu_new": tanh,
        "gelu_pytorch_tanh": tanh,
        "relu": op.relu,
        "silu": op.swish,
        "swish": op.swish,
    }
