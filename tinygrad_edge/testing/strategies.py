"""Hypothesis strategies for shapes, arrays, convolutions and pools.

Contents of arrays come from a drawn seed and not element by element: that is fast at any size, and
what shrinks is the shape.

Examples
--------
>>> import numpy as np
>>> from hypothesis import given
>>> import tinygrad_edge as te
>>> from tinygrad_edge.testing import strategies as tst
>>> @given(tst.arrays(tst.shapes()))
... def test_relu_is_not_negative(x):
...     assert (te.functional.relu(x).numpy() >= 0).all()
>>> test_relu_is_not_negative()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

__all__ = [
    "ConvConfig",
    "PoolConfig",
    "SPECIAL",
    "arrays",
    "broadcastable_shapes",
    "conv2d_configs",
    "pool2d_configs",
    "shapes",
]

Shape = tuple[int, ...]
Pair = tuple[int, int]

_MAX, _TINY = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
#: Floats at which functions behave apart: zeros, ones, infinities, NaN, the ends of float32.
SPECIAL = (*(s * v for v in (0.0, 1.0, np.inf, _MAX, _TINY, 2.0**-149) for s in (1, -1)), np.nan)


def shapes(
    min_dims: int = 0, max_dims: int = 4, min_side: int = 0, max_side: int = 6
) -> st.SearchStrategy[Shape]:
    """Shapes, 0-d and empty ones among them.

    Parameters
    ----------
    min_dims, max_dims : int
        Number of axes.
    min_side, max_side : int
        Size of each axis.
    """
    sides = st.integers(min_side, max_side)
    return st.lists(sides, min_size=min_dims, max_size=max_dims).map(tuple)


@st.composite
def broadcastable_shapes(
    draw: st.DrawFn, count: int = 2, max_dims: int = 4, max_side: int = 6
) -> tuple[Shape, ...]:
    """Shapes that broadcast against one another.

    Parameters
    ----------
    count : int
        How many.
    max_dims, max_side : int
        Limits of the shape they broadcast to.
    """
    whole = draw(shapes(0, max_dims, 0, max_side))
    found = []
    for _ in range(count):
        lead = draw(st.integers(0, len(whole)))
        found.append(tuple(draw(st.sampled_from([n, 1])) for n in whole[lead:]))
    return tuple(found)


@st.composite
def arrays(
    draw: st.DrawFn,
    shape: Shape | st.SearchStrategy[Shape],
    dtype: Any = np.float32,
    low: float = -2.0,
    high: float = 2.0,
    special: bool = False,
    strided: bool = False,
) -> np.ndarray:
    """Arrays of uniform numbers.

    Parameters
    ----------
    shape : tuple of int, or a strategy for one
    dtype : dtype
    low, high : float
        Bounds; of integers both are included.
    special : bool
        Whether some elements are zeros, infinities, NaN, or at the ends of the range (floats only).
    strided : bool
        Whether the memory may have gaps, another order of axes, or steps backwards.
    """
    sizes = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = np.dtype(dtype).kind
    if kind == "f":
        array = rng.uniform(low, high, sizes).astype(dtype)
    elif kind == "b":
        array = rng.integers(0, 2, sizes).astype(dtype)
    else:
        array = rng.integers(int(low), int(high), sizes, np.int64, endpoint=True).astype(dtype)
    if special and kind == "f" and array.size:
        chosen = rng.random(array.shape) < draw(st.sampled_from([0.5, 0.0, 1.0]))
        with np.errstate(over="ignore"):
            array = np.where(chosen, np.array(rng.choice(SPECIAL, array.shape), dtype), array)
    if strided and array.ndim and draw(st.booleans()):
        order = draw(st.permutations(range(array.ndim)))
        array = _spread(array, order, draw(st.sampled_from([2, -1, -3])))
    return array


def _spread(array: np.ndarray, order: Sequence[int], step: int) -> np.ndarray:
    """The same elements in another layout: axes in another order, gaps between, maybe backwards."""
    room = [array.shape[a] * abs(step) for a in order]
    view = np.zeros(room, array.dtype)[(slice(None, None, step),) * array.ndim]
    view = view.transpose(np.argsort(order))
    view[...] = array
    return view


def _pairs(low: int, high: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def _output(size: int, window: int, stride: int, padding: int, dilation: int = 1) -> int:
    return (size + 2 * padding - dilation * (window - 1) - 1) // stride + 1


def _sides(
    draw: st.DrawFn, window: Pair, padding: Pair, most: int, dilation: Pair = (1, 1)
) -> Shape:
    """Height and width with room for at least one window, and up to `most` more."""
    spans = (d * (r - 1) + 1 - 2 * p for r, p, d in zip(window, padding, dilation, strict=True))
    return tuple(max(1, span) + draw(st.integers(0, most)) for span in spans)


@dataclass(frozen=True)
class ConvConfig:
    """A convolution: shapes of image and weights, and its attributes."""

    x_shape: Shape
    w_shape: Shape
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @property
    def y_shape(self) -> Shape:
        """Shape of the output."""
        window, attrs = self.w_shape[2:], (self.stride, self.padding, self.dilation)
        sizes = zip(self.x_shape[2:], window, *attrs, strict=True)
        return (self.x_shape[0], self.w_shape[0], *(_output(*s) for s in sizes))

    @property
    def attrs(self) -> dict[str, Any]:
        """Keyword arguments of ``functional.conv2d``."""
        return {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}


@st.composite
def conv2d_configs(
    draw: st.DrawFn,
    depthwise: bool | None = None,
    max_channels: int = 4,
    max_window: int = 3,
    max_side: int = 5,
) -> ConvConfig:
    """Convolutions that fit, with every attribute varied.

    Parameters
    ----------
    depthwise : bool, optional
        Whether there are several groups of one input channel each; both kinds by default.
    max_channels : int
        Of input and output in a group; depthwise, the number of groups.
    max_window : int
        Of height and width.
    max_side : int
        How much the image may exceed the window.
    """
    if draw(st.booleans()) if depthwise is None else depthwise:
        groups, channels = draw(st.integers(2, max(2, max_channels))), 1
        outputs = draw(st.integers(1, 2))
    else:
        groups = draw(st.sampled_from([1, 1, 2, 3]))
        channels = draw(st.integers(1 if groups == 1 else 2, max(2, max_channels)))
        outputs = draw(st.integers(1, max_channels))
    window, stride = draw(_pairs(1, max_window)), draw(_pairs(1, 3))
    padding, dilation = draw(_pairs(0, 2)), draw(_pairs(1, 2))
    sides = _sides(draw, window, padding, max_side, dilation)
    x_shape = (draw(st.integers(1, 2)), groups * channels, *sides)
    w_shape = (groups * outputs, channels, *window)
    return ConvConfig(x_shape, w_shape, stride, padding, dilation, groups)


@dataclass(frozen=True)
class PoolConfig:
    """A pool: shape of the image, and its attributes."""

    x_shape: Shape
    window: Pair
    stride: Pair
    padding: Pair

    @property
    def y_shape(self) -> Shape:
        """Shape of the output."""
        sizes = zip(self.x_shape[2:], self.window, self.stride, self.padding, strict=True)
        return (*self.x_shape[:2], *(_output(*s) for s in sizes))

    @property
    def attrs(self) -> dict[str, Any]:
        """Keyword arguments of ``functional.max_pool2d`` and ``functional.avg_pool2d``."""
        return {"kernel_size": self.window, "stride": self.stride, "padding": self.padding}


@st.composite
def pool2d_configs(draw: st.DrawFn, max_window: int = 4, max_side: int = 5) -> PoolConfig:
    """Pools that fit; windows may overlap, leave gaps, and hang over the padding by up to half.

    Parameters
    ----------
    max_window : int
        Of height and width.
    max_side : int
        How much the image may exceed the window.
    """
    window, stride = draw(_pairs(1, max_window)), draw(_pairs(1, 4))
    padding = (draw(st.integers(0, window[0] // 2)), draw(st.integers(0, window[1] // 2)))
    sides = _sides(draw, window, padding, max_side)
    x_shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *sides)
    return PoolConfig(x_shape, window, stride, padding)
