"""How the non-zeros of a network move, in memory for the non-zeros alone.

The numbers of a layer's non-zeros in its flattened weight, its *elements*, ascend through its rows
of the pool.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ..ops import segments_of
from ..ops.sparse import SEGMENT
from .pool import Pool, Topology

__all__ = ["Move", "in_rows", "move", "sample", "zeros_at"]


def zeros_at(elements: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Give the elements of the zeros with these ranks among all zeros of a layer.

    Before the i-th non-zero, e, there are e - i zeros, so that a rank and the number of non-zeros
    passed on the way give a zero's element; the zeros are never listed.

    Parameters
    ----------
    elements : int64 array
        The non-zeros, ascending.
    ranks : int64 array

    Returns
    -------
    int64 array
    """
    zeros_before = elements - np.arange(len(elements))
    return ranks + np.searchsorted(zeros_before, ranks, side="right")


def sample(count: int, population: int, words: Callable[[int], np.ndarray]) -> np.ndarray:
    """Draw distinct numbers below `population`; all sets of that many are equally likely.

    Parameters
    ----------
    count, population : int
    words : callable
        Gives the next so many random uint64.

    Returns
    -------
    int64 array
        Ascending.
    """
    if not 0 <= count <= population:
        raise ValueError(f"cannot draw {count} distinct numbers below {population}")
    if 2 * count > population:  # draw what is left out; the whole is no longer than twice the part
        return np.delete(np.arange(population), sample(population - count, population, words))
    found = np.zeros(0, np.int64)
    while len(found) < count:
        # Never more than are missing: to leave some of a sorted set out would favour the others.
        unit = (words(count - len(found)) >> np.uint64(11)) * 2.0**-53
        found = np.sort(np.concatenate([found, (unit * population).astype(np.int64)]))
        found = found[np.diff(found, prepend=-1) > 0]  # np.unique hashes, which takes longer
    return found


class _Part(NamedTuple):
    """One layer of a move: its spans, what it keeps, and before which of that each new one goes."""

    old: slice
    new: slice
    keep: np.ndarray
    at: np.ndarray


class Move:
    """A change of where the non-zeros are, not yet made.

    Parameters
    ----------
    topology : Topology
        Where they will be; columns beyond the last row are 0.
    parts : list
    """

    def __init__(self, topology: Topology, parts: list[_Part]) -> None:
        self.topology = topology
        self._parts = parts

    def carry(self, array: np.ndarray) -> np.ndarray:
        """Give what lies along the non-zeros (values, a moment) where they will be.

        What stays, stays to the bit; what is new is 0, and so is what is beyond the last row.
        """
        moved = np.zeros_like(array)
        for old, new, keep, at in self._parts:
            moved[new] = np.insert(array[old][keep], at, 0)
        return moved


def move(pool: Pool, keep: Mapping[str, np.ndarray], grown: Mapping[str, np.ndarray]) -> Move:
    """Prune and regrow the non-zeros of a whole network.

    Layers may change their shares of the pool; together they must fit into it.

    Parameters
    ----------
    pool : Pool
    keep : mapping of str to bool array
        For each non-zero of a layer, in the pool's order, whether it survives; a layer that is
        missing keeps all.
    grown : mapping of str to int64 array
        The elements that become non-zeros, in any order: zeros, or non-zeros that do not survive. A
        layer that is missing grows none.

    Returns
    -------
    Move

    Raises
    ------
    ValueError
        What is to grow survives already, is named twice or is no element; or there is no room.
    """
    rows, columns = (np.zeros_like(p.borrow()) for p in (pool.rows, pool.columns))
    parts: list[_Part] = []
    end = 0
    for name, layer in pool.layers.items():
        old, before = layer.part, layer.elements()
        kept = keep.get(name, np.ones(len(before), bool))
        before = before[kept]
        new = np.sort(grown.get(name, before[:0]))
        at = np.searchsorted(before, new)
        elements = np.insert(before, at, new)
        _check_elements(name, layer.shape, elements)
        start, end = end, end + len(elements)
        if end > pool.capacity:
            raise ValueError(f"the pool has room for {pool.capacity} non-zeros, not for {end}")
        lengths, columns[start:end] = in_rows(layer.shape, elements)
        first = layer.first_row + 1
        rows[first : first + layer.row_count] = start + np.cumsum(lengths)
        parts.append(_Part(old, slice(start, end), kept, at))
    return Move(Topology(rows, columns), parts)


def _check_elements(name: str, shape: tuple[int, ...], elements: np.ndarray) -> None:
    size = math.prod(shape)
    if len(elements) and not 0 <= elements[0] <= elements[-1] < size:
        raise ValueError(f"{name}: only elements 0..{size - 1} can grow")
    twice = np.flatnonzero(np.diff(elements) == 0)
    if len(twice):
        raise ValueError(f"{name}: element {elements[twice[0]]} would be there twice")


def in_rows(shape: tuple[int, ...], elements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of a layer's rows in the pool, and the columns of its elements, which ascend."""
    channel, within = np.divmod(elements, max(math.prod(shape[1:]), 1))
    segment, column = np.divmod(within, SEGMENT)
    segments = segments_of(shape)
    lengths = np.bincount(channel * segments + segment, minlength=shape[0] * segments)
    return lengths, column.astype(np.uint16)
