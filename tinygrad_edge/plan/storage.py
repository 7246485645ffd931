"""Where each value lives, and from when to when.

A schedule numbers the moments of a step; a loop's body is laid out once, between the loop's first
and last moment. A buffer is a run of bytes in the arena, in a cell, in an input or in an output.
Values share a buffer when one is a view of the other, when an op may write over an input that dies
there, when a value becomes a cell's next version, and when a loop carries it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import GraphError
from ..graph import ASSIGN, READ, Cell, Graph, Node, Value
from ..ops.loop import LOOP

__all__ = ["ARENA", "Buffer", "Moment", "Place", "Storage", "schedule_of", "store"]

#: The slot of the arena. Cells, inputs, outputs and windows are numbered after it, in this order.
ARENA = 0


@dataclass(eq=False)
class Buffer:
    """A run of bytes: in the arena from moment `start` to `end`, or all of another slot.

    ``lives`` says which value occupies it from which moment on.
    """

    nbytes: int
    slot: int
    start: int = 0
    end: int = 0
    lives: list[tuple[int, Value]] = field(default_factory=list)
    offset: int = 0


class Place(NamedTuple):
    """A buffer, or the part of it that a loop's window shows in an iteration."""

    buffer: Buffer
    window: int | None = None


class Moment(NamedTuple):
    """One node of the schedule. `last` is the last moment of its body for a loop, else its own."""

    time: int
    node: Node
    last: int
    inside: tuple[int, ...]  # the loops around it by their first moments, outermost first


class Window(NamedTuple):
    """A slot that a loop moves over a place by `step` bytes an iteration."""

    slot: int
    over: Place
    step: int


@dataclass
class Storage:
    """Where everything is.

    Parameters
    ----------
    moments : list of Moment
    places : dict
        Where each value is.
    buffers : list of Buffer
        Those in the arena.
    slots : list of (Cell or Value or None)
        What each slot is bound to: the arena (None), cells, inputs, outputs.
    before, after, tail : dict
        Copies (value, place) before or after the node of a moment, or at the end of a loop's body.
    windows : dict
        The windows of the loop at a moment.
    """

    moments: list[Moment]
    places: dict[Value, Place] = field(default_factory=dict)
    buffers: list[Buffer] = field(default_factory=list)
    slots: list[Cell | Value | None] = field(default_factory=list)
    before: dict[int, list[tuple[Value, Place]]] = field(default_factory=dict)
    after: dict[int, list[tuple[Value, Place]]] = field(default_factory=dict)
    tail: dict[int, list[tuple[Value, Place]]] = field(default_factory=dict)
    windows: dict[int, list[Window]] = field(default_factory=dict)


def schedule_of(graph: Graph) -> list[Moment]:
    """Number the moments of a graph, bodies of loops included."""
    moments: list[Moment] = []

    def walk(nodes: tuple[Node, ...], inside: tuple[int, ...]) -> None:
        for node in nodes:
            time = len(moments)
            moments.append(Moment(time, node, time, inside))
            if node.op is LOOP:
                walk(node.attrs["body"].nodes, (*inside, time))
                moments[time] = moments[time]._replace(last=len(moments) - 1)

    walk(graph.nodes, ())
    return moments


class _Lives:
    """Roots of views, and when each root is made and last read."""

    def __init__(self, graph: Graph, moments: list[Moment]) -> None:
        self.root: dict[Value, Value] = {}
        self.made: dict[Value, Moment] = {}
        self.last: dict[Value, int] = {}
        self.home: dict[Value, tuple[int, ...]] = {}
        self.bound: set[Value] = set()  # inputs of loop bodies, which the loop makes
        for moment in moments:
            self._make(moment)
            self._read(moment)
        for value in graph.outputs:
            self._touch(value, len(moments))

    def _make(self, moment: Moment) -> None:
        node = moment.node
        for value in node.outputs:
            if value not in self.bound:
                view = node.op.alias
                self.root[value] = self.root[node.inputs[0]] if view else value
                self._start(value, moment, moment.inside)
        if node.op is LOOP:
            fixed = node.attrs["invariant"]
            for i, (outer, inner) in enumerate(
                zip(node.inputs, node.attrs["body"].inputs, strict=True)
            ):
                if inner in self.root:
                    raise GraphError("two loops share a body; each needs a copy of its own")
                self.bound.add(inner)
                self.root[inner] = self.root[outer] if i < fixed else inner
                self._start(inner, moment, (*moment.inside, moment.time))

    def _start(self, value: Value, moment: Moment, home: tuple[int, ...]) -> None:
        if self.root[value] is value:
            self.made[value] = moment
            self.last[value] = moment.time
            self.home[value] = home

    def _read(self, moment: Moment) -> None:
        node = moment.node
        if node.op is LOOP:
            carried_from = node.attrs["invariant"] + node.attrs["sliced"]
            for i, value in enumerate(node.inputs):
                self._touch(value, moment.time if i >= carried_from else moment.last)
            # The body's results are read at its end, when all its values are known.
            return
        for value in node.inputs:
            self._touch(value, moment.time)

    def _touch(self, value: Value, time: int) -> None:
        root = self.root[value]
        self.last[root] = max(self.last[root], time)

    def close(self, moment: Moment) -> None:
        """Note that a loop's results are read at the end of its body."""
        for value in moment.node.attrs["body"].outputs:
            self._touch(value, moment.last)


def store(graph: Graph) -> Storage:
    """Decide which values share memory, and from when to when each buffer lives."""
    return _Store(graph).storage


class _Store:
    def __init__(self, graph: Graph) -> None:
        moments = schedule_of(graph)
        self.graph = graph
        self.lives = _Lives(graph, moments)
        for moment in moments:
            if moment.node.op is LOOP:
                self.lives.close(moment)
        self.storage = Storage(moments, slots=[None, *graph.cells, *graph.inputs, *graph.outputs])
        self.cells = {cell: Buffer(cell.type.nbytes, 1 + i) for i, cell in enumerate(graph.cells)}
        self._bind_inputs()
        self._bind_outputs()
        self._bind_cells()
        for moment in moments:
            if moment.node.op is LOOP:
                self._bind_loop(moment)
            else:
                self._bind_results(moment)

    # ---- what is bound to memory outside the arena ----

    def _bind_inputs(self) -> None:
        first = 1 + len(self.graph.cells)
        for i, value in enumerate(self.graph.inputs):
            self.storage.places[value] = Place(Buffer(value.nbytes, first + i))

    def _bind_outputs(self) -> None:
        """Let a value be made where it leaves; what lives elsewhere, or leaves twice, is copied."""
        first = 1 + len(self.graph.cells) + len(self.graph.inputs)
        places, lives = self.storage.places, self.lives
        for i, value in enumerate(self.graph.outputs):
            root = lives.root[value]
            place = Place(Buffer(value.nbytes, first + i))
            if root in places or root.node.op in (READ, ASSIGN):
                # As soon as it is there: a cell may be overwritten later.
                self.storage.after.setdefault(lives.made[root].time, []).append((value, place))
            else:
                places[root] = place

    def _bind_cells(self) -> None:
        """Make a cell's next version in place where nothing reads the old one any more."""
        moments = self.storage.moments
        assigns = [m for m in moments if m.node.op is ASSIGN]
        checks = [m.time for m in moments if m.node.op.may_refuse]
        times = [m.node.attrs["cell"] for m in assigns]
        old = {m.node.attrs["cell"]: m.node.outputs[0] for m in moments if m.node.op is READ}
        for moment in moments:
            if moment.node.op in (READ, ASSIGN):
                cell = self.cells[moment.node.attrs["cell"]]
                self.storage.places[moment.node.outputs[0]] = Place(cell)
        for moment in assigns:
            cell, value = moment.node.attrs["cell"], moment.node.inputs[0]
            root = self.lives.root[value]
            before = old.get(cell)
            after_checks = max(checks, default=-1) < self.lives.made[root].time
            free = times.count(cell) == 1 and root not in self.storage.places
            if free and (
                self._is_resident(root, before)
                or (after_checks and self._may_overwrite(root, before))
            ):
                self.storage.places[root] = Place(self.cells[cell])
            else:
                # Before any copy out of the cell that this moment also makes.
                place = Place(self.cells[cell])
                self.storage.after.setdefault(moment.time, []).insert(0, (value, place))

    def _is_resident(self, new: Value, old: Value | None) -> bool:
        """Whether a loop carries `old` to `new` and lets it live in its cell."""
        node = new.node
        if node.op is not LOOP or old is None or new.index not in node.attrs["resident"]:
            return False
        entering = node.inputs[node.attrs["invariant"] + node.attrs["sliced"] + new.index]
        return (
            self.lives.root[entering] is old and self.lives.last[old] == self.lives.made[new].time
        )

    def _may_overwrite(self, new: Value, old: Value | None) -> bool:
        """Whether `new` may be made in the memory of `old`, which nobody reads afterwards."""
        made, node = self.lives.made[new], new.node
        if node.op is LOOP or made.inside:
            return False
        if old is None or self.lives.last[old] < made.time:
            return True
        if self.lives.last[old] > made.time:
            return False
        return self._in_place(node, new.index, old)

    def _in_place(self, node: Node, index: int, old: Value) -> bool:
        own = {i for i, v in enumerate(node.inputs) if self.lives.root[v] is old}
        return old.nbytes == node.outputs[index].nbytes and own.issubset(node.overwrites(index))

    # ---- the arena ----

    def _bind_results(self, moment: Moment) -> None:
        for value in moment.node.outputs:
            lives = self.lives
            if lives.root[value] is not value:
                self.storage.places[value] = self.storage.places[lives.root[value]]
            if lives.root[value] is not value or value in lives.bound:
                continue
            if value not in self.storage.places:
                self.storage.places[value] = self._dying_input(moment, value) or self._new(
                    value, moment
                )
            buffer = self.storage.places[value].buffer
            buffer.end = max(buffer.end, lives.last[value])
            buffer.lives.append((moment.time, value))

    def _new(self, value: Value, moment: Moment, until: int = 0) -> Place:
        buffer = Buffer(value.nbytes, ARENA, moment.time, max(until, self.lives.last[value]))
        self.storage.buffers.append(buffer)
        return Place(buffer)

    def _dying_input(self, moment: Moment, value: Value) -> Place | None:
        """The memory of an input that dies here, if the op may write over it."""
        lives, places = self.lives, self.storage.places
        for i in moment.node.overwrites(value.index):
            old = lives.root[moment.node.inputs[i]]
            place = places[old]
            if (
                place.buffer.slot == ARENA
                and place.window is None
                and lives.last[old] == moment.time
                and lives.home[old] == moment.inside
                and self._in_place(moment.node, value.index, old)
                and not any(places.get(v) == place for v in moment.node.outputs)
            ):
                return place
        return None

    # ---- loops ----

    def _bind_loop(self, moment: Moment) -> None:
        attrs, body = moment.node.attrs, moment.node.attrs["body"]
        sliced_from, carried_from = attrs["invariant"], attrs["invariant"] + attrs["sliced"]
        carried = len(body.inputs) - carried_from
        for inner in body.inputs[:sliced_from]:
            self.storage.places[inner] = self.storage.places[self.lives.root[inner]]
        for i in range(sliced_from, carried_from):
            inner, outer = body.inputs[i], self.lives.root[moment.node.inputs[i]]
            self.storage.places[inner] = self._window(
                moment, self.storage.places[outer], inner.nbytes
            )
        for i, (outer, value) in enumerate(zip(moment.node.outputs, body.outputs, strict=True)):
            if i < carried:
                entering, inner = (
                    moment.node.inputs[carried_from + i],
                    body.inputs[carried_from + i],
                )
                self._carry(moment, entering, inner, value, outer)
            else:
                self._stack(moment, value, outer)

    def _window(self, moment: Moment, over: Place, step: int) -> Place:
        slot = len(self.storage.slots) + sum(len(w) for w in self.storage.windows.values())
        self.storage.windows.setdefault(moment.time, []).append(Window(slot, over, step))
        return Place(over.buffer, slot)

    def _outlive(self, moment: Moment, outer: Value) -> Place:
        """Memory for a loop's output, from the first iteration on."""
        if outer not in self.storage.places:
            self.storage.places[outer] = self._new(outer, moment, until=moment.last)
        place = self.storage.places[outer]
        place.buffer.lives.append((moment.time, outer))
        return place

    def _carry(
        self, moment: Moment, entering: Value, inner: Value, value: Value, outer: Value
    ) -> None:
        if outer not in self.storage.places and (dying := self._dying_entry(moment, entering)):
            self.storage.places[outer] = dying
            dying.buffer.end = max(moment.last, self.lives.last[outer])
        place = self._outlive(moment, outer)
        self.storage.places[inner] = place
        self.storage.before.setdefault(moment.time, []).append((entering, place))
        root = self.lives.root[value]
        if root is inner:
            return
        if root in self.lives.bound:
            raise GraphError("a loop cannot carry one of its inputs under another's place")
        made = self.lives.made[root]
        here = self.lives.home[root] == (*moment.inside, moment.time)
        at_once = self.lives.last[inner] == made.time and here and root not in self.storage.places
        if at_once and root.node.op is not LOOP and self._in_place(root.node, root.index, inner):
            self.storage.places[root] = place
        else:
            self.storage.tail.setdefault(moment.time, []).append((value, place))

    def _dying_entry(self, moment: Moment, entering: Value) -> Place | None:
        """The memory of a value that a loop carries on and nobody else reads any more."""
        root = self.lives.root[entering]
        place = self.storage.places[root]
        carried = moment.node.inputs[moment.node.attrs["invariant"] + moment.node.attrs["sliced"] :]
        alone = sum(self.lives.root[v] is root for v in carried) == 1
        in_arena = place.buffer.slot == ARENA and place.window is None
        dies = self.lives.last[root] == moment.time and self.lives.home[root] == moment.inside
        return place if alone and in_arena and dies else None

    def _stack(self, moment: Moment, value: Value, outer: Value) -> None:
        place = self._window(moment, self._outlive(moment, outer), value.nbytes)
        root = self.lives.root[value]
        here = self.lives.home[root] == (*moment.inside, moment.time)
        if here and root not in self.storage.places and root not in self.lives.bound:
            self.storage.places[root] = place
        else:
            self.storage.tail.setdefault(moment.time, []).append((value, place))
