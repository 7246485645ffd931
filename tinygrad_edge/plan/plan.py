"""A plan: everything that a step will do and every byte it will use, before it runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from os import PathLike

from ..errors import GraphError
from ..graph import Graph, Value, verify
from ..op import Kernel
from . import window
from .diff import Difference
from .ledger import KINDS, Entry, Ledger, Saved, megabytes
from .pack import Block, pack
from .program import Call, lower
from .storage import store
from .table import table
from .why import Reasons, Why, find

__all__ = ["Plan", "make_plan"]


class Plan:
    """The calls of a step and their memory.

    Made by ``step.plan(...)``; nothing has run yet.

    Attributes
    ----------
    graph : Graph
        The step after all policies.
    calls : list of Call
        Kernel calls in order.
    arena_bytes : int
        The one block that holds everything between cells, inputs and outputs.
    peak_bytes : int
        Persistent cells + arena + inputs + outputs.
    """

    def __init__(self, graph: Graph, workspace: Callable[[Kernel], int]) -> None:
        self.graph = verify(graph)
        self.storage = store(graph)
        self.calls: list[Call] = lower(self.storage, workspace)
        blocks = [Block(b.start, b.end, b.nbytes) for b in self.storage.buffers]
        offsets, self.arena_bytes = pack(blocks)
        for buffer, offset in zip(self.storage.buffers, offsets, strict=True):
            buffer.offset = offset
        self.ledger = Ledger(graph, self.storage)

    @property
    def cell_bytes(self) -> int:
        """Bytes of parameters, statistics and optimizer state."""
        return sum(c.type.nbytes for c in self.graph.cells)

    @property
    def peak_bytes(self) -> int:
        """Cells, arena, inputs and outputs together."""
        edges = sum(v.nbytes for v in (*self.graph.inputs, *self.graph.outputs))
        return self.cell_bytes + self.arena_bytes + edges

    @property
    def peak_time(self) -> int:
        """The moment at which most of the arena is live."""
        live = self.ledger.live_bytes()
        return live.index(max(live)) if live else 0

    def live(self, time: int | None = None) -> list[Entry]:
        """Arena entries live at a moment, by default the worst."""
        return self.ledger.live(self.peak_time if time is None else time)

    def by_kind(self) -> dict[str, int]:
        """Bytes at the peak for each row of the ledger; they sum to `peak_bytes` exactly."""
        rows = dict.fromkeys(KINDS, 0)
        for cell in self.graph.cells:
            rows[cell.kind] += cell.type.nbytes
        for entry in self.live():
            rows[entry.kind] += entry.nbytes
        rows["padding"] = self.arena_bytes - sum(e.nbytes for e in self.live())
        rows["input"] = sum(v.nbytes for v in self.graph.inputs)
        rows["output"] = sum(v.nbytes for v in self.graph.outputs)
        return rows

    def saved(self) -> list[Saved]:
        """Values that cross from forward to backward."""
        return self.ledger.saved()

    @property
    def flops(self) -> int:
        """Arithmetic operations of the step, by the ops' cost formulas."""
        return sum(m.node.op.flops(m.node) for m in self.storage.moments if not m.inside)

    def table(self) -> str:
        """Print, call by call: what is made, read, freed, and the arena bytes live.

        Saved values have a star. Bytes by kind at the worst moment follow; they sum to the peak.
        """
        return table(self)

    def why(self, value: Value | Saved | Entry | str) -> Why:
        """Say why a value is where it is.

        Parameters
        ----------
        value : Value, Saved, Entry or str
            One of ``plan.saved()`` or ``plan.live()``, a name such as ``"block.0.relu"``, or a
            number as in ``plan.table()``: ``"%12"``.

        Returns
        -------
        Why
            Who made it, who still needs it, which policy put it there, and what dropping it would
            save and cost. Printed, it is a few lines.

        Raises
        ------
        GraphError
            No value has that name, or several have; the message names them.
        """
        meant = value.value if isinstance(value, Saved | Entry) else value
        if meant is None:
            raise GraphError("a workspace belongs to one call and holds no value")
        return self.reasons.why(find(self.graph, self.ledger, meant))

    @cached_property
    def reasons(self) -> Reasons:
        """Answers about values, made when the first is asked for."""
        return Reasons(self.graph, self.ledger, self.calls)

    def diff(self, other: Plan) -> Difference:
        """Compare with a plan that comes after a change: bytes, operations, saved values."""
        return Difference(self, other)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the plan to a file.

        Parameters
        ----------
        path : str or path
            ``.html`` is the window: one file without anything from outside, to be opened in a
            browser; ``.svg`` and ``.png`` are pictures of the live bytes and of the arena, and need
            matplotlib; ``.json`` is the data.

        Raises
        ------
        DataError
            The suffix is another one, or there is no matplotlib, or no kernel call, for a picture.
        """
        window.save(path, (self,))

    def _repr_html_(self) -> str:
        return window.in_notebook((self,))

    def where(self, value: Value) -> str:
        """Name of a value for messages."""
        return self.ledger.name(value)

    def __repr__(self) -> str:
        return (
            f"Plan({len(self.calls)} calls, peak {megabytes(self.peak_bytes)}, "
            f"arena {megabytes(self.arena_bytes)})"
        )


def make_plan(graph: Graph, workspace: Callable[[Kernel], int] = lambda kernel: 0) -> Plan:
    """Plan a lowered graph; `workspace` says what a kernel wants besides its operands."""
    return Plan(graph, workspace)
