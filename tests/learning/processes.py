"""Several processes that are one training, as torchrun starts them: on this machine, over gloo."""

import gc
import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

LONGEST_SECONDS = 200.0  # of a busy machine; the first time, what is trained with is imported
HEAVY = ["training.learning.train", "training.cli", "tests.support.prepared"]


def together(work: Callable[..., None], folder: Path, *arguments: Any, n: int = 2) -> list[tuple[int | None, str]]:
    """Exit code and output of each of `n` processes that do `work(*arguments)` in a folder; None: it had to be ended.

    Processes are forked from one that has imported what takes long, and has done nothing yet.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    outputs = [folder / f"output-{rank}.txt" for rank in range(n)]
    processes = [
        context.Process(target=_be_one, args=(work, arguments, folder, rank, n, port, output))
        for rank, output in enumerate(outputs)
    ]
    for process in processes:
        process.start()
    try:
        latest = time.monotonic() + LONGEST_SECONDS
        for process in processes:
            process.join(max(0.0, latest - time.monotonic()))
        codes = [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [(code, output.read_text("utf-8")) for code, output in zip(codes, outputs, strict=True)]


def succeed(work: Callable[..., None], folder: Path, *arguments: Any, n: int = 2) -> None:
    """Do it `together`; AssertionError where one of them fails."""
    for code, output in together(work, folder, *arguments, n=n):
        assert code == 0, output


def _be_one(
    work: Callable[..., None], arguments: tuple[Any, ...], folder: Path, rank: int, n: int, port: int, output: Path
) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    os.chdir(folder)
    with output.open("w", encoding="utf-8", buffering=1) as file:
        sys.stdout = sys.stderr = file
        import torch

        torch.set_num_threads(1)
        gc.freeze()  # what was imported is no garbage, for which a training looks twice
        try:
            work(*arguments)
        except BaseException as error:
            if not isinstance(error, SystemExit):
                traceback.print_exc()
            code = error.code if isinstance(error, SystemExit) else 1
            file.flush()
            os._exit(code if isinstance(code, int) else int(code is not None))
