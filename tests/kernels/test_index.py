"""take and scatter_add_f32 against NumPy."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import call
from kernels.samples import SETTINGS, normal, same_for_any_threads, same_numbers


def fields(outer, length, indices, inner, itemsize=4):
    names = ("outer", "length", "indices", "inner", "itemsize")
    return dict(zip(names, (outer, length, len(indices), inner, itemsize), strict=True))


def take(x, indices):
    """Status and x[outer][length][inner] at indices of its middle axis."""
    outer, length, inner = x.shape
    params = fields(outer, length, indices, inner, x.itemsize)
    outputs = [((outer, len(indices), inner), x.dtype)]
    status, (y,) = call("take", "tge_take_params", params, outputs, [x, indices])
    return status, y


def scatter_add(updates, indices, length):
    """Status and the sums of the updates at each index."""
    outer, _, inner = updates.shape
    params = fields(outer, length, indices, inner)
    outputs = [((outer, length, inner), np.float32)]
    status, (y,) = call("scatter_add_f32", "tge_take_params", params, outputs, [updates, indices])
    return status, y


def added_in_order(updates, indices, length):
    y = np.zeros((len(updates), length, updates.shape[2]), np.float32)
    for i, index in enumerate(indices):
        y[:, index] += updates[:, i]
    return y


def drawn(length, count):
    """Indices of both signs, with repetitions."""
    return np.random.default_rng(0).integers(-length, length, count, np.int32)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@SETTINGS
@hypothesis.given(
    outer=st.integers(0, 3),
    length=st.integers(1, 9),
    count=st.integers(0, 20),
    inner=st.integers(0, 20),
)
def test_take(isa, dtype, outer, length, count, inner):
    x = (np.arange(outer * length * inner) % 251).astype(dtype).reshape(outer, length, inner)
    indices = drawn(length, count)
    status, y = take(x, indices)
    assert status == 0
    assert same_numbers(y, x[:, indices])


@SETTINGS
@hypothesis.given(
    outer=st.integers(0, 3),
    length=st.integers(1, 9),
    count=st.integers(0, 20),
    inner=st.integers(0, 20),
)
def test_scatter_add(isa, outer, length, count, inner):
    updates, indices = normal((outer, count, inner)), drawn(length, count)
    status, y = scatter_add(updates, indices, length)
    assert status == 0
    assert same_numbers(y, added_in_order(updates, indices, length))


@pytest.mark.parametrize("shape", [(1, 1000, 100, 1), (1, 300, 900, 64), (4, 50, 60, 700)], ids=str)
def test_indexing_of_large_arrays(isa, threads, shape):
    outer, length, count, inner = shape
    indices = drawn(length, count * 20)
    x = normal((outer, length, inner))
    assert same_numbers(take(x, indices)[1], x[:, indices])
    assert same_for_any_threads(threads, lambda: [take(x, indices)[1]])
    updates = normal((outer, count * 20, inner))
    assert same_numbers(
        scatter_add(updates, indices, length)[1], added_in_order(updates, indices, length)
    )
    assert same_for_any_threads(threads, lambda: [scatter_add(updates, indices, length)[1]])


@pytest.mark.parametrize("bad", [5, -6, 2**31 - 1, -(2**31)])
def test_an_index_out_of_range_is_refused_before_anything_is_written(isa, bad):
    indices = np.int32([4, -5, bad, 0, bad])
    for status, y in (take(normal((2, 5, 3)), indices), scatter_add(normal((2, 5, 3)), indices, 5)):
        assert status == 3
        assert np.isnan(y).all()


def test_nothing_can_be_taken_from_nothing(isa):
    assert take(np.zeros((2, 0, 3), np.float32), np.int32([0]))[0] == 1
    assert take(np.zeros((2, 0, 3), np.float32), np.int32([]))[0] == 0
