"""What this machine can do at best, and what the calls of a step do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..compiled import CompiledStep
from ..plan import Call
from ..runtime import _ffi, native

__all__ = ["Cost", "Peak", "cost", "peak", "repeat", "times", "together"]

_PEAK_SECONDS = 1.0  # for each of the two
_CACHE = Path("/sys/devices/system/cpu/cpu0/cache")  # Linux says there what caches there are


def repeat(run: Callable[[], object], seconds: float, least: int = 3) -> list[float]:
    """Time a function again and again, for so many seconds and at least so often."""
    found: list[float] = []
    now = native.clock()
    end = time.perf_counter() + seconds
    while len(found) < least or time.perf_counter() < end:
        start = now()
        run()
        found.append(now() - start)
    return found


class Peak(NamedTuple):
    """What the machine can do at best with the threads and the instruction set in use."""

    flops: float  # a second, in registers
    bandwidth: float  # bytes a second, of arrays that no cache holds


def peak() -> Peak:
    """Measure independent multiply-adds, and STREAM's copy and add (McCalpin 1995)."""
    return Peak(_arithmetic(), _bandwidth())


def _arithmetic() -> float:
    count, rounds = 1 << 16, 1000
    x, y = np.zeros(count, np.float32), np.zeros(count, np.float32)
    params = _ffi.params("tge_multiply_add_params", {"count": count, "rounds": rounds})
    pointers = [_ffi.pointer(y, writable=True), _ffi.pointer(x)]
    seconds = repeat(partial(_ffi.call, "multiply_add_f32", pointers, params), _PEAK_SECONDS)
    return 2 * count * rounds / min(seconds)


def _large() -> int:
    """Floats of an array four times as large as the last cache, which is STREAM's rule."""
    sizes = [file.read_text().strip() for file in _CACHE.glob("index*/size")]
    kilobytes = [int(size[:-1]) for size in sizes if size.endswith("K")]
    return max(kilobytes, default=1 << 15) << 10


def _bandwidth() -> float:
    count = _large()
    arrays = [np.ones(count, np.float32) for _ in range(3)]
    c, b, a = (_ffi.pointer(array, writable=True) for array in arrays)
    ones = {"ndim": 1, "shape": [count]}
    copy = ones | {"itemsize": 4, "output_strides": [1], "input_strides": [1]}
    add = ones | {"op": "TGE_ADD", "inputs": 2, "strides": [[1], [1], [1]]}
    runs = (
        ("copy", [c, a], _ffi.params("tge_copy_params", copy)),
        ("elementwise_f32", [c, b, a], _ffi.params("tge_elementwise_params", add)),
    )
    found = []
    for name, pointers, params in runs:
        seconds = repeat(partial(_ffi.call, name, pointers, params), _PEAK_SECONDS / 2)
        found.append(4 * count * len(pointers) / min(seconds))
    return max(found)


class Cost(NamedTuple):
    """Time, arithmetic and least memory traffic of some calls."""

    calls: int
    seconds: float
    flops: int
    bytes: int

    def of_peak(self, peak: Peak) -> float:
        """Time that arithmetic or traffic take at best, whichever is longer, over that taken."""
        return max(self.flops / peak.flops, self.bytes / peak.bandwidth) / self.seconds


def together(costs: Iterable[Cost]) -> Cost:
    """Add costs up."""
    calls, seconds, flops, traffic = zip(*costs, strict=True)
    return Cost(sum(calls), sum(seconds), sum(flops), sum(traffic))


def cost(call: Call, seconds: float) -> Cost:
    """Cost of a call, or of a loop with all that it repeats."""
    if call.moves is not None:
        return Cost(1, seconds, 0, 2 * call.moves.nbytes)
    node = call.node
    kernels = node.op.kernel(node) if node.op.kernel else []
    parts = len(kernels) if isinstance(kernels, list) and kernels else 1  # calls of one node
    return Cost(1, seconds, node.op.flops(node) // parts, node.op.bytes(node) // parts)


def times(
    step: CompiledStep,
    batch: Sequence[np.ndarray],
    seconds: float,
    summary: Callable[[list[float]], float] = statistics.median,
) -> list[tuple[Call, float]]:
    """Time the calls of a step, over about as many runs as fit in some seconds."""
    once = sum(taken[0] for _, taken in step.time(*batch))
    runs = max(3, min(1000, int(seconds / max(once, 1e-6))))
    return [(call, summary(taken)) for call, taken in step.time(*batch, runs=runs)]
