"""Rows of values from nothing, of ops that move elements, and of positions given by data."""

import numpy as np
from hypothesis import strategies as st

from tinygrad_edge.dtypes import float32, int32
from tinygrad_edge.errors import DataError, DTypeError, ShapeError
from tinygrad_edge.testing.strategies import SPECIAL, arrays, broadcastable_shapes, shapes

from .row import ANY, BOOL, F32, I32, U8, Row, f32, i32, ones, sample, wrong


@st.composite
def _moved(draw, wild, min_dims=0):
    """One array, wild of any type."""
    dtype = draw(st.sampled_from(ANY)) if wild else F32
    low, high = (0, 1) if dtype is BOOL else (0, 100) if wild else (-2, 2)
    shape = shapes(min_dims, 4 if wild else 3, 0, 5 if wild else 3)
    return draw(arrays(shape, dtype, low, high, special=wild, strided=True))


@st.composite
def _fulls(draw, wild):
    value = draw(st.sampled_from([0.0, 1.0, -2.5, 7.0]))
    dtype = draw(st.sampled_from([float32, int32]))
    return sample(shape=draw(shapes()), value=value, dtype=dtype)


@st.composite
def _reshapes(draw, wild):
    x = draw(_moved(wild))
    shape = draw(st.permutations(x.shape))
    if x.ndim > 1 and draw(st.booleans()):
        shape = [shape[0] * shape[1], *shape[2:]]
    if x.size and shape and draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = -1
    return sample(x, shape=tuple(shape))


@st.composite
def _transposes(draw, wild):
    x = draw(_moved(wild))
    return sample(x, axes=tuple(draw(st.permutations(range(x.ndim)))))


@st.composite
def _broadcasts(draw, wild):
    shape, other = draw(broadcastable_shapes(2, 4 if wild else 3, 5 if wild else 3))
    x = draw(arrays(shape, draw(st.sampled_from((F32, I32, U8))) if wild else F32, 0, 3))
    return sample(x, shape=np.broadcast_shapes(shape, other))


@st.composite
def _slices(draw, wild):
    x = draw(_moved(wild))
    start = tuple(draw(st.integers(0, n)) for n in x.shape)
    stop = tuple(draw(st.integers(a, n)) for a, n in zip(start, x.shape, strict=True))
    return sample(x, start=start, stop=stop, step=tuple(draw(st.integers(1, 3)) for _ in x.shape))


@st.composite
def _pads(draw, wild):
    x = draw(_moved(wild))
    low, high, interior = (tuple(draw(st.integers(0, 2)) for _ in x.shape) for _ in range(3))
    return sample(x, low=low, high=high, interior=interior)


@st.composite
def _flips(draw, wild):
    x = draw(_moved(wild))
    return sample(x, axes=tuple(a for a in range(x.ndim) if draw(st.booleans())))


@st.composite
def _joins(draw, wild):
    x = draw(_moved(wild, min_dims=1))
    axis = draw(st.integers(0, x.ndim - 1))
    parts = [x]
    for _ in range(draw(st.integers(0, 2))):
        shape = (*x.shape[:axis], draw(st.integers(0, 4)), *x.shape[axis + 1 :])
        parts.append(draw(arrays(shape, x.dtype, 0, 1, strided=True)))
    return sample(*parts, axis=axis)


def _indices(count, length):
    """Positions on an axis, negative ones too; on an empty axis there are none."""
    return arrays((count if length else 0,), I32, -length, max(length - 1, -length))


@st.composite
def _takes(draw, wild):
    x = draw(_moved(wild, min_dims=1))
    axis = draw(st.integers(0, x.ndim - 1))
    return sample(x, draw(_indices(draw(st.integers(0, 5)), x.shape[axis])), axis=axis)


@st.composite
def _scatters(draw, wild):
    shape = draw(shapes(1, 3, 0, 4))
    axis = draw(st.integers(0, len(shape) - 1))
    length = draw(st.integers(1 if shape[axis] else 0, 5))
    updates = draw(arrays(shape, F32, strided=True))
    return sample(updates, draw(_indices(shape[axis], length)), length=length, axis=axis)


ROWS = {
    "full": Row(
        _fulls,
        (
            sample(shape=(3,), value=float("-inf"), dtype=float32),
            sample(shape=(), value=float("nan"), dtype=float32),
            sample(shape=(2, 0), value=1.0, dtype=float32),
        ),
    ),
    "arange": Row(
        lambda wild: st.integers(0, 100).map(lambda n: sample(count=n)), (sample(count=0),)
    ),
    "reshape": Row(
        _reshapes,
        (sample(f32(0, 3), shape=(3, 0, 2)), sample(f32(1), shape=())),
        wrong=(
            wrong(ShapeError, r"cannot reshape 6 elements to \[4, 2\]", f32(2, 3), shape=(4, 2)),
            wrong(ShapeError, "cannot reshape 6 elements", f32(2, 3), shape=(-1, 4)),
            wrong(ShapeError, "at most one -1", f32(2, 3), shape=(-1, -1)),
        ),
    ),
    "detach": Row(lambda wild: _moved(wild).map(sample), (sample(f32()), sample(f32(0, 2)))),
    "transpose": Row(
        _transposes,
        (sample(f32(), axes=()), sample(f32(2, 0, 3), axes=(2, 0, 1))),
        wrong=(wrong(ShapeError, "not a permutation of 2 axes", f32(2, 3), axes=(0, 0)),),
    ),
    "broadcast_to": Row(
        _broadcasts,
        (sample(f32(), shape=(2, 3)), sample(f32(1, 0), shape=(4, 0))),
        wrong=(
            wrong(ShapeError, "do not broadcast", f32(2), shape=(3,)),
            wrong(ShapeError, r"not broadcast to \[3\]", f32(2, 3), shape=(3,)),
        ),
    ),
    "slice": Row(
        _slices,
        (sample(f32(), start=(), stop=(), step=()),),
        wrong=(
            wrong(ShapeError, "0:4:1 does not fit", f32(3), start=(0,), stop=(4,), step=(1,)),
            wrong(ShapeError, "0:3:0 does not fit", f32(3), start=(0,), stop=(3,), step=(0,)),
        ),
    ),
    "pad": Row(
        _pads,
        (
            sample(f32(), low=(), high=(), interior=()),
            sample(f32(0, 2), low=(1, 0), high=(2, 1), interior=(3, 0)),
        ),
        wrong=(
            wrong(ShapeError, "be non-negative", f32(3), low=(-1,), high=(0,), interior=(0,)),
            wrong(ShapeError, "one for each axis", f32(3, 2), low=(1,), high=(0,), interior=(0,)),
        ),
    ),
    "flip": Row(_flips, (sample(f32(), axes=()), sample(f32(0, 2), axes=(0, 1)))),
    "concatenate": Row(
        _joins,
        (sample(f32(0, 2), f32(3, 2), axis=0), sample(f32(2, 0), f32(2, 0), axis=1)),
        wrong=(
            wrong(ShapeError, "must agree in all axes but 0", f32(2, 3), f32(2, 2), axis=0),
            wrong(ShapeError, "must agree in all axes but 0", f32(2, 3), f32(2), axis=0),
            wrong(DTypeError, "inputs must have one dtype", f32(2), i32(1, 2), axis=0),
        ),
    ),
    "take": Row(
        _takes,
        (
            sample(f32(3, 2), i32(), axis=0),
            sample(f32(3, 0), i32(-1, 0, 2), axis=0),
            sample(np.array(SPECIAL, F32), i32(*range(-len(SPECIAL), 0)), axis=0),
        ),
        wrong=(
            wrong(DTypeError, "one axis of int32", f32(3), f32(2), axis=0),
            wrong(DTypeError, "one axis of int32", f32(3), ones(1, 2, dtype=I32), axis=0),
        ),
        refused=(
            wrong(DataError, r"index 3 at position 1 .* -3\.\.2", f32(2, 3), i32(0, 3), axis=1),
            wrong(DataError, r"index -3 at position 0 .* -2\.\.1", f32(2, 3), i32(-3, 9), axis=0),
            wrong(DataError, "index 0 at position 0", f32(0, 3), i32(0), axis=0),
        ),
    ),
    "scatter_add": Row(
        _scatters,
        (
            sample(f32(0, 2), i32(), length=3, axis=0),
            sample(f32(2, 6), i32(1, 1, -1, 1, 0, 1), length=2, axis=1),
        ),
        wrong=(
            wrong(ShapeError, "must have 1 entries", f32(3), i32(0), length=2, axis=0),
            wrong(DTypeError, "must be float32", i32(1), i32(0), length=2, axis=0),
            wrong(DTypeError, "one axis of int32", f32(1), f32(1), length=2, axis=0),
        ),
        refused=(wrong(DataError, "index 5 at position 1", f32(2), i32(0, 5), length=5, axis=0),),
    ),
}
