"""Layers that multiply by weights."""

from __future__ import annotations

import math
from typing import Any

from .. import functional
from ..functional import Size, pair
from ..tensor import Tensor
from .initial import uniform
from .module import Module, parameter

__all__ = ["Conv2d", "Linear"]


class Linear(Module):
    """``x @ weight.T + bias``.

    Weight [out_features, in_features] and bias [out_features] start uniform within
    ±1 / sqrt(in_features).

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        _at_least(self, 0, in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        shape = (out_features, in_features)
        self.weight = parameter(shape, uniform(shape, in_features))
        self.bias = parameter(shape[:1], uniform(shape[:1], in_features)) if bias else None

    def forward(self, x: Any) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        x = self._expect(x, ..., self.in_features)
        return functional.linear(x, self.weight, self.bias)

    def _describe(self) -> str:
        bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={bias}"


class Conv2d(Module):
    """Cross-correlation of images with learned windows.

    Weight [out_channels, in_channels / groups, kernel height, kernel width] and bias [out_channels]
    start uniform in ±1 / sqrt(fan_in), with fan_in the number of weights of one output channel.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, dilation : int or (int, int)
        Along height and width. The padding is zeros on both sides.
    groups : int
        Channels are cut into this many groups that do not mix; in_channels for a depthwise
        convolution.
    bias : bool
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        _at_least(self, 1, in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d: {groups} groups must divide in_channels and out_channels, "
                f"got {in_channels} and {out_channels}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = pair(kernel_size, "kernel_size"), pair(stride, "stride")
        self.padding, self.dilation = pair(padding, "padding"), pair(dilation, "dilation")
        _at_least(self, 1, kernel_size=min(self.kernel_size), stride=min(self.stride))
        _at_least(self, 1, dilation=min(self.dilation))
        _at_least(self, 0, padding=min(self.padding))
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        fan_in = math.prod(shape[1:])
        self.weight = parameter(shape, uniform(shape, fan_in))
        self.bias = parameter(shape[:1], uniform(shape[:1], fan_in)) if bias else None

    def forward(self, x: Any) -> Tensor:
        """[N, in_channels, H, W] to [N, out_channels, P, Q]; see `functional.conv2d`."""
        x = self._expect(x, "N", self.in_channels, "H", "W")
        return functional.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )

    def _describe(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        usual = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
        for name, default in usual.items():
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text if self.bias is not None else f"{text}, bias=False"


def _at_least(layer: Module, least: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < least:
            raise ValueError(f"{type(layer).__name__}: {name} must be at least {least}, got {size}")
