"""Packing: offsets in one arena for blocks whose lifetimes are known.

Pure arithmetic: no graph, no ops. Greedy placement in several orders, then from several moments,
then a short local search.
The sum of live bytes at the worst moment bounds every packing from below, so the search stops when
it gets there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["ALIGNMENT", "Block", "live_bytes", "pack"]

#: Blocks start on multiples of this many bytes: the widest vector, and a cache line.
ALIGNMENT = 64

#: A search that comes this near to the bound is over.
_NEAR = 1.005
#: Moments that a search starts from, and blocks that it places, about: what limits its time.
_PIVOTS = 24
_SEARCH_STEPS = 15_000


class Block(NamedTuple):
    """Bytes that are needed from moment `start` to moment `end`, both included."""

    start: int
    end: int
    nbytes: int


def aligned(nbytes: int) -> int:
    """Round up to the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def live_bytes(blocks: Sequence[Block]) -> list[int]:
    """Sum of live bytes at each moment."""
    moments = max((b.end for b in blocks), default=-1) + 1
    change = [0] * (moments + 1)
    for b in blocks:
        change[b.start] += b.nbytes
        change[b.end + 1] -= b.nbytes
    return np.cumsum(change)[:moments].tolist()


def pack(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """Give each block an offset so that no two live blocks overlap.

    Parameters
    ----------
    blocks : sequence of Block

    Returns
    -------
    offsets : list of int
        Multiples of `ALIGNMENT`, one a block.
    height : int
        Bytes of the arena.
    """
    if not blocks:
        return [], 0
    sizes = np.array([aligned(b.nbytes) for b in blocks], np.int64)
    starts = np.array([b.start for b in blocks])
    ends = np.array([b.end for b in blocks])
    meets = (starts[:, None] <= ends) & (starts <= ends[:, None])
    bound = max(live_bytes([b._replace(nbytes=int(n)) for b, n in zip(blocks, sizes, strict=True)]))

    best: _Placement | None = None
    for enough, orders in (
        (bound, _orders(sizes, starts, ends)),
        (_NEAR * bound, _from_pivots(sizes, starts, ends)),
    ):
        for order in orders:
            for tightest in (True, False):
                if best is None or best.height > enough:
                    found = _place(order, sizes, meets, tightest)
                    if best is None or found.height < best.height:
                        best = found
    assert best is not None
    if best.height > _NEAR * bound:
        best = _search(best, sizes, meets, bound)
    return best.offsets.tolist(), best.height


class _Placement(NamedTuple):
    order: tuple[int, ...]
    tightest: bool
    offsets: np.ndarray
    height: int


def _orders(sizes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[int, ...]]:
    """Large first, long-lived first, both, and in order of time; ties in order of time."""
    lives = ends - starts + 1
    yield from _from_pivots(sizes, starts, ends, 1)
    for key in (-sizes, -sizes * lives, -lives, starts, -ends):
        yield tuple(np.lexsort((-sizes, starts, key)).tolist())


def _from_pivots(
    sizes: np.ndarray, starts: np.ndarray, ends: np.ndarray, count: int = _PIVOTS
) -> Iterator[tuple[int, ...]]:
    """What is live at a moment first, in the order in which it was made; then large first.

    For the worst moments in turn: where a step makes values again, it has many peaks alike, and the
    one that is hardest to pack need not be the highest.
    """
    moments = int(ends.max()) + 1
    change = np.zeros(moments + 1, np.int64)
    np.add.at(change, starts, sizes)
    np.add.at(change, ends + 1, -sizes)
    live = np.cumsum(change)[:moments]
    beside = np.maximum(np.append(0, live[:-1]), np.append(live[1:], 0))
    peaks = np.flatnonzero(live >= beside)
    for pivot in peaks[np.argsort(-live[peaks], kind="stable")][:count]:
        at_pivot = (starts <= pivot) & (pivot <= ends)
        yield tuple(np.lexsort((-sizes, np.where(at_pivot, starts, 0), ~at_pivot)).tolist())


def _place(
    order: tuple[int, ...], sizes: np.ndarray, meets: np.ndarray, tightest: bool
) -> _Placement:
    """Put each block, in order, into the tightest (or the lowest) gap that holds it."""
    offsets = np.zeros(len(sizes), np.int64)
    placed = np.zeros(len(sizes), bool)
    height = 0
    for i in order:
        size = sizes[i]
        others = np.flatnonzero(meets[i] & placed)
        placed[i] = True
        if others.size == 0:
            height = max(height, int(size))
            continue
        others = others[np.argsort(offsets[others], kind="stable")]
        tops = np.maximum.accumulate(offsets[others] + sizes[others])
        floors = np.concatenate([[0], tops[:-1]])
        gaps = offsets[others] - floors
        fits = np.flatnonzero(gaps >= size)
        if fits.size == 0:
            offsets[i] = tops[-1]
        else:
            offsets[i] = floors[fits[np.argmin(gaps[fits])] if tightest else fits[0]]
        height = max(height, int(offsets[i] + size))
    return _Placement(order, tightest, offsets, height)


def _search(best: _Placement, sizes: np.ndarray, meets: np.ndarray, bound: int) -> _Placement:
    """Move blocks that stick out, or that meet one that does, to an earlier place in the order.

    A move that makes nothing worse is kept. The moves are drawn, always the same ones.
    """
    draw = np.random.Generator(np.random.Philox(0))
    current = best
    for _ in range(int(np.clip(_SEARCH_STEPS // len(sizes), 20, 400))):
        if best.height <= _NEAR * bound:
            break
        tops = np.flatnonzero(current.offsets + sizes == current.height)
        near = np.flatnonzero(meets[tops].any(0)) if draw.random() < 0.5 else tops
        block = int(draw.choice(near))
        order = list(current.order)
        at = order.index(block)
        order.insert(int(draw.integers(0, at + 1)), order.pop(at))
        found = _place(tuple(order), sizes, meets, bool(draw.integers(2)))
        if found.height <= current.height:
            current = found
        if found.height < best.height:
            best = found
    return best
