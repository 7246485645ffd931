"""The graph of a training step: values, nodes, cells.

A value is made by one node and may be read by many. Nodes are numbered as they are made, and that
number is the order of a graph: a graph is the ancestors of its outputs and effects, sorted. To
move a node is to make it again. Nodes compare by identity: two equal ones are never merged,
because merging would quietly undo recomputation.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from types import MappingProxyType
from typing import Any

import numpy as np

from .dtypes import DType
from .errors import DTypeError, GraphError, ShapeError
from .op import Op, TensorType

__all__ = ["Cell", "Graph", "Node", "Value", "ancestors", "emit", "marked", "structural", "verify"]

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_numbers = itertools.count()
_NOWHERE = ("", 0)


class Marks(threading.local):
    """What new nodes are marked with, in each thread.

    Their part of the step, module path, line of user code (None: look for it), and whether
    gradients stop at them; and the policy that marks values of a graph.
    """

    def __init__(self) -> None:
        self.part = "forward"
        self.scope: tuple[str, ...] = ()
        self.source: tuple[str, int] | None = None
        self.constant = False
        self.policy = ""


marks = Marks()


@contextmanager
def marked(**changes: Any) -> Iterator[None]:
    """Mark what is made inside otherwise.

    Nodes by their ``part``, ``scope``, ``source`` or ``constant``; values by their ``policy``.
    """
    before = {name: getattr(marks, name) for name in changes}
    for name, mark in changes.items():
        setattr(marks, name, mark)
    try:
        yield
    finally:
        for name, mark in before.items():
            setattr(marks, name, mark)


def user_line() -> tuple[str, int]:
    """File and line of the innermost caller outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


class Cell:
    """A named piece of state: a parameter, a statistic, a moment, a generator.

    Parameters
    ----------
    name : str
        For the ledger and for snapshots.
    shape : tuple of int
    dtype : DType
    kind : str
        ``parameter``, ``buffer``, ``optimizer`` or ``index``: its row in the ledger; ``retired``
        when something else has taken its place.
    initial : callable, optional
        Makes the first array. It runs when the cell is first used, so that a policy may still
        change what the cell is.

    Attributes
    ----------
    check : callable or None
        Says what is wrong with contents from outside, of this and other cells, or None.
    """

    __slots__ = ("name", "type", "kind", "check", "_initial", "_array", "version", "__weakref__")

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: DType,
        kind: str,
        initial: Callable[[], np.ndarray] | None = None,
    ) -> None:
        self.name = name
        self.type = TensorType(tuple(shape), dtype)
        self.kind = kind
        self.check: Callable[[Mapping[Cell, np.ndarray]], str | None] | None = None
        self._initial = initial
        self._array: np.ndarray | None = None
        self.version = 0

    @property
    def used(self) -> bool:
        """Whether the contents have been made, or given."""
        return self._array is not None

    @property
    def array(self) -> np.ndarray:
        """The present contents; runs write them in place."""
        if self._array is None:
            if self._initial is None:
                raise GraphError(f"cell {self.name!r} of a plan has no storage of its own")
            self.fill(self._initial())
        assert self._array is not None
        return self._array

    def fill(self, contents: np.ndarray) -> None:
        """Replace the contents; first ones that nobody has seen are not even made."""
        if self._array is None:
            self._array, self._initial = aligned(self.type), None
        self._array[...] = contents

    def __deepcopy__(self, memo: dict[int, Any]) -> Cell:
        # The contents again aligned, and made on first use if these are not made yet.
        twin = Cell(self.name, self.type.shape, self.type.dtype, self.kind, self._initial)
        if self._array is not None:
            twin._array = aligned(self.type)
            twin._array[...] = self._array
        memo[id(self)] = twin  # what checks it may lead back here
        twin.check = deepcopy(self.check, memo)
        return twin

    def blank(self) -> Cell:
        """The same description without the contents, for a plan that outlives a model."""
        return Cell(self.name, self.type.shape, self.type.dtype, self.kind)

    def __repr__(self) -> str:
        return f"Cell({self.name}: {self.type.dtype}{list(self.type.shape)}, {self.kind})"


def aligned(tensor_type: TensorType, boundary: int = 64) -> np.ndarray:
    """Make an uninitialised array that starts on a boundary, as the kernels expect."""
    raw = np.empty(tensor_type.nbytes + boundary, np.uint8)
    start = -raw.ctypes.data % boundary
    return (
        raw[start : start + tensor_type.nbytes]
        .view(tensor_type.dtype.numpy)
        .reshape(tensor_type.shape)
    )


class Value:
    """One output of a node.

    ``data`` is its array once it has been computed outside a plan; ``handle`` is a weak reference
    to the tensor that a user holds on it.
    """

    __slots__ = ("node", "index", "type", "data", "handle", "__weakref__")

    def __init__(self, node: Node, index: int, tensor_type: TensorType) -> None:
        self.node = node
        self.index = index
        self.type = tensor_type
        self.data: np.ndarray | None = None
        self.handle: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.type.dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.type.size

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.type.nbytes

    @property
    def name(self) -> str:
        """Readable name: number, op, and which output."""
        suffix = f".{self.index}" if len(self.node.outputs) > 1 else ""
        return f"%{self.node.number}:{self.node.op.name}{suffix}"

    def __repr__(self) -> str:
        return f"<{self.name} {self.dtype}{list(self.shape)}>"


class Node:
    """One application of an op. Its inputs never change; its number is its place in the order.

    ``origin`` is the number of the node that it was first made as: what is made again later in the
    same graph has the same one.
    """

    __slots__ = (
        "number",
        "origin",
        "op",
        "inputs",
        "attrs",
        "outputs",
        "part",
        "scope",
        "source",
        "constant",
    )

    def __init__(
        self, op: Op, inputs: tuple[Value, ...], attrs: dict[str, Any], types: Iterable[TensorType]
    ) -> None:
        self.number = self.origin = next(_numbers)
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.outputs = tuple(Value(self, i, t) for i, t in enumerate(types))
        self.part = marks.part
        self.scope = marks.scope
        # An input is not an operation: no message needs to say where it was made.
        self.source = _NOWHERE if op is INPUT else marks.source or user_line()
        self.constant = marks.constant

    def again(self, inputs: tuple[Value, ...], **attrs: Any) -> Node:
        """Make the same node once more, later in the order, on other inputs."""
        copy = Node.__new__(Node)
        copy.number, copy.origin = next(_numbers), self.origin
        copy.op = self.op
        copy.inputs = inputs
        copy.attrs = {**self.attrs, **attrs} if attrs else self.attrs
        copy.outputs = tuple(Value(copy, v.index, v.type) for v in self.outputs)
        copy.part, copy.scope, copy.source = self.part, self.scope, self.source
        copy.constant = self.constant
        return copy

    def overwrites(self, index: int) -> tuple[int, ...]:
        """Inputs in whose memory an output may be made, if they die here."""
        made = self.outputs[index].type
        return tuple(
            i
            for output, i in self.op.inplace
            if output == index and i < len(self.inputs)
            if self.inputs[i].shape == made.shape and self.inputs[i].nbytes == made.nbytes
        )

    @property
    def body(self) -> Graph | None:
        """The graph that it repeats, if it is a loop."""
        return self.attrs.get("body")

    @property
    def path(self) -> str:
        """Dotted path of the module that made it, empty outside modules."""
        return ".".join(self.scope)

    def __repr__(self) -> str:
        made = ", ".join(f"{v.dtype}{list(v.shape)}" for v in self.outputs)
        read = ", ".join(v.name for v in self.inputs)
        attrs = ", ".join(f"{k}={v}" for k, v in self.attrs.items() if not isinstance(v, Graph))
        given = "; ".join(part for part in (read, attrs) if part)
        text = f"%{self.number} = {self.op.name}({given}) -> {made or '()'}"
        return f"{text}  # {self.part} {self.path}".rstrip()


def emit(op: Op, *inputs: Value, **attrs: Any) -> Node:
    """Make a node after checking shapes; an error names op, shapes, module and user's line."""
    try:
        types = op.infer(*inputs, **attrs)
    except (ShapeError, DTypeError) as error:
        file, line = marks.source or user_line()
        got = ", ".join(f"{v.dtype}{list(v.shape)}" for v in inputs)
        module = f"module {'.'.join(marks.scope)}; " if marks.scope else ""
        raise type(error)(f"{op.name}: {error} (inputs {got}; {module}{file}:{line})") from None
    return Node(op, inputs, attrs, types)


def _refuse_to_run(*_: Any, **__: Any) -> tuple[np.ndarray, ...]:
    raise GraphError("this node has no meaning of its own; the plan binds or expands it")


def structural(name: str, infer: Callable[..., tuple[TensorType, ...]], **facts: Any) -> Op:
    """An op that the plan binds to memory or that a phase expands, and that no kernel runs."""
    return Op(name, infer, _refuse_to_run, flops=lambda node: 0, bytes=lambda node: 0, **facts)


#: An array from outside: an argument of a step, a captured tensor, a number such as a learning
#: rate.
INPUT = structural("input", lambda *, type: (type,), differentiable=False)
#: The present version of a cell.
READ = structural("read", lambda *, cell: (cell.type,), differentiable=False)
#: The next version of a cell; its output is a read of that version.
ASSIGN = structural(
    "assign", lambda value, *, cell: (cell.type,), differentiable=False, effect=True
)
#: Gradients of one value with respect to others, given the cotangent; autodiff expands it.
GRADIENT = structural("gradient", lambda of, cotangent, *wrt: tuple(v.type for v in wrt))
#: A value together with its array from an earlier run; after differentiation only the array is
#: left.
KNOWN = structural(
    "known", lambda history, array: (history.type,), vjp=lambda node, g: (g[0], None)
)


def base_of(value: Value) -> Value:
    """The value whose memory this one shows: itself, unless it is a view."""
    while value.node.op.alias:
        value = value.node.inputs[0]
    return value


def new_input(tensor_type: TensorType, data: np.ndarray | None = None) -> Value:
    """Make an input; with data it is bound to that array, which is read when the graph runs."""
    value = Node(INPUT, (), {"type": tensor_type}, (tensor_type,)).outputs[0]
    value.data = data
    return value


def ancestors(
    values: Iterable[Value], effects: Iterable[Node] = (), until: Iterable[Value] = ()
) -> list[Node]:
    """All nodes that the values and effects need, in order; not beyond the values in `until`."""
    given = set(until)
    stack = [v.node for v in values if v not in given] + list(effects)
    found = set(stack)
    while stack:
        for value in stack.pop().inputs:
            node = value.node
            if node not in found and value not in given:
                found.add(node)
                stack.append(node)
    return sorted(found, key=lambda node: node.number)


class Graph:
    """An ordered list of nodes with its outputs and effects.

    Parameters
    ----------
    outputs : iterable of Value
        Results, in the order in which they leave.
    effects : iterable of Node
        Nodes that must run although nobody reads their outputs (assignments, checks).
    inputs : iterable of Value, optional
        Inputs in the order in which they are bound; those that no node reads stay bound. By
        default, the input nodes in order.

    Attributes
    ----------
    again, kept : frozenset of Value
        Saved values that the last rewrite lets the backward part make again, unless another policy
        wants them kept. Policies only mark them, so that all marks are seen together.
    anew : frozenset of (int, Value)
        Values that are let go of before the node of the backward part with this ``origin``, be they
        kept or copies; who reads one later has it made once more.
    stored : dict of Value to Format
        Saved values that are kept in another format (``policy/formats.py``), unless they are made
        again.
    causes : dict of str to dict of Value to str
        Under ``again``, ``kept`` and ``stored``: the policies that have marked each value so.
    remarks : tuple of str
        What policies have to say about the step; its plan prints it.
    decided : Graph or None
        The graph with all marks, of which the last rewrite made this one.
    company : tuple of Policy
        What a policy has chosen to go with it.
    """

    def __init__(
        self,
        outputs: Iterable[Value],
        effects: Iterable[Node] = (),
        inputs: Iterable[Value] | None = None,
    ) -> None:
        self.again: frozenset[Value] = frozenset()
        self.kept: frozenset[Value] = frozenset()
        self.anew: frozenset[tuple[int, Value]] = frozenset()
        self.stored: dict[Value, Any] = {}
        self.causes: dict[str, dict[Value, str]] = {"again": {}, "kept": {}, "stored": {}}
        self.remarks: tuple[str, ...] = ()
        self.decided: Graph | None = None
        self.company: tuple[Any, ...] = ()
        self.outputs = tuple(outputs)
        self.effects = tuple(sorted(effects, key=lambda node: node.number))
        self.nodes = tuple(ancestors(self.outputs, self.effects))
        found = [n.outputs[0] for n in self.nodes if n.op is INPUT]
        self.inputs = tuple(found if inputs is None else inputs)
        cells = (n.attrs["cell"] for n in self.nodes if n.op is READ or n.op is ASSIGN)
        self.cells: tuple[Cell, ...] = tuple(dict.fromkeys(cells))

    def readers(self) -> dict[Value, list[Node]]:
        """For each value, the nodes that read it, in order."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                found.setdefault(value, []).append(node)
        return found

    def saved(self) -> list[Value]:
        """Values of the forward part that the backward part reads; derived, never declared.

        A view stands for the value that it shows. Cells are state and cross nothing.
        """
        found: dict[Value, None] = {}
        for node in self.nodes:
            if node.part == "backward":
                for value in map(base_of, node.inputs):
                    if value.node.part == "forward" and value.node.op not in (READ, ASSIGN):
                        found[value] = None
        return list(found)

    def rewrite(self, visit: Callable[[Node, tuple[Value, ...]], Iterable[Value] | None]) -> Graph:
        """Make every node again, in order.

        ``visit(node, inputs)`` may give the values that stand for the node's outputs, built from
        the already rewritten inputs; None copies the node. What nobody needs any more is gone.
        """
        return self._made_again(self.nodes, visit)

    def core(self) -> Graph:
        """The graph in which values cross from forward to backward.

        That is the body of the loop over micro-batches, where there is one.
        """
        bodies = (n.body for n in self.nodes)
        return next((b for b in bodies if b is not None and b.has_backward), self)

    def with_core(self, core: Graph) -> Graph:
        """The same step around another core."""
        old = self.core()
        if old is self or old is core:
            return core if old is self else self

        def visit(node: Node, inputs: tuple[Value, ...]) -> Iterable[Value] | None:
            return node.again(inputs, body=core).outputs if node.body is old else None

        return self.rewrite(visit)

    @property
    def has_backward(self) -> bool:
        """Whether any of it belongs to the backward part."""
        return any(node.part == "backward" for node in self.nodes)

    def reordered(self, order: Sequence[Node]) -> Graph:
        """The same nodes in another order."""
        return self._made_again(order, lambda node, inputs: None)

    def _made_again(
        self,
        order: Sequence[Node],
        visit: Callable[[Node, tuple[Value, ...]], Iterable[Value] | None],
    ) -> Graph:
        new: dict[Value, Value] = {}
        effects: list[Node] = []
        kept = set(self.effects)
        for node in order:
            inputs = tuple(new[v] for v in node.inputs)
            outputs = visit(node, inputs)
            if outputs is None:
                copy = node.again(inputs)
                outputs = copy.outputs
                if node in kept:
                    effects.append(copy)
            new.update(zip(node.outputs, outputs, strict=True))
        # An input that nothing reads any more keeps its place in the binding order.
        inputs_now = [new.get(v, v) for v in self.inputs]
        graph = Graph([new[v] for v in self.outputs], effects, inputs_now)
        return graph.marked_like(self, new)

    def marked_like(self, other: Graph, new: Mapping[Value, Value]) -> Graph:
        """Take over the marks of another graph, whose values are now `new`."""
        self.again = frozenset(new[v] for v in other.again)
        self.kept = frozenset(new[v] for v in other.kept)
        self.anew = frozenset((at, new[v]) for at, v in other.anew)
        self.stored = {new[v]: form for v, form in other.stored.items()}
        self.causes = {
            how: {new[v]: cause for v, cause in causes.items() if v in new}
            for how, causes in other.causes.items()
        }
        self.remarks = other.remarks
        self.decided, self.company = other.decided, other.company
        return self

    def marked(
        self,
        again: Iterable[Value] = (),
        keep: Iterable[Value] = (),
        stored: Mapping[Value, Any] = MappingProxyType({}),
        remarks: Iterable[str] = (),
        anew: Iterable[tuple[int, Value]] = (),
    ) -> Graph:
        """The same nodes, with more values to make again, keep or store, and more remarks."""
        graph = Graph(self.outputs, self.effects, self.inputs)
        again, keep, anew = frozenset(again), frozenset(keep), frozenset(anew)
        graph.again = self.again | again
        graph.kept = self.kept | keep
        graph.anew = self.anew | anew
        graph.stored = {**self.stored, **stored}
        for how, values in (
            ("again", again.union(v for _, v in anew)),
            ("kept", keep),
            ("stored", stored),
        ):
            before, by = self.causes[how], marks.policy
            more = {v: f"{before[v]} and {by}" if v in before else by for v in values}
            graph.causes[how] = {**before, **more}
        graph.remarks = (*self.remarks, *remarks)
        graph.decided, graph.company = self.decided, self.company
        return graph

    def between(self, inputs: Iterable[Value], outputs: Iterable[Value]) -> Graph:
        """The same nodes with the same marks, between other inputs and outputs."""
        graph = Graph(outputs, self.effects, inputs)
        return graph.marked_like(self, {v: v for n in self.nodes for v in n.outputs})

    def with_outputs(self, more: Iterable[Value]) -> Graph:
        """The same graph with more outputs behind its own."""
        return self.between(self.inputs, (*self.outputs, *more))

    def without_unread_inputs(self) -> tuple[Graph, tuple[int, ...]]:
        """The same graph with only the inputs that it reads, and their numbers among all."""
        nodes = set(self.nodes)
        read = tuple(i for i, v in enumerate(self.inputs) if v.node in nodes)
        return self.between([self.inputs[i] for i in read], self.outputs), read

    def __str__(self) -> str:
        lines = [repr(node) for node in self.nodes]
        return "\n".join([*lines, f"return {', '.join(v.name for v in self.outputs)}"])


def verify(graph: Graph) -> Graph:
    """Check the rules of a graph, and of its loops' bodies, and give it back.

    Raises
    ------
    GraphError
        A value is read before it is made; an output's type is not what the op's rule gives; a
        version of a cell is read after it was overwritten, or overwritten twice.
    """
    for body in (n.body for n in graph.nodes):
        if body is not None:
            verify(body)
    made: set[Value] = set()
    version_of: dict[Value, tuple[Cell, Value]] = {}  # values that live in a cell
    newest: dict[Cell, Value] = {}
    for node in graph.nodes:
        for value in node.inputs:
            if value not in made:
                raise GraphError(f"{node!r} reads {value.name} before it is made")
            cell_version = version_of.get(value)
            if cell_version and newest[cell_version[0]] is not cell_version[1]:
                raise GraphError(
                    f"{node!r} reads {value.name} "
                    f"after cell {cell_version[0].name!r} was overwritten"
                )
        expected = tuple(node.op.infer(*node.inputs, **node.attrs))
        if expected != tuple(v.type for v in node.outputs):
            raise GraphError(f"{node!r}: the op's rule gives {expected}")
        if node.op is READ or node.op is ASSIGN:
            cell, value = node.attrs["cell"], node.outputs[0]
            if node.op is READ and cell in newest:
                raise GraphError(
                    f"{node!r} reads cell {cell.name!r} after it was read or assigned; "
                    "use that value"
                )
            if node.op is ASSIGN and node.inputs[0].type != cell.type:
                raise GraphError(f"{node!r} assigns {node.inputs[0].type} to {cell!r}")
            newest[cell] = value
            version_of[value] = (cell, value)
        elif node.op.alias and node.inputs[0] in version_of:
            version_of[node.outputs[0]] = version_of[node.inputs[0]]
        made.update(node.outputs)
    for value in graph.outputs:
        if value not in made:
            raise GraphError(f"output {value.name} is never made")
    return graph
