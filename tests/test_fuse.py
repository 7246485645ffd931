"""Fusion changes passes over memory and no bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan.checker import check

from tinygrad_edge import ops, runtime
from tinygrad_edge.autodiff import differentiate, gradient
from tinygrad_edge.dtypes import float32
from tinygrad_edge.graph import ASSIGN, READ, Cell, Graph, emit, new_input
from tinygrad_edge.op import TensorType
from tinygrad_edge.ops.elementwise import RELU, RELU6
from tinygrad_edge.plan import make_plan
from tinygrad_edge.policy.fuse import fuse_chains, fuse_patterns
from tinygrad_edge.policy.pipeline import lower_composites

UNARY = (
    ops.relu,
    ops.relu6,
    ops.tanh,
    ops.sigmoid,
    ops.exp,
    ops.negative,
    ops.absolute,
    ops.hardswish,
)
BINARY = (ops.add, ops.subtract, ops.multiply, ops.maximum, ops.divide)


def value(*shape):
    return new_input(TensorType(shape, float32))


def run(graph, arrays):
    results = []
    for name in ("native", "numpy"):
        with runtime.use(name):
            plan = make_plan(graph, runtime.current().workspace)
            check(plan)
            results.append(runtime.current().Executable(plan).run([], arrays))
    return results


def names(graph):
    return [n.op.name for n in graph.nodes if n.op.name != "input"]


@st.composite
def elementwise_graphs(draw):
    shape = draw(st.sampled_from([(3, 5, 7), (2, 600), (4, 1, 33), (1,), ()]))
    thin = tuple(1 if i == len(shape) - 1 else n for i, n in enumerate(shape))
    values = [value(*shape), value(*shape), value(*thin)]
    inputs = list(values)
    for _ in range(draw(st.integers(1, 20))):
        kind = draw(st.integers(0, 2))
        x = draw(st.sampled_from(values))
        if kind == 0:
            values.append(draw(st.sampled_from(UNARY))(x))
        else:
            y = (
                draw(st.sampled_from(values))
                if kind == 1
                else ops.constant(draw(st.sampled_from([0.5, -2.0])), float32)
            )
            values.append(draw(st.sampled_from(BINARY))(x, y))
    outputs = [values[-1], *draw(st.lists(st.sampled_from(values), max_size=2))]
    return Graph(outputs, (), inputs)


@given(elementwise_graphs(), st.integers(0, 1000))
@settings(max_examples=120)
def test_chains_give_the_bits_of_their_steps(graph, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs]
    fused = fuse_chains(graph)
    for plain, joined in zip(run(graph, arrays), run(fused, arrays), strict=True):
        for a, b in zip(plain, joined, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_chain_takes_constants_and_leaves_what_others_read():
    x, y = value(4), value(4)
    shared = ops.exp(x)
    graph = fuse_chains(
        Graph([ops.relu(ops.add(ops.multiply(shared, ops.constant(2.0, float32)), y)), shared])
    )
    assert names(graph) == ["exp", "chain"]
    chain = graph.nodes[-1]
    assert [s.op for s in chain.attrs["steps"]] == ["multiply", "add", "relu"]
    assert chain.attrs["constants"] == (2.0,)


def test_a_chain_does_not_reach_over_an_assignment():
    cell = Cell("c", (4,), float32, "parameter", lambda: np.zeros(4, np.float32))
    read = emit(READ, cell=cell).outputs[0]
    early = ops.add(read, read)
    assign = emit(ASSIGN, ops.exp(value(4)), cell=cell)
    graph = fuse_chains(Graph([ops.relu(early)], [assign]))
    assert "chain" not in names(graph)


def test_a_value_that_crosses_to_the_backward_part_stays():
    x = value(4)
    y = ops.relu(ops.add(x, x))
    (g,) = gradient(ops.sum_(y), [x])
    graph = fuse_chains(differentiate(Graph([ops.sum_(y), g])))
    assert {v.node.op.name for v in graph.saved()} == {"chain"}


@pytest.mark.parametrize("activation", [RELU, RELU6])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 2, 7, 7), (3, 5), (1, 1, 40, 40)])
def test_norm_and_activation_become_one_pass_each_way(activation, shape):
    x, gamma, beta = value(*shape), value(shape[1]), value(shape[1])
    y, _, _ = ops.batch_norm(x, gamma, beta, 1e-5)
    out = emit(activation, y).outputs[0]
    weight = value(*shape)
    grads = gradient(ops.sum_(ops.multiply(out, weight)), [x, gamma, beta])
    traced = Graph([out, *grads], (), [x, gamma, beta, weight])
    lowered = lower_composites(differentiate(traced))
    fused = fuse_patterns(lowered)
    assert activation.name in names(lowered)
    assert activation.name not in names(fused)
    assert "batch_norm_backward" not in names(fused)
    assert "batch_norm_activated_backward" in names(fused)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(v.shape).astype(np.float32) * 3 for v in traced.inputs]
    for plain, joined in zip(run(lowered, arrays), run(fused, arrays), strict=True):
        for a, b in zip(plain, joined, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("swapped", [False, True])
def test_the_end_of_a_residual_block_becomes_one_pass(swapped):
    x, gamma, beta, addend = value(2, 3, 4, 5), value(3), value(3), value(2, 3, 4, 5)
    y, _, _ = ops.batch_norm(x, gamma, beta, 1e-5)
    out = ops.relu(ops.add(addend, y) if swapped else ops.add(y, addend))
    (grad,) = gradient(ops.sum_(ops.multiply(out, addend)), [x])
    traced = Graph([out, grad], (), [x, gamma, beta, addend])
    lowered = lower_composites(differentiate(traced))
    fused = fuse_patterns(lowered)
    assert {"batch_norm_apply", "add", "relu"} <= set(names(lowered))
    assert {"batch_norm_apply", "add", "relu"}.isdisjoint(names(fused))
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(v.shape).astype(np.float32) * 3 for v in traced.inputs]
    for plain, joined in zip(run(lowered, arrays), run(fused, arrays), strict=True):
        for a, b in zip(plain, joined, strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_fusion_where_the_normalised_value_is_read_twice():
    x, gamma = value(2, 3, 4, 4), value(3)
    y, _, _ = ops.batch_norm(x, gamma, gamma, 1e-5)
    graph = fuse_patterns(lower_composites(Graph([ops.add(ops.relu(y), y)])))
    assert "relu" in names(graph)
