"""softmax_f32 and log_softmax_f32 against NumPy in float64."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import call
from kernels.samples import SETTINGS, UNIT, normal, same_for_any_threads


def softmax(kernel, x):
    """Apply a kernel along the middle axis of x[outer][count][inner]."""
    fields = dict(zip(("outer", "count", "inner"), x.shape, strict=True))
    status, (y,) = call(kernel, "tge_axis_params", fields, [(x.shape, np.float32)], [x])
    assert status == 0
    return y


def reference(x):
    """Softmax and its logarithm in float64, and the errors that float32 may have: see errors()."""
    x = x.astype(np.float64)
    depth = x.max(1, keepdims=True) - x
    e = np.exp(-depth)
    total = e.sum(1, keepdims=True)
    p, log_p = e / total, -depth - np.log(total)
    return p, log_p, *errors(depth, p, log_p, total)


def errors(depth, p, log_p, total):
    """Bounds of the errors of p and log p.

    An exponential errs by its argument's rounding, `depth` units, and by 1 ulp, at most 2 units.
    The sum takes over the mean of those and adds 39 units (rows: csrc/kernels/row.h; columns: 32 +
    count / 32 additions), a quotient 1. The logarithm of the sum has the sum's relative error as an
    absolute one, and 1 ulp of its own.
    """
    in_sum = (p * (depth + 2)).sum(1, keepdims=True) + 39 + p.shape[1] / 32
    in_log = depth + in_sum + 2 * np.log(total) - log_p
    return UNIT * (depth + 3 + in_sum) * p + 2.0**-149, UNIT * in_log


def check(x):
    """Compare both kernels with the reference."""
    p, log_p, p_error, log_error = reference(x)
    assert (np.abs(softmax("softmax_f32", x) - p) <= p_error).all()
    assert (np.abs(softmax("log_softmax_f32", x) - log_p) <= log_error).all()


@SETTINGS
@hypothesis.given(
    outer=st.integers(0, 4),
    count=st.integers(1, 50),
    inner=st.sampled_from([1, 1, 2, 15, 16, 40]),
    scale=st.sampled_from([0.1, 3, 100]),
)
def test_softmax(isa, outer, count, inner, scale):
    check(normal((outer, count, inner)) * np.float32(scale))


@pytest.mark.parametrize("shape", [(3, 5000, 1), (4000, 10, 1), (3, 70, 400)])
def test_softmax_of_large_arrays(isa, threads, shape):
    x = normal(shape) * 5
    check(x)
    for kernel in ("softmax_f32", "log_softmax_f32"):
        assert same_for_any_threads(threads, lambda kernel=kernel: [softmax(kernel, x)])


@pytest.mark.parametrize("inner", [1, 20])
def test_softmax_of_special_values(isa, inner):
    column = lambda *values: np.repeat(np.float32(values)[None, :, None], inner, 2)  # noqa: E731
    assert (softmax("softmax_f32", column(-np.inf, 0, 0)) == column(0, 0.5, 0.5)).all()
    assert (softmax("log_softmax_f32", column(-np.inf, 0)) == column(-np.inf, 0)).all()
    assert (softmax("softmax_f32", column(3e38, -3e38)) == column(1, 0)).all()
    for broken in (column(1, np.nan, 2), column(1, np.inf, 2), column(-np.inf, -np.inf)):
        assert np.isnan(softmax("softmax_f32", broken)).any(1).all()
        assert np.isnan(softmax("log_softmax_f32", broken)).any(1).all()
