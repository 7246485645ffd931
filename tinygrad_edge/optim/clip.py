"""Clipping of gradients by their global norm (Pascanu et al. 2013)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .. import ops
from ..dtypes import float32
from ..errors import GraphError
from ..graph import Value, marked, new_input
from ..op import TensorType
from ..parameter import Parameter
from ..tensor import Tensor

__all__ = ["clip_grad_norm", "clip_scale"]


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> Tensor:
    """Scale all gradients down so that their global L2 norm is at most `max_norm`.

    For loops that look at the gradients; an optimizer's own ``max_norm`` clips without this call.
    Nothing runs yet.

    Parameters
    ----------
    parameters : iterable of Parameter
        Those without a gradient are left out.
    max_norm : float

    Returns
    -------
    Tensor
        The norm before clipping.

    Raises
    ------
    GraphError
        No parameter has a gradient.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm must be positive, got {max_norm}")
    found = [(p, g) for p in parameters if (g := p.pending_grad) is not None]
    if not found:
        raise GraphError("clip_grad_norm: no parameter has a gradient; call backward first")
    with marked(part="backward", constant=True):
        limit = new_input(TensorType((), float32), np.array(max_norm, np.float32))
        scale, norm = clip_scale([g for _, g in found], limit)
        for p, g in found:
            p.clear_grad()
            p.add_grad(ops.multiply(g, scale))
    return Tensor.of_value(norm)


def clip_scale(grads: Sequence[Value], limit: Value) -> tuple[Value, Value]:
    """Give ``min(1, limit / (norm + 1e-6))``, as PyTorch has it, and the norm of all together."""
    squares = [ops.sum_(ops.multiply(g, g)) for g in grads]
    total = squares[0]
    for square in squares[1:]:
        total = ops.add(total, square)
    norm = ops.sqrt(total)
    ratio = ops.divide(limit, ops.add(norm, ops.constant(1e-6, norm.dtype)))
    return ops.minimum(ops.constant(1.0, norm.dtype), ratio), norm
