"""What all optimizers share: state in cells, rates in one vector, the boundary of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from .. import autodiff, ops, trace
from ..dtypes import DType, float32, float64
from ..errors import GraphError, ShapeError
from ..graph import Cell, Value, marked, new_input
from ..op import TensorType
from ..tensor import Parameter, Tensor, leaves_of

__all__ = ["Optimizer"]


class Optimizer:
    """Base of all update rules.

    Rates live in one float64 vector that plans read when they run: changing a rate never re-plans.

    Parameters
    ----------
    parameters : iterable of Parameter
    rates : dict of float
        Name and first value of each rate, in the order of the update op's `hyper` input.
    max_norm : float, optional
        Scale all gradients down so that their global L2 norm is at most this (Pascanu et al. 2013).
    """

    def __init__(
        self, parameters: Iterable[Parameter], rates: Mapping[str, float], max_norm: float | None = None
    ) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(f"{type(self).__name__}: there are no parameters to optimize")
        for p in self.parameters:
            if not isinstance(p, Parameter):
                raise TypeError(f"{type(self).__name__}: expected parameters, got {type(p).__name__}")
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"{type(self).__name__}: max_norm must be positive, got {max_norm}")
        for name, rate in rates.items():
            self._check_rate(name, rate)
        self.rates = tuple(rates)
        self._rates = np.array(list(rates.values()), np.float64)
        self._max_norm = None if max_norm is None else np.array(max_norm, np.float32)
        self.state: dict[str, Cell] = {}
        for i, p in enumerate(self.parameters):
            p.cell.name = p.cell.name or f"parameter{i}"

    def rate(self, name: str) -> float:
        """A rate by name."""
        return float(self._rates[self.rates.index(name)])

    def set_rate(self, name: str, rate: float) -> None:
        """Change a rate from the next step on."""
        self._check_rate(name, rate)
        self._rates[self.rates.index(name)] = rate

    def _check_rate(self, name: str, rate: float) -> None:
        if not 0 <= rate < float("inf"):
            raise ValueError(f"{type(self).__name__}: {name} must be finite and not negative, got {rate}")

    @property
    def lr(self) -> float:
        """Learning rate."""
        return self.rate("lr")

    @lr.setter
    def lr(self, rate: float) -> None:
        self.set_rate("lr", rate)

    # ---- state ----

    def cell(self, name: str, shape: tuple[int, ...], dtype: DType = float32) -> Cell:
        """A cell of optimizer state, zero at first; made when it is first asked for."""
        if name not in self.state:
            self.state[name] = Cell(name, shape, dtype, "optimizer", lambda: np.zeros(shape, dtype.numpy))
        return self.state[name]

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and counts by name."""
        return {name: Parameter(cell, requires_grad=False) for name, cell in self.state.items()}

    def moment(self, kind: str, p: Parameter) -> Cell:
        """A moment of a parameter."""
        return self.cell(f"{p.cell.name}.{kind}", p.shape, p.dtype)

    # ---- a step ----

    def update(self, p: Parameter, gradient: Value, hyper: Value) -> None:
        """Assign the parameter's and its moments' next versions."""
        raise TypeError(f"{type(self).__name__} defines no update")

    def begin(self) -> None:
        """Assign what changes once a step, before any parameter (a step count)."""

    def zero_grad(self) -> None:
        """Set all gradients to None. `step` does so by itself."""
        for p in self.parameters:
            p.clear_grad()

    def step(self) -> None:
        """Update all parameters that have a gradient: the boundary of a training step.

        Runs the group of loss, gradients and updates, consumes the gradients that nobody has read, and ends
        the history of all tensors.

        Raises
        ------
        GraphError
            No parameter has a gradient.
        NonFiniteError, DataError
            The loss or a label is not acceptable; nothing was changed.
        """
        found = [(p, g) for p in self.parameters if (g := p.pending_grad) is not None]
        if not found:
            raise GraphError(f"{type(self).__name__}.step: no parameter has a gradient; call backward first")
        active = trace.current()
        for loss in autodiff.differentiated(g for _, g in found):
            active.effects.append(ops.check_finite(loss))
        self._apply(found)
        for p, _ in found:
            p.consume_grad()
        active.end_step()

    def minimize(self, loss: Tensor) -> None:
        """Place backward pass and update of a loss: ``backward`` and ``step`` without touching `grad`.

        Parameters
        ----------
        loss : Tensor of one element

        Raises
        ------
        GraphError
            The loss depends on none of the parameters.
        """
        if loss.size != 1:
            raise ShapeError(f"minimize: the loss must be one number, got {list(loss.shape)}")
        connected = {id(leaf) for leaf in leaves_of([loss])}
        trained = [p for p in self.parameters if id(p) in connected]
        if not trained:
            raise GraphError("minimize: the loss depends on no parameter that requires a gradient")
        active = trace.current()
        active.effects.append(ops.check_finite(loss.value))
        grads = autodiff.gradient(loss.value, [p.value for p in trained])
        self._apply(list(zip(trained, grads, strict=True)))
        active.end_step()

    def _apply(self, found: list[tuple[Parameter, Value]]) -> None:
        with marked(part="update", constant=False):
            hyper = new_input(TensorType(self._rates.shape, float64), self._rates)
            scale = self._clip_scale([g for _, g in found])
            self.begin()
            for p, g in found:
                with marked(scope=tuple(p.cell.name.split("."))):
                    self.update(p, g if scale is None else ops.multiply(g, scale), hyper)

    def _clip_scale(self, grads: list[Value]) -> Value | None:
        """min(1, max_norm / norm) of all gradients together."""
        if self._max_norm is None:
            return None
        total = None
        for g in grads:
            square = ops.sum_(ops.multiply(g, g))
            total = square if total is None else ops.add(total, square)
        assert total is not None
        limit = new_input(TensorType((), float32), self._max_norm)
        tiny, one = ops.constant(1e-6, float32), ops.constant(1.0, float32)
        return ops.minimum(one, ops.divide(limit, ops.add(ops.sqrt(total), tiny)))
