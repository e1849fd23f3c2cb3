"""Whole trainings of a tiny network: what is learned, what is left, and going on after an interruption."""

import json
import os
import shutil
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import ASTLayer

import tagger
from tagger.cli.main import main
from tagger.errors import ModelError, OutputError, RunError
from tagger.evaluation.predictions import read_predictions
from tagger.models.genre_model import GenreModel
from tagger.models.torch_engine import release_memory
from tests.learning.processes import succeed, together
from tests.learning.test_network import Waits
from tests.support.checkpoints import GENRES, make_checkpoint
from tests.support.prepared import make_prepared, write_soft_labels
from tests.support.screens import Terminal
from training.cli import _summary
from training.dataset.soft_labels import digest
from training.errors import DatasetError, TrainingError
from training.learning import train
from training.learning.augment import Patchout
from training.learning.config import configure
from training.learning.network import Network, begin
from training.learning.processes import n_processes
from training.learning.runs import Run, new_folder, resumed
from training.learning.train import train_run
from training.outcome.metrics import SONG_SCORES

ROOT = Path(__file__).parents[2]
FAST = {"lr": 3e-3, "epochs": 3, "batch_size": 8, "warmup_epochs": 0.5}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products are slower on several."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("begin"), ("A", "B", "C"), n_frames=128)


def begun(folder: Path, checkpoint: Path, recipe: str = "v2", **options: Any) -> Run:
    run = Run(folder, configure(recipe, model=str(checkpoint), **FAST | options), "fake 0", ("genre-tag", "train"))
    run.begin()
    return run


def quiet(line: str) -> None:
    pass


@pytest.mark.parametrize("recipe", ["seed", "v2"])
def test_a_run_leaves_a_checkpoint_that_tags_and_the_numbers_it_rests_on(
    tmp_path: Path, checkpoint: Path, recipe: str
) -> None:
    prepared, told = make_prepared(), []
    outcome = train_run(begun(tmp_path / "run", checkpoint, recipe), prepared, device="cpu", tell=told.append)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "run.json", "checkpoint", "predictions.jsonl", "metrics.json", "confusion.png", "training.png",
        "MODEL_CARD.md", "log.txt", "evaluations",
    }  # fmt: skip
    assert sum(line.startswith("epoch ") for line in told) == 3
    log = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert [line.partition("Z ")[2] for line in log] == told
    size = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    pictures = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*.png"))
    assert size - pictures < 4 * (tmp_path / "run" / "checkpoint" / "model.safetensors").stat().st_size  # of 60 kB

    model = GenreModel.load(str(tmp_path / "run"), "cpu", "fp32")
    assert model.head.genres == GENRES and model.head.temperature == pytest.approx(outcome.temperature)
    assert model.snippet_samples == prepared.snippet_samples
    predictions = read_predictions(tmp_path / "run" / "predictions.jsonl")
    for split in ("validate", "test"):
        rows, logged = prepared.splits[split], predictions.of_split(split)
        assert list(logged.songs) == rows["song"] and logged.labels.tolist() == list(rows["label"])
        snippets = np.stack([prepared.waveforms.read(0, first, 16_000) for first in rows["first"]])
        precision = 1e-4 if recipe == "seed" else 0.05  # v2 computes in bf16 where it can
        np.testing.assert_allclose(logged.logits, model.logits(snippets), atol=precision)
    training = json.loads((tmp_path / "run" / "checkpoint" / "training.json").read_text())
    assert training["held_out"] == dict(zip(GENRES, outcome.contents["validate"].n_songs, strict=True))
    assert sum(training["held_out"].values()) == len(set(prepared.splits["validate"]["song"]))
    assert model.head.n_held_out == outcome.contents["validate"].n_songs
    assert training["options"]["recipe"] == recipe and training["data"]["fingerprint"] == "fake 0"
    for score in SONG_SCORES.values():
        assert 0 <= outcome.scores["test"].scores[score] <= 1


@contextmanager
def untidied() -> Iterator[None]:
    """Finished runs keep what they trained with, to be looked at."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Run, "tidy", lambda self: None)
        yield


def test_the_last_epochs_are_of_whole_snippets_that_are_not_mixed(tmp_path: Path, checkpoint: Path) -> None:
    n_tokens, n_partners = [], []
    layer, forward = ASTLayer.forward, Network.forward

    def count_tokens(self: Any, hidden: torch.Tensor, *others: Any, **options: Any) -> Any:
        if self.training:
            n_tokens.append(hidden.shape[1])
        return layer(self, hidden, *others, **options)

    def count_partners(self: Network, *snippets: Any, **others: Any) -> Any:
        if self.training:
            n_partners.append(others.get("partners") is not None)
        return forward(self, *snippets, **others)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ASTLayer, "forward", count_tokens)
        patched.setattr(Network, "forward", count_partners)
        run = begun(tmp_path / "run", checkpoint, "v2", mixup=1.0, finish_epochs=2, epochs=4)
        train_run(run, make_prepared(), device="cpu", tell=quiet)
    steps = 4 * 5  # 36 rows in batches of 8
    assert n_partners == [True] * (steps // 2) + [False] * (steps // 2)
    assert n_tokens == [2 + 5 * 5] * steps + [2 + 8 * 8] * steps  # in each of two layers


def test_each_evaluation_is_kept_with_what_it_confused(tmp_path: Path, checkpoint: Path) -> None:
    told: list[str] = []
    train_run(begun(tmp_path / "run", checkpoint, "seed"), make_prepared(), device="cpu", tell=told.append)
    names = [f"epoch-{epoch:02}.{kind}" for epoch in (1, 2, 3) for kind in ("json", "png")]
    assert sorted(path.name for path in (tmp_path / "run" / "evaluations").iterdir()) == names
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    evaluated = [entry for entry in metrics["history"] if "eval_loss" in entry]
    for epoch, entry in enumerate(evaluated, 1):
        kept = json.loads((tmp_path / "run" / "evaluations" / f"epoch-{epoch:02}.json").read_text())
        assert entry["epoch"] == kept["epoch"] == epoch and kept["genres"] == list(GENRES)
        assert {f"eval_{name}": value for name, value in kept["scores"].items()}.items() <= entry.items()
        matrix = np.array(kept["confusion"])
        assert matrix.sum() == 9 and np.trace(matrix) / 9 == kept["scores"]["mean_pooling_score"]
        shares = matrix / matrix.sum(axis=1, keepdims=True) > 0.1
        assert len(kept["confused_pairs"]) == shares.sum() - np.trace(shares)
    assert len([entry for entry in metrics["history"] if "loss" in entry]) == 3 * 5
    scores = [entry["eval_mean_pooling_score"] for entry in evaluated]
    assert metrics["best_epoch"] == 1 + scores.index(max(scores))
    run = tmp_path / "run"
    assert told[-1] == (
        f"kept: epoch {metrics['best_epoch']:.0f} of 3, songs {max(scores):.3f} on validate: {run / 'checkpoint'}"
    )


def test_the_best_epoch_is_kept_not_the_last(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = iter([0.2, 0.9, 0.4])

    def score(*_: Any) -> dict[str, float]:
        return {"accuracy": 0.0, "mean_pooling_score": next(scored)}

    monkeypatch.setattr("training.learning.trainer.scores", score)
    run = begun(tmp_path / "run", checkpoint, "seed")
    with untidied():
        train_run(run, make_prepared(), device="cpu", tell=quiet)
    folders = sorted(run.trainer.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    kept = load_file(run.checkpoint / "model.safetensors")
    epochs = [load_file(folder / "model.safetensors") for folder in folders]
    name = "classifier.dense.weight"
    same = [torch.equal(epoch[f"ast.{name}"], kept[name]) for epoch in epochs]
    assert same == [False, True, False]


def test_no_step_of_a_training_waits_for_a_number_of_the_device(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, n_waits = Waits(), []

    class Watched(train.GenreTrainer):
        def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
            with waits:
                return super().training_step(*args, **options)

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
            parts = list(islice(epoch_iterator, num_batches))  # the loader draws numbers, on the CPU
            with waits:
                return super().get_batch_samples(iter(parts), num_batches, device)

        def _clip_grad_norm(self, *args: Any, **options: Any) -> Any:
            with waits:
                return super()._clip_grad_norm(*args, **options)

        def log(self, *args: Any, **options: Any) -> None:
            n_waits.append(waits.n)
            super().log(*args, **options)

    monkeypatch.setattr(train, "GenreTrainer", Watched)
    run = begun(tmp_path / "run", checkpoint, "v2", epochs=1, class_weights=True, log_steps=5)
    train_run(run, make_prepared(), device="cpu", device_batch=4, tell=quiet)
    assert n_waits and n_waits[0] == 0


def test_one_batch_can_be_learned_by_heart(checkpoint: Path) -> None:
    config = configure("seed", model=str(checkpoint), augment_p=0.0)
    ast, log_mel, _ = begin(config, GENRES)
    network = Network(ast, log_mel, config, None).train()
    generator = torch.Generator().manual_seed(0)
    waveforms = (torch.randn(8, 16_000, generator=generator) * 3000).to(torch.int16)  # noise: nothing but memory helps
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(200):
        loss = network(waveforms, labels=labels)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    assert network.eval()(waveforms)["logits"].argmax(dim=1).tolist() == labels.tolist()


def test_a_run_is_finished_when_all_is_written_and_resume_writes_what_is_missing(
    tmp_path: Path, checkpoint: Path
) -> None:
    run = begun(tmp_path / "run", checkpoint, "seed", epochs=1)
    names = ["checkpoint", "predictions.jsonl", "MODEL_CARD.md", "training.png", "metrics.json"]
    for name in ("checkpoint", "MODEL_CARD.md"):
        in_the_way = run.folder / name
        in_the_way.touch() if name == "checkpoint" else (in_the_way / "folder").mkdir(parents=True)
        with pytest.raises((OutputError, RunError)) as error:
            train_run(run, make_prepared(), device="cpu", resume=True, tell=quiet)
        assert error.value.path == in_the_way
        in_the_way.unlink() if name == "checkpoint" else shutil.rmtree(in_the_way)
        run = resumed(run.folder, {}, "fake 0")
    told: list[str] = []
    train_run(run, make_prepared(), device="cpu", resume=True, tell=told.append)
    assert not any(line.startswith("epoch ") for line in told)  # what was learned is kept
    assert all((run.folder / name).exists() for name in names)
    with pytest.raises(TrainingError, match="finished"):
        resumed(run.folder, {}, "fake 0")


def test_versions_are_told_of_a_package_that_runs_without_being_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> None:
        raise PackageNotFoundError(name)

    installed = train.environment()
    assert set(installed) == {"python", "torch", "transformers", "datasets", "numpy", "genre-tag"}
    assert installed["genre-tag"] == tagger.__version__ and installed["torch"] == torch.__version__
    monkeypatch.setattr("importlib.metadata.Distribution.from_name", not_installed)
    assert train.environment() == installed


class StopError(Exception):
    pass


def weights_of_the_last_epoch(run: Path) -> dict[str, torch.Tensor]:
    """All that the trainer has kept of the network."""
    folder = max((run / "trainer").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(("recipe", "is_soft"), [("seed", False), ("v2", False), ("v2", True)])
def test_an_interrupted_training_resumes_to_the_same_result(
    tmp_path: Path, checkpoint: Path, recipe: str, is_soft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "tidy", lambda self: None)
    options = {"precision": "fp32", "epochs": 4}
    if is_soft:  # an epoch makes 8 steps of 8, going over 36 rows, and the last two are of whole snippets
        options |= {"min_steps": 30, "finish_epochs": 2}
    if is_soft:
        options["soft_labels"] = str(write_soft_labels(tmp_path / "soft.parquet", make_prepared()))
    whole = train_run(
        begun(tmp_path / "whole", checkpoint, recipe, **options), make_prepared(), device="cpu", tell=quiet
    )

    def stop(line: str) -> None:
        if line.startswith("epoch 3/"):
            raise StopError

    with pytest.raises(StopError):
        train_run(begun(tmp_path / "run", checkpoint, recipe, **options), make_prepared(), device="cpu", tell=stop)
    assert not (tmp_path / "run" / "checkpoint").exists()
    monkeypatch.chdir(tmp_path)
    run = resumed(tmp_path / "run", {"epochs": 4}, "fake 0")
    assert run.argv == ("genre-tag", "train")  # what makes it again
    told: list[str] = []
    outcome = train_run(run, make_prepared(), device="cpu", resume=True, tell=told.append)
    assert [line[:9] for line in told if line.startswith("epoch")] == ["epoch 3/4", "epoch 4/4"]
    assert outcome.scores["test"].scores == whole.scores["test"].scores
    first, second = (read_predictions(tmp_path / name / "predictions.jsonl").logits for name in ("whole", "run"))
    np.testing.assert_array_equal(first, second)
    first, second = (weights_of_the_last_epoch(tmp_path / name) for name in ("whole", "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    history = json.loads((tmp_path / "run" / "metrics.json").read_text())["history"]
    assert history[-1]["step"] == (32 if is_soft else 20)
    assert ("auxiliary.weight" in first) == is_soft


def with_wrong_labels() -> Any:
    """A dataset whose training rows, every song of them, are labelled by chance."""
    prepared = make_prepared()
    train = prepared.splits["train"]
    labels = np.random.default_rng(0).permutation(np.asarray(train["label"][:]))
    prepared.splits["train"] = train.remove_columns("label").add_column("label", labels)
    return prepared


@pytest.mark.parametrize("is_soft", [True, False])
def test_soft_labels_teach_what_wrong_labels_do_not(tmp_path: Path, checkpoint: Path, is_soft: bool) -> None:
    prepared = with_wrong_labels()
    soft = str(write_soft_labels(tmp_path / "soft.parquet", prepared))
    run = begun(
        tmp_path / "run", checkpoint, "seed", augment_p=0.0, epochs=15, batch_size=4, soft_labels=soft,
        soft_weight=float(is_soft), auxiliary_weight=float(is_soft),
    )  # fmt: skip
    told: list[str] = []
    outcome = train_run(run, prepared, device="cpu", tell=told.append)
    assert told[0] == "soft labels for 36 of 36 snippets"
    assert (outcome.scores["test"].scores["mean_pooling_score"] > 0.9) == is_soft
    history = json.loads((run.folder / "metrics.json").read_text())["history"]
    losses = [entry for entry in history if "loss" in entry]
    for entry in losses:
        expected = entry["genre_loss"] + run.config.auxiliary_weight * entry["auxiliary_loss"]
        assert entry["loss"] == pytest.approx(expected, abs=1e-3)
    assert outcome.options["soft_labels"] == soft and len(outcome.options["soft_labels_sha256"]) == 64
    shipped = load_file(run.checkpoint / "model.safetensors")
    assert not any("auxiliary" in name for name in shipped) and shipped["classifier.dense.bias"].shape == (3,)


def test_a_run_goes_on_with_the_soft_labels_it_was_begun_with(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft = write_soft_labels(tmp_path / "soft.parquet", make_prepared())
    config = configure("v2", model=str(checkpoint), **FAST, soft_labels=str(soft))

    def stop(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise StopError

    prepared, terminal = make_prepared(), Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with pytest.raises(StopError):
        train_run(Run(tmp_path / "run", config, "fake 0", ()), prepared, device="cpu", tell=stop)
    assert "step/s]" in terminal.getvalue() and terminal.lines() == []  # the bar is taken away, whatever ends it
    options = json.loads((tmp_path / "run" / "run.json").read_text())["options"]
    assert (options["soft_labels"], options["soft_labels_sha256"]) == (str(soft), digest(soft))
    run = resumed(tmp_path / "run", {"soft_labels": str(soft)}, "fake 0")
    write_soft_labels(soft, make_prepared(), seed=1)
    with pytest.raises(TrainingError, match=r"soft\.parquet: has changed since .*run was begun"):
        train_run(run, make_prepared(), device="cpu", resume=True, tell=quiet)
    soft.unlink()
    with pytest.raises(DatasetError, match=r"soft\.parquet: cannot be read"):
        train_run(run, make_prepared(), device="cpu", resume=True, tell=quiet)


def test_soft_labels_of_other_songs_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "soft.csv").write_text("song,start_seconds,class\nvalidate00,0,1\ntest00,0,2\n")
    run = Run(tmp_path / "run", configure("v2", model=str(checkpoint), soft_labels=str(tmp_path / "soft.csv")), "", ())
    with pytest.raises(DatasetError, match=r"no row of a snippet to learn from: song has .* like 'train00'"):
        train_run(run, make_prepared(), device="cpu", tell=quiet)
    first = make_prepared().splits["train"][0]["start_seconds"]
    rows = f"train00,{first - 0.4},1\ntrain10,{first - 0.6},2\n"  # of which one is within half a second
    (tmp_path / "soft.csv").write_text(f"song,start_seconds,class\n{rows}")
    told: list[str] = []
    run = begun(tmp_path / "run", checkpoint, "seed", epochs=1, soft_labels=str(tmp_path / "soft.csv"))
    train_run(run, make_prepared(), device="cpu", tell=told.append)
    assert told[0] == "soft labels for 1 of 36 snippets"


def test_no_epochs_only_evaluate_and_need_a_head_that_knows_the_genres(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="not trained on these 3 genres"):
        train_run(begun(tmp_path / "no", checkpoint, epochs=0), make_prepared(), device="cpu", tell=quiet)
    knowing = make_checkpoint(tmp_path / "knowing", GENRES, n_frames=128)
    outcome = train_run(begun(tmp_path / "run", knowing, epochs=0), make_prepared(), device="cpu", tell=quiet)
    assert set(outcome.scores) == {"validate", "test"}
    before, after = (GenreModel.load(str(path), "cpu", "fp32") for path in (knowing, tmp_path / "run"))
    noise = np.random.default_rng(0).integers(-3000, 3000, (2, 16_000), np.int16)
    np.testing.assert_allclose(before.logits(noise), after.logits(noise), atol=1e-6)


def test_genres_may_be_absent_from_what_is_held_out(tmp_path: Path, checkpoint: Path) -> None:
    prepared = make_prepared()
    for split, absent in (("validate", 0), ("test", 2)):
        rows = prepared.splits[split]
        prepared.splits[split] = rows.select([i for i, label in enumerate(rows["label"]) if label != absent])
    outcome = train_run(begun(tmp_path / "run", checkpoint, epochs=1), prepared, device="cpu", tell=quiet)
    for split, absent in (("validate", 0), ("test", 2)):
        scores = outcome.scores[split].scores
        named = {name for name in scores if name.endswith("_a_accuracy")}
        assert named == {f"{genre}_a_accuracy" for genre in GENRES if genre != GENRES[absent]}
        assert outcome.scores[split].confusion[absent].sum() == 0 and 0 <= scores["song_macro_recall"] <= 1


def test_without_a_test_split_a_run_is_judged_by_validate(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = make_prepared({"train": 4, "validate": 3})
    outcome = train_run(begun(tmp_path / "run", checkpoint, epochs=1), prepared, device="cpu", tell=quiet)
    assert set(outcome.scores) == {"validate"} and set(outcome.contents) == {"train", "validate"}
    predictions = read_predictions(tmp_path / "run" / "predictions.jsonl")
    assert len(predictions.labels) == len(prepared.splits["validate"]) == len(predictions.of_split("validate").labels)
    assert "There is no test split" in (tmp_path / "run" / "MODEL_CARD.md").read_text(encoding="utf-8")
    summary = _summary(outcome)
    assert summary.startswith("validate: 9 songs") and "test: " not in summary

    logged: dict[str, Any] = {}
    plot = SimpleNamespace(confusion_matrix=lambda **columns: columns)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(log=logged.update, finish=lambda: None, plot=plot))
    train._tell_wandb(outcome, predictions)
    assert len(logged["validate/confusion"]["preds"]) == 9 and "validate/mean_pooling_score" in logged


def test_snippets_of_another_length_are_refused(tmp_path: Path) -> None:
    longer = make_checkpoint(tmp_path / "longer", GENRES, n_frames=256)
    with pytest.raises(TrainingError, match=r"classifies snippets of 2 s.*have 1 s.*--snippet-seconds 2"):
        train_run(begun(tmp_path / "run", longer), make_prepared(), device="cpu", tell=quiet)


def test_out_of_memory_halves_what_is_classified_at_once_and_keeps_the_batch(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, sizes = Network.forward, []

    def small_memory(self: Network, waveforms: Any = None, **others: Any) -> Any:
        if len(waveforms) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(waveforms))
        return forward(self, waveforms, **others)

    monkeypatch.setattr(Network, "forward", small_memory)
    told: list[str] = []
    run = begun(tmp_path / "run", checkpoint, epochs=1)
    train_run(run, make_prepared(), device="cpu", tell=told.append)
    assert [line for line in told if "memory" in line] == [
        "out of memory: 4 snippets at a time from here on, gathered to steps of 8",
        "out of memory: 2 snippets at a time from here on, gathered to steps of 8",
    ]
    assert json.loads((run.folder / "metrics.json").read_text())["history"][-1]["step"] == 5  # 36 rows in batches of 8
    assert max(sizes) == 2


def test_a_loader_that_has_no_shared_memory_left_is_one_line(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        said = "DataLoader worker (pid 7) is killed by signal: Bus error."
        raise RuntimeError(f"{said} It is possible that dataloader's workers are out of shared memory. Please ...")

    monkeypatch.setattr(train.GenreTrainer, "training_step", fail)
    with pytest.raises(TrainingError, match=r"a loader ended for lack of room in /dev/shm: .*--shm-size"):
        train_run(begun(tmp_path / "run", checkpoint, epochs=1), make_prepared(), device="cpu", tell=quiet)


def test_offline_wandb_has_the_curves_and_the_confusion_matrix(tmp_path: Path, checkpoint: Path) -> None:
    code = (
        "from tests.learning.test_train import *\n"
        f"run = begun(Path({str(tmp_path / 'run')!r}), Path({str(checkpoint)!r}), epochs=1)\n"
        "train_run(run, make_prepared(), device='cpu', wandb=True, tell=quiet)\n"
    )
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DATA_DIR": str(tmp_path)}
    environment.pop("WANDB_PROJECT", None)
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, env=environment, capture_output=True, timeout=300
    )
    logs = list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(logs) == 1
    data = logs[0].read_bytes()
    for expected in (
        b"genre_classification",
        b"eval/mean_pooling_score",
        b"eval/confusion",
        b"eval/confused_pairs",
        b"test/mean_pooling_score",
        b"test/confusion",
    ):
        assert expected in data, expected


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("No API key configured. Use `wandb login` to log in.", "No API key configured"),  # of wandb 0.2x
        (
            "api_key not configured (no-tty). call wandb.login(key=[your_api_key])\nmore",
            "api_key not configured (no-tty)",
        ),
        ("", "RuntimeError"),
    ],
)
def test_wandb_without_a_key_is_one_line_that_says_once_what_to_do(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    def no_key(**_: Any) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr("wandb.init", no_key)
    with pytest.raises(TrainingError) as error:
        train_run(begun(tmp_path / "run", checkpoint), make_prepared(), device="cpu", wandb=True, tell=quiet)
    assert str(error.value) == f"wandb: {told}: log in by `wandb login`, or keep the log here by WANDB_MODE=offline"


def test_two_processes_score_as_one_does(tmp_path: Path) -> None:
    knowing = make_checkpoint(tmp_path / "knowing", GENRES, n_frames=128)
    run = begun(tmp_path / "one", knowing, epochs=0, precision="fp32")
    one = train_run(run, make_prepared({"train": 4, "validate": 5, "test": 3}), device="cpu", tell=quiet)
    succeed(train_two, tmp_path, knowing, {"train": 4, "validate": 5, "test": 3}, {"epochs": 0, "precision": "fp32"})
    first, second = (read_predictions(tmp_path / name / "predictions.jsonl") for name in ("one", "two"))
    assert list(first.songs) == list(second.songs)
    np.testing.assert_allclose(first.logits, second.logits, atol=1e-5)
    scores = json.loads((tmp_path / "two" / "metrics.json").read_text())["scores"]
    assert scores["test"] == pytest.approx(dict(one.scores["test"].scores))
    assert scores["validate"] == pytest.approx(dict(one.scores["validate"].scores))


def train_two(checkpoint: Path, n_songs: dict[str, int] | None, options: dict[str, Any]) -> None:
    """Train in the folder "two", as one of two processes."""
    train_run(begun(Path("two"), checkpoint, **options), make_prepared(n_songs), device="cpu", tell=quiet)


EQUAL = {
    "class weights": {"class_weights": True, "label_smoothing": 0.2, "crop": "random"},
    "mixup": {"mixup": 0.5, "label_smoothing": 0.1},
    "several times the rows, the last of them not mixed": {
        "min_steps": 9,
        "finish_epochs": 1,
        "mixup": 0.5,
        "crop": "random",
        "layer_decay": 0.75,
        "head_lr_factor": 10.0,
        "weight_decay": 0.05,
        "schedule": "cosine",
    },
    "another tagger's labels": {
        "soft_labels": "soft.parquet",
        "ema": 0.9,
        "optimizer": "muon",
        "sampler": "sqrt",
        "mixup": 0.5,
    },
}
CERTAIN = {"augment_p": 0.0, "precision": "fp32", "epochs": 2}  # no chance but that of the order
RARE = {"train": 5, "validate": 3, "test": 3}  # 25 rows: the last batch is of one


def rarer() -> Any:
    """A dataset of which one genre has few songs, and the last of its batches of 8 has one row."""
    prepared = make_prepared(RARE)
    rows = prepared.splits["train"]
    prepared.splits["train"] = rows.select([row for row, label in enumerate(rows["label"]) if label or row > 21])
    return prepared


def train_all(checkpoint: Path, folder: str, device_batch: int) -> None:
    """A training for each of EQUAL, stopped after its first epoch and resumed by several processes."""
    for number, options in enumerate(EQUAL.values()):
        run = begun(Path(folder, str(number)), checkpoint, "seed", **CERTAIN | options)
        told = stop_before_epoch_2 if n_processes() > 1 else quiet
        with untidied(), suppress(StopError):
            train_run(run, rarer(), device="cpu", device_batch=device_batch, tell=told)
        if n_processes() > 1:
            with untidied():
                train_run(run, rarer(), device="cpu", device_batch=device_batch, resume=True, tell=quiet)


def stop_before_epoch_2(line: str) -> None:
    if line.startswith("epoch 2/"):
        raise StopError


def test_several_processes_learn_what_one_does(tmp_path: Path, checkpoint: Path) -> None:
    write_soft_labels(tmp_path / "soft.parquet", rarer())
    succeed(train_all, tmp_path, checkpoint, "one", 8, n=1)
    succeed(train_all, tmp_path, checkpoint, "two", 2, n=2)
    for number, name in enumerate(EQUAL):
        one, two = (weights_of_the_last_epoch(tmp_path / folder / str(number)) for folder in ("one", "two"))
        for weight, values in one.items():
            torch.testing.assert_close(two[weight], values, rtol=1e-3, atol=1e-4, msg=f"{name}: {weight}")
        losses = [losses_of(tmp_path / folder / str(number)) for folder in ("one", "two")]
        assert losses[0] == pytest.approx(losses[1], abs=2e-4), name


def losses_of(run: Path) -> list[float]:
    """Every loss that was logged."""
    history = json.loads((run / "metrics.json").read_text())["history"]
    return [entry[name] for entry in history for name in ("loss", "genre_loss", "auxiliary_loss") if name in entry]


def train_and_tell_of_chance(checkpoint: Path) -> None:
    """Keeps which patches were left out in each step."""
    kept, call = [], Patchout.__call__

    def told(self: Patchout, embeddings: Any, inputs: Any, tokens: torch.Tensor) -> torch.Tensor:
        numbered = torch.arange(tokens.shape[1]).expand(len(tokens), -1)[..., None].float()
        if embeddings.training:
            with torch.random.fork_rng():
                kept.append(call(self, embeddings, inputs, numbered)[0, :, 0].tolist())
        return call(self, embeddings, inputs, tokens)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Patchout, "__call__", told)
        train_run(begun(Path("run"), checkpoint, epochs=1), make_prepared(), device="cpu", tell=quiet)
    Path(f"chance-{os.environ['RANK']}-of-{n_processes()}.json").write_text(json.dumps(kept))


def test_each_process_has_its_own_chance(tmp_path: Path, checkpoint: Path) -> None:
    succeed(train_and_tell_of_chance, tmp_path, checkpoint)
    first, second = (json.loads((tmp_path / f"chance-{rank}-of-2.json").read_text()) for rank in range(2))
    assert len(first) == len(second) == 5
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_two_machines_train_together(tmp_path: Path, checkpoint: Path) -> None:
    soft = write_soft_labels(tmp_path / "soft.parquet", make_prepared())
    code = (
        "from tests.learning.test_train import *\n"
        f"os.chdir({str(tmp_path)!r})\n"
        f"train_two(Path({str(checkpoint)!r}), None, dict(epochs=2, soft_labels={str(soft)!r}))\n"
    )
    launch_two(code, tmp_path)
    assert (
        json.loads((tmp_path / "two" / "metrics.json").read_text())["history"][-1]["step"] == 2 * 5
    )  # 36 rows in batches of 8 over both
    assert GenreModel.load(str(tmp_path / "two"), "cpu", "fp32").head.genres == GENRES


def launch_two(code: str, folder: Path) -> None:
    """Run it on two machines that are one training, as torchrun starts it on each: both of them are this one."""
    (folder / "script.py").write_text(code)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", port]
    processes = [
        subprocess.Popen(
            [*torchrun, "--node-rank", str(rank), str(folder / "script.py")],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    finally:
        for process in processes:  # one that fails leaves the other waiting for it
            process.terminate()


def train_by_command(checkpoint: Path, *options: str) -> None:
    """`python -m training`, in a process whose clock is its own."""
    rank = int(os.environ["RANK"])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.cli._dataset", lambda *_: make_prepared())
        clock = SimpleNamespace(now=lambda: datetime(2026, 1, 1, 12, 0, rank))
        patched.setattr("training.learning.runs.datetime", clock)
        main(["train", "--model", str(checkpoint), "--device", "cpu", "--batch-size", "8", *options])


def test_several_processes_train_in_one_folder_that_the_first_one_names(tmp_path: Path, checkpoint: Path) -> None:
    certain = ("--epochs", "1", "--lr", "1e-3", "--augment-p", "0", "--precision", "fp32")
    outputs = together(train_by_command, tmp_path, checkpoint, *certain)
    assert [code for code, _ in outputs] == [0, 0], outputs
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["seed-20260101-120000"]
    assert ["Use it: genre-tag --model runs/seed-20260101-120000" in output for _, output in outputs] == [True, False]
    succeed(train_by_command, tmp_path, checkpoint, *certain, "--out", "one", n=1)
    two, one = (read_predictions(tmp_path / run / "predictions.jsonl") for run in ("runs/seed-20260101-120000", "one"))
    assert two.songs.tolist() == one.songs.tolist()
    np.testing.assert_allclose(two.logits, one.logits, rtol=0, atol=1e-5)  # an epoch moves them by 1e-3


def test_what_is_in_the_way_ends_all_processes(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.doc").touch()
    outputs = together(train_by_command, tmp_path, checkpoint, "--out", "taken")
    assert [code for code, _ in outputs] == [3, 3]
    assert all("taken: is there already" in output and "Traceback" not in output for _, output in outputs)


def test_a_second_attempt_does_not_hold_the_first(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[Network] = weakref.WeakSet()
    forward = Network.forward

    def small_memory(self: Network, waveforms: Any = None, **others: Any) -> Any:
        alive.add(self)
        if len(waveforms) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, waveforms, **others)

    monkeypatch.setattr(Network, "forward", small_memory)
    left: list[int] = []
    monkeypatch.setattr(train, "release_memory", lambda device: (release_memory(device), left.append(len(alive))))
    train_run(begun(tmp_path / "run", checkpoint, epochs=1), make_prepared(), device="cpu", tell=quiet)
    assert left == [0]


def test_a_device_computes_as_many_snippets_at_once_as_it_is_told(tmp_path: Path, checkpoint: Path) -> None:
    sizes: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        forward = Network.forward

        def counting(self: Network, waveforms: Any = None, **others: Any) -> Any:
            sizes.append(len(waveforms))
            return forward(self, waveforms, **others)

        patched.setattr(Network, "forward", counting)
        run = begun(tmp_path / "run", checkpoint, "seed", epochs=1)
        train_run(run, make_prepared(), device="cpu", device_batch=3, tell=quiet)
    assert max(sizes) == 2  # the largest even part of 8


def train_with_unlike_memories(checkpoint: Path) -> None:
    """`python -m training`, in processes of which the second has little memory."""
    with pytest.MonkeyPatch.context() as patched:
        memory = {"0": 1e12, "1": 1e5}[os.environ["RANK"]]
        patched.setattr("training.learning.network.free_memory", lambda device: memory)
        patched.setattr(Run, "tidy", lambda self: None)
        train_by_command(checkpoint, "--out", "run", "--epochs", "1")


def test_processes_compute_as_many_snippets_at_once_as_the_least_of_them_can(tmp_path: Path, checkpoint: Path) -> None:
    outputs = together(train_with_unlike_memories, tmp_path, checkpoint)
    assert [code for code, _ in outputs] == [0, 0], outputs
    state = json.loads(next((tmp_path / "run/trainer").glob("*/trainer_state.json")).read_text())
    assert state["train_batch_size"] == 1


def run_out_of_memory(checkpoint: Path) -> None:
    """`python -m training`, in processes of which the second has not the memory for its share of the second step."""
    rank, forward, n_steps = os.environ["RANK"], Network.forward, iter(range(1000))

    def small_memory(self: Network, **snippets: Any) -> Any:
        if self.training and next(n_steps) == 1 and rank == "1":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, **snippets)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Network, "forward", small_memory)
        train_by_command(checkpoint, "--out", "run")


def test_out_of_memory_in_one_of_several_processes_ends_all(tmp_path: Path, checkpoint: Path) -> None:
    outputs = together(run_out_of_memory, tmp_path, checkpoint)
    assert [code for code, _ in outputs] == [3, 3], outputs
    assert "another process has ended" in outputs[0][1]
    assert "4 snippets at once do not fit into the memory of a cpu: try --device-batch 2" in outputs[1][1]
    assert not any("Traceback" in output for _, output in outputs)


def test_runs_are_begun_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert new_folder("v2", None).parts[0] == "runs" and new_folder("v2", None).name.startswith("v2-20")
    with pytest.raises(TrainingError, match="no unfinished run"):
        resumed(None, {}, "x")
    run = Run(Path("runs/a"), configure("v2", lr=1e-3), "x", ("genre-tag",))
    run.begin()
    with pytest.raises(TrainingError, match="there is a run already"):
        new_folder("v2", Path("runs/a"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    with pytest.raises(TrainingError, match="no run"):
        new_folder("v2", Path("full"))
    assert resumed(None, {"lr": 1e-3, "seed": None}, "x").config == run.config
    with pytest.raises(TrainingError, match=r"--lr 0\.001: leave --lr out"):
        resumed(None, {"lr": 1e-2}, "x")
    with pytest.raises(TrainingError, match="other data"):
        resumed(None, {}, "y")
    (tmp_path / "runs/a/run.json").write_text("{")
    with pytest.raises(TrainingError, match=r"run\.json"):
        resumed(None, {}, "x")
    (tmp_path / "runs/a/metrics.json").touch()
    with pytest.raises(TrainingError, match="finished"):
        resumed(Path("runs/a"), {}, "x")
