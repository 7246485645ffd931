"""Randomness that depends on a generator cell, a site and the global sample number alone.

The generator is four uint32 words: a 64-bit seed and a 64-bit step count. A site is numbered when
the op is traced and carried by copies, so that a recomputed dropout draws the same mask, which
therefore never needs to be stored.
"""

from __future__ import annotations

import math

import numpy as np

from ..dtypes import float32, int32, uint32
from ..errors import DTypeError, ShapeError
from ..graph import Node, Value, emit
from ..op import Cotangents, Kernel, Op, TensorType, register
from ._rows import first_axis

_ROUND_KEYS = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Philox4x32-10 (Salmon et al. 2011): four random words for each counter.

    Parameters
    ----------
    counter : ndarray of uint64, shape (..., 4)
        Words below 2**32.
    key : ndarray of uint64, shape (2,)

    Returns
    -------
    ndarray of uint64, shape (..., 4)
    """
    a, b, c, d = (counter[..., i] for i in range(4))
    low, high = key
    for _ in range(10):
        first, second = _MULTIPLIERS[0] * a, _MULTIPLIERS[1] * c
        a, b, c, d = (
            (second >> _SHIFT) ^ b ^ low,
            second & _LOW,
            (first >> _SHIFT) ^ d ^ high,
            first & _LOW,
        )
        low, high = (low + _ROUND_KEYS[0]) & _LOW, (high + _ROUND_KEYS[1]) & _LOW
    return np.stack([a, b, c, d], -1)


def uniform(generator: np.ndarray, first: int, site: int, samples: int, size: int) -> np.ndarray:
    """Uniform float32 numbers in [0, 1), [samples, size], as the dropout kernel draws them."""
    seed_low, seed_high, step_low, step_high = (np.uint64(word) for word in generator)
    quads = -(-size // 4)
    counter = np.empty((samples, quads, 4), np.uint64)
    counter[..., 0] = np.arange(quads, dtype=np.uint64)
    counter[..., 1] = (first + np.arange(samples, dtype=np.uint64)[:, None]) & _LOW
    counter[..., 2] = np.uint64(site)
    counter[..., 3] = step_low
    words = philox(counter, np.array([seed_low ^ step_high, seed_high]))
    flat = words.reshape(samples, quads * 4)[:, :size]
    return (flat >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)


def _dropout_type(
    x: Value, generator: Value, first: Value, probability: Value, *, site: int
) -> tuple[TensorType, ...]:
    if not x.dtype.is_float:
        raise DTypeError("the input must be a float; cast first")
    if not x.shape:
        raise ShapeError("expected at least one axis: the first counts samples")
    if generator.type != TensorType((4,), uint32) or first.dtype is not int32:
        raise DTypeError("the generator must be uint32[4] and the first sample int32")
    if probability.type != TensorType((), float32):
        raise DTypeError("the probability must be a float32 number")
    return (x.type,)


def _dropout(
    x: np.ndarray, generator: np.ndarray, first: np.ndarray, probability: np.ndarray, *, site: int
) -> tuple[np.ndarray, ...]:
    samples = x.shape[0]
    u = uniform(generator, int(first), site, samples, math.prod(x.shape[1:])).reshape(x.shape)
    with np.errstate(divide="ignore"):
        scale = np.float32(1) / (np.float32(1) - np.float32(probability))
    return (
        np.where(u >= probability, x * scale if np.isfinite(scale) else 0 * x, 0).astype(x.dtype),
    )


def _dropout_vjp(node: Node, g: Cotangents) -> tuple[Value | None, ...]:
    """Linear in x, and the same draw again: no mask crosses from forward to backward."""
    return emit(node.op, g[0], *node.inputs[1:], **node.attrs).outputs[0], None, None, None


_DROPOUT = register(
    Op(
        "dropout",
        _dropout_type,
        _dropout,
        _dropout_vjp,
        kernel=lambda node: Kernel(
            "dropout_f32",
            "tge_dropout_params",
            {
                "samples": node.inputs[0].shape[0],
                "size": math.prod(node.inputs[0].shape[1:]),
                "site": node.attrs["site"],
            },
        ),
        flops=lambda node: 30 * node.inputs[0].size,
        inplace=((0, 0),),
        rows=first_axis((0, None, None, None), 0, numbered=2),
    )
)


def dropout(x: Value, generator: Value, first: Value, probability: Value, site: int) -> Value:
    """Zero each element with a probability and scale the others by 1 / (1 - probability)."""
    return emit(_DROPOUT, x, generator, first, probability, site=site).outputs[0]


def _advance(generator: np.ndarray) -> tuple[np.ndarray, ...]:
    step = (int(generator[2]) | int(generator[3]) << 32) + 1
    words = (generator[0], generator[1], step & 0xFFFFFFFF, step >> 32 & 0xFFFFFFFF)
    return (np.array(words, np.uint32),)


_ADVANCE = register(
    Op(
        "generator_advance",
        lambda generator: (generator.type,),
        _advance,
        differentiable=False,
        kernel=lambda node: Kernel("generator_advance", "tge_count_params", {"count": 4}),
        inplace=((0, 0),),
    )
)


def generator_advance(generator: Value) -> Value:
    """The generator of the next step."""
    return emit(_ADVANCE, generator).outputs[0]
