"""Depthwise convolution and its gradients against float64."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels import reference
from kernels.kernel_call import call
from kernels.samples import SETTINGS, normal, same_for_any_threads, same_wherever_fused


def geometry(n, c, size, window, stride=(1, 1), pad=(0, 0), dilation=(1, 1), multiplier=1):
    """Fields of the params without strides; pairs are (vertical, horizontal)."""
    axes = zip(size, window, stride, pad, dilation, strict=True)
    p, q = ((length + 2 * f - (k - 1) * d - 1) // s + 1 for length, k, s, f, d in axes)
    names = (
        "h",
        "w",
        "r",
        "s",
        "stride_h",
        "stride_w",
        "pad_h",
        "pad_w",
        "dilation_h",
        "dilation_w",
    )
    values = (*size, *window, *stride, *pad, *dilation)
    g = dict(zip(names, values, strict=True))
    return g | {"n": n, "c": c, "k": c * multiplier, "groups": c, "p": p, "q": q}


@st.composite
def geometries(draw):
    pair = lambda *values: (draw(st.sampled_from(values)), draw(st.sampled_from(values)))  # noqa: E731
    window, stride = pair(1, 2, 3, 3, 5), pair(1, 1, 2, 2, 3)
    pad, dilation = pair(0, 1, 2, 5), pair(1, 1, 2, 3)
    reach = [(k - 1) * d + 1 - 2 * f for k, d, f in zip(window, dilation, pad, strict=True)]
    size = tuple(
        draw(st.integers(max(1, low), max(1, low) + room))
        for low, room in zip(reach, (9, 40), strict=True)
    )
    counts = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    return geometry(*counts, size, window, stride, pad, dilation, draw(st.integers(0, 2)))


class Images:
    """x[N][C][H][W] and y[N][K][P][Q] in one of two orders of memory, and the kernels on them."""

    def __init__(self, g, channel_major):
        self.order = (1, 0, 2, 3) if channel_major else (0, 1, 2, 3)
        self.x_shape = tuple(g[i] for i in "nchw")
        self.y_shape = tuple(g[i] for i in "nkpq")
        self.w_shape = g["k"], 1, g["r"], g["s"]
        self.fields = dict(g)
        for image, (n, c, h, w) in (("x", self.x_shape), ("y", self.y_shape)):
            strides = (h * w, n * h * w) if channel_major else (c * h * w, h * w)
            self.fields |= {f"{image}_n_stride": strides[0], f"{image}_c_stride": strides[1]}

    def call(self, name, shape, *inputs, in_place=False):
        """Run one of the kernels on arrays in the usual order of axes, perhaps over the first."""
        memory = [
            np.ascontiguousarray(a.transpose(self.order)) if a.shape != self.w_shape else a
            for a in inputs
        ]
        output = shape if shape == self.w_shape else tuple(shape[i] for i in self.order)
        outputs = [(output, np.float32)]
        where = {0: 0} if in_place else None
        status, (y,) = call(name, "tge_conv2d_params", self.fields, outputs, memory, in_place=where)
        assert status == 0
        return y if shape == self.w_shape else y.transpose(self.order)

    def forward(self, x, w, **how):
        return self.call("depthwise_conv2d_f32", self.y_shape, x, w, **how)

    def backward_data(self, gy, w, **how):
        return self.call("depthwise_conv2d_backward_data_f32", self.x_shape, gy, w, **how)

    def backward_weights(self, x, gy):
        return self.call("depthwise_conv2d_backward_weights_f32", self.w_shape, x, gy)


def check(g, channel_major):
    """Compare the three kernels, each with the bound for its number of terms.

    By the weights, a lane adds at most 512 products before it is emptied into a double.
    """
    images = Images(g, channel_major)
    x, w, gy = normal(images.x_shape), normal(images.w_shape, 1), normal(images.y_shape, 2)
    window, positions = g["r"] * g["s"], g["n"] * g["p"] * g["q"]
    cases = [
        (images.forward, reference.conv2d, x, w, window),
        (images.backward_data, reference.conv2d_backward_data, gy, w, window * g["k"] // g["c"]),
        (images.backward_weights, reference.conv2d_backward_weights, x, gy, min(positions, 600)),
    ]
    for kernel, exact, a, b, terms in cases:
        magnitude = exact(np.abs(a), np.abs(b), g)
        assert (np.abs(kernel(a, b) - exact(a, b, g)) <= reference.bound(terms, magnitude)).all()


@SETTINGS
@hypothesis.given(g=geometries(), channel_major=st.booleans())
def test_depthwise(isa, g, channel_major):
    check(g, channel_major)


LARGE = {
    "3x3": geometry(2, 3, (90, 80), (3, 3), pad=(1, 1)),
    "3x3 stride 2": geometry(2, 3, (90, 90), (3, 3), (2, 2), (1, 1)),
    "5x5": geometry(2, 3, (56, 56), (5, 5), pad=(2, 2)),
    "5x5 stride 2": geometry(2, 3, (75, 75), (5, 5), (2, 2), (2, 2)),
    "small planes": geometry(70, 9, (8, 8), (3, 3), pad=(1, 1)),
    "short rows": geometry(40, 5, (27, 29), (3, 3), pad=(1, 1)),
    "tall": geometry(2, 2, (600, 9), (3, 3), pad=(1, 1)),
    "wide": geometry(1, 2, (5, 700), (3, 3), (1, 2), (1, 1)),
    "dilated beyond a tile": geometry(1, 2, (60, 60), (3, 3), pad=(25, 25), dilation=(25, 40)),
    "a large window": geometry(1, 2, (20, 20), (9, 9), pad=(4, 4), multiplier=2),
    "no outputs": geometry(2, 2, (40, 40), (3, 3), (2, 2), multiplier=0),
    "stride 3": geometry(3, 2, (40, 40), (3, 3), (3, 3)),
}


OF_ONE_SHAPE = {
    "5x3 dilated": geometry(2, 3, (21, 33), (5, 3), pad=(4, 2), dilation=(2, 2)),
    "9x9": geometry(1, 2, (20, 20), (9, 9), pad=(4, 4)),
    "1x1": geometry(2, 3, (7, 5), (1, 1)),
} | {name: g for name, g in LARGE.items() if (g["k"], g["p"], g["q"]) == (g["c"], g["h"], g["w"])}


@pytest.mark.parametrize("channel_major", [False, True])
@pytest.mark.parametrize("case", OF_ONE_SHAPE)
def test_depthwise_in_place(isa, threads, case, channel_major):
    g = OF_ONE_SHAPE[case]
    images = Images(g, channel_major)
    x, w = normal(images.x_shape), normal(images.w_shape, 1)
    threads(2)
    for kernel in (images.forward, images.backward_data):
        assert kernel(x, w, in_place=True).tobytes() == kernel(x, w).tobytes()


@pytest.mark.parametrize("channel_major", [False, True])
@pytest.mark.parametrize("case", LARGE)
def test_depthwise_of_large_arrays(isa, threads, case, channel_major):
    g = LARGE[case]
    check(g, channel_major)
    images = Images(g, channel_major)
    x, w, gy = normal(images.x_shape), normal(images.w_shape, 1), normal(images.y_shape, 2)
    assert same_for_any_threads(threads, lambda: [images.forward(x, w)])
    assert same_for_any_threads(threads, lambda: [images.backward_data(gy, w)])
    assert same_for_any_threads(threads, lambda: [images.backward_weights(x, gy)])


@pytest.mark.parametrize("case", ["3x3 stride 2", "small planes", "stride 3"])
def test_depthwise_bits_do_not_depend_on_the_layout(isa, case):
    results = []
    for channel_major in (False, True):
        images = Images(LARGE[case], channel_major)
        x, w, gy = normal(images.x_shape), normal(images.w_shape, 1), normal(images.y_shape, 2)
        parts = images.forward(x, w), images.backward_data(gy, w), images.backward_weights(x, gy)
        results.append([a.tobytes() for a in parts])
    assert results[0] == results[1]


@pytest.mark.parametrize("case", ["3x3", "3x3 stride 2", "small planes", "short rows", "tall"])
def test_depthwise_bits_are_the_same_wherever_multiply_and_add_round_once(case):
    images = Images(LARGE[case], False)
    x, w, gy = normal(images.x_shape), normal(images.w_shape, 1), normal(images.y_shape, 2)
    assert same_wherever_fused(
        lambda: (images.forward(x, w), images.backward_data(gy, w), images.backward_weights(x, gy))
    )
