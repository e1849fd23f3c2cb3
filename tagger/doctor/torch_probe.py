"""What torch makes of this machine, looked at in a process of its own: a broken torch may take its process with it.

    python -m tagger.doctor.torch_probe DEVICE PRECISION

prints a line for each check. What is examined is imported late, so that its failure is a check as well.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple
from importlib import import_module

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
    """Whether torch works, and torchaudio beside it, and the device and precision a run would take."""
    try:
        torch = str(import_module("torch").__version__)
    except Exception as error:
        yield Check("problem", "torch", f"cannot be imported: {in_a_line(error)}", repair())
        return
    try:
        both = f"torch {torch} and torchaudio {import_module('torchaudio').__version__}"
        yield Check("ok", "torch", f"{both} fit together")  # their numbers do not tell: 2.14.1 fits 2.11.1
    except Exception as error:
        says = f"cannot be imported: {in_a_line(error)}; only training needs it"
        yield Check("warning", "torchaudio", says, repair())
    yield from guarded("device", lambda: choice(device, precision))


def choice(device: str, precision: str) -> Iterator[Check]:
    """The device and the precision that a run would take."""
    import torch

    from tagger.errors import ModelError
    from tagger.models.genre_model import choose_device, choose_precision

    cores = f"{usable_cores()} of {os.cpu_count()} cores usable"
    with warnings.catch_warnings(record=True) as said:  # torch warns of a driver that is too old for it
        warnings.simplefilter("always")
        try:
            chosen = choose_device(device)
        except ModelError as error:
            yield Check("problem", "device", str(error), "use --device auto")
            return
    if chosen.startswith("cuda"):
        card = torch.cuda.get_device_properties(chosen)
        yield Check("ok", "device", f"{chosen}: {card.name}, {card.total_memory / 2**30:.0f} GiB; {cores}")
    elif chosen == "cpu" and device == "auto" and shutil.which("nvidia-smi"):
        why = f" ({in_a_line(said[-1].message)})" if said else ""
        build = "is built for CPUs only" if torch.version.cuda is None else f"cannot use it{why}"
        says = f"cpu: {cores}; there is an NVIDIA driver, but this torch {build}"
        yield Check("warning", "device", says, "install the torch that fits the driver: pytorch.org/get-started")
    else:
        yield Check("ok", "device", f"{chosen}: {cores}")
    try:
        taken = choose_precision(precision, chosen)
    except ModelError as error:
        yield Check("problem", "precision", str(error), "use --precision auto")
    else:
        yield Check("ok", "precision", f"{taken.name}: {taken.reason}")


if __name__ == "__main__":
    for each in checks(*sys.argv[1:]):
        print(MARK + json.dumps(astuple(each)), flush=True)
