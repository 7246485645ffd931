"""Layers with parameters."""

from __future__ import annotations

import math

import numpy as np

from .. import functional
from ..generator import initial_stream
from ..tensor import Tensor
from .module import Module, parameter

__all__ = ["Linear"]


def _uniform(shape: tuple[int, ...], bound: float):
    """Uniform in [-bound, bound): numbers drawn when the parameter is first used, stream chosen now."""
    stream = initial_stream()
    return lambda: stream.uniform(-bound, bound, shape).astype(np.float32)


class Linear(Module):
    """``x @ weight.T + bias``.

    Weight and bias start uniform in ±1/sqrt(in_features), as PyTorch's do.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(max(in_features, 1))
        shape = (out_features, in_features)
        self.weight = parameter(shape, _uniform(shape, bound))
        self.bias = parameter(shape[:1], _uniform(shape[:1], bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        return functional.linear(x, self.weight, self.bias)

    def _describe(self) -> str:
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}, bias={self.bias is not None}"
