"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from .. import ops, trace
from ..graph import Value
from ..parameter import Parameter
from .optimizer import Optimizer

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """Steps divided by a running root mean square of the gradient (Tieleman & Hinton 2012).

    ``s = alpha * s + (1 - alpha) * g**2``; ``p -= lr * g / (sqrt(s) + eps)``. The weight decay
    times p is added to the gradient.

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
    alpha : float
        How much of the mean square is kept; below 1.
    eps : float
    weight_decay : float
    max_norm : float, optional
        Clip gradients by their global norm.
    """

    moments = ("square_avg",)
    limits: ClassVar[dict[str, float]] = {"alpha": 1.0}

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        rates = {"lr": lr, "weight_decay": weight_decay, "alpha": alpha, "eps": eps}
        super().__init__(parameters, rates, max_norm)

    def update(self, p: Parameter, gradient: Value, hyper: Value) -> None:
        """Assign the next parameter and mean square."""
        active = trace.current()
        moment = self.moment("square_avg", p)
        new, square = ops.rmsprop_update(p.value, gradient, active.read(moment), hyper)
        active.assign(p.cell, new)
        active.assign(moment, square)
