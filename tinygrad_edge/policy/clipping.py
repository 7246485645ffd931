"""Gradients that wait for a number which all of them make: their global norm."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ..graph import Graph, Node, Value, ancestors, base_of
from ..ops.update import UPDATES

__all__ = ["Clipping", "find_clipping"]


class Clipping(NamedTuple):
    """Clipping by the global norm, as it is found in a step.

    Parameters
    ----------
    gradients : tuple of Value
        They are summed up before the scales, and read again after them.
    backward : tuple of Node
        What makes the gradients, in order.
    norm : frozenset of Node
        What makes the scales of the gradients.
    after : frozenset of Node
        What waits for a scale.
    more : float
        Operations of making the gradients once more, as a share of the step's.
    """

    gradients: tuple[Value, ...]
    backward: tuple[Node, ...]
    norm: frozenset[Node]
    after: frozenset[Node]
    more: float

    @property
    def nbytes(self) -> int:
        """Bytes of the gradients."""
        return sum(v.nbytes for v in set(map(base_of, self.gradients)))


def find_clipping(graph: Graph) -> Clipping | None:
    """Find the numbers that gradients are multiplied by, and are made of, before updates.

    None: no gradient waits for another.
    """
    updates = [n for n in graph.nodes if n.op in UPDATES]
    factors = Counter(v for n in updates for v in n.inputs[1].node.inputs if v.size == 1)
    scales = {v for v, count in factors.items() if count > 1}
    before = ancestors(scales)
    after: set[Node] = set()
    for node in graph.nodes:
        if any(v in scales or v.node in after for v in node.inputs):
            after.add(node)
    made_before = {n for n in before if n.part == "backward"}
    gradients = dict.fromkeys(
        v
        for node in graph.nodes
        if node in after
        for v in node.inputs
        if v.node in made_before and v not in scales
    )
    if len(gradients) < 2:
        return None
    backward = [n for n in ancestors(gradients) if n.part == "backward"]
    again = set(backward)
    norm: set[Node] = set()
    for node in before:
        if node not in again and any(v in gradients or v.node in norm for v in node.inputs):
            norm.add(node)
    # What is made again for the backward part is made again for a second one.
    again |= {v.node for v in graph.again - graph.kept}
    return Clipping(
        tuple(gradients),
        tuple(backward),
        frozenset(norm),
        frozenset(after),
        sum(n.op.flops(n) for n in again) / max(sum(n.op.flops(n) for n in graph.nodes), 1),
    )
