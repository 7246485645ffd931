"""Graphs, their rules, and the backward part."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge import ops
from tinygrad_edge.autodiff import differentiate, gradient
from tinygrad_edge.dtypes import float32, int32
from tinygrad_edge.errors import GraphError, ShapeError
from tinygrad_edge.graph import GRADIENT, Graph, Node, emit, marked, new_input, verify
from tinygrad_edge.op import TensorType
from tinygrad_edge.ops.loop import loop, run_reference
from tinygrad_edge.policy import PHASES, Default, Policy, rewrite


def value(*shape, dtype=float32):
    return new_input(TensorType(shape, dtype))


def test_order_is_the_order_of_making():
    x = value(3)
    a, b = ops.exp(x), ops.tanh(x)
    graph = Graph([ops.add(b, a)])
    assert [n.op.name for n in graph.nodes] == ["input", "exp", "tanh", "add"]
    moved = graph.reordered([graph.nodes[i] for i in (0, 2, 1, 3)])
    assert [n.op.name for n in verify(moved).nodes] == ["input", "tanh", "exp", "add"]


def test_equal_nodes_stay_two():
    x = value(3)
    graph = Graph([ops.add(ops.exp(x), ops.exp(x))])
    copied = graph.rewrite(lambda node, inputs: None)
    assert [n.op.name for n in copied.nodes].count("exp") == 2


def test_rewrite_drops_what_nobody_needs_and_keeps_effects():
    x = value(3)
    ops.exp(x)
    check = ops.check_finite(x)
    graph = Graph([ops.tanh(x)], [check]).rewrite(lambda node, inputs: None)
    assert [n.op.name for n in graph.nodes] == ["input", "check_finite", "tanh"]
    assert [n.op.name for n in graph.effects] == ["check_finite"]


def test_verify_names_a_wrong_type():
    x = value(2, 3)
    good = ops.exp(x).node
    wrong = Node(good.op, (x,), {}, [TensorType((3, 2), float32)])
    with pytest.raises(GraphError, match=r"exp.*rule gives"):
        verify(Graph(wrong.outputs))


def test_verify_names_a_read_before_the_making():
    x = value(2)
    y, z = ops.exp(x), ops.tanh(x)
    late = ops.add(y, z)
    late.node.number, y.node.number = y.node.number, late.node.number
    with pytest.raises(GraphError, match="before it is made"):
        verify(Graph([late]))


def test_a_graph_prints_a_line_a_node():
    with marked(scope=("block", "conv")):
        graph = Graph([ops.exp(value(2))])
    lines = str(graph).splitlines()
    assert len(lines) == 3
    assert "exp" in lines[1] and "float32[2]" in lines[1] and "block.conv" in lines[1]


# ---- the backward part ----


def run(graph, *arrays):
    return run_reference(graph, arrays)


def test_gradient_is_placed_and_then_expanded():
    x = value(2, 2)
    (g,) = gradient(ops.sum_(ops.multiply(x, x)), [x])
    graph = Graph([g])
    assert any(n.op is GRADIENT for n in graph.nodes)
    expanded = verify(differentiate(graph))
    assert not any(n.op is GRADIENT for n in expanded.nodes)
    assert {n.part for n in expanded.nodes} == {"forward", "backward"}
    array = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    np.testing.assert_array_equal(run(expanded, array)[0], 2 * array)


def test_fan_out_and_diamond_add_up():
    x = value(3)
    a = ops.exp(x)
    (g,) = gradient(ops.sum_(ops.multiply(ops.add(a, a), a)), [x])
    array = np.array([0.1, -0.5, 1.0], np.float32)
    np.testing.assert_allclose(
        run(differentiate(Graph([g])), array)[0], 4 * np.exp(2 * array), rtol=1e-6
    )


def test_unconnected_gradient_is_zero():
    x, y = value(3), value(2)
    grads = gradient(ops.sum_(x), [x, y])
    results = run(differentiate(Graph(grads)), np.ones(3, np.float32), np.ones(2, np.float32))
    np.testing.assert_array_equal(results[1], np.zeros(2))


def test_gradient_of_an_intermediate_value():
    x = value(3)
    y = ops.exp(x)
    gx, gy = gradient(ops.sum_(ops.multiply(y, y)), [x, y])
    array = np.array([0.0, 1.0, -1.0], np.float32)
    found = run(differentiate(Graph([gx, gy])), array)
    np.testing.assert_allclose(found[1], 2 * np.exp(array), rtol=1e-6)
    np.testing.assert_allclose(found[0], 2 * np.exp(2 * array), rtol=1e-6)


def test_a_chain_of_ten_thousand_nodes():
    x = te.Tensor([1.0], requires_grad=True)
    y = x
    for _ in range(10_000):
        y = y + x
    y.backward()
    assert x.grad.item() == 10_001.0


def test_backward_nodes_carry_the_module_and_line_of_their_forward_node():
    x = value(3)
    with marked(scope=("block",)):
        y = ops.exp(x)
    (g,) = gradient(ops.sum_(y), [x])
    made = [n for n in differentiate(Graph([g])).nodes if n.op.name == "multiply"]
    assert made[-1].path == "block"
    assert made[-1].source[0].endswith("test_graph.py")


def test_no_rule_is_an_error_and_not_a_zero(monkeypatch):
    x = value(3)
    y = ops.exp(x)
    monkeypatch.setattr(
        y.node, "op", type(y.node.op)("mystery", y.node.op.infer, y.node.op.reference)
    )
    (g,) = gradient(ops.sum_(y), [x])
    with pytest.raises(GraphError, match="mystery has no derivative rule"):
        differentiate(Graph([g]))


# ---- policies ----


def test_phases_run_in_their_order():
    seen = []

    def recorder(phase):
        class Recorder(Policy):
            def __call__(self, graph):
                seen.append(phase)
                return graph

        Recorder.phase = phase
        return Recorder()

    rewrite(Graph([ops.exp(value(2))]), [recorder(p) for p in reversed(PHASES)])
    assert seen == list(PHASES)


def test_a_policy_that_breaks_the_graph_is_named():
    class Breaks(Policy):
        phase = "crossing"

        def __call__(self, graph):
            node = graph.nodes[-1]
            return Graph(Node(node.op, node.inputs, {}, [TensorType((9,), float32)]).outputs)

    with pytest.raises(GraphError, match=r"Breaks\(\) \(crossing phase\)"):
        rewrite(Graph([ops.exp(value(2))]), [Breaks()])


def test_updates_come_as_soon_as_their_gradient():
    te.manual_seed(0)
    net = [te.nn.Linear(4, 4) for _ in range(3)]
    optimizer = te.optim.SGD([p for layer in net for p in layer.parameters()], 0.1)

    @te.compile
    def step(x):
        for layer in net:
            x = layer(x).tanh()
        loss = x.sum()
        optimizer.minimize(loss)
        return loss

    parts = [n.part for n in step.plan(np.ones((2, 4), np.float32)).graph.nodes if n.op.effect]
    names = [n.op.name for n in step.plan(np.ones((2, 4), np.float32)).graph.nodes]
    assert parts.count("update") == 6
    assert names.index("assign") < len(names) - 1 - names[::-1].index("matmul")
    assert Default() == Default() and repr(Default()) == "Default()"


# ---- loops ----


def _body():
    part, w, carry = value(2, 3), value(3), value(3)
    y = ops.multiply(part, w)
    return Graph([ops.add(carry, ops.sum_(y, 0)), y], (), [w, part, carry])


def test_loop_slices_carries_and_stacks():
    x, w, start = value(6, 3), value(3), value(3)
    total, stacked = loop(_body(), 3, [w], [x], [start])
    a = np.arange(18, dtype=np.float32).reshape(6, 3)
    b = np.array([1, 2, 3], np.float32)
    found = run(verify(Graph([total, stacked], (), [x, w, start])), a, b, np.ones(3, np.float32))
    np.testing.assert_array_equal(found[0], 1 + (a * b).sum(0))
    np.testing.assert_array_equal(found[1], a * b)


@pytest.mark.parametrize(
    ("count", "rows", "message"),
    [(0, 6, "at least one iteration"), (2, 6, r"input 1 of the loop must be .*\(4, 3\)")],
)
def test_loop_refuses_what_does_not_fit(count, rows, message):
    with pytest.raises(ShapeError, match=message):
        loop(_body(), count, [value(3)], [value(rows, 3)], [value(3)])


def test_emit_names_op_shapes_and_line():
    with pytest.raises(
        ShapeError, match=r"add: .*\[2\] and \[3\] do not broadcast .*test_graph\.py:\d+"
    ):
        ops.add(value(2), value(3))
    with pytest.raises(TypeError, match="inputs must be floats"):
        emit(ops.exp(value(2)).node.op, value(2, dtype=int32))
