"""Whole steps of the pipeline for wearables, a row for each way to save memory.

M. Nitsenko's pipeline trains with Adam on batches of 32: ResNet-50 on pictures of 224 by 224, then
with 80 % sparse weights, checkpoints, micro-batches of 16, MobileNet in its place, and last on
patches of 32 by 32. This prints each row's peak bytes (parameters, optimizer, everything computed,
the batch itself) beside the published ones, and the time of a step.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from training import training_step

import tinygrad_edge as te
from tinygrad_edge.policy import Budget, Default, Microbatch, Policy

BATCH, SPARSITY = 32, 0.8


class Row(NamedTuple):
    """A step."""

    title: str
    published: int  # MB
    model: str
    policies: list[Policy]
    size: int = 224
    classes: int = 1000


PARTS = Microbatch(2)
ROWS = (
    Row("ResNet-50", 9338, "resnet50", [Default()]),
    Row("sparse weights", 8678, "resnet50", [Default()]),
    Row("+ checkpoints", 2592, "resnet50", [Budget("850MB")]),
    Row("+ micro-batches of 16", 1808, "resnet50", [Budget("500MB"), PARTS]),
    Row("MobileNet instead", 776, "mobilenet_v1", [Budget("180MB"), PARTS]),
    Row("patches of 32x32", 114, "mobilenet_v1_patch", [Budget("20MB"), PARTS], 32, 10),
    Row("+ halves", 114, "mobilenet_v1_patch", [Budget("16MB", "float16"), PARTS], 32, 10),
)
DENSE = (
    ROWS[0],
    Row("+ checkpoints", 2592, "resnet50", [Budget("1000MB")]),
    Row("+ micro-batches of 16", 1808, "resnet50", [Budget("700MB"), PARTS]),
    Row("MobileNet instead", 776, "mobilenet_v1", [Budget("225MB"), PARTS]),
)


def step_of(row: Row, sparse: bool) -> te.CompiledStep:
    """A training step with Adam."""
    model = te.models.build(row.model, num_classes=row.classes, in_channels=3)
    optimizer = te.optim.Adam(model.parameters(), 1e-3)
    if sparse:
        te.sparse.sparsify(model, SPARSITY, optimizer=optimizer)
    return training_step(model, optimizer, row.policies)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repeat", type=int, default=3, help="timed steps of each row; 0: plan only"
    )
    parser.add_argument("--dense", action="store_true", help="without sparse weights")
    args = parser.parse_args(arguments)
    rows = DENSE if args.dense else ROWS
    rng = np.random.default_rng(0)
    print(f"{'row':<23}{'policies':<64}{'published MB':>13}{'MB':>8}{'s a step':>10}")
    for row in rows:
        images = rng.standard_normal((BATCH, 3, row.size, row.size)).astype(np.float32)
        labels = np.arange(BATCH, dtype=np.int32) % row.classes
        step = step_of(row, sparse=row is not ROWS[0] and not args.dense)
        peak = step.plan(images, labels).peak_bytes
        seconds = []
        for _ in range(args.repeat + 1 if args.repeat else 0):
            start = time.perf_counter()
            step(images, labels)
            seconds.append(time.perf_counter() - start)
        taken = f"{statistics.median(seconds[1:]):.2f}" if args.repeat else "-"
        print(
            f"{row.title:<23}{row.policies!s:<64}{row.published:>13}{peak / 1e6:>8.1f}{taken:>10}",
            flush=True,
        )


if __name__ == "__main__":
    main()
