"""A module as a function of its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import DataError, ShapeError
from ..nn import Module
from ..tensor import as_tensor

__all__ = ["functional_call"]


def functional_call(module: Module, parameters: Mapping[str, Any], *args: Any) -> Any:
    """Call a module with other tensors in the place of its parameters.

    The tensors may be of another precision, and may themselves be computed. The module's own
    parameters are back when the call returns; its buffers are read and updated as in any call.

    Parameters
    ----------
    module : Module
    parameters : mapping of str to Tensor or array_like
        Stand-ins for some or all of ``module.named_parameters()``, of the same shapes.
    *args
        What the module takes.

    Returns
    -------
    object
        What the module gives.

    Raises
    ------
    DataError
        The module has no parameter of a name.
    ShapeError
        A stand-in has another shape than the parameter.

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> layer = te.nn.Linear(2, 1)
    >>> weights = {"weight": [[2.0, 3.0]], "bias": [1.0]}
    >>> te.testing.functional_call(layer, weights, [1.0, 1.0]).numpy()
    array([6.], dtype=float32)
    """
    with _standing_in(module, parameters):
        return module(*args)


@contextmanager
def _standing_in(module: Module, parameters: Mapping[str, Any]) -> Iterator[None]:
    own = dict(module.named_parameters())
    tensors = {}
    for name, data in parameters.items():
        if name not in own:
            known = ", ".join(own) or "none"
            raise DataError(f"functional_call: no parameter {name!r}; there are {known}")
        tensors[id(own[name])] = tensor = as_tensor(data)
        wanted, got = list(own[name].shape), list(tensor.shape)
        if wanted != got:
            raise ShapeError(f"functional_call: {name!r} is {wanted}, got {got}")
    # By identity, so that a parameter shared by two modules is replaced in both.
    places = [
        (part, name, attribute)
        for part in module.modules()
        for name, attribute in vars(part).items()
        if id(attribute) in tensors
    ]
    try:
        for part, name, attribute in places:
            setattr(part, name, tensors[id(attribute)])
        yield
    finally:
        for part, name, attribute in places:
            setattr(part, name, attribute)
