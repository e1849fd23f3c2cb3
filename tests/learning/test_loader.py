"""Rows of a split, cut and drawn."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.prepared import Waveforms, make_prepared
from training.dataset.soft_labels import SoftLabels
from training.learning.loader import IGNORED, EpochSampler, Key, SnippetDataset, sqrt_weights


def test_fixed_rows_are_the_snippets_of_the_dataset() -> None:
    prepared = make_prepared()
    batch = SnippetDataset(prepared, "validate").__getitems__([3, (5, 2)])
    rows = prepared.splits["validate"]
    for waveform, row in zip(batch["waveforms"].numpy(), (3, 5), strict=True):
        np.testing.assert_array_equal(waveform, prepared.waveforms.read(0, rows[row]["first"], 16_000))
    assert batch["labels"].tolist() == [rows[3]["label"], rows[5]["label"]]
    assert batch["rows"].tolist() == [3, 5]
    assert batch["waveforms"].dtype.is_signed and batch["waveforms"].shape == (2, 16_000)


def offsets(dataset: SnippetDataset, prepared: SimpleNamespace, keys: list) -> list[int]:
    """Samples into the song at which each cut begins; the song counts its own samples."""
    return [int(waveform[0]) for waveform in dataset.__getitems__(keys)["waveforms"].numpy()]


def counting(seconds: float) -> SimpleNamespace:
    """A dataset whose songs hold their own sample numbers."""
    prepared = make_prepared(seconds=seconds)
    n_songs = len(prepared.waveforms.shard) // int(seconds * 16_000)
    prepared.waveforms = Waveforms([np.arange(1, 1 + int(seconds * 16_000)).astype(np.int16)] * n_songs)
    return prepared


def test_random_crops_come_from_the_middle_and_differ_by_epoch_row_and_seed() -> None:
    prepared = counting(2.0)
    dataset = SnippetDataset(prepared, "train", "random", seed=1)
    found = offsets(dataset, prepared, [(0, epoch) for epoch in range(300)])
    assert 0.1 * 16_000 <= min(found) < 0.15 * 16_000 and 0.85 * 16_000 < max(found) <= 0.9 * 16_000 + 1
    assert offsets(dataset, prepared, [(0, 7), (1, 7)]) == offsets(dataset, prepared, [(0, 7), (1, 7)])
    assert len(set(offsets(dataset, prepared, [(0, 7), (1, 7), (0, 8)]))) == 3
    assert offsets(SnippetDataset(prepared, "train", "random", seed=2), prepared, [(0, 7)]) != found[7:8]


def test_a_silent_crop_gives_way_to_the_snippet_of_the_row() -> None:
    prepared = make_prepared()
    row = prepared.splits["train"][0]
    prepared.waveforms.shard[: row["first"]] = 0
    prepared.waveforms.shard[row["first"] + 16_000 : row["song_samples"]] = 0
    dataset = SnippetDataset(prepared, "train", "random")
    batch = dataset.__getitems__([(0, epoch) for epoch in range(50)])["waveforms"].numpy()
    fixed = SnippetDataset(prepared, "train").__getitems__([0])["waveforms"].numpy()
    assert all((waveform != 0).any() for waveform in batch)
    assert any((waveform == fixed).all() for waveform in batch)
    assert not all((waveform == fixed).all() for waveform in batch)


def test_a_song_shorter_than_a_snippet_is_repeated() -> None:
    prepared = make_prepared(seconds=0.4)
    waveform = SnippetDataset(prepared, "train", "random").__getitems__([(0, 0)])["waveforms"].numpy()[0]
    np.testing.assert_array_equal(waveform, np.resize(prepared.waveforms.shard[:6400], 16_000))


class CachedFeatures(list):
    """Log-mels as `training.dataset.cache.Features` gives them."""

    key = "log_mels"


def test_cached_features_stand_for_the_waveforms_and_cannot_be_cropped() -> None:
    prepared = make_prepared()
    features = np.random.default_rng(0).standard_normal((len(prepared.splits["train"]), 98, 128)).astype(np.float16)
    prepared.features = {"train": CachedFeatures(features)}
    batch = SnippetDataset(prepared, "train").__getitems__([(4, 0), (2, 0)])
    np.testing.assert_array_equal(batch["log_mels"].numpy(), features[[4, 2]])
    assert "waveforms" not in batch
    with pytest.raises(ValueError, match="cropped again"):
        SnippetDataset(prepared, "train", "random")


def numbered(prepared: SimpleNamespace, starts: list[float]) -> SoftLabels:
    """Soft labels of the first song of the train split alone, at these starts: each row's class is its number."""
    rows = np.arange(len(starts))
    places = {prepared.splits["train"][0]["song"]: (np.array(starts), rows)}
    return SoftLabels(Path("soft.csv"), "song", places, np.empty((0, 0)), rows.astype(np.float16)[:, None])


def test_fixed_rows_get_the_soft_labels_within_half_a_snippet() -> None:
    prepared = counting(4.0)  # two snippets a song, at 0 s and at 3 s
    starts = prepared.splits["train"]["start_seconds"][:2]
    soft = numbered(prepared, [starts[1] + 0.6, starts[0] + 0.4])
    dataset = SnippetDataset(prepared, "train", soft_labels=soft)
    batch = dataset.__getitems__([0, 1, 2])
    assert batch["soft_known"].tolist() == [[1.0], [0.0], [0.0]] and batch["soft_classes"][0].tolist() == [1.0]
    assert dataset.n_soft == 1 and SnippetDataset(prepared, "train").n_soft == 0
    prepared.features = {"train": CachedFeatures(np.zeros((len(prepared.splits["train"]), 98, 128), np.float16))}
    cached = SnippetDataset(prepared, "train", soft_labels=soft).__getitems__([0, 1, 2])
    assert cached["soft_known"].tolist() == batch["soft_known"].tolist()
    assert "soft_known" not in SnippetDataset(prepared, "train").__getitems__([0])


def test_random_crops_get_the_soft_labels_nearest_to_where_they_were_cut() -> None:
    prepared = counting(2.0)
    starts = [0.1, 0.4, 0.6, 0.9]
    dataset = SnippetDataset(prepared, "train", "random", soft_labels=numbered(prepared, starts))
    keys = [(0, epoch) for epoch in range(100)]
    classes = dataset.__getitems__(keys)["soft_classes"][:, 0].tolist()
    cuts = [(first - 1) / 16_000 for first in offsets(dataset, prepared, keys)]
    assert classes == [float(np.abs(np.array(starts) - cut).argmin()) for cut in cuts] and len(set(classes)) == 4
    far = SnippetDataset(prepared, "train", "random", soft_labels=numbered(prepared, [100.0]))
    assert far.__getitems__(keys)["soft_known"].all() and far.n_soft == 2  # both rows of the song


def test_an_epoch_classifies_every_row_once_in_an_order_of_its_own() -> None:
    sampler = EpochSampler(100, seed=3)
    first, again = list(sampler), list(EpochSampler(100, seed=3))
    sampler.set_epoch(1)
    second = list(sampler)
    assert first == again
    assert sorted(key.row for key in first) == sorted(key.row for key in second) == list(range(100))
    assert [key.cut for key in first + second] == list(range(200))  # each is cut where none was before
    assert [key.row for key in first] != [key.row for key in second]


@pytest.mark.parametrize("weights", [None, sqrt_weights(np.arange(10) // 8)])
def test_few_rows_are_gone_over_several_times_each_time_cut_elsewhere(weights: np.ndarray | None) -> None:
    epochs = [sampled(10, epoch, weights, least=25) for epoch in range(2)]
    assert [key.cut for keys in epochs for key in keys] == list(range(50))
    if weights is None:
        counts = np.bincount([key.row for key in epochs[0]])
        assert counts.tolist().count(2) == counts.tolist().count(3) == 5
    assert len(EpochSampler(10, 3, least=25, multiple=8)) == len(sampled(10, 0, least=25, multiple=8)) == 32
    assert sampled(10, 0, least=9) == sampled(10, 0)


def test_the_last_epochs_may_go_without_mixup() -> None:
    for epoch in (4, 5):
        assert sampled(50, epoch, mixup=0.5, unmixed_from=4) == sampled(50, epoch) != sampled(50, epoch, mixup=0.5)
    assert sampled(50, 3, mixup=0.5, unmixed_from=4) == sampled(50, 3, mixup=0.5)


def test_the_sqrt_sampler_draws_genres_by_the_root_of_their_size() -> None:
    labels = np.repeat([0, 1], [9000, 1000])
    rows = [key.row for key in EpochSampler(len(labels), 0, sqrt_weights(labels))]
    share = np.bincount(labels[rows])[1] / len(rows)
    assert len(rows) == 10_000
    assert share == pytest.approx(1000**0.5 / (1000**0.5 + 9000**0.5), abs=0.02)


def test_an_epoch_is_filled_up_so_that_devices_have_equally_many() -> None:
    sampler = EpochSampler(10, seed=3, multiple=8)
    keys = list(sampler)
    assert len(keys) == len(sampler) == 16
    assert [key.is_filling for key in keys] == [False] * 10 + [True] * 6
    assert keys[:10] == list(EpochSampler(10, seed=3)) and len(EpochSampler(8, seed=3, multiple=8)) == 8
    assert len(list(EpochSampler(3, seed=0, multiple=16))) == 16
    prepared = make_prepared()
    labels = SnippetDataset(prepared, "train").__getitems__(keys[8:12])["labels"].tolist()
    expected = [prepared.splits["train"][key.row]["label"] for key in keys[8:10]]
    assert labels == [*expected, IGNORED, IGNORED]


@pytest.mark.parametrize("weights", [None, sqrt_weights(np.arange(400) // 300)])
@pytest.mark.parametrize("p", [0.25, 0.5, 1.0])
def test_mixup_mixes_the_share_it_is_told_and_none_with_itself(p: float, weights: np.ndarray | None) -> None:
    keys = [key for epoch in range(5) for key in sampled(400, epoch, weights, mixup=p)]
    mixing = [key for key in keys if key.partner is not None]
    assert len(mixing) / len(keys) == pytest.approx(p, abs=0.04)
    assert not any(key.partner == key.row for key in mixing)
    assert len({key.partner for key in mixing}) > 150
    kept = np.array([key.kept for key in mixing])
    assert kept.mean() == pytest.approx(0.5, abs=0.06) and kept.var() == pytest.approx(1 / (4 * 1.6), rel=0.15)
    assert [key.row for key in keys] == [key.row for epoch in range(5) for key in sampled(400, epoch, weights)]


def sampled(n_rows: int, epoch: int, weights: np.ndarray | None = None, **options: float) -> list[Key]:
    sampler = EpochSampler(n_rows, 3, weights, **options)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_impossible_mixups_are_refused(p: float) -> None:
    with pytest.raises(ValueError, match="no mixup"):
        EpochSampler(10, 0, mixup=p)


def test_a_single_row_is_mixed_with_nothing() -> None:
    assert [key.partner for key in sampled(1, 0, mixup=1.0)] == [None]


@pytest.mark.parametrize("n_at_once", [1, 5])
def test_partners_come_with_the_snippets_they_are_mixed_into(n_at_once: int) -> None:
    prepared = make_prepared()
    dataset = SnippetDataset(prepared, "train", "random", soft_labels=numbered(prepared, [0.0, 3.0]))
    keys = [Key(3, 2), Key(5, 2, partner=8, kept=0.3), Key(0, 2), Key(1, 2, partner=5, kept=0.9), Key(2, 2)]
    found = [dataset.__getitems__(keys[first : first + n_at_once]) for first in range(0, 5, n_at_once)]
    partners = [batch["partners"] for batch in found if "partners" in batch]
    alone = dataset.__getitems__([Key(8, 2), Key(5, 2)])
    for name in ("waveforms", "labels", "soft_known", "soft_classes"):
        assert (np.concatenate([each[name] for each in partners]) == alone[name].numpy()).all(), name
    assert np.concatenate([each["kept"] for each in partners]).tolist() == pytest.approx([0.3, 0.9])
    assert np.concatenate([each["into"] for each in partners]).tolist() == ([1, 3] if n_at_once == 5 else [0, 0])
    assert "partners" not in dataset.__getitems__(keys[:1])
