"""Which values a policy means: by op and by the module that made them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase
from typing import Any

from ..graph import Graph, Node, Value, user_line
from ..ops.chain import CHAIN
from ..ops.norm import BATCH_NORM_APPLY_ADD

__all__ = ["SMALL", "crossing", "is_small", "matching", "names", "nothing_matched"]

#: A result so much smaller than what it is made from (statistics, say) is kept: it costs nothing.
SMALL = 1 / 64
#: What was said where, so that a line whose step has several plans is told once.
_told: dict[Any, Any] = {}


def names(node: Node) -> set[str]:
    """What a user may call a node: its op, and the ops that were fused into it."""
    found = {node.op.name}
    if node.op is CHAIN:
        found.update(step.op for step in node.attrs["steps"])
    if node.op is BATCH_NORM_APPLY_ADD:
        found.update(("batch_norm_apply", "add"))
    if node.attrs.get("activation"):
        found.add(node.attrs["activation"])
    return found


def matching(ops: Collection[str] | None, where: str | None) -> Callable[[Node], bool]:
    """A test of nodes by op names and by a pattern of module paths; None matches all."""

    def matches(node: Node) -> bool:
        return (ops is None or not names(node).isdisjoint(ops)) and (
            where is None or fnmatchcase(node.path, where)
        )

    return matches


def crossing(graph: Graph) -> Iterable[Value]:
    """The saved values that were computed: no arguments of the step, no constants."""
    return (v for v in graph.saved() if v.node.inputs)


def is_small(value: Value) -> bool:
    """Whether a value is hardly worth the trouble."""
    node = value.node
    # Of a pool of sparse weights, a layer reads its own part.
    read = min(max((v.nbytes for v in node.inputs), default=0), node.op.bytes(node))
    return value.size == 1 or value.nbytes < SMALL * read


def nothing_matched(policy: object, what: str) -> None:
    """Say that a policy changed nothing, at the user's line that had the step planned."""
    message = f"{policy!r} matches no {what} of this step"
    file, line = user_line()
    warnings.warn_explicit(message, UserWarning, file, line, registry=_told)
