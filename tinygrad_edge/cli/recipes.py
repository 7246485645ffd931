"""What `train` does where it is not told: measured choices for each data set and optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .. import optim, sparse
from ..parameter import Parameter
from ..policy import AdaptivePrecision, Policy, Store

__all__ = [
    "FEW",
    "IMBALANCE",
    "OPTIMIZERS",
    "OWN",
    "OWN_FEW",
    "PRECISIONS",
    "RECIPES",
    "SPARSE_TRAINING",
    "WARMUP",
    "Method",
    "Moving",
    "Recipe",
]


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


#: For data of one's own, and where a training part has fewer than `FEW` images.
OWN = Recipe(model="cnn", epochs=20, batch=64, optimizer="sgd")
OWN_FEW = Recipe(model="cnn", epochs=40, batch=16, optimizer="sgd")
FEW = 2000

RECIPES = {
    "digits": Recipe(model="cnn", epochs=25, batch=64, optimizer="sgd"),
    "mnist": Recipe(model="lenet", epochs=12, batch=64, optimizer="sgd"),
    "fashion_mnist": Recipe(model="cnn", epochs=12, batch=64, optimizer="sgd"),
    "cifar10": Recipe(model="cnn", epochs=25, batch=64, optimizer="sgd"),
    "uci_har": Recipe(model="cnn", epochs=10, batch=64, optimizer="sgd"),
}

#: What `--precision` may be.
PRECISIONS: dict[str, Policy] = {
    **{name: Store(name) for name in ("float16", "bfloat16", "int8")},
    "adaptive": AdaptivePrecision(),
}


class Moving(NamedTuple):
    """An algorithm that moves non-zeros, and how often in a run."""

    make: Callable[..., sparse.DynamicSparsity]
    changes: int

    def __call__(
        self, pool: sparse.Pool, optimizer: optim.Optimizer, steps: int
    ) -> sparse.DynamicSparsity:
        """Make it for a run of so many steps."""
        until = round(MOVING * steps)
        return self.make(pool, optimizer, every=max(-(-until // self.changes), 1), until=until)


#: The share of a run's steps in which non-zeros move: new ones are still trained after it.
MOVING = 0.75

#: What `--dst` may be. The second halves how many it moves each time.
SPARSE_TRAINING = {
    "set": Moving(sparse.SET, 30),
    "algorithm1": Moving(sparse.MomentumRedistribution, 10),
    "dsr": Moving(sparse.DSR, 30),
    "rigl": Moving(sparse.RigL, 30),
    "sparse_momentum": Moving(sparse.SparseMomentum, 30),
}


OPTIMIZERS = {
    "sgd": Method(optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}, 0.02),
    "adam": Method(optim.Adam, {}, 0.002),
    "adamw": Method(optim.AdamW, {"weight_decay": 0.05}, 0.002),
    "rmsprop": Method(optim.RMSprop, {}, 0.001),
}

#: Classes count alike in the loss where the largest has more than so many times the images of the
#: smallest; less does not harm, and plain counts then give the better accuracy.
IMBALANCE = 3

WARMUP = 0.05  # of all steps, while the rate rises; then it falls to 0 along a cosine
