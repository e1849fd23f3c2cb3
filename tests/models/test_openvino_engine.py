import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tagger.models.features import LogMel
from tagger.models.openvino_engine import OpenVinoEngine, out_of_memory, precisions, version
from tests.models.networks import CONFIGS, architecture_of, log_mels, network, weights_of

needs_bf16 = pytest.mark.skipif("bf16" not in precisions(), reason="needs a CPU that multiplies bf16")

ROOT = Path(__file__).parents[2]


class Given(LogMel):
    """Log-mels that are given instead of computed: a snippet is the number of its log-mel."""

    def __init__(self, inputs: torch.Tensor) -> None:
        super().__init__()
        object.__setattr__(self, "inputs", inputs.numpy())

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        return self.inputs[int(waveform[0])]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("n_threads", "most"), [(1, 1), (2, 1), (5, 3)])
def test_half_of_the_threads_compute_log_mels_at_once(n_threads: int, most: int) -> None:
    ast = network()
    n_at_once: list[int] = []
    busy = []

    class Counted(Given):
        def __call__(self, waveform: np.ndarray) -> np.ndarray:
            busy.append(None)
            n_at_once.append(len(busy))
            time.sleep(0.05)
            busy.pop()
            return super().__call__(waveform)

    inputs = log_mels(12)
    engine = OpenVinoEngine(architecture_of(ast), weights_of(ast), Counted(inputs), "fp32", n_threads)
    assert embed(engine, 12).shape[0] == 12
    assert max(n_at_once) == most


@pytest.mark.parametrize("instructions", ["AVX2", "SSE41"])
def test_a_variable_that_only_a_part_of_openvino_minds_ends_no_process(tmp_path: Path, instructions: str) -> None:
    """A network of odd widths, in each precision there is; what is started later finds the variable as it was."""
    code = (
        "import os, numpy as np\n"
        "from tests.support.checkpoints import make_checkpoint\n"
        "from tagger.models.genre_model import GenreModel\n"
        "from tagger.models.openvino_engine import precisions\n"
        "sizes = dict(hidden_size=36, num_attention_heads=3, intermediate_size=50)\n"
        f"folder = make_checkpoint(__import__('pathlib').Path({str(tmp_path / 'checkpoint')!r}), **sizes)\n"
        "for precision in precisions():\n"
        "    model = GenreModel.load(str(folder), device='cpu', precision=precision)\n"
        "    assert np.isfinite(model.logits(np.ones((3, model.snippet_samples), np.int16))).all()\n"
        f"assert os.environ['ONEDNN_MAX_CPU_ISA'] == {instructions!r}\n"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)


def engine_of(ast: Any, inputs: torch.Tensor, precision: str = "fp32", n_threads: int = 2) -> OpenVinoEngine:
    return OpenVinoEngine(architecture_of(ast), weights_of(ast), Given(inputs), precision, n_threads)


def embed(engine: OpenVinoEngine, n_snippets: int) -> np.ndarray:
    return engine.embed(np.arange(n_snippets, dtype=np.int16)[:, None])


def logits(engine: OpenVinoEngine, ast: Any, n_snippets: int) -> np.ndarray:
    """By the last layer of the network of transformers."""
    return embed(engine, n_snippets) @ weights_of(ast)["head.weight"].T + weights_of(ast)["head.bias"]


@pytest.mark.parametrize("config", CONFIGS)
def test_answers_what_transformers_answers(config: dict[str, Any]) -> None:
    ast, inputs = network(**config), log_mels(n_frames=config.get("max_length", 64))
    with torch.inference_mode():
        expected = ast(inputs).logits.numpy()
    assert np.abs(expected[0] - expected[1]).max() > 0.03
    np.testing.assert_allclose(logits(engine_of(ast, inputs), ast, 3), expected, rtol=0, atol=1e-4)


@needs_bf16
def test_bf16_answers_nearly_so() -> None:
    ast, inputs = network(), log_mels()
    with torch.inference_mode():
        expected = ast(inputs).logits.numpy()
    found = logits(engine_of(ast, inputs, "bf16"), ast, 3)
    assert found.dtype == np.float32
    assert 0 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.03


@pytest.mark.parametrize("precision", [each for each in ("fp32", "bf16") if each in precisions()])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_what_else_is_computed_does_not_change_an_answer(precision: str, n_threads: int) -> None:
    inputs = log_mels(20)
    inputs[1] *= 100
    engine = engine_of(network(), inputs, precision, n_threads)
    alone = np.concatenate([engine.embed(np.array([[number]], np.int16)) for number in range(20)])
    np.testing.assert_array_equal(embed(engine, 20), alone)


def test_several_callers_at_once_get_their_own_answers() -> None:
    engine = engine_of(network(), log_mels(8))
    expected = embed(engine, 8)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: embed(engine, 8), range(12)):
            np.testing.assert_array_equal(found, expected)


def test_the_first_threads_of_a_process_do_not_wait_for_each_other_for_ever() -> None:
    code = (
        "import sys, numpy as np\nfrom tagger.models.genre_model import GenreModel\nsys.setswitchinterval(1e-6)\n"
        "model = GenreModel.load(device='cpu', precision='fp32', n_threads=8)\n"
        "print(model.logits(np.zeros((32, model.snippet_samples), np.int16)).shape)"
    )
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
        assert done.stdout == "(32, 15)\n"


def test_the_weights_it_is_made_of_stay_as_they_were() -> None:
    ast = network()
    before = {name: weight.copy() for name, weight in weights_of(ast).items()}
    embed(engine_of(ast, log_mels(), precisions()[-1]), 3)
    for name, weight in weights_of(ast).items():
        assert (weight == before[name]).all(), name


def test_no_snippets_give_no_embeddings() -> None:
    ast = network()
    assert engine_of(ast, log_mels()).embed(np.empty((0, 1), np.int16)).shape == (0, ast.config.hidden_size)


def test_lack_of_memory_is_told_from_other_errors() -> None:
    from tagger.models.engine import EngineMemoryError

    for error in (MemoryError("Unable to allocate 4 GiB"), RuntimeError("Exception from src: std::bad_alloc")):
        with pytest.raises(EngineMemoryError), out_of_memory():
            raise error
    with pytest.raises(RuntimeError, match="shape"), out_of_memory():
        raise RuntimeError("the shape of the input does not fit")


def test_its_telemetry_is_never_even_imported() -> None:
    code = (
        "import sys\nfrom tagger.models.openvino_engine import core, version\ncore(), version()\n"
        "print([name for name in sys.modules if 'telemetry' in name or 'ovc' in name])\n"
        "import openvino.tools.ovc"  # it can be, by whoever wants it
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert version().startswith("OpenVINO 20")
