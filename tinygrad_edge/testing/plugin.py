"""A pytest plugin: the fixture ``gradcheck``.

``pytest_plugins = ["tinygrad_edge.testing.plugin"]`` in a ``conftest.py``, or
``pytest -p tinygrad_edge.testing.plugin``, makes it known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis.strategies import SearchStrategy

from .drawn import gradcheck_drawn
from .gradcheck import gradcheck as check_here

__all__ = ["gradcheck"]


@pytest.fixture
def gradcheck() -> Callable[..., bool]:
    """Check a gradient at arrays, or wherever hypothesis strategies lead.

    ``gradcheck(function, *arrays)`` is `tinygrad_edge.testing.gradcheck`; with a strategy among the
    arguments it is `tinygrad_edge.testing.drawn.gradcheck_drawn`. With ``vjp=``, the function is
    one of NumPy arrays in any engine.
    """

    def check(function: Callable[..., Any], *arguments: Any, **options: Any) -> bool:
        drawn = any(isinstance(a, SearchStrategy) for a in arguments)
        return (gradcheck_drawn if drawn else check_here)(function, *arguments, **options)

    return check
