"""Both runtimes, and numbers to feed them."""

import numpy as np
import pytest

from tinygrad_edge import runtime


@pytest.fixture(params=["native", "numpy"])
def each_runtime(request):
    with runtime.use(request.param):
        yield request.param


@pytest.fixture
def normal():
    """Draw standard normal float32 arrays of the given shapes."""
    rng = np.random.default_rng(0)
    return lambda *shape: rng.standard_normal(shape, np.float32)
