"""Snapshots: all that a run needs to go on as if it had never stopped, in one safetensors file.

A model's parameters and buffers carry their ``state_dict`` names, so that any reader of the format
finds the weights of a plain model. What else belongs to a run stands under prefixes with a slash,
which no path of attributes has: ``optimizer/NAME`` for moments and counts, ``rate/NAME`` for an
optimizer's rates, ``random/NAME`` for generators.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from . import safetensors
from .compiled import CompiledStep
from .dtypes import of_array
from .errors import FileError, GraphError
from .generator import Generator
from .graph import Cell
from .nn import Module
from .optim import Optimizer
from .tensor import Parameter

__all__ = ["Snapshot", "Stateful", "load", "save"]

#: What has state: a step with its cells, or the parts that it was made of.
Stateful = CompiledStep | Module | Optimizer | Generator

_LISTED = 5  # problems that a message names before it counts the rest


class Snapshot(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    tensors : dict of str to array
    metadata : dict of str to JSON value
        Text of other writers that is not JSON stays text.
    """

    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]


def save(
    path: str | os.PathLike[str],
    objects: Stateful | Iterable[Stateful],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the state of a step, or of models, optimizers and generators, whole or not at all.

    Parameters
    ----------
    path : str or path
        The file to make or to replace.
    objects : CompiledStep, Module, Optimizer, Generator, or several of them
        A compiled step stands for every cell that it reads or writes. Rates are no cells: where
        they change, name the optimizer too.
    metadata : mapping of str to JSON value, optional
        What the program wants to know when it goes on: epoch, batch, settings, results so far.

    Raises
    ------
    FileError
        The file cannot be written; what was there before is unchanged.
    GraphError
        A step has not been recorded, or two pieces of state have the same name.

    Examples
    --------
    >>> import os, tempfile
    >>> import tinygrad_edge as te
    >>> layer = te.nn.Linear(2, 1)
    >>> path = os.path.join(tempfile.mkdtemp(), "layer.safetensors")
    >>> te.save(path, layer, {"epoch": 3})
    >>> other = te.nn.Linear(2, 1)
    >>> te.load(path, other).metadata["epoch"]
    3
    >>> bool((other.weight == layer.weight).numpy().all())
    True
    """
    several = _several(objects)
    cells: dict[str, Cell] = {}
    for name, cell in _named_cells(several):
        if cells.setdefault(name, cell) is not cell:
            raise GraphError(f"a snapshot needs different names, and two cells are called {name!r}")
    arrays = {name: Parameter(cell, requires_grad=False).borrow() for name, cell in cells.items()}
    arrays |= {name: np.float64(o.rate(rate)) for o, name, rate in _named_rates(several)}
    texts = {name: json.dumps(value) for name, value in (metadata or {}).items()}
    safetensors.save(path, arrays, texts)


def load(path: str | os.PathLike[str], objects: Stateful | Iterable[Stateful] = ()) -> Snapshot:
    """Read a snapshot, and put its state into a step, or into models, optimizers and generators.

    Parameters
    ----------
    path : str or path
        The file; any safetensors file will do.
    objects : CompiledStep, Module, Optimizer, Generator, or several of them
        What to restore; by default nothing. A part of what was saved may be asked for, the model
        without its optimizer say, but a part must fit entirely. A step must have been recorded:
        ``step.plan(x, y)`` is enough.

    Returns
    -------
    Snapshot
        Everything that the file holds.

    Raises
    ------
    FileError
        The file is missing, damaged, or does not fit the objects; they are unchanged.
    GraphError
        A step has not been recorded.
    """
    tensors, texts = safetensors.load(path)
    snapshot = Snapshot(tensors, {name: _value(text) for name, text in texts.items()})
    several = _several(objects)
    if several:
        problems = list(_misfits(several, tensors))
        if problems:
            more = len(problems) - _LISTED
            listed = "; ".join(problems[:_LISTED]) + (f"; and {more} more" if more > 0 else "")
            raise FileError(f"{os.fspath(path)} does not fit: {listed}")
        _restore(several, tensors)
    return snapshot


def _several(objects: Stateful | Iterable[Stateful]) -> list[Stateful]:
    return [objects] if isinstance(objects, Stateful) else list(objects)


def _named_cells(objects: list[Stateful]) -> Iterator[tuple[str, Cell]]:
    for each in objects:
        if isinstance(each, Module):
            yield from ((name, p.cell) for name, p in each.state_dict().items())
        elif isinstance(each, Optimizer):
            yield from ((_in_file(cell), cell) for cell in each.state.values())
        elif isinstance(each, Generator):
            yield _in_file(each.cell), each.cell
        else:
            cells = each.cells()
            if not cells:
                raise GraphError("the step has no state yet: call step.plan(...) or the step first")
            yield from ((_in_file(cell), cell) for cell in cells)


def _in_file(cell: Cell) -> str:
    return f"optimizer/{cell.name}" if cell.kind == "optimizer" else cell.name


def _named_rates(objects: list[Stateful]) -> Iterator[tuple[Optimizer, str, str]]:
    for each in objects:
        if isinstance(each, Optimizer):
            yield from ((each, f"rate/{rate}", rate) for rate in each.rates)


def _misfits(objects: list[Stateful], tensors: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Say what is missing, what is not known, and what has another shape or type."""
    cells = dict(_named_cells(objects))
    rates = {name for _, name, _ in _named_rates(objects)}
    made_on_demand = any(isinstance(each, Optimizer) for each in objects)
    sections = {_section(name) for name in (*cells, *rates)}
    for name in (*cells, *rates):
        if name not in tensors:
            yield f"{name} is missing"
    for name, array in tensors.items():
        if name in cells:
            shape, dtype = cells[name].type
            if (array.shape, array.dtype) != (shape, dtype.numpy):
                yield f"{name} is {array.dtype}{list(array.shape)}, not {dtype}{list(shape)}"
        elif name in rates:
            if array.shape or array.dtype != np.float64:
                yield f"{name} is {array.dtype}{list(array.shape)}, not float64[]"
        elif _section(name) in sections and not (made_on_demand and _section(name) == "optimizer"):
            yield f"{name} has no place"


def _section(name: str) -> str:
    return name.rpartition("/")[0]


def _restore(objects: list[Stateful], tensors: Mapping[str, np.ndarray]) -> None:
    for each in objects:
        if isinstance(each, Optimizer):  # which makes its state only when a step is recorded
            for name, array in tensors.items():
                if name.startswith("optimizer/"):
                    each.cell(name.removeprefix("optimizer/"), array.shape, of_array(array))
    for name, cell in _named_cells(objects):
        Parameter(cell, requires_grad=False).assign(tensors[name])
    for optimizer, name, rate in _named_rates(objects):
        optimizer.set_rate(rate, float(tensors[name]))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
