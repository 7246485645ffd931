"""Rows of losses and of the check that ends a step."""

import numpy as np
from hypothesis import strategies as st
from ops import bounds

from tinygrad_edge.errors import DataError, DTypeError, NonFiniteError, ShapeError
from tinygrad_edge.testing.strategies import arrays, shapes

from .row import F32, I32, Row, f32, i32, ones, sample, wrong


def _losses(backward=False):
    @st.composite
    def draw(draw, wild):
        rows = draw(st.integers(0, 5) if wild else st.integers(1, 3))
        classes = draw(st.integers(1, 20 if wild else 4))
        size = 10 if wild else 2
        found = [draw(arrays((rows,), F32))] if backward else []
        found.append(draw(arrays((rows, classes), F32, -size, size, strided=True)))
        found.append(draw(arrays((rows,), I32, 0, classes - 1)))
        found.append(draw(arrays((classes,), F32, 0.25, 2)))
        return sample(*found, smoothing=draw(st.sampled_from([0.0, 0.1, 1.0])))

    return draw


_X, _C, _LABELS = f32(2, 3), ones(3), i32(0, 1)
# A logit of -inf takes its class out.
_MASKED = np.array([[0, -np.inf, 1], [-np.inf, 2, -np.inf]], F32)
_FAR = np.array([[-1000, 0, 1000], [88, 89, 90]], F32)


def _misfits(*before):
    attrs = {"smoothing": 0.1}
    return (
        wrong(ShapeError, r"logits \[N, classes\]", *before, _X, i32(0), _C, **attrs),
        wrong(DTypeError, "labels must be integers", *before, _X, ones(2), _C, **attrs),
        wrong(ShapeError, "each of 3 classes", *before, _X, _LABELS, ones(2), **attrs),
        wrong(ShapeError, "0 and 1, got 1.5", *before, _X, _LABELS, _C, smoothing=1.5),
    )


_RANGE = {"first": -3, "last": 4, "what": "it"}


def _in_range(x):
    return sample(x, **_RANGE)


def _checked(x):
    return sample(x, what="it")


ROWS = {
    "cross_entropy": Row(
        _losses(),
        (
            sample(_FAR, i32(0, 2), _C, smoothing=0.0),
            sample(_MASKED, i32(2, 1), f32(3), smoothing=0.0),
            sample(_MASKED, i32(1, 1), _C, smoothing=0.0),
            sample(_MASKED, i32(2, 1), _C, smoothing=0.1),
            sample(f32(0, 3), i32(), _C, smoothing=0.1),
            sample(f32(2, 3000), i32(0, 2999), ones(3000), smoothing=0.1),
        ),
        bounds.cross_entropy,
        wrong=_misfits(),
        refused=(
            wrong(DataError, r"label 3 at position 1 .*0\.\.2", _X, i32(0, 3), _C, smoothing=0.1),
            wrong(DataError, "label -1 at position 0", _X, i32(-1, 3), _C, smoothing=0.0),
        ),
    ),
    "cross_entropy_backward": Row(
        _losses(backward=True),
        (
            sample(ones(2), _FAR, i32(0, 2), _C, smoothing=0.0),
            sample(ones(2), _MASKED, i32(2, 1), f32(3), smoothing=0.0),
            sample(ones(2), _MASKED, i32(2, 1), _C, smoothing=0.1),
        ),
        bounds.cross_entropy_backward,
        wrong=(
            *_misfits(ones(2)),
            wrong(ShapeError, r"must be \[2\]", ones(3), _X, _LABELS, _C, smoothing=0.1),
        ),
    ),
    "check_range": Row(
        lambda wild: arrays(shapes(), I32, -3, 4).map(_in_range),
        (_in_range(i32()), _in_range(i32(-3, 4, 0))),
        wrong=(wrong(DTypeError, "must be int32", f32(1), first=0, last=1, what="it"),),
        refused=(
            wrong(DataError, r"it 5 at position 1 .*-3\.\.4", i32(4, 5), **_RANGE),
            wrong(DataError, "it -4 at position 0", i32(-4), **_RANGE),
        ),
    ),
    "check_finite": Row(
        lambda wild: arrays(shapes(), strided=True).map(_checked),
        (
            _checked(f32()),
            _checked(f32(0, 2)),
            _checked(np.array([2.0**127, 2.0**-149], F32)),
            _checked(np.array([65504.0, -(2.0**-24)], np.float16)),
        ),
        wrong=(wrong(DTypeError, "must be a float", i32(1), what="it"),),
        refused=(
            wrong(
                NonFiniteError,
                "it is nan at position 1",
                np.array([[1, np.nan], [np.inf, 1]], F32),
                what="it",
            ),
            wrong(
                NonFiniteError, "is -inf .*no state was changed", np.array(-np.inf, F32), what="it"
            ),
            wrong(
                NonFiniteError, "inf at position 1", np.array([1, np.inf], np.float16), what="it"
            ),
        ),
    ),
}
