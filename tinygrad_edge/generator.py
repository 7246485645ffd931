"""Random state as a cell, and the seeds of initial parameters."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from . import ops, trace
from .dtypes import uint32
from .graph import Cell, Value, marked

__all__ = ["Generator", "default_generator", "initial_words", "manual_seed", "rounding_cell"]


class Generator:
    """A cell of four uint32: 64 bits of seed, 64 bits of steps taken.

    What is drawn depends on the cell, on the site (the how-manieth draw of a step it is) and on the
    sample's number; after each group that drew, the step is advanced once.

    Parameters
    ----------
    seed : int
        64 bits are used.
    """

    def __init__(self, seed: int) -> None:
        words = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, 0, 0], np.uint32)
        # The slash keeps the name apart from every module's path, in snapshots too.
        self.cell = Cell("random/generator", (4,), uint32, "buffer", lambda: words)

    def read(self) -> Value:
        """The state that this step draws from."""
        return trace.current().read(self.cell)

    def next_site(self) -> int:
        """A number for a place that draws, counted from 0 in each step."""
        active = trace.current()
        if self not in active.sites:
            active.sites[self] = 0
            active.at_end.append(self._advance)
        site = active.sites[self]
        active.sites[self] += 1
        return site

    def _advance(self) -> None:
        with marked(part="update"):
            active = trace.current()
            active.assign(self.cell, ops.generator_advance(active.read(self.cell)))


#: What keeps the key of rounding apart from that of dropout, whatever the seed.
_ROUNDING = 0x80000000

_default = [Generator(0)]
_seed = [0]
_initialised = itertools.count()


def default_generator() -> Generator:
    """The generator that draws where none is named."""
    return _default[0]


def manual_seed(seed: int) -> None:
    """Start all randomness anew: parameters made from now on, and dropout.

    Parameters
    ----------
    seed : int
        Non-negative. Without a call it is 0: runs are reproducible by default.
    """
    global _initialised
    if seed < 0:
        raise ValueError(f"the seed must not be negative, got {seed}")
    _seed[0] = seed
    _initialised = itertools.count()
    _default[0] = Generator(seed)


def rounding_cell() -> Cell:
    """Make a generator for the stochastic rounding of one step, apart from the default one's draws.

    Policies that round therefore leave dropout as it is.
    """
    seed = _seed[0]
    words = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF ^ _ROUNDING, 0, 0], np.uint32)
    return Cell("random/rounding", (4,), uint32, "buffer", lambda: words)


def initial_words() -> Callable[[int], np.ndarray]:
    """Choose the random words of a parameter's first contents, by the seed and its number.

    Parameters are numbered in order of making. What it gives takes a count and gives that many
    uint64 words, each time the same, so that copies of a parameter not yet used begin alike.
    """
    key = np.array([_seed[0] & 0xFFFFFFFFFFFFFFFF, next(_initialised)], np.uint64)
    # NumPy keeps the raw stream the same for ever; it does not promise that of distributions.
    return lambda count: np.random.Philox(key=key).random_raw(count)
