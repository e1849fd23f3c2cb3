from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tagger.errors import ModelError
from tagger.models.checkpoint import load_checkpoint
from tagger.models.description import FRAMES_PER_SECOND, STARTER, describe, find_checkpoint
from tagger.models.features import FRAME_HOP_SAMPLES, SAMPLE_RATE
from tagger.models.genre_model import (
    GenreModel,
    Precision,
    choose_device,
    choose_precision,
    default_batch_size,
    flops_per_snippet,
    is_out_of_memory,
)
from tagger.models.transformer import Architecture, Transformer
from tests.support.checkpoints import AUDIOSET, edit_json, make_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint"))


@pytest.fixture
def model(folder: str) -> GenreModel:
    return GenreModel.load(folder, device="cpu", precision="fp32")


def snippets(n_snippets: int, n_samples: int = SAMPLE_RATE) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (n_snippets, n_samples)).astype(np.float32)


# Numbers


def pipeline_of_transformers(folder: Path, waveforms: np.ndarray) -> np.ndarray:
    from transformers import ASTFeatureExtractor, ASTForAudioClassification

    inputs = ASTFeatureExtractor.from_pretrained(folder)(
        list(waveforms), sampling_rate=SAMPLE_RATE, return_tensors="pt"
    )
    with torch.inference_mode():
        network = ASTForAudioClassification.from_pretrained(folder, dtype=torch.float32)
        return network(inputs.input_values).logits.numpy()


def test_the_starter_classifies_what_the_pipeline_of_transformers_classifies() -> None:
    model = GenreModel.load(device="cpu", precision="fp32")
    waveforms = snippets(2, model.snippet_samples)
    waveforms[1] = 0.5 * np.sin(np.arange(model.snippet_samples) * 0.1)
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
        snippets(1).astype(np.float64),
        snippets(1)[None],
    ],
)
def test_what_is_no_batch_of_snippets_is_a_bug(model: GenreModel, waveforms: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be float32 \(n_snippets, 16000\)"):
        model.logits(waveforms)


class Cramped(torch.nn.Module):
    """Features on a device that has memory for so many snippets."""

    def __init__(self, log_mel: torch.nn.Module, n_snippets: int, error: RuntimeError) -> None:
        super().__init__()
        self.log_mel, self.n_snippets, self.error = log_mel, n_snippets, error
        self.tried: list[int] = []

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        self.tried.append(len(waveforms))
        if len(waveforms) > self.n_snippets:
            raise self.error
        return self.log_mel(waveforms)


MEMORY_ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: not enough memory: you tried"),
]


@pytest.mark.parametrize("error", MEMORY_ERRORS)
def test_out_of_memory_halves_the_batch_and_remembers(model: GenreModel, error: RuntimeError) -> None:
    waveforms = snippets(13)
    expected = model.logits(waveforms)
    model._log_mel = Cramped(model._log_mel, 3, error)
    model.batch_size = 13
    np.testing.assert_allclose(model.logits(waveforms), expected, rtol=0, atol=1e-5)
    assert model._log_mel.tried == [13, 6, 3, 3, 3, 3, 1]
    assert model.batch_size == 3


def test_a_snippet_too_large_for_the_device_is_named(model: GenreModel) -> None:
    model._log_mel = Cramped(model._log_mel, 0, MEMORY_ERRORS[0])
    with pytest.raises(ModelError, match="one snippet does not fit into the memory of cpu"):
        model.logits(snippets(2))


def test_a_model_too_large_for_the_device_is_named(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MEMORY_ERRORS[0]

    monkeypatch.setattr(torch.nn.Module, "to", fail)
    checkpoint = load_checkpoint(describe(folder))
    with pytest.raises(ModelError, match="the model does not fit into the memory of cuda"):
        GenreModel(checkpoint, "cuda", Precision("fp32", ""))


def test_another_error_is_not_taken_for_lack_of_memory(model: GenreModel) -> None:
    model._log_mel = Cramped(model._log_mel, 0, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        model.logits(snippets(2))
    assert model._log_mel.tried == [2]


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

    monkeypatch.setattr("tagger.models.transformer.attend", attend)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Transformer(architecture)(log_mels)
    assert flops_per_snippet(architecture, as_computed=True) == counter.get_total_flops()


def test_the_audioset_checkpoint_takes_261_gflop() -> None:
    assert round(flops_per_snippet(Architecture(527)) / 1e9) == 261
    assert round(flops_per_snippet(Architecture(527), as_computed=True) / 1e9) == 242


def test_the_default_batch_suits_the_device() -> None:
    tiny = Architecture(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16)
    middling = Architecture(hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_hidden_layers=3)
    assert [default_batch_size(each, "cpu") for each in (tiny, middling, Architecture())] == [8, 2, 1]
    assert default_batch_size(Architecture(), "cuda:1") == default_batch_size(tiny, "mps") == 64


# Device and precision


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives the machine devices and instructions that it may not have."""

    def build(
        n_cuda: int = 0, mps: bool = False, capability: tuple[int, int] = (9, 0), instructions: Sequence[str] = ()
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))

    return build


@pytest.mark.parametrize(
    ("devices", "expected"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"n_cuda": 2}, "cuda"), ({"n_cuda": 1, "mps": True}, "cuda")],
)
def test_auto_takes_the_fastest_device(machine: Callable[..., None], devices: dict[str, Any], expected: str) -> None:
    machine(**devices)
    assert choose_device("auto") == expected


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


@pytest.mark.parametrize(
    ("device", "hardware", "expected"),
    [
        ("cuda", {"capability": (8, 0)}, "bf16"),
        ("cuda:1", {"capability": (7, 5)}, "fp16"),
        ("mps", {"instructions": ["avx512_bf16"]}, "fp32"),
        ("cpu", {}, "fp32"),
        ("cpu", {"instructions": ["avx512_f", "avx2"]}, "fp32"),
        ("cpu", {"instructions": ["avx512_bf16"]}, "bf16"),
        ("cpu", {"instructions": ["amx_bf16"]}, "bf16"),
        ("cpu", {"instructions": ["avx512_vnni"]}, "fp32"),  # int8 only for who asks for it
    ],
)
def test_auto_takes_the_fastest_precision(
    machine: Callable[..., None], device: str, hardware: dict[str, Any], expected: str
) -> None:
    machine(n_cuda=2, mps=True, **hardware)
    chosen = choose_precision("auto", device)
    assert chosen.name == expected and chosen.reason


@pytest.mark.parametrize(
    ("precision", "device"),
    [("fp32", "cpu"), ("bf16", "cpu"), ("int8", "cpu"), ("fp16", "cuda"), ("fp16", "mps"), ("bf16", "mps")],
)
def test_a_precision_by_name(machine: Callable[..., None], precision: str, device: str) -> None:
    machine(n_cuda=1, mps=True, capability=(7, 5), instructions=["avx_vnni"])
    assert choose_precision(precision, device) == Precision(precision, "as asked for")


@pytest.mark.parametrize(
    ("precision", "device"),
    [("fp16", "cpu"), ("bf16", "cuda"), ("int8", "cpu"), ("int8", "cuda"), ("int4", "cpu"), ("", "cuda")],
)
def test_a_precision_that_is_refused(machine: Callable[..., None], precision: str, device: str) -> None:
    machine(n_cuda=1, capability=(7, 5), instructions=["avx2", "avx512_bf16"])
    with pytest.raises(ModelError) as caught:
        choose_precision(precision, device)
    assert "auto" in caught.value.reason


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "auto"])
def test_cuda_classifies_what_the_cpu_classifies(folder: str, model: GenreModel, precision: str) -> None:
    waveforms = snippets(4)
    on_cuda = GenreModel.load(folder, device="cuda", precision=precision).logits(waveforms)
    np.testing.assert_allclose(on_cuda, model.logits(waveforms), rtol=0, atol=1e-3 if precision == "fp32" else 0.1)


def test_a_light_model_on_a_cpu_leaves_cores_to_the_decoders(
    model: GenreModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr("tagger.models.genre_model.usable_cores", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    model.leave_cores(3)
    model.leave_cores(8)
    monkeypatch.setattr(model, "batch_size", 1)  # as of a model so heavy that its decoders mostly wait
    model.leave_cores(3)
    assert threads == [5, 1]
