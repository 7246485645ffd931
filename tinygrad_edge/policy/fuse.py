"""Fusion: fewer passes over memory, the same bits.

It is part of lowering, so that what follows sees true costs.
"""

from __future__ import annotations

from ..graph import ASSIGN, Graph, Node, Value, emit, marked
from ..op import FusionRule, Op
from ..ops import norm, sparse
from ..ops.chain import CHAIN, MAX_CONSTANTS, MAX_INPUTS, MAX_STEPS, Step, is_step
from ..ops.fill import FULL

__all__ = ["fuse_chains", "fuse_patterns"]


#: The rules of all families for an op, in turn.
_RULES: dict[Op, tuple[FusionRule, ...]] = {
    op: tuple(family[op] for family in (norm.FUSIONS, sparse.FUSIONS) if op in family)
    for op in norm.FUSIONS | sparse.FUSIONS
}


def _sole_readers(graph: Graph) -> dict[Value, Node]:
    """Values that are read by one node alone, and are no output, with that node."""
    outputs = set(graph.outputs)
    return {
        value: nodes[0]
        for value, nodes in graph.readers().items()
        if len(nodes) == 1 and value not in outputs and nodes[0].part == value.node.part
    }


def fuse_patterns(graph: Graph) -> Graph:
    """Apply the first fusion rule of each op that fits."""
    sole = _sole_readers(graph)

    def visit(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        alone = tuple(sole.get(v) is node for v in node.inputs)
        with marked(part=node.part, scope=node.scope, source=node.source):
            found = (rule(inputs, alone) for rule in _RULES.get(node.op, ()))
            return next((outputs for outputs in found if outputs is not None), None)

    return graph.rewrite(visit)


def fuse_chains(graph: Graph) -> Graph:
    """Join elementwise nodes of one part and one shape whose results the next alone reads.

    Constants become part of the chain. No assignment may lie between the nodes, because a chain
    reads all its inputs where its last node stood.
    """
    groups = _groups(graph)
    renewed: dict[Node, tuple[Value, ...]] = {}

    def visit(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        renewed[node] = inputs
        members = groups.get(node)
        return None if members is None else _chain(members, renewed)

    return graph.rewrite(visit) if groups else graph


def _groups(graph: Graph) -> dict[Node, list[Node]]:
    """For the last node of each chain, its nodes in order."""
    sole = _sole_readers(graph)
    epochs: dict[Node, int] = {}
    assignments = 0
    for node in graph.nodes:
        epochs[node] = assignments
        assignments += node.op is ASSIGN
    taken: set[Node] = set()
    found: dict[Node, list[Node]] = {}
    for root in reversed(graph.nodes):
        if root in taken or not is_step(root):
            continue
        group = {root}
        frontier = [root]
        while frontier:
            for value in frontier.pop().inputs:
                maker = value.node
                joins = (
                    sole.get(value) in group
                    and is_step(maker)
                    and value.shape == root.outputs[0].shape
                    and epochs[maker] == epochs[root]
                    and _fits(group | {maker})
                )
                if joins:
                    group.add(maker)
                    frontier.append(maker)
        if len(group) > 1 or (_fits(group) and any(map(_is_constant, root.inputs))):
            found[root] = sorted(group, key=lambda n: n.number)
            taken |= group
    return found


def _is_constant(value: Value) -> bool:
    return value.node.op is FULL and value.shape == ()


def _fits(group: set[Node]) -> bool:
    read = {v for n in group for v in n.inputs if v.node not in group}
    constants = {v.node.attrs["value"] for v in read if _is_constant(v)}
    arrays = sum(not _is_constant(v) for v in read)
    return len(group) <= MAX_STEPS and 1 <= arrays <= MAX_INPUTS and len(constants) <= MAX_CONSTANTS


def _chain(members: list[Node], renewed: dict[Node, tuple[Value, ...]]) -> tuple[Value, ...]:
    number = {node: i for i, node in enumerate(members)}
    constants: dict[float, int] = {}
    inputs: dict[Value, int] = {}
    steps = []
    for node in members:
        sources: list[tuple[str, int]] = []
        for old, new in zip(node.inputs, renewed[node], strict=True):
            if old.node in number:
                sources.append(("step", number[old.node]))
            elif _is_constant(old):
                value = old.node.attrs["value"]
                sources.append(("constant", constants.setdefault(value, len(constants))))
            else:
                sources.append(("input", inputs.setdefault(new, len(inputs))))
        steps.append(Step(node.op.name, tuple(sources)))
    last = members[-1]
    with marked(part=last.part, scope=last.scope, source=last.source):
        return emit(CHAIN, *inputs, steps=tuple(steps), constants=tuple(constants)).outputs
