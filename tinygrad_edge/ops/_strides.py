"""Shapes, broadcasting and strides that several op families share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import ShapeError

__all__ = [
    "MAX_AXES",
    "broadcast_shapes",
    "broadcast_strides",
    "contiguous_strides",
    "merge_axes",
    "normalise_axes",
    "padded",
]

#: The longest shape that a kernel's params struct holds.
MAX_AXES = 8


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """NumPy's broadcasting rule."""
    ndim = max((len(s) for s in shapes), default=0)
    result = []
    for sizes in zip(*((1,) * (ndim - len(s)) + s for s in shapes), strict=True):
        wide = {n for n in sizes if n != 1}
        if len(wide) > 1:
            raise ShapeError(
                "shapes " + " and ".join(str(list(s)) for s in shapes) + " do not broadcast"
            )
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a row-major array."""
    strides = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def broadcast_strides(shape: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...]:
    """Strides that read a contiguous array of `shape` as if it had the shape `to`."""
    own = contiguous_strides(shape)
    lead = len(to) - len(shape)
    return (0,) * lead + tuple(0 if n == 1 else s for n, s in zip(shape, own, strict=True))


def merge_axes(
    shape: Sequence[int], *strides: Sequence[int]
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Drop axes of size one and join neighbours that every operand walks as one."""
    axes: list[tuple[int, list[int]]] = []
    for n, steps in zip(shape, zip(*strides, strict=True), strict=True):
        if n == 1:
            continue
        if axes and all(
            outer == n * inner for outer, inner in zip(axes[-1][1], steps, strict=True)
        ):
            axes[-1] = (axes[-1][0] * n, list(steps))
        else:
            axes.append((n, list(steps)))
    merged = [tuple(steps[i] for _, steps in axes) for i in range(len(strides))]
    return tuple(n for n, _ in axes), merged


def padded(values: Sequence[int], fill: int = 0) -> list[int]:
    """The values as a params array of MAX_AXES entries."""
    if len(values) > MAX_AXES:
        raise ShapeError(
            f"at most {MAX_AXES} axes that cannot be merged are supported, got {len(values)}"
        )
    return [*values, *[fill] * (MAX_AXES - len(values))]


def normalise_axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Axes as sorted, non-negative, distinct numbers; None means all."""
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    for a in axes:
        if not -ndim <= a < ndim:
            raise ShapeError(f"axis {a} is out of range for {ndim} axes")
    found = sorted(a % ndim for a in axes)
    if len(set(found)) != len(found):
        raise ShapeError(f"axis {axis} names an axis twice")
    return tuple(found)


def normalise_shape(shape: Sequence[int], size: int) -> tuple[int, ...]:
    """A shape with its one -1 filled in, checked against the number of elements."""
    known = math.prod(n for n in shape if n != -1)
    wanted = tuple(shape)
    if wanted.count(-1) > 1 or any(n < -1 for n in wanted):
        raise ShapeError(f"shape {list(shape)} is not a shape with at most one -1")
    if -1 in wanted:
        if known == 0 or size % known:
            raise ShapeError(f"cannot reshape {size} elements to {list(shape)}")
        wanted = tuple(size // known if n == -1 else n for n in wanted)
    if math.prod(wanted) != size:
        raise ShapeError(f"cannot reshape {size} elements to {list(shape)}")
    return wanted
