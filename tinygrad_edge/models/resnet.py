"""Residual networks (He et al. 2016), with the names and shapes of torchvision's checkpoints."""

from __future__ import annotations

from typing import Any

from ..nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Linear, MaxPool2d, Module, ReLU, Sequential

__all__ = ["BasicBlock", "ResNet", "resnet18"]


class BasicBlock(Module):
    """Two 3x3 convolutions beside a shortcut, which a 1x1 convolution fits to another shape.

    Parameters
    ----------
    in_channels, channels : int
    stride : int
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.relu = ReLU()
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            project = Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = Sequential(project, BatchNorm2d(channels))

    def forward(self, x: Any) -> Any:
        """[N, in_channels, H, W] to [N, channels, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.relu(x + shortcut)


class ResNet(Module):
    """A stem, four stages of blocks, global pooling, a linear layer.

    Parameters
    ----------
    blocks : (int, int, int, int)
        How many in each stage.
    num_classes, in_channels : int
    """

    def __init__(
        self, blocks: tuple[int, int, int, int], num_classes: int, in_channels: int
    ) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, 64, 7, 2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.relu = ReLU()
        self.maxpool = MaxPool2d(3, 2, padding=1)
        self.layer1 = _stage(blocks[0], 64, 64, stride=1)
        self.layer2 = _stage(blocks[1], 64, 128, stride=2)
        self.layer3 = _stage(blocks[2], 128, 256, stride=2)
        self.layer4 = _stage(blocks[3], 256, 512, stride=2)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc = Linear(512, num_classes)

    def forward(self, x: Any) -> Any:
        """[N, in_channels, H, W] to [N, num_classes]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(blocks: int, in_channels: int, channels: int, stride: int) -> Sequential:
    """The first block changes channels and size, the others keep both."""
    rest = (BasicBlock(channels, channels) for _ in range(blocks - 1))
    return Sequential(BasicBlock(in_channels, channels, stride), *rest)


def resnet18(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet with 2 blocks in each stage: 11,689,512 parameters at 1000 classes.

    Made for 224x224 images; smaller ones only make its maps smaller.

    Parameters
    ----------
    num_classes, in_channels : int
    """
    return ResNet((2, 2, 2, 2), num_classes, in_channels)
