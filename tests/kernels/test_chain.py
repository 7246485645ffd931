"""Chains against their steps, one elementwise kernel after another: equal to the bit."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import call
from kernels.samples import SETTINGS, normal, same_for_any_threads, same_numbers

CONSTANT = 64  # TGE_CHAIN_CONSTANT
ARITY = {
    "TGE_RELU": 1,
    "TGE_TANH": 1,
    "TGE_ADD": 2,
    "TGE_MULTIPLY": 2,
    "TGE_RELU_BACKWARD": 2,
    "TGE_CLIP": 3,
}


def padded(strides):
    return [*strides, *[0] * (8 - len(strides))]


def elements(strides, itemsize=4):
    return [s // itemsize for s in strides]


def run_chain(shape, arrays, constants, steps, in_place=None):
    """`arrays` broadcast to the shape by their strides."""
    views = [np.broadcast_to(a, shape) for a in arrays]
    out = np.empty(shape, np.float32)
    strides = [elements(out.strides), *(elements(v.strides) for v in views)]
    fields = {
        "steps": len(steps),
        "inputs": len(arrays),
        "constants": len(constants),
        "ndim": len(shape),
        "shape": [*shape, *[1] * (8 - len(shape))],
        "strides": [padded(s) for s in strides] + [[0] * 8] * (9 - len(strides)),
        "constant": padded(constants),
        "step": steps,
    }
    status, (y,) = call(
        "chain_f32", "tge_chain_params", fields, [(shape, np.float32)], arrays, in_place=in_place
    )
    assert status == 0
    return y


def run_steps(shape, arrays, constants, steps):
    """The same by elementwise_f32, all inputs at full size."""
    inputs = [np.ascontiguousarray(np.broadcast_to(a, shape)) for a in arrays]
    results = []
    for op, sources in steps:
        read = []
        for s in sources[: ARITY[op]]:
            if s < 0:
                read.append(results[-1 - s])
            elif s >= CONSTANT:
                read.append(np.full(shape, constants[s - CONSTANT], np.float32))
            else:
                read.append(inputs[s])
        size = int(np.prod(shape))
        fields = {
            "op": op,
            "inputs": len(read),
            "ndim": 1,
            "shape": [size, *[1] * 7],
            "strides": [padded([1])] * 4,
        }
        outputs = [((size,), np.float32)]
        _, (y,) = call("elementwise_f32", "tge_elementwise_params", fields, outputs, read)
        results.append(y.reshape(shape))
    return results[-1]


@st.composite
def chains(draw):
    shape = draw(st.sampled_from([(1,), (700,), (3, 5), (2, 3, 100), (4, 1100), (0,), (3, 0, 2)]))
    thin = tuple(1 if i == len(shape) - 1 else n for i, n in enumerate(shape))
    kinds = draw(st.lists(st.sampled_from([shape, thin]), min_size=1, max_size=8))
    constants = draw(st.lists(st.sampled_from([0.5, -1.0, 3.0]), max_size=8))
    steps = []
    for j in range(draw(st.integers(1, 16))):
        op = draw(st.sampled_from(sorted(ARITY)))
        places = [*range(len(kinds)), *range(-j, 0), *(CONSTANT + k for k in range(len(constants)))]
        steps.append((op, [draw(st.sampled_from(places)) for _ in range(ARITY[op])]))
    arrays = [normal(k, i) for i, k in enumerate(kinds)]
    return shape, arrays, constants, steps


@SETTINGS
@hypothesis.given(chains())
def test_chain_is_its_steps(isa, chain):
    assert same_numbers(run_chain(*chain), run_steps(*chain))


@pytest.mark.parametrize("shape", [(100_000,), (300, 333), (70_000, 3)])
def test_chain_on_any_number_of_threads(isa, threads, shape):
    arrays = [normal(shape), normal((*shape[:-1], 1), 1)]
    steps = [("TGE_MULTIPLY", [0, 1]), ("TGE_ADD", [-1, CONSTANT]), ("TGE_RELU", [-2])]

    def run():
        return [run_chain(shape, arrays, [0.25], steps)]

    assert same_for_any_threads(threads, run)
    assert same_numbers(run()[0], run_steps(shape, arrays, [0.25], steps))


def test_chain_in_place(isa):
    arrays = [normal((40, 70)), normal((40, 70), 1)]
    steps = [("TGE_ADD", [0, 1]), ("TGE_MULTIPLY", [-1, 0])]
    expected = run_steps((40, 70), arrays, [], steps)
    assert same_numbers(run_chain((40, 70), arrays, [], steps, in_place={0: 0}), expected)
