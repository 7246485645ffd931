"""Plans of drawn graphs: every byte where it should be, sums exact, both runtimes agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan.checker import check

from tinygrad_edge import ops, runtime
from tinygrad_edge.dtypes import float32
from tinygrad_edge.errors import GraphError
from tinygrad_edge.graph import ASSIGN, READ, Cell, Graph, emit, new_input, verify
from tinygrad_edge.op import TensorType
from tinygrad_edge.ops.loop import loop
from tinygrad_edge.plan import make_plan
from tinygrad_edge.policy import Default, rewrite

SHAPE = (4, 8)


def _cell(name):
    return Cell(name, SHAPE, float32, "parameter", lambda: np.full(SHAPE, 0.5, np.float32))


@st.composite
def graphs(draw, with_cells=True):
    """Small graphs of views, in-place candidates, copies, reductions, assignments and outputs."""
    values = [new_input(TensorType(SHAPE, float32)) for _ in range(draw(st.integers(1, 2)))]
    inputs = list(values)
    effects = []
    cells = [_cell(f"c{i}") for i in range(draw(st.integers(0, 2)))] if with_cells else []
    newest = {}
    for cell in cells:
        newest[cell] = emit(READ, cell=cell).outputs[0]
        values.append(newest[cell])
    stale = set()
    for _ in range(draw(st.integers(1, 12))):
        usable = [v for v in values if v not in stale]
        x, y = draw(st.sampled_from(usable)), draw(st.sampled_from(usable))
        kind = draw(st.sampled_from(["add", "relu", "view", "transpose", "join", "sum", "assign"]))
        if kind == "add":
            values.append(ops.add(x, y))
        elif kind == "relu":
            values.append(ops.relu(x))
        elif kind == "view":
            values.append(ops.view(ops.reshape(ops.view(x), SHAPE[::-1])))
            values[-1] = ops.reshape(values[-1], SHAPE)
        elif kind == "transpose":
            values.append(ops.reshape(ops.transpose(x), SHAPE))
        elif kind == "join":
            both = ops.concatenate([x, y], 0)
            values.append(ops.slice_(both, (2, 0), (6, 8), (1, 1)))
        elif kind == "sum":
            values.append(ops.add(y, ops.sum_(x, 0)))
        elif cells:
            cell = draw(st.sampled_from(cells))
            old = newest[cell]
            if x is not old:
                node = emit(ASSIGN, x, cell=cell)
                effects.append(node)
                newest[cell] = node.outputs[0]
                stale |= {v for v in values if _views(v, old)}
                values.append(newest[cell])
    usable = [v for v in values if v not in stale]
    outputs = draw(st.lists(st.sampled_from(usable), min_size=1, max_size=3))
    return Graph(outputs, effects, inputs)


def _views(value, base):
    while value is not base:
        if not value.node.op.alias:
            return False
        value = value.node.inputs[0]
    return True


@given(graphs())
@settings(max_examples=150)
def test_every_read_finds_its_value(graph):
    plan = make_plan(
        rewrite(graph, [Default()]), lambda kernel: 256 if kernel.name == "sum_f32" else 0
    )
    check(plan)
    assert sum(plan.by_kind().values()) == plan.peak_bytes
    assert plan.arena_bytes >= max(plan.ledger.live_bytes(), default=0)


@given(graphs(), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_native_equals_reference(graph, seed):
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal(v.shape, np.float32) for v in graph.inputs]
    results = []
    for name in ("numpy", "native"):
        with runtime.use(name):
            kind = runtime.current()
            plan = make_plan(rewrite(graph, []), kind.workspace)
            cells = [np.full(SHAPE, 0.5 + i, np.float32) for i, _ in enumerate(plan.graph.cells)]
            bound = [inputs[i] for i in range(len(inputs))]
            results.append([*kind.Executable(plan).run(cells, bound), *cells])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@st.composite
def loops(draw):
    """A loop with invariant, sliced, carried and stacked values, maybe one inside another."""
    count, inner_count = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    rows = 2 * inner_count
    x = new_input(TensorType((rows * count, 4), float32))
    w = new_input(TensorType((4,), float32))
    state = new_input(TensorType((4,), float32))

    def body(rows_here, nested):
        part = new_input(TensorType((rows_here, 4), float32))
        fixed = new_input(TensorType((4,), float32))
        carry = new_input(TensorType((4,), float32))
        y = ops.relu(ops.multiply(part, fixed))
        if nested:
            inside = body(rows_here // inner_count, False)
            carried, stacked = loop(inside, inner_count, [fixed], [y], [carry])
        else:
            carried, stacked = ops.add(carry, ops.sum_(y, 0)), ops.add(y, carry)
        if draw(st.booleans()):
            carried = ops.view(carried)
        if draw(st.booleans()):
            stacked = ops.add(stacked, fixed)
        return Graph([carried, stacked], (), [fixed, part, carry])

    pre = ops.add(x, x) if draw(st.booleans()) else x
    start = ops.add(state, state) if draw(st.booleans()) else state
    total, stacked = loop(body(rows, draw(st.booleans())), count, [w], [pre], [start])
    outputs = [total, stacked, ops.add(total, w)]
    return Graph(draw(st.permutations(outputs))[:2], (), [x, w, state])


@given(loops())
@settings(max_examples=60)
def test_loops_hold_their_values_and_run_alike(graph):
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(v.shape, np.float32) for v in graph.inputs]
    results = []
    for name in ("numpy", "native"):
        with runtime.use(name):
            kind = runtime.current()
            plan = make_plan(verify(graph), kind.workspace)
            check(plan)
            results.append(kind.Executable(plan).run([], inputs))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_checker_sees_a_wrong_offset():
    x = new_input(TensorType(SHAPE, float32))
    a, b = ops.relu(x), ops.exp(x)
    plan = make_plan(Graph([ops.add(ops.sum_(a), ops.add(ops.sum_(b), ops.sum_(ops.add(a, b))))]))
    check(plan)
    places = plan.storage.places
    made = [v for v in places if v.node.op.name in ("relu", "exp")]
    places[made[0]].buffer.offset = places[made[1]].buffer.offset
    with pytest.raises(AssertionError, match="not where the plan says"):
        check(plan)


def test_what_an_operation_reads_twice_may_be_written_over_once():
    x = new_input(TensorType(SHAPE, float32))
    a = ops.relu(x)
    plan = make_plan(Graph([ops.sum_(ops.multiply(a, a))]))
    check(plan)
    assert plan.arena_bytes == a.nbytes


def test_update_writes_over_the_parameter():
    cell = _cell("p")
    p, g = emit(READ, cell=cell).outputs[0], new_input(TensorType(SHAPE, float32))
    rates = new_input(TensorType((2,), ops.update.float64))
    (new,) = ops.sgd_update(p, g, rates)
    plan = make_plan(Graph([], [emit(ASSIGN, new, cell=cell)]))
    assert plan.arena_bytes == 0
    assert [c.kernel.name for c in plan.calls] == ["sgd_f32"]


def test_a_parameter_that_is_read_later_is_not_written_over():
    cell = _cell("p")
    p, g = emit(READ, cell=cell).outputs[0], new_input(TensorType(SHAPE, float32))
    rates = new_input(TensorType((2,), ops.update.float64))
    (new,) = ops.sgd_update(p, g, rates)
    later = ops.exp(p)
    plan = make_plan(Graph([later], [emit(ASSIGN, new, cell=cell)]))
    check(plan)
    assert "copy" in [c.kernel.name for c in plan.calls]


def test_checks_come_before_assignments():
    cell, x = _cell("p"), new_input(TensorType(SHAPE, float32))
    p = emit(READ, cell=cell).outputs[0]
    assign = emit(ASSIGN, ops.add(p, x), cell=cell)
    checked = ops.check_finite(ops.sum_(x))
    plan = make_plan(rewrite(Graph([], [assign, checked]), [Default()]))
    names = [n.op.name for n in plan.graph.nodes]
    assert names.index("check_finite") < names.index("assign")
    check(plan)


def test_verify_refuses_a_read_after_the_overwrite():
    cell = _cell("p")
    p = emit(READ, cell=cell).outputs[0]
    assign = emit(ASSIGN, ops.add(p, p), cell=cell)
    with pytest.raises(GraphError, match="after cell 'p' was overwritten"):
        verify(Graph([ops.exp(p)], [assign]))
