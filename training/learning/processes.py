"""The processes that train together, one on each device, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import distributed

from tagger.models.genre_model import choose_device

T = TypeVar("T")


def n_processes() -> int:
    """Processes that train together, as torchrun says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is the one that tells and writes."""
    return os.environ.get("RANK", "0") == "0"


def join(device: str) -> None:
    """Meet the others, unless this process is alone or has met them; on CUDA, take a device of its own first.

    Raises ModelError for a device that this machine lacks.
    """
    if n_processes() == 1 or distributed.is_initialized():
        return
    is_cuda = choose_device(device).startswith("cuda")
    if is_cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if is_cuda else "gloo")


def from_first(make: Callable[[], T]) -> T:
    """What `make` returns in the first process, in all of them; what it raises there, all of them raise.

    The others do not call it: what is decided by a clock or by what is on a disk is decided once.
    """
    if n_processes() == 1:
        return make()
    answer: list[Any] = [None, None]
    if is_first_process():
        try:
            answer[0] = make()
        except Exception as error:  # noqa: BLE001  (to be raised by all of them)
            answer[1] = error
    distributed.broadcast_object_list(answer, src=0, device=torch.device("cpu"))
    made, raised = answer
    if raised is not None:
        raise raised
    return made


def least(number: int) -> int:
    """The least of the numbers that the processes come with: each has to call this."""
    if n_processes() == 1:
        return number
    lowest = torch.tensor(number)
    distributed.all_reduce(lowest, distributed.ReduceOp.MIN)
    return int(lowest)


def is_lost(error: RuntimeError) -> bool:
    """Whether this is how one process learns that another has ended."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error)
