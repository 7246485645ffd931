"""Sparse products by the dense kernels: the bits of those, for any window, layout and density."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels import test_conv2d, test_sparse, test_sparse_weights
from kernels.geometry import geometry
from kernels.test_sparse import SETTINGS, geometries, weights

PRODUCTS = ["sparse_conv2d_expanded_f32", "sparse_conv2d_backward_data_expanded_f32"]
GRADIENTS = [
    "sparse_conv2d_backward_weights_expanded_f32",
    "sparse_conv2d_accumulate_weights_expanded_f32",
]
every_kernel = pytest.mark.parametrize("kernel", PRODUCTS + GRADIENTS)

CASES = {
    "3x3": geometry(3, 40, 50, (17, 15), (3, 3), pad=(1, 1)),
    "1x1, planes of whole vectors": geometry(2, 40, 70, (8, 8), (1, 1)),
    "3x3 stride 2": geometry(2, 33, 30, (16, 18), (3, 3), stride=(2, 2), pad=(1, 1)),
    "linear": geometry(37, 200, 90, (1, 1), (1, 1)),
    "a segment that ends inside of a channel": geometry(1, 8_000, 2, (3, 3), (3, 3), pad=(1, 1)),
}


def check(kernel, g, layout, density):
    """Compare one call with the dense kernel's."""
    w = weights(g, density)
    if kernel in GRADIENTS:
        x, gy = test_sparse_weights.operands(g)
        out, total = test_sparse_weights.run(kernel, g, layout, x, gy, w)
        whole = test_conv2d.run("conv2d_backward_weights_f32", g, layout, x, gy)
        added = test_sparse_weights.in_pool(whole, w).astype(np.float32)
        np.testing.assert_array_equal(out, total + added)
        return
    dense = kernel.removeprefix("sparse_").replace("_expanded", "")
    first, _ = test_conv2d.operands(dense, g)
    out = test_sparse.run(kernel, g, layout, first, w)
    np.testing.assert_array_equal(out, test_conv2d.run(dense, g, layout, first, w))


@every_kernel
@pytest.mark.parametrize("layout", ["NCHW", "CNHW"])
@hypothesis.settings(SETTINGS, max_examples=12)
@hypothesis.given(g=geometries(), density=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_expanded_weights_any_geometry(isa, kernel, layout, g, density):
    check(kernel, g, layout, density)


@every_kernel
@pytest.mark.parametrize("name", CASES)
def test_expanded_weights_across_rows_and_segments(threads, kernel, name):
    for count in (1, 3):
        threads(count)
        check(kernel, CASES[name], "NCHW", 0.3)


@every_kernel
@pytest.mark.parametrize("empty", ["n", "c", "k"])
def test_expanded_weights_of_nothing(isa, kernel, empty):
    check(kernel, geometry(2, 3, 4, (5, 5), (3, 3), pad=(1, 1)) | {empty: 0}, "NCHW", 0.5)
