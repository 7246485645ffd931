"""Check the gradient of one's own function against finite differences, in float64.

In tests, ``pytest_plugins = ["tinygrad_edge.testing.plugin"]`` in a project's conftest.py gives the
fixture ``gradcheck``, which takes the same arguments, and hypothesis strategies in their place.
"""

import numpy as np

import tinygrad_edge as te
from tinygrad_edge import testing


def swish_pool(x: te.Tensor, weight: te.Tensor) -> te.Tensor:
    """A small block: convolution, swish, average pooling."""
    y = te.functional.conv2d(x, weight, padding=1)
    return te.functional.avg_pool2d(y * y.sigmoid(), 2)


def softplus(x: np.ndarray) -> np.ndarray:
    """A function of NumPy arrays; it might as well be another engine's."""
    return np.logaddexp(x, 0)


def softplus_vjp(cotangent: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Its gradient, as somebody says."""
    return cotangent / (1 + np.exp(-x))


def main() -> None:
    """Check first and second derivatives, and a gradient that this package has not made."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((4, 3, 3, 3))
    print(testing.gradcheck(swish_pool, x, weight))
    slope = te.grad(lambda w: swish_pool(te.Tensor(x), w).sum())
    print(testing.gradcheck(slope, weight))
    print(testing.gradcheck(softplus, x, vjp=softplus_vjp))


if __name__ == "__main__":
    main()
