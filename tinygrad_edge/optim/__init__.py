"""Optimizers: update rules whose state lives in cells and whose rates are run-time numbers."""

from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Optimizer"]
