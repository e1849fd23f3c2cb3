"""Decode the snippets of a song: mono, 16 kHz, from any format that FFmpeg knows.

    open → seek → decode → mix → resample → cut

Two roads lead to the same samples. Where a container is known to seek exactly (`SEEKS_EXACTLY`), only the windows
are decoded. Everything else is decoded from the first to the last sample, and only the windows are kept.
"""

import logging
import math
import stat
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from io import FileIO
from itertools import chain, groupby, pairwise
from pathlib import Path
from statistics import median_low

import av
import numpy as np
from av.container import InputContainer
from av.filter import Graph

from tagger.audio.resample import FILTER_SIZE, MOST_PHASES, Resampler, n_phases
from tagger.errors import AudioError

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
FULL_SCALE = 1 << 15  # of int16, in which snippets travel between processes and to devices
SNIPPET_SAMPLES = 160_000  # 10.0 s: what the AudioSet checkpoint of AST was trained on

SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 24 * 3600.0  # a longer song is a damaged header
SILENCE_RMS = 10 ** (-60 / 20)  # -60 dBFS
QUIET_RMS = 10 ** (-40 / 20)  # hardly any music is: where most snippets are, the whole song is looked through
LOOKED_THROUGH_SECONDS = 2 * 3600  # some 20 s of work
PART_SECONDS = 120  # of a whole song, decoded at once: 4 MB of int16
CANCELLED = 100  # a mean of channels that is 20 dB below one of them: they are in opposite phase
LOUDEST = 2.0**31  # beyond samples that were never scaled to [-1, 1] there is only damage

# What a decoder is given ahead of a window, to be thrown away, by the beginning of the codec's name. The bit reservoir
# of MP3 reaches back 0.55 s at 8 kbit/s; the upper half of HE-AAC waits for its next header, up to 0.5 s apart.
LEADS_SECONDS = {"mp": 0.6, "aac": 1.0}
LEAD_SECONDS = 0.1  # of the others Opus needs most: 0.08 s (RFC 7845, section 4.6)
LOST_SECONDS = 20.0  # a seek that lands this early has failed
EDGE_SECONDS = 0.05  # the resampler's filter reaches 8 ms to each side; frames may claim to be 20 ms late
N_DAMAGES = 100  # places a demuxer may stumble over before the rest of the file is given up
SLACK_SAMPLES = SAMPLE_RATE // 10  # a song may end this far from its declared end; WMA is usually 45 ms short

# Container → beginnings of codec names for which a window reached by seeking equals the window of a full decode:
# measured, and held by tests. Not among them: WMA and Matroska (timestamps in whole ms), raw AC-3 (timestamps drift),
# Musepack, Speex, Monkey's Audio (not measured widely enough).
SEEKS_EXACTLY = {
    "aac": ("aac",),
    "aiff": ("pcm",),
    "au": ("pcm",),
    "caf": ("pcm", "alac"),
    "dsf": ("dsd",),
    "flac": ("flac",),
    "iff": ("dsd",),
    "mov,mp4,m4a,3gp,3g2,mj2": ("aac", "alac"),
    "mp3": ("mp1", "mp2", "mp3"),
    "ogg": ("flac", "opus", "libopus", "vorbis"),
    "tta": ("tta",),
    "w64": ("pcm",),
    "wav": ("pcm",),
    "wv": ("wavpack",),
}

# FFmpeg resamples from rates that have too little in common with 16 kHz for `Resampler`.
ODD_RESAMPLER = f"{SAMPLE_RATE}:filter_size={FILTER_SIZE}"
# A frame holds some 20 ms, and each one's way through four filters would cost more than resampling it.
BLOCK_SAMPLES = 65_536
PULL_FRAMES = 64  # a pull asks the whole graph; a second or two of music waits for one
READ_BYTES = 1 << 18  # one round trip of a network drive; a FLAC takes 70 of them, and 280 by FFmpeg's own 32 KiB
DEMUXER = {
    "protocol_whitelist": "none",  # a playlist in disguise must not open other files, or the network
    "indexmem": str(1 << 24),  # five hours of MP3 frames; FFmpeg's own 20 minutes let it forget the early ones
}


@dataclass(frozen=True)
class Wanted:
    """What is to be decoded of a song."""

    path: Path
    n_snippets: int | None  # None: all of it, whatever is known already
    without: tuple[float, ...] = ()  # starts, in seconds, of snippets that are known already


@dataclass(frozen=True)
class Snippets:
    """The audible snippets of one song, and why there are none if so."""

    samples: np.ndarray  # (n_snippets, snippet_samples) int16, mono, 16 kHz; n_snippets may be 0
    starts_seconds: tuple[float, ...]  # one per snippet
    duration_seconds: float  # of what was decoded so far, where more follows
    unsure: str  # "", "silent" or "shorter than 1 s"
    #: Whether these are a part of a song, and another one follows.
    more: bool = False
    #: Whether these take the place of all the parts before: they are of a channel that had to be chosen.
    instead: bool = False

    @property
    def waveforms(self) -> np.ndarray:
        """The same in float32, [-1, 1)."""
        waveforms: np.ndarray = self.samples.astype(np.float32) / np.float32(FULL_SCALE)
        return waveforms


def snippet_starts(
    duration_seconds: float, n_snippets: int | None, snippet_seconds: float = SNIPPET_SAMPLES / SAMPLE_RATE
) -> tuple[float, ...]:
    """Starts of a song's snippets in seconds, ascending.

    A number spreads them evenly, never to the very start or end, where songs are least like themselves; fewer come
    back if they would overlap. None covers the song: snippet after snippet, the last one shifted back to end with it.

    >>> snippet_starts(70, 5)
    (10.0, 20.0, 30.0, 40.0, 50.0)
    >>> snippet_starts(25, 5)
    (5.0, 10.0)
    >>> snippet_starts(25, None)
    (0.0, 10.0, 15.0)
    >>> snippet_starts(7, 5)
    (0.0,)
    """
    if duration_seconds <= snippet_seconds:
        return (0.0,)
    spare = duration_seconds - snippet_seconds
    if n_snippets is None:
        n_consecutive = math.ceil(duration_seconds / snippet_seconds)
        return tuple(min(i * snippet_seconds, spare) for i in range(n_consecutive))
    n_snippets = min(n_snippets, int(duration_seconds / snippet_seconds))
    return tuple(spare * (i + 1) / (n_snippets + 1) for i in range(n_snippets))


def decode(path: str | Path, n_snippets: int | None, snippet_samples: int = SNIPPET_SAMPLES) -> Snippets:
    """The snippets of a song at `snippet_starts`; raises AudioError if it cannot be decoded.

    Channels are averaged: a mean needs no names of channels and cannot clip. Where they cancel each other, the loudest
    is taken alone. Silent snippets (below -60 dBFS) are left out; if most are, others are looked for where the song
    sounds. Damaged frames are skipped, and of a truncated file the part that is there counts as the song.

    A song shorter than a snippet is repeated to fill it. Padding it would mislead the model: after normalisation
    the padding of a log-mel is +0.467, louder than almost all music. Under one second there is nothing to decide on.

    n_snippets=None returns all of the song, 115 MB per hour; a few snippets need tens of MB however long the song.
    """
    return decode_wanted(Wanted(Path(path), n_snippets), snippet_samples)


def decode_wanted(wanted: Wanted, snippet_samples: int = SNIPPET_SAMPLES) -> Snippets:
    """What `decode` returns, of what is wanted."""
    parts: list[Snippets] = []
    for part in decode_parts(wanted, snippet_samples):
        parts = [part] if part.instead else [*parts, part]
    samples = np.concatenate([part.samples for part in parts]) if len(parts) > 1 else parts[0].samples
    starts = tuple(chain.from_iterable(part.starts_seconds for part in parts))
    return replace(parts[-1], samples=samples, starts_seconds=starts, instead=False)


def decode_parts(wanted: Wanted, snippet_samples: int = SNIPPET_SAMPLES) -> Iterator[Snippets]:
    """The same, of a whole song in parts of `PART_SECONDS`, so that it takes little memory however long it is."""
    with opened(wanted.path) as file:
        if wanted.n_snippets is None:
            yield from _whole_song(wanted.path, file, snippet_samples)
        else:
            yield _some_windows(wanted, file, snippet_samples)


def _whole_song(path: Path, file: FileIO, snippet_samples: int, channel: int | None = None) -> Iterator[Snippets]:
    """Snippet after snippet of all of a song, the mean of its channels or one of them, in parts."""
    part: Snippets | None = None  # held back until it is known whether more follows
    powers: list[float] = []
    with open_container(path, file) as container:
        blocks = _resample(intact_frames(container), channel)
        n_together = max(1, PART_SECONDS * SAMPLE_RATE // snippet_samples)
        for waveforms, firsts, n_samples in _consecutive(blocks, snippet_samples, n_together):
            _refuse_no_numbers(path, waveforms)
            if part is not None:
                yield replace(part, more=True)
            powers.extend(_power(waveforms))
            audible = np.array(powers[-len(firsts) :]) >= SILENCE_RMS**2
            starts = tuple(first / SAMPLE_RATE for first, is_audible in zip(firsts, audible, strict=True) if is_audible)
            is_first = len(powers) == len(firsts)
            samples = as_int16(waveforms[audible])
            part = Snippets(samples, starts, n_samples / SAMPLE_RATE, "", instead=is_first and channel is not None)
    if part is None:
        raise AudioError(path, "cannot be decoded: no frame of it is intact")
    duration_seconds = part.duration_seconds
    if duration_seconds < SHORTEST_SECONDS:
        yield replace(part, samples=part.samples[:0], starts_seconds=(), unsure="shorter than 1 s")
        return
    if channel is None and np.median(powers) < QUIET_RMS**2 and duration_seconds <= LOOKED_THROUGH_SECONDS:
        with open_container(path, file) as container:
            channel = _channel_that_sounds(_powers(intact_frames(container), snippet_samples))
        if channel is not None:
            yield from _whole_song(path, file, snippet_samples, channel)
            return
    yield replace(part, unsure="" if max(powers) >= SILENCE_RMS**2 else "silent")


def _consecutive(
    blocks: Iterable[np.ndarray], length: int, n_together: int
) -> Iterator[tuple[np.ndarray, list[int], int]]:
    """Windows (n_windows, length) one after the other, where they begin, and how many samples there were up to then.

    The last one is shifted back to end with the song; of a song that is shorter it is repeated to fill it.
    """
    held: list[np.ndarray] = []
    before = np.zeros(0, np.float32)  # the last window that was yielded
    n_held = first = 0
    for block in blocks:
        held.append(block)
        n_held += len(block)
        if n_held > n_together * length:
            samples = np.concatenate(held)
            n_windows = (n_held - 1) // length  # one sample at least is left for the last window
            windows = samples[: n_windows * length].reshape(-1, length)
            yield windows, [first + i * length for i in range(n_windows)], first + windows.size
            before, first = windows[-1], first + windows.size
            held, n_held = [samples[windows.size :]], n_held - windows.size
    if not n_held:
        return
    samples = np.concatenate(held)
    n_windows = n_held // length
    windows = samples[: n_windows * length].reshape(-1, length)
    firsts = [first + i * length for i in range(n_windows)]
    if n_held % length:
        last = np.concatenate([before, samples])[-length:]
        windows = np.concatenate([windows, np.resize(last, (1, length))])
        firsts.append(first + n_held - len(last))
    yield windows, firsts, first + n_held


def _some_windows(wanted: Wanted, file: FileIO, snippet_samples: int) -> Snippets:
    """The snippets that are wanted of a song."""
    waveforms, firsts, n_samples = _decode_windows(wanted, file, snippet_samples)
    _refuse_no_numbers(wanted.path, waveforms)
    is_looked_through = SHORTEST_SECONDS * SAMPLE_RATE <= n_samples <= LOOKED_THROUGH_SECONDS * SAMPLE_RATE
    if is_looked_through and np.median(_power(waveforms)) < QUIET_RMS**2:
        waveforms, firsts = _look_through(wanted, file, snippet_samples, n_samples) or (waveforms, firsts)
    _refuse_no_numbers(wanted.path, waveforms)

    duration_seconds = n_samples / SAMPLE_RATE
    if duration_seconds < SHORTEST_SECONDS:
        return Snippets(as_int16(waveforms[:0]), (), duration_seconds, "shorter than 1 s")
    if n_samples < snippet_samples:
        waveforms = np.resize(waveforms[:, :n_samples], waveforms.shape)
    audible = _power(waveforms) >= SILENCE_RMS**2
    starts_seconds = tuple(first / SAMPLE_RATE for first, is_audible in zip(firsts, audible, strict=True) if is_audible)
    return Snippets(as_int16(waveforms[audible]), starts_seconds, duration_seconds, "" if audible.any() else "silent")


def as_int16(waveform: np.ndarray) -> np.ndarray:
    """A waveform of [-1, 1] in the format in which datasets keep it; louder than full scale is clipped, as it must."""
    scaled = waveform * np.float32(FULL_SCALE)
    samples: np.ndarray = np.clip(np.rint(scaled, out=scaled), -FULL_SCALE, FULL_SCALE - 1, out=scaled).astype("<i2")
    return samples


def _power(waveforms: np.ndarray) -> np.ndarray:
    """Mean square of each row, (n_rows, n_samples) to (n_rows,)."""
    power: np.ndarray = np.einsum("ij,ij->i", waveforms, waveforms) / waveforms.shape[1]
    return power


def _look_through(
    wanted: Wanted, file: FileIO, snippet_samples: int, n_samples: int
) -> tuple[np.ndarray, Sequence[int]] | None:
    """Snippets, and where they begin, spread over what sounds in a song that is mostly silent; None if nothing does.

    Twice through all of the song, which few songs need: once for the power of what lies between the starts of
    consecutive snippets, by channel, and once for the snippets.
    """
    with open_container(wanted.path, file) as container:
        powers = _powers(intact_frames(container), snippet_samples)
    sounding = np.flatnonzero(powers.max(axis=1) >= SILENCE_RMS**2) if len(powers) else ()
    if not len(sounding):
        return None
    n_wanted = min(len(sounding), wanted.n_snippets or len(sounding))
    chosen = sounding[(np.arange(n_wanted) * 2 + 1) * len(sounding) // (2 * n_wanted)]
    firsts = sorted({int(min(i * snippet_samples, max(0, n_samples - snippet_samples))) for i in chosen})
    known = {round(start * SAMPLE_RATE) for start in wanted.without}
    firsts = [first for first in firsts if first not in known] or firsts
    with open_container(wanted.path, file) as container:
        blocks = _resample(intact_frames(container), _channel_that_sounds(powers))
        return _cut(blocks, firsts, snippet_samples)[0], firsts


def _channel_that_sounds(powers: np.ndarray) -> int | None:
    """The loudest channel where channels cancel each other, of powers as `_powers` gives them; None: their mean."""
    if not len(powers):
        return None
    mean, *channels = powers[powers.max(axis=1) >= SILENCE_RMS**2].sum(axis=0)
    return int(np.argmax(channels)) if mean * CANCELLED < max(channels) else None


def _powers(frames: Iterable[av.AudioFrame], snippet_samples: int) -> np.ndarray:
    """Mean squares of consecutive stretches as long as a snippet, (n_stretches, 1 + n_channels): the mean's first."""
    sums: list[np.ndarray] = []
    position = 0.0
    for frame in frames:
        rows = np.atleast_2d(frame.to_ndarray())
        if not frame.format.is_planar:
            rows = rows.reshape(-1, frame.layout.nb_channels).T
        if rows.dtype.kind == "u":
            rows = rows.astype(np.float32) / 128 - 1
        elif rows.dtype.kind == "i":
            rows = rows.astype(np.float32) / 2.0 ** (8 * rows.dtype.itemsize - 1)
        squares = np.square(np.vstack([rows.mean(axis=0), rows])).sum(axis=1)
        index = int(position * SAMPLE_RATE / snippet_samples)
        sums.extend(np.zeros(len(squares)) for _ in range(index + 1 - len(sums)))
        if len(sums[index]) == len(squares):  # channels may come and go in the middle of a stream
            sums[index] += squares * SAMPLE_RATE / frame.sample_rate / snippet_samples
        position += frame.samples / frame.sample_rate
    return np.array([each for each in sums if len(each) == len(sums[0])])


def decode_song(path: str | Path) -> np.ndarray:
    """All of a song, (n_samples,) float32, mono, 16 kHz: what `decode` cuts its snippets from; raises AudioError.

    230 MB per hour of music, and as much again while it is put together.
    """
    path = Path(path)
    with opened(path) as file, open_container(path, file) as container:
        blocks = list(_resample(intact_frames(container)))
    if not blocks:
        raise AudioError(path, "cannot be decoded: no frame of it is intact")
    waveform = np.concatenate(blocks)
    _refuse_no_numbers(path, waveform)
    return waveform


class _File(FileIO):
    """A file that answers a senseless seek with -1, as FFmpeg expects, where Python would raise."""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except OSError:
            return -1


@contextmanager
def opened(path: Path) -> Iterator[FileIO]:
    """The file of a song; whatever goes wrong with it inside the block is an AudioError."""
    try:
        _refuse_odd_files(path)
        with _File(path) as file:
            yield file
    except av.error.EOFError as error:
        raise AudioError(path, "cannot be decoded: it ends too early") from error
    except av.FFmpegError as error:
        raise AudioError(path, f"cannot be decoded: {error.strerror}") from error
    except OSError as error:
        raise AudioError(path, f"cannot be read: {error.strerror}") from error


def _refuse_no_numbers(path: Path, samples: np.ndarray) -> None:
    """A broken file is better reported than fixed: its NaN would end as a genre that nobody predicted."""
    if not -LOUDEST <= samples.min() <= samples.max() <= LOUDEST:  # false for a NaN too
        raise AudioError(path, "cannot be decoded: it holds samples that are NaN or infinite")


def _refuse_odd_files(path: Path) -> None:
    """Raise AudioError for what must not be opened; a FIFO would wait forever for its other end."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise AudioError(path, "no such file") from None
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(path, "is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(path, "is not a regular file")
    if status.st_size == 0:
        raise AudioError(path, "empty file")


def _decode_windows(wanted: Wanted, file: FileIO, snippet_samples: int) -> tuple[np.ndarray, Sequence[int], int]:
    """Snippets (n_snippets, snippet_samples), the samples they begin at, and the length of the song in samples."""
    path = wanted.path
    with open_container(path, file) as container:
        if wanted.n_snippets is not None and _seeks_exactly(container):
            decoded = _decode_by_seeking(container, wanted, snippet_samples)
            if decoded is not None:
                return decoded
        declared_seconds = (container.duration or 0) / av.time_base
    n_samples = round(declared_seconds * SAMPLE_RATE) if declared_seconds < LONGEST_SECONDS else 0
    for _ in range(2):  # the second time only if the song turned out to be longer or shorter than declared
        firsts = _firsts(n_samples, wanted, snippet_samples)
        with open_container(path, file) as container:
            blocks = _resample(intact_frames(container))
            waveforms, n_decoded = _cut(blocks, firsts, snippet_samples)
            n_decoded += sum(map(len, blocks))
        if n_decoded == 0:
            raise AudioError(path, "cannot be decoded: no frame of it is intact")
        if abs(n_decoded - n_samples) <= SLACK_SAMPLES:
            break
        n_samples = n_decoded
    return waveforms, firsts, n_decoded


def open_container(path: Path, file: FileIO) -> InputContainer:
    """An open container with audio in it."""
    file.seek(0)
    container = av.open(file, "r", metadata_errors="replace", buffer_size=READ_BYTES, container_options=DEMUXER)
    if not container.streams.audio:
        raise AudioError(path, "no audio in it")
    codec = container.streams.audio[0].codec_context
    if (codec is not None and codec.codec_tag == "drms") or "ASF_Protection_Type" in container.metadata:
        raise AudioError(path, "protected by DRM")
    if codec is None:
        raise AudioError(path, "cannot be decoded: unknown codec")
    codec.thread_count = 1  # workers are the parallelism
    return container


def _seeks_exactly(container: InputContainer) -> bool:
    codecs = SEEKS_EXACTLY.get(container.format.name, ())
    return container.streams.audio[0].codec_context.name.startswith(codecs)


def _firsts(n_samples: int, wanted: Wanted, snippet_samples: int) -> list[int]:
    """The samples at which the snippets begin that are wanted; if that leaves none, at which all of them do."""
    starts = snippet_starts(n_samples / SAMPLE_RATE, wanted.n_snippets, snippet_samples / SAMPLE_RATE)
    firsts = [round(start * SAMPLE_RATE) for start in starts]
    known = {round(start * SAMPLE_RATE) for start in wanted.without}
    return [first for first in firsts if first not in known] or firsts


def _decode_by_seeking(
    container: InputContainer, wanted: Wanted, snippet_samples: int
) -> tuple[np.ndarray, Sequence[int], int] | None:
    """What `_decode_windows` returns, from the windows alone; None where the file is unfit or too short for it."""
    n_samples = _n_samples_by_timestamps(container)
    firsts = _firsts(n_samples, wanted, snippet_samples)
    if len(firsts) * (snippet_samples + 2 * SAMPLE_RATE) > n_samples:
        return None
    windows = []
    for first in firsts:
        window = _window(container, first, snippet_samples)
        if window is None:
            return None
        windows.append(window)
    return np.concatenate(windows), firsts, n_samples


def _n_samples_by_timestamps(container: InputContainer) -> int:
    """Length of the song by its last packets; 0 if the file is not in order: it has no length, or lies about it."""
    stream = container.streams.audio[0]
    if stream.duration is None:  # chained Ogg, streams
        return 0
    begin, tick = stream.start_time or 0, _tick(stream)
    second = int(1 / tick)
    try:
        container.seek(begin + max(0, stream.duration - second), stream=stream)
        ends = [packet.pts + (packet.duration or 0) for packet in container.demux(stream) if packet.pts is not None]
    except av.FFmpegError:
        logger.debug("the last packets cannot be read: the song is decoded whole", exc_info=True)
        return 0
    duration = max(ends, default=begin) - begin
    # MP3 and AAC without a header have but an estimate, yet seek exactly; others that differ are cut or glued.
    if abs(duration - stream.duration) > second and container.format.name not in ("mp3", "aac"):
        return 0
    return round(duration * tick * SAMPLE_RATE)


def _window(container: InputContainer, first: int, length: int) -> np.ndarray | None:
    """The window (1, length) that begins at sample `first`, found by seeking; None if it cannot be placed exactly."""
    stream = container.streams.audio[0]
    begin, tick = stream.start_time or 0, float(_tick(stream))
    # Resampled from where the sample grid of the song meets that of 16 kHz: every 10 ms at 44.1 kHz.
    grid = SAMPLE_RATE // math.gcd(stream.sample_rate, SAMPLE_RATE)
    start = max(0, int(first - EDGE_SECONDS * SAMPLE_RATE)) // grid * grid
    end_seconds = (first + length) / SAMPLE_RATE + EDGE_SECONDS
    try:
        container.seek(begin + int(max(0, start / SAMPLE_RATE - _lead_seconds(stream)) / tick), stream=stream)
    except av.FFmpegError:
        logger.debug("cannot seek to sample %d: the song is decoded whole", first, exc_info=True)
        return None
    frames: list[av.AudioFrame] = []
    origins: list[int] = []  # where in the song the first sample of `frames` is, as each frame has it
    n_samples = 0
    for frame in intact_frames(container):
        if frame.pts is None:
            return None
        rate = frame.sample_rate
        if n_samples > (end_seconds - start / SAMPLE_RATE + LOST_SECONDS) * rate:
            return None
        time = (frame.pts - begin) * tick
        frames.append(frame)
        origins.append(round(time * rate) - n_samples)
        n_samples += frame.samples
        if time > end_seconds:
            break
    if len(set(map(_shape, frames))) != 1:
        return None
    # The median, because frames of mixed size (Vorbis) may claim to be 448 samples late, a whole Ogg page at worst.
    n_before = start * rate // SAMPLE_RATE - median_low(origins)
    if n_before < 0 or start * rate % SAMPLE_RATE:
        return None
    window, n_read = _cut(_resample_alike(frames, n_before), [first - start], length)
    return window if n_read >= first - start + length else None


def _tick(stream: av.AudioStream) -> Fraction:
    """Seconds in a unit of its timestamps: of a stream in a file there always is one."""
    assert stream.time_base is not None
    return stream.time_base


def _lead_seconds(stream: av.AudioStream) -> float:
    codec = stream.codec_context.name
    return next((lead for name, lead in LEADS_SECONDS.items() if codec.startswith(name)), LEAD_SECONDS)


def intact_frames(container: InputContainer) -> Iterator[av.AudioFrame]:
    """All frames from here on that can be decoded; after a damaged place the container is asked to find its way."""
    stream = container.streams.audio[0]
    for _ in range(N_DAMAGES):
        try:
            for packet in container.demux(stream):
                try:
                    yield from packet.decode()
                except av.FFmpegError:
                    continue
            return
        except av.FFmpegError:
            continue


def _shape(frame: av.AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name


def _resample(frames: Iterable[av.AudioFrame], channel: int | None = None) -> Iterator[np.ndarray]:
    """Blocks (n_samples,) of 16 kHz, the mean of all channels or one of them."""
    for _, run in groupby(frames, key=_shape):
        yield from _resample_alike(run, channel=channel)


def _resample_alike(
    frames: Iterable[av.AudioFrame], n_before: int = 0, channel: int | None = None
) -> Iterator[np.ndarray]:
    """Blocks (n_samples,) of mono 16 kHz from frames of one shape, after `n_before` samples at their own rate."""
    resampler: Resampler | None = None
    for block, rate in _mixed(frames, n_before, channel):
        if rate == SAMPLE_RATE:
            yield block
            continue
        resampler = resampler or Resampler(rate)
        yield resampler(block)
    if resampler is not None:
        yield resampler.finish()


def _mixed(frames: Iterable[av.AudioFrame], n_before: int, channel: int | None) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks (n_samples,) of mono, at the rate of the frames or already at 16 kHz, and their rate."""
    graph: Graph | None = None
    for number, frame in enumerate(chain(frames, (None,)), 1):
        if graph is None:
            assert frame is not None  # there is one at least
            graph = _graph(frame, n_before, channel)
        graph.push(frame)
        if frame is not None and number % PULL_FRAMES:
            continue
        while True:
            try:
                block = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                break
            assert isinstance(block, av.AudioFrame)
            yield block.to_ndarray()[0], block.sample_rate


def _graph(frame: av.AudioFrame, n_before: int, channel: int | None) -> Graph:
    """A filter graph that drops samples, and averages the channels or takes one, of frames like this one."""
    graph = Graph()
    graph.threads = 1  # FFmpeg starts one per core otherwise, and none of these filters uses them
    rate, sample_format, layout = _shape(frame)
    n_channels = frame.layout.nb_channels
    if channel is not None and channel < n_channels:
        mix = f"c{channel}"
    else:
        mix = "+".join(f"{1 / n_channels}*c{i}" for i in range(n_channels))
    stages = [
        graph.add(
            "abuffer",
            f"sample_rate={rate}:sample_fmt={sample_format}:channel_layout={layout}:time_base=1/{rate}",
        ),
        graph.add("asetnsamples", f"n={BLOCK_SAMPLES}:p=0"),
        graph.add("atrim", f"start_sample={n_before}"),
        graph.add("aformat", "sample_fmts=fltp"),
        graph.add("pan", f"mono|c0={mix}"),
        *([graph.add("aresample", ODD_RESAMPLER)] if n_phases(rate) > MOST_PHASES else []),
        graph.add("abuffersink"),
    ]
    for stage, following in pairwise(stages):
        stage.link_to(following)
    graph.configure()
    return graph


def _cut(blocks: Iterator[np.ndarray], firsts: Sequence[int], length: int) -> tuple[np.ndarray, int]:
    """Windows (n_windows, length) that begin at ascending `firsts`, and how many samples were read to have them."""
    windows = np.zeros((len(firsts), length), np.float32)
    n_read = 0
    for block in blocks:
        end = n_read + len(block)
        for i in range(bisect_right(firsts, n_read - length), bisect_left(firsts, end)):
            low, high = max(firsts[i], n_read), min(firsts[i] + length, end)
            windows[i, low - firsts[i] : high - firsts[i]] = block[low - n_read : high - n_read]
        n_read = end
        if n_read >= firsts[-1] + length:
            break
    return windows, n_read
