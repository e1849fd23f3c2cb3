"""The store: the prediction is known again, nothing is mistaken, and no trouble with its file stops a run."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger.audio.workers import Failure
from tagger.pipeline import store as store_module
from tagger.pipeline.predict import Prediction
from tagger.pipeline.store import APPLICATION_ID, SAFE_PRECISIONS, SCHEMA_VERSION, Method, Seen, Store, store_path
from tagger.tags.genre import retag
from tagger.tags.identity import identify
from tests.support.tag_files import build

ROOT = Path(__file__).parents[2]
METHOD = Method("fingerprint of a model", "fp32", 5, 160_000, name="starter")
FAILURE = Failure("cannot be decoded: it ends too early")


def prediction(seed: int = 0, n_snippets: int = 5) -> Prediction:
    logits = np.random.default_rng(seed).standard_normal((n_snippets, 20), np.float32)
    return Prediction(logits, tuple(i / 3 for i in range(n_snippets)), 61.7, "")


def same(one: object, other: object) -> bool:
    """Whether two answers are equal to the last bit."""
    if not isinstance(one, Prediction) or not isinstance(other, Prediction):
        return one == other
    facts = [(h.starts_seconds, h.duration_seconds, h.unsure, h.logits.shape, h.logits.dtype) for h in (one, other)]
    return facts[0] == facts[1] and one.logits.tobytes() == other.logits.tobytes()


def make(path: Path, seed: int = 0, n_bytes: int = 40_000) -> Path:
    """A file whose audio depends on the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(seed).bytes(n_bytes))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return store_path(tmp_path / "state")


@pytest.fixture
def told() -> list[str]:
    """The lines the user has seen; a test that expects none says so by asking for `store`."""
    return []


@pytest.fixture
def store(path: Path, told: list[str]) -> Iterator[Store]:
    with Store(path, told.append) as store:
        yield store
    assert told == []


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return make(tmp_path / "library" / "song.mp3")


def wait_for_the_clock(path: Path) -> None:
    """Return when a file changed now is told from `path` by its time: clocks of file systems tick in milliseconds."""
    probe = path.with_name(".clock")
    while True:
        probe.write_bytes(b"")
        if probe.stat().st_ctime_ns > path.stat().st_ctime_ns:
            break
        time.sleep(0.002)
    probe.unlink()


def write_genre(song: Path, genre: str) -> None:
    """Put a genre into a song as this program does: a new file takes its name."""
    new = song.with_name("new")
    new.write_bytes(retag(song.read_bytes(), song.suffix, [genre]))
    os.replace(new, song)


def no_reading(path: object) -> bytes:
    raise AssertionError(f"{path} was read")


# --- what is known again


def test_a_song_is_known_again_without_being_read(
    store: Store, song: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = store.look(song)
    assert (seen.genres, seen.known_identity, store.recall(seen, METHOD)) == (None, None, None)
    store.note_genres(seen, ["Rock", "Pop; Ü"])
    store.remember(seen, METHOD, prediction())
    monkeypatch.setattr(store_module, "identify", no_reading)
    with Store(path, pytest.fail) as later:
        seen = later.look(song)
        assert seen.genres == ("Rock", "Pop; Ü")
        assert same(later.recall(seen, METHOD), prediction())


def test_genres_are_known_of_songs_that_were_not_classified(
    store: Store, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "identify", no_reading)
    store.note_genres(store.look(song), [])
    assert store.look(song).genres == ()
    monkeypatch.setattr(store_module, "READING_VERSION", store_module.READING_VERSION + 1)
    assert store.look(song).genres is None


def test_what_was_noted_of_a_song_is_kept_when_more_is_learned(store: Store, song: Path) -> None:
    store.remember(store.look(song), METHOD, prediction())
    store.note_genres(store.look(song), ["Rock"])
    assert store.look(song).known_identity == identify(song)
    store.remember(store.look(song), replace(METHOD, n_snippets=9), prediction(1))
    assert store.look(song).genres == ("Rock",)


@pytest.mark.parametrize(
    "logits",
    [
        np.float32([[0.1, -0.0, 1e-45, 3.4028235e38, 1 / 3]]),
        np.random.default_rng(0).standard_normal((300, 527), np.float32),
        np.asfortranarray(np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)),
        np.random.default_rng(2).standard_normal((7, 5)).astype(np.float32)[::-2, ::2],
    ],
)
def test_logits_come_back_bit_for_bit(store: Store, song: Path, logits: np.ndarray) -> None:
    answer = Prediction(logits, tuple(np.linspace(0, 1 / 7, len(logits))), 1 / 3, "")
    store.remember(store.look(song), METHOD, answer)
    recalled = store.recall(store.look(song), METHOD)
    assert isinstance(recalled, Prediction)
    assert same(recalled, answer)
    assert np.array_equal(recalled.logits, logits)
    recalled.logits[:] = 0  # they are the caller's own
    assert same(store.recall(store.look(song), METHOD), answer)


@pytest.mark.parametrize("reason", ["silent", "shorter than 1 s", "Ü\n\0"])
def test_a_song_with_nothing_to_classify_is_known_again(store: Store, song: Path, reason: str) -> None:
    answer = Prediction(np.empty((0, 0), np.float32), (), 0.4, reason)
    store.remember(store.look(song), METHOD, answer)
    assert same(store.recall(store.look(song), METHOD), answer)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "another"},
        {"precision": "bf16"},
        {"n_snippets": 6},
        {"n_snippets": None},
        {"snippet_samples": 80_000},
        {"version": METHOD.version + 1},
    ],
    ids=str,
)
def test_another_method_is_another_question(store: Store, song: Path, change: dict[str, object]) -> None:
    store.remember(store.look(song), METHOD, prediction())
    other = replace(METHOD, **change)  # type: ignore[arg-type]
    assert store.recall(store.look(song), other) is None
    store.remember(store.look(song), other, prediction(1))
    assert same(store.recall(store.look(song), METHOD), prediction())
    assert same(store.recall(store.look(song), other), prediction(1))


def test_the_name_of_a_model_is_no_method(store: Store, song: Path) -> None:
    store.remember(store.look(song), METHOD, prediction())
    assert same(store.recall(store.look(song), replace(METHOD, name="./my-copy")), prediction())


# --- any precision will do, or a certain one

AUTO = replace(METHOD, precision="auto")


@pytest.mark.parametrize("precision", SAFE_PRECISIONS)
def test_who_asks_for_no_precision_gets_any(store: Store, song: Path, precision: str) -> None:
    assert store.recall(store.look(song), AUTO) is None
    store.remember(store.look(song), replace(METHOD, precision=precision), prediction())
    assert same(store.recall(store.look(song), AUTO), prediction())
    for other in SAFE_PRECISIONS:
        if other != precision:
            assert store.recall(store.look(song), replace(METHOD, precision=other)) is None
    assert [each.method.precision for each in store.contents().predictions] == [precision]  # none was made up


def test_what_an_older_version_classified_in_int8_answers_only_who_asks_for_int8(store: Store, song: Path) -> None:
    int8 = replace(METHOD, precision="int8")
    store.remember(store.look(song), int8, prediction())
    assert store.recall(store.look(song), AUTO) is None
    assert same(store.recall(store.look(song), int8), prediction())


def test_every_precision_there_is_is_safe() -> None:
    from tagger.models.genre_model import PRECISIONS

    assert {*SAFE_PRECISIONS} == {*PRECISIONS}


def test_of_several_precisions_the_latest_prediction_counts(store: Store, song: Path) -> None:
    for number, precision in enumerate(("bf16", "fp32", "fp16", "fp32", "bf16")):
        store.remember(store.look(song), replace(METHOD, precision=precision), prediction(number))
        assert same(store.recall(store.look(song), AUTO), prediction(number))
    assert same(store.recall(store.look(song), METHOD), prediction(3))


def test_a_failure_in_one_precision_is_overcome_by_another(store: Store, song: Path) -> None:
    half = replace(METHOD, precision="fp16")
    store.remember(store.look(song), half, FAILURE)
    assert store.recall(store.look(song), AUTO) == FAILURE
    assert store.recall(store.look(song), METHOD) is None
    store.remember(store.look(song), METHOD, prediction())
    assert same(store.recall(store.look(song), AUTO), prediction())


def test_the_day_a_prediction_was_last_asked_for_is_kept(
    store: Store, song: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.remember(store.look(song), replace(METHOD, precision="bf16"), prediction())
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE methods SET last_used = '2000-01-01'")
    with Store(path, pytest.fail) as later:
        assert [each.last_used for each in later.contents().predictions] == ["2000-01-01"]
        later.recall(later.look(song), AUTO)
        assert [each.last_used for each in later.contents().predictions] > ["2020-01-01"]


@pytest.mark.parametrize("move", [os.rename, shutil.copyfile, shutil.copy2])
def test_a_song_under_another_name_is_known(
    store: Store, song: Path, move: Callable[[Path, Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.remember(store.look(song), METHOD, prediction())
    moved = song.with_name("another name.ogg")
    move(song, moved)
    assert same(store.recall(store.look(moved), METHOD), prediction())
    monkeypatch.setattr(store_module, "identify", no_reading)  # and by its stamp from then on
    assert same(store.recall(store.look(moved), METHOD), prediction())


@pytest.mark.parametrize("name", ["v24 full.mp3", "full.flac", "full.ogg", "full.m4a", "id3.wav"])
def test_a_song_tagged_by_somebody_is_known(store: Store, tmp_path: Path, name: str) -> None:
    song = tmp_path / name
    song.write_bytes(build(name))
    store.note_genres(store.look(song), ["Old"])
    store.remember(store.look(song), METHOD, prediction())
    wait_for_the_clock(song)
    write_genre(song, "Something else")
    seen = store.look(song)
    assert seen.genres is None  # whatever was in the tag before
    assert same(store.recall(seen, METHOD), prediction())


def test_a_song_that_we_wrote_is_known_by_its_stamp(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = tmp_path / "song.flac"
    song.write_bytes(build("full.flac"))
    seen = store.look(song)
    store.remember(seen, METHOD, prediction())
    wait_for_the_clock(song)
    write_genre(song, "Techno")
    new = store.rewritten(seen)
    assert new is not None and new.stamp != seen.stamp
    monkeypatch.setattr(store_module, "identify", no_reading)
    store.note_genres(new, ["Techno"])
    assert store.look(song).genres == ("Techno",)
    assert same(store.recall(store.look(song), METHOD), prediction())


@pytest.mark.parametrize(
    "name",
    [
        b"\xff\xfe\x80.mp3", b"new\nline.mp3", b"-rf.mp3", b"Z\xc3\xa9.mp3", b"Ze\xcc\x81.mp3", b"' OR 1=1 --.mp3",
        b"%s?*.mp3", b" .mp3", b"\xf0\x9f\x8e\xb5.mp3", b"n" * 251 + b".mp3", b"\xe2\x80\xae3pm.mp3",
    ],
)  # fmt: skip
def test_names_of_any_bytes(store: Store, tmp_path: Path, name: bytes) -> None:
    song = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
    try:
        make(song)
    except OSError:
        pytest.skip("this file system does not take the name")
    make(tmp_path / "decoy.mp3", 1)
    store.remember(store.look(song), METHOD, prediction())
    store.note_genres(store.look(song), ["Rock"])
    assert store.look(song).genres == ("Rock",)
    assert same(store.recall(store.look(song), METHOD), prediction())
    assert store.recall(store.look(tmp_path / "decoy.mp3"), METHOD) is None
    assert store.prune_gone() == 0


def test_two_spellings_of_a_name_are_two_files(store: Store, tmp_path: Path) -> None:
    composed, decomposed = make(tmp_path / "Zo\u00e9.mp3", 1), make(tmp_path / "Zoe\u0301.mp3", 2)
    if composed.read_bytes() == decomposed.read_bytes():
        pytest.skip("this file system takes them for one")
    store.remember(store.look(composed), METHOD, prediction(1))
    store.remember(store.look(decomposed), METHOD, prediction(2))
    assert same(store.recall(store.look(composed), METHOD), prediction(1))
    assert same(store.recall(store.look(decomposed), METHOD), prediction(2))


def test_a_relative_path_is_the_same_file(store: Store, song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.note_genres(store.look(song), ["Rock"])
    monkeypatch.chdir(song.parent)
    assert store.look("song.mp3").genres == ("Rock",)
    assert store.look(Path("..") / "library" / "song.mp3").genres == ("Rock",)


def test_a_file_that_is_not_there_is_an_oserror(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.look(tmp_path / "missing.mp3")


# --- what is not mistaken


def overwrite(song: Path) -> None:
    make(song, 1)


def replace_by_another(song: Path) -> None:
    other = make(song.with_name("other"), 1)
    os.replace(other, song)


def overwrite_and_set_the_time_back(song: Path) -> None:
    status = song.stat()
    make(song, 1)
    os.utime(song, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_and_set_the_time_back(song: Path) -> None:
    status = song.stat()
    replace_by_another(song)
    os.utime(song, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change", [overwrite, replace_by_another, overwrite_and_set_the_time_back, replace_and_set_the_time_back]
)
def test_a_file_with_other_music_is_another_song(store: Store, song: Path, change: Callable[[Path], None]) -> None:
    old = song.stat()
    store.note_genres(store.look(song), ["Rock"])
    store.remember(store.look(song), METHOD, prediction())
    wait_for_the_clock(song)
    change(song)
    assert song.stat().st_size == old.st_size
    seen = store.look(song)
    assert seen.genres is None
    assert store.recall(seen, METHOD) is None
    store.remember(seen, METHOD, prediction(1))
    assert same(store.recall(store.look(song), METHOD), prediction(1))


def test_what_was_known_of_the_old_file_is_not_mixed_with_the_new(store: Store, tmp_path: Path) -> None:
    classified_again, read_again = make_library(tmp_path / "library", 2)
    for song in (classified_again, read_again):
        store.note_genres(store.look(song), ["Rock"])
        store.remember(store.look(song), METHOD, prediction())
        wait_for_the_clock(song)
        make(song, 9, 500)
    store.remember(store.look(classified_again), METHOD, prediction(1))
    assert store.look(classified_again).genres is None
    other = replace(METHOD, model="another")
    store.note_genres(store.look(read_again), ["Pop"])
    assert store.look(read_again).known_identity is None
    assert same(store.recall(store.look(read_again), METHOD), prediction(1))  # the same audio as the other's
    assert store.recall(store.look(read_again), other) is None


def test_two_names_for_two_songs_that_change_places(store: Store, tmp_path: Path) -> None:
    one, two, spare = make(tmp_path / "1.mp3", 1), make(tmp_path / "2.mp3", 2), tmp_path / "spare"
    store.remember(store.look(one), METHOD, prediction(1))
    store.remember(store.look(two), METHOD, prediction(2))
    wait_for_the_clock(two)
    one.rename(spare), two.rename(one), spare.rename(two)
    assert same(store.recall(store.look(one), METHOD), prediction(2))
    assert same(store.recall(store.look(two), METHOD), prediction(1))


def test_what_changed_while_it_was_classified_is_not_remembered(store: Store, song: Path) -> None:
    seen = store.look(song)
    assert store.recall(seen, METHOD) is None  # identified before the change
    wait_for_the_clock(song)
    overwrite(song)
    store.note_genres(seen, ["Rock"])
    store.remember(seen, METHOD, prediction())
    store.remember(seen, METHOD, FAILURE)
    assert store.look(song).genres is None
    assert store.recall(store.look(song), METHOD) is None
    assert store.contents().n_files == store.contents().n_failures == 0
    song.unlink()
    store.remember(seen, METHOD, prediction())
    assert store.contents().n_files == 0


def test_somebody_who_comes_between_our_writing_and_the_record_is_noticed(store: Store, song: Path) -> None:
    seen = store.look(song)
    store.remember(seen, METHOD, prediction())
    wait_for_the_clock(song)
    overwrite(song)
    assert store.rewritten(seen) is None
    assert store.look(song).known_identity is None
    assert store.recall(store.look(song), METHOD) is None
    song.unlink()
    assert store.rewritten(seen) is None


# --- failures


def test_a_failure_is_remembered_until_the_file_changes(store: Store, song: Path, path: Path) -> None:
    store.remember(store.look(song), METHOD, FAILURE)
    with Store(path, pytest.fail) as later:
        assert later.recall(later.look(song), METHOD) == FAILURE
        assert later.recall(later.look(song), METHOD, retry_failed=True) is None
        assert later.recall(later.look(song), METHOD) == FAILURE
        assert later.recall(later.look(song), replace(METHOD, precision="bf16")) is None
        wait_for_the_clock(song)
        os.utime(song)
        assert later.recall(later.look(song), METHOD) is None


def test_a_failure_that_may_pass_is_not_remembered(store: Store, song: Path) -> None:
    store.remember(store.look(song), METHOD, Failure("out of memory", is_lasting=False))
    assert store.recall(store.look(song), METHOD) is None
    assert store.contents().n_failures == 0


def test_a_failure_is_of_this_file_only(store: Store, song: Path) -> None:
    store.remember(store.look(song), METHOD, FAILURE)
    copy = song.with_name("copy.mp3")
    shutil.copyfile(song, copy)
    assert store.recall(store.look(copy), METHOD) is None


def test_a_later_success_takes_the_place_of_a_failure(store: Store, song: Path) -> None:
    store.remember(store.look(song), METHOD, FAILURE)
    store.remember(store.look(song), METHOD, prediction())
    assert same(store.recall(store.look(song), METHOD), prediction())
    assert store.contents().n_failures == 0


def test_a_later_failure_takes_the_place_of_a_success(store: Store, song: Path) -> None:
    store.remember(store.look(song), METHOD, prediction())
    store.remember(store.look(song), METHOD, FAILURE)
    assert store.recall(store.look(song), METHOD) == FAILURE


def test_a_refusal_is_known_of_this_version_of_the_file_for_this_reason(store: Store, song: Path, path: Path) -> None:
    store.remember(store.look(song), METHOD, prediction())
    assert not store.note_refusal(store.look(song), "the audio would change")
    with Store(path, pytest.fail) as later:
        assert later.note_refusal(later.look(song), "the audio would change")
        assert same(later.recall(later.look(song), METHOD), prediction())  # it is no failure to classify it
        later.remember(later.look(song), METHOD, prediction(1))
        assert later.contents().n_failures == 0
        later.prune_gone()
        later.prune_methods([METHOD])
        assert later.note_refusal(later.look(song), "the audio would change")
        odd = "room for tags beyond the end of \udce9"  # as in the name of a file that is no UTF-8
        assert [later.note_refusal(later.look(song), odd) for _ in range(2)] == [False, True]
        wait_for_the_clock(song)
        os.utime(song)
        assert not later.note_refusal(later.look(song), odd)


def test_a_file_without_audio_can_fail(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty.mp3"
    empty.touch()
    assert store.recall(store.look(empty), METHOD) is None
    store.remember(store.look(empty), METHOD, Failure("empty file"))
    store.remember(store.look(empty), replace(METHOD, n_snippets=1), prediction())  # nobody to remember it of
    monkeypatch.setattr(store_module, "identify", no_reading)
    assert store.recall(store.look(empty), METHOD) == Failure("empty file")


# --- interruption and company


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another run: `code` sees the names of this module, and what it tells the user is on its stdout."""
    lines = ["import sys", "from pathlib import Path", "from tests.pipeline.test_store import *", code]
    command = [sys.executable, "-c", "\n".join(lines), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)


REMEMBER_ALL = """
path, library, n_openings = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
songs = sorted(library.iterdir())
for part in np.array_split(np.arange(len(songs)), n_openings):
    with Store(path, print) as store:
        for number in part:
            seen = store.look(songs[number])
            store.note_genres(seen, [songs[number].name])
            store.recall(seen, METHOD)
            store.remember(seen, METHOD, prediction(number))
            print("done", number, flush=True)
"""


def make_library(folder: Path, n_songs: int) -> list[Path]:
    return [make(folder / f"{number:04d}.mp3", number, 500) for number in range(n_songs)]


def test_a_run_that_is_killed_loses_nothing_it_has_done(path: Path, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "library", 2000)
    n_done = 0
    for _ in range(3):
        run = child(REMEMBER_ALL.replace("sorted(library.iterdir())", f"sorted(library.iterdir())[{n_done}:]").replace(
            "prediction(number)", f"prediction(number + {n_done})"), path, tmp_path / "library", 1)  # fmt: skip
        assert run.stdout is not None
        lines = [run.stdout.readline() for _ in range(100)]
        run.kill()
        lines += run.stdout.read().splitlines()
        assert run.wait() == -signal.SIGKILL
        lines = [line for line in lines if line[-1:].isdigit() or line.endswith("\n")]
        assert {line.split()[0] for line in lines} == {"done"}
        n_done += len(lines) - 1  # the last may be torn
        with Store(path, pytest.fail) as store:
            for number in range(n_done):
                assert store.look(songs[number]).genres == (songs[number].name,)
                assert same(store.recall(store.look(songs[number]), METHOD), prediction(number))
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_runs_at_once_do_not_disturb_each_other(path: Path, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "library", 200)
    runs = [child(REMEMBER_ALL, path, tmp_path / "library", n_openings) for n_openings in (1, 40, 41)]
    for run in runs:
        output = run.communicate()[0].splitlines()
        assert {line.split()[0] for line in output} == {"done"}, output
        assert (len(output), run.returncode) == (len(songs), 0)
    with Store(path, pytest.fail) as store:
        for number, song in enumerate(songs):
            assert same(store.recall(store.look(song), METHOD), prediction(number))
        assert store.contents().n_songs == len(songs)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_runs_at_once_move_a_damaged_store_aside_once(path: Path, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "library", 20)
    path.parent.mkdir()
    path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    runs = [child(REMEMBER_ALL, path, tmp_path / "library", 1) for _ in range(3)]
    told = [line for run in runs for line in run.communicate()[0].splitlines() if not line.startswith("done")]
    assert len(told) == 1 and "moved to store.sqlite3.old-1" in told[0], told
    assert [each.name for each in path.parent.glob("*.old-*")] == ["store.sqlite3.old-1"]
    with Store(path, pytest.fail) as store:
        assert all(same(store.recall(store.look(song), METHOD), prediction(n)) for n, song in enumerate(songs))


def test_threads_share_a_store(store: Store, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "library", 40)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for number, song in enumerate(songs):
                seen = store.look(song)
                store.note_genres(seen, ["Rock"])
                if store.recall(seen, METHOD) is None:
                    store.remember(seen, METHOD, prediction(number))
                assert same(store.recall(store.look(song), METHOD), prediction(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_run_waits_while_another_writes(store: Store, path: Path, song: Path) -> None:
    seen = store.look(song)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    release.start()
    store.remember(seen, METHOD, prediction())
    release.join()
    other.close()
    assert same(store.recall(store.look(song), METHOD), prediction())


def test_who_only_asks_waits_for_nobody(
    store: Store, path: Path, song: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.note_genres(store.look(song), ["Rock"])
    store.remember(store.look(song), METHOD, prediction())
    monkeypatch.setattr(store_module, "WAIT_SECONDS", 0.0)
    with Store(path, told.append) as later, closing(sqlite3.connect(path, isolation_level=None)) as other:
        later.recall(later.look(song), METHOD)  # the first notes that the method is in use
        other.execute("BEGIN IMMEDIATE")
        assert later.look(song).genres == ("Rock",)
        assert same(later.recall(later.look(song), METHOD), prediction())
        later.remember(later.look(song), METHOD, prediction(1))  # and who waits too long goes on without
        assert len(told) == 1 and "locked" in told.pop()


def test_only_one_run_at_a_time_opens_the_store(path: Path) -> None:
    Store(path, pytest.fail).close()
    with closing(sqlite3.connect(path.with_name("store.sqlite3.lock"), isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        opening = threading.Thread(target=lambda: Store(path, pytest.fail).close())
        opening.start()
        opening.join(0.3)
        assert opening.is_alive()
    opening.join(20)
    assert not opening.is_alive()


# --- files that are no store of ours


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE recipes (name TEXT)")
        database.execute("INSERT INTO recipes VALUES ('soup')")


def older(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE files (path BLOB)")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION - 1}")


def truncated(path: Path) -> None:
    with Store(path, pytest.fail) as store:
        for song in make_library(path.parent / "songs", 60):
            store.remember(store.look(song), METHOD, prediction())
    os.truncate(path, path.stat().st_size // 2)


def folder(path: Path) -> None:
    path.mkdir()
    (path / "something").write_text("in it")


def text(path: Path) -> None:
    path.write_text("Dear diary,\n" * 500)


def torn_header(path: Path) -> None:
    path.write_bytes(b"SQLite form")


def a_few_bytes(path: Path) -> None:
    path.write_bytes(b"\0" * 3)


@pytest.mark.parametrize("spoil", [foreign, older, truncated, folder, text, torn_header, a_few_bytes])
def test_what_is_no_store_is_moved_aside(
    path: Path, song: Path, told: list[str], spoil: Callable[[Path], None]
) -> None:
    path.parent.mkdir()
    spoil(path)
    before = path.read_bytes() if path.is_file() else sorted(path.iterdir())[0].read_bytes()
    with Store(path, told.append) as store:
        store.remember(store.look(song), METHOD, prediction())
        assert same(store.recall(store.look(song), METHOD), prediction())
    aside = path.with_name("store.sqlite3.old-1")
    assert (aside.read_bytes() if aside.is_file() else sorted(aside.iterdir())[0].read_bytes()) == before
    (line,) = told
    assert str(path) in line and aside.name in line and "\n" not in line
    with Store(path, pytest.fail) as store:  # and that was that
        assert same(store.recall(store.look(song), METHOD), prediction())


@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
def test_a_link_to_a_damaged_store_stays_one(tmp_path: Path, path: Path, song: Path, told: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    target = tmp_path / "other drive.sqlite3"
    target.write_bytes(b"damaged" * 1000)
    path.symlink_to(target)
    with Store(path, told.append) as store:
        store.remember(store.look(song), METHOD, prediction())
    assert len(told) == 1 and path.is_symlink()
    assert target.with_name(f"{target.name}.old-1").read_bytes() == b"damaged" * 1000
    with Store(path, pytest.fail) as store:
        assert store.recall(store.look(song), METHOD) is not None


def test_nothing_that_was_moved_aside_is_overwritten(path: Path, told: list[str]) -> None:
    path.parent.mkdir()
    for number in range(3):
        path.write_text(f"diary {number}\n" * 100)
        Store(path, told.append).close()
    assert [(path.with_name(f"store.sqlite3.old-{n}")).read_text()[:7] for n in (1, 2, 3)] == [
        "diary 0",
        "diary 1",
        "diary 2",
    ]
    assert len(told) == 3


@pytest.mark.parametrize("content", [b"", None])
def test_an_empty_or_unfinished_file_is_begun(path: Path, song: Path, content: bytes | None) -> None:
    path.parent.mkdir()
    path.write_bytes(b"")
    if content is None:  # killed after the first statement
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode = WAL")
    with Store(path, pytest.fail) as store:
        store.remember(store.look(song), METHOD, prediction())
        assert same(store.recall(store.look(song), METHOD), prediction())


def test_the_store_of_a_newer_version_is_left_alone(path: Path, song: Path, told: list[str]) -> None:
    Store(path, pytest.fail).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with Store(path, told.append) as store:
        assert works_without(store, song)
    assert len(told) == 1 and "newer" in told[0]
    assert not list(path.parent.glob("*.old-*"))


def make_damaged(path: Path, folder: Path, n_songs: int) -> list[Path]:
    """Songs that a store remembers, every page of which but the first is overwritten."""
    songs = make_library(folder, n_songs)
    with Store(path, pytest.fail) as store:
        for number, song in enumerate(songs):
            store.remember(store.look(song), METHOD, prediction(number))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    return songs


def test_damage_that_shows_during_a_run_costs_what_was_known_and_no_more(
    path: Path, tmp_path: Path, told: list[str]
) -> None:
    songs = make_damaged(path, tmp_path / "library", 400)
    with Store(path, told.append) as store:
        assert told == []
        assert [store.recall(store.look(song), METHOD) for song in songs] == [None] * len(songs)
        store.remember(store.look(songs[0]), METHOD, prediction())
        assert same(store.recall(store.look(songs[0]), METHOD), prediction())
    (line,) = told
    assert "is damaged" in line and "store.sqlite3.old-1" in line
    with Store(path, pytest.fail) as store:
        assert same(store.recall(store.look(songs[0]), METHOD), prediction())


def test_a_store_that_another_run_has_begun_again_is_not_moved_aside(
    path: Path, tmp_path: Path, told: list[str]
) -> None:
    songs = make_damaged(path, tmp_path / "library", 100)
    with Store(path, told.append) as one, Store(path, told.append) as two:
        for store in (one, two):
            store.remember(store.look(songs[0]), METHOD, prediction())
            assert same(store.recall(store.look(songs[0]), METHOD), prediction())
    assert len(told) == 1
    assert [each.name for each in path.parent.glob("*.old-?")] == ["store.sqlite3.old-1"]
    with Store(path, pytest.fail) as store:
        assert same(store.recall(store.look(songs[0]), METHOD), prediction())


def test_an_answer_filed_under_another_song_is_none(store: Store, path: Path, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "library", 2)
    for number, song in enumerate(songs):
        store.remember(store.look(song), METHOD, prediction(number))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE hearings SET answer = (SELECT answer FROM hearings ORDER BY number LIMIT 1)")
    assert same(store.recall(store.look(songs[0]), METHOD), prediction(0))
    assert store.recall(store.look(songs[1]), METHOD) is None


def flip(data: np.ndarray, rng: np.random.Generator) -> None:
    data[rng.integers(0, len(data), rng.integers(1, 200))] ^= np.uint8(1 << rng.integers(0, 8))


def scribble(data: np.ndarray, rng: np.random.Generator) -> None:
    first = rng.integers(4096, len(data))
    data[first : first + 2000] = rng.integers(0, 256, len(data[first : first + 2000]))


def copy_a_page(data: np.ndarray, rng: np.random.Generator) -> None:
    pages = data.reshape(-1, 4096)
    pages[rng.integers(1, len(pages))] = pages[rng.integers(1, len(pages))]


@pytest.mark.parametrize("damage", [flip, scribble, copy_a_page])
def test_damage_never_becomes_an_answer(
    path: Path, tmp_path: Path, damage: Callable[[np.ndarray, np.random.Generator], None]
) -> None:
    songs = make_library(tmp_path / "library", 60)
    with Store(path, pytest.fail) as store:
        for number, song in enumerate(songs):
            store.note_genres(store.look(song), [song.name])
            store.remember(store.look(song), METHOD, prediction(number) if number % 9 else FAILURE)
    intact = np.frombuffer(path.read_bytes(), np.uint8)
    rng, n_cached, n_trials = np.random.default_rng(0), 0, 15
    for _ in range(n_trials):
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        damaged = intact.copy()
        damage(damaged, rng)
        path.write_bytes(damaged)
        told: list[str] = []
        with Store(path, told.append) as store:
            for number, song in enumerate(songs):
                seen = store.look(song)
                assert seen.genres in (None, (song.name,))
                answer = store.recall(seen, METHOD)
                assert isinstance(answer, Failure | None) or same(answer, prediction(number))
                n_cached += answer is not None
                store.remember(seen, METHOD, prediction(number))
            assert store.contents().n_bytes > 0
            store.prune_gone()
        assert len(told) <= 2, told
    assert 10 < n_cached < n_trials * len(songs)  # some of it really is damaged, some intact


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE files SET identity = 'text'",
        "UPDATE files SET genres = 'text', device = x'ff'",
        "UPDATE files SET path = path || x'00'",
        "INSERT INTO files VALUES (x'', '', '', NULL, NULL), ('text', '', '', 1, 2), (7, '', '', 1, 2)",
        "UPDATE methods SET fields = x'00000000'",
        "UPDATE methods SET key = 'text'",
        "UPDATE hearings SET answer = 'text'",
        "UPDATE hearings SET answer = x''",
        "UPDATE hearings SET answer = 1.5",
        "UPDATE files SET stamp = CAST(x'ff' AS TEXT)",
        "UPDATE failures SET reason = CAST(x'ff' AS TEXT)",
    ],
)
def test_values_that_should_not_be_there(store: Store, path: Path, tmp_path: Path, change: str) -> None:
    song, bad = make_library(tmp_path / "library", 2)
    store.note_genres(store.look(song), ["Rock"])
    store.remember(store.look(song), METHOD, prediction())
    store.remember(store.look(bad), METHOD, FAILURE)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(change)
    seen = store.look(song)
    assert seen.genres in (None, ("Rock",))
    assert same(store.recall(seen, METHOD), prediction()) or store.recall(seen, METHOD) is None
    store.recall(store.look(bad), METHOD)
    store.remember(seen, METHOD, prediction(1))
    assert store.contents().n_files >= 2
    store.prune_gone()
    assert same(store.recall(store.look(song), METHOD), prediction(1))


# --- no store at all


def works_without(store: Store, song: Path) -> bool:
    """Whether a store that cannot be used says nothing more and knows nothing."""
    seen = store.look(song)
    store.note_genres(seen, ["Rock"])
    store.remember(seen, METHOD, prediction())
    store.remember(seen, METHOD, FAILURE)
    store.rewritten(seen)
    assert not any(store.note_refusal(seen, "the audio would change") for _ in range(2))
    known = [store.look(song).genres, store.recall(seen, METHOD), store.prune_gone(), store.prune_methods([METHOD])]
    contents = store.contents()
    assert not store.is_usable
    return known == [None, None, 0, 0] and (contents.n_files, contents.n_songs, contents.predictions) == (0, 0, ())


def test_a_state_folder_that_cannot_be_made(tmp_path: Path, song: Path, told: list[str]) -> None:
    (tmp_path / "file").touch()
    with Store(tmp_path / "file" / "state" / "store.sqlite3", told.append) as store:
        assert works_without(store, song)
    (line,) = told
    assert "going on without it" in line and str(tmp_path / "file") in line


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("exists", [True, False])
def test_a_read_only_state_folder(exists: bool) -> None:
    state = Path(tempfile.mkdtemp())
    try:
        song = make(state / "song.mp3")
        if exists:
            with Store(store_path(state), pytest.fail) as store:
                store.remember(store.look(song), METHOD, prediction())
            for each in state.iterdir():
                each.chmod(0o444)
        state.chmod(0o555)
        process = os.fork()
        if not process:
            if os.geteuid() == 0:  # whom no mode keeps out
                os.setgid(65534)
                os.setuid(65534)
            told: list[str] = []
            with Store(store_path(state), told.append) as store:
                right = works_without(store, song)
            os._exit(0 if right and len(told) == 1 and "ermission denied" in told[0] else 1)
        assert os.waitpid(process, 0)[1] == 0
    finally:
        state.chmod(0o755)
        shutil.rmtree(state)


def test_a_disk_that_fills_up(path: Path, tmp_path: Path, told: list[str]) -> None:
    resource = pytest.importorskip("resource")
    songs = make_library(tmp_path / "library", 100)
    big = Prediction(np.ones((10, 527), np.float32), tuple(map(float, range(10))), 100.0, "")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(path, told.append) as store:
        store.remember(store.look(songs[0]), METHOD, prediction())
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        try:
            for song in songs[1:]:
                store.remember(store.look(song), METHOD, big)
            assert works_without(store, songs[0])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (line,) = told
    assert "going on without it" in line
    with Store(path, pytest.fail) as store:
        assert same(store.recall(store.look(songs[0]), METHOD), prediction())
        assert store.contents().n_songs > 10


def test_a_closed_store_knows_nothing(path: Path, song: Path) -> None:
    with Store(path, pytest.fail) as store:
        store.remember(store.look(song), METHOD, prediction())
    assert works_without(store, song)


def test_the_store_is_for_its_owners_eyes(store: Store, path: Path, song: Path) -> None:
    store.remember(store.look(song), METHOD, prediction())
    if os.name == "posix":
        assert {each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {0o600}


# --- contents and pruning


def test_contents_are_counted(store: Store, tmp_path: Path, path: Path) -> None:
    one, two, copy, bad = (make(tmp_path / f"{n}.mp3", n % 2) for n in (0, 1, 2, 3))
    bad.write_bytes(b"bad")
    other = replace(METHOD, model="another", name="audioset", n_snippets=None)
    for song in (one, two, copy):
        store.remember(store.look(song), METHOD, prediction())
    store.remember(store.look(one), other, prediction())
    store.remember(store.look(bad), other, FAILURE)
    contents = store.contents()
    assert (contents.path, contents.n_files, contents.n_songs, contents.n_failures) == (path, 4, 3, 1)
    counts = {(each.method, each.method.name, each.n_predictions) for each in contents.predictions}
    assert counts == {(METHOD, "starter", 2), (other, "audioset", 1)}
    assert all(len(each.last_used) == len("2000-01-01") for each in contents.predictions)
    assert contents.n_bytes >= path.stat().st_size > 0


def test_songs_without_a_file_can_be_forgotten(store: Store, tmp_path: Path) -> None:
    gone, kept, moved, failed = (make(tmp_path / "library" / f"{n}.mp3", n) for n in range(4))
    for number, song in enumerate((gone, kept, moved)):
        store.remember(store.look(song), METHOD, prediction(number))
    store.remember(store.look(failed), METHOD, FAILURE)
    moved.rename(tmp_path / "new name.mp3")
    assert same(store.recall(store.look(tmp_path / "new name.mp3"), METHOD), prediction(2))
    gone_again = gone.read_bytes()
    gone.unlink(), failed.unlink()
    assert store.prune_gone() == 3
    contents = store.contents()
    assert (contents.n_files, contents.n_songs, contents.n_failures) == (2, 2, 0)
    assert same(store.recall(store.look(kept), METHOD), prediction(1))
    assert same(store.recall(store.look(tmp_path / "new name.mp3"), METHOD), prediction(2))
    gone.write_bytes(gone_again)
    assert store.recall(store.look(gone), METHOD) is None
    assert store.prune_gone() == 0


def test_a_folder_that_was_removed_is_gone_a_drive_that_is_away_is_not(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = make(tmp_path / "mnt" / "drive" / "album" / "song.mp3")
    store.remember(store.look(song), METHOD, prediction())
    shutil.rmtree(tmp_path / "mnt" / "drive")
    real = store_module._device_near
    monkeypatch.setattr(store_module, "_device_near", lambda path: real(path) + "0")  # the disk under the mount point
    assert store.prune_gone() == 0
    monkeypatch.undo()
    assert store.prune_gone() == 1


def test_methods_can_be_forgotten(store: Store, song: Path, tmp_path: Path) -> None:
    old, other = replace(METHOD, model="old"), make(tmp_path / "other.mp3", 1)
    store.remember(store.look(song), old, prediction(1))
    store.remember(store.look(song), METHOD, prediction(2))
    store.remember(store.look(other), old, FAILURE)
    assert store.prune_methods([old]) == 1
    assert [each.method for each in store.contents().predictions] == [METHOD]
    assert store.contents().n_failures == 0
    assert store.recall(store.look(song), old) is None
    assert same(store.recall(store.look(song), METHOD), prediction(2))
    assert store.prune_methods([replace(METHOD, model="never used")]) == 0


def test_a_forgotten_method_can_be_used_again(store: Store, song: Path) -> None:
    store.remember(store.look(song), METHOD, prediction())
    store.prune_methods([METHOD])
    store.remember(store.look(song), METHOD, prediction(1))
    assert [each.n_predictions for each in store.contents().predictions] == [1]
    assert store.prune_gone() == 0
    assert same(store.recall(store.look(song), METHOD), prediction(1))


def test_pruning_gives_the_room_back(store: Store, tmp_path: Path) -> None:
    big = Prediction(
        np.random.default_rng(0).standard_normal((50, 527), np.float32), tuple(map(float, range(50))), 500.0, ""
    )
    songs = make_library(tmp_path / "library", 30)
    for song in songs:
        store.remember(store.look(song), METHOD, big)
    assert store.contents().n_bytes > 3_000_000
    for song in songs[1:]:
        song.unlink()
    assert store.prune_gone() == 29
    assert store.contents().n_bytes < 400_000
    assert same(store.recall(store.look(songs[0]), METHOD), big)


def test_seen_is_a_version_of_a_file(store: Store, song: Path) -> None:
    seen = store.look(song)
    assert seen.is_current() and seen.identity == identify(song)
    assert Seen(str(song.with_name("gone")), seen.stamp, seen.device).identity is None
    wait_for_the_clock(song)
    os.chmod(song, 0o600)
    assert not seen.is_current() and seen.is_same_song()
    overwrite(song)
    assert not seen.is_same_song()
    song.unlink()
    assert not seen.is_current() and not seen.is_same_song()
