"""Rows of what stores saved values in fewer bits."""

import math

import numpy as np
from hypothesis import strategies as st
from ops.bounds import gamma

from tinygrad_edge.errors import DTypeError, NonFiniteError, ShapeError
from tinygrad_edge.op import OPS
from tinygrad_edge.testing.strategies import SPECIAL, arrays, shapes

from .row import F32, I32, U8, U32, Row, f32, i32, ones, sample, wrong

_SEED = np.array([1, 2, 3, 4], U32)
_LAST = 2**32 - 1
_BIG = np.array([0, np.inf, np.nan], F32)
_FINITE = np.array([v for v in SPECIAL if abs(v) < 3e38], F32)
#: Samples of more than one group, whose last is not whole.
_LONG = f32(3, 515)


def _rounded(x, generator=_SEED, first=0, site=0):
    return sample(x, generator, np.array(first, I32), site=site, what="it")


@st.composite
def _roundings(draw, wild):
    shape = draw(shapes(1, 4)) if draw(st.booleans()) else (2, draw(st.integers(250, 520)))
    x = draw(arrays(shape, strided=True)) * F32(draw(st.sampled_from([1, 1e-30, 2e-31, 1e36])))
    generator = draw(arrays((4,), U32, 0, _LAST))
    return _rounded(x, generator, draw(st.integers(-5, 100)), draw(st.integers(0, 3)))


def _decoded(encode, x, shape):
    return sample(*OPS[encode].reference(x, what="it"), shape=shape)


def _int8(x):
    return sample(*OPS["int8_encode"].reference(*_rounded(x).arrays, site=0, what="it"))


def _bits(x, **attrs):
    return sample(OPS["mask_encode"].reference(x, high=math.inf)[0], **attrs)


def _applied(x):
    return sample(x[::-1].copy(), *_bits(x).arrays)


@st.composite
def _small(draw, wild):
    bits = draw(st.sampled_from([1, 2, 4]))
    return sample(draw(arrays(shapes(), U8, 0, 2**bits - 1, strided=True)), bits=bits)


def _unpacked(found):
    (x,), bits = found.arrays, found.attrs["bits"]
    return sample(*OPS["pack"].reference(x, bits=bits), shape=x.shape, bits=bits)


_X = ones(2, 3)
_FIRST = np.array(0, I32)
_NARROW = np.zeros(1, U8)

ROWS = {
    "float16_encode": Row(
        lambda wild: arrays(shapes(), strided=True).map(lambda x: sample(x, what="it")),
        (sample(_FINITE[np.abs(_FINITE) < 65_520], what="it"), sample(_LONG, what="it")),
        wrong=(wrong(DTypeError, "expected float32", i32(1), what="it"),),
        refused=(
            wrong(NonFiniteError, "it is inf at position 1", _BIG, what="it"),
            wrong(NonFiniteError, "it is -inf at position 0", F32([-65_520]), what="it"),
        ),
        widens=False,
    ),
    "bfloat16_encode": Row(
        lambda wild: arrays(shapes(), strided=True).map(lambda x: sample(x, what="it")),
        (sample(_FINITE, what="it"), sample(_LONG, what="it"), sample(f32(), what="it")),
        wrong=(wrong(DTypeError, "expected float32", i32(1), what="it"),),
        refused=(
            wrong(NonFiniteError, "it is inf at position 1", _BIG, what="it"),
            wrong(NonFiniteError, "it is -inf at position 0", F32([-3.4e38]), what="it"),
        ),
        widens=False,
    ),
    "bfloat16_decode": Row(
        lambda wild: arrays(shapes()).map(lambda x: _decoded("bfloat16_encode", x, x.shape)),
        (_decoded("bfloat16_encode", _FINITE, (len(_FINITE),)),),
        wrong=(
            wrong(ShapeError, r"16 bits for each element of \[2\]", np.zeros(3, U8), shape=(2,)),
            wrong(DTypeError, "expected uint8", f32(4), shape=(2,)),
        ),
    ),
    "int8_encode": Row(
        _roundings,
        (_rounded(_FINITE[:, None]), _rounded(_LONG), _rounded(f32(0, 3)), _rounded(f32(3, 0))),
        wrong=(
            wrong(DTypeError, "expected float32", i32(1), _SEED, _FIRST, site=0, what="it"),
            wrong(ShapeError, "the first counts", f32(), _SEED, _FIRST, site=0, what="it"),
            wrong(DTypeError, r"uint32\[4\]", _X, i32(1, 2), _FIRST, site=0, what="it"),
        ),
        refused=(
            wrong(
                NonFiniteError, "it is inf at position 1", _BIG, _SEED, _FIRST, site=0, what="it"
            ),
        ),
        widens=False,
    ),
    "int8_decode": Row(
        lambda wild: arrays(shapes(1)).map(_int8),
        (_int8(_LONG), _int8(f32(0, 3))),
        wrong=(
            wrong(DTypeError, "expected int8", ones(2, 3), ones(2, 1)),
            wrong(ShapeError, "for each 256", np.zeros((2, 300), np.int8), ones(2, 1)),
        ),
        widens=False,
    ),
    "mask_encode": Row(
        lambda wild: arrays(shapes(), special=wild, strided=True).map(
            lambda x: sample(x, high=1.0)
        ),
        (sample(np.array(SPECIAL, F32), high=math.inf), sample(_LONG, high=6.0)),
        wrong=(wrong(DTypeError, "expected float32", i32(1), high=1.0),),
        widens=False,
    ),
    "mask_decode": Row(
        lambda wild: arrays(shapes()).map(lambda x: _bits(x, shape=x.shape)),
        (_bits(_LONG, shape=_LONG.shape),),
        wrong=(wrong(ShapeError, "1 bits for each", _NARROW, shape=(9,)),),
    ),
    "mask_apply": Row(
        lambda wild: arrays(shapes(1), special=wild).map(_applied),
        (_applied(_LONG), _applied(np.array(SPECIAL, F32))),
        wrong=(
            wrong(ShapeError, "1 bits for each", ones(9), _NARROW),
            wrong(DTypeError, "expected float32", i32(1), _NARROW),
        ),
        widens=False,
    ),
    "pack": Row(
        _small,
        (sample(np.arange(1000, dtype=U8).reshape(10, 100) % 16, bits=4),),
        wrong=(
            wrong(ShapeError, "1, 2 or 4 bits, got 3", _NARROW, bits=3),
            wrong(DTypeError, "expected uint8", f32(4), bits=4),
        ),
    ),
    "unpack": Row(
        lambda wild: _small(wild).map(_unpacked),
        (_unpacked(sample(np.arange(1001, dtype=U8) % 4, bits=2)),),
        wrong=(wrong(ShapeError, "4 bits for each", _NARROW, shape=(3,), bits=4),),
    ),
    "storage_losses": Row(
        lambda wild: arrays(shapes(1), strided=True).map(sample),
        (sample(_LONG), sample(1e-5 * _LONG), sample(f32(0, 3)), sample(np.zeros((2, 3), F32))),
        # Squares of 256 elements are rounded and added in float; roots are taken in double.
        lambda op, arrays, attrs, expected: [gamma(300) * np.abs(expected[0])],
        wrong=(
            wrong(DTypeError, "expected float32", i32(1)),
            wrong(ShapeError, "the first counts", f32()),
        ),
        widens=False,
    ),
}
