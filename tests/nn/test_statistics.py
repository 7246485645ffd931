"""Running statistics and dropout: what training changes besides parameters, and when."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge import nn, trace
from tinygrad_edge.errors import DataError, NonFiniteError, ShapeError


class Tracked:
    """The textbook's running statistics, in float64."""

    def __init__(self, channels, momentum):
        self.mean, self.var, self.momentum = np.zeros(channels), np.ones(channels), momentum

    def see(self, x):
        x = x.astype(np.float64)
        m = self.momentum
        self.mean = (1 - m) * self.mean + m * x.mean((0, 2, 3))
        self.var = (1 - m) * self.var + m * x.var((0, 2, 3), ddof=1)


def batches(count):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((4, 3, 2, 2)) * 2 + 1).astype(np.float32) for _ in range(count)]


def assert_tracks(norm, expected, count):
    np.testing.assert_allclose(norm.running_mean.numpy(), expected.mean, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(norm.running_var.numpy(), expected.var, rtol=2e-6)
    assert norm.num_batches_tracked.item() == count


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0, 0.0])
def test_statistics_follow_the_batches(momentum, each_runtime):
    norm, expected = nn.BatchNorm2d(3, momentum=momentum), Tracked(3, momentum)
    for i, x in enumerate(batches(5)):
        norm(x)
        expected.see(x)
        assert_tracks(norm, expected, i + 1)


@pytest.mark.parametrize("when", ["never", "loss first", "statistics first", "held", "twice"])
def test_each_forward_counts_once(when, each_runtime):
    """However a step is read, its batch enters the statistics one time."""
    norm, head = nn.BatchNorm2d(3), nn.Linear(12, 2)
    model = nn.Sequential(norm, nn.Flatten(), head)
    optimizer = te.optim.SGD(model.parameters(), 0.1)
    expected = Tracked(3, 0.1)
    held = []
    for x in batches(4):
        expected.see(x)
        y = model(x)
        loss = te.functional.cross_entropy(y, [0, 1, 0, 1])
        if when == "loss first":
            loss.item()
        if when == "statistics first":
            norm.running_mean.numpy()
        loss.backward()
        if when == "twice":
            loss.item()
            y.numpy()
            assert norm.weight.grad.numpy().any()
        if when == "held":
            held.append((y, loss))
        optimizer.step()
    assert_tracks(norm, expected, 4)


def test_forwards_that_nothing_reads_count_too(each_runtime):
    norm, expected = nn.BatchNorm2d(3), Tracked(3, 0.1)
    for x in batches(3):
        norm(x)
        with te.no_grad():
            norm(x)
        expected.see(x)
        expected.see(x)
    assert_tracks(norm, expected, 6)


def test_a_loop_that_only_adapts_statistics_stays_flat():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3))
    for x in batches(40):
        model(x)
        assert len(trace.current().effects) <= 9 * 6  # of two layers, three a forward
    assert model[1].num_batches_tracked.item() == model[3].num_batches_tracked.item() == 40


def test_many_forwards_before_one_backward_train_as_a_compiled_step():
    def run(compiled):
        te.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 1, 1))
        optimizer = te.optim.SGD(model.parameters(), 0.1)

        def step(*several):
            optimizer.minimize(sum(model(x).mean() for x in several))

        step = te.compile(step) if compiled else step
        step(*batches(20))
        return [p.numpy().tobytes() for p in model.state_dict().values()]

    assert run(True) == run(False)


def test_a_layer_used_twice_in_a_step_counts_twice(each_runtime):
    norm, expected = nn.BatchNorm2d(3), Tracked(3, 0.1)
    one, two = batches(2)
    optimizer = te.optim.SGD(norm.parameters(), 0.1)

    @te.compile
    def step(x, z):
        loss = (norm(x) * norm(z)).sum()
        optimizer.minimize(loss)
        return loss

    for x, z in ((one, two), (two, one)):
        step(x, z)
        expected.see(x)
        expected.see(z)
    assert_tracks(norm, expected, 4)


def test_a_compiled_step_tracks_as_a_loop_does(each_runtime):
    def run(compiled):
        te.manual_seed(0)
        model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
        optimizer = te.optim.SGD(model.parameters(), 0.1)

        def step(x):
            optimizer.minimize(te.functional.cross_entropy(model(x), [0, 1, 0, 1]))

        step = te.compile(step) if compiled else step
        for x in batches(3):
            step(x)
        return [p.numpy().tobytes() for p in model.state_dict().values()]

    assert run(True) == run(False)


def test_evaluation_changes_nothing(each_runtime):
    norm = nn.BatchNorm2d(3)
    for x in batches(2):
        norm(x)
    before = {name: p.numpy() for name, p in norm.state_dict().items()}
    norm.eval()
    for x in batches(2):
        norm(x).sum().backward()
    after = {name: p.numpy() for name, p in norm.state_dict().items()}
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_failed_step_leaves_the_statistics(each_runtime):
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    optimizer = te.optim.SGD(model.parameters(), 0.1)
    x, _ = batches(2)
    before = [p.numpy() for p in model.state_dict().values()]
    for images, labels, error in (
        (x, [0, 1, 2, 0], DataError),
        (np.full_like(x, np.inf), [0, 1, 0, 1], NonFiniteError),
    ):
        with pytest.raises(error):
            loss = te.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        after = [p.numpy() for p in model.state_dict().values()]
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_one_value_a_channel_cannot_train():
    model = nn.Sequential(nn.BatchNorm2d(3))
    x = np.zeros((1, 3, 1, 1), np.float32)
    with pytest.raises(ShapeError, match=r"^BatchNorm2d '0': training needs two values a channel"):
        model(x)
    assert model.eval()(x).shape == (1, 3, 1, 1)


# ---- dropout ----


def test_dropout_only_in_training(each_runtime):
    te.manual_seed(0)
    layer, x = nn.Dropout(0.25), np.ones((64, 100), np.float32)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    # 6400 draws: the share of zeros is off by 5 standard errors once in a million times.
    assert abs((y == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / y.size)
    assert not np.array_equal(layer(x).numpy(), y)
    assert np.array_equal(layer.eval()(x).numpy(), x)


@pytest.mark.parametrize(("p", "expected"), [(0.0, 1), (1.0, 0)])
def test_dropout_of_nothing_and_of_all(p, expected, each_runtime):
    assert np.array_equal(nn.Dropout(p)(np.ones((3, 4))).numpy(), np.full((3, 4), expected))
