"""Speed of the products and convolutions: GFLOP/s, share of the peak, bytes of workspace.

The figure is the best of many calls, and of one thread its processor time, so that other work on
the machine matters little. The peak is what one core does with independent multiply-adds in
registers; it is given, not measured. Flops are those of the direct sum: Winograd's filtering of
3 x 3 windows does the same in fewer, and its share of the peak exceeds 100 %.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinygrad_edge.runtime import _ffi

# m, n, k, transpose_a, transpose_b
PRODUCTS = [
    (512, 512, 512, 0, 0),
    (512, 512, 512, 1, 1),
    (512, 512, 64, 0, 0),
    (128, 128, 128, 0, 0),
    (64, 64, 64, 0, 0),
    (64, 512, 784, 0, 1),  # a dense layer: forward,
    (64, 784, 512, 0, 0),  # gradient by its input,
    (512, 784, 64, 1, 0),  # gradient by its weights
    (64, 10, 512, 0, 1),
    (1, 512, 512, 0, 0),
]
# samples, channels, outputs, size of the square map, of the window, stride
CONVOLUTIONS = [
    (16, 3, 32, 32, 3, 1),
    (16, 32, 32, 32, 3, 1),
    (16, 64, 64, 16, 3, 1),
    (16, 128, 128, 16, 3, 1),
    (16, 256, 256, 8, 3, 1),
    (16, 512, 512, 7, 3, 1),
    (8, 64, 64, 56, 3, 1),
    (8, 256, 256, 14, 3, 1),
    (16, 64, 128, 32, 3, 2),
    (16, 64, 64, 32, 1, 1),
    (16, 512, 512, 7, 1, 1),
    (16, 3, 32, 224, 3, 2),
    (32, 6, 16, 14, 5, 1),
]


def seconds_of(
    name: str, params: bytes, arrays: list[np.ndarray], budget: float
) -> tuple[float, int]:
    """Best time of one call within a budget of seconds, and the bytes of workspace."""
    nbytes = _ffi.workspace(name, params, _ffi.threads())
    operands = [_ffi.pointer(a, writable=True) for a in [*arrays, np.zeros(nbytes + 1, np.uint8)]]
    clock = time.thread_time if _ffi.threads() == 1 else time.perf_counter
    best, end = float("inf"), time.perf_counter() + budget
    while time.perf_counter() < end:
        start = clock()
        _ffi.call(name, operands, params)
        best = min(best, clock() - start)
    return best, nbytes


def normal(*shape: int) -> np.ndarray:
    """Random numbers: zeros would be faster on some processors."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def product_cases() -> Iterator[tuple[str, str, bytes, list[np.ndarray], int]]:
    """Yield label, kernel, params, arrays and flops of each product."""
    for m, n, k, transpose_a, transpose_b in PRODUCTS:
        fields = {"batch": 1, "m": m, "n": n, "k": k}
        fields |= {"transpose_a": transpose_a, "transpose_b": transpose_b}
        label = f"{m} x {n} x {k} {'nt'[transpose_a]}{'nt'[transpose_b]}"
        arrays = [normal(m * n), normal(m * k), normal(k * n)]
        params = _ffi.params("tge_matmul_params", fields)
        yield label, "matmul_f32", params, arrays, 2 * m * n * k


def conv2d_fields(n: int, c: int, k: int, size: int, window: int, stride: int) -> dict[str, int]:
    """Fields of a convolution with half padding, in the layout [C][N][H][W]."""
    pad = window // 2
    out = (size + 2 * pad - window) // stride + 1
    fields = {"n": n, "c": c, "k": k, "groups": 1}
    for axes, value in [("hw", size), ("rs", window), ("pq", out)]:
        fields |= dict.fromkeys(axes, value)
    for name, value in [("stride", stride), ("pad", pad), ("dilation", 1)]:
        fields |= {f"{name}_h": value, f"{name}_w": value}
    fields |= {"x_n_stride": size * size, "x_c_stride": n * size * size}
    fields |= {"y_n_stride": out * out, "y_c_stride": n * out * out}
    return fields


def convolution_cases() -> Iterator[tuple[str, str, bytes, list[np.ndarray], int]]:
    """Yield label, kernel, params, arrays and flops of each convolution and gradient."""
    for case in CONVOLUTIONS:
        f: Mapping[str, Any] = conv2d_fields(*case)
        x = normal(f["n"] * f["c"] * f["h"] * f["w"])
        y = normal(f["n"] * f["k"] * f["p"] * f["q"])
        w = normal(f["k"] * f["c"] * f["r"] * f["s"])
        n, c, k, size, window, stride = case
        label = f"{n} of {c} x {size} x {size} -> {k}, {window} x {window}"
        label += f" / {stride}" if stride > 1 else ""
        flops = 2 * y.size * c * window * window
        params = _ffi.params("tge_conv2d_params", f)
        yield label, "conv2d_f32", params, [y, x, w], flops
        if c > 3:  # nobody asks for the gradient of an image
            yield label, "conv2d_backward_data_f32", params, [x, y, w], flops
        yield label, "conv2d_backward_weights_f32", params, [w, x, y], flops


def main() -> None:
    """Print one line a kernel and shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--isa", choices=_ffi.isas(), default=_ffi.isa())
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", type=float, help="GFLOP/s of one core, for shares of it")
    parser.add_argument("--seconds", type=float, default=0.2, help="for each figure")
    chosen = parser.parse_args()
    _ffi.choose_isa(chosen.isa)
    _ffi.set_threads(chosen.threads)

    print(f"{chosen.isa}, {chosen.threads} thread(s)")
    for cases in (product_cases(), convolution_cases()):
        for label, kernel, params, arrays, flops in cases:
            best, nbytes = seconds_of(kernel, params, arrays, chosen.seconds)
            speed = flops / best / 1e9
            share = f"{speed / chosen.peak / chosen.threads:6.0%}" if chosen.peak else ""
            print(f"{label:38} {kernel:28} {speed:6.1f} GFLOP/s {share} {nbytes / 1024:6.0f} KiB")


if __name__ == "__main__":
    main()
