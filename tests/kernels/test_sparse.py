"""Convolutions with sparse weights against float64, for any window, layout and density."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels import reference
from kernels.geometry import geometry, in_layout, pair, strides
from kernels.kernel_call import call
from kernels.samples import same_wherever_fused

SETTINGS = hypothesis.settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
SEGMENT = 65536


def weights(g, density, seed=0):
    """Dense weights with so many non-zeros, among them an output that has none."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((g["k"], g["c"], g["r"], g["s"]), np.float32)
    w *= rng.random(w.shape) < density
    w[g["k"] // 2 : g["k"] // 2 + 1] = 0
    return w


def pool(w):
    """Compressed rows of weights in a pool that begins with another layer and ends in free room."""
    flat = w.reshape(len(w), -1) if w.size else np.zeros((len(w), 0), np.float32)
    values, columns, lengths = [np.ones(3, np.float32)], [np.arange(3)], [3]
    for row in flat:
        for start in range(0, max(flat.shape[1], 1), SEGMENT):
            found = np.flatnonzero(row[start : start + SEGMENT])
            values.append(row[start + found])
            columns.append(found)
            lengths.append(len(found))
    values.append(np.zeros(5, np.float32))
    columns.append(np.zeros(5))
    rows = np.cumsum([0, *lengths])
    return np.concatenate(values), np.concatenate(columns).astype(np.uint16), rows.astype(np.int32)


def run(kernel, g, layout, first, w, nonzeros=None):
    """Call a kernel on an image in N, C, H, W order and return its output in that order.

    The layer was made with so many non-zeros, or with as many as it has.
    """
    values, columns, rows = pool(w)
    conv = g | strides("x", g["c"], g["n"], g["h"] * g["w"], layout)
    conv |= strides("y", g["k"], g["n"], g["p"] * g["q"], layout)
    segments = max(-(-g["c"] * g["r"] * g["s"] // SEGMENT), 1)
    fields = {"conv": conv, "first_row": 1, "segments": segments, "capacity": len(values)}
    fields["nonzeros"] = np.count_nonzero(w) if nonzeros is None else nonzeros
    shape = {
        "sparse_conv2d_f32": (g["n"], g["k"], g["p"], g["q"]),
        "sparse_conv2d_backward_data_f32": (g["n"], g["c"], g["h"], g["w"]),
    }[kernel.replace("_expanded", "")]
    if layout == "CNHW":
        shape = (shape[1], shape[0], *shape[2:])
    status, (out,) = call(
        kernel,
        "tge_sparse_conv2d_params",
        fields,
        [(shape, np.float32)],
        [in_layout(first, layout), values, columns, rows],
    )
    assert status == 0
    return in_layout(out, layout)


def operand(kernel, g, seed=0):
    """The image that a kernel reads."""
    rng = np.random.default_rng(seed)
    if kernel == "sparse_conv2d_f32":
        return rng.standard_normal((g["n"], g["c"], g["h"], g["w"]), np.float32)
    return rng.standard_normal((g["n"], g["k"], g["p"], g["q"]), np.float32)


def check(kernel, g, layout, density):
    """Compare one call with its reference."""
    first, w = operand(kernel, g), weights(g, density)
    define = getattr(reference, kernel.removesuffix("_f32").removeprefix("sparse_"))
    terms = (g["c"] if kernel == "sparse_conv2d_f32" else g["k"]) * g["r"] * g["s"]
    tolerance = reference.bound(terms, define(abs(first), abs(w), g))
    out = run(kernel, g, layout, first, w)
    assert (abs(out - define(first, w, g)) <= tolerance).all()


@st.composite
def geometries(draw):
    """Draw small geometries of every kind."""
    g = geometry(
        draw(st.integers(1, 6)),
        draw(st.integers(1, 12)),
        draw(st.integers(1, 12)),
        draw(pair(1, 20)),
        draw(pair(1, 5)),
        draw(pair(1, 3)),
        draw(pair(0, 4)),
        draw(pair(1, 3)),
    )
    hypothesis.assume(g["p"] > 0 and g["q"] > 0)
    return g


KERNELS = ["sparse_conv2d_f32", "sparse_conv2d_backward_data_f32"]
every_kernel = pytest.mark.parametrize("kernel", KERNELS)
both_layouts = pytest.mark.parametrize("layout", ["NCHW", "CNHW"])


@every_kernel
@both_layouts
@SETTINGS
@hypothesis.given(g=geometries(), density=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_sparse_conv2d_any_geometry(isa, kernel, layout, g, density):
    check(kernel, g, layout, density)


# Several tiles, blocks of columns, parts of outputs and segments, and ends of each.
LARGE = {
    "1x1": geometry(3, 300, 130, (7, 7), (1, 1)),
    "1x1, planes of whole vectors": geometry(2, 40, 70, (8, 8), (1, 1)),
    "1x1, planes in place, several blocks": geometry(3, 200, 70, (12, 12), (1, 1)),
    "1x1, planes in place in one layout": geometry(16, 90, 40, (8, 8), (1, 1)),
    "1x1, planes in place, offsets beyond 16 bits": geometry(1, 80, 3, (120, 136), (1, 1)),
    "1x1 stride 2": geometry(2, 40, 30, (33, 32), (1, 1), stride=(2, 2)),
    "3x3": geometry(3, 40, 50, (17, 15), (3, 3), pad=(1, 1)),
    "3x3, rows of whole tiles": geometry(4, 20, 24, (16, 16), (3, 3), pad=(1, 1)),
    "3x3 stride 2": geometry(2, 33, 30, (16, 18), (3, 3), stride=(2, 2), pad=(1, 1)),
    "3x3 stride 3, dilated": geometry(2, 9, 13, (31, 40), (3, 3), (3, 3), (2, 2), (2, 2)),
    "3x3 stride 2, dilated as much": geometry(2, 9, 13, (15, 36), (3, 3), (2, 2), (2, 2), (2, 2)),
    "1x1 stride 2 and 1": geometry(3, 5, 6, (2, 32), (1, 1), stride=(2, 1)),
    "long row": geometry(2, 6, 9, (1, 700), (1, 9), pad=(0, 4)),
    "large window": geometry(1, 3, 5, (30, 29), (19, 17), pad=(9, 8)),
    "linear": geometry(37, 200, 90, (1, 1), (1, 1)),
    "linear, few rows": geometry(3, 45, 70, (1, 1), (1, 1)),
    "linear, many rows": geometry(70, 200, 90, (1, 1), (1, 1)),
    "linear, many columns": geometry(20, 600, 30, (1, 1), (1, 1)),
    "3x3 of one point": geometry(20, 30, 40, (1, 1), (3, 3), pad=(1, 1)),
    "stride beyond the window": geometry(2, 3, 4, (11, 13), (2, 2), stride=(3, 4)),
    "three segments": geometry(2, 140_000, 3, (1, 1), (1, 1)),
    "a segment that ends inside of a channel": geometry(1, 8_000, 2, (3, 3), (3, 3), pad=(1, 1)),
    "many outputs": geometry(1, 3, 70_000, (2, 1), (1, 1)),
}


@every_kernel
@pytest.mark.parametrize("density", [0.05, 0.4])
@pytest.mark.parametrize("name", LARGE)
def test_sparse_conv2d_across_blocks(isa, kernel, density, name):
    check(kernel, LARGE[name], "NCHW", density)


@every_kernel
@pytest.mark.parametrize("name", LARGE)
def test_sparse_conv2d_bits_are_the_same_for_any_threads_and_layout(threads, kernel, name):
    first, w = operand(kernel, LARGE[name]), weights(LARGE[name], 0.2)
    results = set()
    for count in (1, 2, 3):
        threads(count)
        for layout in ("NCHW", "CNHW"):
            out = run(kernel, LARGE[name], layout, first, w)
            results.add(np.ascontiguousarray(out).tobytes())
    assert len(results) == 1


# More non-zeros than the least room in workspace, some with a channel that fills it alone.
CROWDED = {
    "1x1": geometry(9, 300, 130, (7, 7), (1, 1)),
    "1x1, planes in place": geometry(3, 300, 70, (12, 12), (1, 1)),
    "1x1 stride 2": geometry(9, 170, 130, (15, 16), (1, 1), stride=(2, 2)),
    "3x3": geometry(9, 65, 70, (9, 7), (3, 3), pad=(1, 1)),
    "3x3 stride 2": geometry(2, 60, 70, (9, 8), (3, 3), stride=(2, 2), pad=(1, 1)),
    "linear": geometry(70, 300, 90, (1, 1), (1, 1)),
    "three segments": LARGE["three segments"],
    "many outputs": LARGE["many outputs"],
}


@every_kernel
@pytest.mark.parametrize("name", CROWDED)
def test_sparse_conv2d_bits_do_not_depend_on_the_room_in_workspace(isa, kernel, name):
    g = CROWDED[name]
    first, w = operand(kernel, g), weights(g, 0.9)
    w[:, 1] = 0
    at_once = run(kernel, g, "NCHW", first, w)
    assert run(kernel, g, "NCHW", first, w, nonzeros=1).tobytes() == at_once.tobytes()


@every_kernel
@pytest.mark.parametrize("name", ["1x1", "3x3", "3x3 stride 2", "linear"])
def test_sparse_conv2d_bits_are_the_same_wherever_multiply_and_add_round_once(kernel, name):
    g = LARGE[name]
    first, w = operand(kernel, g), weights(g, 0.2)
    assert same_wherever_fused(lambda: [run(kernel, g, "NCHW", first, w)])


@every_kernel
@pytest.mark.parametrize("empty", ["n", "c", "k"])
def test_sparse_conv2d_of_nothing_is_zero(isa, kernel, empty):
    g = geometry(2, 3, 4, (5, 5), (3, 3), pad=(1, 1)) | {empty: 0}
    out = run(kernel, g, "NCHW", operand(kernel, g), weights(g, 0.5))
    assert (out == 0).all()
