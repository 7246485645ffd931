"""Micro-batches: forward and backward on one part of the batch after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from ..dtypes import int32
from ..errors import GraphError
from ..graph import ASSIGN, INPUT, READ, Graph, Node, Value, emit, marked, new_input
from ..op import OWN, TOTAL, Rows, TensorType
from ..ops import add, check_finite, constant, full
from ..ops import sgd_momentum_accumulate as accumulate
from ..ops import sgd_momentum_step as momentum_step
from ..ops._rows import cut
from ..ops.check import CHECK_FINITE
from ..ops.elementwise import ADD, CAST
from ..ops.fill import FULL
from ..ops.loop import loop
from ..ops.update import SGD_MOMENTUM
from ..plan.ledger import megabytes
from .parts import Parts, described
from .pipeline import ANY_MACHINE, Machine, Policy

__all__ = ["Microbatch"]

#: The part of the step of what a body is given and neither forward nor backward made.
_STATE = "state"


@dataclass(frozen=True)
class Microbatch(Policy):
    """Forward and backward on `n` equal parts of the batch in turn, then one update.

    Gradients are sums over samples, and here the sums are taken in parts: equal to those of the
    whole batch but for rounding, so not lossless. Under batch-norm the statistics are those of each
    part, and running statistics move once a part; the plan says so.

    SGD with momentum adds each part's gradients straight to the moments, so that no gradients are
    kept at all. If the loss of a part after the first is not finite, or what `Store` keeps of it
    does not fit, the step fails when the moments have changed already (labels are checked
    beforehand). Nesterov's rule, clipping by the
    global norm and all other optimizers need the whole gradient: its sums are kept. So they are
    beside `AdaptivePrecision`, which runs a step again when a value of any part did not fit.

    Parameters
    ----------
    n : int
        How many parts. It must divide the batch: axis 0 of the first array that the step is given.

    Raises
    ------
    GraphError
        The batch cannot be cut so, or the step mixes its samples.
    """

    phase: ClassVar[str] = "microbatch"

    n: int

    def __post_init__(self) -> None:
        if not isinstance(self.n, int) or isinstance(self.n, bool) or self.n < 1:
            raise GraphError(f"Microbatch: expected a number of parts, at least 1, got {self.n!r}")

    def __call__(self, graph: Graph) -> Graph:
        """Give the graph with a loop over the parts in it."""
        return self.apply(graph, ANY_MACHINE)

    def apply(self, graph: Graph, machine: Machine) -> Graph:
        """Give the graph with a loop that leaves the moments alone if the step may be run again."""
        if any(node.body is not None for node in graph.nodes):
            raise GraphError("the batch is in parts already")
        if self.n == 1:
            return graph
        return _Builder(graph, Parts(graph, self.n), machine.retries).result(repr(self))


class _Carried(NamedTuple):
    """A value that each part takes over from the one before."""

    entering: Value  # outside, from before the loop
    inner: Value
    leaving: Value  # inside: what the part makes of it
    final: Value | None = None  # the value of the whole batch that it is in the end
    resident: bool = False


class _Builder:
    """The step outside of the loop, and the loop's body, node by node."""

    def __init__(self, graph: Graph, parts: Parts, retries: bool) -> None:
        self.graph, self.parts, self.retries = graph, parts, retries
        self.readers = graph.readers()
        self.outside: dict[Value, Value] = {}
        self.inside: dict[tuple[Value, int | None], Value] = {}
        self.invariant: dict[Value, Value] = {}  # what the loop is given, by what it is inside
        self.sliced: dict[Value, Value] = {}
        self.carried: list[_Carried] = []
        self.effects: list[Node] = []
        self.body_effects: list[Node] = []
        self.kept = set(graph.effects)
        #: Gradients that add up in the moment of an update, and that update.
        self.updates = {n.inputs[1]: n for n in parts.late if self._adds_to_moment(n)}
        self.updating = set(self.updates.values())
        self.statistics = {n.attrs["cell"]: n for n in parts.assigned.values()}
        self.sums: list[Value] = []
        #: Sums of summands, by those: each is added to the total of the parts before as it is made.
        self.sums_of: dict[Value, list[Value]] = {}
        self.running: dict[Value, tuple[Value, Value]] = {}  # as it enters, and so far
        self.folded: set[Node] = set()
        self.handed_on: list[tuple[Value, Value, Value]] = []
        self.done: Value | None = None

    def result(self, label: str) -> Graph:
        """The step with its loop."""
        wanted = self._wanted()
        losses = {v: n for n in self.parts.late if n.op is CHECK_FINITE for v in self._totals(n)}
        for value in self.graph.inputs:
            self._outer(value)
        self._enter_statistics()
        for value in wanted:
            self._fold(value)
        for node, rows in self.parts.rules.items():
            if node not in self.folded:
                self._make_inside(node, rows)
            for value in node.outputs:
                for whole in self.sums_of.get(value, ()):
                    self._add_summand(value, whole)
                if value in losses:
                    self._check_part(value, losses[value])
                if value in wanted and self.parts.axis[value] == TOTAL:
                    self._add_up(value)
        self._close([v for v in wanted if self.parts.axis[v] != TOTAL])
        assigned = set(self.statistics.values())
        for node in self.graph.nodes:
            if node in assigned or not (node in self.parts.rules or self._is_own(node)):
                self._make(node)
        outputs = [self._outer(v) for v in self.graph.outputs]
        inputs = [self._outer(v) for v in self.graph.inputs]
        return Graph(outputs, self.effects, inputs).marked(
            remarks=(*self.graph.remarks, *self._remarks(label))
        )

    # ---- what leaves the loop ----

    def _wanted(self) -> list[Value]:
        """Values of the parts that something outside reads."""
        late = [
            v
            for n in self.graph.nodes
            if n not in self.parts.rules and n not in self.parts.early and not self._is_own(n)
            for v in n.inputs
        ]
        found = dict.fromkeys(v for v in (*late, *self.graph.outputs) if v.node in self.parts.rules)
        for value in found:
            axis = self.parts.axis[value]
            if axis not in (0, TOTAL):
                raise GraphError(
                    f"{described(value.node)} leaves the loop over parts of the batch, but its "
                    f"samples are not along axis 0"
                )
        return list(found)

    def _is_own(self, node: Node) -> bool:
        return node.op is ASSIGN and node.outputs[0] in self.parts.assigned

    def _totals(self, check: Node) -> Iterator[Value]:
        """The single numbers that are added up over the parts for what a node checks."""
        stack = list(check.inputs)
        while stack:
            value = stack.pop()
            if self.parts.axis.get(value) == TOTAL and value.size == 1:
                yield value
            elif value.node in self.parts.late:
                stack += value.node.inputs

    def _adds_to_moment(self, update: Node) -> bool:
        """Whether an update can take up one part's gradient after the other."""
        if self.retries or update.op is not SGD_MOMENTUM or update.attrs["nesterov"]:
            return False
        p, gradient, moment, hyper = update.inputs
        total = self.parts.axis.get(gradient) == TOTAL and moment.node.op is READ
        given = p.node.op is READ and hyper.node.op is INPUT
        alone = all(self.readers[v] == [update] for v in (gradient, moment))
        outputs = set(self.graph.outputs)
        to_cell = [
            n.op is ASSIGN and n.attrs["cell"] is moment.node.attrs.get("cell")
            for n in self.readers.get(update.outputs[1], ())
        ]
        free = outputs.isdisjoint((gradient, moment, update.outputs[1]))
        return total and given and alone and free and to_cell == [True]

    # ---- outside ----

    def _outer(self, value: Value) -> Value:
        if value not in self.outside:
            self._make(value.node)
        return self.outside[value]

    def _make(self, node: Node) -> None:
        """Make a node outside, after what it needs and is not there yet."""
        if node.outputs and node.outputs[0] in self.outside:
            return
        inputs = tuple(self._outer(v) for v in node.inputs)
        if node in self.updating:
            p, total, _, hyper = inputs
            with marked(part=node.part, scope=node.scope, source=node.source):
                outputs: tuple[Value, ...] = (momentum_step(p, total, hyper), total)
        else:
            twin = node.again(inputs)
            outputs = twin.outputs
            if node in self.kept:
                self.effects.append(twin)
        self.outside.update(zip(node.outputs, outputs, strict=True))

    # ---- inside ----

    def _make_inside(self, node: Node, rows: Rows) -> None:
        inputs = [self._inner(v, a, node) for v, a in zip(node.inputs, rows.inputs, strict=True)]
        with marked(part=node.part, scope=node.scope, source=node.source, constant=node.constant):
            if rows.numbered is not None:
                inputs[rows.numbered] = add(inputs[rows.numbered], self._done())
            made = emit(node.op, *inputs, **{**node.attrs, **rows.attrs})
        for value, twin in zip(node.outputs, made.outputs, strict=True):
            axis = self.parts.axis[value]
            self.inside[value, axis if isinstance(axis, int) else None] = twin
        if node.op.check is not None:
            self._check_beforehand(node)

    def _inner(self, value: Value, axis: int | None, reader: Node) -> Value:
        """A value as the body reads it: one part along an axis, or all of it."""
        if value in self.parts.assigned:
            value = self.parts.assigned[value].inputs[0]
        if (value, axis) not in self.inside:
            self.inside[value, axis] = self._enter(value, axis, reader)
        return self.inside[value, axis]

    def _enter(self, value: Value, axis: int | None, reader: Node) -> Value:
        node = value.node
        if node in self.parts.late or node.op is ASSIGN:
            raise GraphError(f"{described(reader)} needs {described(node)} in every part")
        if node.op is FULL and not value.shape:  # part of what is fused with it
            rows: Rows | None = Rows((), ())
        else:
            rows = None if axis is None else self.parts.shrunk(value, axis)
        if rows is not None:
            inputs = [
                self._inner(v, a, reader) for v, a in zip(node.inputs, rows.inputs, strict=True)
            ]
            with marked(part=node.part, scope=node.scope, source=node.source):
                return emit(node.op, *inputs, **{**node.attrs, **rows.attrs}).outputs[0]
        if axis is None:
            return self._given(value.type, self._outer(value), self.invariant, _STATE)
        a_part = TensorType(cut(value.shape, axis, self.parts.parts), value.dtype)
        return self._given(a_part, self._outer(value), self.sliced, "forward")

    def _given(
        self, tensor_type: TensorType, outer: Value, to: dict[Value, Value], part: str
    ) -> Value:
        with marked(part=part):
            inner = new_input(tensor_type)
        to[inner] = outer
        return inner

    def _enter_statistics(self) -> None:
        """Let running statistics be handed on from part to part."""
        for cell, last in self.statistics.items():
            reads = [n for n in self.graph.nodes if n.op is READ and n.attrs["cell"] is cell]
            read = reads[0].outputs[0] if reads else emit(READ, cell=cell).outputs[0]
            entering = self._outer(read) if reads else read
            with marked(part=_STATE):
                self.inside[read, None] = new_input(read.type)
            self.handed_on.append((entering, self.inside[read, None], last.inputs[0]))

    def _done(self) -> Value:
        """How many samples the parts before have had."""
        if self.done is None:
            with marked(part=_STATE):
                self.done = new_input(TensorType((), int32))
        return self.done

    def _check_beforehand(self, node: Node) -> None:
        """Refuse what a part would refuse before the first part has changed anything."""
        assert node.op.check is not None
        value = node.inputs[node.op.check.input]
        first = value
        while first.node.op is CAST or first.node.op.alias:
            first = first.node.inputs[0]
        if first.node.op is INPUT:
            whole = self._outer(value)
            with marked(part=node.part, scope=node.scope, source=node.source):
                self.effects.append(node.op.check.emit(whole, node))

    def _check_part(self, value: Value, check: Node) -> None:
        node = value.node
        with marked(part=node.part, scope=node.scope, source=node.source):
            self.body_effects.append(check_finite(self.inside[value, None], **check.attrs))

    def _fold(self, whole: Value) -> None:
        """Find the summands of a sum that nothing inside reads, so that it never exists apart."""

        def adds(value: Value) -> bool:
            node = value.node
            return node.op is ADD and node in self.parts.rules

        inside = any(n in self.parts.rules for n in self.readers.get(whole, ()))
        if inside or whole in self.updates or not adds(whole):
            return
        stack, nodes, summands = [whole], [], []
        while stack:
            value = stack.pop()
            if adds(value) and (value is whole or len(self.readers[value]) == 1):
                nodes.append(value.node)
                stack += value.node.inputs
            else:
                summands.append(value)
        self.folded.update(nodes)
        for value in summands:
            self.sums_of.setdefault(value, []).append(whole)

    def _add_summand(self, value: Value, whole: Value) -> None:
        """Add one of several summands to the total of the parts before."""
        if whole not in self.running:
            with marked(part=_STATE):
                total = new_input(whole.type)
            self.running[whole] = total, total
        total, so_far = self.running[whole]
        node = value.node
        with marked(part=node.part, scope=node.scope, source=node.source):
            self.running[whole] = total, add(so_far, self.inside[value, None])

    def _add_up(self, value: Value) -> None:
        """Let a summand be added to those of the parts before."""
        update = self.updates.get(value)
        if update is None:
            if value not in self.running:
                self._add_summand(value, value)
            self.sums.append(value)
            entering = full(value.shape, 0, value.dtype)
            total, leaving = self.running[value]
        else:
            summand = self.inside[value, None]
            with marked(part=_STATE):
                total = new_input(value.type)
            p, _, moment, hyper = update.inputs
            entering = self._outer(moment)
            given = self._inner(p, None, update), self._inner(hyper, None, update), self._done()
            with marked(part="update", scope=update.scope, source=update.source):
                leaving = accumulate(total, summand, *given)
        self.carried.append(_Carried(entering, total, leaving, value, update is not None))

    # ---- the loop ----

    def _close(self, stacked: list[Value]) -> None:
        """Make the loop; what leaves it is known outside from then on."""
        for entering, inner, value in self.handed_on:
            self.carried.append(_Carried(entering, inner, self.inside[value, None], value))
        if self.done is not None:
            more = constant(self.parts.batch // self.parts.parts, int32)
            start = constant(0, int32)
            self.carried.append(_Carried(start, self.done, add(self.done, more)))
        leaving = [c.leaving for c in self.carried] + [self.inside[v, 0] for v in stacked]
        inputs = [*self.invariant, *self.sliced, *(c.inner for c in self.carried)]
        with marked(part="backward"):
            found = loop(
                Graph(leaving, self.body_effects, inputs),
                self.parts.parts,
                self.invariant.values(),
                self.sliced.values(),
                [c.entering for c in self.carried],
                [i for i, c in enumerate(self.carried) if c.resident],
            )
        finals = [*(c.final for c in self.carried), *stacked]
        self.outside.update((v, f) for v, f in zip(finals, found, strict=True) if v is not None)

    def _remarks(self, label: str) -> Iterator[str]:
        batch, part = self.parts.batch, self.parts.batch // self.parts.parts
        # What else parts have for themselves are integers: where gradients of zeros are largest.
        if any(axis == OWN and v.dtype.is_float for v, axis in self.parts.axis.items()):
            yield f"{label}: statistics of batch-norm are those of {part} of the {batch} samples"
        gradients = sum(v.nbytes for v in self.sums if v.node.part == "backward")
        if gradients:
            unless = (
                "else a step whose values do not fit their formats could not be run again"
                if self.retries
                else "SGD with momentum needs none, without Nesterov's rule and clipping"
            )
            yield f"{label}: {megabytes(gradients)} hold sums of gradients ({unless})"
        if self.updates:
            yield (
                f"{label}: gradients are added to the moments at once; a loss that is not finite, "
                "or a stored value that does not fit, in a later part fails the step when they "
                "have changed"
            )
