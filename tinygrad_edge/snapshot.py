"""Snapshots: all that a run needs to go on as if it had never stopped, in one safetensors file.

A model's parameters and buffers carry their ``state_dict`` names, so that any reader of the format
finds the weights of a plain model. What else belongs to a run stands under prefixes with a slash,
which no path of attributes has: ``optimizer/NAME``, ``schedule/NAME``, ``dynamic/NAME``,
``random/NAME``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from . import safetensors
from .compiled import CompiledStep
from .errors import FileError, GraphError
from .generator import Generator
from .graph import Cell
from .nn import Module
from .nn.state import load_cells
from .optim import Optimizer, ReduceLROnPlateau, Schedule
from .parameter import Parameter
from .sparse import DynamicSparsity
from .tensor import Tensor

__all__ = ["Snapshot", "Stateful", "load", "save"]

#: What has state: the parts of a run, or a compiled step that has them all inside.
Stateful = (
    Module | Optimizer | Schedule | ReduceLROnPlateau | DynamicSparsity | Generator | CompiledStep
)

_PREFIXES: dict[type, str] = {
    Optimizer: "optimizer/",
    Schedule: "schedule/",
    ReduceLROnPlateau: "schedule/",
    DynamicSparsity: "dynamic/",
}

_LONGEST_MESSAGE = 100_000  # each name of a large model, but not each of a hostile file


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
    """Write the state of the parts of a run, whole or not at all.

    Parameters
    ----------
    path : str or path
        The file to make or to replace.
    objects : Module, Optimizer, Schedule, DynamicSparsity, Generator, CompiledStep, or several
        A compiled step stands for all parameters, statistics, moments and generators that it reads
        or writes; not for rates, which are no part of it.
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
    state: dict[str, Any] = {}
    for each in _several(objects):
        for name, tensor in _state(each).items():
            if not _same(state.setdefault(name, tensor), tensor):
                raise GraphError(f"a snapshot needs distinct names, and two are {name!r}")
    arrays = {n: t.borrow() if isinstance(t, Tensor) else t for n, t in state.items()}
    texts = {name: json.dumps(value) for name, value in (metadata or {}).items()}
    safetensors.save(path, arrays, texts)


def load(path: str | os.PathLike[str], objects: Stateful | Iterable[Stateful] = ()) -> Snapshot:
    """Read a snapshot, and restore objects from it.

    Parameters
    ----------
    path : str or path
        The file; any safetensors file will do.
    objects : Module, Optimizer, Schedule, DynamicSparsity, Generator, CompiledStep, or several
        What to restore; by default nothing. A part of what was saved may be asked for, such as the
        model without its optimizer, but each part must fit. A schedule comes after its optimizer. A
        step must have been recorded: ``step.plan(x, y)`` is enough.

    Returns
    -------
    Snapshot
        Everything that the file holds.

    Raises
    ------
    FileError
        The file is missing, damaged, or does not fit the objects, which are then as before.
    GraphError
        A step has not been recorded.
    """
    tensors, texts = safetensors.load(path)
    parts = _several(objects)
    before = [{name: np.array(tensor) for name, tensor in _state(part).items()} for part in parts]
    restored, wrong = [], []
    for part, state in zip(parts, before, strict=True):
        try:
            _restore(part, tensors)
            restored.append((part, state))
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        for part, state in reversed(restored):
            _restore(part, state)
        raise FileError(f"{os.fspath(path)} does not fit: {'; '.join(wrong)}"[:_LONGEST_MESSAGE])
    return Snapshot(tensors, {name: _value(text) for name, text in texts.items()})


def _several(objects: Stateful | Iterable[Stateful]) -> list[Stateful]:
    return [objects] if isinstance(objects, Stateful) else list(objects)


def _prefix(part: Stateful) -> str:
    return next((prefix for kind, prefix in _PREFIXES.items() if isinstance(part, kind)), "")


def _state(part: Stateful) -> dict[str, Any]:
    """State by its names in a file."""
    if isinstance(part, Generator):
        return _by_name([part.cell])
    if isinstance(part, CompiledStep):
        return _by_name(part.cells())
    return {_prefix(part) + name: tensor for name, tensor in part.state_dict().items()}


def _by_name(cells: Iterable[Cell]) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for cell in cells:
        name = f"optimizer/{cell.name}" if cell.kind == "optimizer" else cell.name
        if name in found:
            raise GraphError(f"a snapshot needs distinct names, and two are {name!r}")
        found[name] = Parameter(cell, requires_grad=False)
    if not found:
        raise GraphError("the step has no state yet: call it, or step.plan(...), first")
    return found


def _same(one: Any, other: Any) -> bool:
    """Whether two are one piece of state, as where a step and its model are both saved."""
    if isinstance(one, Parameter) and isinstance(other, Parameter):
        return one.cell is other.cell
    return one is other


def _restore(part: Stateful, tensors: Mapping[str, np.ndarray]) -> None:
    """Restore a part from its section of a file."""
    if isinstance(part, Generator | CompiledStep):
        own = _state(part)
        models = isinstance(part, CompiledStep)  # no weight may be left over
        theirs = {n: a for n, a in tensors.items() if n in own or (models and "/" not in n)}
        load_cells(type(part).__name__, own, theirs)
        return
    section = _prefix(part)
    part.load_state_dict(
        {
            name.removeprefix(section): array
            for name, array in tensors.items()
            if name.startswith(section) and "/" not in name.removeprefix(section)
        }
    )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
