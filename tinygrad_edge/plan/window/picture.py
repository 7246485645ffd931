"""The plan as a picture for slides: live bytes by kind above, the arena below."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError
from ...graph import Value
from .data import Column

if TYPE_CHECKING:
    from ..plan import Plan

__all__ = ["COLOURS", "picture"]

#: After Okabe and Ito (2008), whom the colour-blind can tell apart; window.css has the same.
COLOURS = {
    "saved": "#d55e00",
    "temporary": "#56b4e9",
    "gradient": "#009e73",
    "workspace": "#cc79a7",
}
_GREY = "#9aa3ad"


def picture(plans: Sequence[Plan], form: str, columns: Sequence[Column] | None = None) -> bytes:
    """Draw plans below each other on one scale.

    Parameters
    ----------
    plans : sequence of Plan
    form : str
        ``svg`` or ``png``.
    columns : sequence of Column, optional
        The calls of two plans side by side.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise DataError(
            "a picture of a plan needs matplotlib: pip install 'tinygrad-edge[cli]'"
        ) from None
    if not all(plan.calls for plan in plans):
        raise DataError("a step that calls no kernel has nothing to draw; .html and .json say so")
    figure = Figure(figsize=(10, 1 + 3.9 * len(plans)), layout="constrained")
    axes = figure.subplots(2 * len(plans), 1, sharex=True, squeeze=False)[:, 0]
    top = max(p.arena_bytes for p in plans) / 1e6 or 1.0
    count = len(columns) if columns else len(plans[0].calls)
    for number, plan in enumerate(plans):
        at = _places(plan, [c[number] for c in columns] if columns else range(len(plan.calls)))
        upper, lower = axes[2 * number : 2 * number + 2]
        _live(upper, plan, at, count)
        _arena(lower, plan, at)
        for each in (upper, lower):
            each.set(xlim=(0, count), ylim=(0, 1.08 * top))
            each.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("kernel call")
    result = io.BytesIO()
    # Text as text, and nothing that differs from run to run.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tinygrad_edge"}):
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(result, format=form, dpi=120, metadata=metadata)
    return result.getvalue()


def _places(plan: Plan, calls: Sequence[int | None]) -> np.ndarray:
    """Where each call of a plan begins, and the end of the last."""
    places = [i for i, call in enumerate(calls) if call is not None]
    return np.array([*places, len(calls)])


def _spans(plan: Plan) -> list[tuple[str, int, int, int, int]]:
    """Kind, first call, call after the last, offset and bytes of all that is in the arena."""
    reasons, found = plan.reasons, []
    for buffer in plan.storage.buffers:
        ends = [t for t, _ in buffer.lives[1:]] + [buffer.end + 1]
        lives: list[tuple[int, Value | None]] = [*buffer.lives] or [(buffer.start, None)]
        for (start, value), end in zip(lives, ends, strict=True):
            kind = "workspace" if value is None else plan.ledger.kind(value)
            first, last = reasons.call_at(start), reasons.last_call_at(end - 1)
            found.append((kind, first, last + 1, buffer.offset, buffer.nbytes))
    return found


def _live(axes: Any, plan: Plan, at: np.ndarray, count: int) -> None:
    """Draw the sums of live bytes by kind, and name the peak."""
    sums = {kind: np.zeros(count) for kind in COLOURS}
    for kind, first, end, _, nbytes in _spans(plan):
        sums[kind][at[first] : at[end]] += nbytes / 1e6
    base = np.zeros(count)
    for kind, colour in COLOURS.items():
        if not sums[kind].any():
            continue
        upper = base + sums[kind]
        edges = np.arange(count + 1)
        axes.fill_between(
            edges,
            np.append(base, base[-1:]),
            np.append(upper, upper[-1:]),
            step="post",
            color=colour,
            linewidth=0,
            label=kind,
        )
        base = upper
    peak = plan.reasons.last_call_at(plan.peak_time)
    name = plan.ledger.node_name(plan.calls[peak].node)
    axes.plot(at[peak] + 0.5, base.max(), marker="v", color="black", clip_on=False)
    axes.set_title(
        f"peak {plan.peak_bytes:,} bytes with parameters, inputs and outputs; call {peak}, {name}",
        loc="left",
        fontsize=10,
    )
    backward = _longest([call.node.part != "forward" for call in plan.calls])
    if backward is not None:
        axes.axvline(at[backward], color=_GREY, linewidth=1, linestyle=":")
        for text, side in (("forward  ", "right"), ("  backward", "left")):
            place = {"transform": axes.get_xaxis_transform(), "va": "top"}
            axes.text(at[backward], 0.99, text, ha=side, fontsize=8, color="#5a6875", **place)
    axes.set_ylabel("live in the arena, MB")
    if base.any():
        axes.legend(loc="upper left", fontsize=8, frameon=False)


def _longest(flags: Sequence[bool]) -> int | None:
    """Where the longest run of true ones begins: not where a constant stands before the pass."""
    runs = [(len(list(run)), true) for true, run in itertools.groupby(flags)]
    starts = itertools.accumulate((length for length, _ in runs), initial=0)
    lengths = [
        (length, -start) for (length, true), start in zip(runs, starts, strict=False) if true
    ]
    return -max(lengths)[1] if lengths else None


def _arena(axes: Any, plan: Plan, at: np.ndarray) -> None:
    """Draw the arena: offset against time."""
    from matplotlib.collections import PolyCollection

    spans = _spans(plan)
    corners = [
        [(at[first], low), (at[end], low), (at[end], high), (at[first], high)]
        for _, first, end, offset, nbytes in spans
        for low, high in [(offset / 1e6, (offset + nbytes) / 1e6)]
    ]
    colours = [COLOURS[kind] for kind, *_ in spans]
    axes.add_collection(
        PolyCollection(corners, facecolors=colours, edgecolors="white", linewidths=0.3)
    )
    axes.axhline(plan.arena_bytes / 1e6, color=_GREY, linewidth=1, linestyle=":")
    axes.set_ylabel("offset in the arena, MB")
