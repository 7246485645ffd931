"""float64 references of the dense kernels, and the error that float32 may have."""

import numpy as np


def matmul(a, b, transpose_a, transpose_b):
    """Product of the last two axes of two stacks of matrices."""
    a = a.swapaxes(-1, -2) if transpose_a else a
    b = b.swapaxes(-1, -2) if transpose_b else b
    return a.astype(np.float64) @ b.astype(np.float64)


def windows(x, geometry):
    """View x[N][C][H][W], padded, as [N][C][P][Q][R][S]: what each tap reads at each output."""
    g = geometry
    padding = ((0, 0), (0, 0), (g["pad_h"],) * 2, (g["pad_w"],) * 2)
    x = np.pad(x.astype(np.float64), padding)
    n, c, h, w = x.strides
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:2], g["p"], g["q"], g["r"], g["s"]),
        (n, c, h * g["stride_h"], w * g["stride_w"], h * g["dilation_h"], w * g["dilation_w"]),
    )


def _groups(array, axis, count):
    return np.split(array.astype(np.float64), count, axis)


def conv2d(x, w, geometry):
    """Convolve x[N][C][H][W] with w[K][C / groups][R][S]."""
    count = geometry["groups"]
    parts = zip(_groups(windows(x, geometry), 1, count), _groups(w, 0, count), strict=True)
    return np.concatenate([np.einsum("ncpqrs,kcrs->nkpq", xs, ws) for xs, ws in parts], axis=1)


def conv2d_backward_data(gy, w, geometry):
    """Gradient by x: the adjoint of :func:`conv2d` in x."""
    g, count = geometry, geometry["groups"]
    parts = zip(_groups(gy, 1, count), _groups(w, 0, count), strict=True)
    taps = np.concatenate([np.einsum("nkpq,kcrs->ncpqrs", ys, ws) for ys, ws in parts], axis=1)
    shape = (g["n"], g["c"], g["h"] + 2 * g["pad_h"], g["w"] + 2 * g["pad_w"])
    padded = np.zeros(shape)
    for r in range(g["r"]):
        for s in range(g["s"]):
            top, left = r * g["dilation_h"], s * g["dilation_w"]
            rows = slice(top, top + g["p"] * g["stride_h"], g["stride_h"])
            columns = slice(left, left + g["q"] * g["stride_w"], g["stride_w"])
            padded[:, :, rows, columns][:, :, : g["p"], : g["q"]] += taps[..., r, s]
    return padded[:, :, g["pad_h"] : g["pad_h"] + g["h"], g["pad_w"] : g["pad_w"] + g["w"]]


def conv2d_backward_weights(x, gy, geometry):
    """Gradient by w: the adjoint of :func:`conv2d` in w."""
    count = geometry["groups"]
    parts = zip(_groups(windows(x, geometry), 1, count), _groups(gy, 1, count), strict=True)
    return np.concatenate([np.einsum("ncpqrs,nkpq->kcrs", xs, ys) for xs, ys in parts])


def bound(terms, magnitude):
    """Error of float32 sums of `terms` products, in any order (Higham 2002, section 3.1).

    Each term meets at most one rounding of its product and one for each addition, hence
    gamma_n * sum |a||b| with the sum given as `magnitude`; the last summand is for underflow.
    """
    unit = 2.0**-24
    n = terms + 1
    return n * unit / (1 - n * unit) * magnitude + n * 2.0**-149
