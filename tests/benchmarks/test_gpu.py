"""The benchmark of GPUs runs to its end on a CPU, and outlives a stage that does not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.benchmarks import gpu

ROOT = Path(__file__).parents[2]


def test_all_of_it_walks_on_a_cpu() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.gpu", "--device", "cpu", "--tiny", "--minutes", "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=660)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert [line["stage"] for line in lines if line["figure"] == "done"] == list(gpu.STAGES)
    checks = {line["stage"] for line in lines if "ok" in line}
    assert checks == {"correct", "memory", "pipeline", "resume"} and all(line.get("ok", True) for line in lines)
    left_out = [line["figure"] for line in lines if str(line["value"]).startswith("left out")]
    assert left_out == ["CUDA graph"]
    speeds = [line for line in lines if line.get("unit") in ("snippets/s", "songs/s", "GB/s", "TFLOP/s")]
    assert len(speeds) >= 15 and all(line["value"] > 0 for line in speeds)


def hang(device: str, size: gpu.Size) -> None:
    gpu.tell("begun", True)
    time.sleep(100)


def fail(device: str, size: gpu.Size) -> None:
    raise ValueError("no such thing\nand more")


def crash(device: str, size: gpu.Size) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (hang, [("begun", True), ("failed", "longer than 1 s")]),
        (fail, [("failed", "ValueError: no such thing"), ("done", True)]),
        (crash, [("failed", "ended with -9"), ("done", True)]),
    ],
)
def test_a_stage_that_does_not_end_well_is_told_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    stage: object,
    expected: list[tuple[str, object]],
) -> None:
    monkeypatch.setitem(gpu.STAGES, "odd", (stage, 1.0))
    monkeypatch.setenv("STAGE", "")
    assert not gpu.run_stage("odd", "cpu", gpu.TINY, 1.0 if stage is hang else 60.0)
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["figure"], line["value"]) for line in lines] == expected
    assert {line["stage"] for line in lines} == {"odd"}


def test_a_stage_for_which_no_time_is_left_is_not_begun(capfd: pytest.CaptureFixture[str]) -> None:
    assert not gpu.run_stage("facts", "cpu", gpu.TINY, 0.0)
    [line] = capfd.readouterr().out.splitlines()
    assert json.loads(line)["value"] == "no time was left"


def test_a_check_says_whether_it_holds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGE", "correct")
    gpu.check("error", 0.2, 0.1)
    gpu.check("error", float("nan"), 0.1)
    assert [json.loads(line)["ok"] for line in capsys.readouterr().out.splitlines()] == [False, False]
