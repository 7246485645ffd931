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
    layer = {
        "conv": conv,
        "first_row": 1,
        "segments": segments,
        "capacity": len(columns),
        "nonzeros": 0,
    }
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
    "1x1": geometry(2, 70, 33, (5, 4), (1, 1)),
    "3x3 with a stride": geometry(2, 6, 40, (9, 7), (3, 3), stride=(2, 2), pad=(1, 1)),
    "rows of many columns": geometry(1, SEGMENT + 40, 3, (1, 1), (1, 1)),
}


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 50, 5000])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_largest_come_first_and_the_first_of_equals(isa, name, count, density):
    g = GEOMETRIES[name]
    w, (x, gy) = weights(g, density), small_integers(g)
    found = candidates(g, w, count, x, gy)
    np.testing.assert_array_equal(found, expected(g, w, count, x, gy))


def test_neither_threads_nor_the_layout_matter(isa, threads):
    g = GEOMETRIES["1x1"]
    w, (x, gy) = weights(g, 0.3), operands(g)
    found = []
    for count in (1, 2, 3):
        threads(count)
        found += [candidates(g, w, 40, x, gy, layout).tolist() for layout in ("NCHW", "CNHW")]
    assert found == found[:1] * 6


def test_a_gradient_that_is_no_number_counts_as_none(isa):
    g = geometry(1, 2, 2, (1, 1), (1, 1))
    x, gy = np.float32([np.nan, 1]).reshape(1, 2, 1, 1), np.float32([3, 4]).reshape(1, 2, 1, 1)
    w = np.zeros((2, 2, 1, 1), np.float32)
    assert candidates(g, w, 4, x, gy).tolist() == [3, 1, -1, -1]
