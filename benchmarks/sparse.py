"""Convolutions and whole steps with sparse weights beside our dense ones, and beside PyTorch's.

``layers`` times the three products of each layer, sparse and dense in turns, and prints medians and
how many times faster the sparse ones are. ``against-torch`` times the convolutions of ResNet-18,
forward and backward, in turns with PyTorch's dense ones on one thread, and prints the speed-up that
SparseProp (Nikdan et al., ICML 2023) published for each beside ours. ``steps`` times whole training
steps by the default policies, with dense and with sparse weights in turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from training import training_step

import tinygrad_edge as te
from tinygrad_edge.dtypes import of_array
from tinygrad_edge.graph import emit, new_input
from tinygrad_edge.op import OPS, TensorType
from tinygrad_edge.runtime import _ffi


class Layer(NamedTuple):
    """A convolution of N images of C channels to K, with square windows and maps."""

    n: int
    c: int
    k: int
    size: int
    window: int
    stride: int

    def __str__(self) -> str:
        if self.size == 1:
            return f"{self.n} of {self.c} -> {self.k}, linear"
        step = f" / {self.stride}" if self.stride > 1 else ""
        window = f"{self.window} x {self.window}{step}"
        return f"{self.n} of {self.c} x {self.size} x {self.size} -> {self.k}, {window}"

    def out(self) -> int:
        """Height and width of the output."""
        return (self.size + 2 * (self.window // 2) - self.window) // self.stride + 1

    def fields(self) -> dict:
        """Of ``tge_conv2d_params``."""
        out, pad, plane = self.out(), self.window // 2, self.size**2
        return {
            **{"n": self.n, "c": self.c, "h": self.size, "w": self.size, "k": self.k},
            **{"r": self.window, "s": self.window, "p": out, "q": out, "groups": 1},
            **{"stride_h": self.stride, "stride_w": self.stride, "pad_h": pad, "pad_w": pad},
            **{"dilation_h": 1, "dilation_w": 1},
            **{"x_n_stride": self.c * plane, "x_c_stride": plane},
            **{"y_n_stride": self.k * out * out, "y_c_stride": out * out},
        }


LAYERS = (
    Layer(16, 64, 64, 56, 1, 1),
    Layer(16, 64, 256, 56, 1, 1),
    Layer(16, 256, 64, 56, 1, 1),
    Layer(16, 128, 512, 28, 1, 1),
    Layer(16, 256, 256, 14, 1, 1),
    Layer(16, 512, 512, 14, 1, 1),
    Layer(16, 512, 512, 7, 1, 1),
    Layer(16, 64, 64, 56, 3, 1),
    Layer(16, 128, 128, 28, 3, 1),
    Layer(16, 256, 256, 14, 3, 1),
    Layer(16, 512, 512, 7, 3, 1),
    Layer(16, 64, 128, 56, 3, 2),
    Layer(16, 256, 512, 14, 3, 2),
    Layer(16, 64, 128, 56, 1, 2),
    Layer(16, 256, 512, 14, 1, 2),
    Layer(16, 512, 512, 1, 1, 1),
    Layer(128, 512, 512, 1, 1, 1),
)

#: ResNet-18 at 224 x 224: channels in and out, map, window, stride; SparseProp's speed-up at 95 %.
RESNET18 = (
    (64, 64, 56, 3, 1, 2.87),
    (128, 128, 28, 3, 1, 2.02),
    (256, 256, 14, 3, 1, 1.73),
    (512, 512, 7, 3, 1, 2.60),
    (64, 128, 56, 3, 2, 0.73),
    (128, 256, 28, 3, 2, 1.17),
    (256, 512, 14, 3, 2, 1.78),
    (64, 128, 56, 1, 2, 0.31),
    (128, 256, 28, 1, 2, 0.56),
    (256, 512, 14, 1, 2, 0.67),
)
PRODUCTS = ("forward", "data", "weights")


def aligned(count: int, dtype: type = np.float32) -> np.ndarray:
    """Zeros that begin on a cache line, as the arena's values do."""
    room = np.zeros(count * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + count * np.dtype(dtype).itemsize].view(dtype)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal numbers that begin on a cache line."""
    x = aligned(int(np.prod(shape))).reshape(shape)
    x[...] = rng.standard_normal(shape, np.float32)
    return x


def caller(name: str, struct: str, fields: dict, *operands: np.ndarray) -> Callable[[], int]:
    """A call of one kernel with workspace for the threads in use."""
    params = _ffi.params(struct, fields)
    pointers = [_ffi.pointer(array, writable=True) for array in operands]
    pointers.append(_ffi.pointer(aligned(_ffi.workspace(name, params, _ffi.threads()), np.uint8)))
    return lambda: _ffi.call(name, pointers, params)


def sparse_caller(op: str, attrs: dict, out: np.ndarray, *operands: np.ndarray) -> Callable:
    """A call of the kernel that a network's layer would run."""
    inputs = (new_input(TensorType(a.shape, of_array(a))) for a in operands)
    node = emit(OPS[op], *inputs, **attrs)
    kernel = node.op.kernel(node)
    return caller(kernel.name, kernel.struct, kernel.params, out, *operands)


def products(layer: Layer, sparsity: float) -> dict[str, tuple[Callable, Callable]]:
    """For each product its sparse call and its dense one, on the same numbers."""
    rng = np.random.default_rng(0)
    x = normal(rng, layer.n, layer.c, layer.size, layer.size)
    y = normal(rng, layer.n, layer.k, layer.out(), layer.out())
    w = normal(rng, layer.k, layer.c * layer.window**2)
    w[rng.random(w.shape) < sparsity] = 0
    values, (row, column) = w[w != 0], np.nonzero(w)
    pool = aligned(len(values))
    pool[...] = values
    columns = aligned(len(values), np.uint16)
    columns[...] = column
    index = columns, np.searchsorted(row, np.arange(layer.k + 1)).astype(np.int32)
    pruned = {
        **{"weight_shape": (layer.k, layer.c, layer.window, layer.window)},
        **{"first_row": 0, "nonzeros": len(values), "dilation": (1, 1)},
        **{"stride": (layer.stride,) * 2, "padding": (layer.window // 2,) * 2},
    }
    conv, dense = layer.fields(), "tge_conv2d_params"
    forward, data, weights = "conv2d", "conv2d_backward_data", "conv2d_backward_weights"
    accumulate = "sparse_conv2d_accumulate_weights"
    g = aligned(len(values))
    to_x = {**pruned, "shape": x.shape}
    return {
        "forward": (
            sparse_caller(f"sparse_{forward}", pruned, y.copy(), x, pool, *index),
            caller(f"{forward}_f32", dense, conv, y.copy(), x, w),
        ),
        "data": (
            sparse_caller(f"sparse_{data}", to_x, x.copy(), y, pool, *index),
            caller(f"{data}_f32", dense, conv, x.copy(), y, w),
        ),
        "weights": (
            sparse_caller(accumulate, pruned, g, g, x, y, *index),
            caller(f"{weights}_f32", dense, conv, w.copy(), x, y),
        ),
    }


def in_turns(calls: Sequence[Callable], seconds: float) -> list[float]:
    """Median seconds of each call; they take turns until about `seconds` have passed.

    On one thread, seconds of the processor, which others' work disturbs less.
    """
    clock = time.thread_time if _ffi.threads() == 1 else time.perf_counter
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 3:
        for call, taken in zip(calls, times, strict=True):
            start = clock()
            call()
            taken.append(clock() - start)
    return [statistics.median(taken) for taken in times]


def layers(options: argparse.Namespace) -> None:
    """Print our sparse products beside our dense ones."""
    chosen = [p for p in PRODUCTS if p in options.products]
    heads = "".join(f"{name + ' ms':>16}{'ratio':>7}" for name in chosen)
    print(f"{'layer':<38}{'sparsity':>8}{heads}{'all':>7}")
    for layer in LAYERS:
        if options.layer not in str(layer):
            continue
        for sparsity in options.sparsity:
            row, ours, theirs = "", 0.0, 0.0
            for name, calls in products(layer, sparsity).items():
                if name in chosen:
                    a, b = in_turns(calls, options.seconds)
                    row += f"{f'{a * 1e3:.2f} / {b * 1e3:.2f}':>16}{b / a:>7.2f}"
                    ours, theirs = ours + a, theirs + b
            print(f"{layer!s:<38}{sparsity:>8.0%}{row}{theirs / ours:>7.2f}", flush=True)


def against_torch(options: argparse.Namespace) -> None:
    """Print our sparse layers beside PyTorch's dense ones."""
    import torch

    torch.set_num_threads(options.threads)
    head = f"{'layer':<38}{'ms':>9}{'PyTorch ms':>12}{'faster':>8}{'SparseProp':>12}"
    print(f"{head}   at {options.sparsity[0]:.0%}")
    for c, k, size, window, stride, published in RESNET18:
        layer = Layer(options.batch, c, k, size, window, stride)
        calls = [sparse for sparse, _ in products(layer, options.sparsity[0]).values()]
        x = torch.randn(layer.n, c, size, size, requires_grad=True)
        gradient = torch.randn(layer.n, k, layer.out(), layer.out())
        dense = torch.nn.Conv2d(c, k, window, stride, window // 2, bias=False)

        def theirs(dense=dense, x=x, gradient=gradient) -> None:
            x.grad = dense.weight.grad = None
            dense(x).backward(gradient)

        def ours(calls=calls) -> None:
            for call in calls:
                call()

        a, b = in_turns([ours, theirs], options.seconds)
        print(
            f"{layer!s:<38}{a * 1e3:>9.2f}{b * 1e3:>12.2f}{b / a:>8.2f}{published:>12.2f}",
            flush=True,
        )


#: Models, with the batch of a step on images of 224 by 224.
STEPS = {"mobilenet_v1": 16, "resnet50": 8}


def steps(options: argparse.Namespace) -> None:
    """Print whole steps, SGD with momentum."""
    rng = np.random.default_rng(0)
    for name, batch in STEPS.items():
        images = rng.standard_normal((batch, 3, 224, 224)).astype(np.float32)
        labels = np.arange(batch, dtype=np.int32)
        taken: dict[float, list[float]] = {s: [] for s in (0.0, *options.sparsity)}
        made = {sparsity: step_of(name, sparsity) for sparsity in taken}
        for _ in range(options.repeat + 1):
            for sparsity, step in made.items():
                start = time.perf_counter()
                step(images, labels).item()
                taken[sparsity].append(time.perf_counter() - start)
        dense, *sparse = (statistics.median(times[1:]) for times in taken.values())
        print(f"{batch} of {name}: dense {dense * 1e3:.0f} ms", end="")
        for sparsity, seconds in zip(options.sparsity, sparse, strict=True):
            print(f", {sparsity:.0%} zeros {seconds * 1e3:.0f} ms {dense / seconds:.2f}x", end="")
        print(flush=True)


def step_of(name: str, sparsity: float) -> te.CompiledStep:
    """A step of a model with so many zeros."""
    model = te.models.build(name, num_classes=1000, in_channels=3)
    optimizer = te.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    if sparsity:
        te.sparse.sparsify(model, sparsity, optimizer=optimizer)
    return training_step(model, optimizer)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, run, sparsity, threads in (
        ("layers", layers, [0.8, 0.9, 0.95], 2),
        ("against-torch", against_torch, [0.95], 1),
        ("steps", steps, [0.8, 0.9], 2),
    ):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--sparsity", type=float, nargs="+", default=sparsity)
        command.add_argument("--threads", type=int, default=threads)
        if run is steps:
            command.add_argument("--repeat", type=int, default=6, help="timed steps of each")
            continue
        command.add_argument("--seconds", type=float, default=1.0, help="for each comparison")
        if run is layers:
            command.add_argument("--layer", default="", help="only those whose name has this")
            command.add_argument("--products", nargs="+", choices=PRODUCTS, default=PRODUCTS)
        else:
            command.add_argument("--batch", type=int, default=64)
    options = parser.parse_args(arguments)
    _ffi.set_threads(options.threads)
    options.run(options)


if __name__ == "__main__":
    main()
