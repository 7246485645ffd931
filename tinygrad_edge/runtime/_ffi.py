"""The door to the compiled kernels: the only importer of ``tinygrad_edge._native``.

What passes through is checked here, because C believes what it is told: arrays become pointers in
:func:`pointer`, parameters become bytes in :func:`params`, kernels are found by name.

The compiled module may be missing (no C compiler at build time). Then :func:`available` is false
and everything else raises a :class:`~tinygrad_edge.errors.BuildError` that says why.
"""

import functools
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import BuildError

try:
    from tinygrad_edge._native import ffi
    from tinygrad_edge._native import lib as _lib
except ImportError as error:
    ffi = _lib = None
    _missing = str(error)

ISA_VARIABLE = "TINYGRAD_EDGE_ISA"


def available() -> bool:
    """Whether the compiled module is there."""
    return _lib is not None


def why_unavailable() -> str | None:
    """Why the compiled module is not there; None when it is."""
    if available():
        return None
    return f"the native module is missing or does not load ({_missing}); install with a C compiler"


@functools.cache
def library() -> Any:
    """Return the functions of ``csrc/kernels.h``, set up once: instruction set and threads.

    Raises
    ------
    BuildError
        The module is missing, or ``TINYGRAD_EDGE_ISA`` names a set that cannot be used.
    """
    if not available():
        raise BuildError(f"{why_unavailable()}, or use the numpy runtime")
    name = os.environ.get(ISA_VARIABLE)
    if name and _choose(_lib, name) != 0:
        usable = ", ".join(_supported(_lib))
        raise BuildError(
            f"{ISA_VARIABLE}={name} is not an instruction set that this processor and this build "
            f"can use; expected one of {usable}, or nothing for the first of them"
        )
    _lib.tge_threads_set(_usable_processors())
    return _lib


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):  # what taskset or a container leaves us
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# ---- instruction sets and threads ----


def _name(lib: Any, isa: int) -> str:
    return str(ffi.string(lib.tge_isa_name(isa)).decode())


def _supported(lib: Any) -> list[str]:
    sets = range(lib.tge_isa_count())
    return [_name(lib, isa) for isa in sets if lib.tge_isa_supported(isa)]


def _choose(lib: Any, name: str) -> int:
    names = [_name(lib, isa) for isa in range(lib.tge_isa_count())]
    return lib.tge_isa_choose(names.index(name)) if name in names else -1


def isas() -> list[str]:
    """Names of the instruction sets that this processor can use, best first."""
    return _supported(library())


@functools.cache
def isa() -> str:
    """Name of the instruction set in use."""
    return _name(library(), library().tge_isa_current())


def choose_isa(name: str) -> None:
    """Use another instruction set from now on; a BuildError names those there are."""
    if _choose(library(), name) != 0:
        raise BuildError(f"no instruction set {name!r} here; expected one of {', '.join(isas())}")
    isa.cache_clear()


@functools.cache
def threads() -> int:
    """How many threads kernels may use, the caller's included."""
    return int(library().tge_threads_get())


def set_threads(count: int) -> None:
    """Let kernels use `count` threads; results do not depend on it, workspaces do."""
    if count < 1:
        raise ValueError(f"expected at least 1 thread, got {count}")
    library().tge_threads_set(count)
    threads.cache_clear()


# ---- what passes into C ----


def pointer(array: np.ndarray, writable: bool = False) -> Any:
    """Return the address of a contiguous array, which the returned object keeps alive.

    Parameters
    ----------
    array : numpy.ndarray
        C-contiguous, of one of the library's element types, in native byte order.
    writable : bool
        Whether C will write to it.

    Raises
    ------
    DTypeError
        The kernels have no such element type.
    ValueError
        The array is not contiguous, or read-only though it is to be written.
    """
    dtypes.of_array(array)
    if not array.flags.c_contiguous:
        raise ValueError(f"expected a contiguous array, got strides {array.strides}")
    if writable and not array.flags.writeable:
        raise ValueError("expected an array that can be written, got a read-only one")
    return ffi.from_buffer("char[]", array, require_writable=writable)


def params(struct: str, fields: Mapping[str, Any]) -> bytes:
    """Return a parameter struct of ``csrc/kernels.h`` as bytes.

    Parameters
    ----------
    struct : str
        Its name, as ``"tge_matmul_params"``.
    fields : mapping
        Numbers, lists of numbers, or names of enumerators (``"TGE_ADD"``); what is absent is 0.
    """
    values = {name: _numbers(field) for name, field in fields.items()}
    return bytes(ffi.buffer(ffi.new(f"{struct} *", values)))


def _numbers(field: Any) -> Any:
    """A field with the values of the enumerators that it names."""
    if isinstance(field, str):
        return getattr(library(), field)
    return [_numbers(f) for f in field] if isinstance(field, list | tuple) else field


def kernel_names() -> list[str]:
    """Names of all kernels, in the order of the table."""
    lib = library()
    return [ffi.string(lib.tge_kernel_name(i)).decode() for i in range(lib.tge_kernel_count())]


@functools.cache
def kernel(name: str) -> int:
    """Return the index of a kernel in the table.

    Raises
    ------
    BuildError
        The compiled module has no such kernel: it is older than the Python that asks.
    """
    index = library().tge_kernel_find(name.encode())
    if index < 0:
        raise BuildError(f"the native module has no kernel {name!r}; build it again")
    return int(index)


def workspace(name: str, fields: bytes, threads: int) -> int:
    """Bytes of workspace that a kernel wants for these params on at most `threads` threads."""
    return int(library().tge_kernel_workspace(kernel(name), ffi.from_buffer(fields), threads))


def call(name: str, operands: Sequence[Any], fields: bytes) -> int:
    """Call one kernel on pointers (outputs, inputs, workspace) and return its status."""
    pointers = ffi.new("void *[]", list(operands))
    return int(library().tge_kernel_call(kernel(name), pointers, ffi.from_buffer(fields)))


# ---- programs ----


class Bases:
    """The pointers that a program's slots are bound to; keeps their arrays alive."""

    def __init__(self, slots: int) -> None:
        self.pointers = ffi.new("void *[]", max(slots, 1))
        self._arrays: list[np.ndarray | None] = [None] * max(slots, 1)
        self._views: list[Any] = [None] * max(slots, 1)

    def set(self, slot: int, array: np.ndarray, writable: bool = False) -> None:
        """Bind a slot to an array."""
        if self._arrays[slot] is not array:
            self.pointers[slot] = self._views[slot] = pointer(array, writable)
            self._arrays[slot] = array

    def release(self, slot: int) -> None:
        """Let go of the array that a slot is bound to."""
        self._arrays[slot] = self._views[slot] = None

    def bytes(self, slot: int, count: int) -> np.ndarray:
        """Return the first bytes of what a slot is bound to, or what a loop's window shows."""
        if count == 0:
            return np.empty(0, np.uint8)
        return np.frombuffer(ffi.buffer(self.pointers[slot], count), np.uint8)


class Program:
    """Calls in C form.

    Parameters
    ----------
    calls : sequence of (kernel, operands, first operand, offset of params)
    operands : sequence of (slot, 0, offset)
    params : bytes
    """

    def __init__(self, calls: Sequence[tuple], operands: Sequence[tuple], params: bytes) -> None:
        self._lib = library()
        self._calls = ffi.new("tge_call[]", list(calls) or 1)
        self._operands = ffi.new("tge_operand[]", list(operands) or 1)
        self._params = ffi.new("char[]", params or 1)
        self._stop = ffi.new("int32_t *")
        self._where = ffi.new("int64_t *")

    def run(self, bases: Bases, first: int, last: int, stoppable: bool = False) -> tuple[int, int]:
        """Run calls [first, last): a status (0 is well), and the call that it is of.

        A stoppable run ends with status -1 soon after an interrupt, between two calls.
        """
        lib = self._lib
        self._stop[0] = 0
        watch = stoppable and threading.current_thread() is threading.main_thread()
        if watch:
            lib.tge_interrupts_watch(self._stop)
        status = lib.tge_run(
            self._calls,
            self._operands,
            self._params,
            bases.pointers,
            first,
            last,
            self._stop,
            self._where,
        )
        if watch:
            lib.tge_interrupts_ignore()
        return status, self._where[0]
