"""The record of an op: everything the rest of the library may ask of it, in one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from .dtypes import DType

if TYPE_CHECKING:
    from .graph import Node, Value

__all__ = [
    "OPS",
    "OWN",
    "TOTAL",
    "Check",
    "Cotangents",
    "FusionRule",
    "Gradients",
    "Kernel",
    "Op",
    "Refusal",
    "RowRule",
    "Rows",
    "TensorType",
    "register",
]


#: What a derivative rule gets: a value for each output, or None where nothing flows. The only
#: output of an op always has one.
Cotangents = tuple[Any, ...]
#: What it gives: a value for each input, or None where there is no derivative.
Gradients: TypeAlias = "tuple[Value | None, ...]"


class TensorType(NamedTuple):
    """Shape and element type of a value."""

    shape: tuple[int, ...]
    dtype: DType

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize


class Kernel(NamedTuple):
    """A C kernel with its parameters: the name in the table, the struct, its fields.

    Its operands are the node's outputs, then `inputs` (numbers of the node's inputs; None means
    all).
    """

    name: str
    struct: str
    params: Mapping[str, Any]
    inputs: tuple[int, ...] | None = None


#: What an output can be, besides cut along an axis, when a node acts on one part of a batch: a
#: summand of what it was, or something that each part has for itself (statistics).
TOTAL, OWN = "total", "own"


class Rows(NamedTuple):
    """How a node acts on one of several equal parts of a batch.

    Parameters
    ----------
    inputs : tuple of (int or None)
        The axis along which each input must be cut; None: all of it.
    outputs : tuple of (int, TOTAL or OWN)
    attrs : mapping
        Attributes that are others then.
    numbered : int, optional
        The input that is the number of the first row.
    """

    inputs: tuple[int | None, ...]
    outputs: tuple[int | str, ...]
    attrs: Mapping[str, Any] = MappingProxyType({})
    numbered: int | None = None


class Check(NamedTuple):
    """How to find out beforehand that an op would refuse.

    ``emit(x, node)`` makes a check of the node's input of that number.
    """

    input: int
    emit: Callable[[Value, Node], Node]


class Refusal(Exception):  # noqa: N818 - not an error yet: the op's `refuse` turns it into one
    """A reference or kernel cannot accept the element at a position."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


RowRule = Callable[["Node", tuple["int | None", ...], int], "Rows | None"]

#: How a node becomes one with what made its inputs: ``rule(inputs, sole)`` gives its outputs, or
#: None where the two do not fit; `sole` says which inputs nobody else reads.
FusionRule = Callable[[tuple["Value", ...], tuple[bool, ...]], "tuple[Value, ...] | None"]


def _no_refusal(node: Node, inputs: list[np.ndarray], position: int) -> Exception:
    return RuntimeError(f"{node.op.name}: kernel refused element {position}")


def moved_bytes(node: Node) -> int:
    """Bytes read and written when each operand crosses memory once."""
    return sum(v.nbytes for v in node.inputs) + sum(v.nbytes for v in node.outputs)


def one_per_element(node: Node) -> int:
    """One operation for each element of the largest operand."""
    return max((v.size for v in (*node.inputs, *node.outputs)), default=0)


@dataclass(frozen=True, eq=False)
class Op:
    """One operation.

    Parameters
    ----------
    name : str
        NumPy's or PyTorch's functional name.
    infer : callable
        Shape rule: ``infer(*inputs, **attrs)`` gives the outputs' types or raises.
    reference : callable
        Meaning: ``reference(*arrays, **attrs)`` gives a tuple of arrays. Short, obvious, any
        precision.
    vjp : callable or None
        ``vjp(node, grad_outputs)`` emits nodes and gives the gradient of each input (or None). A
        gradient may have the broadcast shape: the engine sums it back. None: see `decompose`.
    decompose : callable or None
        ``decompose(*inputs, **attrs)`` emits the same outputs from simpler ops: the derivative of
        an op without vjp, and its lowering when it has no kernel.
    differentiable : bool
        False says that the outputs have no derivative (comparisons, indices, updates).
    kernel : callable or None
        ``kernel(node)`` gives the C kernel and its parameters, or a list of kernels to run in turn.
    flops, bytes : callable
        Cost of a node: arithmetic operations, and bytes to and from memory.
    inplace : tuple of (output, input)
        Pairs that may share a buffer when the input dies here; together, where the inputs are one
        value.
    halves : tuple of int
        Inputs that its kernel takes as float16, too, and counts as the float32 that they are.
    chain : str or None
        Its code as a step of a chain of elementwise ops, where it can be one.
    alias : bool
        The output is the input's memory under another shape; nothing runs.
    effect : bool
        Kept although nobody reads its outputs.
    rows : callable or None
        ``rows(node, axes, parts)`` says how the node acts on one of so many equal parts of a batch,
        given the axis along which each input is cut; None: it needs the whole batch.
    refuse : callable
        ``refuse(node, arrays, position)`` gives the error for an element that was not accepted.
    check : Check or None
        For an op that may refuse: what tells so before it runs.
    """

    name: str
    infer: Callable[..., tuple[TensorType, ...]]
    reference: Callable[..., tuple[np.ndarray, ...]]
    vjp: Callable[[Node, Cotangents], Gradients] | None = None
    decompose: Callable[..., tuple[Value, ...]] | None = None
    differentiable: bool = True
    kernel: Callable[[Node], Kernel | list[Kernel]] | None = None
    flops: Callable[[Node], int] = one_per_element
    bytes: Callable[[Node], int] = moved_bytes
    inplace: tuple[tuple[int, int], ...] = ()
    halves: tuple[int, ...] = ()
    chain: str | None = None
    alias: bool = False
    effect: bool = False
    rows: RowRule | None = None
    refuse: Callable[[Node, list[np.ndarray], int], Exception] = field(default=_no_refusal)
    check: Check | None = None

    @property
    def may_refuse(self) -> bool:
        """Whether a run may fail here, so that no state may change before."""
        return self.refuse is not _no_refusal

    def __repr__(self) -> str:
        return f"Op({self.name})"


OPS: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Enter an op in the table that tests and exporters walk."""
    if op.name in OPS:
        raise ValueError(f"op {op.name!r} is registered twice")
    OPS[op.name] = op
    return op
