"""Layers and models as trees of parameters, with PyTorch's names, arguments and first values."""

from .containers import ModuleList, Sequential
from .module import Buffer, Module, parameter
from .norm import BatchNorm2d, GroupNorm, LayerNorm
from .stateless import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    Dropout,
    Flatten,
    Hardswish,
    Identity,
    MaxPool2d,
    ReLU,
    ReLU6,
    Sigmoid,
    Tanh,
)
from .weighted import Conv2d, Linear

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Buffer",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GroupNorm",
    "Hardswish",
    "Identity",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "ReLU",
    "ReLU6",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "parameter",
]
