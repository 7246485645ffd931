"""Optimizer updates against the same formulas in NumPy's float32: equal to the bit."""

import numpy as np
import pytest
from kernels.kernel_call import call
from kernels.samples import normal, same_for_any_threads, same_numbers

F = np.float32


def sgd(p, g, lr, decay):
    return (p - F(lr) * (g + F(decay) * p),)


def momentum(p, g, m, lr, decay, momentum, nesterov=False):
    g = g + F(decay) * p
    m = F(momentum) * m + g
    return p - F(lr) * (g + F(momentum) * m if nesterov else m), m


def nesterov(*arguments):
    return momentum(*arguments, nesterov=True)


def adam(p, g, m, v, lr, decay, beta1, beta2, eps, step=3, decoupled=False):
    """Kingma & Ba 2015, algorithm 1; the corrections of the bias are made on float64 numbers."""
    if decoupled:
        p = p - F(lr * decay) * p
    else:
        g = g + F(decay) * p
    m = F(beta1) * m + F(1 - beta1) * g
    v = F(beta2) * v + F(1 - beta2) * (g * g)
    rate, root = F(lr / (1 - beta1**step)), F(1 / np.sqrt(1 - beta2**step))
    return p - rate * m / (np.sqrt(v) * root + F(eps)), m, v


def adamw(*arguments):
    return adam(*arguments, decoupled=True)


def rmsprop(p, g, s, lr, decay, alpha, eps):
    g = g + F(decay) * p
    s = F(alpha) * s + F(1 - alpha) * (g * g)
    return p - F(lr) * g / (np.sqrt(s) + F(eps)), s


RULES = {  # kernel, formula, number of moments, hyper, flags
    "sgd": ("sgd_f32", sgd, 0, (0.1, 1e-4), {}),
    "momentum": ("sgd_momentum_f32", momentum, 1, (0.1, 1e-4, 0.9), {}),
    "nesterov": ("sgd_momentum_f32", nesterov, 1, (0.1, 1e-4, 0.9), {"nesterov": 1}),
    "adam": ("adam_f32", adam, 2, (1e-3, 1e-2, 0.9, 0.999, 1e-8), {}),
    "adamw": ("adam_f32", adamw, 2, (1e-3, 1e-2, 0.9, 0.999, 1e-8), {"decoupled": 1}),
    "rmsprop": ("rmsprop_f32", rmsprop, 1, (1e-2, 1e-4, 0.99, 1e-8), {}),
}


def arrays(rule, count):
    """Parameter, gradient and moments; second moments are not negative."""
    moments = [np.abs(normal(count, i + 2)) for i in range(RULES[rule][2])]
    return [normal(count), normal(count, 1), *moments]


def update(rule, count, in_place=False):
    """Run one kernel: the new parameter and moments."""
    kernel, _, moments, hyper, flags = RULES[rule]
    inputs = [*arrays(rule, count), np.float64(hyper)]
    if kernel == "adam_f32":
        inputs.append(np.int32([3]))
    outputs = [((count,), np.float32)] * (1 + moments)
    same = {0: 0, **{i: i + 1 for i in range(1, 1 + moments)}} if in_place else None
    fields = {"count": count, **flags}
    status, results = call(kernel, "tge_update_params", fields, outputs, inputs, in_place=same)
    assert status == 0
    return results


@pytest.mark.parametrize("done", [0, 16])
@pytest.mark.parametrize("count", [0, 1, 33, 100_003])
def test_momentum_takes_up_one_gradient_after_the_other(isa, count, done):
    p, g, m = arrays("momentum", count)
    lr, decay, share = RULES["momentum"][3]
    expected = m + g if done else F(share) * m + (g + F(decay) * p)
    inputs = [m, g, p, np.float64([lr, decay, share]), np.int32([done])]
    output = [((count,), np.float32)]
    for same in (None, {0: 0}):
        status, (found,) = call(
            *("sgd_momentum_accumulate_f32", "tge_update_params", {"count": count}),
            *(output, inputs),
            in_place=same,
        )
        assert status == 0 and same_numbers(found, expected)
    status, (found,) = call(
        *("sgd_momentum_step_f32", "tge_update_params", {"count": count}),
        *(output, [p, m, np.float64([lr, decay, share])]),
    )
    assert status == 0 and same_numbers(found, p - F(lr) * m)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3, 16, 33, 100_003])
@pytest.mark.parametrize("rule", RULES)
def test_update(isa, rule, count, in_place):
    _, formula, _, hyper, _ = RULES[rule]
    expected = formula(*arrays(rule, count), *hyper)
    for result, exact in zip(update(rule, count, in_place), expected, strict=True):
        assert same_numbers(result, exact)


@pytest.mark.parametrize("rule", RULES)
def test_update_bits_are_the_same_for_any_threads(isa, threads, rule):
    assert same_for_any_threads(threads, lambda: update(rule, 100_003))
