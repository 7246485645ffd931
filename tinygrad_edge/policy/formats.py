"""The formats in which a saved value may cross to the backward part.

A format is chosen by name for a value and its readers. It encodes the value where it is made, and
decodes it before its first reader in the backward part.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from .. import ops
from ..dtypes import float32, uint8
from ..graph import Graph, Node, Value, base_of
from ..ops.chain import CHAIN
from ..ops.elementwise import RELU6_BACKWARD, RELU_BACKWARD
from ..ops.pool import MAX_POOL2D
from .rounding import Rounding

__all__ = [
    "FORMATS",
    "RECTIFIERS",
    "Format",
    "Mask",
    "Reader",
    "backward_readers",
    "bitmask",
]

#: A node, and which of its inputs it reads a value as.
Reader = tuple[Node, int]


@dataclass(frozen=True)
class Format(ABC):
    """How a value crosses: encoded right after it is made, decoded before it is read.

    Parameters
    ----------
    name : str
        What users call it.
    lossless : bool
        Whether its readers compute the same bits.
    may_refuse : bool
        Whether encoding fails the step where a value does not fit.
    """

    #: Whether encoding draws random numbers.
    draws: ClassVar[bool] = False
    #: Whether kernels that take halves read what is encoded as it is.
    halves: ClassVar[bool] = False
    #: Whether what is decoded stands for the value itself, so that others can be made from it.
    whole: ClassVar[bool] = True

    name: str
    lossless: bool = False
    may_refuse: bool = True

    def nbytes(self, value: Value) -> int:
        """Bytes of the encoded value."""
        return 2 * value.size

    @abstractmethod
    def encode(self, value: Value, what: str, rounding: Rounding) -> tuple[Value, ...]:
        """Make what crosses. A step that cannot fails, naming `what`."""

    @abstractmethod
    def decode(self, encoded: tuple[Value, ...], value: Value) -> Value:
        """Make the value again, of the original's shape and type."""


class _Float16(Format):
    halves: ClassVar[bool] = True

    def encode(self, value: Value, what: str, rounding: Rounding) -> tuple[Value, ...]:
        return (ops.float16_encode(value, what),)

    def decode(self, encoded: tuple[Value, ...], value: Value) -> Value:
        return ops.cast(encoded[0], float32)


class _BFloat16(Format):
    def encode(self, value: Value, what: str, rounding: Rounding) -> tuple[Value, ...]:
        return (ops.bfloat16_encode(value, what),)

    def decode(self, encoded: tuple[Value, ...], value: Value) -> Value:
        return ops.bfloat16_decode(encoded[0], value.shape)


class _Int8(Format):
    draws: ClassVar[bool] = True

    def nbytes(self, value: Value) -> int:
        samples = value.shape[0]
        return value.size + 4 * samples * -(-(value.size // max(samples, 1)) // ops.GROUP)

    def encode(self, value: Value, what: str, rounding: Rounding) -> tuple[Value, ...]:
        return ops.int8_encode(value, *rounding.draw(value.shape[0]), what)

    def decode(self, encoded: tuple[Value, ...], value: Value) -> Value:
        return ops.int8_decode(*encoded)


@dataclass(frozen=True)
class Mask(Format):
    """One bit an element, for readers that ask whether it is above 0 and below `high`."""

    whole: ClassVar[bool] = False

    high: float = math.inf

    def nbytes(self, value: Value) -> int:
        """An eighth of a byte each."""
        return -(-value.size // 8)

    def encode(self, value: Value, what: str, rounding: Rounding) -> tuple[Value, ...]:
        """The bits."""
        return (ops.mask_encode(value, self.high),)

    def decode(self, encoded: tuple[Value, ...], value: Value) -> Value:
        """Ones and zeros, which such readers take alike."""
        return ops.mask_decode(encoded[0], value.shape)


@dataclass(frozen=True)
class Packed(Format):
    """Positions in a window, in as few bits as it needs."""

    bits: int = 4

    def nbytes(self, value: Value) -> int:
        """Several a byte."""
        return -(-value.size * self.bits // 8)

    def encode(self, value: Value, what: str, rounding: Rounding) -> tuple[Value, ...]:
        """Several a byte."""
        return (ops.pack(value, self.bits),)

    def decode(self, encoded: tuple[Value, ...], value: Value) -> Value:
        """One a byte."""
        return ops.unpack(encoded[0], value.shape, self.bits)


def _floating(form: Format) -> Callable[[Value, Iterable[Reader]], Format | None]:
    def choose(value: Value, readers: Iterable[Reader]) -> Format | None:
        return form if value.dtype is float32 and value.shape else None

    return choose


#: Gradients of rectifiers flow where the output is above 0 and below this.
RECTIFIERS = {RELU_BACKWARD: math.inf, RELU6_BACKWARD: 6.0}
_BY_NAME = {op.name: high for op, high in RECTIFIERS.items()}


def bitmask(value: Value, readers: Iterable[Reader]) -> Format | None:
    """The lossless format of a value whose readers need less than its number."""
    if value.node.op is MAX_POOL2D and value.index == 1 and value.dtype is uint8:
        height, width = value.node.attrs["window"]
        bits = next((b for b in (1, 2, 4) if height * width <= 2**b), None)
        return None if bits is None else Packed("bitmask", True, False, bits)
    if value.dtype is not float32:
        return None
    found = {high for node, i in readers for high in _highs(node, i)}
    high = found.pop() if len(found) == 1 else None
    return None if high is None else Mask("bitmask", True, False, high)


def _highs(node: Node, i: int) -> set[float | None]:
    """What a node wants its input to be below, if it only asks that and whether it is above 0."""
    if node.op is CHAIN:
        uses = {
            _BY_NAME.get(step.op) if place == 1 else None
            for step in node.attrs["steps"]
            for place, source in enumerate(step.sources)
            if source == ("input", i)
        }
        return uses
    return {RECTIFIERS.get(node.op) if i == 1 else None}


#: By the names that `Store` takes: what gives a value's format, or None where it does not suit.
FORMATS: dict[str, Callable[[Value, Iterable[Reader]], Format | None]] = {
    "float16": _floating(_Float16("float16")),
    "bfloat16": _floating(_BFloat16("bfloat16")),
    "int8": _floating(_Int8("int8")),
    "bitmask": bitmask,
}


def backward_readers(graph: Graph) -> dict[Value, list[Reader]]:
    """For each value that is no view, who reads it in the backward part, also through views."""
    found: dict[Value, list[Reader]] = {}
    for node in graph.nodes:
        if node.part == "backward" and not node.op.alias:
            for i, value in enumerate(node.inputs):
                found.setdefault(base_of(value), []).append((node, i))
    return found
