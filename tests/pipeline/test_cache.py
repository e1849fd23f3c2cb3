"""The cache: the prediction is known again, nothing is mistaken, and no trouble with its file stops a run."""

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
from tagger.pipeline import cache as cache_module
from tagger.pipeline.cache import (
    APPLICATION_ID,
    SAFE_PRECISIONS,
    SCHEMA_VERSION,
    Method,
    PredictionCache,
    Seen,
    cache_path,
)
from tagger.pipeline.predict import Prediction
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
    return cache_path(tmp_path / "state")


@pytest.fixture
def told() -> list[str]:
    """The lines the user has seen; a test that expects none says so by asking for `cache`."""
    return []


@pytest.fixture
def cache(path: Path, told: list[str]) -> Iterator[PredictionCache]:
    with PredictionCache(path, told.append) as cache:
        yield cache
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
    cache: PredictionCache, song: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = cache.look(song)
    assert (seen.genres, seen.known_identity, cache.recall(seen, METHOD)) == (None, None, None)
    cache.note_genres(seen, ["Rock", "Pop; Ü"])
    cache.remember(seen, METHOD, prediction())
    monkeypatch.setattr(cache_module, "identify", no_reading)
    with PredictionCache(path, pytest.fail) as later:
        seen = later.look(song)
        assert seen.genres == ("Rock", "Pop; Ü")
        assert same(later.recall(seen, METHOD), prediction())


def test_genres_are_known_of_songs_that_were_not_classified(
    cache: PredictionCache, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "identify", no_reading)
    cache.note_genres(cache.look(song), [])
    assert cache.look(song).genres == ()
    monkeypatch.setattr(cache_module, "READING_VERSION", cache_module.READING_VERSION + 1)
    assert cache.look(song).genres is None


def test_what_was_noted_of_a_song_is_kept_when_more_is_learned(cache: PredictionCache, song: Path) -> None:
    cache.remember(cache.look(song), METHOD, prediction())
    cache.note_genres(cache.look(song), ["Rock"])
    assert cache.look(song).known_identity == identify(song)
    cache.remember(cache.look(song), replace(METHOD, n_snippets=9), prediction(1))
    assert cache.look(song).genres == ("Rock",)


@pytest.mark.parametrize(
    "logits",
    [
        np.float32([[0.1, -0.0, 1e-45, 3.4028235e38, 1 / 3]]),
        np.random.default_rng(0).standard_normal((300, 527), np.float32),
        np.asfortranarray(np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)),
        np.random.default_rng(2).standard_normal((7, 5)).astype(np.float32)[::-2, ::2],
    ],
)
def test_logits_come_back_bit_for_bit(cache: PredictionCache, song: Path, logits: np.ndarray) -> None:
    answer = Prediction(logits, tuple(np.linspace(0, 1 / 7, len(logits))), 1 / 3, "")
    cache.remember(cache.look(song), METHOD, answer)
    recalled = cache.recall(cache.look(song), METHOD)
    assert isinstance(recalled, Prediction)
    assert same(recalled, answer)
    assert np.array_equal(recalled.logits, logits)
    recalled.logits[:] = 0  # they are the caller's own
    assert same(cache.recall(cache.look(song), METHOD), answer)


def embedded(seed: int = 0, n_snippets: int = 5, width: int = 192) -> Prediction:
    """A prediction with its embeddings."""
    embeddings = np.random.default_rng(seed).normal(0, 3, (n_snippets, width)).astype(np.float32)
    return replace(prediction(seed, n_snippets), embeddings=embeddings)


def assert_embedded(found: object, expected: Prediction) -> None:
    assert isinstance(found, Prediction) and same(found, expected) and found.embeddings is not None
    assert found.embeddings.dtype == np.float32
    np.testing.assert_allclose(found.embeddings, expected.embeddings, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("n_snippets", [1, 5])
def test_embeddings_come_back_to_who_asks_for_them(cache: PredictionCache, song: Path, n_snippets: int) -> None:
    cache.remember(cache.look(song), METHOD, embedded(n_snippets=n_snippets))
    found = cache.recall(cache.look(song), METHOD)
    assert same(found, prediction(n_snippets=n_snippets))
    assert isinstance(found, Prediction) and found.embeddings is None
    asked = replace(METHOD, precision="auto")
    assert_embedded(cache.recall(cache.look(song), asked, with_embeddings=True), embedded(n_snippets=n_snippets))


def test_the_embeddings_of_a_song_are_those_of_its_latest_prediction(cache: PredictionCache, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "library", 3)
    for seed in (0, 10):
        for number, song in enumerate(songs):
            cache.remember(cache.look(song), METHOD, embedded(number + seed))
    for number, song in enumerate(songs):
        assert_embedded(cache.recall(cache.look(song), METHOD, with_embeddings=True), embedded(number + 10))
    cache.remember(cache.look(songs[2]), METHOD, prediction())  # as from a cluster, whose results have none
    assert cache.recall(cache.look(songs[2]), METHOD, with_embeddings=True) is None
    assert same(cache.recall(cache.look(songs[2]), METHOD), prediction())


def test_a_prediction_without_embeddings_does_not_answer_who_needs_them(cache: PredictionCache, song: Path) -> None:
    cache.remember(cache.look(song), METHOD, embedded())
    cache.remember(cache.look(song), replace(METHOD, precision="bf16"), prediction(1))
    asked = replace(METHOD, precision="auto")
    assert same(cache.recall(cache.look(song), asked), prediction(1))
    assert_embedded(cache.recall(cache.look(song), asked, with_embeddings=True), embedded())


def test_a_silent_song_needs_no_embeddings(cache: PredictionCache, song: Path) -> None:
    silent = Prediction(np.empty((0, 0), np.float32), (), 61.7, "silent")
    cache.remember(cache.look(song), METHOD, silent)
    assert same(cache.recall(cache.look(song), METHOD, with_embeddings=True), silent)


def test_embeddings_that_float16_cannot_hold_are_not_cached(cache: PredictionCache, song: Path) -> None:
    cache.remember(cache.look(song), METHOD, replace(prediction(), embeddings=np.full((5, 4), 1e6, np.float32)))
    assert same(cache.recall(cache.look(song), METHOD), prediction())
    assert cache.recall(cache.look(song), METHOD, with_embeddings=True) is None


def test_embeddings_are_forgotten_with_their_prediction(cache: PredictionCache, path: Path, song: Path) -> None:
    cache.remember(cache.look(song), METHOD, embedded())
    cache.prune_methods([METHOD])
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM embeddings").fetchone() == (0,)


def test_embeddings_that_lost_their_prediction_are_in_nobodys_way(
    cache: PredictionCache, path: Path, tmp_path: Path
) -> None:
    """As where that was damaged: numbers are given again."""
    songs = make_library(tmp_path / "library", 2)
    cache.remember(cache.look(songs[0]), METHOD, embedded(0))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM predictions")
    cache.remember(cache.look(songs[1]), METHOD, embedded(1))
    assert_embedded(cache.recall(cache.look(songs[1]), METHOD, with_embeddings=True), embedded(1))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM predictions")
    cache.remember(cache.look(songs[0]), METHOD, prediction())
    assert cache.recall(cache.look(songs[0]), METHOD, with_embeddings=True) is None


def test_damaged_embeddings_are_none(cache: PredictionCache, path: Path, song: Path) -> None:
    cache.remember(cache.look(song), METHOD, embedded())
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE embeddings SET rows = zeroblob(length(rows))")
    assert cache.recall(cache.look(song), METHOD, with_embeddings=True) is None
    assert same(cache.recall(cache.look(song), METHOD), prediction())


@pytest.mark.parametrize("reason", ["silent", "shorter than 1 s", "Ü\n\0"])
def test_a_song_with_nothing_to_classify_is_known_again(cache: PredictionCache, song: Path, reason: str) -> None:
    answer = Prediction(np.empty((0, 0), np.float32), (), 0.4, reason)
    cache.remember(cache.look(song), METHOD, answer)
    assert same(cache.recall(cache.look(song), METHOD), answer)


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
def test_another_method_is_another_question(cache: PredictionCache, song: Path, change: dict[str, object]) -> None:
    cache.remember(cache.look(song), METHOD, prediction())
    other = replace(METHOD, **change)  # type: ignore[arg-type]
    assert cache.recall(cache.look(song), other) is None
    cache.remember(cache.look(song), other, prediction(1))
    assert same(cache.recall(cache.look(song), METHOD), prediction())
    assert same(cache.recall(cache.look(song), other), prediction(1))


def test_the_name_of_a_model_is_no_method(cache: PredictionCache, song: Path) -> None:
    cache.remember(cache.look(song), METHOD, prediction())
    assert same(cache.recall(cache.look(song), replace(METHOD, name="./my-copy")), prediction())


# --- any precision will do, or a certain one

AUTO = replace(METHOD, precision="auto")


@pytest.mark.parametrize("precision", SAFE_PRECISIONS)
def test_who_asks_for_no_precision_gets_any(cache: PredictionCache, song: Path, precision: str) -> None:
    assert cache.recall(cache.look(song), AUTO) is None
    cache.remember(cache.look(song), replace(METHOD, precision=precision), prediction())
    assert same(cache.recall(cache.look(song), AUTO), prediction())
    for other in SAFE_PRECISIONS:
        if other != precision:
            assert cache.recall(cache.look(song), replace(METHOD, precision=other)) is None
    assert [each.method.precision for each in cache.contents().predictions] == [precision]  # none was made up


def test_what_an_older_version_classified_in_int8_answers_only_who_asks_for_int8(
    cache: PredictionCache, song: Path
) -> None:
    int8 = replace(METHOD, precision="int8")
    cache.remember(cache.look(song), int8, prediction())
    assert cache.recall(cache.look(song), AUTO) is None
    assert same(cache.recall(cache.look(song), int8), prediction())


def test_every_precision_there_is_is_safe() -> None:
    from tagger.models.genre_model import PRECISIONS

    assert {*SAFE_PRECISIONS} == {*PRECISIONS}


def test_of_several_precisions_the_latest_prediction_counts(cache: PredictionCache, song: Path) -> None:
    for number, precision in enumerate(("bf16", "fp32", "fp16", "fp32", "bf16")):
        cache.remember(cache.look(song), replace(METHOD, precision=precision), prediction(number))
        assert same(cache.recall(cache.look(song), AUTO), prediction(number))
    assert same(cache.recall(cache.look(song), METHOD), prediction(3))


def test_a_failure_in_one_precision_is_overcome_by_another(cache: PredictionCache, song: Path) -> None:
    half = replace(METHOD, precision="fp16")
    cache.remember(cache.look(song), half, FAILURE)
    assert cache.recall(cache.look(song), AUTO) == FAILURE
    assert cache.recall(cache.look(song), METHOD) is None
    cache.remember(cache.look(song), METHOD, prediction())
    assert same(cache.recall(cache.look(song), AUTO), prediction())


def test_the_day_a_prediction_was_last_asked_for_is_kept(
    cache: PredictionCache, song: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.remember(cache.look(song), replace(METHOD, precision="bf16"), prediction())
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE methods SET last_used = '2000-01-01'")
    with PredictionCache(path, pytest.fail) as later:
        assert [each.last_used for each in later.contents().predictions] == ["2000-01-01"]
        later.recall(later.look(song), AUTO)
        assert [each.last_used for each in later.contents().predictions] > ["2020-01-01"]


@pytest.mark.parametrize("move", [os.rename, shutil.copyfile, shutil.copy2])
def test_a_song_under_another_name_is_known(
    cache: PredictionCache, song: Path, move: Callable[[Path, Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.remember(cache.look(song), METHOD, prediction())
    moved = song.with_name("another name.ogg")
    move(song, moved)
    assert same(cache.recall(cache.look(moved), METHOD), prediction())
    monkeypatch.setattr(cache_module, "identify", no_reading)  # and by its stamp from then on
    assert same(cache.recall(cache.look(moved), METHOD), prediction())


@pytest.mark.parametrize("name", ["v24 full.mp3", "full.flac", "full.ogg", "full.m4a", "id3.wav"])
def test_a_song_tagged_by_somebody_is_known(cache: PredictionCache, tmp_path: Path, name: str) -> None:
    song = tmp_path / name
    song.write_bytes(build(name))
    cache.note_genres(cache.look(song), ["Old"])
    cache.remember(cache.look(song), METHOD, prediction())
    wait_for_the_clock(song)
    write_genre(song, "Something else")
    seen = cache.look(song)
    assert seen.genres is None  # whatever was in the tag before
    assert same(cache.recall(seen, METHOD), prediction())


def test_a_song_that_we_wrote_is_known_by_its_stamp(
    cache: PredictionCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = tmp_path / "song.flac"
    song.write_bytes(build("full.flac"))
    seen = cache.look(song)
    cache.remember(seen, METHOD, prediction())
    wait_for_the_clock(song)
    write_genre(song, "Techno")
    new = cache.rewritten(seen)
    assert new is not None and new.stamp != seen.stamp
    monkeypatch.setattr(cache_module, "identify", no_reading)
    cache.note_genres(new, ["Techno"])
    assert cache.look(song).genres == ("Techno",)
    assert same(cache.recall(cache.look(song), METHOD), prediction())


@pytest.mark.parametrize(
    "name",
    [
        b"\xff\xfe\x80.mp3", b"new\nline.mp3", b"-rf.mp3", b"Z\xc3\xa9.mp3", b"Ze\xcc\x81.mp3", b"' OR 1=1 --.mp3",
        b"%s?*.mp3", b" .mp3", b"\xf0\x9f\x8e\xb5.mp3", b"n" * 251 + b".mp3", b"\xe2\x80\xae3pm.mp3",
    ],
)  # fmt: skip
def test_names_of_any_bytes(cache: PredictionCache, tmp_path: Path, name: bytes) -> None:
    song = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
    try:
        make(song)
    except OSError:
        pytest.skip("this file system does not take the name")
    make(tmp_path / "decoy.mp3", 1)
    cache.remember(cache.look(song), METHOD, prediction())
    cache.note_genres(cache.look(song), ["Rock"])
    assert cache.look(song).genres == ("Rock",)
    assert same(cache.recall(cache.look(song), METHOD), prediction())
    assert cache.recall(cache.look(tmp_path / "decoy.mp3"), METHOD) is None
    assert cache.prune_gone() == 0


def test_two_spellings_of_a_name_are_two_files(cache: PredictionCache, tmp_path: Path) -> None:
    composed, decomposed = make(tmp_path / "Zo\u00e9.mp3", 1), make(tmp_path / "Zoe\u0301.mp3", 2)
    if composed.read_bytes() == decomposed.read_bytes():
        pytest.skip("this file system takes them for one")
    cache.remember(cache.look(composed), METHOD, prediction(1))
    cache.remember(cache.look(decomposed), METHOD, prediction(2))
    assert same(cache.recall(cache.look(composed), METHOD), prediction(1))
    assert same(cache.recall(cache.look(decomposed), METHOD), prediction(2))


def test_a_relative_path_is_the_same_file(cache: PredictionCache, song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.note_genres(cache.look(song), ["Rock"])
    monkeypatch.chdir(song.parent)
    assert cache.look("song.mp3").genres == ("Rock",)
    assert cache.look(Path("..") / "library" / "song.mp3").genres == ("Rock",)


def test_a_file_that_is_not_there_is_an_oserror(cache: PredictionCache, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cache.look(tmp_path / "missing.mp3")


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
def test_a_file_with_other_music_is_another_song(
    cache: PredictionCache, song: Path, change: Callable[[Path], None]
) -> None:
    old = song.stat()
    cache.note_genres(cache.look(song), ["Rock"])
    cache.remember(cache.look(song), METHOD, prediction())
    wait_for_the_clock(song)
    change(song)
    assert song.stat().st_size == old.st_size
    seen = cache.look(song)
    assert seen.genres is None
    assert cache.recall(seen, METHOD) is None
    cache.remember(seen, METHOD, prediction(1))
    assert same(cache.recall(cache.look(song), METHOD), prediction(1))


def test_what_was_known_of_the_old_file_is_not_mixed_with_the_new(cache: PredictionCache, tmp_path: Path) -> None:
    classified_again, read_again = make_library(tmp_path / "library", 2)
    for song in (classified_again, read_again):
        cache.note_genres(cache.look(song), ["Rock"])
        cache.remember(cache.look(song), METHOD, prediction())
        wait_for_the_clock(song)
        make(song, 9, 500)
    cache.remember(cache.look(classified_again), METHOD, prediction(1))
    assert cache.look(classified_again).genres is None
    other = replace(METHOD, model="another")
    cache.note_genres(cache.look(read_again), ["Pop"])
    assert cache.look(read_again).known_identity is None
    assert same(cache.recall(cache.look(read_again), METHOD), prediction(1))  # the same audio as the other's
    assert cache.recall(cache.look(read_again), other) is None


def test_two_names_for_two_songs_that_change_places(cache: PredictionCache, tmp_path: Path) -> None:
    one, two, spare = make(tmp_path / "1.mp3", 1), make(tmp_path / "2.mp3", 2), tmp_path / "spare"
    cache.remember(cache.look(one), METHOD, prediction(1))
    cache.remember(cache.look(two), METHOD, prediction(2))
    wait_for_the_clock(two)
    one.rename(spare), two.rename(one), spare.rename(two)
    assert same(cache.recall(cache.look(one), METHOD), prediction(2))
    assert same(cache.recall(cache.look(two), METHOD), prediction(1))


def test_what_changed_while_it_was_classified_is_not_remembered(cache: PredictionCache, song: Path) -> None:
    seen = cache.look(song)
    assert cache.recall(seen, METHOD) is None  # identified before the change
    wait_for_the_clock(song)
    overwrite(song)
    cache.note_genres(seen, ["Rock"])
    cache.remember(seen, METHOD, prediction())
    cache.remember(seen, METHOD, FAILURE)
    assert cache.look(song).genres is None
    assert cache.recall(cache.look(song), METHOD) is None
    assert cache.contents().n_files == cache.contents().n_failures == 0
    song.unlink()
    cache.remember(seen, METHOD, prediction())
    assert cache.contents().n_files == 0


def test_somebody_who_comes_between_our_writing_and_the_record_is_noticed(cache: PredictionCache, song: Path) -> None:
    seen = cache.look(song)
    cache.remember(seen, METHOD, prediction())
    wait_for_the_clock(song)
    overwrite(song)
    assert cache.rewritten(seen) is None
    assert cache.look(song).known_identity is None
    assert cache.recall(cache.look(song), METHOD) is None
    song.unlink()
    assert cache.rewritten(seen) is None


# --- failures


def test_a_failure_is_remembered_until_the_file_changes(cache: PredictionCache, song: Path, path: Path) -> None:
    cache.remember(cache.look(song), METHOD, FAILURE)
    with PredictionCache(path, pytest.fail) as later:
        assert later.recall(later.look(song), METHOD) == FAILURE
        assert later.recall(later.look(song), METHOD, retry_failed=True) is None
        assert later.recall(later.look(song), METHOD) == FAILURE
        assert later.recall(later.look(song), replace(METHOD, precision="bf16")) is None
        wait_for_the_clock(song)
        os.utime(song)
        assert later.recall(later.look(song), METHOD) is None


def test_a_look_tells_whether_a_song_may_fail(cache: PredictionCache, song: Path) -> None:
    """So that nobody asks for the failures of songs that have none."""
    other = replace(METHOD, n_snippets=2)
    assert cache.look(song).may_fail  # of a file that is new nothing is known
    cache.remember(cache.look(song), METHOD, prediction())
    assert not cache.look(song).may_fail
    cache.remember(cache.look(song), other, FAILURE)
    assert cache.look(song).may_fail
    assert cache.recall(cache.look(song), other) == FAILURE
    assert same(cache.recall(cache.look(song), METHOD), prediction())


def test_a_failure_that_may_pass_is_not_remembered(cache: PredictionCache, song: Path) -> None:
    cache.remember(cache.look(song), METHOD, Failure("out of memory", is_lasting=False))
    assert cache.recall(cache.look(song), METHOD) is None
    assert cache.contents().n_failures == 0


def test_a_failure_is_of_this_file_only(cache: PredictionCache, song: Path) -> None:
    cache.remember(cache.look(song), METHOD, FAILURE)
    copy = song.with_name("copy.mp3")
    shutil.copyfile(song, copy)
    assert cache.recall(cache.look(copy), METHOD) is None


def test_a_later_success_takes_the_place_of_a_failure(cache: PredictionCache, song: Path) -> None:
    cache.remember(cache.look(song), METHOD, FAILURE)
    cache.remember(cache.look(song), METHOD, prediction())
    assert same(cache.recall(cache.look(song), METHOD), prediction())
    assert cache.contents().n_failures == 0


def test_a_later_failure_takes_the_place_of_a_success(cache: PredictionCache, song: Path) -> None:
    cache.remember(cache.look(song), METHOD, prediction())
    cache.remember(cache.look(song), METHOD, FAILURE)
    assert cache.recall(cache.look(song), METHOD) == FAILURE


def test_a_refusal_is_known_of_this_version_of_the_file_for_this_reason(
    cache: PredictionCache, song: Path, path: Path
) -> None:
    cache.remember(cache.look(song), METHOD, prediction())
    assert not cache.note_refusal(cache.look(song), "the audio would change")
    with PredictionCache(path, pytest.fail) as later:
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


def test_a_file_without_audio_can_fail(cache: PredictionCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty.mp3"
    empty.touch()
    assert cache.recall(cache.look(empty), METHOD) is None
    cache.remember(cache.look(empty), METHOD, Failure("empty file"))
    cache.remember(cache.look(empty), replace(METHOD, n_snippets=1), prediction())  # nobody to remember it of
    monkeypatch.setattr(cache_module, "identify", no_reading)
    assert cache.recall(cache.look(empty), METHOD) == Failure("empty file")


# --- interruption and company


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another run: `code` sees the names of this module, and what it tells the user is on its stdout."""
    lines = ["import sys", "from pathlib import Path", "from tests.pipeline.test_cache import *", code]
    command = [sys.executable, "-c", "\n".join(lines), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)


REMEMBER_ALL = """
path, library, n_openings = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
songs = sorted(library.iterdir())
for part in np.array_split(np.arange(len(songs)), n_openings):
    with PredictionCache(path, print) as cache:
        for number in part:
            seen = cache.look(songs[number])
            cache.note_genres(seen, [songs[number].name])
            cache.recall(seen, METHOD)
            cache.remember(seen, METHOD, prediction(number))
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
        with PredictionCache(path, pytest.fail) as cache:
            for number in range(n_done):
                assert cache.look(songs[number]).genres == (songs[number].name,)
                assert same(cache.recall(cache.look(songs[number]), METHOD), prediction(number))
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_runs_at_once_do_not_disturb_each_other(path: Path, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "library", 200)
    runs = [child(REMEMBER_ALL, path, tmp_path / "library", n_openings) for n_openings in (1, 40, 41)]
    for run in runs:
        output = run.communicate()[0].splitlines()
        assert {line.split()[0] for line in output} == {"done"}, output
        assert (len(output), run.returncode) == (len(songs), 0)
    with PredictionCache(path, pytest.fail) as cache:
        for number, song in enumerate(songs):
            assert same(cache.recall(cache.look(song), METHOD), prediction(number))
        assert cache.contents().n_songs == len(songs)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_runs_at_once_move_a_damaged_cache_aside_once(path: Path, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "library", 20)
    path.parent.mkdir()
    path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    runs = [child(REMEMBER_ALL, path, tmp_path / "library", 1) for _ in range(3)]
    told = [line for run in runs for line in run.communicate()[0].splitlines() if not line.startswith("done")]
    assert len(told) == 1 and "moved to cache.sqlite3.old-1" in told[0], told
    assert [each.name for each in path.parent.glob("*.old-*")] == ["cache.sqlite3.old-1"]
    with PredictionCache(path, pytest.fail) as cache:
        assert all(same(cache.recall(cache.look(song), METHOD), prediction(n)) for n, song in enumerate(songs))


def test_threads_share_a_cache(cache: PredictionCache, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "library", 40)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for number, song in enumerate(songs):
                seen = cache.look(song)
                cache.note_genres(seen, ["Rock"])
                if cache.recall(seen, METHOD) is None:
                    cache.remember(seen, METHOD, prediction(number))
                assert same(cache.recall(cache.look(song), METHOD), prediction(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_run_waits_while_another_writes(cache: PredictionCache, path: Path, song: Path) -> None:
    seen = cache.look(song)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    release.start()
    cache.remember(seen, METHOD, prediction())
    release.join()
    other.close()
    assert same(cache.recall(cache.look(song), METHOD), prediction())


def test_who_only_asks_waits_for_nobody(
    cache: PredictionCache, path: Path, song: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.note_genres(cache.look(song), ["Rock"])
    cache.remember(cache.look(song), METHOD, prediction())
    monkeypatch.setattr(cache_module, "WAIT_SECONDS", 0.0)
    with PredictionCache(path, told.append) as later, closing(sqlite3.connect(path, isolation_level=None)) as other:
        later.recall(later.look(song), METHOD)  # the first notes that the method is in use
        other.execute("BEGIN IMMEDIATE")
        assert later.look(song).genres == ("Rock",)
        assert same(later.recall(later.look(song), METHOD), prediction())
        later.remember(later.look(song), METHOD, prediction(1))  # and who waits too long goes on without
        assert len(told) == 1 and "locked" in told.pop()


def test_only_one_run_at_a_time_opens_the_cache(path: Path) -> None:
    PredictionCache(path, pytest.fail).close()
    with closing(sqlite3.connect(path.with_name("cache.sqlite3.lock"), isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        opening = threading.Thread(target=lambda: PredictionCache(path, pytest.fail).close())
        opening.start()
        opening.join(0.3)
        assert opening.is_alive()
    opening.join(20)
    assert not opening.is_alive()


# --- a file of version 1

SCHEMA_OF_VERSION_1 = """
CREATE TABLE files (path BLOB PRIMARY KEY, stamp TEXT NOT NULL, device TEXT NOT NULL, identity BLOB, genres BLOB)\
 WITHOUT ROWID;
CREATE TABLE methods (key BLOB PRIMARY KEY, fields BLOB NOT NULL, last_used TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE hearings (number INTEGER PRIMARY KEY, identity BLOB, method BLOB, answer BLOB NOT NULL,\
 UNIQUE (identity, method));
CREATE TABLE failures (path BLOB, method BLOB, stamp TEXT NOT NULL, reason TEXT NOT NULL,\
 PRIMARY KEY (path, method)) WITHOUT ROWID;
"""


def make_version_1(path: Path, songs: list[Path]) -> Path:
    """A file as version 1 left it, in which the songs are cached; returns its path."""
    new, old = path.with_name("made.sqlite3"), path.with_name("store.sqlite3")
    with PredictionCache(new, pytest.fail) as cache:
        for number, song in enumerate(songs):
            cache.remember(cache.look(song), METHOD, prediction(number))
    with closing(sqlite3.connect(old, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(SCHEMA_OF_VERSION_1)
        database.execute("ATTACH ? AS new", (str(new),))
        for table in ("files", "methods", "failures"):
            database.execute(f"INSERT INTO {table} SELECT * FROM new.{table}")
        database.execute("INSERT INTO hearings SELECT * FROM new.predictions")
        database.execute("PRAGMA application_id = 1735680359")
        database.execute("PRAGMA user_version = 1")
    for each in path.parent.glob("made.*"):
        each.unlink()
    return old


def test_a_file_of_version_1_is_taken_over(path: Path, tmp_path: Path, told: list[str]) -> None:
    songs = make_library(tmp_path / "library", 5)
    old = make_version_1(path, songs)
    for _ in range(2):
        with PredictionCache(path, told.append) as cache:
            for number, song in enumerate(songs):
                assert same(cache.recall(cache.look(song), METHOD), prediction(number))
    with PredictionCache(path, told.append) as cache:
        cache.remember(cache.look(songs[0]), METHOD, prediction(7))
        assert same(cache.recall(cache.look(songs[0]), METHOD), prediction(7))
        assert cache.contents().n_files == 5
    assert path.is_file() and not old.exists() and told == []
    assert not [each.name for each in path.parent.iterdir() if "old" in each.name]


def test_a_file_of_version_2_is_taken_over(path: Path, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "library", 3)
    with PredictionCache(path, pytest.fail) as cache:
        for number, song in enumerate(songs):
            cache.remember(cache.look(song), METHOD, prediction(number))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TABLE embeddings")
        database.execute("PRAGMA user_version = 2")
    with PredictionCache(path, pytest.fail) as cache:
        for number, song in enumerate(songs):
            assert same(cache.recall(cache.look(song), METHOD), prediction(number))
            assert cache.recall(cache.look(song), METHOD, with_embeddings=True) is None
        cache.remember(cache.look(songs[0]), METHOD, embedded(0))
    with PredictionCache(path, pytest.fail) as cache:
        assert_embedded(cache.recall(cache.look(songs[0]), METHOD, with_embeddings=True), embedded(0))


@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
def test_a_link_of_version_1_leads_where_it_led(path: Path, tmp_path: Path, song: Path) -> None:
    target = tmp_path / "other drive.sqlite3"
    old = make_version_1(path, [song])
    shutil.move(old, target)
    old.symlink_to(target)
    with PredictionCache(path, pytest.fail) as cache:
        assert same(cache.recall(cache.look(song), METHOD), prediction(0))
    assert path.is_symlink() and path.resolve() == target and not os.path.lexists(old)


def test_a_file_of_version_1_that_is_in_use_is_left_until_it_is_not(path: Path, song: Path, told: list[str]) -> None:
    old = make_version_1(path, [song])
    with closing(sqlite3.connect(old, isolation_level=None)) as running:
        running.execute("SELECT count(*) FROM hearings").fetchone()
        with PredictionCache(path, told.append) as cache:
            assert not cache.is_usable and cache.recall(cache.look(song), METHOD) is None
        assert len(told) == 1 and "locked" in told.pop()
        assert running.execute("SELECT count(*) FROM hearings").fetchone() == (1,)
    with PredictionCache(path, pytest.fail) as cache:
        assert same(cache.recall(cache.look(song), METHOD), prediction(0))


def test_a_run_that_was_killed_while_it_took_a_file_over_is_no_loss(path: Path, song: Path) -> None:
    os.replace(make_version_1(path, [song]), path)  # renamed, and its table not yet
    with PredictionCache(path, pytest.fail) as cache:
        assert same(cache.recall(cache.look(song), METHOD), prediction(0))


def test_where_there_is_a_cache_a_file_of_version_1_is_left_alone(path: Path, song: Path) -> None:
    PredictionCache(path, pytest.fail).close()
    old = make_version_1(path, [song])
    before = old.read_bytes()
    with PredictionCache(path, pytest.fail) as cache:
        assert cache.recall(cache.look(song), METHOD) is None
    assert old.read_bytes() == before


def test_a_damaged_file_of_version_1_is_moved_aside(path: Path, song: Path, told: list[str]) -> None:
    path.parent.mkdir()
    path.with_name("store.sqlite3").write_bytes(b"damaged" * 1000)
    with PredictionCache(path, told.append) as cache:
        cache.remember(cache.look(song), METHOD, prediction())
    assert len(told) == 1 and path.with_name("cache.sqlite3.old-1").read_bytes() == b"damaged" * 1000


def test_runs_at_once_take_a_file_over_once(path: Path, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "library", 20)
    make_version_1(path, songs)
    runs = [child(REMEMBER_ALL, path, tmp_path / "library", 1) for _ in range(3)]
    for run in runs:
        assert {line.split()[0] for line in run.communicate(timeout=60)[0].splitlines()} == {"done"}
    with PredictionCache(path, pytest.fail) as cache:
        assert all(same(cache.recall(cache.look(song), METHOD), prediction(n)) for n, song in enumerate(songs))
        assert cache.contents().n_songs == 20 and not list(path.parent.glob("*.old-*"))


# --- files that are no cache of ours


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
    with PredictionCache(path, pytest.fail) as cache:
        for song in make_library(path.parent / "songs", 60):
            cache.remember(cache.look(song), METHOD, prediction())
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
def test_what_is_no_cache_is_moved_aside(
    path: Path, song: Path, told: list[str], spoil: Callable[[Path], None]
) -> None:
    path.parent.mkdir()
    spoil(path)
    before = path.read_bytes() if path.is_file() else sorted(path.iterdir())[0].read_bytes()
    with PredictionCache(path, told.append) as cache:
        cache.remember(cache.look(song), METHOD, prediction())
        assert same(cache.recall(cache.look(song), METHOD), prediction())
    aside = path.with_name("cache.sqlite3.old-1")
    assert (aside.read_bytes() if aside.is_file() else sorted(aside.iterdir())[0].read_bytes()) == before
    (line,) = told
    assert str(path) in line and aside.name in line and "\n" not in line
    with PredictionCache(path, pytest.fail) as cache:  # and that was that
        assert same(cache.recall(cache.look(song), METHOD), prediction())


@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
def test_a_link_to_a_damaged_cache_stays_one(tmp_path: Path, path: Path, song: Path, told: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    target = tmp_path / "other drive.sqlite3"
    target.write_bytes(b"damaged" * 1000)
    path.symlink_to(target)
    with PredictionCache(path, told.append) as cache:
        cache.remember(cache.look(song), METHOD, prediction())
    assert len(told) == 1 and path.is_symlink()
    assert target.with_name(f"{target.name}.old-1").read_bytes() == b"damaged" * 1000
    with PredictionCache(path, pytest.fail) as cache:
        assert cache.recall(cache.look(song), METHOD) is not None


def test_nothing_that_was_moved_aside_is_overwritten(path: Path, told: list[str]) -> None:
    path.parent.mkdir()
    for number in range(3):
        path.write_text(f"diary {number}\n" * 100)
        PredictionCache(path, told.append).close()
    assert [(path.with_name(f"cache.sqlite3.old-{n}")).read_text()[:7] for n in (1, 2, 3)] == [
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
    with PredictionCache(path, pytest.fail) as cache:
        cache.remember(cache.look(song), METHOD, prediction())
        assert same(cache.recall(cache.look(song), METHOD), prediction())


def test_the_cache_of_a_newer_version_is_left_alone(path: Path, song: Path, told: list[str]) -> None:
    PredictionCache(path, pytest.fail).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with PredictionCache(path, told.append) as cache:
        assert works_without(cache, song)
    assert len(told) == 1 and "newer" in told[0]
    assert not list(path.parent.glob("*.old-*"))


def make_damaged(path: Path, folder: Path, n_songs: int) -> list[Path]:
    """Songs that a cache remembers, every page of which but the first is overwritten."""
    songs = make_library(folder, n_songs)
    with PredictionCache(path, pytest.fail) as cache:
        for number, song in enumerate(songs):
            cache.remember(cache.look(song), METHOD, prediction(number))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    return songs


def test_damage_that_shows_during_a_run_costs_what_was_known_and_no_more(
    path: Path, tmp_path: Path, told: list[str]
) -> None:
    songs = make_damaged(path, tmp_path / "library", 400)
    with PredictionCache(path, told.append) as cache:
        assert told == []
        assert [cache.recall(cache.look(song), METHOD) for song in songs] == [None] * len(songs)
        cache.remember(cache.look(songs[0]), METHOD, prediction())
        assert same(cache.recall(cache.look(songs[0]), METHOD), prediction())
    (line,) = told
    assert "is damaged" in line and "cache.sqlite3.old-1" in line
    with PredictionCache(path, pytest.fail) as cache:
        assert same(cache.recall(cache.look(songs[0]), METHOD), prediction())


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_one_damaged_page_costs_what_is_on_it(path: Path, tmp_path: Path, told: list[str], place: float) -> None:
    songs = make_library(tmp_path / "library", 400)
    with PredictionCache(path, pytest.fail) as cache:
        for number, song in enumerate(songs):
            cache.note_genres(cache.look(song), [song.name])
            cache.remember(cache.look(song), METHOD, prediction(number))
    data = bytearray(path.read_bytes())
    page = int(place * len(data)) // 4096 * 4096
    data[page : page + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    for tells in (told.append, pytest.fail):
        with PredictionCache(path, tells) as cache:
            answers = [cache.recall(cache.look(song), METHOD) for song in songs]
            cache.contents()  # goes through all of it
            answers = [cache.recall(cache.look(song), METHOD) for song in songs]
        n_known = sum(answer is not None for answer in answers)
        assert n_known > 300
        assert all(answer is None or same(answer, prediction(number)) for number, answer in enumerate(answers))
    assert len(told) == 1 and f"its {n_known} readable predictions are in a new one" in told[0]


def test_a_cache_that_another_run_has_begun_again_is_not_moved_aside(
    path: Path, tmp_path: Path, told: list[str]
) -> None:
    songs = make_damaged(path, tmp_path / "library", 100)
    with PredictionCache(path, told.append) as one, PredictionCache(path, told.append) as two:
        for cache in (one, two):
            cache.remember(cache.look(songs[0]), METHOD, prediction())
            assert same(cache.recall(cache.look(songs[0]), METHOD), prediction())
    assert len(told) == 1
    assert [each.name for each in path.parent.glob("*.old-?")] == ["cache.sqlite3.old-1"]
    with PredictionCache(path, pytest.fail) as cache:
        assert same(cache.recall(cache.look(songs[0]), METHOD), prediction())


def test_an_answer_filed_under_another_song_is_none(cache: PredictionCache, path: Path, tmp_path: Path) -> None:
    songs = make_library(tmp_path / "library", 2)
    for number, song in enumerate(songs):
        cache.remember(cache.look(song), METHOD, prediction(number))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE predictions SET answer = (SELECT answer FROM predictions ORDER BY number LIMIT 1)")
    assert same(cache.recall(cache.look(songs[0]), METHOD), prediction(0))
    assert cache.recall(cache.look(songs[1]), METHOD) is None


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
    with PredictionCache(path, pytest.fail) as cache:
        for number, song in enumerate(songs):
            cache.note_genres(cache.look(song), [song.name])
            cache.remember(cache.look(song), METHOD, prediction(number) if number % 9 else FAILURE)
    intact = np.frombuffer(path.read_bytes(), np.uint8)
    rng, n_cached, n_trials = np.random.default_rng(0), 0, 15
    for _ in range(n_trials):
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        damaged = intact.copy()
        damage(damaged, rng)
        path.write_bytes(damaged)
        told: list[str] = []
        with PredictionCache(path, told.append) as cache:
            for number, song in enumerate(songs):
                seen = cache.look(song)
                assert seen.genres in (None, (song.name,))
                answer = cache.recall(seen, METHOD)
                assert isinstance(answer, Failure | None) or same(answer, prediction(number))
                n_cached += answer is not None
                cache.remember(seen, METHOD, prediction(number))
            assert cache.contents().n_bytes > 0
            cache.prune_gone()
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
        "UPDATE predictions SET answer = 'text'",
        "UPDATE predictions SET answer = x''",
        "UPDATE predictions SET answer = 1.5",
        "UPDATE files SET stamp = CAST(x'ff' AS TEXT)",
        "UPDATE failures SET reason = CAST(x'ff' AS TEXT)",
    ],
)
def test_values_that_should_not_be_there(cache: PredictionCache, path: Path, tmp_path: Path, change: str) -> None:
    song, bad = make_library(tmp_path / "library", 2)
    cache.note_genres(cache.look(song), ["Rock"])
    cache.remember(cache.look(song), METHOD, prediction())
    cache.remember(cache.look(bad), METHOD, FAILURE)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(change)
    seen = cache.look(song)
    assert seen.genres in (None, ("Rock",))
    assert same(cache.recall(seen, METHOD), prediction()) or cache.recall(seen, METHOD) is None
    cache.recall(cache.look(bad), METHOD)
    cache.remember(seen, METHOD, prediction(1))
    assert cache.contents().n_files >= 2
    cache.prune_gone()
    assert same(cache.recall(cache.look(song), METHOD), prediction(1))


# --- no cache at all


def works_without(cache: PredictionCache, song: Path) -> bool:
    """Whether a cache that cannot be used says nothing more and knows nothing."""
    seen = cache.look(song)
    cache.note_genres(seen, ["Rock"])
    cache.remember(seen, METHOD, prediction())
    cache.remember(seen, METHOD, FAILURE)
    cache.rewritten(seen)
    assert not any(cache.note_refusal(seen, "the audio would change") for _ in range(2))
    known = [cache.look(song).genres, cache.recall(seen, METHOD), cache.prune_gone(), cache.prune_methods([METHOD])]
    contents = cache.contents()
    assert not cache.is_usable
    return known == [None, None, 0, 0] and (contents.n_files, contents.n_songs, contents.predictions) == (0, 0, ())


def test_a_state_folder_that_cannot_be_made(tmp_path: Path, song: Path, told: list[str]) -> None:
    (tmp_path / "file").touch()
    with PredictionCache(tmp_path / "file" / "state" / "cache.sqlite3", told.append) as cache:
        assert works_without(cache, song)
    (line,) = told
    assert "going on without it" in line and str(tmp_path / "file") in line


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("exists", [True, False])
def test_a_read_only_state_folder(exists: bool) -> None:
    state = Path(tempfile.mkdtemp())
    try:
        song = make(state / "song.mp3")
        if exists:
            with PredictionCache(cache_path(state), pytest.fail) as cache:
                cache.remember(cache.look(song), METHOD, prediction())
            for each in state.iterdir():
                each.chmod(0o444)
        state.chmod(0o555)
        process = os.fork()
        if not process:
            if os.geteuid() == 0:  # whom no mode keeps out
                os.setgid(65534)
                os.setuid(65534)
            told: list[str] = []
            with PredictionCache(cache_path(state), told.append) as cache:
                right = works_without(cache, song)
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
    with PredictionCache(path, told.append) as cache:
        cache.remember(cache.look(songs[0]), METHOD, prediction())
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        try:
            for song in songs[1:]:
                cache.remember(cache.look(song), METHOD, big)
            assert works_without(cache, songs[0])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (line,) = told
    assert "going on without it" in line
    with PredictionCache(path, pytest.fail) as cache:
        assert same(cache.recall(cache.look(songs[0]), METHOD), prediction())
        assert cache.contents().n_songs > 10


def test_a_closed_cache_knows_nothing(path: Path, song: Path) -> None:
    with PredictionCache(path, pytest.fail) as cache:
        cache.remember(cache.look(song), METHOD, prediction())
    assert works_without(cache, song)


def test_the_cache_is_for_its_owners_eyes(cache: PredictionCache, path: Path, song: Path) -> None:
    cache.remember(cache.look(song), METHOD, prediction())
    if os.name == "posix":
        assert {each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {0o600}


# --- contents and pruning


def test_contents_are_counted(cache: PredictionCache, tmp_path: Path, path: Path) -> None:
    one, two, copy, bad = (make(tmp_path / f"{n}.mp3", n % 2) for n in (0, 1, 2, 3))
    bad.write_bytes(b"bad")
    other = replace(METHOD, model="another", name="audioset", n_snippets=None)
    for song in (one, two, copy):
        cache.remember(cache.look(song), METHOD, prediction())
    cache.remember(cache.look(one), other, prediction())
    cache.remember(cache.look(bad), other, FAILURE)
    contents = cache.contents()
    assert (contents.path, contents.n_files, contents.n_songs, contents.n_failures) == (path, 4, 3, 1)
    counts = {(each.method, each.method.name, each.n_predictions) for each in contents.predictions}
    assert counts == {(METHOD, "starter", 2), (other, "audioset", 1)}
    assert all(len(each.last_used) == len("2000-01-01") for each in contents.predictions)
    assert contents.n_bytes >= path.stat().st_size > 0


def test_songs_without_a_file_can_be_forgotten(cache: PredictionCache, tmp_path: Path) -> None:
    gone, kept, moved, failed = (make(tmp_path / "library" / f"{n}.mp3", n) for n in range(4))
    for number, song in enumerate((gone, kept, moved)):
        cache.remember(cache.look(song), METHOD, prediction(number))
    cache.remember(cache.look(failed), METHOD, FAILURE)
    moved.rename(tmp_path / "new name.mp3")
    assert same(cache.recall(cache.look(tmp_path / "new name.mp3"), METHOD), prediction(2))
    gone_again = gone.read_bytes()
    gone.unlink(), failed.unlink()
    assert cache.prune_gone() == 3
    contents = cache.contents()
    assert (contents.n_files, contents.n_songs, contents.n_failures) == (2, 2, 0)
    assert same(cache.recall(cache.look(kept), METHOD), prediction(1))
    assert same(cache.recall(cache.look(tmp_path / "new name.mp3"), METHOD), prediction(2))
    gone.write_bytes(gone_again)
    assert cache.recall(cache.look(gone), METHOD) is None
    assert cache.prune_gone() == 0


def test_a_folder_that_was_removed_is_gone_a_drive_that_is_away_is_not(
    cache: PredictionCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = make(tmp_path / "mnt" / "drive" / "album" / "song.mp3")
    cache.remember(cache.look(song), METHOD, prediction())
    shutil.rmtree(tmp_path / "mnt" / "drive")
    real = cache_module._device_near
    monkeypatch.setattr(cache_module, "_device_near", lambda path: real(path) + "0")  # the disk under the mount point
    assert cache.prune_gone() == 0
    monkeypatch.undo()
    assert cache.prune_gone() == 1


def test_methods_can_be_forgotten(cache: PredictionCache, song: Path, tmp_path: Path) -> None:
    old, other = replace(METHOD, model="old"), make(tmp_path / "other.mp3", 1)
    cache.remember(cache.look(song), old, prediction(1))
    cache.remember(cache.look(song), METHOD, prediction(2))
    cache.remember(cache.look(other), old, FAILURE)
    assert cache.prune_methods([old]) == 1
    assert [each.method for each in cache.contents().predictions] == [METHOD]
    assert cache.contents().n_failures == 0
    assert cache.recall(cache.look(song), old) is None
    assert same(cache.recall(cache.look(song), METHOD), prediction(2))
    assert cache.prune_methods([replace(METHOD, model="never used")]) == 0


def test_a_forgotten_method_can_be_used_again(cache: PredictionCache, song: Path) -> None:
    cache.remember(cache.look(song), METHOD, prediction())
    cache.prune_methods([METHOD])
    cache.remember(cache.look(song), METHOD, prediction(1))
    assert [each.n_predictions for each in cache.contents().predictions] == [1]
    assert cache.prune_gone() == 0
    assert same(cache.recall(cache.look(song), METHOD), prediction(1))


def test_pruning_gives_the_room_back(cache: PredictionCache, tmp_path: Path) -> None:
    big = Prediction(
        np.random.default_rng(0).standard_normal((50, 527), np.float32), tuple(map(float, range(50))), 500.0, ""
    )
    songs = make_library(tmp_path / "library", 30)
    for song in songs:
        cache.remember(cache.look(song), METHOD, big)
    assert cache.contents().n_bytes > 3_000_000
    for song in songs[1:]:
        song.unlink()
    assert cache.prune_gone() == 29
    assert cache.contents().n_bytes < 400_000
    assert same(cache.recall(cache.look(songs[0]), METHOD), big)


def test_seen_is_a_version_of_a_file(cache: PredictionCache, song: Path) -> None:
    seen = cache.look(song)
    assert seen.is_current() and seen.identity == identify(song)
    assert Seen(str(song.with_name("gone")), seen.stamp, seen.device).identity is None
    wait_for_the_clock(song)
    os.chmod(song, 0o600)
    assert not seen.is_current() and seen.is_same_song()
    overwrite(song)
    assert not seen.is_same_song()
    song.unlink()
    assert not seen.is_current() and not seen.is_same_song()
