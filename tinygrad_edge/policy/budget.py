"""A byte budget: the fastest step that fits, or the smallest budget that would do."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar

from ..errors import BudgetError, GraphError
from ..graph import Graph
from ..plan import Plan
from ..plan.ledger import megabytes
from .again import carried_out
from .checkpoint import Checkpoint
from .clipping import find_clipping
from .cost import cost_of
from .course import Choice, Marks, predict
from .formats import FORMATS
from .frontier import Frontier
from .microbatch import Microbatch
from .offers import offered
from .pipeline import Machine, Policy
from .second_backward import SecondBackward

__all__ = ["ALLOWED", "Budget", "as_bytes"]

_MICROBATCH = ("microbatch", "microbatch_bn")
#: What a budget may be allowed.
ALLOWED = (*_MICROBATCH, *FORMATS)
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

    Includes the default, as one of the choices of what to keep, what to make again and, if a format
    is allowed, what to store in it, for each value. None of them depends on the budget, so that
    more bytes never give a slower plan; what is predicted to be the fastest of those that fit is
    taken: where there is room for all saved values, all are kept. The times are those that
    ``tinygrad-edge bench MODEL --calibrate`` measured, or estimates. A choice is planned before it
    is taken. Lossless, but for what is allowed.

    Parameters
    ----------
    bytes : int or str
        ``"8MB"`` is 8e6, ``"8MiB"`` 8 * 2**20.
    allow : collection of str
        What may be done besides, though it is not lossless; it is done where that is predicted to
        be faster. ``"microbatch"``: any number of equal parts of the batch, where no batch-norm
        trains; ``"microbatch_bn"``: likewise, and batch-norm takes its statistics from each part;
        the formats of `Store`, such as ``"float16"``, for those values where it helps.

    Raises
    ------
    BudgetError
        Nothing fits; the message names the smallest budget that was found, a bound below which
        there is none, and what fills it.
    """

    phase: ClassVar[str] = "budget"

    bytes: int | str
    allow: Collection[str] = ()

    def __post_init__(self) -> None:
        allowed = (self.allow,) if isinstance(self.allow, str) else tuple(self.allow)
        object.__setattr__(self, "allow", allowed)
        for name in allowed:
            if name not in ALLOWED:
                known = ", ".join(ALLOWED)
                raise GraphError(f"Budget: there is no {name!r} to allow; there are {known}")
        if as_bytes(self.bytes) < 0:
            raise GraphError(f"a budget cannot be negative, got {self.bytes!r}")

    def __repr__(self) -> str:
        allow = f", allow={self.allow!r}" if self.allow else ""
        return f"Budget(bytes={self.bytes!r}{allow})"

    def companies(self, graph: Graph) -> list[tuple[Policy, ...]]:
        """As many parts of the batch as are allowed; two backward parts, where gradients wait."""
        twice = SecondBackward(always=True)
        two = [(twice,), (twice, Checkpoint())] if find_clipping(graph) else []
        return [*self._parts(graph), *two]

    def _parts(self, graph: Graph) -> Iterator[tuple[Policy, ...]]:
        yield ()
        if not any(name in _MICROBATCH for name in self.allow):
            return
        if "microbatch_bn" not in self.allow and any(
            n.op.name == "batch_norm" for n in graph.nodes
        ):
            raise GraphError(
                "Budget: batch-norm trains in this step, and would take its statistics from each "
                "micro-batch; allow 'microbatch_bn' if it may"
            )
        batch = next((v.shape[0] for v in graph.inputs if v.shape), 0)
        yield from ((Microbatch(n),) for n in range(2, batch + 1) if batch % n == 0)

    def apply(self, graph: Graph, machine: Machine) -> Graph:
        """Give the graph as fast as it fits."""
        limit = as_bytes(self.bytes)
        names = [name for name in self.allow if name in FORMATS]
        core, formats = offered(graph.core(), names, machine.rounding)

        def plan_of(marked: Graph) -> Plan:
            return machine.plan_of(carried_out(graph.with_core(marked), machine.rounding))

        bare = Graph(core.outputs, core.effects, core.inputs).marked(remarks=core.remarks)
        plan = machine.plan_of(graph.with_core(bare))
        if plan.peak_bytes <= limit:
            return graph.with_core(bare)
        fixed = plan.peak_bytes - plan.arena_bytes
        cost = cost_of(plan.graph, machine.times())
        frontier = Frontier(plan, cost, formats)
        lives = frontier.lifetimes
        default = predict(lives, Marks(core.again.intersection(lives.values) | lives.unsaved))
        by_default = plan_of(core)
        too_large = [by_default]
        fast = frontier.choices(limit - fixed)
        small = frontier.smallest_choices(limit - fixed)[:_SMALLEST]
        for choice in itertools.chain(fast, small):
            if by_default.peak_bytes <= limit and default.seconds <= choice.seconds:
                return graph
            fitting = choice.marks.put_on(bare, lives)
            planned = plan_of(fitting)
            if planned.peak_bytes <= limit:
                bound = frontier.least_seconds(limit - fixed)
                larger = next(frontier.choices(1.05 * limit - fixed), choice)
                remark = self._certificate(frontier, default, choice, bound, larger)
                said = [remark, *_stored(choice.marks)]
                return graph.with_core(fitting).marked(remarks=said)
            too_large.append(planned)
        if by_default.peak_bytes <= limit:  # what was predicted to be faster has not fitted
            return graph
        smallest = min(too_large, key=lambda p: p.peak_bytes)
        message = self._refusal(smallest, fixed + frontier.least_bytes())
        raise BudgetError(message, smallest.peak_bytes)

    def _certificate(
        self, frontier: Frontier, default: Choice, chosen: Choice, bound: float, more: Choice
    ) -> str:
        """What is known about the choice: its time, a bound on any other's, the price of bytes."""

        def factor(extra: float) -> str:
            of_default = (frontier.step_seconds + extra) / (frontier.step_seconds + default.seconds)
            return f"{of_default:.3f}x"

        return (
            f"{self!r}: predicted time {factor(chosen.seconds)} of the default's, no choice is "
            f"below {factor(bound)}; 5 % more bytes: "
            f"{factor(min(more.seconds, chosen.seconds))}"
        )

    def _refusal(self, smallest: Plan, least: int) -> str:
        entries = sorted(smallest.live(), key=lambda e: -e.nbytes)[:3]
        filled = ", ".join(f"{e.name} {megabytes(e.nbytes)}" for e in entries) or "none"
        return (
            f"{self!r}: the smallest budget found for this step is {smallest.peak_bytes} bytes "
            f"({megabytes(smallest.peak_bytes)}; below {megabytes(least)} there is none), of which "
            f"{megabytes(smallest.arena_bytes)} are computed values; the largest at the peak: "
            f"{filled}"
        )


def _stored(marks: Marks) -> Iterator[str]:
    """What is said of formats that were chosen."""
    count = Counter(name for _, name in marks.stored)
    if count:
        yield "stored besides: " + ", ".join(f"{n} as {name}" for name, n in sorted(count.items()))
