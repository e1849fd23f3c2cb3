"""Waveforms of a dataset: whole songs as int16, one after the other in large files, memory-mapped.

A song is decoded once. Its samples are appended to the last shard and its fingerprint to one file of all; a line in
the index then says where they are. What is behind the last whole line was being written when a run died, and is cut
off by the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE, SHORTEST_SECONDS, SILENCE_RMS, as_int16, decode_song
from tagger.audio.workers import decode_ahead
from training.dataset.duplicates import fingerprint
from training.dataset.songs import Watch, unwatched
from training.errors import DatasetError

FOLDER, INDEX, FINGERPRINTS = "waveforms", "index.jsonl", "fingerprints.u32"
HEAD = {"format": "genre-tag waveforms", "version": 1, "sample_rate": SAMPLE_RATE}
SHARD_SAMPLES = 1 << 29  # 1 GiB; a song is never divided
BYTES_PER_SAMPLE = 2
TIME_LIMIT_SECONDS = 600.0  # a song of an hour takes half a minute


@dataclass(frozen=True)
class Recording:
    """A song as it is kept."""

    waveform: np.ndarray  # (n_samples,) int16
    fingerprint: np.ndarray  # (n_frames,) uint32


@dataclass(frozen=True)
class Place:
    """Where a song is kept."""

    song: str
    shard: int
    first: int  # sample in the shard
    n_samples: int
    first_frame: int  # in the file of fingerprints
    n_frames: int


def record(path: Path) -> Recording:
    """A song decoded whole; raises AudioError or DatasetError. Louder than full scale is clipped, as int16 must."""
    waveform = decode_song(path)
    if len(waveform) < SHORTEST_SECONDS * SAMPLE_RATE:
        raise DatasetError(path, f"shorter than {SHORTEST_SECONDS:g} s")
    samples = as_int16(waveform)
    return Recording(samples, fingerprint(samples))


def is_audible(samples: np.ndarray) -> bool:
    """Whether int16 samples are above -60 dBFS, as `tagger.audio.decode.decode` asks of a snippet."""
    return bool(np.square(samples, dtype=np.float32).mean() >= (SILENCE_RMS * FULL_SCALE) ** 2)


class Waveforms:
    """Reads the waveforms of a dataset folder; cheap to hand to other processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._shards: dict[int, np.memmap] = {}

    def read(self, shard: int, first: int, n_samples: int) -> np.ndarray:
        """Samples (n_samples,) int16 of a shard from `first` on, memory-mapped; fewer where the shard ends."""
        if shard not in self._shards:
            self._shards[shard] = np.memmap(shard_path(self.folder, shard), "<i2", "r")
        return self._shards[shard][first : first + n_samples]

    def snippet(self, shard: int, first: int, song_first: int, song_samples: int, n_samples: int) -> np.ndarray:
        """The snippet (n_samples,) int16 that a row of the dataset tells of; a shorter song is repeated to fill it."""
        if song_samples < n_samples:
            return np.resize(self.read(shard, song_first, song_samples), n_samples)
        return self.read(shard, first, n_samples)

    def __reduce__(self) -> tuple[type[Waveforms], tuple[Path]]:
        return Waveforms, (self.folder,)  # a memory map would be copied as a whole


def shard_path(folder: Path, shard: int) -> Path:
    """Where a shard of a dataset folder lies."""
    return folder / FOLDER / f"{shard:05d}.i16"


def is_waveform_store(folder: Path) -> bool:
    """Whether a preparation was begun in this folder."""
    return (folder / FOLDER / INDEX).is_file()


class WaveformStore:
    """The decoded songs of a dataset folder, by identity, and room for more; use as a context manager.

    Raises DatasetError when another run is adding songs, when they are of another version, and when the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: dict[str, Place] = {}
        self._end = Place("", 0, 0, 0, 0, 0)  # the last song

    def __enter__(self) -> WaveformStore:
        try:
            with ExitStack() as stack:
                (self.folder / FOLDER).mkdir(parents=True, exist_ok=True)
                self._index = stack.enter_context((self.folder / FOLDER / INDEX).open("a+b"))
                _lock(self._index, self.folder)
                self._read_index()
                n_samples = self._end.first + self._end.n_samples
                n_frames = self._end.first_frame + self._end.n_frames
                self._samples = stack.enter_context(_appending(self._shard(), 2 * n_samples))
                self._frames = stack.enter_context(_appending(self.folder / FOLDER / FINGERPRINTS, 4 * n_frames))
                self._stack = stack.pop_all()
        except OSError as error:
            raise DatasetError(self.folder, f"cannot be written: {error.strerror or error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk was told of already
            self._stack.close()

    def _shard(self) -> Path:
        return shard_path(self.folder, self._end.shard)

    def _read_index(self) -> None:
        """Learn what is there, up to the first line that is not whole or tells of samples that are not there."""
        self._index.seek(0)
        head, *lines = self._index.read().splitlines(keepends=True) or [b""]
        n_bytes = 0
        if head.endswith(b"\n"):
            if head != _line(HEAD):
                raise DatasetError(self.folder, "its waveforms are of another version of genre-tag; delete the folder")
            n_bytes = len(head)
        for line in lines:
            place = _place(line)
            if place is None or not self._is_there(place):
                break
            self.places[place.song] = self._end = place
            n_bytes += len(line)
        self._index.truncate(n_bytes)
        if n_bytes == 0:
            self._index.write(_line(HEAD))
            self._index.flush()
        for path in (self.folder / FOLDER).glob("*.i16"):
            if path > self._shard():
                path.unlink()

    def _is_there(self, place: Place) -> bool:
        ends = {
            shard_path(self.folder, place.shard): 2 * (place.first + place.n_samples),
            self.folder / FOLDER / FINGERPRINTS: 4 * (place.first_frame + place.n_frames),
        }
        return all(path.exists() and path.stat().st_size >= end for path, end in ends.items())

    def add(self, song: str, recording: Recording) -> None:
        """Keep a song. It is there for good when this returns, even if the run is killed."""
        n_samples, first = len(recording.waveform), self._end.first + self._end.n_samples
        place = Place(
            song, self._end.shard, first, n_samples, self._end.first_frame + self._end.n_frames,
            len(recording.fingerprint),
        )  # fmt: skip
        if first > 0 and first + n_samples > SHARD_SAMPLES:
            place = replace(place, shard=place.shard + 1, first=0)
            self._samples.close()
            self._samples = self._stack.enter_context(_appending(shard_path(self.folder, place.shard), 0))
        try:
            for file, data in (
                (self._samples, recording.waveform.astype("<i2").tobytes()),
                (self._frames, recording.fingerprint.astype("<u4").tobytes()),
                (self._index, _line(asdict(place))),
            ):
                file.write(data)
                file.flush()
        except OSError as error:
            raise DatasetError(self.folder, f"cannot be written: {error.strerror}; the same command resumes") from error
        self.places[song] = self._end = place

    def fingerprints(self, songs: Iterable[str]) -> list[np.ndarray]:
        """The fingerprint of each song, uint32 (n_frames,), memory-mapped."""
        path = self.folder / FOLDER / FINGERPRINTS
        frames = np.memmap(path, "<u4", "r") if path.stat().st_size else np.zeros(0, np.uint32)
        places = (self.places[song] for song in songs)
        return [frames[place.first_frame : place.first_frame + place.n_frames] for place in places]


def decode_songs(
    store: WaveformStore, paths: Mapping[str, Path], n_workers: int, watch: Watch = unwatched
) -> dict[str, str]:
    """Decode what is not in store yet, in order, in worker processes; song → reason for those that failed."""
    missing = [(song, path) for song, path in paths.items() if song not in store.places]
    failed = {}
    decoded = decode_ahead(
        missing, record, n_workers=n_workers, look_ahead=2 * n_workers, time_limit_seconds=TIME_LIMIT_SECONDS
    )
    with closing(decoded):
        for song, recording in watch(decoded, "Decoding", len(missing)):
            if isinstance(recording, Recording):
                store.add(song, recording)
            else:
                failed[song] = recording.reason
    return failed


def _place(line: bytes) -> Place | None:
    """What a line of the index says; None for one that is not whole."""
    try:
        return Place(**json.loads(line)) if line.endswith(b"\n") else None
    except (ValueError, TypeError):
        return None


def _appending(path: Path, n_bytes: int) -> BinaryIO:
    """The file, open to be continued behind its first `n_bytes`."""
    file = path.open("ab")
    file.truncate(n_bytes)
    return file


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _lock(file: BinaryIO, folder: Path) -> None:
    with suppress(ImportError):  # on Windows two runs at once are not noticed
        from fcntl import LOCK_EX, LOCK_NB, flock

        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(folder, "another run is preparing it") from error
