"""`genre-tag train`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tagger.cli.settings import USAGE, Fraction, command_line, read_config, source_of
from tagger.errors import OutputError, RunError
from tagger.extras import hide_if_broken, need
from tagger.terminal.signals import exit_code
from training.cli_prepare import make_dataset
from training.dataset.options import PrepareOptions
from training.learning.config import DEFAULT_RECIPE, NEW_MODELS, OPTION_NAMES, RECIPES

if TYPE_CHECKING:
    from training.dataset.data import Prepared
    from training.grid import Cell
    from training.learning.config import TrainConfig
    from training.learning.runs import Run
    from training.outcome.outcome import Outcome

DATASET = Path("dataset")


@click.command(short_help="Fine-tune a model on your own labelled music.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="SOURCE",
    help="A prepared dataset; a DatasetDict of log-mels as the notebook saves it; or music, which is prepared into"
    " ./dataset first.  [default: ./dataset]",
)
@click.option("--strict-splits", is_flag=True, help="An error, not a warning, where splits share songs or artists.")
@click.option(
    "--epochs", type=click.IntRange(min=0), metavar="N", help="Passes over the train split; 0 only evaluates."
)
@click.option(
    "--recipe", type=click.Choice(list(RECIPES)), default=DEFAULT_RECIPE, show_default=True,
    help="'seed' is plain fine-tuning; 'v2' adds what the options below list. Each can be set alone.",
)  # fmt: skip
@click.option(
    "--model",
    metavar="NAME",
    help="Where to begin: 'audioset', 'starter', a checkpoint folder, a hub id; or random weights, for the dataset's"
    " length of snippets: new-micro (0.5 M parameters; 1 s where --data is music), new-mini (2 M), new-tiny (5.5 M),"
    " new-small (22 M).",
)
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Snippets to a step, over all devices.")
@click.option("--min-steps", type=click.IntRange(min=0), metavar="N", help="Steps at least, however small the dataset.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), metavar="X", help="Learning rate.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Of everything that is random.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="The run.  [default: runs/RECIPE-DATE]")
@click.option("--resume", is_flag=True, help="Go on with the run at --out, or with the newest that is unfinished.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option(
    "--device-batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Snippets that a device computes at once, to be gathered to a batch.  [default: as many as fit its memory]",
)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), help="Arithmetic of the model.")
@click.option(
    "--max-length",
    type=click.IntRange(min=16),
    metavar="N",
    help="Frames of the model's input; it is less accurate where it was trained on others. 0: its own.",
)
@click.option("--hidden-dropout", type=Fraction(), help="Share of what layers add that is dropped.")
@click.option("--attention-dropout", type=Fraction(), help="Share of the weights of attention that is dropped.")
@click.option("--wandb", is_flag=True, help="Log to Weights & Biases.")
@click.option("--wandb-project", metavar="NAME", help="Its project; with --wandb.  [default: genre_classification]")
@click.option("--wandb-host", metavar="URL", help="Your own server of it; with --wandb.")
@click.option(
    "--soft-labels",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Learn also what another tagger says of the snippets: a table (.parquet, .csv) with the columns song or path,"
    " start_seconds, and one for each class: of this dataset's genres, or of the tagger's own.",
)
@click.option("--soft-weight", type=Fraction(), help="Share of the soft labels in the target of genres.")
@click.option("--auxiliary-weight", type=click.FloatRange(min=0), metavar="X", help="For the tagger's own classes.")
@click.option("--head-only", is_flag=True, default=None, help="Train the classifier alone: minutes instead of hours.")
@click.option("--class-weights", is_flag=True, default=None, help="Weigh rare genres up in the loss.")
@click.option("--sampler", type=click.Choice(["shuffle", "sqrt"]), help="sqrt draws rare genres more often.")
@click.option("--crop", type=click.Choice(["fixed", "random"]), help="Where snippets are cut; fixed: where they were.")
@click.option("--augment-p", type=Fraction(), help="Chance of a snippet to be altered at all, by the effects below.")
@click.option("--time-mask", type=click.IntRange(min=0), metavar="N", help="Effect: blank up to N frames; 0: off.")
@click.option("--frequency-mask", type=click.IntRange(min=0), metavar="N", help="Effect: blank up to N mels; 0: off.")
@click.option("--noise", type=click.FloatRange(min=0), metavar="X", help="Effect: Gaussian noise; 0: off.")
@click.option("--shift", type=click.Choice(["roll", "edge", "none"]), help="Effect: shift by some mels.")
@click.option("--shift-mels", type=click.IntRange(min=0), metavar="N", help="By up to N of them.")
@click.option("--level", type=click.Choice(["contrast", "gain", "none"]), help="Effect: scale, or up to ±6 dB.")
@click.option("--contrast", type=Fraction(), help="Scale by 1 ± so much at most.")
@click.option("--equalizer", type=click.FloatRange(min=0), metavar="DB", help="Effect: tone, by up to ±DB; 0: off.")
@click.option("--low-pass", is_flag=True, default=None, help="Effect: silence above 1.2 kHz, or any other frequency.")
@click.option("--time-stretch", type=Fraction(), help="Effect: longer or shorter by up to this share; 0: off.")
@click.option("--effect-p", type=Fraction(), help="Chance of each effect.")
@click.option(
    "--effects-per", type=click.Choice(["snippet", "batch"]), help="What has a chance of its own; batch: all are alike."
)
@click.option("--patchout", type=Fraction(), help="Share of the columns (of time) of patches to leave out.")
@click.option("--frequency-patchout", type=Fraction(), help="Share of the rows (of mels) of patches to leave out.")
@click.option("--mixup", type=Fraction(), help="Share of the snippets that are mixed with another.")
@click.option("--label-smoothing", type=Fraction())
@click.option(
    "--finish-epochs", type=click.IntRange(min=0), metavar="N", help="Last epochs, without patchout and mixup."
)
@click.option("--schedule", type=click.Choice(["linear", "cosine"]), help="How the learning rate falls.")
@click.option("--warmup-epochs", type=click.FloatRange(min=0), metavar="X", help="While the learning rate rises.")
@click.option("--optimizer", type=click.Choice(["adamw", "muon"]), help="muon: for networks from random weights.")
@click.option("--weight-decay", type=click.FloatRange(min=0), metavar="X")
@click.option("--layer-decay", type=Fraction(), help="Learning rate of a layer as a share of the next one's.")
@click.option("--head-lr-factor", type=click.FloatRange(min=0, min_open=True), metavar="X", help="For the classifier.")
@click.option("--ema", type=Fraction(), help="Decay of the running mean of the weights, which is what is kept; 0: off.")
@click.option("--log-steps", type=click.IntRange(min=1), metavar="N", help="Steps from one logged loss to the next.")
@click.option(
    "--grid",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A study: a run for every combination of the values in this TOML file (`mixup = [0, 0.5]`, `seed = [1, 2]`),"
    " in a folder of --out (runs/FILE where none is given), and a report on them. Stopped, the same command goes on.",
)
@click.option("--show-config", is_flag=True, help="Print what is in force and where it comes from, and do nothing.")
@click.pass_context
def train(
    ctx: click.Context, /, data: Path | None, strict_splits: bool, recipe: str, out: Path | None, resume: bool,
    device: str, device_batch: int | None, wandb: bool, wandb_project: str | None, wandb_host: str | None,
    grid: Path | None, show_config: bool, **options: Any,
) -> None:  # fmt: skip
    """Fine-tune a model on labelled music, and say how good it is.

    \b
    genre-tag prepare ~/Music         make ./dataset of songs that have a genre
    genre-tag train --epochs 10       learn from it; the result is a folder in runs/
    genre-tag --model runs/NAME ...   tag with it

    Options that are not given are the recipe's. The best epoch by the songs of the validation split is kept; the test
    split is classified once, at the end. Stopped at any time, --resume goes on from the last whole epoch.

    \b
    Exit codes: 0 fine, 2 wrong usage, 3 nothing could be done, 130 interrupted.
    """
    need("genre-tag train", "train")
    _say_where_to_log(wandb, wandb_project, wandb_host)
    from tagger.evaluation.run_folder import RUNS
    from tagger.terminal.screen import tell
    from training.learning.processes import is_first_process

    given = {name: options[name] for name in OPTION_NAMES}
    config = _configured(recipe, given)
    if show_config:
        _show_config(ctx, config, given)
        return

    def tell_once(line: str) -> None:
        if is_first_process():
            tell(line)

    hide_if_broken("torchaudio")  # transformers imports it wherever it is installed; training uses nothing of it
    how = {"device": device, "device_batch": device_batch or 0, "wandb": wandb, "tell": tell_once}
    if grid is None:
        _train_one(config, given, out, resume, _dataset(data, config.model, strict_splits, tell_once), how)
    elif resume:
        raise click.UsageError("--grid goes on where it was by itself: leave --resume out.")
    else:
        _train_grid(ctx, grid, given, out or RUNS / grid.stem, data, strict_splits, how)


def _say_where_to_log(wandb: bool, project: str | None, host: str | None) -> None:
    """Give Weights & Biases, if it is wanted, its project and server, the way that it reads them."""
    if wandb:
        need("--wandb", "train", "wandb")
    elif project or host:
        raise click.UsageError("--wandb-project and --wandb-host say where to log: add --wandb.")
    for variable, value in (("WANDB_PROJECT", project), ("WANDB_BASE_URL", host)):
        if value is not None:
            os.environ[variable] = value


def _train_one(
    config: TrainConfig, given: dict[str, Any], out: Path | None, resume: bool, prepared: Prepared, how: dict[str, Any]
) -> None:
    """Begin a run, or go on with one, and say what came out."""
    from training.learning.processes import from_first, join
    from training.learning.runs import Run, new_folder, resumed

    def begin() -> Run:
        if resume:
            return resumed(out, given, prepared.fingerprint)
        return Run(new_folder(config.recipe, out), config, prepared.fingerprint, tuple(command_line()))

    join(how["device"])
    run = from_first(begin)  # its folder is named by the clock, and must not be there
    outcome = _train(run, prepared, how, resume=resume)
    if outcome is not None:
        click.echo(_summary(outcome))


def _train(run: Run, prepared: Prepared, how: dict[str, Any], *, resume: bool, go_on: str = "") -> Outcome | None:
    """Train; whatever ends it inside, its user is told how to go on from there, by the command `go_on`."""
    from training.learning.train import train_run

    go_on = go_on or f"genre-tag train --resume --out {shlex.quote(str(run.folder))}"
    try:
        return train_run(run, prepared, **how, resume=resume)
    except (OutputError, RunError) as error:
        raise type(error)(error.path, f"{error.reason}: what was learned is kept, {go_on} writes the rest") from error
    except KeyboardInterrupt as error:
        how["tell"](f"Interrupted. To go on from the last whole epoch: {go_on}")
        raise click.exceptions.Exit(exit_code()) from error


def _train_grid(
    ctx: click.Context, file: Path, given: dict[str, Any], folder: Path, data: Path | None, strict: bool,
    how: dict[str, Any],
) -> None:  # fmt: skip
    """Train the runs of a grid that are not there yet, and report on all of them."""
    from tagger.report.comparison import study_runs
    from tagger.report.text import print_report
    from training.learning.processes import from_first, is_first_process, join
    from training.learning.runs import run_of_grid

    found = _cells(ctx, file, given)
    configs = [_configured(cell.recipe, cell.options) for cell in found]
    prepared = _dataset(data, configs[0].model, strict, how["tell"])
    join(how["device"])
    where = ["--data", str(data)] if data else []
    for number, (cell, config) in enumerate(zip(found, configs, strict=True), 1):
        place = folder / cell.name
        argv = ["genre-tag", "train", *where, *cell.arguments(), "--out", str(place)]
        run = from_first(partial(run_of_grid, place, config, prepared.fingerprint, argv))
        how["tell"](f"Run {number} of {len(found)}: {cell.name}{', finished' if run.is_finished else ''}")
        if not run.is_finished:
            _train(run, prepared, how, resume=True, go_on="the same command")
    if is_first_process():
        split = "test" if "test" in prepared.splits else "validate"
        print_report(study_runs([folder / cell.name for cell in found], split))
        how["tell"](f"Again, and in HTML: genre-tag report {shlex.quote(str(folder))} --out study.html")


def _cells(ctx: click.Context, file: Path, given: dict[str, Any]) -> list[Cell]:
    """The combinations of a grid, with the options that are given beside it; raises UsageError and SettingsError."""
    from training.grid import cells

    params = {param.name: param for param in ctx.command.params if param.name in ("recipe", *OPTION_NAMES)}
    names = {param.opts[0].removeprefix("--"): name for name, param in params.items() if name}
    typed = {name: value for name, value in given.items() if value is not None}
    if source_of(ctx, "recipe") != "default":
        typed["recipe"] = ctx.params["recipe"]
    values: dict[str, Any] = {}
    for option, value in read_config(file, names).items():
        name = names[option]
        if name in typed:
            raise click.UsageError(f"--{option} is given, and {file} has {option}: leave one of them out.")
        convert = partial(params[name].type.convert, param=params[name], ctx=ctx)
        values[name] = [convert(str(each)) for each in value] if isinstance(value, list) else convert(str(value))
    try:
        return cells(typed | values)
    except ValueError as error:
        raise click.UsageError(f"{file}: {error}.") from error


def _with_recipes(command: click.Command) -> None:
    """Say in the help of each option what the recipes set."""
    for param in command.params:
        if isinstance(param, click.Option) and param.name in OPTION_NAMES:
            shown = {name: _shown(getattr(config, param.name)) for name, config in RECIPES.items()}
            if len(set(shown.values())) > 1:
                values = ", ".join(f"{name}: {value}" for name, value in shown.items())
            else:
                values = f"default: {shown[DEFAULT_RECIPE]}"
            if values not in ("default: off", "default: none"):
                param.help = f"{param.help or ''}  [{values}]".strip()


def _shown(value: Any) -> str:
    """The value of an option as people read it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def _show_config(ctx: click.Context, config: TrainConfig, given: dict[str, Any]) -> None:
    """Print every option, its value, and where that comes from."""
    from training.learning.config import origins

    sources = origins(config.recipe, **given)
    for param in ctx.command.params:
        if param.name == "show_config" or param.name not in ctx.params:
            continue
        if param.name in OPTION_NAMES:
            value, source = getattr(config, param.name), sources[param.name].replace("given", "command line")
        else:
            value, source = ctx.params[param.name], source_of(ctx, param.name)
        click.echo(f"{param.opts[0]:<22} {'none' if value is None else _shown(value):<20} {source}")


_with_recipes(train)


def _configured(recipe: str, given: dict[str, Any]) -> TrainConfig:
    """The recipe with the options that are given; raises UsageError for what does not go together."""
    from training.learning.config import configure

    try:
        return configure(recipe, **given)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def _dataset(data: Path | None, model: str, strict: bool, tell: Callable[[str], None]) -> Prepared:
    """The dataset to learn from: at `data`, made of the music at `data`, or ./dataset.

    Tells what is in one of the notebook's, and what its splits share; with `strict` the latter is a DatasetError.
    """
    from training.dataset.data import is_prepared, load_prepared
    from training.dataset.notebook import find_notebook, load_notebook, told
    from training.errors import DatasetError
    from training.learning.processes import n_processes

    folder = data or DATASET
    notebook = None if is_prepared(folder) or not folder.is_dir() else find_notebook(folder)
    if data is None and not is_prepared(DATASET) and notebook is None:
        click.echo(
            f"There is no dataset in {DATASET}/. Make one of labelled music: genre-tag prepare ~/Music", err=True
        )
        click.echo("Or prepare and train in one: genre-tag train --data ~/Music", err=True)
        click.get_current_context().exit(USAGE)
    if data is not None and not is_prepared(data) and notebook is None:
        if not data.exists():
            raise click.UsageError(f"--data {data}: no such file or folder")
        if n_processes() > 1:
            raise click.UsageError(f"{data} is no prepared dataset: run genre-tag prepare first, in one process")
        seconds = _snippet_seconds(model)
        argv = ["genre-tag", "prepare", str(data), "--out", str(DATASET), "--snippet-seconds", f"{seconds:g}"]
        make_dataset(data, DATASET, PrepareOptions(snippet_seconds=seconds), argv)
        folder = DATASET
    prepared = load_notebook(notebook) if notebook else load_prepared(folder)
    if notebook:
        tell(f"{notebook}: {told(prepared)}.")
    if prepared.overlap:
        if strict:
            raise DatasetError(notebook or folder, prepared.overlap)
        tell(f"{notebook or folder}: {prepared.overlap}: scores are too high. --strict-splits makes this an error.")
    return prepared


def _snippet_seconds(model: str) -> float:
    """Length of the snippets that a model classifies; raises ModelError."""
    from tagger.models.description import N_FRAMES, find_checkpoint, read_table, snippet_seconds

    if model in NEW_MODELS:
        return float(NEW_MODELS[model].snippet_seconds)
    return float(snippet_seconds(read_table(model, find_checkpoint(model)).get("max_length", N_FRAMES)))


def _summary(outcome: Outcome) -> str:
    """What came out, in a few lines."""
    lines = []
    for split, scored in outcome.scores.items():
        shares = []
        for score in ("mean_pooling_score", "weighting_score", "voting_score", "max_pooling_score"):
            low, high = scored.intervals[score]
            shares.append(
                f"{score.removesuffix('_score').replace('_', ' ')} {scored.scores[score]:.3f} ({low:.2f}–{high:.2f})"
            )
        lines.append(f"{split}: {scored.confusion.sum()} songs, accuracy by {', '.join(shares)}")
    if "test" in outcome.scores and (written := outcome.scores["test"].calibration).coverage:
        lines.append(
            f"test: {written.coverage:.0%} of the songs would be written, {written.precision:.0%} of them right"
        )
    lines.append(f"Written by default: {outcome.threshold.reason}")
    lines.append(f"Use it: genre-tag --model {outcome.folder} ~/Music")
    return "\n".join(lines)
