"""What stands between the brackets of ``x[...]``, in the terms of the ops."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import ShapeError

__all__ = ["Subscript", "read_index"]


class Subscript(NamedTuple):
    """Axes to flip, then a slice of each axis, then a shape, then positions along one axis."""

    flips: tuple[int, ...]
    start: tuple[int, ...]
    stop: tuple[int, ...]
    step: tuple[int, ...]
    shape: tuple[int, ...]
    gather: tuple[int, Any] | None

    def is_whole(self, shape: tuple[int, ...]) -> bool:
        """Whether the slices leave out nothing."""
        return self.start == (0,) * len(shape) and self.stop == shape and set(self.step) <= {1}


def read_index(key: Any, shape: tuple[int, ...]) -> Subscript:
    """Read NumPy's basic indices, and at most one list or tensor of integers.

    Raises
    ------
    ShapeError
        The index does not fit the shape.
    """
    flips: list[int] = []
    slices: list[tuple[int, int, int]] = []
    result: list[int] = []
    gathers: list[tuple[int, Any]] = []
    for axis, part in _parts(key, shape):
        if part is None:
            result.append(1)
            continue
        n = shape[axis]
        if isinstance(part, slice):
            first, last, by = part.indices(n)
            count = len(range(first, last, by))
            if by < 0:
                flips.append(axis)
                first, last, by = n - 1 - first, n - 1 - last, -by
            slices.append((first, last, by) if count else (0, 0, 1))
            result.append(count)
        elif isinstance(part, int | np.integer) and not isinstance(part, bool):
            if not -n <= part < n:
                raise ShapeError(f"index {part} is out of range for axis {axis} of {n}")
            slices.append((int(part) % n, int(part) % n + 1, 1))
        else:
            gathers.append((len(result), part))
            slices.append((0, n, 1))
            result.append(n)
    if len(gathers) > 1:
        raise ShapeError("at most one index may be a list or tensor of integers; chain `take`")
    gather = gathers[0] if gathers else None
    start, stop, step = (tuple(s[i] for s in slices) for i in range(3))
    return Subscript(tuple(flips), start, stop, step, tuple(result), gather)


def _parts(key: Any, shape: tuple[int, ...]) -> list[tuple[int, Any]]:
    """The parts of an index with their axes; an ellipsis, or the end, stands for whole axes."""
    given = list(key) if isinstance(key, tuple) else [key]
    gaps = [i for i, part in enumerate(given) if part is Ellipsis]
    used = sum(part is not None and part is not Ellipsis for part in given)
    if len(gaps) > 1 or used > len(shape):
        raise ShapeError(f"index {key!r} does not fit {len(shape)} axes")
    at = gaps[0] if gaps else len(given)
    whole = [slice(None)] * (len(shape) - used)
    parts: list[tuple[int, Any]] = []
    axis = 0
    for part in (*given[:at], *whole, *given[at + len(gaps) :]):
        parts.append((axis, part))
        axis += part is not None
    return parts
