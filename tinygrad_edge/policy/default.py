"""The project's own choice: lossless and nearly free."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ..graph import ASSIGN, READ, Cell, Graph, Node, Value, ancestors, base_of
from ..ops.chain import CHAIN, is_step
from ..ops.conv import CONVOLUTIONS
from ..ops.norm import BATCH_NORM_APPLY, BATCH_NORM_APPLY_ADD
from ..ops.sparse import SPARSE_CONV2D
from ..ops.update import UPDATES
from ..plan.ledger import megabytes
from .formats import Format, Mask, backward_readers, bitmask
from .pipeline import Policy, checking
from .select import SMALL, crossing

__all__ = ["Default"]

#: A processor that is busy makes so many multiply-adds in the time that one float32 takes to be
#: read and written: 50 to 60 of them a nanosecond on a core, and 5 to 10 GB/s.
MULTIPLY_ADDS = 32
#: The dearest convolution that is made again, and all that leads to a value from what is kept.
DEAREST, MOST_PASSES = 2, 4
#: Fewer bytes stay in a core's nearest cache anyway, and a call costs more than they are worth.
WORTHWHILE = 2**15


@dataclass(frozen=True)
class Default(Policy):
    """Keep what is dear, make again what is nearly free, and let gradients die at once.

    What a few passes over memory make of kept values is made again where the backward part reads
    it: the normalised and rectified outputs of convolutions, most residual sums, and the
    outputs of convolutions that add up so few products (depthwise; 1x1 from up to 64 channels)
    that they take hardly longer than a pass.
    A rectifier's output of which only signs are read crosses as bits. Values below 32 KiB are kept.
    Each update comes as soon as its gradient is ready. It waits for the last check of the step and
    for the last reader of what it overwrites. The order of arithmetic within each value is
    unchanged, so results are equal to the bit.
    """

    phase: ClassVar[str] = "crossing"

    def __call__(self, graph: Graph) -> Graph:
        """Mark the values that are nearly free, and those that fewer bits stand for."""
        masks = _masks(graph)
        again = _nearly_free(graph) - masks.keys()
        read = {base_of(v) for value in again for v in value.node.inputs}
        return graph.marked(again, stored={v: f for v, f in masks.items() if v not in read})

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
        return graph.reordered(_updates_early(graph)).marked(remarks=_held_gradients(graph))


def _held_gradients(graph: Graph) -> Iterator[str]:
    """What it costs that gradients wait for a number that all of them make: their global norm."""
    updates = [n for n in graph.nodes if n.op in UPDATES]
    scales = Counter(v for n in updates for v in n.inputs[1].node.inputs if v.size == 1)
    for scale, count in scales.items():
        before = [n for n in ancestors([scale]) if n.part == "update"]
        held = {v for n in before for v in map(base_of, n.inputs) if v.node.part == "backward"}
        if count > 1 and len(held) > 1:
            parts = Counter[str]()
            for node in graph.nodes:
                parts[node.part] += node.op.flops(node)
            yield (
                f"Default(): {megabytes(sum(v.nbytes for v in held))} of gradients wait for their "
                "global norm; a second backward part instead would take "
                f"{parts['backward'] / max(parts.total(), 1):.0%} more operations"
            )


def _nearly_free(graph: Graph) -> set[Value]:
    """Saved values, and what leads to them, that few passes over memory make of what is kept."""
    saved = set(graph.saved())
    outputs = set(map(base_of, graph.outputs))  # there anyway
    passes: dict[Value, float] = {}  # from what is kept to the value
    for node in graph.nodes:
        own = _passes(node) if node.part == "forward" and node.inputs else None
        if own is None:
            continue
        value = node.outputs[0]
        sources = _sources(node)
        there = all(v in passes or v in saved or not v.node.inputs for v in sources)
        all_in_all = own + max((passes.get(v, 0) for v in sources), default=0)
        if there and all_in_all <= MOST_PASSES and value not in outputs:
            passes[value] = all_in_all
    found = {v for v in passes if v in saved and v.nbytes >= WORTHWHILE}
    stack = list(found)
    while stack:
        for value in map(base_of, stack.pop().node.inputs):
            if value in passes and value not in found:
                found.add(value)
                stack.append(value)
    return found


def _passes(node: Node) -> float | None:
    """How long a node takes, in passes over its output; None: it is dear."""
    if is_step(node) or node.op in (CHAIN, BATCH_NORM_APPLY, BATCH_NORM_APPLY_ADD):
        return 1
    if node.op is SPARSE_CONV2D:  # fewer products, but each takes longer: judged as if dense
        products = math.prod(node.attrs["weight_shape"][1:])
    elif node.op in CONVOLUTIONS:
        products = node.op.flops(node) // (2 * max(node.outputs[0].size, 1))
    else:
        return None
    passes = products / MULTIPLY_ADDS
    return max(1, passes) if passes <= DEAREST else None


def _masks(graph: Graph) -> dict[Value, Format]:
    """Outputs of rectifiers of which the backward part reads signs alone, where that matters."""
    outputs = set(map(base_of, graph.outputs))  # there anyway
    readers = backward_readers(graph)
    large = max(WORTHWHILE, SMALL * sum(v.nbytes for v in crossing(graph)))
    candidates = (v for v in crossing(graph) if v not in outputs and v.nbytes >= large)
    # Positions in a pool's windows, which could be bits too, are bytes: too few to matter.
    forms = ((v, bitmask(v, readers[v])) for v in candidates)
    return {v: form for v, form in forms if isinstance(form, Mask) and form.nbytes(v) < v.nbytes}


def _sources(node: Node) -> list[Value]:
    """What a node reads that is not small beside what it makes."""
    if node.op is SPARSE_CONV2D or node.op in CONVOLUTIONS:
        return [base_of(node.inputs[0])]
    return [v for v in map(base_of, node.inputs) if v.nbytes >= node.outputs[0].nbytes]


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
