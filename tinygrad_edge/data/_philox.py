"""Random numbers that depend on nothing but the numbers that name them.

All come from the raw stream of Philox4x64-10 (Salmon et al. 2011), which NumPy keeps the same for
ever; it does not promise that of its distributions. The key is (seed, epoch). The counter's last
word tells the uses apart: 0 for the order of an epoch, 1 for what is drawn for a sample.
"""

import math
import operator
from typing import Any

import numpy as np

from ..errors import DataError

__all__ = ["Draws", "integer", "words"]


def words(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return uint64 random words of shape (count,)."""
    return np.random.Philox(key=_key(seed, epoch)).random_raw(count)


class Draws:
    """What is drawn for one sample after another.

    Parameters
    ----------
    seed, epoch : int
        From 0 to 2**64 - 1.
    """

    def __init__(self, seed: int, epoch: int) -> None:
        self._philox = np.random.Philox(key=_key(seed, epoch))
        # Setting the state of one generator takes an eighth of the time of making another.
        self._state: Any = self._philox.state
        self._counter = np.array([0, 0, 0, 1], np.uint64)

    def start(self, sample: int) -> None:
        """Begin the draws of the sample at this position of the split."""
        self._counter[2] = sample
        self._state["state"]["counter"] = self._counter
        self._philox.state = self._state

    def uniform(self, low: float, high: float) -> float:
        """Return a number of [low, high)."""
        return low + (high - low) * ((self._philox.random_raw() >> 11) * 2.0**-53)

    def below(self, limit: int) -> int:
        """Return an integer from 0 to limit - 1."""
        return self._philox.random_raw() * limit >> 64

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return float32 numbers of mean 0 and standard deviation 1.

        Each is the scaled sum of the eight bytes of a word: a bell that ends at 4.9, and the same
        on every machine, since it is made of integers.
        """
        pairs = np.uint64(0x00FF00FF00FF00FF)
        sums = self._philox.random_raw(math.prod(shape))
        odd = sums >> np.uint64(8)
        odd &= pairs
        sums &= pairs
        sums += odd  # of two bytes each, in 16 bits
        sums *= np.uint64(0x0001000100010001)
        sums >>= np.uint64(48)
        normal = sums.astype(np.float32)
        normal -= np.float32(8 * 255 / 2)
        normal /= np.float32(math.sqrt(8 * (256**2 - 1) / 12))
        return normal.reshape(shape)


def integer(name: str, value: int, low: int, high: int | None = None) -> int:
    """Check a whole number.

    Raises
    ------
    DataError
        It is none, or out of range.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise DataError(f"{name} is an integer, not {value!r}") from None
    if number < low or (high is not None and number > high):
        limit = f"from {low} to {high}" if high is not None else f"at least {low}"
        raise DataError(f"{name} is {limit}, not {number}")
    return number


def _key(seed: int, epoch: int) -> np.ndarray:
    key = [integer("seed", seed, 0, 2**64 - 1), integer("epoch", epoch, 0, 2**64 - 1)]
    return np.array(key, np.uint64)
