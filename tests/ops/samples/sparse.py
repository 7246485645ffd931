"""Rows of convolutions with sparse weights."""

import math

import numpy as np
from hypothesis import strategies as st
from ops import bounds

from tinygrad_edge.errors import DTypeError, ShapeError
from tinygrad_edge.ops import segments_of
from tinygrad_edge.testing.strategies import arrays, conv2d_configs

from .row import F64, I32, U16, Row, f32, sample, wrong

SEGMENT = 65536


def pool(dense, before=(), after=()):
    """Compressed rows of the non-zeros of weights, and rows of others with so many non-zeros."""
    width = math.prod(dense.shape[1:])
    lengths, columns = list(before), [np.arange(n) for n in before]
    for row in dense.reshape(len(dense), width):
        for start in range(0, max(width, 1), SEGMENT):
            found = np.flatnonzero(row[start : start + SEGMENT])
            lengths.append(len(found))
            columns.append(found)
    lengths += after
    columns += [np.arange(n) for n in after]
    rows = np.cumsum([0, *lengths])
    return np.concatenate([*columns, []]).astype(U16), rows.astype(I32)


@st.composite
def _layers(draw):
    """A configuration, and a pool with this layer in the middle."""
    config = draw(conv2d_configs(False, max_channels=3, max_side=4))
    shape = config.w_shape[0], config.x_shape[1], *config.w_shape[2:]  # all channels mixed
    here = draw(st.lists(st.booleans(), min_size=math.prod(shape), max_size=math.prod(shape)))
    before, after = (draw(st.lists(st.integers(0, 3), max_size=2)) for _ in range(2))
    columns, rows = pool(np.array(here, bool).reshape(shape), before, after)
    attrs = {name: config.attrs[name] for name in ("stride", "padding", "dilation")}
    layer = {"weight_shape": shape, "first_row": len(before), "nonzeros": sum(here)}
    shapes = {"x": config.x_shape, "y": config.y_shape, "values": columns.shape}
    return shapes, columns, rows, {**attrs, **layer}


def _drawn(read, extra=()):
    """Strategy for one of the products: what it reads besides the index."""

    @st.composite
    def draw(draw, wild):
        shapes, columns, rows, attrs = draw(_layers())
        found = [draw(arrays(shapes[name], strided=True)) for name in read]
        more = {"shape": shapes["x"]} if "shape" in extra else {}
        return sample(*found, columns, rows, **attrs, **more)

    return draw


def _terms(arrays, attrs):
    return math.prod(attrs["weight_shape"][1:])


_W = np.where(np.random.default_rng(0).random((8, 4, 3, 3)) < 0.2, 1, 0)
_W[3] = 0  # an all-zero row
_COLUMNS, _ROWS = pool(_W)
_VALUES = f32(len(_COLUMNS))
_X, _Y = f32(2, 4, 5, 3), f32(2, 8, 5, 3)
_PLAIN = {
    "stride": (1, 1),
    "padding": (1, 1),
    "dilation": (1, 1),
    "weight_shape": _W.shape,
    "first_row": 0,
    "nonzeros": len(_COLUMNS),
}
_TO_X = {**_PLAIN, "shape": _X.shape}


def _wide():
    """More columns than 16 bits can number: two segments a row."""
    dense = np.zeros((2, 70_000, 1, 1), bool)
    dense[0, [0, 65_535, 65_536, 69_999]] = dense[1, 65_537] = True
    columns, rows = pool(dense)
    attrs = {**_PLAIN, "padding": (0, 0), "weight_shape": dense.shape, "nonzeros": 5}
    return f32(1, 70_000, 1, 1), f32(5), f32(1, 2, 1, 1), columns, rows, attrs


#: Denser, and small beside its images: dense in workspace.
_DENSE_COLUMNS, _DENSE_ROWS = pool(np.random.default_rng(0).random((8, 4, 1, 1)) < 0.7)
_DENSE_VALUES = f32(len(_DENSE_COLUMNS))
_DENSE_X, _DENSE_Y = f32(2, 4, 6, 5), f32(2, 8, 6, 5)
_DENSE = {
    **_PLAIN,
    "padding": (0, 0),
    "weight_shape": (8, 4, 1, 1),
    "nonzeros": len(_DENSE_COLUMNS),
}

_WIDE_X, _WIDE_VALUES, _WIDE_Y, _WIDE_COLUMNS, _WIDE_ROWS, _WIDE = _wide()
assert segments_of(_WIDE["weight_shape"]) == 2
_MANY = f32(2, 4, 5, 3).round(), f32(2, 8, 5, 3).round()  # sums of integers are exact
_NONE = np.zeros(0, U16), np.zeros(9, I32)  # an empty layer


@st.composite
def _candidates(draw, wild):
    """Of integers, so that sums are exact, and many gradients are equal."""
    shapes, columns, rows, attrs = draw(_layers())
    x, y = (draw(arrays(shapes[name], strided=True)).round() for name in ("x", "y"))
    del attrs["nonzeros"]
    most = math.prod(attrs["weight_shape"]) + 2
    return sample(x, y, columns, rows, **attrs, count=draw(st.integers(0, most)))


_COUNTED = {name: value for name, value in _PLAIN.items() if name != "nonzeros"} | {"count": 30}
_WIDE_COUNTED = {name: value for name, value in _WIDE.items() if name != "nonzeros"}

_WRONG_INDEX = (
    wrong(DTypeError, "columns must be uint16", _X, _VALUES, _COLUMNS.astype(I32), _ROWS, **_PLAIN),
    wrong(ShapeError, "rows 0..8 needs", _X, _VALUES, _COLUMNS, _ROWS[:-1], **_PLAIN),
    wrong(ShapeError, r"values must be", _X, _VALUES[1:], _COLUMNS, _ROWS, **_PLAIN),
    wrong(DTypeError, "floats of one dtype", _X, _VALUES.astype(F64), _COLUMNS, _ROWS, **_PLAIN),
)

ROWS = {
    "sparse_conv2d": Row(
        _drawn(("x", "values")),
        (
            sample(_X, _VALUES, _COLUMNS, _ROWS, **_PLAIN),
            sample(_X[:0], _VALUES, _COLUMNS, _ROWS, **_PLAIN),
            sample(_DENSE_X, _DENSE_VALUES, _DENSE_COLUMNS, _DENSE_ROWS, **_DENSE),
            sample(_X, _VALUES[:0], *_NONE, **_PLAIN),
            sample(_WIDE_X, _WIDE_VALUES, _WIDE_COLUMNS, _WIDE_ROWS, **_WIDE),
        ),
        bounds.linear(_terms),
        by=(0, 1),
        wrong=_WRONG_INDEX,
    ),
    "sparse_conv2d_backward_data": Row(
        _drawn(("y", "values"), ("shape",)),
        (
            sample(_Y, _VALUES, _COLUMNS, _ROWS, **_TO_X),
            sample(_Y[:0], _VALUES, _COLUMNS, _ROWS, **{**_TO_X, "shape": (0, 4, 5, 3)}),
            sample(
                _DENSE_Y,
                _DENSE_VALUES,
                _DENSE_COLUMNS,
                _DENSE_ROWS,
                **_DENSE,
                shape=_DENSE_X.shape,
            ),
            sample(_Y, _VALUES[:0], *_NONE, **_TO_X),
            sample(
                _WIDE_Y,
                _WIDE_VALUES,
                _WIDE_COLUMNS,
                _WIDE_ROWS,
                **_WIDE,
                shape=_WIDE_X.shape,
            ),
        ),
        bounds.linear(
            lambda arrays, attrs: attrs["weight_shape"][0] * math.prod(attrs["weight_shape"][2:])
        ),
        by=(0, 1),
        wrong=(
            wrong(ShapeError, r"must be \[2, 8, 5, 3\]", _Y[:1], _VALUES, _COLUMNS, _ROWS, **_TO_X),
        ),
    ),
    "sparse_conv2d_backward_weights": Row(
        _drawn(("x", "y")),
        (
            sample(_X, _Y, _COLUMNS, _ROWS, **_PLAIN),
            sample(_X[:0], _Y[:0], _COLUMNS, _ROWS, **_PLAIN),
            sample(_DENSE_X, _DENSE_Y, _DENSE_COLUMNS, _DENSE_ROWS, **_DENSE),
            sample(_X, _Y, *_NONE, **_PLAIN),
            sample(_WIDE_X, _WIDE_Y, _WIDE_COLUMNS, _WIDE_ROWS, **_WIDE),
        ),
        bounds.linear(lambda arrays, attrs: math.prod((len(arrays[1]), *arrays[1].shape[2:]))),
        by=(0, 1),
        wrong=(
            wrong(ShapeError, r"must be \[2, 8, 5, 3\]", _X, _Y[:1], _COLUMNS, _ROWS, **_PLAIN),
            wrong(DTypeError, "floats of one", _X, _Y.astype(F64), _COLUMNS, _ROWS, **_PLAIN),
        ),
    ),
    "sparse_conv2d_accumulate_weights": Row(
        _drawn(("values", "x", "y")),
        (
            sample(_VALUES, _X, _Y, _COLUMNS, _ROWS, **_PLAIN),
            sample(_VALUES[:0], _X, _Y, *_NONE, **_PLAIN),
            sample(_DENSE_VALUES, _DENSE_X, _DENSE_Y, _DENSE_COLUMNS, _DENSE_ROWS, **_DENSE),
        ),
        bounds.linear(lambda arrays, attrs: math.prod((len(arrays[2]), *arrays[2].shape[2:])) + 1),
        by=(0, 1, 2),
        wrong=(
            wrong(
                ShapeError,
                "gradient of the pool must be",
                _VALUES[1:],
                _X,
                _Y,
                _COLUMNS,
                _ROWS,
                **_PLAIN,
            ),
        ),
    ),
    "sparse_conv2d_candidates": Row(
        _candidates,
        (
            sample(*_MANY, _COLUMNS, _ROWS, **_COUNTED),
            sample(*_MANY, _COLUMNS, _ROWS, **{**_COUNTED, "count": 0}),
            sample(*_MANY, _COLUMNS, _ROWS, **{**_COUNTED, "count": 300}),  # all zeros, and more
            sample(_X[:0], _Y[:0], _COLUMNS, _ROWS, **_COUNTED),  # no gradient: the first ones
            sample(*_MANY, *_NONE, **_COUNTED),
            sample(
                _WIDE_X.round(),
                _WIDE_Y.round(),
                _WIDE_COLUMNS,
                _WIDE_ROWS,
                **_WIDE_COUNTED,
                count=70_000,
            ),
            sample(  # two channels at a time, and the third
                f32(1, 12_000, 1, 1).round(),
                np.array([[[[1]], [[-2]], [[2]]]], np.float32),
                *pool(np.arange(36_000).reshape(3, 12_000, 1, 1) % 5 == 0),
                **{**_WIDE_COUNTED, "weight_shape": (3, 12_000, 1, 1), "count": 999},
            ),
        ),
        bounds.equal,
        by=(),
        wrong=(
            wrong(ShapeError, r"must be \[2, 8, 5, 3\]", _X, _Y[:1], _COLUMNS, _ROWS, **_COUNTED),
            wrong(
                ShapeError,
                "have no int32 numbers",
                f32(0, 2**29, 1, 1),
                f32(0, 4, 1, 1),
                _COLUMNS,
                np.zeros(4 * 2**13 + 1, I32),
                **{**_WIDE_COUNTED, "weight_shape": (4, 2**29, 1, 1), "count": 30},
            ),
        ),
    ),
}
