"""Updates as early as they can be, so that gradients die at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ..graph import ASSIGN, READ, Cell, Graph, Node, Value
from ..plan.ledger import megabytes
from .clipping import find_clipping
from .pipeline import Policy, checking

__all__ = ["EarlyUpdates"]


@dataclass(frozen=True)
class EarlyUpdates(Policy):
    """Update each parameter as soon as its gradient is there and its last reader is done."""

    phase: ClassVar[str] = "schedule"

    def __call__(self, graph: Graph) -> Graph:
        """Give the graph with its update part spread over the backward part."""
        if any(
            v.node.part == "update" for n in graph.nodes if n.part != "update" for v in n.inputs
        ):
            return graph  # the step goes on after an update: its order is the user's
        remarks = [r for r in _waiting(graph) if r not in graph.remarks]
        return graph.reordered(_updates_early(graph)).marked(remarks=remarks)


def _waiting(graph: Graph) -> Iterator[str]:
    """What it costs that gradients wait for a number that all of them make: their global norm."""
    clipping = find_clipping(graph)
    if clipping is not None:
        yield (
            f"{megabytes(clipping.nbytes)} of gradients wait for their global norm; a second "
            f"backward part instead, SecondBackward(), would take {clipping.more:.0%} more "
            "operations"
        )


def _updates_early(graph: Graph) -> list[Node]:
    """The nodes with each of the update part where all that it waits for has just been done."""
    last_check = max((n.number for n in checking(graph)), default=-1)
    blockers = _blockers(graph)
    # Constants and reads of cells wait for nothing; they come right before who reads them.
    updates = [n for n in graph.nodes if n.part == "update" and n.inputs]
    missing: dict[Node, int] = {}
    users: dict[Node, list[Node]] = {}
    for node in updates:
        needs = {v.node for v in node.inputs if v.node.inputs}
        needs |= blockers.get(node, set())
        missing[node] = len(needs)
        for needed in needs:
            users.setdefault(needed, []).append(node)
    placed: dict[Node, None] = {}

    def put(first: Node) -> None:
        stack = [first]
        while stack:
            node = stack.pop()
            placed.update(dict.fromkeys(v.node for v in node.inputs if not v.node.inputs))
            placed[node] = None
            ready = []
            for user in users.get(node, ()):
                missing[user] -= 1
                if missing[user] == 0 and checked:
                    ready.append(user)
            stack.extend(reversed(ready))

    checked = last_check < 0
    for node in graph.nodes:
        if node.part != "update" or (node in missing and missing[node] == 0 and node not in placed):
            put(node)
        if node.number == last_check:
            checked = True
            for waiting in updates:
                if missing[waiting] == 0 and waiting not in placed:
                    put(waiting)
    return list(placed)


def _blockers(graph: Graph) -> dict[Node, set[Node]]:
    """For each assignment and its update, the nodes that read the version it overwrites."""
    readers = graph.readers()
    newest: dict[Cell, Value] = {}
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


def _all_readers(value: Value, readers: dict[Value, list[Node]]) -> set[Node]:
    """Readers of a value and of its views."""
    found: set[Node] = set()
    stack = [value]
    while stack:
        for node in readers.get(stack.pop(), ()):
            found.add(node)
            if node.op.alias:
                stack.append(node.outputs[0])
    return found
