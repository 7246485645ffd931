"""The ledger: which bytes are live at each moment, and what they are for."""

from __future__ import annotations

from typing import NamedTuple

from ..graph import ASSIGN, READ, Graph, Node, Value, base_of
from .pack import Block, live_bytes
from .storage import ARENA, Buffer, Storage

__all__ = ["KINDS", "Entry", "Ledger", "Saved", "megabytes"]

#: Rows of the ledger. Together they are the peak, to the byte.
KINDS = (
    "parameter",
    "buffer",
    "optimizer",
    "index",
    "gradient",
    "saved",
    "temporary",
    "workspace",
    "input",
    "output",
    "padding",
)


class Entry(NamedTuple):
    """One live value of the arena at a moment."""

    name: str
    kind: str
    nbytes: int
    value: Value | None  # None: workspace


class Saved(NamedTuple):
    """A value that crosses from forward to backward."""

    name: str
    path: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    readers: tuple[str, ...]
    value: Value


class Ledger:
    """What is live when, and why.

    Parameters
    ----------
    graph : Graph
    storage : Storage
        Packed.
    """

    def __init__(self, graph: Graph, storage: Storage) -> None:
        self.graph = graph
        self.storage = storage
        self._saved = dict.fromkeys(graph.core().saved())
        self._times = {moment.node: moment.time for moment in storage.moments}
        self._readers: dict[Value, list[Node]] = {}
        for node in self._times:
            for value in dict.fromkeys(map(base_of, node.inputs)):
                if not node.op.alias:
                    self._readers.setdefault(value, []).append(node)
        read = [v for n in self._times if n.part == "update" for v in n.inputs]
        # What the backward part makes, and the update part or the caller reads.
        bases = map(base_of, (*read, *graph.outputs))
        self._gradients = {v for v in bases if v.node.part == "backward"}

    def kind(self, value: Value) -> str:
        """Row of a value in the arena."""
        if value in self._saved:
            return "saved"
        return "gradient" if value in self._gradients else "temporary"

    def row(self, value: Value) -> str:
        """Row of any value, wherever it is."""
        slot = self.storage.places[value].buffer.slot
        cells = len(self.graph.cells)
        if slot == ARENA:
            return self.kind(value)
        if slot <= cells:
            return self.graph.cells[slot - 1].kind
        return "input" if slot <= cells + len(self.graph.inputs) else "output"

    def knows(self, value: Value) -> bool:
        """Whether a value is one of the plan's."""
        return value.node in self._times

    def time(self, node: Node) -> int:
        """The moment of a node."""
        return self._times[node]

    def readers(self, value: Value) -> list[Node]:
        """The nodes that read a value or a view of it, in order."""
        return self._readers.get(base_of(value), [])

    def label(self, value: Value) -> str:
        """Number in the plan, module path and op: unlike `name`, it means one value alone."""
        index = f".{value.index}" if len(value.node.outputs) > 1 else ""
        return f"%{self._times[value.node]}{index} {self.name(value)}"

    def live(self, time: int) -> list[Entry]:
        """Arena entries that are live at a moment, in order of their offset."""
        found = [b for b in self.storage.buffers if b.start <= time <= b.end]
        return [self._entry(b, time) for b in sorted(found, key=lambda b: b.offset)]

    def dying(self, time: int) -> list[Entry]:
        """Arena entries that are live for the last time."""
        return [self._entry(b, time) for b in self.storage.buffers if b.end == time]

    def _entry(self, buffer: Buffer, time: int) -> Entry:
        value = next((v for since, v in reversed(buffer.lives) if since <= time), None)
        if value is None:
            return Entry("workspace", "workspace", buffer.nbytes, None)
        return Entry(self.name(value), self.kind(value), buffer.nbytes, value)

    @staticmethod
    def name(value: Value) -> str:
        """Module path and op of a value; of a cell, its name."""
        node = value.node
        if node.op is READ or node.op is ASSIGN:
            return str(node.attrs["cell"].name)
        own = Ledger.node_name(node)
        return own if len(node.outputs) == 1 else f"{own}.{value.index}"

    @staticmethod
    def node_name(node: Node) -> str:
        """Module path and op of a node."""
        return f"{node.path}.{node.op.name}" if node.scope else node.op.name

    def live_bytes(self) -> list[int]:
        """Sum of live arena bytes at each moment."""
        moments = len(self.storage.moments)
        blocks = [Block(b.start, min(b.end, moments - 1), b.nbytes) for b in self.storage.buffers]
        sums = live_bytes(blocks)
        return sums + [0] * (moments - len(sums))

    def saved(self) -> list[Saved]:
        """The values that cross from forward to backward, in the order in which they are made."""
        return [
            Saved(
                self.name(v),
                v.node.path,
                v.shape,
                v.dtype.name,
                v.nbytes,
                tuple(n.op.name for n in self._readers[v] if n.part == "backward"),
                v,
            )
            for v in self._saved
        ]


def megabytes(nbytes: float) -> str:
    """Bytes in the unit that reads best, decimal."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{nbytes / size:.2f} {unit}"
    return f"{int(nbytes)} B"
