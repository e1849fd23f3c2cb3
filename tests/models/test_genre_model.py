import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tagger.audio.decode import FULL_SCALE
from tagger.errors import ModelError
from tagger.models import torch_engine
from tagger.models.architecture import Architecture, flops_per_snippet
from tagger.models.checkpoint import load_checkpoint
from tagger.models.description import FRAMES_PER_SECOND, STARTER, describe, find_checkpoint
from tagger.models.engine import Choice, EngineMemoryError, Timing
from tagger.models.features import FRAME_HOP_SAMPLES, SAMPLE_RATE
from tagger.models.genre_model import GenreModel, build_engine, choices, choose_device, default_batch_size
from tagger.models.torch_engine import TorchEngine, is_out_of_memory
from tagger.models.transformer import Transformer
from tests.support.checkpoints import AUDIOSET, edit_json, make_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint"))


@pytest.fixture
def model(folder: str) -> GenreModel:
    return GenreModel.load(folder, device="cpu", precision="fp32")


def snippets(n_snippets: int, n_samples: int = SAMPLE_RATE) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1 * FULL_SCALE, (n_snippets, n_samples)).astype(np.int16)


# Numbers


def pipeline_of_transformers(folder: Path, waveforms: np.ndarray) -> np.ndarray:
    from transformers import ASTFeatureExtractor, ASTForAudioClassification

    inputs = ASTFeatureExtractor.from_pretrained(folder)(
        list(waveforms.astype(np.float32) / FULL_SCALE), sampling_rate=SAMPLE_RATE, return_tensors="pt"
    )
    with torch.inference_mode():
        network = ASTForAudioClassification.from_pretrained(folder, dtype=torch.float32)
        return network(inputs.input_values).logits.numpy()


def test_the_starter_classifies_what_the_pipeline_of_transformers_classifies() -> None:
    model = GenreModel.load(device="cpu", precision="fp32")
    waveforms = snippets(2, model.snippet_samples)
    waveforms[1] = 0.5 * FULL_SCALE * np.sin(np.arange(model.snippet_samples) * 0.1)
    expected = pipeline_of_transformers(find_checkpoint(STARTER), waveforms)
    np.testing.assert_allclose(model.logits(waveforms), expected, rtol=0, atol=1e-3)
    assert np.abs(expected[0] - expected[1]).max() > 0.1


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_mels": 64, "n_frames": 256},
        {"mean": -3.0, "std": 2.0},
        {"time_stride": 10, "frequency_stride": 10},
        {"labels": AUDIOSET, "multi_label": True},
        {"qkv_bias": False},
        {"hidden_act": "relu"},
        {"hidden_act": "gelu_new", "layer_norm_eps": 0.1},
        {"hidden_size": 36, "num_attention_heads": 3, "intermediate_size": 50, "num_hidden_layers": 3},
        {"labels": [f"Genre {index}" for index in range(13)], "patch_size": 8, "frequency_stride": 9},
    ],
)
def test_so_does_any_checkpoint(tmp_path: Path, sizes: dict[str, Any]) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint", **sizes)
    model = GenreModel.load(str(folder), device="cpu", precision="fp32")
    waveforms = snippets(3, model.snippet_samples)
    expected = pipeline_of_transformers(folder, waveforms)
    assert model.logits(waveforms).shape == (3, model.n_outputs) == expected.shape
    np.testing.assert_allclose(model.logits(waveforms), expected, rtol=0, atol=1e-3)


def test_features_that_are_not_normalised_stay_so(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint")
    edit_json(folder / "preprocessor_config.json", do_normalize=False)
    waveforms = snippets(1)
    logits = GenreModel.load(str(folder), device="cpu", precision="fp32").logits(waveforms)
    np.testing.assert_allclose(logits, pipeline_of_transformers(folder, waveforms), rtol=0, atol=1e-3)


def test_both_engines_answer_alike(folder: str, model: GenreModel) -> None:
    checkpoint, waveforms = load_checkpoint(describe(folder)), snippets(5)
    in_torch = TorchEngine(checkpoint.architecture, checkpoint.weights, checkpoint.log_mel, "cpu", "fp32")
    np.testing.assert_allclose(in_torch.embed(waveforms), model.outputs(waveforms).embeddings, rtol=0, atol=1e-4)


def test_logits_are_linear_in_the_embeddings(folder: str, model: GenreModel) -> None:
    outputs, weights = model.outputs(snippets(5)), load_checkpoint(describe(folder)).weights
    expected = outputs.embeddings @ weights["head.weight"].T + weights["head.bias"]
    assert outputs.embeddings.dtype == outputs.logits.dtype == np.float32
    np.testing.assert_allclose(outputs.logits, expected, rtol=0, atol=1e-6)
    assert len(np.unique(outputs.embeddings, axis=0)) == 5


def test_bf16_is_close_to_fp32(folder: str, model: GenreModel) -> None:
    waveforms = snippets(4)
    bf16 = GenreModel.load(folder, device="cpu", precision="bf16").logits(waveforms)
    assert bf16.dtype == np.float32
    difference = np.abs(bf16 - model.logits(waveforms))
    assert 0 < difference.max() < 0.1
    # Not rounded to bf16 on the way out, which holds only eight bits.
    assert (torch.from_numpy(bf16).bfloat16().float().numpy() != bf16).any()


# logits()


def test_a_long_array_is_its_batches(model: GenreModel) -> None:
    waveforms = snippets(5)
    alone = np.concatenate([model.logits(waveform[None]) for waveform in waveforms])
    model.batch_size = 2
    np.testing.assert_allclose(model.logits(waveforms), alone, rtol=0, atol=1e-5)


def test_no_snippets_give_no_logits(model: GenreModel) -> None:
    assert model.logits(snippets(0)).shape == (0, 3)


def test_read_only_and_strided_arrays_are_classified_alike(model: GenreModel) -> None:
    waveforms = snippets(4)
    expected = model.logits(np.ascontiguousarray(waveforms[::-2]))
    waveforms.flags.writeable = False
    np.testing.assert_array_equal(model.logits(waveforms[::-2]), expected)


@pytest.mark.parametrize(
    "waveforms",
    [
        snippets(1)[0],
        snippets(1, SAMPLE_RATE - 1),
        snippets(1, 160_000),
        snippets(1).astype(np.float32),
        snippets(1)[None],
    ],
)
def test_what_is_no_batch_of_snippets_is_a_bug(model: GenreModel, waveforms: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be int16 \(n_snippets, 16000\)"):
        model.logits(waveforms)


class Cramped:
    """An engine on a device that has memory for so many snippets."""

    def __init__(self, engine: Any, n_snippets: int, error: Exception | None = None) -> None:
        self.engine, self.n_snippets = engine, n_snippets
        self.error = error or EngineMemoryError("out of memory")
        self.tried: list[int] = []

    def embed(self, snippets: np.ndarray) -> np.ndarray:
        self.tried.append(len(snippets))
        if len(snippets) > self.n_snippets:
            raise self.error
        return self.engine.embed(snippets)


MEMORY_ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: not enough memory: you tried"),
]


def test_out_of_memory_halves_the_batch_and_remembers(model: GenreModel) -> None:
    waveforms = snippets(13)
    expected = model.logits(waveforms)
    model._engine = cramped = Cramped(model._engine, 3)
    model.batch_size = 13
    np.testing.assert_allclose(model.logits(waveforms), expected, rtol=0, atol=1e-5)
    assert cramped.tried == [13, 6, 3, 3, 3, 3, 1]
    assert model.batch_size == 3


def test_a_snippet_too_large_for_the_device_is_named(model: GenreModel) -> None:
    model._engine = Cramped(model._engine, 0)
    with pytest.raises(ModelError, match="one snippet does not fit into the memory of cpu"):
        model.logits(snippets(2))


@pytest.mark.parametrize("error", MEMORY_ERRORS)
def test_a_model_too_large_for_the_device_is_named(
    folder: str, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch.nn.Module, "to", fail)
    monkeypatch.setattr(torch_engine, "precisions", lambda _: ("fp32",))
    monkeypatch.setattr(torch_engine, "describe_device", lambda _: "a card")
    with pytest.raises(ModelError, match="the model does not fit into the memory of cuda"):
        GenreModel(load_checkpoint(describe(folder)), "cuda", "fp32")


@pytest.mark.parametrize("error", MEMORY_ERRORS)
def test_the_memory_errors_of_torch_are_those_of_an_engine(
    folder: str, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    checkpoint = load_checkpoint(describe(folder))
    engine = TorchEngine(checkpoint.architecture, checkpoint.weights, checkpoint.log_mel, "cpu", "fp32")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(engine._transformer, "embed", fail)
    with pytest.raises(EngineMemoryError):
        engine.embed(snippets(1))


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_what_a_batch_that_failed_held_is_given_back_before_a_smaller_one(
    folder: str, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    checkpoint = load_checkpoint(describe(folder))
    engine = TorchEngine(checkpoint.architecture, checkpoint.weights, checkpoint.log_mel, "cpu", "fp32")
    held: list[weakref.ref[torch.Tensor]] = []
    left: list[int] = []

    def fail(log_mels: torch.Tensor) -> None:
        in_a_circle: list[Any] = [log_mels]
        in_a_circle.append(in_a_circle)
        held.append(weakref.ref(log_mels))
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(engine._transformer, "embed", fail)
    monkeypatch.setattr(f"torch.{device}.empty_cache", lambda: left.append(sum(each() is not None for each in held)))
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: tensor)
    engine.device = device
    with pytest.raises(EngineMemoryError):
        engine.embed(snippets(1))
    assert left == [0]


def test_another_error_is_not_taken_for_lack_of_memory(model: GenreModel) -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    model._engine = cramped = Cramped(model._engine, 0, error)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        model.logits(snippets(2))
    assert cramped.tried == [2]


def test_torch_says_it_as_expected_when_memory_is_short() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


# What the caller reads off a model


@pytest.mark.parametrize(("n_frames", "seconds"), [(64, 1), (128, 1), (998, 9), (1024, 10), (1100, 11)])
def test_a_snippet_is_the_whole_seconds_that_fit(tmp_path: Path, n_frames: int, seconds: int) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint", n_frames=n_frames)
    model = GenreModel.load(str(folder), device="cpu")
    assert model.snippet_samples == seconds * SAMPLE_RATE
    assert np.isfinite(model.logits(snippets(1, model.snippet_samples))).all()
    assert FRAMES_PER_SECOND * FRAME_HOP_SAMPLES == SAMPLE_RATE


def test_name_and_head_come_with_the_model(folder: str, model: GenreModel) -> None:
    assert (model.name, model.device, model.precision) == (folder, "cpu", "fp32")
    assert model.engine.startswith("OpenVINO 20") and model.snippets_per_second > 0
    assert model.precision_reason == "as asked for"
    assert model.head.genres == ("Classical", "Jazz", "Rock")


@pytest.mark.parametrize("strides", [{}, {"time_stride": 16, "frequency_stride": 16}])
def test_flops_are_those_that_torch_counts(strides: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import ASTConfig, ASTForAudioClassification

    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 80}
    sizes |= strides | {"max_length": 256, "num_labels": 7}
    network = ASTForAudioClassification(ASTConfig(**sizes, attn_implementation="eager")).eval()
    architecture, log_mels = Architecture(**sizes), torch.zeros(1, 256, 128)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(log_mels)
    assert flops_per_snippet(architecture) == counter.get_total_flops()

    def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return (queries @ keys.transpose(2, 3)) @ values  # torch does not count the fused attention of a CPU

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Transformer(architecture)(log_mels)
    assert flops_per_snippet(architecture, as_computed=True) == counter.get_total_flops()


def test_the_audioset_checkpoint_takes_261_gflop() -> None:
    assert round(flops_per_snippet(Architecture(527)) / 1e9) == 261
    assert round(flops_per_snippet(Architecture(527), as_computed=True) / 1e9) == 242


def test_a_batch_is_half_a_second_of_work_for_a_cpu_at_most() -> None:
    timings = [Timing(Choice("fp32", 2), speed, "") for speed in (0.5, 3.9, 12.0, 1000.0)]
    assert [default_batch_size(timing, "cpu") for timing in timings] == [2, 2, 6, 16]
    assert [default_batch_size(timings[0], device) for device in ("cuda:1", "mps")] == [64, 16]


# Device and precision


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives the machine devices and instructions that it may not have."""

    def build(
        n_cuda: int = 0, mps: bool = False, capability: tuple[int, int] = (9, 0), instructions: Sequence[str] = (),
        architectures: Sequence[str] = ("sm_75", "sm_80", "sm_90"),
    ) -> None:  # fmt: skip
        monkeypatch.setattr("tagger.models.genre_model.may_have_gpu", lambda: n_cuda > 0 or mps)
        monkeypatch.setattr("tagger.models.openvino_engine.precisions", lambda: ("fp32", *instructions))
        monkeypatch.setattr("tagger.models.genre_model.usable_cores", lambda: 2)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GT 1030")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(architectures))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return build


@pytest.mark.parametrize(
    ("devices", "expected"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"n_cuda": 2}, "cuda"), ({"n_cuda": 1, "mps": True}, "cuda")],
)
def test_auto_takes_the_fastest_device(machine: Callable[..., None], devices: dict[str, Any], expected: str) -> None:
    machine(**devices)
    assert choose_device("auto") == expected


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_card_that_torch_was_not_built_for_is_passed_over_and_named(
    machine: Callable[..., None], device: str
) -> None:
    machine(n_cuda=1, capability=(6, 1))
    assert choose_device("auto") == "cpu"
    with pytest.raises(ModelError) as caught:
        choose_device(device)
    assert caught.value.reason == f"torch {torch.__version__} was not built for a GT 1030 (6.1); there is cpu"


@pytest.mark.parametrize(
    ("capability", "architectures", "expected"),
    [
        ((8, 6), ["sm_75", "sm_80"], True),  # machine code of the same major version
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80", "sm_86"], False),
        ((9, 0), ["sm_80", "compute_80"], True),  # PTX, which the driver compiles
        ((7, 5), ["sm_90", "compute_90"], False),
        ((9, 0), ["sm_90a"], True),
        ((12, 1), ["sm_120a"], False),
        ((12, 0), ["sm_75", "sm_120"], True),
        ((9, 4), ["gfx90a", "gfx942"], True),  # of AMD's torch
    ],
)
def test_what_kernels_run_on(capability: tuple[int, int], architectures: list[str], expected: bool) -> None:
    assert torch_engine.is_built_for(capability, architectures) == expected


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ..."),
        RuntimeError("CUDA error: no kernel image is available for execution on the device\nFor debugging ..."),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_device_that_fails_is_told_in_one_line(folder: str, model: GenreModel, error: RuntimeError) -> None:
    checkpoint = load_checkpoint(describe(folder))
    model._engine = TorchEngine(checkpoint.architecture, checkpoint.weights, checkpoint.log_mel, "cpu", "fp32")

    def fail(*_: object) -> None:
        raise error

    model._engine._transformer.embed = fail
    with pytest.raises(ModelError) as caught:
        model.logits(snippets(2))
    first = str(error).splitlines()[0]
    assert caught.value.reason == f"cpu failed ({first}): begin again, or use the cpu"


def test_snippets_go_to_the_device_as_the_decoder_gave_them(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load_checkpoint(describe(folder))
    engine = TorchEngine(checkpoint.architecture, checkpoint.weights, checkpoint.log_mel, "cpu", "fp32")
    moved, to = [], torch.Tensor.to

    def watched(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        moved.append((tensor.dtype, args))
        return to(tensor, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", watched)
    engine.embed(snippets(2))
    assert [dtype for dtype, args in moved if args == ("cpu",)] == [torch.int16]


class CudaOnPaper:
    """CUDA as far as copies go: what is copied on a stream is there when another stream has waited for it.

    Its device is the CPU. Memory that is not page-locked, and a tensor that is used on a stream it was not made on and
    not recorded for, are faults.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.locked: list[int] = []  # where buffers begin
        self.copies: list[tuple[torch.Tensor, torch.Tensor]] = []  # under way: there, from
        self.recorded: list[torch.Tensor] = []
        self.n_copied: list[int] = []  # snippets of each copy
        self._is_copying = False
        empty = torch.empty
        computing = SimpleNamespace(wait_stream=self.arrive)
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: "copying")
        monkeypatch.setattr(torch.cuda, "stream", self.on)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
        monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *to, **how: self.to(tensor, *to, **how))
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: self.recorded.append(tensor))
        monkeypatch.setattr(torch.nn.Module, "to", lambda module, *_: module)
        monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda precision: None)

        def empty_or_locked(*shape: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
            made = empty(*shape, **options)
            self.locked += [made.data_ptr()] if pin_memory else []
            return made

        monkeypatch.setattr(torch, "empty", empty_or_locked)

    @contextmanager
    def on(self, stream: str) -> Iterator[None]:
        self._is_copying = stream == "copying"
        yield
        self._is_copying = False

    def to(self, tensor: torch.Tensor, device: Any, non_blocking: bool = False) -> torch.Tensor:
        if device != "cuda":
            return tensor.type(device)
        assert self._is_copying and non_blocking and tensor.data_ptr() in self.locked
        there = torch.zeros_like(tensor)
        self.copies.append((there, tensor))
        return there

    def arrive(self, stream: str) -> None:
        assert stream == "copying"
        for there, source in self.copies:
            there.copy_(source)
            self.n_copied.append(len(there))
        self.copies.clear()


def test_a_batch_goes_to_cuda_in_halves_of_which_one_is_copied_while_the_other_is_computed(
    folder: str, model: GenreModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [model.outputs(snippets(n)).embeddings for n in (4, 7, 1)]
    checkpoint, cuda = load_checkpoint(describe(folder)), CudaOnPaper(monkeypatch)
    engine = TorchEngine(checkpoint.architecture, checkpoint.weights, checkpoint.log_mel, "cuda", "fp32")
    found = [engine.embed(snippets(n)) for n in (4, 7, 1)]
    assert cuda.n_copied == [2, 2, 4, 3, 1] and len(cuda.recorded) == 5
    assert len(cuda.locked) == len(set(cuda.locked[:2])) + len(set(cuda.locked[2:])) == 4  # larger ones for the 7
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("device", "expected"), [("cuda", ["high"]), ("cuda:1", ["high"]), ("mps", []), ("cpu", [])])
def test_float32_is_multiplied_in_the_tensor_cores_of_cuda(
    monkeypatch: pytest.MonkeyPatch, device: str, expected: list[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    torch_engine.multiply_fast(device)
    assert asked == expected


def test_a_device_by_name(machine: Callable[..., None]) -> None:
    machine(n_cuda=2)
    assert [choose_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]


@pytest.mark.parametrize("device", ["cuda", "mps", "cuda:0", "tpu", ""])
def test_a_device_that_is_absent(machine: Callable[..., None], device: str) -> None:
    machine()
    with pytest.raises(ModelError) as caught:
        choose_device(device)
    assert caught.value.reason == "no such device here; there is cpu"


def test_a_gpu_too_many(machine: Callable[..., None]) -> None:
    machine(n_cuda=2)
    with pytest.raises(ModelError, match="cuda:2: no such device here; there is cuda, cuda:0, cuda:1, cpu"):
        choose_device("cuda:2")


def test_without_torch_there_is_the_cpu(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine(n_cuda=1)
    monkeypatch.setattr("tagger.models.genre_model.find_spec", lambda _: None)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    for device in ("cuda", "cuda:1", "mps"):
        with pytest.raises(ModelError) as caught:
            choose_device(device)
        assert caught.value.reason == "needs torch: pip install 'genre-tag[torch]'"
    with pytest.raises(ModelError, match="tpu: no such device here; there is cpu"):
        choose_device("tpu")


def test_torch_is_not_even_imported_where_there_is_no_gpu() -> None:
    code = (
        "import sys, tagger.models.genre_model\ntagger.models.genre_model.may_have_gpu = lambda: False\n"
        "tagger.models.genre_model.GenreModel.load()\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("device", "hardware", "expected"),
    [
        ("cuda", {"capability": (8, 0)}, "fp32 bf16"),
        ("cuda:1", {"capability": (7, 5)}, "fp32 fp16"),
        ("mps", {}, "fp32 fp16"),
        ("cpu", {}, "fp32"),
        ("cpu", {"instructions": ["bf16"]}, "fp32 bf16"),
        ("cpu", {"instructions": ["fp16"]}, "fp32 fp16"),
        ("cpu", {"instructions": ["bf16", "fp16"]}, "fp32 bf16"),
    ],
)
def test_auto_chooses_among_what_the_device_can(
    machine: Callable[..., None], device: str, hardware: dict[str, Any], expected: str
) -> None:
    machine(n_cuda=2, mps=True, **hardware)
    assert " ".join(choice.precision for choice in choices(device)) == expected


@pytest.mark.parametrize(
    ("precision", "device"), [("fp32", "cpu"), ("bf16", "cpu"), ("fp16", "cuda"), ("fp16", "mps"), ("bf16", "mps")]
)
def test_a_precision_by_name(machine: Callable[..., None], precision: str, device: str) -> None:
    machine(n_cuda=1, mps=True, capability=(7, 5), instructions=["bf16"])
    assert {choice.precision for choice in choices(device, precision)} == {precision}


@pytest.mark.parametrize(
    ("precision", "device"), [("fp16", "cpu"), ("bf16", "cpu"), ("bf16", "cuda"), ("int8", "cpu"), ("", "cuda")]
)
def test_a_precision_that_is_refused(machine: Callable[..., None], precision: str, device: str) -> None:
    machine(n_cuda=1, capability=(7, 5))
    with pytest.raises(ModelError) as caught:
        choices(device, precision)
    assert "auto" in caught.value.reason


@pytest.mark.parametrize(
    ("n_cores", "n_threads", "expected"), [(1, None, [1]), (2, None, [2]), (16, None, [8, 16]), (16, 3, [3])]
)
def test_threads_to_choose_from(
    machine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    n_cores: int,
    n_threads: int | None,
    expected: list[int],
) -> None:
    machine()
    monkeypatch.setattr("tagger.models.genre_model.usable_cores", lambda: n_cores)
    assert [choice.n_threads for choice in choices("cpu", "auto", n_threads)] == expected


def test_a_machine_is_timed_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []

    def build(checkpoint: Any, device: str, choice: Choice) -> Any:
        built.append(checkpoint.architecture.num_hidden_layers)
        return build_engine(checkpoint, device, choice)

    monkeypatch.setattr("tagger.models.genre_model.build_engine", build)
    first = GenreModel.load(folder, "cpu")
    n_choices = len(built) - 1
    assert n_choices == len(choices("cpu"))
    second = GenreModel.load(folder, "cpu")
    assert len(built) == n_choices + 2
    assert (second.precision, second.precision_reason) == (first.precision, first.precision_reason)
    assert first.precision_reason.startswith("fastest here: fp32 on ")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "auto"])
def test_cuda_classifies_what_the_cpu_classifies(folder: str, model: GenreModel, precision: str) -> None:
    waveforms = snippets(4)
    on_cuda = GenreModel.load(folder, device="cuda", precision=precision).logits(waveforms)
    np.testing.assert_allclose(
        on_cuda, model.logits(waveforms), rtol=0, atol=1e-2 if precision == "fp32" else 0.1
    )  # TF32
