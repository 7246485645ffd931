"""The gradients by the two factors of a product."""

from __future__ import annotations

from collections.abc import Callable

from ..graph import Value

__all__ = ["smaller_first"]


def smaller_first(
    a: Value, b: Value, by_a: Callable[[], Value], by_b: Callable[[], Value]
) -> tuple[Value, Value]:
    """The gradients by `a` and by `b`, of which that by the smaller is computed first.

    It reads the larger factor, which may so be gone before its own gradient is there.
    """
    if a.size < b.size:
        return by_a(), by_b()
    second = by_b()
    return by_a(), second
