"""check_finite_f32 and check_finite_f16."""

import numpy as np
import pytest
from kernels.kernel_call import call
from kernels.samples import SPECIAL, normal


def check_finite(x):
    name = {4: "check_finite_f32", 2: "check_finite_f16"}[x.itemsize]
    status, _ = call(name, "tge_count_params", {"count": x.size}, [], [x])
    return status


TYPES = pytest.mark.parametrize("dtype", [np.float32, np.float16])


@TYPES
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1024, 1025, 200_003])
def test_finite_numbers_pass(isa, size, dtype):
    with np.errstate(over="ignore"):
        numbers = SPECIAL.astype(dtype)
    assert check_finite(np.resize(numbers[np.isfinite(numbers)], size)) == 0


@TYPES
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1, 16, 1025, 200_003])
def test_the_first_bad_number_is_named_for_any_threads(isa, threads, size, value, dtype):
    for count in (1, 2, 3):
        threads(count)
        for position in {0, size // 3, size // 2, size - 1}:
            x = normal(size).astype(dtype)
            x[[position, -1]] = value
            assert check_finite(x) == position + 1
