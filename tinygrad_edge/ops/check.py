"""Checks that stop a step before it has changed anything."""

from __future__ import annotations

import numpy as np

from ..dtypes import float16, float32
from ..errors import DTypeError, NonFiniteError
from ..graph import Node, Value, emit
from ..op import Kernel, Op, Refusal, TensorType, register


def _no_output(x: Value, *, what: str) -> tuple[TensorType, ...]:
    if not x.dtype.is_float:
        raise DTypeError("the input must be a float")
    return ()


def _check(x: np.ndarray, *, what: str) -> tuple[np.ndarray, ...]:
    bad = np.flatnonzero(~np.isfinite(x))
    if bad.size:
        raise Refusal(int(bad[0]))
    return ()


def _refuse(node: Node, arrays: list[np.ndarray], position: int) -> Exception:
    found = arrays[0].reshape(-1)[position]
    where = f" at position {position}" if arrays[0].size > 1 else ""
    made_by = node.inputs[0].node
    file, line = made_by.source
    return NonFiniteError(
        f"{node.attrs['what']} is {found}{where} ({made_by.op.name}; {file}:{line})"
    )


_KERNELS = {float32: "check_finite_f32", float16: "check_finite_f16"}

CHECK_FINITE = register(
    Op(
        "check_finite",
        _no_output,
        _check,
        differentiable=False,
        kernel=lambda node: Kernel(
            _KERNELS[node.inputs[0].dtype], "tge_count_params", {"count": node.inputs[0].size}
        ),
        effect=True,
        refuse=_refuse,
    )
)


def check_finite(x: Value, what: str = "the loss") -> Node:
    """Fail the step if any element is NaN or infinite; the error says what it is."""
    return emit(CHECK_FINITE, x, what=what)
