"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from .. import ops, trace
from ..dtypes import int32
from ..graph import Value
from ..parameter import Parameter
from .optimizer import Optimizer

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2015, algorithm 1).

    ``m = b1 * m + (1 - b1) * g``; ``v = b2 * v + (1 - b2) * g**2``; with t the number of steps,
    ``p -= lr * m / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + eps)``. The weight decay times p is added
    to the gradient.

    The steps are counted once for all parameters (PyTorch counts for each): one that gets its first
    gradient late is corrected for less bias than it has.

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
    betas : (float, float)
        How much of each moment is kept; below 1.
    eps : float
    weight_decay : float
    max_norm : float, optional
        Clip gradients by their global norm.
    """

    moments = ("exp_avg", "exp_avg_sq")
    limits: ClassVar[dict[str, float]] = {"beta1": 1.0, "beta2": 1.0}
    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        beta1, beta2 = betas
        rates = {
            "lr": lr,
            "weight_decay": weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(parameters, rates, max_norm)
        self._count = self.cell("step", (), int32)

    def begin(self) -> None:
        """Count the step."""
        active = trace.current()
        active.assign(self._count, ops.add(active.read(self._count), ops.constant(1, int32)))

    def update(self, p: Parameter, gradient: Value, hyper: Value) -> None:
        """Assign the next parameter and moments."""
        active = trace.current()
        cells = (p.cell, self.moment("exp_avg", p), self.moment("exp_avg_sq", p))
        mean, square = (active.read(cell) for cell in cells[1:])
        count = active.read(self._count)
        found = ops.adam_update(p.value, gradient, mean, square, hyper, count, self._decoupled)
        for cell, value in zip(cells, found, strict=True):
            active.assign(cell, value)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    ``p -= lr * weight_decay * p`` comes before Adam's own update, and the gradient stays as it is.

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
    betas : (float, float)
        How much of each moment is kept; below 1.
    eps : float
    weight_decay : float
    max_norm : float, optional
        Clip gradients by their global norm.
    """

    _decoupled = True

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay, max_norm)
