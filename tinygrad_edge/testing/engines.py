"""What gradcheck asks of a function: its outputs and its gradients, as arrays, in any engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..dtypes import float64
from ..errors import DTypeError
from ..gradients import grad
from ..graph import Node, ancestors
from ..tensor import Tensor

__all__ = ["FLOAT32", "FLOAT64", "Function", "NumPyFunction", "Precision", "TensorFunction"]


class Precision(NamedTuple):
    """What differences in a precision can tell.

    Parameters
    ----------
    eps : float
        Between 1 and the next number.
    step : float
        Half the width of the differences, relative to ``max(1, |x|)``: what they are off by,
        ``eps / step`` and ``step**4``, is then alike.
    rtol, atol : float
        Allowed error of a gradient, relative and absolute.
    distance : int
        How many steps a point is moved off a kink: out of reach of the differences.
    """

    eps: float
    step: float
    rtol: float
    atol: float
    distance: int


FLOAT64 = Precision(float(np.finfo(np.float64).eps), 1e-5, 1e-6, 1e-8, 100)
FLOAT32 = Precision(float(np.finfo(np.float32).eps), 1e-2, 1e-3, 1e-4, 10)


class Function(Protocol):
    """A function of arrays."""

    name: str

    def outputs(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs that are floats."""

    def gradients(
        self,
        arrays: Sequence[np.ndarray],
        cotangents: Sequence[np.ndarray],
        numbers: Sequence[int],
    ) -> list[np.ndarray]:
        """Of the sum of outputs times cotangents, by the arrays with these numbers."""


class TensorFunction:
    """A function of this package's tensors, in float64.

    Parameters
    ----------
    function : callable
    name : str
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self.name = function, name

    def outputs(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs that are floats."""
        return [y.numpy() for y in self._floats(self.function(*map(Tensor, arrays)))]

    def gradients(
        self,
        arrays: Sequence[np.ndarray],
        cotangents: Sequence[np.ndarray],
        numbers: Sequence[int],
    ) -> list[np.ndarray]:
        """Of the sum of outputs times cotangents."""

        def phi(*tensors: Tensor) -> Tensor:
            outputs = zip(self._floats(self.function(*tensors)), cotangents, strict=True)
            terms = [(y * c).sum() for y, c in outputs]
            return sum(terms[1:], terms[0])

        return [g.numpy() for g in grad(phi, list(numbers))(*map(Tensor, arrays))]

    def _floats(self, outputs: Any) -> list[Tensor]:
        """The outputs that have a derivative, made without a step through a narrower float."""
        several = outputs if isinstance(outputs, tuple | list) else [outputs]
        found = [y for y in several if isinstance(y, Tensor) and y.dtype.is_float]
        if not found:
            got = ", ".join(repr(y) for y in several)
            raise DTypeError(f"gradcheck: {self.name} must give tensors of floats, got {got}")
        for node in ancestors(y.value for y in found):
            if any(v.dtype is float64 for v in node.inputs):
                self._refuse_rounding(node)
        return found

    def _refuse_rounding(self, node: Node) -> None:
        narrow = [v.dtype for v in node.outputs if v.dtype.is_float and v.dtype is not float64]
        if narrow:
            file, line = node.source
            raise DTypeError(
                f"gradcheck: {self.name} rounds float64 to {narrow[0]} ({node.op.name}; "
                f"{file}:{line}); differences need float64 all the way"
            )


class NumPyFunction:
    """A function of NumPy arrays with its gradient, in whatever engine.

    Parameters
    ----------
    function : callable
        Takes arrays, gives an array or a sequence of them.
    vjp : callable
        ``vjp(cotangent, *arrays)`` gives the gradient of ``sum(function(*arrays) * cotangent)`` by
        each float array, None where it is zero; of several outputs, the cotangents are a tuple.
    name : str
    """

    def __init__(self, function: Callable[..., Any], vjp: Callable[..., Any], name: str) -> None:
        self.function, self.vjp, self.name = function, vjp, name

    def outputs(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs that are floats."""
        outputs = self.function(*arrays)
        self._several = isinstance(outputs, tuple | list)
        found = [np.asarray(y) for y in (outputs if self._several else [outputs])]
        if any(y.dtype.kind != "f" for y in found):
            got = ", ".join(str(y.dtype) for y in found)
            raise DTypeError(f"gradcheck: {self.name} must give arrays of floats, got {got}")
        return found

    def gradients(
        self,
        arrays: Sequence[np.ndarray],
        cotangents: Sequence[np.ndarray],
        numbers: Sequence[int],
    ) -> list[np.ndarray]:
        """Of the sum of outputs times cotangents."""
        found = self.vjp(tuple(cotangents) if self._several else cotangents[0], *arrays)
        found = list(found) if isinstance(found, tuple | list) else [found]
        wanted = [arrays[i].shape for i in numbers]
        shapes = [w if g is None else np.shape(g) for g, w in zip(found, wanted, strict=False)]
        if len(found) != len(wanted) or shapes != wanted:
            got = ", ".join("None" if g is None else str(list(np.shape(g))) for g in found)
            raise DTypeError(
                f"gradcheck: the vjp of {self.name} must give gradients of shapes "
                f"{', '.join(str(list(w)) for w in wanted)}, got {got}"
            )
        return [
            np.zeros(w) if g is None else np.asarray(g, np.float64)
            for g, w in zip(found, wanted, strict=True)
        ]
