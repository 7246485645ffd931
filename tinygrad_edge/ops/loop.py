"""A run of nodes repeated: micro-batches and tiles.

The body is a graph of its own. Its inputs are, in order: invariant values, the same in each
iteration; slices, one equal part of axis 0 for each iteration; and carried values, which an
iteration reads as the one before left them. Its outputs are the carried values' next versions,
then parts that are stacked along axis 0.

A carried value that comes from a cell and becomes its next version may live in the cell all the
while (``resident``), although an iteration may fail when others have already changed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import GraphError, ShapeError
from ..graph import INPUT, Graph, Node, Value, emit
from ..op import Op, Refusal, TensorType, register

__all__ = ["LOOP", "loop", "run_reference"]


def _types(
    *inputs: Value,
    body: Graph,
    count: int,
    invariant: int,
    sliced: int,
    resident: frozenset[int] = frozenset(),
) -> tuple[TensorType, ...]:
    if count < 1:
        raise ShapeError(f"a loop needs at least one iteration, got {count}")
    if len(inputs) != len(body.inputs):
        raise GraphError(f"the body has {len(body.inputs)} inputs, the loop {len(inputs)}")
    for i, (outer, inner) in enumerate(zip(inputs, body.inputs, strict=True)):
        expected = inner.type
        if invariant <= i < invariant + sliced:
            expected = TensorType((inner.shape[0] * count, *inner.shape[1:]), inner.dtype)
        if outer.type != expected:
            raise ShapeError(f"input {i} of the loop must be {expected}, got {outer.type}")
    carried = [v.type for v in inputs[invariant + sliced :]]
    if [v.type for v in body.outputs[: len(carried)]] != carried:
        raise ShapeError("the body's first outputs must have the types of the carried inputs")
    stacked = (
        TensorType((v.shape[0] * count, *v.shape[1:]), v.dtype)
        for v in body.outputs[len(carried) :]
    )
    return (*carried, *stacked)


def run_reference(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Evaluate a graph without state by each op's NumPy reference."""
    known = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        if node.op is INPUT:
            continue
        arrays = [known[v] for v in node.inputs]
        try:
            results = node.op.reference(*arrays, **node.attrs)
        except Refusal as refusal:
            raise node.op.refuse(node, arrays, refusal.position) from None
        known.update(zip(node.outputs, results, strict=True))
    return [known[v] for v in graph.outputs]


def _reference(
    *arrays: np.ndarray,
    body: Graph,
    count: int,
    invariant: int,
    sliced: int,
    resident: frozenset[int] = frozenset(),
) -> tuple[np.ndarray, ...]:
    fixed, parts = arrays[:invariant], arrays[invariant : invariant + sliced]
    carried = list(arrays[invariant + sliced :])
    rows: list[list[np.ndarray]] = []
    for i in range(count):
        part = [a[i * len(a) // count : (i + 1) * len(a) // count] for a in parts]
        results = run_reference(body, [*fixed, *part, *carried])
        carried = results[: len(carried)]
        rows.append(results[len(carried) :])
    return (*carried, *(np.concatenate(column) for column in zip(*rows, strict=True)))


def _flops(node: Node) -> int:
    return node.attrs["count"] * sum(n.op.flops(n) for n in node.attrs["body"].nodes)


def _bytes(node: Node) -> int:
    return node.attrs["count"] * sum(n.op.bytes(n) for n in node.attrs["body"].nodes)


#: Made by policies after differentiation, so it needs no derivative; the plan lowers it to a
#: repeated run.
LOOP = register(Op("loop", _types, _reference, differentiable=False, flops=_flops, bytes=_bytes))


def loop(
    body: Graph,
    count: int,
    invariant: Iterable[Value] = (),
    sliced: Iterable[Value] = (),
    carried: Iterable[Value] = (),
    resident: Iterable[int] = (),
) -> tuple[Value, ...]:
    """Run a body `count` times; gives the final carried values, then the stacked parts.

    `resident` has the numbers of the carried values that may live in their cells.
    """
    invariant, sliced = tuple(invariant), tuple(sliced)
    node = emit(
        LOOP,
        *invariant,
        *sliced,
        *carried,
        body=body,
        count=count,
        invariant=len(invariant),
        sliced=len(sliced),
        resident=frozenset(resident),
    )
    return node.outputs
