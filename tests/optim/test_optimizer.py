"""What all optimizers share: names and state, rates, clipping, refusals."""

import copy
import gc
import sys

import numpy as np
import pytest
from optim.bowl import Bowl

import tinygrad_edge as te
from tinygrad_edge import nn, optim, trace
from tinygrad_edge.errors import DataError, GraphError, NonFiniteError

KINDS = {
    "sgd": lambda parameters: optim.SGD(parameters, 0.1),
    "momentum": lambda parameters: optim.SGD(parameters, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda parameters: optim.Adam(parameters, 0.1),
    "adamw": lambda parameters: optim.AdamW(parameters, 0.1),
    "rmsprop": lambda parameters: optim.RMSprop(parameters, 0.1),
    "clipped": lambda parameters: optim.Adam(parameters, 0.1, max_norm=0.5),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def steps(bowl, optimizer, count):
    for _ in range(count):
        bowl().backward()
        optimizer.step()


# ---- state ----


@each_kind
def test_state_goes_to_a_fresh_optimizer_and_training_goes_on_to_the_bit(kind, each_runtime):
    bowl = Bowl()
    optimizer = KINDS[kind](bowl.parameters())
    steps(bowl, optimizer, 3)
    optimizer.lr = 0.025
    weights = {name: p.numpy() for name, p in bowl.state_dict().items()}
    state = {name: np.asarray(a) for name, a in optimizer.state_dict().items()}

    twin = Bowl()
    fresh = KINDS[kind](twin.parameters())
    twin.load_state_dict(weights)
    fresh.load_state_dict(state)
    assert fresh.lr == 0.025
    for name, array in fresh.state_dict().items():
        assert np.asarray(array).tobytes() == state[name].tobytes(), name
    steps(bowl, optimizer, 3)
    steps(twin, fresh, 3)
    assert twin.values().tobytes() == bowl.values().tobytes()


@each_kind
def test_state_of_a_compiled_step_is_restored_in_place(kind):
    bowl = Bowl()
    optimizer = KINDS[kind](bowl.parameters())
    step = te.compile(lambda: optimizer.minimize(bowl()))
    step()
    weights = {name: p.numpy() for name, p in bowl.state_dict().items()}
    state = {name: np.array(a) for name, a in optimizer.state_dict().items()}
    step()
    step()
    expected = bowl.values()
    bowl.load_state_dict(weights)
    optimizer.load_state_dict(state)
    step()
    step()
    assert bowl.values().tobytes() == expected.tobytes()


def test_state_has_names_from_the_start():
    optimizer = optim.Adam(Bowl().parameters(), 0.5, betas=(0.8, 0.9))
    state = optimizer.state_dict()
    moments = ["a.exp_avg", "a.exp_avg_sq", "b.exp_avg", "b.exp_avg_sq"]
    assert list(state) == [*moments, "step", "lr", "weight_decay", "beta1", "beta2", "eps"]
    assert not state["a.exp_avg"].numpy().any() and state["step"].item() == 0
    assert state["beta1"] == 0.8 and state["beta1"].dtype == np.float64
    assert list(optim.SGD(Bowl().parameters(), 0.5).state_dict()) == ["lr", "weight_decay"]


def test_the_limit_of_clipping_is_part_of_the_state():
    bowl, twin = Bowl(), Bowl()
    optimizer, other = (optim.SGD(b.parameters(), 0.1, max_norm=0.3) for b in (bowl, twin))
    step = te.compile(lambda: other.minimize(twin()))
    step()
    twin.load_state_dict(bowl.state_dict())
    optimizer.set_rate("max_norm", 0.01)
    other.load_state_dict(optimizer.state_dict())
    steps(bowl, optimizer, 2)
    step()
    step()
    assert twin.values().tobytes() == bowl.values().tobytes()
    assert other.rate("max_norm") == np.float32(0.01)
    plain = optim.SGD(twin.parameters(), 0.1)
    with pytest.raises(DataError, match="SGD.load_state_dict: unknown max_norm$"):
        plain.load_state_dict(other.state_dict())
    with pytest.raises(DataError, match="SGD.load_state_dict: missing max_norm$"):
        other.load_state_dict(plain.state_dict())


def test_what_is_frozen_has_moments_once_it_is_trained():
    bowl = Bowl()
    bowl.b.requires_grad_(False)
    optimizer = optim.SGD(bowl.parameters(), 0.1, momentum=0.9)
    steps(bowl, optimizer, 1)
    assert list(optimizer.state) == ["a.momentum"] and bowl.b.numpy() == 3
    bowl.b.requires_grad_()
    steps(bowl, optimizer, 1)
    state = optimizer.state_dict()
    assert {"a.momentum", "b.momentum"} <= set(state) and bowl.b.numpy() != 3
    bowl.b.requires_grad_(False)
    fresh = optim.SGD(bowl.parameters(), 0.1, momentum=0.9)
    fresh.load_state_dict(state)
    assert fresh.state_dict()["b.momentum"].numpy() == state["b.momentum"].numpy()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"a.momentum": None}, DataError, "missing a.momentum"),
        ({"lr": None}, DataError, "missing lr"),
        ({"c.momentum": np.zeros(3)}, DataError, "unknown c.momentum"),
        ({"a.momentum": np.zeros(2)}, DataError, r"a.momentum is \[3\], got \[2\]"),
        ({"lr": np.zeros(2)}, DataError, r"lr is \[\], got \[2\]"),
        ({"lr": None, "b.momentum": None}, DataError, "missing lr; missing b.momentum$"),
        ({"lr": np.array(-1.0)}, ValueError, "lr must be finite and not negative, got -1"),
        ({"lr": np.array(np.nan)}, ValueError, "lr must be finite and not negative, got nan"),
    ],
)
def test_state_that_does_not_fit_changes_nothing(changes, error, message):
    optimizer = optim.SGD(Bowl().parameters(), 0.1, momentum=0.9)
    before = {name: np.array(a) for name, a in optimizer.state_dict().items()}
    state = {name: a / 2 + 1 for name, a in before.items()} | changes
    with pytest.raises(error, match=message):
        optimizer.load_state_dict({name: a for name, a in state.items() if a is not None})
    after = optimizer.state_dict()
    assert list(after) == list(before)
    assert all(np.array_equal(np.asarray(after[name]), before[name]) for name in before)


def test_state_of_another_rule_is_refused():
    state = optim.Adam(Bowl().parameters()).state_dict()
    with pytest.raises(DataError, match=r"SGD\.load_state_dict: .*unknown a\.exp_avg; .*beta1"):
        optim.SGD(Bowl().parameters(), 0.1).load_state_dict(state)


def test_parts_of_two_models_share_an_optimizer():
    one, two = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(3, 2))
    optimizer = optim.SGD([*one.parameters(), *two.parameters()], 0.1, momentum=0.9)
    assert list(optimizer.state) == [
        "0.weight.momentum",
        "0.bias.momentum",
        "2.0.weight.momentum",
        "3.0.bias.momentum",
    ]
    (one([[1.0, 2.0]]) + two([[1.0, 2.0, 3.0]])).sum().backward()
    optimizer.step()
    moment = optimizer.state_dict()["2.0.weight.momentum"].numpy()
    assert np.array_equal(moment, np.tile(np.float32([1, 2, 3]), (2, 1)))


def test_a_model_is_copied_with_its_optimizer():
    bowl = Bowl()
    optimizer = optim.Adam(bowl.parameters(), 0.1)
    steps(bowl, optimizer, 2)
    twin, twins = copy.deepcopy((bowl, optimizer))
    steps(bowl, optimizer, 2)
    before = bowl.values()
    steps(twin, twins, 2)
    assert np.array_equal(twin.values(), before) and np.array_equal(bowl.values(), before)


# ---- rates ----


@each_kind
def test_changing_a_rate_never_plans_again(kind, monkeypatch):
    planned = []
    original = trace.make_plan
    monkeypatch.setattr(trace, "make_plan", lambda *args: planned.append(1) or original(*args))
    trace._plans.clear()
    bowl = Bowl()
    optimizer = KINDS[kind](bowl.parameters())
    recorded = te.compile(lambda: optimizer.minimize(bowl()))
    steps(bowl, optimizer, 1)
    recorded()
    count = len(planned)
    assert count == 1
    plan = recorded.plan()
    for lr in (0.5, 0.0, 1e-30):
        before = bowl.values()
        for rate in optimizer.rates:
            optimizer.set_rate(rate, lr or (1.0 if rate == "max_norm" else 0.0))
        steps(bowl, optimizer, 1)
        recorded()
        assert (lr == 0) == np.array_equal(bowl.values(), before) or lr == 1e-30
    assert len(planned) == count and recorded.plan() is plan


def test_a_rate_keeps_its_decimal_value():
    optimizer = optim.SGD(Bowl().parameters(), 0.1)
    assert optimizer.lr == 0.1 and optimizer.rate("weight_decay") == 0
    optimizer.lr = 1 / 3
    assert optimizer.lr == 1 / 3
    assert repr(optimizer) == "SGD(lr=0.333333, weight_decay=0)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD(p, -0.1), "SGD: lr must be finite and not negative, got -0.1"),
        (lambda p: optim.SGD(p, float("nan")), "SGD: lr must be finite"),
        (lambda p: optim.SGD(p, float("inf")), "SGD: lr must be finite"),
        (lambda p: optim.SGD(p, 0.1, momentum=-1), "SGD: momentum must be finite"),
        (lambda p: optim.SGD(p, 0.1, nesterov=True), "SGD: nesterov needs a momentum"),
        (lambda p: optim.SGD(p, 0.1, max_norm=0), "SGD: max_norm must be positive, got 0"),
        (lambda p: optim.Adam(p, betas=(1.0, 0.9)), "Adam: beta1 must be below 1.0, got 1.0"),
        (lambda p: optim.AdamW(p, betas=(0.9, 1.5)), "AdamW: beta2 must be below 1.0, got 1.5"),
        (lambda p: optim.RMSprop(p, alpha=1.0), "RMSprop: alpha must be below 1.0, got 1.0"),
        (lambda p: optim.Adam([]), "Adam: there are no parameters to optimize"),
        (lambda p: optim.SGD([p[0], p[0]], 0.1), "SGD: 'a' is given twice"),
        (lambda p: setattr(optim.SGD(p, 0.1), "lr", -1), "SGD: lr must be finite"),
    ],
)
def test_impossible_optimizers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(list(Bowl().parameters()))


def test_only_parameters_are_optimized():
    with pytest.raises(TypeError, match="SGD: expected parameters, got Tensor"):
        optim.SGD([te.Tensor([1.0], requires_grad=True)], 0.1)


# ---- a step ----


def test_a_step_needs_gradients():
    bowl = Bowl()
    optimizer = optim.SGD(bowl.parameters(), 0.1)
    with pytest.raises(GraphError, match=r"SGD\.step: no parameter has a gradient"):
        optimizer.step()
    with pytest.raises(GraphError, match="depends on no parameter that requires a gradient"):
        optimizer.minimize(te.Tensor(1.0))


@each_kind
def test_a_parameter_without_gradient_stays(kind, each_runtime):
    bowl = Bowl()
    optimizer = KINDS[kind](bowl.parameters())
    (bowl.a * bowl.a).sum().backward()
    optimizer.step()
    assert bowl.b.numpy() == 3 and not np.array_equal(bowl.a.numpy(), Bowl.START["a"])


@each_kind
def test_a_loss_that_is_not_finite_changes_nothing(kind, each_runtime):
    bowl = Bowl()
    optimizer = KINDS[kind](bowl.parameters())
    steps(bowl, optimizer, 1)
    weights = bowl.values()
    state = {name: np.array(a) for name, a in optimizer.state_dict().items()}
    with pytest.raises(NonFiniteError):
        (bowl() * float("inf")).backward()
        optim.clip_grad_norm(bowl.parameters(), 1.0)
        optimizer.step()
    assert np.array_equal(bowl.values(), weights)
    after = optimizer.state_dict()
    assert all(np.array_equal(np.asarray(after[name]), state[name]) for name in state)


def test_gradients_accumulate_over_backward_calls(each_runtime):
    one, two = Bowl(), Bowl()
    optimizer = optim.SGD(one.parameters(), 0.1)
    one().backward()
    one().backward()
    optimizer.step()
    optim.SGD(two.parameters(), 0.1).minimize(two() * 2.0)
    np.testing.assert_allclose(one.values(), two.values(), rtol=1e-6)


# ---- clipping ----


def test_clipping_scales_all_gradients_by_one_number(each_runtime):
    bowl = Bowl()
    bowl().backward()
    before = np.concatenate([p.grad.numpy() for p in bowl.parameters()])
    norm = optim.clip_grad_norm(bowl.parameters(), 2.0)
    after = np.concatenate([p.grad.numpy() for p in bowl.parameters()])
    expected = np.linalg.norm(before.astype(np.float64))
    np.testing.assert_allclose(norm.item(), expected, rtol=1e-6)
    np.testing.assert_allclose(after, before * (2.0 / (expected + 1e-6)), rtol=1e-6)
    optim.clip_grad_norm(bowl.parameters(), 100.0)
    assert np.array_equal(np.concatenate([p.grad.numpy() for p in bowl.parameters()]), after)


def test_clipping_needs_gradients_and_a_positive_norm():
    bowl = Bowl()
    with pytest.raises(GraphError, match="clip_grad_norm: no parameter has a gradient"):
        optim.clip_grad_norm(bowl.parameters(), 1.0)
    with pytest.raises(ValueError, match="max_norm must be positive, got 0"):
        optim.clip_grad_norm(bowl.parameters(), 0)


def test_clipping_of_zero_gradients_gives_zeros(each_runtime):
    bowl = Bowl()
    optimizer = optim.SGD(bowl.parameters(), 0.1, max_norm=1.0)
    before = bowl.values()
    optimizer.minimize(bowl() * 0.0)
    assert np.array_equal(bowl.values(), before)


# ---- memory ----


@each_kind
def test_a_loop_that_reads_nothing_stays_flat(kind):
    """One block of memory kept a step would be 500 here, and 10,000 after 10,000 steps."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    optimizer = KINDS[kind](model.parameters())
    schedule = optim.CosineAnnealingLR(optimizer, 1000)
    x, y = np.ones((3, 1, 4, 4), np.float32), np.array([0, 1, 0], np.int32)

    def blocks_after(count):
        for _ in range(count):
            te.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
        gc.collect()
        return sys.getallocatedblocks()

    blocks_after(20)
    before = blocks_after(20)
    assert blocks_after(500) - before < 100


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    "follow",
    [lambda optimizer, loss: optimizer.minimize(loss), lambda optimizer, loss: loss.backward()],
    ids=["minimize", "backward"],
)
def test_no_gradient_is_taken_of_parameters_as_they_were_before_an_update(follow, both):
    """It would have been silently zero or, where a loss reads both versions, twice too large."""
    layer = te.nn.Linear(3, 1)
    optimizer = te.optim.SGD(layer.parameters(), 0.1)

    @te.compile(policies=[])
    def step(x):
        first, second = (layer(x) ** 2).mean(), layer(x).mean()
        optimizer.minimize(first)
        if both:
            second = second + layer(x).mean()
        follow(optimizer, second)
        return second

    with pytest.raises(GraphError, match="has been updated since the loss was computed"):
        step(np.ones((2, 3), np.float32))
