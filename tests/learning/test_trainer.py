"""What transformers' Trainer is told, and what the user is."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import TrainingArguments

from tagger.terminal.screen import tell
from tests.support.screens import Terminal
from training.errors import TrainingError
from training.learning.config import configure
from training.learning.loader import EpochSampler
from training.learning.runs import Run
from training.learning.trainer import Order, Watch, choose_precision, n_workers, peak_memory_gb, training_arguments

N_ROWS = 1234


def run(folder: Path, recipe: str = "v2") -> Run:
    return Run(folder / "run", configure(recipe), "", ())


def the_notebooks_arguments(out: Path) -> TrainingArguments:
    """The cell of the notebook, but for its folder, and for fp16 and wandb, which need a GPU and a key."""
    batch_size = 64
    devices = 1
    warmup_epochs = 1
    return TrainingArguments(
        output_dir=str(out / "trainer"),
        report_to=[],
        run_name=out.name,
        learning_rate=5e-5,
        weight_decay=0.00,
        warmup_steps=round(N_ROWS / batch_size * warmup_epochs),
        push_to_hub=False,
        num_train_epochs=10,
        per_device_train_batch_size=batch_size // devices,
        per_device_eval_batch_size=batch_size // devices,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="mean_pooling_score",
        greater_is_better=True,
        logging_strategy="steps",
        logging_steps=1,
        save_total_limit=3,
        use_cpu=True,
    )


#: Fields that differ from the notebook's, and why that changes nothing that is learned.
MEANT_TO_DIFFER = {
    "label_names": "song ids come back with the labels",
    "remove_unused_columns": "rows are kept for that",
    "logging_nan_inf_filter": "a loss that is no number is an error, not a zero",
    "log_level": "quiet",
    "disable_tqdm": "its own progress bar",
    "logging_dir": "holds the time",
    "dataloader_pin_memory": "on CUDA only",
    "ddp_find_unused_parameters": "all are used",
    "ddp_broadcast_buffers": "they are alike",
}


def test_the_seed_recipe_tells_the_trainer_what_the_notebook_told_it(tmp_path: Path) -> None:
    ours = training_arguments(run(tmp_path, "seed"), N_ROWS).to_dict()
    theirs = the_notebooks_arguments(tmp_path / "run").to_dict()
    differing = {name for name in theirs if ours[name] != theirs[name]}
    assert differing <= set(MEANT_TO_DIFFER), {name: (ours[name], theirs[name]) for name in differing}


def test_the_seed_recipe_is_fp16_where_there_is_a_gpu() -> None:
    assert choose_precision(configure("seed"), "cuda") == "fp16"
    assert choose_precision(configure("seed"), "cpu") == "fp32"
    with pytest.raises(TrainingError, match="fp16"):
        choose_precision(configure("seed", precision="fp16"), "cpu")


def test_v2_takes_bf16_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_it, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("training.learning.trainer.computes_bf16", lambda device, has_it=has_it: has_it)
        assert choose_precision(configure("v2"), "cpu") == expected
    assert choose_precision(configure("v2"), "cuda") == "fp16"  # the last of the loop: none in hardware
    assert choose_precision(configure("v2", precision="fp32"), "cuda") == "fp32"


@pytest.mark.parametrize(("n_devices", "at_once", "expected"), [(1, 0, (64, 1)), (1, 16, (16, 4)), (2, 8, (8, 4))])
def test_the_effective_batch_stays_what_was_asked_for(
    tmp_path: Path, n_devices: int, at_once: int, expected: tuple[int, int]
) -> None:
    arguments = training_arguments(run(tmp_path), N_ROWS, n_devices=n_devices, device_batch=at_once)
    assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == expected
    assert expected[0] * expected[1] * n_devices == 64


@pytest.mark.parametrize(
    ("n_cores", "n_local", "shared_megabytes", "expected"),
    [(16, 1, 4000, 4), (2, 1, 4000, 2), (16, 8, 4000, 2), (16, 1, 64, 1), (16, 1, 30, 0)],
)
def test_loaders_are_as_many_as_have_cores_and_shared_memory(
    monkeypatch: pytest.MonkeyPatch, n_cores: int, n_local: int, shared_megabytes: int, expected: int
) -> None:
    monkeypatch.setattr("training.learning.trainer.usable_cores", lambda: n_cores)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=shared_megabytes * 10**6))
    monkeypatch.setattr("os.path.isdir", lambda path: True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(n_local))
    assert n_workers(64 * 160_000 * 2) == expected


def test_a_gpu_is_fed_from_pinned_memory_without_waiting(tmp_path: Path) -> None:
    fp32 = Run(tmp_path / "run", configure("v2", precision="fp32"), "", ())
    for device, expected in (("cuda", True), ("cpu", False)):
        arguments = training_arguments(fp32, N_ROWS, device=device)
        assert arguments.dataloader_pin_memory == arguments.accelerator_config.non_blocking == expected


def test_rows_are_taken_to_the_epoch_that_begins() -> None:
    sampler = EpochSampler(20, 0)
    are_left_out: list[bool] = []
    order = Order(sampler, SimpleNamespace(leave_out_patches=are_left_out.append), finish=2)
    seen = []
    for epoch in (None, 0.0, 1.0, 2.0):
        order.on_epoch_begin(None, SimpleNamespace(epoch=epoch), None)
        seen.append({key.cut // 20 for key in sampler})
    assert seen == [{0}, {0}, {1}, {2}]
    assert are_left_out == [True, True, True, False]


@pytest.mark.parametrize(("min_steps", "epochs", "expected"), [(0, 10, 19), (1500, 10, 150), (1501, 2, 751)])
def test_the_warm_up_is_of_an_epoch_however_often_it_goes_over_the_rows(
    tmp_path: Path, min_steps: int, epochs: int, expected: int
) -> None:
    config = configure("v2", min_steps=min_steps, epochs=epochs)
    assert training_arguments(Run(tmp_path / "run", config, "", ()), N_ROWS).warmup_steps == expected


def test_v2_ends_at_a_hundredth_of_the_learning_rate(tmp_path: Path) -> None:
    arguments = training_arguments(run(tmp_path), N_ROWS)
    assert arguments.lr_scheduler_type == "cosine_with_min_lr"
    assert arguments.lr_scheduler_kwargs == {"min_lr_rate": 0.01}


def test_a_loss_that_is_no_number_ends_the_training_with_advice() -> None:
    watch = Watch(lambda line: None, batch_size=4, slow=False)
    state = SimpleNamespace(global_step=7)
    watch.on_log(None, state, None, {"loss": 1.0})
    with pytest.raises(TrainingError, match=r"step 7.*--lr"):
        watch.on_log(None, state, None, {"loss": math.nan})


def test_a_cpu_says_after_three_steps_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    watch = Watch(told.append, batch_size=8, slow=True)
    clock = iter([100.0, 124.0])
    monkeypatch.setattr("training.learning.trainer.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    for step in range(1, 6):
        watch.on_step_end(None, SimpleNamespace(global_step=step, max_steps=303), None)
    assert told == ["about 60 minutes to go, 0.7 snippets/s, evaluation not counted"]


def test_what_is_told_stands_alone_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    watch = Watch(tell, batch_size=8, slow=False)
    watch.on_train_begin(None, SimpleNamespace(is_world_process_zero=True, max_steps=3, global_step=0), None)
    tell("epoch 1/3  \x1b[2J")
    watch.on_step_end(None, SimpleNamespace(global_step=1, max_steps=3), None)
    tell("epoch 2/3")
    assert terminal.lines()[:2] == ["epoch 1/3  \\x1b[2J", "epoch 2/3"]
    assert len(terminal.lines()) == 3 and "/3 [" in terminal.lines()[2]
    watch.on_train_end(None, None, None)
    assert terminal.lines() == ["epoch 1/3  \\x1b[2J", "epoch 2/3"]


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_memory_is_counted_in_the_units_of_the_system(monkeypatch: pytest.MonkeyPatch, system: str, unit: int) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("resource.getrusage", lambda who: SimpleNamespace(ru_maxrss=3 * 10**9 // unit))
    assert peak_memory_gb() == pytest.approx(3, rel=1e-6)


def test_an_epoch_is_one_line() -> None:
    told: list[str] = []
    watch = Watch(told.append, batch_size=8, slow=False)
    watch.on_log(None, SimpleNamespace(global_step=1), None, {"loss": 2.0})
    scores = {"eval_loss": 1.5, "eval_accuracy": 0.5, "eval_mean_pooling_score": 0.75}
    watch.on_evaluate(SimpleNamespace(num_train_epochs=3), SimpleNamespace(epoch=1.0), None, metrics=scores)
    assert len(told) == 1 and told[0].startswith(
        "epoch 1/3  loss 2.000  validate: loss 1.500, snippets 0.500, songs 0.750"
    )
    assert "\n" not in told[0]
