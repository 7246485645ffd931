"""Saved values in fewer bits, and back: encoded where they are made, decoded where they are read.

What is encoded has no derivative of its own: policies put these ops in after differentiation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import float16, float32, int8, int32, uint8, uint32
from ..errors import DTypeError, NonFiniteError, ShapeError
from ..graph import Node, Value, emit
from ..op import Kernel, Op, Refusal, TensorType, register
from .random import philox

__all__ = [
    "GROUP",
    "bfloat16_decode",
    "bfloat16_encode",
    "float16_encode",
    "int8_decode",
    "int8_encode",
    "mask_apply",
    "mask_decode",
    "mask_encode",
    "pack",
    "storage_losses",
    "unpack",
]

#: Elements that share a scale.
GROUP = 256
#: A group of smaller values becomes zeros: the inverse of its scale would overflow.
TINY = np.float32(2.0**-100)


def _expect(x: Value, dtype: object) -> None:
    if x.dtype is not dtype:
        raise DTypeError(f"expected {dtype}")


def _packed(x: Value, shape: tuple[int, ...], bits: int) -> None:
    _expect(x, uint8)
    if x.shape != (-(-math.prod(shape) * bits // 8),):
        raise ShapeError(f"expected {bits} bits for each element of {list(shape)}, one axis")


def _refuse(node: Node, arrays: list[np.ndarray], position: int) -> Exception:
    made_by = node.inputs[0].node
    file, line = made_by.source
    found = arrays[0].reshape(-1)[position]
    if np.isfinite(found):  # too large to be so in the format
        found = np.copysign(np.inf, found)
    return NonFiniteError(
        f"{node.attrs['what']} is {found} at position {position} "
        f"({made_by.op.name}; {file}:{line})",
        None if np.isnan(found) else ".".join((*made_by.scope, made_by.op.name)),
    )


def _finite(x: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(x))
    if bad.size:
        raise Refusal(int(bad[0]))


def _count(node: Node) -> int:
    return max(v.size for v in (*node.inputs, *node.outputs))


# ---- float16 ----


def _float16_type(x: Value, *, what: str) -> tuple[TensorType, ...]:
    _expect(x, float32)
    return (TensorType(x.shape, float16),)


def _float16(x: np.ndarray, *, what: str) -> tuple[np.ndarray, ...]:
    with np.errstate(over="ignore"):
        y = x.astype(np.float16)
    _finite(y)
    return (y,)


_FLOAT16_ENCODE = register(
    Op(
        "float16_encode",
        _float16_type,
        _float16,
        differentiable=False,
        kernel=lambda node: Kernel(
            "float16_encode_f32", "tge_count_params", {"count": node.inputs[0].size}
        ),
        refuse=_refuse,
    )
)


def float16_encode(x: Value, what: str = "a value stored as float16") -> Value:
    """To float16, to nearest even; fails where that is not finite."""
    return emit(_FLOAT16_ENCODE, x, what=what).outputs[0]


# ---- bfloat16 ----


def _bfloat16_type(x: Value, *, what: str) -> tuple[TensorType, ...]:
    _expect(x, float32)
    return (TensorType((2 * x.size,), uint8),)


def _bfloat16(x: np.ndarray, *, what: str) -> tuple[np.ndarray, ...]:
    bits = x.astype(np.float32).reshape(-1).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 & 0xFFFF
    _finite(np.where((rounded & 0x7F80) == 0x7F80, np.inf, 0))
    return (rounded.astype("<u2").view(np.uint8),)


def _from_bfloat16_type(x: Value, *, shape: tuple[int, ...]) -> tuple[TensorType, ...]:
    _packed(x, shape, 16)
    return (TensorType(shape, float32),)


def _from_bfloat16(x: np.ndarray, *, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return ((x.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape),)


_BFLOAT16_ENCODE = register(
    Op(
        "bfloat16_encode",
        _bfloat16_type,
        _bfloat16,
        differentiable=False,
        kernel=lambda node: Kernel(
            "bfloat16_encode_f32", "tge_count_params", {"count": node.inputs[0].size}
        ),
        refuse=_refuse,
    )
)
_BFLOAT16_DECODE = register(
    Op(
        "bfloat16_decode",
        _from_bfloat16_type,
        _from_bfloat16,
        differentiable=False,
        kernel=lambda node: Kernel(
            "bfloat16_decode_f32", "tge_count_params", {"count": node.outputs[0].size}
        ),
    )
)


def bfloat16_encode(x: Value, what: str = "a value stored as bfloat16") -> Value:
    """The upper halves of float32 numbers, to nearest even; fails where that is not finite."""
    return emit(_BFLOAT16_ENCODE, x, what=what).outputs[0]


def bfloat16_decode(x: Value, shape: tuple[int, ...]) -> Value:
    """The numbers again."""
    return emit(_BFLOAT16_DECODE, x, shape=shape).outputs[0]


# ---- int8 ----


def _groups(shape: tuple[int, ...]) -> tuple[int, int]:
    """Samples, and groups of each."""
    return shape[0], -(-math.prod(shape[1:]) // GROUP)


def _int8_type(
    x: Value, generator: Value, first: Value, *, site: int, what: str
) -> tuple[TensorType, ...]:
    _expect(x, float32)
    if not x.shape:
        raise ShapeError("expected at least one axis: the first counts samples")
    if generator.type != TensorType((4,), uint32) or first.dtype is not int32:
        raise DTypeError("the generator must be uint32[4] and the first sample int32")
    return TensorType(x.shape, int8), TensorType(_groups(x.shape), float32)


def _in_groups(x: np.ndarray) -> np.ndarray:
    """[samples, groups, GROUP], with zeros behind the last."""
    samples, groups = _groups(x.shape)
    rows = x.reshape(samples, math.prod(x.shape[1:]))
    rows = np.pad(rows, [(0, 0), (0, groups * GROUP - rows.shape[1])])
    return rows.reshape(samples, groups, GROUP)


def _thresholds(generator: np.ndarray, first: int, site: int, samples: int, n: int) -> np.ndarray:
    """A byte for each element: which of 256 thresholds it is rounded by."""
    seed_low, seed_high, step_low, step_high = (np.uint64(word) for word in generator)
    counter = np.empty((samples, n // 16, 4), np.uint64)
    counter[..., 0] = np.arange(n // 16, dtype=np.uint64)
    counter[..., 1] = (first + np.arange(samples, dtype=np.int64)[:, None]) & 0xFFFFFFFF
    counter[..., 2] = np.uint64(site)
    counter[..., 3] = step_low
    words = philox(counter, np.array([seed_low ^ step_high, seed_high]))
    return words.astype("<u4").reshape(samples, n // 4).view(np.uint8)


def _int8(
    x: np.ndarray, generator: np.ndarray, first: np.ndarray, *, site: int, what: str
) -> tuple[np.ndarray, ...]:
    _finite(x)
    grouped = _in_groups(x.astype(np.float32))
    samples, groups, _ = grouped.shape
    largest = np.abs(grouped).max(-1, initial=0)
    whole = largest >= TINY
    inverse = np.where(whole, np.float32(127) / np.where(whole, largest, 1), 0).astype(np.float32)
    byte = _thresholds(generator, int(first.reshape(())), site, samples, groups * GROUP)
    up = byte.reshape(grouped.shape) * np.float32(2**-8) + np.float32(128 + 2**-9)
    q = (grouped * inverse[..., None] + up).astype(np.int32) - 128
    q = q.reshape(samples, groups * GROUP)[:, : math.prod(x.shape[1:])]
    scale = np.where(whole, largest / np.float32(127), np.float32(0))
    return q.astype(np.int8).reshape(x.shape), scale.astype(np.float32)


def _from_int8_type(q: Value, scale: Value) -> tuple[TensorType, ...]:
    _expect(q, int8)
    if not q.shape or scale.type != TensorType(_groups(q.shape), float32):
        raise ShapeError(f"expected a float32 scale for each {GROUP} elements of a sample")
    return (TensorType(q.shape, float32),)


def _from_int8(q: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, ...]:
    samples, groups = scale.shape
    y = _in_groups(q).astype(np.float32) * scale[..., None]
    y = y.reshape(samples, groups * GROUP)[:, : math.prod(q.shape[1:])]
    return (np.ascontiguousarray(y).reshape(q.shape),)


def _int8_kernel(node: Node) -> Kernel:
    shape = node.inputs[0].shape
    fields = {"samples": shape[0], "size": math.prod(shape[1:]), "site": node.attrs.get("site", 0)}
    return Kernel(f"{node.op.name}_f32", "tge_dropout_params", fields)


_INT8_ENCODE = register(
    Op(
        "int8_encode",
        _int8_type,
        _int8,
        differentiable=False,
        kernel=_int8_kernel,
        flops=lambda node: 12 * node.inputs[0].size,
        refuse=_refuse,
    )
)
_INT8_DECODE = register(
    Op("int8_decode", _from_int8_type, _from_int8, differentiable=False, kernel=_int8_kernel)
)


def int8_encode(
    x: Value, generator: Value, first: Value, site: int, what: str = "a value stored as int8"
) -> tuple[Value, Value]:
    """Eight bits an element, and a scale for each `GROUP` elements of a sample.

    The scale is the group's largest magnitude / 127. Elements are rounded up or down at random, so
    that what is decoded is right on average (to 1/512 of the scale) and off by less than the scale.
    Draws depend on generator, site and sample number alone, as dropout's do. Fails where an element
    is not finite.
    """
    q, scale = emit(_INT8_ENCODE, x, generator, first, site=site, what=what).outputs
    return q, scale


def int8_decode(q: Value, scale: Value) -> Value:
    """Numbers times their scale."""
    return emit(_INT8_DECODE, q, scale).outputs[0]


# ---- one bit an element ----


def _mask_type(x: Value, *, high: float) -> tuple[TensorType, ...]:
    _expect(x, float32)
    return (TensorType((-(-x.size // 8),), uint8),)


def _mask(x: np.ndarray, *, high: float) -> tuple[np.ndarray, ...]:
    return (np.packbits((x > 0) & (x < high), bitorder="little"),)


def _unmasked_type(bits: Value, *, shape: tuple[int, ...]) -> tuple[TensorType, ...]:
    _packed(bits, shape, 1)
    return (TensorType(shape, float32),)


def _set(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.unpackbits(bits, count=math.prod(shape), bitorder="little").reshape(shape)


def _unmasked(bits: np.ndarray, *, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return (_set(bits, shape).astype(np.float32),)


def _apply_type(g: Value, bits: Value) -> tuple[TensorType, ...]:
    _expect(g, float32)
    _packed(bits, g.shape, 1)
    return (g.type,)


def _apply(g: np.ndarray, bits: np.ndarray) -> tuple[np.ndarray, ...]:
    return (np.where(_set(bits, g.shape), g, np.zeros_like(g)),)


def _mask_kernel(node: Node) -> Kernel:
    fields = {"count": _count(node), "bits": 1, "high": node.attrs.get("high", 0.0)}
    return Kernel(f"{node.op.name}_f32", "tge_pack_params", fields)


def _mask_op(name: str, infer: Any, reference: Any, **facts: Any) -> Op:
    return register(Op(name, infer, reference, differentiable=False, kernel=_mask_kernel, **facts))


_MASK_ENCODE = _mask_op("mask_encode", _mask_type, _mask)
_MASK_DECODE = _mask_op("mask_decode", _unmasked_type, _unmasked)
_MASK_APPLY = _mask_op("mask_apply", _apply_type, _apply, inplace=((0, 0),))


def mask_encode(x: Value, high: float = math.inf) -> Value:
    """A bit an element: whether it is above 0 and below `high`."""
    return emit(_MASK_ENCODE, x, high=high).outputs[0]


def mask_decode(bits: Value, shape: tuple[int, ...]) -> Value:
    """1 where a bit is set, else 0."""
    return emit(_MASK_DECODE, bits, shape=shape).outputs[0]


def mask_apply(g: Value, bits: Value) -> Value:
    """Elements whose bit is set, else 0: the gradient of a rectifier."""
    return emit(_MASK_APPLY, g, bits).outputs[0]


# ---- small numbers ----


def _pack_type(x: Value, *, bits: int) -> tuple[TensorType, ...]:
    _expect(x, uint8)
    if bits not in (1, 2, 4):
        raise ShapeError(f"expected 1, 2 or 4 bits, got {bits}")
    return (TensorType((-(-x.size * bits // 8),), uint8),)


def _pack(x: np.ndarray, *, bits: int) -> tuple[np.ndarray, ...]:
    each = 8 // bits
    rows = np.pad(x.reshape(-1), (0, -x.size % each)).reshape(-1, each).astype(np.uint32)
    return ((rows << bits * np.arange(each, dtype=np.uint32)).sum(1).astype(np.uint8),)


def _unpack_type(x: Value, *, shape: tuple[int, ...], bits: int) -> tuple[TensorType, ...]:
    _packed(x, shape, bits)
    return (TensorType(shape, uint8),)


def _unpack(x: np.ndarray, *, shape: tuple[int, ...], bits: int) -> tuple[np.ndarray, ...]:
    parts = x[:, None] >> bits * np.arange(8 // bits, dtype=np.uint8) & ((1 << bits) - 1)
    return (parts.reshape(-1)[: math.prod(shape)].reshape(shape).astype(np.uint8),)


def _pack_kernel(node: Node) -> Kernel:
    fields = {"count": _count(node), "bits": node.attrs["bits"], "high": 0.0}
    return Kernel(f"{node.op.name}_u8", "tge_pack_params", fields)


_PACK = register(Op("pack", _pack_type, _pack, differentiable=False, kernel=_pack_kernel))
_UNPACK = register(Op("unpack", _unpack_type, _unpack, differentiable=False, kernel=_pack_kernel))


def pack(x: Value, bits: int) -> Value:
    """Numbers below 2 ** bits, several a byte."""
    return emit(_PACK, x, bits=bits).outputs[0]


def unpack(x: Value, shape: tuple[int, ...], bits: int) -> Value:
    """The numbers again, one a byte."""
    return emit(_UNPACK, x, shape=shape, bits=bits).outputs[0]


# ---- what storing would lose ----


def _losses_type(x: Value) -> tuple[TensorType, ...]:
    _expect(x, float32)
    if not x.shape:
        raise ShapeError("expected at least one axis: the first counts samples")
    return (TensorType((4,), float32),)


def _losses(x: np.ndarray) -> tuple[np.ndarray, ...]:
    exact = x.astype(np.float64)
    squares, present = (exact**2).sum(), (x != 0).sum()
    scale = np.abs(_in_groups(exact)).max(-1, initial=0) / 127
    there = (_in_groups(x) != 0).sum(-1)
    errors = ((exact - x.astype(np.float16)) ** 2).sum(), (there * scale**2 / 6).sum()
    tiny = ((np.abs(x) < 2**-14) & (x != 0)).sum() / max(present, 1)
    shares = (np.sqrt(error / squares) if squares else 0.0 for error in errors)
    return (np.array([np.abs(x).max(initial=0), tiny, *shares], np.float32),)


_LOSSES = register(
    Op(
        "storage_losses",
        _losses_type,
        _losses,
        differentiable=False,
        kernel=_int8_kernel,
        flops=lambda node: 10 * node.inputs[0].size,
    )
)


def storage_losses(x: Value) -> Value:
    """What float16 and int8 would lose of a value: four float32 numbers.

    The largest magnitude; the share of non-zero elements below 2**-14, where float16 has less than
    11 bits; the root mean square of the rounding to float16, as a share of the value's; and of that
    to int8, as it is expected: a sixth of the squared scale for each element that is not 0.
    """
    return emit(_LOSSES, x).outputs[0]
