"""Layers and models as trees of parameters."""

from .layers import Linear
from .module import Buffer, Module, parameter

__all__ = ["Buffer", "Linear", "Module", "parameter"]
