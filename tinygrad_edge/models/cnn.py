"""A small plain network of 3x3 convolutions, for images from 8x8 on and for signals."""

from __future__ import annotations

from ..functional import Size, pair
from ..nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)
from .classifier import ImageClassifier

__all__ = ["cnn"]

# Output channels of the convolutions; each row ends with a pooling that halves the size.
STAGES = ((32, 32), (64, 64), (128, 128))


def cnn(num_classes: int = 10, in_channels: int = 3, size: Size = 32) -> ImageClassifier:
    """Six convolutions with batch-norm in three stages, and a linear layer on the channels' means.

    A short VGG (Simonyan & Zisserman 2015): 288,746 parameters for 10 classes of colour images,
    which are 8x8 or larger.

    Parameters
    ----------
    num_classes, in_channels : int
    size : int or (int, int)
        Height and width of the images. It makes no difference, but for an axis of 1, as a signal
        has: windows then are 1 along it, since of 3 two would only see padding.
    """
    height, width = (int(n > 1) for n in pair(size, "size"))
    padding, half, window = (
        (height, width),
        (1 + height, 1 + width),
        (1 + 2 * height, 1 + 2 * width),
    )
    features: list[Module] = []
    channels = in_channels
    for stage in STAGES:
        for out_channels in stage:
            features.append(Conv2d(channels, out_channels, window, padding=padding, bias=False))
            features += [BatchNorm2d(out_channels), ReLU()]
            channels = out_channels
        features.append(MaxPool2d(half))
    features.append(AdaptiveAvgPool2d(1))
    return ImageClassifier(Sequential(*features), Linear(channels, num_classes))
