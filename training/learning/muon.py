"""An optimizer whose steps turn the matrices inside a network equally in all directions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW

MOMENTUM = 0.95
N_STEPS = 5  # of Newton-Schulz
#: Of its polynomial, chosen to take singular values from 1e-3 on near 1 in five steps (Jordan 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
RMS = 0.2  # of an update of AdamW, so that one learning rate serves both (Liu et al. 2025, "Muon is Scalable", eq. 4)


class Muon(AdamW):
    """Muon (Jordan 2024) for parameter groups with `is_hidden`, whose parameters are matrices; AdamW for the others."""

    def __init__(self, params: Any, **options: Any) -> None:
        groups = [{"is_hidden": False, **group} for group in params]
        if any(parameter.ndim != 2 for group in groups if group["is_hidden"] for parameter in group["params"]):
            raise ValueError("Muon takes matrices only")
        super().__init__(groups, **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all parameters by their gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["is_hidden"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group["is_hidden"]:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._turn(parameter, parameter.grad, group["lr"], group["weight_decay"])
        return loss

    def _turn(self, parameter: nn.Parameter, gradient: torch.Tensor, lr: float, weight_decay: float) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())  # AdamW looks for one in every state that it loads
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        update = orthogonal(gradient.lerp(momentum, MOMENTUM))
        parameter.mul_(1 - lr * weight_decay)
        parameter.add_(update, alpha=-lr * RMS * math.sqrt(max(parameter.shape)))


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About the orthogonal matrix nearest to one (n_rows, n_columns): its singular values become 0.7 to 1.2.

    Those below a thousandth of the norm stay smaller. By a Newton-Schulz iteration, which is matrix products only.
    """
    a, b, c = COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(N_STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
