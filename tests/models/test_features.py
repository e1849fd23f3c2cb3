import subprocess
import sys

import numpy as np
import pytest
import torch

from tagger.models.features import FRAME_HOP_SAMPLES, FRAME_SAMPLES, SAMPLE_RATE, LogMel, filter_bands, mel_filters


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


def reference(waveform: np.ndarray, **settings: float) -> torch.Tensor:
    from transformers import ASTFeatureExtractor

    extractor = ASTFeatureExtractor(**settings)
    return extractor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values


@pytest.mark.parametrize("name", waveforms())
def test_equals_the_extractor_of_transformers(name: str) -> None:
    waveform = waveforms()[name]
    log_mel = LogMel()(torch.from_numpy(waveform)[None])
    assert log_mel.shape == (1, 1024, 128)
    torch.testing.assert_close(log_mel, reference(waveform), rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_mels", [40, 64, 96, 128])
@pytest.mark.parametrize("n_frames", [100, 998, 1100])
def test_equals_it_at_other_sizes(n_mels: int, n_frames: int) -> None:
    waveform = waveforms()["music"]
    log_mel = LogMel(n_mels, n_frames, mean=-3.5, std=2.25)(torch.from_numpy(waveform)[None])
    expected = reference(waveform, num_mel_bins=n_mels, max_length=n_frames, mean=-3.5, std=2.25)
    torch.testing.assert_close(log_mel, expected, rtol=0, atol=1e-4)


def test_a_batch_is_its_waveforms_one_by_one() -> None:
    batch = torch.randn(3, SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    log_mel = LogMel(n_frames=128)
    torch.testing.assert_close(log_mel(batch), torch.cat([log_mel(waveform[None]) for waveform in batch]))


def test_stays_in_float32_under_autocast() -> None:
    waveform = torch.from_numpy(waveforms()["music"])[None]
    log_mel = LogMel()
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = log_mel(waveform)
    assert under_autocast.dtype == torch.float32
    assert torch.equal(under_autocast, log_mel(waveform))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_equals_itself_on_cuda() -> None:
    waveform = torch.from_numpy(waveforms()["music"])[None]
    on_cuda = LogMel().cuda()(waveform.cuda()).cpu()
    torch.testing.assert_close(on_cuda, LogMel()(waveform), rtol=0, atol=1e-3)


def test_ten_seconds_end_in_the_26_empty_frames_that_audioset_ended_in() -> None:
    log_mel = LogMel(mean=0.0, std=0.5)(torch.from_numpy(waveforms()["noise"])[None])[0]
    n_frames = 1 + (10 * SAMPLE_RATE - FRAME_SAMPLES) // FRAME_HOP_SAMPLES
    assert n_frames == 998
    assert (log_mel[n_frames:] == 0).all() and (log_mel[:n_frames] != 0).any(dim=1).all()


def test_less_than_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter than a frame of 400"):
        LogMel()(torch.zeros(1, FRAME_SAMPLES - 1))


def test_holds_no_weights() -> None:
    assert not LogMel().state_dict() and not list(LogMel().parameters())


def test_between_the_outermost_centres_every_bin_counts_fully() -> None:
    filters = mel_filters(64)
    covered = filters.sum(dim=1)[4:-16]  # 125 Hz to 7.5 kHz: between the centres of the outermost triangles
    torch.testing.assert_close(covered, torch.ones_like(covered), rtol=0, atol=1e-4)
    assert (filters[-1] == 0).all()


@pytest.mark.parametrize("n_mels", [1, 3, 40, 64, 128])
def test_the_bands_hold_every_filter_and_leave_only_zeros_out(n_mels: int) -> None:
    filters = mel_filters(n_mels)
    inside = torch.zeros_like(filters)
    for bins, mels in filter_bands(filters):
        inside[bins, mels] += 1
    assert (inside[filters > 0] == 1).all() and inside.max() == 1
    assert (inside.sum(dim=0) > 0).all()  # each filter has its place in the log-mel
    if n_mels == 128:
        assert inside.mean() < 0.3


def test_needs_no_torchaudio() -> None:
    code = "import sys, tagger.models.features; sys.exit('torchaudio' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
