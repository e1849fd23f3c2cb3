"""A pool of snippets with what the teachers answer, by teachers that are made up and by the true ones where at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from training.dataset.waveforms import Waveforms
from training.matching import pool as module
from training.matching.pool import N_FRAMES, Shard, Teachers, make_shard, packed, pool, unpacked
from training.starter.mixes import Sources
from training.starter.sounds import save_sounds
from training.teachers import fcn
from training.teachers.fcn import POOLS, FcnMsd

N_TAGS = 50


class FakeTeachers:
    """Answer with what the snippet is like."""

    def __call__(self, waveforms: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        peaks = waveforms.abs().amax(dim=1, keepdim=True).numpy().astype(np.float16)
        return np.tile(peaks, 527), np.tile(peaks, 384), np.tile(peaks, N_TAGS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a few snippets, drawn without sources."""
    monkeypatch.setattr(module, "N_OF_SHARD", 8)
    monkeypatch.setattr(module, "N_AT_ONCE", 4)
    monkeypatch.setattr(
        module, "snippet", lambda sources, rng: (rng.uniform(-0.5, 0.5, 80_000).astype(np.float32), rng.random() < 0.5)
    )


@pytest.mark.usefixtures("small")
def test_a_shard_holds_each_snippet_with_the_answers_to_it(tmp_path: Path) -> None:
    made = make_shard(3, None, FakeTeachers(), seed=1)  # type: ignore[arg-type]
    made.save(tmp_path / "00003.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["00003.npz"]
    shard, again = Shard.read(tmp_path / "00003.npz"), make_shard(3, None, FakeTeachers(), seed=1)  # type: ignore[arg-type]
    assert shard.log_mels.shape == (8, N_FRAMES, 128) and shard.mn04.shape == (8, 527)
    assert (shard.log_mels == again.log_mels).all() and (shard.is_music == again.is_music).all()
    other = make_shard(4, None, FakeTeachers(), seed=1)  # type: ignore[arg-type]
    assert (shard.log_mels != other.log_mels).any()


@pytest.mark.usefixtures("small")
def test_a_pool_that_was_begun_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_prepared", lambda folder: None)
    sources = Sources(Waveforms(tmp_path), [], [], np.array([]))
    monkeypatch.setattr(module, "find_sources", lambda prepared, *tables: sources)
    monkeypatch.setattr(module, "Teachers", lambda folder: FakeTeachers())
    (tmp_path / "songs.csv").touch()
    save_sounds(tmp_path / "sung", [("00000.wav", "", "sung 0", np.ones(80_000, np.float32))])
    words = [
        tmp_path,
        tmp_path / "songs.csv",
        "--sung",
        tmp_path / "sung",
        "--teachers",
        tmp_path,
        "--out",
        tmp_path / "pool",
        "--shards",
        2,
    ]
    done = CliRunner().invoke(pool, list(map(str, words)))
    assert done.exit_code == 0, done.output
    (tmp_path / "pool" / "00001.npz").unlink()
    written = (tmp_path / "pool" / "00000.npz").stat().st_mtime_ns
    done = CliRunner().invoke(pool, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "pool" / "00000.npz").stat().st_mtime_ns == written
    assert sorted(path.name for path in (tmp_path / "pool").iterdir()) == ["00000.npz", "00001.npz"]


@pytest.mark.usefixtures("small")
def test_a_pool_without_vocals_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = Sources(Waveforms(tmp_path), [], [], np.array([]))
    monkeypatch.setattr(module, "load_prepared", lambda folder: None)
    monkeypatch.setattr(module, "find_sources", lambda prepared, *tables: sources)
    (tmp_path / "songs.csv").touch()
    words = [tmp_path, tmp_path / "songs.csv", "--sung", tmp_path, "--teachers", tmp_path, "--out", tmp_path / "pool"]
    done = CliRunner().invoke(pool, list(map(str, words)))
    assert done.exit_code and "no vocals" in done.output
    assert not (tmp_path / "pool").exists()


def test_log_mels_survive_as_bytes() -> None:
    log_mel = np.linspace(-1.3, 1.5, 1000, dtype=np.float32)
    assert unpacked(torch.from_numpy(packed(log_mel))).numpy() == pytest.approx(log_mel, abs=0.00626)


@pytest.fixture
def variables(tmp_path: Path) -> Path:
    """A folder with variables of FCN-MSD by chance."""
    rng, arrays = np.random.default_rng(0), {}
    for number, (n_in, n_out) in enumerate(((1, 8), (8, 8), (8, 8), (8, 8), (8, 8)), 1):
        arrays[f"layer{number}.conv.weight"] = rng.normal(0, (n_in * 9) ** -0.5, (n_out, n_in, 3, 3))
        arrays[f"layer{number}.conv.bias"] = np.zeros(n_out)
        arrays |= norm(f"layer{number}.bn", n_out)
    arrays |= norm("spec_bn", 1) | {"dense.weight": rng.normal(0, 1, (N_TAGS, 8)), "dense.bias": np.zeros(N_TAGS)}
    np.savez(tmp_path / fcn.FILE, **{name: values.astype(np.float32) for name, values in arrays.items()})
    return tmp_path


def norm(name: str, n_channels: int) -> dict[str, np.ndarray]:
    variance = 400.0 if name == "spec_bn" else 1.0
    values = {"running_mean": 0.0, "running_var": variance, "weight": 1.0, "bias": 0.0}
    return {f"{name}.{part}": np.full(n_channels, value) for part, value in values.items()}


def as_published(network: FcnMsd, waveforms: torch.Tensor) -> torch.Tensor:
    """What the network answers to 29 s, as it was published."""
    x = network._norm(network._log_mel(waveforms)[:, None], "spec_bn")
    for number, size in enumerate(POOLS, 1):
        weight, bias = network._v[f"layer{number}.conv.weight"], network._v[f"layer{number}.conv.bias"]
        x = F.max_pool2d(F.relu(network._norm(F.conv2d(x, weight, bias, 1, 1), f"layer{number}.bn")), size)
    return F.linear(x.flatten(1), network._v["dense.weight"], network._v["dense.bias"])


def check_that_five_seconds_are_answered_as_if_they_went_on(folder: Path, agreement: float) -> None:
    network, rng = FcnMsd(folder), np.random.default_rng(1)
    seconds = np.arange(80_000) / 16_000
    tones = [
        np.sin(2 * np.pi * hertz * seconds) * (seconds * beats % 1) for hertz, beats in rng.uniform(2, 900, (12, 2))
    ]
    snippets = torch.tensor(np.array(tones) + rng.normal(0, 0.01, (12, 80_000)), dtype=torch.float32)
    answers, expected = network(snippets), as_published(network, snippets.repeat(1, 6)[:, :464_000])
    assert answers.shape == (12, N_TAGS)
    answers, expected = answers - answers.mean(0), expected - expected.mean(0)
    assert (answers * expected).sum() / (answers.norm() * expected.norm()) > agreement
    assert answers.norm() > 0.7 * expected.norm()


def test_five_seconds_are_answered_as_if_they_went_on(variables: Path) -> None:
    check_that_five_seconds_are_answered_as_if_they_went_on(variables, 0.8)


def test_the_published_networks_answer_too() -> None:
    folder = Path(__file__).parent.parent.parent.parent / "shared" / "teachers"
    if not (folder / fcn.FILE).exists():
        pytest.skip("the weights of the teachers are not at hand")
    check_that_five_seconds_are_answered_as_if_they_went_on(folder, 0.9)
    logits, embeddings, tags = Teachers(folder)(torch.zeros(2, 80_000))
    assert (logits.shape, embeddings.shape, tags.shape) == ((2, 527), (2, 384), (2, N_TAGS))
