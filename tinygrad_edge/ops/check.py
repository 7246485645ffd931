"""Checks that stop a step before it has changed anything."""

from __future__ import annotations

import numpy as np

from ..dtypes import float16, float32, int32
from ..errors import DataError, DTypeError, NonFiniteError
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


# ---- integers in a range ----


def _integers(x: Value, *, first: int, last: int, what: str) -> tuple[TensorType, ...]:
    if x.dtype is not int32:
        raise DTypeError("the input must be int32")
    return ()


def _check_range(x: np.ndarray, *, first: int, last: int, what: str) -> tuple[np.ndarray, ...]:
    bad = np.flatnonzero((x < first) | (x > last))
    if bad.size:
        raise Refusal(int(bad[0]))
    return ()


def _refuse_integer(node: Node, arrays: list[np.ndarray], position: int) -> Exception:
    attrs = node.attrs
    return DataError(
        f"{attrs['what']} {arrays[0].reshape(-1)[position]} at position {position} of the batch "
        f"is outside {attrs['first']}..{attrs['last']}"
    )


_CHECK_RANGE = register(
    Op(
        "check_range",
        _integers,
        _check_range,
        differentiable=False,
        kernel=lambda node: Kernel(
            "check_range_i32",
            "tge_range_params",
            {
                "count": node.inputs[0].size,
                "first": node.attrs["first"],
                "last": node.attrs["last"],
            },
        ),
        effect=True,
        refuse=_refuse_integer,
    )
)


def check_range(x: Value, first: int, last: int, what: str) -> Node:
    """Fail the step if any element is outside `first` to `last`; the error says what it is."""
    return emit(_CHECK_RANGE, x, first=first, last=last, what=what)
