import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_edge.data import Dataset, batch_count, batches, epoch_order
from tinygrad_edge.errors import DataError

IMAGES = np.arange(23, dtype=np.float32).reshape(23, 1, 1, 1)
SPLIT = Dataset.from_arrays("mine", (IMAGES, np.arange(23)), (IMAGES, np.arange(23))).train
uint64 = st.integers(0, 2**64 - 1)


def labels(**arguments):
    return [y.tolist() for _, y in batches(SPLIT, **arguments)]


@given(samples=st.integers(0, 200), seed=uint64, epoch=uint64)
def test_order_is_a_permutation(samples, seed, epoch):
    order = epoch_order(samples, seed, epoch)
    assert sorted(order) == list(range(samples))
    np.testing.assert_array_equal(order, epoch_order(samples, seed, epoch))


def test_order_is_the_same_everywhere():
    """The numbers are part of what a snapshot promises: no NumPy and no machine may change them."""
    assert epoch_order(10, seed=0, epoch=0).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert epoch_order(10, seed=2**64 - 1, epoch=3).tolist() == [3, 2, 8, 0, 1, 6, 9, 5, 4, 7]


def test_order_is_uniform():
    counts = np.zeros((6, 6))
    for epoch in range(6000):
        counts[np.arange(6), epoch_order(6, 0, epoch)] += 1
    assert abs(counts - 1000).max() < 145  # 5 standard deviations


def test_seeds_and_epochs_give_different_orders():
    orders = {tuple(epoch_order(20, seed, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


@given(batch=st.integers(1, 30), drop_last=st.booleans(), data=st.data())
def test_starting_late_gives_what_would_have_come(batch, drop_last, data):
    arguments = {"batch": batch, "seed": 5, "epoch": 2, "drop_last": drop_last}
    whole = labels(**arguments)
    assert len(whole) == batch_count(23, batch, drop_last)
    start = data.draw(st.integers(0, len(whole)))
    assert labels(**arguments, start=start) == whole[start:]


@given(batch=st.integers(1, 30))
def test_an_epoch_visits_each_sample_once(batch):
    whole = labels(batch=batch)
    assert sorted(sum(whole, [])) == list(range(23))
    assert {len(part) for part in whole[:-1]} <= {batch}
    full = labels(batch=batch, drop_last=True)
    assert full == [part for part in whole if len(part) == batch]


def test_unshuffled():
    assert labels(batch=10, shuffle=False) == [
        list(range(10)),
        list(range(10, 20)),
        [20, 21, 22],
    ]


def test_images_go_with_their_labels():
    for x, y in batches(SPLIT, 4, seed=1):
        assert x.dtype == np.float32
        assert y.dtype == np.int32
        np.testing.assert_array_equal(x, SPLIT.normalisation(IMAGES[y]))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"batch": 0}, "batch is at least 1, not 0"),
        ({"batch": 2.5}, "batch is an integer, not 2.5"),
        ({"batch": 4, "seed": -1}, "seed is from 0 to 18446744073709551615, not -1"),
        ({"batch": 4, "epoch": 2**64}, "epoch is from 0 to"),
        ({"batch": 4, "start": 7}, "start is from 0 to 6, not 7"),
        ({"batch": 4, "start": -1}, "start is from 0 to 6, not -1"),
    ],
)
def test_refuses_at_once(arguments, match):
    with pytest.raises(DataError, match=match):
        batches(SPLIT, **arguments)
