"""What can be had for how much time: choices of values to make again or store, the fastest first.

No choice depends on a budget: each belongs to one of a series of limits of arena bytes. The dynamic
program over checkpoints proposes; then whatever fits below the limit is kept as it is after all.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType

import numpy as np

from ..graph import Node, Value
from ..plan import Plan
from .course import Choice, Course, Marks, predict, simulate
from .formats import Format
from .lifetimes import Lifetimes
from .recursion import Recursion
from .squeeze import squeezed

__all__ = ["Frontier"]

#: How far one limit is from the next; and how much further a choice may be improved at most: so far
#: that it is no faster than what was proposed for so much more memory.
_STEP, _REACH = 1.01, 1.25
#: Values from which on limits are further apart, so that the search takes no longer.
_MANY = 64
#: How large a choice may be to be made to fit, in how many steps, and values that each step tries.
_FROM, _PATIENCE, _TRIALS = (1.04, 1.1), 24, 4
#: Proposals from which even smaller choices are searched.
_STARTS = 8
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
    formats : mapping of Value to dict of str to Format, optional
        In what a value may cross, by name.
    """

    def __init__(
        self,
        plan: Plan,
        seconds: Callable[[Node], float],
        formats: Mapping[Value, Mapping[str, Format]] = MappingProxyType({}),
    ) -> None:
        self.lifetimes = Lifetimes(plan, seconds, formats)
        self.step_seconds = self.lifetimes.step_seconds
        self.step = _STEP ** max(1.0, len(self.lifetimes.values) / _MANY)
        self._descents: dict[Marks, list[Choice | None]] = {}
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
        found = [predict(lives, Marks(lives.unsaved))]
        if len(lives.values) > len(lives.unsaved):
            names = {name: None for forms in lives.crossings.values() for name in forms}
            for form in ("", *names):
                for marks in Recursion(lives, form).choices():
                    found.append(self._settled(marks))
        return _undominated(found)

    def _settled(self, marks: Marks) -> Choice:
        """The choice, with only those marks that have an effect."""
        course = simulate(self.lifetimes, marks)
        unread = {v for v, copy in course.encoded.items() if not copy.reads}
        once = set(marks.again).union(course.encoded)
        needed = set()
        for copy in course.copies:
            if copy.value not in once:
                needed.add((copy.since // 2, copy.value))
            once.discard(copy.value)
        stored = frozenset((v, name) for v, name in marks.stored if v not in unread)
        settled = Marks(marks.again | unread, frozenset(needed), stored)
        return predict(self.lifetimes, settled) if unread else course.choice._replace(marks=settled)

    def choices(self, live_bytes: float = np.inf) -> Iterator[Choice]:
        """The choices for limits up to so many arena bytes, the fastest first.

        They are improved when it is their turn. None can be faster than what is proposed for
        `_REACH` times its limit, which says when that is.
        """
        if live_bytes < self.smallest.live_bytes:
            yield from (c for c in reversed(self.squeezed) if c.live_bytes <= live_bytes)
            return
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

    @cached_property
    def squeezed(self) -> list[Choice]:
        """Choices for less than the smallest limit, the smallest first.

        They are searched when they are first asked for, so none may be faster than what that limit
        has: for more bytes it would not be known.
        """
        limit, least = self.smallest.live_bytes, self.smallest.seconds
        starts = self.proposed[:_STARTS]
        found = squeezed(self.lifetimes, starts, self._freeing_moves, limit)
        smaller = _undominated([c for c in found if c.seconds >= least])
        return _undominated([self._improved(c, c.live_bytes, least) for c in smaller])

    def smallest_choices(self, live_bytes: float) -> list[Choice]:
        """All that can be told for a limit without improving it, the smallest first."""
        small = self.squeezed if live_bytes < self.smallest.live_bytes else []
        return [*small, *self.proposed]

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
        for lower in itertools.islice(self._descent(choice), _PATIENCE):
            if lower.seconds >= seconds:
                return None
            if lower.live_bytes <= limit:
                return lower
        return None

    def _descent(self, choice: Choice) -> Iterator[Choice]:
        """A choice, and what it becomes; many limits ask for the same."""
        path = self._descents.setdefault(choice.marks, [choice])
        for i in itertools.count():
            if i == len(path):
                path.append(self._freed(path[-1]))
            if (found := path[i]) is None:
                return
            yield found

    def _freed(self, choice: Choice | None) -> Choice | None:
        """The choice with its worst moment freed, if there is a way."""
        assert choice is not None
        course = simulate(self.lifetimes, choice.marks)
        worst = int(course.live.argmax())
        best, price = None, math.inf
        for marks in self._freeing_moves(course, worst):
            candidate, then = simulate(self.lifetimes, marks)[:2]
            freed = int(course.live[worst] - then[worst])
            if freed > 0 and candidate.live_bytes <= choice.live_bytes:
                if (candidate.seconds - choice.seconds) / freed < price:
                    price = (candidate.seconds - choice.seconds) / freed
                    best = candidate
        return best

    def _freeing_moves(self, course: Course, worst: int) -> Iterator[Marks]:
        """Marks that let go of what is idle at a moment, or that spare a copy that is made then."""
        lives, marks = self.lifetimes, course.choice.marks
        there = [*course.originals, *course.copies]
        idle = [c for c in there if c.since < worst < c.until and worst not in c.reads]
        idle.sort(key=lambda c: self._price(c.value))
        for copy in idle[:_TRIALS]:
            then = min(t for t in copy.reads if t > worst)
            if copy.since % 2 and then == copy.reads[0]:
                yield marks.forgetting(copy.value)
                for name in lives.crossings.get(copy.value, ()):
                    yield marks.storing(copy.value, name)
            else:
                yield marks._replace(anew=marks.anew | {(then // 2, copy.value)})
        crossing = [v for v, c in course.encoded.items() if c.since < worst < c.until]
        crossing.sort(key=self._price)
        for value in crossing[:_TRIALS]:
            yield marks.forgetting(value)
            for name in lives.crossings[value]:
                if (value, name) not in marks.stored:
                    yield marks.storing(value, name)
        again = [c for c in course.copies if c.since <= worst <= c.until]
        again.sort(key=lambda c: -lives.nbytes[c.value])
        for copy in again[:_TRIALS]:
            if copy.since == worst:
                yield marks.sparing(copy.value, copy.since)
            if copy.value not in course.encoded:
                for name in lives.crossings.get(copy.value, ()):
                    yield marks.storing(copy.value, name)

    def _price(self, value: Value) -> float:
        """Seconds for a byte that is not kept, in the cheapest way."""
        lives = self.lifetimes
        nbytes = lives.nbytes[value]
        return min(
            [
                lives.seconds[value] / nbytes,
                *(
                    (c.encoding + c.decoding) / (nbytes - c.nbytes)
                    for c in lives.crossings.get(value, {}).values()
                ),
            ]
        )

    def _improved(self, choice: Choice, limit: float, least: float) -> Choice:
        """Let earlier copies, and originals, live on where there is room; the dearest first."""
        lives = self.lifetimes
        course = simulate(lives, choice.marks)
        copies = sorted(course.copies, key=lambda c: -self._dearness(course, c.value))
        tries = [(c.value, c.since) for c in copies]
        decoded = {c.value for c in course.copies}
        tries += [(v, c.reads[0]) for v, c in course.encoded.items() if v not in decoded]
        for value, since in tries:
            for marks, room in self._ways_to_keep(course, value, since):
                if room > limit:
                    continue
                then = simulate(lives, marks)
                if (
                    then.choice.live_bytes <= limit
                    and least <= then.choice.seconds < course.choice.seconds
                ):
                    course = then
                    break
        return course.choice

    def _dearness(self, course: Course, value: Value) -> float:
        """Seconds that a copy costs, for each of its bytes."""
        lives = self.lifetimes
        if value in course.encoded:
            crossing = course.crossings[value]
            return (crossing.encoding + crossing.decoding) / lives.nbytes[value]
        return lives.seconds[value] / lives.nbytes[value]

    def _ways_to_keep(
        self, course: Course, value: Value, since: int
    ) -> Iterator[tuple[Marks, float]]:
        """Marks that spare a copy, the fastest first; and the bytes that are live till then."""
        lives, marks = self.lifetimes, course.choice.marks
        own = [c for c in course.copies if c.value is value]
        at = next((i for i, c in enumerate(own) if c.since == since), None)
        encoded = course.encoded.get(value)
        if at is None and (own or encoded is None):
            return  # it is not made again there any more
        [original] = (c for c in course.originals if c.value is value)
        before = own[at - 1] if at else original
        between = float(course.live[before.until + 1 : since].max(initial=0))
        now = course.crossings[value].nbytes if encoded and not at else 0
        yield marks.sparing(value, since), between + lives.nbytes[value] - now
        if encoded is None and not at:
            for name, way in lives.crossings.get(value, {}).items():
                if way.encoding + way.decoding < lives.seconds[value]:
                    yield marks.storing(value, name), between + way.nbytes

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
                nbytes = lives.nbytes[value]
                ways = [c.nbytes for c in lives.ways_to_read(t, value)]
                needed[2 * t + 1] += min([nbytes, *ways])
                if 2 * t + 1 > self._idle(value)[1]:  # the last to read it
                    needed[2 * t + 1] -= nbytes
        return int(needed.max(initial=0))

    def _idle(self, value: Value) -> tuple[int, int]:
        """The half moments between which a value may be absent, but for its readers' own."""
        lives = self.lifetimes
        end = lives.forward_end[value]
        return end + (value not in lives.overwritable), 2 * lives.last_backward[value]

    def _freeing(self, at: int, excess: float) -> float:
        """The least time that frees so many bytes at a half moment."""
        lives = self.lifetimes
        read = {v for v, _ in lives.wanted.get(at // 2, ())} if at % 2 else set()
        prices = []
        for value in lives.last_backward:
            since, until = self._idle(value)
            if since <= at <= until and value not in read:
                prices.append((self._least_price(value), lives.nbytes[value]))
            elif value in read:
                for way in lives.ways_to_read(at // 2, value):
                    freed = lives.nbytes[value] - way.nbytes
                    prices.append((way.encoding / freed, freed))
        needed = 0.0
        for price, nbytes in sorted(prices):
            needed += price * min(nbytes, excess)
            excess -= min(nbytes, excess)
        return needed

    def _least_price(self, value: Value) -> float:
        """A bound on the seconds for each byte that a value is absent or in fewer bits."""
        lives = self.lifetimes
        crossings = lives.crossings.get(value, {}).values()
        nbytes = lives.nbytes[value]
        prices = [lives.seconds[value] / len(value.node.outputs) / nbytes]
        return min(prices + [c.encoding / (nbytes - c.nbytes) for c in crossings])


def _undominated(choices: list[Choice]) -> list[Choice]:
    best: list[Choice] = []
    for choice in sorted(choices, key=lambda c: (c.live_bytes, c.seconds)):
        if not best or choice.seconds < best[-1].seconds:
            best.append(choice)
    return best
