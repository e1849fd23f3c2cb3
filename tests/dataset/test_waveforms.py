"""Waveforms on disk: kept once, found again, whatever was going on when a run ended."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from tagger.audio.decode import decode_song
from tests.support.songs import make_song
from training.dataset import waveforms
from training.dataset.waveforms import Recording, Waveforms, WaveformStore, decode_songs, is_waveform_store, record
from training.errors import DatasetError

LENGTHS = {"a": 700, "b": 400, "c": 1500, "d": 100, "e": 100}


def recording(song: str) -> Recording:
    rng = np.random.default_rng(ord(song))
    samples = rng.integers(-(2**15), 2**15, LENGTHS[song]).astype(np.int16)
    return Recording(samples, rng.integers(0, 2**32, LENGTHS[song] // 50, np.uint32))


def fill(folder: Path, songs: str = "abcde") -> None:
    with WaveformStore(folder) as store:
        for song in songs:
            if song not in store.places:
                store.add(song, recording(song))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "waveforms").iterdir()}


def check(folder: Path, songs: str) -> None:
    with WaveformStore(folder) as store:
        assert "".join(store.places) == songs
        fingerprints = store.fingerprints(songs)
        places = store.places
    for song, found in zip(songs, fingerprints, strict=True):
        assert np.array_equal(found, recording(song).fingerprint)
        place = places[song]
        kept = Waveforms(folder).read(place.shard, place.first, place.n_samples)
        assert kept.dtype == np.int16 and np.array_equal(kept, recording(song).waveform)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waveforms, "SHARD_SAMPLES", 1000)


def test_songs_are_found_again(tmp_path: Path) -> None:
    fill(tmp_path)
    check(tmp_path, "abcde")


def test_a_shard_holds_whole_songs_up_to_its_size(tmp_path: Path) -> None:
    fill(tmp_path)
    with WaveformStore(tmp_path) as store:
        places = [(place.shard, place.first) for place in store.places.values()]
    assert places == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 100)]  # c is larger than a shard
    assert len(contents(tmp_path)) == 4 + 2


def test_a_store_that_is_empty(tmp_path: Path) -> None:
    assert not is_waveform_store(tmp_path)
    with WaveformStore(tmp_path / "new") as store:
        assert store.places == {} and store.fingerprints([]) == []
    assert is_waveform_store(tmp_path / "new")


def spoil_index(folder: Path, n_bytes: int) -> None:
    path = folder / "waveforms" / "index.jsonl"
    path.write_bytes(path.read_bytes()[:-n_bytes])


DEATHS = {
    "samples written, in part": lambda folder: (folder / "waveforms/00003.i16").open("ab").write(b"123"),
    "fingerprint written, not the line": lambda folder: (
        (folder / "waveforms/fingerprints.u32").open("ab").write(b"12345")
    ),
    "line written in part": lambda folder: spoil_index(folder, 5),
    "line without its end": lambda folder: spoil_index(folder, 1),
    "a line of zeros, after a power cut": lambda folder: (
        (folder / "waveforms/index.jsonl").open("ab").write(bytes(100) + b"\n")
    ),
    "first line written in part": lambda folder: (folder / "waveforms/index.jsonl").write_bytes(b'{"format'),
    "nothing but an empty index": lambda folder: (folder / "waveforms/index.jsonl").write_bytes(b""),
    "a new shard, empty": lambda folder: (folder / "waveforms/00004.i16").touch(),
    "samples that never reached the disk": lambda folder: (folder / "waveforms/00001.i16").open("r+b").truncate(10),
    "fingerprints that never reached the disk": lambda folder: (
        (folder / "waveforms/fingerprints.u32").open("r+b").truncate(70)
    ),
    "a shard that is gone": lambda folder: (folder / "waveforms/00002.i16").unlink(),
}


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("n_songs", [4, 5])
def test_after_a_death_at_any_time_the_result_is_the_same(tmp_path: Path, death: str, n_songs: int) -> None:
    fill(tmp_path / "whole")
    fill(tmp_path / "killed", "abcde"[:n_songs])
    DEATHS[death](tmp_path / "killed")
    fill(tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    check(tmp_path / "killed", "abcde")


def test_two_runs_do_not_add_at_once(tmp_path: Path) -> None:
    with (
        WaveformStore(tmp_path),
        pytest.raises(DatasetError, match="another run is preparing it"),
        WaveformStore(tmp_path),
    ):
        pass
    fill(tmp_path)


def test_waveforms_of_another_version_are_left_alone(tmp_path: Path) -> None:
    fill(tmp_path)
    index = tmp_path / "waveforms" / "index.jsonl"
    index.write_bytes(index.read_bytes().replace(b'"version": 1', b'"version": 2', 1))
    before = contents(tmp_path)
    with pytest.raises(DatasetError, match="another version"), WaveformStore(tmp_path):
        pass
    assert contents(tmp_path) == before


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    fill(tmp_path, "ab")
    with (
        pytest.raises(DatasetError, match="No space left on device; the same command resumes"),
        WaveformStore(tmp_path) as store,
    ):
        store._samples.close()
        store._samples = Full()  # type: ignore[assignment]
        store.add("d", recording("d"))
    fill(tmp_path)
    check(tmp_path, "abcde")


def test_a_reader_is_cheap_to_hand_to_other_processes(tmp_path: Path) -> None:
    fill(tmp_path)
    reader = Waveforms(tmp_path)
    samples = reader.read(1, 10, 30)
    assert len(pickle.dumps(reader)) < 1000
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).read(1, 10, 30), samples)
    with pytest.raises(ValueError, match="read-only"):
        samples[0] = 1


def test_a_song_shorter_than_a_snippet_is_repeated(tmp_path: Path) -> None:
    fill(tmp_path)
    reader = Waveforms(tmp_path)
    short = recording("e").waveform
    assert np.array_equal(reader.snippet(3, 100, 100, 100, 250), np.concatenate([short, short, short[:50]]))
    assert np.array_equal(reader.snippet(1, 50, 0, 400, 250), recording("b").waveform[50:300])


# Decoding


def test_what_is_kept_is_what_is_classified(tmp_path: Path) -> None:
    path = make_song(tmp_path / "song.mp3", 3)
    kept = record(path)
    assert kept.waveform.dtype == np.int16
    assert np.abs(kept.waveform / 2**15 - decode_song(path)).max() <= 0.5 / 2**15
    assert len(kept.fingerprint) > 30


def test_louder_than_full_scale_is_clipped(tmp_path: Path) -> None:
    signal = np.tile(np.float32([[1.5, 1.5, -1.5, -1.5]]), 8000)
    path = make_song(tmp_path / "song.wav", rate=16_000, signal=signal, codec="pcm_f32le")
    kept = record(path).waveform
    assert (kept.min(), kept.max()) == (-(2**15), 2**15 - 1)


def test_songs_that_fail_are_told_and_the_others_kept_in_order(tmp_path: Path) -> None:
    paths = {name: make_song(tmp_path / f"{name}.wav", 0.5 if name == "b" else 2, rate=16_000) for name in "abc"}
    (tmp_path / "d.wav").write_bytes(b"no song")
    paths["d"] = tmp_path / "d.wav"
    with WaveformStore(tmp_path / "out") as store:
        failed = decode_songs(store, paths, n_workers=2)
        assert list(store.places) == ["a", "c"]
        assert set(failed) == {"b", "d"} and failed["b"] == "shorter than 1 s"
        assert store.places["c"].n_samples == 32_000
