"""What can be had for how much time: choices of values to make again, the fastest first.

No choice depends on a budget: each belongs to one of a series of limits of arena bytes. The dynamic
program over checkpoints proposes; then whatever fits below the limit is not made again after all.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from ..graph import Node, Value
from ..plan import Plan
from .lifetimes import Anew, Choice, Copy, Lifetimes
from .recursion import Recursion

__all__ = ["Frontier"]

#: How far one limit is from the next; and how much further a choice may be improved at most: so far
#: that it is no faster than what was proposed for so much more memory.
_STEP, _REACH = 1.01, 1.25
#: Values from which on limits are further apart, so that the search takes no longer.
_MANY = 64
#: How large a choice may be to be made to fit, in how many steps, and values that each step tries.
_FROM, _PATIENCE, _TRIALS = (1.04, 1.1), 24, 4
#: Moments that a bound looks at.
_MOMENTS = 64


class Frontier:
    """Choices for one graph.

    Parameters
    ----------
    plan : Plan
        Of the graph with nothing made again.
    seconds : callable
        The time that a node takes.
    """

    def __init__(self, plan: Plan, seconds: Callable[[Node], float]) -> None:
        self.lifetimes = Lifetimes(plan, seconds)
        self.step_seconds = self.lifetimes.step_seconds
        self.step = _STEP ** max(1.0, len(self.lifetimes.values) / _MANY)
        #: Proposals that no other beats in both bytes and time, the smallest first.
        self.proposed = self._proposed()
        self.smallest = self.proposed[0]
        while self.smallest.live_bytes:
            smaller = self._lowered(self.smallest, int(self.smallest.live_bytes / self.step**2))
            if smaller is None:
                break
            self.smallest = smaller
            self.proposed.insert(0, smaller)
        self._best: dict[float, Choice] = {}  # that was found for each limit

    def _proposed(self) -> list[Choice]:
        lives = self.lifetimes
        found = [lives.predict(lives.unsaved)]
        if len(lives.values) > len(lives.unsaved):
            for marks in Recursion(lives).choices():
                found.append(self._settled(*marks))
        return _undominated(found)

    def _settled(self, again: frozenset[Value], anew: Anew) -> Choice:
        """The choice, with only those marks that have an effect."""
        choice, _, copies = self.lifetimes.simulate(again, anew)
        once = set(again)
        needed = set()
        for copy in copies[len(self.lifetimes.values) :]:
            if copy.value not in once:
                needed.add((copy.since // 2, copy.value))
            once.discard(copy.value)
        return choice._replace(anew=frozenset(needed))

    def choices(self, live_bytes: float = np.inf) -> Iterator[Choice]:
        """The choices for limits up to so many arena bytes, the fastest first.

        They are improved when it is their turn. None can be faster than what is proposed for
        `_REACH` times its limit, which says when that is.
        """
        limits = [float(self.smallest.live_bytes)]
        while limits[-1] * self.step <= min(self.proposed[-1].live_bytes, live_bytes):
            limits.append(limits[-1] * self.step)
        turn = itertools.count()
        waiting: list[tuple[float, int, Choice | float]] = [
            (choice.seconds, next(turn), choice)
            for choice in self.proposed
            if choice.live_bytes <= live_bytes
        ]
        for limit in limits:
            waiting.append((self._proposal(_REACH * limit).seconds, next(turn), limit))
        heapq.heapify(waiting)
        while waiting:
            seconds, _, next_best = heapq.heappop(waiting)
            if isinstance(next_best, Choice):
                yield next_best
            else:
                if next_best not in self._best:
                    start = self._start(next_best)
                    self._best[next_best] = self._improved(start, next_best, seconds)
                choice = self._best[next_best]
                heapq.heappush(waiting, (choice.seconds, next(turn), choice))

    def _start(self, limit: float) -> Choice:
        """The fastest below a limit: what was proposed, or what was for more, made to fit."""
        best = self._proposal(limit)
        for more in _FROM:
            best = self._lowered(self._proposal(more * limit), limit, best.seconds) or best
        return best

    def _proposal(self, live_bytes: float) -> Choice:
        """The fastest that was proposed for so many bytes."""
        return [c for c in self.proposed if c.live_bytes <= live_bytes][-1]

    def _lowered(self, choice: Choice, limit: float, seconds: float = math.inf) -> Choice | None:
        """Free the worst moment, again and again, in the way that costs least for its bytes.

        None where that does not lead below a limit, and below so many seconds.
        """
        lives = self.lifetimes
        for _ in range(_PATIENCE):
            choice, live, copies = lives.simulate(choice.again, choice.anew)
            if choice.seconds >= seconds:
                return None
            if choice.live_bytes <= limit:
                return choice
            worst = int(live.argmax())
            best, price = None, math.inf
            for marks in self._freeing_moves(choice, worst, copies):
                candidate, then, _ = lives.simulate(*marks)
                freed = int(live[worst] - then[worst])
                if freed > 0 and candidate.live_bytes <= choice.live_bytes:
                    if (candidate.seconds - choice.seconds) / freed < price:
                        price = (candidate.seconds - choice.seconds) / freed
                        best = candidate
            if best is None:
                return None
            choice = best
        return None

    def _freeing_moves(
        self, choice: Choice, worst: int, copies: list[Copy]
    ) -> Iterator[tuple[frozenset[Value], Anew]]:
        """Marks that let go of what is idle at a moment, or that spare a copy that is made then."""
        lives = self.lifetimes
        idle = [c for c in copies if c.since < worst < c.until and worst not in c.reads]
        idle.sort(key=lambda c: lives.seconds[c.value] / lives.nbytes[c.value])
        for copy in idle[:_TRIALS]:
            then = min(t for t in copy.reads if t > worst)
            if copy.since % 2 and then == copy.reads[0]:
                yield choice.again | {copy.value}, choice.anew
            else:
                yield choice.again, choice.anew | {(then // 2, copy.value)}
        made = [c for c in copies if c.since == worst]
        made.sort(key=lambda c: -lives.nbytes[c.value])
        for copy in made[:_TRIALS]:
            yield _spared(choice, copy.value, copy.since)

    def _improved(self, choice: Choice, limit: float, least: float) -> Choice:
        """Let earlier copies, and originals, live on where there is room; the dearest first."""
        lives = self.lifetimes
        choice, live, copies = lives.simulate(choice.again, choice.anew)
        order = copies[len(lives.values) :]
        order.sort(key=lambda c: -lives.seconds[c.value] / lives.nbytes[c.value])
        instances = _by_value(copies)
        for value, since in [(c.value, c.since) for c in order]:
            own = instances[value]
            at = next((i for i, c in enumerate(own) if c.since == since), 0)
            if not at:
                continue  # it is not made again there any more
            between = live[own[at - 1].until + 1 : since]
            if between.max(initial=0) + lives.nbytes[value] > limit:
                continue
            candidate, then, made = lives.simulate(*_spared(choice, value, since))
            if candidate.live_bytes <= limit and least <= candidate.seconds < choice.seconds:
                choice, live, instances = candidate, then, _by_value(made)
        return choice

    def least_seconds(self, live_bytes: int) -> float:
        """A proven lower bound on the time that a limit of arena bytes costs.

        At each moment, the excess must be freed by values that cross it, and each of these is made
        again at least once, perhaps together with its node's other outputs: a fractional knapsack,
        of which the worst moment counts.
        """
        live = self.lifetimes.live
        over = np.flatnonzero(live > live_bytes)
        worst = over[np.argsort(-live[over], kind="stable")]
        few = worst[:: max(1, len(worst) // _MOMENTS)]
        return max((self._freeing(int(at), live[at] - live_bytes) for at in few), default=0.0)

    def least_bytes(self) -> int:
        """A proven lower bound on arena bytes: what is live when all that may be absent is."""
        lives = self.lifetimes
        change = np.zeros(len(lives.live) + 1, np.int64)
        for value in lives.last_backward:
            since, until = self._idle(value)
            change[since] -= lives.nbytes[value]
            change[until + 1] += lives.nbytes[value]
        needed = lives.live + np.cumsum(change[:-1])
        for t, read in lives.wanted.items():
            for value in {v for v, _ in read}:
                if 2 * t + 1 <= self._idle(value)[1]:
                    needed[2 * t + 1] += lives.nbytes[value]
        return int(needed.max(initial=0))

    def _idle(self, value: Value) -> tuple[int, int]:
        """The half moments between which a value may be absent, but for its readers' own."""
        lives = self.lifetimes
        made = 2 * lives.last_forward.get(value, lives.time[value.node]) + 1
        return made + (value not in lives.overwritable), 2 * lives.last_backward[value]

    def _freeing(self, at: int, excess: float) -> float:
        """The least time that frees so many bytes at a half moment."""
        lives = self.lifetimes
        read = {v for v, _ in lives.wanted.get(at // 2, ())} if at % 2 else set()
        prices = []
        for value in lives.last_backward:
            since, until = self._idle(value)
            if since <= at <= until and value not in read:
                price = lives.seconds[value] / len(value.node.outputs) / lives.nbytes[value]
                prices.append((price, lives.nbytes[value]))
        needed = 0.0
        for price, nbytes in sorted(prices):
            needed += price * min(nbytes, excess)
            excess -= min(nbytes, excess)
        return needed


def _spared(choice: Choice, value: Value, since: int) -> tuple[frozenset[Value], Anew]:
    """Marks under which what was there of a value is still there at a moment."""
    mark = (since // 2, value)
    if mark in choice.anew:
        return choice.again, choice.anew - {mark}
    return choice.again - {value}, choice.anew


def _by_value(copies: list[Copy]) -> dict[Value, list[Copy]]:
    found: dict[Value, list[Copy]] = {}
    for copy in copies:
        found.setdefault(copy.value, []).append(copy)
    return found


def _undominated(choices: list[Choice]) -> list[Choice]:
    best: list[Choice] = []
    for choice in sorted(choices, key=lambda c: (c.live_bytes, c.seconds)):
        if not best or choice.seconds < best[-1].seconds:
            best.append(choice)
    return best
