import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_edge.data import Dataset, Normalisation
from tinygrad_edge.errors import DataError

IMAGES = np.arange(5 * 2 * 3 * 3, dtype=np.uint8).reshape(5, 2, 3, 3)
LABELS = np.array([0, 1, 2, 1, 0])
shapes = hnp.array_shapes(min_dims=4, max_dims=4, max_side=6)


class Rows:
    """Images that are computed when they are asked for, as a folder of files would decode them."""

    def __init__(self, array):
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.most = 0

    def __getitem__(self, rows):
        result = self.array[rows]
        self.most = max(self.most, len(result))
        return result


def with_infinities():
    images = IMAGES.astype(np.float32)
    images[2, 1, 0] = [np.inf, -np.inf, 0]
    return images


def test_made_of_arrays():
    dataset = Dataset.from_arrays("mine", (IMAGES, LABELS), (IMAGES[:2], [0, 1]))
    assert dataset.num_classes == 3
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.image_shape == (2, 3, 3)
    assert (len(dataset.train), len(dataset.test)) == (5, 2)
    assert dataset.train.images is IMAGES
    assert dataset.train.labels.dtype == np.int32
    assert dataset.test.normalisation is dataset.train.normalisation is dataset.normalisation
    assert repr(dataset) == ("Dataset('mine', 5 training and 2 test images of 2x3x3, 3 classes)")
    assert repr(dataset.test) == "Split(2x2x3x3 uint8)"


def test_a_batch_is_normalised_float32():
    split = Dataset.from_arrays("mine", (IMAGES, LABELS), (IMAGES, LABELS)).train
    images, labels = split.batch(np.array([3, 1]))
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [1, 1])
    mean, std = np.float64(split.normalisation.mean), np.float64(split.normalisation.std)
    expected = (IMAGES[[3, 1]] - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("train", "class_names", "match"),
    [
        ((IMAGES[0], LABELS), None, r"mine, training part: images are .* not uint8 of shape \(2,"),
        ((IMAGES.astype(int), LABELS), None, r"images are uint8 or float .* not int64"),
        ((IMAGES, LABELS[:, None]), None, r"labels are integers .* not int64 of shape \(5, 1\)"),
        ((IMAGES, LABELS.astype(float)), None, "labels are integers .* not float64"),
        ((IMAGES, LABELS[:4]), None, "mine, training part: 5 images, but 4 labels"),
        ((IMAGES[:0], LABELS[:0]), None, r"nothing in images of shape \(0, 2, 3, 3\)"),
        ((IMAGES[:, :1], LABELS), None, r"shape \(1, 3, 3\), but test images of shape \(2, 3, 3\)"),
        ((IMAGES, LABELS), "ab", "label 2 of image 2 is not one of the 2 classes, 0 to 1"),
        ((IMAGES, LABELS - 1), None, "training part: label -1 of image 0 is not one of the 3"),
        ((IMAGES, LABELS + 2**32), "abc", "label 4294967296 of image 0"),
        (
            (IMAGES * np.float32("nan"), LABELS),
            None,
            "training part: channel 0 of image 0 holds NaN",
        ),
        ((with_infinities(), LABELS), None, "training part: channel 1 of image 2 holds infinity"),
    ],
)
def test_refuses(train, class_names, match):
    with pytest.raises(DataError, match=match):
        Dataset.from_arrays("mine", train, (IMAGES, LABELS), class_names)


def test_names_the_part_that_is_wrong():
    with pytest.raises(DataError, match="mine, test part: 4 images, but 5 labels"):
        Dataset.from_arrays("mine", (IMAGES, LABELS), (IMAGES[:4], LABELS))


@given(hnp.arrays(np.uint8, shapes))
def test_statistics_of_uint8_are_exact(images):
    normalisation = Normalisation.of(images)
    for c, (mean, std) in enumerate(zip(normalisation.mean, normalisation.std, strict=True)):
        values = [int(v) for v in images[:, c].flat]
        n, total = len(values), sum(values)
        variance = (n * sum(v * v for v in values) - total**2) / n**2  # in whole numbers
        assert mean == total / n
        assert std == pytest.approx(variance**0.5, rel=1e-9) if variance else std == 1


@given(hnp.arrays(np.float32, shapes, elements=st.floats(-1e3, 1e3, width=32)))
def test_normalised_channels_have_mean_0_and_std_1(images):
    normalisation = Normalisation.of(images)
    result = normalisation(images).astype(np.float64)
    for c, (mean, std) in enumerate(zip(normalisation.mean, normalisation.std, strict=True)):
        # float32 keeps 1e-7 of a value, which weighs more where a channel hardly varies
        slack = 1e-6 * (1 + abs(mean) / std)
        assert abs(result[:, c].mean()) < slack
        constant = np.ptp(images[:, c]) <= 1e-5 * abs(mean) + 1e-30
        assert constant or abs(result[:, c].std() - 1) < slack


@pytest.mark.parametrize("value", [0, 0.1, 255, 1e-30, -1e30])
def test_a_constant_channel_keeps_its_scale(value):
    images = np.full((50, 1, 9, 9), value, np.float32)
    normalisation = Normalisation.of(images)
    assert normalisation.std == (1,)
    assert np.isfinite(normalisation(images)).all()


def test_statistics_and_batches_ask_for_few_rows_at_a_time():
    rows = Rows(np.zeros((40, 1, 100, 100), np.uint8))
    dataset = Dataset.from_arrays("mine", (rows, np.zeros(40, int)), (rows, np.zeros(40, int)))
    assert rows.most == 13  # 1 MiB of float64
    images, _ = dataset.train.batch(np.array([1]))
    assert images.shape == (1, 1, 100, 100)


def test_images_are_never_held_as_float():
    images = np.zeros((1000, 1, 100, 100), np.uint8)
    labels = np.zeros(1000, np.uint8)
    tracemalloc.start()  # NumPy tells it of its arrays
    dataset = Dataset.from_arrays("mine", (images, labels), (images, labels))
    dataset.train.batch(np.arange(10))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6
