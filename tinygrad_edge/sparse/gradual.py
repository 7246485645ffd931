"""Sparsity that rises while the network trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..optim import Optimizer
from .apportion import apportion
from .dynamic import Change, DynamicSparsity
from .pool import Pool

__all__ = ["GradualPruning"]


class GradualPruning(DynamicSparsity):
    """Pruning by magnitude, gradually (Zhu & Gupta 2017, equation 1).

    The sparsity rises from that at the start, s, to the last one, e:
    ``e + (s - e) * (1 - steps / until) ** 3``. All layers lose the same share of what they have, so
    that their densities keep their proportions. The pool's capacity, and with it the bytes of a
    step, stay what they were.

    Parameters
    ----------
    pool : Pool
    optimizer : Optimizer
    sparsity : float
        The last one, of all layers together.
    until : int
        Training steps until it is reached.
    every : int
        Training steps from one pruning to the next.

    Raises
    ------
    ValueError
        The pool is sparser already.
    """

    def __init__(
        self, pool: Pool, optimizer: Optimizer, sparsity: float, until: int, every: int = 100
    ) -> None:
        super().__init__(pool, optimizer, every, until)
        if until < 1:
            raise ValueError(f"GradualPruning: until must be at least 1, got {until}")
        size = sum(self.sizes.values())
        if not 1 - pool.nonzeros / max(size, 1) <= sparsity <= 1:
            raise ValueError(
                "GradualPruning: the sparsity must be from the present "
                f"{1 - pool.nonzeros / max(size, 1):.3g} to 1, got {sparsity}"
            )
        self.first, self.last = pool.nonzeros, round((1 - sparsity) * size)

    def is_change(self, steps: int) -> bool:
        """Whether there is a pruning after so many training steps; the last one always is."""
        return steps == self.until or super().is_change(steps)

    def change(self) -> Change:
        """Choose what is pruned."""
        assert self.until is not None
        wanted = self.last + (self.first - self.last) * (1 - self.steps / self.until) ** 3
        nonzeros = self.nonzeros
        pruned = max(self.pool.nonzeros - round(wanted), 0)
        return Change(self.keep_largest(apportion(pruned, nonzeros, nonzeros)), {})

    def state_dict(self) -> dict[str, np.ndarray]:
        """Give the number of steps, the seed and the number of non-zeros at the start."""
        return {**super().state_dict(), "first": np.array(self.first)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        super().load_state_dict(state)
        self.first = int(state["first"])
