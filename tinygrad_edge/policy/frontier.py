"""What can be had for how much time: choices of values to make again, from fast to small.

A choice is the set of forward values that the backward part makes again. Its bytes and its time are
predicted from the plan of the step without any choice; the caller plans the ones it likes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ..graph import ASSIGN, Graph, Node, Value, base_of
from .again import fresh_until
from .checkpoint import narrow_places

__all__ = ["Choice", "Frontier"]

_NEVER = math.inf

# How far the search goes: sizes of segments, limits between the extremes, moves that may fail in a
# row.
_SEGMENTS, _LIMITS, _PATIENCE = 32, 12, 12


class Choice(NamedTuple):
    """A set of values to make again, with what it is predicted to need.

    Parameters
    ----------
    seconds : float
        More than the step takes without it.
    live_bytes : int
        Arena bytes at the worst moment.
    again : frozenset of Value
    """

    seconds: float
    live_bytes: int
    again: frozenset[Value]


class _Life(NamedTuple):
    """A forward value in the step as it is: when it is made and read."""

    value: Value
    nbytes: int
    seconds: float  # to make it
    reads: tuple[Value, ...]  # what it is made from, that lives in the arena
    last_forward: int
    first_backward: float
    last_backward: int


class Frontier:
    """Choices for one graph.

    Parameters
    ----------
    graph : Graph
        Ready to be planned.
    live_bytes : sequence of int
        Of its plan, at each node.
    seconds : callable
        The time that a node takes.
    """

    def __init__(
        self, graph: Graph, live_bytes: list[int], seconds: Callable[[Node], float]
    ) -> None:
        self.live = np.array(live_bytes, np.int64)
        self.step_seconds = sum(seconds(n) for n in graph.nodes if n.op.kernel is not None)
        self.graph = graph
        self.lives = _lives(graph, seconds)
        self._latest_first = tuple(reversed(self.lives.items()))
        #: What only the forward part reads is never kept for the backward part.
        self.unsaved = frozenset(v for v, a in self.lives.items() if a.first_backward == _NEVER)

    def choices(self) -> list[Choice]:
        """Those that no other beats in both, the fastest first."""
        if len(self.lives) == len(self.unsaved):
            return [self.predict(self.unsaved)[0]]
        found = list(self._descend(self.unsaved))
        segmented = [self._filled(choice) for choice in self._segmented()]
        found += segmented
        # Between the extremes: checkpoints, and as much besides as there is room for.
        for limit in np.geomspace(min(c.live_bytes for c in found), self.live.max(), _LIMITS)[1:-1]:
            small = [c for c in segmented if c.live_bytes <= limit]
            if small:
                fastest = min(small, key=lambda c: c.seconds)
                found.append(self._filled(fastest, int(limit)))
        best, smallest = [], math.inf
        for choice in sorted(found, key=lambda c: (c.seconds, c.live_bytes)):
            if choice.live_bytes < smallest:
                smallest = choice.live_bytes
                best.append(choice)
        return best

    def least_seconds(self, live_bytes: int) -> float:
        """A proven lower bound on the time that a limit of arena bytes costs.

        At each moment, the excess must be freed by values that cross it, and each of these is made
        again at least once, perhaps together with its node's other outputs: a fractional knapsack,
        of which the worst moment counts.
        """
        worst = 0.0
        for time in np.flatnonzero(self.live > live_bytes):
            excess = float(self.live[time] - live_bytes)
            crossing = sorted(
                (life.seconds / len(value.node.outputs) / life.nbytes, life.nbytes)
                for value, life in self.lives.items()
                if life.last_forward < time < life.first_backward < _NEVER
            )
            needed = 0.0
            for price, nbytes in crossing:
                needed += price * min(nbytes, excess)
                excess -= min(nbytes, excess)
                if excess <= 0:
                    break
            worst = max(worst, needed)
        return worst

    # ---- prediction ----

    def predict(self, again: frozenset[Value]) -> tuple[Choice, np.ndarray, dict[Value, int]]:
        """What a choice needs; live bytes at each moment; when each copy is made."""
        change = [0] * (len(self.live) + 1)

        def add(first: int, last: int, nbytes: int) -> None:
            if first <= last:
                change[first] += nbytes
                change[last + 1] -= nbytes

        copied: dict[Value, int] = {}
        held: dict[Value, int] = {}  # until when copies, or values that copies read, are needed
        makers: dict[Node, float] = {}
        together: dict[int, list[_Life]] = {}  # copies that are made one after the other
        passing: set[Value] = set()  # of them, those that only the others need
        for value, life in self._latest_first:
            if value not in again:
                continue
            time = min(life.first_backward, copied.get(value, _NEVER))
            if time == _NEVER:
                continue
            copied[value] = at = int(time)
            makers[value.node] = life.seconds
            together.setdefault(at, []).append(life)
            last = max(held.get(value, at), life.last_backward)
            if life.first_backward == _NEVER and last == at:
                passing.add(value)
            elif life.first_backward == _NEVER:
                add(at, last, life.nbytes)
            else:
                add(life.last_forward + 1, at - 1, -life.nbytes)
                add(life.last_backward + 1, last, life.nbytes)
            for read in life.reads:
                if read in again:
                    copied[read] = min(copied.get(read, at), at)
                held[read] = max(held.get(read, at), at)
        for at, copies in together.items():
            add(at, at, _passing_bytes(copies, passing))
        for value, until in held.items():
            if value not in copied:
                life = self.lives[value]
                add(max(life.last_forward, life.last_backward) + 1, until, life.nbytes)
        live = self.live + np.cumsum(change[:-1], dtype=np.int64)
        choice = Choice(sum(makers.values()), int(live.max(initial=0)), again)
        return choice, live, copied

    # ---- search ----

    def _segmented(self) -> Iterator[Choice]:
        """All but checkpoints, with segments of fewer and fewer bytes between them."""
        places = [v for v in narrow_places(self.graph) if v in self.lives and v not in self.unsaved]
        whole = sum(life.nbytes for v, life in self.lives.items() if v not in self.unsaved)
        smallest: float = math.inf
        before: set[Value] | None = None
        for step in range(_SEGMENTS):
            kept = self._checkpoints(places, whole * 2.0 ** (-1 - step / 4))
            if kept == before:
                continue
            if sum(self.lives[v].nbytes for v in kept) > smallest:
                return  # and so would be all that follow
            choice = self.predict(frozenset(self.lives) - kept)[0]
            yield choice
            smallest, before = min(smallest, choice.live_bytes), kept

    def _checkpoints(self, places: list[Value], limit: float) -> set[Value]:
        """The last place before each segment of values would outgrow the limit."""
        ends = {v.node: v for v in places}
        kept: set[Value] = set()
        segment, candidate, since = 0, None, 0
        for value, life in self.lives.items():
            if segment + life.nbytes > limit and candidate is not None:
                kept.add(candidate)
                segment, candidate = segment - since, None
            segment += life.nbytes
            if ends.get(value.node) is value:
                candidate, since = value, segment
        return kept

    def _filled(self, choice: Choice, limit: int = 0) -> Choice:
        """Keep what there is room for (by default, below the peak), the dearest first."""
        choice, live, copied = self.predict(choice.again)
        limit = max(limit, choice.live_bytes)
        for value in sorted(copied, key=lambda v: -self.lives[v].seconds / self.lives[v].nbytes):
            life = self.lives[value]
            if life.first_backward == _NEVER or value not in copied:
                continue
            between = live[life.last_forward + 1 : copied[value]]
            if between.max(initial=0) + life.nbytes <= limit:
                candidate, then, made = self.predict(choice.again - {value})
                if candidate.live_bytes <= limit:
                    choice, live, copied = candidate, then, made
        return choice

    def _descend(self, again: frozenset[Value]) -> Iterator[Choice]:
        """Free the worst moment, again and again; gives every choice on the way."""
        choice, live, copied = self.predict(again)
        yield choice
        settled: set[Value] = set()
        while True:
            worst = int(live.argmax())
            tried = 0
            for moved in self._moves(choice.again, worst, copied, settled):
                settled.add(moved)
                tried += 1
                candidate, then, made = self.predict(choice.again ^ {moved})
                if then[worst] < live[worst] and candidate.live_bytes <= choice.live_bytes:
                    choice, live, copied = candidate, then, made
                    yield choice
                    break
                if tried == _PATIENCE:
                    return
            else:
                return

    def _moves(
        self, again: frozenset[Value], worst: int, copied: dict[Value, int], settled: set[Value]
    ) -> Iterable[Value]:
        """Values to drop at a moment, the cheapest first; then copies to spare, the largest."""
        crossing = [
            v
            for v, life in self.lives.items()
            if v not in again
            and v not in settled
            and life.last_forward < worst < life.first_backward < _NEVER
        ]
        yield from sorted(
            crossing, key=lambda v: self._price(v, again, copied) / self.lives[v].nbytes
        )
        alive = [v for v, at in copied.items() if v not in settled and at <= worst]
        yield from sorted(alive, key=lambda v: -self.lives[v].nbytes)

    def _price(self, value: Value, again: frozenset[Value], copied: dict[Value, int]) -> float:
        """Time to make a value again, together with what has to be made again for it."""
        makers: dict[Node, float] = {}
        stack = [value]
        while stack:
            life = self.lives[stack.pop()]
            if life.value.node not in makers:
                makers[life.value.node] = life.seconds
                stack += [v for v in life.reads if v in again and v not in copied]
        return sum(makers.values())


def _passing_bytes(copies: list[_Life], passing: set[Value]) -> int:
    """What copies made one after the other, the last one first, take beside those that stay."""
    if not any(life.value in passing for life in copies):
        return 0
    last_use = {v: life for life in reversed(copies) for v in life.reads if v in passing}
    live = peak = staying = 0
    for life in reversed(copies):
        dying = [v for v in life.reads if last_use.get(v) is life]
        live += life.nbytes
        peak = max(peak, live - (life.nbytes if _overwrites(life.value, dying) else 0))
        live -= sum(v.nbytes for v in dying)
        staying += 0 if life.value in passing else life.nbytes
    return max(0, peak - staying)


def _overwrites(value: Value, dying: list[Value]) -> bool:
    """Whether a value can be made in the memory of one that dies there."""
    node = value.node
    return any(
        index == value.index
        and i < len(node.inputs)
        and base_of(node.inputs[i]) in dying
        and node.inputs[i].nbytes == value.nbytes
        for index, i in node.op.inplace
    )


def _lives(graph: Graph, seconds: Callable[[Node], float]) -> dict[Value, _Life]:
    """The forward values that can be made again, in the order in which they are made."""
    time = {node: i for i, node in enumerate(graph.nodes)}
    outputs = {base_of(v) for v in graph.outputs}
    forward: dict[Value, int] = {}
    backward: dict[Value, list[int]] = {}
    for node in graph.nodes:
        if node.op.alias:
            continue
        for value in map(base_of, node.inputs):
            if node.part == "backward":
                backward.setdefault(value, []).append(time[node])
            else:
                forward[value] = time[node]
    found: dict[Value, _Life] = {}
    fresh = fresh_until(graph)
    for node in graph.nodes:
        if node.part != "forward" or not node.inputs or node.op is ASSIGN or node.op.alias:
            continue
        reads = dict.fromkeys(map(base_of, node.inputs))
        for value in node.outputs:
            at = backward.get(value, [])
            if value not in outputs and max(at, default=0) < fresh[value]:
                found[value] = _Life(
                    value,
                    value.nbytes,
                    seconds(node),
                    tuple(v for v in reads if v in found),
                    forward.get(value, time[node]),
                    min(at, default=_NEVER),
                    max(at, default=-1),
                )
    return found
