"""Where the gradients are that the zeros of sparse weights would have."""

from __future__ import annotations

from collections.abc import Iterable

from ..graph import ASSIGN, Cell, Graph, Node, Value, emit, marked
from ..ops.sparse import SPARSE_CONV2D, WATCH, WEIGHTS, candidates

__all__ = ["find_candidates"]


def find_candidates(graph: Graph) -> Graph:
    """Find what was asked for behind convolutions, beside the gradients by their weights.

    Where none is taken, nothing is assigned. Of weights that are used several times, it is the
    gradient of their last use.
    """
    asked = [n for n in graph.effects if n.op is ASSIGN and n.inputs[0].node.op is WATCH]
    if not asked:
        return graph
    cells: dict[tuple[Value, int], tuple[Cell, int]] = {}
    for assign in {n.attrs["cell"]: n for n in asked}.values():
        watch = assign.inputs[0].node
        conv = watch.inputs[0].node
        if conv.op is SPARSE_CONV2D:  # else an array of an earlier run
            key = conv.inputs[0], conv.attrs["first_row"]
            cells[key] = assign.attrs["cell"], watch.attrs["count"]
    found: list[Node] = []

    def visit(node: Node, inputs: tuple[Value, ...]) -> Iterable[Value] | None:
        if node.op is not WEIGHTS:
            return None
        cell, count = cells.pop((node.inputs[0], node.attrs["first_row"]), (None, 0))
        copy = node.again(inputs)
        if cell is not None:
            with marked(part=node.part, scope=node.scope, source=node.source):
                best = candidates(copy, count)
            with marked(part="update", scope=node.scope, source=node.source):
                found.append(emit(ASSIGN, best, cell=cell))
        return copy.outputs

    effects = [n for n in graph.effects if n not in asked]
    rewritten = Graph(graph.outputs, effects, graph.inputs).rewrite(visit)
    return Graph(rewritten.outputs, (*rewritten.effects, *found), rewritten.inputs).marked(
        remarks=graph.remarks
    )
