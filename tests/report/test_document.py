"""The data of reports."""

import numpy as np

from tagger.report.document import Matrix


def test_a_folded_confusion_keeps_the_genres_of_the_most_songs_and_every_song() -> None:
    counts = np.array([[5, 1, 2, 0], [0, 0, 1, 0], [3, 0, 9, 1]])
    matrix = Matrix("m", "Title", ("Rock", "Polka", "Jazz"), ("Rock", "Fado", "Jazz", "unsure"), counts, "Note")
    folded = matrix.folded(2)
    assert folded.references == ("Rock", "Jazz", "1 other references")
    assert folded.predicted == ("Rock", "Jazz", "2 other predictions")
    assert folded.counts.tolist() == [[5, 2, 1], [3, 9, 1], [0, 1, 0]]
    assert (folded.key, folded.title, folded.note) == ("m", "Title", "Note")
    assert matrix.folded(4) is matrix


def test_a_side_that_has_room_is_left_as_it_is() -> None:
    matrix = Matrix("m", "m", ("a", "b"), ("a", "b", "c"), np.array([[1, 0, 0], [0, 2, 3]]))
    folded = matrix.folded(2)
    assert folded.references == ("b", "1 other references")
    assert folded.predicted == ("b", "c", "1 other predictions")
    assert folded.counts.tolist() == [[2, 3, 0], [0, 0, 1]]
