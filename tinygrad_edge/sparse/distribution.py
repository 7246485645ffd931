"""How many non-zeros each layer gets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .apportion import apportion

__all__ = ["DISTRIBUTIONS", "counts_of"]

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


def counts_of(
    shapes: Mapping[str, tuple[int, ...]], sparsity: float, distribution: str
) -> dict[str, int]:
    """Non-zeros of each layer; in all ``1 - sparsity`` of their elements, rounded."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    densities = DISTRIBUTIONS[distribution](list(shapes.values()), 1 - sparsity)
    weights = {
        name: float(density * size)
        for density, (name, size) in zip(densities, sizes.items(), strict=True)
    }
    return apportion(round((1 - sparsity) * sum(sizes.values())), weights, sizes)
