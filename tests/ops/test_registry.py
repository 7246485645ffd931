"""No op is incomplete, and no kernel is unused.

An op needs a shape rule, a NumPy reference, a derivative or the word that it has none, a way to
run, its costs, and a row of samples. A kernel needs an op that names it.
"""

import pytest
from ops.samples import ROWS, Row

from tinygrad_edge.dtypes import float32, of_array
from tinygrad_edge.graph import emit, new_input
from tinygrad_edge.op import OPS, Kernel, Op, TensorType
from tinygrad_edge.ops.loop import LOOP
from tinygrad_edge.ops.shape import contiguous_copy
from tinygrad_edge.runtime import _ffi


def nodes(op, row):
    """The op applied to the samples of its row."""
    for sample in row.samples:
        inputs = (new_input(TensorType(a.shape, of_array(a))) for a in sample.arrays)
        yield emit(op, *inputs, **sample.attrs)


def kernels(op, row):
    """What the op runs on the samples of its row."""
    for node in nodes(op, row) if op.kernel else ():
        bound = op.kernel(node)
        yield from bound if isinstance(bound, list) else [bound]


def counts(cost, op, row):
    try:
        found = [cost(node) for node in nodes(op, row)]
    except TypeError:
        return False
    return all(isinstance(n, int) and n >= 0 for n in found)


def missing(op, row):
    """What an op lacks, in words."""
    if row is None or not row.samples:
        return ["a row in tests/ops/samples"]
    if not callable(op.infer):
        return ["a shape rule"]
    runs = op.kernel or op.decompose or op.alias or op is LOOP  # which the plan lowers itself
    lacks = {
        "a NumPy reference": not callable(op.reference),
        "a derivative": op.differentiable and not (op.vjp or op.decompose),
        "an answer to whether it has a derivative": not op.differentiable and op.vjp,
        "a kernel or a decomposition": not runs,
        "kernels with params": not all(
            isinstance(k, Kernel) and k.struct for k in kernels(op, row)
        ),
        "a cost formula": not counts(op.flops, op, row),
        "a byte formula": not counts(op.bytes, op, row),
        "a row of what it refuses": op.may_refuse and not row.refused,
    }
    return [what for what, lacking in lacks.items() if lacking]


@pytest.mark.parametrize("name", sorted(OPS))
def test_op_is_complete(name):
    assert missing(OPS[name], ROWS.get(name)) == []


def test_every_row_is_of_an_op():
    assert sorted(ROWS) == sorted(OPS)


@pytest.mark.skipif(not _ffi.available(), reason="the native module was not built")
def test_every_kernel_is_named_by_an_op_and_every_name_is_a_kernel():
    named = {kernel.name for name, row in ROWS.items() for kernel in kernels(OPS[name], row)}
    by_plans = contiguous_copy(new_input(TensorType((1,), float32)))
    by_bench = "multiply_add_f32"  # the peak of the machine
    assert named | {by_plans.name, by_bench} == set(_ffi.kernel_names())


# ---- the test of the test ----

_COMPLETE = {
    "infer": lambda x: (x.type,),
    "reference": lambda x: (x,),
    "differentiable": False,
    "kernel": OPS["relu"].kernel,
}


def test_a_complete_op_lacks_nothing():
    assert missing(Op("half", **_COMPLETE), ROWS["relu"]) == []


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"infer": None}, "a shape rule"),
        ({"reference": None}, "a NumPy reference"),
        ({"differentiable": True}, "a derivative"),
        ({"vjp": lambda node, g: g}, "an answer to whether it has a derivative"),
        ({"kernel": None}, "a kernel or a decomposition"),
        ({"kernel": lambda node: "relu_f32"}, "kernels with params"),
        ({"flops": None}, "a cost formula"),
        ({"flops": lambda node: 1.5}, "a cost formula"),
        ({"bytes": lambda node: -1}, "a byte formula"),
        ({"refuse": lambda node, arrays, position: ValueError()}, "a row of what it refuses"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_an_incomplete_op_is_refused(fields, what):
    assert missing(Op("half", **_COMPLETE | fields), ROWS["relu"]) == [what]


@pytest.mark.parametrize("row", [None, Row(ROWS["relu"].draw, ())], ids=["no row", "no samples"])
def test_an_op_without_samples_is_refused(row):
    assert missing(Op("half", **_COMPLETE), row) == ["a row in tests/ops/samples"]
