"""Each effect against the notebook's own arithmetic, snippet by snippet, or against what it must never do."""

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import ASTConfig, ASTForAudioClassification

from tagger.models.features import FLOOR
from tagger.models.transformer import TorchLogMel
from training.learning.augment import (
    Contrast,
    EdgeShift,
    Effect,
    Equalizer,
    FrequencyMask,
    Gain,
    LowPass,
    Noise,
    Patchout,
    Roll,
    TimeMask,
    TimeStretch,
    augmentation,
    mixed,
    normalised_floor,
)
from training.learning.config import EffectsPer

EFFECTS: list[Callable[[float], Effect]] = [
    lambda p: TimeMask(30, p),
    lambda p: FrequencyMask(20, p),
    lambda p: Noise(0.05, p),
    lambda p: TimeStretch(0.03, p),
    lambda p: Roll(3, p),
    lambda p: EdgeShift(3, p),
    lambda p: Contrast(0.2, p),
    lambda p: Gain(6.0, p),
    lambda p: Equalizer(6.0, p),
    lambda p: LowPass(0.9, p),
]
NAMES = [type(make(1.0)).__name__ for make in EFFECTS]
each_effect = pytest.mark.parametrize("make", EFFECTS, ids=NAMES)


def log_mels(n_snippets: int = 3, n_frames: int = 128, n_mels: int = 128) -> torch.Tensor:
    """Seeded log-mels of the spread they have in AudioSet, none of them 0."""
    values = 0.5 * torch.randn(n_snippets, n_frames, n_mels, generator=torch.Generator().manual_seed(1))
    return torch.where(values == 0, 1.0, values)


def seeded(module: nn.Module, *inputs: torch.Tensor, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return module(*inputs)


def draws(n_snippets: int, *, skip: int = 1, seed: int = 0) -> torch.Tensor:
    """What torch draws for each snippet after `skip` draws for each."""
    torch.manual_seed(seed)
    return torch.rand((skip + 1) * n_snippets)[-n_snippets:]


@each_effect
def test_nothing_is_altered_in_evaluation(make: Callable[[float], Effect]) -> None:
    snippets = log_mels()
    assert make(1.0).eval()(snippets) is snippets


@each_effect
def test_nothing_is_altered_with_probability_0(make: Callable[[float], Effect]) -> None:
    snippets = log_mels(32, 8, 32)
    assert torch.equal(seeded(make(0.0), snippets), snippets)


@each_effect
def test_an_amount_of_0_alters_nothing(make: Callable[[float], Effect]) -> None:
    snippets = log_mels()
    assert type(make(1.0))(0, 1.0)(snippets) is snippets


@each_effect
def test_each_snippet_is_altered_by_its_own_chance(make: Callable[[float], Effect]) -> None:
    snippets = log_mels(1, 400, 8).expand(400, -1, -1)
    shares = {}
    for p in (1.0, 0.5):
        outcomes = seeded(make(p), snippets)
        shares[p] = (outcomes != snippets).flatten(1).any(1).double().mean().item()
        assert len({outcome.numpy().tobytes() for outcome in outcomes}) > 5  # otherwise all would be altered alike
    assert shares[1.0] > 0.8  # a mask may be empty, a shift may be by nothing
    assert shares[0.5] == pytest.approx(shares[1.0] / 2, abs=0.08)


@each_effect
def test_a_batch_may_be_altered_as_one_by_one_chance(make: Callable[[float], Effect]) -> None:
    effect, snippets = make(0.5), log_mels(1, 64, 16).expand(4, -1, -1)
    effect.is_of_batch = True
    batches = [seeded(effect, snippets, seed=seed) for seed in range(300)]
    altered = [(batch != snippets).flatten(1).any(1) for batch in batches]
    assert all(each.all() or not each.any() for each in altered)
    if not isinstance(effect, Noise):  # which is noise everywhere, where the coin says so
        assert all((batch == batch[0]).all() for batch in batches)
    assert len({batch.numpy().tobytes() for batch in batches}) > 3
    own = seeded(make(1.0), log_mels(1, 64, 16).expand(400, -1, -1))
    most = (own != snippets[0]).flatten(1).any(1).double().mean().item()
    assert np.mean([each.all().item() for each in altered]) == pytest.approx(most / 2, abs=0.09)


def test_the_effects_of_a_recipe_are_per_snippet_or_per_batch() -> None:
    for per in ("snippet", "batch"):
        effects = [effect for effect in augmentation(per=per) if isinstance(effect, Effect)]
        assert {effect.is_of_batch for effect in effects} == {per == "batch"} and len(effects) == 8


@each_effect
def test_the_seed_decides_everything(make: Callable[[float], Effect]) -> None:
    effect, snippets = make(0.5), log_mels(32, 64, 64)
    assert torch.equal(seeded(effect, snippets), seeded(effect, snippets))
    assert not torch.equal(seeded(effect, snippets), seeded(effect, snippets, seed=1))
    state = torch.get_rng_state()
    first = effect(snippets)
    torch.set_rng_state(state)
    assert torch.equal(effect(snippets), first)


@each_effect
def test_a_snippet_does_not_depend_on_the_others(make: Callable[[float], Effect]) -> None:
    snippets = log_mels(8, 64, 64)
    others = snippets.clone()
    others[1:] = 7.0
    assert torch.equal(seeded(make(1.0), snippets)[0], seeded(make(1.0), others)[0])


@each_effect
@pytest.mark.parametrize("shape", [(3, 128, 128), (2, 1024, 128), (1, 16, 8)], ids=str)
def test_bfloat16_is_altered_like_float32(make: Callable[[float], Effect], shape: tuple[int, int, int]) -> None:
    snippets = log_mels(*shape)
    precise = seeded(make(1.0), snippets)
    rough = seeded(make(1.0), snippets.bfloat16())
    assert (precise.shape, precise.dtype) == (snippets.shape, torch.float32)
    assert (rough.shape, rough.dtype) == (snippets.shape, torch.bfloat16)
    # Noise is drawn in the precision of the snippets, so that only its spread is the same.
    tolerance = 0.5 if isinstance(make(1.0), Noise) else 0.02
    torch.testing.assert_close(rough.float(), precise, rtol=0, atol=tolerance)


@each_effect
@pytest.mark.parametrize(("amount", "p"), [(-1.0, 0.5), (1.0, -0.1), (1.0, 1.1), (1.0, math.nan)])
def test_impossible_effects_are_refused(make: Callable[[float], Effect], amount: float, p: float) -> None:
    kind = type(make(1.0))
    with pytest.raises(ValueError, match=f"{kind.__name__} has no amount"):
        kind(amount, p)


@pytest.mark.parametrize(("kind", "widest", "axis"), [(TimeMask, 30, 1), (FrequencyMask, 20, 2), (TimeMask, 400, 1)])
def test_masks_are_those_of_torchaudio(kind: type[Effect], widest: int, axis: int) -> None:
    reference = pytest.importorskip("torchaudio.functional", reason="needs torchaudio")
    snippets = log_mels(24, 512, 64)
    outcome = seeded(kind(widest, 1.0), snippets)
    torch.manual_seed(0)
    torch.rand(24)  # which snippets are masked
    assert torch.equal(outcome, reference.mask_along_axis_iid(snippets, widest, 0.0, axis))


@pytest.mark.parametrize(("kind", "widest", "n_places", "dim"), [(TimeMask, 30, 128, 1), (FrequencyMask, 20, 64, 2)])
def test_masks_are_one_run_of_every_width_anywhere(kind: type[Effect], widest: int, n_places: int, dim: int) -> None:
    shape = (4000, 128, 1) if dim == 1 else (4000, 1, 64)
    is_masked = (seeded(kind(widest, 1.0), torch.ones(shape)) == 0).flatten(1).int()
    widths = is_masked.sum(1)
    assert set(widths.tolist()) == set(range(widest))  # as in torchaudio, the widest is never reached
    assert widths.double().mean().item() == pytest.approx((widest - 1) / 2, abs=0.4)
    n_runs = (F.pad(is_masked, (1, 1)).diff(dim=1) == 1).sum(1)
    assert set(n_runs.tolist()) == {0, 1}
    assert is_masked.any(0)[: n_places - 1].all()


def test_a_mask_never_hides_a_short_snippet() -> None:
    outcomes = seeded(TimeMask(30, 1.0), torch.ones(500, 10, 1))
    assert (outcomes != 0).any(1).all()


def test_noise_is_the_notebooks() -> None:
    snippets = log_mels()
    outcome = seeded(Noise(0.05, 1.0), snippets)
    torch.manual_seed(0)
    torch.rand(3)
    assert torch.equal(outcome, snippets + torch.randn_like(snippets) * 0.05)


def test_contrast_is_the_notebooks_amplitude_scaling() -> None:
    snippets = log_mels(200, 4, 4)
    outcomes = seeded(Contrast(0.2, 1.0), snippets)
    factors = (outcomes / snippets)[:, 0, 0]
    for snippet, outcome, factor in zip(snippets, outcomes, factors, strict=True):
        torch.testing.assert_close(outcome, snippet * factor.item())
    assert 0.8 <= factors.min() < 0.81 and 1.19 < factors.max() <= 1.2


def test_stretch_is_the_notebooks_interpolation() -> None:
    snippets = log_mels(20, 200, 16)
    outcomes = seeded(TimeStretch(0.1, 1.0), snippets)
    factors = (0.9 + 0.2 * draws(20)).tolist()
    assert min(factors) < 0.97 and max(factors) > 1.03
    for snippet, outcome, factor in zip(snippets, outcomes, factors, strict=True):
        n_stretched = int(200 * factor)
        image = F.interpolate(snippet.T[None, None], (16, n_stretched), mode="bilinear", align_corners=False)
        # The notebook cut longer ones by `resize_`, which reads the memory on as if it were a shorter snippet.
        expected = F.pad(image, (0, max(0, 200 - n_stretched)))[0, 0, :, :200].T
        torch.testing.assert_close(outcome, expected, rtol=0, atol=1e-4)


def test_roll_is_the_notebooks_by_every_shift_up_to_its_amount() -> None:
    snippets = log_mels(100, 2, 16)
    shifts = []
    for snippet, outcome in zip(snippets, seeded(Roll(3, 1.0), snippets), strict=True):
        shifts += [shift for shift in range(-8, 8) if torch.equal(outcome, torch.roll(snippet, shift, dims=-1))]
    assert len(shifts) == 100
    assert set(shifts) == {-3, -2, -1, 0, 1, 2, 3}


def test_an_edge_shift_repeats_the_edge() -> None:
    snippets = log_mels(100, 2, 16)
    shifts = []
    for snippet, outcome in zip(snippets, seeded(EdgeShift(3, 1.0), snippets), strict=True):
        padded = F.pad(snippet, (8, 8), mode="replicate")
        shifts += [shift for shift in range(-8, 8) if torch.equal(outcome, padded[:, 8 - shift : 24 - shift])]
    assert len(shifts) == 100
    assert set(shifts) == {-3, -2, -1, 0, 1, 2, 3}


def test_only_a_roll_brings_the_highest_mels_to_the_lowest() -> None:
    treble = torch.zeros(64, 2, 128)
    treble[:, :, 64:] = 1.0
    assert (seeded(Roll(3, 1.0), treble)[:, :, :3] == 1).any()
    assert (seeded(EdgeShift(3, 1.0), treble)[:, :, :60] == 0).all()
    assert (seeded(EdgeShift(3, 1.0), treble)[:, :, 67:] == 1).all()


@pytest.mark.parametrize("settings", [{}, {"mean": -3.5, "std": 2.25}], ids=["AudioSet", "another"])
def test_a_gain_is_that_of_the_waveform(settings: dict[str, float]) -> None:
    waveforms = 0.1 * torch.randn(12, 8000, generator=torch.Generator().manual_seed(2))
    log_mel = TorchLogMel(n_frames=48, **settings)  # no frame of padding
    snippets = log_mel(waveforms)
    louder = seeded(Gain(6.0, 1.0, log_mel.std), snippets)
    decibels = -6 + 12 * draws(12)
    assert decibels.min() < -3 and decibels.max() > 3
    expected = log_mel(waveforms * 10 ** (decibels[:, None] / 20))
    floor = (math.log(FLOOR) - log_mel.mean) / (2 * log_mel.std)
    is_classified = torch.minimum(snippets, expected) > floor + 1e-3
    assert is_classified.float().mean() > 0.99  # all but the empty filter, and very few that fell to the floor
    torch.testing.assert_close(louder[is_classified], expected[is_classified], rtol=0, atol=5e-4)


def test_an_equalizer_is_a_smooth_curve_within_its_amount() -> None:
    snippets = log_mels(200)
    curves = (seeded(Equalizer(6.0, 1.0), snippets) - snippets) / Equalizer(6.0).per_db
    torch.testing.assert_close(curves, curves[:, :1].expand_as(curves), rtol=0, atol=1e-4)  # the same in each frame
    curves = curves[:, 0]
    assert curves.abs().max() <= 6 + 1e-4 and (curves.amax(1) - curves.amin(1)).max() > 6
    assert curves.diff(dim=1).abs().max() <= 12 / (127 / 4) + 1e-3  # four straight lines over 127 steps
    bends = curves.diff(n=2, dim=1).abs() > 1e-3
    assert bends.sum(1).max() <= 6  # at three knots between the ends, which may lie between two mels


def test_a_low_pass_silences_what_is_above_some_mel() -> None:
    log_mel = TorchLogMel(n_frames=48, mean=-3.5, std=2.25)
    effect = LowPass(0.6, 1.0, normalised_floor(log_mel.mean, log_mel.std))
    snippets = log_mels(300)
    silent = seeded(effect, snippets) != snippets
    n_kept = 128 - silent[:, 0].sum(1)
    assert torch.equal(silent, (torch.arange(128) >= n_kept[:, None, None]).expand_as(silent))
    assert 51 <= n_kept.min() < 56 and 123 < n_kept.max() <= 128
    floor = log_mel(torch.zeros(1, 8000))
    torch.testing.assert_close(seeded(effect, snippets)[silent], floor[0, 0, 0].expand(int(silent.sum())))


def test_by_default_the_effects_are_the_notebooks_in_its_order() -> None:
    assert [repr(effect) for effect in augmentation() if effect.amount] == [
        "TimeMask(30, p=0.5)",
        "FrequencyMask(20, p=0.5)",
        "Noise(0.05, p=0.5)",
        "Roll(3, p=0.5)",
        "Contrast(0.2, p=0.5)",
    ]


def test_every_effect_can_be_chosen_and_switched_off() -> None:
    effects = augmentation(
        p=1.0, stretch=0.03, shift="edge", level="gain", equalizer=4.0, low_pass=True, mean=-3.0, std=2.0
    )
    assert [repr(effect) for effect in effects][3:] == [
        "TimeStretch(0.03, p=1)",
        "EdgeShift(3, p=1)",
        "Gain(6, p=1)",
        "Equalizer(4, p=1)",
        "LowPass(0.6, p=1)",
    ]
    assert effects[-3].per_db == effects[-2].per_db == pytest.approx(math.log(10) / 10 / 4)
    assert effects[-1].floor == pytest.approx((math.log(FLOOR) + 3.0) / 4)
    snippets = log_mels()
    assert augmentation(time_mask=0, frequency_mask=0, noise=0, shift="none", level="none")(snippets) is snippets


def test_every_range_of_the_notebook_can_be_given() -> None:
    effects = augmentation(p=0.25, noise=0.1, stretch=0.05, shift_mels=7, contrast=0.4)
    assert [repr(effect) for effect in effects if effect.amount][2:] == [
        "Noise(0.1, p=0.25)", "TimeStretch(0.05, p=0.25)", "Roll(7, p=0.25)", "Contrast(0.4, p=0.25)",
    ]  # fmt: skip


@pytest.mark.parametrize("per", ["snippet", "batch"])
def test_augmentation_as_a_whole_has_a_chance_of_its_own(per: EffectsPer) -> None:
    """As the notebook's p, beside its effects_p."""
    only = {"p": 1.0, "time_mask": 0, "frequency_mask": 0, "shift": "none", "per": per}
    snippets = log_mels(400, 8, 8) + 1.0
    assert augmentation(augment_p=0.0, **only)(snippets) is snippets
    half = augmentation(augment_p=0.5, **only).train()
    torch.manual_seed(0)
    is_altered = [(half(snippets) != snippets).flatten(1).all(dim=1) for _ in range(100 if per == "batch" else 1)]
    assert 0.35 < torch.cat(is_altered).float().mean() < 0.65
    if per == "batch":
        assert all(batch.all() or not batch.any() for batch in is_altered)
    else:
        assert 0 < is_altered[0].sum() < 400
    assert half.eval()(snippets) is snippets
    with pytest.raises(ValueError, match="no probability"):
        augmentation(augment_p=1.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_mixed_with_their_partners_and_others_stay(dtype: torch.dtype) -> None:
    own, partners = log_mels(6, 4, 8).to(dtype).split([4, 2])
    found = mixed(own, partners, torch.tensor([3, 1]), torch.tensor([0.25, 0.5]))
    assert found.dtype == dtype and torch.equal(found[0], own[0]) and torch.equal(found[2], own[2])
    tolerance = 1e-6 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(found[3], 0.25 * own[3] + 0.75 * partners[0], rtol=0, atol=tolerance)
    torch.testing.assert_close(found[1], 0.5 * own[1] + 0.5 * partners[1], rtol=0, atol=tolerance)


def tiny_ast(n_frames: int = 96, stride: int = 16) -> ASTForAudioClassification:
    """A network over 8 rows and 6 columns of patches, in training mode."""
    torch.manual_seed(0)
    ast = ASTForAudioClassification(
        ASTConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_length=n_frames,
            time_stride=stride,
            frequency_stride=stride,
            num_labels=3,
        )
    )
    nn.init.normal_(ast.audio_spectrogram_transformer.embeddings.position_embeddings)
    return ast.train()


def kept_tokens(ast: ASTForAudioClassification, n_tokens: int, patchout: Patchout) -> list[int]:
    """Places of the tokens that stay, out of `n_tokens`."""
    places = torch.arange(float(n_tokens)).view(1, -1, 1)
    return patchout(ast.audio_spectrogram_transformer.embeddings, (), places).flatten().int().tolist()


def test_patchout_leaves_whole_rows_and_columns() -> None:
    ast = tiny_ast()
    patchout = Patchout(ast, n_time=2, n_frequency=3)
    rows_kept, columns_kept = torch.zeros(8), torch.zeros(6)
    for _ in range(400):
        tokens = kept_tokens(ast, 2 + 8 * 6, patchout)
        rows, columns = {(token - 2) // 6 for token in tokens[2:]}, {(token - 2) % 6 for token in tokens[2:]}
        assert (len(rows), len(columns)) == (5, 4)
        assert tokens == [0, 1, *(2 + 6 * row + column for row in sorted(rows) for column in sorted(columns))]
        rows_kept[list(rows)] += 1
        columns_kept[list(columns)] += 1
    torch.testing.assert_close(rows_kept / 400, torch.full((8,), 5 / 8), rtol=0, atol=0.1)
    torch.testing.assert_close(columns_kept / 400, torch.full((6,), 4 / 6), rtol=0, atol=0.1)


def test_the_tokens_of_a_network_are_rows_of_its_mels() -> None:
    patches = tiny_ast().audio_spectrogram_transformer.embeddings.patch_embeddings
    silence = torch.zeros(1, 96, 128)
    for row, column in [(0, 0), (0, 5), (3, 2), (7, 0), (7, 5)]:
        tone = silence.clone()
        tone[:, 16 * column : 16 * column + 16, 16 * row : 16 * row + 16] = 1.0
        is_hit = (patches(tone) != patches(silence)).any(-1)[0]
        assert is_hit.nonzero().flatten().tolist() == [row * 6 + column]


def test_patchout_shortens_the_input_of_the_layers_in_training_only() -> None:
    ast = tiny_ast(n_frames=1024, stride=10)
    lengths = []
    ast.audio_spectrogram_transformer.layers[0].register_forward_hook(
        lambda layer, inputs, output: lengths.append(inputs[0].shape[1])
    )
    snippets = log_mels(2, 1024, 128)
    before = ast.eval()(snippets).logits
    Patchout(ast, n_time=40, n_frequency=4)
    torch.testing.assert_close(ast.eval()(snippets).logits, before, rtol=0, atol=0)
    assert ast.train()(snippets).logits.shape == (2, 3)
    assert lengths == [1214, 1214, 490]


def test_gradients_reach_the_kept_patches_alone() -> None:
    ast = tiny_ast()
    patchout = Patchout(ast, n_time=2, n_frequency=3)
    torch.manual_seed(5)
    kept = kept_tokens(ast, 50, patchout)
    torch.manual_seed(5)
    ast(log_mels(2, 96)).logits.square().sum().backward()
    embeddings = ast.audio_spectrogram_transformer.embeddings
    assert embeddings.position_embeddings.grad.abs().sum(-1)[0].nonzero().flatten().tolist() == kept
    assert embeddings.patch_embeddings.projection.weight.grad.abs().sum() > 0


def test_patchout_changes_no_name_and_can_be_copied_and_saved(tmp_path: Path) -> None:
    ast = tiny_ast()
    names = list(ast.state_dict())
    Patchout(ast, n_time=2, n_frequency=3)
    assert list(ast.state_dict()) == names
    assert copy.deepcopy(ast)(log_mels(2, 96)).logits.shape == (2, 3)
    ast.save_pretrained(tmp_path)
    loaded = ASTForAudioClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(log_mels(2, 96)).logits, ast.eval()(log_mels(2, 96)).logits)


def test_patchout_of_nothing_leaves_everything() -> None:
    ast = tiny_ast()
    assert kept_tokens(ast, 50, Patchout(ast, n_time=0, n_frequency=0)) == list(range(50))


@pytest.mark.parametrize(("n_time", "n_frequency"), [(6, 0), (0, 8), (-1, 0), (0, -1), (40, 4)])
def test_patchout_that_leaves_no_patch_is_refused(n_time: int, n_frequency: int) -> None:
    with pytest.raises(ValueError, match="of 6 columns and 8 rows of patches"):
        Patchout(tiny_ast(), n_time=n_time, n_frequency=n_frequency)


def test_what_is_altered_still_lets_a_network_learn() -> None:
    ast = tiny_ast()
    Patchout(ast, n_time=2, n_frequency=3)
    effects = augmentation(time_mask=10)
    labels = torch.arange(24) % 3
    snippets = log_mels(24, 96) + 2 * (labels[:, None, None] - 1.0)
    half, kept = torch.arange(0, 24, 2), torch.linspace(0.1, 0.9, 12)
    optimizer = torch.optim.AdamW(ast.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        altered, targets = effects(snippets), F.one_hot(labels, 3).float()
        altered, targets = (mixed(rows, rows[::2].flip(0), half, kept) for rows in (altered, targets))
        loss = F.cross_entropy(ast(altered).logits, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert (ast.eval()(snippets).logits.argmax(1) == labels).double().mean() > 0.9
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_everything_happens_on_the_device_of_the_snippets() -> None:
    ast = tiny_ast().cuda()
    Patchout(ast, n_time=2, n_frequency=3)
    effects = augmentation(p=1.0, stretch=True, shift="edge", level="gain")
    into, kept = torch.tensor([1]).cuda(), torch.tensor([0.3]).cuda()
    altered, targets = effects(log_mels(3, 96).cuda()), torch.eye(3).cuda()
    altered, targets = (mixed(rows, rows[:1], into, kept) for rows in (altered, targets))
    assert altered.is_cuda and targets.is_cuda
    assert torch.equal(seeded(effects, altered), seeded(effects, altered))
    with torch.autocast("cuda", torch.bfloat16):
        F.cross_entropy(ast(altered).logits, targets).backward()
