"""First contents of parameters: made on first use, from random words chosen before."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..dtypes import DType, float32
from ..generator import initial_words

__all__ = ["constant", "uniform"]

Initial = Callable[[], np.ndarray]


def uniform(shape: tuple[int, ...], fan_in: int) -> Initial:
    """Uniform within ±1 / sqrt(fan_in).

    This is He et al.'s (2015) uniform rule with PyTorch's a = sqrt(5): its bound
    ``sqrt(6 / ((1 + a**2) * fan_in))`` is that number.
    """
    words = initial_words()
    bound = np.float32(1 / math.sqrt(max(fan_in, 1)))

    def draw() -> np.ndarray:
        fraction = words(math.prod(shape)) >> np.uint64(40)  # 24 bits: all that a float32 holds
        return (fraction.astype(np.float32) * np.float32(2**-23) - 1).reshape(shape) * bound

    return draw


def constant(shape: tuple[int, ...], number: float, dtype: DType = float32) -> Initial:
    """One number everywhere."""
    return lambda: np.full(shape, number, dtype.numpy)
