"""Which sparse layers dense kernels work for."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..graph import Graph, Node
from ..ops.sparse import PRODUCTS, is_expanded

__all__ = ["say_expanded"]


def say_expanded(graph: Graph) -> Graph:
    """Say which layers are made dense in workspace, and how dense they are as they lie."""
    layers: dict[str, list[Node]] = {}
    for node in _nodes(graph):
        if node.op in PRODUCTS:
            layers.setdefault(node.path, []).append(node)
    found = []
    for path, products in layers.items():
        expanded = [is_expanded(n) for n in products]
        if any(expanded):
            attrs = products[0].attrs
            density = attrs["nonzeros"] / math.prod(attrs["weight_shape"])
            which = "" if all(expanded) else ", gradient by weights"
            found.append(f"{path} ({density:.0%} non-zeros{which})")
    remark = f"dense in workspace, where that is faster: {', '.join(found)}"
    return graph.marked(remarks=[remark]) if found else graph


def _nodes(graph: Graph) -> Iterator[Node]:
    """All nodes, those of loops' bodies too."""
    for node in graph.nodes:
        yield node
        if node.body is not None:
            yield from _nodes(node.body)
