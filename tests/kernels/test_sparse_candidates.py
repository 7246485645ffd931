"""The largest gradients of zeros against a sorted list of all of them."""

import numpy as np
import pytest
from kernels import reference
from kernels.geometry import geometry, in_layout, strides
from kernels.kernel_call import call
from kernels.test_sparse import SEGMENT, pool, weights
from kernels.test_sparse_weights import operands


def candidates(g, w, count, x, gy, layout="NCHW"):
    _, columns, rows = pool(w)
    conv = g | strides("x", g["c"], g["n"], g["h"] * g["w"], layout)
    conv |= strides("y", g["k"], g["n"], g["p"] * g["q"], layout)
    segments = max(-(-g["c"] * g["r"] * g["s"] // SEGMENT), 1)
    layer = {"conv": conv, "first_row": 1, "segments": segments, "capacity": len(columns)}
    status, (found,) = call(
        "sparse_conv2d_candidates_f32",
        "tge_sparse_candidates_params",
        {"layer": layer, "count": count},
        [((count,), np.int32)],
        [in_layout(x, layout), in_layout(gy, layout), columns, rows],
    )
    assert status == 0
    return found


def small_integers(g):
    """Operands whose sums are exact, in any order, and often equal."""
    return [np.round(each).astype(np.float32) for each in operands(g)]


def expected(g, w, count, x, gy):
    score = abs(reference.conv2d_backward_weights(x, gy, g)).reshape(-1)
    zeros = np.flatnonzero(w.reshape(-1) == 0)
    order = zeros[np.argsort(-score[zeros], kind="stable")][:count]
    return np.concatenate([order, np.full(count - len(order), -1)])


GEOMETRIES = {
    "1x1": geometry(n=2, c=70, h=5, w=4, k=33),
    "3x3 with a stride": geometry(n=2, c=6, h=9, w=7, k=40, r=3, s=3, stride=2, pad=1),
    "rows of many columns": geometry(n=1, c=SEGMENT // 2 + 40, h=1, w=1, k=3),
}


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 50, 5000])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_largest_come_first_and_the_first_of_equals(isa, name, count, density):
    g = GEOMETRIES[name]
    w, (x, gy) = weights(g, density), small_integers(g)
    found = candidates(g, w, count, x, gy)
    np.testing.assert_array_equal(found, expected(g, w, count, x, gy))


def test_threads_change_nothing(isa, threads):
    g = GEOMETRIES["1x1"]
    w, (x, gy) = weights(g, 0.3), operands(g)
    score = abs(reference.conv2d_backward_weights(x, gy, g)).reshape(-1)
    found = candidates(g, w, 40, x, gy)
    assert (w.reshape(-1)[found] == 0).all() and len(set(found)) == 40
    rest = np.setdiff1d(np.flatnonzero(w.reshape(-1) == 0), found)
    assert score[found].min() >= score[rest].max() * (1 - 1e-5)


def test_a_gradient_that_is_no_number_counts_as_none(isa):
    g = geometry(n=1, c=2, h=1, w=1, k=2)
    x, gy = np.float32([np.nan, 1]).reshape(1, 2, 1, 1), np.float32([3, 4]).reshape(1, 2, 1, 1)
    w = np.zeros((2, 2, 1, 1), np.float32)
    assert candidates(g, w, 4, x, gy).tolist() == [3, 1, -1, -1]
