"""Songs classified on a Ray cluster: as in one process, each once, whatever dies on the way."""

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWorking
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path, PosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from tests.support.fakes import make_options

ray = pytest.importorskip("ray")

from tagger.audio.decode import decode_song  # noqa: E402
from tagger.audio.library import Found, find_songs  # noqa: E402
from tagger.audio.workers import Worker  # noqa: E402
from tagger.cluster.engine import ENVIRONMENT, _streamed, tag_songs  # noqa: E402
from tagger.cluster.manifest import find_everywhere, locate, name_of  # noqa: E402
from tagger.cluster.results import Results  # noqa: E402
from tagger.cluster.stages import Answer, Plan, Predictor, WorkItem, _call, decode_part, finish, load_model_here  # noqa: E402
from tagger.errors import ClusterError, JournalError, ModelError, OutputError  # noqa: E402
from tagger.models.description import describe  # noqa: E402
from tagger.models.genre_model import GenreModel  # noqa: E402
from tagger.pipeline.cache import PredictionCache, cache_path  # noqa: E402
from tagger.pipeline.options import PredictOptions  # noqa: E402
from tagger.pipeline.predict import Prediction  # noqa: E402
from tagger.pipeline.run import SongResult  # noqa: E402
from tagger.pipeline.run import tag_songs as tag_here  # noqa: E402
from tagger.tags import genre as tags  # noqa: E402
from tagger.tags.identity import identify  # noqa: E402
from tagger.tags.journal import Journal, new_run  # noqa: E402
from tagger.tags.undo import list_runs  # noqa: E402
from tagger.terminal.signals import ENDING  # noqa: E402
from tests.pipeline.test_run import refuse  # noqa: E402
from tests.support.fakes import FakeModel, make_tone  # noqa: E402
from tests.support.songs import make_song  # noqa: E402

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 300  # many times what any test takes


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """No test waits for ever for what died."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError(f"not done after {LIMIT_SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster of two cores for all tests; the folder for state of its processes."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield folder / "genre-tag"
    ray.shutdown()


@pytest.fixture
def one_process() -> Iterator[None]:
    """For all that is not up to Ray, which starts ten processes for a run."""
    with in_one_process():
        yield


@contextmanager
def in_one_process() -> Iterator[None]:
    """The stages one after the other in this process, which keeps no decoder afterwards."""

    @cache
    def decoder(time_limit_seconds: float) -> Worker[Any, Any]:
        worker: Worker[Any, Any] = Worker(_call, time_limit_seconds)
        stack.callback(worker.close)
        return worker

    def streamed(songs: list[WorkItem], plan: Plan) -> Iterator[bytes]:
        predictor = Predictor(plan, load_now=False)
        for first in range(0, len(songs), 5):
            (prediction,) = predictor.predict([decode_part(pickle.dumps(songs[first : first + 5]), plan)])
            yield finish(prediction, plan)

    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr("tagger.cluster.stages._decoder", decoder)
        patch.setattr("tagger.cluster.engine._connected", lambda address: nullcontext())
        patch.setattr("tagger.cluster.engine._streamed", streamed)
        yield


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve songs that FakeModel classifies as their names say."""
    folder = tmp_path_factory.mktemp("tones")
    for genre, suffix in (("Blues", ".flac"), ("Classical", ".mp3"), ("Rock", ".ogg")):
        for number, seconds in enumerate((11.0, 12.0, 13.0, 14.0)):
            make_tone(folder / f"{genre}{number}{suffix}", genre, seconds)
    return folder


@pytest.fixture
def music(tones: Path, tmp_path: Path) -> Path:
    """A copy of these songs."""
    return Path(shutil.copytree(tones, tmp_path / "music"))


def plan_of(load: Callable[[], object] = FakeModel, **options: object) -> Plan:
    return Plan(FakeModel(), load, make_options(**options))  # type: ignore[arg-type]


def run(songs: list[Found], plan: Plan, folder: Path) -> dict[str, SongResult]:
    """What becomes of the songs, by their names; each once."""
    with Results(folder, plan.method) as results, cached_in(folder) as cache:
        answers = list(tag_songs(songs, plan, results, cache))
    assert len({str(answer.path) for answer in answers}) == len(answers) == len(songs)
    return {str(each.path) if isinstance(each.path, str) else each.path.name: each for each in answers}


def cached_in(folder: Path) -> PredictionCache:
    """The cache of the process that starts the runs with results in that folder."""
    return PredictionCache(cache_path(folder.with_name("state")), pytest.fail)


def rows(folder: Path) -> list[dict]:
    """What is in the results, as other programs read them."""
    return [
        row for file in sorted(folder.glob("method=*/*.parquet")) for row in pq.ParquetFile(file).read().to_pylist()
    ]


def no_model() -> FakeModel:
    raise ModelError("fake", "was loaded")


# --- as in one process


@pytest.mark.usefixtures("cluster")
def test_the_same_songs_give_the_same_decisions(tmp_path: Path) -> None:
    folder = tmp_path / "music"
    folder.mkdir()
    samples = [found.path for found in find_songs([str(ROOT / "tagger" / "samples")])]
    wave = np.concatenate([decode_song(path)[:320_000] for path in samples if path.stem != "Silence"])[None]
    wave = np.concatenate([wave, wave], axis=1)
    for number in range(197):  # of all lengths that matter: shorter than a snippet, and up to three snippets
        first, seconds = 15_000 * number, 3 + number % 13
        signal_ = wave[:, first : first + seconds * 16_000] * (1 - number / 300)
        suffix = "mp3" if number % 10 == 5 else ("flac", "wav")[number % 2]
        make_song(folder / f"{number:03}.{suffix}", rate=16_000, signal=signal_)
    make_song(folder / "silent.flac", seconds=12, signal="silence")
    (folder / "text.mp3").write_text("not music")
    (folder / "empty.ogg").touch()
    description = describe("starter")
    songs = list(find_songs([str(folder)]))
    options = make_options(n_workers=1, min_confidence=0.3)
    model = GenreModel.load(description, "cpu")
    with PredictionCache(cache_path(tmp_path / "here"), pytest.fail) as cache:
        here = {str(each.path): each for each in tag_here(songs, description, lambda: model, options, cache)}
    load = partial(load_model_here, description.fingerprint, PredictOptions(device="cpu"))
    there = run(songs, Plan(description, load, options), tmp_path / "results")
    assert len(there) == 200
    for path, expected in here.items():
        got = there[os.path.basename(path)]
        assert (got.status, got.old, got.new, got.starts_seconds, got.duration_seconds) == (
            expected.status, expected.old, expected.new, expected.starts_seconds, expected.duration_seconds,
        )  # fmt: skip
        if expected.decision and expected.decision.ranking:
            assert got.decision and got.decision.genres == expected.decision.genres
            assert got.decision.ranking[0][0] == expected.decision.ranking[0][0]
            assert got.decision.confidence == pytest.approx(expected.decision.confidence, abs=0.02)
        else:
            assert got.reason == expected.reason
    best = {each.decision.ranking[0][0] for each in here.values() if each.decision and each.decision.ranking}
    assert len(best) > 3  # else they would be equal whatever is classified
    written = {row["path"]: row for row in rows(tmp_path / "results")}
    assert written.keys() == {str(found.path) for found in songs}
    row = written[str(folder / "000.flac")]
    assert row["identity"] == identify(folder / "000.flac").hex()
    assert len(row["logits"][0]) == len(description.head.genres) == len(row["probabilities"])
    assert written[str(folder / "text.mp3")]["error"] and written[str(folder / "text.mp3")]["logits"] is None


# --- once classified


@pytest.mark.usefixtures("one_process")
def test_a_rerun_classifies_only_what_is_not_done(music: Path, tmp_path: Path) -> None:
    songs, results = list(find_songs([str(music)])), tmp_path / "results"
    first = run(songs[:5], plan_of(), results)
    assert not any(each.cached for each in first.values())
    both = run(songs, plan_of(), results)
    assert {name for name, each in both.items() if each.cached} == first.keys()
    again = run(songs, plan_of(no_model), results)
    assert all(each.cached for each in again.values())
    assert {name: each.decision for name, each in again.items()} == {
        name: replace(each.decision, needed=())
        for name, each in both.items()  # type: ignore[type-var]
    }
    assert sorted(row["path"] for row in rows(results)) == sorted(str(found.path) for found in songs)


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("writes", [False, True])
def test_what_a_cluster_predicted_is_known_without_it(music: Path, tmp_path: Path, writes: bool) -> None:
    """With its embeddings, which learning needs; also of songs that the run itself has changed."""
    songs, plan = list(find_songs([str(music)])), plan_of()
    plan = replace(plan, run=new_run(), root=str(music)) if writes else plan
    there = run(songs, plan, tmp_path / "results")
    assert any(each.written for each in there.values()) == writes
    with cached_in(tmp_path / "results") as cache:
        options = make_options(with_embeddings=True)
        here = {each.path.name: each for each in tag_here(songs, plan.description, no_model, options, cache)}  # type: ignore[arg-type, union-attr]
    assert here.keys() == there.keys() and all(each.cached for each in here.values())
    for name, each in here.items():
        assert each.prediction is not None and each.prediction.embeddings is not None
        assert each.prediction.embeddings.shape == (len(each.prediction.logits), 2)
        assert each.decision == there[name].decision


@pytest.mark.usefixtures("one_process")
def test_a_changed_file_is_classified_again_and_a_touched_one_is_not(music: Path, tmp_path: Path) -> None:
    songs, results = list(find_songs([str(music)])), tmp_path / "results"
    run(songs, plan_of(), results)
    os.utime(music / "Blues0.flac", ns=(1, 1))
    make_tone(music / "Blues1.flac", "Rock", 12.0)
    answers = run(songs, plan_of(), results)
    assert {name for name, each in answers.items() if not each.cached} == {"Blues1.flac"}
    assert answers["Blues1.flac"].new == ("Rock",)
    assert len(rows(results)) == 12
    by_path = {row["path"]: row["genres"] for row in rows(results)}
    assert by_path[str(music / "Blues1.flac")] == ["Rock"]


@pytest.mark.usefixtures("one_process")
def test_other_options_decide_again_without_the_model(music: Path, tmp_path: Path) -> None:
    songs, results = list(find_songs([str(music)])), tmp_path / "results"
    run(songs, plan_of(), results)
    answers = run(songs, plan_of(no_model, names={"Rock": "Beat"}), results)
    assert {each.new for each in answers.values()} == {("Blues",), ("Classical",), ("Beat",)}
    assert all(each.cached for each in answers.values())
    assert sorted(row["genres"][0] for row in rows(results)) == ["Beat"] * 4 + ["Blues"] * 4 + ["Classical"] * 4


@pytest.mark.usefixtures("one_process")
def test_failures_that_last_are_retried_when_asked_for(tmp_path: Path) -> None:
    broken, results = make_song(tmp_path / "broken.flac", 12), tmp_path / "results"
    data = broken.read_bytes()
    broken.write_bytes(data[:200] + bytes(len(data) - 200))  # its tag is whole, none of its frames is
    songs = [Found(broken), Found(tmp_path / "gone.mp3")]
    first = run(songs, plan_of(), results)
    assert {each.status for each in first.values()} == {"failed"}
    make_tone(tmp_path / "gone.mp3", "Rock")
    second = run(songs, plan_of(), results)
    assert second["broken.flac"].cached and second["gone.mp3"].new == ("Rock",)
    assert not run(songs, plan_of(retry_failed=True), results)["broken.flac"].cached


@pytest.mark.usefixtures("one_process")
def test_what_can_never_be_read_or_written_is_known_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tone(tmp_path / "odd.flac", "Rock")
    monkeypatch.setattr("tagger.tags.journal.verify", refuse)
    (tmp_path / "empty.mp3").touch()
    songs = [Found(tmp_path / "odd.flac"), Found(tmp_path / "empty.mp3"), Found(tmp_path / "gone.mp3")]
    plan = replace(plan_of(), run=new_run(), root=str(tmp_path))
    first = run(songs, plan, tmp_path / "results")
    assert {(each.status, each.cached) for each in first.values()} == {("failed", False)}
    second = run(songs, plan, tmp_path / "results")
    known = {"odd.flac": True, "empty.mp3": True, "gone.mp3": False}
    assert {name: each.cached for name, each in second.items()} == known
    # Other options try again: what fails as before is no news, and what can be decoded is not taken for a failure.
    other = replace(plan_of(names={"Rock": "Beat"}), run=new_run(), root=str(tmp_path))
    third = run(songs, other, tmp_path / "results")
    assert {name: each.cached for name, each in third.items()} == known and third["odd.flac"].decision
    assert run(songs[:1], plan_of(no_model), tmp_path / "results")["odd.flac"].new == ("Rock",)
    again = replace(plan_of(retry_failed=True), run=new_run(), root=str(tmp_path))
    assert not any(each.cached for each in run(songs, again, tmp_path / "results").values())


def test_two_runs_do_not_write_one_folder(tmp_path: Path) -> None:
    method = plan_of().method
    with Results(tmp_path, method), pytest.raises(OutputError, match="another run"):
        Results(tmp_path, method)
    with Results(tmp_path, method):
        pass


@pytest.mark.parametrize("read", ["nothing", "one row", "all"])
def test_a_song_has_one_row_whatever_was_read_before(tmp_path: Path, read: str) -> None:
    plan = plan_of()

    def answer(name: str, status: str) -> Answer:
        return Answer(name, SongResult(Path(name), status), stamp=status)

    with Results(tmp_path, plan.method) as results:
        for name in "abc":
            results.keep(answer(f"/{name}.mp3", "tagged"))
    with Results(tmp_path, plan.method) as results:
        if read != "nothing":
            for _, _ in zip(results, range(1 if read == "one row" else 9), strict=False):
                pass
        for status in ("unsure", "failed"):
            results.keep(answer("/c.mp3", status))
        results.keep(answer("/d.mp3", "kept"))
    assert {row["path"]: row["status"] for row in rows(tmp_path)} == {
        "/a.mp3": "tagged", "/b.mp3": "tagged", "/c.mp3": "failed", "/d.mp3": "kept"
    }  # fmt: skip
    assert len(rows(tmp_path)) == 4


@pytest.mark.parametrize("is_flushed", [False, True])
def test_a_song_that_is_kept_twice_has_one_row(tmp_path: Path, is_flushed: bool) -> None:
    plan = plan_of()
    with Results(tmp_path, plan.method) as results:
        for status in ("unsure", "failed"):
            results.keep(Answer("/a.mp3", SongResult(Path("/a.mp3"), status)))
            if is_flushed:
                results.flush()
        assert [each.result.status for each in results] == ["failed"] * is_flushed
    assert [row["status"] for row in rows(tmp_path)] == ["failed"]


def test_results_are_kept_where_there_are_no_locks(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path; from tagger.cluster.results import Results\n"
        "from tagger.pipeline.cache import Method\n"
        f"with Results(Path({str(tmp_path)!r}), Method('fake', 'fp32', 5, 160_000, 'fake')): print('kept')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.stdout == "kept\n", done.stderr


@pytest.mark.usefixtures("one_process")
def test_a_model_that_cannot_be_loaded_ends_the_run(music: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="was loaded"):
        run(list(find_songs([str(music)])), plan_of(no_model), tmp_path / "results")


def test_a_node_with_another_model_refuses_it() -> None:
    with pytest.raises(ModelError, match="differs on"):
        load_model_here("0123", PredictOptions(device="cpu"))


# --- what dies on the way


class Poison(PosixPath):
    """A path that ends the process that opens it, if that is one of those that decode."""

    def __fspath__(self) -> str:
        if multiprocessing.parent_process() is not None:
            os._exit(7)
        return super().__fspath__()


@pytest.mark.usefixtures("cluster")
def test_killed_workers_lose_no_song_and_a_file_that_kills_its_decoder_fails_alone(music: Path, tmp_path: Path) -> None:
    songs = list(find_songs([str(music)]))
    songs[3] = replace(songs[3], path=Poison(songs[3].path))
    plan = plan_of()
    answers = []
    with (
        Results(tmp_path / "results", plan.method) as results,
        cached_in(tmp_path / "results") as cached,
        closing(tag_songs(songs, plan, results, cached)) as stream,
    ):
        answers.append(next(stream))
        killed = kill_workers()
        answers += stream
    assert killed >= 2
    assert sorted(str(each.path) for each in answers) == sorted(str(found.path) for found in songs)
    failed = {str(each.path): each.reason for each in answers if each.status != "tagged"}
    assert failed == {str(songs[3].path): "the decoder crashed (exit code 7)"}
    assert sorted(row["path"] for row in rows(tmp_path / "results")) == sorted(str(found.path) for found in songs)


def kill_workers() -> int:
    """SIGKILL every process of Ray that decodes, classifies or writes; their number."""
    killed = 0
    for process in psutil.Process().children(recursive=True):
        name = " ".join(process.cmdline())
        if name.startswith("ray::") and not any(each in name for each in ("Agent", "StatsActor", "Autosc", "Locat")):
            process.send_signal(signal.SIGKILL)
            killed += 1
    return killed


@pytest.mark.usefixtures("one_process")
def test_the_next_parts_are_unpacked_while_the_device_works(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_working, may_go_on, device, unpacked = threading.Event(), threading.Event(), threading.Lock(), []

    class Slow(FakeModel):
        def outputs(self, snippets: np.ndarray) -> Any:
            assert device.acquire(blocking=False), "two at once"
            is_working.set()
            assert may_go_on.wait(60)
            device.release()
            return super().outputs(snippets)

    parts = [decode_part(pickle.dumps([WorkItem(path)]), plan_of()) for path in sorted(music.iterdir())[:2]]
    predictor = Predictor(plan_of(Slow))

    def unpack(data: bytes) -> Any:
        unpacked.append(data)
        return pickle.loads(data)

    monkeypatch.setattr("tagger.cluster.stages.pickle", SimpleNamespace(loads=unpack, dumps=pickle.dumps))
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(predictor.predict, parts[:1])
        assert is_working.wait(60)
        second = threads.submit(predictor.predict, parts[1:])
        while len(unpacked) < 2:
            time.sleep(0.01)
        with pytest.raises(StillWorking):
            second.result(timeout=0.3)
        may_go_on.set()
        answers = [pickle.loads(each.result()[0])[0] for each in (first, second)]
    assert all(isinstance(each.prediction, Prediction) for each in answers)


def test_a_cluster_that_is_too_small_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 1.0})
    with pytest.raises(ClusterError, match="too few cores"):
        next(_streamed([WorkItem(Path("a.mp3"))], plan_of()))


# --- writing


def test_writes_are_journalled_and_undone(music: Path, tmp_path: Path, cluster: Path) -> None:
    songs, before = list(find_songs([str(music)])), {path: path.read_bytes() for path in music.iterdir()}
    with in_one_process():
        run(songs, plan_of(), tmp_path / "results")
    plan = replace(plan_of(no_model), run=new_run(), root=str(music), argv=("genre-tag", "music"))
    answers = run(songs, plan, tmp_path / "results")
    assert all(each.written for each in answers.values())
    assert tags.read_genres(music / "Rock0.ogg") == ("Rock",)
    again = run(songs, plan, tmp_path / "results")
    assert {(each.status, each.old, each.written) for each in again.values()} == {
        ("kept", (genre,), False) for genre in ("Blues", "Classical", "Rock")
    }
    journals = [each for each in list_runs(cluster) if each.id == plan.run]
    assert sum(each.n_writes for each in journals) == 12
    assert all(each.journal.name.startswith(f"{plan.run}.") for each in journals)
    done = subprocess.run(
        [sys.executable, "-m", "tagger", "undo", "last"],
        env=os.environ | {"XDG_STATE_HOME": str(cluster.parent)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in music.iterdir()} == before


@pytest.mark.usefixtures("one_process")
def test_a_journal_that_cannot_be_written_ends_the_run(music: Path, tmp_path: Path, nobody: Path) -> None:
    plan = replace(plan_of(), run=new_run(), root=str(music))
    (nobody / "state" / "genre-tag").mkdir(parents=True)
    (nobody / "state" / "genre-tag" / "journal").touch()
    with pytest.raises(JournalError):
        run(list(find_songs([str(music)])), plan, tmp_path / "results")
    assert tags.read_genres(music / "Rock0.ogg") == ()


@pytest.mark.usefixtures("one_process")
def test_a_song_that_another_run_has_tagged_meanwhile_is_done(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {"Blues0.flac": "Blues", "Blues1.flac": "Jazz"}  # of the first part

    predict = FakeModel.logits

    def meanwhile(model: FakeModel, waveforms: np.ndarray) -> np.ndarray:
        for name, genre in theirs.items():
            path = music / name
            path.write_bytes(tags.retag(path.read_bytes(), path.suffix, [genre]))
        return predict(model, waveforms)

    monkeypatch.setattr(FakeModel, "logits", meanwhile)
    plan = replace(plan_of(), run=new_run(), root=str(music))
    told = run(list(find_songs([str(music)])), plan, tmp_path / "results")
    assert {name: told[name].status for name in theirs} == {"Blues0.flac": "unchanged", "Blues1.flac": "kept"}
    assert all("another run" in told[name].reason and not told[name].written for name in theirs)
    assert {each.status for name, each in told.items() if name not in theirs} == {"tagged"}
    again = run(list(find_songs([str(music)])), replace(plan, load_model=no_model, run=new_run()), tmp_path / "results")
    assert {each.status for each in again.values()} == {"kept"}


@pytest.mark.usefixtures("one_process")
def test_who_stops_within_a_part_loses_no_row_of_what_is_written(music: Path, tmp_path: Path) -> None:
    """As a closed pipe does, and Ctrl-C: songs come back in parts of five here."""
    plan = replace(plan_of(), run=new_run(), root=str(music))
    with Results(tmp_path / "results", plan.method) as results, cached_in(tmp_path / "results") as cached:
        answers = tag_songs(list(find_songs([str(music)])), plan, results, cached)
        next(answers)
        answers.close()
    kept = rows(tmp_path / "results")
    assert len(kept) == 5 and all(row["written"] for row in kept)
    assert {row["path"] for row in kept} == {str(path) for path in music.iterdir() if tags.read_genres(path)}


@pytest.mark.usefixtures("one_process")
def test_a_journal_that_fails_within_a_part_loses_no_row_of_what_is_written(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, n_calls = Journal.append, 0

    def fail(journal: Journal, record: dict[str, Any]) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 5:  # the head, and three songs
            raise JournalError(journal.path, "full")
        append(journal, record)

    monkeypatch.setattr(Journal, "append", fail)
    plan, told = replace(plan_of(), run=new_run(), root=str(music)), []
    with (
        Results(tmp_path / "results", plan.method) as results,
        cached_in(tmp_path / "results") as cached,
        pytest.raises(JournalError, match="full"),
    ):
        for result in tag_songs(list(find_songs([str(music)])), plan, results, cached):
            told.append(str(result.path))
    kept = [row["path"] for row in rows(tmp_path / "results")]
    assert sorted(told) == sorted(kept) == sorted(str(path) for path in music.iterdir() if tags.read_genres(path))
    assert len(told) == 3


# --- songs from everywhere


@pytest.mark.usefixtures("one_process")
def test_what_lies_behind_a_uri_is_analysed_and_not_written(music: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "songs.zip", "w") as archive:
        archive.write(music / "Rock0.ogg", "Rock0.ogg")
    here, gone = (f"zip://{name}::file://{tmp_path}/songs.zip" for name in ("Rock0.ogg", "gone.ogg"))
    (tmp_path / "list.csv").write_text(f"uri,more\n{here},1\n{gone},2\nfile://{music}/Blues0.flac,3\nfoo://a.mp3,4\n")
    songs = list(find_everywhere([str(tmp_path / "list.csv")]))
    plan = replace(plan_of(), run=new_run(), root=str(music))
    answers = run(songs, plan, tmp_path / "results")
    assert (answers[here].status, answers[here].new) == ("skipped", ())
    assert answers[here].reason == "Rock 1.00: analysed, not written, as it is no file"
    assert (answers[gone].status, answers[gone].reason) == ("failed", "cannot be fetched: no such file")
    assert answers["foo://a.mp3"].reason == "cannot be fetched: Protocol not known: foo"
    assert answers["Blues0.flac"].written
    again = run(songs[:1], replace(plan, load_model=no_model), tmp_path / "results")
    assert [each.cached for each in again.values()] == [True]
    again = run(songs[:1], plan_of(no_model, names={"Rock": "Beat"}), tmp_path / "results")
    assert [each.reason.split()[0] for each in again.values()] == ["Beat"]


def test_manifests_playlists_and_folders_of_uris(music: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"path": ["music/Rock0.ogg", "s3://bucket/a b.mp3", None]}), tmp_path / "list.parquet")
    found = list(find_everywhere([str(tmp_path / "list.parquet")]))
    assert [each.where for each in found] == [music / "Rock0.ogg", "s3://bucket/a b.mp3"]
    (tmp_path / "party.m3u").write_text("music/Rock1.ogg\n")
    assert [each.where for each in find_everywhere([str(tmp_path / "party.m3u")])] == [music / "Rock1.ogg"]
    with zipfile.ZipFile(tmp_path / "songs.zip", "w") as archive:
        archive.writestr("a/one.mp3", b"x")
        archive.writestr("a/notes.txt", b"x")
    listed = [each.where for each in find_everywhere([f"zip://a::file://{tmp_path}/songs.zip"])]
    assert len(listed) == 1 and str(listed[0]).startswith("zip://a/one.mp3")
    (none,) = find_everywhere(["nonsense://a/b"])
    assert none.failed and none.problem.startswith("cannot be listed")
    (tmp_path / "bad.csv").write_text("title\nx\n")
    (bad,) = find_everywhere([str(tmp_path / "bad.csv")])
    assert bad.failed and "neither a column uri nor path" in bad.problem


def test_names_of_any_bytes_are_found_again(tmp_path: Path) -> None:
    for path in (tmp_path / "a%20b#c.mp3", Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.mp3"))):
        name_of(path).encode()
        assert locate(name_of(path)) == path
    assert locate("s3://bucket/a//b") == "s3://bucket/a//b"


# --- without Ray


def test_nothing_but_the_engine_loads_ray() -> None:
    code = "import sys, tagger.cli.tag, tagger.cluster.stages, tagger.cluster.manifest; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=100
    )
    assert not {"ray", "fsspec", "pyarrow"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "x"], "--results is for --engine ray."),
        (["--ray-address", "auto"], "--ray-address is for --engine ray."),
        (["--engine", "ray", "--snippets", "all"], "not all"),
        (["--engine", "ray", "--device", "mps"], "not mps"),
    ],
)
def test_what_does_not_go_together(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(arguments, capsys)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    from tagger.cli.main import main

    handlers = {number: signal.getsignal(number) for number in ENDING}
    with pytest.raises(SystemExit) as exit_:
        main(["tag", "music", *arguments])
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert exit_.value.code == 2
    return capsys.readouterr().err
