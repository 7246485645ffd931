"""Algorithms that grow non-zeros where the gradient of the loss is largest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..dtypes import int32
from ..errors import GraphError
from ..graph import Cell
from ..optim import Optimizer
from ..parameter import Parameter
from .apportion import apportion
from .dynamic import Change, DynamicSparsity, Event, checked_fraction
from .pool import Pool

__all__ = ["RigL", "SparseMomentum"]


class GradientGrowth(DynamicSparsity):
    """Base of both: the training step before a change also finds the zeros of largest gradients.

    They are found one output channel at a time, among the weights that are zero in that step,
    which has a plan of its own.

    Parameters
    ----------
    pool : Pool
    optimizer : Optimizer
    fraction : float
        Share of the non-zeros that move at first; it falls to 0 along half a cosine.
    every : int
        Training steps from one change to the next.
    until : int
        Training steps until the fraction is 0.
    room : int
        For how many candidates of each layer there is room, in shares of what it may move at first.
    """

    def __init__(
        self,
        pool: Pool,
        optimizer: Optimizer,
        fraction: float,
        every: int,
        until: int,
        room: int,
    ) -> None:
        super().__init__(pool, optimizer, every, until)
        self.fraction = checked_fraction(self._name, "fraction", fraction)
        if until < 1:
            raise ValueError(f"{self._name}: until must be at least 1, got {until}")
        self._found: dict[str, Parameter] = {}
        for name, count in self.nonzeros.items():
            most = min(self.sizes[name], room * (int(fraction * count) + 1))
            if most:
                self._found[name] = _candidates_of(name, most)
        self._watch(self._due)

    def is_change(self, steps: int) -> bool:
        """Whether there is a change after so many training steps: not when the fraction is 0."""
        return super().is_change(steps) and steps != self.until

    @property
    def rate(self) -> float:
        """Share of the non-zeros that moves after `steps` training steps."""
        assert self.until is not None
        return self.fraction / 2 * (1 + math.cos(math.pi * min(self.steps / self.until, 1)))

    def step(self) -> list[Event]:
        """Count a training step, and move non-zeros if it is time; see `DynamicSparsity.step`."""
        events = super().step()
        self._watch(self._due)
        return events

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, a step is planned as the one before a change; see `DynamicSparsity.watching`."""
        self._watch(True)
        try:
            yield
        finally:
            self._watch(self._due)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        super().load_state_dict(state)
        self._watch(self._due)

    def candidates(self) -> dict[str, np.ndarray]:
        """Give the zeros of each layer, largest gradients first, and forget them.

        Raises
        ------
        GraphError
            The last training step has not found any.
        """
        found = {name: np.zeros(0, np.int32) for name in self.pool.layers}
        for name, each in self._found.items():
            found[name] = each.numpy()
            found[name] = found[name][found[name] >= 0]
            each.assign(np.full(each.shape, -1, np.int32))
        sizes = self.sizes
        if not any(map(len, found.values())) and self.pool.nonzeros < sum(sizes.values()):
            raise GraphError(
                f"{self._name}: no gradients of zeros were seen in the training step before; call "
                "step after each one, and read its loss after the update, not before"
            )
        return found

    @property
    def _due(self) -> bool:
        """Whether a change follows the next training step."""
        return self.is_change(self.steps + 1)

    def _watch(self, due: bool) -> None:
        """Have training steps find candidates, or not."""
        for name, found in self._found.items():
            layer, cell = self.pool.layers[name], found.cell if due else None
            if layer.candidates is not cell:
                layer.candidates = cell


def _candidates_of(name: str, count: int) -> Parameter:
    # The slash keeps the name apart from every module's path, in snapshots too.
    cell = Cell(f"dynamic/{name}.candidates", (count,), int32, "buffer", lambda: np.full(count, -1))
    return Parameter(cell, requires_grad=False)


class RigL(GradientGrowth):
    """Rigging the lottery (Evci et al. 2020).

    Each layer loses its weights of smallest magnitude, and grows as many where the gradient of the
    last batch is largest, among its zeros. The fraction falls to 0 along half a cosine. A layer
    without zeros stays as it is.

    What has just been pruned is no candidate, and the step before a change updates the weights
    as any other does.

    Parameters
    ----------
    pool : Pool
    optimizer : Optimizer
    until : int
        Training steps until the fraction is 0: in the paper, three quarters of all.
    fraction : float
        Share of the non-zeros that move at first.
    every : int
        Training steps from one change to the next.
    """

    def __init__(
        self,
        pool: Pool,
        optimizer: Optimizer,
        until: int,
        fraction: float = 0.3,
        every: int = 100,
    ) -> None:
        super().__init__(pool, optimizer, fraction, every, until, room=1)

    def change(self) -> Change:
        """Choose what is pruned and what is grown."""
        found = self.candidates()
        nonzeros = self.nonzeros
        movable = {name: n if len(found[name]) else 0 for name, n in nonzeros.items()}
        limits = {name: min(n, len(found[name])) for name, n in nonzeros.items()}
        counts = self.share_of(self.rate, movable, limits)
        grown = {name: each[: counts[name]].astype(np.int64) for name, each in found.items()}
        return Change(self.keep_largest(counts), grown)


class SparseMomentum(GradientGrowth):
    """Sparse momentum (Dettmers & Zettlemoyer 2019), with gradients for the momentum of zeros.

    Each layer loses its weights of smallest magnitude. What all have lost together is shared out
    among them by the mean magnitudes of their momentum, over their non-zeros before. The paper
    grows where the momentum of zeros is largest, for which it keeps the momentum of every zero;
    here nothing of dense size is kept, and the gradient of the last batch stands for it. The
    fraction falls to 0 along half a cosine.

    A layer grows by at most twice what it may lose at first; the rest goes to the others.

    Parameters
    ----------
    pool : Pool
    optimizer : Optimizer
        With momentum: SGD with one, Adam or AdamW.
    until : int
        Training steps until the fraction is 0: in the paper, all.
    fraction : float
        Share of the non-zeros that move at first.
    every : int
        Training steps from one change to the next.
    """

    def __init__(
        self,
        pool: Pool,
        optimizer: Optimizer,
        until: int,
        fraction: float = 0.3,
        every: int = 100,
    ) -> None:
        super().__init__(pool, optimizer, fraction, every, until, room=2)
        self.need_momentum()

    def change(self) -> Change:
        """Choose what is pruned and what is grown."""
        found = self.candidates()
        room = {name: len(each) for name, each in found.items()}
        most = sum(room.values()) / max(self.pool.nonzeros, 1)
        pruned = self.share_of(min(self.rate, most), self.nonzeros)
        counts = apportion(sum(pruned.values()), self.mean_momentum(), room)
        grown = {name: each[: counts[name]].astype(np.int64) for name, each in found.items()}
        return Change(self.keep_largest(pruned), grown)
