"""Sharing a whole number out in whole parts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

__all__ = ["apportion"]


def apportion(
    total: int, weights: Mapping[str, float], limits: Mapping[str, int]
) -> dict[str, int]:
    """Share `total` out by weights, none beyond its limit: the method of largest remainders.

    What a share would have above its limit goes to the others, by their weights; where no weight
    is left, by what the limits leave. The parts sum up to the total exactly, whatever the weights:
    the arithmetic is that of fractions. Equal remainders are served in order.

    Parameters
    ----------
    total : int
        At most the sum of the limits.
    weights : mapping of str to float
        Finite and not negative.
    limits : mapping of str to int

    Returns
    -------
    dict of str to int

    Raises
    ------
    ValueError
        The limits do not allow the total.

    Examples
    --------
    >>> apportion(10, {"a": 2.0, "b": 1.0, "c": 1.0}, {"a": 3, "b": 9, "c": 9})
    {'a': 3, 'b': 4, 'c': 3}
    """
    if not 0 <= total <= sum(limits.values()):
        raise ValueError(f"cannot share {total} out within {dict(limits)}")
    parts = dict.fromkeys(limits, 0)
    free = {name: limit for name, limit in limits.items() if limit}
    while total:
        shares = _shares(total, weights, free)
        full = [name for name, share in shares.items() if share >= free[name]]
        for name in full:
            parts[name] = free.pop(name)
            total -= parts[name]
        if full:
            continue
        for name, share in shares.items():
            parts[name] = math.floor(share)
        left = total - sum(parts[name] for name in shares)
        for name in sorted(shares, key=lambda name: parts[name] - shares[name])[:left]:
            parts[name] += 1
        return parts
    return parts


def _shares(
    total: int, weights: Mapping[str, float], free: Mapping[str, int]
) -> dict[str, Fraction]:
    exact = {name: Fraction(weights[name]) for name in free}
    if not any(exact.values()):
        exact = {name: Fraction(limit) for name, limit in free.items()}
    whole = sum(exact.values())
    return {name: total * weight / whole for name, weight in exact.items()}
