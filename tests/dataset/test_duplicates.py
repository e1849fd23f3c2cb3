"""Recordings that are there twice are found, whatever was done to them; other songs are not taken for them."""

from pathlib import Path

import numpy as np
import pytest

from tagger.audio.decode import SAMPLE_RATE, decode_song
from tests.support.songs import make_song, synthesize
from training.dataset.duplicates import BATCH, FRAMES_PER_SECOND, N_NEIGHBOURS, find_duplicates, fingerprint

RATE, N_SONGS, SECONDS = 44_100, 6, 20


@pytest.fixture(scope="module")
def originals() -> list[np.ndarray]:
    """Songs (2, n_samples) at 44.1 kHz."""
    return [synthesize("music", SECONDS, RATE, 2, seed=seed) for seed in range(N_SONGS)]


@pytest.fixture(scope="module")
def fingerprints(originals: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    folder = tmp_path_factory.mktemp("originals")
    return [prediction(folder / f"{i}.flac", each) for i, each in enumerate(originals)]


def prediction(path: Path, samples: np.ndarray, **how: object) -> np.ndarray:
    return fingerprint(decode_song(make_song(path, rate=RATE, signal=samples, **how)))  # type: ignore[arg-type]


def pairs(fingerprints: list[np.ndarray]) -> set[tuple[int, int]]:
    return {(found.first, found.second) for found in find_duplicates(fingerprints)}


def test_songs_that_share_nothing_are_not_joined(fingerprints: list[np.ndarray]) -> None:
    assert pairs(fingerprints) == set()
    assert all(len(each) / SECONDS == pytest.approx(FRAMES_PER_SECOND, rel=0.03) for each in fingerprints)


@pytest.mark.parametrize(
    ("suffix", "bit_rate", "gain", "cut_seconds"),
    [
        (".mp3", 64_000, 1.0, 0.0),
        (".opus", 32_000, 1.0, 0.0),
        (".flac", None, 0.05, 0.0),
        (".flac", None, 1.0, 3.3371),
        (".flac", None, 1.0, 5.032),  # half a frame off
        (".mp3", 64_000, 0.3, 4.7),
        (".m4a", 48_000, 0.8, 6.1),
    ],
)
def test_a_copy_is_found(
    tmp_path: Path, originals: list[np.ndarray], fingerprints: list[np.ndarray],
    suffix: str, bit_rate: int | None, gain: float, cut_seconds: float,
) -> None:  # fmt: skip
    original = originals[2][:, round(cut_seconds * RATE) :] * np.float32(gain)
    copy = prediction(tmp_path / f"copy{suffix}", original, bit_rate=bit_rate)
    found = find_duplicates([*fingerprints, copy])
    assert [(each.first, each.second) for each in found] == [(2, N_SONGS)]
    assert found[0].errors < 0.2


def test_a_passage_in_common_is_enough(
    tmp_path: Path, originals: list[np.ndarray], fingerprints: list[np.ndarray]
) -> None:
    """Twelve seconds of one song within another: a sample, a medley, an excerpt."""
    medley = originals[4].copy()
    medley[:, 2 * RATE : 14 * RATE] = originals[1][:, 5 * RATE : 17 * RATE]
    assert pairs([*fingerprints, prediction(tmp_path / "medley.flac", medley)]) >= {(1, N_SONGS)}
    assert pairs([fingerprints[1], fingerprints[1][: round(4 * FRAMES_PER_SECOND)]]) == set()  # too little to tell


def test_silence_in_common_is_nothing_in_common(tmp_path: Path, originals: list[np.ndarray]) -> None:
    silence = np.zeros((2, 15 * RATE), np.float32)
    found = [prediction(tmp_path / f"{i}.flac", np.concatenate([silence, originals[i]], axis=1)) for i in (0, 1)]
    assert all((each[: round(14 * FRAMES_PER_SECOND)] == 0).all() for each in found)
    assert pairs(found) == set()


def test_silence_does_not_make_up_for_what_differs() -> None:
    """Two songs that begin after a silence, by chance with the same frame."""
    rng = np.random.default_rng(0)
    silence, frame = np.zeros(200, np.uint32), np.uint32([0x12345678])
    songs = [np.concatenate([silence, frame, rng.integers(1, 2**32, 200, np.uint32)]) for _ in range(2)]
    assert pairs(songs) == set()


def test_of_many_copies_all_are_connected(fingerprints: list[np.ndarray]) -> None:
    n_copies = 5 * N_NEIGHBOURS
    found = pairs([fingerprints[0], *[fingerprints[3]] * n_copies])
    reached = {1}
    for _ in range(n_copies):
        reached |= {other for pair in found if set(pair) & reached for other in pair}
    assert reached == set(range(1, n_copies + 1))


def test_work_in_several_batches_finds_the_same(
    fingerprints: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = [*fingerprints, fingerprints[0][50:], fingerprints[5]]
    whole = find_duplicates(songs)
    assert {(0, N_SONGS), (5, N_SONGS + 1)} == {(found.first, found.second) for found in whole}
    monkeypatch.setattr("training.dataset.duplicates.BATCH", 7)
    assert BATCH > 7 and find_duplicates(songs) == whole


@pytest.mark.parametrize("n_samples", [0, 1, SAMPLE_RATE // 2])
def test_a_moment_has_no_fingerprint(n_samples: int) -> None:
    assert fingerprint(np.ones(n_samples, np.int16)).shape == (0,)
    assert find_duplicates([fingerprint(np.ones(n_samples, np.int16))]) == []


def test_nothing_has_no_duplicates() -> None:
    assert find_duplicates([]) == []


def test_the_scale_of_samples_does_not_matter() -> None:
    waveform = synthesize("music", 8, SAMPLE_RATE, 1)[0]
    samples = np.rint(waveform * 32_767).astype(np.int16)
    differ = np.unpackbits((fingerprint(waveform) ^ fingerprint(samples)).view(np.uint8)).mean()
    assert differ < 0.01
