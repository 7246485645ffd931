"""check_finite_f32, check_finite_f16 and check_range_i32."""

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


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_the_first_number_outside_a_range_is_named(isa, size):
    def check(x):
        fields = {"count": x.size, "first": -2, "last": 7}
        return call("check_range_i32", "tge_range_params", fields, [], [x])[0]

    x = (np.arange(size) % 10 - 2).astype(np.int32)
    assert check(x) == 0
    for position in {0, size // 2, size - 1} if size else ():
        for wrong in (-3, 8, -(2**31), 2**31 - 1):
            bad = x.copy()
            bad[[position, -1]] = wrong
            assert check(bad) == position + 1
