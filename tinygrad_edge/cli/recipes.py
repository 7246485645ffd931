"""What `train` does where it is not told: measured choices for each data set and optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .. import optim
from ..tensor import Parameter

__all__ = ["OPTIMIZERS", "RECIPES", "Method", "Recipe", "learning_rate"]


class Recipe(NamedTuple):
    """Defaults for a data set."""

    model: str
    epochs: int
    batch: int
    optimizer: str


class Method(NamedTuple):
    """An optimizer with its settings, and the learning rate that goes with them."""

    make: Callable[..., optim.Optimizer]
    options: dict[str, Any]
    lr: float

    def __call__(self, parameters: Iterable[Parameter], lr: float) -> optim.Optimizer:
        """Make the optimizer."""
        return self.make(parameters, lr=lr, **self.options)


RECIPES = {
    "digits": Recipe(model="lenet", epochs=30, batch=64, optimizer="sgd"),
    "mnist": Recipe(model="lenet", epochs=12, batch=64, optimizer="sgd"),
    "fashion_mnist": Recipe(model="cnn", epochs=12, batch=64, optimizer="sgd"),
}

OPTIMIZERS = {
    "sgd": Method(optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}, 0.05),
}

WARMUP = 0.05  # of all steps


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: it rises linearly, then falls to 0 along a cosine.

    Warm-up: Goyal et al. 2017, section 2.2. Cosine: Loshchilov and Hutter 2017, equation 5. It
    depends on the step's number alone, so that a resumed run needs nothing else.
    """
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
