"""compare_f32, compare_i32, logical_bool and where_b32 against NumPy."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import GARBAGE, call
from kernels.samples import (
    SETTINGS,
    SPECIAL,
    extent,
    layouts,
    same_for_any_threads,
    shapes,
    view,
)

COMPARE = {
    "EQUAL": np.equal,
    "NOT_EQUAL": np.not_equal,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
    "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal,
}
LOGICAL = {"AND": np.logical_and, "OR": np.logical_or, "NOT": np.logical_not}

FLOATS = SPECIAL
INTEGERS = np.array([0, 1, -1, 2**31 - 1, -(2**31), 5], np.int32)
BOOLS = np.array([True, False])


def apply(kernel, op, inputs, shape, strides, dtype):
    """Run one of the kernels; strides are the output's, then the inputs'."""
    fields = {
        "op": f"TGE_{op}" if op else 0,
        "inputs": len(inputs),
        "ndim": len(shape),
        "shape": shape,
        "strides": strides,
    }
    outputs = [((extent(shape, strides[0]),), dtype)]
    status, (y,) = call(kernel, "tge_elementwise_params", fields, outputs, inputs)
    assert status == 0
    return y


def check(data, kernel, op, function, values, dtype):
    """Compare through drawn strides, on drawn members of `values`, one array of them an input."""
    shape = data.draw(shapes)
    strides = [data.draw(layouts(shape, broadcast=False))]
    strides += [data.draw(layouts(shape)) for _ in values]
    rng = np.random.default_rng(0)
    inputs = [rng.choice(v, extent(shape, s)) for v, s in zip(values, strides[1:], strict=True)]
    y = apply(kernel, op, inputs, shape, strides, dtype)
    expected = np.full(y.nbytes, GARBAGE, np.uint8).view(dtype)
    views = [view(x, shape, s) for x, s in zip(inputs, strides[1:], strict=True)]
    view(expected, shape, strides[0])[...] = function(*views)
    assert y.tobytes() == expected.tobytes()


@pytest.mark.parametrize("op", COMPARE)
@SETTINGS
@hypothesis.given(data=st.data())
def test_compare_floats(isa, op, data):
    check(data, "compare_f32", op, COMPARE[op], [FLOATS, FLOATS], np.bool_)


@pytest.mark.parametrize("op", COMPARE)
@SETTINGS
@hypothesis.given(data=st.data())
def test_compare_integers(isa, op, data):
    check(data, "compare_i32", op, COMPARE[op], [INTEGERS, INTEGERS], np.bool_)


@pytest.mark.parametrize("op", LOGICAL)
@SETTINGS
@hypothesis.given(data=st.data())
def test_logical(isa, op, data):
    values = [BOOLS] * (1 if op == "NOT" else 2)
    check(data, "logical_bool", op, LOGICAL[op], values, np.bool_)


@pytest.mark.parametrize("values", [FLOATS, INTEGERS], ids=["float32", "int32"])
@SETTINGS
@hypothesis.given(data=st.data())
def test_where(isa, values, data):
    check(data, "where_b32", None, np.where, [BOOLS, values, values], values.dtype)


def test_where_bits_are_the_same_for_any_threads(isa, threads):
    rng = np.random.default_rng(0)
    inputs = [rng.choice(BOOLS, 100_003), rng.choice(FLOATS, 100_003), rng.choice(FLOATS, 1)]
    strides = [(1,), (1,), (1,), (0,)]
    assert same_for_any_threads(
        threads, lambda: [apply("where_b32", None, inputs, (100_003,), strides, np.float32)]
    )
