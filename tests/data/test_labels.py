import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_edge.data import Dataset, class_weights
from tinygrad_edge.data._labels import hold_out
from tinygrad_edge.errors import DataError

labels = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(np.array)


@given(labels)
def test_each_class_weighs_alike(y):
    weights = class_weights(y, 6)
    assert weights.dtype == np.float32
    counts = np.bincount(y, minlength=6)
    present = counts > 0
    np.testing.assert_allclose((weights * counts)[present], len(y) / present.sum(), rtol=1e-6)
    assert (weights[~present] == 0).all()
    assert weights[y].mean() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        ([], "labels are integers of shape"),
        ([0.5], "labels are integers .* not float64"),
        ([[0]], r"not int64 of shape \(1, 1\)"),
        ([0, 3], "labels go from 0 to 2, not from 0 to 3"),
        ([-1, 2], "labels go from 0 to 2, not from -1 to 2"),
    ],
)
def test_weights_of_what_are_no_labels(y, match):
    with pytest.raises(DataError, match=match):
        class_weights(y, 3)


@given(labels, st.floats(0.01, 0.99), st.randoms(use_true_random=False))
def test_holding_out(y, fraction, random):
    rank = np.array([random.randrange(2**64) for _ in y], np.uint64)
    kept, held = hold_out(y, rank, fraction)
    assert sorted([*kept, *held]) == list(range(len(y)))
    assert (np.diff(kept) > 0).all() and (np.diff(held) > 0).all()
    for label in set(y.tolist()):
        inside, outside = (set(np.flatnonzero(y == label)) & set(part) for part in (held, kept))
        count = len(inside) + len(outside)
        assert len(inside) == min(max(1, round(fraction * count)), count - 1)
        if inside:
            assert max(rank[list(inside)]) <= min(rank[list(outside)])


# ---- a validation part

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 1, 2, 2), dtype=np.uint8)
CLASSES = np.arange(60) % 3
DATASET = Dataset.from_arrays("mine", (IMAGES, CLASSES), (IMAGES[:6], CLASSES[:6]))


def test_validation_comes_from_training():
    divided = DATASET.with_validation(0.1)
    assert np.bincount(divided.train.labels).tolist() == [18] * 3
    assert np.bincount(divided.val.labels).tolist() == [2] * 3
    assert divided.test.images is DATASET.test.images
    rows = np.concatenate([divided.train.images.rows, divided.val.images.rows])
    assert sorted(rows) == list(range(60))
    for split in (divided.train, divided.val):
        np.testing.assert_array_equal(split.images[:], IMAGES[split.images.rows])
        np.testing.assert_array_equal(split.labels, CLASSES[split.images.rows])
    assert "54 training, 6 validation and 6 test images" in repr(divided)
    assert divided.held_bytes > DATASET.held_bytes


def test_normalisation_does_not_know_the_validation_part():
    divided = DATASET.with_validation(0.2)
    kept = IMAGES[divided.train.images.rows]
    assert divided.normalisation.mean[0] == pytest.approx(kept.mean())
    assert divided.normalisation is divided.val.normalisation is divided.test.normalisation


def test_the_seed_decides():
    rows = [DATASET.with_validation(seed=seed).val.images.rows.tolist() for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


def test_a_validation_part_stays():
    given_one = Dataset.from_arrays(
        "mine", (IMAGES, CLASSES), (IMAGES, CLASSES), val=(IMAGES[:6], CLASSES[:6])
    )
    assert given_one.with_validation() is given_one


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5, float("nan")])
def test_refuses_fractions(fraction):
    with pytest.raises(DataError, match="fraction is between 0 and 1"):
        DATASET.with_validation(fraction)


def test_classes_of_one_image_leave_nothing_to_validate_by():
    single = Dataset.from_arrays("mine", (IMAGES[:3], CLASSES[:3]), (IMAGES[:3], CLASSES[:3]))
    with pytest.raises(DataError, match="each class of mine has a single training image"):
        single.with_validation()
