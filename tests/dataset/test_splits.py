"""Who belongs together, who goes where, and what is said of it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from training.dataset.songs import LabelledSong
from training.dataset.splits import (
    MOST_IN_FOLDER,
    SPLITS,
    audit_splits,
    balance_songs,
    crossing,
    crossing_songs,
    group_songs,
    split_groups,
)

SHARES = (70.0, 15.0, 15.0)


def song(
    artist: str = "", album: str = "", album_artist: str = "", folder: str = "", genre: str = "Pop", path: str = ""
):
    return LabelledSong(Path(path or f"{folder or 'music'}/{artist}.flac"), genre, artist, album, album_artist, folder)


def groups(*songs: LabelledSong, duplicates: tuple = ()) -> tuple[str, ...]:
    return group_songs({str(i): each for i, each in enumerate(songs)}, duplicates).groups


def are_together(*songs: LabelledSong) -> bool:
    return len(set(groups(*songs))) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Beatles", "beatles"),
        ("Beatles, The", "The Beatles"),
        ("Beyoncé", "BEYONCE feat. Jay-Z"),
        ("Beyoncé (ft. Jay-Z)", "Beyoncé"),
        ("Simon & Garfunkel", "Simon and Garfunkel"),
        ("AC/DC", "ACDC"),
        ("One; Two", "One"),
        ("!!!", "!!!"),
    ],
)
def test_spellings_of_an_artist_are_one_artist(one: str, other: str) -> None:
    assert are_together(song(one), song(other))


@pytest.mark.parametrize(
    ("one", "other"), [("Queen", "Queens"), ("!!!", "???"), ("Featherstone", "Feat"), ("", ""), ("Unknown", "Unknown")]
)
def test_other_names_are_other_artists(one: str, other: str) -> None:
    assert not are_together(song(one), song(other))


def test_the_albums_artist_outweighs_the_songs() -> None:
    assert are_together(song("Guest", "LP", "Host"), song("Host"))
    assert not are_together(song("Guest", "LP", "Host"), song("Guest"))


@pytest.mark.parametrize("nobody", ["Various Artists", "VA", "various", "Unknown Artist", "Verschiedene Interpreten"])
def test_a_compilation_holds_nothing_together(nobody: str) -> None:
    one, other, elsewhere = song("One", "Hits", nobody), song("Other", "Hits", nobody), song("One", "LP")
    assert not are_together(one, other)
    assert are_together(one, elsewhere)


def test_an_album_with_guests_belongs_to_its_artist() -> None:
    guest = song("Guest", "LP", path="LP/g.flac")
    own = [song("Host", "LP", path=f"LP/{i}.flac") for i in range(2)]
    assert are_together(guest, *own, song("Host", path="x/other.flac"))


def test_an_album_of_many_artists_is_a_compilation_even_if_it_is_not_called_one() -> None:
    songs = [song(name, "Hits", path=f"Hits/{name}.flac") for name in "ABCD"]
    assert len(set(groups(*songs))) == 4


def test_albums_of_one_name_are_not_one_album() -> None:
    first = song("A", "Greatest Hits", path="a/1.flac")
    assert not are_together(first, song("B", "Greatest Hits", path="b/1.flac"))


def test_without_an_artist_the_album_and_then_the_folder_tell() -> None:
    assert are_together(song(album="LP", path="x/1.flac"), song(album="LP", path="x/2.flac"))
    assert not are_together(song(album="LP", path="x/1.flac"), song(album="LP", path="y/2.flac"))
    assert are_together(song(folder="x", path="x/1.flac"), song(folder="x", path="x/2.flac"))
    assert not are_together(song(folder="x", path="x/1.flac"), song("Somebody", folder="x"))


def test_a_heap_is_nobodys_folder() -> None:
    heap = [song(folder="x", path=f"x/{i}.flac") for i in range(MOST_IN_FOLDER + 1)]
    assert len(set(groups(*heap))) == len(heap)
    assert len(set(groups(*heap[:-1]))) == 1


def test_duplicates_tie_groups_together_through_others() -> None:
    songs = [song("A"), song("B"), song("C"), song("B", path="other.flac"), song("D")]
    found = groups(*songs, duplicates=(("0", "1"), ("3", "2")))
    assert len(set(found[:4])) == 1 and found[4] != found[0]


# Sharing out


def shares_of(genres: list[str], splits: list[str]) -> dict[str, list[float]]:
    counts, totals = Counter(zip(genres, splits, strict=True)), Counter(genres)
    return {genre: [counts[genre, split] / totals[genre] for split in SPLITS] for genre in totals}


def test_groups_stay_whole_and_genres_are_shared_out_as_asked() -> None:
    rng = np.random.default_rng(0)
    artists = [f"artist {number}" for number in rng.zipf(1.5, 2000) % 200]
    main = rng.integers(0, 8, 200)
    genres = [f"genre {main[int(artist.split()[1])] if rng.random() < 0.9 else rng.integers(8)}" for artist in artists]
    largest = {
        genre: max(Counter(a for a, g in zip(artists, genres, strict=True) if g == genre).values()) for genre in genres
    }
    splits = split_groups(genres, artists, SHARES, seed=0)
    assert not crossing({split: [a for a, s in zip(artists, splits, strict=True) if s == split] for split in SPLITS})
    for genre, shares in shares_of(genres, splits).items():
        wanted = (0.7, 0.15, 0.15)
        unavoidable = max(0, largest[genre] / genres.count(genre) - 0.7)
        assert shares == pytest.approx(wanted, abs=unavoidable + 0.06), genre


def test_without_ties_the_shares_are_met_to_the_song() -> None:
    genres = [f"genre {i % 10}" for i in range(1000)]
    splits = split_groups(genres, [str(i) for i in range(1000)], SHARES, seed=3)
    assert all(shares == [0.7, 0.15, 0.15] for shares in shares_of(genres, splits).values())


def test_three_groups_are_enough_for_three_splits_the_largest_to_learn_from() -> None:
    genres = ["a"] * 12 + ["b"] * 9
    artists = ["x"] * 10 + ["y", "z"] + ["p"] * 3 + ["q"] * 3 + ["r"] * 3
    splits = split_groups(genres, artists, SHARES, seed=0)
    assert splits[0] == "train" and set(splits[:12]) == set(splits[12:]) == set(SPLITS)


def test_seeds_differ_and_repeat() -> None:
    genres = ["a", "b"] * 50
    artists = [str(i // 2) for i in range(100)]
    first, again, other = (split_groups(genres, artists, SHARES, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_the_share_of_each_split_is_what_was_asked_for() -> None:
    genres, artists = ["a"] * 100, [str(i) for i in range(100)]
    assert Counter(split_groups(genres, artists, (2, 1, 1), seed=0)) == {"train": 50, "validate": 25, "test": 25}


@pytest.mark.parametrize(
    ("balance", "left"),
    [
        ("none", {"a": 90, "b": 40, "c": 10}),
        ("sqrt", {"a": 30, "b": 20, "c": 10}),
        ("truncate", dict.fromkeys("abc", 10)),
    ],
)
def test_balance(balance, left: dict[str, int]) -> None:
    genres = ["a"] * 90 + ["b"] * 40 + ["c"] * 10
    kept = balance_songs(genres, balance, seed=0)
    assert Counter(genre for genre, keep in zip(genres, kept, strict=True) if keep) == left
    assert kept == balance_songs(genres, balance, seed=0)
    assert (kept == balance_songs(genres, balance, seed=1)) == (balance == "none")


def test_what_is_in_two_splits_is_found() -> None:
    assert crossing({"train": ["a", "b", "b"], "test": ["c", "a"], "validate": ["d"]}) == {"a": ("train", "test")}


def test_a_group_stays_in_the_last_split_it_is_given() -> None:
    splits = ["train", "validate", "train", "test", "validate", "train"]
    assert crossing_songs(splits, ["a", "a", "b", "a", "c", "c"]) == ["test", "test", "", "", "", "validate"]


# The audit


def audit(*entries: tuple[LabelledSong, str], duplicates: tuple = ()):
    songs = {str(i): each for i, (each, _) in enumerate(entries)}
    return audit_splits(songs, [split for _, split in entries], group_songs(songs, duplicates), duplicates)


def test_the_audit_of_known_artists() -> None:
    found = audit((song("A"), "train"), (song("A", path="b.flac"), "train"), (song(folder="x"), "test"))
    assert found.is_artist_disjoint
    assert found.lines() == [
        "No artist is in two splits: 2 groups of songs, told by artist for 2, by folder for 1.",
        "No recording is there twice.",
    ]


def test_the_audit_says_aloud_when_artists_are_unknown() -> None:
    found = audit((song("A"), "train"), (song(path="b.flac"), "test"))
    assert not found.is_artist_disjoint
    assert found.lines()[0].startswith("NOT ARTIST-DISJOINT: nothing tells whose 1 of the 2 songs are.")


def test_the_audit_names_what_the_groups_do_not_hold_together() -> None:
    found = audit(
        (song("A", "Hits", "Various"), "train"),
        (song("B", "Hits", "Various"), "test"),
        (song("A", "LP", "Host"), "validate"),
        (song("C", genre="Jazz", path="c.flac"), "test"),
        duplicates=(("1", "3"),),
    )
    assert found.lines()[1:] == [
        "1 pair of songs share a recording, each on one side.",
        "Recordings that are given two genres: 1 (B.flac (Pop) = c.flac (Jazz)).",
        "Albums of several artists, in several splits: 1 (Hits (Various)).",
        "Artists in several splits, as guests on albums of others: 1 (A).",
    ]
