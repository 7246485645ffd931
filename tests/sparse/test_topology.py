import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sparse.drawn import Net, nets

from tinygrad_edge.sparse.topology import move, sample, zeros_at


def words(seed=0):
    return np.random.Philox(key=seed).random_raw


@given(nets(), st.integers(0, 2**32), st.integers(1, 4))
def test_dense_copy_agrees_after_every_move(net, seed, moves):
    rng = np.random.default_rng(seed)
    capacity = net.pool.capacity
    net.check()
    for _ in range(moves):
        keep, grown = {}, {}
        for name, mask in net.masks.items():
            flat = mask.reshape(-1)
            kept = flat & (rng.random(flat.size) < rng.random())
            others = np.flatnonzero(~kept)
            most = min(len(others), capacity - net.pool.nonzeros + 3)
            grown[name] = rng.choice(others, rng.integers(0, most + 1), replace=False)
            keep[name] = kept[flat]
            flat[:] = kept
            flat[grown[name]] = True
            net.dense[name].reshape(-1)[~kept] = 0
        if sum(mask.sum() for mask in net.masks.values()) > capacity:
            with pytest.raises(ValueError, match="has room for"):
                move(net.pool, keep, grown)
            return
        net.take(move(net.pool, keep, grown))
        net.check()


@given(nets())
def test_what_is_not_named_stays(net):
    net.take(move(net.pool, {}, {}))
    net.check()


@given(nets())
def test_zeros_by_their_ranks(net):
    for name, layer in net.pool.layers.items():
        zeros = np.flatnonzero(~net.masks[name])
        found = zeros_at(layer.elements(), np.arange(len(zeros)))
        np.testing.assert_array_equal(found, zeros)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 2**32))
def test_draws_are_distinct_ascending_and_in_range(one, other, seed):
    count, population = sorted((one, other))
    found = sample(count, population, words(seed))
    assert len(found) == count
    assert (np.diff(found) > 0).all() and (count == 0 or 0 <= found[0] <= found[-1] < population)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_all_sets_are_drawn_equally_often(count):
    draw = words()
    found = Counter(tuple(sample(count, 5, draw)) for _ in range(10_000))
    share = 1 / {1: 5, 2: 10, 3: 10, 4: 5}[count]
    assert len(found) == 1 / share
    slack = 5 * np.sqrt(10_000 * share * (1 - share))  # five standard deviations
    assert max(abs(n - 10_000 * share) for n in found.values()) < slack


def test_more_cannot_be_drawn_than_there_are():
    with pytest.raises(ValueError, match="4 distinct numbers below 3"):
        sample(4, 3, words())


@pytest.mark.parametrize(
    ("grown", "message"),
    [
        ([4], "layer0: element 4 would be there twice"),
        ([0, 0], "layer0: element 0 would be there twice"),
        ([6], "layer0: only elements 0..5 can grow"),
        ([-1], "layer0: only elements 0..5 can grow"),
        ([0, 1, 5], "the pool has room for 4 non-zeros, not for 5"),
    ],
)
def test_move_refuses_what_cannot_be(grown, message):
    mask = np.array([[False, False, True], [False, True, False]])
    net = Net([mask], 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        move(net.pool, {}, {"layer0": np.array(grown)})


def test_a_move_takes_memory_for_the_nonzeros_alone():
    mask = np.zeros((1000, 64_000), bool)
    mask[:, [5, 50_000]] = True
    net = Net([mask], 0, np.random.default_rng(0))
    layer = net.pool.layers["layer0"]
    keep = np.arange(2000) % 2 == 0
    tracemalloc.start()
    ranks = sample(1000, mask.size - 1000, words(1))
    found = move(net.pool, {"layer0": keep}, {"layer0": zeros_at(layer.elements()[keep], ranks)})
    found.carry(net.along)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Some arrays of 8 bytes a non-zero or row; one bit an element would be 8 MB.
    assert peak < 100 * (2000 + 1000)
