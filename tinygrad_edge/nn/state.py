"""Put named arrays into cells, all of them or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from ..parameter import Parameter
from ..safetensors import widened
from ..tensor import Tensor

__all__ = ["fitting", "load_cells"]


def load_cells(
    who: str, own: Mapping[str, Parameter], state: Mapping[str, Any], wrong: Sequence[str] = ()
) -> None:
    """Replace the contents of cells by what `fitting` accepts."""
    for name, array in fitting(who, own, state, wrong).items():
        own[name].assign(array)


def fitting(
    who: str, own: Mapping[str, Parameter], state: Mapping[str, Any], wrong: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Give arrays or tensors as arrays, if they have the names and shapes of some cells.

    Parameters
    ----------
    who : str
        What the error begins with.
    own : mapping of str to Parameter
    state : mapping of str to array_like
        `safetensors.bfloat16` among them.
    wrong : sequence of str
        What the caller has found to be wrong already.

    Raises
    ------
    DataError
        Something was wrong already, names are missing or unknown, or shapes or kinds of numbers
        differ; all are listed.
    """
    arrays = {name: _array(data) for name, data in state.items()}
    wrong = [*wrong, *_misfits(own, arrays)]
    if not wrong:
        cells = {own[name].cell: array for name, array in arrays.items()}
        checks = dict.fromkeys(cell.check for cell in cells if cell.check is not None)
        wrong = [found for check in checks if (found := check(cells)) is not None]
    if wrong:
        raise DataError(f"{who}: {'; '.join(wrong)}")
    return arrays


def _array(data: Any) -> np.ndarray:
    return data.numpy() if isinstance(data, Tensor) else widened(np.asarray(data))


def _misfits(own: Mapping[str, Parameter], arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    yield from (f"missing {name}" for name in own if name not in arrays)
    yield from (f"unknown {name}" for name in arrays if name not in own)
    for name, array in arrays.items():
        if name not in own:
            continue
        p = own[name]
        if p.shape != array.shape:
            yield f"{name} is {list(p.shape)}, got {list(array.shape)}"
        # Integers are no weights: a reader may give 16-bit floats as their bits.
        elif (array.dtype.kind == "f") is not p.dtype.is_float or array.dtype.kind not in "fiu":
            yield f"{name} is {p.dtype}, got {array.dtype}"
        elif array.dtype.kind != "f" and array.size:
            limits = np.iinfo(p.dtype.numpy)
            if array.min() < limits.min or array.max() > limits.max:
                yield f"{name} is {p.dtype}, got {array.min()}..{array.max()}"
