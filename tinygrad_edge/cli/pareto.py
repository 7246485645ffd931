"""Time against bytes: what each budget from the smallest to that of all values kept costs."""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import runtime
from ..data._progress import progress
from ..errors import BudgetError, DataError, FileError
from ..files import atomic_write
from ..graph import Graph
from ..plan import Plan, make_plan, megabytes
from ..policy import Budget, Default, Policy
from ..policy.cost import cost_of, total_seconds
from ..policy.optimal import optimum
from .model_step import model_step
from .recipes import OPTIMIZERS

__all__ = ["run"]

_BUDGETS = 12


class Point(NamedTuple):
    """What one budget gives; times are factors of the default's."""

    budget: int
    peak_bytes: int
    factor: float
    chosen: str  # of what is allowed
    optimal: float | None = None


def run(args: argparse.Namespace) -> int:
    """Print the table, and draw the picture if a file is named."""
    if args.budget is not None:
        raise DataError("--pareto goes through all budgets: leave out --budget")
    if args.out and args.out.suffix not in (".png", ".svg"):
        raise FileError(f"expected a file that ends in .png or .svg, got {str(args.out)!r}")
    points = _points(args)
    columns = f"{'budget':>10}  {'peak':>10}  {'time':>7}"
    print(columns + (f"  {'optimal':>7}" if args.optimal else ""))
    for point in points:
        optimal = f"  {point.optimal:>6.3f}x" if point.optimal is not None else ""
        print(
            f"{megabytes(point.budget):>10}  {megabytes(point.peak_bytes):>10}  "
            f"{point.factor:>6.3f}x{optimal}  {point.chosen}".rstrip()
        )
    if args.out and not _drawn(args.out, args.model, points):
        print("no picture: drawing needs matplotlib (pip install 'tinygrad-edge[cli]')")
    return 0


def _points(args: argparse.Namespace) -> list[Point]:
    times = runtime.current().times()

    def planned(*policies: Policy) -> Plan:
        step, *batch = model_step(args, OPTIMIZERS[args.optimizer].lr, policies=policies)
        return step.plan(*batch)

    with progress("planning", _BUDGETS, "items") as advance:
        default = planned(Default())
        whole = total_seconds(default.graph, times)
        try:
            least = planned(Budget(0, args.allow)).peak_bytes
        except BudgetError as error:
            least = error.smallest
        kept = _all_kept(default)
        found = []
        for budget in np.geomspace(least, max(kept.peak_bytes, least), _BUDGETS):
            plan = planned(Budget(math.ceil(budget), args.allow))
            factor = total_seconds(plan.graph, times) / whole
            # A plan may be smaller than the program predicts, where values overwrite one another.
            best = min(factor, _optimal(kept, budget, times) / whole) if args.optimal else None
            chosen = [r for r in plan.graph.remarks if r.startswith("chosen besides: ")]
            besides = "".join(r.removeprefix("chosen besides: ") for r in chosen)
            found.append(Point(math.ceil(budget), plan.peak_bytes, factor, besides, best))
            advance(1)
    return found


def _all_kept(default: Plan) -> Plan:
    """The default's plan with nothing made again."""
    assert default.graph.decided is not None
    graph = default.graph.decided
    bare = Graph(graph.outputs, graph.effects, graph.inputs).without_unread_inputs()[0]
    return make_plan(bare, runtime.current().workspace)


def _optimal(kept: Plan, budget: float, times: dict[str, float]) -> float:
    """Seconds of the best choice of what to make again."""
    cost = cost_of(kept.graph, times)
    room = budget - (kept.peak_bytes - kept.arena_bytes)
    return total_seconds(kept.graph, times) + optimum(kept, room, cost).seconds


def _drawn(path: Path, model: str, points: list[Point]) -> bool:
    """Draw the points; False where matplotlib is not there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    budgets = [p.budget / 1e6 for p in points]
    axes.plot(budgets, [p.factor for p in points], marker=".", label="budget")
    if points[0].optimal is not None:
        optimal = [p.optimal or math.nan for p in points]
        axes.plot(budgets, optimal, marker="x", linestyle=":", label="optimal")
        axes.legend()
    axes.set(xlabel="budget [MB]", ylabel="predicted time / the default's", title=model)
    axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=120)
    with atomic_write(path) as file:
        file.write(picture.getvalue())
    return True
