import math
import os
import pickle
import struct
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tagger.audio import decode as audio
from tagger.audio.decode import SAMPLE_RATE, Snippets, Wanted, decode, decode_song, decode_wanted, snippet_starts
from tagger.errors import AudioError
from tests.support.songs import FORMATS, make_song, synthesize

DATA = Path(__file__).parents[1] / "data"

# Kind of file → how to make it. AAC without its noise substitution, which is random by design.
PLAIN_AAC = {"options": {"aac_pns": "0"}}
VBR = {"options": {"flags": "+qscale", "global_quality": "590"}}  # LAME's -V 5
KINDS: dict[str, dict] = {
    **{suffix: {} for suffix in FORMATS},
    **dict.fromkeys((".aac", ".m4a", ".m4b", ".mp4"), PLAIN_AAC),
    "alac.m4a": {"codec": "alac"},
    "vbr.mp3": VBR,
    "vbr without header.mp3": {**VBR, "container_options": {"write_xing": "0", "id3v2_version": "0"}},
    "8 kHz.mp3": {"rate": 8_000, "bit_rate": 8_000},
    "24 bit.wav": {"codec": "pcm_s24le"},
    "float.wav": {"codec": "pcm_f32le"},
    ".dsf": {"rate": 8_000},
    ".dff": {"rate": 8_000},
    ".ogg": {"channels": 2},
}
IN_SEQUENCE = {".ac3", ".mka", ".wma"}


@pytest.fixture
def roads(monkeypatch):
    """Which road each decode took: True by seeking, False where seeking was tried in vain, none where it was not."""
    taken = []
    seek = audio._decode_by_seeking

    def spy(*args):
        decoded = seek(*args)
        taken.append(decoded is not None)
        return decoded

    monkeypatch.setattr(audio, "_decode_by_seeking", spy)
    return taken


def name_of(kind: str) -> str:
    return kind if not kind.startswith(".") else f"song{kind}"


def whole_song(path: Path) -> np.ndarray:
    """All of a song (n_samples,), from a decode that never seeks."""
    snippets = decode(path, None)
    song = np.zeros(round(snippets.duration_seconds * SAMPLE_RATE), np.float32)
    for start, waveform in zip(snippets.starts_seconds, snippets.waveforms, strict=True):
        first = round(start * SAMPLE_RATE)
        song[first : first + len(waveform)] = waveform[: len(song) - first]
    return song


def tone(frequency: float, seconds: float, rate: int, level: float = 0.5) -> np.ndarray:
    return np.float32(level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate))


def strongest(waveform: np.ndarray) -> float:
    """The strongest frequency in Hz."""
    return float(np.abs(np.fft.rfft(waveform)).argmax() * SAMPLE_RATE / len(waveform))


def rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


# Where snippets are taken


@pytest.mark.parametrize("duration", [10.001, 19.99, 20.0, 20.01, 61.7, 240.0, 10_800.0])
@pytest.mark.parametrize("n_snippets", [1, 3, 5, 50])
def test_snippets_are_spread_evenly_and_stay_off_the_ends(duration, n_snippets):
    starts = snippet_starts(duration, n_snippets)
    assert len(starts) == min(n_snippets, max(1, int(duration / 10)))
    gaps = np.diff([0.0, *starts, duration - 10])
    assert gaps == pytest.approx(gaps[0])
    assert gaps[0] > 0


@pytest.mark.parametrize("duration", [50.0, 61.7, 240.1, 10_800.3])
def test_two_snippets_are_two_of_five(duration):
    assert snippet_starts(duration, 2) == snippet_starts(duration, 5)[1::2]


@pytest.mark.parametrize("duration", [10.001, 19.99, 20.0, 20.01, 61.7, 240.0])
def test_all_snippets_cover_the_song(duration):
    starts = snippet_starts(duration, None)
    assert starts[0] == 0 and starts[-1] == pytest.approx(duration - 10)
    assert all(0 < later - earlier <= 10 for earlier, later in pairwise(starts))


@pytest.mark.parametrize("n_snippets", [None, 1, 5])
@pytest.mark.parametrize("duration", [0.0, 3.0, 10.0])
def test_a_short_song_is_one_snippet(duration, n_snippets):
    assert snippet_starts(duration, n_snippets) == (0.0,)


# Seeking lands right


@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_the_same_by_seeking_as_in_a_full_decode(tmp_path, roads, kind):
    path = make_song(tmp_path / name_of(kind), **{"channels": 1, "seconds": 28, **KINDS[kind]})
    song = whole_song(path)
    assert not roads
    snippets = decode(path, 4, snippet_samples=32_000)
    assert roads == ([] if kind in IN_SEQUENCE else [True])
    assert len(snippets.waveforms) == 4
    assert snippets.duration_seconds == pytest.approx(len(song) / SAMPLE_RATE, abs=0.05)
    for start, waveform in zip(snippets.starts_seconds, snippets.waveforms, strict=True):
        first = round(start * SAMPLE_RATE)
        # One sample of shift would differ by 0.1 and more.
        assert np.abs(waveform - song[first : first + 32_000]).max() < 1e-3


@pytest.mark.parametrize("kind", ["8 kHz.mp3", ".opus"])
def test_a_decoder_has_its_run_up(tmp_path, kind):
    """Windows that begin where the least of it is left: a little more than EDGE_SECONDS into a second."""
    path = make_song(tmp_path / name_of(kind), **{"channels": 1, "seconds": 28, "signal": "noise", **KINDS[kind]})
    song = whole_song(path)
    with audio._File(path) as file, audio.open_container(path, file) as container:
        for second in range(3, 23, 2):
            first = second * SAMPLE_RATE + round(audio.EDGE_SECONDS * SAMPLE_RATE) + 1
            window = audio._window(container, first, 8_000)
            assert window is not None and np.abs(window[0] - song[first : first + 8_000]).max() < 1e-3


@pytest.mark.parametrize("kind", [".flac", ".mp3", ".ogg", ".opus", ".wma", ".au"])
def test_a_whole_song_is_what_its_snippets_are_cut_from(tmp_path, kind):
    path = make_song(tmp_path / f"song{kind}", 28)
    song = decode_song(path)
    assert song.dtype == np.float32 and len(song) / SAMPLE_RATE == pytest.approx(28, abs=0.1)
    for n_snippets in (2, None):
        snippets = decode(path, n_snippets, 32_000)
        for start, waveform in zip(snippets.starts_seconds, snippets.waveforms, strict=True):
            expected = song[round(start * SAMPLE_RATE) :][:32_000]
            assert len(expected) > 31_000  # a song may end a little before its declared end
            assert np.abs(waveform[: len(expected)] - expected).max() < 1e-3


@pytest.mark.parametrize("n_expected", [3, 2])
@pytest.mark.parametrize("suffix", [".flac", ".wma"])
def test_what_is_known_is_not_decoded_again(tmp_path, suffix, n_expected):
    path = make_song(tmp_path / f"song{suffix}", 40, channels=1)
    expected = decode(path, 5, 32_000)
    known, left = (expected.starts_seconds[: 5 - n_expected], expected.starts_seconds[5 - n_expected :])
    snippets = decode_wanted(Wanted(path, 5, known), 32_000)
    assert snippets.starts_seconds == left
    assert np.array_equal(snippets.waveforms, expected.waveforms[5 - n_expected :])
    everything = decode_wanted(Wanted(path, 5, expected.starts_seconds), 32_000)
    assert everything.starts_seconds == expected.starts_seconds  # nothing is left: the asker was mistaken


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 44_101, 48_000, 96_000])
def test_windows_begin_on_the_sample_at_every_rate(tmp_path, roads, rate):
    path = make_song(tmp_path / "song.flac", 30, rate=rate, channels=1, signal="noise")
    song = whole_song(path)
    snippets = decode(path, 5, 16_000)
    assert roads == [True]
    for start, waveform in zip(snippets.starts_seconds, snippets.waveforms, strict=True):
        assert np.abs(waveform - song[round(start * SAMPLE_RATE) :][:16_000]).max() < 1e-6


def test_noise_substitution_of_aac_does_not_shift_it(tmp_path, roads):
    path = make_song(tmp_path / "song.m4a", seconds=40, signal="noise", channels=1, bit_rate=48_000)
    song = whole_song(path)
    snippets = decode(path, 3, snippet_samples=32_000)
    assert roads == [True]
    for start, waveform in zip(snippets.starts_seconds, snippets.waveforms, strict=True):
        first = round(start * SAMPLE_RATE)
        shifts = range(-50, 51)
        likeness = [float(np.dot(waveform, song[first + shift : first + shift + 32_000])) for shift in shifts]
        assert shifts[int(np.argmax(likeness))] == 0


def test_a_frame_with_a_late_timestamp_moves_nothing(tmp_path, roads, monkeypatch):
    """As libvorbis does it: the last frame of a page may claim 448 samples too many, and a seek may land on it."""
    path = make_song(tmp_path / "song.ogg", seconds=40)
    expected = decode(path, 3, 32_000)
    frames = audio.intact_frames

    def late(container):
        for index, frame in enumerate(frames(container)):
            frame.pts += 448 if index % 7 == 0 else 0
            yield frame

    monkeypatch.setattr(audio, "intact_frames", late)
    assert np.array_equal(decode(path, 3, 32_000).waveforms, expected.waveforms)
    assert roads == [True, True]


def test_a_seek_that_lands_too_late_is_noticed(tmp_path, roads, monkeypatch):
    path = make_song(tmp_path / "song.flac", seconds=40)
    expected = decode(path, 3, 32_000)
    monkeypatch.setattr(audio, "LEAD_SECONDS", -3.0)
    monkeypatch.setattr(audio, "LEADS_SECONDS", {})
    assert np.array_equal(decode(path, 3, 32_000).waveforms, expected.waveforms)
    assert roads == [True, False]


def test_seeking_works_in_hours_of_mp3(tmp_path, roads):
    """FFmpeg's usual index holds 44 000 frames; of more it forgets the early ones."""
    bare = {"write_xing": "0", "id3v2_version": "0"}
    minute = make_song(tmp_path / "minute.mp3", 60, 24_000, 1, bit_rate=8_000, container_options=bare)
    path = tmp_path / "song.mp3"
    path.write_bytes(minute.read_bytes() * 180)
    assert decode(path, 5, 16_000).duration_seconds == pytest.approx(3 * 3600, rel=0.01)
    assert roads == [True]


def test_seeking_is_left_out_where_it_saves_nothing(tmp_path, roads):
    path = make_song(tmp_path / "song.flac", seconds=40, rate=16_000, channels=1)
    assert len(decode(path, 4).waveforms) == 4
    assert roads == [False]


# Files whose length or order cannot be trusted


def test_length_of_a_vbr_mp3_without_header_is_measured(tmp_path, roads):
    """The estimate from its first frames is far off: silence takes fewer bits than music."""
    signal = np.concatenate([np.zeros((1, 20 * 44_100)), synthesize("music", 20, 44_100, 1)], axis=1)
    path = make_song(tmp_path / "song.mp3", signal=signal, **KINDS["vbr without header.mp3"])
    snippets = decode(path, 4, 16_000)
    assert snippets.duration_seconds == pytest.approx(40, abs=0.1)
    assert roads == [True]


@pytest.mark.parametrize("suffix", [".opus", ".oga", ".flac", ".mp3"])
def test_files_glued_together_are_classified_to_the_end(tmp_path, suffix):
    first = make_song(tmp_path / f"a{suffix}", 10, channels=1, seed=1).read_bytes()
    second = make_song(tmp_path / f"b{suffix}", 30, channels=1, seed=2).read_bytes()
    (tmp_path / f"c{suffix}").write_bytes(first + second)
    snippets = decode(tmp_path / f"c{suffix}", 3, 16_000)
    assert snippets.duration_seconds == pytest.approx(40, abs=0.2)
    assert np.diff(snippets.starts_seconds) == pytest.approx(9.75, abs=0.1)


def test_a_stream_without_declared_length_is_measured(tmp_path, roads):
    path = tmp_path / "song.flac"
    content = bytearray(make_song(path, 40).read_bytes())
    content[21] &= 0xF0  # STREAMINFO: total samples, 36 bits, 0 for unknown
    content[22:26] = bytes(4)
    path.write_bytes(content)
    snippets = decode(path, 3, 16_000)
    assert snippets.duration_seconds == pytest.approx(40, abs=0.01)
    assert snippets.starts_seconds == pytest.approx((9.75, 19.5, 29.25), abs=0.01)
    assert True not in roads


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".opus", ".wav", ".aiff", ".wv", ".wma", ".aac", ".tta"])
def test_of_a_truncated_file_the_rest_is_the_song(tmp_path, suffix):
    path = make_song(tmp_path / f"song{suffix}", 40, rate=22_050, signal="noise")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    snippets = decode(path, 3, 16_000)
    assert snippets.duration_seconds == pytest.approx(20, abs=3)
    assert len(snippets.waveforms) == 3
    assert snippets.starts_seconds == pytest.approx(
        [(snippets.duration_seconds - 1) * k / 4 for k in (1, 2, 3)], abs=0.01
    )


def test_a_truncated_m4a_is_classified_where_its_index_comes_first(tmp_path):
    path = make_song(tmp_path / "song.m4a", 40, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert decode(path, 3, 16_000).duration_seconds == pytest.approx(20, abs=3)


@pytest.mark.parametrize(
    ("suffix", "rate"), [(".mp3", 22_050), (".flac", 22_050), (".ogg", 44_100), (".opus", 48_000), (".m4a", 22_050)]
)
def test_a_damaged_middle_is_skipped(tmp_path, suffix, rate):
    path = make_song(tmp_path / f"song{suffix}", 40, rate=rate, signal="noise")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 50] = np.random.default_rng(0).bytes(len(content) // 50)
    path.write_bytes(content)
    for n_snippets in (3, None):
        snippets = decode(path, n_snippets, 32_000)
        assert snippets.duration_seconds == pytest.approx(40, abs=3)
        assert len(snippets.waveforms) >= 3


# Short, silent and broken songs


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".wav", ".opus"])
def test_a_song_shorter_than_a_snippet_is_repeated(tmp_path, suffix):
    path = make_song(tmp_path / f"song{suffix}", 3.0, channels=1)
    snippets = decode(path, 5)
    assert snippets.waveforms.shape == (1, audio.SNIPPET_SAMPLES)
    assert snippets.starts_seconds == (0.0,)
    assert snippets.duration_seconds == pytest.approx(3.0, abs=0.05)
    period = round(snippets.duration_seconds * SAMPLE_RATE)
    assert np.array_equal(snippets.waveforms[0, period:], snippets.waveforms[0, :-period])
    assert rms(snippets.waveforms[0, -SAMPLE_RATE:]) > 0.01


@pytest.mark.parametrize("n_snippets", [1, 5, None])
def test_under_one_second_nothing_is_decided(tmp_path, n_snippets):
    snippets = decode(make_song(tmp_path / "song.wav", 0.9), n_snippets)
    assert snippets.unsure == "shorter than 1 s"
    assert snippets.waveforms.shape == (0, audio.SNIPPET_SAMPLES)
    assert snippets.starts_seconds == ()


@pytest.mark.parametrize("kind", [".wav", ".mp3", ".opus"])
def test_silence_is_no_error_and_no_snippet(tmp_path, kind):
    snippets = decode(make_song(tmp_path / f"song{kind}", 25, signal="silence"), 2)
    assert snippets.unsure == "silent"
    assert snippets.waveforms.shape == (0, audio.SNIPPET_SAMPLES)


@pytest.mark.parametrize("suffix", [".flac", ".wav", ".mp3", ".m4a", ".opus"])
def test_channels_in_opposite_phase_are_classified_by_one_of_them(tmp_path, suffix):
    left = synthesize("music", 30, 44_100, 1)[0]
    path = make_song(tmp_path / f"song{suffix}", rate=44_100, signal=np.stack([left, -left]), channels=2)
    alone = make_song(tmp_path / f"left{suffix}", rate=44_100, signal=left[None], channels=1)
    snippets, expected = decode(path, 2), decode(alone, 2)
    assert snippets.unsure == "" and len(snippets.waveforms) == 2
    assert rms(snippets.waveforms) == pytest.approx(rms(expected.waveforms), rel=0.2)


def test_a_louder_channel_is_taken_alone_only_where_the_sum_cancels(tmp_path):
    left = tone(1000, 12, 16_000, level=2**0.5 * 10 ** (-45 / 20))[None]
    path = make_song(tmp_path / "song.wav", rate=16_000, signal=np.concatenate([left, 0 * left]), codec="pcm_f32le")
    assert rms(decode(path, 1).waveforms) == pytest.approx(10 ** (-51 / 20), rel=0.1)  # half of the louder one


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".opus"])
@pytest.mark.parametrize("n_snippets", [1, 3, 5, None])
def test_snippets_are_spread_over_what_sounds(tmp_path, suffix, n_snippets):
    signal = np.concatenate([np.zeros(90 * 16_000), synthesize("music", 12, 16_000, 1)[0]])[None]
    path = make_song(tmp_path / f"song{suffix}", rate=16_000, signal=signal, channels=1)
    snippets = decode(path, n_snippets, 64_000)  # 4 s
    assert snippets.unsure == ""
    assert len(snippets.waveforms) == min(n_snippets or 4, len(snippets.starts_seconds)) >= min(n_snippets or 3, 3)
    assert all(start > 85 for start in snippets.starts_seconds)
    assert len(set(snippets.starts_seconds)) == len(snippets.starts_seconds)
    if n_snippets is None:
        return
    again = audio.decode_wanted(audio.Wanted(path, n_snippets, snippets.starts_seconds[:1]), 64_000)
    assert snippets.starts_seconds[0] not in again.starts_seconds or len(snippets.starts_seconds) == 1


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".opus"])
@pytest.mark.parametrize("seconds", [2.5, 4, 29, 32, 32.5])
def test_a_whole_song_comes_in_parts(tmp_path, monkeypatch, suffix, seconds):
    monkeypatch.setattr(audio, "PART_SECONDS", 9)  # two snippets of 4 s
    path = make_song(tmp_path / f"song{suffix}", rate=44_100, seconds=seconds)
    parts = list(audio.decode_parts(Wanted(path, None), 64_000))
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert len(parts) == math.ceil(len(decode_song(path)) / 64_000 / 2) and max(len(p.samples) for p in parts) <= 3
    song = decode_song(path)
    starts = snippet_starts(len(song) / 16_000, None, 4)
    expected = [np.resize(song[round(start * 16_000) :], 64_000) for start in starts]
    np.testing.assert_allclose(np.concatenate([part.waveforms for part in parts]), expected, atol=1 / 32_768)
    assert [each for part in parts for each in part.starts_seconds] == pytest.approx(list(starts), abs=1e-4)
    assert [part.instead for part in parts] == [False] * len(parts)
    np.testing.assert_array_equal(decode(path, None, 64_000).samples, np.concatenate([part.samples for part in parts]))


def test_parts_of_a_song_whose_channels_cancel_come_again_of_one_channel(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "PART_SECONDS", 9)
    left = synthesize("music", 30, 16_000, 1)[0]
    path = make_song(tmp_path / "song.flac", rate=16_000, signal=np.stack([left, -left]), channels=2)
    parts = list(audio.decode_parts(Wanted(path, None), 64_000))
    first = next(i for i, part in enumerate(parts) if part.instead)
    assert [part.instead for part in parts].count(True) == 1 and all(part.more for part in parts[:-1])
    assert all(len(part.samples) == 0 for part in parts[:first]) and parts[-1].unsure == ""
    whole = decode(path, None, 64_000)
    assert rms(whole.waveforms[0]) == pytest.approx(rms(left[:64_000].astype(np.float32)), rel=0.01)
    assert len(whole.samples) == 8 and not whole.instead


@pytest.mark.parametrize(("decibel", "n_expected"), [(-62, 1), (-58, 2)])
def test_only_snippets_below_60_decibel_are_dropped(tmp_path, decibel, n_expected):
    quiet = tone(1000, 15, 16_000, level=2**0.5 * 10 ** (decibel / 20))
    signal = np.concatenate([quiet, tone(1000, 15, 16_000)])[None]
    snippets = decode(make_song(tmp_path / "song.wav", rate=16_000, signal=signal, codec="pcm_f32le"), 2, 32_000)
    assert snippets.unsure == ""
    assert snippets.waveforms.shape == (n_expected, 32_000)
    assert len(snippets.starts_seconds) == n_expected and snippets.starts_seconds[-1] > 15


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_samples_that_are_no_numbers_are_an_error(tmp_path, value):
    signal = synthesize("music", 20, 16_000, 1)
    signal[0, 160_000] = value
    path = make_song(tmp_path / "song.wav", rate=16_000, signal=signal, codec="pcm_f32le")
    for predict in (decode_song, lambda path: decode(path, 1)):
        with pytest.raises(AudioError, match="NaN or infinite"):
            predict(path)


# Every shape of audio becomes mono at 16 kHz


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_a_tone_keeps_pitch_phase_and_level(tmp_path, rate):
    path = make_song(tmp_path / "song.flac", rate=rate, signal=tone(1000, 30, rate)[None])
    snippets = decode(path, 2, 32_000)
    for start, waveform in zip(snippets.starts_seconds, snippets.waveforms, strict=True):
        time = round(start * SAMPLE_RATE) + np.arange(32_000)
        assert np.abs(waveform - 0.5 * np.sin(2 * np.pi * 1000 * time / SAMPLE_RATE)).max() < 2e-3


@pytest.mark.parametrize("rate", [44_100, 48_000, 192_000])
@pytest.mark.parametrize(
    ("frequency", "gain"), [(100, 1), (5_000, 1), (7_200, 1), (8_100, 0), (10_000, 0), (15_900, 0)]
)
def test_what_16_khz_cannot_hold_is_removed_and_the_rest_kept(tmp_path, rate, frequency, gain):
    path = make_song(tmp_path / "song.wav", rate=rate, signal=tone(frequency, 12, rate)[None], codec="pcm_f32le")
    # The first snippet is at the resampler's cold start; a tone that is gone leaves a click there, and silence after.
    waveform = audio._cut(
        audio._resample(audio.intact_frames(audio.open_container(path, audio._File(path)))), [16_000], 160_000
    )[0][0]
    assert rms(waveform) == pytest.approx(gain * 0.5 / 2**0.5, abs=0.01 if gain else 2e-4)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8])
def test_channels_are_averaged(tmp_path, channels):
    for loud in range(channels):
        signal = np.zeros((channels, 12 * 16_000), np.float32)
        signal[loud] = tone(1000, 12, 16_000, level=0.8)
        waveform = decode(make_song(tmp_path / "song.wav", rate=16_000, signal=signal), 1).waveforms[0]
        assert strongest(waveform) == pytest.approx(1000, abs=0.1)
        assert np.abs(waveform).max() == pytest.approx(0.8 / channels, rel=0.01)


def test_channels_without_names_are_averaged_too(tmp_path):
    path = make_song(tmp_path / "song.wav", 12, rate=16_000, channels=4, signal="noise", codec="pcm_f32le")
    expected = decode(path, 1).waveforms
    content = bytearray(path.read_bytes())
    assert content[20:22] == b"\xfe\xff"  # WAVE_FORMAT_EXTENSIBLE: 20 bytes in, its channel mask is 40 bytes in
    content[40:44] = bytes(4)
    path.write_bytes(content)
    assert np.array_equal(decode(path, 1).waveforms, expected)


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        (".wav", {"codec": "pcm_u8"}),
        (".wav", {"codec": "pcm_s32le"}),
        (".wav", {"codec": "pcm_f64le"}),
        (".wav", {"codec": "pcm_mulaw"}),
        (".flac", {"rate": 192_000}),
        (".wav", {"rate": 192_000, "channels": 8}),
        (".m4a", {"rate": 48_000, "channels": 6}),
        (".opus", {"rate": 48_000, "channels": 1}),
    ],
)
def test_every_kind_of_samples_sounds_alike(tmp_path, suffix, how):
    rate, channels = how.get("rate", 16_000), how.get("channels", 2)
    signal = np.tile(tone(440, 12, rate), (channels, 1))
    waveform = decode(make_song(tmp_path / f"song{suffix}", **{"rate": rate, **how, "signal": signal}), 1).waveforms[0]
    assert strongest(waveform) == pytest.approx(440, abs=0.1)
    share = 5 / 6 if suffix == ".m4a" else 1  # a lossy bass channel holds no 440 Hz
    assert rms(waveform) == pytest.approx(share * 0.5 / 2**0.5, rel=0.03)


@pytest.mark.parametrize(("name", "seconds"), [("audio_tone.mpc", 1.5), ("audio_tone.spx", 2.0)])
def test_formats_that_only_other_encoders_make(name, seconds):
    snippets = decode(DATA / name, 5)
    assert snippets.duration_seconds == pytest.approx(seconds, abs=0.1)
    assert strongest(snippets.waveforms[0]) == pytest.approx(1000, abs=15)


# What is around the audio does not matter


COVER = bytes.fromhex(  # an 8×8 PNG
    "89504e470d0a1a0a0000000d4948445200000008000000080802000000"
    "4b6d29dc0000001049444154789c6360a03918050c0c0c00"
    "00c800010f1e0d3a0000000049454e44ae426082"
)


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".mp4"])
@pytest.mark.parametrize("cover", [COVER, COVER[:40] + b"\xff" * 400_000], ids=["intact", "large and broken"])
def test_a_cover_does_not_disturb(tmp_path, roads, suffix, cover):
    how = {"seconds": 25, "channels": 1, "options": {"aac_pns": "0"} if suffix == ".mp4" else None}
    expected = decode(make_song(tmp_path / f"plain{suffix}", **how), 3, 32_000)
    covered = make_song(tmp_path / f"covered{suffix}", cover=cover, **how)
    snippets = decode(covered, 3, 32_000)
    assert np.allclose(snippets.waveforms, expected.waveforms, atol=1e-6)
    assert roads == [True, True]


def test_metadata_in_another_encoding_does_not_disturb(tmp_path):
    path = make_song(tmp_path / "song.flac", 12, metadata={"title": "AAAAAAAA"})
    path.write_bytes(path.read_bytes().replace(b"AAAAAAAA", b"\xff\xfe\x80\xe9\xe9\xe9\xe9\xe9"))
    assert len(decode(path, 1).waveforms) == 1


@pytest.mark.parametrize(
    "name", [b"new\nline.mp3", b"caf\xe9 \xff.mp3", b"%03d.mp3", b"concat:a|b.mp3", b"-i.mp3", "Ж 音楽 🎵.mp3".encode()]
)
def test_odd_names_are_names(tmp_path, name):
    make_song(tmp_path / "song.mp3", 3)
    path = tmp_path / os.fsdecode(name)
    try:
        (tmp_path / "song.mp3").rename(path)
    except OSError:
        pytest.skip("this file system cannot hold the name")
    assert len(decode(path, 1).waveforms) == 1


# Errors


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".opus", ".m4a", ".wav", ".aiff", ".wma", ".wv", ".dsf"])
@pytest.mark.parametrize(
    "content",
    [
        b"just some text\n" * 99,
        bytes(9_999),
        b"<html><body>not found</body></html>",
        b"x",
        np.random.default_rng(0).bytes(9999),
    ],
    ids=["text", "zeros", "html", "one byte", "garbage"],
)
def test_what_is_no_audio_is_an_audio_error(tmp_path, capfd, suffix, content):
    path = tmp_path / f"song{suffix}"
    path.write_bytes(content)
    with pytest.raises(AudioError) as caught:
        decode(path, 3)
    assert caught.value.path == path
    assert caught.value.reason.startswith(("cannot be decoded: ", "no audio in it"))
    with pytest.raises(AudioError) as caught_whole:
        decode_song(path)
    assert caught_whole.value.reason == caught.value.reason
    assert capfd.readouterr() == ("", "")


def test_a_senseless_offset_inside_a_file_is_no_fault_of_the_disk(tmp_path, capfd):
    path = make_song(tmp_path / "song.dff", 2, rate=8_000)
    content = path.read_bytes()
    assert content[16:20] == b"FVER"
    path.write_bytes(content[:20] + struct.pack(">Q", 6 << 60) + content[28:])
    try:
        assert decode(path, 1).duration_seconds == pytest.approx(2)
    except AudioError as error:  # where a file system lets a file be as large as that
        assert error.reason.startswith("cannot be decoded")
    assert capfd.readouterr() == ("", "")


def test_files_that_are_not_there_or_not_files(tmp_path):
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "folder.mp3").mkdir()
    for path, reason in (
        (tmp_path / "missing.mp3", "no such file"),
        (tmp_path / "folder.mp3", "is a folder"),
        (tmp_path / "empty.mp3", "empty file"),
        (tmp_path / "empty.mp3" / "song.mp3", "cannot be read: Not a directory"),
    ):
        with pytest.raises(AudioError) as caught:
            decode(path, 3)
        assert caught.value.reason == reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_fifos_and_devices_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "song.mp3")
    for path in (tmp_path / "song.mp3", Path(os.devnull)):
        with pytest.raises(AudioError, match="not a regular file"):
            decode(path, 3)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = make_song(tmp_path / "song.wav", 1)
    path.chmod(0)
    with pytest.raises(AudioError, match="Permission denied"):
        decode(path, 3)


def test_a_picture_has_no_audio(tmp_path):
    path = tmp_path / "song.mp3"
    path.write_bytes(COVER)
    with pytest.raises(AudioError) as caught:
        decode(path, 3)
    assert caught.value.reason == "no audio in it"


def test_a_playlist_in_disguise_opens_no_other_file(tmp_path):
    make_song(tmp_path / "other.wav", 12)
    path = tmp_path / "song.mp3"
    path.write_text("ffconcat version 1.0\nfile other.wav\n")
    with pytest.raises(AudioError):
        decode(path, 1)


def test_protected_m4a_is_named_so(tmp_path):
    path = make_song(tmp_path / "song.m4a", 12)
    content = path.read_bytes()
    assert content.count(b"mp4a") == 1
    path.write_bytes(content.replace(b"mp4a", b"drms"))
    with pytest.raises(AudioError, match="protected by DRM"):
        decode(path, 1)


def test_protected_wma_is_named_so(tmp_path):
    path = make_song(tmp_path / "song.wma", 12)
    content = path.read_bytes()
    size, n_objects = struct.unpack_from("<QI", content, 16)
    fields = b"".join(struct.pack("<I", len(field)) + field for field in (b"secret", b"DRM\0", b"key\0", b"http://\0"))
    guid = bytes.fromhex("fbb31122 23bd d211 b4b7 00a0c955fc6e".replace(" ", ""))  # Content Encryption Object
    protection = guid + struct.pack("<Q", 24 + len(fields)) + fields
    header = content[:16] + struct.pack("<QI", size + len(protection), n_objects + 1) + content[28:30] + protection
    path.write_bytes(header + content[30:])
    with pytest.raises(AudioError, match="protected by DRM"):
        decode(path, 1)


def test_a_fault_of_the_disk_is_named_so(tmp_path, monkeypatch):
    path = make_song(tmp_path / "song.wav", 40)

    def read(self, size=-1):
        if self.tell() > 1_000_000:
            raise OSError(5, "Input/output error")
        return super(audio._File, self).read(size)

    monkeypatch.setattr(audio._File, "read", read, raising=False)
    with pytest.raises(AudioError, match="cannot be read: Input/output error"):
        decode(path, 2, 16_000)


def test_an_error_crosses_processes():
    error = AudioError(Path("a/song.mp3"), "empty file")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.path, copy.reason, str(copy)) == (error.path, error.reason, f"{Path('a/song.mp3')}: empty file")


def test_snippets_cross_processes(tmp_path):
    snippets = decode(make_song(tmp_path / "song.wav", 12), 1)
    copy = pickle.loads(pickle.dumps(snippets))
    assert isinstance(copy, Snippets) and np.array_equal(copy.waveforms, snippets.waveforms)
    assert copy.waveforms.dtype == np.float32


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="counts peak memory as Linux does")
@pytest.mark.parametrize(
    ("rate", "seconds", "by_seeking"),
    [(192_000, 2 * 3600, True), (8_000, 1800, False)],
    ids=["two hours at 192 kHz", "half an hour in sequence"],
)
@pytest.mark.parametrize("n_snippets", [5, None])
def test_a_long_song_stays_small_in_memory(tmp_path, rate, seconds, by_seeking, n_snippets):
    """Nearly all of the file is a hole, so it takes no disk; half an hour at 16 kHz alone would take 115 MB."""
    if n_snippets is None and by_seeking:
        pytest.skip("a whole song is not sought in")
    path = tmp_path / "song.wav"
    n_bytes = rate * seconds * 2
    with path.open("wb") as file:
        file.write(
            struct.pack(
                "<4sI8sIHHIIHH4sI",
                b"RIFF",
                36 + n_bytes,
                b"WAVEfmt ",
                16,
                1,
                1,
                rate,
                rate * 2,
                2,
                16,
                b"data",
                n_bytes,
            )
        )
        file.truncate(44 + n_bytes)
    script = f"""
        import resource, sys
        from pathlib import Path
        from tagger.audio import decode as audio
        from tagger.audio.workers import rss_bytes
        if not {by_seeking}:
            audio.SEEKS_EXACTLY = {{}}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if {n_snippets} is None:
            audio.SILENCE_RMS = 0.0  # all of it is handed on
        for snippets in audio.decode_parts(audio.Wanted(Path(sys.argv[1]), {n_snippets})):
            pass
        assert snippets.unsure == ("silent" if {n_snippets} else "") and snippets.duration_seconds == {seconds}
        print(rss_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 2**20)
    """
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], capture_output=True, text=True, check=True
    )
    assert int(child.stdout) < 60  # MB
