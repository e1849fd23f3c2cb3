"""What the model said before: its scores as the product decides, and the layer that gives them."""

import numpy as np
import pytest

from tagger.models.head import GenreHead, audioset_head
from tagger.pipeline.aggregate import softmax, song_scores
from training.probe.base import Base

RNG = np.random.default_rng(0)


def some(head: GenreHead, n_outputs: int, learned: tuple[str, ...]) -> Base:
    return Base.of(head, RNG.normal(size=(n_outputs, 6)), RNG.normal(size=n_outputs), learned)


HEADS = [
    (GenreHead(("Rock", "Jazz", "Pop"), "softmax", temperature=1.7), 3),
    (GenreHead(("Rock", "Jazz", "Pop"), "softmax", bias=(0.3, -0.2, 1.0)), 3),
    (GenreHead(("Rock", "Jazz"), "margin", members=((0, 2), (1,)), temperature=0.5), 4),
    (audioset_head(), 527),
]


@pytest.mark.parametrize(("head", "n_outputs"), HEADS)
def test_scores_are_those_that_songs_are_decided_by(head: GenreHead, n_outputs: int) -> None:
    logits = RNG.normal(size=(20, n_outputs))
    found = some(head, n_outputs, ("Rock", "Jazz")).scores(logits)
    expected = np.stack([song_scores(row[None], head) for row in logits])
    np.testing.assert_allclose(softmax(found), softmax(expected), atol=1e-9)


@pytest.mark.parametrize(("head", "n_outputs"), HEADS)
def test_the_layer_of_a_genre_gives_its_scores(head: GenreHead, n_outputs: int) -> None:
    base, embeddings = some(head, n_outputs, ("Rock", "Jazz")), RNG.normal(size=(20, 6))
    scores = base.scores(embeddings @ base.weight.T + base.bias)
    for genre in range(len(head.genres)):
        weight, bias = base.layer_of(genre)
        np.testing.assert_allclose((embeddings @ weight.T + bias).max(axis=1), scores[:, genre], atol=1e-9)


def test_a_genre_is_one_of_the_models_by_its_name_or_as_a_kind_of_it() -> None:
    head = GenreHead(("Rock", "Hip-Hop", "Electronic", "Jazz"), "softmax")
    base = some(head, 4, ("hip hop", "Drum & Bass", "Indie Rock", "Soundtrack of a game", "Rap"))
    assert base.parents == (1, 2, 0, None, 1)
    assert base.others == (3,)


def test_what_the_model_does_not_know_scores_nothing() -> None:
    base = some(GenreHead(("Rock", "Jazz", "Pop"), "softmax"), 3, ("Qwerty", "Jazz"))
    logits = RNG.normal(size=(5, 3))
    prior = base.prior(logits)
    assert prior.shape == (5, 4) and (prior[:, 0] == 0).all()
    np.testing.assert_array_equal(prior[:, 1:], base.scores(logits)[:, [1, 0, 2]])
