"""Rows of batch normalisation."""

import numpy as np
from hypothesis import strategies as st
from ops import bounds

from tinygrad_edge.errors import DTypeError, ShapeError
from tinygrad_edge.testing.strategies import arrays, shapes

from .row import F32, I32, Row, f32, i32, ones, sample, wrong


@st.composite
def _unbiased(draw, wild):
    images = _norms("vx")
    var, x = draw(images(wild)).arrays
    return sample(var, x, share=draw(st.sampled_from([0.1, 1.0])))


def _norms(roles, activations=()):
    """Strategy for a batch-norm op by the roles of its inputs.

    g and x are images, m means, v variances, c other numbers of a channel.
    """

    @st.composite
    def draw(draw, wild):
        n, c = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        rest = draw(shapes(0, 2, 1, 20 if wild else 3))
        if n * np.prod(rest) < 3:  # of two values the result hardly depends on them
            n = 3
        shift = draw(st.sampled_from([0, 30])) if wild else 0
        found = []
        for role in roles:
            low, high = {
                "v": (0.5, 2),
                "x": (shift - 2, shift + 2),
                "m": (shift - 1, shift + 1),
            }.get(role, (-2, 2))
            shape = (n, c, *rest) if role in "gx" else (c,)
            found.append(draw(arrays(shape, F32, low, high, strided=True)))
        attrs = {} if roles == "x" else {"eps": draw(st.sampled_from([1e-5, 0.1]))}
        if activations:
            attrs["activation"] = draw(st.sampled_from(activations))
        return sample(*found, **attrs)

    return draw


_EPS, _NO = {"eps": 1e-5}, {"eps": 1e-5, "activation": ""}
_C, _FLAT = ones(3), np.full((4, 3, 5), 7, F32)
_RELU = {"eps": 1e-5, "activation": "relu"}
_HALF = np.linspace(-3, 3, 30, dtype=np.float16).reshape(2, 3, 5)
_GRAD = (f32(2, 3), f32(2, 3), _C, _C)

ROWS = {
    "batch_norm_stats": Row(
        _norms("x"),
        (sample(_FLAT), sample(f32(1, 2, 1)), sample(f32(40, 2, 3, 3) + 1000)),
        bounds.batch_norm_stats,
        wrong=(
            wrong(ShapeError, r"expected \[N, C, ...\]", f32(3)),
            wrong(ShapeError, "statistics of an empty batch", f32(0, 3)),
            wrong(DTypeError, "floats of one dtype", ones(2, 3, dtype=I32)),
        ),
    ),
    "batch_norm_apply": Row(
        _norms("xmvcc", ("", "relu", "relu6")),
        (
            sample(f32(0, 3, 2), _C, _C, _C, _C, **_NO),
            sample(_FLAT, _C, _C, _C, _C, **_RELU),
            sample(_HALF, _C, _C, _C, _C, **_NO),
        ),
        bounds.batch_norm_apply,
        wrong=(
            wrong(ShapeError, "each of 3 channels", f32(2, 3), _C, _C, ones(2), _C, **_NO),
            wrong(DTypeError, "one dtype", f32(2, 3), _C, _C, _C, i32(1, 1, 1), **_NO),
        ),
    ),
    "batch_norm_apply_add": Row(
        _norms("xmvccg", ("", "relu", "relu6")),
        (
            sample(_FLAT, _C, _C, _C, _C, -_FLAT, **_RELU),
            sample(_HALF, _C, _C, _C, _C, f32(2, 3, 5), **_RELU),
        ),
        bounds.batch_norm_apply_add,
        wrong=(
            wrong(ShapeError, "must have the input's", *_GRAD[:1], _C, _C, _C, _C, f32(3), **_NO),
            wrong(ShapeError, "each of 3 channels", *_GRAD[:1], _C, _C, _C, ones(2), _FLAT, **_NO),
        ),
    ),
    "batch_norm": Row(
        _norms("xcc"),
        (sample(_FLAT, _C, _C, **_EPS),),
        bounds.batch_norm,
        wrong=(
            wrong(ShapeError, "statistics of an empty batch", f32(0, 3), _C, _C, **_EPS),
            wrong(ShapeError, "each of 3 channels", f32(2, 3), _C, ones(4), **_EPS),
        ),
    ),
    "unbiased_variance": Row(
        _unbiased,
        (sample(_C, f32(2, 3), share=0.1),),
        lambda op, arrays, attrs, expected: [2 * bounds.U * np.abs(expected[0])],
        wrong=(
            wrong(ShapeError, "two values a channel", _C, f32(1, 3), share=0.1),
            wrong(ShapeError, "each of 3 channels", ones(2), f32(2, 3), share=0.1),
        ),
    ),
    "batch_norm_backward": Row(
        _norms("gxmvc"),
        (
            sample(_FLAT, _FLAT, 7 * _C, 0 * _C, _C, **_EPS),
            sample(f32(2, 3, 5), _HALF, _C, _C, _C, **_EPS),
        ),
        bounds.batch_norm_backward,
        wrong=(
            wrong(ShapeError, "must have the input's type", f32(2, 3, 2), *_GRAD[1:], _C, **_EPS),
            wrong(ShapeError, "each of 3 channels", *_GRAD, ones(2), **_EPS),
        ),
    ),
    "batch_norm_activated_backward": Row(
        _norms("gxmvcc", ("relu", "relu6")),
        (
            sample(_FLAT, _FLAT, 7 * _C, 0 * _C, _C, -_C, **_RELU),
            sample(f32(2, 3, 5), _HALF, _C, _C, _C, 0.3 * _C, **_RELU),
        ),
        bounds.batch_norm_activated_backward,
        wrong=(
            wrong(ShapeError, "must have the input's", f32(2, 3, 2), *_GRAD[1:], _C, _C, **_RELU),
            wrong(ShapeError, "each of 3 channels", *_GRAD, _C, ones(2), **_RELU),
        ),
    ),
}
