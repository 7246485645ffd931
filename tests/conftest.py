"""Settings that all tests share."""

import pytest
from hypothesis import settings

from tinygrad_edge import runtime
from tinygrad_edge.runtime import _ffi

# The same examples in every run, and no verdict by the clock: machines are shared.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")


@pytest.fixture(params=["numpy", *(["native"] if _ffi.available() else [])])
def each_runtime(request):
    """Run a test once in each runtime that there is."""
    with runtime.use(request.param):
        yield request.param
