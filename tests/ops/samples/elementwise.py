"""Rows of arithmetic, functions, comparisons, selection, casts and chains."""

import numpy as np
from hypothesis import strategies as st
from ops import bounds

from tinygrad_edge.dtypes import as_dtype
from tinygrad_edge.errors import DTypeError, GraphError, ShapeError
from tinygrad_edge.ops.chain import Step
from tinygrad_edge.testing.strategies import SPECIAL, arrays, broadcastable_shapes, shapes

from .row import ANY, BOOL, F32, F64, I32, U8, Row, Sample, ones, sample, wrong

_WIDE = {F32: (-100, 100), I32: (-(2**31), 2**31 - 1), BOOL: (0, 1)}
_SPECIAL = {F32: SPECIAL, I32: (0, 1, -1, 2**31 - 1, -(2**31)), BOOL: (0, 1)}


def _elementwise(*domains, dtypes=(F32,), **row):
    """Row of an op on broadcast inputs.

    A domain is the interval in which a tame input lies, or the type that the input always has.
    """
    arity = len(domains)

    def types(dtype):
        return [d if isinstance(d, type) else dtype for d in domains]

    @st.composite
    def draw(draw, wild):
        dtype = draw(st.sampled_from(dtypes)) if wild else dtypes[0]
        drawn = draw(broadcastable_shapes(arity, 4 if wild else 3, 6 if wild else 3))
        found = []
        for shape, domain, own in zip(drawn, domains, types(dtype), strict=True):
            wide = domain is own or (wild and draw(st.booleans()))
            low, high = _WIDE[own] if wide else domain
            found.append(draw(arrays(shape, own, low, high, special=wild, strided=True)))
        return Sample(tuple(found))

    def by_hand(dtype):
        """0-d, empty, and every special value beside every other."""
        yield sample(*(np.ones((), own) for own in types(dtype)))
        yield sample(*(np.ones((0, 3), own) for own in types(dtype)))
        values = [np.array(_SPECIAL[own], own) for own in types(dtype)]
        yield Sample(tuple(v.reshape(-1, *(1,) * i) for i, v in enumerate(values)))

    return Row(draw, tuple(s for dtype in dtypes for s in by_hand(dtype)), **row)


def _misfits(arity):
    if arity == 1:
        return ()
    rest = (ones(2),) * (arity - 2)
    return (
        wrong(ShapeError, r"\[4\].* do not broadcast", ones(2, 3), ones(4), *rest),
        wrong(DTypeError, "must have one dtype", ones(2), ones(2, dtype=I32), *rest),
    )


def arithmetic(*domains, **row):
    """Row of an elementwise op on floats or on int32."""
    small = wrong(DTypeError, "float32 or int32; cast first", *(ones(2, dtype=U8) for _ in domains))
    return _elementwise(*domains, dtypes=(F32, I32), wrong=(*_misfits(len(domains)), small), **row)


def function(*domains, **row):
    """Row of an elementwise op on floats alone."""
    integers = wrong(DTypeError, "must be floats; cast", *(ones(2, dtype=I32) for _ in domains))
    return _elementwise(*domains, wrong=(*_misfits(len(domains)), integers), **row)


def logic(arity):
    """Row of an op on truth values."""
    floats = wrong(DTypeError, "must be bool; compare first", *(ones(2),) * arity)
    return _elementwise(*(BOOL,) * arity, dtypes=(BOOL,), wrong=(floats,))


_ANY = (-2.5, 2.5)
_POSITIVE = (0.3, 3)
_TRUE = ones(2, dtype=BOOL)


@st.composite
def _casts(draw, wild):
    if not wild:
        return sample(draw(arrays(shapes(0, 3), F64)), dtype=as_dtype("float64"))
    dtype = draw(st.sampled_from(ANY))
    low, high = {"f": (-300, 300), "i": (-128, 127), "u": (0, 255), "b": (0, 1)}[
        np.dtype(dtype).kind
    ]
    x = draw(arrays(shapes(), dtype, low, high, special=True, strided=True))
    return sample(x, dtype=as_dtype(draw(st.sampled_from(ANY))))


# Halves, the ends of small integers, of float16, of 32-bit integers.
_EDGES = (0.5, -1.5, 127.6, -128.9, 255.5, 256, 65504, 65520, 2.0**31, -(2.0**31), 2.0**32)


#: Steps that round once and sign their zeros, so that a chain has the bits of its reference.
_STEPS = {"negative": 1, "abs": 1, "sqrt": 1, "add": 2, "subtract": 2, "multiply": 2, "divide": 2}
_SMOOTH = {"negative": 1, "relu": 1, "add": 2, "multiply": 2}


@st.composite
def _chains(draw, wild):
    inputs = draw(broadcastable_shapes(draw(st.integers(1, 4)), 3, 5 if wild else 2))
    constants = tuple(draw(st.lists(st.sampled_from([-1.0, 0.5, 3.0]), max_size=3)))
    sources = [("input", k) for k in range(len(inputs))]
    sources += [("constant", k) for k in range(len(constants))]
    steps = []
    for j in range(draw(st.integers(1, 6))):
        op, arity = draw(st.sampled_from(sorted((_STEPS if wild else _SMOOTH).items())))
        picked = tuple(draw(st.sampled_from(sources)) for _ in range(arity))
        steps.append(Step(op, picked))
        sources.append(("step", j))
    # All inputs are read, so that the last step has the shape of all.
    last = ("step", len(steps) - 1)
    for k in range(len(inputs)):
        steps.append(Step("add", (last, ("input", k))))
        last = ("step", len(steps) - 1)
    found = [draw(arrays(s, F32, special=wild, strided=True)) for s in inputs]
    return sample(*found, steps=tuple(steps), constants=constants)


ROWS = {
    "add": arithmetic(_ANY, _ANY),
    "subtract": arithmetic(_ANY, _ANY),
    "multiply": arithmetic(_ANY, _ANY),
    "divide": function(_ANY, _POSITIVE),
    "negative": arithmetic(_ANY),
    "abs": arithmetic(_ANY),
    "sign": arithmetic(_ANY),
    "power": function(_POSITIVE, _ANY, bound=bounds.ulps(1)),
    "maximum": arithmetic(_ANY, _ANY, bound=bounds.equal),
    "minimum": arithmetic(_ANY, _ANY, bound=bounds.equal),
    "clip": function(_ANY, (-2, 0), (-1, 2), bound=bounds.equal),
    "exp": function(_ANY, bound=bounds.ulps(1.1)),
    "log": function(_POSITIVE, bound=bounds.ulps(1)),
    "sqrt": function(_POSITIVE),
    "tanh": function(_ANY, bound=bounds.ulps(2)),
    "sigmoid": function(_ANY, bound=bounds.ulps(3)),
    "relu": function(_ANY, bound=bounds.equal),
    "relu6": function((-3, 9), bound=bounds.equal),
    "hardswish": function((-5, 5)),
    "relu_backward": function(_ANY, _ANY),
    "relu6_backward": function(_ANY, (-3, 9)),
    "hardswish_backward": function(_ANY, (-5, 5)),
    **{
        name: arithmetic(_ANY, _ANY)
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    },
    "logical_and": logic(2),
    "logical_or": logic(2),
    "logical_not": logic(1),
    "where": _elementwise(
        BOOL,
        _ANY,
        _ANY,
        dtypes=(F32, I32),
        wrong=(
            wrong(DTypeError, "the condition must be bool", ones(2), ones(2), ones(2)),
            wrong(DTypeError, "one dtype", _TRUE, ones(2), ones(2, dtype=I32)),
            wrong(ShapeError, "do not broadcast", _TRUE, ones(3), ones(3)),
        ),
    ),
    "cast": Row(
        _casts,
        tuple(sample(np.array([*SPECIAL, *_EDGES], F32), dtype=as_dtype(t)) for t in ANY),
    ),
    "chain": Row(
        _chains,
        (
            sample(
                np.array(SPECIAL, F32),
                np.array(SPECIAL, F32)[:, None],
                steps=(
                    Step("multiply", (("input", 0), ("input", 1))),
                    Step("add", (("step", 0), ("constant", 0))),
                    Step("subtract", (("step", 1), ("step", 0))),
                ),
                constants=(0.5,),
            ),
        ),
        wrong=(
            wrong(GraphError, "at most 16 steps, 8 inputs", steps=(), constants=()),
            wrong(GraphError, "8 constants", ones(2), steps=(), constants=(0.0,) * 9),
        ),
    ),
}
