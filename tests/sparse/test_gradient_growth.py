"""RigL and sparse momentum: the gradients of zeros, seen by the step before a change."""

import numpy as np
import pytest

import tinygrad_edge as te
from tinygrad_edge import sparse
from tinygrad_edge.errors import GraphError
from tinygrad_edge.policy import Budget, Default, Freeze, Microbatch


class Net(te.nn.Module):
    """Strides, padding and a linear layer; two of the weights are sparse, the last is dense."""

    def __init__(self):
        super().__init__()
        self.conv = te.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = te.nn.BatchNorm2d(8)
        self.linear = te.nn.Linear(8 * 3 * 3, 6)
        self.last = te.nn.Linear(6, 4)

    def forward(self, x):
        x = self.norm(self.conv(x)).relu().reshape(len(x), -1)
        return self.last(self.linear(x).relu())


class Run:
    def __init__(self, algorithm=sparse.RigL, policies=None, seed=1, **options):
        te.manual_seed(seed)
        self.net = Net()
        self.pool = sparse.sparsify(self.net, 0.8, where=("conv", "linear"))
        self.optimizer = te.optim.SGD(self.net.parameters(), 0.05, momentum=0.9)
        options = {"until": 20, "every": 3, **options}
        self.dynamic = algorithm(self.pool, self.optimizer, **options)
        self.step = te.compile(self.plain_step, policies=policies)

    def plain_step(self, x, y):
        loss = te.functional.cross_entropy(self.net(x), y)
        self.optimizer.minimize(loss)
        return loss

    def batch(self, number):
        rng = np.random.default_rng(number)
        x = rng.standard_normal((8, 3, 6, 6)).astype(np.float32)
        return x, rng.integers(0, 4, 8).astype(np.int32)

    def dense_gradients(self, x, y):
        """Of dense weights in place of the sparse ones."""
        twin = Net()
        own = {n: p for n, p in twin.state_dict().items()}
        for name, p in self.net.state_dict().items():
            if name in own:
                own[name].assign(p.numpy())
        for name, layer in self.pool.layers.items():
            own[name].assign(layer.numpy())
        te.functional.cross_entropy(twin(x), y).backward()
        return {name: own[name].grad.numpy().reshape(-1) for name in self.pool.layers}

    def elements(self):
        return {name: layer.elements() for name, layer in self.pool.layers.items()}

    def steps(self, numbers):
        for number in numbers:
            yield self.step(*self.batch(number)).numpy().tobytes()
            self.dynamic.step()

    def bits(self):
        state = [*self.net.state_dict().values(), *self.optimizer.state_dict().values()]
        return [np.asarray(p).tobytes() for p in state]


@pytest.mark.parametrize("compiled", [True, False])
def test_rigl_grows_where_the_gradients_of_zeros_are_largest(each_runtime, compiled):
    run = Run()
    step = run.step if compiled else run.plain_step
    for number in range(9):
        before, batch = run.elements(), run.batch(number)
        gradients = run.dense_gradients(*batch) if number % 3 == 2 else {}
        step(*batch).realize()
        events = run.dynamic.step()
        assert bool(events) == bool(gradients)
        rate = 0.15 * (1 + np.cos(np.pi * (number + 1) / 20))
        assert sum(e.pruned for e in events) == (int(rate * run.pool.nonzeros) if events else 0)
        for event in events:
            score = np.abs(gradients[event.layer])
            score[before[event.layer]] = -1
            grown = np.setdiff1d(run.elements()[event.layer], before[event.layer])
            assert len(grown) == event.grown == event.pruned > 0
            best = np.sort(score)[-event.grown :]
            # As in other orders of up to 8 * 9 products: these gradients are at most 1.
            np.testing.assert_allclose(np.sort(score[grown]), best, atol=100 * 2.0**-24)


def test_only_the_step_before_a_change_looks_at_zeros():
    run = Run()
    ops = []
    for number in range(6):
        plan = run.step.plan(*run.batch(number))
        ops.append(sum(n.op.name == "sparse_conv2d_candidates" for n in plan.graph.nodes))
        list(run.steps([number]))
    assert ops == [0, 0, 2, 0, 0, 2]
    assert sum(map(len, run.step._recorded.values())) == 2


def test_the_step_before_a_change_is_planned_beforehand():
    """So that a budget which is too small for it is refused before training."""
    run = Run()
    usual = run.step.plan(*run.batch(0))
    with run.dynamic.watching():
        watched = run.step.plan(*run.batch(0))
    assert watched.peak_bytes > usual.peak_bytes
    plans = []
    for number in range(3):
        plans.append(run.step.plan(*run.batch(number)))
        list(run.steps([number]))
    assert plans == [usual, usual, watched]


def test_nothing_of_dense_size_is_in_the_plan():
    net = te.nn.Linear(1000, 500, bias=False)
    pool = sparse.sparsify(net, 0.99, where="*")
    optimizer = te.optim.SGD(net.parameters(), 0.1)
    sparse.RigL(pool, optimizer, until=10, every=1)

    @te.compile
    def step(x):
        optimizer.minimize((net(x) ** 2).mean())

    plan = step.plan(np.ones((4, 1000), np.float32))
    assert any(n.op.name == "sparse_conv2d_candidates" for n in plan.graph.nodes)
    assert plan.peak_bytes < 0.15 * 4 * 500_000  # 5,000 non-zeros of 500,000


@pytest.mark.parametrize(
    ("momentum", "grown"),
    [
        ((1e-6, 1.0), [0, 25]),
        ((1.0, 1e-6), [18, 7]),  # there is room for twice the 9 that it may lose
    ],
)
def test_sparse_momentum_gives_what_was_pruned_to_layers_of_most_momentum(momentum, grown):
    run = Run(sparse.SparseMomentum, every=1, fraction=0.2)
    gradients = run.dense_gradients(*run.batch(0))
    before = run.elements()
    run.step(*run.batch(0))
    moment = run.optimizer.moment("momentum", run.pool.values).array
    for layer, value in zip(run.pool.layers.values(), momentum, strict=True):
        moment[layer.part] = value
    events = run.dynamic.step()
    assert [e.pruned for e in events] == [8, 17]  # 0.1988 of 43 and 87 non-zeros
    assert [e.grown for e in events] == grown
    for event in events:
        score = np.abs(gradients[event.layer])
        score[before[event.layer]] = -1
        new = np.setdiff1d(run.elements()[event.layer], before[event.layer])
        best = np.sort(score)[len(score) - event.grown :]
        np.testing.assert_allclose(np.sort(score[new]), best, atol=100 * 2.0**-24)


@pytest.mark.parametrize(
    "policies",
    [[], [Default()], [Default(), Microbatch(4)], [Budget("120kB")], [Default(), Freeze("last.*")]],
    ids=repr,
)
def test_candidates_are_found_under_every_policy(policies):
    run = Run(policies=policies)
    list(run.steps(range(3)))
    plain = Run(policies=[Freeze("last.*")] if policies[1:] == [Freeze("last.*")] else [])
    list(plain.steps(range(3)))
    lossless = not any(isinstance(p, Microbatch) for p in policies)
    assert (run.bits() == plain.bits()) == lossless
    assert run.pool.nonzeros == plain.pool.nonzeros


@pytest.mark.parametrize("algorithm", [sparse.RigL, sparse.SparseMomentum])
@pytest.mark.parametrize("stop", [4, 5])  # before a step that looks at zeros, and a change
def test_restored_run_goes_on_to_the_same_bits(algorithm, stop, tmp_path):
    straight = Run(algorithm)
    losses = list(straight.steps(range(9)))
    stopped = Run(algorithm)
    assert list(stopped.steps(range(stop))) == losses[:stop]

    def parts(run):
        return [run.net, run.optimizer, run.dynamic]

    te.save(tmp_path / "run", parts(stopped))

    resumed = Run(algorithm, seed=2)
    te.load(tmp_path / "run", parts(resumed))
    assert list(resumed.steps(range(stop, 9))) == losses[stop:]
    assert resumed.bits() == straight.bits()


def test_change_without_a_look_at_zeros_is_refused():
    run = Run(every=2)
    run.dynamic.step()
    with pytest.raises(GraphError, match="RigL: no gradients of zeros were seen"):
        run.dynamic.step()


def test_frozen_pool_finds_no_candidates():
    run = Run(policies=[Freeze("sparse.*")], every=1)
    run.step(*run.batch(0))
    with pytest.raises(GraphError, match="RigL: no gradients of zeros were seen"):
        run.dynamic.step()


def test_evaluation_assigns_no_candidates():
    run = Run(every=1)
    run.net.eval()
    with te.no_grad():
        run.net(run.batch(0)[0]).numpy()
    te.compile(run.net)(run.batch(0)[0])
    with pytest.raises(GraphError, match="RigL: no gradients of zeros were seen"):
        run.dynamic.step()
