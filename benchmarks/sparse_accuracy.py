"""How well networks with sparse weights learn: dense, static, and moved while they train.

A line of JSON a run: the same images in the same order for all of one seed, equal epochs, a rate
that falls to 0. Weights of the default layers are sparse, at the same density everywhere unless
told otherwise; they move in the first three quarters of the run.
"""

import argparse
import json

from training import Training, endless

import tinygrad_edge as te
from tinygrad_edge.cli.recipes import OPTIMIZERS, SPARSE_TRAINING

#: The batch that rates are meant for: with SGD they grow with it.
USUAL_BATCH = 32
STATIC = "static"


def trained(
    model: str,
    data: te.data.Dataset,
    sparsity: float,
    moving: str,
    seed: int,
    epochs: int,
    batch: int,
    distribution: str,
    optimizer: str,
) -> dict:
    """Train to the end; gives what came of it."""
    rate = OPTIMIZERS[optimizer].lr * (batch / USUAL_BATCH if optimizer == "sgd" else 1)
    training = Training(
        model,
        data,
        rate,
        seed,
        sparsity=sparsity,
        distribution=distribution,
        optimizer=optimizer,
    )
    steps = epochs * te.data.batch_count(len(data.train), batch, drop_last=True)
    dynamic = None
    if training.pool is not None and moving != STATIC:
        dynamic = SPARSE_TRAINING[moving](training.pool, training.optimizer, steps)
    batches = endless(data, batch, seed, data.augmentation)
    end = training.to_the_end(batches, steps, dynamic and dynamic.step)
    return {
        "model": model,
        "data": data.name,
        "sparsity": sparsity,
        "moving": moving if sparsity else "dense",
        "distribution": distribution if sparsity else "",
        "seed": seed,
        "epochs": epochs,
        "batch": batch,
        "optimizer": optimizer,
        "accuracy": round(training.accuracy(data.test), 2),
        "loss": round(end.loss, 4),
        "peak_bytes": end.peak_bytes,
        "seconds": round(end.seconds),
    }


def main() -> None:
    """Print a line a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.0, 0.8, 0.9])
    parser.add_argument(
        "--moving",
        nargs="+",
        default=[STATIC, "set", "algorithm1", "rigl"],
        choices=[STATIC, *SPARSE_TRAINING],
    )
    parser.add_argument("--distribution", default="uniform", choices=["uniform", "erk"])
    parser.add_argument("--optimizer", default="sgd", choices=["sgd", "adam"])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    te.set_threads(args.threads)
    data = te.data.load(args.data)
    for seed in args.seeds:
        for sparsity in args.sparsities:
            for moving in args.moving if sparsity else [STATIC]:
                how = args.epochs, args.batch, args.distribution, args.optimizer
                run = trained(args.model, data, sparsity, moving, seed, *how)
                print(json.dumps(run), flush=True)


if __name__ == "__main__":
    main()
