"""The project's own choice: lossless and nearly free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..graph import Graph, Node, Value, base_of
from ..ops.chain import CHAIN, is_step
from ..ops.conv import CONVOLUTIONS
from ..ops.norm import BATCH_NORM_APPLY, BATCH_NORM_APPLY_ADD
from ..ops.sparse import SPARSE_CONV2D
from .early_updates import EarlyUpdates
from .formats import Format, Mask, backward_readers, bitmask
from .pipeline import Policy
from .select import SMALL, crossing

__all__ = ["Default"]

#: A processor that is busy makes so many multiply-adds in the time that one float32 takes to be
#: read and written: 50 to 60 of them a nanosecond on a core, and 5 to 10 GB/s.
MULTIPLY_ADDS = 32
#: The dearest convolution that is made again, and all that leads to a value from what is kept.
DEAREST, MOST_PASSES = 2, 4
#: Fewer bytes stay in a core's nearest cache anyway, and a call costs more than they are worth.
WORTHWHILE = 2**15


@dataclass(frozen=True)
class Default(Policy):
    """Keep what is dear, make again what is nearly free, and let gradients die at once.

    What a few passes over memory make of kept values is made again where the backward part reads
    it: the normalised and rectified outputs of convolutions, most residual sums, and the
    outputs of convolutions that add up so few products (depthwise; 1x1 from up to 64 channels)
    that they take hardly longer than a pass.
    A rectifier's output of which only signs are read crosses as bits. Values below 32 KiB are kept.
    Each update comes as soon as its gradient is ready. It waits for the last check of the step and
    for the last reader of what it overwrites. The order of arithmetic within each value is
    unchanged, so results are equal to the bit.
    """

    phase: ClassVar[str] = "crossing"

    def __call__(self, graph: Graph) -> Graph:
        """Mark the values that are nearly free, and those that fewer bits stand for."""
        masks = _masks(graph)
        again = _nearly_free(graph) - masks.keys()
        read = {base_of(v) for value in again for v in value.node.inputs}
        return graph.marked(again, stored={v: f for v, f in masks.items() if v not in read})

    def parts(self) -> tuple[Policy, ...]:
        """The two rewrites."""
        return self, EarlyUpdates()


def _nearly_free(graph: Graph) -> set[Value]:
    """Saved values, and what leads to them, that few passes over memory make of what is kept."""
    saved = set(graph.saved())
    outputs = set(map(base_of, graph.outputs))  # there anyway
    passes: dict[Value, float] = {}  # from what is kept to the value
    for node in graph.nodes:
        own = _passes(node) if node.part == "forward" and node.inputs else None
        if own is None:
            continue
        value = node.outputs[0]
        sources = _sources(node)
        there = all(v in passes or v in saved or not v.node.inputs for v in sources)
        all_in_all = own + max((passes.get(v, 0) for v in sources), default=0)
        if there and all_in_all <= MOST_PASSES and value not in outputs:
            passes[value] = all_in_all
    found = {v for v in passes if v in saved and v.nbytes >= WORTHWHILE}
    stack = list(found)
    while stack:
        for value in map(base_of, stack.pop().node.inputs):
            if value in passes and value not in found:
                found.add(value)
                stack.append(value)
    return found


def _passes(node: Node) -> float | None:
    """How long a node takes, in passes over its output; None: it is dear."""
    if is_step(node) or node.op in (CHAIN, BATCH_NORM_APPLY, BATCH_NORM_APPLY_ADD):
        return 1
    if node.op is SPARSE_CONV2D:  # fewer products, but each takes longer: judged as if dense
        products = math.prod(node.attrs["weight_shape"][1:])
    elif node.op in CONVOLUTIONS:
        products = node.op.flops(node) // (2 * max(node.outputs[0].size, 1))
    else:
        return None
    passes = products / MULTIPLY_ADDS
    return max(1, passes) if passes <= DEAREST else None


def _masks(graph: Graph) -> dict[Value, Format]:
    """Outputs of rectifiers of which the backward part reads signs alone, where that matters."""
    outputs = set(map(base_of, graph.outputs))  # there anyway
    readers = backward_readers(graph)
    large = max(WORTHWHILE, SMALL * sum(v.nbytes for v in crossing(graph)))
    candidates = (v for v in crossing(graph) if v not in outputs and v.nbytes >= large)
    # Positions in a pool's windows, which could be bits too, are bytes: too few to matter.
    forms = ((v, bitmask(v, readers[v])) for v in candidates)
    return {v: form for v, form in forms if isinstance(form, Mask) and form.nbytes(v) < v.nbytes}


def _sources(node: Node) -> list[Value]:
    """What a node reads that is not small beside what it makes."""
    if node.op is SPARSE_CONV2D or node.op in CONVOLUTIONS:
        return [base_of(node.inputs[0])]
    return [v for v in map(base_of, node.inputs) if v.nbytes >= node.outputs[0].nbytes]
