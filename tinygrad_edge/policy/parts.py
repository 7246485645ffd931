"""Which nodes of a step can act on one part of the batch after the other."""

from __future__ import annotations

from ..errors import GraphError
from ..graph import ASSIGN, INPUT, READ, Cell, Graph, Node, Value
from ..op import OWN, TOTAL, Rows
from ..ops._rows import broadcasting, cut, regrouped
from ..ops.elementwise import ADD
from ..ops.fill import FULL
from ..ops.shape import BROADCAST_TO

__all__ = ["Parts", "described"]


class Parts:
    """How each value depends on which part of the batch is at work.

    Parameters
    ----------
    graph : Graph
        A step after differentiation.
    parts : int
        How many equal parts, along axis 0 of the first array that the step is given. Other arrays
        are cut where what they meet is.

    Attributes
    ----------
    axis : dict
        Of values that are not the same for all parts: the axis along which they are cut, TOTAL for
        a summand, OWN for what each part has for itself.
    rules : dict
        The nodes that act on one part, in order, and how.
    assigned : dict
        Assignments of what each part has for itself (running statistics), by their outputs.
    early : set
        Nodes that need the whole batch, and make so little of what the step is given that they are
        made before the first part (the sum of the samples' weights, say).
    late : set
        Nodes that need what all parts give together.
    """

    def __init__(self, graph: Graph, parts: int) -> None:
        given = [v for v in graph.inputs if v.shape]
        if not given:
            raise GraphError("the step is given no array, so there is no batch")
        self.parts, self.batch = parts, given[0].shape[0]
        if self.batch % parts or self.batch == 0:
            raise GraphError(f"a batch of {self.batch} does not have {parts} equal parts")
        self._cells: set[Cell] = set()  # that each part assigns
        self._sort_all(graph, given[0])
        while (cells := {n.attrs["cell"] for n in self.assigned.values()}) != self._cells:
            self._cells = cells  # what is made of them is not the same for all parts either
            self._sort_all(graph, given[0])
        if not any(node.part == "backward" for node in self.rules):
            raise GraphError(
                f"no gradient depends on the batch of {self.batch}, which is axis 0 of the first "
                "array that the step is given"
            )

    def _sort_all(self, graph: Graph, batch: Value) -> None:
        self.axis: dict[Value, int | str] = {batch: 0}
        self.rules: dict[Node, Rows] = {}
        self.assigned: dict[Value, Node] = {}
        self.early: set[Node] = set()
        self.late: set[Node] = set()
        self._light: set[Value] = set()
        for node in graph.nodes:
            if self._is_light(node):
                self._light.update(node.outputs)
            self._sort(node)

    def _sort(self, node: Node) -> None:
        if node.op is READ and node.attrs["cell"] in self._cells:
            self.axis[node.outputs[0]] = OWN
        dependent = [self.axis.get(v) for v in node.inputs]
        if any(v.node in self.late for v in node.inputs):
            self._leave_outside(node, dependent)
        elif node.op is ASSIGN and dependent == [OWN]:
            self.assigned[node.outputs[0]] = node
            self.axis[node.outputs[0]] = OWN
        elif any(d is not None for d in dependent):
            rows = self._rule(node, dependent)
            if rows is None:
                self._leave_outside(node, dependent)
            else:
                self.rules[node] = rows
                self.axis.update(zip(node.outputs, rows.outputs, strict=True))

    def _leave_outside(self, node: Node, dependent: list[int | str | None]) -> None:
        if OWN in dependent:
            raise GraphError(f"{described(node)} needs statistics of the whole batch")
        if node.part == "backward" and any(isinstance(d, int) for d in dependent):
            raise GraphError(f"{described(self._mixing(node))} mixes the samples of the batch")
        (self.early if self._is_light(node) else self.late).add(node)

    def _is_light(self, node: Node) -> bool:
        """Whether no more than a number a sample leads from what the step is given to here."""
        if node.op in (INPUT, READ):
            return True
        small = all(v.size <= self.batch for v in node.outputs)
        return bool(node.outputs) and small and self._light.issuperset(node.inputs)

    def _mixing(self, node: Node) -> Node:
        """The first of the nodes before this one that needs the whole batch."""
        while late := [v.node for v in node.inputs if v.node in self.late]:
            node = late[0]
        return node

    def _rule(self, node: Node, dependent: list[int | str | None]) -> Rows | None:
        if node.op is ASSIGN:
            return None
        if TOTAL in dependent:
            # A sum of summands is one: of a parameter with several readers, one gradient leaves.
            adds = node.op is ADD and node.part == "backward" and dependent == [TOTAL, TOTAL]
            return Rows((None,) * len(dependent), (TOTAL,)) if node.op.alias or adds else None
        axes = tuple(d if isinstance(d, int) else None for d in dependent)
        if all(a is None for a in axes):
            return Rows(axes, (OWN,) * len(node.outputs))
        rows = node.op.rows(node, axes, self.parts) if node.op.rows else None
        if rows is None or not all(map(self._can_enter, node.inputs, rows.inputs)):
            return None
        return rows

    def _can_enter(self, value: Value, axis: int | None) -> bool:
        """Whether a value is cut along an axis, or can be."""
        if value in self.axis:
            return self.axis[value] == (OWN if axis is None else axis)
        rows = None if axis is None else self.shrunk(value, axis)
        if rows is None:
            return axis in (None, 0)
        return all(map(self._can_enter, value.node.inputs, rows.inputs))

    def shrunk(self, value: Value, axis: int) -> Rows | None:
        """How one part of a value that does not depend on the batch is made, if simply."""
        node, shape = value.node, value.shape
        smaller = {"shape": cut(shape, axis, self.parts)}
        if node.op is FULL:
            return Rows((), (axis,), smaller)
        if node.op is BROADCAST_TO:
            before = axis - len(shape) + len(node.inputs[0].shape)
            if before < 0 or node.inputs[0].shape[before] == 1:  # all parts are alike
                return Rows((None,), (axis,), smaller)
        axes: list[int | None] = [None] * len(node.inputs)
        if node.op.alias:
            axes = [regrouped(shape, axis, node.inputs[0].shape, self.parts)]
        elif node.op.rows is broadcasting:
            for i, v in enumerate(node.inputs):
                own = axis - len(shape) + len(v.shape)
                axes[i] = own if own >= 0 and v.shape[own] == shape[axis] else None
        if all(a is None for a in axes) or node.op.rows is None:
            return None
        return node.op.rows(node, tuple(axes), self.parts)


def described(node: Node) -> str:
    """A node in the words of an error."""
    file, line = node.source
    return f"{'.'.join((*node.scope, node.op.name))} ({node.part} part; {file}:{line})"
