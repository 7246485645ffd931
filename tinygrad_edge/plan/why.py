"""Why a value is where it is: who made it, who still needs it, which policy put it there."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import GraphError
from ..graph import ASSIGN, INPUT, READ, Graph, Node, Value, base_of
from ..ops.loop import LOOP
from .ledger import Ledger, megabytes
from .program import Call

__all__ = ["Reasons", "Why"]


class Why(NamedTuple):
    """What a plan knows about one of its values. Calls are numbered as in ``plan.table()``.

    Attributes
    ----------
    name : str
        Number in the step, module path and op.
    kind : str
        Its row in ``plan.by_kind()``.
    shape, dtype, nbytes
    part : str
        ``forward``, ``backward`` or ``update``.
    made : int
        The call that makes it; of a parameter or an input, the first that reads it.
    last_use : int
        The last call that reads it; nobody holds it afterwards. Of a result, the last of the step.
    readers : tuple of str
        The calls that read it, in order.
    source : str
        File and line of the user's code; empty for what no line of it made.
    cause : str
        What put it there, in words: the policy, or the rule where there is none.
    saves : int
        Arena bytes at the worst moment that making it again instead of keeping it would spare; of
        what is made again, those that it already spares. What it is made from is kept so long.
    flops : int
        Operations that making it once takes.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    part: str
    made: int
    last_use: int
    readers: tuple[str, ...]
    source: str
    cause: str
    saves: int
    flops: int

    def __str__(self) -> str:
        lines = [
            f"{self.name}  {self.dtype}{list(self.shape)}, {megabytes(self.nbytes)}, {self.kind}",
            f"  made     call {self.made} ({self.part})" + (f", {self.source}" * bool(self.source)),
            f"  lives    until call {self.last_use}",
            f"  read by  {'; '.join(self.readers) or 'nobody'}",
            f"  because  {self.cause}",
        ]
        if self.saves or self.kind == "saved":
            lines.append(
                f"  dropped  {megabytes(self.saves)} less at the peak, "
                f"for {self.flops:,} operations more"
            )
        return "\n".join(lines)


class Reasons:
    """Answers about the values of one plan.

    Parameters
    ----------
    graph : Graph
    ledger : Ledger
    calls : sequence of Call
    """

    def __init__(self, graph: Graph, ledger: Ledger, calls: Sequence[Call]) -> None:
        self._ledger, self._calls = ledger, calls
        self._times = [call.time for call in calls]
        self._live = np.array(ledger.live_bytes(), np.int64)
        self._outputs = set(map(base_of, graph.outputs))
        self._causes = {
            how: {v: by for g in _nested(graph) for v, by in g.causes[how].items()}
            for how in ("again", "kept", "stored")
        }
        self._first: dict[int, Node] = {}  # by origin: the node that later ones stand for
        self._copies: dict[int, list[Node]] = {}
        for moment in ledger.storage.moments:
            first = self._first.setdefault(moment.node.origin, moment.node)
            if first is not moment.node:
                self._copies.setdefault(moment.node.origin, []).append(moment.node)
        self._lives: dict[Value, tuple[int, int]] = {}
        for buffer in ledger.storage.buffers:
            until = buffer.end
            for since, value in reversed(buffer.lives):
                # What a loop gathers is there as long as what its iterations put into it.
                end = buffer.end if value.node.op is LOOP else until
                self._lives[value] = since, end
                until = since

    def why(self, value: Value) -> Why:
        """Explain one value; a view is the value that it shows."""
        value = base_of(value)
        node, ledger = value.node, self._ledger
        readers = ledger.readers(value)
        first, last = self.life(value)
        file, line = node.source
        return Why(
            ledger.label(value),
            ledger.row(value),
            value.shape,
            value.dtype.name,
            value.nbytes,
            node.part,
            self.call_at(first),
            self.last_call_at(last),
            tuple(self._reader(n) for n in readers),
            f"{file}:{line}" if line else "",
            self.cause(value),
            self.saves(value),
            node.op.flops(node),
        )

    def life(self, value: Value) -> tuple[int, int]:
        """First and last moment at which a value must be there."""
        if value in self._lives:
            return self._lives[value]
        times = [self._ledger.time(n) for n in self._ledger.readers(value)]
        made = self._ledger.time(value.node)
        if value in self._outputs or value.node.op is ASSIGN:  # there when the step ends
            times.append(len(self._live) - 1)
        if value.node.op in (INPUT, READ) and times:
            made = min(times)
        return made, max(times, default=made)

    def call_at(self, time: int) -> int:
        """The first call of a moment, or after it."""
        return min(bisect_left(self._times, time), len(self._times) - 1)

    def last_call_at(self, time: int) -> int:
        """The last call of a moment, or before it."""
        return max(bisect_right(self._times, time) - 1, 0)

    def original(self, value: Value) -> Value | None:
        """What a copy stands for; None for what is no copy."""
        first = self._first[value.node.origin]
        if first is value.node:
            return None
        # What was decoded has another index than the output that it stands for.
        alike = [v for v in first.outputs if v.type == value.type]
        return next((v for v in alike if v.index == value.index), alike[0] if alike else None)

    def made_again(self, value: Value) -> tuple[int, str] | None:
        """The call that makes a forward value again, and the policies behind it."""
        for copy in self._copies.get(value.node.origin, ()) if not self.original(value) else ():
            for result in copy.outputs:
                if result in self._causes["again"] and result.index == value.index:
                    time = self._ledger.time(copy)
                    return self.call_at(time), self._causes["again"][result]
        return None

    def policy(self, value: Value) -> str:
        """The policies that have decided about a value; empty where none has."""
        for by in (self._causes["again"], self._causes["stored"], self._causes["kept"]):
            if value in by:
                return by[value]
        again = self.made_again(value)
        return again[1] if again else ""

    def cause(self, value: Value) -> str:
        """Why it is there, in one sentence."""
        causes, row = self._causes, self._ledger.row(value)
        original, again = self.original(value), self.made_again(value)
        if value in causes["again"]:
            of = f" of call {self.call_at(self._ledger.time(original.node))}" if original else ""
            return f"made again in the backward part instead of keeping that{of}: " + (
                causes["again"][value] or "the step says so"
            )
        if value in causes["stored"]:
            stands = "kept" if value.node.part == "forward" else "converted back from what was kept"
            name = value.dtype.name if value.node.part == "forward" else "fewer bits"
            return f"{stands} as {name}: {causes['stored'][value]}"
        if row == "saved":
            by = causes["kept"].get(value)
            return (
                f"kept for the backward part: {by}"
                if by
                else "kept: the backward part reads it, and no policy has it made again"
            )
        if again:
            return f"not kept: call {again[0]} makes it again for the backward part: {again[1]}"
        return _RULES[row]

    def saves(self, value: Value) -> int:
        """Arena bytes at the worst moment between keeping a saved value and making it again."""
        if value in self._causes["again"]:
            original = self.original(value)
            if original is None:
                return 0
            until = self.life(original)[1]
            kept = self._live.copy()
            kept[until + 1 : self.life(value)[0]] += value.nbytes
            return int(kept.max() - self._live.max())
        if self._ledger.kind(value) != "saved" or value not in self._lives:
            return 0
        backward = [
            self._ledger.time(n) for n in self._ledger.readers(value) if n.part == "backward"
        ]
        forward = [self._ledger.time(n) for n in self._ledger.readers(value) if n.part == "forward"]
        until, again = max(forward, default=self.life(value)[0]), min(backward)
        dropped = self._live.copy()
        dropped[until + 1 : again] -= value.nbytes
        for source in dict.fromkeys(map(base_of, value.node.inputs)):
            if source in self._lives:
                dropped[self.life(source)[1] + 1 : again + 1] += source.nbytes
        return max(0, int(self._live.max() - dropped.max()))

    def _reader(self, node: Node) -> str:
        time = self._ledger.time(node)
        return f"call {self.call_at(time)} {self._ledger.node_name(node)} ({node.part})"


#: Why a value is where it is when no policy had a say.
_RULES = {
    "saved": "the backward part reads it",
    "gradient": "a gradient, until the update or the caller has it",
    "temporary": "only until its last reader in this part",
    "parameter": "state of the model",
    "buffer": "state of the model",
    "optimizer": "state of the optimizer",
    "index": "an index that the step takes",
    "input": "an argument of the step, or a number that it takes",
    "output": "a result of the step, in a buffer of its own",
}


def _nested(graph: Graph) -> list[Graph]:
    """A graph and the bodies of its loops."""
    found = [graph]
    for outer in found:
        found += [n.attrs["body"] for n in outer.nodes if n.op is LOOP]
    return found


def find(graph: Graph, ledger: Ledger, value: Value | str) -> Value:
    """The value that a name means, or a number such as ``%12``.

    Of several, the only one of the forward part is meant; others are refused.
    """
    if isinstance(value, Value):
        if ledger.knows(value):
            return value
        raise GraphError(f"{value!r} is not in this plan; plan.live() and plan.saved() name some")
    known = [v for m in ledger.storage.moments for v in m.node.outputs if not m.node.op.alias]
    meant = [v for v in known if value in (ledger.label(v), ledger.label(v).split()[0])]
    meant = meant or [v for v in known if value == ledger.name(v) and v.node.op is not ASSIGN]
    if len(meant) > 1:
        forward = [v for v in meant if v.node.part == "forward"]
        meant = forward if len(forward) == 1 else meant
    if len(meant) == 1:
        return meant[0]
    if not meant:
        raise GraphError(f"no value of this plan is called {value!r}; plan.table() lists all")
    several = ", ".join(ledger.label(v).split()[0] for v in meant[:6])
    raise GraphError(f"{len(meant)} values are called {value!r}: say which of {several}")
