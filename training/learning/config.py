"""How a network is trained: every option with its default and the reason, and the recipes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Sampler = Literal["shuffle", "sqrt"]
Crop = Literal["fixed", "random"]
Shift = Literal["roll", "edge", "none"]
Level = Literal["contrast", "gain", "none"]
EffectsPer = Literal["snippet", "batch"]
Schedule = Literal["linear", "cosine"]
Optimizer = Literal["adamw", "muon"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Shape:
    """Size of a network that is begun from random weights."""

    width: int
    n_layers: int
    n_heads: int
    stride: int = 16  # patches side by side
    snippet_seconds: int = 10  # as AudioSet's; a dataset of other snippets makes it a network for these


#: Networks begun from random weights, by name; from tiny on after DeiT (Touvron et al. 2021, table 1).
NEW_MODELS = {
    "new-micro": Shape(96, 4, 4, snippet_seconds=1),  # 0.5 million parameters: to try recipes out
    "new-mini": Shape(192, 4, 3),  # 2 million: what two CPU cores can train
    "new-tiny": Shape(192, 12, 3),  # 5.5 million
    "new-small": Shape(384, 12, 6),  # 22 million
}


@dataclass(frozen=True)
class TrainConfig:
    """All that decides what is learned, but for the data. The defaults are those of the seed recipe."""

    recipe: str = "seed"
    model: str = "audioset"  # what was learned on 5 000 hours of AudioSet outweighs any recipe
    epochs: int = 10
    batch_size: int = 64  # snippets to an optimizer step, over all devices
    min_steps: int = 0  # optimizer steps at least: an epoch goes over a small train split several times
    finish_epochs: int = 0  # the last ones, of whole snippets that are not mixed, as those to be classified are
    lr: float = 5e-5  # the top of what is published for fine-tuning this family
    head_lr_factor: float = 1.0  # times lr, for the classifier, which begins from nothing
    layer_decay: float = 1.0  # each layer's lr is that share of the next one's: early layers know most already
    optimizer: Optimizer = "adamw"  # muon learns faster from random weights: see docs/training.md
    weight_decay: float = 0.0  # not for biases, norms, positions and tokens
    warmup_epochs: float = 1.0  # while the lr rises from 0
    schedule: Schedule = "linear"  # or cosine, to 1 % of lr
    precision: Precision = "auto"
    max_length: int = 0  # frames of the input; 0: the model's own, for another loses what it learned of positions
    hidden_dropout: float = 0.0  # of what each layer adds; the notebook found none of the two to help
    attention_dropout: float = 0.0  # of the weights of attention
    class_weights: bool = False  # in the loss, "balanced" as scikit-learn defines it
    sampler: Sampler = "shuffle"  # sqrt: songs of a genre are drawn by the root of their number
    label_smoothing: float = 0.0
    mixup: float = 0.0  # share of the snippets that are mixed with another
    patchout: float = 0.0  # share of the time columns of patches that is left out in training
    frequency_patchout: float = 0.0  # share of the mel rows of patches that is left out in training
    ema: float = 0.0  # decay of the running mean of the weights that is evaluated and saved; 0: the weights themselves
    crop: Crop = "fixed"  # random: each epoch cuts each snippet somewhere else in its song
    augment_p: float = 1.0  # chance that a snippet is altered at all, by the effects below
    effect_p: float = 0.5  # chance of each effect
    effects_per: EffectsPer = "snippet"  # batch, the notebook's: one coin, mask and shift for all that a device takes
    time_mask: int = 30  # frames at most
    frequency_mask: int = 20  # mels at most
    noise: float = 0.05
    shift: Shift = "roll"  # roll wraps 7.8 kHz round to 34 Hz, edge does not
    shift_mels: int = 3  # at most
    level: Level = "contrast"  # contrast scales the log-mel; gain is up to 6 dB of true loudness
    contrast: float = 0.2  # at most: 0.8 to 1.2 times
    # FilterAugment was shown to help sound event detection, and neither of these two anything about music.
    equalizer: float = 0.0  # dB at most
    low_pass: bool = False
    # Tempo tells the genre. (The seed found its samples unlearnable: its stretch mixed the snippets of a batch up.)
    time_stretch: float = 0.0  # at most; 0.03 as it tried
    soft_labels: str = ""  # file of what another tagger says of the snippets of the train split
    soft_labels_sha256: str = ""  # its content, so that --resume goes on with the same
    soft_weight: float = 0.5  # share of the soft labels in the target of a snippet that has some
    auxiliary_weight: float = 1.0  # of the squared error of the teacher's own classes, beside the genres' loss
    head_only: bool = False  # train the classifier alone, on a frozen body
    log_steps: int = 1  # optimizer steps from one logged loss to the next; each makes a GPU wait
    seed: int = 42

    def __post_init__(self) -> None:
        if self.class_weights and self.sampler == "sqrt":
            raise ValueError("class weights and the sqrt sampler would correct for rare genres twice: use one of them")

    def as_dict(self) -> dict[str, Any]:
        """Every option by name, for JSON."""
        return asdict(self)


RECIPES: dict[str, TrainConfig] = {
    # The notebook this project began from, with its choices as they were.
    "seed": TrainConfig(),
    # What the literature and ablations add to it (AudioMAE, PaSST, AST: Huang 2022, Koutini 2021, Gong 2021).
    "v2": TrainConfig(
        recipe="v2",
        head_lr_factor=10.0,
        layer_decay=0.75,
        weight_decay=0.05,
        schedule="cosine",
        sampler="sqrt",
        label_smoothing=0.1,
        mixup=0.5,
        patchout=0.4,
        frequency_patchout=0.4,
        ema=0.999,
        crop="random",
        time_mask=0,  # patchout leaves out more than masks do
        frequency_mask=0,
        shift="edge",
        level="gain",
        log_steps=10,
    ),
}
#: What v2 does otherwise where there is nothing to be careful with.
FROM_RANDOM_WEIGHTS: dict[str, Any] = {"lr": 5e-4, "head_lr_factor": 1.0, "layer_decay": 1.0}
DEFAULT_RECIPE = "seed"  # v2 has not been shown to be better: see docs/training.md

OPTION_NAMES = tuple(field.name for field in fields(TrainConfig) if field.name not in ("recipe", "soft_labels_sha256"))


def configure(recipe: str, **options: Any) -> TrainConfig:
    """The recipe with the options that are given (those that are None are not); ValueError if they contradict."""
    values = {name: value for _, layer in _layers(recipe, options) for name, value in layer.items()}
    return TrainConfig(**values)


def origins(recipe: str, **options: Any) -> dict[str, str]:
    """Option → where its value in `configure` comes from, in words; "given" for those that are given."""
    return {name: source for source, layer in _layers(recipe, options) for name in layer}


def _layers(recipe: str, options: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What sets options, a later one outweighing those before it: where it comes from, and the options."""
    given = {name: value for name, value in options.items() if value is not None}
    layers = [(f"recipe {recipe}", RECIPES[recipe].as_dict())]
    if recipe == "v2" and given.get("model", RECIPES[recipe].model) in NEW_MODELS:
        layers.append((f"recipe {recipe}, for random weights", FROM_RANDOM_WEIGHTS))
    if given.get("class_weights") and "sampler" not in given:
        layers.append(("--class-weights", {"sampler": "shuffle"}))
    return [*layers, ("given", given)]
