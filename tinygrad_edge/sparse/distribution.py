"""How many non-zeros each layer gets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["DISTRIBUTIONS", "counts_of", "shares"]

Shapes = Sequence[tuple[int, ...]]


def _uniform(shapes: Shapes, density: float) -> np.ndarray:
    """The same density everywhere."""
    return np.full(len(shapes), density)


def _erk(shapes: Shapes, density: float) -> np.ndarray:
    """Erdős-Rényi-Kernel (Evci et al. 2020): in proportion to (K + C + R + S) / (K * C * R * S).

    Layers that would get more than all of their elements are dense, and the others share the rest.
    """
    sizes = np.array([math.prod(shape) for shape in shapes], float)
    weights = np.array([sum(shape) for shape in shapes], float)  # non-zeros, up to one factor
    full = np.zeros(len(shapes), bool)
    while not full.all():
        rest = density * sizes.sum() - sizes[full].sum()
        factor = rest / weights[~full].sum()
        more = ~full & (factor * weights > sizes)
        if not more.any():
            break
        full |= more
    return np.where(full, 1.0, 0.0 if full.all() else factor * weights / np.maximum(sizes, 1))


DISTRIBUTIONS = {"uniform": _uniform, "erk": _erk}


def shares(weights: np.ndarray, total: int, limits: np.ndarray) -> np.ndarray:
    """Integers in proportion to weights that sum to `total`, none above its limit.

    Largest remainders round; what does not fit goes to the others, in proportion again.

    Raises
    ------
    ValueError
        The limits sum to less than the total.
    """
    if total > limits.sum():
        raise ValueError(f"{total} do not fit into {int(limits.sum())}")
    found = np.zeros(len(weights), np.int64)
    open_ = limits > 0
    while (rest := total - int(found.sum())) > 0:
        parts = np.where(open_, weights, 0.0)
        if not parts.any():  # nothing to go by: where there is room
            parts = np.where(open_, (limits - found).astype(float), 0.0)
        exact = parts * (rest / parts.sum())
        given = np.floor(exact).astype(np.int64)
        remainders = np.where(parts > 0, exact - given, -1.0)
        for i in np.argsort(-remainders, kind="stable")[: rest - int(given.sum())]:
            given[i] += 1
        found = np.minimum(found + given, limits)
        open_ = found < limits
    return found


def counts_of(shapes: Shapes, sparsity: float, distribution: str) -> np.ndarray:
    """Non-zeros of each layer; in all ``1 - sparsity`` of their elements, rounded."""
    sizes = np.array([math.prod(shape) for shape in shapes], np.int64)
    density = DISTRIBUTIONS[distribution](shapes, 1 - sparsity)
    return shares(density * sizes, round((1 - sparsity) * int(sizes.sum())), sizes)
