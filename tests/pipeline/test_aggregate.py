"""Aggregations against an independent restatement, and the rules by which a song gets genres or none."""

import math
from collections import Counter

import numpy as np
import pytest

from tagger.models.head import Gate, GenreHead, audioset_head
from tagger.pipeline.aggregate import AGGREGATORS, confidence_scale, confidences, decide, song_scores
from tagger.pipeline.options import DecisionPolicy

HEAD = GenreHead(("Blues", "Classical", "Rock"), "softmax", thresholds=(0.6, 0.3, math.inf))


def certain(*genres: int, n_genres: int = 3) -> np.ndarray:
    """Logits of one snippet per genre given, sure of that genre: (n_snippets, n_genres)."""
    return 8.0 * np.eye(n_genres, dtype=np.float32)[list(genres)]


def song_confidences(rows: np.ndarray, head: GenreHead, aggregate: str = "mean") -> np.ndarray:
    each = [[index] for index in range(len(head.genres))]
    return confidences(song_scores(rows, head, aggregate), each, head, aggregate)


def restated(rows: np.ndarray) -> dict[str, int]:
    """The four song-level answers, written down snippet by snippet with no array arithmetic."""
    snippets = [list(map(float, row)) for row in rows]
    n = len(snippets)
    genres = range(len(snippets[0]))

    def best_probability(row: list[float]) -> float:
        return 1.0 / sum(math.exp(value - max(row)) for value in row)

    votes = Counter(max(genres, key=lambda genre: (row[genre], -genre)) for row in snippets)
    scores = {
        "vote": [votes[genre] for genre in genres],
        "weighted": [sum(row[genre] * best_probability(row) for row in snippets) / n for genre in genres],
        "mean": [sum(row[genre] for row in snippets) / n for genre in genres],
        "max": [max(row[genre] for row in snippets) for genre in genres],
    }
    return {name: score.index(max(score)) for name, score in scores.items()}


def test_aggregators_equal_the_restatement_on_random_songs() -> None:
    random = np.random.default_rng(7)
    disagreements = 0
    for _ in range(300):
        rows = random.normal(scale=2.0, size=(random.integers(1, 31), 10)).astype(np.float32)
        answers = {name: int(aggregate(rows).argmax()) for name, aggregate in AGGREGATORS.items()}
        assert answers == restated(rows)
        disagreements += len(set(answers.values())) > 1
    assert disagreements > 50  # the songs do tell the aggregations apart


def test_a_vote_that_is_tied_falls_to_the_first_genre() -> None:
    assert AGGREGATORS["vote"](certain(2, 1)).argmax() == 1


def test_weighting_lets_sure_snippets_outweigh_hesitant_ones() -> None:
    rows = np.array([[0.0, 6.0], [2.0, 0.0], [2.0, 0.0], [2.1, 0.0]])
    assert AGGREGATORS["mean"](rows).argmax() == 0
    assert AGGREGATORS["weighted"](rows).argmax() == 1


def test_softmax_confidence_is_a_probability_of_the_mean_logits() -> None:
    rows = np.array([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0]])
    expected = np.exp([2.0, 2.0, 0.0]) / np.exp([2.0, 2.0, 0.0]).sum()
    np.testing.assert_allclose(song_confidences(rows, HEAD), expected)


def test_temperature_softens_the_mean_and_only_the_mean() -> None:
    warm = GenreHead(HEAD.genres, "softmax", temperature=2.0)
    rows = np.array([[4.0, 0.0, 0.0]])
    expected = np.exp([2.0, 0.0, 0.0]) / np.exp([2.0, 0.0, 0.0]).sum()
    np.testing.assert_allclose(song_confidences(rows, warm), expected)
    np.testing.assert_allclose(song_confidences(rows, warm, "max"), song_confidences(rows, HEAD, "max"))
    assert (
        confidence_scale(warm, "mean") == confidence_scale(warm, "max") == confidence_scale(HEAD, "mean") == "softmax"
    )
    assert confidence_scale(warm, "vote") == "share of snippets"


@pytest.mark.parametrize(
    ("temperature", "n_held_out", "is_calibrated"),
    [
        (2.0, (100, 80, 20), True), (2.0, (100, 81, 19), False), (2.0, (66, 66, 67), False), (2.0, (), False),
        (None, (100, 80, 20), False),
    ],
)  # fmt: skip
def test_calibrated_is_said_only_with_evidence(
    temperature: float | None, n_held_out: tuple[int, ...], is_calibrated: bool
) -> None:
    head = GenreHead(HEAD.genres, "softmax", temperature=temperature, n_held_out=n_held_out)
    assert (confidence_scale(head, "mean") == "calibrated") is is_calibrated
    assert confidence_scale(head, "max") == "softmax" and confidence_scale(head, "vote") == "share of snippets"


def test_huge_logits_do_not_overflow() -> None:
    with np.errstate(over="raise", invalid="raise"):
        confidences = song_confidences(np.array([[1e4, -1e4, 0.0]]), HEAD)
    np.testing.assert_array_equal(confidences, [1.0, 0.0, 0.0])


def test_a_sure_genre_is_taken() -> None:
    decision = decide(certain(0, 0), HEAD)
    assert decision.genres == ("Blues",)
    assert decision.reason == ""
    assert decision.confidence > 0.99


def test_each_genre_has_its_own_threshold() -> None:
    rows = np.array([[0.0, 0.3, 0.0]])  # Classical at 0.40
    assert decide(rows, HEAD).genres == ("Classical",)
    rows = np.array([[0.3, 0.0, 0.0]])  # Blues at 0.40
    decision = decide(rows, HEAD)
    assert decision.genres == ()
    assert decision.reason == "Blues 0.40 is below 0.60"


def test_a_silent_genre_is_written_only_when_the_user_sets_the_threshold() -> None:
    decision = decide(certain(2), HEAD)
    assert decision.genres == ()
    assert decision.reason == "Rock 1.00, not written by default"
    assert decide(certain(2), HEAD, DecisionPolicy(min_confidence=0.5)).genres == ("Rock",)


def test_a_runner_up_is_never_written_in_place_of_an_unsure_best_genre() -> None:
    rows = np.array([[0.0, 1.0, 1.1]])  # Rock, never by default, just before Classical, which would pass
    assert decide(rows, HEAD, DecisionPolicy(max_genres=3)).genres == ()


def test_several_genres_come_best_first_and_no_more_than_asked_for() -> None:
    several = GenreHead(("Blues", "Classical", "Rock"), "sigmoid", thresholds=(0.5, 0.5, 0.5))
    rows = np.array([[1.0, -3.0, 2.0]])
    assert decide(rows, several, DecisionPolicy(max_genres=3)).genres == ("Rock", "Blues")
    assert decide(rows, several, DecisionPolicy(max_genres=1)).genres == ("Rock",)


def test_names_merge_genres_and_add_their_probabilities() -> None:
    rows = np.log(np.array([[0.4, 0.25, 0.35]]))
    names = {"Blues": "Roots", "Rock": "Roots"}
    decision = decide(rows, HEAD, DecisionPolicy(min_confidence=0.7, names=names))
    assert decision.genres == ("Roots",)
    assert decision.ranking[0][1] == pytest.approx(0.75)
    assert (
        decide(rows, HEAD, DecisionPolicy(names=names)).genres == ()
    )  # the strictest threshold of the two holds: never


def test_names_merge_to_the_surest_genre_where_genres_do_not_exclude_each_other() -> None:
    several = GenreHead(("Blues", "Rock"), "sigmoid")
    assert decide(np.array([[1.0, 2.0]]), several, DecisionPolicy(names={"Blues": "Rock"})).ranking == (
        ("Rock", pytest.approx(1 / (1 + math.exp(-2.0)))),
    )


def test_a_dropped_genre_leaves_the_song_unsure_whatever_the_threshold() -> None:
    decision = decide(certain(0), HEAD, DecisionPolicy(min_confidence=0.0, names={"Blues": ""}))
    assert decision.genres == ()
    assert decision.reason == "Blues 1.00, dropped by the map"


def audioset_logits(**columns: float) -> np.ndarray:
    logits = np.full((2, 527), -6.0, np.float32)
    logits[:, 137] = 3.0  # Music
    for column, value in columns.items():
        logits[:, int(column[1:])] = value
    return logits


def test_audioset_answers_with_the_group_of_its_strongest_label() -> None:
    head = audioset_head()
    assert head.bias is not None
    lead = 3.0 - head.bias[241] + head.bias[216]
    decision = decide(audioset_logits(_241=1.0, _216=-2.0), head, DecisionPolicy(min_confidence=0.9))
    assert decision.genres == ("Electronic",)  # 241 is Techno
    assert decision.ranking[0][1] == pytest.approx(1 / (1 + math.exp(-lead)))  # the lead over Pop
    assert len(decision.ranking) == 20


def test_audioset_bias_is_taken_off_before_groups_are_compared() -> None:
    head = audioset_head()
    bias = [0.0] * 527
    bias[241] = 4.0
    biased = GenreHead(**{**vars(head), "bias": tuple(bias)})
    assert (
        decide(audioset_logits(_241=1.0, _216=-2.0), biased, DecisionPolicy(min_confidence=0.5)).ranking[0][0] == "Pop"
    )


@pytest.mark.parametrize(("music", "speech"), [(-2.0, -6.0), (1.0, 2.0)])
def test_audioset_gate_turns_noise_and_speech_into_unsure(music: float, speech: float) -> None:
    decision = decide(
        audioset_logits(_241=5.0, _137=music, _0=speech), audioset_head(), DecisionPolicy(min_confidence=0.0)
    )
    assert decision.genres == ()
    assert decision.reason.startswith("not music")


def test_audioset_votes_add_up_over_the_labels_of_a_group() -> None:
    logits = audioset_logits(_241=1.0)
    logits[1, 243] = 2.0  # Techno, then Drum and bass: both Electronic
    decision = decide(logits, audioset_head(), DecisionPolicy(aggregate="vote", min_confidence=0.9))
    assert decision.ranking[0] == ("Electronic", 1.0)


def test_gate_is_optional_and_per_head() -> None:
    gated = GenreHead(("A", "B", "C"), "softmax", gate=Gate(music=0, speech=1))
    assert decide(certain(2), gated).genres == ("C",)  # sigmoid(0) = .5 passes
    assert decide(certain(1), gated).reason.startswith("not music")


def test_merged_genres_lead_over_the_others_not_over_each_other() -> None:
    head = GenreHead(("Rock", "Metal", "Jazz"), "margin", thresholds=(0.8, 0.8, 0.8))
    rows = np.array([[3.0, 2.9, -6.0]])
    assert decide(rows, head).genres == ()
    assert decide(rows, head, DecisionPolicy(names={"Metal": "Rock"})).genres == ("Rock",)


def test_a_name_given_to_one_genre_is_not_dropped_with_the_genre_of_that_name() -> None:
    names = {"Rock": "Blues", "Blues": ""}
    assert decide(certain(2), HEAD, DecisionPolicy(min_confidence=0.5, names=names)).genres == ("Blues",)
    assert decide(certain(0), HEAD, DecisionPolicy(min_confidence=0.5, names=names)).genres == ()


def test_hesitant_snippets_do_not_raise_the_confidence_of_unlikely_genres() -> None:
    several = GenreHead(tuple(f"G{index}" for index in range(50)), "sigmoid")
    rows = np.full((3, 50), -6.0)
    np.testing.assert_allclose(
        song_confidences(rows, several, "weighted"), song_confidences(rows, several, "mean"), atol=1e-12
    )
