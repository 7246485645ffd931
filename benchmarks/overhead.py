"""What Python costs in a training step of networks with many layers and next to no arithmetic.

A compiled step is one call of C, whose time grows with the kernels in it; what the line through the
times has left at no kernels is Python's, and the promise is under 30 microseconds. A plain loop
pays for each operation that it records, every time. Processor time of one thread, medians: other
work on the machine matters little.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

import tinygrad_edge as te
from tinygrad_edge import nn

STEPS = 300


def median(run: Callable[[], object]) -> float:
    """Median processor time of a call in seconds, after some that are not counted."""
    times = []
    for _ in range(STEPS + 20):
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    return statistics.median(times[20:])


def network(layers: int) -> nn.Module:
    """Convolutions with batch-norm and ReLU, two channels each."""
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.BatchNorm2d(2), nn.ReLU()]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(2 * 4 * 4, 10))


def main() -> None:
    """Print a line a network, and what is left at none."""
    te.set_threads(1)
    images, labels = np.ones((2, 2, 4, 4), np.float32), np.zeros(2, np.int32)
    calls, compiled = [], []
    print("layers  kernel calls  compiled us  plain loop us")
    for layers in (1, 2, 5, 10, 20):
        model = network(layers)
        optimizer = te.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

        def train(
            x: te.Tensor,
            y: te.Tensor,
            model: nn.Module = model,
            optimizer: te.optim.SGD = optimizer,
        ) -> te.Tensor:
            loss = te.functional.cross_entropy(model(x), y)
            optimizer.minimize(loss)
            return loss

        def plain(model: nn.Module = model, optimizer: te.optim.SGD = optimizer) -> None:
            loss = te.functional.cross_entropy(model(te.Tensor(images)), labels)
            loss.backward()
            optimizer.step()
            loss.item()

        step = te.compile(train)
        calls.append(len(step.plan(images, labels).calls))
        compiled.append(1e6 * median(lambda step=step: step(images, labels).item()))
        looped = 1e6 * median(plain)
        print(f"{layers:>6}  {calls[-1]:>12}  {compiled[-1]:>11.1f}  {looped:>13.0f}")
    each, python = np.polyfit(calls, compiled, 1)
    print(f"a compiled step: {python:.1f} us of Python and {each:.2f} us a call of a kernel")


if __name__ == "__main__":
    main()
