"""gradcheck finds what is wrong, says where, and is not fooled by kinks."""

import doctest
import subprocess
import sys

import numpy as np
import pytest

import tinygrad_edge as te
import tinygrad_edge.functional as F
from tinygrad_edge import runtime
from tinygrad_edge.errors import DataError, DTypeError, GradientError, ShapeError
from tinygrad_edge.testing import functional_call, gradcheck


def normal(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape)


def half_gradient(x):
    """A square whose gradient forgets one of its two factors."""
    return x * x.detach()


def half_gradient_of_last(x):
    flat = x.reshape(-1)
    return F.concatenate([flat[:-1] * flat[:-1], half_gradient(flat[-1:])])


# ---- right gradients ----


def test_outputs_of_any_shape_pass():
    x, w = normal(3, 4), normal(4, 2)
    for function in (te.Tensor.__matmul__, lambda x, w: (x @ w).sum(), lambda x, w: (x @ w)[None]):
        assert gradcheck(function, x, w) is True


def test_several_outputs_pass_and_positions_are_left_out():
    assert gradcheck(lambda x: x.topk(2), normal(3, 5))
    assert gradcheck(lambda x: [x.exp(), x.argmax(), x * 2], normal(4))


def test_integers_are_passed_on():
    assert gradcheck(F.cross_entropy, normal(3, 4), np.array([1, 0, 3]))


def test_unused_and_empty_arguments_have_zero_gradients():
    assert gradcheck(lambda x, y: x * 3 + y.sum(), normal(3), np.ones((2, 0)))
    assert gradcheck(lambda x, y: x, normal(3), normal(2))


def test_second_derivatives_pass():
    assert gradcheck(te.grad(lambda x, y: (x * x * y).sum(), argnums=(0, 1)), normal(3), normal(3))
    assert gradcheck(te.grad(te.grad(lambda x: (x.exp() * x).sum())), 0.5)


def test_large_arguments_pass():
    assert gradcheck(lambda x: (x @ x.T).tanh(), normal(40, 60))


def test_nothing_of_the_caller_changes():
    x = te.Tensor([1.0, 2.0], requires_grad=True)
    weight = te.Tensor([3.0], requires_grad=True)
    array = np.zeros(3)
    pending = x * 2.0
    before = runtime.current()
    assert gradcheck(lambda a: (a * weight).relu(), array)
    assert runtime.current() is before
    assert (array == 0).all()
    assert weight.grad is None
    assert pending.numpy().dtype == np.float32


# ---- wrong gradients ----


def test_a_wrong_gradient_names_its_worst_element():
    x = np.array([[0.5, 1.0], [3.0, -2.0]])
    with pytest.raises(GradientError) as caught:
        gradcheck(half_gradient, x)
    message = str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert "the gradient of half_gradient is wrong in 4 of 4 directions" in message
    assert "argument 0 of [2, 2] at [" in message
    analytic, numeric = (float(line.split()[1].strip(",")) for line in message.splitlines()[2:4])
    assert numeric == pytest.approx(2 * analytic)


def test_one_wrong_element_of_a_large_argument_is_found():
    with pytest.raises(GradientError, match=r"argument 0 of \[50, 60\] at \[49, 59\]"):
        gradcheck(half_gradient_of_last, normal(50, 60) + 3)


def test_equal_and_opposite_errors_do_not_cancel():
    def swapped(x):
        right = x * np.array([1.0, 2.0, *np.ones(98)])
        wrong = x * np.array([2.0, 1.0, *np.ones(98)])
        return right.detach() + wrong - wrong.detach()

    with pytest.raises(GradientError, match=r"argument 0 of \[100\] at \[[01]\]"):
        gradcheck(swapped, normal(100))


def test_argnums_restrict_the_check():
    def function(x, y):
        return half_gradient(x) * y

    assert gradcheck(function, normal(3), normal(3), argnums=1)
    with pytest.raises(GradientError, match="argument 0"):
        gradcheck(function, normal(3), normal(3), argnums=(1, 0))


def test_a_wrong_second_derivative_is_found():
    with pytest.raises(GradientError, match="wrong"):
        gradcheck(te.grad(lambda x: (x * half_gradient(x)).sum()), normal(3))


def test_large_values_leave_zero_gradients_their_rounding():
    assert gradcheck(lambda x, y: x * 0.0 + y, normal(3), normal(3) * 1e8)


# ---- kinks ----


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (F.relu, (5,)),
        (abs, ()),
        (F.relu6, (100, 100)),
        (lambda x: F.concatenate([F.relu(x), F.relu(-x) * 2.0]), (3,)),
        (lambda x: F.max_pool2d(x, 2), (1, 2, 4, 4)),
        (lambda x: F.max_pool2d(x, 3, stride=2, padding=1), (2, 3, 60, 60)),
        (lambda x: x.max(axis=1), (4, 5)),
        (lambda x: F.clip(x, 0.0, 1.0), (4,)),
        (te.grad(lambda x: F.relu(x).sum()), (4,)),
    ],
    ids=str,
)
def test_kinks_are_no_errors(function, shape):
    assert gradcheck(function, np.zeros(shape))


def test_a_wrong_gradient_beside_a_kink_is_found():
    with pytest.raises(GradientError, match="wrong in"):
        gradcheck(lambda x: F.relu(x) + half_gradient(x), np.array([0.0, 1.0]))


def test_what_has_jumps_everywhere_is_said_to():
    def saw(x):
        teeth = x * np.array([1.23e9, 0.987e9, 0.777e9, 1.618e9])
        return x + (teeth - teeth.astype("int32")).detach() * 1e-4

    with pytest.raises(GradientError, match="at a kink or a jump, even moved"):
        gradcheck(saw, np.array([0.7]))


# ---- what cannot be checked ----


def test_randomness_is_noticed():
    with pytest.raises(GradientError, match="other values for the same arguments"):
        gradcheck(F.dropout, np.ones(20))
    assert gradcheck(lambda x: F.dropout(x, generator=te.Generator(0)), np.ones(20))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(GradientError, match=r"a value of log is -?inf"):
        gradcheck(F.log, np.zeros(2))
    with pytest.raises(GradientError, match=r"a gradient of sqrt is -?inf"):
        gradcheck(F.sqrt, np.zeros(2))
    with pytest.raises(GradientError, match=r"a value beside argument 0 of \[1\] at \[0\], where"):
        gradcheck(F.log, np.array([1e-6]))


def test_what_is_no_float_is_refused():
    with pytest.raises(DTypeError, match=r"must give tensors of floats, got Tensor\(1, int32\)"):
        gradcheck(lambda x: x.argmax(), np.arange(2.0))
    with pytest.raises(DTypeError, match="given no float"):
        gradcheck(lambda x: x, np.arange(3))


def test_float32_inside_is_refused_with_its_line():
    with pytest.raises(DTypeError, match=r"to float32 \(cast; .*test_gradcheck.py:\d+"):
        gradcheck(lambda x: x.astype("float32").astype("float64"), normal(2))


# ---- modules ----


class Scaled(te.nn.Module):
    """A linear layer used twice, and a weight whose gradient is wrong on request."""

    def __init__(self, wrong=False):
        super().__init__()
        self.first = te.nn.Linear(3, 3)
        self.second = self.first
        self.bias = te.nn.parameter((3,), lambda: np.ones(3, np.float32))
        self.wrong = wrong

    def forward(self, x):
        scale = half_gradient(self.bias) if self.wrong else self.bias * self.bias
        return self.second(self.first(x)).tanh() * scale


def test_a_module_is_checked_by_its_parameters_too():
    module = Scaled()
    before = {name: p.numpy() for name, p in module.named_parameters()}
    assert gradcheck(module, normal(4, 3))
    assert module.first.weight is module.second.weight
    for name, parameter in module.named_parameters():
        assert parameter.grad is None
        assert parameter.numpy().tobytes() == before[name].tobytes()


def test_a_wrong_parameter_is_named():
    with pytest.raises(GradientError, match=r"Scaled is wrong.*\n  parameter 'bias' of \[3\]"):
        gradcheck(Scaled(wrong=True), normal(4, 3))


def test_functional_call_takes_some_parameters_and_restores_them():
    layer = te.nn.Linear(2, 1)
    weight = layer.weight
    out = functional_call(layer, {"bias": [10.0]}, [[0.0, 0.0]])
    assert out.tolist() == [[10.0]]
    with pytest.raises(ShapeError, match=r"'weight' is \[1, 2\], got \[2\]"):
        functional_call(layer, {"weight": [1.0, 1.0]}, [[0.0, 0.0]])
    with pytest.raises(DataError, match="no parameter 'wieght'; there are weight, bias"):
        functional_call(layer, {"wieght": [[1.0, 1.0]]}, [[0.0, 0.0]])
    with pytest.raises(ShapeError):
        functional_call(layer, {"weight": [[1.0, 1.0]]}, [[0.0]])
    assert layer.weight is weight


# ---- the package ----


def test_only_the_strategies_need_hypothesis():
    program = "import sys, tinygrad_edge; sys.exit('hypothesis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("name", ["gradcheck", "functional_call", "strategies"])
def test_examples_run(name):
    __import__(f"tinygrad_edge.testing.{name}")
    done = doctest.testmod(sys.modules[f"tinygrad_edge.testing.{name}"])
    assert done.attempted > 0
    assert done.failed == 0
