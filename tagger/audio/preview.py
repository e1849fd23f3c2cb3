"""A stretch of a song as WAV, for whoever cannot play the file itself."""

import io
import wave
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from tagger.audio.decode import intact_frames, open_container, opened
from tagger.audio.workers import Failure, decode_ahead
from tagger.errors import AudioError

#: What browsers may be able to play as it is, and what it is called there; all else takes a preview.
MEDIA_TYPES = {
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".m4b": "audio/mp4",
    ".mp4": "audio/mp4",
    ".wav": "audio/wav",
}
RATE, N_CHANNELS = 44_100, 2
SECONDS = 30.0
LEAD_SECONDS = 1.0  # decoded before it and thrown away, where a seek leads too far ahead
TIME_LIMIT_SECONDS = 30


@dataclass(frozen=True)
class Excerpt:
    """What is to be played of a song."""

    path: Path
    start_seconds: float


def is_playable(path: str) -> bool:
    """Whether a browser may be able to play the file itself, by its name."""
    return Path(path).suffix.lower() in MEDIA_TYPES


def excerpt_wav(path: Path, start_seconds: float) -> bytes:
    """WAV of `SECONDS` of a song from there on, or from its beginning where it is not as long. Raises AudioError.

    Decoded in a process of its own: a damaged song may crash or hang the decoder.
    """
    task = (None, Excerpt(path, start_seconds))
    decoded = decode_ahead([task], cut_wav, n_workers=1, look_ahead=1, time_limit_seconds=TIME_LIMIT_SECONDS)
    ((_, found),) = list(decoded)
    if not isinstance(found, bytes):
        raise AudioError(path, found.reason if isinstance(found, Failure) else "cannot be decoded")
    return found


def cut_wav(excerpt: Excerpt) -> bytes:
    """The same in this process."""
    samples = _decode(excerpt.path, max(0.0, excerpt.start_seconds))
    if not len(samples) and excerpt.start_seconds > 0:
        samples = _decode(excerpt.path, 0.0)
    if not len(samples):
        raise AudioError(excerpt.path, "cannot be decoded: no frame of it is intact")
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(N_CHANNELS)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes(samples.tobytes())
    return file.getvalue()


def _decode(path: Path, start_seconds: float) -> np.ndarray:
    """Samples (n_samples, 2) int16 from there on; none where the song is not as long."""
    n_wanted, n_decoded = int(SECONDS * RATE), 0
    n_dropped: int | None = None  # samples before the start, of which the first frame tells how many there are
    parts: list[np.ndarray] = []
    with opened(path) as file, open_container(path, file) as container:
        if start_seconds > LEAD_SECONDS:
            container.seek(int((start_seconds - LEAD_SECONDS) * av.time_base))
        resampler = av.AudioResampler("s16", "stereo", RATE)
        for frame in intact_frames(container):
            if n_dropped is None:
                n_dropped = max(0, int((start_seconds - (frame.time or 0.0)) * RATE))
            for part in resampler.resample(frame):
                parts.append(part.to_ndarray().reshape(-1, N_CHANNELS))
                n_decoded += len(parts[-1])
            if n_decoded >= n_dropped + n_wanted:
                break
    samples: np.ndarray = np.concatenate(parts) if parts else np.empty((0, N_CHANNELS), np.int16)
    return samples[n_dropped or 0 :][:n_wanted]
