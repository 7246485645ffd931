"""Gradients in functional form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import autodiff, ops, trace
from .errors import ShapeError
from .tensor import Tensor, as_tensor

__all__ = ["grad"]


def grad(function: Callable[..., Tensor], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Differentiate a function of tensors that gives a scalar.

    Parameters
    ----------
    function : callable
    argnums : int or sequence of int
        By which arguments.

    Returns
    -------
    callable
        Takes what `function` takes; gives the gradient (a tuple for a sequence of arguments). It
        can be differentiated again.

    Raises
    ------
    ShapeError
        The function's value is not a scalar.

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> cube = lambda x: (x * x * x).sum()
    >>> te.grad(te.grad(cube))(2.0).item()
    12.0
    """
    several = not isinstance(argnums, int)
    numbers = tuple(argnums) if not isinstance(argnums, int) else (argnums,)

    def gradient(*args: Any) -> Any:
        tensors = [as_tensor(a) if i in numbers else a for i, a in enumerate(args)]
        # A view of each argument: other uses of the same tensor inside the function are constants.
        views = {i: Tensor.of_value(ops.view(tensors[i].value)).requires_grad_() for i in numbers}
        value = function(*(views.get(i, t) for i, t in enumerate(tensors)))
        if value.size != 1:
            raise ShapeError(f"grad: the function must give one number, got {list(value.shape)}")
        found = autodiff.gradient(value.value, [views[i].value for i in numbers])
        follows = trace.grad_enabled() and any(tensors[i].requires_grad for i in numbers)
        grads = tuple(Tensor.of_value(g).requires_grad_(follows) for g in found)
        return grads if several else grads[0]

    return gradient
