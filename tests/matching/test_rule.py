"""The rule that turns the teachers' answers into genres."""

import numpy as np
import pytest

from tagger.models.head import audioset_genres
from training.matching.rule import LEAST, Rule, fcn_scores, mn04_scores, targets
from training.starter.labels import GENRES
from training.teachers.musicnn import TAGS

NAMES = list(GENRES)
PLAIN = Rule(np.zeros(len(NAMES)), 1.0, np.zeros(len(NAMES)), 1.0)


def answers(genre: str, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Of mn04 and FCN-MSD to one snippet: one class of a genre, and one tag, stand out."""
    mn04, fcn = np.full((1, 527), -6.0), np.full((1, len(TAGS)), -6.0)
    mn04[0, audioset_genres()["canonical"][genre][-1]] = 6.0
    fcn[0, TAGS.index(tag)] = 6.0
    return mn04, fcn


def test_a_genre_is_as_likely_as_its_likeliest_class() -> None:
    mn04, fcn = answers("Jazz", "heavy metal")
    assert NAMES[int(mn04_scores(mn04)[0].argmax())] == "Jazz"
    assert NAMES[int(fcn_scores(fcn)[0].argmax())] == "Metal"
    assert fcn_scores(fcn)[0, NAMES.index("Classical")] == LEAST  # it has no tag for it


def test_both_teachers_count_alike() -> None:
    mn04, fcn = answers("Jazz", "metal")
    probabilities = PLAIN.genres(mn04, fcn)[0]
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities[NAMES.index("Jazz")] == pytest.approx(0.5, abs=0.01)
    assert probabilities[NAMES.index("Metal")] == pytest.approx(0.5, abs=0.01)


def test_the_bias_of_a_genre_makes_it_likelier() -> None:
    mn04, fcn = np.zeros((1, 527)), np.zeros((1, len(TAGS)))
    biased = Rule(np.eye(len(NAMES))[3] * 2, 1.0, np.zeros(len(NAMES)), 1.0)
    assert biased.genres(mn04, fcn)[0].argmax() == 3


def test_the_rule_that_is_here_names_what_both_teachers_say() -> None:
    rule = Rule.read()
    for genre, tag in (("Jazz", "jazz"), ("Metal", "metal"), ("Country", "country"), ("Hip-Hop", "Hip-Hop")):
        assert NAMES[int(rule.genres(*answers(genre, tag))[0].argmax())] == genre


def test_targets_are_surer_and_less_often_of_what_is_frequent() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.linspace(0.2, 3, len(NAMES)), 400)
    is_music = np.arange(400) < 300
    found = targets(probabilities, is_music)
    assert found.sum(axis=1) == pytest.approx(np.ones(400))
    assert found[300:] == pytest.approx(np.full((100, len(NAMES)), 1 / len(NAMES)))
    music, theirs = found[is_music], probabilities[is_music]
    assert music.max(axis=1).mean() > 1.2 * theirs.max(axis=1).mean()
    named = [np.bincount(rows.argmax(axis=1), minlength=len(NAMES)) for rows in (music, theirs)]
    assert named[0][-1] < named[1][-1]  # the most frequent
