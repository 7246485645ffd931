"""What has been asked for and not yet run: the lazy engine, and the recording of a compiled step.

Operators only build nodes. A `Trace` holds what is pending besides: assignments to cells,
gradients, and which tensors the user still holds. Asking for a value runs everything pending as
one group, once: the values asked for, all tensors still held, all pending gradients and
assignments, and (where a backward pass may follow) the values that it would read, so that it does
not run the forward pass again.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import runtime
from .autodiff import vjp
from .errors import GraphError
from .graph import (
    ASSIGN,
    GRADIENT,
    INPUT,
    KNOWN,
    READ,
    Cell,
    Graph,
    Node,
    Value,
    ancestors,
    emit,
    marked,
    new_input,
)
from .ops import full
from .plan import make_plan
from .policy import Default, Policy, rewrite

if TYPE_CHECKING:
    from .tensor import Tensor

__all__ = ["Trace", "build", "current", "grad_enabled", "no_grad", "recording"]

#: Plans that the lazy engine keeps; the least recently used goes first.
CACHED_PLANS = 128


class Setting(NamedTuple):
    """An attribute that decided what was recorded: a module's mode, a parameter's requires_grad."""

    owner: Any
    name: str
    found: Any

    def holds(self) -> bool:
        """Whether it is still as it was found."""
        return getattr(self.owner, self.name) == self.found


_changes = itertools.count(1)
_last_change = [0]


def setting_changed() -> None:
    """Note that a setting changed, so that recorded steps look whether it was one of theirs."""
    _last_change[0] = next(_changes)


def setting_changes() -> int:
    """A number that is new after each change of a setting."""
    return _last_change[0]


class Trace:
    """What is pending.

    Parameters
    ----------
    lazy : bool
        Whether values may be asked for; False while a compiled step is recorded.
    """

    def __init__(self, lazy: bool) -> None:
        self.lazy = lazy
        self.effects: list[Node] = []
        self.base: dict[Cell, Value] = {}  # reads of the versions that the cells have now
        self.newest: dict[Cell, Value] = {}
        # Tensors with a gradient that is still to be run.
        self.leaves: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()
        self.at_end: list[Callable[[], None]] = []
        self.sites: dict[Any, int] = {}  # of each random generator: draws so far in this step
        self.settings: dict[tuple[int, str], Setting] = {}
        self._held: dict[int, weakref.ref[Tensor]] = {}
        self._kept: weakref.WeakSet[Value] = weakref.WeakSet()  # with arrays that runs left behind

    @property
    def pending(self) -> bool:
        """Whether there may be something to run."""
        return bool(self.effects or self._held or self.at_end or self.leaves)

    def depends_on(self, owner: Any, name: str) -> None:
        """Note a setting that decides what is recorded."""
        if not self.lazy:
            self.settings[id(owner), name] = Setting(owner, name, getattr(owner, name))

    # ---- state ----

    def read(self, cell: Cell) -> Value:
        """The newest version of a cell."""
        value = self.newest.get(cell)
        if value is None:
            with marked(part="forward", constant=False):
                value = self.newest[cell] = self.base[cell] = emit(READ, cell=cell).outputs[0]
        return value

    def assign(self, cell: Cell, value: Value) -> None:
        """Make the next version of a cell, when the group runs."""
        self.read(cell)
        node = emit(ASSIGN, value, cell=cell)
        self.effects.append(node)
        self.newest[cell] = node.outputs[0]

    def overwritten(self, cell: Cell) -> None:
        """Note that a cell has a new version."""
        cell.version += 1
        self.base.pop(cell, None)
        self.newest.pop(cell, None)

    def hold(self, tensor: Tensor) -> None:
        """Note that the user holds a tensor that operations made."""
        key = id(tensor)
        self._held[key] = weakref.ref(tensor, lambda _: self._held.pop(key, None))

    def held(self) -> list[Tensor]:
        """The tensors made by operations that the user still holds."""
        alive = (ref() for ref in list(self._held.values()))
        return [t for t in alive if t is not None]

    # ---- running ----

    def end_step(self) -> None:
        """Run what is pending and end the history of all tensors: no backward pass follows."""
        if self.lazy:
            self.run(last=True)
            for tensor in self.held():
                tensor.cut()
            self._held.clear()
            self._let_go()

    def run(self, wanted: Iterable[Value] = (), last: bool = False) -> None:
        """Run what is pending and what is wanted, as one group.

        Unless it is the last of a step, what a backward pass would read is kept.
        """
        if not self.lazy:
            raise GraphError(
                "a value was asked for while a compiled step is being recorded; "
                "return it from the step and read it outside"
            )
        for finish in self.at_end:
            finish()
        held = [t for t in self.held() if t.value.data is None]
        grads = [g for t in self.leaves.values() if (g := t.pending_grad) and g.data is None]
        asked = dict.fromkeys((*wanted, *(t.value for t in held), *grads))
        targets = [v for v in asked if v.data is None]
        follows = not (last or grads)  # else the backward pass is part of this group
        heads = tuple(t.value for t in held if t.requires_grad) if follows else ()
        try:
            if targets or self.effects:
                kept = _run_group(tuple(targets), tuple(self.effects), heads, self.base)
                self._kept.update((*kept, *targets))
        except BaseException:
            self._forget_pending()
            raise
        for node in self.effects:
            if node.op is ASSIGN:
                self.overwritten(node.attrs["cell"])
        self.effects.clear()
        self.at_end.clear()
        self.sites.clear()
        for leaf in self.leaves.values() if last else ():
            leaf.cut_grad()
        self._kept -= {*grads, *(leaf.pending_grad for leaf in self.leaves.values())}
        self.leaves.clear()
        for tensor in held:
            if not tensor.requires_grad:
                tensor.cut()
        if not any(tensor.requires_grad for tensor in self.held()):
            self._let_go()

    def _let_go(self) -> None:
        """Free the arrays of a history that nobody can reach: its nodes wait for the collector."""
        for value in self._kept:
            tensor = value.handle() if value.handle is not None else None
            if getattr(tensor, "_value", None) is not value:  # a parameter has none: it has a cell
                value.data = None
        self._kept.clear()

    def _forget_pending(self) -> None:
        """After a failed run nothing has changed; what was pending is dropped."""
        for leaf in list(self.leaves.values()):
            leaf.clear_grad()
        self.leaves.clear()
        self.newest = dict(self.base)
        self.effects.clear()
        self.at_end.clear()
        self.sites.clear()
        self._held.clear()


class _State(threading.local):
    def __init__(self) -> None:
        self.traces = [Trace(lazy=True)]
        self.grad_enabled = True


_state = _State()


def current() -> Trace:
    """The trace that new nodes belong to, in this thread."""
    return _state.traces[-1]


def grad_enabled() -> bool:
    """Whether operations are followed for gradients."""
    return _state.grad_enabled


@contextmanager
def no_grad() -> Iterator[None]:
    """Operations inside are constants to `backward`.

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> x = te.Tensor([2.0], requires_grad=True)
    >>> with te.no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    """
    before, _state.grad_enabled = _state.grad_enabled, False
    try:
        with marked(constant=True):
            yield
    finally:
        _state.grad_enabled = before


@contextmanager
def recording() -> Iterator[Trace]:
    """Record a step: values cannot be asked for inside."""
    if _state.traces[-1].lazy:
        _state.traces[-1].run()
    trace = Trace(lazy=False)
    _state.traces.append(trace)
    enabled, _state.grad_enabled = _state.grad_enabled, True
    try:
        with marked(constant=False, scope=(), part="forward"):
            yield trace
    finally:
        _state.grad_enabled = enabled
        _state.traces.pop()
        for leaf in list(trace.leaves.values()):
            leaf.clear_grad()


# ---- groups ----


class _Bound(NamedTuple):
    """A plan ready to run.

    Which of a group's cells and entering values it needs, and which values its last outputs are,
    besides those asked for.
    """

    executable: Any
    cells: tuple[int, ...]
    inputs: tuple[int, ...]
    extra: tuple[tuple[int, int], ...]


_plans: OrderedDict[tuple, _Bound] = OrderedDict()
_DEFAULT: tuple[Policy, ...] = (Default(),)


def _run_group(
    targets: tuple[Value, ...],
    effects: tuple[Node, ...],
    heads: tuple[Value, ...],
    base: dict[Cell, Value],
) -> list[Value]:
    """Run a group; gives the values besides the targets whose arrays it leaves behind."""
    group = _Group(targets, effects, heads)
    group.refuse_overwritten(base)
    key = group.key()
    bound = _plans.get(key)
    if bound is None:
        extra = group.read_later()
        traced, _ = build([*targets, *group.outputs_at(extra)], effects, blank=True)
        graph, inputs = rewrite(traced, _DEFAULT).without_unread_inputs()
        plan = make_plan(graph, runtime.current().workspace)
        places = tuple(traced.cells.index(c) for c in graph.cells)
        executable = runtime.current().Executable(plan)
        bound = _plans[key] = _Bound(executable, places, inputs, extra)
        if len(_plans) > CACHED_PLANS:
            _plans.popitem(last=False)
    _plans.move_to_end(key)
    cells = [group.cells[i].array for i in bound.cells]
    arrays = [array_of(group.bound[i]) for i in bound.inputs]
    results = runtime.run_checked(bound.executable, cells, arrays)
    later = group.outputs_at(bound.extra)
    for value, array in zip((*targets, *later), results, strict=True):
        value.data = array
    return [*later, *(v for v in group.bound if v.node.op is INPUT)]


class _Group:
    """The nodes of a run, what they are bound to, and a key that is equal for equal plans."""

    def __init__(
        self, targets: tuple[Value, ...], effects: tuple[Node, ...], heads: tuple[Value, ...]
    ) -> None:
        self.targets, self.effects, self.heads = targets, effects, heads
        self.nodes = _nodes(targets, effects)
        self.number = {node: i for i, node in enumerate(self.nodes)}
        self.cells = tuple(
            dict.fromkeys(n.attrs["cell"] for n in self.nodes if n.op is READ or n.op is ASSIGN)
        )
        self.bound = _bound_values(self.nodes)

    def outputs_at(self, places: Iterable[tuple[int, int]]) -> list[Value]:
        """Values by number of node and output."""
        return [self.nodes[i].outputs[j] for i, j in places]

    def refuse_overwritten(self, base: dict[Cell, Value]) -> None:
        """Refuse to read a version of a cell that an earlier run has overwritten."""
        for node in self.nodes:
            if node.op is READ and node.outputs[0].data is None:
                cell = node.attrs["cell"]
                if base.get(cell) is not node.outputs[0]:
                    file, line = node.source
                    raise GraphError(
                        f"{cell.name!r} was read at {file}:{line} and has been overwritten since; "
                        "what was computed from it before the update can no longer be run"
                    )

    def key(self) -> tuple:
        """Structure without names, numbers or contents."""
        cells = {cell: i for i, cell in enumerate(self.cells)}
        bound = {value: i for i, value in enumerate(self.bound)}
        number = self.number
        rows: list[tuple] = []
        for node in self.nodes:
            attrs: tuple = (
                (cells[node.attrs["cell"]], node.attrs["cell"].type, node.attrs["cell"].kind)
                if "cell" in node.attrs
                else tuple(node.attrs.items())
            )
            reads = tuple((bound.get(v, -1), number.get(v.node, -1), v.index) for v in node.inputs)
            known = tuple(v.data is not None for v in node.outputs)
            rows.append((node.op.name, attrs, reads, known, node.part, node.constant))
        asked = tuple((number[v.node], v.index) for v in self.targets)
        heads = tuple((number.get(v.node, -1), v.index) for v in self.heads)
        inputs = tuple(v.type for v in self.bound)
        return (
            runtime.current().signature(),
            tuple(rows),
            inputs,
            asked,
            heads,
            tuple(number[n] for n in self.effects),
        )

    def read_later(self) -> tuple[tuple[int, int], ...]:
        """Values made here that a backward pass from the heads would read."""
        heads = [v for v in self.heads if v.node in self.number]
        if not heads:
            return ()
        leaves = [
            n.outputs[0]
            for n in ancestors(heads)
            if n.op in (INPUT, READ) and _requires_grad(n.outputs[0])
        ]
        with marked(part="backward", constant=False):
            seeds = [full(v.shape, 1.0, v.dtype) for v in heads]
            grads = [g for g in vjp(heads, seeds, leaves) if g is not None]
        asked = set(self.targets)
        overwritten = {n.attrs["cell"] for n in self.effects if n.op is ASSIGN}
        found: dict[tuple[int, int], None] = {}
        for node in ancestors(grads):
            if node.part != "backward":
                continue
            for value in node.inputs:
                made_by = value.node
                kept = made_by.op is INPUT or (
                    made_by.op is READ and made_by.attrs["cell"] not in overwritten
                )
                if (
                    not kept
                    and value not in asked
                    and made_by in self.number
                    and value.data is None
                ):
                    found[self.number[made_by], value.index] = None
        return tuple(found)


def array_of(value: Value) -> np.ndarray:
    """The array of a value that has been computed."""
    assert value.data is not None
    return value.data


def _requires_grad(value: Value) -> bool:
    tensor = value.handle() if value.handle is not None else None
    return tensor is not None and tensor.requires_grad


def _nodes(targets: Iterable[Value], effects: Iterable[Node]) -> list[Node]:
    """Nodes of a group: back to what is known, and beyond it only where a gradient is asked for."""
    everything = ancestors(targets, effects)
    known = [v for n in everything for v in n.outputs if v.data is not None and n.op is not INPUT]
    needed = ancestors(targets, effects, until=known) if known else everything
    return everything if any(node.op is GRADIENT for node in needed) else needed


def _bound_values(nodes: Sequence[Node]) -> tuple[Value, ...]:
    """The values that enter with an array, in the order in which they are met."""
    found: dict[Value, None] = {}
    inside = set(nodes)
    for node in nodes:
        for value in node.inputs:
            if value.node not in inside:
                found[value] = None
        for value in node.outputs:
            if value.data is not None:
                found[value] = None
    return tuple(found)


def build(
    outputs: Sequence[Value],
    effects: Iterable[Node],
    arguments: Iterable[Value] = (),
    blank: bool = False,
) -> tuple[Graph, tuple[Value, ...]]:
    """Copy pending nodes into a graph of their own.

    Parameters
    ----------
    outputs, effects
        What the graph is for.
    arguments : iterable of Value
        Inputs whose arrays come with each run; bound even if nothing reads them.
    blank : bool
        Whether cells are replaced by mere descriptions, so that a cached plan holds no model alive.

    Returns
    -------
    graph : Graph
    bound : tuple of Value
        The values that the graph's inputs stand for.
    """
    effects = tuple(effects)
    nodes = _nodes(outputs, effects)
    bound = tuple(dict.fromkeys((*arguments, *_bound_values(nodes))))
    inputs = {value: new_input(value.type) for value in bound}
    new = dict(inputs)
    cells: dict[Cell, Cell] = {}
    kept: dict[Node, Node] = {}
    for node in nodes:
        if node.op is INPUT:
            continue
        attrs = {}
        if "cell" in node.attrs:
            cell = node.attrs["cell"]
            attrs["cell"] = cells.setdefault(cell, cell.blank() if blank else cell)
        kept[node] = copy = node.again(tuple(new[v] for v in node.inputs), **attrs)
        for old, made in zip(node.outputs, copy.outputs, strict=True):
            new[old] = emit(KNOWN, made, inputs[old]).outputs[0] if old in inputs else made
    graph = Graph([new[v] for v in outputs], [kept[n] for n in effects], inputs.values())
    return graph, bound
