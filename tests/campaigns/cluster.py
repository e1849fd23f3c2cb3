"""What a Ray cluster loses and costs: `make campaign-cluster`, or `python -m tests.campaigns.cluster --help`.

Two nodes are emulated on this machine. The songs of a folder (synthesised ones by default) are tagged in a process, on
both nodes, and with a node taken away in mid-run; then the run is cut off by Ctrl-C and goes on. At last the engines
run in turns, as a user runs them, and what Ray costs is told: of the whole run, of the part of it in which songs come
(when all has started), and in seconds of processors, which say most on a machine that has other things to do.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster

from tagger.audio.library import Found, find_songs
from tagger.cli.settings import SOME_FAILED
from tagger.cluster.engine import tag_songs
from tagger.cluster.results import Results
from tagger.cluster.stages import Plan, load_model_here
from tagger.models.description import describe
from tagger.models.genre_model import GenreModel
from tagger.pipeline.cache import PredictionCache, cache_path
from tagger.pipeline.options import PredictOptions
from tagger.pipeline.run import tag_songs as tag_here
from tests.support.fakes import make_options
from tests.support.songs import make_song, synthesize

N_SONGS = 300


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("music", nargs="?", help="a folder of songs; without one they are synthesised")
    parser.add_argument("--rounds", type=int, default=3, help="times that each engine runs (default 3; 0: none)")
    parser.add_argument("--overhead", action="store_true", help="only run the engines in turns")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        music = Path(given.music) if given.music else synthesized(work / "music")
        if not given.overhead:
            lose_and_go_on(music, work)
        if given.rounds:
            compare(music, given.rounds, work)


def lose_and_go_on(music: Path, work: Path) -> None:
    songs = [found for found in find_songs([str(music)]) if not found.problem]
    expected = classified_here(songs, work)
    print(f"{len(songs)} songs, predicted in one process")
    with two_nodes() as cluster:
        check(songs, expected, work / "both")
        print("two nodes: the same decisions, each song once")
        check(songs, expected, work / "removed", lose=partial(remove_last, cluster))
        print("a node removed in mid-run: the same decisions, each song once")
    interrupted(music, songs, work)
    print("cut off by Ctrl-C and started again: each song once")


def synthesized(folder: Path) -> Path:
    """Songs of half a minute, with some that cannot be decoded."""
    folder.mkdir()
    wave = synthesize("music", 140, 44_100, 2)
    for number in range(N_SONGS):
        path = folder / f"{number:03}.{('mp3', 'ogg', 'm4a')[number % 3]}"
        if number % 100 == 99:
            path.write_bytes(bytes(1000))
        else:
            make_song(path, signal=wave[:, 15_000 * number :][:, : 44_100 * 30])
    return folder


def classified_here(songs: list[Found], work: Path) -> dict[str, tuple]:
    description = describe("starter")
    model = GenreModel.load(description, "cpu")
    with PredictionCache(cache_path(work / "state"), print) as cache:
        results = tag_here(songs, description, lambda: model, make_options(min_confidence=0.3), cache)
        return {str(each.path): (each.status, each.new) for each in results}


@contextmanager
def two_nodes() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def remove_last(cluster: Cluster) -> None:
    cluster.remove_node(max(cluster.worker_nodes, key=lambda node: node.node_id), allow_graceful=False)


def check(songs: list[Found], expected: dict[str, tuple], folder: Path, lose: partial[None] | None = None) -> None:
    description = describe("starter")
    load = partial(load_model_here, description.fingerprint, PredictOptions(device="cpu"))
    plan = Plan(description, load, make_options(min_confidence=0.3, device="cpu"))
    got = []
    cached = PredictionCache(cache_path(folder), sys.exit)
    with Results(folder, plan.method) as results, cached:
        for each in tag_songs(songs, plan, results, cached):
            got.append((str(each.path), (each.status, each.new)))
            if lose is not None and len(got) == len(songs) // 4:
                lose()
    assert len(got) == len(dict(got)) == len(songs), f"{len(got)} answers, {len(dict(got))} songs of {len(songs)}"
    assert dict(got) == expected, {path: (expected[path], now) for path, now in got if expected[path] != now}
    check_rows(folder, songs)


def check_rows(folder: Path, songs: list[Found]) -> None:
    paths = [path for file in folder.glob("method=*/*.parquet") for path in pq.read_table(file)["path"].to_pylist()]
    assert sorted(paths) == sorted(str(found.path) for found in songs), f"{len(paths)} rows, {len(set(paths))} songs"


def command(music: Path, engine: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    arguments = [sys.executable, "-m", "tagger", str(music), "--quiet", "--reanalyze", "--engine", engine]
    return arguments, os.environ | {"XDG_STATE_HOME": str(folder)}


def interrupted(music: Path, songs: list[Found], work: Path) -> None:
    """Stop a run as a user does, when the first rows are on the disk or a while after it began; then run it again."""
    arguments, environment = command(music, "ray", work / "stopped")
    arguments.remove("--reanalyze")
    process = subprocess.Popen([*arguments, "--json", str(work / "stopped.json")], env=environment)
    while not (work / "stopped.json").exists() or not (work / "stopped.json").stat().st_size:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, process.returncode
    n_done = len((work / "stopped.json").read_text().splitlines())
    done = subprocess.run([*arguments, "--json", "-"], env=environment, stdout=subprocess.PIPE, text=True)
    n_cached = done.stdout.count('"known": true')
    assert n_cached >= n_done > 0, (n_cached, n_done)
    check_rows(work / "stopped" / "genre-tag" / "results", songs)
    print(f"{n_done} songs were done and {n_cached} of {len(songs)} known to the second run;", end=" ")


def compare(music: Path, rounds: int, work: Path) -> None:
    costs: dict[str, list[np.ndarray]] = {"local": [], "ray": []}
    for number in range(rounds):
        for engine, kept in costs.items():
            kept.append(cost(music, engine, work / f"{engine}{number}"))
            seconds = "{:.1f} s, {:.1f} s from a fifth of the songs on, {:.1f} s of processors".format(*kept[-1])
            print(f"{engine}: {seconds} (load {os.getloadavg()[0]:.1f})")
    ratios = np.median(costs["ray"], axis=0) / np.median(costs["local"], axis=0)
    print("ray takes {:.2f} times as long, {:.2f} when all has started, {:.2f} times the processors".format(*ratios))


def cost(music: Path, engine: str, folder: Path) -> np.ndarray:
    """Seconds a run takes, those from a fifth of its answers to the last, and those of processors for all of it."""
    arguments, environment = command(music, engine, folder)
    began = time.monotonic()
    process = psutil.Popen(
        [*arguments, "--json", "-"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    used: dict[int, float] = {}
    with ThreadPoolExecutor(1) as reader:
        answers = reader.submit(lambda: [time.monotonic() for _ in process.stdout])
        while process.poll() is None:
            for each in [process, *process.children(recursive=True)]:
                with suppress(psutil.Error):  # it has ended
                    times = each.cpu_times()
                    used[each.pid] = times.user + times.system
            time.sleep(0.25)
    ended, stamps = time.monotonic(), answers.result()
    assert process.returncode in (0, SOME_FAILED) and stamps, process.returncode
    return np.array([ended - began, stamps[-1] - stamps[len(stamps) // 5], sum(used.values())])


if __name__ == "__main__":
    main()
