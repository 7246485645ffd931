"""Rules that several op families share for acting on one part of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..graph import Node
from ..op import RowRule, Rows

__all__ = ["Axes", "broadcasting", "cut", "first_axis", "regrouped", "untouched"]

#: The axis along which each input is cut, None where it is whole.
Axes = tuple[int | None, ...]


def cut(shape: Sequence[int], axis: int, parts: int) -> tuple[int, ...]:
    """The shape of one part."""
    return tuple(n // parts if i == axis else n for i, n in enumerate(shape))


def broadcasting(node: Node, axes: Axes, parts: int) -> Rows | None:
    """Elementwise ops: all inputs are cut along what broadcasts to one axis of the outputs."""
    shape = node.outputs[0].shape
    lead = [len(shape) - len(v.shape) for v in node.inputs]
    found = {a + more for a, more in zip(axes, lead, strict=True) if a is not None}
    if len(found) != 1:
        return None
    (axis,) = found
    own = [axis - more for more in lead]
    inputs = tuple(
        a if a >= 0 and v.shape[a] == shape[axis] else None
        for a, v in zip(own, node.inputs, strict=True)
    )
    return Rows(inputs, (axis,) * len(node.outputs))


def first_axis(inputs: Axes, *outputs: int | str, numbered: int | None = None) -> RowRule:
    """The rule of an op whose batch is always axis 0 of the same inputs."""

    def rule(node: Node, axes: Axes, parts: int) -> Rows | None:
        if any(a is not None and a != b for a, b in zip(axes, inputs, strict=True)):
            return None
        resized = outputs[0] == 0 and "shape" in node.attrs
        attrs = {"shape": cut(node.attrs["shape"], 0, parts)} if resized else {}
        return Rows(inputs, outputs, attrs, numbered)

    return rule


def untouched(node: Node, axes: Axes, parts: int) -> Rows | None:
    """Ops along an axis (attribute `axis`, or the last) that is not the batch's."""
    (axis,) = axes
    along = node.attrs.get("axis", len(node.inputs[0].shape) - 1)
    if axis is None or axis == along:
        return None
    gone = len(node.outputs[0].shape) < len(node.inputs[0].shape) and along < axis
    return Rows(axes, (axis - gone,))


def regrouped(shape: Sequence[int], axis: int, to: Sequence[int], parts: int) -> int | None:
    """The axis of a reshaped array along which its parts are those along `axis` before."""
    before = math.prod(shape[:axis])
    found = [a for a, n in enumerate(to) if math.prod(to[:a]) == before and n % parts == 0]
    return found[-1] if found else None
