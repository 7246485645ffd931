"""Checkpointing: keep a few values of the forward pass, make the rest again from them."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from ..errors import GraphError
from ..graph import ASSIGN, Graph, Node, Value, base_of
from .pipeline import Policy
from .select import crossing, is_small, nothing_matched

__all__ = ["Checkpoint", "narrow_places"]

#: Sizes of segments that are tried: from all that is saved down to a 250th, each 8 % smaller.
_LIMITS = 64


@dataclass(frozen=True)
class Checkpoint(Policy):
    """Keep checkpoints alone; make each segment between two of them again (Chen et al. 2016).

    The backward part makes a segment again when it comes to it. What follows the last checkpoint is
    kept, since the backward part begins there. Lossless, for at most one more forward pass.

    Parameters
    ----------
    every : int, optional
        A checkpoint is every so many-th place where a single value leads from what came before to
        what follows: in a residual network, after a block. Without arguments, segments are of equal
        bytes, so many that they and all checkpoints need least (Chen et al. 2016, algorithm 3).
    at : str or collection of str, optional
        Patterns of module paths: what leaves these modules is kept.

    Raises
    ------
    GraphError
        Both are given, or `every` is not positive.
    """

    phase: ClassVar[str] = "crossing"

    every: int | None = None
    at: str | Collection[str] | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.at is not None:
            raise GraphError("Checkpoint takes every= or at=, not both")
        if self.every is not None and self.every < 1:
            raise GraphError(f"Checkpoint: every must be at least 1, got {self.every}")

    def __call__(self, graph: Graph) -> Graph:
        """Give the graph with all but the checkpoints made again."""
        forward = [n for n in graph.nodes if n.part == "forward"]
        kept = self._spaced(graph, forward) if self.at is None else _leaving(forward, self.at)
        if not kept:
            nothing_matched(self, "place for a checkpoint")
            return graph
        last = max(v.node.number for v in kept)
        again = {
            v
            for node in forward
            if node.inputs and node.number < last and node.op is not ASSIGN
            for v in node.outputs
            if v not in kept and not is_small(v)
        }
        return graph.marked(again, kept, anew=_let_go(graph, again, kept))

    def _spaced(self, graph: Graph, forward: list[Node]) -> set[Value]:
        # The backward part begins at the last saved value: a checkpoint there spares nothing.
        end = max((v.node.number for v in crossing(graph) if not is_small(v)), default=-1)
        places = [v for v in narrow_places(graph) if v.node.number < end and not is_small(v)]
        if self.every is None:
            return _of_equal_bytes(graph, places)
        return set(places[self.every - 1 :: self.every])


def _of_equal_bytes(graph: Graph, places: list[Value]) -> set[Value]:
    """Checkpoints that need least together with the largest segment.

    A segment goes on as long as what is saved in it stays below a limit; many limits are tried.
    """
    saved = [v for v in crossing(graph) if v not in graph.again]
    saved.sort(key=lambda v: v.node.number)
    sums = [0, *itertools.accumulate(v.nbytes for v in saved)]
    upto = [sums[bisect.bisect(saved, p.node.number, key=lambda v: v.node.number)] for p in places]

    def cut(limit: float) -> tuple[int, list[Value]]:
        kept: list[Value] = []
        start = largest = 0
        for i, place in enumerate(places):
            following = upto[i + 1] if i + 1 < len(places) else sums[-1]
            if following - start > limit and upto[i] > start:
                largest = max(largest, upto[i] - start)
                start = upto[i]
                kept.append(place)
        return sum(v.nbytes for v in kept) + max(largest, sums[-1] - start), kept

    tried = (cut(sums[-1] * 2 ** (-i / 8)) for i in range(_LIMITS))
    return set(min(tried, key=lambda found: found[0])[1])


def _let_go(graph: Graph, again: set[Value], kept: set[Value]) -> set[tuple[int, Value]]:
    """Let values that another policy makes again not wait for their readers in a segment either.

    Each is let go of when its segment has been made, and made once more where it is read.
    """
    cheap = again & graph.again
    if not cheap:
        return set()
    bounds = sorted(v.node.number for v in kept)
    segments: dict[int, list[Value]] = {}
    for value in cheap:
        segments.setdefault(bisect.bisect(bounds, value.node.number), []).append(value)
    found: set[tuple[int, Value]] = set()
    backward = [n for n in graph.nodes if n.part == "backward"]
    for node, following in itertools.pairwise(backward):
        for value in map(base_of, node.inputs):
            if value in again:
                segment = segments.pop(bisect.bisect(bounds, value.node.number), ())
                found.update((following.origin, v) for v in segment)
    return found


def narrow_places(graph: Graph) -> list[Value]:
    """The values that alone lead from all that was computed before them to what follows.

    What leads only to state (a running mean, say) lies beside the way.
    """
    forward = [n for n in graph.nodes if n.part == "forward"]
    last_read = _last_reads(forward)
    live: set[Value] = set()
    found: dict[Value, None] = {}
    for i, node in enumerate(forward):
        if not node.inputs or node.op is ASSIGN:
            continue
        live.update(v for v in map(base_of, node.outputs) if v.node.inputs)
        live = {v for v in live if last_read.get(v, -1) > i}
        if len(live) == 1:
            found.update(dict.fromkeys(live))
    return list(found)


def _last_reads(forward: list[Node]) -> dict[Value, int]:
    """Number of the last node that reads a value, of those that lead on in the forward part."""
    found: dict[Value, int] = {}
    state_only: set[Node] = set()
    readers: dict[Node, list[Node]] = {}
    for i, node in reversed(list(enumerate(forward))):
        reading = readers.get(node, [])
        if node.op is ASSIGN or (reading and all(r in state_only for r in reading)):
            state_only.add(node)
        for value in node.inputs:
            readers.setdefault(value.node, []).append(node)
            if node not in state_only:
                found[base_of(value)] = max(i, found.get(base_of(value), -1))
    return found


def _leaving(forward: list[Node], at: str | Collection[str]) -> set[Value]:
    """The values that modules with such paths make and others read."""
    patterns = (at,) if isinstance(at, str) else tuple(at)

    def leaves(made: tuple[str, ...], read: tuple[str, ...]) -> bool:
        around = (made[:depth] for depth in range(1, len(made) + 1))
        return any(
            read[: len(module)] != module and fnmatchcase(".".join(module), pattern)
            for module in around
            for pattern in patterns
        )

    return {
        value
        for node in forward
        for value in map(base_of, node.inputs)
        if value.node.inputs and leaves(value.node.scope, node.scope)
    }
