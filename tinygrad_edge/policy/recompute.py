"""Recomputation: a saved value is made again in the backward part instead of being kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from ..errors import GraphError
from ..graph import ASSIGN, Graph
from .cost import seconds
from .pipeline import Policy
from .select import crossing, matching, nothing_matched

__all__ = ["Recompute"]


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
            if node.part == "forward" and node.inputs and node.op is not ASSIGN and meant(node)
            for v in node.outputs
            if limit is None or seconds(node) <= limit * v.nbytes
        }
        if again.isdisjoint(crossing(graph)):
            nothing_matched(self, "saved value")
            return graph
        return graph.marked(again)
