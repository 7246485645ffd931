"""What stochastic rounding draws from: a stream of its own, by (generator, site, sample)."""

from __future__ import annotations

from collections.abc import Iterable

from .. import ops
from ..dtypes import int32, uint32
from ..graph import ASSIGN, READ, Cell, Graph, Node, Value, emit, marked, new_input
from ..op import TensorType
from ..ops.loop import loop

__all__ = ["ANY_CELL", "Rounding", "drawing", "has_drawn"]

#: Stands for the cell of a step where a graph is planned only to know its bytes.
ANY_CELL = Cell("random/rounding", (4,), uint32, "buffer")
#: Where the inputs of a loop's body are from that rounding in it draws from: no module's path.
_SCOPE = ("random/rounding",)


class Rounding:
    """The stream that stochastic rounding draws from, another than dropout's, in one rewrite.

    Parameters
    ----------
    cell : Cell
        Its generator.
    graph : Graph
        What is rewritten: a step, or the body of a loop as `drawing` gives it.

    Attributes
    ----------
    given : tuple of Value
        In a loop, the inputs that are the generator and how many parts came before.
    """

    def __init__(self, cell: Cell, graph: Graph) -> None:
        self.cell = cell
        self.given = tuple(v for v in graph.inputs if v.node.scope == _SCOPE)
        self._generator = self.given[0] if self.given else None
        self._first: dict[int, Value] = {}
        self._sites = 0

    def draw(self, samples: int) -> tuple[Value, Value, int]:
        """The generator, the number of the first of so many samples, and a site of its own."""
        if self._generator is None:
            self._generator = emit(READ, cell=self.cell).outputs[0]
        if samples not in self._first:
            self._first[samples] = (
                ops.multiply(self.given[1], ops.constant(samples, int32))
                if self.given
                else ops.full((), 0, int32)
            )
        self._sites += 1
        return self._generator, self._first[samples], self._sites - 1

    def advanced(self) -> list[Node]:
        """What makes the next step draw other numbers, if this one drew any and is no loop."""
        if self._generator is None or self.given:
            return []
        return [emit(ASSIGN, ops.generator_advance(self._generator), cell=self.cell)]


def has_drawn(graph: Graph, cell: Cell) -> bool:
    """Whether a step, or the body of a loop, rounds at random already."""
    reads = any(n.op is READ and n.attrs["cell"] is cell for n in graph.nodes)
    return reads or any(v.node.scope == _SCOPE for v in graph.inputs)


def drawing(graph: Graph, cell: Cell) -> Graph:
    """Let the loop over micro-batches, if there is one, give its body what it rounds by.

    That is the generator, and how many parts came before: a sample is rounded by its number in the
    whole batch. The generator is advanced once a step.
    """
    core = graph.core()
    if core is graph or not any(form.draws for form in core.stored.values()):
        return graph
    with marked(part="state", scope=_SCOPE):
        generator, number = new_input(cell.type), new_input(TensorType((), int32))
        after = ops.add(number, ops.constant(1, int32))

    def visit(node: Node, inputs: tuple[Value, ...]) -> Iterable[Value] | None:
        if node.body is not core:
            return None
        invariant = node.attrs["invariant"]
        carried = invariant + node.attrs["sliced"]
        own = len(inputs) - carried
        body = core.between(
            (*core.inputs[:invariant], generator, *core.inputs[invariant:], number),
            (*core.outputs[:own], after, *core.outputs[own:]),
        )
        with marked(part=node.part, scope=_SCOPE):
            given = (*inputs[:invariant], emit(READ, cell=cell).outputs[0])
            begun = (*inputs[carried:], ops.constant(0, int32))
            found = loop(
                body,
                node.attrs["count"],
                given,
                inputs[invariant:carried],
                begun,
                node.attrs["resident"],
            )
        return (*found[:own], *found[own + 1 :])

    graph = graph.rewrite(visit)
    state = next(n for n in graph.nodes if n.op is READ and n.attrs["cell"] is cell).outputs[0]
    with marked(part="update", scope=_SCOPE):
        advanced = emit(ASSIGN, ops.generator_advance(state), cell=cell)
    found = Graph(graph.outputs, (*graph.effects, advanced), graph.inputs)
    return found.marked(remarks=graph.remarks)
