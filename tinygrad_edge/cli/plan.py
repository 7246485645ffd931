"""``plan``: every call and every byte of a training step, without running it."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from .. import functional, models
from ..compiled import compile
from ..tensor import Tensor
from .arguments import count, name_of, size
from .recipes import OPTIMIZERS

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "plan",
        help="show a training step's calls and memory, without running it",
        description=(
            "Print, call by call, what a training step makes, reads, frees and holds; then its "
            "bytes by kind. Nothing runs."
        ),
    )
    option = parser.add_argument
    option(
        "model",
        metavar="MODEL",
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    channels, height, width = args.size
    model = models.build(args.model, args.classes, channels, (height, width))
    method = OPTIMIZERS[args.optimizer]
    optimizer = method(model.parameters(), method.lr)

    @compile
    def step(images: Tensor, labels: Tensor) -> Tensor:
        loss = functional.cross_entropy(model(images), labels)
        optimizer.minimize(loss)
        return loss

    images = np.empty((args.batch, *args.size), np.float32)
    print(step.plan(images, np.empty(args.batch, np.int32)).table())
    return 0
