"""The network while it learns: where it begins, and how snippets become a loss."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from tagger.audio.decode import FULL_SCALE, SAMPLE_RATE
from tagger.models.architecture import N_SPECIAL
from tagger.models.description import find_checkpoint
from tagger.models.transformer import TorchLogMel
from training.dataset.cache import input_frames
from training.learning.augment import Patchout, augmentation, mixed
from training.learning.config import NEW_MODELS, Shape, TrainConfig
from training.learning.loader import IGNORED
from training.learning.pretrained import quiet_transformers, read_config, read_features, read_network

if TYPE_CHECKING:
    from transformers import ASTForAudioClassification

ALL_KNOWN = 0.999  # share of a mixed snippet's soft labels that is known, but for rounding
POSITION_STD = 0.02  # of the embeddings of ViT and DeiT; transformers leaves them zero, and nothing is learned


def begin(
    config: TrainConfig,
    genres: Sequence[str],
    snippet_samples: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[ASTForAudioClassification, TorchLogMel, bool]:
    """A network with an output for each genre, on the CPU in float32, its features, and whether its head knows them.

    The body is that of `config.model`; so is the head where it was trained on these very genres, else it begins from
    seeded random weights. A network that begins from random weights takes `config.max_length` frames, or as many as
    `snippet_samples` have, or as its shape says; one that was trained on others is changed, which is told. Raises
    ModelError.
    """
    with quiet_transformers():
        from transformers import set_seed

        set_seed(config.seed)
        if config.model in NEW_MODELS:
            shape = NEW_MODELS[config.model]
            n_frames = config.max_length or input_frames(snippet_samples or shape.snippet_seconds * SAMPLE_RATE)
            ast, log_mel, knows = *_new(shape, genres, n_frames, _dropout(config)), False
        else:
            ast, log_mel, knows = _pretrained(config.model, genres, _dropout(config))
            if config.max_length not in (0, log_mel.n_frames):
                tell(
                    f"--max-length {config.max_length}: {config.model} was trained on {log_mel.n_frames} frames, and is"
                    " less accurate on others: the embeddings of their positions are cut, or stretched"
                )
                log_mel = TorchLogMel(ast.config.num_mel_bins, config.max_length, log_mel.mean, log_mel.std)
                resize(ast, config.max_length)
    if config.head_only:
        ast.audio_spectrogram_transformer.requires_grad_(False)
    return ast, log_mel, knows


def label_maps(genres: Sequence[str]) -> dict[str, Any]:
    """What a config says of its labels."""
    return {"id2label": dict(enumerate(genres)), "label2id": {genre: label for label, genre in enumerate(genres)}}


def _dropout(config: TrainConfig) -> dict[str, Any]:
    """What an ASTConfig says of dropout."""
    return {
        "hidden_dropout_prob": config.hidden_dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
    }


@torch.no_grad()
def resize(ast: ASTForAudioClassification, n_frames: int) -> None:
    """Make a network take `n_frames`. Of the positions in time the middle ones are kept, or all are stretched, as in
    the code of the paper (YuanGongND/ast, src/models/ast_models.py); transformers would throw them away.
    """
    embeddings = ast.audio_spectrogram_transformer.embeddings
    n_mel, n_time = embeddings.get_shape(ast.config)
    ast.config.max_length = embeddings.config.max_length = n_frames
    _, n_wanted = embeddings.get_shape(ast.config)
    special, patches = embeddings.position_embeddings.split([N_SPECIAL, n_mel * n_time], dim=1)
    grid = patches.reshape(1, n_mel, n_time, -1).permute(0, 3, 1, 2)  # (1, width, n_mel, n_time)
    if n_wanted <= n_time:
        first = (n_time - n_wanted) // 2
        grid = grid[..., first : first + n_wanted]
    else:
        grid = F.interpolate(grid, (n_mel, n_wanted), mode="bilinear")
    embeddings.position_embeddings = nn.Parameter(torch.cat([special, grid.flatten(2).transpose(1, 2)], dim=1))


def _new(
    shape: Shape, genres: Sequence[str], n_frames: int, dropout: dict[str, Any]
) -> tuple[ASTForAudioClassification, TorchLogMel]:
    from transformers import ASTConfig, ASTForAudioClassification

    config = ASTConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        intermediate_size=4 * shape.width,
        time_stride=shape.stride,
        frequency_stride=shape.stride,
        max_length=n_frames,
        **dropout,
        **label_maps(genres),
    )
    ast = ASTForAudioClassification(config)
    embeddings = ast.audio_spectrogram_transformer.embeddings
    for weights in (embeddings.position_embeddings, embeddings.cls_token, embeddings.distillation_token):
        nn.init.trunc_normal_(weights, std=POSITION_STD)
    return ast, TorchLogMel(config.num_mel_bins, config.max_length)


def _pretrained(
    name: str, genres: Sequence[str], dropout: dict[str, Any]
) -> tuple[ASTForAudioClassification, TorchLogMel, bool]:
    folder = find_checkpoint(name)
    config = read_config(name, folder)
    id2label: dict[Any, Any] = config.id2label or {}
    known = [id2label.get(label, "") for label in range(len(id2label))]
    for field, value in {**label_maps(genres), **dropout}.items():
        setattr(config, field, value)
    config.num_labels = len(genres)
    config.problem_type = "single_label_classification"
    knows = sorted(known) == sorted(genres)
    ast = read_network(name, folder, config, new_head=not knows)
    dense: Any = ast.classifier.dense
    with torch.no_grad():
        if knows:
            order = [known.index(genre) for genre in genres]
            dense.weight.copy_(dense.weight[order])
            dense.bias.copy_(dense.bias[order])
        else:
            nn.init.normal_(dense.weight, std=config.initializer_range)
            nn.init.zeros_(dense.bias)
    return ast, read_features(name, folder, config), knows


class Network(nn.Module):
    """Snippets in, loss and logits out: log-mel, augmentation, mixup and the transformer in one graph on one device.

    In training mode snippets are augmented and the loss is that of `config`; in evaluation mode they are not, the
    running mean of the weights answers where there is one, and the loss is plain cross-entropy. The teacher's own
    `n_classes` are learned by an auxiliary layer beside the classifier, which is of no use afterwards.
    """

    n_averaged: torch.Tensor
    class_weights: torch.Tensor | None
    accepts_loss_kwargs = True  # transformers' Trainer then leaves it to the network to average over the whole batch

    def __init__(
        self,
        ast: ASTForAudioClassification,
        log_mel: TorchLogMel,
        config: TrainConfig,
        class_weights: torch.Tensor | None,
        n_classes: int = 0,
    ) -> None:
        super().__init__()
        self.ast, self.log_mel = ast, log_mel
        self.n_genres = len(ast.config.id2label or ())
        self.label_smoothing, self.ema = config.label_smoothing, config.ema
        self.soft_weight, self.auxiliary_weight = config.soft_weight, config.auxiliary_weight
        self.auxiliary = nn.Linear(ast.config.hidden_size, n_classes) if n_classes else None
        #: What each part of a batch adds to the losses of genres and of the teacher's classes, (2,), since last asked.
        self.losses: list[torch.Tensor] = []
        #: The running mean of the weights, as they are saved and evaluated.
        self.average = deepcopy(ast).requires_grad_(False) if config.ema else None
        self.register_buffer("n_averaged", torch.zeros((), dtype=torch.long))
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.augment = _effects(config, log_mel)
        self.is_mixing = config.mixup > 0
        n_time, n_mel = _left_out(ast, config)
        self.patchout = Patchout(ast, n_time=n_time, n_frequency=n_mel) if n_time or n_mel else None

    @property
    def trained(self) -> ASTForAudioClassification:
        """The network that is evaluated, saved and shipped."""
        return self.ast if self.average is None else self.average

    def forward(
        self,
        waveforms: torch.Tensor | None = None,
        log_mels: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        rows: torch.Tensor | None = None,
        soft_known: torch.Tensor | None = None,
        soft_genres: torch.Tensor | None = None,
        soft_classes: torch.Tensor | None = None,
        partners: Mapping[str, torch.Tensor] | None = None,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """`loss` (), where there are labels, and `logits` (batch, n_genres).

        Of `waveforms`, int16 (batch, n_samples), `log_mels`, float16 (batch, n_frames, n_mels) and not normalised, or
        `input_values`, (batch, n_frames, n_mels) as the transformer takes them.
        `rows` only pass through the trainer. What is soft is as `SoftLabels.batch` says, `partners` as `SnippetDataset`
        gives them: both are used in training only. Snippets whose label is `IGNORED` count for nothing.
        `num_items_in_batch` is the `weight` of the global batch of which these snippets are a part: the losses of its
        parts then add up to its loss.
        """
        snippets = {"waveforms": waveforms, "log_mels": log_mels, "input_values": input_values, "labels": labels}
        if not self.training:
            logits = _logits(self.trained, _pooled(self.trained, self._features(snippets)))
            return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}
        if labels is None:
            raise ValueError("no labels to learn from")
        soft = {"soft_known": soft_known, "soft_genres": soft_genres, "soft_classes": soft_classes}
        features, targets, *teacher = self._examples(snippets | soft, partners)
        n_snippets, weight = self.weight(labels) if num_items_in_batch is None else num_items_in_batch
        pooled = _pooled(self.ast, features)
        logits = _logits(self.ast, pooled)
        counts = labels != IGNORED
        loss = (self._losses(logits, targets) * counts).sum() / (n_snippets if targets.is_floating_point() else weight)
        if teacher:
            auxiliary_loss = (self._auxiliary_losses(pooled, *teacher) * counts).sum() / n_snippets
            self.losses.append(torch.stack([loss, auxiliary_loss]).detach())
            loss = loss + self.auxiliary_weight * auxiliary_loss
        return {"loss": loss, "logits": logits}

    def _examples(
        self, snippets: Mapping[str, torch.Tensor | None], partners: Mapping[str, torch.Tensor] | None
    ) -> list[torch.Tensor]:
        """Features, altered and mixed, and what is to be learned of them: see `_targets`."""
        own = [self._features(snippets), *self._targets(snippets)]
        if partners is None:
            return [self.augment(own[0]), *own[1:]]
        theirs = [self._features(partners), *self._targets(partners)]
        altered = self.augment(torch.cat([own[0], theirs[0]])).split([len(own[0]), len(theirs[0])])
        pairs = zip([altered[0], *own[1:]], [altered[1], *theirs[1:]], strict=True)
        return [mixed(ours, others, partners["into"], partners["kept"]) for ours, others in pairs]

    def _targets(self, snippets: Mapping[str, torch.Tensor | None]) -> list[torch.Tensor]:
        """Labels (batch,), or where they are mixed or soft, shares of genres (batch, n_genres); and where there is a
        teacher, its classes (batch, n_classes) and how far they are known (batch, 1).
        """
        labels, known = snippets["labels"], snippets.get("soft_known")
        genres, classes = snippets.get("soft_genres"), snippets.get("soft_classes")
        assert labels is not None
        targets = self._probabilities(labels, known, genres) if self.is_mixing or genres is not None else labels
        return [targets] if classes is None or known is None else [targets, classes, known]

    def weight(self, labels: torch.Tensor) -> torch.Tensor:
        """What a batch's sums of losses are divided by, (2,): its snippets, and the sum of their class weights."""
        counts = labels != IGNORED
        of_class = counts if self.class_weights is None else counts * self.class_weights[labels.clamp_min(0)]
        return torch.stack([counts.sum().float(), of_class.sum().float()])

    def _losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each snippet, (batch,), times the weight of its class."""
        smoothing = 0.0 if targets.is_floating_point() else self.label_smoothing
        return F.cross_entropy(logits, targets, self.class_weights, label_smoothing=smoothing, reduction="none")

    def _probabilities(
        self, labels: torch.Tensor, soft_known: torch.Tensor | None, soft_genres: torch.Tensor | None
    ) -> torch.Tensor:
        """The target of each snippet, (batch, n_genres): its smoothed label, mixed with the soft one where there is."""
        n_genres, smoothing = self.n_genres, self.label_smoothing
        is_of = labels[:, None] == torch.arange(n_genres, device=labels.device)
        hard = is_of * (1 - smoothing) + smoothing / n_genres
        if soft_genres is None or soft_known is None:
            return hard
        return hard + self.soft_weight * soft_known * (soft_genres - hard)

    def _auxiliary_losses(self, pooled: torch.Tensor, classes: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the teacher's classes, (batch,), with 0 where they are not known in whole."""
        assert self.auxiliary is not None
        with torch.autocast(pooled.device.type, enabled=False):
            errors = (self.auxiliary(pooled.float()) - classes).square().mean(dim=1)
            return errors * (known[:, 0] > ALL_KNOWN)

    def _features(self, snippets: Mapping[str, torch.Tensor | None]) -> torch.Tensor:
        """Normalised log-mels (batch, n_frames, n_mels), of what there is."""
        waveforms, log_mels, values = (snippets.get(name) for name in ("waveforms", "log_mels", "input_values"))
        if values is not None:
            return values
        if waveforms is not None:
            features: torch.Tensor = self.log_mel(waveforms.float() / FULL_SCALE)
            return features
        if log_mels is None:
            raise ValueError("neither waveforms nor log-mels")
        padded = F.pad(log_mels.float(), (0, 0, 0, self.log_mel.n_frames - log_mels.shape[1]))
        return (padded - self.log_mel.mean) / (2 * self.log_mel.std)

    def leave_out_patches(self, is_on: bool) -> None:
        """Train with patchout, if the recipe has it, or on whole snippets."""
        if self.patchout is not None:
            self.patchout.is_on = is_on

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the running mean on by one step; it follows closely at first, for it begins at the untrained weights."""
        if self.average is None:
            return
        decay = ((1 + self.n_averaged) / (10 + self.n_averaged)).clamp_max(self.ema)  # on the device, which goes on
        averages: list[torch.Tensor] = list(self.average.parameters())
        weights: list[torch.Tensor] = list(self.ast.parameters())
        moved: Any = [1 - decay] * len(weights)
        torch._foreach_lerp_(averages, weights, moved)
        self.n_averaged += 1


def _pooled(ast: ASTForAudioClassification, features: torch.Tensor) -> torch.Tensor:
    """The mean of both special tokens after the last layer, (batch, width)."""
    pooled: torch.Tensor = ast.audio_spectrogram_transformer(features).pooler_output
    return pooled


def _logits(ast: ASTForAudioClassification, pooled: torch.Tensor) -> torch.Tensor:
    """Logits (batch, n_genres); the last, tiny layer in float32, as the product computes it."""
    with torch.autocast(pooled.device.type, enabled=False):
        logits: torch.Tensor = ast.classifier(pooled.float())
    return logits


def _effects(config: TrainConfig, log_mel: TorchLogMel) -> nn.Module:
    return augmentation(
        augment_p=config.augment_p,
        p=config.effect_p,
        time_mask=config.time_mask,
        frequency_mask=config.frequency_mask,
        noise=config.noise,
        stretch=config.time_stretch,
        shift=config.shift,
        shift_mels=config.shift_mels,
        level=config.level,
        contrast=config.contrast,
        equalizer=config.equalizer,
        low_pass=config.low_pass,
        per=config.effects_per,
        mean=log_mel.mean,
        std=log_mel.std,
    )


def parameter_groups(network: Network, config: TrainConfig) -> list[dict[str, Any]]:
    """Parameters by learning rate and weight decay, for the optimizer.

    The last layer learns at `lr`, each earlier one at `layer_decay` times its successor's, what follows the body at
    `head_lr_factor` times `lr` (Clark et al. 2020, section 3.1; He et al. 2022, table 9). Biases, norms, positions
    and tokens do not decay. The matrices of the layers are what Muon takes.
    """
    n_layers = network.ast.config.num_hidden_layers
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    modules = {"": network.ast} | ({"auxiliary": network.auxiliary} if network.auxiliary else {})
    named = [each for prefix, module in modules.items() for each in module.named_parameters(prefix)]
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        part = name.split(".")
        if part[0] in ("classifier", "auxiliary"):
            factor = config.head_lr_factor
        elif "layers" in part:
            factor = config.layer_decay ** (n_layers - 1 - int(part[part.index("layers") + 1]))
        else:
            factor = config.layer_decay**n_layers if "embeddings" in part else 1.0
        is_free = parameter.ndim < 2 or part[-1] in ("cls_token", "distillation_token", "position_embeddings")
        is_hidden = config.optimizer == "muon" and "layers" in part and parameter.ndim == 2
        key = config.lr * factor, 0.0 if is_free else config.weight_decay, is_hidden
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": group, "lr": lr, "weight_decay": decay} | ({"is_hidden": True} if is_hidden else {})
        for (lr, decay, is_hidden), group in groups.items()
    ]


#: What training keeps for the backward pass of each layer: bytes for each token and unit of width. Measured with
#: scaled dot products, whose matrix is never stored; under autocast the sum and the norms stay in float32.
BYTES_KEPT = {"fp32": 64, "bf16": 40, "fp16": 40}
BYTES_OF_PARAMETER = 18  # float32 itself, its gradient and AdamW's two means, and its copy in 16 bits
USED = 0.9  # share of the memory: allocators leave gaps


def bytes_per_snippet(ast: ASTForAudioClassification, config: TrainConfig, precision: str) -> int:
    """What training keeps of a snippet, of which patchout leaves some tokens, until all are needed at the end."""
    n_mel, n_time = ast.audio_spectrogram_transformer.embeddings.get_shape(ast.config)
    n_time_out, n_mel_out = (0, 0) if config.finish_epochs else _left_out(ast, config)
    n_tokens = N_SPECIAL + (n_mel - n_mel_out) * (n_time - n_time_out)
    return BYTES_KEPT[precision] * n_tokens * ast.config.hidden_size * ast.config.num_hidden_layers


def device_batch(
    ast: ASTForAudioClassification, config: TrainConfig, precision: str, batch_size: int, device: str
) -> int:
    """Snippets of a batch that fit the free memory of the device at once: the batch, or an even part of it."""
    n_parameters = sum(parameter.numel() for parameter in ast.parameters())
    kept = n_parameters * (BYTES_OF_PARAMETER + (4 if config.ema else 0))
    n_fitting = (USED * free_memory(device) - kept) / bytes_per_snippet(ast, config, precision)
    return next((n for n in range(batch_size, 1, -1) if batch_size % n == 0 and n <= n_fitting), 1)


def _left_out(ast: ASTForAudioClassification, config: TrainConfig) -> tuple[int, int]:
    """Columns of time and rows of mels that patchout leaves out of the grid of patches."""
    n_mel, n_time = ast.audio_spectrogram_transformer.embeddings.get_shape(ast.config)
    return int(config.patchout * n_time), int(config.frequency_patchout * n_mel)


def free_memory(device: str) -> float:
    """Bytes that this process can still have on a device; math.inf where nobody knows."""
    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(device)[0])
    if device == "mps":  # which shares the machine's, and takes no more than this of it
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    with suppress(OSError, ValueError, StopIteration), open("/proc/meminfo", encoding="ascii") as file:
        free = 1024.0 * int(next(line.split()[1] for line in file if line.startswith("MemAvailable")))
        return free / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return math.inf
