"""Compare models with torchvision's definitions, rebuilt here in plain PyTorch, weights and all.

    pip install . torch && python tests/models_against_torch.py [SIZE]

Each PyTorch model gets random weights and running statistics. They go to a safetensors file, from
there into the model of the same name, and both see the same images in evaluation mode. One line
a model: its parameters; the error of the numpy runtime in float64, relative to the largest output;
that of the native runtime in float32, also as a share of what rounding may do there (three runs
whose every result is blurred, see ``exact_and_allowed`` in nets.py). The exit code is 1 where one
is over its bound.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nets
import numpy as np
import torch
from models.torchvision import CHECKPOINTS
from torch import nn

import tinygrad_edge as te
from tinygrad_edge import runtime, safetensors

FLOAT64_BOUND = 1e-10


# ---- torchvision's models, from the papers' tables ----


def normed(into: int, out: int, size: int, stride: int = 1, groups: int = 1, act=None, **norm):
    """A convolution that keeps the size but for its stride, its norm, its activation."""
    conv = nn.Conv2d(into, out, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out, **norm), *([act()] if act else [])]


class Residual(nn.Module):
    """A ResNet's block: convolutions, and a shortcut that is projected where the shape changes."""

    def __init__(self, into: int, sizes: list[tuple[int, int, int]]) -> None:
        super().__init__()
        shape, strides = into, 1
        self.convs = len(sizes)
        for i, (out, size, stride) in enumerate(sizes, start=1):
            conv, norm = normed(shape, out, size, stride)
            setattr(self, f"conv{i}", conv)
            setattr(self, f"bn{i}", norm)
            shape, strides = out, strides * stride
        if strides > 1 or shape != into:
            self.downsample = nn.Sequential(*normed(into, shape, 1, strides))

    def forward(self, x):
        """Add the shortcut before the last activation (He et al. 2016)."""
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        for i in range(1, self.convs + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            x = torch.relu(x + shortcut if i == self.convs else x)
        return x


class ResNet(nn.Module):
    """Table 1 of He et al. 2016; a bottleneck has its stride in the 3x3 convolution."""

    def __init__(self, counts: tuple[int, ...], bottleneck: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = normed(3, 64, 7, 2)
        into = 64
        for stage, count in enumerate(counts, start=1):
            blocks, narrow = [], 32 << stage
            for block in range(count):
                stride = 2 if block == 0 and stage > 1 else 1
                basic = [(narrow, 3, stride), (narrow, 3, 1)]
                deep = [(narrow, 1, 1), (narrow, 3, stride), (4 * narrow, 1, 1)]
                blocks.append(Residual(into, deep if bottleneck else basic))
                into = 4 * narrow if bottleneck else narrow
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(into, 1000)

    def forward(self, x):
        """Stem, four stages, mean, scores."""
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return self.fc(x.mean((2, 3)))


class Squeeze(nn.Module):
    """Squeeze and excitation with a hard sigmoid (Howard et al. 2019)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x):
        """Scale each channel."""
        scale = self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * nn.functional.hardsigmoid(scale)


class Inverted(nn.Module):
    """An inverted residual, under the name that a version of MobileNet has for its body."""

    def __init__(self, name: str, body: nn.Sequential, residual: bool) -> None:
        super().__init__()
        self.name, self.residual = name, residual
        setattr(self, name, body)

    def forward(self, x):
        """Add the input where the shape stays."""
        y = getattr(self, self.name)(x)
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """Features, mean, classifier."""

    def __init__(self, features: list[nn.Module], classifier: list[nn.Module]) -> None:
        super().__init__()
        self.features, self.classifier = nn.Sequential(*features), nn.Sequential(*classifier)

    def forward(self, x):
        """Scores of the classes."""
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenet_v2() -> MobileNet:
    """Table 2 of Sandler et al. 2018."""
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
    relu6 = partial(normed, act=nn.ReLU6)
    features, into = [nn.Sequential(*relu6(3, 32, 3, 2))], 32
    for expansion, out, count, first in (*table, (6, 160, 3, 2), (6, 320, 1, 1)):
        for stride in [first] + [1] * (count - 1):
            wide = into * expansion
            widen = [nn.Sequential(*relu6(into, wide, 1))] if expansion > 1 else []
            depthwise = nn.Sequential(*relu6(wide, wide, 3, stride, wide))
            body = nn.Sequential(*widen, depthwise, *normed(wide, out, 1))
            features.append(Inverted("conv", body, stride == 1 and into == out))
            into = out
    features.append(nn.Sequential(*relu6(into, 1280, 1)))
    return MobileNet(features, [nn.Dropout(0.2), nn.Linear(1280, 1000)])


def mobilenet_v3_small() -> MobileNet:
    """Table 2 of Howard et al. 2019: window, width, output, squeezed width, activation, stride."""
    re, hs = nn.ReLU, nn.Hardswish
    table = (
        *((3, 16, 16, 8, re, 2), (3, 72, 24, 0, re, 2), (3, 88, 24, 0, re, 1)),
        *((5, 96, 40, 24, hs, 2), (5, 240, 40, 64, hs, 1), (5, 240, 40, 64, hs, 1)),
        *((5, 120, 48, 32, hs, 1), (5, 144, 48, 40, hs, 1)),
        *((5, 288, 96, 72, hs, 2), (5, 576, 96, 144, hs, 1), (5, 576, 96, 144, hs, 1)),
    )
    block = partial(normed, eps=1e-3)
    features, into = [nn.Sequential(*block(3, 16, 3, 2, act=hs))], 16
    for size, wide, out, squeezed, act, stride in table:
        body = [nn.Sequential(*block(into, wide, 1, act=act))] if wide != into else []
        body.append(nn.Sequential(*block(wide, wide, size, stride, wide, act=act)))
        body += [Squeeze(wide, squeezed)] if squeezed else []
        body.append(nn.Sequential(*block(wide, out, 1)))
        features.append(Inverted("block", nn.Sequential(*body), stride == 1 and into == out))
        into = out
    features.append(nn.Sequential(*block(into, 576, 1, act=hs)))
    return MobileNet(features, [nn.Linear(576, 1024), hs(), nn.Dropout(0.2), nn.Linear(1024, 1000)])


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: ResNet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: ResNet((3, 4, 6, 3), bottleneck=True),
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_small": mobilenet_v3_small,
}


# ---- comparing ----


def randomise(model: nn.Module) -> None:
    """Random weights and statistics that keep signals of order one through all layers."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(100)
        elif tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith(("weight", "running_var")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.uniform_(-0.5, 0.5, generator=generator)


def blurred_and_exact(model: te.nn.Module, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Scores in float64, and how far blurred ones are off."""
    state = {n: p.numpy().astype(np.float64) for n, p in model.named_parameters()}

    def run() -> np.ndarray:
        return te.testing.functional_call(model, state, images.astype(np.float64)).numpy()

    with runtime.use("numpy"):
        exact, allowed = run(), 0.0
        for seed in range(3):
            with nets.blurred(seed):
                allowed = max(allowed, float(np.abs(run() - exact).max()))
    return exact, allowed


def main(size: int = 224) -> int:
    """Compare all models on images of one size; give the exit code."""
    images = np.random.default_rng(0).standard_normal((2, 3, size, size), np.float32)
    good = True
    for name, make in MODELS.items():
        theirs, ours = make().eval(), te.models.build(name, 1000, 3).eval()
        randomise(theirs)
        state = {n: t.numpy() for n, t in theirs.state_dict().items()}
        assert {n: a.shape for n, a in state.items()} == CHECKPOINTS[name][0]()
        with tempfile.TemporaryDirectory() as folder:
            safetensors.save(Path(folder) / "weights.safetensors", state)
            left_out = te.models.load_weights(ours, Path(folder) / "weights.safetensors")
        assert left_out == ()
        with torch.no_grad():
            right = theirs.double()(torch.from_numpy(images).double()).numpy()
        exact, allowed = blurred_and_exact(ours, images)
        assert exact.dtype == np.float64
        with runtime.use("native"), te.no_grad():
            found = ours(images).numpy()
        largest = np.abs(right).max()
        error64 = np.abs(exact - right).max() / largest
        error32 = np.abs(found - right).max()
        passed = error64 <= FLOAT64_BOUND and error32 <= allowed
        good = good and passed
        count = sum(p.size for p in ours.parameters())
        print(
            f"{name:<19} {count:>10,} parameters  float64 within {error64:.1e}  float32 within "
            f"{error32 / largest:.1e}, {error32 / allowed:.3f} of what rounding may do: "
            f"{'passed' if passed else 'FAILED'}",
            flush=True,
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
