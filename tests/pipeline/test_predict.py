"""Flatten, batch, regroup: with a model that can be checked by hand."""

import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from threading import Event

import numpy as np
import pytest

from tagger.audio.decode import Snippets
from tagger.audio.workers import MOST_WAITING, Failure
from tagger.errors import ModelError
from tagger.models.engine import Outputs
from tagger.pipeline.predict import Prediction, predict

N_SAMPLES = 4


class FakeModel:
    """Answers each snippet with its own first two samples, so that every row can be traced to its snippet."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def logits(self, waveforms: np.ndarray) -> np.ndarray:
        assert waveforms.shape[1:] == (N_SAMPLES,) and waveforms.dtype == np.int16
        self.batches.append(len(waveforms))
        return waveforms[:, :2].astype(np.float32)

    def outputs(self, waveforms: np.ndarray) -> Outputs:
        return Outputs(self.logits(waveforms), waveforms[:, :2] + np.float32([[10, 20]]))


def song(number: int, n_snippets: int) -> Snippets:
    waveforms = np.zeros((n_snippets, N_SAMPLES), np.int16)
    waveforms[:, 0] = number
    waveforms[:, 1] = np.arange(n_snippets)
    return Snippets(waveforms, tuple(float(i) for i in range(n_snippets)), 60.0, "" if n_snippets else "silent")


def parts(whole: Snippets, n_together: int, instead: bool = False) -> Iterator[Snippets]:
    """The song in parts, the first of which may take the place of what came before."""
    for start in range(0, len(whole.samples), n_together):
        rows = slice(start, start + n_together)
        more = start + n_together < len(whole.samples)
        samples, starts = whole.samples[rows], whole.starts_seconds[rows]
        yield Snippets(samples, starts, whole.duration_seconds, "", more, instead and not start)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_songs_in_parts_are_answered_whole(batch_size: int) -> None:
    sizes = np.random.default_rng(3).integers(1, 40, size=50).tolist()
    stream = [(n, part) for n, size in enumerate(sizes) for part in parts(song(n, size), 1 + n % 9)]
    answers = list(predict(iter(stream), FakeModel(), batch_size))
    assert [item for item, _ in answers] == list(range(50))
    for number, prediction in answers:
        assert isinstance(prediction, Prediction) and len(prediction.starts_seconds) == sizes[number]
        np.testing.assert_array_equal(prediction.logits[:, 0], number)
        np.testing.assert_array_equal(prediction.logits[:, 1], np.arange(sizes[number]))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_parts_instead_of_those_before(batch_size: int) -> None:
    first = replace(next(parts(song(7, 5), 9)), more=True)
    stream = [(0, song(0, 2)), (1, first), *((1, part) for part in parts(song(1, 4), 3, instead=True)), (2, song(2, 1))]
    answers = dict(predict(iter(stream), FakeModel(), batch_size))
    assert [row[0] for row in answers[1].logits] == [1, 1, 1, 1] and answers[1].starts_seconds == (0, 1, 2, 3)
    assert list(answers) == [0, 1, 2] and len(answers[0].logits) == 2 and len(answers[2].logits) == 1


def test_a_song_that_fails_after_some_parts_fails() -> None:
    failure = Failure("broken")
    first = replace(next(parts(song(1, 5), 9)), more=True)
    answers = list(predict(iter([(1, first), (1, failure), (2, song(2, 1))]), FakeModel(), 2))
    assert answers[0] == (1, failure) and answers[1][0] == 2


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_every_row_comes_back_to_its_song_in_order(batch_size: int) -> None:
    random = np.random.default_rng(3)
    sizes = random.integers(0, 12, size=200).tolist()
    model = FakeModel()
    answers = list(predict(((n, song(n, size)) for n, size in enumerate(sizes)), model, batch_size))
    assert [item for item, _ in answers] == list(range(200))
    for number, prediction in answers:
        assert isinstance(prediction, Prediction)
        assert len(prediction.logits) == sizes[number]
        if sizes[number]:
            np.testing.assert_array_equal(prediction.logits[:, 0], number)
            np.testing.assert_array_equal(prediction.logits[:, 1], np.arange(sizes[number]))
            np.testing.assert_array_equal(prediction.embeddings, prediction.logits + np.float32([[10, 20]]))
        else:
            assert prediction.embeddings is None
    assert set(model.batches[:-1]) <= {batch_size}  # every batch but the last is full
    assert sum(model.batches) == sum(sizes)


def test_failures_and_songs_that_are_not_classified_keep_their_place() -> None:
    items = [("a", song(1, 2)), ("b", Failure("broken")), ("c", None), ("d", song(2, 0)), ("e", song(3, 1))]
    answers = list(predict(iter(items), FakeModel(), 64))
    assert [item for item, _ in answers] == list("abcde")
    assert answers[1][1] == Failure("broken")
    assert answers[2][1] is None
    silent = answers[3][1]
    assert isinstance(silent, Prediction) and silent.unsure == "silent"


def test_results_stream_out_while_songs_still_come_in() -> None:
    taken = 0

    def songs() -> Iterator[tuple[int, Snippets]]:
        nonlocal taken
        for number in range(3000):
            taken += 1
            yield number, song(number, 5)

    for number, _ in predict(songs(), FakeModel(), 16):
        assert taken - number <= 9  # of two batches of 16, one classified and one filled, with songs of 5 snippets
    assert taken == 3000


def test_a_batch_is_filled_while_another_is_classified() -> None:
    is_next_asked_for = Event()

    class Busy(FakeModel):
        def logits(self, waveforms: np.ndarray) -> np.ndarray:
            assert is_next_asked_for.wait(30)
            return super().logits(waveforms)

    def songs() -> Iterator[tuple[int, Snippets]]:
        yield 0, song(0, 4)
        is_next_asked_for.set()
        yield 1, song(1, 4)

    assert [number for number, _ in predict(songs(), Busy(), 4)] == [0, 1]


def test_what_is_wrong_with_the_model_ends_the_run() -> None:
    class Broken(FakeModel):
        def logits(self, waveforms: np.ndarray) -> np.ndarray:
            raise ModelError("ast", "too large")

    with pytest.raises(ModelError, match="too large"):
        list(predict(((n, song(n, 5)) for n in range(30)), Broken(), 16))


def test_a_song_that_waits_for_a_full_batch_does_not_hold_up_all_behind_it() -> None:
    taken = 0

    def songs() -> Iterator[tuple[int, Snippets | None]]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            if taken > MOST_WAITING:  # by now a batch is classified: give its thread a turn, however busy the machine
                time.sleep(0.002)
            yield number, None if number else song(0, 3)

    next(iter(predict(songs(), FakeModel(), 64)))
    assert taken < 2 * MOST_WAITING


def test_scores_that_are_not_finite_fail_the_song_and_no_other() -> None:
    class Overflowing(FakeModel):
        def logits(self, waveforms: np.ndarray) -> np.ndarray:
            rows = super().logits(waveforms)
            rows[waveforms[:, 0] == 1] = np.nan
            return rows

    answers = dict(predict(((n, song(n, 3)) for n in range(3)), Overflowing(), 4))
    assert isinstance(answers[1], Failure) and "finite" in answers[1].reason
    assert isinstance(answers[0], Prediction) and isinstance(answers[2], Prediction)


def test_memory_does_not_grow_with_the_library() -> None:
    def peak_bytes(n_songs: int) -> int:
        def songs() -> Iterator[tuple[int, Snippets]]:
            for number in range(n_songs):
                yield number, song(number, 1000)  # 16 kB

        tracemalloc.start()
        try:
            assert sum(1 for _ in predict(songs(), FakeModel(), 4096)) == n_songs
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak_bytes(50)
    assert peak_bytes(1000) < 2 * few  # of 800 kB and 16 MB
