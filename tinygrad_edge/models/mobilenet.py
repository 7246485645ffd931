"""MobileNets (Howard et al. 2017, Sandler et al. 2018, Howard et al. 2019).

Versions 2 and 3 have the names and shapes of torchvision's checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..functional import relu6
from ..nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Hardswish,
    Linear,
    Module,
    ReLU,
    ReLU6,
    Sequential,
)
from .classifier import ImageClassifier

__all__ = ["mobilenet_v1", "mobilenet_v1_patch", "mobilenet_v2", "mobilenet_v3_small"]


# ---- parts ----


def _normed(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: type[Module] | None = ReLU,
    norm: Callable[[int], BatchNorm2d] = BatchNorm2d,
) -> tuple[Module, ...]:
    """Give a convolution that keeps the size, but for its stride; its norm; its activation."""
    padding = kernel_size // 2
    conv = Conv2d(
        in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False
    )
    return conv, norm(out_channels), *(() if activation is None else (activation(),))


def _by_eight(channels: float) -> int:
    """Round to a multiple of 8, at least 8, and up where that would lose more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


# ---- version 1 ----

# Output channels of the first convolution; then output channels and stride of each separable one.
V1_STEM = 32
V1 = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *5 * ((512, 1),),
    (1024, 2),
    (1024, 1),
)
V1_PATCH = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (1024, 1), (1024, 1))


def mobilenet_v1(
    num_classes: int = 1000, in_channels: int = 3, width: float = 1.0
) -> ImageClassifier:
    """MobileNet for 224x224 images: 13 separable blocks, 4,231,976 parameters at 1000 classes.

    Parameters
    ----------
    num_classes, in_channels : int
    width : float
        Times the channels of every layer, rounded down.

    Raises
    ------
    ValueError
        A layer is left without channels.
    """
    table = tuple((int(channels * width), stride) for channels, stride in V1)
    return _separable(int(V1_STEM * width), 2, table, num_classes, in_channels)


def mobilenet_v1_patch(num_classes: int = 10, in_channels: int = 3) -> ImageClassifier:
    """MobileNet for 32x32 images: eight separable blocks, 1,873,226 parameters for 10 classes.

    Parameters
    ----------
    num_classes, in_channels : int
    """
    return _separable(V1_STEM, 1, V1_PATCH, num_classes, in_channels)


def _separable(
    stem: int,
    stem_stride: int,
    table: tuple[tuple[int, int], ...],
    num_classes: int,
    in_channels: int,
) -> ImageClassifier:
    features = [Sequential(*_normed(in_channels, stem, 3, stem_stride))]
    channels = stem
    for out_channels, stride in table:
        depthwise = _normed(channels, channels, 3, stride, groups=channels)
        features.append(Sequential(*depthwise, *_normed(channels, out_channels)))
        channels = out_channels
    pooled = Sequential(*features, AdaptiveAvgPool2d(1))
    return ImageClassifier(pooled, Linear(channels, num_classes))


# ---- version 2 ----

# Expansion, output channels, blocks and stride of the first one.
V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
V2_STEM, V2_LAST = 32, 1280


class InvertedResidual(Module):
    """A depthwise convolution between 1x1 ones that widen and narrow; the narrow ends are added.

    Parameters
    ----------
    in_channels, out_channels, stride, expansion : int
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        layers: list[Module] = []
        if expansion != 1:
            layers.append(Sequential(*_normed(in_channels, wide, activation=ReLU6)))
        depthwise = _normed(wide, wide, 3, stride, groups=wide, activation=ReLU6)
        narrow = _normed(wide, out_channels, activation=None)
        self.conv = Sequential(*layers, Sequential(*depthwise), *narrow)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Any) -> Any:
        """[N, in_channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        return x + self.conv(x) if self.residual else self.conv(x)


def mobilenet_v2(
    num_classes: int = 1000, in_channels: int = 3, width: float = 1.0
) -> ImageClassifier:
    """MobileNetV2 for 224x224 images: 3,504,872 parameters at 1000 classes.

    Parameters
    ----------
    num_classes, in_channels : int
    width : float
        Times the channels of every layer, rounded to a multiple of 8; of the last layer only if
        it is more than 1.
    """
    channels = _by_eight(V2_STEM * width)
    features: list[Module] = [Sequential(*_normed(in_channels, channels, 3, 2, activation=ReLU6))]
    for expansion, out, blocks, first_stride in V2:
        out_channels = _by_eight(out * width)
        for stride in (first_stride, *(blocks - 1) * (1,)):
            features.append(InvertedResidual(channels, out_channels, stride, expansion))
            channels = out_channels
    last = _by_eight(V2_LAST * max(1.0, width))
    features.append(Sequential(*_normed(channels, last, activation=ReLU6)))
    pooled = Sequential(*features, AdaptiveAvgPool2d(1))
    return ImageClassifier(pooled, Sequential(Dropout(0.2), Linear(last, num_classes)))


# ---- version 3 ----

# Window, channels between, output channels, whether squeezed, activation, stride.
V3_SMALL = (
    (3, 16, 16, True, ReLU, 2),
    (3, 72, 24, False, ReLU, 2),
    (3, 88, 24, False, ReLU, 1),
    (5, 96, 40, True, Hardswish, 2),
    (5, 240, 40, True, Hardswish, 1),
    (5, 240, 40, True, Hardswish, 1),
    (5, 120, 48, True, Hardswish, 1),
    (5, 144, 48, True, Hardswish, 1),
    (5, 288, 96, True, Hardswish, 2),
    (5, 576, 96, True, Hardswish, 1),
    (5, 576, 96, True, Hardswish, 1),
)
V3_STEM, V3_LAST, V3_HIDDEN = 16, 576, 1024

_v3_normed = partial(_normed, norm=partial(BatchNorm2d, eps=1e-3, momentum=0.01))


class SqueezeExcitation(Module):
    """Scale each channel by what a small network makes of all channels' means (Hu et al. 2018).

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _by_eight(channels // 4)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc1 = Conv2d(channels, squeezed, 1)
        self.relu = ReLU()
        self.fc2 = Conv2d(squeezed, channels, 1)

    def forward(self, x: Any) -> Any:
        """[N, channels, H, W] to the same."""
        scale = self.fc2(self.relu(self.fc1(self.avgpool(x))))
        return x * (relu6(scale + 3) / 6)


class SqueezedResidual(Module):
    """An inverted residual with squeeze-excitation of its wide part (Howard et al. 2019).

    Parameters
    ----------
    in_channels, kernel_size, wide, out_channels : int
    squeezed : bool
    activation : type
        Of a module.
    stride : int
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int,
        wide: int,
        out_channels: int,
        squeezed: bool,
        activation: type[Module],
        stride: int,
    ) -> None:
        super().__init__()
        layers: list[Module] = []
        if wide != in_channels:
            layers.append(Sequential(*_v3_normed(in_channels, wide, activation=activation)))
        depthwise = _v3_normed(wide, wide, kernel_size, stride, groups=wide, activation=activation)
        layers.append(Sequential(*depthwise))
        if squeezed:
            layers.append(SqueezeExcitation(wide))
        layers.append(Sequential(*_v3_normed(wide, out_channels, activation=None)))
        self.block = Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Any) -> Any:
        """[N, in_channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        return x + self.block(x) if self.residual else self.block(x)


def mobilenet_v3_small(num_classes: int = 1000, in_channels: int = 3) -> ImageClassifier:
    """MobileNetV3-Small for 224x224 images: 2,542,856 parameters at 1000 classes.

    Parameters
    ----------
    num_classes, in_channels : int
    """
    stem = _v3_normed(in_channels, V3_STEM, 3, 2, activation=Hardswish)
    features: list[Module] = [Sequential(*stem)]
    channels = V3_STEM
    for kernel_size, wide, out_channels, squeezed, activation, stride in V3_SMALL:
        features.append(
            SqueezedResidual(
                channels, kernel_size, wide, out_channels, squeezed, activation, stride
            )
        )
        channels = out_channels
    features.append(Sequential(*_v3_normed(channels, V3_LAST, activation=Hardswish)))
    hidden = Linear(V3_LAST, V3_HIDDEN)
    classifier = Sequential(hidden, Hardswish(), Dropout(0.2), Linear(V3_HIDDEN, num_classes))
    return ImageClassifier(Sequential(*features, AdaptiveAvgPool2d(1)), classifier)
