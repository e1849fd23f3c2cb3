import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tagger.audio.decode import FULL_SCALE
from tagger.models.features import FRAME_HOP_SAMPLES, FRAME_SAMPLES, SAMPLE_RATE, LogMel, filter_bands, mel_filters
from tagger.models.transformer import TorchLogMel


def waveforms() -> dict[str, np.ndarray]:
    """One of everything a song can hold, 10 s unless the name says otherwise."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=10 * SAMPLE_RATE)
    seconds = np.arange(10 * SAMPLE_RATE) / SAMPLE_RATE
    chord = sum(np.sin(2 * np.pi * hz * k * seconds) / k for hz in (220, 277, 330) for k in range(1, 9))
    beat = np.exp(-8 * (seconds % 0.5)) * noise
    examples = {
        "noise": 0.1 * noise,
        "music": 0.05 * chord * (1 + np.sin(2 * np.pi * seconds)) + 0.2 * beat,
        "silence": np.zeros(10 * SAMPLE_RATE),
        "very quiet": 1e-5 * noise,
        "clipped": np.clip(5 * noise, -1, 1),
        "off centre": 0.5 + 1e-4 * noise,
        "half a second": 0.1 * noise[: SAMPLE_RATE // 2],
        "one frame": 0.1 * noise[:FRAME_SAMPLES],
        "longer than the input": 0.1 * rng.normal(size=11 * SAMPLE_RATE),
    }
    return {name: waveform.astype(np.float32) for name, waveform in examples.items()}


def in_torch(waveform: np.ndarray, *sizes: int, **settings: float) -> np.ndarray:
    return TorchLogMel(*sizes, **settings)(torch.from_numpy(waveform)[None])[0].numpy()


def in_numpy(waveform: np.ndarray, *sizes: int, **settings: float) -> np.ndarray:
    return LogMel(*sizes, **settings)(waveform)


both = pytest.mark.parametrize("log_mel_of", [in_numpy, in_torch])


def reference(waveform: np.ndarray, **settings: float) -> torch.Tensor:
    from transformers import ASTFeatureExtractor

    extractor = ASTFeatureExtractor(**settings)
    return extractor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values


@both
@pytest.mark.parametrize("name", waveforms())
def test_equals_the_extractor_of_transformers(name: str, log_mel_of: Callable[..., np.ndarray]) -> None:
    waveform = waveforms()[name]
    log_mel = log_mel_of(waveform)
    assert log_mel.shape == (1024, 128) and log_mel.dtype == np.float32
    np.testing.assert_allclose(log_mel, reference(waveform)[0], rtol=0, atol=2e-4)


@both
@pytest.mark.parametrize("n_mels", [4, 40, 64, 96, 128])
@pytest.mark.parametrize("n_frames", [100, 998, 1100])
def test_equals_it_at_other_sizes(n_mels: int, n_frames: int, log_mel_of: Callable[..., np.ndarray]) -> None:
    waveform = waveforms()["music"]
    log_mel = log_mel_of(waveform, n_mels, n_frames, mean=-3.5, std=2.25)
    expected = reference(waveform, num_mel_bins=n_mels, max_length=n_frames, mean=-3.5, std=2.25)[0]
    # Half of AudioSet's std makes twice its difference, of which most is the reference's own distance from float64.
    np.testing.assert_allclose(log_mel, expected, rtol=0, atol=2e-4)


def test_int16_is_a_waveform_of_full_scale() -> None:
    samples = np.clip(waveforms()["music"] * FULL_SCALE, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    expected = LogMel()(samples.astype(np.float32) / FULL_SCALE)
    np.testing.assert_allclose(LogMel()(samples), expected, rtol=0, atol=1e-6)
    assert np.abs(expected).max() > 0.1


def test_a_batch_is_its_waveforms_one_by_one() -> None:
    batch = torch.randn(3, SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    log_mel = TorchLogMel(n_frames=128)
    torch.testing.assert_close(log_mel(batch), torch.cat([log_mel(waveform[None]) for waveform in batch]))


def test_stays_in_float32_under_autocast() -> None:
    waveform = torch.from_numpy(waveforms()["music"])[None]
    log_mel = TorchLogMel()
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = log_mel(waveform)
    assert under_autocast.dtype == torch.float32
    assert torch.equal(under_autocast, log_mel(waveform))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_equals_itself_on_cuda() -> None:
    waveform = torch.from_numpy(waveforms()["music"])[None]
    on_cuda = TorchLogMel().cuda()(waveform.cuda()).cpu()
    torch.testing.assert_close(on_cuda, TorchLogMel()(waveform), rtol=0, atol=1e-3)


@both
def test_ten_seconds_end_in_the_26_empty_frames_that_audioset_ended_in(log_mel_of: Callable[..., np.ndarray]) -> None:
    log_mel = log_mel_of(waveforms()["noise"], mean=0.0, std=0.5)
    n_frames = 1 + (10 * SAMPLE_RATE - FRAME_SAMPLES) // FRAME_HOP_SAMPLES
    assert n_frames == 998
    assert (log_mel[n_frames:] == 0).all() and (log_mel[:n_frames] != 0).any(axis=1).all()


@both
def test_less_than_a_frame_is_refused(log_mel_of: Callable[..., np.ndarray]) -> None:
    with pytest.raises(ValueError, match="shorter than a frame of 400"):
        log_mel_of(np.zeros(FRAME_SAMPLES - 1, np.float32))


def test_holds_no_weights() -> None:
    assert not TorchLogMel().state_dict() and not list(TorchLogMel().parameters())


def test_between_the_outermost_centres_every_bin_counts_fully() -> None:
    filters = mel_filters(64)
    assert filters.dtype == np.float32
    covered = filters.sum(axis=1)[4:-16]  # 125 Hz to 7.5 kHz: between the centres of the outermost triangles
    np.testing.assert_allclose(covered, np.ones_like(covered), rtol=0, atol=1e-4)
    assert (filters[-1] == 0).all()


@pytest.mark.parametrize("n_mels", [1, 3, 40, 64, 128])
def test_the_bands_hold_every_filter_and_leave_only_zeros_out(n_mels: int) -> None:
    filters = mel_filters(n_mels)
    inside = np.zeros_like(filters)
    for bins, mels in filter_bands(filters):
        inside[bins, mels] += 1
    assert (inside[filters > 0] == 1).all() and inside.max() == 1
    assert (inside.sum(axis=0) > 0).all()  # each filter has its place in the log-mel
    if n_mels == 128:
        assert inside.mean() < 0.3


def test_needs_no_torch() -> None:
    code = "import sys, tagger.models.features; sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
