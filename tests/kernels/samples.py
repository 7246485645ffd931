"""What the tests of many kernels draw from and measure with."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tinygrad_edge.runtime import _ffi

SETTINGS = hypothesis.settings(
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)

#: Half of the distance between 1 and the next float32: the relative error of one rounding.
UNIT = 2.0**-24

SPECIAL = np.array(
    [0, -0.0, 1, -1, 3, -3, 6, 0.5, np.nan, np.inf, -np.inf]
    + [1e-45, -1e-45, 2.0**-126, -1e-39, 3.4028235e38, -3.4028235e38],
    np.float32,
)


def normal(shape, seed=0):
    """Normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def ulps(y, exact):
    """Error of float32 `y` in units in the last place of `exact`; 0 where both are inf or NaN."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        spacing = np.spacing(np.maximum(np.abs(rounded), np.float32(2.0**-126)))
        error = np.abs(y - exact) / spacing
    same = (y == rounded) | (np.isnan(y) & np.isnan(rounded))
    return np.where(same & ~np.isfinite(rounded), 0, error)


def same_numbers(y, expected):
    """Whether two arrays hold the same bits, any NaN for any NaN, and either zero for a zero."""
    return y.dtype == expected.dtype and np.array_equal(y, expected, equal_nan=y.dtype.kind == "f")


def same_for_any_threads(threads, run):
    """Whether `run`, which returns arrays, returns the same bits on 1, 2 and 3 threads."""
    results = set()
    for count in (1, 2, 3):
        threads(count)
        results.add(b"".join(array.tobytes() for array in run()))
    return len(results) == 1


def same_wherever_fused(run):
    """Whether `run`, which returns arrays, returns the same bits with all fused multiply-adds."""
    fused = [isa for isa in _ffi.isas() if isa != "generic"] if _ffi.available() else []
    if len(fused) < 2:
        pytest.skip("needs two instruction sets with a fused multiply-add")
    before = _ffi.isa()
    results = set()
    for isa in fused:
        _ffi.choose_isa(isa)
        results.add(b"".join(np.ascontiguousarray(array).tobytes() for array in run()))
    _ffi.choose_isa(before)
    return len(results) == 1


# ---- strided operands ----

shapes = st.lists(st.integers(0, 5), max_size=3).flatmap(
    lambda lead: st.integers(0, 40).map(lambda last: (*lead, last))
)


@st.composite
def layouts(draw, shape, broadcast=True):
    """Strides that place `shape` in memory: any order of axes, gaps, and axes of stride 0."""
    strides = [0] * len(shape)
    step = draw(st.sampled_from([1, 1, 1, 2, 3]))
    for axis in draw(
        st.sampled_from([range(len(shape))[::-1], draw(st.permutations(range(len(shape))))])
    ):
        if broadcast and draw(st.integers(0, 3)) == 0:
            continue
        strides[axis] = step
        step *= max(1, shape[axis])
    return tuple(strides)


def extent(shape, strides):
    """Elements from the first to the last that the strides reach."""
    if 0 in shape:
        return 0
    return 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))


def view(memory, shape, strides):
    """Read flat `memory` through strides in elements."""
    nbytes = [s * memory.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(memory, shape, nbytes)


def contiguous(shape):
    """Strides of a row-major array."""
    return tuple(int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape)))
