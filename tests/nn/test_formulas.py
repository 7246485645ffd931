"""Each layer against its formula, in both runtimes, and its gradients against differences."""

import numpy as np
import pytest
from nn import formulas as f

import tinygrad_edge as te
from tinygrad_edge import nn

EPS = np.finfo(np.float32).eps


def parameters_of(layer):
    return {name: p.numpy().astype(np.float64) for name, p in layer.named_parameters()}


def shaken(layer):
    """The layer with no parameter left at 0 or 1."""
    rng = np.random.default_rng(1)
    for p in layer.parameters():
        p.assign(rng.standard_normal(p.shape))
    return layer


def conv(x, weight, bias=None, **options):
    return f.conv2d(x, weight, bias, **options)


WIDE = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}
# Layer, shape of its input, formula of x and the layer's parameters.
TABLE = {
    "linear": (nn.Linear(5, 4), (3, 5), f.linear),
    "linear of more axes": (nn.Linear(5, 4), (2, 3, 5), f.linear),
    "linear of one axis": (nn.Linear(5, 4), (5,), f.linear),
    "linear without bias": (nn.Linear(5, 4, bias=False), (3, 5), f.linear),
    "linear of an empty batch": (nn.Linear(5, 4), (0, 5), f.linear),
    "conv2d": (nn.Conv2d(3, 4, 3), (2, 3, 6, 5), conv),
    "conv2d without bias": (nn.Conv2d(3, 4, 3, bias=False), (2, 3, 6, 5), conv),
    "conv2d of an empty batch": (nn.Conv2d(3, 4, 3), (0, 3, 6, 5), conv),
    "conv2d 1x1": (nn.Conv2d(3, 4, 1), (2, 3, 6, 5), conv),
    "conv2d with all options": (
        nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), groups=2),
        (2, 4, 7, 6),
        lambda x, weight, bias: f.conv2d(x, weight, bias, **WIDE, groups=2),
    ),
    "conv2d depthwise": (
        nn.Conv2d(4, 4, 3, 2, 1, groups=4),
        (2, 4, 7, 6),
        lambda x, weight, bias: f.conv2d(x, weight, bias, (2, 2), (1, 1), groups=4),
    ),
    "conv2d depthwise with a multiplier": (
        nn.Conv2d(3, 6, 3, padding=1, groups=3),
        (2, 3, 5, 6),
        lambda x, weight, bias: f.conv2d(x, weight, bias, padding=(1, 1), groups=3),
    ),
    "batch_norm": (
        nn.BatchNorm2d(3, eps=1e-3),
        (4, 3, 5, 2),
        lambda x, weight, bias: f.batch_norm(x, weight, bias, 1e-3),
    ),
    "group_norm": (
        nn.GroupNorm(2, 6, eps=1e-3),
        (3, 6, 4, 2),
        lambda x, weight, bias: f.group_norm(x, 2, weight, bias, 1e-3),
    ),
    "layer_norm": (
        nn.LayerNorm((4, 5), eps=1e-3),
        (2, 3, 4, 5),
        lambda x, weight, bias: f.layer_norm(x, 2, weight, bias, 1e-3),
    ),
    "layer_norm of one axis": (
        nn.LayerNorm(5),
        (2, 5),
        lambda x, weight, bias: f.layer_norm(x, 1, weight, bias, 1e-5),
    ),
    "relu": (nn.ReLU(), (3, 7), lambda x: np.maximum(x, 0)),
    "relu6": (nn.ReLU6(), (3, 7), f.relu6),
    "hardswish": (nn.Hardswish(), (3, 7), f.hardswish),
    "sigmoid": (nn.Sigmoid(), (3, 7), f.sigmoid),
    "tanh": (nn.Tanh(), (3, 7), np.tanh),
    "max_pool2d": (
        nn.MaxPool2d(2),
        (2, 3, 5, 4),
        lambda x: f.pool2d(x, np.max, (2, 2), (2, 2), count_include_pad=False),
    ),
    "max_pool2d with all options": (
        nn.MaxPool2d((3, 2), (2, 1), (1, 0)),
        (2, 3, 5, 4),
        lambda x: f.pool2d(x, np.max, (3, 2), (2, 1), (1, 0), count_include_pad=False),
    ),
    "avg_pool2d": (
        nn.AvgPool2d((3, 2), (2, 1), (1, 1)),
        (2, 3, 5, 4),
        lambda x: f.pool2d(x, np.mean, (3, 2), (2, 1), (1, 1)),
    ),
    "avg_pool2d without padding's zeros": (
        nn.AvgPool2d((3, 2), (2, 1), (1, 1), count_include_pad=False),
        (2, 3, 5, 4),
        lambda x: f.pool2d(x, np.mean, (3, 2), (2, 1), (1, 1), count_include_pad=False),
    ),
    "adaptive_avg_pool2d to one": (
        nn.AdaptiveAvgPool2d(1),
        (2, 3, 5, 4),
        lambda x: f.adaptive_avg_pool2d(x, (1, 1)),
    ),
    "adaptive_avg_pool2d that divides": (
        nn.AdaptiveAvgPool2d((3, 2)),
        (2, 3, 6, 4),
        lambda x: f.adaptive_avg_pool2d(x, (3, 2)),
    ),
    "adaptive_avg_pool2d that overlaps": (
        nn.AdaptiveAvgPool2d((3, 5)),
        (2, 3, 7, 4),
        lambda x: f.adaptive_avg_pool2d(x, (3, 5)),
    ),
    "flatten": (nn.Flatten(), (2, 3, 4, 5), lambda x: x.reshape(2, 60)),
    "flatten from an axis": (nn.Flatten(2), (2, 3, 4, 5), lambda x: x.reshape(2, 3, 20)),
    "identity": (nn.Identity(), (2, 3), lambda x: x),
}


@pytest.mark.parametrize("name", TABLE)
def test_layer_is_its_formula(name, each_runtime, normal):
    layer, shape, formula = TABLE[name]
    x = normal(*shape) * 3
    y = shaken(layer)(te.Tensor(x)).numpy()
    expected = formula(x.astype(np.float64), **parameters_of(layer))
    assert y.shape == expected.shape and y.dtype == np.float32
    # Nothing here sums more than 24 products, of numbers that are seldom above 10.
    np.testing.assert_allclose(y, expected, rtol=16 * EPS, atol=100 * EPS)


@pytest.mark.parametrize("name", [n for n in TABLE if "empty" not in n])
def test_gradients_are_those_of_differences(name, normal):
    layer, shape, _ = TABLE[name]
    assert te.testing.gradcheck(shaken(layer), normal(*shape))


def test_batch_norm_evaluates_by_running_statistics(each_runtime, normal):
    layer = shaken(nn.BatchNorm2d(3, eps=1e-3)).eval()
    layer.running_mean.assign([1.0, -2.0, 0.5])
    layer.running_var.assign([0.5, 2.0, 4.0])
    x = normal(4, 3, 2, 5)
    mean, var = (f.per_channel(b.numpy()) for b in (layer.running_mean, layer.running_var))
    weight, bias = (f.per_channel(p) for p in parameters_of(layer).values())
    expected = (x - mean) / np.sqrt(var + 1e-3) * weight + bias
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=16 * EPS, atol=16 * EPS)
    assert te.testing.gradcheck(layer, x)


def test_batch_norm_far_from_zero(each_runtime, normal):
    """Mean 100, deviation 0.1: a variance from float32 sums of squares is off by its double."""
    layer = nn.BatchNorm2d(2)
    x = (normal(8, 2, 4, 4) * 0.1 + 100).astype(np.float32)
    expected = f.normalised(x.astype(np.float64), (0, 2, 3), 1e-5)
    # The mean as float32 is off by 2**-18 = 4e-6, which is 4e-5 of the deviation.
    np.testing.assert_allclose(layer(x).numpy(), expected, atol=1e-4)
    layer.running_var.assign([0, 0])
    layer(x)
    wanted = 0.1 * x.astype(np.float64).var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_var.numpy(), wanted, rtol=1e-4)


def test_layers_take_arrays_and_integers(normal):
    images = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
    layer = nn.Conv2d(1, 2, 3)
    same = te.Tensor(images.astype(np.float32))
    assert np.array_equal(layer(images).numpy(), layer(same).numpy())


def test_float64_stays_float64_in_the_numpy_runtime():
    with te.runtime.use("numpy"):
        layer = shaken(nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4)))
        x = np.random.default_rng(0).standard_normal((3, 2, 5, 5))
        y = layer(x).numpy()
        conv, norm, group = (parameters_of(part) for part in layer)
        expected = f.batch_norm(f.conv2d(x, **conv), **norm, eps=1e-5)
        expected = f.group_norm(expected, 2, **group, eps=1e-5)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, expected, rtol=1e-10)
    assert layer[1].running_mean.numpy().dtype == np.float32
