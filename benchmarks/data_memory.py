"""Memory and speed of loading: a large folder of pictures, and the published data sets at hand.

Each data set is loaded in a fresh interpreter and trained on for some steps, with augmentation and
one batch made ahead. The promise is that a folder of 10,000 pictures trains within 64 MB of process
memory above the plan: `above` is the peak of the process since the package was imported, less the
peak of the plan. Linux only: it reads /proc.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import tinygrad_edge as te
from tinygrad_edge import nn

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10", "uci_har")
COLUMNS = ("load", "peak", "held", "plan", "above", "read", "augment")
CLASSES = 5
DISTINCT = 50  # pictures are drawn; the folder links to them again and again


def write_folder(root: Path, count: int) -> None:
    """Write JPEGs of 500 x 375 pixels: blots of colour, and noise that no codec can pack."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        path = root / f"class {number % CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        if number >= DISTINCT:
            first = number % DISTINCT
            os.link(root / f"class {first % CLASSES}" / f"{first}.jpg", path)
            continue
        blots = Image.fromarray(rng.integers(0, 256, (10, 13, 3), np.uint8)).resize((500, 375))
        noisy = np.asarray(blots) + rng.normal(0, 8, (375, 500, 3))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, quality=85)


def memory(field: str) -> float:
    """Give VmRSS or VmHWM, the peak, in MB."""
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index(f"{field}:") + 1]) * 1024 / 1e6


def throughput(dataset: te.data.Dataset, batch: int, seconds: float, **arguments: object) -> float:
    """Give images per second of making batches, and nothing else."""
    images, start = 0, time.perf_counter()
    with_all = te.data.batches(dataset.train, batch, **arguments)
    for _, labels in with_all:
        images += len(labels)
        if time.perf_counter() - start > seconds:
            break
    with_all.close()
    return images / (time.perf_counter() - start)


def probe(name: str, size: int | None, batch: int, steps: int) -> dict[str, float]:
    """Load and train in this process; give what it took."""
    imported = memory("VmRSS")
    start = time.perf_counter()
    dataset = te.data.load(name, size=size)
    result = {
        "load_seconds": time.perf_counter() - start,
        "load_peak": memory("VmHWM") - imported,
        "held": dataset.held_bytes / 1e6,
    }
    model = nn.Sequential(
        nn.Conv2d(dataset.image_shape[0], 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, dataset.num_classes),
    )
    optimizer = te.optim.SGD(model.parameters(), lr=0.01)

    @te.compile
    def step(images: te.Tensor, labels: te.Tensor) -> te.Tensor:
        loss = te.functional.cross_entropy(model(images), labels)
        optimizer.minimize(loss)
        return loss

    plan = step.plan(np.zeros((batch, *dataset.image_shape), np.float32), np.zeros(batch, np.int32))
    arguments = {"drop_last": True, "augment": dataset.augmentation, "prefetch": 1}
    done = 0
    for epoch in range(steps):
        for images, labels in te.data.batches(dataset.train, batch, epoch=epoch, **arguments):
            step(images, labels)
            del images, labels  # as train does
            done += 1
            if done == steps:
                break
        if done == steps:
            break
    result["plan"] = plan.peak_bytes / 1e6
    result["above_plan"] = memory("VmHWM") - imported - result["plan"]
    result["read"] = throughput(dataset, batch, 2)
    result["augmented"] = throughput(dataset, batch, 2, augment=dataset.augmentation)
    return result


def main() -> None:
    """Print a row for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=10_000, help="pictures in the folder")
    parser.add_argument("--size", type=int, nargs="+", default=[64, 224], help="of its images")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--probe", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        size = options.size[0] if len(options.size) == 1 else None
        print(json.dumps(probe(options.probe, size, options.batch, options.steps)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), options.images)
        rows = [(f"folder at {size}", folder, ["--size", str(size)]) for size in options.size]
        root = Path(os.environ.get("TINYGRAD_EDGE_DATA", "/nowhere"))
        rows += [(name, name, []) for name in NAMES if name == "digits" or root.is_dir()]
        rows += [(path.stem, str(path), []) for path in sorted(root.glob("*.npz"))]
        print(f"{'MB; images a second':25}" + "".join(f"{column:>9}" for column in COLUMNS))
        for label, name, size in rows:
            command = [sys.executable, __file__, "--probe", name, *size]
            command += ["--batch", str(options.batch), "--steps", str(options.steps)]
            output = subprocess.run(command, capture_output=True, text=True)
            if output.returncode:
                print(f"{label:25}{output.stderr.splitlines()[-1]}")
                continue
            row = json.loads(output.stdout)
            print(
                f"{label:25}{row['load_seconds']:8.1f}s{row['load_peak']:9.1f}{row['held']:9.2f}"
                f"{row['plan']:9.1f}{row['above_plan']:9.1f}{row['read']:9.0f}{row['augmented']:9.0f}"
            )


if __name__ == "__main__":
    main()
