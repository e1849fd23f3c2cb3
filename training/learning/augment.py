"""Augmentation of normalised log-mels, batched, on any device: each snippet of a batch is altered by its own chance,
or all of them by one.

All chance is drawn from torch's global generators, whose state a Trainer saves with its checkpoints: a training that
is resumed is given what it would have been given.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from tagger.models.features import AUDIOSET_MEAN, AUDIOSET_STD, FLOOR
from training.learning.config import EffectsPer, Level, Shift

if TYPE_CHECKING:
    from transformers import ASTForAudioClassification

GAIN_DB = 6.0
N_KNOTS = 5  # of an equalizer's curve: at 0.02, 0.6, 1.8, 3.9 and 8 kHz
LOW_PASS = 0.6  # of the mels at most: down to 1.2 kHz, as on a telephone or a shellac record


def normalised_floor(mean: float = AUDIOSET_MEAN, std: float = AUDIOSET_STD) -> float:
    """What silence is in log-mels normalised by a mean and std."""
    return (math.log(FLOOR) - mean) / (2 * std)


class Effect(nn.Module):
    """Alters snippets of normalised log-mels, (batch, n_frames, n_mels), by up to `amount`, each with probability `p`.

    In training mode only; an amount of 0 alters nothing. With `is_of_batch`, one coin decides for the whole batch, and
    all of it is altered alike, as by the notebook this project began from. float32 or bfloat16, and so is what comes
    out. Raises ValueError for a negative amount, or a `p` that is no probability.
    """

    is_of_batch = False

    def __init__(self, amount: float, p: float = 0.5) -> None:
        super().__init__()
        if amount < 0 or not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__} has no amount {amount} with probability {p}")
        self.amount, self.p = amount, p

    def forward(self, log_mels: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.amount:
            return log_mels
        n_draws = 1 if self.is_of_batch else len(log_mels)
        is_altered = draw(log_mels, n_draws) < self.p
        return torch.where(is_altered, self.altered(log_mels, n_draws).to(log_mels.dtype), log_mels)

    def altered(self, log_mels: torch.Tensor, n_draws: int) -> torch.Tensor:
        """All snippets, altered, each by its own chance, or by one."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{self.amount:g}, p={self.p:g}"


class Sometimes(nn.Module):
    """Alters snippets (batch, n_frames, n_mels) by `effects` with probability `p`, each or with `is_of_batch` all of
    them at once, and leaves them as they are else: the notebook's chance of augmentation as a whole.

    Raises ValueError for a `p` that is no probability.
    """

    def __init__(self, effects: nn.Module, p: float, *, is_of_batch: bool) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"no probability: {p}")
        self.effects, self.p, self.is_of_batch = effects, p, is_of_batch

    def forward(self, log_mels: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return log_mels
        is_altered = draw(log_mels, 1 if self.is_of_batch else len(log_mels)) < self.p
        return torch.where(is_altered, self.effects(log_mels), log_mels)


class TimeMask(Effect):
    """Sets a run of less than `amount` frames to 0, the mean (Park et al. 2019, SpecAugment, section 2)."""

    def altered(self, log_mels: torch.Tensor, n_draws: int) -> torch.Tensor:
        return masked(log_mels, n_draws, self.amount, torch.arange(log_mels.shape[1], device=log_mels.device)[:, None])


class FrequencyMask(Effect):
    """Sets a run of less than `amount` mels to 0, the mean (Park et al. 2019, SpecAugment, section 2)."""

    def altered(self, log_mels: torch.Tensor, n_draws: int) -> torch.Tensor:
        return masked(log_mels, n_draws, self.amount, torch.arange(log_mels.shape[2], device=log_mels.device))


class Noise(Effect):
    """Adds Gaussian noise whose standard deviation is `amount`, that of AudioSet's log-mels being 0.5."""

    def altered(self, log_mels: torch.Tensor, n_draws: int) -> torch.Tensor:
        return log_mels + self.amount * torch.randn_like(log_mels)


class TimeStretch(Effect):
    """Plays the frames 1 - `amount` to 1 + `amount` times as long: cut at the end, or followed by 0."""

    def altered(self, log_mels: torch.Tensor, n_draws: int) -> torch.Tensor:
        n_frames = log_mels.shape[1]
        n_stretched = (n_frames * draw(log_mels, n_draws, 1 - self.amount, 1 + self.amount)).floor()
        frame = torch.arange(n_frames, device=log_mels.device)[:, None]
        source = ((frame + 0.5) * (n_frames / n_stretched) - 0.5).clamp(0, n_frames - 1)
        before = source.long()
        after = (before + 1).clamp_max(n_frames - 1)
        stretched = torch.lerp(picked(log_mels.float(), 1, before), picked(log_mels.float(), 1, after), source - before)
        return stretched.masked_fill(frame >= n_stretched, 0.0)


class Roll(Effect):
    """Moves a snippet up or down by up to `amount` whole mels; what leaves at one end enters at the other."""

    def altered(self, log_mels: torch.Tensor, n_draws: int) -> torch.Tensor:
        return picked(log_mels, 2, moved_mels(log_mels, n_draws, self.amount) % log_mels.shape[2])


class EdgeShift(Effect):
    """Moves a snippet up or down by up to `amount` whole mels; the mel at the edge fills what becomes free."""

    def altered(self, log_mels: torch.Tensor, n_draws: int) -> torch.Tensor:
        return picked(log_mels, 2, moved_mels(log_mels, n_draws, self.amount).clamp(0, log_mels.shape[2] - 1))


class Contrast(Effect):
    """Multiplies a snippet by 1 - `amount` to 1 + `amount`: of log-mels that is contrast, not loudness."""

    def altered(self, log_mels: torch.Tensor, n_draws: int) -> torch.Tensor:
        return log_mels * draw(log_mels, n_draws, 1 - self.amount, 1 + self.amount)


class Gain(Effect):
    """Makes a snippet louder or softer by up to `amount` dB; `std` is that by which the log-mels were normalised.

    The same as scaling the waveform, but that frames of padding and mels at the floor of silence move along.
    """

    def __init__(self, amount: float, p: float = 0.5, std: float = AUDIOSET_STD) -> None:
        super().__init__(amount, p)
        self.per_db = math.log(10) / 10 / (2 * std)

    def altered(self, log_mels: torch.Tensor, n_draws: int) -> torch.Tensor:
        return log_mels + self.per_db * draw(log_mels, n_draws, -self.amount, self.amount)


class Equalizer(Gain):
    """Makes frequencies louder or softer by a random curve of up to `amount` dB, which is straight between knots that
    are spread evenly over the mels (after Nam et al. 2022, FilterAugment, its linear type).
    """

    def altered(self, log_mels: torch.Tensor, n_draws: int) -> torch.Tensor:
        knots = self.amount * (2 * torch.rand(n_draws, 1, N_KNOTS, device=log_mels.device) - 1)
        return log_mels + self.per_db * F.interpolate(knots, log_mels.shape[2], mode="linear", align_corners=True)


class LowPass(Effect):
    """Silences all mels above a random one, up to the share `amount` of them, as low bit rates and old records do.

    `floor` is what silence is in normalised log-mels.
    """

    def __init__(self, amount: float, p: float = 0.5, floor: float = normalised_floor()) -> None:
        super().__init__(amount, p)
        self.floor = floor

    def altered(self, log_mels: torch.Tensor, n_draws: int) -> torch.Tensor:
        n_mels = log_mels.shape[2]
        n_kept = n_mels * draw(log_mels, n_draws, 1 - self.amount, 1)
        return log_mels.masked_fill(torch.arange(n_mels, device=log_mels.device) >= n_kept, self.floor)


def draw(log_mels: torch.Tensor, n_draws: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Random numbers of [low, high), float32 (n_draws, 1, 1): one for each snippet, or one for all."""
    return low + (high - low) * torch.rand(n_draws, 1, 1, device=log_mels.device)


def masked(log_mels: torch.Tensor, n_draws: int, widest: float, places: torch.Tensor) -> torch.Tensor:
    """Log-mels with a run of places at 0, as wide and where torchaudio's `mask_along_axis_iid` has it."""
    n_places = places.numel()
    width = draw(log_mels, n_draws, 0, min(widest, n_places))
    first = (draw(log_mels, n_draws) * (n_places - width)).floor()
    return log_mels.masked_fill((first <= places) & (places < first + width.floor()), 0.0)


def moved_mels(log_mels: torch.Tensor, n_draws: int, most: float) -> torch.Tensor:
    """The mel from which each mel comes when a snippet moves by up to `most`, (n_draws, 1, n_mels); may lie outside."""
    steps = torch.randint(-int(most), int(most) + 1, (n_draws, 1, 1), device=log_mels.device)
    return torch.arange(log_mels.shape[2], device=log_mels.device) - steps


def picked(log_mels: torch.Tensor, dim: int, places: torch.Tensor) -> torch.Tensor:
    """Log-mels that hold, along `dim`, what is at `places`."""
    return log_mels.gather(dim, places.expand_as(log_mels))


def augmentation(
    *,
    augment_p: float = 1.0,
    p: float = 0.5,
    time_mask: int = 30,
    frequency_mask: int = 20,
    noise: float = 0.05,
    stretch: float = 0.0,
    shift: Shift = "roll",
    shift_mels: int = 3,
    level: Level = "contrast",
    contrast: float = 0.2,
    equalizer: float = 0.0,
    low_pass: bool = False,
    per: EffectsPer = "snippet",
    mean: float = AUDIOSET_MEAN,
    std: float = AUDIOSET_STD,
) -> nn.Module:
    """The effects in the order they are applied, each with probability `p`, to the share `augment_p` of the snippets;
    by default those of the seed recipe.

    `time_mask` in frames, `frequency_mask` and `shift_mels` in mels, `noise` as its standard deviation, `stretch` and
    `contrast` as shares, `equalizer` in dB: 0 switches one off. `mean` and `std` are those by which the log-mels were
    normalised. `per` says what has a chance of its own.
    """
    shifts = {"roll": Roll(shift_mels, p), "edge": EdgeShift(shift_mels, p), "none": nn.Identity()}
    levels = {"contrast": Contrast(contrast, p), "gain": Gain(GAIN_DB, p, std), "none": nn.Identity()}
    effects = nn.Sequential(
        TimeMask(time_mask, p),
        FrequencyMask(frequency_mask, p),
        Noise(noise, p),
        TimeStretch(stretch, p),
        shifts[shift],
        levels[level],
        Equalizer(equalizer, p, std),
        LowPass(LOW_PASS if low_pass else 0.0, p, normalised_floor(mean, std)),
    )
    for effect in effects:
        if isinstance(effect, Effect):
            effect.is_of_batch = per == "batch"
    if augment_p == 0:
        return nn.Identity()
    return effects if augment_p == 1 else Sometimes(effects, augment_p, is_of_batch=per == "batch")


def mixed(own: torch.Tensor, partners: torch.Tensor, into: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Rows (batch, ...) of which those at `into` keep the share `kept` of themselves, and have the rest of a partner.

    Partners are (n_partners, ...), `into` and `kept` (n_partners,): snippets, or their targets (Zhang et al. 2018).
    """
    shares = kept.reshape(-1, *[1] * (own.ndim - 1))
    return own.index_copy(0, into, (shares * own[into] + (1 - shares) * partners).to(own.dtype))


class Patchout:
    """Leaves out `n_time` columns and `n_frequency` rows of an AST's grid of patches while it trains.

    Other ones for each batch; its two special tokens stay (Koutini et al. 2021, section 2.2, structured patchout). It
    is a forward hook on the embeddings, so that no weight changes its name. Raises ValueError where no patch is left.
    """

    def __init__(self, ast: ASTForAudioClassification, *, n_time: int, n_frequency: int) -> None:
        embeddings = ast.audio_spectrogram_transformer.embeddings
        self.n_rows, self.n_columns = embeddings.get_shape(embeddings.config)
        if not (0 <= n_time < self.n_columns and 0 <= n_frequency < self.n_rows):
            raise ValueError(
                f"of {self.n_columns} columns and {self.n_rows} rows of patches, {n_time} and {n_frequency} cannot be "
                "left out: at least one of each has to stay"
            )
        self.n_time, self.n_frequency, self.is_on = n_time, n_frequency, True
        embeddings.register_forward_hook(self)

    def __call__(self, embeddings: nn.Module, _: tuple[torch.Tensor, ...], tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (batch, 2 + n_patches, width), row of patches after row of patches, without those left out."""
        if not (embeddings.training and self.is_on):
            return tokens
        rows = torch.randperm(self.n_rows, device=tokens.device)[self.n_frequency :].sort().values
        columns = torch.randperm(self.n_columns, device=tokens.device)[self.n_time :].sort().values
        patches = (rows[:, None] * self.n_columns + columns).flatten()
        return torch.cat([tokens[:, :2], tokens[:, 2 + patches]], dim=1)
