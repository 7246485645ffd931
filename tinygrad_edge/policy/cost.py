"""How long a node takes: measured where `bench --calibrate` has been, estimated elsewhere."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping

from ..graph import Graph, Node
from ..timing import signature

__all__ = ["cost_of", "seconds", "total_seconds"]

#: What one core of a small board or an old laptop does, within a factor that a ratio of two
#: estimates does not see.
FLOPS_PER_SECOND = 2e10
BYTES_PER_SECOND = 5e9


def seconds(node: Node) -> float:
    """Estimate: a node's arithmetic or its memory traffic, whichever takes longer."""
    return max(node.op.flops(node) / FLOPS_PER_SECOND, node.op.bytes(node) / BYTES_PER_SECOND)


def cost_of(graph: Graph, times: Mapping[str, float]) -> Callable[[Node], float]:
    """Give the time of each node of a graph, of those in loops for all iterations together.

    A node that is not in the graph is taken to be one that would be where its values cross.

    Parameters
    ----------
    graph : Graph
    times : mapping
        Seconds of kernel calls by their signature. What is not there is estimated, on the scale of
        what is.
    """
    repeats = dict(_nodes(graph))
    in_core = max((repeats[n] for n in graph.core().nodes if n in repeats), default=1)
    measured: dict[Node, float | None] = {}

    def found(node: Node) -> float | None:
        if node not in measured:
            kernels = node.op.kernel(node) if node.op.kernel else []
            calls = [signature(k) for k in (kernels if isinstance(kernels, list) else [kernels])]
            known = bool(calls) and all(call in times for call in calls)
            measured[node] = sum(times[call] for call in calls) if known else None
        return measured[node]

    ratios = [
        taken / seconds(node)
        for node in (repeats if times else ())
        if (taken := found(node)) is not None and seconds(node)
    ]
    scale = statistics.median(ratios) if ratios else 1.0

    def cost(node: Node) -> float:
        taken = found(node) if times else None
        return repeats.get(node, in_core) * (scale * seconds(node) if taken is None else taken)

    return cost


def total_seconds(graph: Graph, times: Mapping[str, float]) -> float:
    """The time of a step."""
    cost = cost_of(graph, times)
    return sum(cost(node) for node, _ in _nodes(graph) if node.op.kernel is not None)


def _nodes(graph: Graph, repeat: int = 1) -> Iterator[tuple[Node, int]]:
    """The nodes of a graph and of its loops' bodies, and how often they run."""
    for node in graph.nodes:
        if node.body is None:
            yield node, repeat
        else:
            yield from _nodes(node.body, repeat * node.attrs["count"])
