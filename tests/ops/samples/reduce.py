"""Rows of reductions, of positions, of softmax."""

import math

import numpy as np
from hypothesis import strategies as st
from ops import bounds

from tinygrad_edge.errors import DTypeError, ShapeError
from tinygrad_edge.testing.strategies import arrays, shapes

from .row import BOOL, F32, I32, Row, f32, i32, ones, sample, wrong


@st.composite
def _reductions(draw, wild, dtypes=(F32,), least=0):
    dtype = draw(st.sampled_from(dtypes)) if wild else F32
    low, high = (-2, 2) if dtype is F32 else (-(2**31), 2**31 - 1)
    x = draw(
        arrays(shapes(1, 4 if wild else 3, least, 7 if wild else 3), dtype, low, high, strided=True)
    )
    axes = draw(st.sets(st.integers(0, x.ndim - 1), min_size=1))
    return sample(x, axes=tuple(sorted(axes)))


@st.composite
def _along_an_axis(draw, wild):
    x = draw(arrays(shapes(1, 3, 1, 9 if wild else 3), strided=True))
    if wild and draw(st.booleans()):
        x = np.round(x)  # so that some are equal
    return sample(x, axis=draw(st.integers(0, x.ndim - 1)))


@st.composite
def _topks(draw, wild):
    x = draw(_along_an_axis(wild)).arrays[0]
    return sample(x, k=draw(st.integers(0, x.shape[-1])))


_NAN, _INF = np.nan, np.inf
_TIES = np.array([[1, 3, 3, 2], [_NAN, 1, _NAN, 0], [-_INF, -_INF, -_INF, -_INF]], F32)
_FAR = np.array([[-1000, 0, 1000], [88, 89, 90], [-_INF, 0, 1], [_NAN, 1, 2]], F32)
_INFINITE = np.array([[_INF, 1], [_NAN, 1], [_INF, -_INF], [-_INF, 0]], F32)
_INTEGER = wrong(DTypeError, "must be a float; cast first", i32(1), axis=0)
_EMPTY = wrong(ShapeError, r"axis 1 of \[2, 0\] is empty", f32(2, 0), axis=1)


def _softmax(bound):
    by_hand = (sample(_FAR, axis=1), sample(_FAR, axis=0), sample(f32(0, 3), axis=1))
    return Row(_along_an_axis, by_hand, bound, wrong=(_INTEGER, _EMPTY))


ROWS = {
    "sum": Row(
        lambda wild: _reductions(wild, (F32, I32)),
        (
            sample(f32(0, 3), axes=(0,)),
            sample(f32(2, 0), axes=(0,)),
            sample(f32(70, 1000), axes=(1,)),
            sample(f32(1000, 70), axes=(0,)),
            sample(_INFINITE, axes=(1,)),
            sample(i32(2**31 - 1, 1, 5), axes=(0,)),
        ),
        bounds.linear(lambda arrays, attrs: math.prod(arrays[0].shape[a] for a in attrs["axes"])),
        wrong=(wrong(DTypeError, "float or int32; cast first", ones(2, dtype=BOOL), axes=(0,)),),
    ),
    "max": Row(
        lambda wild: _reductions(wild, least=1),
        (
            *(sample(_TIES, axes=axes) for axes in [(0,), (1,), (0, 1)]),
            sample(f32(2, 0), axes=(0,)),
        ),
        wrong=(
            wrong(ShapeError, "maximum over an empty axis", f32(0, 2), axes=(0,)),
            wrong(DTypeError, "must be a float; cast first", i32(1), axes=(0,)),
        ),
    ),
    "argmax": Row(
        _along_an_axis,
        (sample(_TIES, axis=1), sample(_TIES, axis=0), sample(f32(2, 0), axis=0)),
        wrong=(_INTEGER, _EMPTY),
    ),
    "topk": Row(
        _topks,
        (sample(_TIES, k=3), sample(f32(0, 3), k=2), sample(f32(2, 0), k=0)),
        wrong=(
            wrong(ShapeError, r"k = 4 is outside 0\.\.3", f32(2, 3), k=4),
            wrong(DTypeError, "must be a float; cast first", i32(1), k=1),
        ),
    ),
    "softmax": _softmax(bounds.softmax),
    "log_softmax": _softmax(bounds.log_softmax),
}
