"""What storing saved values in fewer bits does: to accuracy, to bytes, to time.

``accuracy`` trains a model to the end, a line of JSON a run: the same images in the same order with
the same initial weights, whatever the formats, so that formats are all that differs. ``cost`` has a
row for each technique and for all of them together: bytes of a step, and its processor time beside
plain backpropagation's, step by step in turn, so that other work on the machine slows all alike.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections import Counter

from training import Training, endless

import tinygrad_edge as te
from tinygrad_edge.policy import (
    AdaptivePrecision,
    Checkpoint,
    Default,
    Policy,
    Recompute,
    Store,
)

TECHNIQUES: dict[str, list[Policy]] = {
    "conventional": [],
    "checkpointing": [Checkpoint()],
    "mixed precision": [Store("float16")],
    "all together": [Recompute(ops=("batch_norm_apply",)), AdaptivePrecision()],
    "fewer bytes": [Default(), Store("bitmask"), AdaptivePrecision()],
    "fewest bytes": [Default(), Store("bitmask"), Store("int8")],
}

FORMATS: dict[str, list[Policy]] = {
    "float32": [Default()],
    "float16": [Default(), Store("float16")],
    "int8": [Default(), Store("int8")],
    "adaptive": [Default(), AdaptivePrecision()],
    "together": TECHNIQUES["all together"],
}
BATCH, RATE = 64, 0.02


def trained(model: str, data: te.data.Dataset, formats: str, seed: int, steps: int) -> dict:
    """Train until the rate has fallen to 0; gives what came of it."""
    training = Training(model, data, RATE, seed, FORMATS[formats])
    end = training.to_the_end(endless(data, BATCH, seed), steps)
    precision = training.step.precision
    return {
        "model": model,
        "data": data.name,
        "formats": formats,
        "seed": seed,
        "steps": steps,
        "accuracy": round(training.accuracy(data.test), 2),
        "loss": round(end.loss, 4),
        "peak_bytes": end.peak_bytes,
        "seconds": round(end.seconds),
        "decisions": 0 if precision is None else len(precision.decisions),
        "stored": {} if precision is None else Counter(precision.formats.values()),
    }


def accuracy(args: argparse.Namespace) -> None:
    """Print a line a run."""
    data = te.data.load(args.data)
    for seed in args.seeds:
        for formats in args.formats:
            print(json.dumps(trained(args.model, data, formats, seed, args.steps)), flush=True)


def cost(args: argparse.Namespace) -> None:
    """Print a row a technique."""
    data = te.data.load(args.data)
    images, labels = next(te.data.batches(data.train, args.batch))
    steps = {}
    for name, policies in TECHNIQUES.items():
        steps[name] = Training(args.model, data, RATE, policies=policies).step
        with warnings.catch_warnings():  # where nothing crosses as bits
            warnings.filterwarnings("ignore", message=".*matches no")
            for _ in range(2):
                steps[name](images, labels)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(args.rounds):
        for name in list(steps)[:: 1 - 2 * (i % 2)]:
            begun = time.thread_time()
            steps[name](images, labels)
            times[name].append(time.thread_time() - begun)
    first = next(iter(times))
    for name, step in steps.items():
        ratio = statistics.median(a / b for a, b in zip(times[name], times[first], strict=True))
        nbytes = step.plan(images, labels).peak_bytes
        print(f"{name:28} {nbytes / 1e6:8.2f} MB {1e3 * min(times[name]):8.1f} ms {ratio:6.3f}x")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("accuracy")
    command.add_argument("model")
    command.add_argument("data")
    command.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    command.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    command.add_argument("--steps", type=int, default=3000)
    command.set_defaults(run=accuracy)
    command = commands.add_parser("cost")
    command.add_argument("model")
    command.add_argument("data")
    command.add_argument("--batch", type=int, default=BATCH)
    command.add_argument("--rounds", type=int, default=20)
    command.set_defaults(run=cost)
    args = parser.parse_args()
    te.set_threads(1)
    args.run(args)


if __name__ == "__main__":
    sys.exit(main())
