"""Wide residual networks (Zagoruyko & Komodakis 2016) for 32x32 images."""

from __future__ import annotations

from typing import Any

from ..nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Linear, Module, ReLU, Sequential

__all__ = ["PreActivationBlock", "WideResNet", "wide_resnet"]

# Channels of the stem; then channels, before they are widened, and stride of each stage.
STEM = 16
STAGES = ((16, 1), (32, 2), (64, 2))


class PreActivationBlock(Module):
    """Two 3x3 convolutions, each after its norm and ReLU, beside a shortcut (He et al. 2016b).

    Where the shape changes, the shortcut is a 1x1 convolution of the activated input.

    Parameters
    ----------
    in_channels, channels : int
    stride : int
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = BatchNorm2d(in_channels)
        self.relu = ReLU()
        self.conv1 = Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Any) -> Any:
        """[N, in_channels, H, W] to [N, channels, H / stride, W / stride]."""
        activated = self.relu(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(activated)
        return self.conv2(self.relu(self.bn2(self.conv1(activated)))) + shortcut


class WideResNet(Module):
    """A stem, three stages of blocks, a last norm, global pooling, a linear layer.

    Parameters
    ----------
    blocks : int
        How many in each stage.
    widen : int
        Times the channels of the narrow network.
    num_classes, in_channels : int
    """

    def __init__(self, blocks: int, widen: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, STEM, 3, padding=1, bias=False)
        inputs, stages = STEM, []
        for narrow, stride in STAGES:
            channels = narrow * widen
            rest = (PreActivationBlock(channels, channels) for _ in range(blocks - 1))
            stages.append(Sequential(PreActivationBlock(inputs, channels, stride), *rest))
            inputs = channels
        self.layer1, self.layer2, self.layer3 = stages
        self.bn1 = BatchNorm2d(inputs)
        self.relu = ReLU()
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc = Linear(inputs, num_classes)

    def forward(self, x: Any) -> Any:
        """[N, in_channels, H, W] to [N, num_classes]."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(self.avgpool(self.relu(self.bn1(x))).flatten(1))


def wide_resnet(
    num_classes: int = 10, in_channels: int = 3, depth: int = 28, widen: int = 2
) -> WideResNet:
    """WRN-`depth`-`widen`: WRN-28-2 has 1,467,610 parameters for 10 classes of colour images.

    Parameters
    ----------
    num_classes, in_channels : int
    depth : int
        Convolutions on the longest path, by the paper's count: 4 and a multiple of 6.
    widen : int
        Times the channels of the narrow network.

    Raises
    ------
    ValueError
        There is no such depth.
    """
    blocks, odd = divmod(depth - 4, 2 * len(STAGES))
    if odd or blocks < 1:
        raise ValueError(f"wide_resnet: depth must be 10, 16, 22, 28, ..., got {depth}")
    return WideResNet(blocks, widen, num_classes, in_channels)
