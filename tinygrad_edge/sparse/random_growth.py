"""Algorithms that grow non-zeros at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..optim import Optimizer
from .apportion import apportion
from .dynamic import Change, DynamicSparsity, checked_fraction
from .pool import Pool

__all__ = ["DSR", "SET", "MomentumRedistribution"]


class SET(DynamicSparsity):
    """Sparse evolutionary training (Mocanu et al. 2018).

    Each layer loses its smallest positive and largest negative weights, which are those of smallest
    magnitude, and grows as many at random. A layer without zeros stays as it is.

    Parameters
    ----------
    pool : Pool
    optimizer : Optimizer
    fraction : float
        Share of the non-zeros that move at a time.
    every : int
        Training steps from one change to the next.
    until : int, optional
        The last training step after which there may be a change.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_edge as te
    >>> net = te.nn.Sequential(te.nn.Linear(64, 64), te.nn.ReLU(), te.nn.Linear(64, 10))
    >>> pool = te.sparse.sparsify(net, 0.9, where="*")
    >>> optimizer = te.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    >>> dynamic = te.sparse.SET(pool, optimizer, every=2)
    >>> @te.compile
    ... def step(x, y):
    ...     loss = te.functional.cross_entropy(net(x), y)
    ...     optimizer.minimize(loss)
    ...     return loss
    >>> for _ in range(2):
    ...     loss = step(np.ones((8, 64), np.float32), np.arange(8, dtype=np.int32))
    ...     for event in dynamic.step():
    ...         print(event.layer, event.pruned, event.grown, event.nonzeros)
    0.weight 123 123 410
    2.weight 19 19 64
    """

    def __init__(
        self,
        pool: Pool,
        optimizer: Optimizer,
        fraction: float = 0.3,
        every: int = 100,
        until: int | None = None,
    ) -> None:
        super().__init__(pool, optimizer, every, until)
        self.fraction = checked_fraction("SET", "fraction", fraction)

    def change(self) -> Change:
        """Choose what is pruned and what is grown."""
        sizes = self.sizes
        movable = {name: n if n < sizes[name] else 0 for name, n in self.nonzeros.items()}
        counts = self.share_of(self.fraction, movable)
        keep = self.keep_largest(counts)
        return Change(keep, self.random_zeros(keep, counts))


class MomentumRedistribution(DynamicSparsity):
    """Pruning by magnitude, shares by momentum, growth at random (Nitsenko, Algorithm 1).

    Each layer loses the fraction of smallest magnitude. What all have lost together is shared out
    among them by the mean magnitudes of their momentum, over their non-zeros before, and grows at
    random. Then the fraction is halved.

    Shares are whole numbers by largest remainders, so that the total stays what it was. What a
    layer has no room for goes to the others. When the fraction moves less than one of all
    non-zeros, that is said once, and they stay where they are.

    Parameters
    ----------
    pool : Pool
    optimizer : Optimizer
        With momentum: SGD with one, Adam or AdamW.
    fraction : float
        Share of the non-zeros that move at the first change.
    every : int
        Training steps from one change to the next.
    until : int, optional
        The last training step after which there may be a change.
    """

    def __init__(
        self,
        pool: Pool,
        optimizer: Optimizer,
        fraction: float = 0.3,
        every: int = 100,
        until: int | None = None,
    ) -> None:
        super().__init__(pool, optimizer, every, until)
        self.need_momentum()
        self.fraction = checked_fraction("MomentumRedistribution", "fraction", fraction)

    def change(self) -> Change:
        """Choose what is pruned and what is grown."""
        pruned = self.share_of(self.fraction * 0.5**self.changes, self.nonzeros)
        keep = self.keep_largest(pruned)
        grown = apportion(sum(pruned.values()), self.mean_momentum(), self.free(keep))
        return Change(keep, self.random_zeros(keep, grown))


class DSR(DynamicSparsity):
    """Dynamic sparse reparameterisation (Mostafa & Wang 2019).

    All weights below one threshold are pruned, whatever their layer. As many grow at random, shared
    out by the layers' survivors; what a layer has no room for goes to the others. The threshold
    is doubled when it took less than ``1 - tolerance`` of what was wanted, and halved when it took
    more than ``1 + tolerance``.

    Parameters
    ----------
    pool : Pool
    optimizer : Optimizer
    fraction : float
        Share of the non-zeros that should move at a time.
    every : int
        Training steps from one change to the next.
    until : int, optional
        The last training step after which there may be a change.
    threshold : float, optional
        The first one. By default it is the magnitude below which the fraction lies at the first
        change.
    tolerance : float
    """

    def __init__(
        self,
        pool: Pool,
        optimizer: Optimizer,
        fraction: float = 0.1,
        every: int = 100,
        until: int | None = None,
        threshold: float | None = None,
        tolerance: float = 0.1,
    ) -> None:
        super().__init__(pool, optimizer, every, until)
        self.fraction = checked_fraction("DSR", "fraction", fraction)
        if threshold is not None and not 0 < threshold < float("inf"):
            raise ValueError(f"DSR: the threshold must be positive and finite, got {threshold}")
        if not 0 <= tolerance < 1:
            raise ValueError(f"DSR: the tolerance must be from 0 to below 1, got {tolerance}")
        self.threshold, self.tolerance = threshold or 0.0, tolerance

    def change(self) -> Change:
        """Choose what is pruned and what is grown, and adapt the threshold."""
        magnitudes = self.magnitudes()
        wanted = int(self.fraction * self.pool.nonzeros)
        if not self.threshold and wanted:  # not found yet: all were zeros so far
            flat = np.concatenate(list(magnitudes.values()))
            self.threshold = float(np.partition(flat, wanted)[wanted])
        keep = {name: each >= self.threshold for name, each in magnitudes.items()}
        survivors = {name: int(each.sum()) for name, each in keep.items()}
        total = self.pool.nonzeros - sum(survivors.values())
        if not total:
            self.say_too_small(f"a threshold of {self.threshold:.3g}")
        if total < (1 - self.tolerance) * wanted:
            self.threshold *= 2
        elif total > (1 + self.tolerance) * wanted:
            self.threshold /= 2
        grown = apportion(total, survivors, self.free(keep))
        return Change(keep, self.random_zeros(keep, grown))

    def state_dict(self) -> dict[str, np.ndarray]:
        """Give the number of steps, the seed and the threshold."""
        return {**super().state_dict(), "threshold": np.array(self.threshold)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        super().load_state_dict(state)
        self.threshold = float(np.asarray(state["threshold"]))
