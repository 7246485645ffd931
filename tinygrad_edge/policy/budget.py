"""A byte budget: the fastest step that fits, or the smallest budget that would do."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import ClassVar

from ..errors import BudgetError, GraphError
from ..graph import Graph
from ..plan import Plan
from ..plan.ledger import megabytes
from .again import made_again
from .cost import cost_of
from .frontier import Frontier
from .lifetimes import Choice
from .pipeline import Machine, Policy

__all__ = ["Budget", "as_bytes"]

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
#: Choices that are planned whatever is predicted: a refusal names the best of them.
_SMALLEST = 3


def as_bytes(amount: int | str) -> int:
    """A number of bytes, from an integer or from a string such as ``"8MB"`` or ``"8MiB"``."""
    if isinstance(amount, int) and not isinstance(amount, bool):
        return amount
    match = re.fullmatch(r"([0-9.]+) ?([A-Za-z]*)", amount) if isinstance(amount, str) else None
    unit = _UNITS.get(match[2].upper() or "B") if match and match[1].count(".") < 2 else None
    if match is None or unit is None or match[1] == ".":
        raise GraphError(f'expected bytes such as 8000000, "8MB" or "8MiB", got {amount!r}')
    return int(float(match[1]) * unit)


@dataclass(frozen=True)
class Budget(Policy):
    """The fastest step whose `plan.peak_bytes` is at most so much.

    Includes the default. Saved values are kept or made again, whichever is predicted to be fastest
    among choices that do not depend on the budget, so that more bytes never give a slower plan. The
    times are those that ``tinygrad-edge bench MODEL --calibrate`` measured, or estimates. A choice
    is planned before it is taken. Lossless.

    Parameters
    ----------
    bytes : int or str
        ``"8MB"`` is 8e6, ``"8MiB"`` 8 * 2**20.

    Raises
    ------
    BudgetError
        Nothing fits; the message names the smallest budget that was found, a bound below which
        there is none, and what fills it.
    """

    phase: ClassVar[str] = "budget"

    bytes: int | str

    def __post_init__(self) -> None:
        if as_bytes(self.bytes) < 0:
            raise GraphError(f"a budget cannot be negative, got {self.bytes!r}")

    def apply(self, graph: Graph, machine: Machine) -> Graph:
        """Give the graph as fast as it fits."""
        plan_of = machine.plan_of
        limit = as_bytes(self.bytes)
        by_default = plan_of(made_again(graph))
        if by_default.peak_bytes <= limit:
            return graph
        bare = Graph(graph.outputs, graph.effects, graph.inputs).marked(remarks=graph.remarks)
        plan = plan_of(bare)
        fixed = plan.peak_bytes - plan.arena_bytes
        cost = cost_of(bare, machine.times())
        frontier = Frontier(plan, cost)
        lives = frontier.lifetimes
        default = lives.predict(graph.again.intersection(lives.values) | lives.unsaved)
        fast = (c for c in frontier.choices(limit - fixed) if c.seconds >= default.seconds)
        too_large = [by_default]
        for choice in itertools.chain(fast, frontier.proposed[:_SMALLEST]):
            fitting = lives.marked(bare, choice)
            planned = plan_of(made_again(fitting))
            if planned.peak_bytes <= limit:
                bound = frontier.least_seconds(limit - fixed)
                larger = next(frontier.choices(1.05 * limit - fixed), choice)
                remark = self._certificate(frontier, default, choice, bound, larger)
                return fitting.marked(remarks=[remark])
            too_large.append(planned)
        raise BudgetError(self._refusal(too_large, fixed + frontier.least_bytes()))

    def _certificate(
        self, frontier: Frontier, default: Choice, chosen: Choice, bound: float, more: Choice
    ) -> str:
        """What is known about the choice: its time, a bound on any other's, the price of bytes."""

        def factor(extra: float) -> str:
            of_default = (frontier.step_seconds + extra) / (frontier.step_seconds + default.seconds)
            return f"{of_default:.3f}x"

        return (
            f"{self!r}: predicted time {factor(chosen.seconds)} of the default's, no choice of "
            f"values to make again is below {factor(bound)}; 5 % more bytes: "
            f"{factor(min(more.seconds, chosen.seconds))}"
        )

    def _refusal(self, plans: list[Plan], least: int) -> str:
        smallest = min(plans, key=lambda p: p.peak_bytes)
        entries = sorted(smallest.live(), key=lambda e: -e.nbytes)[:3]
        filled = ", ".join(f"{e.name} {megabytes(e.nbytes)}" for e in entries) or "none"
        return (
            f"{self!r}: the smallest budget found for this step is {smallest.peak_bytes} bytes "
            f"({megabytes(smallest.peak_bytes)}; below {megabytes(least)} there is none), of which "
            f"{megabytes(smallest.arena_bytes)} are computed values; the largest at the peak: "
            f"{filled}"
        )
