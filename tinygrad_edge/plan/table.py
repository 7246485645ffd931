"""The plan as text: a row for each call, then the rows of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..graph import Node, Value, base_of
from .ledger import megabytes

if TYPE_CHECKING:
    from .plan import Plan

__all__ = ["table"]

_HEADINGS = ("call", "part", "module", "kernel", "made", "read", "freed", "live", "")
_RIGHT = {"call", "live"}
#: Wider columns are cut, but for their last one.
_WIDEST = 40
_BAR = 16  # characters for the bytes at the peak


def table(plan: Plan) -> str:
    """Print, call by call: what is made, read, freed, and the arena bytes live.

    Saved values have a star. Bytes by kind at the worst moment follow; they sum to the peak.
    """
    lines = _columns(_HEADINGS, _rows(plan))
    lines.append("")
    lines += [f"{kind:<10} {n:>14,}" for kind, n in plan.by_kind().items() if n]
    lines.append(f"{'peak':<10} {plan.peak_bytes:>14,}  ({megabytes(plan.peak_bytes)})")
    lines += plan.graph.remarks
    return "\n".join(lines)


def _rows(plan: Plan) -> list[Sequence[str]]:
    live = plan.ledger.live_bytes()
    frees: dict[int, list[str]] = {}
    for buffer in plan.storage.buffers:
        for _, value in buffer.lives[-1:]:
            frees.setdefault(buffer.end, []).append(_number(plan, value))
    last = {call.time: i for i, call in enumerate(plan.calls)}
    within = [0] * (len(plan.calls) + 1)
    rows: list[Sequence[str]] = []
    for i, call in enumerate(plan.calls):
        if call.kernel is None:  # what it repeats is further to the right
            within[i + 1] += 1
            within[i + 1 + call.body] -= 1
        within[i + 1] += within[i]
        kernel = f"loop x {call.repeat}" if call.kernel is None else call.kernel.name
        ends = last[call.time] == i  # of the calls of this node, if it has several
        at_peak = " <- peak" if ends and call.time == plan.peak_time else ""
        bar = "█" * round(_BAR * live[call.time] / max([1, *live]))
        rows.append(
            (
                str(i),
                call.node.part,
                call.node.path,
                "  " * within[i] + kernel,
                _made(plan, call.node) if call.moves is None else _number(plan, call.moves),
                " ".join(_number(plan, v) for v in dict.fromkeys(map(base_of, call.node.inputs))),
                " ".join(frees.get(call.time, ())) if ends else "",
                f"{live[call.time]:,}",
                f"{bar}{at_peak}",
            )
        )
    return rows


def _number(plan: Plan, value: Value) -> str:
    return plan.ledger.label(value).split()[0]


def _made(plan: Plan, node: Node) -> str:
    def each(value: Value) -> str:
        star = "*" if plan.ledger.kind(value) == "saved" else ""
        return f"{_number(plan, value)}{star} {value.dtype}{list(value.shape)}"

    return ", ".join(map(each, node.outputs))


def _columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [min(max(map(len, column)), _WIDEST) for column in zip(headings, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            f"{_cut(text, width):>{width}}" if name in _RIGHT else f"{_cut(text, width):<{width}}"
            for name, text, width in zip(headings, cells, widths, strict=True)
        ).rstrip()

    return [line(headings), "-" * len(line(headings)), *map(line, rows)]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
