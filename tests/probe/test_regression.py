"""The regression against scikit-learn's, and what it is to do where there is little to learn from."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tagger.pipeline.aggregate import softmax
from training.probe.regression import fit_linear, minimize


def songs(n_songs: int = 300, width: int = 12, n_genres: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_genres, n_songs)
    centres = rng.normal(0, 1, (n_genres, width))
    scales = 10.0 ** rng.integers(-2, 3, width)  # embeddings are not standardised
    return (centres[labels] + rng.normal(0, 1.5, (n_songs, width))) * scales + 7, labels


@pytest.mark.parametrize("shrinkage", [3.0, 100.0])
def test_it_is_the_regression_of_scikit_learn(shrinkage: float) -> None:
    embeddings, labels = songs()
    found = softmax(fit_linear(embeddings, labels, 4, shrinkage).logits(embeddings))
    columns = (embeddings - embeddings.mean(axis=0)) / embeddings.std(axis=0)
    expected = LogisticRegression(C=1 / shrinkage, max_iter=1000, tol=1e-8).fit(columns, labels).predict_proba(columns)
    np.testing.assert_allclose(found, expected, atol=0.02)  # the bias is shrunk a little here
    assert np.abs(found - 0.25).max() > 0.3


def test_what_is_added_to_an_offset_is_what_the_offset_lacks() -> None:
    embeddings, labels = songs()
    whole = fit_linear(embeddings, labels, 4, 3.0)
    rest = fit_linear(embeddings, labels, 4, 3.0, offset=whole.logits(embeddings))
    both = rest.logits(embeddings) + whole.logits(embeddings)
    assert np.abs(rest.logits(embeddings)).mean() < np.abs(both).mean() / 3
    loss = [-np.log(softmax(each)[np.arange(300), labels]).mean() for each in (whole.logits(embeddings), both)]
    assert loss[1] <= loss[0]


def test_a_column_that_never_changes_and_a_genre_without_songs_do_no_harm() -> None:
    embeddings, labels = songs(n_genres=3)
    embeddings[:, 0] = 5.0
    found = fit_linear(embeddings, labels, 4, 3.0)
    assert np.isfinite(found.weight).all() and np.isfinite(found.bias).all()
    assert (found.logits(embeddings).argmax(axis=1) != 3).all()


def test_more_shrinkage_means_less_certainty() -> None:
    embeddings, labels = songs()
    sure = [softmax(fit_linear(embeddings, labels, 4, each).logits(embeddings)).max(axis=1).mean() for each in (1, 1e6)]
    assert sure[0] > 0.5 > sure[1]


def test_the_least_of_a_valley_is_found() -> None:
    curvature = np.array([1.0, 4.0, 30.0])

    def valley(at: np.ndarray) -> tuple[float, np.ndarray]:
        return float((curvature * (at - 3) ** 2).sum()), 2 * curvature * (at - 3)

    np.testing.assert_allclose(minimize(valley, np.zeros(3)), [3.0, 3.0, 3.0], atol=0.05)
