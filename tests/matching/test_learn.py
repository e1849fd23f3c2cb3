"""A student that learns from a pool."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tagger.models.genre_model import GenreModel
from training.learning.config import TrainConfig
from training.learning.network import begin
from training.learning.pretrained import quiet_transformers
from training.matching import learn as module
from training.matching.learn import Examples, Student, learn
from training.matching.pool import Shard
from training.matching.rule import Rule
from training.starter import NothingDoneError
from training.starter.labels import GENRES

N_FRAMES, N = 128, 48


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Snippets of two sounds, of which mn04 says Jazz and Metal; and a few that are no music."""
    folder = tmp_path / "pool"
    folder.mkdir()
    rng, is_jazz = np.random.default_rng(0), np.arange(N) % 2 == 0
    log_mels = rng.integers(90, 110, (N, N_FRAMES, 128))
    log_mels[is_jazz, :, :40] += 80
    log_mels[~is_jazz, :, 70:] += 80
    mn04 = rng.normal(-5, 0.1, (N, 527))
    mn04[is_jazz, 235] = mn04[~is_jazz, 220] = 3.0
    is_music = np.arange(N) < N - 4
    rest = (rng.normal(0, 1, (N, 384)), rng.normal(-3, 0.1, (N, 50)))
    Shard(log_mels.astype(np.uint8), is_music, *(each.astype(np.float16) for each in (mn04, *rest))).save(
        folder / "00000.npz"
    )
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny checkpoint of the starter's genres."""
    from transformers import ASTFeatureExtractor

    folder = tmp_path / "begun"
    ast, log_mel, _ = begin(TrainConfig(model="new-micro"), list(GENRES), snippet_samples=N_FRAMES * 160)
    with quiet_transformers():
        ast.save_pretrained(folder)
    ASTFeatureExtractor(
        num_mel_bins=128, max_length=log_mel.n_frames, mean=log_mel.mean, std=log_mel.std
    ).save_pretrained(folder)
    return folder


def test_what_is_seldom_is_drawn_more_often_and_no_music_is_every_genre_alike(pool: Path) -> None:
    examples = Examples.read(pool, Rule.read())
    assert examples.targets[-1].tolist() == pytest.approx([1 / 15] * 15)
    assert examples.targets[0].argmax() == list(GENRES).index("Jazz")
    assert examples.chances.sum() == pytest.approx(1)
    assert torch.equal(examples.batch(3)[0], examples.batch(3)[0])
    assert not torch.equal(examples.batch(3)[0], examples.batch(4)[0])


def test_a_folder_without_a_pool_is_named(tmp_path: Path) -> None:
    with pytest.raises(NothingDoneError, match="no pool"):
        Examples.read(tmp_path, Rule.read())


def test_a_student_learns_what_the_teachers_say(pool: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [pool, "--model", model, "--out", out, "--steps", 40, "--lr", 0.003]
    done = CliRunner().invoke(learn, list(map(str, words)))
    assert done.exit_code == 0, done.output
    student = GenreModel.load(str(out), "cpu", "fp32")
    assert set(student.head.genres) == set(GENRES)
    examples = Examples.read(pool, Rule.read())
    with torch.inference_mode():
        network = Student(str(out), examples.answers.shape[1], 1e-3).network.eval()
        log_mels = torch.from_numpy(np.stack(examples.log_mels)).float() / 80 - 1.6
        logits = network.ast(log_mels).logits
    agreement = (logits.argmax(1) == examples.targets.argmax(1))[: N - 4].float().mean()
    assert agreement > 0.9


def test_it_goes_on_to_the_same_end(pool: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY", 2)

    def run(out: Path, stop_at: int | None = None) -> dict[str, torch.Tensor]:
        examples = Examples.read(pool, Rule.read())
        student = Student(str(model), examples.answers.shape[1], 1e-3)
        out.mkdir(exist_ok=True)
        student.resume(out)
        for step in range(student.step, stop_at or 4):
            torch.manual_seed(step)
            student.learn(examples.batch(step), 4)
        student.save(out)
        return dict(student.network.trained.state_dict())

    whole = run(tmp_path / "whole")
    run(tmp_path / "halved", stop_at=2)
    resumed = run(tmp_path / "halved")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_last_steps_leave_nothing_out(pool: Path, model: Path) -> None:
    examples = Examples.read(pool, Rule.read())
    student = Student(str(model), examples.answers.shape[1], 1e-3)
    student.learn(examples.batch(0), 10)
    assert student.patchout.n_time == student.patchout.n_columns // 2
    student.step = 9
    student.learn(examples.batch(9), 10)
    assert student.patchout.n_time == 0
    assert student.optimizer.param_groups[0]["lr"] < student.rates[0]
