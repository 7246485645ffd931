"""Policies: rewrites of a step's graph that change how values cross from forward to backward."""

from .default import Default
from .pipeline import PHASES, Policy, rewrite

__all__ = ["PHASES", "Default", "Policy", "rewrite"]
