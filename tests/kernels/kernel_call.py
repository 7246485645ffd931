"""Call one kernel as a plan would, with guard bytes around each operand."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_edge.runtime import _ffi

GUARD = 256  # bytes on each side, a multiple of the 64 that a buffer is aligned to
CANARY = 0xA5
GARBAGE = 0xFF  # what outputs and workspace hold before the call: NaN as floats


class Guarded:
    """An array between two guards, aligned to 64 bytes, or off that by `shift` bytes."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, shift: int = 0) -> None:
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        memory = np.full(nbytes + 2 * GUARD + 64 + shift, CANARY, np.uint8)
        start = GUARD + -memory.ctypes.data % 64 + shift
        self.before, self.after = memory[:start], memory[start + nbytes :]
        self.bytes = memory[start : start + nbytes]
        self.bytes[:] = GARBAGE
        self.array = self.bytes.view(dtype).reshape(shape)

    def is_whole(self) -> bool:
        """Whether nothing was written outside of the array."""
        return bool((self.before == CANARY).all() and (self.after == CANARY).all())


def call(
    name: str,
    struct: str,
    fields: Mapping[str, Any],
    outputs: Sequence[tuple[tuple[int, ...], Any]],
    inputs: Sequence[np.ndarray],
    *,
    in_place: Mapping[int, int] | None = None,
    shift: int = 0,
) -> tuple[int, list[np.ndarray]]:
    """Call kernel `name` and return its status and its outputs.

    Parameters
    ----------
    name, struct, fields
        The kernel, its params struct, and the fields of that.
    outputs : sequence of (shape, dtype)
        They hold garbage before the call.
    inputs : sequence of array
        Copied into guarded memory, an array that is given twice once; the kernel must leave them as
        they are.
    in_place : mapping of int to int, optional
        Outputs (by position) that share the buffer of an input.
    shift : int
        Bytes by which every operand misses the alignment of 64, a multiple of the itemsize.
    """
    in_place = in_place or {}
    params = _ffi.params(struct, fields)

    copies: dict[int, Guarded] = {}
    for array in inputs:
        if id(array) not in copies:
            copies[id(array)] = Guarded(array.shape, array.dtype, shift)
            copies[id(array)].array[...] = array
    given = [copies[id(array)] for array in inputs]
    made = [
        given[in_place[i]] if i in in_place else Guarded(shape, dtype, shift)
        for i, (shape, dtype) in enumerate(outputs)
    ]
    operands = made + given
    nbytes = _ffi.workspace(name, params, _ffi.threads())
    if nbytes:
        operands.append(Guarded((nbytes,), np.uint8))

    status = _ffi.call(name, [_ffi.pointer(o.array, writable=True) for o in operands], params)

    for position, operand in enumerate(operands):
        assert operand.is_whole(), f"{name} wrote outside of operand {position}"
    for position, (guarded, array) in enumerate(zip(given, inputs, strict=True)):
        if guarded not in made:
            same = guarded.bytes.tobytes() == np.ascontiguousarray(array).tobytes()
            assert same, f"{name} changed input {position}"
    return status, [o.array for o in made]
