"""A small problem to minimise."""

import numpy as np

import tinygrad_edge as te
from tinygrad_edge import nn


class Bowl(nn.Module):
    """Half the squared distance from targets, each axis with a curvature of its own."""

    START = {"a": [0.5, -1.25, 2.0], "b": [3.0]}
    CURVATURE = {"a": [1.0, 0.1, 4.0], "b": [0.5]}
    TARGET = {"a": [1.0, 2.0, -0.5], "b": [0.25]}

    def __init__(self):
        super().__init__()
        for name, start in self.START.items():
            array = np.float32(start)
            setattr(self, name, nn.parameter(array.shape, lambda array=array: array))

    def forward(self):
        total = 0.0
        for name, p in self.named_parameters():
            away = p - self.TARGET[name]
            total = total + 0.5 * (te.Tensor(self.CURVATURE[name]) * away * away).sum()
        return total

    def values(self):
        return np.concatenate([p.numpy() for p in self.parameters()])
