"""matmul_f32 against float64: sizes around every tile, batches, transposes."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels import reference
from kernels.kernel_call import call
from kernels.samples import same_for_any_threads, same_wherever_fused

SETTINGS = hypothesis.settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


def matmul(a, b, transpose_a=False, transpose_b=False, shift=0):
    """Multiply two stacks of matrices; a stack of one is broadcast."""
    m, k = a.shape[1:][::-1] if transpose_a else a.shape[1:]
    n = b.shape[1] if transpose_b else b.shape[2]
    batch = max(len(a), len(b))
    fields = {
        "batch": batch,
        "m": m,
        "n": n,
        "k": k,
        "a_batch_stride": m * k if len(a) == batch else 0,
        "b_batch_stride": k * n if len(b) == batch else 0,
        "transpose_a": transpose_a,
        "transpose_b": transpose_b,
    }
    outputs = [((batch, m, n), np.float32)]
    status, (c,) = call("matmul_f32", "tge_matmul_params", fields, outputs, [a, b], shift=shift)
    assert status == 0
    return c


def operands(m, n, k, transpose_a=False, transpose_b=False, batch=(1, 1), seed=0):
    """Random stacks of matrices for a product of this size."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((batch[0], *((k, m) if transpose_a else (m, k))), np.float32)
    b = rng.standard_normal((batch[1], *((n, k) if transpose_b else (k, n))), np.float32)
    return a, b


def check(m, n, k, transpose_a=False, transpose_b=False, batch=(1, 1), shift=0):
    """Compare one product with its reference."""
    a, b = operands(m, n, k, transpose_a, transpose_b, batch)
    c = matmul(a, b, transpose_a, transpose_b, shift)
    error = np.abs(c - reference.matmul(a, b, transpose_a, transpose_b))
    magnitude = reference.matmul(abs(a), abs(b), transpose_a, transpose_b)
    assert (error <= reference.bound(k, magnitude)).all()


@SETTINGS
@hypothesis.given(
    m=st.integers(0, 40),
    n=st.integers(0, 70),
    k=st.integers(0, 40),
    transpose_a=st.booleans(),
    transpose_b=st.booleans(),
    batch=st.sampled_from([(1, 1), (3, 3), (1, 3), (3, 1)]),
    shift=st.sampled_from([0, 4]),
)
def test_matmul_small(isa, m, n, k, transpose_a, transpose_b, batch, shift):
    check(m, n, k, transpose_a, transpose_b, batch, shift)


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize(
    "shape",
    [
        (144, 256, 256),  # one block of everything
        (145, 257, 257),  # one more of everything
        (300, 40, 600),  # several blocks of rows and of k
        (1, 300, 300),
        (300, 1, 300),
        (13, 600, 20),
    ],
    ids=str,
)
def test_matmul_across_blocks(isa, shape, transpose_a, transpose_b):
    check(*shape, transpose_a, transpose_b)


@pytest.mark.parametrize("shape", [(200, 300, 300), (64, 10, 700), (5, 5, 5)], ids=str)
@pytest.mark.parametrize("batch", [1, 5])
def test_matmul_bits_are_the_same_for_any_threads(isa, threads, shape, batch):
    a, b = operands(*shape, batch=(batch, batch))
    assert same_for_any_threads(threads, lambda: [matmul(a, b)])


def test_matmul_bits_of_a_row_do_not_depend_on_other_rows(isa):
    a, b = operands(150, 270, 300)
    whole = matmul(a, b)
    for rows, columns in [(slice(0, 1), slice(3, 4)), (slice(7, 20), slice(9, 260))]:
        part = matmul(a[:, rows].copy(), b[:, :, columns].copy())
        assert part.tobytes() == whole[:, rows, columns].tobytes()


def test_matmul_bits_are_the_same_wherever_multiply_and_add_round_once():
    a, b = operands(50, 70, 300)
    assert same_wherever_fused(lambda: [matmul(a, b)])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_matmul_carries_what_is_not_finite(isa, value):
    a, b = operands(5, 6, 7)
    a[0, 2, 3] = value
    c = matmul(a, b)
    assert not np.isfinite(c[0, 2]).any()
    assert np.isfinite(np.delete(c[0], 2, axis=0)).all()
