"""Gradients at points that hypothesis draws, down to the smallest at which one is wrong.

Imported by name: it needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..errors import GradientError
from .gradcheck import gradcheck

__all__ = ["gradcheck_drawn"]


def gradcheck_drawn(
    function: Callable[..., Any], *drawn: Any, examples: int = 50, **options: Any
) -> bool:
    """Check a function's gradients at many points.

    Parameters
    ----------
    function : callable or Module
        As for `gradcheck`.
    *drawn : strategy or array_like
        A hypothesis strategy for each argument, such as those of `tinygrad_edge.testing.strategies`
        or ``hypothesis.extra.numpy``; what is no strategy is passed on as it is.
    examples : int
        How many points are drawn, the same ones in every run.
    **options
        What `gradcheck` takes by name: ``vjp``, ``argnums``, ``step``, ``rtol``, ``atol``.

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradientError
        A gradient is wrong; the message shows the smallest arguments that were found for it, and
        what `gradcheck` says there.

    Examples
    --------
    >>> import tinygrad_edge as te
    >>> from tinygrad_edge.testing import strategies as tst
    >>> from tinygrad_edge.testing.drawn import gradcheck_drawn
    >>> gradcheck_drawn(lambda x: x.tanh(), tst.arrays(tst.shapes()), examples=10)
    True

    This square forgets one of its factors; one element is enough to show it:

    >>> gradcheck_drawn(lambda x: x * x.detach(), tst.arrays(tst.shapes(1)))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    tinygrad_edge.errors.GradientError: gradcheck: the gradient of <lambda> is wrong ...
    smallest arguments found:
      argument 0: float32[1] array([...], dtype=float32)
    """
    strategies = [d if isinstance(d, st.SearchStrategy) else st.just(d) for d in drawn]
    arguments: list[Any] = []

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(st.tuples(*strategies))
    def check(values: tuple[Any, ...]) -> None:
        arguments[:] = values  # of the last call, which is the smallest that fails
        gradcheck(function, *values, **options)

    try:
        check()
    except GradientError as error:
        told = "\n".join(f"  argument {i}: {_show(a)}" for i, a in enumerate(arguments))
        raise GradientError(f"{error}\nsmallest arguments found:\n{told}") from None
    return True


def _show(argument: Any) -> str:
    array = np.asarray(argument)
    with np.printoptions(threshold=20):
        return f"{array.dtype}{list(array.shape)} {argument!r}"
