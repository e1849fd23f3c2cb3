"""Resampling by matrix products is what FFmpeg's own filter makes of the same samples."""

import time
from itertools import pairwise

import av
import numpy as np
import pytest
from av.filter import Graph

from tagger.audio.resample import FILTER_SIZE, MOST_PHASES, TARGET_RATE, Resampler, n_phases

RATES = (8_000, 9_600, 11_025, 12_000, 22_050, 24_000, 32_000, 37_800, 44_100, 48_000, 88_200, 96_000, 352_800)


def noise(rate: int, seconds: float = 3.0) -> np.ndarray:
    return np.random.default_rng(rate).uniform(-0.5, 0.5, int(rate * seconds)).astype(np.float32)


def by_ffmpeg(waveform: np.ndarray, rate: int) -> np.ndarray:
    graph = Graph()
    stages = (
        graph.add("abuffer", f"sample_rate={rate}:sample_fmt=fltp:channel_layout=mono:time_base=1/{rate}"),
        graph.add("aresample", f"{TARGET_RATE}:filter_size={FILTER_SIZE}"),
        graph.add("abuffersink"),
    )
    for stage, following in pairwise(stages):
        stage.link_to(following)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(waveform[None], "fltp", "mono")
    frame.sample_rate = rate
    graph.push(frame)
    graph.push(None)
    blocks = []
    while True:
        try:
            blocks.append(graph.pull().to_ndarray()[0])
        except (av.error.BlockingIOError, av.error.EOFError):
            return np.concatenate(blocks)


def in_blocks(waveform: np.ndarray, rate: int, lengths: list[int]) -> np.ndarray:
    resampler = Resampler(rate)
    parts, begin = [], 0
    for length in [*lengths, len(waveform)]:
        parts.append(resampler(waveform[begin : begin + length]))
        begin += length
    return np.concatenate([*parts, resampler.finish()])


@pytest.mark.parametrize("rate", RATES)
def test_it_is_the_filter_of_ffmpeg(rate: int) -> None:
    """But for the ends, where FFmpeg takes a song to go on as its mirror image, and here there is silence."""
    assert n_phases(rate) <= MOST_PHASES
    waveform = noise(rate)
    ours, theirs = in_blocks(waveform, rate, []), by_ffmpeg(waveform, rate)
    assert abs(len(ours) - len(theirs)) <= 1
    inner = slice(TARGET_RATE // 50, -TARGET_RATE // 50)
    ours, theirs = ours[: len(theirs)][inner], theirs[: len(ours)][inner]
    assert np.abs(ours - theirs).max() < 1e-5  # a third of a step of int16
    assert np.abs(ours).max() > 0.1


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_blocks_of_any_length_make_the_same(rate: int) -> None:
    waveform = noise(rate)
    whole = in_blocks(waveform, rate, [])
    assert len(whole) == 3 * TARGET_RATE
    for lengths in ([1, 2, 3, 0, 5000, 1], [rate], [7] * 200):
        assert np.abs(in_blocks(waveform, rate, lengths) - whole).max() < 1e-6


@pytest.mark.parametrize("n_samples", [0, 1, 40, 441, 1000])
def test_the_shortest_songs_have_all_their_samples(n_samples: int) -> None:
    made = in_blocks(np.ones(n_samples, np.float32), 44_100, [])
    assert len(made) == -(-n_samples * TARGET_RATE // 44_100)


def test_it_computes_on_one_thread() -> None:
    """Products are small enough for that; else decoders, of which there is one for each core, would take turns."""
    waveform, resampler = noise(44_100, 20), Resampler(44_100)
    resampler(waveform)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(10):
        resampler(waveform)
    assert time.process_time() - cpu < 1.3 * (time.perf_counter() - wall) + 0.02
