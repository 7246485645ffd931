"""Models for images: each a table of its architecture, and the little code that reads it.

`cnn` is the one to begin with: it takes images from 8x8 (the digits) to 32x32 and more. `lenet` is
made for the 28x28 of MNIST, `mobilenet_v1_patch` and `wide_resnet` for the 32x32 of CIFAR, the
others for photographs of 224x224.
"""

import difflib
import inspect
from collections.abc import Callable

from ..errors import DataError
from ..nn import Module
from .cnn import cnn
from .lenet import lenet
from .mobilenet import mobilenet_v1, mobilenet_v1_patch, mobilenet_v2, mobilenet_v3_small
from .resnet import ResNet, resnet18, resnet50
from .weights import load_weights
from .wide_resnet import WideResNet, wide_resnet

__all__ = [
    "MODELS",
    "ResNet",
    "WideResNet",
    "build",
    "cnn",
    "lenet",
    "load_weights",
    "mobilenet_v1",
    "mobilenet_v1_patch",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet18",
    "resnet50",
    "wide_resnet",
]

#: The models that have a name, each a function of ``num_classes`` and ``in_channels``.
MODELS: dict[str, Callable[..., Module]] = {
    "lenet": lenet,
    "cnn": cnn,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v1_patch": mobilenet_v1_patch,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_small": mobilenet_v3_small,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "wide_resnet": wide_resnet,
}


def build(
    name: str, num_classes: int, in_channels: int, size: tuple[int, int] | None = None
) -> Module:
    """Make a model by its name.

    Parameters
    ----------
    name : str
        One of `MODELS`.
    num_classes, in_channels : int
    size : (int, int), optional
        Height and width of the images, for a model whose layers depend on it; others take any.

    Raises
    ------
    DataError
        There is no model of that name; the message suggests the nearest.
    ShapeError
        The images are too small for the model.

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> model = te.models.build("lenet", num_classes=10, in_channels=1)
    >>> sum(p.size for p in model.parameters())
    61706
    """
    if name not in MODELS:
        nearest = difflib.get_close_matches(name.lower(), MODELS, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise DataError(f"there is no model {name!r}: {hint}there are {', '.join(MODELS)}")
    make = MODELS[name]
    sized = size is not None and "size" in inspect.signature(make).parameters
    options = {"size": size} if sized else {}
    return make(num_classes=num_classes, in_channels=in_channels, **options)
