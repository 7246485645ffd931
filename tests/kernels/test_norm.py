"""Batch normalisation against NumPy: float64 for the sums, float32 to the bit for the rest."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernels.kernel_call import call
from kernels.samples import SETTINGS, UNIT, normal, same_for_any_threads, same_numbers

EPS = np.float32(1e-5)


class Channels:
    """x[n][c][inner] in one of the two orders of memory, and the kernels on it."""

    def __init__(self, x, channel_major):
        self.x = x
        n, c, inner = x.shape
        self.order = (1, 0, 2) if channel_major else (0, 1, 2)
        strides = (inner, n * inner) if channel_major else (c * inner, inner)
        self.fields = dict(zip(("n", "c", "inner"), x.shape, strict=True))
        self.fields |= {"n_stride": strides[0], "c_stride": strides[1], "eps": EPS}
        self.fields["half"] = int(x.dtype == np.float16)

    def _memory(self, x):
        return np.ascontiguousarray(x.transpose(self.order))

    def _call(self, name, images, channels, inputs, activation="TGE_NO_ACTIVATION"):
        c = self.x.shape[1]
        self.fields["activation"] = activation
        outputs = [(self._memory(self.x).shape, np.float32)] * images
        outputs += [((c,), np.float32)] * channels
        status, results = call(name, "tge_batch_norm_params", self.fields, outputs, inputs)
        assert status == 0
        return [y.transpose(self.order) if y.ndim == 3 else y for y in results]

    def stats(self):
        return self._call("batch_norm_stats_f32", 0, 2, [self._memory(self.x)])

    def apply(self, *channels, activation="TGE_NO_ACTIVATION"):
        inputs = [self._memory(self.x), *channels]
        return self._call("batch_norm_apply_f32", 1, 0, inputs, activation)[0]

    def apply_add(self, addend, *channels, activation):
        inputs = [self._memory(self.x), *channels, self._memory(addend)]
        return self._call("batch_norm_apply_add_f32", 1, 0, inputs, activation)[0]

    def activated_backward(self, grad, *channels, activation):
        inputs = [self._memory(grad), self._memory(self.x), *channels]
        return self._call("batch_norm_activated_backward_f32", 1, 2, inputs, activation)

    def backward(self, grad, *channels):
        inputs = [self._memory(grad), self._memory(self.x), *channels]
        return self._call("batch_norm_backward_f32", 1, 2, inputs)


def each(v):
    """One number a channel, against [n][c][inner]."""
    return v[:, None]


def check(x, channel_major):
    """Compare the three kernels.

    A block adds at most 64 floats into a lane and 5 levels of lanes; blocks are added in double.
    The variance is summed about a guess that is off by at most half of the standard deviation s:
    75 units of at most 5/4 s^2, and twice s/2 times the 71 units of sqrt(5/4) s that the mean has.
    """
    images = Channels(x, channel_major)
    exact, axes = x.astype(np.float64), (0, 2)
    mean, var = images.stats()
    assert (np.abs(mean - exact.mean(axes)) <= 71 * UNIT * np.abs(exact).mean(axes)).all()
    square = np.square(exact - each(mean.astype(np.float64))).mean(axes)
    assert (np.abs(var - exact.var(axes)) <= 174 * UNIT * square + 1e-40).all()

    gamma, beta, grad = normal(x.shape[1], 1), normal(x.shape[1], 2), normal(x.shape, 3)
    y = images.apply(mean, var, gamma, beta)
    scale = gamma / np.sqrt(var + EPS)
    assert same_numbers(y, (x - each(mean)) * each(scale) + each(beta))

    gx, ggamma, gbeta = images.backward(grad, mean, var, gamma)
    g, d = grad.astype(np.float64), exact - each(mean.astype(np.float64))
    inverse = 1 / (var.astype(np.float64) + float(EPS))
    magnitude = np.abs(g).sum(axes)
    assert (np.abs(gbeta - g.sum(axes)) <= 71 * UNIT * magnitude).all()
    product = np.abs(g * d).sum(axes)
    bound = 73 * UNIT * product * np.sqrt(inverse)
    assert (np.abs(ggamma - (g * d).sum(axes) * np.sqrt(inverse)) <= bound).all()

    count = x[:, 0].size
    terms = g, each(g.mean(axes)), d * each((g * d).mean(axes) * inverse)
    exact_gx = each(gamma * np.sqrt(inverse)) * (terms[0] - terms[1] - terms[2])
    bound = 71 * each(magnitude / count) + 75 * np.abs(d) * each(product / count * inverse)
    bound = UNIT * (bound + 8 * sum(np.abs(t) for t in terms))
    assert (np.abs(gx - exact_gx) <= np.abs(each(gamma * np.sqrt(inverse))) * bound).all()


@SETTINGS
@hypothesis.given(
    n=st.integers(1, 70),
    c=st.integers(1, 4),
    inner=st.sampled_from([1, 2, 16, 31, 33, 49, 100]),
    channel_major=st.booleans(),
    offset=st.sampled_from([0, 100]),
)
def test_batch_norm(isa, n, c, inner, channel_major, offset):
    check(normal((n, c, inner)) + np.float32(offset), channel_major)


@pytest.mark.parametrize("shape", [(3, 5, 5000), (300, 33, 16), (700, 65, 1)])
def test_batch_norm_of_large_arrays(isa, threads, shape):
    x = normal(shape) * np.float32(0.1) + 100
    gamma, grad = normal(shape[1], 1), normal(shape, 3)
    results = []
    for channel_major in (False, True):
        check(x, channel_major)
        images = Channels(x, channel_major)

        def run(images=images):
            mean, var = images.stats()
            y = images.apply(mean, var, gamma, gamma)
            return [mean, var, y, *images.backward(grad, mean, var, gamma)]

        assert same_for_any_threads(threads, run)
        results.append([y.tobytes() for y in run()])
    assert results[0] == results[1]  # the layout does not change the bits


def test_batch_norm_of_equal_values_has_no_variance(isa):
    mean, var = Channels(np.full((50, 2, 77), 1e4 / 3, np.float32), True).stats()
    assert (np.abs(mean - np.float32(1e4 / 3)) <= 71 * UNIT * 1e4 / 3).all()
    assert (var >= 0).all()
    assert (var <= 1e-10).all()


def test_the_variance_is_exact_where_the_first_values_are_far_from_the_mean(isa):
    x = normal((2, 2, 300_000)) * np.float32(0.1) + 100
    x[0, :, :1024] = 0
    _, var = Channels(x, False).stats()
    exact = x.astype(np.float64).var((0, 2))
    assert (np.abs(var - exact) <= 8 * UNIT * exact).all()  # 50 units about the guess


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_batch_norm_keeps_what_is_not_finite_in_its_channel(isa, value):
    x = normal((5, 3, 40))
    x[2, 1, 7] = value
    images = Channels(x, True)
    for result in images.stats():
        assert np.isfinite(result[[0, 2]]).all()
        assert not np.isfinite(result[1])


def test_batch_norm_of_no_channels(isa):
    mean, var = Channels(np.zeros((4, 0, 5), np.float32), True).stats()
    assert mean.size == var.size == 0


ACTIVATIONS = {
    "TGE_ACTIVATION_RELU": (lambda y: np.maximum(y, 0), lambda y: y > 0),
    "TGE_ACTIVATION_RELU6": (
        lambda y: np.minimum(np.maximum(y, 0), 6),
        lambda y: (y > 0) & (y < 6),
    ),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(2, 3, 49), (5, 2, 16), (40, 33, 700)])
@pytest.mark.parametrize("channel_major", [False, True])
def test_activation_on_the_way_is_the_activation_afterwards(isa, activation, shape, channel_major):
    images = Channels(normal(shape), channel_major)
    forward, passes = ACTIVATIONS[activation]
    mean, var = images.stats()
    gamma, beta, grad = normal(shape[1], 1) * 4, normal(shape[1], 2), normal(shape, 3)
    plain = images.apply(mean, var, gamma, beta)
    assert same_numbers(images.apply(mean, var, gamma, beta, activation=activation), forward(plain))
    added = images.apply_add(grad, mean, var, gamma, beta, activation=activation)
    assert same_numbers(added, forward(plain + grad))
    masked = np.where(passes(plain), grad, np.float32(0))
    expected = images.backward(masked, mean, var, gamma)
    found = images.activated_backward(grad, mean, var, gamma, beta, activation=activation)
    for a, b in zip(found, expected, strict=True):
        assert same_numbers(a, b)


@pytest.mark.parametrize("activation", ["TGE_NO_ACTIVATION", *ACTIVATIONS])
@pytest.mark.parametrize("shape", [(2, 3, 49), (5, 2, 16), (40, 33, 700), (70, 2, 1)])
@pytest.mark.parametrize("channel_major", [False, True])
def test_halves_count_as_the_floats_that_they_are(isa, activation, shape, channel_major):
    x = normal(shape).astype(np.float16)
    halves, floats = Channels(x, channel_major), Channels(x.astype(np.float32), channel_major)
    gamma, beta, grad = normal(shape[1], 1) * 4, normal(shape[1], 2), normal(shape, 3)
    channels = (*floats.stats(), gamma, beta)

    def run(images):
        y = images.apply(*channels, activation=activation)
        added = images.apply_add(grad, *channels, activation=activation)
        if activation == "TGE_NO_ACTIVATION":
            return [y, added, *images.backward(grad, *channels[:3])]
        return [y, added, *images.activated_backward(grad, *channels, activation=activation)]

    for found, expected in zip(run(halves), run(floats), strict=True):
        assert same_numbers(found, expected)
