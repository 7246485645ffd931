"""A chain: several elementwise ops in one pass over memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import float32
from ..errors import GraphError
from ..graph import Node, Value, emit
from ..op import OPS, Kernel, Op, TensorType, register
from ._strides import broadcast_shapes, broadcast_strides, contiguous_strides, merge_axes, padded
from .fill import constant

__all__ = ["CHAIN", "MAX_CONSTANTS", "MAX_INPUTS", "MAX_STEPS", "Step"]

MAX_STEPS, MAX_INPUTS, MAX_CONSTANTS = 16, 8, 8  # as in csrc/kernels.h
_CONSTANT = 64


class Step(NamedTuple):
    """One op of a chain, reading ``("input", k)``, ``("constant", k)`` or ``("step", j)``."""

    op: str
    sources: tuple[tuple[str, int], ...]


def _infer(
    *inputs: Value, steps: tuple[Step, ...], constants: tuple[float, ...]
) -> tuple[TensorType, ...]:
    if (
        len(steps) > MAX_STEPS
        or not 1 <= len(inputs) <= MAX_INPUTS
        or len(constants) > MAX_CONSTANTS
    ):
        raise GraphError("a chain has at most 16 steps, 8 inputs and 8 constants")
    return (TensorType(broadcast_shapes(*(v.shape for v in inputs)), inputs[0].dtype),)


def _reference(
    *arrays: np.ndarray, steps: tuple[Step, ...], constants: tuple[float, ...]
) -> tuple[np.ndarray, ...]:
    known: dict[str, list[Any]] = {
        "input": list(arrays),
        "constant": [arrays[0].dtype.type(c) for c in constants],
        "step": [],
    }
    for step in steps:
        known["step"] += OPS[step.op].reference(*(known[kind][i] for kind, i in step.sources))
    return (np.asarray(known["step"][-1]),)


def _decompose(
    *inputs: Value, steps: tuple[Step, ...], constants: tuple[float, ...]
) -> tuple[Value, ...]:
    known: dict[str, list[Value]] = {
        "input": list(inputs),
        "constant": [constant(c, inputs[0].dtype) for c in constants],
        "step": [],
    }
    for step in steps:
        known["step"] += emit(OPS[step.op], *(known[kind][i] for kind, i in step.sources)).outputs
    return (known["step"][-1],)


def _kernel(node: Node) -> Kernel:
    out = node.outputs[0]
    operands = [contiguous_strides(out.shape)]
    operands += [broadcast_strides(v.shape, out.shape) for v in node.inputs]
    shape, strides = merge_axes(out.shape, *operands)
    places: dict[str, Callable[[int], int]] = {
        "input": lambda k: k,
        "constant": lambda k: _CONSTANT + k,
        "step": lambda j: -1 - j,
    }
    fields = {
        "steps": len(node.attrs["steps"]),
        "inputs": len(node.inputs),
        "constants": len(node.attrs["constants"]),
        "ndim": len(shape),
        "shape": padded(shape, 1),
        "strides": [padded(s) for s in strides] + [padded(())] * (MAX_INPUTS + 1 - len(strides)),
        "constant": padded(node.attrs["constants"]),
        "step": [
            (OPS[step.op].chain, [places[kind](i) for kind, i in step.sources])
            for step in node.attrs["steps"]
        ],
    }
    return Kernel("chain_f32", "tge_chain_params", fields)


#: Made when a graph is lowered, after differentiation.
CHAIN = register(
    Op(
        "chain",
        _infer,
        _reference,
        decompose=_decompose,
        kernel=_kernel,
        flops=lambda node: len(node.attrs["steps"]) * node.outputs[0].size,
        inplace=tuple((0, i) for i in range(MAX_INPUTS)),
    )
)


def is_step(node: Node) -> bool:
    """Whether a node can be a step of a chain."""
    values = (*node.inputs, *node.outputs)
    return node.op.chain is not None and all(v.dtype is float32 for v in values)
