"""Snippets of a split for the network: read from the memory-mapped waveforms as they are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from tagger.audio.decode import SAMPLE_RATE
from training.dataset.waveforms import is_audible
from training.learning.config import Crop

if TYPE_CHECKING:
    from training.dataset.data import Prepared
    from training.dataset.soft_labels import SoftLabels

MIXUP_ALPHA = 0.3  # as PaSST's (Koutini et al. 2021)
MIDDLE = 0.8  # random crops come from the middle of the song: its very start and end are least like it
IGNORED = -100  # label of a snippet that counts for nothing: torch's, and transformers counts by it too


class Key(NamedTuple):
    """A snippet that is asked for."""

    row: int
    cut: int = 0  # number of its random crop
    is_filling: bool = False  # only there so that all devices have equally many
    partner: int | None = None  # row that it is mixed with
    kept: float = 1.0  # share of itself in the mix


class SnippetDataset(Dataset):
    """Rows of a split. `dataset.__getitems__(keys)` is a batch, ready for the network.

    A key is a row, or a `Key`: with random crops, each takes another part of the song. What a key gives depends on
    nothing but the key and the seed, so that an interrupted training resumes with what it would have taken.
    Soft labels are those of a snippet that starts within half a snippet's length; with random crops, the nearest there
    are of the song.
    """

    def __init__(
        self, prepared: Prepared, split: str, crop: Crop = "fixed", seed: int = 0, soft_labels: SoftLabels | None = None
    ) -> None:
        if crop == "random" and prepared.features:
            raise ValueError("log-mels that are ready are of fixed snippets: they cannot be cropped again")
        self._rows = prepared.splits[split].with_format("numpy")
        self._waveforms, self._features = prepared.waveforms, prepared.features.get(split)
        self.snippet_samples, self.crop, self.seed = prepared.snippet_samples, crop, seed
        self.soft_labels = soft_labels
        self.within = math.inf if crop == "random" else prepared.snippet_samples / 2 / SAMPLE_RATE

    @property
    def n_soft(self) -> int:
        """Rows that have soft labels."""
        if self.soft_labels is None:
            return 0
        songs, starts = self._rows[self.soft_labels.song_column][:], self._rows["start_seconds"][:]
        return int((self.soft_labels.nearest(songs, starts, self.within) >= 0).sum())

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, keys: Sequence[int | Key]) -> dict[str, Any]:
        """A batch: `labels` and `rows` (batch,), and `waveforms` int16 (batch, snippet_samples) or, where features
        are cached, `log_mels` float16 (batch, n_frames, n_mels), not normalised, or, where they are the notebook's,
        `input_values` float32 (batch, n_frames, n_mels), normalised and padded; and `SoftLabels.batch`.

        Where some are to be mixed, `partners` is a batch of what goes into them: into the snippet at `into`, which has
        the share `kept` of itself, both (n_partners,).
        """
        asked = [Key(*key) if isinstance(key, tuple) else Key(key) for key in keys]
        batch = self._batch(asked)
        mixing = [(place, key) for place, key in enumerate(asked) if key.partner is not None]
        if mixing:
            partners = self._batch([Key(int(key.partner or 0), key.cut) for _, key in mixing])
            partners["into"] = torch.tensor([place for place, _ in mixing])
            partners["kept"] = torch.tensor([key.kept for _, key in mixing], dtype=torch.float32)
            batch["partners"] = partners
        return batch

    def _batch(self, asked: Sequence[Key]) -> dict[str, Any]:
        rows = [key.row for key in asked]
        columns = self._rows[rows]
        labels = np.where([key.is_filling for key in asked], IGNORED, columns["label"].astype(np.int64))
        batch: dict[str, Any] = {"labels": labels, "rows": np.array(rows, np.int64)}
        firsts = columns["first"].tolist()
        if self._features is not None:
            batch[self._features.key] = np.stack([self._features[row] for row in rows])
        else:
            places = zip(columns["shard"], firsts, columns["song_first"], columns["song_samples"], strict=True)
            cuts = [self._cut(key, *map(int, place)) for key, place in zip(asked, places, strict=True)]
            firsts = [first for first, _ in cuts]
            batch["waveforms"] = np.stack([waveform for _, waveform in cuts])
        if self.soft_labels is not None:
            starts = (np.array(firsts) - columns["song_first"]) / SAMPLE_RATE
            songs = columns[self.soft_labels.song_column]
            batch |= self.soft_labels.batch(self.soft_labels.nearest(songs, starts, self.within))
        return {name: torch.from_numpy(column) for name, column in batch.items()}

    def _cut(self, key: Key, shard: int, first: int, song_first: int, song_samples: int) -> tuple[int, np.ndarray]:
        """One snippet: the sample of the shard at which it begins, and int16 (snippet_samples,)."""
        if self.crop == "random" and song_samples > self.snippet_samples:
            rng = np.random.default_rng((self.seed, key.cut, key.row))
            spare = song_samples - self.snippet_samples
            random_first = song_first + int(spare * ((1 - MIDDLE) / 2 + MIDDLE * rng.random()))
            waveform = self._waveforms.read(shard, random_first, self.snippet_samples)
            if is_audible(waveform):
                return random_first, waveform
        return first, self._waveforms.snippet(shard, first, song_first, song_samples, self.snippet_samples)


def as_they_are(batch: Any) -> Any:
    """What a `SnippetDataset` gives is a batch already."""
    return batch


class EpochSampler(Sampler[Key]):
    """Rows in the random order of an epoch, each with a crop of its own, the same on every device.

    An epoch has all rows once, or where these are fewer than `least`, so many: all of them several times, the last time
    a part of them. With `weights`, rows are drawn with replacement by their weight (n_rows,). The share `mixup` of them
    is to be mixed with another of the epoch, and to keep Beta(MIXUP_ALPHA, MIXUP_ALPHA) of itself (Zhang et al. 2018):
    drawn here, it depends neither on how many snippets a device computes at once nor on how many devices there are. No
    epoch from `unmixed_from` on is mixed. At the end they are filled up to a multiple of `multiple`. Raises ValueError
    for a `mixup` that is no share.
    """

    def __init__(
        self, n_rows: int, seed: int, weights: np.ndarray | None = None, *, mixup: float = 0.0,
        unmixed_from: float = math.inf, least: int = 0, multiple: int = 1,
    ) -> None:  # fmt: skip
        if not 0 <= mixup <= 1:
            raise ValueError(f"no mixup of a share {mixup}")
        self.n_rows, self.seed, self.weights, self.mixup = n_rows, seed, weights, mixup
        self.unmixed_from = unmixed_from
        self.n_drawn = max(n_rows, least)
        self.n_filling = -self.n_drawn % multiple
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self.n_drawn + self.n_filling

    def __iter__(self) -> Iterator[Key]:
        rng = np.random.default_rng((self.seed, self._epoch))
        if self.weights is None:
            turns = [rng.permutation(self.n_rows) for _ in range(math.ceil(self.n_drawn / self.n_rows))]
            rows = np.concatenate(turns)[: self.n_drawn]
        else:
            rows = rng.choice(self.n_rows, self.n_drawn, p=self.weights / self.weights.sum())
        mixup = self.mixup if self._epoch < self.unmixed_from else 0.0
        is_mixed = (rng.random(self.n_drawn) < mixup) & (rows != rows[0]).any()
        kept = rng.beta(MIXUP_ALPHA, MIXUP_ALPHA, self.n_drawn)
        partners = others(rows, rng) if is_mixed.any() else rows
        columns = map(np.ndarray.tolist, (rows, is_mixed, partners, kept))
        for cut, (row, mixes, partner, share) in enumerate(zip(*columns, strict=True), self._epoch * self.n_drawn):
            yield Key(row, cut, partner=partner, kept=share) if mixes else Key(row, cut)
        yield from (Key(int(row), is_filling=True) for row in np.resize(rows, self.n_filling))


def others(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each of the rows, of which two at least differ, another one of them, (n_rows,)."""
    found = rng.choice(rows, len(rows))
    while (is_itself := found == rows).any():
        found[is_itself] = rng.choice(rows, is_itself.sum())
    return found


def sqrt_weights(labels: np.ndarray) -> np.ndarray:
    """Weights (n_rows,) that draw a genre as often as the root of its number of rows."""
    return np.bincount(labels)[labels] ** -0.5
