"""Weights stored as their non-zeros alone: made, pruned, and moved while they train."""

from .dynamic import DynamicSparsity, Event
from .gradient_growth import RigL, SparseMomentum
from .pool import Pool
from .random_growth import DSR, SET, MomentumRedistribution
from .sparsify import SparseWeights, sparsify

__all__ = [
    "DSR",
    "SET",
    "DynamicSparsity",
    "Event",
    "MomentumRedistribution",
    "Pool",
    "RigL",
    "SparseMomentum",
    "SparseWeights",
    "sparsify",
]
