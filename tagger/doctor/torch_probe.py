"""What the engines make of this machine, looked at in a process of its own: a broken library may end its process.

    python -m tagger.doctor.torch_probe DEVICE PRECISION

prints a line for each check. What is examined is imported late, so that its failure is a check as well.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple
from importlib import import_module
from importlib.util import find_spec

from tagger.audio.workers import usable_cores
from tagger.doctor.checks import Check, guarded, in_a_line, reinstall

LIMIT_SECONDS = 180.0  # torch may come from a slow disk
MARK = "check: "  # begins a line that is meant for `Machine`: libraries print too


class Machine:
    """The process, begun at once; `checks` waits for what it finds. Close it."""

    def __init__(self, device: str, precision: str) -> None:
        # What can be imported here can be imported there, however this process was started.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        self._process: subprocess.Popen[str] | None = None
        with suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tagger.doctor.torch_probe", device, precision],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
            )  # fmt: skip

    def checks(self) -> Iterator[Check]:
        """What it found; that it did not come to its end is a problem."""
        if self._process is None:
            yield Check("problem", "torch", f"cannot be looked at: {sys.executable} does not start")
            return
        try:
            out, errors = self._process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            yield Check("problem", "torch", f"its import takes longer than {LIMIT_SECONDS:g} s", repair())
            return
        for line in out.splitlines():
            if line.startswith(MARK):
                yield Check(*json.loads(line.removeprefix(MARK)))
        if code := self._process.returncode:
            last = (errors.strip().splitlines() or ["it said nothing"])[-1]
            yield Check("problem", "torch", f"its import ends the process (code {code}): {last[:300]}", repair())

    def close(self) -> None:
        """End the process, if it is not at its end."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def repair() -> str:
    """The command that makes torch and torchaudio fit together."""
    return f"{reinstall('torch', 'torchaudio')}, both from one place"


def checks(device: str, precision: str) -> Iterator[Check]:
    """Whether the engines work, OpenVINO on the CPU and torch on GPUs, and what a run would take."""
    try:
        from tagger.models.openvino_engine import processor, version

        yield Check("ok", "openvino", f"{version()} on {processor()}")
    except Exception as error:
        yield Check("problem", "openvino", f"cannot be imported: {in_a_line(error)}", reinstall("openvino"))
        return
    if find_spec("torch") is None:
        yield without_torch(device)
    else:
        yield from torch_checks(device)
    yield from guarded("device", lambda: choice(device, precision))


def without_torch(device: str) -> Check:
    """Whether torch, which is not installed, would be of use."""
    install = "pip install 'genre-tag[torch]'"
    if device in ("cuda", "mps"):
        return Check("problem", "torch", f"is not installed; --device {device} needs it", install)
    if shutil.which("nvidia-smi") and device == "auto":
        return Check("warning", "torch", "is not installed; with it the NVIDIA card here would be used", install)
    return Check("ok", "torch", "is not installed, and not needed: OpenVINO computes on this machine's processor")


def torch_checks(device: str) -> Iterator[Check]:
    """Whether torch works, and torchaudio beside it. Without a GPU only training needs them."""
    from tagger.models.genre_model import may_have_gpu

    is_needed = device in ("cuda", "mps") or (device == "auto" and may_have_gpu())
    try:
        torch = str(import_module("torch").__version__)
    except Exception as error:
        says = f"cannot be imported: {in_a_line(error)}"
        if is_needed:
            yield Check("problem", "torch", says, repair())
        else:
            yield Check("warning", "torch", f"{says}; only training and GPUs need it", repair())
        return
    if find_spec("torchaudio") is None:
        yield Check("ok", "torch", f"torch {torch}; training needs torchaudio too")
        return
    try:
        both = f"torch {torch} and torchaudio {import_module('torchaudio').__version__}"
        yield Check("ok", "torch", f"{both} fit together")  # their numbers do not tell: 2.14.1 fits 2.11.1
    except Exception as error:
        says = f"cannot be imported: {in_a_line(error)}; only training needs it"
        yield Check("warning", "torchaudio", says, repair())


def choice(device: str, precision: str) -> Iterator[Check]:
    """The device and the precision that a run would take."""
    from tagger.errors import ModelError
    from tagger.models.genre_model import choices, choose_device

    cores = f"{usable_cores()} of {os.cpu_count()} cores usable"
    with warnings.catch_warnings(record=True) as said:  # torch warns of a driver that is too old for it
        warnings.simplefilter("always")
        try:
            chosen = choose_device(device)
        except ModelError as error:
            yield Check("problem", "device", str(error), "use --device auto")
            return
    if chosen != "cpu":
        yield Check("ok", "device", f"{chosen}: {describe_gpu(chosen)}; {cores}; torch computes on it")
    elif device == "auto" and shutil.which("nvidia-smi") and find_spec("torch"):
        yield no_gpu(cores, said)
    else:
        yield Check("ok", "device", f"cpu: {cores}; OpenVINO computes on it")
    try:
        possible = {choice.precision: None for choice in choices(chosen, precision)}
    except ModelError as error:
        yield Check("problem", "precision", str(error), "use --precision auto")
    else:
        says = "as asked for" if precision != "auto" else "whichever is timed to be faster with the model"
        yield Check("ok", "precision", f"{' or '.join(possible)}: {says}")


def describe_gpu(device: str) -> str:
    """Its name and its memory."""
    import torch

    if not device.startswith("cuda"):
        return platform.machine()
    card = torch.cuda.get_device_properties(device)
    return f"{card.name}, {card.total_memory / 2**30:.0f} GiB"


def no_gpu(cores: str, said: list[warnings.WarningMessage]) -> Check:
    """Why the card that there is cannot be used."""
    import torch

    why = f" ({in_a_line(said[-1].message)})" if said else ""
    build = "is built for CPUs only" if torch.version.cuda is None else f"cannot use it{why}"
    says = f"cpu: {cores}; there is an NVIDIA driver, but this torch {build}"
    return Check("warning", "device", says, "install the torch that fits the driver: pytorch.org/get-started")


if __name__ == "__main__":
    for each in checks(*sys.argv[1:]):
        print(MARK + json.dumps(astuple(each)), flush=True)
