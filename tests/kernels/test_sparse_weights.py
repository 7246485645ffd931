"""The gradient by sparse weights against float64, for any window, layout and density."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels import reference
from kernels.geometry import geometry, in_layout, strides
from kernels.kernel_call import call
from kernels.samples import same_wherever_fused
from kernels.test_sparse import LARGE, SEGMENT, SETTINGS, geometries, pool, weights

KERNELS = ["sparse_conv2d_backward_weights_f32", "sparse_conv2d_accumulate_weights_f32"]


def operands(g, seed=0):
    """The image and the gradient of the output."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((g["n"], g["c"], g["h"], g["w"]), np.float32)
    return x, rng.standard_normal((g["n"], g["k"], g["p"], g["q"]), np.float32)


def run(kernel, g, layout, x, gy, w):
    """Call a kernel and return its output and what it was added to, zeros where that is nothing."""
    total, columns, rows = pool(w)
    conv = g | strides("x", g["c"], g["n"], g["h"] * g["w"], layout)
    conv |= strides("y", g["k"], g["n"], g["p"] * g["q"], layout)
    segments = max(-(-g["c"] * g["r"] * g["s"] // SEGMENT), 1)
    fields = {
        "conv": conv,
        "first_row": 1,
        "segments": segments,
        "capacity": len(total),
        "nonzeros": 0,
    }
    adds = "accumulate" in kernel
    status, (out,) = call(
        kernel,
        "tge_sparse_conv2d_params",
        fields,
        [(total.shape, np.float32)],
        [total] * adds + [in_layout(x, layout), in_layout(gy, layout), columns, rows],
        in_place={0: 0} if adds else None,
    )
    assert status == 0
    return out, total if adds else np.zeros_like(total)


def in_pool(dense, w):
    """Elements of the dense weights that are no zeros in `w`, as they lie in its pool."""
    return np.concatenate([np.zeros(3), dense.reshape(-1)[w.reshape(-1) != 0], np.zeros(5)])


def check(kernel, g, layout, density):
    """Compare one call with its reference."""
    (x, gy), w = operands(g), weights(g, density)
    out, total = run(kernel, g, layout, x, gy, w)
    expected = total + in_pool(reference.conv2d_backward_weights(x, gy, g), w)
    magnitude = abs(total) + in_pool(reference.conv2d_backward_weights(abs(x), abs(gy), g), w)
    terms = g["n"] * g["p"] * g["q"] + 1
    error = abs(out - expected)
    assert (error <= reference.bound(terms, magnitude)).all()
    assert (error[:3] == 0).all() and (error[-5:] == 0).all()  # what is not of the layer


every_kernel = pytest.mark.parametrize("kernel", KERNELS)
both_layouts = pytest.mark.parametrize("layout", ["NCHW", "CNHW"])


@every_kernel
@both_layouts
@SETTINGS
@hypothesis.given(g=geometries(), density=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_sparse_weights_any_geometry(isa, kernel, layout, g, density):
    check(kernel, g, layout, density)


# Every height and width of a tile, parts of samples, bands, strips, several units and chunks.
CASES = {
    **LARGE,
    "many samples": geometry(35, 9, 70, (6, 5), (3, 3), pad=(1, 1)),
    "bands": geometry(16, 40, 70, (21, 20), (3, 3), pad=(1, 1)),
    "strips of 9 / 2": geometry(2, 5, 6, (40, 9), (2, 2), pad=(1, 0)),
    "linear, many samples": geometry(150, 20, 33, (1, 1), (1, 1)),
    "planes of whole lines": geometry(3, 60, 70, (12, 24), (1, 1)),
    "planes of odd lines": geometry(2, 70, 40, (12, 12), (1, 1)),
    "units that do not fit at once": geometry(16, 200, 300, (17, 17), (1, 1)),
    "one weight": geometry(5, 1, 1, (9, 9), (1, 1)),
}


@pytest.mark.parametrize("density", [0.05, 0.4])
@pytest.mark.parametrize("name", CASES)
def test_sparse_weights_across_units(isa, density, name):
    check(KERNELS[0], CASES[name], "NCHW", density)


@pytest.mark.parametrize("name", CASES)
def test_sparse_weights_bits_are_the_same_for_any_threads_and_layout(threads, name):
    g = CASES[name]
    (x, gy), w = operands(g), weights(g, 0.2)
    results = set()
    for count in (1, 2, 3):
        threads(count)
        for layout in ("NCHW", "CNHW"):
            results.add(run(KERNELS[0], g, layout, x, gy, w)[0].tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("name", ["1x1", "bands", "3x3 stride 2", "linear"])
def test_sparse_weights_bits_are_the_same_wherever_multiply_and_add_round_once(name):
    g = CASES[name]
    (x, gy), w = operands(g), weights(g, 0.2)
    assert same_wherever_fused(lambda: [run(KERNELS[0], g, "NCHW", x, gy, w)[0]])


@every_kernel
@pytest.mark.parametrize("empty", ["n", "c", "k"])
def test_sparse_weights_of_nothing_add_nothing(isa, kernel, empty):
    g = geometry(2, 3, 4, (5, 5), (3, 3), pad=(1, 1)) | {empty: 0}
    out, total = run(kernel, g, "NCHW", *operands(g), weights(g, 0.5))
    assert (out == total).all()
