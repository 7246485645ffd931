"""When the values of a step that keeps everything are made, read and let go of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ..graph import ASSIGN, INPUT, READ, Node, Value, base_of
from ..plan import Plan
from .again import fresh_until
from .formats import Format
from .rounding import ANY_CELL, Rounding
from .select import is_small

__all__ = ["Crossing", "Lifetimes"]


class Crossing(NamedTuple):
    """How a value can cross in fewer bits: the format, its bytes, and the seconds it takes."""

    form: Format
    nbytes: int
    encoding: float
    decoding: float


class Lifetimes:
    """The values of the forward part that can be made again, and all else that fills the arena.

    Parameters
    ----------
    plan : Plan
        Of the step that keeps everything. If it is taken in micro-batches, the choice is about the
        values of each of them.
    seconds : callable
        The time that a node takes.
    formats : mapping of Value to dict of str to Format, optional
        In what a value may cross, by name.

    Attributes
    ----------
    values : tuple of Value
        In the order in which they are made.
    order : dict of Value to int
        The place of each in `values`.
    forward_end : dict of Value to int
        The half moment of the last node of the forward part that makes or reads each.
    reads : dict
        For each value, the others that it is made from.
    seconds : dict
        For each value, the time that its node takes.
    wanted : dict of int to list of (Value, int)
        What nodes of the backward part read, by their moments, and until which moment they do.
    crossings : dict of Value to dict of str to Crossing
        In what each value may cross.
    workspace : dict
        For each value, the bytes that its node takes beside its operands.
    siblings : dict
        For each value, what else its node makes.
    overwrites : dict
        For each value, those in whose memory it can be made if they die there.
    live : array
        Bytes at each half moment, when everything is kept.
    """

    def __init__(
        self,
        plan: Plan,
        seconds: Callable[[Node], float],
        formats: Mapping[Value, Mapping[str, Format]] = MappingProxyType({}),
    ) -> None:
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
            t: own
            for t, read in sorted(self.wanted.items())
            if (own := [r for r in read if r[0] in known])
        }
        self.order = {v: i for i, v in enumerate(self.values)}
        self.forward_end = {
            v: 2 * self.last_forward.get(v, self.time[v.node]) + 1 for v in self.values
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
        self.siblings = {v: tuple(w for w in v.node.outputs if w is not v) for v in self.values}
        self.overwrites = {v: frozenset(_overwritten(v)) for v in self.values}
        self.overwritable = self._overwritable()
        rounding = Rounding(ANY_CELL, graph)
        self.crossings = {
            v: {name: _crossing(v, form, rounding, seconds) for name, form in formats[v].items()}
            for v in self.values
            if v in formats
        }
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
                v in _overwritten(w) and w.node.part == "forward"
                for w in self.nodes[self.last_forward.get(v, self.time[v.node])].outputs
            )
        )

    def ways_to_read(self, t: int, value: Value) -> list[Crossing]:
        """The formats that the node of a moment can read a value in, as it is."""
        ways = self.crossings.get(value, {}).values()
        return [way for way in ways if self.reads_as_stored(self.nodes[t], value, way)]

    def reads_as_stored(self, node: Node, value: Value, way: Crossing) -> bool:
        """Whether a node reads a value in the bits in which it crosses, and in no others."""
        if not node.op.halves or not way.form.halves:
            return False
        return all(i in node.op.halves for i, v in enumerate(node.inputs) if v is value) and all(
            v is value for v in node.inputs if base_of(v) is value
        )


def _overwritten(value: Value) -> Iterator[Value]:
    """What a value can be made in the memory of."""
    return (base_of(value.node.inputs[i]) for i in value.node.overwrites(value.index))


def _crossing(
    value: Value, form: Format, rounding: Rounding, seconds: Callable[[Node], float]
) -> Crossing:
    encoded = form.encode(value, "", rounding)
    decoded = form.decode(encoded, value)
    nbytes = sum(v.nbytes for v in encoded)
    return Crossing(form, nbytes, seconds(encoded[0].node), seconds(decoded.node))
