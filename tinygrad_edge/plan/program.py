"""The calls of a step as data: kernels, operands as (slot, offset), loops as repeated ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..errors import GraphError
from ..graph import ASSIGN, INPUT, READ, Node, Value
from ..op import Kernel
from ..ops.loop import LOOP
from ..ops.shape import contiguous_copy
from .storage import ARENA, Buffer, Moment, Place, Storage

__all__ = ["Call", "Operand", "lower"]


class Operand(NamedTuple):
    """An address: a place in a buffer, whose slot and offset are known once the arena is packed."""

    place: Place
    step: int = 0  # of a loop's window: bytes an iteration

    @property
    def slot(self) -> int:
        """What is bound at run time: the arena, a cell, an input, an output or a window."""
        return self.place.buffer.slot if self.place.window is None else self.place.window

    @property
    def offset(self) -> int:
        """Bytes from the start of the slot."""
        return self.place.buffer.offset if self.place.window is None else 0


class Call(NamedTuple):
    """One kernel call, or (kernel None) the head of a loop over the next `body` calls.

    A loop's operands are pairs: a window (with its step), and the place that it slides over. A
    call that only moves a value to where it must be names it in `moves`.
    """

    kernel: Kernel | None
    operands: tuple[Operand, ...]
    node: Node
    time: int
    repeat: int = 1
    body: int = 0
    moves: Value | None = None


def lower(storage: Storage, workspace: Callable[[Kernel], int]) -> list[Call]:
    """Lower a schedule to calls, adding the workspaces that kernels want to the buffers."""
    calls: list[Call] = []

    def place(value: Value) -> Operand:
        return Operand(storage.places[value])

    def copies(which: dict[int, list[tuple[Value, Place]]], moment: Moment) -> None:
        for value, target in which.get(moment.time, ()):
            operands = (Operand(target), place(value))
            if operands[0].place != operands[1].place:
                time = moment.last if which is storage.tail else moment.time
                calls.append(Call(contiguous_copy(value), operands, moment.node, time, moves=value))

    def run(moment: Moment) -> None:
        node = moment.node
        kernels = node.op.kernel(node) if node.op.kernel else []
        for kernel in kernels if isinstance(kernels, list) else [kernels]:
            read = node.inputs if kernel.inputs is None else [node.inputs[i] for i in kernel.inputs]
            operands = [place(v) for v in (*node.outputs, *read)]
            wanted = workspace(kernel)
            if wanted:
                buffer = Buffer(wanted, ARENA, moment.time, moment.time)
                storage.buffers.append(buffer)
                operands.append(Operand(Place(buffer)))
            calls.append(Call(kernel, tuple(operands), node, moment.time))

    def head(moment: Moment) -> int:
        windows = storage.windows.get(moment.time, ())
        operands = []
        for window in windows:
            slides = Operand(Place(window.over.buffer, window.slot), window.step)
            operands += [slides, Operand(window.over)]
        count = moment.node.attrs["count"]
        calls.append(Call(None, tuple(operands), moment.node, moment.time, count))
        return len(calls) - 1

    def walk(i: int) -> int:
        """Lower the moment at i and, for a loop, its body; gives the next moment."""
        moment = storage.moments[i]
        node = moment.node
        copies(storage.before, moment)
        i += 1
        if node.op is LOOP:
            first = head(moment)
            while i <= moment.last:
                i = walk(i)
            copies(storage.tail, moment)
            calls[first] = calls[first]._replace(body=len(calls) - first - 1)
        elif node.op.kernel is not None:
            run(moment)
        elif not (node.op in (INPUT, READ, ASSIGN) or node.op.alias):
            raise GraphError(f"{node.op.name} has no kernel; it must be lowered first")
        copies(storage.after, moment)
        return i

    i = 0
    while i < len(storage.moments):
        i = walk(i)
    return calls
