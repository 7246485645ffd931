"""The op table: how each op is called, rightly and wrongly, and how exact its kernel is.

What is tested on every row stands in ``tests/ops/test_ops.py``; an op without a row fails
``tests/ops/test_registry.py``.
"""

from . import elementwise, losses, moves, norm, pool, products, reduce, sparse, state, storage
from .row import Row, Sample

__all__ = ["ROWS", "Row", "Sample"]

_FAMILIES = (elementwise, moves, products, reduce, pool, norm, losses, state, storage, sparse)

ROWS: dict[str, Row] = {name: row for family in _FAMILIES for name, row in family.ROWS.items()}
