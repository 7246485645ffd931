"""Policies: rewrites of a step's graph that change how values cross from forward to backward."""

from .adaptive import AdaptivePrecision, Decision, Precision
from .budget import ALLOWED, Budget, as_bytes
from .checkpoint import Checkpoint
from .default import Default
from .freeze import Freeze
from .microbatch import Microbatch
from .pipeline import PHASES, Machine, Policy, rewrite
from .planned import Planned, save_decisions
from .recompute import Recompute
from .second_backward import SecondBackward
from .store import Store

#: Of ``tinygrad_edge.sparse``, a room above this one: the package puts it here.
SparseWeights: type[Policy]

__all__ = [
    "ALLOWED",
    "PHASES",
    "AdaptivePrecision",
    "Budget",
    "Checkpoint",
    "Decision",
    "Default",
    "Freeze",
    "Machine",
    "Microbatch",
    "Planned",
    "Policy",
    "Precision",
    "Recompute",
    "SecondBackward",
    "SparseWeights",
    "Store",
    "as_bytes",
    "rewrite",
    "save_decisions",
]
