"""What the engines make of this machine, looked at in a process of its own: a broken library may end its process.

    python -m tagger.doctor.torch_probe DEVICE PRECISION

prints a line for each check. What is examined is imported late, so that its failure is a check as well.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import astuple
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from traceback import walk_tb

from tagger import debug
from tagger.audio.workers import usable_cores
from tagger.debug import suppress
from tagger.doctor.checks import Check, guarded, in_a_line, reinstall
from tagger.extras import EXTRAS, hide_if_broken, install, missing

logger = logging.getLogger(__name__)

#: Extra -> the module that its commands are made of.
USERS = {"train": "training.learning.train", "ray": "tagger.cluster.engine", "review": "tagger.review.server"}
#: First and last torch, and the torchaudio that fits them, as tried on Linux with what PyPI has.
TORCHAUDIOS = (((2, 11), (2, 12), "2.11.0"), ((2, 13), (2, 15), "2.11.1"))
LIMIT_SECONDS = 180.0  # torch may come from a slow disk
#: Begin the lines that are meant for `Machine`, for libraries print too: a check; what is about to be imported.
MARK, BEGUN = "check: ", "begun: "


class Machine:
    """The process, begun at once; `checks` waits for what it finds. Close it."""

    def __init__(self, device: str, precision: str) -> None:
        # What can be imported here can be imported there, however this process was started.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        self._process: subprocess.Popen[str] | None = None
        with suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tagger.doctor.torch_probe", device, precision, *["debug"] * debug.is_on()],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
            )  # fmt: skip

    def checks(self) -> Iterator[Check]:
        """What it found; that it did not come to its end is a problem."""
        if self._process is None:
            yield Check("problem", "torch", f"cannot be looked at: {sys.executable} does not start")
            return
        try:
            out, errors = self._process.communicate(timeout=LIMIT_SECONDS)
            code = self._process.returncode
            logger.debug("the process of libraries ended with %d and said on standard error:\n%s", code, errors)
            last = (errors.strip().splitlines() or ["it said nothing"])[-1]
            end = f"its import ends the process (code {code}): {last[:300]}" if code else ""
        except subprocess.TimeoutExpired:
            logger.debug("the process of libraries", exc_info=True)
            self._process.kill()
            out, _ = self._process.communicate()
            end = f"its import takes longer than {LIMIT_SECONDS:g} s"
        begun, remedy = "torch", repair()
        for line in out.splitlines():
            if line.startswith(MARK):
                yield Check(*json.loads(line.removeprefix(MARK)))
            elif line.startswith(BEGUN):
                begun, remedy = json.loads(line.removeprefix(BEGUN))
        if end:
            yield Check("problem", begun, end, remedy)

    def close(self) -> None:
        """End the process, if it is not at its end."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def repair() -> str:
    """The command that brings a torch that works."""
    return reinstall("torch")


def begin(name: str, remedy: str) -> None:
    """Say what is imported next, for the case that nothing more can be said, and what is to be done then."""
    print(BEGUN + json.dumps([name, remedy]), flush=True)


def checks(device: str, precision: str) -> Iterator[Check]:
    """Whether the engines and the extras work, and what a run would take: OpenVINO on CPUs, torch on GPUs."""
    begin("openvino", reinstall("openvino"))
    try:
        from tagger.models.openvino_engine import processor, version

        yield Check("ok", "openvino", f"{version()} on {processor()}")
    except Exception as error:
        logger.debug("the process of libraries", exc_info=True)
        yield Check("problem", "openvino", f"cannot be imported: {in_a_line(error)}", reinstall("openvino"))
        return
    if missing("torch"):
        yield without_torch(device)
    else:
        yield from torch_checks(device)
    yield from guarded("device", lambda: choice(device, precision))
    for extra in EXTRAS:
        yield from guarded(extra, partial(works, extra))


def without_torch(device: str) -> Check:
    """Whether torch, which is not installed, would be of use."""
    if device in ("cuda", "mps"):
        return Check("problem", "torch", f"is not installed; --device {device} needs it", install("torch"))
    if shutil.which("nvidia-smi") and device == "auto":
        says = "is not installed; with it the NVIDIA card here would be used"
        return Check("warning", "torch", says, install("torch"))
    return Check("ok", "torch", "is not installed, and not needed: OpenVINO computes on this machine's processor")


def torch_checks(device: str) -> Iterator[Check]:
    """Whether torch works, and torchaudio beside it. Without a GPU only training needs them."""
    from tagger.models.genre_model import may_have_gpu

    is_needed = device in ("cuda", "mps") or (device == "auto" and may_have_gpu())
    begin("torch", repair())
    try:
        torch = str(import_module("torch").__version__)
    except Exception as error:
        logger.debug("torch", exc_info=True)
        says = f"cannot be imported: {in_a_line(error)}"
        if is_needed:
            yield Check("problem", "torch", says, repair())
        else:
            yield Check("warning", "torch", f"{says}; only training and GPUs need it", repair())
        return
    yield from guarded("torch", lambda: beside(torch))


def beside(torch: str) -> Iterator[Check]:
    """Whether torchaudio, if there is one, fits this torch. Only its import tells: 2.11.1 fits torch 2.14.1."""
    if missing("torchaudio"):
        yield Check("ok", "torch", torch)
        return
    begin("torchaudio", repair_torchaudio(torch))
    if error := hide_if_broken("torchaudio"):
        yield Check("ok", "torch", torch)
        says = f"cannot be imported beside torch {torch}: {in_a_line(error)}; no command needs it"
        yield Check("warning", "torchaudio", says, repair_torchaudio(torch))
    else:
        yield Check("ok", "torch", f"{torch}, with torchaudio {import_module('torchaudio').__version__}")


def repair_torchaudio(torch: str) -> str:
    """What to do about a torchaudio that cannot be imported beside this version of torch.

    >>> repair_torchaudio("2.12.0+cu130")
    "pip install --force-reinstall --no-deps 'torchaudio==2.11.0', or pip uninstall torchaudio"
    >>> repair_torchaudio("2.14.1+cpu")
    'pip uninstall torchaudio'
    """
    number, _, build = torch.partition("+")
    release = tuple(int(part) for part in re.findall(r"\d+", number)[:2])
    fitting = next((fits for least, most, fits in TORCHAUDIOS if least <= release <= most), None)
    if fitting is None or build == "cpu":  # those of PyPI are built for CUDA
        return "pip uninstall torchaudio"
    return f"pip install --force-reinstall --no-deps 'torchaudio=={fitting}', or pip uninstall torchaudio"


def works(extra: str) -> Iterator[Check]:
    """Whether what an extra is for can be imported; where it is not installed, nothing is wrong."""
    if absent := missing(*EXTRAS[extra]):
        yield Check("ok", extra, f"not installed (no {', '.join(absent)}); {install(extra)} brings it")
        return
    begin(extra, reinstall(*EXTRAS[extra]))
    try:
        for module in (*EXTRAS[extra], USERS[extra]):
            import_module(module)
    except Exception as error:
        logger.debug("%s", extra, exc_info=True)
        yield Check(
            "problem", extra, f"is installed, and cannot be used: {in_a_line(error)}", reinstall(culprit(error))
        )
    else:
        yield Check("ok", extra, "installed")


def culprit(error: BaseException) -> str:
    """The library that an import failed in: the one it names, or the one whose code raised it."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, ImportError) and error.name:
        return error.name.partition(".")[0]
    modules = [str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame, _ in walk_tb(error.__traceback__)]
    return next(module for module in reversed(modules) if module != "importlib")


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
            logger.debug("device and precision", exc_info=True)
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
        logger.debug("device and precision", exc_info=True)
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
    if "debug" in sys.argv[3:]:
        debug.turn_on()
    for each in checks(*sys.argv[1:3]):
        print(MARK + json.dumps(astuple(each)), flush=True)
