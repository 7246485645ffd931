"""What the page and the JSON file know of a plan: rows of numbers, texts said once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...graph import Node, Value, base_of
from ..ledger import KINDS
from ..storage import Buffer

if TYPE_CHECKING:
    from ..plan import Plan

__all__ = ["Column", "describe"]

#: Numbers of the calls that two plans make side by side; None: only the other one makes a call.
Column = tuple[int | None, int | None]


def describe(
    plans: Sequence[Plan], title: str, columns: Sequence[Column] | None = None
) -> dict[str, Any]:
    """Describe one plan, or two with their calls side by side.

    Values, calls and texts are named by their place in a list. -1 stands for none.
    """
    return {
        "title": title,
        "kinds": list(KINDS),
        "plans": [_Description(plan).found for plan in plans],
        "columns": [[-1 if i is None else i for i in c] for c in columns] if columns else None,
    }


class _Description:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._texts: dict[str, int] = {}
        self._values: dict[Value, int] = {}
        moments = plan.storage.moments
        for node in (m.node for m in moments if not m.node.op.alias):
            for value in node.outputs:
                self._values[value] = len(self._values)
        values = [self._value(v) for v in self._values]
        calls = [self._call(i) for i in range(len(plan.calls))]
        buffers = [self._buffer(b) for b in plan.storage.buffers]
        self.found: dict[str, Any] = {
            "peak_bytes": plan.peak_bytes,
            "arena_bytes": plan.arena_bytes,
            "peak_call": plan.reasons.last_call_at(plan.peak_time),
            "by_kind": plan.by_kind(),
            "flops": plan.flops,
            "remarks": list(plan.graph.remarks),
            "calls": calls,
            "buffers": buffers,
            "values": values,
            "texts": list(self._texts),
        }

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def _source(self, node: Node) -> int:
        """File and line, without the folders: a page is passed on."""
        file, line = node.source
        return self._text(f"{os.path.basename(file)}:{line}" if line else "")

    def _numbers(self, values: Sequence[Value]) -> list[int]:
        bases = dict.fromkeys(map(base_of, values))
        return [self._values[v] for v in bases if v in self._values]

    def _call(self, number: int) -> dict[str, Any]:
        call = self.plan.calls[number]
        node = call.node
        moved = [] if call.moves is None else [call.moves]
        return {
            "kernel": self._text(call.kernel.name if call.kernel else f"loop x {call.repeat}"),
            "part": self._text(node.part),
            "path": self._text(node.path),
            "source": self._source(node),
            "made": self._numbers(moved or node.outputs),
            "read": self._numbers(moved or node.inputs),
            "body": call.body,
            "flops": 0 if moved else node.op.flops(node),
        }

    def _value(self, value: Value) -> dict[str, Any]:
        reasons, ledger = self.plan.reasons, self.plan.ledger
        first, last = reasons.life(value)
        original = reasons.original(value)
        readers = (reasons.call_at(ledger.time(n)) for n in ledger.readers(value))
        return {
            "name": self._text(ledger.label(value)),
            "kind": KINDS.index(ledger.row(value)),
            "shape": list(value.shape),
            "dtype": self._text(value.dtype.name),
            "nbytes": value.nbytes,
            "part": self._text(value.node.part),
            "first": reasons.call_at(first),
            "last": reasons.last_call_at(last),
            "readers": list(dict.fromkeys(readers)),
            "source": self._source(value.node),
            "cause": self._text(reasons.cause(value)),
            "policy": self._text(reasons.policy(value)),
            "saves": reasons.saves(value),
            "flops": value.node.op.flops(value.node),
            "copy_of": -1 if original is None else self._values.get(original, -1),
        }

    def _buffer(self, buffer: Buffer) -> dict[str, Any]:
        """Bytes of the arena, and who has them from which call on; -1 is a workspace."""
        reasons = self.plan.reasons
        lives = [(reasons.call_at(t), self._values[v]) for t, v in buffer.lives] or [
            (reasons.call_at(buffer.start), -1)
        ]
        return {
            "first": reasons.call_at(buffer.start),
            "last": reasons.last_call_at(buffer.end),
            "nbytes": buffer.nbytes,
            "offset": buffer.offset,
            "lives": lives,
        }
