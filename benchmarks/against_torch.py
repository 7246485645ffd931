"""Train small networks side by side with PyTorch: step times, memory, losses.

    pip install . torch && python benchmarks/against_torch.py [CASE ...] [--compile]

Each contender trains in a process of its own, so that neither thread pool nor memory is shared;
they take turns of some steps, while the others sleep on a pipe. All begin with the same weights
and see the same batches: SGD with momentum, the loss read after each step. Compared are

- the median step time. Work of others on the machine harms some libraries more than others (of
  two threads that wait for one another, the slower decides), so its share is shown: a figure
  beside more than some percent says little;
- the growth of the process: its highest resident memory while it steps, above what it had with its
  batches but without a model. Both libraries have then trained a small network, so that their
  code is loaded. Linux only: it is read from /proc;
- the first losses. Float32 computations differ by rounding, and training amplifies that. How much
  is seen from PyTorch itself, begun anew with each weight off by a relative 1e-6 at most, about
  the error of Winograd's filtering (docs/kernels.md): ours are equal within rounding when they are
  not further from PyTorch's than twice the furthest of these (or four units in the last place).
  The exit code is 1 where they are.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_edge as te

LR, MOMENTUM = 0.001, 0.9  # larger rates amplify rounding
LOSSES = 5  # compared at the beginning
BATCHES = 4  # different ones, again and again
TURN = 0.5  # seconds, unless a step is longer
NUDGES, NUDGE = 3, 1e-6  # how often and how far the weights are moved to see rounding's effect
ALLOWED = 2.0  # the furthest of three is near by luck at times
SPACING = 2.0**-23  # of float32 numbers, relative: losses may always differ by four of these


class Case(NamedTuple):
    """A model by its name in ``te.models``, and what it is trained on."""

    model: str
    batch: int
    shape: tuple[int, int, int]
    classes: int = 10


CASES = {
    "lenet28-b64": Case("lenet", 64, (1, 28, 28)),
    "lenet28-b1": Case("lenet", 1, (1, 28, 28)),
    "cnn32-b32": Case("cnn", 32, (3, 32, 32)),
    "patch32-b16": Case("mobilenet_v1_patch", 16, (3, 32, 32)),
    "mobilenet224-b16": Case("mobilenet_v1", 16, (3, 224, 224), 1000),
    "resnet50-224-b8": Case("resnet50", 8, (3, 224, 224), 1000),
    "resnet50-224-b32": Case("resnet50", 32, (3, 224, 224), 1000),
}
SMALL = Case("cnn", 2, (3, 8, 8))  # trained first, so that the code is loaded

Weights = dict[str, np.ndarray]
Batches = list[tuple[np.ndarray, np.ndarray]]
Step = Callable[[Any, Any], float]  # images, labels -> loss


class Turn(NamedTuple):
    """Some steps of a contender."""

    losses: list[float]
    seconds: list[float]
    used: float  # seconds of processor time
    growth: int  # bytes


@dataclass
class Result:
    """What a contender showed: its first losses, the times of later steps, its largest growth."""

    losses: list[float]
    seconds: list[float] = field(default_factory=list)
    growth: int = 0

    @property
    def median(self) -> float:
        """Milliseconds of a step."""
        return 1e3 * statistics.median(self.seconds)


# ---- contenders, each in its own process ----


def made(case: Case) -> tuple[Weights, Batches]:
    """Initial weights and batches of a case: the same in every process."""
    te.manual_seed(0)
    model = te.models.build(case.model, case.classes, case.shape[0])
    weights = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((case.batch, *case.shape), np.float32) for _ in range(BATCHES)]
    return weights, [(x, rng.integers(0, case.classes, case.batch, np.int32)) for x in images]


class Ours:
    """Compiled steps of this library."""

    def __init__(self, variant: str, threads: int) -> None:
        te.set_threads(threads)

    def batches(self, batches: Batches) -> Any:
        """Give the batches as a step takes them."""
        return batches

    def step(self, case: Case, weights: Weights) -> Step:
        """Make a model and what trains it."""
        model = te.models.build(case.model, case.classes, case.shape[0])
        model.load_state_dict(weights)
        optimizer = te.optim.SGD(model.parameters(), LR, MOMENTUM)

        @te.compile
        def step(images: te.Tensor, labels: te.Tensor) -> te.Tensor:
            loss = te.functional.cross_entropy(model(images), labels)
            optimizer.minimize(loss)
            return loss

        return lambda *batch: step(*batch).item()


class Torch:
    """Steps of PyTorch: eager; compile, all but the optimizer; channels-last, eager."""

    def __init__(self, variant: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.compiled = variant == "compile"
        last = variant == "channels-last"
        self.layout = torch.channels_last if last else torch.contiguous_format

    def batches(self, batches: Batches) -> Any:
        """Give the batches as a step takes them."""
        from torch import from_numpy

        return [
            (from_numpy(x).to(memory_format=self.layout), from_numpy(y).long()) for x, y in batches
        ]

    def step(self, case: Case, weights: Weights) -> Step:
        """Make a model and what trains it."""
        import torch
        import torch_models

        model = torch_models.MODELS[case.model](case.classes, case.shape[0])
        model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
        model.to(memory_format=self.layout)
        optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM)

        def forward(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(model(images), labels)

        if self.compiled:
            # Two networks come through here; sizes that changed would be compiled as variables.
            forward = torch.compile(forward, dynamic=False)

        def step(images: torch.Tensor, labels: torch.Tensor) -> float:
            optimizer.zero_grad()
            loss = forward(images, labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        return step


def resident(field: str) -> int:
    """Give VmRSS or VmHWM, the highest, in bytes."""
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index(f"{field}:") + 1]) * 1024


def contend(variant: str, case: Case, threads: int, orders: Connection) -> None:
    """Run as many steps as the other end of `orders` says, again and again until it says 0.

    Variant ``nudge N`` is eager PyTorch whose weights have been moved, the N-th time.
    """
    library = (Ours if variant == "ours" else Torch)(variant, threads)
    weights, batches = made(SMALL)
    step = library.step(SMALL, weights)
    for batch in library.batches(batches):
        step(*batch)
    weights, batches = made(case)
    if variant.startswith("nudge"):
        rng = np.random.default_rng(int(variant.split()[1]))
        nudged = {n: w * rng.uniform(1 - NUDGE, 1 + NUDGE, w.shape) for n, w in weights.items()}
        weights = {n: np.asarray(w, weights[n].dtype) for n, w in nudged.items()}
    batches = library.batches(batches)
    before = resident("VmRSS")
    step = library.step(case, weights)
    done = 0
    while count := orders.recv():
        losses, seconds, used = [], [], time.process_time()
        for number in range(done, done + count):
            start = time.perf_counter()
            losses.append(step(*batches[number % BATCHES]))
            seconds.append(time.perf_counter() - start)
        done += count
        orders.send(Turn(losses, seconds, time.process_time() - used, resident("VmHWM") - before))
        # The peak from here on: what the first steps needed once, to compile, is past.
        Path("/proc/self/clear_refs").write_text("5")


# ---- the parent ----


@contextmanager
def contender(variant: str, case: Case, threads: int) -> Iterator[Callable[[int], Turn]]:
    """Start a contender; gives the function that has it run so many steps."""
    context = multiprocessing.get_context("spawn")
    orders, theirs = context.Pipe()
    process = context.Process(target=contend, args=(variant, case, threads, theirs), daemon=True)
    process.start()
    if sys.stderr.isatty():
        print(f"{case.model}, batch {case.batch}: {variant}", file=sys.stderr)
    theirs.close()  # so that a contender that dies ends our wait

    def run(count: int) -> Turn:
        try:
            orders.send(count)
            return orders.recv()
        except (EOFError, ConnectionError):
            sys.exit(f"{variant} failed")

    yield run
    orders.send(0)
    process.join()


def busy_seconds() -> float:
    """Processor time that all of the machine has used, or that its host has withheld."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def compete(
    name: str, variants: list[str], threads: int, repeat: int
) -> tuple[dict[str, Result], float]:
    """Have all contenders train a case by turns; give also the load that others were."""
    case = CASES[name]
    results = {}
    for variant in (f"nudge {number}" for number in range(1, NUDGES + 1)):
        with contender(variant, case, threads) as run:
            results[variant] = Result(run(LOSSES).losses)
    with ExitStack() as stack:
        runs = {v: stack.enter_context(contender(v, case, threads)) for v in variants}
        counts = {}
        for variant, run in runs.items():
            first = run(LOSSES)
            results[variant] = Result(first.losses)
            counts[variant] = max(1, int(TURN / first.seconds[-1]))
        used, busy, start = 0.0, busy_seconds(), time.perf_counter()
        for _ in range(repeat):
            for variant, run in runs.items():
                turn, result = run(counts[variant]), results[variant]
                result.seconds += turn.seconds
                result.growth = max(result.growth, turn.growth)
                used += turn.used
        available = (time.perf_counter() - start) * (os.cpu_count() or 1)
        load = (busy_seconds() - busy - used) / available
    return results, max(0.0, load)


def distance(results: dict[str, Result], variant: str) -> float:
    """Largest difference of the first losses from PyTorch's, relative."""
    return max(
        abs(loss / other - 1)
        for loss, other in zip(results[variant].losses, results["eager"].losses, strict=True)
    )


def main() -> int:
    """Print two tables, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all")
    parser.add_argument("--compile", action="store_true", help="also against torch.compile")
    parser.add_argument("--channels-last", action="store_true", help="also against channels-last")
    parser.add_argument("--threads", type=int, default=2, help="of each contender (default: 2)")
    parser.add_argument("--repeat", type=int, default=10, help="turns of each (default: 10)")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    asked = {"compile": options.compile, "channels-last": options.channels_last}
    others = ["eager", *(variant for variant, wanted in asked.items() if wanted)]
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no helpers that stay beside the others

    found = {}
    print(f"{options.threads} threads; {os.cpu_count()} processors; others: their load meanwhile\n")
    print("| case | against | ours ms | its ms | ratio | ours MB | its MB | ratio | others |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for name in options.cases or CASES:
        results, load = compete(name, ["ours", *others], options.threads, options.repeat)
        found[name], own = results, results["ours"]
        for other in others:
            its = results[other]
            print(
                f"| {name} | {other} | {own.median:.2f} | {its.median:.2f} "
                f"| {own.median / its.median:.2f} | {own.growth / 1e6:.1f} "
                f"| {its.growth / 1e6:.1f} | {own.growth / its.growth:.2f} | {load:.0%} |",
                flush=True,
            )
    print("\n| case | losses of | " + " | ".join(f"step {i + 1}" for i in range(LOSSES)), end="")
    print(" | from eager |\n|---|---|" + "--:|" * (LOSSES + 1))
    wrong = []
    for name, results in found.items():
        for variant in ("ours", *others, *(v for v in results if v.startswith("nudge"))):
            losses = " | ".join(f"{loss:.7f}" for loss in results[variant].losses)
            print(f"| {name} | {variant} | {losses} | {distance(results, variant):.1e} |")
        furthest = max(distance(results, v) for v in results if v.startswith("nudge"))
        if not distance(results, "ours") <= max(ALLOWED * furthest, 4 * SPACING):
            wrong.append(name)
    print(
        f"\nlosses: {'not equal within rounding: ' if wrong else 'equal within rounding'}", end=""
    )
    print(", ".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
