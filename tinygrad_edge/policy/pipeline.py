"""The phases between a traced graph and a plan. A policy belongs to one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..autodiff import differentiate
from ..errors import GraphError
from ..graph import ASSIGN, GRADIENT, Graph, Node, Value, verify

__all__ = ["PHASES", "Policy", "lower_composites", "rewrite"]

#: In order. A user's order of policies matters only within a phase.
PHASES = ("structure", "autodiff", "microbatch", "lower", "crossing", "schedule")


@dataclass(frozen=True)
class Policy:
    """A rewrite of the graph: a frozen value, whose repr is its label in tables and benchmarks.

    A subclass says its phase and rewrites the graph in ``__call__``.
    """

    phase: ClassVar[str]

    def __call__(self, graph: Graph) -> Graph:
        """Give the rewritten graph."""
        raise GraphError(f"{type(self).__name__} does not say how it rewrites a graph")


def lower_composites(graph: Graph) -> Graph:
    """Replace each op that has no kernel of its own by its decomposition, until none is left."""

    def visit(node: Node, inputs: tuple[Value, ...]) -> Iterable[Value] | None:
        if node.op.kernel is not None or node.op.decompose is None:
            return None
        return node.op.decompose(*inputs, **node.attrs)

    return graph.rewrite(visit)


def checks_first(graph: Graph) -> Graph:
    """Move every assignment, and what depends on one, behind the last check.

    A step that fails must not have changed anything; tracing puts running statistics in the forward part.
    """
    last = max((n.number for n in graph.nodes if n.op.may_refuse), default=-1)
    late: set[Node] = set()
    for node in graph.nodes:
        if node.op is ASSIGN or any(v.node in late for v in node.inputs):
            late.add(node)
    if not any(n.number < last for n in late) or any(n.op.may_refuse for n in late):
        return graph
    early = [n for n in graph.nodes if n.number <= last and n not in late]
    moved = [n for n in graph.nodes if n.number <= last and n in late]
    rest = [n for n in graph.nodes if n.number > last]
    return graph.reordered([*early, *moved, *rest])


_BUILT_IN: dict[str, Callable[[Graph], Graph]] = {
    "autodiff": differentiate,
    "lower": lower_composites,
    "schedule": checks_first,
}


def rewrite(graph: Graph, policies: Sequence[Policy]) -> Graph:
    """Take a traced graph through all phases, verified after each rewrite.

    Raises
    ------
    GraphError
        A rewrite broke a rule of graphs; the message names it.
    """
    for phase in PHASES:
        steps: list[Callable[[Graph], Graph]] = [p for p in policies if p.phase == phase]
        if phase in _BUILT_IN:
            steps.insert(0, _BUILT_IN[phase])
        for step in steps:
            try:
                graph = verify(step(graph))
            except GraphError as error:
                label = getattr(step, "__name__", repr(step))
                raise GraphError(f"{label} ({phase} phase): {error}") from error
    assert not any(n.op is GRADIENT for n in graph.nodes)
    return graph
