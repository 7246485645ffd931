"""argmax_f32 and topk_f32 against NumPy: exact."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import call
from kernels.samples import SETTINGS, normal, same_for_any_threads, same_numbers

# Few different values, so that there are ties.
KINDS = [[-1, 0, 1, 2], [np.nan, 1, np.inf, -np.inf, 3], [-np.inf], [np.nan]]


def drawn(kind, shape):
    return np.random.default_rng(0).choice(np.float32(KINDS[kind]), shape)


def argmax(x):
    """Position of the maximum along the middle of three axes."""
    outer, count, inner = x.shape
    fields = {"outer": outer, "count": count, "inner": inner}
    outputs = [((outer, inner), np.int32)]
    status, (y,) = call("argmax_f32", "tge_axis_params", fields, outputs, [x])
    assert status == 0
    return y


def topk(x, k):
    """Positions of the k largest in each row."""
    fields = {"outer": len(x), "count": x.shape[1], "inner": 1, "k": k}
    outputs = [((len(x), k), np.int32)]
    status, (y,) = call("topk_f32", "tge_axis_params", fields, outputs, [x])
    assert status == 0
    return y


def ranked(x, k):
    """Largest first, NaN above all, the lower index first among equals."""
    rows = [np.lexsort((np.arange(len(row)), -row, ~np.isnan(row)))[:k] for row in x]
    return np.array(rows, np.int32).reshape(len(x), k)


@SETTINGS
@hypothesis.given(
    outer=st.integers(0, 4),
    count=st.integers(1, 40),
    inner=st.sampled_from([0, 1, 1, 3, 40]),
    kind=st.integers(0, 3),
)
def test_argmax(isa, outer, count, inner, kind):
    x = drawn(kind, (outer, count, inner))
    assert same_numbers(argmax(x), x.argmax(1).astype(np.int32))


@SETTINGS
@hypothesis.given(
    outer=st.integers(0, 4), count=st.integers(0, 40), kind=st.integers(0, 3), data=st.data()
)
def test_topk(isa, outer, count, kind, data):
    x, k = drawn(kind, (outer, count)), data.draw(st.integers(0, count))
    assert same_numbers(topk(x, k), ranked(x, k))


@pytest.mark.parametrize("shape", [(3, 50_000, 1), (9000, 10, 1), (5, 30, 900)], ids=str)
def test_ranking_of_large_arrays(isa, threads, shape):
    x = normal(shape)
    assert same_numbers(argmax(x), x.argmax(1).astype(np.int32))
    assert same_for_any_threads(threads, lambda: [argmax(x)])
    rows = np.ascontiguousarray(x[:, :, 0])
    assert same_numbers(topk(rows, 9), ranked(rows, 9))
    assert same_for_any_threads(threads, lambda: [topk(rows, 9)])
