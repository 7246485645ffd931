"""How well networks with sparse weights learn: dense, static, and moved while they train.

A line of JSON a run: the same images in the same order for all of one seed, equal epochs, a rate
that falls to 0. Weights of the default layers are sparse, at the same density everywhere; they move
in the first three quarters of the run.
"""

import argparse
import json
import statistics
import time

import tinygrad_edge as te
from tinygrad_edge.cli.recipes import SPARSE_TRAINING

RATE = 0.02 / 32  # of one sample
WARMUP = 0.05
STATIC = "static"


def trained(
    model: str,
    data: te.data.Dataset,
    sparsity: float,
    moving: str,
    seed: int,
    epochs: int,
    batch: int,
) -> dict:
    """Train to the end; gives what came of it."""
    te.manual_seed(seed)
    net = getattr(te.models, model)(num_classes=data.num_classes, in_channels=data.image_shape[0])
    pool = te.sparse.sparsify(net, sparsity) if sparsity else None
    optimizer = te.optim.SGD(
        net.parameters(), lr=RATE * batch, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    steps = epochs * te.data.batch_count(len(data.train), batch, drop_last=True)
    warmup = round(WARMUP * steps)
    schedule = te.optim.CosineAnnealingLR(optimizer, steps - warmup, warmup=warmup)
    dynamic = None
    if pool is not None and moving != STATIC:
        dynamic = SPARSE_TRAINING[moving](pool, optimizer, steps)

    @te.compile
    def step(images: te.Tensor, labels: te.Tensor) -> te.Tensor:
        loss = te.functional.cross_entropy(net(images), labels)
        optimizer.minimize(loss)
        return loss

    begun, losses = time.perf_counter(), []
    for epoch in range(epochs):
        for images, labels in te.data.batches(
            data.train, batch, seed=seed, epoch=epoch, drop_last=True, augment=data.augmentation
        ):
            losses.append(step(images, labels).item())
            schedule.step()
            if dynamic is not None:
                dynamic.step()
    seconds = time.perf_counter() - begun
    peak = step.plan(images, labels).peak_bytes
    net.eval()
    classes = te.compile(lambda x: net(x))
    right = sum(
        int((classes(x).numpy().argmax(1) == y).sum())
        for x, y in te.data.batches(data.test, 250, shuffle=False)
    )
    return {
        "model": model,
        "data": data.name,
        "sparsity": sparsity,
        "moving": moving if sparsity else "dense",
        "seed": seed,
        "epochs": epochs,
        "batch": batch,
        "accuracy": round(100 * right / len(data.test), 2),
        "loss": round(statistics.fmean(losses[-100:]), 4),
        "peak_bytes": peak,
        "seconds": round(seconds),
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
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    te.set_threads(args.threads)
    data = te.data.load(args.data)
    for seed in args.seeds:
        for sparsity in args.sparsities:
            for moving in args.moving if sparsity else [STATIC]:
                run = trained(args.model, data, sparsity, moving, seed, args.epochs, args.batch)
                print(json.dumps(run), flush=True)


if __name__ == "__main__":
    main()
