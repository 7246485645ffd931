"""A step that fails has changed nothing, however early a policy places its updates."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge.errors import DataError, NonFiniteError
from tinygrad_edge.policy import Checkpoint, Default, Store

X = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
Y = np.arange(4, dtype=np.int32)


@pytest.mark.parametrize(
    "policies",
    [[], [Default()], [Default(), Checkpoint()], [Default(), Store("float16")], [Store("int8")]],
    ids=repr,
)
@pytest.mark.parametrize(
    "x, y, error", [(X, Y + 7, DataError), (X * np.nan, Y, NonFiniteError)], ids=["label", "nan"]
)
def test_cells_stay_as_they_are(policies, x, y, error):
    model = te.models.cnn(num_classes=10)
    optimizer = te.optim.Adam(model.parameters(), 0.1)

    @te.compile(policies=policies)
    def step(x, y):
        loss = te.functional.cross_entropy(model(x), y)
        optimizer.minimize(loss)
        return loss

    def state():
        cells = {**model.state_dict(), **optimizer.state_dict()}
        return {name: np.asarray(cell).tobytes() for name, cell in cells.items()}

    step(X, Y)
    before = state()
    with pytest.raises(error):
        step(x, y)
    assert state() == before
    step(X, Y)
    assert state() != before


@pytest.mark.parametrize("policies", [[], [Default()]], ids=repr)
def test_a_stored_value_is_checked_before_anything_is_assigned(policies):
    """Also one that comes after the last check of the step, and after the update of another."""
    norm, layer = te.nn.BatchNorm2d(3), te.nn.Conv2d(3, 2, 5)
    optimizer = te.optim.SGD(norm.parameters(), 0.1)

    @te.compile(policies=[*policies, Store("float16")])
    def step(x, y, scale):
        optimizer.minimize(norm(x).tanh().mean())
        (layer(y).tanh() * scale).tanh().sum().backward()
        (layer(y) * scale).exp().tanh().sum().backward()
        return [p.grad for p in layer.parameters()]

    def state():
        return {name: np.asarray(cell).tobytes() for name, cell in norm.state_dict().items()}

    step(X, X, 1.0)
    before = state()
    with pytest.raises(NonFiniteError, match="stored as float16"):
        step(X, X, 1e6)
    assert state() == before


def test_an_update_before_the_failing_check_is_made_once_and_said_to_stay():
    layer = te.nn.Linear(3, 1, bias=False)
    optimizer = te.optim.SGD(layer.parameters(), 1.0)

    @te.compile
    def step(x, scale):
        optimizer.minimize(layer(x).mean())
        optimizer.minimize((layer(x) * scale * scale).mean())

    before = layer.weight.numpy().copy()
    with pytest.raises(NonFiniteError, match="had updated before this check stays updated"):
        step(np.ones((2, 3), np.float32), 3e38)
    np.testing.assert_allclose(layer.weight.numpy(), before - 1.0, rtol=1e-6)
