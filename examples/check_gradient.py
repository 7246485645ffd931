"""Check the gradient of one's own function against finite differences, in float64."""

import numpy as np

import tinygrad_edge as te
from tinygrad_edge import testing


def swish_pool(x: te.Tensor, weight: te.Tensor) -> te.Tensor:
    """A small block: convolution, swish, average pooling."""
    y = te.functional.conv2d(x, weight, padding=1)
    return te.functional.avg_pool2d(y * y.sigmoid(), 2)


def main() -> None:
    """Check first and second derivatives."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((4, 3, 3, 3))
    print(testing.gradcheck(swish_pool, x, weight))
    slope = te.grad(lambda w: swish_pool(te.Tensor(x), w).sum())
    print(testing.gradcheck(slope, weight))


if __name__ == "__main__":
    main()
