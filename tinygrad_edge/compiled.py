"""Compiled steps: a function recorded once for each signature, planned, and run as one call."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import runtime, trace
from .dtypes import bool_, float32, int32, of_array, uint8
from .errors import GraphError, NonFiniteError
from .generator import rounding_cell
from .graph import ASSIGN, Cell, new_input
from .op import TensorType
from .plan import Call, Plan, make_plan
from .policy import (
    AdaptivePrecision,
    Budget,
    Default,
    Machine,
    Planned,
    Policy,
    Precision,
    rewrite,
)
from .tensor import Tensor, as_array, entering

__all__ = ["CompiledStep", "Event", "compile"]

_AS_THEY_ARE = frozenset(t.numpy for t in (float32, int32, uint8, bool_))

#: Signatures that a step keeps plans for; the least recently used goes first.
KEPT_PLANS = 32


class Event(NamedTuple):
    """One kernel call of a study run.

    ``live`` maps names of live arena values to copies of them, ``live_bytes`` is their sum
    (workspace included), ``frees`` names those that die with this call.
    """

    name: str
    part: str
    live: dict[str, np.ndarray]
    live_bytes: int
    frees: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Recorded:
    """A recorded step: its plan, and how arguments, captured arrays and results map to it."""

    plan: Plan
    executable: Any
    sources: tuple[int | np.ndarray, ...]  # for each input: which argument, or the array itself
    rebuild: Callable[[Sequence[Tensor]], Any]
    assigned: tuple[Cell, ...]
    settings: tuple[trace.Setting, ...]
    measured: tuple[str, ...]  # values of which the last outputs tell what storing would lose

    @functools.cached_property
    def cells(self) -> list[np.ndarray]:
        """The contents of the plan's cells, which are made by the first run and not by a plan."""
        return [c.array for c in self.plan.graph.cells]

    def inputs(self, entered: Sequence[Any]) -> list[np.ndarray]:
        """The arrays that the plan's inputs are bound to."""
        return [entered[s] if isinstance(s, int) else s for s in self.sources]


class CompiledStep:
    """A step function with a plan for each signature of its arguments.

    Arrays, tensors and floats are arguments of the plan; everything else (integers, strings, None)
    is part of the signature: another value is another plan. So is the mode (train, eval) of the
    modules that the step calls, and which of its parameters require gradients.

    Parameters
    ----------
    function : callable
        Takes tensors; gives a tensor, or tuples, lists and dicts of tensors, or None.
    policies : sequence of Policy or None
        None is ``[policy.Default()]``; an empty list keeps every saved value.
    """

    def __init__(
        self, function: Callable[..., Any], policies: Sequence[Policy] | None = None
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.policies: tuple[Policy, ...] = (Default(),) if policies is None else tuple(policies)
        for policy in self.policies:
            if not isinstance(policy, Policy):
                raise GraphError(f"expected policies, got {policy!r}")
        deciding = [p for p in self.policies if isinstance(p, Budget | Planned)]
        if deciding:
            self.policies = tuple(dict.fromkeys((Default(), *self.policies)))
            rivals = [p for p in self.policies[1:] if p.phase == "crossing"] + deciding[1:]
            if rivals:
                what = type(deciding[0]).__name__
                raise GraphError(f"{what} decides how each value crosses: leave out {rivals[0]}")
        adaptive = [p for p in self.policies if isinstance(p, AdaptivePrecision)]
        if len(adaptive) > 1:
            raise GraphError(
                f"one AdaptivePrecision decides for all values: leave out {adaptive[1]}"
            )
        #: What `AdaptivePrecision` has decided; None without it.
        self.precision = Precision(adaptive[0]) if adaptive else None
        self._recorded: OrderedDict[tuple, list[_Recorded]] = OrderedDict()
        self._latest: tuple[tuple, int, _Recorded] | None = None
        self._cells: dict[Cell, None] = {}

    def __call__(self, *args: Any) -> Any:
        """Run the step on arrays or tensors; arrays are borrowed for the call."""
        active = trace.current()
        if not active.lazy:
            return self.function(*args)
        entered = [_enter(a) for a in args]
        recorded = self._record(entered)
        if active.pending:
            active.run()
        results = self._run(recorded, entered)
        for cell in recorded.assigned:
            active.overwritten(cell)
        return recorded.rebuild([Tensor.of_array(a) for a in results])

    def plan(self, *args: Any) -> Plan:
        """The plan for these arguments; nothing runs. Only their shapes and types matter."""
        return self._record([_enter(a) for a in args]).plan

    def cells(self) -> tuple[Cell, ...]:
        """The state that the step reads or writes, in any of its plans so far."""
        return tuple(self._cells)

    def trace(self, *args: Any) -> Iterator[Event]:
        """Run the step one kernel call at a time; gives an event after each."""
        entered = [_enter(a) for a in args]
        recorded = self._record(entered)
        active = trace.current()
        active.run()
        plan, executable = recorded.plan, recorded.executable
        for call in executable.steps(recorded.cells, recorded.inputs(entered)):
            entries = plan.live(call.time)
            arrays = {
                plan.ledger.label(e.value): executable.array(e.value)
                for e in entries
                if e.value is not None
            }
            frees = tuple(e.name for e in plan.ledger.dying(call.time))
            name = f"loop x {call.repeat}" if call.kernel is None else call.kernel.name
            yield Event(name, call.node.part, arrays, sum(e.nbytes for e in entries), frees)
        for cell in recorded.assigned:
            active.overwritten(cell)

    def time(self, *args: Any, runs: int = 1) -> list[tuple[Call, list[float]]]:
        """Run the step so often, and once before, one kernel call at a time.

        Only the native runtime can.

        Returns
        -------
        list of (Call, list of float)
            Each call in order, and the seconds that each run took for it.
        """
        entered = [_enter(a) for a in args]
        recorded = self._record(entered)
        active = trace.current()
        active.run()
        found = recorded.executable.timed(recorded.cells, recorded.inputs(entered), runs)
        for cell in recorded.assigned:
            active.overwritten(cell)
        return found

    def _run(self, recorded: _Recorded, entered: list[Any]) -> list[np.ndarray]:
        """Run a recorded step; with `AdaptivePrecision`, until its values fit their formats."""
        precision = self.precision
        mark = precision.mark() if precision else None
        while True:
            try:
                results = runtime.run_checked(
                    recorded.executable, recorded.cells, recorded.inputs(entered)
                )
            except BaseException as error:  # an interrupt, too, takes back what was decided for it
                if precision is not None and mark is not None:
                    if isinstance(error, NonFiniteError) and precision.retry(error):
                        recorded = self._record(entered)
                        continue
                    precision.restore(mark)
                raise
            if precision is not None:
                own = len(results) - len(recorded.measured)
                precision.done(recorded.measured, results[own:])
            return results

    # ---- recording ----

    @functools.cached_property
    def _rounding(self) -> Cell:
        """The generator of stochastic rounding, the same in all plans."""
        return rounding_cell()

    def _policies_now(self) -> list[Policy]:
        precision = self.precision
        return [
            precision.policy() if precision is not None and p is precision.rules else p
            for p in self.policies
        ]

    def _key(self, entered: list[Any]) -> tuple:
        return (
            runtime.current().signature(),
            None if self.precision is None else self.precision.state,
            *((a.shape, a.dtype) if isinstance(a, np.ndarray) else a for a in entered),
        )

    def _record(self, entered: list[Any]) -> _Recorded:
        key = self._key(entered)
        changes = trace.setting_changes()
        if self._latest is not None and self._latest[:2] == (key, changes):
            return self._latest[2]
        variants = self._recorded.get(key, [])
        recorded = next((r for r in variants if all(s.holds() for s in r.settings)), None)
        if recorded is None:
            recorded = self._make(entered)
            key = self._key(entered)  # the first plan tells which values have a precision
            variants = self._recorded.setdefault(key, [])
            variants.append(recorded)
            del variants[:-KEPT_PLANS]
            if len(self._recorded) > KEPT_PLANS:
                self._recorded.popitem(last=False)
        self._recorded.move_to_end(key)
        self._latest = (key, changes, recorded)
        return recorded

    def _make(self, entered: list[Any]) -> _Recorded:
        for policy in self.policies:
            policy.prepare()
        with trace.recording() as active:
            arguments = [
                Tensor.of_value(new_input(TensorType(a.shape, of_array(a))))
                if isinstance(a, np.ndarray)
                else a
                for a in entered
            ]
            results = self.function(*arguments)
            for finish in active.at_end:
                finish()
            outputs: list[Tensor] = []
            rebuild = _structure(results, outputs)
            numbers = {a.value: i for i, a in enumerate(arguments) if isinstance(a, Tensor)}
            traced, entering_values = trace.build(
                [t.value for t in outputs], active.effects, numbers
            )
        workspace = runtime.current().workspace
        machine = Machine(
            lambda graph: make_plan(graph, workspace),
            runtime.current().times,
            self._rounding,
            retries=self.precision is not None,
        )
        rewritten = rewrite(traced, self._policies_now(), machine)
        graph, read = rewritten.without_unread_inputs()
        plan = make_plan(graph, workspace)
        self._cells.update(dict.fromkeys(graph.cells))
        if self.precision is not None and self.precision.cell is not None:
            # A later plan may round at random, and what resumes the step has not got it yet.
            self._cells.update({self.precision.cell: None, self._rounding: None})
        bound = (entering_values[i] for i in read)
        sources = tuple(numbers[v] if v in numbers else trace.array_of(v) for v in bound)
        assigned = tuple(n.attrs["cell"] for n in graph.effects if n.op is ASSIGN)
        return _Recorded(
            plan,
            runtime.current().Executable(plan),
            sources,
            rebuild,
            assigned,
            tuple(active.settings.values()),
            () if self.precision is None else self.precision.measured,
        )


def compile(  # noqa: A001 - the name that PyTorch's users look for
    function: Callable[..., Any] | None = None, *, policies: Sequence[Policy] | None = None
) -> Any:
    """Record a step once, plan it, and run it as one call.

    Parameters
    ----------
    function : callable
        The step: forward, backward, update.
    policies : sequence of Policy, optional
        Rewrites of its graph; the project's lossless choice by default.

    Returns
    -------
    CompiledStep

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> @te.compile
    ... def double(x):
    ...     return x * 2.0
    >>> double([1.0, 2.0]).numpy()
    array([2., 4.], dtype=float32)
    """
    if function is None:
        return lambda f: CompiledStep(f, policies)
    return CompiledStep(function, policies)


def _enter(argument: Any) -> Any:
    """An argument as an array, borrowed where that is possible; static ones as they are."""
    if (
        type(argument) is np.ndarray
        and argument.dtype in _AS_THEY_ARE
        and argument.flags.c_contiguous
    ):
        return argument
    if isinstance(argument, Tensor):
        return argument.borrow()
    if isinstance(argument, float | list | tuple):
        return entering(argument, copy=False)
    if hasattr(argument, "__array__") or hasattr(argument, "__dlpack__"):
        return entering(as_array(argument), copy=False)
    return argument


def _structure(results: Any, found: list[Tensor]) -> Callable[[Sequence[Tensor]], Any]:
    """Collect the tensors of a result; gives the function that puts others in their places."""
    if isinstance(results, Tensor):
        at = len(found)
        found.append(results)
        return lambda tensors: tensors[at]
    if isinstance(results, dict):
        parts = {k: _structure(v, found) for k, v in results.items()}
        return lambda tensors: {k: part(tensors) for k, part in parts.items()}
    if isinstance(results, list | tuple):
        rebuild = [_structure(v, found) for v in results]
        kind = type(results)
        return lambda tensors: kind(part(tensors) for part in rebuild)
    return lambda tensors: results
