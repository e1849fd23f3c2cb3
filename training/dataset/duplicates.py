"""Recordings that are in a dataset twice: re-encoded, trimmed, louder, or with a passage in common.

Sub-fingerprints after Haitsma and Kalker (2002, "A highly robust audio fingerprinting system", ISMIR): whether the
energy of a band, compared with that of the next band, rises or falls from one frame to the next. Two frames that have
all 32 bits in common are a candidate; the ten seconds around them decide. On 164 real songs, copies at 32 kbit/s
differ in up to 20 % of the bits, songs that share nothing in 38 % and more.

Not found are other performances, and copies at another speed or pitch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tagger.audio.decode import SAMPLE_RATE

DECIMATION = 4  # no band reaches 2 kHz
LOW_PASS_TAPS = 48
FRAME_SAMPLES = 2048  # 0.51 s at 4 kHz: long, so that a copy whose frames lie 32 ms off still has the same bits
HOP_SAMPLES = 256  # 64 ms
FRAMES_PER_SECOND = SAMPLE_RATE / DECIMATION / HOP_SAMPLES
LOWEST_HZ, HIGHEST_HZ, N_BANDS = 250.0, 1600.0, 33  # what every codec and every loudspeaker keeps; 32 differences

BLOCK_FRAMES = 156  # 10 s that must agree
LEAST_FRAMES = 78  # 5 s, of songs that have no ten seconds in common
MOST_ERRORS = 0.3  # share of bits, midway between what copies and what strangers show
N_NEIGHBOURS = 4  # with how many others that have the same bits a frame is compared: bounds the work
BATCH = 1 << 15  # candidates looked at together: 40 MB


@dataclass(frozen=True)
class Duplicate:
    """Two songs that hold the same recording, by their places in the list that was searched."""

    first: int
    second: int
    #: Share of the bits that differ over the ten seconds that agree best.
    errors: float


def fingerprint(waveform: np.ndarray) -> np.ndarray:
    """Sub-fingerprints uint32 (n_frames,) of a waveform (n_samples,) at 16 kHz, on any scale; 0 stands for silence.

    About 16 a second, 15 KB for four minutes. None below 0.6 s.
    """
    if len(waveform) < LOW_PASS_TAPS + DECIMATION * (FRAME_SAMPLES + HOP_SAMPLES):
        return np.zeros(0, np.uint32)
    spans = np.lib.stride_tricks.sliding_window_view(waveform, LOW_PASS_TAPS)[::DECIMATION]
    low_pass = _low_pass()
    decimated = np.concatenate([part.astype(np.float32) @ low_pass for part in _parts(spans, 1 << 16)])
    frames = np.lib.stride_tricks.sliding_window_view(decimated, FRAME_SAMPLES)[::HOP_SAMPLES]
    window = np.hanning(FRAME_SAMPLES).astype(np.float32)
    edges_hz = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (np.arange(N_BANDS + 1) / N_BANDS)
    edges = np.round(edges_hz * FRAME_SAMPLES * DECIMATION / SAMPLE_RATE).astype(int)
    energies = []
    for part in _parts(frames, 256):
        spectrum = np.fft.rfft(part * window)[:, edges[0] : edges[-1]]
        energies.append(np.add.reduceat(spectrum.real**2 + spectrum.imag**2, edges[:-1] - edges[0], axis=1))
    slopes = np.diff(np.concatenate(energies), axis=1)
    rises = np.diff(slopes, axis=0) > 0
    return np.packbits(rises, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)


def find_duplicates(fingerprints: Sequence[np.ndarray]) -> list[Duplicate]:
    """Pairs of songs that share ten seconds of a recording, each pair once, in order.

    Time and memory grow with the number of frames, hardly with the number of pairs. Of many copies of one song not
    every pair is named, but all are connected.
    """
    frames = np.concatenate([np.zeros(0, np.uint32), *fingerprints])
    ends = np.cumsum([len(each) for each in fingerprints])
    best: dict[tuple[int, int], float] = {}
    for one, other in _candidates(frames):
        firsts, seconds = np.searchsorted(ends, one, "right"), np.searchsorted(ends, other, "right")
        differ = firsts != seconds
        one, other, firsts, seconds = one[differ], other[differ], firsts[differ], seconds[differ]
        starts = np.concatenate([[0], ends])
        before = np.minimum(one - starts[firsts], other - starts[seconds])
        after = np.minimum(ends[firsts] - one, ends[seconds] - other)
        errors = _errors(frames, one, other, before, after)
        for i in np.flatnonzero(errors <= MOST_ERRORS):
            pair = int(firsts[i]), int(seconds[i])
            best[pair] = min(best.get(pair, 1.0), float(errors[i]))
    return [Duplicate(*pair, errors) for pair, errors in sorted(best.items())]


def _candidates(frames: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places of frames that have all bits in common, the earlier one first, in batches (n_candidates,)."""
    order = np.argsort(frames, kind="stable")
    ordered = frames[order]
    for distance in range(1, N_NEIGHBOURS + 1):
        same = np.flatnonzero((ordered[distance:] == ordered[:-distance]) & (ordered[distance:] != 0))
        for part in _parts(same, BATCH):
            yield order[part], order[part + distance]


def _errors(
    frames: np.ndarray, one: np.ndarray, other: np.ndarray, before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """Share of bits (n_candidates,) that differ in the block around each pair of places.

    `before` and `after` say how far both songs reach. 1 where less than five seconds can be compared: frames that are
    silent in both do not count.
    """
    n_frames = np.minimum(before + after, BLOCK_FRAMES)
    begin = np.clip(-(BLOCK_FRAMES // 2), -before, after - n_frames)[:, None]
    steps = begin + np.minimum(np.arange(BLOCK_FRAMES), n_frames[:, None] - 1)
    ones, others = frames[one[:, None] + steps], frames[other[:, None] + steps]
    counts = (np.arange(BLOCK_FRAMES) < n_frames[:, None]) & ((ones | others) != 0)
    n_wrong = _N_BITS[(ones ^ others).view(np.uint8)].reshape(*ones.shape, 4).sum(2, dtype=np.uint8)
    n_sound = counts.sum(1)
    errors = np.where(counts, n_wrong, 0).sum(1) / (32 * np.maximum(n_sound, 1))
    return np.where(n_sound >= LEAST_FRAMES, errors, 1.0)


_N_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)


def _low_pass() -> np.ndarray:
    """Taps (LOW_PASS_TAPS,) that pass 1.6 kHz and keep what lies beyond 2.4 kHz from folding onto it."""
    time = np.arange(LOW_PASS_TAPS) - (LOW_PASS_TAPS - 1) / 2
    cut = SAMPLE_RATE / DECIMATION / 2
    taps = np.sinc(2 * cut / SAMPLE_RATE * time) * np.hanning(LOW_PASS_TAPS + 2)[1:-1]
    return (taps / taps.sum()).astype(np.float32)


def _parts(array: np.ndarray, length: int) -> Iterator[np.ndarray]:
    return (array[first : first + length] for first in range(0, len(array), length))
