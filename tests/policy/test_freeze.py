"""Frozen parameters stay as they are, cost nothing, and change nothing for the others."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.errors import GraphError
from tinygrad_edge.policy import Checkpoint, Default, Freeze

BODY = ("body.*",)
IMAGES = np.random.default_rng(0).standard_normal((8, 3, 12, 12)).astype(np.float32)
LABELS = np.arange(8, dtype=np.int32) % 4


class Net(te.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = te.nn.Sequential(
            te.nn.Conv2d(3, 8, 3), te.nn.BatchNorm2d(8), te.nn.ReLU(), te.nn.Conv2d(8, 8, 3)
        )
        self.head = te.nn.Linear(8 * 8 * 8, 4)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


class Training:
    def __init__(self, policies, by_hand=False, clip=None):
        te.manual_seed(3)
        self.model = Net()
        if by_hand:
            self.model.body.requires_grad_(False)
        self.optimizer = te.optim.Adam(self.model.parameters(), 0.01, max_norm=clip)

        @te.compile(policies=policies)
        def step(x, y):
            loss = te.functional.cross_entropy(self.model(x), y)
            self.optimizer.minimize(loss)
            return loss

        self.step = step

    def train(self, steps=3):
        return [self.step(IMAGES, LABELS).item() for _ in range(steps)]

    def state(self):
        return {name: np.asarray(v).tobytes() for name, v in self.model.state_dict().items()}


@pytest.mark.parametrize("clip", [None, 0.01])
@pytest.mark.parametrize("policies", [[Freeze(BODY)], [Default(), Freeze(BODY), Checkpoint()]])
@pytest.mark.filterwarnings("ignore:.*matches no place")
def test_same_bits_as_without_gradients(policies, clip):
    frozen, by_hand = Training(policies, clip=clip), Training([], by_hand=True, clip=clip)
    before = frozen.state()
    assert frozen.train() == by_hand.train()
    assert frozen.state() == by_hand.state()
    changed = {name for name, bits in frozen.state().items() if bits != before[name]}
    statistics = {f"body.1.{name}" for name in ("running_mean", "running_var")}
    assert changed == {"head.weight", "head.bias", "body.1.num_batches_tracked"} | statistics


def test_what_they_cost_is_gone():
    everything = Training([Default()]).step.plan(IMAGES, LABELS)
    frozen = Training([Default(), Freeze(BODY)]).step.plan(IMAGES, LABELS)
    head = 4 * (4 * 8 * 8 * 8 + 4)
    assert everything.by_kind()["optimizer"] > frozen.by_kind()["optimizer"] == 2 * head + 4
    assert {s.path for s in frozen.saved()} <= {"", "body.3", "head"}
    assert frozen.by_kind()["parameter"] == everything.by_kind()["parameter"]


def test_all_frozen_is_a_step_that_only_looks():
    training = Training([Freeze("*")])
    before = training.state()
    first, second = training.train(2)
    assert first == second
    trained = {n for n, bits in training.state().items() if bits != before[n] and "body.1" not in n}
    assert not trained


def test_an_asked_for_gradient_is_not_silently_zero():
    model = Net()

    @te.compile(policies=[Freeze(BODY)])
    def gradient(x, y):
        te.functional.cross_entropy(model(x), y).backward()
        return model.body[0].weight.grad

    with pytest.raises(GraphError, match="gradient of a frozen parameter"):
        gradient(IMAGES, LABELS)


def test_a_name_that_no_parameter_has_is_reported():
    with pytest.warns(UserWarning, match="Freeze.*matches no parameter"):
        Training([Freeze("backbone.*")]).step.plan(IMAGES, LABELS)


def test_a_derivative_that_is_part_of_the_loss_is_no_gradient_to_leave_out():
    def losses(policies, by_hand):
        te.manual_seed(0)
        model = Net()
        if by_hand:
            model.body.requires_grad_(False)
        optimizer = te.optim.SGD(model.parameters(), 0.1)

        @te.compile(policies=policies)
        def step(x, y):
            def head_of(kernel):
                features = te.functional.conv2d(x, kernel)[:, :, 1:-1, 1:-1]
                return (model.head(features.flatten(1)) ** 2).mean()

            slope = te.grad(head_of)(model.body[0].weight)
            loss = te.functional.cross_entropy(model(x), y) + (slope * slope).sum()
            optimizer.minimize(loss)
            return loss

        return [step(IMAGES, LABELS).item() for _ in range(3)]

    assert losses([Freeze(BODY)], False) == losses([], True)
