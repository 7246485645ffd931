"""The last rewrite: values that policies have marked are made again in the backward part."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..graph import ASSIGN, READ, Graph, Node, Value, base_of

__all__ = ["fresh_until", "made_again"]


def fresh_until(graph: Graph) -> dict[Value, float]:
    """For each forward value, the moment when a cell that it was made from is overwritten."""
    overwritten = {n.attrs["cell"]: i for i, n in enumerate(graph.nodes) if n.op is ASSIGN}
    found: dict[Value, float] = {}
    for node in graph.nodes:
        if node.part == "forward":
            if node.op is READ or node.op is ASSIGN:
                until: float = overwritten.get(node.attrs["cell"], math.inf)
            else:
                until = min((found.get(v, math.inf) for v in node.inputs), default=math.inf)
            found.update(dict.fromkeys(node.outputs, until))
    return found


def made_again(graph: Graph) -> Graph:
    """Let the backward part read copies of the values that are marked so.

    A copy is made once, right before its first reader, together with those of the marked values
    that it needs. Everything else that copies read crosses to the backward part. So does a marked
    value that is still read when its parameters have been overwritten.
    """
    again = graph.again - graph.kept - _too_late(graph)
    new: dict[Value, Value] = {}
    copies: dict[Value, Value] = {}

    def is_dropped(value: Value) -> bool:
        return base_of(value) in again

    def copy(wanted: Iterable[Value]) -> None:
        stack = [v for v in wanted if is_dropped(v) and v not in copies]
        missing: set[Node] = set()
        while stack:
            node = stack.pop().node
            if node not in missing:
                missing.add(node)
                stack += [v for v in node.inputs if is_dropped(v) and v not in copies]
        for node in sorted(missing, key=lambda n: n.number):
            made = node.again(tuple(copies.get(v, new[v]) for v in node.inputs))
            made.part = "backward"
            copies.update(
                (old, value)
                for old, value in zip(node.outputs, made.outputs, strict=True)
                if is_dropped(old)
            )

    effects = []
    kept = set(graph.effects)
    for node in graph.nodes:
        if node.part == "backward":
            copy(node.inputs)
            inputs = tuple(copies.get(v, new[v]) for v in node.inputs)
        else:
            inputs = tuple(new[v] for v in node.inputs)
        twin = node.again(inputs)
        new.update(zip(node.outputs, twin.outputs, strict=True))
        if node in kept:
            effects.append(twin)
    inputs_now = [new.get(v, v) for v in graph.inputs]
    return Graph([new[v] for v in graph.outputs], effects, inputs_now).marked(remarks=graph.remarks)


def _too_late(graph: Graph) -> set[Value]:
    fresh = fresh_until(graph)
    return {
        v
        for i, node in enumerate(graph.nodes)
        if node.part == "backward"
        for v in map(base_of, node.inputs)
        if fresh.get(v, math.inf) <= i
    }
