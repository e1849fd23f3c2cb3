"""Muon against its definition, and AdamW against torch's."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from training.learning.muon import MOMENTUM, RMS, Muon, orthogonal

SEED = 5


@pytest.mark.parametrize("shape", [(8, 8), (4, 12), (12, 4)])
def test_all_directions_of_a_matrix_come_to_about_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(SEED)
    matrix = torch.randn(shape) * 1e-4
    found = orthogonal(matrix)
    assert found.shape == shape
    singular = torch.linalg.svdvals(found)
    assert singular.min() > 0.6 and singular.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    nearest = u @ v
    assert torch.nn.functional.cosine_similarity(found.flatten(), nearest.flatten(), dim=0) > 0.97


@pytest.mark.parametrize("shape", [(8, 8), (4, 12), (12, 4)])
def test_many_matrices_are_turned_as_each_is_and_well_enough_in_16_bits(shape: tuple[int, int]) -> None:
    torch.manual_seed(SEED)
    matrices = torch.randn(5, *shape) * torch.logspace(-3, 3, 5)[:, None, None]
    alone = torch.stack([orthogonal(matrix) for matrix in matrices])
    torch.testing.assert_close(orthogonal(matrices), alone, rtol=1e-4, atol=1e-5)
    in_16_bits = orthogonal(matrices.bfloat16())
    assert in_16_bits.dtype == torch.bfloat16
    similarity = torch.nn.functional.cosine_similarity(in_16_bits.float().flatten(1), alone.flatten(1))
    assert similarity.min() > 0.98


def test_matrices_of_one_shape_take_a_step_together_as_each_would() -> None:
    torch.manual_seed(SEED)
    values = [torch.randn(shape) for shape in ((4, 6), (6, 4), (4, 6), (3, 3))]
    together, apart = ([nn.Parameter(value.clone()) for value in values] for _ in range(2))
    without = nn.Parameter(torch.ones(4, 6))  # without a gradient
    options = {"is_hidden": True, "weight_decay": 0.1}
    one = Muon([{"params": [*together, without], **options}], lr=0.01)
    many = [Muon([{"params": [each], **options}], lr=0.01) for each in apart]
    for _ in range(3):
        for ours, theirs in zip(together, apart, strict=True):
            ours.grad = theirs.grad = torch.randn_like(ours)
        for optimizer in (one, *many):
            optimizer.step()
    for ours, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert torch.equal(without, torch.ones(4, 6))


def test_a_matrix_of_zeros_stays_there() -> None:
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_a_step_is_the_momentum_made_orthogonal() -> None:
    torch.manual_seed(SEED)
    weight = nn.Parameter(torch.randn(4, 6))
    optimizer = Muon([{"params": [weight], "is_hidden": True, "weight_decay": 0.1}], lr=0.01)
    expected, momentum = weight.detach().clone(), torch.zeros(4, 6)
    for _ in range(3):
        weight.grad = torch.randn(4, 6)
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * weight.grad
        looked_ahead = (1 - MOMENTUM) * weight.grad + MOMENTUM * momentum
        expected = (1 - 0.01 * 0.1) * expected - 0.01 * RMS * math.sqrt(6) * orthogonal(looked_ahead)
        optimizer.step()
    assert torch.allclose(weight, expected, atol=1e-6)


def test_all_else_is_adamw() -> None:
    torch.manual_seed(SEED)
    ours, theirs = (nn.Parameter(torch.ones(5)) for _ in range(2))
    matrix = nn.Parameter(torch.randn(3, 3))
    muon = Muon([{"params": [ours]}, {"params": [matrix], "is_hidden": True}], lr=0.1, betas=(0.8, 0.9))
    adamw = torch.optim.AdamW([theirs], lr=0.1, betas=(0.8, 0.9))
    for _ in range(4):
        ours.grad = theirs.grad = torch.randn(5)
        matrix.grad = torch.randn(3, 3)
        muon.step()
        adamw.step()
    assert torch.equal(ours, theirs)


def test_it_goes_on_where_it_was_saved() -> None:
    def trained(n_saved: int) -> np.ndarray:
        torch.manual_seed(SEED)
        parameters = [nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4))]
        gradients = [(torch.randn(4, 4), torch.randn(4)) for _ in range(4)]

        def made() -> Muon:
            return Muon([{"params": parameters[:1], "is_hidden": True}, {"params": parameters[1:]}], lr=0.1)

        optimizer = made()
        for i, each in enumerate(gradients):
            if i == n_saved:
                state = optimizer.state_dict()
                optimizer = made()
                optimizer.load_state_dict(state)
            for parameter, gradient in zip(parameters, each, strict=True):
                parameter.grad = gradient
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in parameters]).numpy()

    assert np.array_equal(trained(n_saved=2), trained(n_saved=-1))


def test_a_step_that_raises_leaves_all_parameters_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = Muon([{"params": [matrix], "is_hidden": True}, {"params": [bias]}], lr=0.1)
    groups = list(optimizer.param_groups)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def fails() -> None:
        assert optimizer.param_groups == groups  # a closure may set all gradients to zero
        raise RuntimeError("the loss")

    with pytest.raises(RuntimeError, match="the loss"):
        optimizer.step(fails)
    assert optimizer.param_groups == groups
    with monkeypatch.context() as patched, pytest.raises(torch.OutOfMemoryError):
        patched.setattr(torch.optim.AdamW, "step", full)
        optimizer.step()
    assert optimizer.param_groups == groups
    matrix.grad, bias.grad = torch.eye(2), torch.ones(2)
    assert optimizer.step(lambda: torch.tensor(3.0)).item() == 3
    assert not torch.equal(matrix, torch.ones(2, 2)) and not torch.equal(bias, torch.ones(2))


def test_only_matrices_are_hidden() -> None:
    with pytest.raises(ValueError, match="matrices"):
        Muon([{"params": [nn.Parameter(torch.ones(3))], "is_hidden": True}], lr=0.1)
