"""Lifetimes, one arena, the ledger: what a step will use, known before it runs."""

from .diff import Difference
from .ledger import KINDS, Entry, Saved, megabytes
from .plan import Plan, make_plan
from .program import Call, Operand
from .why import Why

__all__ = [
    "KINDS",
    "Call",
    "Difference",
    "Entry",
    "Operand",
    "Plan",
    "Saved",
    "Why",
    "make_plan",
    "megabytes",
]
