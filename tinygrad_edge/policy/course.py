"""What a choice about values needs: its course through a step, its bytes, its time.

A choice says which values of the forward part are not kept for the backward part, which of those
that are kept cross in another format, and before which nodes of the backward part one is let go of
once more. All is predicted from the lifetimes in the step that keeps everything. That kernels read
fewer bytes where they take a value as it is stored is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..graph import Graph, Node, Value
from .lifetimes import Crossing, Lifetimes

__all__ = ["Choice", "Copy", "Course", "Marks", "predict", "simulate"]


class Marks(NamedTuple):
    """What is done with values.

    Parameters
    ----------
    again : frozenset of Value
        Not kept for the backward part.
    anew : frozenset of (int, Value)
        Let go of before the node of a moment in the backward part, be it kept or a copy.
    stored : frozenset of (Value, str)
        Kept in another format, by its name. None of them is in `again`.
    """

    again: frozenset[Value]
    anew: frozenset[tuple[int, Value]] = frozenset()
    stored: frozenset[tuple[Value, str]] = frozenset()

    def forgetting(self, value: Value) -> Marks:
        """Marks under which a value is not kept."""
        return self._replace(again=self.again | {value}, stored=self._stored_but(value))

    def storing(self, value: Value, name: str) -> Marks:
        """Marks under which a value is kept in a format."""
        stored = self._stored_but(value) | {(value, name)}
        return self._replace(again=self.again - {value}, stored=stored)

    def sparing(self, value: Value, since: int) -> Marks:
        """Marks under which what was there of a value is still there at a half moment."""
        mark = (since // 2, value)
        if mark in self.anew:
            return self._replace(anew=self.anew - {mark})
        return self._replace(again=self.again - {value}, stored=self._stored_but(value))

    def _stored_but(self, value: Value) -> frozenset[tuple[Value, str]]:
        return frozenset(s for s in self.stored if s[0] is not value)

    def put_on(self, graph: Graph, lives: Lifetimes) -> Graph:
        """The graph with these marks."""
        anew = [(lives.nodes[t].origin, v) for t, v in self.anew]
        stored = {v: lives.crossings[v][name].form for v, name in self.stored}
        return graph.marked(self.again, stored=stored, anew=anew)


class Choice(NamedTuple):
    """Marks, with what they are predicted to need.

    Parameters
    ----------
    seconds : float
        More than the step takes without them.
    live_bytes : int
        Arena bytes at the worst moment.
    marks : Marks
    """

    seconds: float
    live_bytes: int
    marks: Marks


class Copy:
    """A value from when it is made, or made again, to when it is last read.

    Moments have two halves here: moment 2 t is before node t, when values are made again for it,
    and 2 t + 1 is the node's own.
    """

    __slots__ = ("value", "since", "until", "reads")

    def __init__(self, value: Value, since: int) -> None:
        self.value, self.since, self.until = value, since, since
        self.reads: list[int] = []

    def read(self, at: int) -> None:
        """Be needed until a half moment."""
        self.until = max(self.until, at)
        self.reads.append(at)


class Course(NamedTuple):
    """What happens in a step under a choice.

    Parameters
    ----------
    choice : Choice
    live : array
        Bytes at each half moment.
    originals, copies : list of Copy
        Values as they are made first, and as they are made again or decoded.
    encoded : dict of Value to Copy
        What crosses in another format.
    crossings : dict of Value to Crossing
        How each of these does.
    """

    choice: Choice
    live: np.ndarray
    originals: list[Copy]
    copies: list[Copy]
    encoded: dict[Value, Copy]
    crossings: dict[Value, Crossing]


def predict(lives: Lifetimes, marks: Marks) -> Choice:
    """What marks need."""
    return simulate(lives, marks).choice


def simulate(lives: Lifetimes, marks: Marks) -> Course:
    """What happens under marks, and what that needs."""
    crossings = {v: lives.crossings[v][name] for v, name in marks.stored}
    originals, copies, encoded, seconds = _copies(lives, marks, crossings)
    change = [0] * (len(lives.live) + 1)
    made_again = [c for c in copies if c.value not in encoded]
    for value, until in {v: c.since for c in made_again for v in lives.others[c.value]}.items():
        if until > lives.last[value]:
            change[lives.last[value] + 1] += value.nbytes
            change[until + 1] -= value.nbytes
    leaving: dict[int, list[Copy]] = {}  # what is read for the last time to make others
    for copy in originals:
        value = copy.value
        usual = 2 * max(lives.last_forward.get(value, 0), lives.last_backward.get(value, 0)) + 1
        change[usual + 1] += lives.nbytes[value]
        change[copy.until + 1] -= lives.nbytes[value]
        if copy.until % 2 == 0:
            leaving.setdefault(copy.until, []).append(copy)
        elif copy.until < usual and value in lives.overwritable:
            if copy.until == lives.forward_end[value]:
                change[copy.until] -= lives.nbytes[value]
                change[copy.until + 1] += lives.nbytes[value]
    for value, copy in encoded.items():
        if copy.reads:
            change[copy.since] += crossings[value].nbytes
            change[copy.until + 1] -= crossings[value].nbytes
    entering: dict[int, list[Copy]] = {}
    for copy in copies:
        entering.setdefault(copy.since, []).append(copy)
        change[copy.since + 1] += lives.nbytes[copy.value]
        change[max(copy.until, copy.since) + 1] -= lives.nbytes[copy.value]
        if copy.until % 2 == 0 and copy.until > copy.since:
            leaving.setdefault(copy.until, []).append(copy)
    for at, made in entering.items():
        most = _most(lives, made, leaving.get(at, ()), encoded)
        change[at] += most
        change[at + 1] -= most
    live = lives.live + np.cumsum(np.array(change[:-1], np.int64))
    choice = Choice(seconds, int(live.max(initial=0)), marks)
    return Course(choice, live, originals, copies, encoded, crossings)


def _copies(
    lives: Lifetimes, marks: Marks, crossings: Mapping[Value, Crossing]
) -> tuple[list[Copy], list[Copy], dict[Value, Copy], float]:
    """Go through the backward part and make what it wants and has not."""
    let_go: dict[int, list[Value]] = {}
    for t, value in marks.anew:
        let_go.setdefault(t, []).append(value)
    there: dict[Value, Copy] = {}
    encoded: dict[Value, Copy] = {}
    originals = []
    seconds = 0.0
    for value in lives.values:
        copy = Copy(value, lives.forward_end[value])
        originals.append(copy)
        if value in crossings:
            encoded[value] = Copy(value, 2 * lives.time[value.node] + 2)
        elif value not in marks.again:
            there[value] = copy
    copies: list[Copy] = []

    def crosses(reader: Node, value: Value) -> bool:
        """Whether a node reads what is encoded."""
        return value in encoded and lives.reads_as_stored(reader, value, crossings[value])

    for t, wanted in lives.wanted.items():
        for value in let_go.get(t, ()):
            there.pop(value, None)
        if encoded:
            reader, whole = lives.nodes[t], []
            for value, until in wanted:
                if crosses(reader, value):
                    encoded[value].read(2 * until + 1)
                else:
                    whole.append((value, until))
            wanted = whole
        missing: set[Value] = set()
        stack = [v for v, _ in wanted if v not in there]
        while stack:
            value = stack.pop()
            if value not in missing:
                missing.add(value)
                if value not in encoded:
                    reads = lives.reads[value]
                    stack += [v for v in reads if v not in there and not crosses(value.node, v)]
        for value in sorted(missing, key=lives.order.__getitem__):
            if value in there:  # made with its node's others
                continue
            if value in encoded:
                seconds += crossings[value].decoding
                encoded[value].read(2 * t)
                made_now = [value]
            else:
                made_now = [
                    v for v in lives.made_by[value.node] if v not in there and v not in encoded
                ]
                for read in lives.reads[value]:
                    by = encoded if crosses(value.node, read) else there
                    by[read].read(2 * t)
                seconds += lives.seconds[value] if t < lives.fresh[value] else math.inf
            for made_value in made_now:
                there[made_value] = Copy(made_value, 2 * t)
                copies.append(there[made_value])
        for value, until in wanted:
            there[value].read(2 * until + 1)
    for copy in originals:
        crossing = encoded.get(copy.value)
        if crossing and crossing.reads:
            copy.until = max(copy.until, crossing.since)
            seconds += crossings[copy.value].encoding
    return originals, copies, encoded, seconds


def _most(
    lives: Lifetimes,
    made: list[Copy],
    leaving: list[Copy] | tuple[Copy, ...],
    encoded: Mapping[Value, Copy],
) -> int:
    """Bytes that copies made one after the other take at the worst, beside what was there."""
    again = {c.value for c in made if c.value not in encoded}

    def reads(copy: Copy) -> tuple[Value, ...]:
        return lives.reads[copy.value] if copy.value in again else ()

    passing = {c.value for c in made if c.until == c.since}
    passing.update(c.value for c in leaving)
    last_use = {v: c for c in made for v in reads(c) if v in passing}
    live = most = 0
    for copy in made:
        value = copy.value
        dying = [v for v in reads(copy) if last_use.get(v) is copy]
        live += lives.nbytes[value]
        over = 0
        if value in again and not lives.overwrites[value].isdisjoint(dying):
            over = lives.nbytes[value]
        beside = 0
        if value in again:
            unread = sum(v.nbytes for v in lives.siblings[value] if v not in again)
            beside = unread + lives.workspace[value]
        most = max(most, live - over + beside)
        live -= sum(lives.nbytes[v] for v in dying)
    return most
