"""An estimate of the time that a node takes, where nobody has measured it."""

from __future__ import annotations

from ..graph import Node

__all__ = ["seconds"]

#: What one core of a small board or an old laptop does, within a factor that a ratio of two
#: estimates does not see.
FLOPS_PER_SECOND = 2e10
BYTES_PER_SECOND = 5e9


def seconds(node: Node) -> float:
    """Time of a node's arithmetic or of its memory traffic, whichever is longer."""
    return max(node.op.flops(node) / FLOPS_PER_SECOND, node.op.bytes(node) / BYTES_PER_SECOND)
