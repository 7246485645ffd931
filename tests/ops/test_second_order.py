"""Derivatives of derivatives: the op set is closed under differentiation."""

import numpy as np
import pytest
from hypothesis import given, settings
from ops.harness import DIFFERENTIABLE, as_function, on_samples

import tinygrad_edge as te
import tinygrad_edge.functional as F
from tinygrad_edge import runtime
from tinygrad_edge.testing import gradcheck
from tinygrad_edge.testing import strategies as tst

FEW = settings(max_examples=5)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def curved(function):
    """A scalar of the function's values whose second derivatives all differ from zero."""

    def scalar(*tensors):
        outputs = function(*tensors)
        several = outputs if isinstance(outputs, list | tuple) else [outputs]
        terms = [((y + 0.5) * (y + 0.5) * y).sum() for y in several if y.dtype.is_float]
        return sum(terms[1:], terms[0])

    return scalar


def check_second_order(function, *arrays, by=None):
    """All second derivatives, the mixed ones too, against differences of the first."""
    numbers = tuple(range(len(arrays))) if by is None else by
    return gradcheck(te.grad(curved(function), numbers), *arrays, argnums=numbers)


@on_samples(DIFFERENTIABLE, wild=False, examples=3)
def test_every_op(name, sample):
    function, by = as_function(name, sample)
    assert check_second_order(function, *sample.arrays, by=by)


@FEW
@given(tst.conv2d_configs(max_channels=2, max_side=2))
def test_conv2d(config):
    def conv(x, w, b):
        return F.conv2d(x, w, b, **config.attrs)

    assert check_second_order(
        conv, normal(*config.x_shape), normal(*config.w_shape), normal(config.w_shape[0])
    )


@FEW
@given(tst.conv2d_configs(depthwise=True, max_channels=3, max_side=2))
def test_depthwise_conv2d(config):
    def conv(x, w):
        return F.conv2d(x, w, **config.attrs)

    assert check_second_order(conv, normal(*config.x_shape), normal(*config.w_shape))


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 2), (2, 4)), ((2,), (2, 3)), ((2, 3), (3,)), ((3,), (3,)), ((2, 1, 2, 3), (4, 3, 2))],
    ids=str,
)
def test_matmul(a, b):
    assert check_second_order(te.Tensor.__matmul__, normal(*a), normal(*b))


@FEW
@given(tst.pool2d_configs(max_side=2))
def test_max_pool2d(config):
    assert check_second_order(lambda x: F.max_pool2d(x, **config.attrs), normal(*config.x_shape))


@FEW
@given(tst.pool2d_configs(max_side=2))
def test_avg_pool2d(config):
    assert check_second_order(lambda x: F.avg_pool2d(x, **config.attrs), normal(*config.x_shape))


@pytest.mark.parametrize("shape", [(4, 2), (3, 2, 2, 2)], ids=str)
def test_batch_norm(shape):
    arrays = normal(*shape), normal(shape[1], seed=1), normal(shape[1], seed=2)
    assert check_second_order(F.batch_norm, *arrays)
    mean, var = normal(shape[1], seed=3), np.square(normal(shape[1], seed=4)) + 0.1
    assert check_second_order(
        lambda x, mean, var, gain, shift: F.batch_norm_apply(x, mean, var, gain, shift, 1e-5),
        *(arrays[0], mean, var, *arrays[1:]),
    )


def test_group_norm_and_layer_norm():
    x, gain, shift = normal(2, 4, 3), normal(4, seed=1), normal(4, seed=2)
    assert check_second_order(lambda *a: F.group_norm(a[0], 2, *a[1:]), x, gain, shift)
    gain, shift = normal(4, 3, seed=1), normal(4, 3, seed=2)
    assert check_second_order(lambda *a: F.layer_norm(a[0], (4, 3), *a[1:]), x, gain, shift)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    labels = np.array([2, 0, 1])

    def loss(logits, weight):
        return F.cross_entropy(logits, labels, weight, smoothing)

    assert check_second_order(loss, normal(3, 4), np.abs(normal(4, seed=1)) + 0.5)
    assert check_second_order(lambda x: F.cross_entropy(x, labels), normal(3, 4))


def test_softmax_and_mse():
    assert check_second_order(lambda x: F.softmax(x, axis=0), normal(3, 2))
    assert check_second_order(lambda x: F.log_softmax(x, axis=1), normal(3, 2))
    assert check_second_order(F.mse_loss, normal(3, 2), normal(3, 2, seed=1))


def test_third_order():
    assert gradcheck(te.grad(te.grad(lambda x: (x.tanh() * x.exp()).sum())), 0.3)
    assert gradcheck(
        te.grad(curved(te.grad(curved(lambda x: F.conv2d(x, np.ones((1, 1, 2, 2))))))),
        normal(1, 1, 3, 2),
    )


# ---- a network ----

IMAGES, LABELS = normal(4, 2, 5, 5), np.array([0, 2, 1, 2])


def network_loss(w, d, gain, v):
    """Convolution, batch norm, depthwise convolution, pools, a linear layer, cross-entropy."""
    y = F.conv2d(te.Tensor(IMAGES), w, padding=1)
    y = F.batch_norm(y, gain, gain * 0.0)[0].tanh()
    y = F.max_pool2d(F.conv2d(y, d, padding=1, groups=3), 2)
    y = F.avg_pool2d(y, 2, stride=1)
    return F.cross_entropy(y.flatten(1) @ v, LABELS)


def network_weights():
    return (
        normal(3, 2, 3, 3),
        normal(3, 1, 3, 3, seed=1),
        normal(3, seed=2) + 2,
        normal(3, 3, seed=3),
    )


def test_gradients_of_gradients_of_a_network():
    assert check_second_order(network_loss, *network_weights())


def hessian_vector_product(loss, point, vector):
    """H v as the gradient of <gradient, v> (Pearlmutter 1994)."""
    numbers = tuple(range(len(point)))

    def along(*tensors):
        found = te.grad(loss, numbers)(*tensors)
        terms = [(g * te.Tensor(v)).sum() for g, v in zip(found, vector, strict=True)]
        return sum(terms[1:], terms[0])

    return [h.numpy() for h in te.grad(along, numbers)(*(te.Tensor(a) for a in point))]


def test_hessian_vector_products_agree_with_differences_and_are_symmetric():
    point = network_weights()
    u, v = ([normal(*a.shape, seed=s + i) for i, a in enumerate(point)] for s in (10, 20))
    numbers = tuple(range(len(point)))

    def gradient(t):
        moved = (te.Tensor(a + t * d) for a, d in zip(point, v, strict=True))
        return [g.numpy() for g in te.grad(network_loss, numbers)(*moved)]

    def inner(a, b):
        return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True))

    with runtime.use("numpy"):
        h_v = hessian_vector_product(network_loss, point, v)
        h_u = hessian_vector_product(network_loss, point, u)
        step = 1e-5
        for product, high, low in zip(h_v, gradient(step), gradient(-step), strict=True):
            np.testing.assert_allclose(product, (high - low) / (2 * step), rtol=1e-6, atol=1e-8)
    assert inner(u, h_v) == pytest.approx(inner(v, h_u), rel=1e-12)


def test_hessian_vector_products_run_natively():
    point = network_weights()
    v = [normal(*a.shape, seed=20 + i) for i, a in enumerate(point)]
    with runtime.use("numpy"):
        expected = hessian_vector_product(network_loss, point, v)
    found = hessian_vector_product(network_loss, point, v)
    scale = max(np.abs(e).max() for e in expected)
    for got, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, right, rtol=0, atol=1e-4 * scale)
