"""Run a plan with the C kernels: one arena, one C call, the interpreter lock released."""

from __future__ import annotations

import mmap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np

from .. import timing
from ..graph import Value
from ..op import Kernel
from ..plan import Call, Operand, Plan
from . import _ffi

__all__ = [
    "Executable",
    "Stopped",
    "arena_high_water",
    "clock",
    "name",
    "paint_arena",
    "release_arena",
    "signature",
    "stop_asked",
    "times",
    "workspace",
]

name = "native"

#: One arena serves all plans of the process, one at a time.
_lock = threading.RLock()
_arena = np.empty(0, np.uint8)
_mappings = 0  # how often it was made anew

_PAINT = 0xA5
#: Bytes of an input or output that is let go after a run; to bind a smaller one again costs more.
_LARGE = 1 << 16

#: Asked after an interrupt, when its handler has returned: whether the run shall end.
stop_asked: list[Callable[[], bool]] = []


class Stopped(KeyboardInterrupt):
    """A run has ended early, and has changed nothing."""


def signature() -> tuple:
    """What a plan depends on besides its graph: workspaces follow threads and instruction set."""
    return (name, _ffi.threads(), _ffi.isa())


def clock() -> Callable[[], float]:
    """What times kernels: of one thread its processor time, so that others' work matters little."""
    return time.thread_time if _ffi.threads() == 1 else time.perf_counter


def times() -> dict[str, float]:
    """Seconds of kernel calls, where they were measured with this instruction set and threads."""
    return timing.load(_ffi.isa(), _ffi.threads())


def workspace(kernel: Kernel) -> int:
    """Bytes that a kernel wants besides its operands."""
    return _ffi.workspace(kernel.name, _ffi.params(kernel.struct, kernel.params), _ffi.threads())


def _reserve(nbytes: int) -> np.ndarray:
    """The arena, grown to at least this many bytes.

    An anonymous private mapping, in huge pages where the system has them: looking up addresses
    takes some percent of a large step otherwise. The process grows by the mapping and no more.
    """
    global _arena, _mappings
    if _arena.nbytes < nbytes:
        _arena = np.empty(0, np.uint8)  # the old mapping goes before the new one comes
        pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without them
                pages.madvise(mmap.MADV_HUGEPAGE)
        _arena = np.frombuffer(pages, np.uint8)
        _mappings += 1
    return _arena


def release_arena() -> None:
    """Give the arena's memory back to the system; the next run takes it again."""
    global _arena
    with _lock:
        _arena = np.empty(0, np.uint8)


def paint_arena(nbytes: int) -> None:
    """Fill a fresh arena with a pattern, to see afterwards how far a run wrote."""
    global _arena
    with _lock:
        _arena = np.empty(0, np.uint8)
        _reserve(nbytes)[:] = _PAINT


def arena_high_water() -> int:
    """Bytes of the painted arena up to the last one that was written."""
    touched = np.flatnonzero(_arena != _PAINT)
    return int(touched[-1]) + 1 if touched.size else 0


def _written(call: Call) -> tuple[Operand, ...]:
    """The operands that a call writes."""
    if call.kernel is None:
        return ()
    return call.operands[: 1 if call.moves is not None else len(call.node.outputs)]


class Executable:
    """A plan as C arrays.

    Parameters
    ----------
    plan : Plan
        Made with this module's `workspace`.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        params = bytearray()
        operands: list[tuple[int, int, int]] = []
        calls: list[tuple[int, int, int, int]] = []
        for call in plan.calls:
            if call.kernel is None:
                index = -1
                packed = _ffi.params("tge_loop_params", {"count": call.repeat, "body": call.body})
            else:
                index = _ffi.kernel(call.kernel.name)
                packed = _ffi.params(call.kernel.struct, call.kernel.params)
            calls.append((index, len(call.operands), len(operands), len(params)))
            params += packed + bytes(-len(packed) % 8)
            for i, operand in enumerate(call.operands):
                # A loop's pairs: the window's slot with its step, then the address that it slides
                # over.
                offset = operand.step if call.kernel is None and i % 2 == 0 else operand.offset
                operands.append((operand.slot, 0, offset))
        self._program = _ffi.Program(calls, operands, bytes(params))
        storage = plan.storage
        windows = sum(len(w) for w in storage.windows.values())
        self._bases = _ffi.Bases(len(storage.slots) + windows)
        self._first_input = 1 + len(plan.graph.cells)
        self._first_output = self._first_input + len(plan.graph.inputs)
        # Bound for one run: held any longer, two batches would be in memory where one is planned.
        bound = enumerate((*plan.graph.inputs, *plan.graph.outputs), self._first_input)
        self._lent = [slot for slot, value in bound if value.nbytes >= _LARGE]
        self._output_types = [v.type for v in plan.graph.outputs]
        self._bound: Sequence[np.ndarray] = ()
        self._mapping = 0
        cells = range(1, self._first_input)
        writes = [any(o.slot in cells for o in _written(c)) for c in plan.calls]
        changing = (first for first, last in self._ranges() if any(writes[first:last]))
        self._first_change = next(changing, len(plan.calls))

    def run(self, cells: Sequence[np.ndarray], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the whole plan; gives the outputs in buffers of their own.

        Parameters
        ----------
        cells, inputs : sequence of ndarray
            In the order of the plan's graph; cells are written in place.
        """
        with _lock:
            try:
                outputs = self._bind(cells, inputs)
                self._run(0, len(self.plan.calls))
            finally:
                for slot in self._lent:
                    self._bases.release(slot)
        return outputs

    def steps(self, cells: Sequence[np.ndarray], inputs: Sequence[np.ndarray]) -> Iterator[Call]:
        """Run one call at a time, a loop as one; gives each call after it ran.

        Between calls `array` shows any live value; at the end `outputs` holds the results.
        """
        with _lock:
            self.outputs = self._bind(cells, inputs)
            for first, last in self._ranges():
                self._run(first, last)
                yield self.plan.calls[first]

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """First and last call of what is run as one: a call, or a loop with its body."""
        first = 0
        while first < len(self.plan.calls):
            last = first + 1 + self.plan.calls[first].body
            yield first, last
            first = last

    def timed(
        self, cells: Sequence[np.ndarray], inputs: Sequence[np.ndarray], runs: int
    ) -> list[tuple[Call, list[float]]]:
        """Run the plan one call at a time, a loop as one; gives each call with its seconds.

        A first run is not counted: it touches memory that later ones find there, outputs too. What
        it costs to look at the clock is taken off, and no time is less than a nanosecond.
        """
        ranges = list(self._ranges())
        seconds: list[list[float]] = [[] for _ in ranges]
        now = clock()

        def taken_by(first: int, last: int) -> float:
            start = now()
            status, where = self._program.run(self._bases, first, last)
            taken = now() - start
            self._accept(status, where)
            return taken

        with _lock:
            self._bind(cells, inputs)
            nothing = min(taken_by(0, 0) for _ in range(100))
            for _ in range(runs + 1):
                for (first, last), times in zip(ranges, seconds, strict=True):
                    times.append(max(taken_by(first, last) - nothing, 1e-9))
        calls = (self.plan.calls[first] for first, _ in ranges)
        return [(call, times[1:]) for call, times in zip(calls, seconds, strict=True)]

    def array(self, value: Value) -> np.ndarray:
        """A copy of a live value, during `steps`."""
        operand = Operand(self.plan.storage.places[value])
        raw = self._bases.bytes(operand.slot, operand.offset + value.nbytes)[operand.offset :]
        return raw.copy().view(value.dtype.numpy).reshape(value.shape)

    def _bind(self, cells: Sequence[np.ndarray], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        arena = _reserve(max(self.plan.arena_bytes, 1))
        if self._mapping != _mappings:
            self._bases.set(0, arena)
            self._bases.release(0)  # this module keeps it, so that it alone lets it go
            self._mapping = _mappings
        if self._bound is not cells:
            for i, array in enumerate(cells):
                self._bases.set(1 + i, array, writable=True)
            self._bound = cells
        for i, array in enumerate(inputs, self._first_input):
            self._bases.set(i, array)
        outputs = [np.empty(t.shape, t.dtype.numpy) for t in self._output_types]
        for i, array in enumerate(outputs, self._first_output):
            self._bases.set(i, array, writable=True)
        return outputs

    def _run(self, first: int, last: int) -> None:
        """Run a range of calls; an interrupt takes effect before any state changes, or after."""
        unchanged = min(max(self._first_change, first), last)
        status, where = self._program.run(self._bases, first, unchanged, stoppable=True)
        while status == -1:
            # The interpreter has acted on the signal here. A handler that returns means to go on,
            # unless somebody wants to stop: nothing has changed yet, so the range starts again.
            if any(asked() for asked in stop_asked):
                raise Stopped
            status, where = self._program.run(self._bases, first, unchanged, stoppable=True)
        if status == 0:
            status, where = self._program.run(self._bases, unchanged, last)
        self._accept(status, where)

    def _accept(self, status: int, where: int) -> None:
        """Raise what a call means that refused an element."""
        if status:
            node = self.plan.calls[where].node
            raise node.op.refuse(node, [self.array(v) for v in node.inputs], status - 1)
