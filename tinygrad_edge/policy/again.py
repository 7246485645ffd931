"""The last rewrite: how the values that policies have marked cross to the backward part."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from ..graph import ASSIGN, READ, Cell, Graph, Node, Value, base_of, marked
from ..ops import mask_apply
from .formats import RECTIFIERS, Mask
from .rounding import ANY_CELL, Rounding, drawing

__all__ = ["carried_out", "encoded", "fresh_until", "made_again"]


def fresh_until(graph: Graph) -> dict[Value, float]:
    """For each value, the moment when a version of a cell that it was made from is overwritten."""
    overwritten: dict[Value, float] = {}
    newest: dict[Cell, Value] = {}
    for i, node in enumerate(graph.nodes):
        if node.op is READ or node.op is ASSIGN:
            cell = node.attrs["cell"]
            if cell in newest:
                overwritten[newest[cell]] = i
            newest[cell] = node.outputs[0]
    found: dict[Value, float] = {}
    for node in graph.nodes:
        if node.op is READ or node.op is ASSIGN:
            until = overwritten.get(node.outputs[0], math.inf)
        else:
            until = min((found[v] for v in node.inputs), default=math.inf)
        found.update(dict.fromkeys(node.outputs, until))
    return found


def made_again(graph: Graph, rounding: Cell = ANY_CELL) -> Graph:
    """Let the backward part read copies of the values that are marked so.

    A value to be made again is made once more, right before its first reader, together with the
    marked values that it needs. A value to be stored in another format is encoded where it is made,
    and decoded before the first reader that cannot take what is encoded. Everything else that
    copies read crosses as it is. So does a value to be made again that is still read when its
    parameters have been overwritten, and one that is a result of the step, since it is there
    anyway.

    Parameters
    ----------
    graph : Graph
    rounding : Cell
        The generator of stochastic rounding.
    """
    return _Copying(graph, rounding).result()


def carried_out(graph: Graph, rounding: Cell) -> Graph:
    """The step with all that is marked in its core done: what is planned, and runs."""
    graph = drawing(graph, rounding)
    return graph.with_core(made_again(graph.core(), rounding))


def encoded(graph: Graph, rounding: Cell = ANY_CELL) -> Graph:
    """Store what is marked so; what is to be made again is still only marked.

    Unless a format rounds: what is made again then is made of rounded values, and is made here.
    """
    if not all(form.lossless for form in graph.stored.values()):
        return made_again(graph, rounding)
    bare = Graph(graph.outputs, graph.effects, graph.inputs)
    again = graph.again - graph.kept
    bare.stored = {v: form for v, form in graph.stored.items() if v not in again}
    bare.anew = frozenset((at, v) for at, v in graph.anew if v in bare.stored)
    bare.causes = graph.causes
    copying = _Copying(bare, rounding)
    found = copying.result()
    stored = found.causes["stored"]
    found.marked_like(graph, copying.new)
    found.stored, found.causes["stored"] = {}, stored
    return found


class _Copying:
    def __init__(self, graph: Graph, rounding: Cell) -> None:
        self.graph, self.rounding = graph, Rounding(rounding, graph)
        stay = graph.kept | _too_late(graph) | set(map(base_of, graph.outputs))
        self.again = graph.again - stay
        self.anew: dict[int, set[Value]] = {}
        for at, value in graph.anew:
            if value not in stay:
                self.anew.setdefault(at, set()).add(value)
        # What is stored is decoded once more when it was let go of.
        copied = self.again.union(*self.anew.values()) - (graph.stored.keys() - self.again)
        read = {base_of(v) for c in copied for v in c.node.inputs}
        self.stored = {
            v: form
            for v, form in graph.stored.items()
            if v not in self.again and (form.whole or v not in read)
        }
        self.new: dict[Value, Value] = {}
        self.encoded: dict[Value, tuple[Value, ...]] = {}
        self.copies: dict[Value, Value] = {}  # those that are there now
        self.originals: dict[Value, Value] = {}  # of all copies
        self.effects: list[Node] = []

    def result(self) -> Graph:
        """The graph with its copies."""
        graph, new = self.graph, self.new
        kept = set(graph.effects)
        first = {v.node for v in self.rounding.given}  # and stay so, for the first to be encoded
        for node in graph.nodes:
            twin = node if node in first else self._twin(node)
            new.update(zip(node.outputs, twin.outputs, strict=True))
            if node in kept:
                self.effects.append(twin)
            for value in node.outputs:
                if value in self.stored:
                    self._encode(value)
        with marked(part="update"):
            self.effects += self.rounding.advanced()
        inputs_now = [new.get(v, v) for v in graph.inputs]
        found = Graph([new[v] for v in graph.outputs], self.effects, inputs_now)
        found = found.marked(remarks=graph.remarks)
        found.causes = self._causes()
        return found

    def _causes(self) -> dict[str, dict[Value, str]]:
        """Which policies are behind each value, for who asks the plan why it is there."""
        graph, before = self.graph, self.graph.causes
        now = graph.again.union(graph.stored, (v for _, v in graph.anew))
        found: dict[str, dict[Value, str]] = {
            how: {self.new[v]: by for v, by in before[how].items() if v not in now}
            for how in ("again", "stored")  # copies that were there already
        }
        for copy, old in self.originals.items():
            base = base_of(old)
            how = "stored" if base in self.stored else "again"
            found[how][copy] = before[how].get(base, "")
            copy.node.origin = old.node.origin
        for old, encoded in self.encoded.items():
            found["stored"].update(dict.fromkeys(encoded, before["stored"].get(old, "")))
        found["kept"] = {self.new[v]: by for v, by in before["kept"].items()}
        return found

    def _twin(self, node: Node) -> Node:
        """The node on what it now reads."""
        if node.part != "backward":
            return node.again(tuple(self.new[v] for v in node.inputs))
        self._let_go(self.anew.get(node.origin, set()))
        stored = base_of(node.inputs[1]) if node.op in RECTIFIERS else None
        if stored is not None and isinstance(self.stored.get(stored), Mask):
            self._copy(node.inputs[:1])
            gradient = self.copies.get(node.inputs[0], self.new[node.inputs[0]])
            with marked(part=node.part, scope=node.scope, source=node.source):
                twin = mask_apply(gradient, *self.encoded[stored]).node
            twin.origin = node.origin
            return twin
        self._copy(self._needed(node))
        return node.again(self._now(node))

    def _as_stored(self, node: Node, i: int) -> bool:
        """Whether a node reads an input in the bits in which it is stored."""
        form = self.stored.get(node.inputs[i])
        return form is not None and form.halves and i in node.op.halves

    def _needed(self, node: Node) -> Iterator[Value]:
        """What must be there for a node as it was."""
        return (v for i, v in enumerate(node.inputs) if not self._as_stored(node, i))

    def _now(self, node: Node) -> tuple[Value, ...]:
        """What a node of the backward part reads."""
        return tuple(
            self.encoded[v][0] if self._as_stored(node, i) else self.copies.get(v, self.new[v])
            for i, v in enumerate(node.inputs)
        )

    def _is_copied(self, value: Value) -> bool:
        base = base_of(value)
        return base in self.again or base in self.stored

    def _let_go(self, gone: set[Value]) -> None:
        if gone:
            self.again |= gone.difference(self.graph.stored)
            self.copies = {v: copy for v, copy in self.copies.items() if base_of(v) not in gone}

    def _copy(self, wanted: Iterable[Value]) -> None:
        """Make copies of all marked values that lead to the wanted ones, and were not made yet."""
        stack = list(wanted)
        missing: dict[Value, None] = {}
        while stack:
            value = stack.pop()
            if self._is_copied(value) and value not in self.copies and value not in missing:
                missing[value] = None
                if value not in self.stored:
                    stack += self._needed(value.node)
        for value in sorted(missing, key=lambda v: v.node.number):
            if value in self.stored:
                self._decode(value)
            elif value not in self.copies:
                self._make(value.node)

    def _make(self, node: Node) -> None:
        made = node.again(self._now(node))
        made.part = "backward"
        for old, value in zip(node.outputs, made.outputs, strict=True):
            if self._is_copied(old) and old not in self.stored and old not in self.copies:
                self.copies[old] = value
                self.originals[value] = old

    def _encode(self, value: Value) -> None:
        node, form = value.node, self.stored[value]
        what = f"{'.'.join((*node.scope, node.op.name))}, stored as {form.name},"
        with marked(part=node.part, scope=node.scope, source=node.source):
            self.encoded[value] = form.encode(self.new[value], what, self.rounding)

    def _decode(self, value: Value) -> None:
        node = value.node
        with marked(part="backward", scope=node.scope, source=node.source):
            self.copies[value] = self.stored[value].decode(self.encoded[value], value)
        self.originals[self.copies[value]] = value


def _too_late(graph: Graph) -> set[Value]:
    fresh = fresh_until(graph)
    return {
        v
        for i, node in enumerate(graph.nodes)
        if node.part == "backward"
        for v in map(base_of, node.inputs)
        if fresh[v] <= i
    }
