"""Both runtimes."""

import pytest

from tinygrad_edge import runtime


@pytest.fixture(params=["native", "numpy"])
def each_runtime(request):
    with runtime.use(request.param):
        yield request.param
