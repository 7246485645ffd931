"""Pooling against a loop over windows."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import call
from kernels.samples import SETTINGS, UNIT, normal, same_for_any_threads, same_numbers


def geometry(planes, size, window, stride, pad):
    """Fields of the params; pairs are (vertical, horizontal)."""
    p, q = ((n + 2 * f - k) // s + 1 for n, k, s, f in zip(size, window, stride, pad, strict=True))
    names = ("h", "w", "p", "q", "r", "s", "stride_h", "stride_w", "pad_h", "pad_w")
    values = (*size, p, q, *window, *stride, *pad)
    return {"planes": planes, **dict(zip(names, values, strict=True))}


@st.composite
def geometries(draw):
    pair = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))  # noqa: E731
    window = pair(1, 4)
    size = (draw(st.integers(window[0], 9)), draw(st.integers(window[1], 45)))
    pad = tuple(draw(st.integers(0, n - 1)) for n in window)
    return geometry(draw(st.integers(0, 3)), size, window, pair(1, 3), pad)


def pool(name, g, outputs, inputs, argmax_bytes=1, include=0):
    fields = {**g, "argmax_bytes": argmax_bytes, "count_include_pad": include}
    status, results = call(name, "tge_pool2d_params", fields, outputs, inputs)
    assert status == 0
    return results


def shapes_of(g):
    """Shape of the images and of what they become."""
    return (g["planes"], g["h"], g["w"]), (g["planes"], g["p"], g["q"])


def taps(g):
    """Yield each window: its p and q, then h, w and number of its elements in the image."""
    for p in range(g["p"]):
        for q in range(g["q"]):
            top, left = p * g["stride_h"] - g["pad_h"], q * g["stride_w"] - g["pad_w"]
            cells = [
                (top + r, left + s, r * g["s"] + s) for r in range(g["r"]) for s in range(g["s"])
            ]
            inside = [c for c in cells if 0 <= c[0] < g["h"] and 0 <= c[1] < g["w"]]
            h, w, tap = np.array(inside).T
            yield p, q, h, w, tap


# ---- maximum ----


def max_reference(x, g):
    """Maxima, their numbers in the window and their place in the plane."""
    _, small = shapes_of(g)
    y, argmax = np.empty(small, np.float32), np.empty(small, np.int32)
    place = np.empty((*small, 2), int)
    for p, q, h, w, tap in taps(g):
        best = x[:, h, w].argmax(1)  # the first of equals, NaN above all
        y[:, p, q] = x[np.arange(len(x)), h[best], w[best]]
        argmax[:, p, q] = tap[best]
        place[:, p, q] = np.stack([h[best], w[best]], 1)
    return y, argmax, place


def check_max(x, g, argmax_bytes=1):
    """Compare maximum, gather and gradient: exact, but for sums where windows overlap."""
    large, small = shapes_of(g)
    position = np.uint8 if argmax_bytes == 1 else np.int32
    y, argmax, place = max_reference(x, g)
    outputs = [(small, np.float32), (small, position)]
    found, where = pool("max_pool2d_f32", g, outputs, [x], argmax_bytes)
    assert same_numbers(found, y)
    assert (where == argmax).all()

    inputs = [x, where]
    (again,) = pool("max_pool2d_gather_f32", g, outputs[:1], inputs, argmax_bytes)
    assert same_numbers(again, y)

    grad = normal(small, 1)
    inputs = [grad, where]
    (gx,) = pool("max_pool2d_backward_f32", g, [(large, np.float32)], inputs, argmax_bytes)
    exact, magnitude = np.zeros(large), np.zeros(large)
    index = np.arange(g["planes"])[:, None, None], place[..., 0], place[..., 1]
    np.add.at(exact, index, grad)
    np.add.at(magnitude, index, np.abs(grad))
    assert (np.abs(gx - exact) <= g["r"] * g["s"] * UNIT * magnitude).all()


@SETTINGS
@hypothesis.given(g=geometries(), argmax_bytes=st.sampled_from([1, 4]), kind=st.integers(0, 2))
def test_max_pool(isa, g, argmax_bytes, kind):
    rng = np.random.default_rng(0)
    values = [np.arange(-3, 4), [-np.inf, 1, -np.inf], [np.nan, -np.inf, 0, 5]][kind]
    check_max(rng.choice(np.float32(values), shapes_of(g)[0]), g, argmax_bytes)


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_padding_never_wins(isa, value):
    g = geometry(2, (9, 40), (4, 3), (1, 2), (3, 2))
    check_max(np.full(shapes_of(g)[0], value, np.float32), g)


LARGE = {
    "2x2": (200, (32, 32), (2, 2), (2, 2), (0, 0)),
    "3x3 overlapping": (60, (31, 33), (3, 3), (2, 2), (1, 1)),
    "wide": (3, (6, 700), (2, 3), (1, 1), (0, 1)),
    "long window": (3, (40, 40), (20, 20), (5, 5), (3, 3)),
    "global": (3000, (7, 7), (7, 7), (1, 1), (0, 0)),
}


@pytest.mark.parametrize("case", LARGE)
def test_max_pool_of_large_arrays(isa, threads, case):
    g = geometry(*LARGE[case])
    x = normal(shapes_of(g)[0])
    argmax_bytes = 1 if g["r"] * g["s"] <= 256 else 4
    check_max(x, g, argmax_bytes)
    outputs = [(shapes_of(g)[1], np.float32), (shapes_of(g)[1], np.int32)]
    assert same_for_any_threads(threads, lambda: pool("max_pool2d_f32", g, outputs, [x], 4))


# ---- average ----


def check_average(g, include):
    """Compare with float64; a mean of k elements rounds at most k + 1 times (a whole plane 39)."""
    large, small = shapes_of(g)
    x, grad = normal(large), normal(small, 1)
    y, y_magnitude = np.zeros(small), np.zeros(small)
    gx, gx_magnitude = np.zeros(large), np.zeros(large)
    for p, q, h, w, _ in taps(g):
        count = g["r"] * g["s"] if include else len(h)
        y[:, p, q] = x[:, h, w].astype(np.float64).sum(1) / count
        y_magnitude[:, p, q] = np.abs(x[:, h, w]).sum(1) / count
        gx[:, h, w] += grad[:, p, q, None].astype(np.float64) / count
        gx_magnitude[:, h, w] += np.abs(grad[:, p, q, None]) / count
    roundings = max(g["r"] * g["s"] + 1, 39) * UNIT
    (found,) = pool("avg_pool2d_f32", g, [(small, np.float32)], [x], include=include)
    assert (np.abs(found - y) <= roundings * y_magnitude).all()
    (found,) = pool("avg_pool2d_backward_f32", g, [(large, np.float32)], [grad], include=include)
    assert (np.abs(found - gx) <= roundings * gx_magnitude).all()


@SETTINGS
@hypothesis.given(g=geometries(), include=st.booleans())
def test_average_pool(isa, g, include):
    check_average(g, include)


@pytest.mark.parametrize("case", LARGE)
def test_average_pool_of_large_arrays(isa, threads, case):
    g = geometry(*LARGE[case])
    check_average(g, True)
    large, small = shapes_of(g)
    x, grad = normal(large), normal(small, 1)
    outputs = [(small, np.float32)], [(large, np.float32)]
    assert same_for_any_threads(threads, lambda: pool("avg_pool2d_f32", g, outputs[0], [x]))
    run = lambda: pool("avg_pool2d_backward_f32", g, outputs[1], [grad])  # noqa: E731
    assert same_for_any_threads(threads, run)
