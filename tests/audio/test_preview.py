"""A stretch of a song as WAV: the right stretch, of all formats, and a reason where there is none."""

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from tagger.audio.preview import RATE, SECONDS, Excerpt, cut_wav, excerpt_wav
from tagger.errors import AudioError
from tests.support.songs import make_song


def played(data: bytes) -> np.ndarray:
    """(n_samples, 2) int16"""
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A minute of a tone that is 20 Hz higher each second, in formats that browsers cannot play, and one they can."""
    folder, rate = tmp_path_factory.mktemp("steps"), 44_100
    time = np.arange(60 * rate) / rate
    mono = (0.5 * np.sin(2 * np.pi * np.cumsum(200 + 20 * np.floor(time)) / rate)).astype(np.float32)
    found = {}
    for suffix in (".wv", ".wma", ".mp3", ".aiff"):
        found[suffix] = folder / f"song{suffix}"
        make_song(found[suffix], rate=rate, signal=np.stack([mono, mono]))
    return found


@pytest.mark.parametrize("suffix", [".wv", ".wma", ".mp3", ".aiff"])
@pytest.mark.parametrize("start", [0.0, 0.5, 20.0, 41.25])
def test_the_stretch_that_is_asked_for(steps: dict[str, Path], suffix: str, start: float) -> None:
    samples = played(cut_wav(Excerpt(steps[suffix], start)))
    assert len(samples) == pytest.approx(min(SECONDS, 60 - start) * RATE, abs=0.1 * RATE)
    for second in (1.3, 10.3):  # how high it is says where it is
        at = int(second * RATE)
        spectrum = np.abs(np.fft.rfft(samples[at : at + RATE // 4, 0]))
        assert 4 * spectrum.argmax() == pytest.approx(200 + 20 * np.floor(start + second), abs=10)


def test_from_behind_the_end_it_is_the_beginning(steps: dict[str, Path]) -> None:
    assert len(played(cut_wav(Excerpt(steps[".wv"], 1000.0)))) == SECONDS * RATE


def test_it_is_decoded_in_a_process_of_its_own(steps: dict[str, Path]) -> None:
    assert excerpt_wav(steps[".wv"], 20.0) == cut_wav(Excerpt(steps[".wv"], 20.0))


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty file"), (b"x" * 4000, "cannot be decoded")])
def test_what_cannot_be_decoded_has_a_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.wma").write_bytes(data)
    with pytest.raises(AudioError, match=reason):
        excerpt_wav(tmp_path / "a.wma", 0.0)


def test_a_song_that_is_gone_has_a_reason(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        excerpt_wav(tmp_path / "a.wma", 0.0)


def test_a_playlist_in_disguise_plays_no_other_file(tmp_path: Path) -> None:
    """Nor does it reach the network: files are opened as they are to be classified."""
    make_song(tmp_path / "other.wav", 12)
    path = tmp_path / "song.wv"
    path.write_text("ffconcat version 1.0\nfile other.wav\n")
    with pytest.raises(AudioError):
        cut_wav(Excerpt(path, 0.0))
