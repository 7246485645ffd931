"""Weights that others have trained, by their names in a safetensors file."""

from __future__ import annotations

import os

import numpy as np

from .. import safetensors
from ..errors import DataError, FileError
from ..nn import Linear, Module
from ..nn.state import fitting
from ..parameter import Parameter

__all__ = ["load_weights"]

# How many batches a norm has seen: old checkpoints lack it, and no output depends on it.
COUNT = ".num_batches_tracked"


def load_weights(
    model: Module, path: str | os.PathLike[str], *, new_head: bool = True
) -> tuple[str, ...]:
    """Start a model from weights that were trained before, its head anew for other classes.

    The head is the model's last linear layer. Where the file's has as many inputs but another
    number of outputs, the model keeps its own; all else must fit.

    Parameters
    ----------
    model : Module
        One of torchvision's names (resnet18, resnet50, mobilenet_v2, mobilenet_v3_small) takes
        torchvision's weights; any model takes those of a snapshot of its own.
    path : str or path
        A safetensors file, of 16, 32 or 64-bit floats or bfloat16. What a snapshot holds beside the
        model, and counts of batches that are missing or too many, are passed over.
    new_head : bool
        Whether the head may have another number of classes.

    Returns
    -------
    tuple of str
        Names of the head's parameters, where they were left out.

    Raises
    ------
    FileError
        The file is no safetensors file; or names are missing or unknown, shapes or kinds of numbers
        differ, or numbers are not finite: all are listed, and nothing was changed.

    Examples
    --------
    >>> import tempfile, tinygrad_edge as te
    >>> path = tempfile.mkdtemp() + "/lenet.safetensors"
    >>> te.save(path, te.models.lenet(num_classes=10))
    >>> te.models.load_weights(te.models.lenet(num_classes=3), path)
    ('classifier.4.weight', 'classifier.4.bias')
    """
    tensors, _ = safetensors.load(path)
    own = model.state_dict()
    state = {
        name: _float32(array)
        for name, array in tensors.items()
        if "/" not in name and (name in own or not name.endswith(COUNT))
    }
    left_out = _head_of_other_classes(model, own, state) if new_head else ()
    wanted = {
        name: p
        for name, p in own.items()
        if name not in left_out and (name in state or not name.endswith(COUNT))
    }
    state = {name: array for name, array in state.items() if name not in left_out}
    wrong = [
        f"{name} holds what is no finite float32" for name in state if _not_finite(state[name])
    ]
    try:
        arrays = fitting(os.fspath(path), wanted, state, wrong)
    except DataError as error:
        raise FileError(f"the weights do not fit the model: {error}") from error
    del tensors, state
    while arrays:  # each goes when its copy is made: the weights are in memory once, not twice
        name, array = arrays.popitem()
        wanted[name].assign(array)
    return left_out


def _float32(array: np.ndarray) -> np.ndarray:
    """Floats as the model keeps them; what does not fit is infinite, and found by that."""
    array = safetensors.widened(array)
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def _not_finite(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and not np.isfinite(array).all()


def _head_of_other_classes(
    model: Module, own: dict[str, Parameter], state: dict[str, np.ndarray]
) -> tuple[str, ...]:
    """Names of the head's parameters, if the file's head differs in its outputs alone."""
    linear = [module for module in model.modules() if isinstance(module, Linear)]
    if not linear:
        return ()
    head = {p.cell for p in linear[-1].parameters()}
    names = tuple(name for name, p in own.items() if p.cell in head)
    shape = state[names[0]].shape if names[0] in state else ()
    expected = own[names[0]].shape
    return names if shape[1:] == expected[1:] and shape[:1] != expected[:1] else ()
