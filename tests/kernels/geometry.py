"""Shapes of convolutions, as the params of their kernels."""

import numpy as np
from hypothesis import strategies as st


def geometry(n, c, k, size, window, stride=(1, 1), pad=(0, 0), dilation=(1, 1), groups=1):
    """Fields of tge_conv2d_params but the strides."""
    out = [
        (size[i] + 2 * pad[i] - dilation[i] * (window[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)
    ]
    fields = {"n": n, "c": c, "h": size[0], "w": size[1], "k": k, "r": window[0], "s": window[1]}
    fields |= {"p": out[0], "q": out[1], "groups": groups}
    for name, both in [("stride", stride), ("pad", pad), ("dilation", dilation)]:
        fields |= {f"{name}_h": both[0], f"{name}_w": both[1]}
    return fields


def pair(low, high):
    """Draw a number for each image axis."""
    return st.tuples(st.integers(low, high), st.integers(low, high))


def in_layout(array, layout):
    """[N][C][H][W] as it lies in memory."""
    return np.ascontiguousarray(array.swapaxes(0, 1)) if layout == "CNHW" else array


def strides(prefix, channels, n, plane, layout):
    """Fields that address one image."""
    n_stride, c_stride = (channels * plane, plane) if layout == "NCHW" else (plane, n * plane)
    return {f"{prefix}_n_stride": n_stride, f"{prefix}_c_stride": c_stride}
