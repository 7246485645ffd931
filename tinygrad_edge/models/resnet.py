"""Residual networks (He et al. 2016), with the names and shapes of torchvision's checkpoints."""

from __future__ import annotations

from typing import Any

from ..nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Linear, MaxPool2d, Module, ReLU, Sequential

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "resnet18", "resnet50"]

# Channels of each stage; the first keeps the size of its maps, the others halve it.
STAGES = (64, 128, 256, 512)


class BasicBlock(Module):
    """Two 3x3 convolutions beside a shortcut, which a 1x1 convolution fits to another shape.

    Parameters
    ----------
    in_channels, channels : int
    stride : int
    """

    #: Output channels for each of `channels`.
    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.relu = ReLU()
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.downsample = _projection(in_channels, channels, stride)

    def forward(self, x: Any) -> Any:
        """[N, in_channels, H, W] to [N, channels, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.relu(x + shortcut)


class Bottleneck(Module):
    """A 3x3 convolution between 1x1 ones that narrow and widen, beside a shortcut.

    The 3x3 convolution has the stride, as in torchvision; the paper gives it to the first one.

    Parameters
    ----------
    in_channels, channels : int
        Of the input, and of the 3x3 convolution.
    stride : int
    """

    #: Output channels for each of `channels`.
    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.conv3 = Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = BatchNorm2d(out_channels)
        self.relu = ReLU()
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Any) -> Any:
        """[N, in_channels, H, W] to [N, 4 * channels, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(x + shortcut)


def _projection(in_channels: int, out_channels: int, stride: int) -> Sequential | None:
    """Fit the shortcut to another shape; none is needed where the shape stays."""
    if stride == 1 and in_channels == out_channels:
        return None
    project = Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return Sequential(project, BatchNorm2d(out_channels))


class ResNet(Module):
    """A stem, four stages of blocks, global pooling, a linear layer.

    Parameters
    ----------
    block : type
        `BasicBlock` or `Bottleneck`.
    blocks : (int, int, int, int)
        How many in each stage.
    num_classes, in_channels : int
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, STAGES[0], 7, 2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(STAGES[0])
        self.relu = ReLU()
        self.maxpool = MaxPool2d(3, 2, padding=1)
        inputs, stages = STAGES[0], []
        for i, (channels, count) in enumerate(zip(STAGES, blocks, strict=True)):
            # The first block changes channels and size, the others keep both.
            outputs = channels * block.expansion
            rest = (block(outputs, channels) for _ in range(count - 1))
            stages.append(Sequential(block(inputs, channels, 2 if i else 1), *rest))
            inputs = outputs
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc = Linear(inputs, num_classes)

    def forward(self, x: Any) -> Any:
        """[N, in_channels, H, W] to [N, num_classes]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def resnet18(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet with 2 basic blocks in each stage: 11,689,512 parameters at 1000 classes.

    Made for 224x224 images; smaller ones only make its maps smaller.

    Parameters
    ----------
    num_classes, in_channels : int
    """
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels)


def resnet50(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet with 16 bottlenecks: 25,557,032 parameters at 1000 classes.

    Made for 224x224 images; smaller ones only make its maps smaller.

    Parameters
    ----------
    num_classes, in_channels : int
    """
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels)
