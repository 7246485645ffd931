"""``plan``: every call and every byte of a training step, without running it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import DataError
from . import pareto
from .model_step import add_options, model_step
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
    add_options(parser)
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="write it: .html to look into it in a browser, .svg, .png or .json",
    )
    parser.add_argument(
        "--pareto",
        action="store_true",
        help="print time against bytes for budgets of all sizes; --out draws it, .png or .svg",
    )
    parser.add_argument(
        "--optimal",
        action="store_true",
        help="with --pareto: beside them the best choices there are; minutes, and SciPy",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.pareto:
        return pareto.run(args)
    if args.optimal:
        raise DataError("--optimal goes with --pareto")
    step, images, labels = model_step(args, OPTIMIZERS[args.optimizer].lr)
    plan = step.plan(images, labels)
    if args.out:
        plan.save(args.out)
        print(args.out)
    else:
        print(plan.table())
    return 0
