"""Two plans of one step beside each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import window
from .ledger import Saved, megabytes
from .program import Call

if TYPE_CHECKING:
    from .plan import Plan

__all__ = ["Difference"]

_NAMED = 12  # as many of the largest values of each plan are named


class Difference(NamedTuple):
    """What a plan has that another has not. Printed, it is a table; in a notebook, the window."""

    before: Plan
    after: Plan

    @property
    def peak_bytes(self) -> int:
        """Bytes that `after` takes more."""
        return self.after.peak_bytes - self.before.peak_bytes

    @property
    def flops(self) -> int:
        """Operations that `after` takes more."""
        return self.after.flops - self.before.flops

    def by_kind(self) -> dict[str, int]:
        """Bytes at the peak that `after` takes more, for each row of the ledger."""
        after = self.after.by_kind()
        return {kind: after[kind] - n for kind, n in self.before.by_kind().items()}

    def saved(self) -> tuple[list[Saved], list[Saved]]:
        """Saved values of `before` alone and of `after` alone, by name, shape and type."""
        return (
            _without(self.before.saved(), self.after.saved()),
            _without(self.after.saved(), self.before.saved()),
        )

    def aligned(self) -> list[tuple[int | None, int | None]]:
        """Calls of both in one order; those of one plan alone are beside None.

        Paired are the most that come in the same order and have part, module and kernel in common.
        """
        before, after = (list(map(_key, plan.calls)) for plan in (self.before, self.after))
        found: list[tuple[int | None, int | None]] = []
        i = j = 0
        for paired in [*_in_common(before, after), (len(before), len(after))]:
            found += [(k, None) for k in range(i, paired[0])]
            found += [(None, k) for k in range(j, paired[1])]
            found.append(paired)
            i, j = paired[0] + 1, paired[1] + 1
        return found[:-1]

    def save(self, path: str | PathLike[str]) -> None:
        """Write both plans as ``.html``, ``.svg``, ``.png`` or ``.json``, as ``plan.save``."""
        window.save(path, (self.before, self.after), self.aligned())

    def _repr_html_(self) -> str:
        return window.in_notebook((self.before, self.after), self.aligned())

    def __str__(self) -> str:
        before, after = self.before.by_kind(), self.after.by_kind()
        rows = [(kind, before[kind], after[kind]) for kind in before if before[kind] or after[kind]]
        rows.append(("peak", self.before.peak_bytes, self.after.peak_bytes))
        lines = [f"{'':<10} {'before':>14} {'after':>14} {'change':>14}"]
        lines += [f"{kind:<10} {a:>14,} {b:>14,} {b - a:>+14,}" for kind, a, b in rows]
        calls = len(self.before.calls), len(self.after.calls)
        lines.append(f"{'calls':<10} {calls[0]:>14,} {calls[1]:>14,} {calls[1] - calls[0]:>+14,}")
        flops = self.before.flops, self.after.flops
        lines.append(f"{'operations':<10} {flops[0]:>14,} {flops[1]:>14,} {self.flops:>+14,}")
        for title, found in zip(("before", "after"), self.saved(), strict=True):
            if found:
                lines += ["", f"saved {title} alone:", *_largest(found)]
        return "\n".join(lines)


def _key(call: Call) -> Hashable:
    return call.node.part, call.node.path, call.kernel.name if call.kernel else "loop"


def _in_common(before: Sequence[Hashable], after: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Places of a longest common subsequence (Wagner and Fischer 1974), row by row."""
    numbers: dict[Hashable, int] = {}
    across = np.array([numbers.setdefault(key, len(numbers)) for key in after])
    longest = np.zeros((len(before) + 1, len(after) + 1), np.int32)
    for i, key in enumerate(before):
        longer = longest[i, :-1] + (across == numbers.get(key, -1))
        longest[i + 1, 1:] = np.maximum.accumulate(np.maximum(longest[i, 1:], longer))
    found = []
    i, j = len(before), len(after)
    while i and j:
        if longest[i, j] == longest[i - 1, j]:
            i -= 1
        elif longest[i, j] == longest[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            found.append((i, j))
    return found[::-1]


def _identity(value: Saved) -> Hashable:
    return value.name, value.shape, value.dtype


def _without(values: Sequence[Saved], others: Sequence[Saved]) -> list[Saved]:
    left = Counter(map(_identity, others))
    found = []
    for value in values:
        if left[_identity(value)]:
            left[_identity(value)] -= 1
        else:
            found.append(value)
    return found


def _largest(values: Sequence[Saved]) -> list[str]:
    ordered = sorted(values, key=lambda v: -v.nbytes)
    lines = [
        f"  {v.name:<44} {v.dtype}{list(v.shape)}  {megabytes(v.nbytes)}" for v in ordered[:_NAMED]
    ]
    rest = ordered[_NAMED:]
    if rest:
        lines.append(f"  and {len(rest)} more, {megabytes(sum(v.nbytes for v in rest))}")
    return lines
