"""conv2d and its two gradients against float64, for any window and both layouts."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels import reference
from kernels.geometry import geometry, in_layout, pair, strides
from kernels.kernel_call import call
from kernels.samples import same_wherever_fused

SETTINGS = hypothesis.settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


@st.composite
def geometries(draw):
    """Draw small geometries of every kind."""
    groups = draw(st.integers(1, 3))
    g = geometry(
        draw(st.integers(1, 4)),
        groups * draw(st.integers(1, 5)),
        groups * draw(st.integers(1, 14)),
        draw(pair(1, 20)),
        draw(pair(1, 5)),
        draw(pair(1, 3)),
        draw(pair(0, 4)),
        draw(pair(1, 3)),
        groups,
    )
    hypothesis.assume(g["p"] > 0 and g["q"] > 0)
    return g


def run(kernel, g, layout, first, second):
    """Call a kernel on arrays in N, C, H, W order and return its output in that order."""
    fields = g | strides("x", g["c"], g["n"], g["h"] * g["w"], layout)
    fields |= strides("y", g["k"], g["n"], g["p"] * g["q"], layout)
    shape = {
        "conv2d_f32": (g["n"], g["k"], g["p"], g["q"]),
        "conv2d_backward_data_f32": (g["n"], g["c"], g["h"], g["w"]),
        "conv2d_backward_weights_f32": (g["k"], g["c"] // g["groups"], g["r"], g["s"]),
    }[kernel]
    weights = kernel == "conv2d_backward_weights_f32"
    if not weights and layout == "CNHW":
        shape = (shape[1], shape[0], *shape[2:])
    inputs = [in_layout(first, layout), in_layout(second, layout) if weights else second]
    status, (out,) = call(kernel, "tge_conv2d_params", fields, [(shape, np.float32)], inputs)
    assert status == 0
    return out if weights else in_layout(out, layout)


def operands(kernel, g, seed=0):
    """Both inputs of a kernel."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((g["n"], g["c"], g["h"], g["w"]), np.float32)
    gy = rng.standard_normal((g["n"], g["k"], g["p"], g["q"]), np.float32)
    w = rng.standard_normal((g["k"], g["c"] // g["groups"], g["r"], g["s"]), np.float32)
    return {
        "conv2d_f32": (x, w),
        "conv2d_backward_data_f32": (gy, w),
        "conv2d_backward_weights_f32": (x, gy),
    }[kernel]


def terms(kernel, g):
    """How many products one output element sums, at most."""
    window = g["r"] * g["s"]
    return {
        "conv2d_f32": g["c"] // g["groups"] * window,
        "conv2d_backward_data_f32": g["k"] // g["groups"] * window,
        "conv2d_backward_weights_f32": g["n"] * g["p"] * g["q"],
    }[kernel]


def winograd_terms(kernel, g):
    """Return how many products Winograd's filtering sums, 0 where the kernel does not take it."""
    unit = all(g[f"{name}_{axis}"] == 1 for name in ("stride", "dilation") for axis in "hw")
    h, w = ("h", "w") if kernel == "conv2d_backward_data_f32" else ("p", "q")
    tiles = g["n"] * -(-g[h] // 4) * -(-g[w] // 4)
    c, k = g["c"] // g["groups"], g["k"] // g["groups"]
    if not (g["r"] == g["s"] == 3 and unit and min(c, k) >= 16):
        return 0
    if kernel == "conv2d_backward_weights_f32":
        return tiles if tiles >= 16 else 0
    channels = c if kernel == "conv2d_f32" else k
    return channels if tiles >= 8 and channels <= 1024 else 0


def tolerance(kernel, g, first, second):
    """Return the error that each element may have."""
    name = kernel.removesuffix("_f32").removeprefix("conv2d")
    if summed := winograd_terms(kernel, g):
        magnitude = getattr(reference, f"winograd_magnitude{name}")(first, second, g)
        return reference.bound(summed + 36, magnitude)
    magnitude = getattr(reference, f"conv2d{name}")(abs(first), abs(second), g)
    return reference.bound(terms(kernel, g), magnitude)


def check(kernel, g, layout):
    """Compare one call with its reference."""
    first, second = operands(kernel, g)
    define = getattr(reference, kernel.removesuffix("_f32"))
    out = run(kernel, g, layout, first, second)
    assert (abs(out - define(first, second, g)) <= tolerance(kernel, g, first, second)).all()


KERNELS = ["conv2d_f32", "conv2d_backward_data_f32", "conv2d_backward_weights_f32"]
every_kernel = pytest.mark.parametrize("kernel", KERNELS)
both_layouts = pytest.mark.parametrize("layout", ["NCHW", "CNHW"])


@every_kernel
@both_layouts
@SETTINGS
@hypothesis.given(g=geometries())
def test_conv2d_any_geometry(isa, kernel, layout, g):
    check(kernel, g, layout)


@st.composite
def tiled_geometries(draw):
    """Draw geometries that Winograd's filtering takes, and some beside them."""
    groups = draw(st.integers(1, 2))
    g = geometry(
        draw(st.integers(1, 5)),
        groups * draw(st.integers(15, 40)),
        groups * draw(st.integers(15, 60)),
        draw(pair(1, 22)),
        (3, 3),
        pad=draw(pair(0, 4)),
        groups=groups,
    )
    hypothesis.assume(g["p"] > 0 and g["q"] > 0)
    return g


@every_kernel
@both_layouts
@hypothesis.settings(SETTINGS, max_examples=12)
@hypothesis.given(g=tiled_geometries())
def test_conv2d_winograd_any_geometry(isa, kernel, layout, g):
    check(kernel, g, layout)


@st.composite
def halving_geometries(draw):
    """Draw geometries whose gradient by the data is spread from whole samples, and some beside."""
    groups = draw(st.integers(1, 2))
    g = geometry(
        draw(st.integers(1, 9)),
        groups * draw(st.integers(15, 40)),
        groups * draw(st.integers(63, 90)),
        draw(pair(1, 22)),
        draw(pair(1, 3)),
        (2, 2),
        draw(pair(0, 4)),
        groups=groups,
    )
    hypothesis.assume(g["p"] > 0 and g["q"] > 0)
    return g


@both_layouts
@hypothesis.settings(SETTINGS, max_examples=25)
@hypothesis.given(g=halving_geometries())
def test_conv2d_backward_data_of_windows_that_move_by_two(isa, layout, g):
    check("conv2d_backward_data_f32", g, layout)


@every_kernel
@pytest.mark.parametrize("channels", [16, 128])
def test_conv2d_winograd_loses_at_most_a_digit(isa, kernel, channels):
    g = geometry(4, channels, channels, (12, 12), (3, 3), pad=(1, 1))
    first, second = operands(kernel, g)
    exact = getattr(reference, kernel.removesuffix("_f32"))(first, second, g)
    fine = np.abs(run(kernel, g, "NCHW", first, second) - exact)
    # What sums without order or transforms lose: a walk of as many roundings as there are terms.
    magnitude = np.sqrt(np.mean(exact**2))
    direct = 2.0**-24 * np.sqrt(terms(kernel, g)) / 3 * magnitude
    assert np.sqrt(np.mean(fine**2)) <= 10 * direct


# Sizes that need several blocks of everything: bands, channels, outputs, and edges of each.
LARGE = {
    "3x3": geometry(3, 40, 50, (17, 15), (3, 3), pad=(1, 1)),
    "3x3 stride 2": geometry(2, 33, 30, (16, 16), (3, 3), stride=(2, 2), pad=(1, 1)),
    "3x3, blocks of tiles": geometry(2, 70, 60, (31, 33), (3, 3), pad=(1, 1)),
    "3x3, long rows": geometry(1, 16, 17, (5, 600), (3, 3)),
    "3x3, many channels": geometry(2, 300, 310, (7, 7), (3, 3), pad=(1, 1)),
    "3x3, grouped": geometry(2, 66, 40, (13, 9), (3, 3), pad=(2, 0), groups=2),
    "few outputs": geometry(2, 40, 10, (17, 30), (5, 5), pad=(2, 2)),
    "few outputs, stride 2": geometry(3, 5, 23, (40, 37), (3, 3), stride=(2, 2), pad=(1, 1)),
    "one channel": geometry(5, 1, 6, (28, 28), (5, 5), pad=(2, 2)),
    "1x1": geometry(3, 300, 130, (7, 7), (1, 1)),
    "1x1, planes as rows": geometry(3, 43, 27, (14, 14), (1, 1)),
    "1x1, planes cut": geometry(2, 140, 17, (40, 52), (1, 1)),
    "1x1 stride 2, planes as rows": geometry(2, 40, 30, (33, 32), (1, 1), stride=(2, 2)),
    "3x3 stride 2, rows": geometry(2, 7, 13, (31, 64), (3, 3), stride=(2, 2), pad=(1, 1)),
    "3x3 stride 2, samples": geometry(9, 70, 300, (15, 13), (3, 3), stride=(2, 2), pad=(1, 1)),
    "1x1 stride 2": geometry(2, 20, 40, (9, 8), (1, 1), stride=(2, 2)),
    "long row": geometry(2, 6, 9, (1, 700), (1, 9), pad=(0, 4)),
    "large window": geometry(1, 3, 5, (30, 29), (19, 17), pad=(9, 8)),
    "one sample, many outputs": geometry(1, 64, 200, (4, 4), (3, 3), pad=(1, 1)),
    "stride beyond the window": geometry(2, 3, 4, (11, 13), (2, 2), stride=(3, 4)),
    "padding beyond the window": geometry(2, 3, 4, (3, 3), (2, 2), pad=(5, 4)),
    "grouped": geometry(2, 12, 30, (10, 10), (3, 3), pad=(1, 1), groups=6),
}


@every_kernel
@both_layouts
@pytest.mark.parametrize("name", LARGE)
def test_conv2d_across_blocks(isa, kernel, layout, name):
    check(kernel, LARGE[name], layout)


@every_kernel
@pytest.mark.parametrize("name", LARGE)
def test_conv2d_bits_are_the_same_for_any_threads_and_layout(threads, kernel, name):
    inputs = operands(kernel, LARGE[name])
    results = []
    for count in (1, 2, 3):
        threads(count)
        results += [run(kernel, LARGE[name], layout, *inputs) for layout in ("NCHW", "CNHW")]
    for other in results[1:]:
        assert results[0].tobytes() == np.ascontiguousarray(other).tobytes()


@every_kernel
@pytest.mark.parametrize(
    "name", ["3x3", "few outputs", "1x1", "1x1, planes as rows", "3x3 stride 2, samples"]
)
def test_conv2d_bits_are_the_same_wherever_multiply_and_add_round_once(kernel, name):
    g = LARGE[name]
    assert same_wherever_fused(lambda: [run(kernel, g, "NCHW", *operands(kernel, g))])


@every_kernel
@pytest.mark.parametrize("empty", ["n", "c", "k"])
def test_conv2d_of_nothing_is_zero(isa, kernel, empty):
    g = geometry(2, 3, 4, (5, 5), (3, 3), pad=(1, 1)) | {empty: 0}
    out = run(kernel, g, "NCHW", *operands(kernel, g))
    assert (out == 0).all()
