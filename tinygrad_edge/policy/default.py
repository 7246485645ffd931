"""The project's own choice: lossless and nearly free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..graph import ASSIGN, READ, Cell, Graph, Node, Value, base_of
from ..ops.chain import CHAIN, is_step
from ..ops.norm import BATCH_NORM_APPLY, BATCH_NORM_APPLY_ADD
from .pipeline import Policy, checking

__all__ = ["Default"]


@dataclass(frozen=True)
class Default(Policy):
    """Keep what is dear, make again what is nearly free, and let gradients die at once.

    What one pass makes of kept values (the normalised and rectified output of a convolution, every
    other residual sum) is made again where the backward part reads it: that costs about what
    writing and reading it would.
    Each update comes as soon as its gradient is ready. It waits for the last check of the step and
    for the last reader of what it overwrites. The order of arithmetic within each value is
    unchanged, so results are equal to the bit.
    """

    phase: ClassVar[str] = "crossing"

    def __call__(self, graph: Graph) -> Graph:
        """Mark the values that are nearly free."""
        return graph.marked(_nearly_free(graph))

    def parts(self) -> tuple[Policy, ...]:
        """The two rewrites."""
        return self, _EarlyUpdates()


@dataclass(frozen=True)
class _EarlyUpdates(Policy):
    phase: ClassVar[str] = "schedule"

    def __call__(self, graph: Graph) -> Graph:
        """Give the graph with its update part spread over the backward part."""
        if any(
            v.node.part == "update" for n in graph.nodes if n.part != "update" for v in n.inputs
        ):
            return graph  # the step goes on after an update: its order is the user's
        return graph.reordered(_updates_early(graph))


def _nearly_free(graph: Graph) -> set[Value]:
    """Saved values that one pass makes of what is kept, or of what one pass makes of that.

    The sum at the end of a residual block is one if the sum before it is kept: every other one.
    """
    saved = set(graph.saved())
    outputs = set(map(base_of, graph.outputs))  # there anyway
    found: set[Value] = set()

    def kept(value: Value) -> bool:
        return value in saved and value not in found

    for value in (v for n in graph.nodes if n.part == "forward" for v in n.outputs):
        if value in saved and value not in outputs and _is_one_pass(value):
            on_the_way = [v for v in _large_inputs(value) if not kept(v)]
            if all(
                v not in saved and _is_one_pass(v) and all(map(kept, _large_inputs(v)))
                for v in on_the_way
            ):
                found.update((value, *on_the_way))
    return found


def _is_one_pass(value: Value) -> bool:
    node = value.node
    return is_step(node) or node.op in (CHAIN, BATCH_NORM_APPLY, BATCH_NORM_APPLY_ADD)


def _large_inputs(value: Value) -> list[Value]:
    return [v for v in map(base_of, value.node.inputs) if v.nbytes >= value.nbytes]


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
