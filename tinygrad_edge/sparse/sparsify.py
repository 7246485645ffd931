"""Make a network's weights sparse."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

import numpy as np

from .. import trace
from ..errors import GraphError
from ..generator import initial_words
from ..graph import Graph
from ..nn import Conv2d, Linear, Module
from ..nn.initial import Initial
from ..optim import Optimizer
from ..parameter import Parameter
from ..policy import Policy
from .distribution import DISTRIBUTIONS, counts_of
from .pool import Pool, Topology
from .topology import in_rows

__all__ = ["SparseWeights", "sparsify"]

#: What stays dense unless it is named: weights this small, or reading so few channels (pictures).
SMALLEST, FEWEST_CHANNELS = 1024, 16

#: Elements of which random words are drawn at a time.
_BLOCK = 1 << 16

Patterns = str | Collection[str]


def sparsify(
    net: Module,
    sparsity: float,
    distribution: str = "uniform",
    where: Patterns | None = None,
    exclude: Patterns = (),
    optimizer: Optimizer | None = None,
) -> Pool:
    """Replace weights of a network by sparse ones; gives the pool, which becomes ``net.sparse``.

    A weight that has not been used begins with random non-zeros, equally many in each output
    channel, uniform within ±1 / sqrt(their number); nothing of dense size is made. One that was
    loaded or trained keeps its elements of largest magnitude.

    Parameters
    ----------
    net : Module
    sparsity : float
        Share of the elements of these weights, together, that become 0: from 0 to below 1.
    distribution : {"uniform", "erk"}
        Equal densities, or Erdős-Rényi-Kernel's (Evci et al. 2020), higher in small layers.
    where : str or collection of str, optional
        Patterns of weight names, such as ``"features.*"``. By default all of `Conv2d` and `Linear`
        that have at least 1,024 elements and read at least 16 channels, but for those in groups.
    exclude : str or collection of str
        Patterns of weights to leave dense.
    optimizer : Optimizer, optional
        One that has the dense weights among its parameters: goes on with the pool instead, and
        with the moments of what is kept.

    Raises
    ------
    ValueError
        No weight matches, one that matches is in groups, or the sparsity is out of range.
    GraphError
        The network is sparse already.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsify: the sparsity must be from 0 to below 1, got {sparsity}")
    if distribution not in DISTRIBUTIONS:
        known = ", ".join(DISTRIBUTIONS)
        raise ValueError(f"sparsify: expected a distribution of {known}, got {distribution!r}")
    if hasattr(net, "sparse"):
        raise GraphError("sparsify: the network has a 'sparse' already")
    layers = dict(_chosen(net, where, _patterns(exclude)))
    weights = list({id(m.weight.cell): m.weight for m in layers.values()}.values())
    names = {id(m.weight.cell): f"{n}.weight".lstrip(".") for n, m in reversed(layers.items())}
    shapes = {names[id(w.cell)]: w.shape for w in weights}
    counts = counts_of(shapes, sparsity, distribution)
    found = [
        _largest(w, n) if w.realize().cell.used else _random(w.shape, n)
        for w, n in zip(weights, counts.values(), strict=True)
    ]
    lengths = np.concatenate([[0], *(rows for rows, _ in found)])
    topology = Topology(
        np.cumsum(lengths).astype(np.int32),
        np.concatenate([columns for _, columns in found]),
    )
    pool = Pool(shapes, topology, _initial(lengths[1:]))
    replacements = dict(zip((id(w.cell) for w in weights), pool.layers.values(), strict=True))
    for module in layers.values():
        object.__setattr__(module, "weight", replacements[id(module.weight.cell)])
    net.sparse = pool
    _keep(pool, weights, optimizer)
    trace.setting_changed()
    return pool


# ---- which ----


def _patterns(given: Patterns) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _chosen(
    net: Module, where: Patterns | None, exclude: tuple[str, ...]
) -> Iterator[tuple[str, Conv2d | Linear]]:
    """Paths and layers whose weights become sparse."""
    named = None if where is None else _patterns(where)
    found = False
    for path, module in net.named_modules():
        if not isinstance(module, Conv2d | Linear):
            continue
        name = f"{path}.weight".lstrip(".")
        if any(fnmatchcase(name, p) or fnmatchcase(path, p) for p in exclude):
            continue
        groups = module.groups if isinstance(module, Conv2d) else 1
        if named is None:
            shape = module.weight.shape
            if groups > 1 or math.prod(shape) < SMALLEST or shape[1] < FEWEST_CHANNELS:
                continue
        elif not any(fnmatchcase(name, p) or fnmatchcase(path, p) for p in named):
            continue
        elif groups > 1:
            raise ValueError(f"sparsify: {name} is in {groups} groups, which stay dense")
        found = True
        yield path, module
    if not found:
        raise ValueError(f"sparsify: no weight matches {where or 'what is made sparse by default'}")


# ---- where the non-zeros are: lengths of rows, and columns ----


def _random(shape: tuple[int, ...], count: int) -> tuple[np.ndarray, np.ndarray]:
    """So many places, as equally many in each output channel as they divide into."""
    channels, width = shape[0], math.prod(shape[1:])
    words = initial_words()
    first_served = np.argsort(words(channels), kind="stable")
    each = np.full(channels, count // max(channels, 1))
    each[first_served[: count - int(each.sum())]] += 1
    step = max(_BLOCK // max(width, 1), 1)
    stream = np.random.Philox(int(words(1)[0]))
    lengths, columns = [np.empty(0, np.int64)], [np.empty(0, np.uint16)]
    most = count // max(channels, 1)
    for first in range(0, channels, step):
        block = each[first : first + step]
        ranks = stream.random_raw(len(block) * width).reshape(len(block), width)
        order = np.argpartition(ranks, min(most, width - 1), axis=1)
        found = [np.sort(row[:n]) for row, n in zip(order, block, strict=True)]
        rows = np.repeat(np.arange(len(block)), block)
        cut = in_rows((len(block), width), rows * width + np.concatenate(found))
        lengths.append(cut[0])
        columns.append(cut[1])
    return np.concatenate(lengths), np.concatenate(columns)


def _largest(weight: Parameter, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of largest magnitude, the first of equals."""
    flat = np.abs(weight.borrow()).reshape(-1)
    kept = np.sort(np.argsort(-flat, kind="stable")[:count])
    return in_rows(weight.shape, kept)


# ---- what they are ----


def _initial(lengths: np.ndarray) -> Initial:
    """Uniform within ±1 / sqrt(the row's number of non-zeros)."""
    words = initial_words()

    def draw() -> np.ndarray:
        bounds = (1 / np.sqrt(np.maximum(lengths, 1))).astype(np.float32)
        values = np.repeat(bounds, lengths)
        stream = np.random.Philox(int(words(1)[0]))
        for first in range(0, len(values), _BLOCK):
            part = values[first : first + _BLOCK]
            fraction = stream.random_raw(len(part)) >> np.uint64(40)  # all that a float32 holds
            part *= fraction.astype(np.float32) * np.float32(2**-23) - 1
        return values

    return draw


def _keep(pool: Pool, weights: list[Parameter], optimizer: Optimizer | None) -> None:
    """Take over what the dense weights, and their moments, have been trained to."""
    layers = list(pool.layers.values())

    def kept(found: np.ndarray, arrays: list[np.ndarray | None]) -> np.ndarray:
        for array, layer in zip(arrays, layers, strict=True):
            if array is not None:
                found[layer.part] = array.reshape(-1)[layer.elements()]
        return found

    if any(w.cell.used for w in weights):
        dense = [w.borrow() if w.cell.used else None for w in weights]
        pool.values.assign(kept(pool.values.numpy(), dense))

    def gathered(moments: list[np.ndarray | None]) -> np.ndarray | None:
        if all(m is None for m in moments):
            return None
        return kept(np.zeros(pool.capacity, np.float32), moments)

    for weight in weights:
        weight.cell.kind = "retired"
    if optimizer is not None:
        optimizer.exchange(weights, pool.values, gathered)


@dataclass(frozen=True)
class SparseWeights(Policy):
    """`sparsify` a network when the first step is recorded.

    Parameters
    ----------
    net : Module
    optimizer : Optimizer
        Of the step.
    sparsity : float
    distribution : {"uniform", "erk"}
    where, exclude : str or collection of str
        As in `sparsify`.

    Raises
    ------
    GraphError
        A weight that would become sparse has been used: `sparsify` says what is kept of it.
    """

    phase: ClassVar[str] = "structure"

    net: Module
    optimizer: Optimizer
    sparsity: float
    distribution: str = "uniform"
    where: Patterns | None = None
    exclude: Patterns = ()

    def prepare(self) -> None:
        """Make the network sparse, once."""
        if hasattr(self.net, "sparse"):
            return
        chosen = _chosen(self.net, self.where, _patterns(self.exclude))
        used = next((path for path, m in chosen if m.weight.realize().cell.used), None)
        if used is not None:
            raise GraphError(
                f"SparseWeights: {used}.weight is in use; call sparse.sparsify, which keeps its "
                "largest elements"
            )
        sparsify(
            self.net,
            self.sparsity,
            self.distribution,
            self.where,
            self.exclude,
            optimizer=self.optimizer,
        )

    def __call__(self, graph: Graph) -> Graph:
        """Give the graph as it is: what it was traced from is sparse."""
        return graph
