"""cross_entropy_f32 and its gradient against NumPy in float64."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import call
from kernels.samples import SETTINGS, UNIT, normal, same_for_any_threads
from kernels.test_softmax import reference


def loss(logits, labels, weight, smoothing):
    """Status and loss[rows]."""
    fields = dict(rows=len(logits), classes=len(weight), smoothing=smoothing)
    outputs = [((len(logits),), np.float32)]
    inputs = [logits, labels, weight]
    status, (y,) = call("cross_entropy_f32", "tge_cross_entropy_params", fields, outputs, inputs)
    return status, y


def gradient(grad, logits, labels, weight, smoothing):
    """Status and gradient by the logits."""
    fields = dict(rows=len(logits), classes=len(weight), smoothing=smoothing)
    outputs, inputs = [(logits.shape, np.float32)], [grad, logits, labels, weight]
    name = "cross_entropy_backward_f32"
    status, (y,) = call(name, "tge_cross_entropy_params", fields, outputs, inputs)
    return status, y


def example(rows, classes, scale=3.0):
    """Logits, labels, class weights and the gradient of the loss."""
    rng = np.random.default_rng(0)
    logits = normal((rows, classes)) * np.float32(scale)
    labels = rng.integers(0, classes, rows, np.int32)
    return logits, labels, rng.random(classes, np.float32), normal(rows, 1)


def targets(labels, weight, smoothing):
    """What -log p is multiplied by."""
    target = smoothing / len(weight) * np.tile(weight.astype(np.float64), (len(labels), 1))
    target[np.arange(len(labels)), labels] += (1 - smoothing) * weight[labels]
    return target


def check(rows, classes, smoothing, scale=3.0):
    """Compare both kernels with the definition.

    The errors of p and log p are those of softmax. Beside them the loss rounds a few coefficients
    and sums its terms in blocks (42 units of their magnitude), the gradient rounds 6 times.
    """
    logits, labels, weight, grad = example(rows, classes, scale)
    smoothing = float(np.float32(smoothing))
    target = targets(labels, weight, smoothing)
    p, log_p, p_error, log_error = (a[..., 0] for a in reference(logits[..., None]))

    status, y = loss(logits, labels, weight, smoothing)
    assert status == 0
    bound = (target * log_error).sum(1) + 42 * UNIT * (target * -log_p).sum(1)
    assert (np.abs(y + (target * log_p).sum(1)) <= bound).all()

    status, y = gradient(grad, logits, labels, weight, smoothing)
    assert status == 0
    total = target.sum(1, keepdims=True)
    exact = grad[:, None] * (p * total - target)
    bound = np.abs(grad)[:, None] * (p_error * total + 6 * UNIT * (p * total + target))
    bound += (
        40 * UNIT * np.abs(grad)[:, None] * smoothing * p * weight.mean()
    )  # the sum of the weights
    bound += 6 * 2.0**-150  # where the 6 round to subnormal numbers
    assert (np.abs(y - exact) <= bound).all()


@SETTINGS
@hypothesis.given(
    rows=st.integers(0, 9),
    classes=st.integers(1, 40),
    smoothing=st.sampled_from([0, 0.1, 1]),
    scale=st.sampled_from([0.1, 3, 50]),
)
def test_cross_entropy(isa, rows, classes, smoothing, scale):
    check(rows, classes, smoothing, scale)


@pytest.mark.parametrize("smoothing", [0, 0.1])
@pytest.mark.parametrize(("rows", "classes"), [(3, 5000), (9000, 10)])
def test_cross_entropy_of_large_arrays(isa, threads, rows, classes, smoothing):
    check(rows, classes, smoothing)
    logits, labels, weight, grad = example(rows, classes)
    assert same_for_any_threads(threads, lambda: [loss(logits, labels, weight, smoothing)[1]])
    run = lambda: [gradient(grad, logits, labels, weight, smoothing)[1]]  # noqa: E731
    assert same_for_any_threads(threads, run)


@pytest.mark.parametrize("bad", [-1, 10, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("row", [0, 7, 19])
def test_a_label_out_of_range_is_refused_before_anything_is_written(isa, row, bad):
    logits, labels, weight, grad = example(20, 10)
    labels[[row, -1]] = bad
    for status, y in (loss(logits, labels, weight, 0), gradient(grad, logits, labels, weight, 0)):
        assert status == row + 1
        assert np.isnan(y).all()


def test_a_class_that_cannot_be_costs_nothing_without_smoothing(isa):
    logits = np.float32([[0, -np.inf, 0]])
    labels, weight = np.int32([0]), np.ones(3, np.float32)
    status, y = loss(logits, labels, weight, 0)
    assert status == 0
    assert abs(y[0] - np.log(2)) < 1e-6
    _, y = gradient(np.ones(1, np.float32), logits, labels, weight, 0)
    assert (y == np.float32([[-0.5, 0, 0.5]])).all()
