"""Weights stored as their non-zeros alone: made, pruned, and moved while they train."""

from .density import density_table, draw_densities
from .dynamic import DynamicSparsity, Event
from .gradient_growth import RigL, SparseMomentum
from .gradual import GradualPruning
from .pool import Pool
from .random_growth import DSR, SET, MomentumRedistribution
from .sparsify import SparseWeights, sparsify

__all__ = [
    "DSR",
    "SET",
    "DynamicSparsity",
    "Event",
    "GradualPruning",
    "MomentumRedistribution",
    "Pool",
    "RigL",
    "SparseMomentum",
    "SparseWeights",
    "density_table",
    "draw_densities",
    "sparsify",
]
