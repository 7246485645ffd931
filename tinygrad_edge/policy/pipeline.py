"""The phases between a traced graph and a plan. A policy belongs to one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, ClassVar, NamedTuple

from ..autodiff import differentiate
from ..errors import BudgetError, GraphError, ShapeError
from ..graph import ASSIGN, GRADIENT, Cell, Graph, Node, Value, marked, verify
from ..plan import Plan, make_plan
from .again import carried_out, encoded
from .candidates import find_candidates
from .cost import total_seconds
from .expanded import say_expanded
from .fuse import fuse_chains, fuse_patterns
from .rounding import ANY_CELL, drawing

Rewrite = Callable[[Graph], Graph]

__all__ = ["PHASES", "Machine", "Policy", "checking", "lower_composites", "rewrite"]

#: In order. A user's order of policies matters only within a phase.
PHASES = (
    "structure",
    "autodiff",
    "microbatch",
    "lower",
    "crossing",
    "backward",
    "schedule",
    "budget",
)


class Machine(NamedTuple):
    """What a policy may ask about where the step will run.

    ``plan_of`` plans a graph as it will be run; ``times`` gives the seconds of kernel calls that
    were measured, by their signature; ``rounding`` is the generator of stochastic rounding;
    ``retries`` says that a step may be run again when a value did not fit its format, so that no
    part of it may have changed anything by then.
    """

    plan_of: Callable[[Graph], Plan]
    times: Callable[[], Mapping[str, float]]
    rounding: Cell = ANY_CELL
    retries: bool = False


#: Kernels want no workspaces, and nothing was measured.
ANY_MACHINE = Machine(make_plan, dict)


@dataclass(frozen=True)
class Policy:
    """A rewrite of the graph: a frozen value, whose repr is its label in tables and benchmarks.

    A subclass says its phase and rewrites the graph in ``__call__``.
    """

    phase: ClassVar[str]

    def __call__(self, graph: Graph) -> Graph:
        """Give the rewritten graph."""
        raise GraphError(f"{type(self).__name__} does not say how it rewrites a graph")

    def prepare(self) -> None:
        """Change models before a step is recorded; most policies have nothing to change."""

    def parts(self) -> tuple[Policy, ...]:
        """The rewrites that it consists of, if they belong to several phases."""
        return (self,)

    def companies(self, graph: Graph) -> Sequence[tuple[Policy, ...]]:
        """Policies that may go with it, for a traced graph; the fastest of the steps is taken."""
        return ((),)

    def apply(self, graph: Graph, machine: Machine) -> Graph:
        """Give the graph rewritten for a machine; for most policies, all are alike."""
        return self(graph)


def lower_composites(graph: Graph) -> Graph:
    """Replace each op that has no kernel of its own by its decomposition, until none is left."""

    def visit(node: Node, inputs: tuple[Value, ...]) -> Iterable[Value] | None:
        if node.op.kernel is not None or node.op.decompose is None:
            return None
        with marked(part=node.part, scope=node.scope, source=node.source, constant=node.constant):
            return node.op.decompose(*inputs, **node.attrs)

    return graph.rewrite(visit)


def checking(graph: Graph) -> set[Node]:
    """The nodes that may fail the step, also for what they make being stored in fewer bits."""
    refusing = {v.node for v, form in graph.stored.items() if form.may_refuse}
    return refusing.union(
        n for n in graph.nodes if n.op.may_refuse or (n.body is not None and checking(n.body))
    )


def checks_first(graph: Graph) -> Graph:
    """Check each value as soon as it is made, and assign nothing before the last check.

    A step that fails must not have changed anything; tracing puts running statistics in the
    forward part.
    """
    order = _checks_early(graph.nodes)
    checks = checking(graph)
    last = max((i for i, n in enumerate(order) if n in checks), default=-1)
    late: set[Node] = set()
    for node in order:
        if node.op is ASSIGN or any(v.node in late for v in node.inputs):
            late.add(node)
    if late.isdisjoint(checks):
        before, after = order[: last + 1], order[last + 1 :]
        order = [n for n in before if n not in late] + [n for n in before if n in late] + after
    return graph if order == list(graph.nodes) else graph.reordered(order)


def _checks_early(nodes: Sequence[Node]) -> list[Node]:
    """The nodes with each mere check right behind what it checks."""
    checks: dict[Node, list[Node]] = {}
    for node in nodes:
        if node.op.effect and not node.outputs and node.inputs:
            latest = max((v.node for v in node.inputs), key=lambda n: n.number)
            checks.setdefault(latest, []).append(node)
    hoisted = {n for group in checks.values() for n in group}
    order = []
    for node in nodes:
        if node not in hoisted:
            order += [node, *checks.get(node, ())]
    return order


#: What each phase does before the user's policies.
_BUILT_IN: dict[str, tuple[Any, ...]] = {
    "autodiff": (differentiate, find_candidates),
    "lower": (lower_composites, fuse_patterns, fuse_chains, say_expanded),
    "schedule": (checks_first,),
}


def rewrite(graph: Graph, policies: Sequence[Policy], machine: Machine = ANY_MACHINE) -> Graph:
    """Take a traced graph through all phases, verified after each rewrite.

    Where a policy allows several others to go with it, the fastest result is taken.

    Parameters
    ----------
    graph : Graph
    policies : sequence of Policy
    machine : Machine

    Raises
    ------
    GraphError
        A rewrite broke a rule of graphs; the message names it.
    BudgetError
        There is no result; the message is that of the nearest one.
    """
    offered = [p.companies(graph) for p in policies]
    companies = [sum(each, ()) for each in product(*offered)]
    if len(companies) == 1:
        return _through_phases(graph, (*policies, *companies[0]), machine)
    alone = [p for p, each in zip(policies, offered, strict=True) if len(each) == 1]
    #: No step can be faster than the one in the same company without the policies that choose it.
    least = []
    for i, company in enumerate(companies):
        try:
            unbound = _through_phases(graph, (*alone, *company), machine)
        except (GraphError, ShapeError):  # the company does not suit this step
            if not company:
                raise
            continue
        least.append((total_seconds(unbound, machine.times()), i))
    best: tuple[float, Graph] | None = None
    refused: list[BudgetError] = []
    for bound, i in sorted(least):
        if best is not None and best[0] <= bound:
            break
        try:
            found = _through_phases(graph, (*policies, *companies[i]), machine)
        except BudgetError as error:
            refused.append(error)
            continue
        taken = total_seconds(found, machine.times())
        if best is None or taken < best[0]:
            chosen = (
                [f"chosen besides: {', '.join(map(repr, companies[i]))}"] if companies[i] else ()
            )
            best = taken, found.marked(remarks=chosen)
            best[1].company = companies[i]
    if best is None:
        raise min(refused, key=lambda error: error.smallest)
    return best[1]


def _through_phases(graph: Graph, policies: Sequence[Policy], machine: Machine) -> Graph:
    rewrites = [part for policy in policies for part in policy.parts()]
    for phase in PHASES:
        if phase == "budget":  # all formats are marked, and what is marked may be planned from here
            graph = drawing(graph, machine.rounding)
            if graph.core().stored:  # what is stored is there from now on, and may be made again
                graph = _in_core(partial(encoded, rounding=machine.rounding))(graph)
            graph = verify(graph)
        steps = [(rule.__name__, _everywhere(rule)) for rule in _BUILT_IN.get(phase, ())]
        for policy in (p for p in rewrites if p.phase == phase):
            apply = partial(policy.apply, machine=machine)
            steps.append((repr(policy), _in_core(apply) if phase in _OF_THE_CORE else apply))
        for label, step in steps:
            try:
                with marked(policy=label):
                    graph = verify(step(graph))
            except GraphError as error:
                raise GraphError(f"{label} ({phase} phase): {error}") from error
    assert not any(n.op is GRADIENT for n in graph.nodes)
    found = verify(carried_out(graph, machine.rounding))
    found.decided = graph
    return found


#: Phases whose policies see the body of the loop over micro-batches, where there is one.
_OF_THE_CORE = ("crossing", "schedule")


def _in_core(step: Rewrite) -> Rewrite:
    return lambda graph: graph.with_core(step(graph.core()))


def _everywhere(step: Rewrite) -> Rewrite:
    """A rewrite of a graph and of its loops' bodies."""

    def rewritten(graph: Graph) -> Graph:
        def visit(node: Node, inputs: tuple[Value, ...]) -> Iterable[Value] | None:
            if node.body is None:
                return None
            return node.again(inputs, body=rewritten(node.body)).outputs

        loops = any(n.body is not None for n in graph.nodes)
        return step(graph.rewrite(visit) if loops else graph)

    return rewritten
