"""The models of ``tinygrad_edge.models`` as one writes them in PyTorch, with the same names.

Activations work in place, as in torchvision: that is PyTorch at its best.
"""

from torch import Tensor, nn

__all__ = ["MODELS"]

CNN = ((32, 32), (64, 64), (128, 128))  # outputs of each stage's convolutions
# Outputs and stride of each separable convolution.
PATCH = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (1024, 1), (1024, 1))
MOBILENET = (*PATCH[:5], (512, 2), *5 * ((512, 1),), (1024, 2), (1024, 1))


class ImageClassifier(nn.Module):
    """Features of an image, then a classifier on all of them in a row."""

    def __init__(self, features: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features, self.classifier = features, classifier

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, classes]."""
        return self.classifier(self.features(x).flatten(1))


def conv(inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Give a convolution before a batch-norm, which keeps the size but for its stride."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


def normed(*sizes: int) -> tuple[nn.Module, ...]:
    """Give a convolution, its norm, its activation."""
    return conv(*sizes), nn.BatchNorm2d(sizes[1]), nn.ReLU(inplace=True)


def lenet(num_classes: int, channels: int) -> nn.Module:
    """LeNet-5 for 28 x 28."""
    features = nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
    classifier = nn.Sequential(
        nn.Linear(400, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, 84),
        nn.ReLU(inplace=True),
        nn.Linear(84, num_classes),
    )
    return ImageClassifier(features, classifier)


def cnn(num_classes: int, channels: int) -> nn.Module:
    """Six convolutions in three stages."""
    features: list[nn.Module] = []
    for stage in CNN:
        for outputs in stage:
            features += normed(channels, outputs, 3)
            channels = outputs
        features.append(nn.MaxPool2d(2))
    features.append(nn.AdaptiveAvgPool2d(1))
    return ImageClassifier(nn.Sequential(*features), nn.Linear(channels, num_classes))


def separable(num_classes: int, channels: int, stride: int, table: tuple) -> nn.Module:
    """MobileNet: a convolution, then depthwise and 1 x 1 ones by turns."""
    width = 32
    features: list[nn.Module] = [nn.Sequential(*normed(channels, width, 3, stride))]
    for outputs, step in table:
        depthwise = normed(width, width, 3, step, width)
        features.append(nn.Sequential(*depthwise, *normed(width, outputs)))
        width = outputs
    features.append(nn.AdaptiveAvgPool2d(1))
    return ImageClassifier(nn.Sequential(*features), nn.Linear(width, num_classes))


def mobilenet_v1(num_classes: int, channels: int) -> nn.Module:
    """MobileNet for 224 x 224."""
    return separable(num_classes, channels, 2, MOBILENET)


def mobilenet_v1_patch(num_classes: int, channels: int) -> nn.Module:
    """MobileNet for 32 x 32."""
    return separable(num_classes, channels, 1, PATCH)


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between 1 x 1 ones, beside a shortcut."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * channels
        self.conv1 = conv(inputs, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv(channels, outputs)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                conv(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, 4 * channels, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(nn.Module):
    """A stem, four stages of bottlenecks, a linear layer."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(channels, 64, 7, 2), nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        inputs = 64
        for stage, blocks in enumerate((3, 4, 6, 3)):
            layer = nn.Sequential()
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layer.append(Bottleneck(inputs, 64 << stage, stride))
                inputs = 256 << stage
            setattr(self, f"layer{stage + 1}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, classes]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


#: By the names of ``tinygrad_edge.models``.
MODELS = {
    "lenet": lenet,
    "cnn": cnn,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v1_patch": mobilenet_v1_patch,
    "resnet50": ResNet50,
}
