"""Rows of randomness, of optimizers' updates and of loops."""

import numpy as np
from hypothesis import strategies as st
from ops import bounds

from tinygrad_edge.dtypes import float32
from tinygrad_edge.errors import DTypeError, GraphError, ShapeError
from tinygrad_edge.graph import Graph, new_input
from tinygrad_edge.op import TensorType
from tinygrad_edge.ops import add, multiply, sum_
from tinygrad_edge.testing.strategies import SPECIAL, arrays, shapes

from .row import F32, F64, I32, U32, Row, f32, i32, ones, sample, wrong

# ---- dropout ----

_SEED = np.array([1, 2, 3, 4], U32)
_LAST = 2**32 - 1


def _dropout(x, generator=_SEED, first=0, p=0.5, site=0):
    return sample(x, generator, np.array(first, I32), np.array(p, F32), site=site)


@st.composite
def _dropouts(draw, wild):
    return _dropout(
        draw(arrays(shapes(1, 4 if wild else 2, 0, 9 if wild else 4), strided=True)),
        draw(arrays((4,), U32, 0, _LAST)),
        draw(st.integers(0, 100)),
        draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])),
        draw(st.integers(0, 3)),
    )


_X, _, _FIRST, _P = _dropout(f32(2)).arrays

# ---- updates ----


def _update(states, rates, stepped=False, flags=()):
    """Row of an update: what its moments may be, what its rates are."""

    @st.composite
    def draw(draw, wild):
        shape = draw(shapes(0, 2, 0, 20))
        found = [draw(arrays(shape, F32, *domain)) for domain in ((-2, 2), (-2, 2), *states)]
        found.append(np.array([draw(st.sampled_from(values)) for values in rates], F64))
        if stepped:
            found.append(np.array(draw(st.integers(1, 2000)), I32))
        return sample(*found, **{flag: draw(st.booleans()) for flag in flags})

    step = (np.array(1, I32),) if stepped else ()
    attrs, hyper = dict.fromkeys(flags, False), 0.5 * ones(len(rates), dtype=F64)
    like = [ones(2) for _ in states]
    bad = [
        wrong(ShapeError, "must have one type", ones(2), ones(3), *like, hyper, *step, **attrs),
        wrong(DTypeError, "float64", ones(2), ones(2), *like, hyper.astype(F32), *step, **attrs),
    ]
    if stepped:
        bad.append(wrong(DTypeError, "int32", ones(2), ones(2), *like, hyper, ones(), **attrs))
    plain = sample(f32(0, 2), f32(0, 2), *(f32(0, 2) for _ in states), hyper, *step, **attrs)
    return Row(draw, (plain,), wrong=tuple(bad), widens=False)


_LR, _DECAY, _SHARE, _TINY = (0.1, 1e-3), (0.0, 0.01), (0.0, 0.9, 0.999), (1e-8,)
_MEAN, _SQUARE = (-2, 2), (0, 2)

_HYPER = np.array([0.1, 0.01, 0.9], F64)


@st.composite
def _accumulations(draw, wild):
    shape = draw(shapes(0, 2, 0, 20))
    found = [draw(arrays(shape, F32, -2, 2)) for _ in range(3)]
    return sample(*found, _HYPER, np.array(draw(st.sampled_from([0, 1, 8])), I32))


# ---- loops ----


def _loop(count, rows):
    """A running sum over parts of x, scaled; gives the sum and each part's product."""
    scale, part, carry = (new_input(TensorType(s, float32)) for s in ((4,), (rows, 4), (4,)))
    scaled = multiply(part, scale)
    body = Graph([add(carry, sum_(scaled, 0)), scaled], (), [scale, part, carry])
    return {"body": body, "count": count, "invariant": 1, "sliced": 1}


@st.composite
def _loops(draw, wild):
    count, rows = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    found = (draw(arrays(shape)) for shape in ((4,), (count * rows, 4), (4,)))
    return sample(*found, **_loop(count, rows))


def _loop_bound(op, arrays, attrs, expected):
    scale, x, carry = map(np.abs, arrays)
    total = bounds.gamma(len(x) + 2) * (carry + (x * scale).sum(0))
    return [total, bounds.U * np.abs(expected[1])]


ROWS = {
    "dropout": Row(
        _dropouts,
        (
            _dropout(np.array(SPECIAL, F32), p=0.3),
            _dropout(np.array([np.nan, np.inf], F32), p=1.0),
            _dropout(f32(0, 3)),
            _dropout(f32(3, 5), first=2**31 - 2),
        ),
        by=(0,),
        wrong=(
            wrong(DTypeError, "must be a float", i32(1), _SEED, _FIRST, _P, site=0),
            wrong(ShapeError, "the first counts samples", f32(), _SEED, _FIRST, _P, site=0),
            wrong(DTypeError, r"uint32\[4\]", _X, i32(1, 2, 3, 4), _FIRST, _P, site=0),
            wrong(DTypeError, "a float32 number", _X, _SEED, _FIRST, ones(dtype=F64), site=0),
        ),
    ),
    "generator_advance": Row(
        lambda wild: arrays((4,), U32, 0, _LAST).map(sample),
        (
            sample(np.array([5, 6, _LAST, 7], U32)),
            sample(np.array([5, 6, _LAST, _LAST], U32)),
        ),
    ),
    "sgd_update": _update((), (_LR, _DECAY)),
    "sgd_momentum_update": _update((_MEAN,), (_LR, _DECAY, _SHARE), flags=("nesterov",)),
    "sgd_momentum_accumulate": Row(
        _accumulations,
        (
            sample(f32(0, 2), f32(0, 2), f32(0, 2), _HYPER, np.array(0, I32)),
            sample(f32(0, 2), f32(0, 2), f32(0, 2), _HYPER, np.array(16, I32)),
        ),
        wrong=(
            wrong(ShapeError, "one type", ones(2), ones(3), ones(2), _HYPER, np.array(0, I32)),
            wrong(DTypeError, "int32", ones(2), ones(2), ones(2), _HYPER, ones()),
        ),
        widens=False,
    ),
    "sgd_momentum_step": Row(
        lambda wild: shapes(0, 2, 0, 20).flatmap(
            lambda s: st.builds(
                lambda p, m: sample(p, m, _HYPER), arrays(s, F32, -2, 2), arrays(s, F32, -2, 2)
            )
        ),
        (sample(f32(0, 2), f32(0, 2), _HYPER),),
        wrong=(
            wrong(ShapeError, "one type", ones(2), ones(3), _HYPER),
            wrong(DTypeError, "float64", ones(2), ones(2), _HYPER.astype(F32)),
        ),
        widens=False,
    ),
    "adam_update": _update(
        (_MEAN, _SQUARE), (_LR, _DECAY, _SHARE, _SHARE, _TINY), stepped=True, flags=("decoupled",)
    ),
    "rmsprop_update": _update((_SQUARE,), (_LR, _DECAY, _SHARE, _TINY)),
    "loop": Row(
        _loops,
        (sample(f32(4), f32(0, 4), f32(4), **_loop(3, 0)),),
        _loop_bound,
        wrong=(
            wrong(ShapeError, "one iteration, got 0", ones(4), ones(6, 4), ones(4), **_loop(0, 2)),
            wrong(GraphError, "body has 3 inputs, the loop 2", ones(4), ones(6, 4), **_loop(3, 2)),
            wrong(ShapeError, "input 1 of the loop", ones(4), ones(5, 4), ones(4), **_loop(3, 2)),
        ),
        widens=False,
    ),
}
