"""Recomputation: a saved value is made again in the backward part instead of being kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import ClassVar

from ..errors import GraphError
from ..graph import Graph, Node, Value, base_of
from .cost import seconds
from .pipeline import Policy
from .select import crossing, matching, nothing_matched

__all__ = ["Recompute", "made_again"]


@dataclass(frozen=True)
class Recompute(Policy):
    """Make the matching saved values again in the backward part (Chen et al. 2016, section 4).

    Lossless: a copy runs the same kernels on the same operands, dropout draws the same mask. What
    a copy reads is kept, unless it matches as well.

    Parameters
    ----------
    ops : collection of str, optional
        Names of ops, also of those that were fused into others: ``("relu", "batch_norm_apply")``.
    where : str, optional
        Pattern of module paths, such as ``"block*"``.
    max_seconds_per_byte : float, optional
        Values whose making costs at most this much time for each byte of theirs.

    Raises
    ------
    GraphError
        No criterion is given. A value must meet all that are.
    """

    phase: ClassVar[str] = "crossing"

    ops: Collection[str] | None = None
    where: str | None = None
    max_seconds_per_byte: float | None = None

    def __post_init__(self) -> None:
        if self.ops is None and self.where is None and self.max_seconds_per_byte is None:
            raise GraphError(
                "Recompute needs ops=, where= or max_seconds_per_byte=; to make everything again "
                "between kept values, use Checkpoint"
            )
        if isinstance(self.ops, str):
            raise GraphError(f"Recompute: ops must be a collection of names: ({self.ops!r},)")

    def __call__(self, graph: Graph) -> Graph:
        """Give the graph with copies in place of the matching saved values."""
        meant = matching(self.ops, self.where)
        limit = self.max_seconds_per_byte
        again = {
            v
            for node in graph.nodes
            if node.part == "forward" and node.inputs and meant(node)
            for v in node.outputs
            if limit is None or seconds(node) <= limit * v.nbytes
        }
        if again.isdisjoint(crossing(graph)):
            nothing_matched(self, "saved value")
            return graph
        return made_again(graph, again)


def made_again(graph: Graph, again: Collection[Value]) -> Graph:
    """Let the backward part read copies of some values of the forward part.

    A copy is made once, right before its first reader, together with those of the values in
    `again` that it needs. Everything else that copies read crosses to the backward part.

    Parameters
    ----------
    graph : Graph
    again : collection of Value
        Made by nodes of the forward part. A view of one goes with it.
    """
    new: dict[Value, Value] = {}
    copies: dict[Value, Value] = {}

    def is_dropped(value: Value) -> bool:
        return base_of(value) in again

    def copy(wanted: Iterable[Value]) -> None:
        stack = [v for v in wanted if is_dropped(v) and v not in copies]
        missing: set[Node] = set()
        while stack:
            node = stack.pop().node
            if node not in missing:
                missing.add(node)
                stack += [v for v in node.inputs if is_dropped(v) and v not in copies]
        for node in sorted(missing, key=lambda n: n.number):
            made = node.again(tuple(copies.get(v, new[v]) for v in node.inputs))
            made.part = "backward"
            copies.update(
                (old, value)
                for old, value in zip(node.outputs, made.outputs, strict=True)
                if is_dropped(old)
            )

    effects = []
    kept = set(graph.effects)
    for node in graph.nodes:
        if node.part == "backward":
            copy(node.inputs)
            inputs = tuple(copies.get(v, new[v]) for v in node.inputs)
        else:
            inputs = tuple(new[v] for v in node.inputs)
        twin = node.again(inputs)
        new.update(zip(node.outputs, twin.outputs, strict=True))
        if node in kept:
            effects.append(twin)
    inputs_now = [new.get(v, v) for v in graph.inputs]
    return Graph([new[v] for v in graph.outputs], effects, inputs_now, graph.remarks)
