"""The benchmark of training runs, and measures what it promises."""

import re

import pytest
from click.testing import CliRunner

from tests.benchmarks import training as benchmark_train


def test_it_measures_loader_network_and_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_train, "N_SONGS", 4)
    monkeypatch.setattr(benchmark_train, "SIDE", 64)  # a processor without bf16 would take minutes
    arguments = ["--model", "new-micro", "--batch-size", "2", "--batches", "1", "--device", "cpu"]
    done = CliRunner().invoke(benchmark_train.benchmark, arguments, catch_exceptions=False)
    lines = [line for line in done.stdout.splitlines() if "snippets/s" in line]
    assert [line.split(":")[0] for line in lines] == ["seed", "v2", "v2 without patchout"]
    for line in lines:
        assert re.search(r"loader \d+, network \d+\.\d, together \d+\.\d snippets/s", line), line
