"""What `bench` runs to measure the kernels: small steps, of which the kernels named are timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import functional as f
from .. import nn, ops, optim, trace
from ..dtypes import float64, int32, uint32
from ..generator import Generator
from ..gradients import grad
from ..graph import Value, emit
from ..ops.sparse import WEIGHTS, candidates
from ..tensor import Tensor, apply

__all__ = ["CASES", "UNMEASURED", "Case"]

# In quotes, since NumPy loads this part of it, 7 MB, when it is first named.
Draw = Callable[["np.random.Generator"], np.ndarray]


class Case(NamedTuple):
    """A step with its arguments; of each kernel named, its largest call is measured."""

    label: str
    kernels: str
    step: Callable[..., Any]
    arguments: tuple[Draw, ...]

    def arrays(self) -> list[np.ndarray]:
        """Draw the arguments."""
        rng = np.random.default_rng(0)
        return [draw(rng) for draw in self.arguments]


# ---- arguments ----


def _floats(*shape: int) -> Draw:
    return lambda rng: rng.standard_normal(shape, np.float32)


def _below(high: int, *shape: int) -> Draw:
    return lambda rng: rng.integers(0, high, shape, np.int32)


_CHANNELS = 256


def _sparse(nonzeros: int) -> tuple[Draw, ...]:
    """Images, and 256 x 256 weights as compressed rows of equally many non-zeros each."""

    def columns(rng: np.random.Generator) -> np.ndarray:
        # An odd step meets no column twice.
        found = np.arange(_CHANNELS)[:, None] * 37 + np.arange(nonzeros) * 93
        return np.sort(found % _CHANNELS, axis=1).astype(np.uint16).reshape(-1)

    def rows(rng: np.random.Generator) -> np.ndarray:
        return np.arange(_CHANNELS + 1, dtype=np.int32) * nonzeros

    return _floats(16, _CHANNELS, 14, 14), _floats(_CHANNELS * nonzeros), columns, rows


# Of these no cache holds a few, and the time of a call is that of memory.
_ROW = _floats(1 << 23)
_ROWS = _floats(1 << 13, 1 << 10)
_IMAGES = _floats(32, 64, 64, 64)
_INTEGERS = _below(100, 1 << 13, 1 << 10)
_CLASSES = _below(1 << 10, 1 << 13)


# ---- steps ----


def _gradients(forward: Callable[..., Tensor], *by: int) -> Callable[..., Any]:
    """A function with its gradients by some arguments."""

    def loss(*inputs: Tensor) -> Tensor:
        outputs = forward(*inputs)
        return (outputs * outputs).sum()

    return grad(loss, by or 0)


def _conv(padding: int = 0, groups: int = 1, stride: int = 1) -> Callable[..., Any]:
    def forward(x: Tensor, w: Tensor) -> Tensor:
        return f.conv2d(x, w, stride=stride, padding=padding, groups=groups)

    return _gradients(forward, 0, 1)


def _sparse_conv(x: Value, values: Value, columns: Value, rows: Value) -> Value:
    shape = (_CHANNELS, _CHANNELS, 1, 1)
    return ops.sparse_conv2d(x, values, columns, rows, shape, first_row=0, nonzeros=values.size)


def _sparse_twice(x: Tensor, values: Tensor, *index: Tensor) -> Tensor:
    """The same weights twice, so that gradients by them add up."""
    return apply(_sparse_conv, apply(_sparse_conv, x, values, *index), values, *index)


def _candidates(x: Value, values: Value, columns: Value, rows: Value) -> Value:
    y = _sparse_conv(x, values, columns, rows)
    return candidates(emit(WEIGHTS, x, y, columns, rows, **y.node.attrs), 1 << 10)


def _norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return f.batch_norm(x, weight, bias)[0]


def _norm_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return f.relu(_norm(x, weight, bias))


def _norm_add_relu(x: Tensor, weight: Tensor, bias: Tensor, addend: Tensor) -> Tensor:
    return f.relu(_norm(x, weight, bias) + addend)


def _pool_twice_differentiated(x: Tensor) -> Tensor:
    gradient = grad(lambda z: (f.max_pool2d(z, 2) ** 3).sum())
    return grad(lambda z: (gradient(z) ** 2).sum())(x)


def _update(make: Callable[..., optim.Optimizer], **options: float) -> Callable[[Tensor], Tensor]:
    """A step of an optimizer on 8 million parameters."""

    def step(x: Tensor) -> Tensor:
        layer = nn.Linear(1 << 10, 1 << 13, bias=False)
        loss = layer(x).sum()
        make(layer.parameters(), lr=0.0, **options).minimize(loss)
        return loss

    return step


def _checked(dtype: str) -> Callable[[Tensor], Tensor]:
    """A step that a value which is not finite would stop."""

    def step(x: Tensor) -> Tensor:
        stored = x.astype(dtype)
        trace.current().effects.append(ops.check_finite(stored.value))
        return stored.sum()

    return step


def _on_values(function: Callable[[Value], Value]) -> Callable[[Tensor], Tensor]:
    """A step of ops that only policies place."""
    return lambda x: apply(function, x)


def _as_int8(x: Value) -> Value:
    generator, first = ops.full((4,), 0, uint32), ops.constant(0, int32)
    return ops.int8_decode(*ops.int8_encode(x, generator, first, 0))


def _in_range(x: Tensor) -> Tensor:
    trace.current().effects.append(ops.check_range(x.value, 0, 99, "index"))
    return x.sum()


def _update_in_parts(gradient: Value) -> Value:
    rates, done = ops.full((3,), 0.0, float64), ops.constant(1, int32)
    moment = ops.sgd_momentum_accumulate(gradient, gradient, gradient, rates, done)
    return ops.sgd_momentum_step(gradient, moment, rates)


_CONV = "conv2d_f32 conv2d_backward_data_f32 conv2d_backward_weights_f32"
_DEPTHWISE = " ".join(f"depthwise_{name}" for name in _CONV.split())
_FEW = _floats(1, 1 << 10)
_SPARSE = _sparse(_CHANNELS // 10)

CASES = (
    Case("512 x 512 x 512", "matmul_f32", lambda a, b: a @ b, (_floats(512, 512),) * 2),
    Case(
        "1024 x 1024, K = 64",
        "matmul_f32",
        lambda a, b: a @ b,
        (_floats(1024, 64), _floats(64, 1024)),
    ),
    Case(
        "16 of 64 x 32 x 32, 3 x 3",
        _CONV,
        _conv(padding=1),
        (_floats(16, 64, 32, 32), _floats(64, 64, 3, 3)),
    ),
    Case(
        "16 of 32 x 32 x 32, 3 x 3",
        _CONV,
        _conv(padding=1),
        (_floats(16, 32, 32, 32), _floats(32, 32, 3, 3)),
    ),
    Case(
        "16 of 64 x 32 x 32 -> 128, 3 x 3 / 2",
        _CONV,
        _conv(padding=1, stride=2),
        (_floats(16, 64, 32, 32), _floats(128, 64, 3, 3)),
    ),
    Case(
        "16 of 256 x 14 x 14, 1 x 1",
        _CONV,
        _conv(),
        (_floats(16, 256, 14, 14), _floats(256, 256, 1, 1)),
    ),
    Case(
        "8 of 64 x 56 x 56 -> 256, 1 x 1",
        _CONV,
        _conv(),
        (_floats(8, 64, 56, 56), _floats(256, 64, 1, 1)),
    ),
    Case(
        "8 of 512 x 7 x 7 -> 2048, 1 x 1",
        _CONV,
        _conv(),
        (_floats(8, 512, 7, 7), _floats(2048, 512, 1, 1)),
    ),
    Case(
        "8 of 256 x 56 x 56 -> 512, 1 x 1 / 2",
        _CONV,
        _conv(stride=2),
        (_floats(8, 256, 56, 56), _floats(512, 256, 1, 1)),
    ),
    Case(
        "8 of 256 x 28 x 28, 3 x 3 / 2",
        _CONV,
        _conv(padding=1, stride=2),
        (_floats(8, 256, 28, 28), _floats(256, 256, 3, 3)),
    ),
    Case(
        "32 of 6 x 14 x 14 -> 16, 5 x 5",
        _CONV,
        _conv(),
        (_floats(32, 6, 14, 14), _floats(16, 6, 5, 5)),
    ),
    Case(
        "16 of 128 x 56 x 56, 3 x 3",
        _DEPTHWISE,
        _conv(padding=1, groups=128),
        (_floats(16, 128, 56, 56), _floats(128, 1, 3, 3)),
    ),
    Case(
        "32 of 64 x 64 x 64, 3 x 3 / 2",
        _DEPTHWISE,
        _conv(padding=1, groups=64, stride=2),
        (_IMAGES, _floats(64, 1, 3, 3)),
    ),
    Case(
        "32 of 64 x 64 x 64, 3 x 3",
        _DEPTHWISE,
        _conv(padding=1, groups=64),
        (_IMAGES, _floats(64, 1, 3, 3)),
    ),
    Case(
        "16 of 256 x 14 x 14, 1 x 1, 90 % sparse",
        "sparse_conv2d_f32 sparse_conv2d_backward_data_f32 sparse_conv2d_backward_weights_f32 "
        "sparse_conv2d_accumulate_weights_f32",
        _gradients(_sparse_twice, 0, 1),
        _SPARSE,
    ),
    Case(
        "16 of 256 x 14 x 14, 1 x 1, 25 % sparse",
        "sparse_conv2d_expanded_f32 sparse_conv2d_backward_data_expanded_f32 "
        "sparse_conv2d_backward_weights_expanded_f32 "
        "sparse_conv2d_accumulate_weights_expanded_f32",
        _gradients(_sparse_twice, 0, 1),
        _sparse(_CHANNELS * 3 // 4),
    ),
    Case(
        "1024 of 256 x 256, 90 % sparse",
        "sparse_conv2d_candidates_f32",
        lambda *inputs: apply(_candidates, *inputs),
        _SPARSE,
    ),
    Case(
        "32 of 64 x 64 x 64",
        "batch_norm_stats_f32 batch_norm_apply_f32 batch_norm_backward_f32",
        _gradients(_norm, 0, 1, 2),
        (_IMAGES, _floats(64), _floats(64)),
    ),
    Case(
        "32 of 64 x 64 x 64, ReLU",
        "batch_norm_activated_backward_f32",
        _gradients(_norm_relu, 0, 1, 2),
        (_IMAGES, _floats(64), _floats(64)),
    ),
    Case(
        "32 of 64 x 64 x 64, ReLU",
        "batch_norm_apply_add_f32",
        _norm_add_relu,
        (_IMAGES, _floats(64), _floats(64), _IMAGES),
    ),
    Case(
        "32 of 64 x 64 x 64, 2 x 2",
        "max_pool2d_f32 max_pool2d_backward_f32",
        _gradients(lambda x: f.max_pool2d(x, 2)),
        (_IMAGES,),
    ),
    Case(
        "32 of 64 x 64 x 64, 2 x 2",
        "max_pool2d_gather_f32",
        _pool_twice_differentiated,
        (_IMAGES,),
    ),
    Case(
        "32 of 64 x 64 x 64, 2 x 2",
        "avg_pool2d_f32 avg_pool2d_backward_f32",
        _gradients(lambda x: f.avg_pool2d(x, 2)),
        (_IMAGES,),
    ),
    Case("a + b", "elementwise_f32", lambda a, b: a + b, (_ROW, _ROW)),
    Case("exp", "elementwise_f32", lambda a: a.exp(), (_ROW,)),
    Case("relu(a * b + a)", "chain_f32", lambda a, b: f.relu(a * b + a), (_ROW, _ROW)),
    Case("a + b", "elementwise_i32", lambda a, b: a + b, (_INTEGERS, _INTEGERS)),
    Case("a < b", "compare_f32", lambda a, b: a < b, (_ROW, _ROW)),
    Case("a < b", "compare_i32", lambda a, b: a < b, (_INTEGERS, _INTEGERS)),
    Case("p & q", "logical_bool", lambda a, b: (a < b) & (a < 1.0), (_ROW, _ROW)),
    Case("p ? a : b", "where_b32", lambda a, b: f.where(a < b, a, b), (_ROW, _ROW)),
    Case("to float16", "cast", lambda a: a.astype("float16"), (_ROW,)),
    Case("to float16, if it fits", "float16_encode_f32", _on_values(ops.float16_encode), (_ROW,)),
    Case(
        "to bfloat16",
        "bfloat16_encode_f32 bfloat16_decode_f32",
        _on_values(lambda x: ops.bfloat16_decode(ops.bfloat16_encode(x), x.shape)),
        (_ROW,),
    ),
    Case("to int8", "int8_encode_f32 int8_decode_f32", _on_values(_as_int8), (_ROWS,)),
    Case("what is lost", "storage_losses_f32", _on_values(ops.storage_losses), (_ROWS,)),
    Case(
        "a > 0 in bits",
        "mask_encode_f32 mask_decode_f32",
        _on_values(lambda x: ops.mask_decode(ops.mask_encode(x), x.shape)),
        (_ROW,),
    ),
    Case(
        "a > 0 in bits",
        "mask_apply_f32",
        _on_values(lambda x: ops.mask_apply(x, ops.mask_encode(x))),
        (_ROW,),
    ),
    Case(
        "4 bits",
        "pack_u8 unpack_u8",
        _on_values(lambda x: ops.unpack(ops.pack(x, 4), x.shape, 4)),
        (lambda rng: rng.integers(0, 16, 1 << 23, np.uint8),),
    ),
    Case("transposed", "copy", lambda a: a.T + 1.0, (_ROWS,)),
    Case("along rows", "sum_f32", lambda a: a.sum(1), (_ROWS,)),
    Case("along columns", "sum_f32", lambda a: a.sum(0), (_ROWS,)),
    Case("along rows", "sum_i32", lambda a: a.sum(1), (_INTEGERS,)),
    Case("along rows", "max_f32", lambda a: a.max(1), (_ROWS,)),
    Case("of rows", "argmax_f32", lambda a: a.argmax(1), (_ROWS,)),
    Case("5 of 1024", "topk_f32", lambda a: a.topk(5), (_ROWS,)),
    Case("of rows", "softmax_f32", lambda a: f.softmax(a, axis=1), (_ROWS,)),
    Case("of rows", "log_softmax_f32", lambda a: f.log_softmax(a, axis=1), (_ROWS,)),
    Case("1024 classes", "cross_entropy_f32", f.cross_entropy, (_ROWS, _CLASSES)),
    Case("1024 classes", "cross_entropy_backward_f32", grad(f.cross_entropy), (_ROWS, _CLASSES)),
    Case(
        "rows",
        "take scatter_add_f32",
        _gradients(lambda a, rows: a.take(rows)),
        (_ROWS, _below(1 << 13, 1 << 13)),
    ),
    Case("half", "dropout_f32", lambda a: f.dropout(a, 0.5, Generator(0)), (_ROWS,)),
    Case("8 million", "check_finite_f32", _checked("float32"), (_ROW,)),
    Case("8 million", "check_finite_f16", _checked("float16"), (_ROW,)),
    Case("8 million", "check_range_i32", _in_range, (_INTEGERS,)),
    Case(
        "8 million",
        "sgd_momentum_accumulate_f32 sgd_momentum_step_f32",
        _on_values(_update_in_parts),
        (_ROW,),
    ),
    Case("8 million", "sgd_f32", _update(optim.SGD), (_FEW,)),
    Case("8 million", "sgd_momentum_f32", _update(optim.SGD, momentum=0.9), (_FEW,)),
    Case("8 million", "adam_f32", _update(optim.Adam), (_FEW,)),
    Case("8 million", "rmsprop_f32", _update(optim.RMSprop), (_FEW,)),
)

#: The peak itself, and what only ever has a few elements.
UNMEASURED = ("multiply_add_f32", "arange_i32", "full", "generator_advance")
