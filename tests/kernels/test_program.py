"""tge_run: calls in order, loops, the stop flag, refusals."""

import numpy as np
import pytest

from tinygrad_edge.runtime import _ffi
from tinygrad_edge.runtime._ffi import library

pytestmark = pytest.mark.skipif(not _ffi.available(), reason="the native module was not built")


class Program:
    """Calls on float32 slots; a slot is an array."""

    def __init__(self, *slots):
        self.slots = slots
        self.calls, self.operands, self.params = [], [], b""

    def add(self, kernel, operands, struct, **fields):
        """Append a call; operands are pairs (slot, byte offset), kernel -1 is a loop."""
        index = kernel if kernel == -1 else _ffi.kernel(kernel)
        self.calls.append((index, len(operands), len(self.operands), len(self.params)))
        self.operands += [(slot, 0, offset) for slot, offset in operands]
        self.params += _ffi.params(struct, fields)
        return self

    def run(self, first=0, last=None, stop=0):
        """Run calls [first, last) and return the status and where it came to be."""
        ffi, lib = _ffi.ffi, library()
        bases = [ffi.NULL if slot is None else _ffi.pointer(slot, True) for slot in self.slots]
        where = ffi.new("int64_t *", -1)
        status = lib.tge_run(
            ffi.new("tge_call[]", self.calls),
            ffi.new("tge_operand[]", self.operands),
            ffi.from_buffer(self.params),
            ffi.new("void *[]", bases),
            first,
            len(self.calls) if last is None else last,
            ffi.new("int32_t *", stop),
            where,
        )
        return status, where[0]


def add_one(program, slot, offset=0):
    """Append a call that adds 1 to the float at a place (slot 0 holds the 1)."""
    return program.add(
        "elementwise_f32",
        [(slot, offset), (slot, offset), (0, 0)],
        "tge_elementwise_params",
        op="TGE_ADD",
        inputs=2,
        ndim=1,
        shape=[1],
        strides=[[1], [1], [1]],
    )


def one():
    return np.ones(1, np.float32)


def test_calls_run_in_order():
    x, y = np.arange(4, dtype=np.float32), np.zeros(4, np.float32)
    program = Program(one(), x, y)
    add_one(program, 1, 8)
    program.add(
        "copy", [(2, 0), (1, 0)], "tge_copy_params",
        itemsize=4, ndim=1, shape=[4], output_strides=[1], input_strides=[1],
    )  # fmt: skip
    add_one(program, 1, 8)
    assert program.run() == (0, 2)
    assert y.tolist() == [0, 1, 3, 3]
    assert x.tolist() == [0, 1, 4, 3]


def test_a_range_of_calls_runs_alone():
    x = np.zeros(3, np.float32)
    program = Program(one(), x)
    for offset in (0, 4, 8):
        add_one(program, 1, offset)
    assert program.run(1, 2) == (0, 1)
    assert x.tolist() == [0, 1, 0]


def test_loops_nest_and_move_their_slots():
    table = np.zeros((3, 4), np.float32)
    program = Program(one(), table, None, None)
    program.add(-1, [(2, 16), (1, 0)], "tge_loop_params", count=3, body=3)  # rows
    program.add(-1, [(3, 8), (2, 4)], "tge_loop_params", count=2, body=1)  # odd columns of one
    add_one(program, 3)
    add_one(program, 2)
    add_one(program, 1)
    assert program.run() == (0, 4)
    assert table.tolist() == [[2, 1, 0, 1], [1, 1, 0, 1], [1, 1, 0, 1]]


def test_a_loop_of_no_iterations_skips_its_body():
    x = np.zeros(1, np.float32)
    program = Program(one(), x, None)
    program.add(-1, [(2, 0), (1, 0)], "tge_loop_params", count=0, body=1)
    add_one(program, 2)
    add_one(program, 1)
    assert program.run() == (0, 2)
    assert x[0] == 1


def test_the_stop_flag_stops_before_the_next_call():
    x = np.zeros(1, np.float32)
    program = Program(one(), x, None)
    program.add(-1, [(2, 0), (1, 0)], "tge_loop_params", count=5, body=1)
    add_one(program, 2)
    assert program.run(stop=1) == (-1, 1)
    assert x[0] == 0


def test_a_refusal_ends_the_program():
    x = np.array([1, 2, np.nan, 4], np.float32)
    program = Program(one(), x)
    add_one(program, 1)
    program.add("check_finite_f32", [(1, 0)], "tge_count_params", count=4)
    add_one(program, 1)
    assert program.run() == (3, 1)
    assert x[0] == 2
