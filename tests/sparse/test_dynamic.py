"""Must hold for every algorithm, and what each one is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse.drawn import Net, nets

import tinygrad_edge as te
from tinygrad_edge import sparse
from tinygrad_edge.errors import DataError, GraphError

ALGORITHMS = {
    "set": lambda *args: sparse.SET(*args, 0.3, every=2),
    "momentum redistribution": lambda *args: sparse.MomentumRedistribution(*args, 0.5, every=2),
    "dsr": lambda *args: sparse.DSR(*args, 0.2, every=2),
}
SMALL = ((1, 1, 1, 1), (4, 3, 3, 3), (5, 7), (2, 70_000), (3, 0), (6, 2, 1, 2))


class Run:
    """A pool trained by random gradients."""

    def __init__(self, net, algorithm, optimizer=te.optim.Adam, seed=0):
        self.pool = net.pool
        self.optimizer = optimizer([self.pool.values], lr=0.1)
        self.dynamic = algorithm(self.pool, self.optimizer)
        self.rng = np.random.default_rng(seed)

    def train(self):
        gradient = self.rng.uniform(1, 2, self.pool.capacity) * self.rng.choice([-1, 1])
        gradient[self.pool.nonzeros :] = 0
        self.pool.values.grad = te.Tensor(gradient.astype(np.float32))
        self.optimizer.step()

    def along(self):
        """What lies along the non-zeros: the values first."""
        moments = self.optimizer.moments
        cells = [self.optimizer.moment(kind, self.pool.values) for kind in moments]
        return [self.pool.values.numpy(), *(cell.array.copy() for cell in cells)]

    def state(self):
        """For each layer, its elements, and what lies along them."""
        along = np.stack(self.along())
        layers = self.pool.layers.items()
        return {name: (layer.elements(), along[:, layer.part]) for name, layer in layers}


def same(one, other):
    """Whether two states are equal to the bit."""
    return all(
        a.tobytes() == b.tobytes()
        for name in one
        for a, b in zip(one[name], other[name], strict=True)
    )


@pytest.mark.filterwarnings("ignore:.* moves none of")  # of a few non-zeros, or of none
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(max_examples=40)
@given(nets(SMALL), st.integers(0, 2**32))
def test_survivors_stay_new_ones_start_at_zero_and_none_is_lost(algorithm, net, seed):
    run = Run(net, ALGORITHMS[algorithm], seed=seed)
    total = run.pool.nonzeros
    for number in range(1, 7):
        run.train()
        before = run.state()
        events = run.dynamic.step()
        after = run.state()
        assert run.pool.nonzeros == total
        contents = {name: p.numpy() for name, p in run.pool.state_dict().items()}
        run.pool.load_state_dict(contents)  # which refuses an index that is out of order
        assert not any(array[total:].any() for array in run.along())
        assert not contents["columns"][total:].any()
        if number % 2:
            assert same(before, after) and not events
            continue
        assert [event.layer for event in events] == list(run.pool.layers)
        for event in events:
            (old, was), (new, now) = before[event.layer], after[event.layer]
            _, at, to = np.intersect1d(old, new, assume_unique=True, return_indices=True)
            survives = (was[:, at] == now[:, to]).all(0)
            at, to = at[survives], to[survives]
            assert not np.delete(now, to, axis=1).any()
            assert event.step == number
            assert event.pruned == len(old) - len(at)
            assert event.grown == len(new) - len(to)
            assert event.nonzeros == len(new)
            assert event.density == run.pool.layers[event.layer].density
            if algorithm != "dsr" and event.pruned and len(at):  # by magnitude, in each layer
                values = np.abs(was[0])
                assert np.delete(values, at).max() <= values[at].min()


def of_densities(*layers, seed=0):
    """A net of layers with so many elements and non-zeros."""
    rng = np.random.default_rng(seed)
    masks = []
    for size, nonzeros in layers:
        masks.append(np.zeros((1, size), bool))
        masks[-1][0, rng.permutation(size)[:nonzeros]] = True
    return Net(masks, 0, rng)


def one_change(net, algorithm, **options):
    run = Run(net, lambda *args: algorithm(*args, every=1, **options))
    run.train()
    return run, run.dynamic.step()


def test_set_keeps_the_number_of_each_layer():
    _, events = one_change(of_densities((100, 40), (50, 10), (8, 8)), sparse.SET, fraction=0.25)
    assert [(e.pruned, e.grown) for e in events] == [(10, 10), (2, 2), (0, 0)]  # 12.5 in all


def test_set_says_that_its_fraction_is_too_small():
    with pytest.warns(UserWarning, match="SET: after 1 steps, a rate of 0.01 moves none of the 50"):
        run, events = one_change(of_densities((100, 50)), sparse.SET, fraction=0.01)
    assert [(e.pruned, e.grown) for e in events] == [(0, 0)]
    run.train()
    run.dynamic.step()  # said once


def momentum_of(run, *values):
    """Set the momentum of each layer's non-zeros."""
    (moment,) = (run.optimizer.moment(kind, run.pool.values) for kind in run.optimizer.moments)
    for layer, value in zip(run.pool.layers.values(), values, strict=True):
        moment.array[layer.part] = value


def sgd(parameters, lr):
    return te.optim.SGD(parameters, lr, momentum=0.9)


@pytest.mark.parametrize(
    ("momentum", "grown"),
    [
        ((-3.0, 1.0, 1.0), [15, 5, 5]),  # 25 are shared out 3 : 1 : 1
        ((1.0, 0.0, 1.0), [13, 0, 12]),  # equal remainders: the first is served first
        ((1.0, 8.0, 1.0), [8, 9, 8]),  # there is room for 9; 16 are left, 1 : 1
        ((0.0, 1.0, 0.0), [9, 9, 7]),  # 16 are left and nothing to go by: by room, 74 : 62
        ((0.0, 0.0, 0.0), [13, 1, 11]),  # by room, 74 : 9 : 62
    ],
)
def test_momentum_redistributes_what_was_pruned(momentum, grown):
    net = of_densities((100, 40), (15, 10), (75, 20))
    run = Run(net, lambda *args: sparse.MomentumRedistribution(*args, 0.36, every=1), sgd)
    run.train()
    momentum_of(run, *momentum)
    events = run.dynamic.step()
    # 0.36 * 70 = 25.2; shares of the layers' non-zeros: 14.3, 3.6, 7.1.
    assert [e.pruned for e in events] == [14, 4, 7]
    assert [e.grown for e in events] == grown


def test_momentum_redistribution_halves_its_rate_until_it_moves_nothing():
    run = Run(of_densities((100, 40)), lambda *a: sparse.MomentumRedistribution(*a, 0.4, every=3))
    pruned = []
    with pytest.warns(UserWarning, match="after 18 steps, a rate of 0.0125 moves none of the 40"):
        for _ in range(21):
            run.train()
            pruned += [event.pruned for event in run.dynamic.step()]
    assert pruned == [16, 8, 4, 2, 1, 0, 0]


def test_momentum_redistribution_needs_momentum():
    with pytest.raises(ValueError, match="an optimizer with momentum .* got RMSprop"):
        Run(of_densities((9, 3)), sparse.MomentumRedistribution, te.optim.RMSprop)


def of_values(*layers):
    """A net of layers of ten elements that begin with these values."""
    net = of_densities(*((10, len(values)) for values in layers))
    net.pool.values.assign(np.concatenate(layers))
    return net


def test_dsr_prunes_below_one_threshold_and_grows_by_survivors():
    net = of_values([0.5, -0.1, 0.2, -0.8], [0.05, 0.9, -0.3, 0.7, 0.6, 1.0])
    dynamic = sparse.DSR(net.pool, te.optim.SGD([net.pool.values], 0.1), 0.3, 1, threshold=0.25)
    # -0.1, 0.2 and 0.05 go; of 7 survivors 2 and 5: shares of 0.86 and 2.14
    assert [(e.pruned, e.grown) for e in dynamic.step()] == [(2, 1), (1, 2)]
    assert dynamic.threshold == 0.25


@pytest.mark.parametrize(("fraction", "threshold"), [(0.2, 0.125), (0.3, 0.25), (0.5, 0.5)])
def test_dsr_adapts_its_threshold_to_what_is_wanted(fraction, threshold):
    net = of_values([0.5, -0.1, 0.2, -0.8], [0.05, 0.9, -0.3, 0.7, 0.6, 1.0])
    optimizer = te.optim.SGD([net.pool.values], 0.1)
    dynamic = sparse.DSR(net.pool, optimizer, fraction, 1, threshold=0.25)
    dynamic.step()
    assert dynamic.threshold == threshold


def test_dsr_begins_where_the_fraction_lies():
    net = of_values([0.5, -0.1, 0.2, -0.8], [0.05, 0.9, -0.3, 0.7, 0.6, 1.0])
    dynamic = sparse.DSR(net.pool, te.optim.SGD([net.pool.values], 0.1), 0.3, 1)
    assert sum(event.pruned for event in dynamic.step()) == 3
    assert dynamic.threshold == pytest.approx(0.3)


def test_network_computes_with_what_has_moved():
    te.manual_seed(3)
    net = te.nn.Sequential(te.nn.Conv2d(3, 8, 3, padding=1), te.nn.ReLU(), te.nn.Conv2d(8, 4, 1))
    pool = sparse.sparsify(net, 0.7, where="*")
    optimizer = te.optim.Adam(net.parameters(), 0.01)
    dynamic = sparse.MomentumRedistribution(pool, optimizer, every=2)

    @te.compile
    def step(x):
        loss = (net(x) ** 2).mean()
        optimizer.minimize(loss)
        return loss

    x = np.random.default_rng(0).standard_normal((2, 3, 5, 5)).astype(np.float32)
    for _ in range(6):
        weights = [pool.layers[name].numpy() for name in ("0.weight", "2.weight")]
        hidden = te.functional.conv2d(x, weights[0], net[0].bias, padding=1).relu()
        expected = (te.functional.conv2d(hidden, weights[1], net[2].bias) ** 2).mean().item()
        # Sums of at most 27 products, 8 * 25 of them, in another order: 2**-24 each time.
        assert step(x).item() == pytest.approx(expected, rel=235 * 2**-24)
        dynamic.step()
    assert len(step._recorded) == 1  # no new plan for where the non-zeros are


def test_no_change_after_the_last_step():
    run = Run(of_densities((100, 50)), lambda *args: sparse.SET(*args, every=2, until=4))
    changed = []
    for number in range(1, 9):
        run.train()
        if run.dynamic.step():
            changed.append(number)
    assert changed == [2, 4]


def test_layers_tell_how_they_stand():
    run = Run(of_densities((100, 40), (50, 10)), sparse.SET)
    expected = [(0, "layer0", 0, 0, 40, 0.4), (0, "layer1", 0, 0, 10, 0.2)]
    assert run.dynamic.layers() == [sparse.Event(*each) for each in expected]


def test_accumulating_gradients_are_not_moved_away_from():
    run = Run(of_densities((100, 50)), lambda *args: sparse.SET(*args, every=1))
    run.pool.values.grad = te.Tensor(np.ones(50, np.float32))
    with pytest.raises(GraphError, match="SET: the pool has a gradient"):
        run.dynamic.step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, "SET: fraction must be above 0 and below 1, got 0.0"),
        ({"fraction": 1.0}, "SET: fraction must be above 0 and below 1, got 1.0"),
        ({"every": 0}, "SET: every must be at least 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Run(of_densities((9, 3)), lambda *args: sparse.SET(*args, **options))


def test_optimizer_must_train_the_pool():
    net = of_densities((9, 3))
    with pytest.raises(ValueError, match="SET: the optimizer does not train the pool"):
        sparse.SET(net.pool, te.optim.SGD(te.nn.Linear(2, 2).parameters(), 0.1))


# ---- snapshots ----


def started(algorithm, seed):
    te.manual_seed(seed)
    return Run(of_densities((2000, 400), (1000, 100), seed=seed), ALGORITHMS[algorithm])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_restored_run_goes_on_to_the_same_bits(algorithm, tmp_path):
    def steps(run, numbers):
        for number in numbers:
            run.rng = np.random.default_rng(number)
            run.train()
            run.dynamic.step()
            yield run.state()

    straight = list(steps(started(algorithm, 1), range(8)))
    stopped = started(algorithm, 1)
    assert all(map(same, steps(stopped, range(5)), straight))
    te.save(tmp_path / "run", [stopped.pool, stopped.optimizer, stopped.dynamic])

    resumed = started(algorithm, 2)  # another seed, another topology
    te.load(tmp_path / "run", [resumed.pool, resumed.optimizer, resumed.dynamic])
    assert all(map(same, steps(resumed, range(5, 8)), straight[5:]))


def test_seeds_make_different_draws():
    runs = [started("set", seed) for seed in (1, 2)]
    assert runs[0].dynamic.seed != runs[1].dynamic.seed
    keep = {name: np.ones(n, bool) for name, n in runs[0].dynamic.nonzeros.items()}
    drawn = []
    for run in (runs[0], runs[0]):
        run.dynamic.steps += 1
        drawn.append(run.dynamic.random_zeros(keep, {"layer0": 50, "layer1": 50}))
    runs[0].dynamic.seed = runs[1].dynamic.seed
    drawn.append(runs[0].dynamic.random_zeros(keep, {"layer0": 50, "layer1": 50}))
    found = {tuple(each.tolist()) for draws in drawn for each in draws.values()}
    assert len(found) == 6


@pytest.mark.parametrize("state", [{"steps": 3}, {"steps": 3, "seed": [1, 2]}])
def test_state_of_another_kind_is_refused(state):
    dynamic = started("set", 1).dynamic
    with pytest.raises(DataError, match=r"SET.load_state_dict: expected a number for each of"):
        dynamic.load_state_dict(state)
    assert dynamic.steps == 0
