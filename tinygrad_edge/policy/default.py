"""The project's own choice: lossless and nearly free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..graph import ASSIGN, READ, Graph, Node
from .pipeline import Policy

__all__ = ["Default"]


@dataclass(frozen=True)
class Default(Policy):
    """Place each update as soon as its gradient is ready, so that the gradient dies at once.

    Updates wait for the last check of the step and for the last reader of what they overwrite. The order
    of arithmetic within each value is unchanged, so results are equal to the bit.
    """

    phase: ClassVar[str] = "schedule"

    def __call__(self, graph: Graph) -> Graph:
        """Give the graph with its update part spread over the backward part."""
        return graph.reordered(_updates_early(graph))


def _updates_early(graph: Graph) -> list[Node]:
    last_check = max((n.number for n in graph.nodes if n.op.may_refuse), default=-1)
    blockers = _blockers(graph)
    placed: set[Node] = set()
    order: list[Node] = []
    waiting: dict[Node, None] = {n: None for n in graph.nodes if n.part == "update"}
    users: dict[Node, list[Node]] = {}
    missing: dict[Node, int] = {}
    for node in waiting:
        needs = {v.node for v in node.inputs} | blockers.get(node, set())
        missing[node] = len(needs)
        for needed in needs:
            users.setdefault(needed, []).append(node)

    def put(first: Node) -> None:
        stack = [first]
        while stack:
            node = stack.pop()
            placed.add(node)
            order.append(node)
            ready = []
            for user in users.get(node, ()):
                missing[user] -= 1
                if missing[user] == 0 and checked:
                    ready.append(user)
            stack.extend(reversed(ready))

    checked = last_check < 0
    for node in graph.nodes:
        if node in placed:
            continue
        if node.part != "update" or missing[node] == 0:
            put(node)
        if node.number == last_check:
            checked = True
            for late in [n for n in waiting if n not in placed and missing[n] == 0]:
                if late not in placed:
                    put(late)
    return order


def _blockers(graph: Graph) -> dict[Node, set[Node]]:
    """For each assignment and its update, the nodes that read the version it overwrites."""
    readers = graph.readers()
    newest = {}
    found: dict[Node, set[Node]] = {}
    for node in graph.nodes:
        if node.op is READ:
            newest[node.attrs["cell"]] = node.outputs[0]
        elif node.op is ASSIGN:
            cell = node.attrs["cell"]
            if cell in newest:
                maker = node.inputs[0].node
                reading = _all_readers(newest[cell], readers)
                found[node] = reading - {node}
                if maker.part == "update":  # so that it can write over the old version
                    found.setdefault(maker, set()).update(reading - {node, maker})
            newest[cell] = node.outputs[0]
    return found


def _all_readers(value, readers) -> set[Node]:
    """Readers of a value and of its views."""
    found: set[Node] = set()
    stack = [value]
    while stack:
        for node in readers.get(stack.pop(), ()):
            found.add(node)
            if node.op.alias:
                stack.append(node.outputs[0])
    return found
