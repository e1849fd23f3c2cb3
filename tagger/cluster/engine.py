"""The engine for many machines: Ray Data streams a library, in parts of a few songs, through decoders and models.

    parts → look, decode (a task each) → log-mel, model (actors) → decide, write (a task each) → one row per song

What is done to a song is what `pipeline.run` does. A part is one row of a Ray dataset, so that what is on its way is
counted, held back and moved as a whole; when a worker or a node is lost, Ray does its parts again. Rows end in the
process that started the run, which knows what it asked for: that no song is missing or there twice is up to it alone.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import signal
import socket
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.data
import ray.exceptions

from tagger import debug
from tagger.audio.library import Found
from tagger.audio.workers import ENDING, Failure, usable_cores
from tagger.cluster.manifest import name_of
from tagger.cluster.results import Results
from tagger.cluster.stages import Answer, CachedResult, Plan, Predictor, Stop, WorkItem, decode_part, finish
from tagger.debug import suppress
from tagger.errors import ClusterError
from tagger.models.description import ACCELERATOR_BATCH
from tagger.pipeline.cache import PredictionCache, see
from tagger.pipeline.options import TagOptions
from tagger.pipeline.predict import Prediction
from tagger.pipeline.run import SongResult
from tagger.text import first_sentence

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)

PART_BYTES = 64 << 20  # of snippets in a part: 80 songs of five snippets of 5 s
PARTS_PER_DECODER = 16  # at least, where there are songs enough: so that none waits long for the first and the last
MODEL_BATCHES = 4  # that a GPU is given parts for at once: only the last of them is not full
MODEL_CALLS = 2  # to a model at once: the parts of one are fetched and unpacked while it classifies those of the other
# A decoder leaves a place for who finishes its songs; and differs from a model, or Ray would put both in one process.
DECODER_CORES = 0.99
AGAIN = "run the same command again, it goes on from here"


# --- the process that starts the run


def tag_songs(
    songs: Iterable[Found], plan: Plan, results: Results, cache: PredictionCache, address: str | None = None
) -> Generator[SongResult, None, None]:
    """The status of each of `songs`, as soon as it is known; kept in `results`, which answer the next run.

    What is predicted of files is put into `cache` as well, with its embeddings: for all that does without a cluster.

    Songs that are known come first, then all others as nodes are done with them. Without an `address` a cluster is
    started on this machine, for this run alone, and only if there is a song to look at. Raises ClusterError,
    ModelError, JournalError and OutputError, which end the run.
    """
    asked: dict[str, Path | str] = {}
    for found in songs:
        if found.problem:
            yield SongResult(found.where, "failed" if found.failed else "skipped", reason=found.problem)
        else:
            asked.setdefault(name_of(found.where), found.where)
    waiting: dict[str, WorkItem] = {}
    for row in results:
        where = asked.pop(row.name, None)
        if where is not None and _answers(row, plan):
            yield _as_it_is_now(row.result, plan.options)
        elif where is not None:
            waiting[row.name] = WorkItem(where, _cached_result(row), row.precision)
    waiting |= {name: WorkItem(where) for name, where in asked.items()}
    if not waiting:
        return
    with _connected(address), _closing(_streamed(list(waiting.values()), plan)) as parts:
        try:
            for part in _read(parts):
                answers = [answer for answer in part if waiting.pop(answer.name, None) is not None]
                for answer in answers:  # of the whole part, in which all is written, before the caller may stop
                    results.keep(answer)
                    _remember(cache, answer, plan)
                yield from (answer.result for answer in answers)
        except ray.exceptions.RayError as error:
            raise ClusterError(address or "ray", f"cannot go on ({first_sentence(error)}): {AGAIN}") from error
    if waiting:
        raise ClusterError(address or "ray", f"{len(waiting)} songs did not come back: {AGAIN}")


def _answers(row: Answer, plan: Plan) -> bool:
    """Whether what is known of a song is what would come out again."""
    options, result = plan.options, row.result
    if options.predict.reanalyze or row.asked != plan.asked:
        return False
    if result.status == "failed" and (options.predict.retry_failed or not result.is_lasting):
        return False
    if isinstance(result.path, str):
        return True  # what a URI names is taken to stay as it is
    try:
        return result.status != "skipped" and see(result.path).stamp == row.stamp
    except OSError:
        logger.debug("%s cannot be looked at", result.path, exc_info=True)
        return False


def _remember(cache: PredictionCache, answer: Answer, plan: Plan) -> None:
    """Put a prediction where runs without a cluster look for it; not of a file that is not as the node saw it."""
    path, prediction = answer.result.path, answer.result.prediction
    if isinstance(path, str) or prediction is None or answer.identity is None or answer.result.cached:
        return
    with suppress(OSError):
        seen = replace(cache.look(path), known_identity=answer.identity)
        if seen.stamp == answer.stamp:
            cache.remember(seen, replace(plan.method, precision=answer.precision), prediction)


def _as_it_is_now(result: SongResult, options: TagOptions) -> SongResult:
    """What an earlier run made of a song, as this run finds it."""
    if not result.written:
        return result
    return replace(
        result, status="kept" if options.write.existing == "keep" else "unchanged", old=result.new, written=False
    )


def _cached_result(row: Answer) -> CachedResult:
    result = row.result
    failed = result.status == "failed" and result.is_lasting
    answer = result.prediction or (Failure(result.reason) if failed else None)
    return CachedResult(row.identity, row.stamp, answer, result.old, refusal=result.reason if failed else "")


#: Of a cluster that is started here: it says nothing to the terminal that its exceptions do not say, and nothing to
#: anybody else; it does not yield to all other programs; a worker that waits a second is not started again.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",
    "RAY_idle_worker_killing_time_threshold_ms": "600000",
}


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A cluster: the one that is connected, the one at that address, or else one of this machine's cores."""
    if ray.is_initialized():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in ENDING}
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    here = {"address": "local", "num_cpus": max(2, usable_cores()), "include_dashboard": False}
    try:
        _knock(address)
        with _silence():
            ray.init(
                **({"address": address} if address else here), log_to_driver=debug.is_on(), logging_level=logging.ERROR
            )
    except (ConnectionError, OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise ClusterError(address or "ray", f"cannot be reached ({first_sentence(error)})") from error
    try:
        for number, handler in handlers.items():  # Ray has taken them
            signal.signal(number, handler)
        yield
    finally:
        with _silence():
            ray.shutdown()


def _knock(address: str | None) -> None:
    """Raise OSError where nobody listens: Ray would try for two minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextmanager
def _closing(parts: Generator[bytes, None, None]) -> Iterator[Iterator[bytes]]:
    try:
        yield parts
    finally:
        with _silence():
            parts.close()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep from the terminal what no setting keeps from it: how Ray begins to log, and ends what is still running."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _read(parts: Iterable[bytes]) -> Iterator[list[Answer]]:
    """The answers to each part; raises what ended the run on a node, behind the answers that came before."""
    for data in parts:
        part: list[Answer | Stop] | Stop = pickle.loads(data)
        answers = [part] if isinstance(part, Stop) else part
        yield [answer for answer in answers if isinstance(answer, Answer)]
        for stop in answers:
            if isinstance(stop, Stop):
                raise stop.error(stop.name, stop.reason)


def _streamed(songs: Sequence[WorkItem], plan: Plan) -> Generator[bytes, None, None]:
    """What nodes make of the songs, in parts, in the order in which they are done."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    cluster_resources: Callable[[], Mapping[str, float]] = ray.cluster_resources
    resources = cluster_resources()
    n_cores, n_gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    on_gpus = n_gpus > 0 and plan.options.predict.device != "cpu"
    if n_cores < 2 - on_gpus:  # Ray would wait for another one to join
        raise ClusterError("ray", "has too few cores: one is to decode, and one to classify where there is no GPU")
    n_decoders = plan.options.predict.n_workers or max(1, n_cores - n_gpus if on_gpus else n_cores // 2)
    n_models = n_gpus if on_gpus else max(1, n_cores - n_decoders)
    n_most = max(1, PART_BYTES // (2 * plan.description.snippet_samples * (plan.options.predict.n_snippets or 1)))
    n_part = min(n_most, math.ceil(len(songs) / (n_decoders * PARTS_PER_DECODER)))
    n_snippets = n_part * (plan.options.predict.n_snippets or 1)
    n_at_once = (
        max(1, MODEL_BATCHES * (plan.options.predict.batch_size or ACCELERATOR_BATCH) // n_snippets) if on_gpus else 1
    )
    parts = [{"part": pickle.dumps(songs[i : i + n_part])} for i in range(0, len(songs), n_part)]
    answered = (
        ray.data.from_items(parts, override_num_blocks=len(parts))
        .map(partial(_listen, plan=plan), num_cpus=DECODER_CORES, concurrency=n_decoders)
        .map_batches(
            _Model,
            fn_constructor_args=(plan, any(not isinstance(each.cached_result.answer, Prediction) for each in songs)),
            batch_size=n_at_once,
            num_cpus=None if on_gpus else 1,
            num_gpus=1 if on_gpus else None,
            compute=ray.data.ActorPoolStrategy(
                min_size=1,
                max_size=n_models,
                max_concurrent_calls_per_actor=MODEL_CALLS,
                enable_true_multi_threading=True,
            ),
        )
        .map(partial(_finish, plan=plan), num_cpus=1 - DECODER_CORES, concurrency=max(1, n_decoders // 4))
    )
    for row in answered.iter_rows():
        yield row["part"]


# --- the stages, as Ray calls them


def _listen(row: dict[str, Any], plan: Plan) -> dict[str, Any]:
    _log_if_asked(plan)
    return {"part": decode_part(row["part"], plan)}


class _Model:
    def __init__(self, plan: Plan, load_now: bool) -> None:
        _log_if_asked(plan)
        self._predictor = Predictor(plan, load_now)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        return {"part": self._predictor.predict(list(batch["part"]))}


def _finish(row: dict[str, Any], plan: Plan) -> dict[str, Any]:
    _log_if_asked(plan)
    return {"part": finish(row["part"], plan)}


def _log_if_asked(plan: Plan) -> None:
    """A process of a node logs, as the one that was started with --debug; Ray sends its lines there."""
    if plan.is_debugging:
        debug.turn_on()
