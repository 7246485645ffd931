"""The lazy engine: when things run, how often, and what is kept."""

import gc
import weakref

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge import runtime, trace
from tinygrad_edge.errors import DataError, GraphError, NonFiniteError, ShapeError

F = te.functional


class Net(te.nn.Module):
    """Two linear layers with dropout between, on 6 features and 3 classes."""

    def __init__(self, p=0.3):
        super().__init__()
        self.first, self.second, self.p = te.nn.Linear(6, 8), te.nn.Linear(8, 3), p

    def forward(self, x):
        return self.second(F.dropout(self.first(x).relu(), self.p))


def batches(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.standard_normal((5, 6), np.float32), rng.integers(0, 3, 5).astype(np.int32)


@pytest.fixture
def runs(monkeypatch):
    """Count the groups that run, and the calls in them."""
    counted = []
    original = runtime.run_checked

    def count(executable, cells, inputs):
        counted.append(executable.plan)
        return original(executable, cells, inputs)

    monkeypatch.setattr(runtime, "run_checked", count)
    return counted


def train(mode, steps=4):
    te.manual_seed(3)
    net = Net()
    optimizer = te.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    losses = []

    def loss_of(x, y):
        return F.cross_entropy(net(x), y)

    @te.compile(policies=[] if mode == "textbook" else None)
    def step(x, y):
        loss = loss_of(x, y)
        optimizer.minimize(loss)
        return loss

    for x, y in batches(steps):
        if mode in ("compiled", "textbook"):
            losses.append(step(x, y).item())
            continue
        loss = loss_of(te.Tensor(x), te.Tensor(y))
        if mode == "loss read first":
            losses.append(loss.item())
        loss.backward()
        if mode == "gradients read":
            assert all(p.grad.numpy().shape == p.shape for p in net.parameters())
        if mode == "one gradient held":
            held = net.first.weight.grad
        optimizer.step()
        if mode == "one gradient held":
            assert held.numpy().any()
        if mode != "loss read first":
            losses.append(loss.item())
    return losses, [p.numpy() for p in net.parameters()]


@pytest.mark.parametrize("runtime_name", ["numpy", "native"])
@pytest.mark.parametrize(
    "mode", ["plain", "loss read first", "gradients read", "one gradient held", "textbook"]
)
def test_every_way_to_write_a_loop_gives_the_same_bits(mode, runtime_name):
    with runtime.use(runtime_name):
        losses, parameters = train(mode)
        expected, expected_parameters = train("compiled")
    assert losses == expected
    for a, b in zip(parameters, expected_parameters, strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_runs_until_asked(runs):
    x = te.Tensor([1.0, 2.0])
    y = (x * 3.0).exp().sum()
    assert runs == []
    y.item()
    y.item()
    assert len(runs) == 1


def test_loss_read_before_backward_runs_the_forward_once(runs):
    net = Net()
    x, y = next(batches(1))
    loss = F.cross_entropy(net(te.Tensor(x)), te.Tensor(y))
    loss.item()
    loss.backward()
    net.first.weight.grad.numpy()
    names = [[c.kernel.name for c in plan.calls if c.node.part == "forward"] for plan in runs]
    assert len(runs) == 2
    assert "matmul_f32" in names[0]
    assert "matmul_f32" not in names[1]
    assert "cross_entropy_f32" not in names[1]


def test_logits_read_before_the_loss_run_the_forward_once(runs):
    net = Net()
    x, y = next(batches(1))
    logits = net(te.Tensor(x))
    logits.numpy()
    F.cross_entropy(logits, te.Tensor(y)).backward()
    net.first.weight.grad.numpy()
    forward = [c.kernel.name for c in runs[1].calls if c.node.part == "forward"]
    assert "matmul_f32" not in forward


def test_reading_every_gradient_runs_once(runs):
    net = Net()
    x, y = next(batches(1))
    F.cross_entropy(net(te.Tensor(x)), te.Tensor(y)).backward()
    for p in net.parameters():
        p.grad.numpy()
    assert len(runs) == 1


def test_plain_loop_plans_once_whatever_the_rate(runs):
    net = Net()
    optimizer = te.optim.SGD(net.parameters(), 0.1)
    for i, (x, y) in enumerate(batches(6)):
        optimizer.lr = 0.1 / (i + 1)
        F.cross_entropy(net(te.Tensor(x)), te.Tensor(y)).backward()
        optimizer.step()
    assert len({id(plan) for plan in runs}) == 1


def test_rate_changes_what_a_compiled_step_does_without_a_new_plan():
    net = Net(p=0.0)
    optimizer = te.optim.SGD(net.parameters(), 0.0)

    @te.compile
    def step(x, y):
        loss = F.cross_entropy(net(x), y)
        optimizer.minimize(loss)
        return loss

    x, y = next(batches(1))
    before = net.first.weight.numpy()
    step(x, y)
    np.testing.assert_array_equal(net.first.weight.numpy(), before)
    plan = step.plan(x, y)
    optimizer.lr = 0.5
    step(x, y)
    assert (net.first.weight.numpy() != before).any()
    assert step.plan(x, y) is plan


def test_tensors_still_held_survive_the_step():
    net = Net(p=0.0)
    optimizer = te.optim.SGD(net.parameters(), 0.5)
    x, y = next(batches(1))
    logits = net(te.Tensor(x))
    with te.no_grad():
        expected = net(te.Tensor(x)).numpy()
    F.cross_entropy(logits, te.Tensor(y)).backward()
    optimizer.step()
    np.testing.assert_array_equal(logits.numpy(), expected)


def test_step_ends_history():
    net = Net()
    optimizer = te.optim.SGD(net.parameters(), 0.1)
    x, y = next(batches(1))
    loss = F.cross_entropy(net(te.Tensor(x)), te.Tensor(y))
    node = (
        weakref.ref(loss.value.node.inputs[0].node)
        if hasattr(loss.value.node, "__weakref__")
        else None
    )
    loss.backward()
    optimizer.step()
    assert loss.value.node.inputs == ()
    assert node is None or node() is None
    with pytest.raises(GraphError, match="history was cut"):
        loss.backward()


def test_a_loop_that_reads_nothing_stays_flat():
    net = Net()
    optimizer = te.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    x, y = next(batches(1))
    x, y = te.Tensor(x), te.Tensor(y)

    def step():
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    def objects():
        gc.collect()
        return len(gc.get_objects())

    for _ in range(10):
        step()
    before = objects()
    for _ in range(10_000):
        step()
    assert objects() - before < 50


@pytest.fixture
def uncollected():
    """Leave cycles alone: what is large must go without the collector, which counts objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("read", ["nothing", "loss", "loss before backward"])
def test_a_step_leaves_no_large_arrays_behind(uncollected, read):
    net = Net(p=0)
    optimizer = te.optim.SGD(net.parameters(), 0.1)
    left = []
    for _ in range(3):
        x = te.Tensor(np.ones((4000, 6), np.float32))
        left.append(weakref.ref(x.borrow()))
        hidden = net.first(x).relu()
        loss = F.cross_entropy(net.second(hidden), np.zeros(4000, np.int32))
        if read == "loss before backward":
            loss.item()
            left.append(weakref.ref(hidden.value.data))
        del x, hidden
        loss.backward()
        optimizer.step()
        if read == "loss":
            loss.item()
    assert all(array() is None for array in left)


def test_inference_leaves_no_large_arrays_behind(uncollected):
    net = Net(p=0)
    for _ in range(3):
        x = te.Tensor(np.ones((4000, 6), np.float32))
        left = weakref.ref(x.borrow())
        with te.no_grad():
            y = net(x)
        del x
        assert y.numpy().shape == (4000, 3) and left() is None


def test_what_is_still_held_keeps_its_array():
    net = Net(p=0)
    optimizer = te.optim.SGD(net.parameters(), 0.1)
    x, other = te.Tensor(np.ones((5, 6), np.float32)), te.Tensor([1.0], requires_grad=True)
    for _ in range(2):
        loss = F.cross_entropy(net(x), np.zeros(5, np.int32)) + (other * 3.0).sum()
        loss.item()
        loss.backward()
        optimizer.step()
    assert x.numpy().sum() == 30
    assert other.grad.item() == 6  # its own gradients add up: no optimizer consumes them


def test_what_a_failed_run_has_not_computed_can_be_asked_for_again():
    x = te.Tensor(np.ones((2, 3), np.float32))
    y = x * 2.0
    loss = F.cross_entropy(x, np.array([0, 7], np.int32))
    with pytest.raises(DataError, match="label 7"):
        loss.item()
    assert y.tolist() == [[2.0] * 3] * 2 and (y + x).tolist() == [[3.0] * 3] * 2


def test_gradients_add_up_until_the_step():
    x = te.Tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    (x * 3.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [5.0, 7.0])


def test_failed_label_changes_nothing():
    net = Net()
    optimizer = te.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    x, y = next(batches(1))
    before = [p.numpy() for p in net.parameters()]
    F.cross_entropy(net(te.Tensor(x)), te.Tensor(np.array([0, 1, 7, 0, 0]))).backward()
    with pytest.raises(DataError, match=r"label 7 at position 2 of the batch is outside 0\.\.2"):
        optimizer.step()
    for p, old in zip(net.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)
    F.cross_entropy(net(te.Tensor(x)), te.Tensor(y)).backward()
    optimizer.step()


@pytest.mark.parametrize("runtime_name", ["numpy", "native"])
def test_nan_names_the_first_value_and_changes_nothing(runtime_name):
    with runtime.use(runtime_name):
        net = Net()
        optimizer = te.optim.SGD(net.parameters(), 0.1)

        @te.compile
        def step(x, y):
            loss = F.cross_entropy(net(x).log(), y)
            optimizer.minimize(loss)
            return loss

        x, y = next(batches(1))
        before = net.first.weight.numpy()
        with pytest.raises(
            NonFiniteError, match=r"first value that is not finite: log, nan at .*test_trace\.py"
        ):
            step(x, y)
        x[2, 3] = np.inf
        with pytest.raises(NonFiniteError, match=r"not finite: input \d+, inf at \[2, 3\]"):
            step(x, y)
        np.testing.assert_array_equal(net.first.weight.numpy(), before)


def test_a_value_cannot_be_asked_for_while_recording():
    @te.compile
    def step(x):
        return x.sum().item()

    with pytest.raises(GraphError, match="being recorded"):
        step(np.ones(3))
    assert trace.current().lazy


def test_stale_parameters_are_refused():
    net = Net(p=0.0)
    optimizer = te.optim.SGD(net.parameters(), 0.1)
    x, y = next(batches(1))
    kept = net.first.weight.value
    F.cross_entropy(net(te.Tensor(x)), te.Tensor(y)).backward()
    optimizer.step()
    stale = te.Tensor.of_value(te.ops.relu(kept))
    with pytest.raises(GraphError, match="has been overwritten since"):
        stale.numpy()


def test_dropout_draws_anew_each_step_and_alike_in_one():
    te.manual_seed(0)
    x = te.Tensor(np.ones((4, 50)), requires_grad=True)
    y = F.dropout(x, 0.5)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())  # the backward pass drew the same mask
    first = y.numpy()
    again = F.dropout(te.Tensor(np.ones((4, 50))), 0.5).numpy()
    assert (first != again).any()
    te.manual_seed(0)
    np.testing.assert_array_equal(F.dropout(te.Tensor(np.ones((4, 50))), 0.5).numpy(), first)


def test_errors_name_op_shapes_and_line():
    with pytest.raises(
        ShapeError, match=r"matmul: inner sizes 3 and 4 differ .*test_trace\.py:\d+"
    ):
        te.Tensor(np.ones((2, 3))) @ te.Tensor(np.ones((4, 2)))


def test_no_grad_is_constant_to_backward():
    x = te.Tensor([2.0], requires_grad=True)
    with te.no_grad():
        y = x * x
    (y * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [4.0])


def test_parameters_first_read_without_gradients_still_train():
    net = te.nn.Linear(3, 2)
    with te.no_grad():
        net(te.Tensor(np.ones((1, 3)))).numpy()
    loss = net(te.Tensor(np.ones((1, 3)))).sum()
    loss.backward()
    assert net.bias.grad.numpy().tolist() == [1.0, 1.0]


def test_no_gradient_where_only_constants_connect():
    x, y = te.Tensor([2.0], requires_grad=True), te.Tensor([3.0], requires_grad=True)
    with te.no_grad():
        z = x * 2.0
    (z * y).sum().backward()
    assert x.grad is None
    assert y.grad.item() == 4.0


def test_plain_loop_uses_the_memory_of_a_compiled_step(runs):
    net = Net()
    optimizer = te.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    x, y = next(batches(1))
    loss = F.cross_entropy(net(te.Tensor(x)), te.Tensor(y))
    loss.backward()
    optimizer.step()

    @te.compile
    def step(x, y):
        loss = F.cross_entropy(net(x), y)
        optimizer.minimize(loss)
        return loss

    assert runs[-1].arena_bytes == step.plan(x, y).arena_bytes


def test_compiled_step_follows_train_and_eval():
    te.manual_seed(0)
    net = te.nn.Sequential(te.nn.Linear(6, 20), te.nn.Dropout(0.5))

    @te.compile
    def forward(x):
        return net(x)

    x = next(batches(1))[0]
    assert (forward(x).numpy() == 0).any()
    net.eval()
    plan = forward.plan(x)
    assert (forward(x).numpy() != 0).all()
    net.train()
    assert (forward(x).numpy() == 0).any()
    net.eval()
    assert forward.plan(x) is plan  # both are kept


def test_compiled_step_follows_requires_grad():
    net = te.nn.Sequential(te.nn.Linear(6, 4), te.nn.Linear(4, 3))
    optimizer = te.optim.SGD(net.parameters(), 0.1)

    @te.compile
    def step(x, y):
        loss = F.cross_entropy(net(x), y)
        optimizer.minimize(loss)
        return loss

    batch = next(batches(1))
    step(*batch)
    net[0].requires_grad_(False)
    before = net[0].weight.numpy(), net[1].weight.numpy()
    step(*batch)
    np.testing.assert_array_equal(net[0].weight.numpy(), before[0])
    assert (net[1].weight.numpy() != before[1]).any()


def test_a_compiled_step_borrows_its_inputs_for_the_call_alone(each_runtime):
    step = te.compile(lambda x: x * 2.0)
    for _ in range(2):
        x = np.ones((64, 1024), np.float32)
        y = step(x)
        held = weakref.ref(x)
        del x
        assert held() is None and y.shape == (64, 1024)


def test_two_updates_in_one_compiled_step():
    def make():
        te.manual_seed(0)
        net = Net(p=0.0)
        return net, te.optim.SGD(net.parameters(), 0.1, momentum=0.9)

    net, optimizer = make()

    @te.compile
    def two(x, y):
        for _ in range(2):
            loss = F.cross_entropy(net(x), y)
            optimizer.minimize(loss)
        return loss

    x, y = next(batches(1))
    together = two(x, y).item()
    parameters = [p.numpy() for p in net.parameters()]
    net, optimizer = make()
    for _ in range(2):
        loss = F.cross_entropy(net(te.Tensor(x)), te.Tensor(y))
        loss.backward()
        optimizer.step()
    assert loss.item() == together
    for p, other in zip(net.parameters(), parameters, strict=True):
        np.testing.assert_array_equal(p.numpy(), other)
