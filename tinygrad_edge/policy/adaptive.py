"""Precision that follows the numbers: what can be told to lose little is stored in fewer bits."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..dtypes import float32, int32
from ..errors import GraphError, NonFiniteError
from ..graph import READ, Cell, Graph, Node, Value, base_of, emit, marked
from ..ops import storage_losses
from .formats import FORMATS, backward_readers
from .pipeline import Policy
from .select import crossing, is_small, nothing_matched

__all__ = ["AdaptivePrecision", "Decision", "Precision"]

#: From the most bits to the fewest.
LEVELS = ("float32", "float16", "int8")
_FIRST = LEVELS.index("float16")
#: A value moves to fewer bits only where it would lose this much less than the bound, so that noise
#: does not move it to and fro; and to float16 only with this much room for its largest magnitude.
_MARGIN, _ROOM = 0.8, 4.0


@dataclass(frozen=True)
class Decision:
    """A saved value is stored otherwise from now on.

    Parameters
    ----------
    step : int
        The step that it was taken in, from 1 on: after it by what it measured, or before it was run
        again because the value did not fit.
    value : str
        The value's name in the plan.
    before, after : str
        Formats.
    why : str
    """

    step: int
    value: str
    before: str
    after: str
    why: str


@dataclass(frozen=True)
class AdaptivePrecision(Policy):
    """Store each saved value in as few bits as its numbers allow, step by step (Prakash et al.).

    Saved values begin as float16. The first step, and every `every`-th after it, also measures each
    of them: its range, what float16 would flush towards zero, and the error that rounding to
    float16 and to int8 would make. From the next step on a value is stored in the smallest format
    whose error is within the bound. What the first layer makes stays float32, and so does what the
    last one reads and all that follows. A value that does not fit float16 is moved up, and the
    step, which has changed nothing, is run again.

    Decisions depend on the numbers alone, and the formats are part of the step's state: a snapshot
    resumes to the same bits. ``step.precision.decisions`` lists them. List `Default` first: what it
    makes again is not stored.

    Parameters
    ----------
    bound : float
        Root mean square of the rounding error, as a share of the value's own.
    every : int
        Steps from one look to the next.

    Raises
    ------
    GraphError
        A number is out of its range.
    """

    phase: ClassVar[str] = "crossing"

    bound: float = 0.01
    every: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.bound < 1:
            raise GraphError(f"AdaptivePrecision: bound must be between 0 and 1, got {self.bound}")
        if not isinstance(self.every, int) or self.every < 1:
            raise GraphError(f"AdaptivePrecision: every must be at least 1, got {self.every!r}")

    def __call__(self, graph: Graph) -> Graph:
        """Give the graph as it is before anything was measured."""
        return Precision(self).policy()(graph)

    def level(self, losses: Sequence[float], now: int) -> tuple[int, str]:
        """The level that what was measured allows, and why."""
        largest, tiny, half, int8 = losses
        if not math.isfinite(largest):
            return 0, "not finite"
        if int8 <= self.bound * (1.0 if now == 2 else _MARGIN):
            return 2, f"int8 would be off by {100 * int8:.2g} %"
        margin = 1.0 if now == 1 else _MARGIN
        if largest * _ROOM > float(np.finfo(np.float16).max):
            return 0, f"up to {largest:.3g}, too near the end of float16"
        if max(tiny, half) <= self.bound * margin:
            return 1, f"int8 would be off by {100 * int8:.2g} %"
        if tiny > half:
            return 0, f"{100 * tiny:.2g} % are too small for float16"
        return 0, f"float16 would be off by {100 * half:.2g} %"


class Precision:
    """The formats of one step, and what has been decided.

    Attributes
    ----------
    decisions : list of Decision
        Those of this process, in order.
    cell : Cell or None
        The number of steps done, then the level of each value: part of the step's state. None
        before there is a plan.
    """

    def __init__(self, policy: AdaptivePrecision) -> None:
        self.rules = policy
        self.decisions: list[Decision] = []
        self.cell: Cell | None = None
        self.names: tuple[str, ...] = ()
        self.measured: tuple[str, ...] = ()  # by the latest plan
        self.places: tuple[tuple[int, int], ...] = ()  # of these: origins of nodes, and outputs

    @property
    def formats(self) -> dict[str, str]:
        """The present format of each value."""
        return {name: LEVELS[self.level(name)] for name in self.names}

    @property
    def state(self) -> bytes:
        """What a plan depends on: the levels, and whether this step measures."""
        levels = b"" if self.cell is None else self.cell.array[1:].tobytes()
        return levels + bytes([self.measures])

    @property
    def measures(self) -> bool:
        """Whether the next step measures."""
        return self.cell is None or int(self.cell.array[0]) % self.rules.every == 0

    def level(self, name: str) -> int:
        """The present level of a value; one that the first plan did not have stays float32."""
        if self.cell is None:
            return _FIRST
        return int(self.cell.array[1 + self.names.index(name)]) if name in self.names else 0

    def policy(self) -> Policy:
        """The rewrite for the next step."""
        return _Now(self)

    def settle(self, names: tuple[str, ...]) -> None:
        """Take the values of the first plan."""
        if self.cell is None:
            self.names = names
            levels = np.array([0, *[_FIRST] * len(names)], np.int32)
            self.cell = Cell("policy/precision", levels.shape, int32, "buffer", lambda: levels)

    def done(self, names: Sequence[str], measured: Sequence[np.ndarray]) -> None:
        """Count a step, and decide by what it measured of each value, in its worst micro-batch."""
        assert self.cell is not None
        self.cell.array[0] += 1
        for name, losses in zip(names, measured, strict=True):
            now = self.level(name)
            worst = losses.reshape(-1, 4).max(axis=0)  # of what `storage_losses` tells of each part
            level, why = self.rules.level([float(x) for x in worst], now)
            if level != now:
                self._move(int(self.cell.array[0]), name, level, why)

    def retry(self, error: NonFiniteError) -> bool:
        """After a failed step: move up what did not fit, if that was the reason."""
        assert self.cell is not None
        meant = [n for n in self.names if n.split(" #")[0] == error.too_large and self.level(n)]
        for name in meant:
            self._move(int(self.cell.array[0]) + 1, name, 0, "did not fit")
        return bool(meant)

    def mark(self) -> tuple[np.ndarray, int]:
        """What `restore` takes."""
        assert self.cell is not None
        return self.cell.array.copy(), len(self.decisions)

    def restore(self, mark: tuple[np.ndarray, int]) -> None:
        """Take back decisions: the step that they were for has failed all the same."""
        assert self.cell is not None
        self.cell.array[...] = mark[0]
        del self.decisions[mark[1] :]

    def _move(self, step: int, name: str, level: int, why: str) -> None:
        assert self.cell is not None
        before = LEVELS[self.level(name)]
        self.cell.array[1 + self.names.index(name)] = level
        self.decisions.append(Decision(step, name, before, LEVELS[level], why))


@dataclass(frozen=True)
class _Now(Policy):
    phase: ClassVar[str] = "crossing"

    precision: Precision

    def __repr__(self) -> str:
        return repr(self.precision.rules)

    def parts(self) -> tuple[Policy, ...]:
        """Marking is a matter of the core, and what leaves it one of the whole step."""
        return self, _Measuring(self.precision)

    def __call__(self, graph: Graph) -> Graph:
        """Mark each value with its format, and say which are to be measured, if it is time."""
        named = dict(_movable(graph))
        if not named:
            nothing_matched(self.precision.rules, "saved value")
        self.precision.settle(tuple(named))
        readers = backward_readers(graph)
        stored = {}
        for name, value in named.items():
            level = self.precision.level(name)
            form = FORMATS[LEVELS[level]](value, readers[value]) if level else None
            if form is not None and form.nbytes(value) < value.nbytes:
                stored[value] = form
        measured = named if self.precision.measures else {}
        self.precision.measured = tuple(measured)
        self.precision.places = tuple((v.node.origin, v.index) for v in measured.values())
        return graph.marked(stored=stored, remarks=[self._remark(named)])

    def _remark(self, named: Collection[str]) -> str:
        levels = [self.precision.level(name) for name in named]
        counts = ", ".join(f"{levels.count(i)} as {LEVELS[i]}" for i in range(len(LEVELS)))
        looked = self.precision.cell is not None and self.precision.cell.array[0] > 0
        moved = self.precision.decisions or set(levels) != {_FIRST}
        still = "; none has moved" if looked and not moved else ""
        return f"{self!r}: saved values that may move: {counts}{still}"


def _movable(graph: Graph) -> Iterator[tuple[str, Value]]:
    """The saved values that may be stored in fewer bits, by name; no two have the same."""
    critical = set(_critical(graph))
    there_anyway = set(map(base_of, graph.outputs))
    taken: dict[str, int] = {}
    for value in sorted(crossing(graph), key=lambda v: (v.node.number, v.index)):
        stays = value in graph.again or value in graph.stored or value in there_anyway
        if value.dtype is not float32 or stays or is_small(value) or value in critical:
            continue
        name = ".".join((*value.node.scope, value.node.op.name))
        taken[name] = taken.get(name, 0) + 1
        yield (name if taken[name] == 1 else f"{name} #{taken[name]}"), value


def _critical(graph: Graph) -> Collection[Value]:
    """What the first layer with weights makes, what the last one reads, and all that follows."""
    forward = [n for n in graph.nodes if n.part == "forward"]
    layers = [n for n in forward if _has_weights(n)]
    if not layers:
        return ()
    first, last = layers[0], layers[-1]
    after = [v for n in forward if n.number >= last.number for v in n.outputs]
    return {*first.outputs, *map(base_of, last.inputs), *after}


def _has_weights(node: Node) -> bool:
    makers = (base_of(v).node for v in node.inputs if len(v.shape) > 1)
    # A part of the batch is given them.
    return not node.op.alias and any(n.op is READ or n.part == "state" for n in makers)


@dataclass(frozen=True)
class _Measuring(Policy):
    phase: ClassVar[str] = "budget"

    precision: Precision

    def __repr__(self) -> str:
        return repr(self.precision.rules)

    def __call__(self, graph: Graph) -> Graph:
        """Let what storing would lose of each value leave the step, for each part of the batch."""
        if not self.precision.places:
            return graph
        core = graph.core()
        body = _with_losses(core, self.precision.places)
        if core is graph:
            return body
        more: list[Value] = []

        def visit(node: Node, inputs: tuple[Value, ...]) -> Iterable[Value] | None:
            if node.body is not core:
                return None
            with marked(part=node.part, scope=node.scope, source=node.source):
                outputs = emit(node.op, *inputs, **{**node.attrs, "body": body}).outputs
            own = len(node.outputs)
            more.extend(outputs[own:])
            return outputs[:own]

        return graph.rewrite(visit).with_outputs(more)


def _with_losses(graph: Graph, places: Sequence[tuple[int, int]]) -> Graph:
    """The graph with what storing would lose of the values in these places as more outputs."""
    wanted = set(places)
    found: dict[tuple[int, int], Value] = {}

    def visit(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        own = [v.index for v in node.outputs if (node.origin, v.index) in wanted]
        if node.part != "forward" or not own:
            return None
        copy = node.again(inputs)
        with marked(part=node.part, scope=node.scope, source=node.source):
            found.update({(node.origin, i): storage_losses(copy.outputs[i]) for i in own})
        return copy.outputs

    graph = graph.rewrite(visit)
    return graph.with_outputs(found[place] for place in places)
