"""Layers as the textbooks write them: NumPy, float64, one sum at a time."""

import itertools

import numpy as np


def linear(x, weight, bias=0.0):
    return np.einsum("...i,oi->...o", x, weight) + bias


def conv2d(x, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """y[n, k, p, q] = sum over c, r, s of x[n, c, p * stride + r * dilation - padding, ...] * w."""
    (n, _, h, w), (k, c, r, s) = x.shape, weight.shape
    p, q = (
        (size + 2 * pad - dil * (window - 1) - 1) // step + 1
        for size, pad, dil, window, step in zip(
            (h, w), padding, dilation, (r, s), stride, strict=True
        )
    )
    y = np.zeros((n, k, p, q))
    for out, i, j, row, column, channel in itertools.product(*map(range, (k, p, q, r, s, c))):
        top = i * stride[0] + row * dilation[0] - padding[0]
        left = j * stride[1] + column * dilation[1] - padding[1]
        if 0 <= top < h and 0 <= left < w:
            seen = x[:, out // (k // groups) * c + channel, top, left]
            y[:, out, i, j] += seen * weight[out, channel, row, column]
    return y if bias is None else y + bias[:, None, None]


def pool2d(x, reduce, window, stride, padding=(0, 0), count_include_pad=True):
    """Call `reduce` on each window: on what is inside the image, or with the padding's zeros."""
    n, c, h, w = x.shape
    p, q = (
        (size + 2 * pad - wide) // step + 1
        for size, pad, wide, step in zip((h, w), padding, window, stride, strict=True)
    )
    y = np.zeros((n, c, p, q))
    for i, j in itertools.product(range(p), range(q)):
        top, left = i * stride[0] - padding[0], j * stride[1] - padding[1]
        rows = slice(max(top, 0), min(top + window[0], h))
        columns = slice(max(left, 0), min(left + window[1], w))
        seen = x[:, :, rows, columns].reshape(n, c, -1)
        if count_include_pad:
            missing = window[0] * window[1] - seen.shape[-1]
            seen = np.concatenate([seen, np.zeros((n, c, missing))], axis=-1)
        y[:, :, i, j] = reduce(seen, axis=-1)
    return y


def adaptive_avg_pool2d(x, size):
    h, w = x.shape[2:]
    y = np.zeros((*x.shape[:2], *size))
    for i, j in itertools.product(range(size[0]), range(size[1])):
        rows = slice(int(np.floor(i * h / size[0])), int(np.ceil((i + 1) * h / size[0])))
        columns = slice(int(np.floor(j * w / size[1])), int(np.ceil((j + 1) * w / size[1])))
        y[:, :, i, j] = x[:, :, rows, columns].mean((2, 3))
    return y


def normalised(x, axes, eps):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def per_channel(v):
    return v[:, None, None]


def batch_norm(x, weight, bias, eps):
    return normalised(x, (0, 2, 3), eps) * per_channel(weight) + per_channel(bias)


def group_norm(x, groups, weight, bias, eps):
    grouped = x.reshape(x.shape[0], groups, -1)
    return normalised(grouped, -1, eps).reshape(x.shape) * per_channel(weight) + per_channel(bias)


def layer_norm(x, axes, weight, bias, eps):
    return normalised(x, tuple(range(-axes, 0)), eps) * weight + bias


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu6(x):
    return np.clip(x, 0, 6)


def hardswish(x):
    return x * relu6(x + 3) / 6
