"""Recipes and the options that change them."""

import re
from dataclasses import fields

import pytest

from training.cli import train
from training.grid import cells
from training.learning.config import (
    FROM_RANDOM_WEIGHTS,
    NEW_MODELS,
    OPTION_NAMES,
    RECIPES,
    TrainConfig,
    configure,
    origins,
)


def test_the_seed_recipe_is_the_notebooks() -> None:
    config = RECIPES["seed"]
    assert (config.epochs, config.batch_size, config.lr, config.weight_decay) == (10, 64, 5e-5, 0.0)
    assert (config.warmup_epochs, config.schedule, config.log_steps) == (1, "linear", 1)
    assert (config.time_mask, config.frequency_mask, config.noise) == (30, 20, 0.05)
    assert (config.shift, config.shift_mels, config.level, config.contrast) == ("roll", 3, "contrast", 0.2)
    assert (config.augment_p, config.effect_p, config.time_stretch) == (1.0, 0.5, 0.0)
    assert (config.hidden_dropout, config.attention_dropout, config.max_length) == (0.0, 0.0, 0)
    assert config.model == "audioset"
    assert not (config.mixup or config.patchout or config.ema or config.label_smoothing or config.class_weights)


def test_each_piece_of_v2_can_be_switched_alone() -> None:
    pieces = differing(RECIPES["v2"], RECIPES["seed"]) - {"recipe"}
    assert pieces
    for piece in pieces:
        alone = configure("seed", **{piece: getattr(RECIPES["v2"], piece)})
        without = configure("v2", **{piece: getattr(RECIPES["seed"], piece)})
        assert differing(alone, RECIPES["seed"]) == differing(without, RECIPES["v2"]) == {piece}


def differing(one: TrainConfig, other: TrainConfig) -> set[str]:
    """Options that two have otherwise."""
    return {field.name for field in fields(TrainConfig) if getattr(one, field.name) != getattr(other, field.name)}


def test_class_weights_and_the_sqrt_sampler_are_refused_together() -> None:
    with pytest.raises(ValueError, match="twice"):
        configure("v2", class_weights=True, sampler="sqrt")
    assert configure("v2", class_weights=True).sampler == "shuffle"


def test_random_weights_learn_faster_unless_told_otherwise() -> None:
    config = configure("v2", model="new-mini")
    assert {name: getattr(config, name) for name in FROM_RANDOM_WEIGHTS} == FROM_RANDOM_WEIGHTS
    assert configure("v2", model="new-mini", lr=0.1).lr == 0.1
    assert configure("seed", model="new-mini").lr == RECIPES["seed"].lr
    assert set(NEW_MODELS).isdisjoint({"audioset", "starter"})


def test_every_option_is_on_the_command_line() -> None:
    names = {param.name for param in train.params}
    assert set(OPTION_NAMES) <= names
    for param in train.params:
        if param.name in OPTION_NAMES:
            assert param.default is None or param.default.__class__.__name__ == "Sentinel", param.name


def test_where_each_value_comes_from_is_known() -> None:
    found = origins("v2", model="new-mini", lr=0.1, epochs=None)
    assert found["lr"] == found["model"] == "given" and found["epochs"] == found["mixup"] == "recipe v2"
    assert found["layer_decay"] == "recipe v2, for random weights"
    assert origins("v2", class_weights=True)["sampler"] == "--class-weights"
    assert set(found) == {field.name for field in fields(TrainConfig)}


def test_help_says_what_each_recipe_sets() -> None:
    told = {param.name: param.help for param in train.params if param.name in OPTION_NAMES}
    assert told["mixup"] == "Share of the snippets that are mixed with another.  [seed: 0, v2: 0.5]"
    assert told["batch_size"].endswith("  [default: 64]")
    assert told["crop"].endswith("  [seed: fixed, v2: random]")
    for name, help in told.items():
        if len({getattr(config, name) for config in RECIPES.values()}) > 1:
            assert all(re.search(rf"\[.*\b{recipe}\b.*: .+\]$", help) for recipe in RECIPES), name


def test_a_grid_is_every_combination_the_last_list_running_fastest() -> None:
    found = cells({"epochs": 2, "mixup": [0.0, 0.5], "model": ["a/b", "new-mini"], "seed": 3})
    assert [cell.name for cell in found] == [
        "mixup=0,model=a_b", "mixup=0,model=new-mini", "mixup=0.5,model=a_b", "mixup=0.5,model=new-mini",
    ]  # fmt: skip
    assert found[2].options == {"epochs": 2, "mixup": 0.5, "model": "a/b", "seed": 3} and found[2].recipe == "seed"
    flags = cells({"class_weights": [False, True], "recipe": "v2"})
    assert [cell.arguments() for cell in flags] == [["--recipe", "v2"], ["--recipe", "v2", "--class-weights"]]
    assert [cell.recipe for cell in cells({"recipe": ["seed", "v2"]})] == ["seed", "v2"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"lr": 0.1}, "nothing to compare"),
        ({"lr": [0.1]}, "nothing to compare"),
        ({"lr": []}, "lr has no values"),
        ({"seed": [1, 2, 1]}, "seed has a value twice"),
        ({"model": ["a/b", "a\\b"]}, "too alike"),
    ],
)
def test_a_grid_that_compares_nothing_is_refused(values: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        cells(values)
