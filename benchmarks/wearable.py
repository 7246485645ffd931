"""Whole steps of the pipeline for wearables: its rows, with dense weights.

M. Nitsenko's pipeline trains ResNet-50 and then MobileNet on pictures of 224 by 224 with Adam and a
batch of 32, and adds one way to save memory a row. This prints each row's peak bytes (parameters,
optimizer, everything computed, the batch itself), beside the published ones, whose weights are
sparse from the second row on, and the time of a step.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np

import tinygrad_edge as te
from tinygrad_edge.policy import Budget, Default, Microbatch, Policy

BATCH, SIZE, CLASSES = 32, 224, 1000

#: Name, published MB, model, policies.
ROWS: tuple[tuple[str, int, str, list[Policy]], ...] = (
    ("ResNet-50", 9338, "resnet50", [Default()]),
    ("+ checkpoints", 2592, "resnet50", [Budget("1000MB")]),
    ("+ micro-batch of 16", 1808, "resnet50", [Budget("700MB"), Microbatch(2)]),
    ("MobileNet instead", 776, "mobilenet_v1", [Budget("225MB"), Microbatch(2)]),
)


def step_of(name: str, policies: list[Policy]) -> te.CompiledStep:
    """A training step with Adam."""
    model = te.models.build(name, num_classes=CLASSES, in_channels=3)
    optimizer = te.optim.Adam(model.parameters(), 1e-3)

    @te.compile(policies=policies)
    def step(images, labels):
        loss = te.functional.cross_entropy(model(images), labels)
        optimizer.minimize(loss)
        return loss

    return step


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repeat", type=int, default=3, help="timed steps of each row; 0: plan only"
    )
    repeat = parser.parse_args(arguments).repeat
    images = np.random.default_rng(0).standard_normal((BATCH, 3, SIZE, SIZE)).astype(np.float32)
    labels = np.arange(BATCH, dtype=np.int32)
    print(f"{'row':<22}{'policies':<52}{'published MB':>13}{'MB':>8}{'s a step':>10}")
    for title, published, name, policies in ROWS:
        step = step_of(name, policies)
        peak = step.plan(images, labels).peak_bytes
        seconds = []
        for _ in range(repeat + 1 if repeat else 0):
            start = time.perf_counter()
            step(images, labels)
            seconds.append(time.perf_counter() - start)
        taken = f"{statistics.median(seconds[1:]):.2f}" if repeat else "-"
        print(
            f"{title:<22}{policies!s:<52}{published:>13}{peak / 1e6:>8.0f}{taken:>10}", flush=True
        )


if __name__ == "__main__":
    main()
