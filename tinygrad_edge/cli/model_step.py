"""A training step of the model that a command line names, on images that are made up."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import functional, models, policy, sparse
from ..compiled import CompiledStep, compile
from ..tensor import Tensor
from .arguments import (
    ALLOW,
    BUDGET,
    SPARSITY,
    allow,
    budget,
    budget_of,
    count,
    name_of,
    share,
    size,
)
from .recipes import OPTIMIZERS

__all__ = ["ModelStep", "add_options", "model_step"]


def add_options(parser: Any, nargs: str | None = None) -> None:
    """Add MODEL (``nargs`` says whether it may be absent) and what its step depends on."""
    option = parser.add_argument
    option(
        "model",
        metavar="MODEL",
        nargs=nargs,
        type=name_of("model", models.MODELS),
        help=f"one of {', '.join(models.MODELS)}",
    )
    option("--batch", type=count, metavar="N", default=64, help="images in a step (default: 64)")
    option("--classes", type=count, metavar="N", default=10, help="classes (default: 10)")
    option(
        "--size",
        type=size,
        metavar="CxHxW",
        default=(1, 28, 28),
        help="channels, height and width of an image (default: 1x28x28)",
    )
    option(
        "--optimizer",
        type=name_of("optimizer", OPTIMIZERS),
        default="sgd",
        help=f"one of {', '.join(OPTIMIZERS)} (default: sgd)",
    )
    option("--budget", type=budget, metavar="BYTES", help=BUDGET)
    option("--allow", type=allow, metavar="NAMES", default=(), help=ALLOW)
    option("--sparsity", type=share, metavar="X", help=SPARSITY)


class ModelStep(NamedTuple):
    """A compiled step and a batch for it."""

    step: CompiledStep
    images: np.ndarray
    labels: np.ndarray


def model_step(
    args: argparse.Namespace,
    lr: float,
    freeze: str | None = None,
    policies: Sequence[policy.Policy] | None = None,
) -> ModelStep:
    """Make the step that the options of `add_options` describe.

    Parameters
    ----------
    args : Namespace
    lr : float
    freeze : str, optional
        A pattern of the parameters that are not trained.
    policies : sequence of Policy, optional
        Instead of those that the options say.
    """
    channels, height, width = args.size
    model = models.build(args.model, args.classes, channels, (height, width))
    if args.sparsity is not None:
        sparse.sparsify(model, args.sparsity)
    optimizer = OPTIMIZERS[args.optimizer](model.parameters(), lr)

    def step(images: Tensor, labels: Tensor) -> Tensor:
        loss = functional.cross_entropy(model(images), labels)
        optimizer.minimize(loss)
        return loss

    if policies is None:
        within = budget_of(args)
        policies = [within or policy.Default()]
    if freeze:
        policies = [policy.Freeze(freeze), *policies]
    rng = np.random.default_rng(0)
    images = rng.standard_normal((args.batch, *args.size), np.float32)
    return ModelStep(
        compile(step, policies=policies),
        images,
        rng.integers(0, args.classes, args.batch, np.int32),
    )
