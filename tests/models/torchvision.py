"""Names and shapes of torchvision's checkpoints, written down apart from the models.

Each is a list of convolutions, norms and linear layers in the order of torchvision's own files.
"""

NORM = ("weight", "bias", "running_mean", "running_var")


class Names(dict):
    """Shapes by name, a layer at a time."""

    def conv(self, path, out, into, size=1, bias=False):
        self[f"{path}.weight"] = (out, into, size, size)
        if bias:
            self[f"{path}.bias"] = (out,)

    def norm(self, path, channels):
        self.update({f"{path}.{part}": (channels,) for part in NORM})
        self[f"{path}.num_batches_tracked"] = ()

    def normed(self, path, *conv):
        """A convolution and its norm, as 0 and 1 of a sequence."""
        self.conv(f"{path}.0", *conv)
        self.norm(f"{path}.1", conv[0])

    def linear(self, path, out, into):
        self[f"{path}.weight"], self[f"{path}.bias"] = (out, into), (out,)


def resnet(blocks, bottleneck, classes=1000):
    names, widen = Names(), 4 if bottleneck else 1
    names.conv("conv1", 64, 3, 7)
    names.norm("bn1", 64)
    into = 64
    for stage, count in enumerate(blocks):
        narrow = 64 << stage
        out = narrow * widen
        for block in range(count):
            path = f"layer{stage + 1}.{block}"
            basic = ((narrow, into, 3), (narrow, narrow, 3))
            deep = ((narrow, into, 1), (narrow, narrow, 3), (out, narrow, 1))
            for i, conv in enumerate(deep if bottleneck else basic, start=1):
                names.conv(f"{path}.conv{i}", *conv)
                names.norm(f"{path}.bn{i}", conv[0])
            if block == 0 and (stage > 0 or bottleneck):
                names.normed(f"{path}.downsample", out, into)
            into = out
    names.linear("fc", classes, into)
    return names


# Output channels of the 17 inverted residuals; all but the first are six times wider inside.
V2 = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)


def mobilenet_v2(classes=1000):
    names = Names()
    names.normed("features.0", 32, 3, 3)
    into = 32
    for i, out in enumerate(V2, start=1):
        path, wide = f"features.{i}.conv", into if i == 1 else 6 * into
        if i > 1:
            names.normed(f"{path}.0", wide, into)
        names.normed(f"{path}.{int(i > 1)}", wide, 1, 3)
        names.conv(f"{path}.{1 + int(i > 1)}", out, wide)
        names.norm(f"{path}.{2 + int(i > 1)}", out)
        into = out
    names.normed("features.18", 1280, 320)
    names.linear("classifier.1", classes, 1280)
    return names


# Window, channels inside, those of the squeeze (0: there is none), output channels.
V3_SMALL = (
    (3, 16, 8, 16),
    (3, 72, 0, 24),
    (3, 88, 0, 24),
    (5, 96, 24, 40),
    (5, 240, 64, 40),
    (5, 240, 64, 40),
    (5, 120, 32, 48),
    (5, 144, 40, 48),
    (5, 288, 72, 96),
    (5, 576, 144, 96),
    (5, 576, 144, 96),
)


def mobilenet_v3_small(classes=1000):
    names = Names()
    names.normed("features.0", 16, 3, 3)
    into = 16
    for i, (window, wide, squeezed, out) in enumerate(V3_SMALL, start=1):
        # The parts that a block has, one after the other.
        parts = ["widen"] if wide != into else []
        parts += ["depthwise", "squeeze", "narrow"] if squeezed else ["depthwise", "narrow"]
        path = {part: f"features.{i}.block.{n}" for n, part in enumerate(parts)}
        if wide != into:
            names.normed(path["widen"], wide, into)
        names.normed(path["depthwise"], wide, 1, window)
        if squeezed:
            names.conv(f"{path['squeeze']}.fc1", squeezed, wide, bias=True)
            names.conv(f"{path['squeeze']}.fc2", wide, squeezed, bias=True)
        names.normed(path["narrow"], out, wide)
        into = out
    names.normed("features.12", 576, 96)
    names.linear("classifier.0", 1024, 576)
    names.linear("classifier.3", classes, 1024)
    return names


#: By model: its names and shapes, entries in its state, parameters.
CHECKPOINTS = {
    "resnet18": (lambda: resnet((2, 2, 2, 2), bottleneck=False), 122, 11_689_512),
    "resnet50": (lambda: resnet((3, 4, 6, 3), bottleneck=True), 320, 25_557_032),
    "mobilenet_v2": (mobilenet_v2, 314, 3_504_872),
    "mobilenet_v3_small": (mobilenet_v3_small, 244, 2_542_856),
}
