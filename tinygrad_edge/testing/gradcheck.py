"""Gradients against central differences, in float64.

The function's outputs are multiplied by random cotangents and summed to one number, phi. Along a
direction v, phi is looked at in five places: x, x ± h v and x ± h v / 2. Extrapolated (Richardson
1911), they give the slopes from the left and from the right to order h**2 and the central one to
order h**4. Where the three agree, phi is smooth, and the central slope is what the gradient must
give. Where they do not, x is on a kink or near one; there the gradient is one of several, and x is
moved away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import runtime, trace
from ..errors import DTypeError, GradientError
from ..nn import Module
from .engines import FLOAT32, FLOAT64, Function, NumPyFunction, TensorFunction
from .functional_call import functional_call

__all__ = ["gradcheck"]

#: Arguments up to this size are checked element by element, larger ones along a random direction.
ELEMENTWISE = 64
#: How often a point is moved off kinks before one is reported.
MOVES = 4
#: What rounding may add to phi, relative to its terms, in units of the precision.
ROUNDING = 100


def gradcheck(
    function: Callable[..., Any] | Module,
    *arrays: Any,
    argnums: int | Sequence[int] | None = None,
    vjp: Callable[..., Any] | None = None,
    step: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> bool:
    """Compare a function's gradients with central differences, in float64 on the numpy runtime.

    With `vjp`, the function and its gradient are any engine's, and take and give NumPy arrays.

    Parameters
    ----------
    function : callable or Module
        Takes tensors and gives a tensor of any shape, or a sequence of them; outputs that are not
        floats are left out. It must give the same for the same arguments. Of a module the
        parameters are checked as well, each by a float64 stand-in.
    *arrays : array_like
        Where to check. Floats become float64; integers such as labels are passed on.
    argnums : int or sequence of int, optional
        The arrays to differentiate by; all floats by default.
    vjp : callable, optional
        ``vjp(cotangent, *arrays)`` gives the gradient of ``sum(function(*arrays) * cotangent)`` by
        each of these arrays, in their order; None stands for zero. Of several outputs, the
        cotangents are a tuple. Where the function gives float32, the check is as exact as that
        allows.
    step : float, optional
        Half the width of the differences, relative to ``max(1, |x|)``; 1e-5, in float32 1e-2.
    rtol, atol : float, optional
        Allowed error, relative to the gradient and absolute; 1e-6 and 1e-8, in float32 1e-3 and
        1e-4. What rounding may add to the differences is allowed beyond that.

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradientError
        A gradient is wrong; the message names the worst element with its analytic and numeric
        derivative. Or there is nothing to compare: values are not finite, differ from call to
        call, or stay on a kink wherever the point is moved. It is an AssertionError too.
    DTypeError
        The function gives no float, or rounds to float32 inside: differences would be noise.

    Notes
    -----
    Arrays of up to 64 elements are checked one by one. Larger ones are checked along one random
    direction, in which any wrong element shows; one that fails is halved until an element is found.

    A point on a kink (a ReLU at 0, equal maxima in a pool) is moved by a hundred steps and checked
    there, for at the kink the gradient has no one value.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_edge as te
    >>> image, window = np.ones((1, 1, 3, 3)), np.eye(2).reshape(1, 1, 2, 2)
    >>> te.testing.gradcheck(lambda x, w: te.functional.conv2d(x, w).tanh(), image, window)
    True

    Second derivatives are gradients of gradients:

    >>> te.testing.gradcheck(te.grad(lambda x: (x * x * x).sum()), [1.0, 2.0])
    True

    A layer, by its weights and by its input:

    >>> te.testing.gradcheck(te.nn.Linear(3, 2), np.ones((4, 3)))
    True

    A function of another engine, or of none, by what it says of its gradient:

    >>> te.testing.gradcheck(np.sin, [0.0, 1.0], vjp=lambda cotangent, x: np.cos(x) * cotangent)
    True
    """
    active = trace.current()
    if active.lazy:
        active.run()  # what is pending belongs to the runtime it was asked of
    with runtime.use("numpy"):
        _check(_Slopes(function, arrays, argnums, vjp, step, rtol, atol))
    return True


def _check(slopes: _Slopes) -> None:
    """Compare all directions, and again wherever the point is moved to."""
    for _ in range(1 + MOVES):
        slopes.settle()
        found = [slopes.compare(elements) for elements in slopes.directions()]
        failed = sorted((f for f in found if f.error > f.allowed), key=_severity, reverse=True)
        wrong = [f for f in failed if not f.kink]
        if wrong:
            verdict = f"wrong in {len(wrong)} of {len(found)} directions"
            raise GradientError(slopes.report(_narrow(slopes, wrong[0]), verdict))
        if not failed:
            return
        slopes.move(np.concatenate([f.elements for f in failed]))
    raise GradientError(slopes.report(failed[0], f"at a kink or a jump, even moved {MOVES} times"))


def _narrow(slopes: _Slopes, found: _Comparison) -> _Comparison:
    """Halve a direction that fails down to one element."""
    while found.elements.size > 1:
        halves = np.array_split(found.elements, 2)
        found = max((slopes.compare(half) for half in halves), key=_severity)
    return found


class _Comparison(NamedTuple):
    """The slopes along a direction, and how far analytic and numeric may be apart."""

    elements: np.ndarray
    analytic: float
    numeric: float
    left: float
    right: float
    allowed: float

    @property
    def error(self) -> float:
        return abs(self.analytic - self.numeric)

    @property
    def kink(self) -> bool:
        """Whether the differences disagree by enough to explain the error."""
        slopes = (self.left, self.numeric, self.right)
        return max(slopes) - min(slopes) > max(self.allowed, self.error / 100)


def _severity(found: _Comparison) -> float:
    return found.error / found.allowed


class _Slopes:
    """Phi, its gradient and its differences, over one flat vector of all elements in question."""

    def __init__(
        self,
        function: Any,
        arrays: Sequence[Any],
        argnums: int | Sequence[int] | None,
        vjp: Callable[..., Any] | None,
        step: float | None,
        rtol: float | None,
        atol: float | None,
    ) -> None:
        self.name = getattr(function, "__name__", type(function).__name__)
        self.arguments = [np.asarray(a) for a in arrays]
        self.labels = [f"argument {i}" for i in range(len(arrays))]
        if argnums is None:
            argnums = [i for i, a in enumerate(self.arguments) if a.dtype.kind == "f"]
        self.numbers = [argnums] if isinstance(argnums, int) else list(argnums)
        if isinstance(function, Module):
            function = self._take_parameters(function)
        self.function: Function = (
            TensorFunction(function, self.name)
            if vjp is None
            else NumPyFunction(function, vjp, self.name)
        )
        if not self.numbers:
            raise DTypeError(f"gradcheck: {self.name} was given no float to differentiate by")

        parts = [self.arguments[i].astype(np.float64) for i in self.numbers]
        self.point = np.concatenate([p.reshape(-1) for p in parts])
        self.starts = np.cumsum([0, *(p.size for p in parts)])
        self.rng = np.random.default_rng(0)
        outputs = self.function.outputs(self._arrays(self.point))
        self.cotangents = [self._signed(y.shape).astype(y.dtype) for y in outputs]
        precision = FLOAT64 if all(y.dtype == np.float64 for y in outputs) else FLOAT32
        self.step = precision.step if step is None else step
        self.rtol = precision.rtol if rtol is None else rtol
        self.atol = precision.atol if atol is None else atol
        self.away = precision.distance * self.step
        self.rounding = ROUNDING * precision.eps

    def _take_parameters(self, module: Module) -> Callable[..., Any]:
        """Put the module's parameters before its arguments; gives the function of all."""
        own = dict(module.named_parameters())
        self.arguments = [*(p.numpy() for p in own.values()), *self.arguments]
        self.labels = [*(f"parameter {name!r}" for name in own), *self.labels]
        self.numbers = [*range(len(own)), *(i + len(own) for i in self.numbers)]
        return lambda *args: functional_call(
            module, dict(zip(own, args, strict=False)), *args[len(own) :]
        )

    def _signed(self, shape: tuple[int, ...] | int) -> np.ndarray:
        """Random numbers away from zero, so that nothing multiplied by them goes unseen."""
        return self.rng.uniform(0.5, 1.0, shape) * self.rng.choice([-1.0, 1.0], shape)

    # ---- the function ----

    def _arrays(self, point: np.ndarray) -> list[np.ndarray]:
        arrays = list(self.arguments)
        for i, start, stop in zip(self.numbers, self.starts, self.starts[1:], strict=False):
            arrays[i] = point[start:stop].reshape(arrays[i].shape)
        return arrays

    def _terms(self, point: np.ndarray) -> np.ndarray:
        """What phi is the sum of."""
        products = zip(self.function.outputs(self._arrays(point)), self.cotangents, strict=True)
        return np.concatenate([np.float64(y * c).reshape(-1) for y, c in products])

    def _gradient(self, point: np.ndarray) -> np.ndarray:
        found = self.function.gradients(self._arrays(point), self.cotangents, self.numbers)
        return np.concatenate([g.reshape(-1) for g in found])

    # ---- the point ----

    def settle(self) -> None:
        """Look at phi and its gradient where the point is now."""
        terms = self._terms(self.point)
        if not np.array_equal(terms, self._terms(self.point), equal_nan=True):
            raise GradientError(
                f"gradcheck: {self.name} gives other values for the same arguments; make its "
                "randomness part of the call (generator=te.Generator(0))"
            )
        self._refuse_non_finite(terms, "value")
        self.here = math.fsum(terms)
        self.noise = self.rounding * float(np.linalg.norm(terms)) / self.step
        self.gradient = self._gradient(self.point)
        self._refuse_non_finite(self.gradient, "gradient")

    def _refuse_non_finite(self, found: np.ndarray, what: str) -> None:
        bad = found[~np.isfinite(found)]
        if bad.size:
            raise GradientError(
                f"gradcheck: a {what} of {self.name} is {bad[0]}; choose a point inside"
            )

    def move(self, elements: np.ndarray) -> None:
        """Move elements, and look closer from now on: a smaller step meets fewer kinks."""
        scale = np.maximum(1, np.abs(self.point[elements]))
        self.point[elements] += self.away * scale * self._signed(elements.size)
        self.step /= 8

    # ---- differences ----

    def directions(self) -> list[np.ndarray]:
        """The elements that vary together: each alone, or all of a large argument."""
        found: list[np.ndarray] = []
        for start, stop in zip(self.starts, self.starts[1:], strict=False):
            elements = np.arange(start, stop)
            found += [elements] if elements.size > ELEMENTWISE else list(elements[:, None])
        return found

    def compare(self, elements: np.ndarray) -> _Comparison:
        """Slopes along a random direction through some elements; by one element, its derivative."""
        direction = np.maximum(1, np.abs(self.point[elements]))
        if elements.size > 1:
            direction = direction * self._signed(elements.size)
        unit = float(direction[0]) if elements.size == 1 else 1.0

        def phi(t: float) -> float:
            point = self.point.copy()
            point[elements] += t * direction
            terms = self._terms(point)
            self._refuse_non_finite(terms, f"value beside {self.where(elements)}")
            return math.fsum(terms)

        h = self.step
        low, mid_low, mid_high, high = (phi(t) for t in (-h, -h / 2, h / 2, h))
        numeric = (8 * (mid_high - mid_low) - (high - low)) / (6 * h)
        right = (4 * mid_high - high - 3 * self.here) / h
        left = (3 * self.here - 4 * mid_low + low) / h
        parts = self.gradient[elements] * direction
        size = max(float(np.linalg.norm(parts)), abs(numeric))
        allowed = self.rtol * size + self.atol + self.noise
        slopes = (math.fsum(parts), numeric, left, right, allowed)
        return _Comparison(elements, *(slope / unit for slope in slopes))

    # ---- messages ----

    def where(self, elements: np.ndarray) -> str:
        """Name elements."""
        k = int(np.searchsorted(self.starts, elements[0], side="right")) - 1
        shape = self.arguments[self.numbers[k]].shape
        label = f"{self.labels[self.numbers[k]]} of {list(shape)}"
        if elements.size > 1:
            return f"{label}, along a random direction"
        at = [int(n) for n in np.unravel_index(elements[0] - self.starts[k], shape)]
        return f"{label} at {at}, where it is {self.point[elements[0]]:.6g}"

    def report(self, found: _Comparison, verdict: str) -> str:
        """Say what was compared and what came out."""
        return (
            f"gradcheck: the gradient of {self.name} is {verdict}; the worst:\n"
            f"  {self.where(found.elements)}\n"
            f"  analytic {found.analytic:.10g}\n"
            f"  numeric  {found.numeric:.10g}, {found.left:.6g} from the left, "
            f"{found.right:.6g} from the right\n"
            f"  error    {found.error:.3g}, allowed {found.allowed:.3g}"
        )
