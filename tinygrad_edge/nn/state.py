"""Put named arrays into cells, all of them or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import DataError
from ..parameter import Parameter
from ..tensor import Tensor

__all__ = ["load_cells"]


def load_cells(who: str, own: Mapping[str, Parameter], state: Mapping[str, Any]) -> None:
    """Replace the contents of cells by arrays or tensors of the same names.

    Parameters
    ----------
    who : str
        What the error begins with.
    own : mapping of str to Parameter
    state : mapping of str to array_like

    Raises
    ------
    DataError
        Names are missing or unknown, or shapes or kinds of numbers differ; all are listed, and
        nothing was changed.
    """
    arrays = {n: a.numpy() if isinstance(a, Tensor) else np.asarray(a) for n, a in state.items()}
    wrong = [*_misfits(own, arrays)]
    if wrong:
        raise DataError(f"{who}: {'; '.join(wrong)}")
    for name, array in arrays.items():
        own[name].assign(array)


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
