"""copy against NumPy's assignment between views."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import GARBAGE, call
from kernels.samples import SETTINGS, extent, layouts, same_for_any_threads, shapes, view

TYPES = {1: np.uint8, 2: np.float16, 4: np.int32, 8: np.float64}


def flipped(shape, strides, flips):
    """Turn axes round: the offset of the first element, and the strides."""
    offset = sum((n - 1) * s for n, s, f in zip(shape, strides, flips, strict=True) if f and n > 0)
    return offset, tuple(-s if f else s for s, f in zip(strides, flips, strict=True))


def copy(x, size, shape, output, source, fill=0):
    """Copy between flat buffers; `output` and `source` are pairs of offset and strides."""
    fields = {
        "itemsize": x.itemsize,
        "ndim": len(shape),
        "fill_count": fill,
        "output_offset": output[0],
        "input_offset": source[0],
        "shape": shape,
        "output_strides": output[1],
        "input_strides": source[1],
    }
    status, (y,) = call("copy", "tge_copy_params", fields, [((size,), x.dtype)], [x])
    assert status == 0
    return y


def expected_copy(x, size, shape, output, source, fill=0):
    """The same by assignment."""
    y = np.full(size * x.itemsize, GARBAGE, np.uint8).view(x.dtype)
    y[:fill] = 0
    if 0 not in shape:
        view(y[output[0] :], shape, output[1])[...] = view(x[source[0] :], shape, source[1])
    return y


def numbers(dtype, count):
    """Different contents for each element, as far as the type can count."""
    return (np.arange(count) * 7 % 251).astype(dtype)


@pytest.mark.parametrize("itemsize", TYPES)
@SETTINGS
@hypothesis.given(data=st.data())
def test_copy_through_any_strides(isa, itemsize, data):
    shape = data.draw(shapes)
    flips = st.lists(st.booleans(), min_size=len(shape), max_size=len(shape))
    strides = data.draw(layouts(shape, broadcast=False)), data.draw(layouts(shape))
    output = flipped(shape, strides[0], data.draw(flips))
    source = flipped(shape, strides[1], data.draw(flips))
    size = extent(shape, strides[0])
    fill = data.draw(st.sampled_from([0, size]))
    x = numbers(TYPES[itemsize], extent(shape, strides[1]))
    y = copy(x, size, shape, output, source, fill)
    assert y.tobytes() == expected_copy(x, size, shape, output, source, fill).tobytes()


CASES = {  # shape, output strides, input strides
    "contiguous": ((100_003,), (1,), (1,)),
    "transposed": ((301, 257), (257, 1), (1, 301)),
    "channels last": ((3, 50, 60, 20), (60_000, 1200, 20, 1), (60_000, 60, 1, 3000)),
    "many small transposed": ((5000, 3, 5), (15, 5, 1), (15, 1, 3)),
    "samples and channels swapped": ((30, 20, 64), (64, 1920, 1), (1280, 64, 1)),
    "broadcast": ((300, 200), (200, 1), (1, 0)),
}


@pytest.mark.parametrize("itemsize", TYPES)
@pytest.mark.parametrize("case", CASES)
def test_copy_of_large_arrays(isa, threads, case, itemsize):
    shape, *strides = CASES[case]
    output, source = ((0, s) for s in strides)
    x = numbers(TYPES[itemsize], extent(shape, strides[1]))
    size = extent(shape, strides[0])
    run = lambda: [copy(x, size, shape, output, source)]  # noqa: E731
    assert same_for_any_threads(threads, run)
    assert run()[0].tobytes() == expected_copy(x, size, shape, output, source).tobytes()


def test_copy_into_zeros_pads(isa, threads):
    x = numbers(np.float64, 200 * 300)
    arguments = x, 210 * 320, (200, 300), (5 * 320 + 10, (320, 1)), (0, (300, 1)), 210 * 320
    assert same_for_any_threads(threads, lambda: [copy(*arguments)])
    expected = np.pad(x.reshape(200, 300), ((5, 5), (10, 10)))
    assert copy(*arguments).tobytes() == expected.tobytes()
