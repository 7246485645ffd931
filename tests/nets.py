"""Random networks as data, built by any library that has PyTorch's layers under PyTorch's names.

Used by ``test_random_nets.py`` (native against the reference) and by ``against_torch.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_edge as te
import tinygrad_edge.functional as F
from tinygrad_edge import runtime
from tinygrad_edge.runtime import reference
from tinygrad_edge.testing import functional_call

Choose = Callable[[Sequence], Any]
#: A layer's name and arguments, or that of a block and the layers of its parts.
Layer = tuple[str, Any]
Image = tuple[int, int, int]


@dataclass(frozen=True)
class Net:
    """Layers from images [N, C, H, W] to scores of classes, and the loss on them."""

    images: tuple[int, int, int, int]
    layers: tuple[Layer, ...]
    classes: int
    smoothing: float
    weighted: bool
    seed: int


# ---- drawing ----


def draw_net(choose: Choose) -> Net:
    """A network; ``choose`` picks one of several options."""
    n, c = choose([2, 3, 4]), choose([1, 2, 3])
    shape = (c, choose(range(5, 10)), choose(range(5, 10)))
    layers, (c, h, w) = _stack(choose, n, shape, choose(range(1, 7)), list(_LAYERS))
    classes = choose([2, 3, 10])
    if choose([True, False]):
        layers.append(("AdaptiveAvgPool2d", {"output_size": 1}))
        h = w = 1
    layers.append(("Flatten", {}))
    features = c * h * w
    if choose([True, False]):
        layers.append(("Linear", {"in_features": features, "out_features": 8}))
        layers.append((choose(_ACTIVATIONS), {}))
        features = 8
    layers.append(("Linear", {"in_features": features, "out_features": classes}))
    smoothing, weighted = choose([0.0, 0.1]), choose([True, False])
    return Net((n, *shape), tuple(layers), classes, smoothing, weighted, choose(range(1000)))


def _stack(
    choose: Choose, n: int, shape: Image, count: int, kinds: list[str]
) -> tuple[list[Layer], Image]:
    layers = []
    for _ in range(count):
        layer, shape = _LAYERS[choose(kinds)](choose, n, shape)
        layers.append(layer)
    return layers, shape


def _span(size: int, window: int, stride: int, padding: int, dilation: int = 1) -> int:
    return (size + 2 * padding - dilation * (window - 1) - 1) // stride + 1


def _convolve(choose: Choose, shape: Image, out: int, groups: int) -> tuple[Layer, Image]:
    c, h, w = shape
    window = (choose([1, 2, 3]), choose([1, 2, 3]))
    stride, padding, dilation = choose([1, 1, 2]), choose([0, 1]), choose([1, 1, 2])
    if min(_span(size, 3, stride, padding, dilation) for size in (h, w)) < 1:
        window, padding = (1, 1), 0
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    sizes = {"in_channels": c, "out_channels": out, "kernel_size": window}
    h, w = (_span(s, r, stride, padding, dilation) for s, r in zip((h, w), window, strict=True))
    return ("Conv2d", {**sizes, **attrs, "bias": choose([True, False])}), (out, h, w)


def _conv(choose: Choose, n: int, shape: Image) -> tuple[Layer, Image]:
    groups = choose([g for g in (1, 2, 3) if shape[0] % g == 0])
    return _convolve(choose, shape, groups * choose([1, 2, 3]), groups)


def _wide(choose: Choose, n: int, shape: Image) -> tuple[Layer, Image]:
    """Two convolutions of enough channels for Winograd's filtering."""
    attrs = {"kernel_size": 3, "padding": 1, "bias": False}
    sizes = ((shape[0], 16), (16, 16))
    layers = (("Conv2d", {"in_channels": c, "out_channels": k, **attrs}) for c, k in sizes)
    return ("Stack", (tuple(layers),)), (16, *shape[1:])


def _depthwise(choose: Choose, n: int, shape: Image) -> tuple[Layer, Image]:
    return _convolve(choose, shape, shape[0] * choose([1, 2]), shape[0])


def _batch_norm(choose: Choose, n: int, shape: Image) -> tuple[Layer, Image]:
    if n * shape[1] * shape[2] < 8:  # of so few values, the result hardly depends on them
        return ("Identity", {}), shape
    return ("BatchNorm2d", {"num_features": shape[0]}), shape


def _group_norm(choose: Choose, n: int, shape: Image) -> tuple[Layer, Image]:
    if shape[1] * shape[2] < 8:
        return ("Identity", {}), shape
    groups = choose([g for g in (1, 2, 3) if shape[0] % g == 0])
    return ("GroupNorm", {"num_groups": groups, "num_channels": shape[0]}), shape


_ACTIVATIONS = ["ReLU", "ReLU6", "Hardswish", "Tanh", "Sigmoid"]


def _activation(choose: Choose, n: int, shape: Image) -> tuple[Layer, Image]:
    return (choose(_ACTIVATIONS), {}), shape


def _pool(choose: Choose, n: int, shape: Image) -> tuple[Layer, Image]:
    c, h, w = shape
    window = min(choose([2, 3]), h, w)
    attrs = {"kernel_size": window, "stride": choose([1, 2]), "padding": choose([0, window // 2])}
    h, w = (_span(size, *attrs.values()) for size in (h, w))
    if choose([True, False]):
        return ("MaxPool2d", attrs), (c, h, w)
    return ("AvgPool2d", {**attrs, "count_include_pad": choose([True, False])}), (c, h, w)


def _dropout(choose: Choose, n: int, shape: Image) -> tuple[Layer, Image]:
    return ("Dropout", {"p": choose([0.1, 0.5])}), shape


def _pointwise(choose: Choose, shape: Image, out: int) -> Layer:
    """A convolution that keeps height and width."""
    window = choose([1, 3])
    sizes = {"in_channels": shape[0], "out_channels": out, "kernel_size": window}
    return ("Conv2d", {**sizes, "padding": window // 2, "bias": choose([True, False])})


def _inside(choose: Choose, n: int, shape: Image, out: int) -> tuple[Layer, ...]:
    """A few layers that keep height and width."""
    kinds = ["batch_norm", "activation", "dropout"]
    before, _ = _stack(choose, n, shape, choose([0, 1]), kinds)
    after, _ = _stack(choose, n, (out, *shape[1:]), choose([0, 1, 2]), kinds)
    return (*before, _pointwise(choose, shape, out), *after)


def _residual(choose: Choose, n: int, shape: Image) -> tuple[Layer, Image]:
    return ("Residual", (_inside(choose, n, shape, shape[0]),)), shape


def _concat(choose: Choose, n: int, shape: Image) -> tuple[Layer, Image]:
    outs = choose([(1, 2), (2, 2), (3, 1)])
    return ("Concat", tuple(_inside(choose, n, shape, out) for out in outs)), (
        sum(outs),
        *shape[1:],
    )


_LAYERS: dict[str, Callable[..., tuple[Layer, Image]]] = {
    "conv": _conv,
    "wide": _wide,
    "depthwise": _depthwise,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "activation": _activation,
    "pool": _pool,
    "dropout": _dropout,
    "residual": _residual,
    "concat": _concat,
}


# ---- building ----


def build(
    net: Net, nn: Any, concatenate: Callable[[list], Any], dropout: Callable[[float], Any]
) -> Any:
    """The network as a module of a library.

    Parameters
    ----------
    net : Net
    nn : module
        Has Module, Sequential and the layers, by PyTorch's names.
    concatenate : callable
        Joins a list of tensors along the channels.
    dropout : callable
        Makes the dropout layer of a probability.
    """

    class Residual(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body

        def forward(self, x):
            return x + self.body(x)

    class Concat(nn.Module):
        def __init__(self, left, right):
            super().__init__()
            self.left, self.right = left, right

        def forward(self, x):
            return concatenate([self.left(x), self.right(x)])

    blocks = {"Residual": Residual, "Concat": Concat, "Stack": nn.Sequential}

    def stack(layers):
        return nn.Sequential(*(layer(name, inside) for name, inside in layers))

    def layer(name, inside):
        if isinstance(inside, tuple):
            return blocks[name](*map(stack, inside))
        return dropout(**inside) if name == "Dropout" else getattr(nn, name)(**inside)

    return stack(net.layers)


def build_here(net: Net) -> te.nn.Module:
    """The network as a module of this library."""
    return build(net, te.nn, lambda parts: F.concatenate(parts, axis=1), te.nn.Dropout)


@dataclass(frozen=True)
class Data:
    """Float64 parameters by name, images, labels, class weights."""

    parameters: dict[str, np.ndarray]
    images: np.ndarray
    labels: np.ndarray
    class_weights: np.ndarray | None

    def rounded(self) -> Data:
        """Every number to the nearest float32."""
        return self.each(lambda a: a.astype(np.float32))

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> Data:
        """Change parameters, images and weights."""
        parameters = {name: change(a) for name, a in self.parameters.items()}
        weights = None if self.class_weights is None else change(self.class_weights)
        return Data(parameters, change(self.images), self.labels, weights)


def draw_data(net: Net) -> Data:
    """Numbers for a network, all exact in float32, with signals of order one."""
    rng = np.random.default_rng(net.seed)

    def number(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) > 1:
            return rng.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape)
        return rng.uniform(0.5, 1.5, shape) - (0 if name.endswith("weight") else 1)

    parameters = {n: number(n, p.shape) for n, p in build_here(net).named_parameters()}
    images = rng.normal(0, 1, net.images)
    labels = rng.integers(0, net.classes, net.images[0]).astype(np.int32)
    weights = rng.uniform(0.5, 2, net.classes) if net.weighted else None
    return Data(parameters, images, labels, weights).rounded().each(np.float64)


def loss_of(net: Net, scores: te.Tensor, data: Data) -> te.Tensor:
    """The net's loss."""
    return F.cross_entropy(scores, data.labels, data.class_weights, net.smoothing)


def run(net: Net, data: Data) -> dict[str, np.ndarray]:
    """Loss and all gradients, in the present runtime and the precision of the data."""
    model = build_here(net)
    te.manual_seed(net.seed)  # the same dropout in every run
    tensors = {n: te.Tensor(a, requires_grad=True) for n, a in data.parameters.items()}
    images = te.Tensor(data.images, requires_grad=True)
    loss = loss_of(net, functional_call(model, tensors, images), data)
    loss.backward()
    grads = {n: t.grad for n, t in (*tensors.items(), ("images", images))}
    return {"loss": loss.numpy(), **{n: g.numpy() for n, g in grads.items()}}


# ---- how much float32 may differ ----

U = 2.0**-24  # the relative error of one rounding to float32
BLUR = 64  # roundings by which each result of an op is moved


@contextmanager
def blurred(seed: int) -> Iterator[None]:
    """Let every result of the numpy runtime be off by up to BLUR roundings, at random."""
    exact = reference.Executable._results
    rng = np.random.default_rng(seed)

    def results(self, node, state):
        for y in exact(self, node, state):
            yield y * (1 + BLUR * U * rng.uniform(-1, 1, y.shape)) if y.dtype.kind == "f" else y

    reference.Executable._results = results
    try:
        yield
    finally:
        reference.Executable._results = exact


def exact_and_allowed(net: Net, data: Data) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Loss and gradients in float64, and by how much a float32 run may be off in each.

    Allowed is what blurred runs are off by (stochastic arithmetic, Vignes 1993): it follows the
    condition of the network, and opens where rounding may turn a kink. Added are 8 roundings of the
    largest gradient, for what cancels inside one op. On 500 drawn networks the native runtime came
    to 0.42 of it at worst, and to 0.008 in the median.
    """
    with runtime.use("numpy"):
        exact = run(net, data)
        largest = max(np.abs(g).max(initial=0) for name, g in exact.items() if name != "loss")
        allowed = dict.fromkeys(exact, 8 * U * largest)
        for seed in range(3):
            with blurred(seed):
                moved = run(net, data)
            for name, e in exact.items():
                error = np.abs(moved[name] - e).max(initial=0)
                allowed[name] = max(allowed[name], 8 * U * largest + error)
    return exact, allowed
