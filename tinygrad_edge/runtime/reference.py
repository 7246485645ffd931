"""Run a plan with each op's NumPy reference: slow, obvious, in any precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..graph import ASSIGN, INPUT, READ, Graph, Node, Value
from ..op import Kernel, Refusal
from ..plan import Call, Plan

__all__ = ["Executable", "name", "signature", "times", "workspace"]

name = "numpy"


def signature() -> tuple:
    """What a plan depends on besides its graph."""
    return (name,)


def times() -> dict[str, float]:
    """NumPy calls no kernels."""
    return {}


def workspace(kernel: Kernel) -> int:
    """NumPy's temporaries are its own affair and are not in the ledger."""
    return 0


class Executable:
    """A plan, node by node.

    Parameters
    ----------
    plan : Plan
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        last: dict[Value, Node] = {}
        for node in plan.graph.nodes:
            for value in (*node.inputs, *node.outputs):
                last[value] = node
        self._dies: dict[Node, list[Value]] = {}
        kept = set(plan.graph.outputs)
        for value, node in last.items():
            if value not in kept:
                self._dies.setdefault(node, []).append(value)

    def run(self, cells: Sequence[np.ndarray], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the whole plan; gives the outputs in buffers of their own."""
        for _ in self.steps(cells, inputs):
            pass
        return self.outputs

    def steps(self, cells: Sequence[np.ndarray], inputs: Sequence[np.ndarray]) -> Iterator[Call]:
        """Run one node at a time; gives its call after it ran. `array` shows any live value."""
        graph: Graph = self.plan.graph
        call_of = {call.node: call for call in reversed(self.plan.calls)}
        state = dict(zip(graph.cells, cells, strict=True))
        self._known = dict(zip(graph.inputs, inputs, strict=True))
        for node in graph.nodes:
            if node.op is not INPUT:
                self._known.update(zip(node.outputs, self._results(node, state), strict=True))
            if node in call_of:
                yield call_of[node]
            for value in self._dies.get(node, ()):
                del self._known[value]
        self.outputs = [np.array(self._known[v], order="C") for v in graph.outputs]

    def array(self, value: Value) -> np.ndarray:
        """A copy of a live value, during `steps`."""
        return self._known[value].copy()

    def _results(self, node: Node, state: dict) -> tuple[np.ndarray, ...]:
        if node.op is READ:
            # A copy: an old version keeps its contents when the cell moves on.
            return (state[node.attrs["cell"]].copy(),)
        arrays = [self._known[v] for v in node.inputs]
        if node.op is ASSIGN:
            state[node.attrs["cell"]][...] = arrays[0]
            return (arrays[0],)
        try:
            with np.errstate(all="ignore"):
                return node.op.reference(*arrays, **node.attrs)
        except Refusal as refusal:
            raise node.op.refuse(node, arrays, refusal.position) from None
