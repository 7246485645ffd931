"""check_finite_f32."""

import numpy as np
import pytest
from kernels.kernel_call import call
from kernels.samples import SPECIAL, normal


def check_finite(x):
    status, _ = call("check_finite_f32", "tge_count_params", {"count": x.size}, [], [x])
    return status


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1024, 1025, 200_003])
def test_finite_numbers_pass(isa, size):
    assert check_finite(np.resize(SPECIAL[np.isfinite(SPECIAL)], size)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1, 16, 1025, 200_003])
def test_the_first_bad_number_is_named_for_any_threads(isa, threads, size, value):
    for count in (1, 2, 3):
        threads(count)
        for position in {0, size // 3, size // 2, size - 1}:
            x = normal(size)
            x[[position, -1]] = value
            assert check_finite(x) == position + 1
