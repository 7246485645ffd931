"""What `import tinygrad_edge` costs: seconds and resident memory, each in a fresh interpreter.

The promise is under 0.3 s, and under 12 MB above NumPy.
"""

import statistics
import subprocess
import sys
from typing import NamedTuple

PROBE = """
import time
start = time.perf_counter()
import {module}
seconds = time.perf_counter() - start
status = open("/proc/self/status").read().split()
print(seconds, int(status[status.index("VmRSS:") + 1]) * 1024)
"""


class Cost(NamedTuple):
    """Wall-clock seconds and resident bytes of an interpreter that imported one module."""

    seconds: float
    resident: int


def measure(module: str, runs: int = 5) -> Cost:
    """Median cost of one import over `runs` interpreters (Linux: it reads /proc)."""
    samples = []
    for _ in range(runs):
        command = [sys.executable, "-I", "-c", PROBE.format(module=module)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        samples.append([float(figure) for figure in output.split()])
    seconds, resident = (statistics.median(column) for column in zip(*samples, strict=True))
    return Cost(seconds, int(resident))


def main() -> None:
    """Print both imports and their difference."""
    numpy, package = measure("numpy"), measure("tinygrad_edge")
    for name, cost in ("numpy", numpy), ("tinygrad_edge", package):
        print(f"import {name:15}{cost.seconds:7.3f} s{cost.resident / 1e6:8.1f} MB resident")
    seconds, resident = package.seconds - numpy.seconds, package.resident - numpy.resident
    print(f"above numpy           {seconds:7.3f} s{resident / 1e6:8.1f} MB resident")


if __name__ == "__main__":
    main()
