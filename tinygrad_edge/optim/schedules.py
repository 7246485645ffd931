"""Schedules: plain objects that set an optimizer's learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import DataError
from .optimizer import Optimizer

__all__ = ["CosineAnnealingLR", "ReduceLROnPlateau", "Schedule", "StepLR"]


class Schedule:
    """A learning rate that is a function of the number of steps taken, with a linear warm-up.

    The rate at step s is a pure function of s and of the optimizer's rate when the schedule was
    made, so that a run that goes on from any step has the same rates as one that was never stopped.
    By itself it warms up and then stays; a subclass defines ``after_warmup``.

    Parameters
    ----------
    optimizer : Optimizer
        Its present rate is the base.
    warmup : int
        Steps before the base is reached: ``lr * (s + 1) / (warmup + 1)``. The subclass's own steps
        count from there.

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> optimizer = te.optim.SGD(te.nn.Linear(2, 1).parameters(), lr=1.0)
    >>> schedule = te.optim.CosineAnnealingLR(optimizer, T_max=4, warmup=1)
    >>> for _ in range(4):
    ...     print(f"{optimizer.lr:.3f}")
    ...     schedule.step()
    0.500
    1.000
    0.854
    0.500
    """

    def __init__(self, optimizer: Optimizer, warmup: int = 0) -> None:
        if warmup < 0:
            raise ValueError(f"{type(self).__name__}: warmup must not be negative, got {warmup}")
        self.optimizer, self.warmup = optimizer, warmup
        self.base, self.steps = optimizer.lr, 0
        optimizer.lr = self.rate(0)

    def after_warmup(self, steps: int) -> float:
        """Give the learning rate a number of steps after the warm-up."""
        return self.base

    def rate(self, steps: int) -> float:
        """Give the learning rate after a number of steps."""
        if steps < self.warmup:
            return self.base * (steps + 1) / (self.warmup + 1)
        return self.after_warmup(steps - self.warmup)

    def step(self) -> None:
        """Count a step (or an epoch: whatever the schedule's numbers count) and set the rate."""
        self.steps += 1
        self.optimizer.lr = self.rate(self.steps)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Give the number of steps and the base rate."""
        return {"steps": np.array(self.steps), "base": np.array(self.base)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, and set the rate."""
        steps, self.base = _numbers(self, state)
        self.steps = int(steps)
        self.optimizer.lr = self.rate(self.steps)


class StepLR(Schedule):
    """``base * gamma ** (steps // step_size)``.

    Parameters
    ----------
    optimizer : Optimizer
    step_size : int
        Steps between two decays.
    gamma : float
    warmup : int
        Steps of linear warm-up before.
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, warmup: int = 0
    ) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be at least 1, got {step_size}")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, warmup)

    def after_warmup(self, steps: int) -> float:
        """Give the learning rate a number of steps after the warm-up."""
        return float(self.base * self.gamma ** (steps // self.step_size))


class CosineAnnealingLR(Schedule):
    """From the base down to `eta_min` along half a cosine; there it stays.

    Loshchilov & Hutter (2017), equation 5, without restarts.

    Parameters
    ----------
    optimizer : Optimizer
    T_max : int
        Steps of the descent, without the warm-up.
    eta_min : float
        Lowest rate.
    warmup : int
        Steps of linear warm-up before.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, warmup: int = 0
    ) -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: T_max must be at least 1, got {T_max}")
        if not 0 <= eta_min <= optimizer.lr:
            raise ValueError(
                f"CosineAnnealingLR: eta_min must be between 0 and {optimizer.lr}, got {eta_min}"
            )
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, warmup)

    def after_warmup(self, steps: int) -> float:
        """Give the learning rate a number of steps after the warm-up."""
        share = (1 + math.cos(math.pi * min(steps / self.T_max, 1))) / 2
        return self.eta_min + (self.base - self.eta_min) * share


class ReduceLROnPlateau:
    """Multiply the rate by `factor` when a metric has not improved for more than `patience` steps.

    Parameters
    ----------
    optimizer : Optimizer
    mode : {"min", "max"}
        Whether a smaller or a larger metric is better.
    factor : float
        Below 1.
    patience : int
    threshold : float
        Share of the best metric by which a better one must differ.
    min_lr : float
        Lowest rate.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        min_lr: float = 0.0,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: mode must be 'min' or 'max', got {mode!r}")
        if not 0 <= factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be in [0, 1), got {factor}")
        if min(patience, threshold, min_lr) < 0:
            raise ValueError("ReduceLROnPlateau: patience, threshold, min_lr must not be negative")
        self.optimizer, self.mode, self.factor = optimizer, mode, factor
        self.patience, self.threshold, self.min_lr = patience, threshold, min_lr
        self.best = math.inf if mode == "min" else -math.inf
        self.bad_steps = 0

    def step(self, metric: float) -> None:
        """Take a new value of the metric (NaN is no better), and reduce the rate if it is time."""
        metric = float(metric)
        margin = self.threshold * abs(self.best) if math.isfinite(self.best) else 0.0
        less, more = (metric, self.best) if self.mode == "min" else (self.best, metric)
        if less < more - margin:
            self.best, self.bad_steps = metric, 0
            return
        self.bad_steps += 1
        if self.bad_steps > self.patience:
            lr = self.optimizer.lr
            self.optimizer.lr = min(lr, max(lr * self.factor, self.min_lr))
            self.bad_steps = 0

    def state_dict(self) -> dict[str, np.ndarray]:
        """Give the best metric, the steps without a better one, and the present rate."""
        lr = self.optimizer.lr
        return {
            "best": np.array(self.best),
            "bad_steps": np.array(self.bad_steps),
            "lr": np.array(lr),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, and set the rate."""
        best, bad_steps, lr = _numbers(self, state)
        self.optimizer.lr = lr
        self.best, self.bad_steps = best, int(bad_steps)


def _numbers(schedule: Schedule | ReduceLROnPlateau, state: Mapping[str, Any]) -> list[float]:
    """Give the numbers of a state in the order of the schedule's own, whose names it must have."""
    own = schedule.state_dict()
    if set(state) != set(own):
        raise DataError(
            f"{type(schedule).__name__}.load_state_dict: expected {list(own)}, got {list(state)}"
        )
    return [float(np.asarray(state[name])) for name in own]
