"""Rows of pools and their adjoints."""

import numpy as np
from hypothesis import strategies as st
from ops import bounds

from tinygrad_edge.errors import DTypeError, ShapeError
from tinygrad_edge.op import OPS
from tinygrad_edge.testing.strategies import arrays, pool2d_configs

from .row import F32, I32, U8, Row, f32, ones, sample, wrong


def _pools(average=False, backward=False, positions=False):
    """Strategy for a pool: whether of means, from output to input, and reading positions."""

    @st.composite
    def draw(draw, wild):
        config = draw(pool2d_configs(max_side=4 if wild else 2))
        attrs = {"window": config.window, "stride": config.stride, "padding": config.padding}
        x = draw(arrays(config.x_shape, strided=True))
        if wild and draw(st.booleans()):
            x = np.round(x)  # so that some are equal
        read = [draw(arrays(config.y_shape, strided=True)) if backward else x]
        if positions:
            read.append(OPS["max_pool2d"].reference(x, **attrs)[1])
        if average:
            attrs["count_include_pad"] = draw(st.booleans())
        if backward:
            attrs["shape"] = config.x_shape
        return sample(*read, **attrs)

    return draw


_WINDOW = {"window": (2, 2), "stride": (2, 2), "padding": (0, 0)}
_LARGE = {"window": (17, 17), "stride": (1, 1), "padding": (8, 8)}  # positions need four bytes
_PADDED = {"window": (3, 3), "stride": (1, 1), "padding": (1, 1)}
_COUNT = {"count_include_pad": True}
_IMAGE, _POOLED = f32(1, 2, 4, 4), f32(1, 2, 2, 2)
_WHERE = np.zeros((1, 2, 2, 2), U8)
_MORE = {"shape": (1, 2, 6, 6)}  # than the windows cover
_NONE = np.zeros((0, 2, 4, 4), F32)


def _misfits(**count):
    attrs = _WINDOW | count
    return (
        wrong(ShapeError, r"expected an image batch \[N, C, H, W\]", f32(2, 4, 4), **attrs),
        wrong(ShapeError, "must be >= 1", _IMAGE, **attrs | {"stride": (0, 1)}),
        wrong(ShapeError, "at most half the window", _IMAGE, **attrs | {"padding": (2, 0)}),
        wrong(ShapeError, r"does not fit an image of \[1, 4\]", f32(1, 1, 1, 4), **attrs),
        wrong(DTypeError, "must be a float", ones(1, 2, 4, 4, dtype=I32), **attrs),
    )


def _terms(arrays, attrs):
    return attrs["window"][0] * attrs["window"][1]


ROWS = {
    "max_pool2d": Row(
        _pools(),
        (
            sample(_NONE, **_WINDOW),
            sample(np.full((1, 1, 3, 3), -np.inf, F32), **_PADDED),
            sample(np.full((1, 2, 4, 4), np.nan, F32), **_WINDOW),
            sample(f32(1, 1, 18, 17), **_LARGE),
        ),
        wrong=_misfits(),
    ),
    "max_pool2d_gather": Row(
        _pools(positions=True),
        (sample(_NONE, _WHERE[:0], **_WINDOW),),
        wrong=(
            wrong(ShapeError, "must have the shape of the output", _IMAGE, _WHERE[:0], **_WINDOW),
            wrong(DTypeError, "must be a float", ones(1, 2, 4, 4, dtype=I32), _WHERE, **_WINDOW),
        ),
    ),
    "max_pool2d_backward": Row(
        _pools(backward=True, positions=True),
        (sample(_POOLED[:0], _WHERE[:0], **_WINDOW, shape=_NONE.shape),),
        bounds.linear(_terms),
        wrong=(wrong(ShapeError, r"must be \[1, 2, 3, 3\]", _POOLED, _WHERE, **_WINDOW, **_MORE),),
    ),
    "avg_pool2d": Row(
        _pools(average=True),
        (sample(_NONE, **_WINDOW, **_COUNT),),
        bounds.linear(_terms),
        wrong=_misfits(**_COUNT),
    ),
    "avg_pool2d_backward": Row(
        _pools(average=True, backward=True),
        (sample(_POOLED[:0], **_WINDOW, **_COUNT, shape=_NONE.shape),),
        bounds.linear(_terms),
        wrong=(
            wrong(ShapeError, r"must be \[1, 2, 3, 3\]", _POOLED, **_WINDOW, **_COUNT, **_MORE),
        ),
    ),
}
