"""Songs that are classified again come back in their place, with all that was classified of them."""

from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np
import pytest

from tagger.audio.decode import Wanted
from tagger.audio.workers import Failure
from tagger.pipeline.predict import Prediction
from tagger.pipeline.rounds import Answer, RoundItem, predict_in_rounds

STARTS = {2: (20.0, 40.0), 5: (10.0, 20.0, 30.0, 40.0, 50.0)}


class Ear:
    """Classifies each wanted snippet as its start, `delay` songs later than it is asked to; notes what it is asked."""

    def __init__(self, delay: int = 3) -> None:
        self.delay = delay
        self.asked: list[Wanted | None] = []
        self.n_rounds = 0

    def __call__(
        self, songs: Iterable[tuple[RoundItem, Wanted | None]]
    ) -> Generator[tuple[RoundItem, Answer], None, None]:
        self.n_rounds += 1
        late: list[tuple[RoundItem, Wanted | None]] = []
        for song, wanted in songs:
            self.asked.append(wanted)
            late.append((song, wanted))
            if len(late) > self.delay:
                yield self.answer(*late.pop(0))
        for each in late:
            yield self.answer(*each)

    def answer(self, song: RoundItem, wanted: Wanted | None) -> tuple[RoundItem, Answer]:
        if wanted is None:
            return song, None
        if wanted.path.name == "broken" or (wanted.path.name == "breaks" and wanted.n_snippets == 5):
            return song, Failure("broken")
        starts = [start for start in STARTS[wanted.n_snippets or 0] if start not in wanted.without]
        rows = np.float32([[start] for start in starts])
        return song, Prediction(rows, tuple(starts), 70.0, "", embeddings=10 * rows)


def more_of(*names: str, without: tuple[float, ...] = STARTS[2]):  # type: ignore[no-untyped-def]
    def want_more(wanted: Wanted, prediction: Prediction) -> Wanted | None:
        again = wanted.n_snippets == 2 and wanted.path.name in names
        return Wanted(wanted.path, 5, without) if again else None

    return want_more


def predict(names: str, ear: Ear, want_more) -> dict[str, Answer]:  # type: ignore[no-untyped-def]
    songs = ((name, None if name == "-" else Wanted(Path(name), 2)) for name in names.split())
    round_items = list(predict_in_rounds(songs, ear, want_more))
    assert [round_item.item for round_item in round_items] == names.split()
    return {round_item.item: round_item.answer for round_item in round_items}


@pytest.mark.parametrize("delay", [0, 1, 3, 100])
@pytest.mark.parametrize("again", ["", "a", "f", "a c f", "a b c d e f"])
def test_songs_keep_their_order_and_their_snippets(delay: int, again: str) -> None:
    for name, prediction in predict("a b c - broken d e f", Ear(delay), more_of(*again.split())).items():
        if name == "-":
            assert prediction is None
        elif name == "broken":
            assert prediction == Failure("broken")
        else:
            assert isinstance(prediction, Prediction)
            assert prediction.starts_seconds == STARTS[5 if name in again.split() else 2]
            assert prediction.logits.ravel().tolist() == list(prediction.starts_seconds)
            np.testing.assert_array_equal(prediction.embeddings, 10 * prediction.logits)


def test_a_song_classified_again_goes_before_those_that_wait_and_classifies_only_the_rest() -> None:
    ear = Ear(delay=1)
    predict("a b c d", ear, more_of("a"))
    assert [(wanted.path.name, wanted.n_snippets) for wanted in ear.asked if wanted] == [
        ("a", 2), ("b", 2), ("a", 5), ("c", 2), ("d", 2)
    ]  # fmt: skip
    assert ear.asked[2] == Wanted(Path("a"), 5, STARTS[2])
    assert ear.n_rounds == 1


def test_the_last_songs_have_a_round_of_their_own() -> None:
    ear = Ear(delay=100)
    predict("a b c", ear, more_of("b", "c"))
    assert ear.n_rounds == 2


def test_a_second_prediction_of_everything_replaces_the_first() -> None:
    prediction = predict("a", Ear(), more_of("a", without=()))["a"]
    assert isinstance(prediction, Prediction) and prediction.starts_seconds == STARTS[5]


@pytest.mark.parametrize("without", [STARTS[2], ()])
def test_a_second_round_that_fails_leaves_the_first_and_says_so(without: tuple[float, ...]) -> None:
    prediction = predict("breaks a", Ear(), more_of("breaks", without=without))["breaks"]
    assert isinstance(prediction, Prediction) and prediction.failure == Failure("broken")
    assert prediction.starts_seconds == STARTS[2] and prediction.logits.ravel().tolist() == list(STARTS[2])


def test_songs_are_done_while_others_still_come_in() -> None:
    taken = 0

    def songs():  # type: ignore[no-untyped-def]
        nonlocal taken
        for number in range(3000):
            taken += 1
            yield number, Wanted(Path("a" if number % 3 else "b"), 2)

    for round_item in predict_in_rounds(songs(), Ear(5), more_of("a")):
        assert taken - round_item.item <= 20
