"""Checkpoints within segments within segments: the dynamic program over what to keep.

Made for chains by Griewank and Walther (2000), for unequal ones by Beaumont et al. (2021, rotor).
Here the places of a chain are the nodes of the forward part, in order: to keep a place is to keep
what leads on from there. On a chain, no persistent choice is better; elsewhere the answer is a good
one to start from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..graph import Node, Value
from .course import Marks
from .lifetimes import Lifetimes

__all__ = ["Recursion"]

#: Places, and amounts of memory, that are told apart.
_PLACES, _SLOTS, _CELLS = 128, 256, 2**14


class _Level(NamedTuple):
    """A place that is made again when it is first needed, and what is kept meanwhile."""

    place: int
    since: int  # the place from which it is made
    stack: frozenset[Value]


class Recursion:
    """The best persistent choice for every amount of memory.

    Place 0 is before the first node. ``cost[i, j]``, for each amount of memory beyond what is kept
    at place i and before: the time for all that the backward part does between its first need of
    place j and its last need of place i + 1. It is the least, over the next place k to be kept, of:
    from i on to k; what lies above k, with k kept; what lies between i and k. ``fresh[i, j]`` is
    the same where place i has been there before that need of place j, and not only since.

    Parameters
    ----------
    lifetimes : Lifetimes
    form : str, optional
        The format in which all that can be is kept. What that costs in time is left out.
    """

    def __init__(self, lifetimes: Lifetimes, form: str = "") -> None:
        self.lifetimes, self.form = lifetimes, form
        self._leading: dict[int, frozenset[Value]] = {}
        self._number_places()
        self._measure()
        self._solve()

    # ---- the chain ----

    def _number_places(self) -> None:
        """Every node that makes something again is a place; where there are many, a run of them."""
        nodes: list[Node] = list(self.lifetimes.made_by)
        whole = sum(v.nbytes for v in self.lifetimes.values)
        self.place: dict[Value, int] = {}
        count = run = 0
        for node in nodes:
            own = self.lifetimes.made_by[node]
            run += sum(v.nbytes for v in own)
            if count == 0 or len(nodes) <= _PLACES or run > whole / _PLACES:
                count, run = count + 1, 0
            self.place.update(dict.fromkeys(own, count))
        self.count = count
        self.at_place: list[list[Value]] = [[] for _ in range(count + 1)]
        for value, p in self.place.items():
            self.at_place[p].append(value)

    def _measure(self) -> None:
        """Bytes and times between places."""
        lives, count = self.lifetimes, self.count
        wanted = [(t, v, until) for t, read in lives.wanted.items() for v, until in read]
        first = [math.inf] * (count + 1)
        for t, value, _ in wanted:
            first[self.place[value]] = min(t, first[self.place[value]])
        last_of = {v: max(u for _, w, u in wanted if w is v) for v in lives.last_backward}
        leads_to = self.leads_to = dict(self.place)
        for value in lives.values:
            for read in lives.reads[value]:
                leads_to[read] = max(leads_to[read], self.place[value])
        #: When each place is wanted first; infinite where it never is.
        self.first = first

        # In use[p, moment]: bytes of place p, in the forward part, or from its first reader in the
        # backward part to its last one.
        in_use = np.zeros((count + 2, len(lives.live)), np.int64)
        self.kept = np.zeros((count + 1, count + 1), np.int64)
        working = np.zeros((count + 1, count + 1), np.int64)
        fixed = lives.live.copy()
        seconds = np.zeros(count + 1)
        for value in lives.values:
            p, n, end = self.place[value], value.nbytes, leads_to[value]
            crossing = lives.crossings.get(value, {}).get(self.form)
            kept = crossing.nbytes if crossing else n
            made = lives.time[value.node]
            forward = lives.last_forward.get(value, made)
            fixed[2 * made + 1 : 2 * max(forward, lives.last_backward.get(value, 0)) + 2] -= n
            in_use[p, 2 * made + 1 : 2 * forward + 2] += n
            if value in last_of:
                in_use[p, 2 * int(first[p]) + 1 : 2 * last_of[value] + 2] += n
            self.kept[p, p:end] += kept
            if end == p:
                self.kept[p, p] += kept
            overwritten = end > p and _overwritten(value, end, self.place, lives)
            working[p, p : end + (not overwritten)] += n
        for own in lives.made_by.values():
            seconds[self.place[own[0]]] += lives.seconds[own[0]]

        # Of places after i alone: row i sums over all later rows.
        beyond = np.cumsum(in_use[::-1], axis=0)[::-1][1:] + fixed
        self.kept = _after(self.kept)
        beside = np.zeros(count + 1, np.int64)
        for value, workspace in lives.workspace.items():
            beside[self.place[value]] = max(workspace, beside[self.place[value]])
        self.working = np.maximum.accumulate(np.triu(_after(working) + beside, 1), axis=1)
        total = np.cumsum(seconds)
        self.seconds = total[None, :] - total[:, None]
        self._backward_bytes(beyond)
        self._forward_bytes(beyond)

    def _backward_bytes(self, beyond: np.ndarray) -> None:
        """For each level, what its moments and its making again need."""
        lives, count = self.lifetimes, self.count
        levels = np.zeros(beyond.shape[1], int)
        for t, read in lives.wanted.items():
            levels[2 * t : 2 * t + 2] = max(self.place[v] for v, _ in read)
        levels = np.maximum.accumulate(levels[::-1])[::-1]
        self.start = 2 * min(lives.wanted, default=len(lives.live) // 2)
        self.waiting_bytes = np.zeros((count + 1, count + 1), np.int64)  # until it is needed
        self.needed_bytes = np.zeros((count + 1, count + 1), np.int64)  # from then on
        self.making_bytes = np.zeros(count + 1, np.int64)
        for j in range(1, count + 1):
            at = np.flatnonzero(levels[self.start :] == j) + self.start
            if self.first[j] == math.inf:
                continue
            need = 2 * int(self.first[j])
            self.waiting_bytes[:, j] = beyond[:, at[at < need]].max(axis=1, initial=0)
            self.needed_bytes[:, j] = beyond[:, at[at >= need]].max(axis=1, initial=0)
            self.making_bytes[j] = beyond[j, need]
        self.level_bytes = np.maximum(self.waiting_bytes, self.needed_bytes)

    def _forward_bytes(self, beyond: np.ndarray) -> None:
        """What the forward part needs from place i to place k, and to the end."""
        lives, count = self.lifetimes, self.count
        ends = [0] * (count + 1)
        for own in lives.made_by.values():
            ends[self.place[own[0]]] = 2 * lives.time[own[0].node] + 2
        bounds = [*ends, self.start]
        between = np.zeros((count + 1, count + 1), np.int64)
        for k in range(count + 1):
            if bounds[k + 1] > bounds[k]:
                between[:, k] = beyond[:, bounds[k] : bounds[k + 1]].max(axis=1)
        #: [i, k]: from place i on until place k is made; the last column is to the end.
        self.forward_bytes = np.maximum.accumulate(np.triu(between), axis=1)

    # ---- the program ----

    def _solve(self) -> None:
        count, slots = self.count, min(_SLOTS, _CELLS // (self.count + 1))
        top = int(self.lifetimes.live.max(initial=1))
        unit = int(np.gcd.reduce(self.kept[np.triu_indices(count + 1, 1)], initial=0))
        self.slot = top / slots
        if 0 < unit <= top <= slots * unit:  # what is kept then is a whole number of slots
            self.slot = unit / (slots * unit // top)
            slots = math.ceil(top / self.slot)
        self.slots = slots

        def in_slots(nbytes: np.ndarray) -> np.ndarray:
            return np.rint(nbytes / self.slot).astype(np.int64)

        self.kept_slots, self.level_slots = in_slots(self.kept), in_slots(self.level_bytes)
        self.waiting_slots, self.needed_slots = map(
            in_slots, (self.waiting_bytes, self.needed_bytes)
        )
        self.forward_slots = in_slots(self.forward_bytes)
        amounts = np.arange(slots + 2)  # the first stands for less than nothing
        shape = (count + 1, count + 1, slots + 2)
        cost = np.full(shape, np.inf, np.float32)
        cost[np.arange(count + 1), np.arange(count + 1), 1:] = 0.0
        fresh = cost.copy()
        flat = cost.reshape(-1)
        unread = np.array(self.first) == np.inf
        seconds = self.seconds.astype(np.float32)
        for d in range(1, count + 1):
            i = np.arange(count + 1 - d)
            j = i + d
            best = np.full((len(i), slots + 2), np.inf, np.float32)
            making = in_slots(
                self.working[i[:, None], i[:, None] + np.arange(1, d + 1)]
                + self.making_bytes[j][:, None]
            )
            for e in range(1, d + 1):
                k = i + e
                rest = np.maximum(amounts - self.kept_slots[i, k][:, None], 0)
                rest += ((k * (count + 1) + j) * (slots + 2))[:, None]
                term = flat.take(rest)
                term += fresh[i, k - 1]
                term += seconds[i, k][:, None]
                level = self.needed_slots[i, k] if e == d else self.level_slots[i, k]
                least = np.maximum(level, making[:, e - 1])
                term[amounts <= least[:, None]] = np.inf
                np.minimum(best, term, out=best)
            best[unread[j]] = cost[i, j - 1][unread[j]]
            cost[i, j] = best
            best[amounts <= self.waiting_slots[i, j][:, None]] = np.inf
            best[unread[j]] = fresh[i, j - 1][unread[j]]
            fresh[i, j] = best
        self.in_slots, self.cost, self.fresh = in_slots, cost, fresh
        # Of the first forward pass: what is kept costs no time.
        kept = np.full((count + 1, slots + 2), np.inf, np.float32)
        self.next_kept = np.zeros(kept.shape, np.int64)  # after each place; 0 where nothing is
        for last in range(count, -1, -1):
            kept[last] = fresh[last, count]
            kept[last, amounts <= self.forward_slots[last, count]] = np.inf
            for to in range(last + 1, count + 1):
                rest = np.maximum(amounts - self.kept_slots[last, to], 0)
                term = kept[to][rest] + fresh[last, to - 1]
                least = max(self.level_slots[last, to], self.forward_slots[last, to - 1])
                term[amounts <= least] = np.inf
                better = term < kept[last]
                kept[last, better] = term[better]
                self.next_kept[last, better] = to
        self.first_cost = kept[0]

    # ---- answers ----

    def choices(self) -> Iterator[Marks]:
        """Marks for each amount of memory that is worth something, the most memory first."""
        costs = self.first_cost
        for amount in range(self.slots + 1, 0, -1):
            if costs[amount] < np.inf and costs[amount] < costs[amount - 1]:
                yield self._marks(amount)

    def _marks(self, amount: int) -> Marks:
        again = set(self.lifetimes.values)
        anew: set[tuple[int, Value]] = set()
        levels: list[_Level] = []
        self._first_pass(0, amount, frozenset(), again, levels)
        there = set(again)
        for level, since, stack in levels:
            at = int(self.first[level])
            gone = {v for v in there - stack if not self._in_use(v, at)}
            anew.update((at, v) for v in gone)
            there -= gone
            there.update(v for p in range(since + 1, level + 1) for v in self.at_place[p])
        stored = {
            (v, self.form)
            for v, forms in self.lifetimes.crossings.items()
            if self.form in forms and v not in again
        }
        return Marks(frozenset(again), frozenset(anew), frozenset(stored))

    def _first_pass(
        self,
        i: int,
        amount: int,
        stack: frozenset[Value],
        again: set[Value],
        levels: list[_Level],
    ) -> None:
        """Note the levels that are made again, in order, and what is kept meanwhile."""
        kept = int(self.next_kept[i, amount])
        if not kept:
            self._made_again(i, self.count, amount, stack, levels)
            return
        leading = self._leading_on(kept)
        again -= leading
        rest = amount - self.kept_slots[i, kept]
        self._first_pass(kept, rest, stack | leading, again, levels)
        self._made_again(i, kept - 1, amount, stack, levels)

    def _made_again(
        self,
        i: int,
        j: int,
        amount: int,
        stack: frozenset[Value],
        levels: list[_Level],
        begun: bool = False,
    ) -> None:
        while j > i and self.first[j] == math.inf:
            j -= 1
        if j <= i:
            return
        if not begun:
            levels.append(_Level(j, i, stack))
        k = np.arange(i + 1, j + 1)
        rests = np.maximum(amount - self.kept_slots[i, k], 0)
        found = self.seconds[i, k] + self.cost[k, j, rests] + self.fresh[i, k - 1, amount]
        making = self.in_slots(self.working[i, k] + self.making_bytes[j])
        level = np.append(self.level_slots[i, k[:-1]], self.needed_slots[i, j])
        found[amount <= np.maximum(level, making)] = np.inf
        kept = i + 1 + int(found.argmin())
        rest = amount - self.kept_slots[i, kept]
        self._made_again(kept, j, rest, stack | self._leading_on(kept), levels, True)
        self._made_again(i, kept - 1, amount, stack, levels)

    def _in_use(self, value: Value, at: int) -> bool:
        lives = self.lifetimes
        return self.first[self.place[value]] < at <= lives.last_backward.get(value, -1)

    def _leading_on(self, place: int) -> frozenset[Value]:
        """What is kept where a place is."""
        if place not in self._leading:
            self._leading[place] = frozenset(
                v for v, p in self.place.items() if p == place or p < place < self.leads_to[v]
            )
        return self._leading[place]


def _after(rows: np.ndarray) -> np.ndarray:
    """[i, k]: the sum of column k below row i."""
    sums = np.cumsum(rows[::-1], axis=0)[::-1]
    return np.vstack([sums[1:], np.zeros_like(sums[:1])])


def _overwritten(value: Value, reader: int, place: dict[Value, int], lives: Lifetimes) -> bool:
    """Whether the last place that a value leads to is made in its memory."""
    readers = [w for w in lives.values if place[w] == reader and value in lives.reads[w]]
    return len(readers) == 1 and value in lives.overwrites[readers[0]]
