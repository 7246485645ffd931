"""Every op of the table: shape rule, costs, kernel, derivative, decomposition, errors."""

import numpy as np
import pytest
from ops.harness import (
    DIFFERENTIABLE,
    as_function,
    node_of,
    on_samples,
    reference,
    run,
    types_of,
    widened,
)
from ops.samples import ROWS

from tinygrad_edge import runtime
from tinygrad_edge.errors import GraphError
from tinygrad_edge.graph import Graph, new_input
from tinygrad_edge.op import OPS
from tinygrad_edge.ops.loop import run_reference
from tinygrad_edge.runtime import _ffi
from tinygrad_edge.testing import gradcheck

RUNTIMES = ["numpy", *(["native"] if _ffi.available() else [])]


@on_samples()
def test_shape_rule_agrees_with_the_reference_and_costs_are_counts(name, sample):
    op = OPS[name]
    for each in (sample, widened(name, sample)) if ROWS[name].widens else (sample,):
        node = node_of(op, each)
        assert [v.type for v in node.outputs] == types_of(reference(op, each))
        for cost in (op.flops(node), op.bytes(node)):
            assert isinstance(cost, int)
            assert cost >= 0


@pytest.mark.skipif(not _ffi.available(), reason="the native module was not built")
@on_samples()
def test_native_agrees_with_the_reference(name, sample):
    op, bound = OPS[name], ROWS[name].bound
    with runtime.use("native"):
        got = run(op, sample)
    if bound is None:
        for parts in zip(got, reference(op, sample), strict=True):
            assert_same(*parts)
        return
    wide = widened(name, sample)
    expected = reference(op, wide)
    with np.errstate(all="ignore"):
        allowed = bound(op, wide.arrays, wide.attrs, expected)
    for parts in zip(got, expected, allowed, strict=True):
        assert_within(*parts)


def assert_same(got, expected):
    """Equal bits, but that NaN is NaN."""
    bits = f"u{got.dtype.itemsize}"
    same = (got.view(bits) == expected.view(bits)) | ((got != got) & (expected != expected))
    assert same.all(), (
        f"{got[~same][0]!r} instead of {expected[~same][0]!r} at {np.argwhere(~same)[0]}"
    )


def assert_within(got, expected, allowed):
    """As near as allowed, or both infinite or NaN."""
    with np.errstate(all="ignore"):
        rounded = expected.astype(got.dtype)
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        error = np.where(same, 0, np.abs(got.astype(np.float64) - expected))
    good = same | (error <= allowed)
    if not good.all():
        at = np.unravel_index(np.argmin(good), good.shape)
        allowed = np.broadcast_to(allowed, good.shape)[at]
        raise AssertionError(f"{got[at]!r} instead of {expected[at]!r} ± {allowed:.3g} at {at}")


@on_samples(examples=8)
def test_writing_over_inputs_changes_no_bit(name, sample):
    for kind in RUNTIMES:
        with runtime.use(kind):
            plain, in_place = run(OPS[name], sample), run(OPS[name], sample, in_arena=True)
        assert [a.tobytes() for a in plain] == [a.tobytes() for a in in_place]


@on_samples(DIFFERENTIABLE, wild=False, examples=8)
def test_derivative_agrees_with_differences(name, sample):
    function, by = as_function(name, sample)
    assert gradcheck(function, *sample.arrays, argnums=by)
    outputs = node_of(OPS[name], sample).outputs
    for i in (i for i, v in enumerate(outputs) if v.dtype.is_float and len(outputs) > 1):
        assert gradcheck(lambda *tensors, i=i: function(*tensors)[i], *sample.arrays, argnums=by)


@on_samples([name for name in ROWS if OPS[name].decompose])
def test_decomposition_agrees_with_the_reference(name, sample):
    wide = widened(name, sample)
    inputs = [new_input(t) for t in types_of(wide.arrays)]
    graph = Graph(OPS[name].decompose(*inputs, **wide.attrs), (), inputs)
    with np.errstate(all="ignore"):
        found = run_reference(graph, wide.arrays)
    for got, expected in zip(found, reference(OPS[name], wide), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-11)


WRONG = [(name, w) for name in ROWS for w in ROWS[name].wrong]
REFUSED = [(name, w) for name in ROWS for w in ROWS[name].refused]


@pytest.mark.parametrize(("name", "wrong"), WRONG, ids=lambda v: v if isinstance(v, str) else "")
def test_a_wrong_call_is_refused_where_it_is_made(name, wrong):
    with pytest.raises(wrong.error, match=wrong.match) as caught:
        node_of(OPS[name], wrong)
    if wrong.error is not GraphError:  # an error of ours, not of the user's
        message = str(caught.value)
        assert message.startswith(f"{name}: ")
        for dtype, shape in ((t.dtype, list(t.shape)) for t in types_of(wrong.arrays)):
            assert f"{dtype}{shape}" in message
        assert "harness.py:" in message


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize(("name", "wrong"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_a_value_that_cannot_be_is_refused_when_it_runs(name, wrong, kind):
    with runtime.use(kind), pytest.raises(wrong.error, match=wrong.match):
        run(OPS[name], wrong)
