import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tagger.models import engine
from tagger.models.engine import Choice, cached_result, decode_seconds, fastest

FP32, BF16 = Choice("fp32", 2), Choice("bf16", 2)


class Clock:
    """A clock that engines turn on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Paced:
    """An engine that takes so long, in turns; the last again and again."""

    def __init__(self, clock: Clock, *seconds: float) -> None:
        self.clock, self.seconds = clock, iter([*seconds, *[seconds[-1]] * engine.N_TURNS])

    def embed(self, snippets: np.ndarray) -> np.ndarray:
        self.clock.now += next(self.seconds)
        return np.zeros((len(snippets), 1))


@pytest.mark.parametrize(
    ("fp32", "bf16", "best"),
    [
        ([1.0], [0.5], BF16),
        ([1.0], [1.8], FP32),  # as on processors that have the instructions and gain nothing by them
        ([1.0], [0.95], FP32),  # too little to give digits up for
        ([1.0], [0.8], BF16),
        ([1.0], [9.0, 0.5], BF16),  # the first one allocates
        ([1.0], [9.0, 0.5, 7.0, 7.0, 7.0, 7.0], BF16),  # other programs took the cores
    ],
)
def test_the_fastest_wins(fp32: list[float], bf16: list[float], best: Choice) -> None:
    clock = Clock()
    seconds = {FP32: fp32, BF16: bf16}
    timing = fastest([FP32, BF16], lambda choice: Paced(clock, *seconds[choice]), lambda _: np.zeros((4, 1)), clock)
    assert timing.choice == best
    assert timing.snippets_per_second == pytest.approx(4 / min(seconds[best]))
    assert timing.told.startswith("fp32 on 2 threads 4/s, bf16 on 2 threads ")


def test_seconds_of_the_processor_are_those_of_all_threads_together() -> None:
    clock, choices = Clock(), [Choice("fp32", 2), Choice("fp32", 4)]
    seconds = dict(zip(choices, (2.0, 5.0), strict=True))  # as where two threads share a core
    build = partial(lambda choice: Paced(clock, seconds[choice]))
    timing = fastest(choices, build, lambda choice: np.zeros((choice.n_threads, 1)), clock, is_of_processor=True)
    assert timing.choice.n_threads == 4 and timing.snippets_per_second == pytest.approx(4 / (5 / 4))


def counted() -> Iterator[dict[str, int]]:
    yield from ({"value": number} for number in range(1000))


def test_what_was_measured_is_remembered_by_its_key(tmp_path: Path) -> None:
    values = counted()
    measure = values.__next__
    assert [cached_result(key, measure, tmp_path)["value"] for key in "aabab"] == [0, 0, 1, 0, 1]


def test_the_oldest_are_forgotten(tmp_path: Path) -> None:
    for number in range(engine.MOST_KEPT + 5):
        cached_result(str(number), lambda: {"value": 1}, tmp_path)
    kept = json.loads((tmp_path / engine.FILE).read_text())
    assert list(kept) == [str(number) for number in range(5, engine.MOST_KEPT + 5)]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 3}', "\xff"])
def test_a_file_that_was_spoilt_is_written_again(tmp_path: Path, content: str) -> None:
    (tmp_path / engine.FILE).write_text(content, encoding="latin-1")
    values = counted()
    assert [cached_result("a", values.__next__, tmp_path)["value"] for _ in range(2)] == [0, 0]


def test_where_nothing_can_be_kept_every_run_measures(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    values = counted()
    assert [cached_result("a", values.__next__, tmp_path / "file")["value"] for _ in range(2)] == [0, 1]


def test_decoding_takes_longer_the_longer_a_snippet_is() -> None:
    assert 0 < decode_seconds(16_000) < decode_seconds(160_000) < 1
