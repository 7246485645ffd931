"""Layers that normalise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import functional, ops, trace
from ..dtypes import int32
from ..errors import ShapeError
from ..graph import Value, marked
from ..tensor import Tensor
from .initial import constant
from .module import Buffer, Module, parameter

__all__ = ["BatchNorm2d", "GroupNorm", "LayerNorm"]


#: Forwards in training whose statistics may wait to be computed: a loop that only adapts them, and
#: reads nothing, would otherwise keep all its batches.
PENDING = 8


class BatchNorm2d(Module):
    """Normalise each channel (Ioffe & Szegedy 2015), then scale by `weight` and shift by `bias`.

    In training by the batch's own mean and biased variance, and the running statistics move:
    ``running = (1 - momentum) * running + momentum * batch``, with the unbiased variance. In
    evaluation by the running statistics, which stay.

    State: weight, bias, running_mean, running_var, each [num_features], and num_batches_tracked, an
    int32 number (int64 in PyTorch's files, which load).

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float
        Added to the variance.
    momentum : float
        Share of the new batch in the running statistics. It is part of the plan: a compiled step
        keeps the one that it was recorded with.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        shape = (num_features,)
        self.weight = parameter(shape, constant(shape, 1))
        self.bias = parameter(shape, constant(shape, 0))
        self.running_mean = Buffer(shape, constant(shape, 0))
        self.running_var = Buffer(shape, constant(shape, 1))
        self.num_batches_tracked = Buffer((), constant((), 0, int32), int32)

    def forward(self, x: Any) -> Tensor:
        """[N, num_features, H, W] to the same."""
        x = self._expect(x, "N", self.num_features, "H", "W")
        if not self.training:
            statistics = self.running_mean, self.running_var
            return functional.batch_norm_apply(x, *statistics, self.weight, self.bias, self.eps)
        count = x.size // self.num_features
        if count < 2:
            raise ShapeError(
                f"{self._label()}: training needs two values a channel or more, got {list(x.shape)}"
            )
        y, mean, var = functional.batch_norm(x, self.weight, self.bias, self.eps)
        self._track(x.value, mean.value, var.value)
        return y

    def _track(self, x: Value, mean: Value, var: Value) -> None:
        """Assign the next running statistics; no gradient flows through them."""
        active, seen = trace.current(), self.num_batches_tracked.cell
        if active.lazy and sum(n.attrs.get("cell") is seen for n in active.effects) >= PENDING:
            active.run()
        with marked(constant=True):
            self._move(self.running_mean, _times(mean, self.momentum))
            self._move(self.running_var, ops.unbiased_variance(var, x, self.momentum))
            active.assign(seen, ops.add(active.read(seen), ops.constant(1, int32)))

    def _move(self, running: Buffer, added: Value) -> None:
        active = trace.current()
        kept = _times(active.read(running.cell), 1 - self.momentum)
        active.assign(running.cell, ops.add(kept, ops.cast(added, running.dtype)))

    def _describe(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


def _times(x: Value, number: float) -> Value:
    return ops.multiply(x, ops.constant(number, x.dtype))


class GroupNorm(Module):
    """Normalise each sample over groups of channels, then scale and shift each channel.

    Wu & He (2018).

    Parameters
    ----------
    num_groups, num_channels : int
        The groups divide the channels.
    eps : float
        Added to the variance.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: {num_groups} groups must divide {num_channels} channels")
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        shape = (num_channels,)
        self.weight = parameter(shape, constant(shape, 1))
        self.bias = parameter(shape, constant(shape, 0))

    def forward(self, x: Any) -> Tensor:
        """[N, num_channels, H, W] to the same."""
        x = self._expect(x, "N", self.num_channels, "H", "W")
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def _describe(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"


class LayerNorm(Module):
    """Normalise each sample over its last axes, then scale and shift each element.

    Ba et al. (2016).

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Sizes of those axes; weight and bias have this shape.
    eps : float
        Added to the variance.
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5) -> None:
        super().__init__()
        if isinstance(normalized_shape, int):
            normalized_shape = (normalized_shape,)
        shape = tuple(normalized_shape)
        self.normalized_shape, self.eps = shape, eps
        self.weight = parameter(shape, constant(shape, 1))
        self.bias = parameter(shape, constant(shape, 0))

    def forward(self, x: Any) -> Tensor:
        """[..., *normalized_shape] to the same."""
        x = self._expect(x, ..., *self.normalized_shape)
        shape = self.normalized_shape
        return functional.layer_norm(x, shape, self.weight, self.bias, self.eps)

    def _describe(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"
