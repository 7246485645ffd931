"""A second backward part: gradients are made once for their norm, and once more for the updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import GraphError
from ..graph import Graph, Node, Value
from ..plan.ledger import megabytes
from .again import carried_out
from .clipping import Clipping, find_clipping
from .early_updates import EarlyUpdates
from .pipeline import ANY_MACHINE, Machine, Policy
from .select import nothing_matched

__all__ = ["SecondBackward"]


@dataclass(frozen=True)
class SecondBackward(Policy):
    """Clip by the global norm without keeping gradients: make them twice (Lv et al. 2024, LOMO).

    The first backward part makes each gradient only to add its squares to the norm; the second one
    makes it once more, to the same bits, scales it and updates its parameter at once. Lossless, for
    the operations of a backward part. Saved values stay until the second backward part has read
    them, so that bytes are won where those of the gradients are most: in large layers, small
    batches, and beside policies that leave little saved. What those make again is made again in
    both parts. Where the plan does not need fewer bytes so, gradients wait for their norm as usual;
    the plan says what was chosen, and what both cost.

    Parameters
    ----------
    always : bool
        Make them twice whatever the plan needs: for a budget, which compares what it makes of both.

    Raises
    ------
    GraphError
        The batch is taken in parts, whose sums of gradients are kept anyway; or the step goes on
        after its update.
    """

    phase: ClassVar[str] = "backward"

    always: bool = False

    def __repr__(self) -> str:
        return f"SecondBackward({'always=True' if self.always else ''})"

    def __call__(self, graph: Graph) -> Graph:
        """Give the graph with one backward part or two."""
        return self.apply(graph, ANY_MACHINE)

    def apply(self, graph: Graph, machine: Machine) -> Graph:
        """Give the graph with two backward parts if the machine needs fewer bytes for it."""
        if any(n.body is not None for n in graph.nodes):
            raise GraphError(
                "the batch is taken in parts, whose sums of gradients are kept for their norm "
                "anyway: leave out Microbatch or the second backward part"
            )
        clipping = find_clipping(graph)
        if clipping is None:
            nothing_matched(self, "clipping by a global norm")
            return graph
        two = _with_second(graph, clipping)
        made = f"gradients are made twice, for {clipping.more:.0%} more operations"
        wait = f"{megabytes(clipping.nbytes)} of gradients wait for their global norm"
        if self.always:
            return two.marked(remarks=[f"{self!r}: {made}; else {wait}"])
        of_one, of_two = (_peak_bytes(each, machine) for each in (graph, two))
        made, wait = f"{megabytes(of_two)} if {made}", f"{megabytes(of_one)} if {wait}"
        if of_two < of_one:
            return two.marked(remarks=[f"{self!r}: {made}, as here; {wait}"])
        return graph.marked(remarks=[f"{self!r}: {wait}, as here; {made}"])

    def parts(self) -> tuple[Policy, ...]:
        """A gradient that is made a second time must not wait any more."""
        return self, EarlyUpdates()


def _peak_bytes(graph: Graph, machine: Machine) -> int:
    """Bytes of the step, if no more is decided about it."""
    return machine.plan_of(carried_out(EarlyUpdates()(graph), machine.rounding)).peak_bytes


def _with_second(graph: Graph, clipping: Clipping) -> Graph:
    """The graph with the gradients made once more before what waits for their norm."""
    waiting = next(n for n in graph.nodes if n in clipping.after)
    moved = clipping.norm | clipping.after
    if clipping.backward[-1].number > waiting.number or any(
        node.part == "forward" or (node.part == "backward" and node not in moved)
        for node in graph.nodes
        if any(v.node in moved or v.node.part == "update" for v in node.inputs)
    ):
        raise GraphError("the step goes on after its norm or its update: its order is the user's")
    effects = set(graph.effects)
    new: dict[Value, Value] = {}  # what the first part makes
    second: dict[Value, Value] = {}
    origins: dict[int, int] = {}  # of the nodes of the second part, by those of the first

    def visit(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        new.update(zip(node.inputs, inputs, strict=True))
        if node is waiting:
            for maker in clipping.backward:
                twin = maker.again(tuple(second.get(v, new[v]) for v in maker.inputs))
                twin.origin = origins[maker.origin] = twin.number
                second.update(zip(maker.outputs, twin.outputs, strict=True))
        if node not in moved or node in effects:
            return None
        waits = node in clipping.after
        twin = node.again(tuple(second.get(v, new[v]) if waits else new[v] for v in node.inputs))
        twin.part = "update"  # wherever the user has clipped
        return twin.outputs

    found = graph.rewrite(visit)
    # What is made again or decoded for the first part does not stay for the second.
    between = next(iter(origins.values()))
    gone = (found.again - found.kept).union(found.stored)
    anew = {(origins[at], v) for at, v in found.anew if at in origins}
    return found.marked(anew=anew.union((between, v) for v in gone))
