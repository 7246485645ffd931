"""LeNet-5 (LeCun et al. 1998), with ReLU and max pooling instead of sigmoid and subsampling."""

from __future__ import annotations

from ..errors import ShapeError
from ..functional import Size, pair
from ..nn import Conv2d, Linear, MaxPool2d, Module, ReLU, Sequential
from .classifier import ImageClassifier

__all__ = ["lenet"]

# Output channels and padding of each 5x5 convolution, which a 2x2 pooling follows.
CONVOLUTIONS = ((6, 2), (16, 0))
# Outputs of each linear layer before the classes.
LINEAR = (120, 84)


def lenet(num_classes: int = 10, in_channels: int = 1, size: Size = 28) -> ImageClassifier:
    """LeNet-5: 61,706 parameters for 10 classes of 28x28 grey images.

    Parameters
    ----------
    num_classes, in_channels : int
    size : int or (int, int)
        Height and width of the images, at least 12.

    Raises
    ------
    ShapeError
        The images are smaller.
    """
    height, width = pair(size, "size")
    features: list[Module] = []
    channels = in_channels
    for out_channels, padding in CONVOLUTIONS:
        features += [Conv2d(channels, out_channels, 5, padding=padding), ReLU(), MaxPool2d(2)]
        channels = out_channels
        height, width = ((n + 2 * padding - 4) // 2 for n in (height, width))
    if min(height, width) < 1:
        raise ShapeError(f"lenet: images must be 12x12 or larger, got {size}; cnn takes 8x8")
    classifier: list[Module] = []
    inputs = channels * height * width
    for outputs in LINEAR:
        classifier += [Linear(inputs, outputs), ReLU()]
        inputs = outputs
    classifier.append(Linear(inputs, num_classes))
    return ImageClassifier(Sequential(*features), Sequential(*classifier))
