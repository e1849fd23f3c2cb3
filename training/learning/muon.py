"""An optimizer whose steps turn the matrices inside a network equally in all directions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
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
                self._turn_all(group)
        return loss

    def _turn_all(self, group: dict[str, Any]) -> None:
        """Move the matrices of a group, those of one shape at once: a GPU waits for the small ones otherwise."""
        by_shape: dict[torch.Size, list[torch.Tensor]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_shape.setdefault(parameter.shape, []).append(parameter)
        for parameters in by_shape.values():
            self._turn(parameters, group["lr"], group["weight_decay"])

    def _turn(self, parameters: list[torch.Tensor], lr: float, weight_decay: float) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["step"] = torch.zeros(())  # AdamW looks for one in every state that it loads
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch.stack(torch._foreach_lerp(gradients, momenta, MOMENTUM))
        updates = orthogonal(ahead.bfloat16() if ahead.is_cuda else ahead).to(ahead.dtype)
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        torch._foreach_add_(parameters, list(updates.unbind()), alpha=-lr * RMS * math.sqrt(max(ahead.shape[1:])))


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """About the orthogonal matrix nearest to each (..., n_rows, n_columns): its singular values become 0.7 to 1.2.

    Those below a thousandth of the norm stay smaller. By a Newton-Schulz iteration, which is matrix products only, and
    good in bfloat16 (Jordan 2024).
    """
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(N_STEPS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if is_tall else x
