"""gradcheck for other people: any engine, drawn points, a pytest fixture."""

import numpy as np
import pytest

from tinygrad_edge.errors import DTypeError, GradientError
from tinygrad_edge.functional import cross_entropy
from tinygrad_edge.testing import gradcheck
from tinygrad_edge.testing import strategies as tst
from tinygrad_edge.testing.drawn import gradcheck_drawn

pytest_plugins = ["pytester"]


class Float32:
    """Another engine: a layer in float32 with gradients written by hand, right or wrong."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def __call__(self, x, w):
        self.x, self.w = np.float32(x), np.float32(w)
        return np.maximum(self.x @ self.w, 0)

    def vjp(self, cotangent, x, w):
        y = self(x, w)
        g = cotangent * (y > 0)
        return g @ self.w.T, self.factor * (self.x.T @ g)


def normal(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape)


def test_another_engine_in_float32_is_checked():
    x, w = normal(4, 3), normal(3, 5)
    engine = Float32()
    assert gradcheck(engine, x, w, vjp=engine.vjp)
    wrong = Float32(1.01)
    with pytest.raises(GradientError, match=r"argument 1 of \[3, 5\] at \["):
        gradcheck(wrong, x, w, vjp=wrong.vjp)


def test_kinks_of_another_engine_are_moved_off():
    def vjp(cotangent, x):
        return cotangent * (x > 0)

    assert gradcheck(lambda x: np.maximum(x, 0), np.array([0.0, 1.0, -1.0]), vjp=vjp)
    assert gradcheck(lambda x: np.maximum(np.float32(x), 0), np.array([0.0, 1.0]), vjp=vjp)


def test_several_outputs_and_absent_gradients():
    def function(x, y):
        return np.sin(x), x.sum()

    def vjp(cotangents, x, y):
        return np.cos(x) * cotangents[0] + cotangents[1], None

    assert gradcheck(function, normal(3), normal(2), vjp=vjp)
    with pytest.raises(DTypeError, match=r"gradients of shapes \[3\], \[2\], got \[3\]$"):
        gradcheck(function, normal(3), normal(2), vjp=lambda c, x, y: np.cos(x))
    with pytest.raises(DTypeError, match="must give arrays of floats, got int64"):
        gradcheck(lambda x: np.int64(x), normal(3), vjp=vjp)


def forgets_large_rows(x):
    """The sum of squares; beyond two rows, the gradient lacks its factor 2."""
    y = x * x
    return y if len(x) < 3 else x * x.detach()


def test_the_smallest_counterexample_is_shown():
    shapes = tst.shapes(2, 2, 1, 6)
    with pytest.raises(GradientError) as caught:
        gradcheck_drawn(forgets_large_rows, tst.arrays(shapes))
    message = str(caught.value)
    assert "the gradient of forgets_large_rows is wrong" in message
    assert "argument 0: float32[3, 1] array(" in message
    assert gradcheck_drawn(forgets_large_rows, tst.arrays(tst.shapes(2, 2, 1, 2)))


def test_arguments_that_are_not_drawn_are_passed_on():
    labels = np.array([0, 2])
    assert gradcheck_drawn(cross_entropy, tst.arrays((2, 3)), labels, examples=5)


def test_the_fixture_serves_a_project_of_others(pytester):
    pytester.makeconftest('pytest_plugins = ["tinygrad_edge.testing.plugin"]')
    pytester.makepyfile(
        """
        import numpy as np
        from tinygrad_edge.testing import strategies as tst

        def cos(cotangent, x):
            return np.cos(x) * cotangent

        def test_right(gradcheck):
            assert gradcheck(np.sin, np.ones(3), vjp=cos)
            assert gradcheck(np.sin, tst.arrays(tst.shapes(1, 1, 1, 4)), vjp=cos, examples=5)

        def test_wrong(gradcheck):
            gradcheck(np.cos, tst.arrays(tst.shapes(1, 2, 1, 4)), vjp=cos)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*GradientError: gradcheck: the gradient of cos is wrong*"])
    result.stdout.fnmatch_lines(["*argument 0: float32[[]1[]] array(*"])
