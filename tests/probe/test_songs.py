"""Which songs are learned from, and what is said where there are too few."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagger.errors import TagError
from tagger.evaluation.provenance import Provenance
from tagger.pipeline.predict import Prediction
from tagger.pipeline.run import SongResult
from tagger.tags.genre import Metadata
from tagger.tags.undo import Written
from training.errors import TrainingError
from training.probe import songs as songs_module
from training.probe.songs import Gathering, gather

NOBODY = Provenance({})
LIBRARY = Path("/music")


@pytest.fixture
def tags(monkeypatch: pytest.MonkeyPatch) -> dict[str, Metadata]:
    """What `read_credits` finds, by name of the file; a song that is not in it cannot be read."""
    known: dict[str, Metadata] = {}

    def read(path: Path) -> Metadata:
        if path.name not in known:
            raise TagError(path, "damaged")
        return known[path.name]

    monkeypatch.setattr(songs_module, "read_credits", read)
    return known


class Maker:
    """Makes results of songs, each of other audio."""

    def __init__(self, tags: dict[str, Metadata]) -> None:
        self.tags, self.n = tags, 0

    def __call__(
        self, *genres: str, artist: str = "", folder: str = "x", seed: int | None = None, n_snippets: int = 2
    ) -> SongResult:
        self.n += 1
        name = f"{self.n}.mp3"
        rng = np.random.default_rng(self.n if seed is None else seed)
        rows = rng.normal(size=(n_snippets, 4)).astype(np.float32)
        self.tags[name] = Metadata(genres, artist)
        prediction = Prediction(2 * rows, (0.0,) * n_snippets, 60.0, "", embeddings=rows)
        return SongResult(LIBRARY / folder / name, "kept", genres, genres, prediction=prediction)

    def many(self, genre: str, n_songs: int = 12, n_artists: int = 4) -> list[SongResult]:
        return [self(genre, artist=f"{genre} artist {index % n_artists}") for index in range(n_songs)]


@pytest.fixture
def song(tags: dict[str, Metadata]) -> Maker:
    return Maker(tags)


def test_songs_of_genres_with_enough_of_them_are_learned_from(song: Maker) -> None:
    results = [*song.many("Rock"), *song.many("hip hop"), *song.many("Polka", 12, 2), *song.many("Jazz", 9, 4)]
    gathering = gather(results, NOBODY, "canonical", LIBRARY)
    tagged = gathering.tagged()
    assert tagged.genres == ("Hip-Hop", "Rock")
    assert np.bincount(tagged.labels).tolist() == [12, 12] and len(np.unique(tagged.artists)) == 8
    assert tagged.n_artists(0) == 4 and tagged.n_nameless == 0
    np.testing.assert_allclose(tagged.logits, 2 * tagged.embeddings, rtol=1e-6)
    assert {song.seconds for song in tagged.songs} == {60.0}
    assert list(gathering.told()) == ["12 of Folk (of 2 artists)", "9 of Jazz (of 4 artists)"]


def test_under_their_own_names_the_spelling_of_most_songs_counts(song: Maker) -> None:
    results = [*song.many("Shoegaze", 11), *song.many("shoe-gaze", 5), *song.many("Soundtrack", 10)]
    assert gather(results, NOBODY, "own", LIBRARY).tagged().genres == ("Shoegaze", "Soundtrack")


def test_the_first_genre_that_is_known_counts(song: Maker) -> None:
    results = [song("Qwerty", "Rock", artist=f"a{index % 5}") for index in range(12)] + song.many("Jazz")
    assert gather(results, NOBODY, "canonical", LIBRARY).tagged().genres == ("Jazz", "Rock")
    assert gather(results, NOBODY, "own", LIBRARY).tagged().genres == ("Jazz", "Qwerty")


def test_what_this_program_wrote_does_not_count(song: Maker) -> None:
    results = [*song.many("Rock"), *song.many("Jazz"), *song.many("Blues")]
    ours = Provenance.of(Written(str(each.path), (), each.old) for each in results if each.old == ("Blues",))
    gathering = gather([*results, song()], ours, "canonical", LIBRARY)
    assert gathering.tagged().genres == ("Jazz", "Rock")
    assert list(gathering.told()) == ["12 of a genre that genre-tag wrote", "1 without a genre"]


def test_a_recording_counts_once_and_not_at_all_where_it_has_two_genres(song: Maker) -> None:
    twice = [song("Rock", artist="a", seed=1), song("Rock", artist="b", seed=1)]
    torn = [song("Rock", artist="a", seed=2), song("Jazz", artist="b", seed=2)]
    gathering = gather([*twice, *torn, *song.many("Rock"), *song.many("Jazz")], NOBODY, "canonical", LIBRARY)
    assert np.bincount(gathering.tagged().labels).tolist() == [12, 13]
    assert list(gathering.told()) == ["2 the same audio as another", "1 the same audio as another of another genre"]


def test_songs_without_an_artist_belong_to_their_folder(song: Maker, tags: dict[str, Metadata]) -> None:
    results = [song("Rock", folder=f"Artist {index % 3}/Album") for index in range(12)] + song.many("Jazz")
    del tags["1.mp3"]  # its tags cannot be read any more: it is known by its folder
    tagged = gather(results, NOBODY, "canonical", LIBRARY).tagged()
    assert tagged.n_artists(1) == 3 and tagged.n_nameless == 0


def test_of_songs_in_one_heap_nothing_tells_whose_they_are(song: Maker) -> None:
    results = [song("Rock", folder="") for _ in range(12)] + song.many("Jazz")
    tagged = gather(results, NOBODY, "canonical", LIBRARY).tagged()
    assert tagged.n_nameless == 12 and tagged.n_artists(1) == 12


def test_songs_that_could_not_be_classified_are_counted(song: Maker) -> None:
    failed = SongResult(LIBRARY / "bad.mp3", "failed", reason="cannot be decoded")
    gathering = gather([failed, *song.many("Rock"), *song.many("Jazz")], NOBODY, "own", LIBRARY)
    gathering.tagged()
    assert list(gathering.told()) == ["1 could not be classified"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda song: [], "no song has a genre that a person gave"),
        (lambda song: [song(), song()], "2 without a genre"),
        (lambda song: song.many("Rock", 40, 8), "all tagged songs are of one genre"),
        (lambda song: [*song.many("Rock", 9), *song.many("Jazz", 9)], "too few songs: it takes 10 songs of 3 artists"),
        (lambda song: [*song.many("Rock", 30, 2), *song.many("Jazz", 30)], "Rock (30 songs of 2 artists)"),
        (
            lambda song: [song(genre, artist="Bach") for genre in ("Rock", "Jazz") for _ in range(20)],
            "all tagged songs are of one artist",
        ),
    ],
)
def test_too_little_to_learn_from_is_said_in_a_line(
    song: Maker, make: Callable[[Maker], list[SongResult]], expected: str
) -> None:
    gathering = Gathering("canonical")
    for result in make(song):
        gathering.add(result, NOBODY, LIBRARY)
    with pytest.raises(TrainingError) as caught:
        gathering.tagged()
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_person_decided_outweighs_the_tag_and_who_wrote_it(song: Maker) -> None:
    results = [replace(each, identity=bytes([n]) * 32) for n, each in enumerate(song.many("Rock") + song.many("Jazz"))]
    untagged = [replace(song(artist=f"Rock artist {n}"), identity=bytes([100 + n]) * 32) for n in range(3)]
    decided = {results[0].identity: ("Jazz",), **{each.identity: ("Rock", "Pop") for each in untagged}}
    ours = Provenance.of([Written(str(results[1].path), (), ("Rock",))])
    decided[results[1].identity] = ("Rock",)  # was accepted: what the program wrote then is the person's
    decided[results[2].identity] = ("Qwerty",)
    gathering = gather([*results, *untagged], ours, "canonical", LIBRARY, decided)
    assert Counter(each.genre for each in gathering.songs) == {"Rock": 13, "Jazz": 13}
    assert gathering.n_decided == 5
    assert gathering.left_out == {"of a genre that is not known: see --genres own": 1}
