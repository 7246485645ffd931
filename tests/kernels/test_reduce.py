"""sum_f32, sum_i32 and max_f32 against NumPy in float64."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import call
from kernels.samples import (
    SETTINGS,
    UNIT,
    extent,
    layouts,
    normal,
    same_for_any_threads,
    same_numbers,
    shapes,
    view,
)


def reduce(kernel, x, shape, strides, axes):
    """Reduce flat `x`, seen through strides, over some axes."""
    kept = [a for a in range(len(shape)) if a not in axes]
    fields = {
        "kept": len(kept),
        "reduced": len(axes),
        "kept_shape": [shape[a] for a in kept],
        "kept_strides": [strides[a] for a in kept],
        "reduced_shape": [shape[a] for a in axes],
        "reduced_strides": [strides[a] for a in axes],
    }
    outputs = [(tuple(shape[a] for a in kept), x.dtype)]
    status, (y,) = call(kernel, "tge_reduce_params", fields, outputs, [x])
    assert status == 0
    return y


def check_sum(x, shape, strides, axes):
    """Compare with the bound of csrc/kernels/row.h: 37 roundings in a block, one of the result.

    The columns' path adds 32 floats in a row, which is fewer; the additions in double precision
    weigh 2**-29 as much and are covered by one more.
    """
    y = reduce("sum_f32", x, shape, strides, axes)
    terms = view(x, shape, strides).astype(np.float64)
    bound = 39 * UNIT * np.abs(terms).sum(axes)
    assert (np.abs(y - terms.sum(axes)) <= bound).all()


@SETTINGS
@hypothesis.given(data=st.data())
def test_reduce_through_any_strides(isa, data):
    shape = data.draw(shapes)
    strides = data.draw(layouts(shape))
    axes = tuple(a for a in range(len(shape)) if data.draw(st.booleans()))
    x = normal(extent(shape, strides))
    check_sum(x, shape, strides, axes)

    y = reduce("max_f32", x, shape, strides, axes)
    assert same_numbers(y, np.asarray(view(x, shape, strides).max(axes, initial=-np.inf)))

    integers = np.random.default_rng(0).integers(-(2**31), 2**31, x.size, np.int32)
    y = reduce("sum_i32", integers, shape, strides, axes)
    expected = view(integers, shape, strides).astype(np.int64).sum(axes).astype(np.int32)
    assert same_numbers(y, np.asarray(expected))


CASES = {  # shape, strides, reduced axes
    "everything": ((100_003,), (1,), (0,)),
    "long rows": ((3, 40_000), (40_000, 1), (1,)),
    "short rows": ((4000, 17), (17, 1), (1,)),
    "few columns": ((30_000, 5), (5, 1), (0,)),
    "many columns": ((70, 1000), (1000, 1), (0,)),
    "all but channels": ((20, 30, 200), (6000, 200, 1), (0, 2)),
    "channels": ((20, 30, 200), (6000, 200, 1), (1,)),
    "neither contiguous": ((300, 200), (600, 3), (0,)),
    "rows with gaps": ((10, 9000), (18_000, 2), (1,)),
}


@pytest.mark.parametrize("case", CASES)
def test_reduce_large_arrays(isa, threads, case):
    shape, strides, axes = CASES[case]
    x = normal(extent(shape, strides)) + np.float32(0.5)
    integers = np.random.default_rng(0).integers(-(2**31), 2**31, x.size, np.int32)
    assert same_for_any_threads(threads, lambda: [reduce("sum_f32", x, shape, strides, axes)])
    assert same_for_any_threads(threads, lambda: [reduce("max_f32", x, shape, strides, axes)])
    check_sum(x, shape, strides, axes)
    y = reduce("max_f32", x, shape, strides, axes)
    assert same_numbers(y, np.asarray(view(x, shape, strides).max(axes)))
    y = reduce("sum_i32", integers, shape, strides, axes)
    expected = view(integers, shape, strides).astype(np.int64).sum(axes).astype(np.int32)
    assert same_numbers(y, np.asarray(expected))


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_reduce_carries_what_is_not_finite(isa, axes, value):
    x = normal((50, 70))
    x[7, 64] = value
    for kernel, function in (("sum_f32", np.sum), ("max_f32", np.max)):
        y = reduce(kernel, x.ravel(), x.shape, (70, 1), axes)
        expected = np.asarray(function(x, axes))
        assert (np.isnan(y) == np.isnan(expected)).all()
        assert (np.isinf(y) == np.isinf(expected)).all()


def test_sum_of_a_long_array_does_not_drift(isa):
    x = np.full(3_000_000, 0.1, np.float32)
    exact = 3_000_000 * float(np.float32(0.1))
    (y,) = reduce("sum_f32", x, (1, x.size), (x.size, 1), (1,))
    assert abs(y - exact) <= 39 * UNIT * exact


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_reduce_of_nothing(isa, shape):
    x = np.zeros(0, np.float32)
    for axes in [(0,), tuple(range(len(shape)))]:
        kept = tuple(n for a, n in enumerate(shape) if a not in axes)
        strides = (1,) * len(shape)
        assert same_numbers(reduce("sum_f32", x, shape, strides, axes), np.zeros(kept, np.float32))
        lowest = np.full(kept, -np.inf, np.float32)
        assert same_numbers(reduce("max_f32", x, shape, strides, axes), lowest)
