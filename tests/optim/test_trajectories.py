"""Optimizers against the textbook's formulas in float64, and against what PyTorch 2.13 gave."""

import numpy as np
import pytest
from optim.bowl import Bowl

import tinygrad_edge as te
from tinygrad_edge import optim

# Optimizer, its options, and the parameters that PyTorch's had after ten steps (float32, CPU).
TABLE = {
    "sgd": (
        optim.SGD,
        {"lr": 0.1},
        [0.783569038, -0.999071777, -0.452224255, 2.0768075],
    ),
    "sgd with decay": (
        optim.SGD,
        {"lr": 0.1, "weight_decay": 0.05},
        [0.764985323, -0.956057131, -0.449067086, 1.99354029],
    ),
    "momentum": (
        optim.SGD,
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
        [1.01769805, -0.768467367, -1.26966059, 1.25019324],
    ),
    "nesterov": (
        optim.SGD,
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
        [1.02749348, -0.695248604, -0.752711892, 1.09379292],
    ),
    "adam": (
        optim.Adam,
        {"lr": 0.1},
        [1.13411987, -0.457278281, 1.21017683, 2.20898938],
    ),
    "adam with all": (
        optim.Adam,
        {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
        [1.01066875, -0.468884885, 1.21506691, 2.21347594],
    ),
    "adamw": (
        optim.AdamW,
        {"lr": 0.1},
        [1.13007295, -0.450237542, 1.19729924, 2.18822598],
    ),
    "adamw with all": (
        optim.AdamW,
        {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.5},
        [0.919689238, -0.176766261, 0.687595606, 1.35927653],
    ),
    "rmsprop": (
        optim.RMSprop,
        {"lr": 0.05},
        [1.0, 0.600183368, 0.270331711, 1.22197461],
    ),
    "rmsprop with all": (
        optim.RMSprop,
        {"lr": 0.05, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1},
        [0.897721529, -0.561877489, 1.30418396, 2.30013394],
    ),
    "clipped": (  # torch.nn.utils.clip_grad_norm_(parameters, 1.5)
        optim.SGD,
        {"lr": 0.3, "momentum": 0.5, "max_norm": 1.5},
        [1.0153501, -0.515219986, -0.49460271, 0.822464228],
    ),
}
STEPS, HALVED_AT = 10, 6


def textbook(
    kind,
    lr,
    momentum=0.0,
    nesterov=False,
    betas=(0.9, 0.999),
    eps=1e-8,
    alpha=0.99,
    weight_decay=None,
    max_norm=None,
):
    """The rules as their papers state them."""
    p, curvature, target = (
        np.concatenate([np.float64(numbers) for numbers in each.values()])
        for each in (Bowl.START, Bowl.CURVATURE, Bowl.TARGET)
    )
    m, v = np.zeros(4), np.zeros(4)
    if weight_decay is None:
        weight_decay = 0.01 if kind is optim.AdamW else 0.0
    for t in range(1, STEPS + 1):
        rate = lr if t <= HALVED_AT else lr / 2
        g = curvature * (p - target)
        if max_norm is not None:
            g = g * min(1, max_norm / np.linalg.norm(g))
        if kind is optim.AdamW:
            p = p - rate * weight_decay * p
        else:
            g = g + weight_decay * p
        if kind is optim.SGD:
            m = momentum * m + g
            p = p - rate * (g + momentum * m if nesterov else m)
        elif kind is optim.RMSprop:
            v = alpha * v + (1 - alpha) * g**2
            p = p - rate * g / (np.sqrt(v) + eps)
        else:
            m = betas[0] * m + (1 - betas[0]) * g
            v = betas[1] * v + (1 - betas[1]) * g**2
            unbiased = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
            p = p - rate * unbiased[0] / (np.sqrt(unbiased[1]) + eps)
    return p


def train(kind, options, step_of):
    bowl = Bowl()
    optimizer = kind(bowl.parameters(), **options)
    step = step_of(bowl, optimizer)
    for t in range(STEPS):
        if t == HALVED_AT:
            optimizer.lr *= 0.5
        step()
    return bowl.values()


def in_a_loop(bowl, optimizer):
    def step():
        bowl().backward()
        optimizer.step()

    return step


def minimised(bowl, optimizer):
    return lambda: optimizer.minimize(bowl())


def compiled(bowl, optimizer):
    return te.compile(minimised(bowl, optimizer))


@pytest.mark.parametrize("name", TABLE)
def test_trajectory(name, each_runtime):
    kind, options, pytorch = TABLE[name]
    found = train(kind, options, in_a_loop)
    # Ten steps of a dozen roundings each; RMSprop's first step divides by a tenth of |g|.
    np.testing.assert_allclose(found, textbook(kind, **options), rtol=4e-6, atol=2e-6)
    np.testing.assert_allclose(found, np.float32(pytorch), rtol=4e-6, atol=2e-6)


@pytest.mark.parametrize("name", TABLE)
def test_loop_and_compiled_step_agree_to_the_bit(name, each_runtime):
    kind, options, _ = TABLE[name]
    expected = train(kind, options, in_a_loop).tobytes()
    assert train(kind, options, minimised).tobytes() == expected
    assert train(kind, options, compiled).tobytes() == expected


def test_clipping_by_function_and_by_optimizer_agree_to_the_bit(each_runtime):
    def clipping(bowl, optimizer):
        def step():
            bowl().backward()
            optim.clip_grad_norm(bowl.parameters(), 1.5)
            optimizer.step()

        return step

    kind, options, _ = TABLE["clipped"]
    plain = {name: option for name, option in options.items() if name != "max_norm"}
    expected = train(kind, options, in_a_loop).tobytes()
    assert train(kind, plain, clipping).tobytes() == expected
