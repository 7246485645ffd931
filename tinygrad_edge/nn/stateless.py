"""Layers without parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import functional
from ..functional import Size, pair
from ..tensor import Tensor, as_tensor
from .module import Module

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "Dropout",
    "Flatten",
    "Hardswish",
    "Identity",
    "MaxPool2d",
    "ReLU",
    "ReLU6",
    "Sigmoid",
    "Tanh",
]


# ---- activations ----


class _Elementwise(Module):
    """A function of each element; a subclass names it."""

    function: Callable[[Any], Tensor]

    def forward(self, x: Any) -> Tensor:
        """Any shape to the same."""
        return self.function(x)


class ReLU(_Elementwise):
    """max(x, 0)."""

    function = staticmethod(functional.relu)


class ReLU6(_Elementwise):
    """min(max(x, 0), 6)."""

    function = staticmethod(functional.relu6)


class Hardswish(_Elementwise):
    """x * relu6(x + 3) / 6 (Howard et al. 2019)."""

    function = staticmethod(functional.hardswish)


class Sigmoid(_Elementwise):
    """1 / (1 + exp(-x))."""

    function = staticmethod(functional.sigmoid)


class Tanh(_Elementwise):
    """Hyperbolic tangent."""

    function = staticmethod(functional.tanh)


# ---- pooling ----


class _Pool(Module):
    """What pooling with a window shares."""

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        super().__init__()
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, "stride")
        self.padding = pair(padding, "padding")

    def _describe(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(_Pool):
    """Largest of each window.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        The window's size by default.
    padding : int or (int, int)
        At most half the window; what is outside the image never wins.
    """

    def forward(self, x: Any) -> Tensor:
        """[N, C, H, W] to [N, C, P, Q]."""
        x = self._expect(x, "N", "C", "H", "W")
        return functional.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(_Pool):
    """Mean of each window, over the padding's zeros too.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        The window's size by default.
    padding : int or (int, int)
        At most half the window.
    count_include_pad : bool
        Whether the zeros of the padding count.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Tensor:
        """[N, C, H, W] to [N, C, P, Q]."""
        x = self._expect(x, "N", "C", "H", "W")
        count = self.count_include_pad
        return functional.avg_pool2d(x, self.kernel_size, self.stride, self.padding, count)


class AdaptiveAvgPool2d(Module):
    """Mean over as many windows as the output has pixels.

    Parameters
    ----------
    output_size : int or (int, int)
        1 is the mean of each channel's plane.
    """

    def __init__(self, output_size: Size) -> None:
        super().__init__()
        self.output_size = pair(output_size, "output_size")

    def forward(self, x: Any) -> Tensor:
        """[N, C, H, W] to [N, C, *output_size]."""
        x = self._expect(x, "N", "C", "H", "W")
        return functional.adaptive_avg_pool2d(x, self.output_size)

    def _describe(self) -> str:
        return f"output_size={self.output_size}"


# ---- others ----


class Flatten(Module):
    """Join the axes from `start_dim` on; the first stays by default."""

    def __init__(self, start_dim: int = 1) -> None:
        super().__init__()
        self.start_dim = start_dim

    def forward(self, x: Any) -> Tensor:
        """[N, C, H, W] to [N, C * H * W]."""
        return as_tensor(x).flatten(self.start_dim)


class Dropout(Module):
    """In training, zero each element with a probability and scale the others by 1 / (1 - p).

    Parameters
    ----------
    p : float
        Probability, from 0 to 1 (Srivastava et al. 2014).
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        functional.check_probability(p)
        self.p = p

    def forward(self, x: Any) -> Tensor:
        """Any shape whose first axis counts samples."""
        return functional.dropout(x, self.p) if self.training else as_tensor(x)

    def _describe(self) -> str:
        return f"p={self.p}"


class Identity(Module):
    """What it is given."""

    def forward(self, x: Any) -> Any:
        """Any input."""
        return x
