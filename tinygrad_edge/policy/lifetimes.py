"""When the values of a step are made, read and let go of: what a choice about them needs.

A choice says which values of the forward part are not kept for the backward part, and before which
nodes of the backward part one is let go of once more. Its bytes and its time are predicted from the
plan of the step that keeps everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..graph import ASSIGN, INPUT, READ, Graph, Node, Value, base_of
from ..plan import Plan
from .again import fresh_until
from .select import is_small

__all__ = ["Anew", "Choice", "Copy", "Lifetimes", "overwrites"]

#: Before which nodes of the backward part, by their moments, a value is let go of.
Anew = frozenset[tuple[int, Value]]


class Choice(NamedTuple):
    """What is made again, with what that is predicted to need.

    Parameters
    ----------
    seconds : float
        More than the step takes without it.
    live_bytes : int
        Arena bytes at the worst moment.
    again : frozenset of Value
        Not kept for the backward part.
    anew : frozenset of (int, Value)
        Let go of before the node of a moment, be it kept or a copy.
    """

    seconds: float
    live_bytes: int
    again: frozenset[Value]
    anew: Anew = frozenset()


class Copy:
    """A value from when it is made, or made again, to when it is last read.

    Moments have two halves here: moment 2 t is before node t, when values are made again for it,
    and 2 t + 1 is the node's own.
    """

    __slots__ = ("value", "since", "until", "reads")

    def __init__(self, value: Value, since: int) -> None:
        self.value, self.since, self.until = value, since, since
        self.reads: list[int] = []

    def read(self, at: int) -> None:
        """Be needed until a half moment."""
        self.until = max(self.until, at)
        self.reads.append(at)


class Lifetimes:
    """The values of the forward part that can be made again, and all else that fills the arena.

    Parameters
    ----------
    plan : Plan
        Of the step that keeps everything. If it is taken in micro-batches, the choice is about the
        values of each of them.
    seconds : callable
        The time that a node takes.

    Attributes
    ----------
    values : tuple of Value
        In the order in which they are made.
    reads : dict
        For each value, the others that it is made from.
    seconds : dict
        For each value, the time that its node takes.
    wanted : dict of int to list of (Value, int)
        What nodes of the backward part read, by their moments, and until which moment they do.
    workspace : dict
        For each value, the bytes that its node takes beside its operands.
    live : array
        Bytes at each half moment, when everything is kept.
    """

    def __init__(self, plan: Plan, seconds: Callable[[Node], float]) -> None:
        graph = self.graph = plan.graph.core()
        self.nodes = [moment.node for moment in plan.storage.moments]
        self.step_seconds = sum(seconds(n) for n in self.nodes if n.op.kernel is not None)
        self.time = {node: i for i, node in enumerate(self.nodes)}
        self.fresh = fresh_until(graph)
        self.last_forward: dict[Value, int] = {}
        self.wanted: dict[int, list[tuple[Value, int]]] = {}
        self._read_all()
        self.values = tuple(self._leading_to_wanted(self._choosable()))
        known = set(self.values)
        self.wanted = {
            t: own for t, read in self.wanted.items() if (own := [r for r in read if r[0] in known])
        }
        self.last_backward: dict[Value, int] = {}
        self.first_backward: dict[Value, int] = {}
        for t, read in self.wanted.items():
            for value, until in read:
                self.first_backward.setdefault(value, t)
                self.last_backward[value] = max(until, self.last_backward.get(value, -1))
        self.reads = {
            v: tuple(r for r in dict.fromkeys(map(base_of, v.node.inputs)) if r in known)
            for v in self.values
        }
        #: What else it is made from, and until when that is there anyway.
        self.others = {
            v: tuple(r for r in dict.fromkeys(map(base_of, v.node.inputs)) if self._stays(r, known))
            for v in self.values
        }
        self.last = {
            base_of(v): 2 * self.time[n] + 1 for n in graph.nodes for v in n.inputs
        } | dict.fromkeys(map(base_of, graph.outputs), len(self.nodes) * 2)
        self.seconds = {v: seconds(v.node) for v in self.values}
        self.nbytes = {v: v.nbytes for v in self.values}
        self.made_by: dict[Node, list[Value]] = {}
        for value in self.values:
            self.made_by.setdefault(value.node, []).append(value)
        self.live = self._live_bytes(plan)
        workspaces = [0] * len(self.nodes)
        for buffer in plan.storage.buffers:
            workspaces[buffer.start] += 0 if buffer.lives else buffer.nbytes
        self.workspace = {v: workspaces[self.time[v.node]] for v in self.values}
        self.overwritable = self._overwritable()
        #: What only the forward part reads is never kept for the backward part.
        self.unsaved = frozenset(v for v in self.values if v not in self.last_backward)

    def _read_all(self) -> None:
        """Note who reads what in the backward part; views there hold what they show."""
        shown: dict[Value, tuple[list[tuple[Value, int]], int]] = {}
        for node in self.graph.nodes:
            time = self.time[node]
            for value in node.inputs:
                base = base_of(value)
                if node.part != "backward":
                    self.last_forward[base] = time
                elif value in shown:
                    reads, i = shown[value]
                    reads[i] = (base, time)
                else:
                    self.wanted.setdefault(time, []).append((base, time))
                if node.part == "backward" and node.op.alias:
                    reads = self.wanted.get(time, [])
                    shown[node.outputs[0]] = shown.get(value) or (reads, len(reads) - 1)

    def _choosable(self) -> list[Value]:
        """What is worth it, can be made again, and is not there anyway."""
        last = {v: t for t, read in self.wanted.items() for v, t in read}
        there_anyway = set(map(base_of, self.graph.outputs))
        return [
            value
            for node in self.graph.nodes
            if node.part == "forward" and node.inputs and node.op is not ASSIGN
            if not node.op.alias
            for value in node.outputs
            if value not in there_anyway
            if not is_small(value) and last.get(value, 0) < self.fresh[value]
        ]

    def _stays(self, value: Value, known: set[Value]) -> bool:
        """Whether a value is in the arena and always kept while it is needed."""
        return value not in known and value.node.op not in (INPUT, READ, ASSIGN)

    def _leading_to_wanted(self, values: list[Value]) -> list[Value]:
        """Those that the backward part reads, or that are on the way to one that it does."""
        needed = {v for read in self.wanted.values() for v, _ in read}.intersection(values)
        for value in reversed(values):
            if value in needed:
                needed.update(map(base_of, value.node.inputs))
        return [v for v in values if v in needed]

    def _live_bytes(self, plan: Plan) -> np.ndarray:
        count = 2 * len(self.nodes)
        change = np.zeros(count + 1, np.int64)
        for buffer in plan.storage.buffers:
            # What a node makes is not there before it.
            change[min(2 * buffer.start + 1, count)] += buffer.nbytes
            change[min(2 * buffer.end + 2, count)] -= buffer.nbytes
        return np.cumsum(change[:-1])

    def _overwritable(self) -> frozenset[Value]:
        """What its last reader in the forward part may write over, if no other part reads it."""
        return frozenset(
            v
            for v in self.values
            if any(
                overwrites(w, [v]) and w.node.part == "forward"
                for w in self.nodes[self.last_forward.get(v, self.time[v.node])].outputs
            )
        )

    def marked(self, graph: Graph, choice: Choice) -> Graph:
        """The graph with the marks of a choice."""
        anew = [(self.nodes[t].origin, v) for t, v in choice.anew]
        return graph.marked(choice.again, anew=anew)

    # ---- prediction ----

    def predict(self, again: frozenset[Value], anew: Anew = frozenset()) -> Choice:
        """What a choice needs."""
        return self.simulate(again, anew)[0]

    def simulate(
        self, again: frozenset[Value], anew: Anew
    ) -> tuple[Choice, np.ndarray, list[Copy]]:
        """What a choice needs; the bytes at each half moment; originals, then copies."""
        originals, copies, seconds = self._copies(again, anew)
        change = np.zeros(len(self.live) + 1, np.int64)
        for value, until in {v: c.since for c in copies for v in self.others[c.value]}.items():
            if until > self.last[value]:
                change[self.last[value] + 1] += value.nbytes
                change[until + 1] -= value.nbytes
        leaving: dict[int, list[Copy]] = {}  # what is read for the last time to make others
        for copy in originals:
            value = copy.value
            usual = 2 * max(self.last_forward.get(value, 0), self.last_backward.get(value, 0)) + 1
            change[usual + 1] += self.nbytes[value]
            change[copy.until + 1] -= self.nbytes[value]
            if copy.until % 2 == 0:
                leaving.setdefault(copy.until, []).append(copy)
            elif copy.until < usual and value in self.overwritable:
                if copy.until == 2 * self.last_forward[value] + 1:
                    change[copy.until] -= self.nbytes[value]
                    change[copy.until + 1] += self.nbytes[value]
        entering: dict[int, list[Copy]] = {}
        for copy in copies:
            entering.setdefault(copy.since, []).append(copy)
            change[copy.since + 1] += self.nbytes[copy.value]
            change[max(copy.until, copy.since) + 1] -= self.nbytes[copy.value]
            if copy.until % 2 == 0 and copy.until > copy.since:
                leaving.setdefault(copy.until, []).append(copy)
        for at, made in entering.items():
            most = self._most(made, leaving.get(at, ()))
            change[at] += most
            change[at + 1] -= most
        live = self.live + np.cumsum(change[:-1])
        return Choice(seconds, int(live.max(initial=0)), again, anew), live, originals + copies

    def _copies(self, again: frozenset[Value], anew: Anew) -> tuple[list[Copy], list[Copy], float]:
        """Go through the backward part and make what it wants and has not."""
        let_go: dict[int, list[Value]] = {}
        for t, value in anew:
            let_go.setdefault(t, []).append(value)
        there: dict[Value, Copy] = {}
        originals = []
        for value in self.values:
            copy = Copy(value, 2 * self.last_forward.get(value, self.time[value.node]) + 1)
            originals.append(copy)
            if value not in again:
                there[value] = copy
        copies: list[Copy] = []
        seconds = 0.0
        for t in sorted(self.wanted):
            for value in let_go.get(t, ()):
                there.pop(value, None)
            missing: set[Value] = set()
            stack = [v for v, _ in self.wanted[t] if v not in there]
            while stack:
                value = stack.pop()
                if value not in missing:
                    missing.add(value)
                    stack += [v for v in self.reads[value] if v not in there]
            for node in sorted({v.node for v in missing}, key=lambda n: n.number):
                made = [v for v in self.made_by[node] if v not in there]
                for read in self.reads[made[0]]:
                    there[read].read(2 * t)
                seconds += self.seconds[made[0]] if t < self.fresh[made[0]] else math.inf
                for value in made:
                    there[value] = Copy(value, 2 * t)
                    copies.append(there[value])
            for value, until in self.wanted[t]:
                there[value].read(2 * until + 1)
        return originals, copies, seconds

    def _most(self, made: list[Copy], leaving: list[Copy] | tuple[Copy, ...]) -> int:
        """Bytes that copies made one after the other take at the worst, beside what was there."""
        passing = {c.value for c in made if c.until == c.since}
        passing.update(c.value for c in leaving)
        last_use = {v: c for c in made for v in self.reads[c.value] if v in passing}
        live = most = 0
        for copy in made:
            dying = [v for v in self.reads[copy.value] if last_use.get(v) is copy]
            live += self.nbytes[copy.value]
            over = self.nbytes[copy.value] if overwrites(copy.value, dying) else 0
            most = max(most, live - over + self.workspace[copy.value])
            live -= sum(self.nbytes[v] for v in dying)
        return most


def overwrites(value: Value, dying: list[Value]) -> bool:
    """Whether a value can be made in the memory of one that dies there."""
    node = value.node
    return any(
        index == value.index
        and i < len(node.inputs)
        and base_of(node.inputs[i]) in dying
        and node.inputs[i].nbytes == value.nbytes
        for index, i in node.op.inplace
    )
