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


A, B = 2**-0.5, 2**0.5  # the points of Winograd's filtering, see csrc/kernels/winograd.h
ROWS = [[2 / 3, A * 2 / 3, 1 / 3], [1 / 6, B / 6, 1 / 3]]
INPUT = [[1, 0, 2.5, 0, 1, 0], *[[0, 2 * A, 2, A, 1, 0]] * 2]
INPUT = np.array([*INPUT, *[[0, B / 2, 0.5, B, 1, 0]] * 2, [0, 1, 0, 2.5, 0, 1]])
WEIGHTS = np.array([[1, 0, 0], *[ROWS[0]] * 2, *[ROWS[1]] * 2, [0, 0, 1]])
OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, A, A, B, B, 0], [0, 0.5, 0.5, 2, 2, 0]])
OUTPUT = np.array([*OUTPUT, [0, A / 2, A / 2, 2 * B, 2 * B, 1]])


def _tiles(x, size, top, left, rows, columns):
    """View |x| as [N][C][rows][columns][size][size]: tiles 4 apart, the first at (-top, -left)."""
    height, width = 4 * rows + size - 4, 4 * columns + size - 4
    n, c, h, w = x.shape
    padded = np.zeros((n, c, height + h + abs(top), width + w + abs(left)))
    y0, x0 = max(top, 0), max(left, 0)
    padded[:, :, y0 : y0 + h, x0 : x0 + w] = np.abs(x)
    padded = padded[:, :, max(-top, 0) :, max(-left, 0) :][:, :, :height, :width]
    view = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (2, 3))
    return view[:, :, ::4, ::4]


def _both_axes(matrix, x):
    return np.einsum("ia,jb,...ab->...ij", matrix, matrix, x)


def winograd_magnitude(x, w, geometry):
    """Evaluate Winograd's form of :func:`conv2d` with the absolute values of all it reads."""
    g, count = geometry, geometry["groups"]
    rows, columns = -(-g["p"] // 4), -(-g["q"] // 4)
    parts = []
    for xs, ws in zip(_groups(x, 1, count), _groups(w, 0, count), strict=True):
        v = _both_axes(INPUT, _tiles(xs, 6, g["pad_h"], g["pad_w"], rows, columns))
        m = np.einsum("ncyxij,kcij->nkyxij", v, _both_axes(WEIGHTS, np.abs(ws)), optimize=True)
        y = _both_axes(OUTPUT, m).swapaxes(3, 4)
        parts.append(y.reshape(*y.shape[:2], 4 * rows, 4 * columns)[:, :, : g["p"], : g["q"]])
    return np.concatenate(parts, axis=1)


def winograd_magnitude_backward_data(gy, w, geometry):
    """Do the same for the gradient by x: a correlation with the reversed window."""
    g, count = geometry, geometry["groups"]
    turned = {"p": g["h"], "q": g["w"], "pad_h": 2 - g["pad_h"], "pad_w": 2 - g["pad_w"]}
    swapped = [part.swapaxes(0, 1)[:, :, ::-1, ::-1] for part in _groups(w, 0, count)]
    return winograd_magnitude(gy, np.concatenate(swapped), turned | {"groups": count})


def winograd_magnitude_backward_weights(x, gy, geometry):
    """Do the same for the gradient by w, the adjoint of :func:`conv2d` in w."""
    g, count = geometry, geometry["groups"]
    rows, columns = -(-g["p"] // 4), -(-g["q"] // 4)
    parts = []
    for xs, ys in zip(_groups(x, 1, count), _groups(gy, 1, count), strict=True):
        v = _both_axes(INPUT, _tiles(xs, 6, g["pad_h"], g["pad_w"], rows, columns))
        m = _both_axes(OUTPUT.T, _tiles(ys, 4, 0, 0, rows, columns))
        m = np.einsum("ncyxij,nkyxij->kcij", v, m, optimize=True)
        parts.append(_both_axes(WEIGHTS.T, m))
    return np.concatenate(parts)


def bound(terms, magnitude):
    """Error of float32 sums of `terms` products, in any order (Higham 2002, section 3.1).

    Each term meets at most one rounding of its product and one for each addition, hence
    gamma_n * sum |a||b| with the sum given as `magnitude`; the last summand is for underflow.
    """
    unit = 2.0**-24
    n = terms + 1
    return n * unit / (1 - n * unit) * magnitude + n * 2.0**-149
