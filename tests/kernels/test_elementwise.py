"""elementwise_f32 and elementwise_i32 against NumPy."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import GARBAGE, call
from kernels.samples import (
    SETTINGS,
    SPECIAL,
    contiguous,
    extent,
    layouts,
    normal,
    same_for_any_threads,
    same_numbers,
    shapes,
    ulps,
    view,
)

ONE, THREE, SIX = np.float32([1, 3, 6])


def relu6(x):
    return np.minimum(np.maximum(x, 0), SIX)


def hardswish_backward(g, x):
    slope = np.where(x <= -3, 0, np.where(x >= 3, ONE, (2 * x + THREE) / SIX))
    return g * slope.astype(np.float32)


# What rounds like NumPy in float32, operation by operation: equal to the bit.
EXACT = {
    "NEGATIVE": np.negative,
    "ABS": np.abs,
    "SIGN": np.sign,
    "SQRT": np.sqrt,
    "RELU": lambda x: np.maximum(x, np.float32(0)),
    "RELU6": relu6,
    "HARDSWISH": lambda x: x * (relu6(x + THREE) / SIX),
    "ADD": np.add,
    "SUBTRACT": np.subtract,
    "MULTIPLY": np.multiply,
    "DIVIDE": np.divide,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "RELU_BACKWARD": lambda g, y: np.where(y > 0, g, np.float32(0)),
    "RELU6_BACKWARD": lambda g, y: np.where((y > 0) & (y < 6), g, np.float32(0)),
    "HARDSWISH_BACKWARD": hardswish_backward,
    "CLIP": lambda x, low, high: np.minimum(high, np.maximum(x, low)),
}
INPUTS = {"CLIP": 3, **dict.fromkeys(["ADD", "SUBTRACT", "MULTIPLY", "DIVIDE", "POWER"], 2)}
INPUTS |= {name: 2 for name in EXACT if name.endswith(("IMUM", "BACKWARD"))}

# Functions with a stated error, in units in the last place: csrc/vector.h, transcendental.h.
ROUNDED = {
    "EXP": (np.exp, 1),
    "LOG": (np.log, 1),
    "TANH": (np.tanh, 2),
    "SIGMOID": (lambda x: np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))), 3),
}

INTEGER = {
    "NEGATIVE": np.negative,
    "ABS": np.abs,
    "SIGN": np.sign,
    "ADD": np.add,
    "SUBTRACT": np.subtract,
    "MULTIPLY": np.multiply,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
}


def elementwise(op, inputs, shape=None, strides=None, kernel="elementwise_f32", **options):
    """Apply `op` to flat or whole arrays; strides are the output's, then the inputs'."""
    shape = inputs[0].shape if shape is None else shape
    strides = [contiguous(shape)] * (len(inputs) + 1) if strides is None else strides
    fields = {
        "op": f"TGE_{op}",
        "inputs": len(inputs),
        "ndim": len(shape),
        "shape": shape,
        "strides": strides,
    }
    outputs = [((extent(shape, strides[0]),), inputs[0].dtype)]
    status, (y,) = call(kernel, "tge_elementwise_params", fields, outputs, inputs, **options)
    assert status == 0
    return y


def whole(op, *inputs, **options):
    """Apply `op` to contiguous arrays of one shape."""
    return elementwise(op, inputs, **options).reshape(inputs[0].shape)


@pytest.mark.parametrize("op", EXACT)
@SETTINGS
@hypothesis.given(data=st.data(), shift=st.sampled_from([0, 4]))
def test_elementwise_through_any_strides(isa, op, data, shift):
    shape = data.draw(shapes)
    strides = [data.draw(layouts(shape, broadcast=False))]
    strides += [data.draw(layouts(shape)) for _ in range(INPUTS.get(op, 1))]
    inputs = [normal(extent(shape, s), i) * 4 for i, s in enumerate(strides[1:])]
    if op == "SQRT":
        inputs[0] = np.abs(inputs[0])
    y = elementwise(op, inputs, shape, strides, shift=shift)
    expected = np.full(y.nbytes, GARBAGE, np.uint8).view(np.float32)
    views = [view(x, shape, s) for x, s in zip(inputs, strides[1:], strict=True)]
    view(expected, shape, strides[0])[...] = EXACT[op](*views)
    assert y.tobytes() == expected.tobytes()  # what lies in gaps is left alone


@pytest.mark.parametrize("op", EXACT)
def test_elementwise_of_special_values(isa, op):
    grids = np.meshgrid(*[SPECIAL] * INPUTS.get(op, 1))
    inputs = [np.ascontiguousarray(g.ravel()) for g in grids]
    with np.errstate(all="ignore"):
        expected = EXACT[op](*inputs)
    assert same_numbers(whole(op, *inputs), expected)


@pytest.mark.parametrize("op", ROUNDED)
def test_function_keeps_its_error_bound_over_all_floats(isa, op):
    x = np.arange(0, 2**32, 14_503, dtype=np.uint32).view(np.float32)
    near = np.linspace(-20, 20, 200_001, dtype=np.float32)
    x = np.concatenate([x, near, SPECIAL, np.float32([88.722831, 88.72284, -103.97, -103.98])])
    function, bound = ROUNDED[op]
    with np.errstate(all="ignore"):
        exact = function(x.astype(np.float64))
    assert ulps(whole(op, x), exact).max() <= bound


def test_power_is_libm(isa):
    x, y = np.meshgrid(
        np.concatenate([SPECIAL, normal(40)]), np.concatenate([SPECIAL, normal(40, 1)])
    )
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
    assert ulps(whole("POWER", x, y), exact).max() <= 1


@pytest.mark.parametrize("op", [*EXACT, *ROUNDED, "POWER"])
def test_elementwise_in_place(isa, op):
    inputs = [normal((3, 37), i) for i in range(INPUTS.get(op, 1))]
    expected = whole(op, *inputs)
    for i in range(len(inputs)):
        assert same_numbers(whole(op, *inputs, in_place={0: i}), expected)
    twice = inputs[:1] * len(inputs)
    assert same_numbers(whole(op, *twice, in_place={0: 0}), whole(op, *twice))


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((100_003,), [(1,), (1,), (0,)]),  # one row, cut into chunks
        ((30_000, 3), [(3, 1), (3, 1), (0, 1)]),  # many rows in a chunk
        ((3, 40_000), [(40_000, 1), (1, 3), (1, 0)]),  # a transposed input
        ((3, 700), [(1400, 2), (700, 1), (1, 3)]),  # packed in several blocks
    ],
)
def test_elementwise_bits_are_the_same_for_any_threads(isa, threads, shape, strides):
    inputs = [normal(extent(shape, s)) for s in strides[1:]]
    run = lambda: [elementwise("ADD", inputs, shape, strides)]  # noqa: E731
    assert same_for_any_threads(threads, run)
    expected = view(inputs[0], shape, strides[1]) + view(inputs[1], shape, strides[2])
    assert same_numbers(np.ascontiguousarray(view(run()[0], shape, strides[0])), expected)


@pytest.mark.parametrize("op", [*ROUNDED, "HARDSWISH"])
def test_a_function_does_not_depend_on_its_neighbours(isa, op):
    x = np.concatenate([SPECIAL, normal(50)])
    alone = [whole(op, x[i : i + 1]) for i in range(len(x))]
    assert whole(op, x).tobytes() == np.concatenate(alone).tobytes()


@pytest.mark.parametrize("op", INTEGER)
def test_integers_wrap(isa, op):
    values = np.array([0, 1, -1, 7, 2**31 - 1, -(2**31), 123_456_789, -65_537], np.int32)
    grids = np.meshgrid(*[values] * INPUTS.get(op, 1))
    inputs = [np.ascontiguousarray(g.ravel()) for g in grids]
    with np.errstate(all="ignore"):
        expected = INTEGER[op](*inputs)
    assert same_numbers(whole(op, *inputs, kernel="elementwise_i32"), expected)
