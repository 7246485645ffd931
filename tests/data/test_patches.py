import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_edge.data import Dataset, Patches, batches
from tinygrad_edge.errors import DataError

IMAGES = np.arange(3 * 2 * 8 * 10, dtype=np.float32).reshape(3, 2, 8, 10)
LABELS = np.array([2, 0, 1])
SPLIT = Dataset.from_arrays("mine", (IMAGES, LABELS), (IMAGES, LABELS)).train


def by_hand(size, stride):
    """All patches of all images, with the number of their image."""
    height, width = IMAGES.shape[2:]
    return [
        (n, IMAGES[n, :, y : y + size, x : x + size])
        for n in range(len(IMAGES))
        for y in range(0, height - size + 1, stride)
        for x in range(0, width - size + 1, stride)
    ]


@given(size=st.integers(1, 8), stride=st.integers(1, 9))
def test_patches_are_cut_where_they_lie(size, stride):
    expected = by_hand(size, stride)
    split = Patches(size, stride)(SPLIT)
    assert split.image_count == 3
    np.testing.assert_array_equal(split.image_of, [n for n, _ in expected])
    np.testing.assert_array_equal(split.labels, LABELS[split.image_of])
    np.testing.assert_array_equal(split.images[:], [patch for _, patch in expected])
    some = np.array([len(expected) - 1, 0])  # in any order
    np.testing.assert_array_equal(split.images[some], [expected[i][1] for i in some])


def test_patches_do_not_overlap_unless_told():
    split = Patches(4)(SPLIT)
    assert len(split) == 3 * 2 * 2
    assert np.unique(split.images[:]).size == split.images[:].size


def test_batches_are_normalised_as_the_images_are():
    split = Patches(5)(SPLIT)
    whole = SPLIT.batch(np.arange(3))[0]
    (images, labels), *_ = batches(split, 4, shuffle=False)
    np.testing.assert_array_equal(images[0], whole[0, :, :5, :5])
    assert labels.tolist() == [2, 2, 0, 0]


def test_patches_without_content_are_left_out():
    split = Patches(4, keep=lambda patch: patch[0, 0, 0] >= 200)(SPLIT)
    first = np.array([patch[0, 0, 0] for _, patch in by_hand(4, 4)])
    # All of the first image lie below 200, so it keeps them all.
    kept = (first >= 200) | (np.arange(12) < 4)
    np.testing.assert_array_equal(split.images[:][:, 0, 0, 0], first[kept])
    assert set(split.image_of) == {0, 1, 2}


def test_an_image_is_what_most_of_its_patches_say():
    split = Patches(8, stride=1)(SPLIT)  # three patches an image
    votes = np.eye(4)[[0, 3, 3, 1, 1, 0, 2, 0, 1]]
    assert split.vote(votes).tolist() == [3, 1, 0]  # the first of equals
    assert split.vote(np.float32([[0.1, 0.9]] * 9)).tolist() == [1, 1, 1]


def test_bad_input():
    with pytest.raises(DataError, match="patches of 9x9 do not fit images of 8x10"):
        Patches(9)(SPLIT)
    with pytest.raises(DataError, match="stride"):
        Patches(4, stride=0)
    with pytest.raises(DataError, match=r"expected 12 rows of scores, got shape \(3, 2\)"):
        Patches(4)(SPLIT).vote(np.zeros((3, 2)))
