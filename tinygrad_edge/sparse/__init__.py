"""Weights stored as their non-zeros alone: made, pruned, and moved while they train."""

from .pool import Pool
from .sparsify import SparseWeights, sparsify

__all__ = ["Pool", "SparseWeights", "sparsify"]
