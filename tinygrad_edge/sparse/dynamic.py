"""What all algorithms share that move non-zeros during training: when, how, and what they tell."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, GraphError
from ..generator import initial_words
from ..optim import Optimizer
from ..parameter import Parameter
from .apportion import apportion
from .pool import Pool
from .topology import move, sample, zeros_at

__all__ = ["Change", "DynamicSparsity", "Event"]

#: Moments that are a mean of gradients.
_MEANS = ("momentum", "exp_avg")

Counts = dict[str, int]


@dataclass(frozen=True)
class Event:
    """What has happened to a layer, or how it stands: a line of the metrics.

    Attributes
    ----------
    step : int
        Training steps so far.
    layer : str
        Name of the weight.
    pruned, grown : int
        Non-zeros that became zeros, and elements that became non-zeros.
    nonzeros : int
        How many there are now.
    density : float
        Their share of the layer's elements.
    """

    step: int
    layer: str
    pruned: int
    grown: int
    nonzeros: int
    density: float


class Change(NamedTuple):
    """Which non-zeros of each layer survive, and which elements become non-zeros."""

    keep: dict[str, np.ndarray]
    grown: dict[str, np.ndarray]


class DynamicSparsity:
    """Base of the algorithms. Call `step` after each training step.

    A surviving weight keeps its value and its moments, a new one starts with zeros. Random draws
    depend on the seed, the number of steps and the layer alone; the seed follows from
    `manual_seed`, as initial parameters do. A subclass defines ``change``.

    Parameters
    ----------
    pool : Pool
    optimizer : Optimizer
        It trains the pool's values; their moments move along.
    every : int
        Training steps from one change to the next.
    until : int, optional
        The last training step after which there may be a change.

    Attributes
    ----------
    steps : int
        Training steps so far.
    """

    def __init__(
        self, pool: Pool, optimizer: Optimizer, every: int, until: int | None = None
    ) -> None:
        if every < 1:
            raise ValueError(f"{self._name}: every must be at least 1, got {every}")
        if not any(p.cell is pool.values.cell for p in optimizer.parameters):
            raise ValueError(
                f"{self._name}: the optimizer does not train the pool; give it the parameters of "
                "the network after sparsify"
            )
        self.pool, self.optimizer, self.every, self.until = pool, optimizer, every, until
        self.steps = 0
        self.seed = int(initial_words()(1)[0])
        self._said_too_small = False

    def change(self) -> Change:
        """Choose what is pruned and what is grown, `steps` training steps after the start."""
        raise TypeError(f"{self._name} defines no change")

    def step(self) -> list[Event]:
        """Count a training step, and move non-zeros if it is time.

        Returns
        -------
        list of Event
            One for each layer after a change; otherwise none.

        Raises
        ------
        GraphError
            Gradients are being accumulated: they belong to where the non-zeros are now.
        """
        self.steps += 1
        if not self.is_change(self.steps):
            return []
        if self.pool.values.pending_grad is not None:
            raise GraphError(
                f"{self._name}: the pool has a gradient, which would no longer fit; call the "
                "optimizer's step or zero_grad first"
            )
        return self._make(self.change())

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, a step is planned as the one before a change, which may need more bytes.

        Examples
        --------
        With an algorithm that looks at gradients, both plans tell before training what it needs::

            usual = step.plan(x, y)
            with rigl.watching():
                largest = max(usual.peak_bytes, step.plan(x, y).peak_bytes)
        """
        yield

    def layers(self) -> list[Event]:
        """How each layer stands, as events in which nothing happened."""
        return self._events({}, {})

    def state_dict(self) -> dict[str, np.ndarray]:
        """Give the number of steps and the seed; where non-zeros are is the network's state."""
        return {"steps": np.array(self.steps), "seed": np.array(self.seed, np.uint64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises
        ------
        DataError
            It has other names or shapes.
        """
        own = self.state_dict()
        found = {name: np.asarray(array) for name, array in state.items()}
        if found.keys() != own.keys() or any(array.shape for array in found.values()):
            raise DataError(
                f"{self._name}.load_state_dict: expected a number for each of {list(own)}, "
                f"got {[f'{name} {list(array.shape)}' for name, array in found.items()]}"
            )
        self.steps, self.seed = int(found["steps"]), int(found["seed"])

    # ---- what changes are made of ----

    def is_change(self, steps: int) -> bool:
        """Whether there is a change after so many training steps."""
        return steps % self.every == 0 and (self.until is None or steps <= self.until)

    @property
    def changes(self) -> int:
        """How many changes there were before the present one."""
        return (self.steps - 1) // self.every

    @property
    def nonzeros(self) -> Counts:
        """How many non-zeros each layer has."""
        return {
            name: layer.part.stop - layer.part.start for name, layer in self.pool.layers.items()
        }

    @property
    def sizes(self) -> Counts:
        """How many elements each layer has."""
        return {name: math.prod(layer.shape) for name, layer in self.pool.layers.items()}

    def magnitudes(self) -> dict[str, np.ndarray]:
        """Those of each layer's non-zeros."""
        return self._by_layer(self.pool.values)

    def mean_momentum(self) -> dict[str, float]:
        """Mean magnitude of the momentum of each layer's non-zeros; 0 where there are none."""
        kind = next(kind for kind in self.optimizer.moments if kind in _MEANS)
        moments = self._by_layer(self._moment(kind))
        return {
            name: float(m.mean(dtype=np.float64)) if m.size else 0.0 for name, m in moments.items()
        }

    def need_momentum(self) -> None:
        """Refuse an optimizer that keeps no mean of the gradients."""
        if not any(kind in _MEANS for kind in self.optimizer.moments):
            raise ValueError(
                f"{self._name}: expected an optimizer with momentum (SGD with one, Adam, AdamW), "
                f"got {type(self.optimizer).__name__}"
            )

    def share_of(self, rate: float, nonzeros: Counts, limits: Counts | None = None) -> Counts:
        """Share what a rate takes from these non-zeros out among their layers, in proportion.

        The rounding is common to all: were each layer rounded for itself, a small one would never
        change. A rate that moves nothing at all is said.
        """
        limits = nonzeros if limits is None else limits
        total = min(int(rate * sum(nonzeros.values())), sum(limits.values()))
        if not total:
            self.say_too_small(f"a rate of {rate:.3g}")
        return apportion(total, nonzeros, limits)

    def say_too_small(self, what: str) -> None:
        """Warn, once, that nothing moves."""
        if not self._said_too_small:
            self._said_too_small = True
            warnings.warn(
                f"{self._name}: after {self.steps} steps, {what} moves none of the "
                f"{self.pool.nonzeros} non-zeros",
                stacklevel=2,
            )

    def keep_largest(self, pruned: Counts) -> dict[str, np.ndarray]:
        """Prune so many of each layer's smallest magnitudes, the first of equals."""
        keep = {}
        for name, magnitudes in self.magnitudes().items():
            keep[name] = np.ones(len(magnitudes), bool)
            if count := pruned[name]:
                last = np.partition(magnitudes, count - 1)[count - 1]
                below = magnitudes < last
                equal = np.flatnonzero(magnitudes == last)[: count - np.count_nonzero(below)]
                keep[name][below] = keep[name][equal] = False
        return keep

    def free(self, keep: Mapping[str, np.ndarray]) -> Counts:
        """How many elements of each layer are no survivors."""
        return {name: size - int(keep[name].sum()) for name, size in self.sizes.items()}

    def random_zeros(self, keep: Mapping[str, np.ndarray], counts: Counts) -> dict[str, np.ndarray]:
        """Draw so many of the elements of each layer that are no survivors."""
        free, found = self.free(keep), {}
        for place, (name, layer) in enumerate(self.pool.layers.items()):
            # The last word keeps these draws apart from those of initial parameters.
            key = np.array([self.seed, 0], np.uint64)
            stream = np.random.Philox(key=key, counter=[0, place, self.steps, 1])
            ranks = sample(counts[name], free[name], stream.random_raw)
            found[name] = zeros_at(layer.elements()[keep[name]], ranks)
        return found

    # ---- inside ----

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _moment(self, kind: str) -> Parameter:
        return Parameter(self.optimizer.moment(kind, self.pool.values), requires_grad=False)

    def _by_layer(self, along: Parameter) -> dict[str, np.ndarray]:
        """Magnitudes of what lies along the non-zeros."""
        array = along.borrow()
        return {name: np.abs(array[layer.part]) for name, layer in self.pool.layers.items()}

    def _make(self, change: Change) -> list[Event]:
        moved = move(self.pool, *change)
        for along in (self.pool.values, *map(self._moment, self.optimizer.moments)):
            along.assign(moved.carry(along.borrow()))
        self.pool.rows.assign(moved.topology.rows)
        self.pool.columns.assign(moved.topology.columns)
        pruned = {name: int((~keep).sum()) for name, keep in change.keep.items()}
        return self._events(pruned, {name: len(each) for name, each in change.grown.items()})

    def _events(self, pruned: Counts, grown: Counts) -> list[Event]:
        return [
            Event(
                self.steps,
                name,
                pruned.get(name, 0),
                grown.get(name, 0),
                count,
                self.pool.layers[name].density,
            )
            for name, count in self.nonzeros.items()
        ]


def checked_fraction(who: str, name: str, fraction: float) -> float:
    """Give the fraction if it is above 0 and below 1."""
    if not 0 < fraction < 1:
        raise ValueError(f"{who}: {name} must be above 0 and below 1, got {fraction}")
    return fraction
