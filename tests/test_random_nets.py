"""Drawn networks end to end: native against float64, and one set of bits however a step is run."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import build_here, draw_data, draw_net, exact_and_allowed, loss_of, run
from plan.checker import check

import tinygrad_edge as te
from tinygrad_edge import runtime
from tinygrad_edge.errors import NonFiniteError
from tinygrad_edge.graph import verify
from tinygrad_edge.policy import Checkpoint, Default, Recompute, Store
from tinygrad_edge.runtime import _ffi


@st.composite
def nets(draw):
    return draw_net(lambda options: draw(st.sampled_from(options)))


@pytest.mark.skipif(not _ffi.available(), reason="the native module was not built")
@settings(max_examples=50)
@given(nets())
def test_native_agrees_with_float64(net):
    data = draw_data(net)
    exact, allowed = exact_and_allowed(net, data)
    with runtime.use("native"):
        found = run(net, data.rounded())
    for name, right in exact.items():
        assert found[name].dtype == np.float32
        error = np.abs(found[name] - right).max(initial=0)
        assert error <= allowed[name], f"{name} is off by {error:.3g}, {allowed[name]:.3g} allowed"


class Training:
    """A model with its optimizer, always started alike."""

    def __init__(self, net):
        te.manual_seed(net.seed)
        self.net, self.data = net, draw_data(net).rounded()
        self.model = build_here(net)
        for name, parameter in self.model.named_parameters():
            parameter.assign(self.data.parameters[name])
        self.optimizer = te.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)

    def loss(self, images):
        return loss_of(self.net, self.model(images), self.data)

    def gradients(self, images):
        loss = self.loss(images)
        loss.backward()
        return loss, [p.grad for p in self.model.parameters()]

    def step(self, images):
        loss = self.loss(images)
        self.optimizer.minimize(loss)
        return loss

    def state(self):
        cells = {**self.model.state_dict(), **self.optimizer.state_dict()}
        return {name: np.asarray(cell).tobytes() for name, cell in cells.items()}


@settings(max_examples=30)
@given(nets())
def test_compiled_plain_and_textbook_gradients_have_the_same_bits(net):
    found = []
    for wrap in (lambda f: f, te.compile, lambda f: te.compile(f, policies=[])):
        training = Training(net)
        loss, grads = wrap(training.gradients)(te.Tensor(training.data.images))
        found.append([t.numpy().tobytes() for t in (loss, *grads)])
    assert found[0] == found[1] == found[2]


@settings(max_examples=30)
@given(nets())
def test_compiled_plain_and_textbook_steps_have_the_same_bits(net):
    found = []
    for wrap in (lambda f: f, te.compile, lambda f: te.compile(f, policies=[])):
        training = Training(net)
        step = wrap(training.step)
        losses = [step(te.Tensor(training.data.images)).item() for _ in range(3)]
        found.append((losses, training.state()))
    assert found[0] == found[1] == found[2]


LOSSLESS = (
    Default(),
    Checkpoint(),
    Checkpoint(every=1),
    Checkpoint(at="*.?"),
    Recompute(ops=("batch_norm_apply", "conv2d", "dropout")),
    Recompute(where="?.*"),
    Recompute(max_seconds_per_byte=1e-9),
    Store("bitmask"),
)


@pytest.mark.filterwarnings("ignore:.*matches no")
@settings(max_examples=60)
@given(nets(), st.lists(st.sampled_from(LOSSLESS), min_size=1, max_size=3, unique=True))
def test_lossless_policies_change_no_bit_and_their_plans_hold_every_value(net, policies):
    changes_no_bit(Training, net, policies)


def changes_no_bit(training_of, net, policies):
    """Three steps with policies and without; and the plan's checks.

    A drawn net may diverge; then it does so in the same step, which changes nothing.
    """
    found = []
    for chosen in ([], policies):
        training = training_of(net)
        step = te.compile(training.step, policies=chosen)
        losses = [step(training.data.images).item()]
        with suppress(NonFiniteError):
            losses += (step(training.data.images).item() for _ in range(2))
        found.append((losses, training.state()))
    assert found[0] == found[1]
    plan = step.plan(training.data.images)
    verify(plan.graph)
    check(plan)
    assert sum(plan.by_kind().values()) == plan.peak_bytes
