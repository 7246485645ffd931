"""A plan: everything that a step will do and every byte it will use, before it runs."""

from __future__ import annotations

from collections.abc import Callable

from ..graph import Graph, Value, verify
from ..op import Kernel
from .ledger import KINDS, Entry, Ledger, Saved, megabytes
from .pack import Block, pack
from .program import Call, lower
from .storage import store

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

    def table(self) -> str:
        """Print, call by call: what is made, read, freed, and the arena bytes live."""
        live = self.ledger.live_bytes()
        peak = self.peak_time
        frees: dict[int, list[str]] = {}
        for buffer in self.storage.buffers:
            for _, value in buffer.lives[-1:]:
                frees.setdefault(buffer.end, []).append(f"%{value.node.number}")
        header = (
            f"{'call':>4}  {'part':<8}  {'kernel':<34}  {'made':<38}  {'read':<22}  "
            f"{'freed':<16}  {'live':>12}"
        )
        lines = [header, "-" * len(header)]
        last = {call.time: i for i, call in enumerate(self.calls)}
        for i, call in enumerate(self.calls):
            node = call.node
            made = ", ".join(f"%{v.node.number} {v.dtype}{list(v.shape)}" for v in node.outputs)
            read = " ".join(f"%{v.node.number}" for v in node.inputs)
            name = f"loop x {call.repeat}" if call.kernel is None else call.kernel.name
            name = f"{node.path}.{name}" if node.scope else name
            freed = " ".join(frees.get(call.time, ())) if last[call.time] == i else ""
            mark = " <- peak" if call.time == peak and last[call.time] == i else ""
            lines.append(
                f"{i:>4}  {node.part:<8}  {name:<34}  {made:<38}  {read:<22}  {freed:<16}  "
                f"{live[call.time]:>12,}{mark}"
            )
        lines.append("")
        lines += [f"{kind:<10} {n:>14,}" for kind, n in self.by_kind().items() if n]
        lines.append(f"{'peak':<10} {self.peak_bytes:>14,}  ({megabytes(self.peak_bytes)})")
        lines += self.graph.remarks
        return "\n".join(lines)

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
