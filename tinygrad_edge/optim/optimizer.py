"""What all optimizers share: state in cells, rates in one vector, the boundary of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from .. import autodiff, ops, trace
from ..dtypes import DType, float32, float64
from ..errors import GraphError, ShapeError
from ..graph import Cell, Value, marked, new_input
from ..nn.state import load_cells
from ..op import TensorType
from ..parameter import Parameter
from ..tensor import Tensor, leaves_of
from .clip import clip_scale

__all__ = ["Optimizer"]


class Optimizer:
    """Base of all update rules.

    Rates live in one float64 vector that plans read when they run: changing a rate never re-plans.
    A subclass names its moments and defines ``update``.

    Parameters
    ----------
    parameters : iterable of Parameter
    rates : dict of float
        Name and first value of each rate, in the order of the update op's `hyper` input.
    max_norm : float, optional
        Scale all gradients down so that their global L2 norm is at most this (Pascanu et al. 2013).
        Given, it is a rate like the others: it may be changed, and is part of the state.

    Attributes
    ----------
    state : dict of Cell
        Moments and counts. Moments of a parameter that is not trained are made when it is.
    """

    #: What is kept of each parameter.
    moments: tuple[str, ...] = ()
    #: Rates that must stay below a number; any must be finite and not negative.
    limits: ClassVar[Mapping[str, float]] = {}

    def __init__(
        self,
        parameters: Iterable[Parameter],
        rates: Mapping[str, float],
        max_norm: float | None = None,
    ) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(f"{type(self).__name__}: there are no parameters to optimize")
        for p in self.parameters:
            if not isinstance(p, Parameter):
                raise TypeError(
                    f"{type(self).__name__}: expected parameters, got {type(p).__name__}"
                )
        self.rates = tuple(rates) + (() if max_norm is None else ("max_norm",))
        self._rates = np.zeros(len(rates), np.float64)
        self._max_norm = np.zeros((), np.float32)
        for name, rate in {**rates, "max_norm": max_norm}.items():
            if rate is not None:
                self.set_rate(name, rate)
        self.state: dict[str, Cell] = {}
        self._names: dict[Cell, str] = {}
        self._name_parameters()
        for p in self.parameters:
            if p.requires_grad:
                self.state.update(self._moments_of(p))

    def _name_parameters(self) -> None:
        """Fix the names of the moments: the parameters', made distinct."""
        taken: set[str] = set()
        for i, p in enumerate(self.parameters):
            if p.cell in self._names:
                raise ValueError(f"{type(self).__name__}: {p.cell.name!r} is given twice")
            p.cell.name = p.cell.name or f"parameter{i}"
            name = p.cell.name
            while name in taken:  # parts of two models
                name = f"{i}.{name}"
            taken.add(name)
            self._names[p.cell] = name

    def rate(self, name: str) -> float:
        """Give a rate by name."""
        return self._place(name).item()

    def set_rate(self, name: str, rate: float) -> None:
        """Change a rate from the next step on."""
        self._check_rate(name, rate)
        self._place(name)[...] = rate

    def _place(self, name: str) -> np.ndarray:
        """Where plans read a rate."""
        return self._max_norm if name == "max_norm" else self._rates[self.rates.index(name), ...]

    def _check_rate(self, name: str, rate: float) -> None:
        if not 0 <= rate < float("inf"):
            raise ValueError(
                f"{type(self).__name__}: {name} must be finite and not negative, got {rate}"
            )
        if rate >= self.limits.get(name, float("inf")):
            raise ValueError(
                f"{type(self).__name__}: {name} must be below {self.limits[name]}, got {rate}"
            )
        if name == "max_norm" and rate == 0:
            raise ValueError(f"{type(self).__name__}: max_norm must be positive, got {rate}")

    @property
    def lr(self) -> float:
        """Learning rate."""
        return self.rate("lr")

    @lr.setter
    def lr(self, rate: float) -> None:
        self.set_rate("lr", rate)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={self.rate(n):g}' for n in self.rates)})"

    # ---- state ----

    def cell(self, name: str, shape: tuple[int, ...], dtype: DType = float32) -> Cell:
        """Give a cell of optimizer state, zero at first; made when it is first asked for."""
        if name not in self.state:
            self.state[name] = _zeros(name, shape, dtype)
        return self.state[name]

    def moment(self, kind: str, p: Parameter) -> Cell:
        """Give a moment of a parameter."""
        return self.cell(f"{self._names[p.cell]}.{kind}", p.shape, p.dtype)

    def _moments_of(self, p: Parameter) -> dict[str, Cell]:
        names = (f"{self._names[p.cell]}.{kind}" for kind in self.moments)
        return {name: _zeros(name, p.shape, p.dtype) for name in names}

    def state_dict(self) -> dict[str, Any]:
        """Give moments and counts as tensors and rates as float64 arrays, by name."""
        cells = {name: Parameter(cell, requires_grad=False) for name, cell in self.state.items()}
        return cells | {name: np.array(self.rate(name)) for name in self.rates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, in this optimizer or another of the same parameters.

        Parameters
        ----------
        state : mapping of str to array_like

        Raises
        ------
        DataError
            Names are missing or unknown, or shapes differ; all are listed, and nothing was changed.
        ValueError
            A rate is out of its range; nothing was changed.
        """
        who = f"{type(self).__name__}.load_state_dict"
        found = {name: np.asarray(state[name]) for name in self.rates if name in state}
        wrong = [f"missing {name}" for name in self.rates if name not in found]
        wrong += [f"{name} is [], got {list(a.shape)}" for name, a in found.items() if a.shape]
        rates = {name: float(array) for name, array in found.items() if not array.shape}
        for name, rate in rates.items():
            self._check_rate(name, rate)
        cells = dict(self.state)
        for p in self.parameters:  # moments of what has been trained and is frozen now
            for name, cell in self._moments_of(p).items():
                if name in state:
                    cells.setdefault(name, cell)
        own = {name: Parameter(cell, requires_grad=False) for name, cell in cells.items()}
        load_cells(who, own, {n: a for n, a in state.items() if n not in self.rates}, wrong)
        self.state = cells
        for name, rate in rates.items():
            self.set_rate(name, rate)

    def exchange(
        self,
        old: Iterable[Parameter],
        new: Parameter,
        gather: Callable[[list[np.ndarray | None]], np.ndarray | None],
    ) -> None:
        """Go on with one parameter in place of several.

        Parameters
        ----------
        old : iterable of Parameter
            Those that are not this optimizer's count as not trained so far.
        new : Parameter
        gather : callable
            Makes a moment of the new one from those of the old, None for zeros on either side.
        """
        gone = {p.cell: self._names.pop(p.cell, "") for p in old}
        self.parameters = [p for p in self.parameters if p.cell not in gone] + [new]
        self._names[new.cell] = new.cell.name
        for kind in self.moments:
            moments = [self.state.pop(f"{name}.{kind}", None) for name in gone.values()]
            arrays = [m.array if m is not None and m.used else None for m in moments]
            if (found := gather(arrays)) is not None:
                self.moment(kind, new).fill(found)
            elif new.requires_grad:
                self.moment(kind, new)

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

        Runs the group of loss, gradients and updates, consumes the gradients that nobody has read,
        and ends the history of all tensors.

        Raises
        ------
        GraphError
            No parameter has a gradient.
        NonFiniteError, DataError
            The loss or a label is not acceptable; nothing was changed.
        """
        self._check_parameters()
        found = [(p, g) for p in self.parameters if (g := p.pending_grad) is not None]
        if not found:
            raise GraphError(
                f"{type(self).__name__}.step: no parameter has a gradient; call backward first"
            )
        active = trace.current()
        for loss in autodiff.differentiated(g for _, g in found):
            active.effects.append(ops.check_finite(loss))
        self._apply(found)
        for p, _ in found:
            p.consume_grad()
        active.end_step()

    def minimize(self, loss: Tensor) -> None:
        """Place backward pass and update of a loss: `backward` and `step` without touching `grad`.

        Parameters
        ----------
        loss : Tensor of one element

        Raises
        ------
        GraphError
            The loss depends on none of the parameters, or one was updated after it was computed.
        """
        self._check_parameters()
        if loss.size != 1:
            raise ShapeError(f"minimize: the loss must be one number, got {list(loss.shape)}")
        connected = {id(leaf) for leaf in leaves_of([loss], self.parameters)}
        trained = [p for p in self.parameters if id(p) in connected]
        if not trained:
            raise GraphError("minimize: the loss depends on no parameter that requires a gradient")
        active = trace.current()
        active.effects.append(ops.check_finite(loss.value))
        grads = autodiff.gradient(loss.value, [p.value for p in trained])
        self._apply(list(zip(trained, grads, strict=True)))
        active.end_step()

    def _check_parameters(self) -> None:
        retired = next((p.cell.name for p in self.parameters if p.cell.kind == "retired"), None)
        if retired is not None:
            raise GraphError(
                f"{type(self).__name__}: {retired!r} was made sparse: give sparsify this "
                "optimizer, or make it anew from the network's parameters"
            )

    def _apply(self, found: list[tuple[Parameter, Value]]) -> None:
        with marked(part="update", constant=False):
            hyper = new_input(TensorType(self._rates.shape, float64), self._rates)
            scale = None
            if "max_norm" in self.rates:
                limit = new_input(TensorType((), float32), self._max_norm)
                scale, _ = clip_scale([g for _, g in found], limit)
            self.begin()
            for p, g in found:
                with marked(scope=tuple(p.cell.name.split("."))):
                    self.update(p, g if scale is None else ops.multiply(g, scale), hyper)


def _zeros(name: str, shape: tuple[int, ...], dtype: DType) -> Cell:
    return Cell(name, shape, dtype, "optimizer", lambda: np.zeros(shape, dtype.numpy))
