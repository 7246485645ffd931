"""Rows of matrix products and convolutions."""

import math

from hypothesis import strategies as st
from ops import bounds

from tinygrad_edge.errors import DTypeError, ShapeError
from tinygrad_edge.testing.strategies import arrays, conv2d_configs

from .row import F64, Row, f32, sample, wrong

_PLAIN = {"transpose_a": False, "transpose_b": False}


@st.composite
def _matmuls(draw, wild):
    side = st.integers(0, 40) if wild else st.integers(1, 4)
    m, n, k, batch = draw(side), draw(side), draw(side), draw(st.integers(1, 3))
    of_a, of_b = draw(st.sampled_from([(1, 1), (batch, batch), (1, batch), (batch, 1)]))
    flags = {"transpose_a": draw(st.booleans()), "transpose_b": draw(st.booleans())}
    a = draw(arrays((of_a, k, m) if flags["transpose_a"] else (of_a, m, k), strided=True))
    b = draw(arrays((of_b, n, k) if flags["transpose_b"] else (of_b, k, n), strided=True))
    return sample(a, b, **flags)


def _convolution(read, depthwise):
    """Strategy for one of the three products of x, w, y: the two that it reads."""
    (made,) = {"x", "w", "y"} - set(read)

    @st.composite
    def draw(draw, wild):
        config = draw(conv2d_configs(depthwise, max_channels=3, max_side=4))
        shapes = {"x": config.x_shape, "w": config.w_shape, "y": config.y_shape}
        found = [draw(arrays(shapes[name], strided=True)) for name in read]
        return sample(*found, **config.attrs, **({} if made == "y" else {"shape": shapes[made]}))

    return draw


def _convolutions(name, depthwise):
    """Rows of a convolution and of its two backward products."""
    groups = 4 if depthwise else 1
    plain = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": groups}
    x, w, y = f32(2, 4, 5, 3), f32(8, 4 // groups, 3, 3), f32(2, 8, 5, 3)
    to_x, to_w = {**plain, "shape": x.shape}, {**plain, "shape": w.shape}
    wide = "groups need weights"
    return {
        name: Row(
            _convolution("xw", depthwise),
            (sample(x[:0], w, **plain), sample(x, w[:0], **plain)),
            bounds.linear(lambda arrays, attrs: math.prod(arrays[1].shape[1:])),
            wrong=(
                wrong(ShapeError, r"expected x as \[N, C, H, W\]", x[0], w, **plain),
                wrong(ShapeError, f"3 channels in {groups} {wide}", x[:, :3], w, **plain),
                wrong(ShapeError, r"stride \(0, 1\)", x, w, **{**plain, "stride": (0, 1)}),
                wrong(ShapeError, "does not fit an image", x, w, **{**plain, "dilation": (9, 1)}),
                wrong(DTypeError, "floats of one dtype", x, w.astype(F64), **plain),
            ),
        ),
        f"{name}_backward_data": Row(
            _convolution("yw", depthwise),
            (sample(y[:0], w, **{**to_x, "shape": x[:0].shape}), sample(y[:, :0], w[:0], **to_x)),
            bounds.linear(lambda arrays, attrs: arrays[1].size),
            wrong=(
                wrong(ShapeError, r"must be \[2, 8, 5, 3\]", y[:1], w, **to_x),
                wrong(DTypeError, "floats of one dtype", y, w.astype(F64), **to_x),
            ),
        ),
        f"{name}_backward_weights": Row(
            _convolution("xy", depthwise),
            (sample(x[:0], y[:0], **to_w), sample(x, y[:, :0], **{**to_w, "shape": w[:0].shape})),
            bounds.linear(lambda arrays, attrs: math.prod((len(arrays[1]), *arrays[1].shape[2:]))),
            wrong=(
                wrong(ShapeError, r"must be \[2, 8, 5, 3\]", x, y[:1], **to_w),
                wrong(DTypeError, "floats of one dtype", x, y.astype(F64), **to_w),
            ),
        ),
    }


ROWS = {
    "matmul": Row(
        _matmuls,
        (
            sample(f32(1, 2, 0), f32(1, 0, 3), **_PLAIN),
            sample(f32(2, 0, 3), f32(1, 3, 2), **_PLAIN),
            sample(f32(0, 2, 3), f32(1, 3, 2), **_PLAIN),
        ),
        bounds.linear(lambda arrays, attrs: arrays[0].shape[1 if attrs["transpose_a"] else 2]),
        wrong=(
            wrong(ShapeError, "inner sizes 3 and 4 differ", f32(1, 2, 3), f32(1, 4, 2), **_PLAIN),
            wrong(ShapeError, "batch sizes 2 and 3 differ", f32(2, 2, 3), f32(3, 3, 2), **_PLAIN),
        ),
    ),
    **_convolutions("conv2d", False),
    **_convolutions("depthwise_conv2d", True),
}
