"""The backward part of a graph, from each op's vjp rule. The result is ordinary nodes.

Tracing leaves one ``gradient`` node where a gradient is asked for. The `differentiate` phase
replaces it by the nodes that compute it, so that policies which change the structure (frozen
layers, sparse weights) come before there is any backward part to change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .errors import GraphError
from .graph import GRADIENT, INPUT, KNOWN, Graph, Node, Value, ancestors, emit, marked
from .ops import add, full, sum_to

__all__ = ["differentiate", "differentiated", "gradient", "vjp"]


def gradient(of: Value, wrt: Iterable[Value], cotangent: Value | None = None) -> tuple[Value, ...]:
    """Place the gradients of a value: one for each of `wrt`, to be expanded by `differentiate`.

    Parameters
    ----------
    of : Value
        What is differentiated. Without a cotangent it must be a scalar.
    wrt : iterable of Value
    cotangent : Value, optional
        The gradient with respect to `of` itself; one by default.
    """
    with marked(part="backward"):
        seed = full(of.shape, 1.0, of.dtype) if cotangent is None else cotangent
        return emit(GRADIENT, of, seed, *wrt).outputs


def differentiated(gradients: Iterable[Value]) -> list[Value]:
    """The values that pending gradients (or sums of them) are gradients of."""
    found: dict[Value, None] = {}
    stack = [g.node for g in gradients]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node.op is GRADIENT:
            found[node.inputs[0]] = None
        elif node.part == "backward":
            before = {v.node for v in node.inputs} - seen
            seen |= before
            stack.extend(before)
    return list(found)


def differentiate(graph: Graph) -> Graph:
    """Replace every gradient node by the nodes that compute it, inner ones first.

    Values that are known from an earlier run lose their history afterwards.
    """
    arrays: dict[Value, Value] = {}

    def visit(node: Node, inputs: tuple[Value, ...]) -> Iterable[Value] | None:
        if node.op is KNOWN:
            arrays[inputs[0]] = inputs[1]
        if node.op is not GRADIENT:
            return None
        of, cotangent, *wrt = inputs
        with marked(part="backward"):
            found = vjp([of], [cotangent], wrt)
            return [
                full(v.shape, 0.0, v.dtype) if g is None else g
                for v, g in zip(wrt, found, strict=True)
            ]

    return _forget(graph.rewrite(visit), arrays)


def _forget(graph: Graph, arrays: dict[Value, Value]) -> Graph:
    """Read arrays in place of the values that they were computed for, wherever those are read."""
    entered: dict[Value, Value] = {}

    def visit(node: Node, inputs: tuple[Value, ...]) -> Iterable[Value] | None:
        if node.op is KNOWN:
            return (inputs[1],)
        if node.op is not INPUT and not any(v in arrays for v in node.outputs):
            return None
        copy = node.again(inputs)
        if node.op is INPUT:
            entered[node.outputs[0]] = copy.outputs[0]
        return [
            entered[arrays[old]] if old in arrays else new
            for old, new in zip(node.outputs, copy.outputs, strict=True)
        ]

    return graph.rewrite(visit) if arrays else graph


def vjp(
    outputs: Sequence[Value],
    cotangents: Sequence[Value | None],
    wrt: Sequence[Value],
    until: Sequence[Value] = (),
) -> list[Value | None]:
    """Emit the products of cotangents with the Jacobian of `outputs`, summed, for each of `wrt`.

    None stands for a gradient that is zero because nothing connects the two. The values in `until`
    are taken as given: no gradient goes beyond them.
    """
    grads: dict[Value, Value] = {}

    def accumulate(value: Value, g: Value | None) -> None:
        if g is not None and value.dtype.is_float:
            g = sum_to(g, value.shape)
            grads[value] = add(grads[value], g) if value in grads else g

    for value, g in zip(outputs, cotangents, strict=True):
        accumulate(value, g)
    for node in reversed(_between(outputs, wrt, until)):
        out = tuple(grads.get(v) for v in node.outputs)
        if all(g is None for g in out):
            continue
        # A backward node belongs to the module and the line of its forward node.
        with marked(scope=node.scope, source=node.source):
            for value, g in zip(node.inputs, _apply(node, out), strict=True):
                accumulate(value, g)
    return [grads.get(v) for v in wrt]


def _between(outputs: Sequence[Value], wrt: Sequence[Value], until: Sequence[Value]) -> list[Node]:
    """The nodes on a path from any of `wrt` to an output: only these need a derivative."""
    reached: set[Value] = set(wrt)
    nodes = []
    for node in ancestors(outputs, until=until):
        if node.op.differentiable and not node.constant and any(v in reached for v in node.inputs):
            nodes.append(node)
            reached.update(v for v in node.outputs if v.dtype.is_float)
    return nodes


def _apply(node: Node, grads: tuple[Value | None, ...]) -> tuple[Value | None, ...]:
    """Gradients of a node's inputs: its rule, or the derivative of its decomposition."""
    if node.op.vjp is not None:
        return node.op.vjp(node, grads)
    if node.op.decompose is None:
        raise GraphError(
            f"{node.op.name} has no derivative rule ({node.source[0]}:{node.source[1]})"
        )
    outputs = node.op.decompose(*node.inputs, **node.attrs)
    distinct = list(dict.fromkeys(node.inputs))
    # An input may be computed from another: the node's own derivative does not follow that.
    found = dict(zip(distinct, vjp(outputs, grads, distinct, until=distinct), strict=True))
    # An input that appears twice gets its whole gradient once.
    return tuple(found.pop(value, None) for value in node.inputs)
