import numpy as np
import pytest
from sparse.test_dynamic import Run, of_densities, same

from tinygrad_edge import save
from tinygrad_edge.snapshot import load
from tinygrad_edge.sparse import GradualPruning


def run_of(seed=0, sparsity=0.9):
    net = of_densities((100, 100), (60, 30), (0, 0), seed=seed)
    return Run(net, lambda *args: GradualPruning(*args, sparsity, until=10, every=4), seed=seed)


def steps(run, numbers):
    for number in numbers:
        run.rng = np.random.default_rng(number)
        run.train()
        before = run.state()
        events = run.dynamic.step()
        yield before, run.state(), events


def test_sparsity_follows_the_cubic_and_the_largest_stay():
    run = run_of()
    found = []
    for before, after, events in steps(run, range(14)):
        for event in events:
            (old, was), (new, now) = before[event.layer], after[event.layer]
            _, at, to = np.intersect1d(old, new, return_indices=True)
            assert (was[:, at] == now[:, to]).all() and len(new) == len(at)
            assert event.pruned == len(old) - len(new) and event.grown == 0
            if event.pruned:
                values = np.abs(was[0])
                assert np.delete(values, at).max() <= values[at].min()
        found.append(run.pool.nonzeros)
    # Of 160 elements: 130 at first, 16 at last; at steps 4, 8 and 10 16 + 114 * (1 - t / 10)**3.
    assert found == [130] * 3 + [41] * 4 + [17] * 2 + [16] * 5
    assert [e.nonzeros for e in run.dynamic.layers()] == [
        12,
        4,
        0,
    ]  # 12.3 and 3.7, each time by remainders


def test_restored_run_goes_on_to_the_same_bits(tmp_path):
    straight = [after for _, after, _ in steps(run_of(), range(10))]
    stopped = run_of()
    list(steps(stopped, range(5)))
    save(tmp_path / "run", [stopped.pool, stopped.optimizer, stopped.dynamic])
    resumed = run_of(seed=1, sparsity=0.9)
    resumed.dynamic.first = 0
    load(tmp_path / "run", [resumed.pool, resumed.optimizer, resumed.dynamic])
    found = [after for _, after, _ in steps(resumed, range(5, 10))]
    assert all(map(same, found, straight[5:]))


@pytest.mark.parametrize("sparsity", [0.1, 1.1])
def test_sparsity_only_rises(sparsity):
    with pytest.raises(ValueError, match="the sparsity must be from the present 0.188 to 1"):
        run_of(sparsity=sparsity)
