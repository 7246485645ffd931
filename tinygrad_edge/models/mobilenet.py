"""MobileNet (Howard et al. 2017) for small images."""

from __future__ import annotations

from ..nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Linear, Module, ReLU, Sequential
from .classifier import ImageClassifier

__all__ = ["mobilenet_v1_patch"]

# Output channels of the first convolution; then output channels and stride of each separable one.
STEM = 32
SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (1024, 1), (1024, 1))


def mobilenet_v1_patch(num_classes: int = 10, in_channels: int = 3) -> ImageClassifier:
    """MobileNet for 32x32 images: eight separable blocks, 1,873,226 parameters for 10 classes.

    Parameters
    ----------
    num_classes, in_channels : int
    """
    features = [Sequential(*_normed(Conv2d(in_channels, STEM, 3, padding=1, bias=False)))]
    channels = STEM
    for out_channels, stride in SEPARABLE:
        depthwise = Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
        pointwise = Conv2d(channels, out_channels, 1, bias=False)
        features.append(Sequential(*_normed(depthwise), *_normed(pointwise)))
        channels = out_channels
    pooled = Sequential(*features, AdaptiveAvgPool2d(1))
    return ImageClassifier(pooled, Linear(channels, num_classes))


def _normed(conv: Conv2d) -> tuple[Module, ...]:
    return conv, BatchNorm2d(conv.out_channels), ReLU()
