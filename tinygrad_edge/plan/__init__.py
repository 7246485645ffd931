"""Lifetimes, one arena, the ledger: what a step will use, known before it runs."""

from .ledger import KINDS, Entry, Saved, megabytes
from .plan import Plan, make_plan
from .program import Call, Operand

__all__ = ["KINDS", "Call", "Entry", "Operand", "Plan", "Saved", "make_plan", "megabytes"]
