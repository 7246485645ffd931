"""How far a float32 kernel may be from its reference in float64.

Each bound is derived from what must be rounded, whatever the order of additions (Higham 2002,
chapter 3), so that it holds for every instruction set and loosens with the number of terms alone. A
bound takes the op, float64 arrays, attributes and expected outputs, and gives the error allowed in
each output.
"""

import numpy as np

from tinygrad_edge.op import OPS

U = 2.0**-24  # half the distance from 1 to the next float32
SMALLEST = 2.0**-149


def gamma(n):
    """Relative error of n roundings in a row."""
    return n * U / (1 - n * U)


def equal(op, arrays, attrs, expected):
    """Equal numbers, where NumPy leaves open which of 0 and -0 it gives."""
    return [0.0] * len(expected)


def ulps(count):
    """So many units in the last place of what is right."""

    def bound(op, arrays, attrs, expected):
        with np.errstate(over="ignore", invalid="ignore"):
            return [count * np.spacing(np.abs(e).astype(np.float32)) for e in expected]

    return bound


def linear(terms):
    """Sums of products, `terms(arrays, attrs)` of them at most, each input once in a product."""

    def bound(op, arrays, attrs, expected):
        n = terms(arrays, attrs)
        sizes = [np.abs(a) if a.dtype.kind == "f" else a for a in arrays]
        magnitude = op.reference(*sizes, **attrs)[0]
        return [gamma(n + 1) * magnitude + n * SMALLEST]

    return bound


# ---- softmax and cross-entropy: what x - max and the sum of exponentials may be off by ----


def _softmax_parts(x, axis):
    """The softmax, |x - max|, and the relative error of exponential and sum."""
    distance = x.max(axis, keepdims=True) - x
    powers = np.exp(-distance)
    y = powers / powers.sum(axis, keepdims=True)
    # Each exponent is rounded once, its exponential to 1.02 ulp, and n of them are added.
    in_power = U * np.where(y > 0, distance + 3, 0)
    in_sum = (y * in_power).sum(axis, keepdims=True) + gamma(x.shape[axis])
    return y, distance, in_power + in_sum


def softmax(op, arrays, attrs, expected):
    """Exponential, sum, quotient."""
    y, _, error = _softmax_parts(arrays[0], attrs["axis"])
    return [y * (error + U) + 2 * SMALLEST]


def log_softmax(op, arrays, attrs, expected):
    """Two subtractions from x, with a logarithm of the sum to 1 ulp."""
    _, distance, error = _softmax_parts(arrays[0], attrs["axis"])
    log_sum = np.abs(expected[0] + distance)
    return [error + U * (2 * distance + 3 * log_sum + np.abs(expected[0]))]


def _targets(logits, labels, weight, smoothing):
    hot = np.eye(logits.shape[1])[labels]
    return ((1 - smoothing) * hot * weight[labels][:, None]) + smoothing / logits.shape[1] * weight


def cross_entropy(op, arrays, attrs, expected):
    """A weighted sum of log-softmax."""
    logits, labels, weight = arrays
    target = np.abs(_targets(logits, labels, weight, attrs["smoothing"]))
    log_p = np.log(_softmax_parts(logits, 1)[0])
    of_log_p = log_softmax(None, [logits], {"axis": 1}, [log_p])[0]
    rounded = gamma(logits.shape[1] + 4) * np.abs(log_p)
    return [np.where(target == 0, 0, target * (of_log_p + rounded)).sum(1)]


def cross_entropy_backward(op, arrays, attrs, expected):
    """Softmax times the sum of targets, minus the target."""
    grad, logits, labels, weight = arrays
    target = np.abs(_targets(logits, labels, weight, attrs["smoothing"]))
    total = target.sum(1, keepdims=True)
    p = _softmax_parts(logits, 1)[0]
    of_p = softmax(None, [logits], {"axis": 1}, [p])[0]
    rounded = gamma(logits.shape[1] + 6) * (p * total + target)
    return [np.abs(grad)[:, None] * (of_p * total + rounded)]


# ---- batch norm: sums of n values a channel, then a few roundings ----


def _axes(x):
    return tuple(a for a in range(x.ndim) if a != 1)


def _per_channel(v, x):
    return v.reshape(-1, *(1,) * (x.ndim - 2))


def batch_norm_stats(op, arrays, attrs, expected):
    """The mean of n values; then the mean square of what is left, about a mean that may be off."""
    (x,) = arrays
    n = x.size // x.shape[1]
    of_mean = gamma(n + 1) * np.abs(x).mean(_axes(x))
    return [of_mean, gamma(n + 5) * (expected[1] + of_mean**2)]


def batch_norm_apply(op, arrays, attrs, expected):
    """Three roundings in the scale, two in the product, one in the sum."""
    x, mean, var, gain, shift = arrays
    scale = np.abs(gain / np.sqrt(var + attrs["eps"]))
    size = np.abs(x - _per_channel(mean, x)) * _per_channel(scale, x)
    # An activation clips, which enlarges no error.
    return [8 * U * (size + _per_channel(np.abs(shift), x)) + SMALLEST]


def batch_norm_apply_add(op, arrays, attrs, expected):
    """One more rounding of a sum."""
    *normed, addend = arrays
    (applied,) = batch_norm_apply(None, normed, attrs, expected)
    return [1.125 * applied + 2 * U * np.abs(addend)]


def batch_norm(op, arrays, attrs, expected):
    """What the statistics are off by moves the result too."""
    x, gain, shift = arrays
    _, mean, var = expected
    of_mean, of_var = batch_norm_stats(None, [x], {}, [mean, var])
    scale = np.abs(gain / np.sqrt(var + attrs["eps"]))
    deviation = np.abs(x - _per_channel(mean, x))
    moved = _per_channel(scale * of_mean, x)
    stretched = deviation * _per_channel(scale * of_var / (2 * (var + attrs["eps"])), x)
    applied = batch_norm_apply(None, [x, mean, var, gain, shift], attrs, expected)[0]
    return [applied + moved + stretched, of_mean, of_var]


def batch_norm_backward(op, arrays, attrs, expected):
    """Two sums of n terms, then a few roundings."""
    grad, x, mean, var, gain = arrays
    n, axes = x.size // x.shape[1], _axes(x)
    inverse = 1 / (var + attrs["eps"])
    deviation = np.abs(x - _per_channel(mean, x))
    size, product = np.abs(grad), np.abs(grad) * deviation
    slope = deviation * _per_channel(product.mean(axes) * inverse, x)
    parts = size + _per_channel(size.mean(axes), x) + slope
    scale = _per_channel(np.abs(gain) * np.sqrt(inverse), x)
    of_gain = gamma(n + 6) * product.sum(axes) * np.sqrt(inverse)
    return [gamma(n + 10) * scale * parts, of_gain, gamma(n) * size.sum(axes)]


def batch_norm_activated_backward(op, arrays, attrs, expected):
    """The same on a masked gradient, where rounding does not decide about the mask."""
    grad, x, mean, var, gain, shift = arrays
    normed = [x, mean, var, gain, shift]
    (y,) = OPS["batch_norm_apply"].reference(*normed, eps=attrs["eps"], activation="")
    (margin,) = batch_norm_apply(op, normed, attrs, None)
    near = (np.abs(y) <= margin) | (np.abs(y - 6) <= margin)
    if near.any():
        return [np.full_like(e, np.inf) for e in expected]
    inside = (y > 0) & ((y < 6) | (attrs["activation"] == "relu"))
    return batch_norm_backward(op, [grad * inside, x, mean, var, gain], attrs, expected)
