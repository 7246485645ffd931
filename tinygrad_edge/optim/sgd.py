"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable

from .. import ops, trace
from ..graph import Value
from ..parameter import Parameter
from .optimizer import Optimizer

__all__ = ["SGD"]


class SGD(Optimizer):
    """Gradient descent with momentum.

    ``m = momentum * m + g``; ``p -= lr * m``, or with Nesterov ``p -= lr * (g + momentum * m)``
    (Sutskever et al. 2013), as PyTorch has them. The weight decay times p is added to the gradient.

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
    momentum : float
        0 keeps no moment at all.
    weight_decay : float
    nesterov : bool
    max_norm : float, optional
        Clip gradients by their global norm.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        max_norm: float | None = None,
    ) -> None:
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov needs a momentum")
        rates = {"lr": lr, "weight_decay": weight_decay}
        if momentum:
            rates["momentum"] = momentum
        self.moments = ("momentum",) if momentum else ()
        super().__init__(parameters, rates, max_norm)
        self._nesterov = nesterov

    def update(self, p: Parameter, gradient: Value, hyper: Value) -> None:
        """Assign the next parameter (and moment)."""
        active = trace.current()
        if not self.moments:
            active.assign(p.cell, *ops.sgd_update(p.value, gradient, hyper))
            return
        moment = self.moment("momentum", p)
        new, new_moment = ops.sgd_momentum_update(
            p.value, gradient, active.read(moment), hyper, nesterov=self._nesterov
        )
        active.assign(p.cell, new)
        active.assign(moment, new_moment)
