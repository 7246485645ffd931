"""multiply_add_f32."""

import numpy as np
import pytest
from kernels.kernel_call import call


@pytest.mark.parametrize("count", [0, 1, 17, 383, 384, 385, 5000])
def test_each_element_is_halved_and_raised_so_many_times(isa, threads, count):
    x = np.arange(count, dtype=np.float32)
    for rounds, threads_now in ((0, 1), (1, 2), (7, 3)):
        threads(threads_now)
        fields = {"count": count, "rounds": rounds}
        name, outputs = "multiply_add_f32", [(x.shape, np.float32)]
        status, (y,) = call(name, "tge_multiply_add_params", fields, outputs, [x])
        assert status == 0
        # Exact: x - 2 is halved, and needs 13 + 7 bits.
        assert (y == (x.astype(np.float64) - 2) / 2**rounds + 2).all()
