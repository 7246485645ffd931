"""An independent check of a plan: no lifetimes, no packing, only what each byte holds.

Memory is simulated with one stamp a byte. Each call's reads must find, at the planned address, the
stamp of the value they mean; writes leave their own. A wrong overlap, a missed copy, an early
reuse or an overwritten cell shows as a foreign stamp.
"""

from __future__ import annotations

import numpy as np

from tinygrad_edge.graph import ASSIGN, INPUT, READ
from tinygrad_edge.ops.loop import LOOP


class _Memory:
    def __init__(self, plan):
        slots = plan.storage.slots
        self.slots = [np.zeros(plan.arena_bytes, np.int64)]
        self.slots += [
            np.zeros((s.type if hasattr(s, "type") else s).nbytes, np.int64) for s in slots[1:]
        ]
        self.windows = {}
        self.stamps = {}

    def stamp(self, key):
        return self.stamps.setdefault(key, len(self.stamps) + 1)

    def at(self, operand, nbytes):
        if operand.slot in self.windows:
            array, offset = self.windows[operand.slot]
        else:
            array, offset = self.slots[operand.slot], operand.offset
        assert offset + nbytes <= len(array), f"{operand} reaches past the end of its slot"
        return array[offset : offset + nbytes]


def check(plan) -> None:
    """Raise AssertionError unless every read of the plan finds its value."""
    memory = _Memory(plan)
    graph = plan.graph
    content: dict[object, object] = {}

    for i, cell in enumerate(graph.cells):
        memory.slots[1 + i][:] = memory.stamp(cell)
    for i, value in enumerate(graph.inputs):
        memory.slots[1 + len(graph.cells) + i][:] = memory.stamp(value)

    def means(value):
        if value in content:
            return content[value]
        node = value.node
        if node.op is READ:
            return node.attrs["cell"]
        if node.op is ASSIGN or node.op.alias:
            return means(node.inputs[0])
        if node.op is LOOP:
            return means(node.attrs["body"].outputs[value.index])
        return value

    def expect(value, operand):
        if value.nbytes == 0:
            return
        found = memory.at(operand, value.nbytes)
        wanted = memory.stamp(means(value))
        assert (found == wanted).all(), f"{value!r} is not where the plan says, at {operand}"

    def run(first, last):
        i = first
        while i < last:
            call = plan.calls[i]
            if call.kernel is None:
                loop(i, call)
                i += 1 + call.body
                continue
            node = call.node
            if call.moves is not None:
                target, source = call.operands
                expect(call.moves, source)
                memory.at(target, call.moves.nbytes)[:] = memory.stamp(means(call.moves))
            else:
                outs = len(node.outputs)
                numbers = (
                    range(len(node.inputs)) if call.kernel.inputs is None else call.kernel.inputs
                )
                for value, operand in zip(
                    [node.inputs[k] for k in numbers], call.operands[outs:], strict=False
                ):
                    expect(value, operand)
                for operand in call.operands[outs + len(list(numbers)) :]:  # workspace
                    memory.at(operand, _workspace(operand))[:] = -1
                for value, operand in zip(node.outputs, call.operands[:outs], strict=True):
                    memory.at(operand, value.nbytes)[:] = memory.stamp(value)
            i += 1

    def _workspace(operand):
        return operand.place.buffer.nbytes

    def loop(i, call):
        node, body = call.node, call.node.attrs["body"]
        fixed, sliced = node.attrs["invariant"], node.attrs["sliced"]
        for outer, inner in zip(node.inputs, body.inputs, strict=True):
            content[inner] = means(outer)
        for iteration in range(call.repeat):
            for k in range(0, len(call.operands), 2):
                window, over = call.operands[k], call.operands[k + 1]
                if over.slot in memory.windows:
                    array, offset = memory.windows[over.slot]
                else:
                    array, offset = memory.slots[over.slot], over.offset
                memory.windows[window.slot] = (array, offset + iteration * window.step)
            run(i + 1, i + 1 + call.body)
            for inner, result in zip(body.inputs[fixed + sliced :], body.outputs, strict=False):
                content[inner] = means(result)

    run(0, len(plan.calls))
    first = 1 + len(graph.cells) + len(graph.inputs)
    for i, value in enumerate(graph.outputs):
        if value.nbytes:
            assert (memory.slots[first + i] == memory.stamp(means(value))).all(), (
                f"output {i} is not its value"
            )
    newest = {}
    for node in graph.nodes:
        if node.op is ASSIGN:
            newest[node.attrs["cell"]] = means(node.inputs[0])
    for i, cell in enumerate(graph.cells):
        if cell.type.nbytes:
            wanted = memory.stamp(newest.get(cell, cell))
            assert (memory.slots[1 + i] == wanted).all(), (
                f"{cell!r} does not hold its newest version"
            )
    for i, value in enumerate(graph.inputs):
        if value.node.op is INPUT and value.nbytes:
            assert (memory.slots[1 + len(graph.cells) + i] == memory.stamp(value)).all(), (
                "an input was written"
            )
