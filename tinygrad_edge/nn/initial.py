"""First contents of parameters: made on first use, from streams chosen when the parameters are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..dtypes import DType, float32
from ..generator import initial_stream

__all__ = ["constant", "uniform"]

Initial = Callable[[], np.ndarray]


def uniform(shape: tuple[int, ...], fan_in: int) -> Initial:
    """Uniform within ±1 / sqrt(fan_in).

    This is He et al.'s (2015) uniform rule with PyTorch's a = sqrt(5): its bound
    ``sqrt(6 / ((1 + a**2) * fan_in))`` is that number.
    """
    stream = initial_stream()
    bound = 1 / np.sqrt(max(fan_in, 1))
    return lambda: stream().uniform(-bound, bound, shape).astype(np.float32)


def constant(shape: tuple[int, ...], number: float, dtype: DType = float32) -> Initial:
    """One number everywhere."""
    return lambda: np.full(shape, number, dtype.numpy)
