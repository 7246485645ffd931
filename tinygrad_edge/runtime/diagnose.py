"""After a step failed: which value was the first that is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import NonFiniteError
from ..graph import ASSIGN
from ..plan import Plan

__all__ = ["run_checked"]


def run_checked(executable: Any, cells: Sequence[np.ndarray], inputs: Sequence[np.ndarray]) -> list:
    """Run a plan; when its finite-check fails, say which value broke first.

    A failed step has changed nothing, so it is run again, a call at a time, up to the check. Not so
    one that goes on after an update, which would be made twice.
    """
    try:
        return executable.run(cells, inputs)
    except NonFiniteError as error:
        if _checks_after_an_assignment(executable.plan):
            raise NonFiniteError(
                f"{error}; what the step had updated before this check stays updated"
            ) from None
        first = _first_non_finite(executable, cells, inputs)
        raise NonFiniteError(
            f"{error}; no state was changed; the first value that is not finite: {first}",
            error.too_large,
        ) from None


def _checks_after_an_assignment(plan: Plan) -> bool:
    assigned = False
    for moment in plan.storage.moments:
        node = moment.node
        if assigned and node.op.may_refuse:
            return True
        # A loop over parts of the batch may change moments before its later parts are checked.
        assigned = assigned or node.op is ASSIGN or bool(node.attrs.get("resident"))
    return False


def _first_non_finite(
    executable: Any, cells: Sequence[np.ndarray], inputs: Sequence[np.ndarray]
) -> str:
    plan: Plan = executable.plan
    entering = [
        *((f"cell {c.name!r}", a) for c, a in zip(plan.graph.cells, cells, strict=True)),
        *((f"input {i}", a) for i, a in enumerate(inputs)),
    ]
    for name, array in entering:
        if _broken(array):
            return f"{name}, {_at(array)}"
    try:
        for call in executable.steps(cells, inputs):
            for value in call.node.outputs:
                array = executable.array(value)
                if _broken(array):
                    file, line = call.node.source
                    return f"{plan.where(value)}, {_at(array)} ({file}:{line})"
    except NonFiniteError:
        pass
    return "the loss itself"


def _broken(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and not np.isfinite(array).all()


def _at(array: np.ndarray) -> str:
    where = np.argwhere(~np.isfinite(array))[0]
    return f"{array[tuple(where)]} at {[int(i) for i in where]} of {list(array.shape)}"
