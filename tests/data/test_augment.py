import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_edge.data import (
    Brightness,
    Crop,
    Cutout,
    Dataset,
    Flip,
    Noise,
    Rotate,
    batches,
)
from tinygrad_edge.data._augment import augment_batch
from tinygrad_edge.data._philox import Draws
from tinygrad_edge.errors import DataError

ALL = (Flip(), Flip(vertical=True), Crop(2), Rotate(30), Noise(0.2), Cutout(3), Brightness(0.5))
IMAGES = np.random.default_rng(0).integers(0, 256, (23, 2, 5, 7), dtype=np.uint8)
SPLIT = Dataset.from_arrays("mine", (IMAGES, np.arange(23)), (IMAGES, np.arange(23))).train
images = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=9),
    elements=st.floats(-3, 3, width=32),
)


class Given:
    """Draws what it is told."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def below(self, limit):
        number = self.numbers.pop(0)
        assert 0 <= number < limit
        return number

    def uniform(self, low, high):
        number = self.numbers.pop(0)
        assert low <= number < high
        return number


def by_label(**arguments):
    """Each augmented image of an epoch, in the order of the labels."""
    pairs = [
        (label, image)
        for x, y in batches(SPLIT, seed=7, epoch=3, augment=ALL, **arguments)
        for image, label in zip(x, y.tolist(), strict=True)
    ]
    return [image.tobytes() for _, image in sorted(pairs, key=lambda pair: pair[0])]


# ---- what an image becomes does not depend on where it comes


@given(batch=st.integers(1, 30), shuffle=st.booleans(), prefetch=st.integers(0, 3))
def test_batches_order_and_threads_change_nothing(batch, shuffle, prefetch):
    assert by_label(batch=batch, shuffle=shuffle, prefetch=prefetch) == by_label(batch=1)


@given(batch=st.integers(1, 30), data=st.data())
def test_resumed_batches_are_those_that_would_have_come(batch, data):
    arguments = {"seed": 1, "epoch": 5, "augment": ALL}
    whole = [x.tobytes() for x, _ in batches(SPLIT, batch, **arguments)]
    start = data.draw(st.integers(0, len(whole)))
    rest = [x.tobytes() for x, _ in batches(SPLIT, batch, start=start, prefetch=1, **arguments)]
    assert rest == whole[start:]


def test_seeds_and_epochs_change_everything():
    seen = {
        next(batches(SPLIT, 23, seed=seed, epoch=epoch, shuffle=False, augment=ALL))[0].tobytes()
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(seen) == 9


def test_stored_images_are_not_changed():
    before = IMAGES.copy()
    for _ in batches(SPLIT, 5, augment=ALL):
        pass
    np.testing.assert_array_equal(IMAGES, before)


def test_the_same_everywhere():
    """The numbers are part of what a snapshot promises: no NumPy and no machine may change them."""
    images = np.arange(1, 65, dtype=np.float32).reshape(4, 1, 4, 4)
    augment_batch(images, np.array([5, 0, 2**40, 5]), [Flip(), Crop(1), Cutout(2)], Draws(1, 2))
    assert images.astype(int).reshape(4, -1).tolist() == [
        [0, 1, 2, 3, 0, 5, 0, 0, 0, 9, 0, 0, 0, 13, 14, 15],
        [0, 17, 18, 19, 0, 21, 22, 23, 0, 25, 26, 27, 0, 29, 30, 31],
        [38, 39, 40, 0, 42, 43, 44, 0, 0, 0, 48, 0, 0, 0, 0, 0],
        [0, 49, 50, 51, 0, 53, 0, 0, 0, 57, 0, 0, 0, 61, 62, 63],
    ]


# ---- what each one does


@given(images)
def test_flip(image):
    for vertical, mirrored in ((False, image[:, :, ::-1]), (True, image[:, ::-1])):
        np.testing.assert_array_equal(Flip(vertical)(image, Given(0)), mirrored)
        np.testing.assert_array_equal(Flip(vertical)(image, Given(1)), image)


@given(images, st.integers(1, 12), st.data())
def test_crop_is_a_window_of_the_padded_image(image, padding, data):
    _, height, width = image.shape
    down, right = (min(padding, n - 1) for n in (height, width))
    y, x = data.draw(st.integers(0, 2 * down)), data.draw(st.integers(0, 2 * right))
    padded = np.pad(image, ((0, 0), (down, down), (right, right)))
    expected = padded[:, 2 * down - y :, 2 * right - x :][:, :height, :width]
    np.testing.assert_array_equal(Crop(padding)(image, Given(y, x)), expected)


@given(images)
def test_rotation_by_nothing(image):
    np.testing.assert_allclose(Rotate(10)(image, Given(0.0)), image, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("quarters", [-1, 1, 2])
def test_rotation_by_quarters(size, quarters):
    image = np.random.default_rng(size).normal(size=(3, size, size)).astype(np.float32)
    rotated = Rotate(181)(image, Given(90.0 * quarters))  # clockwise
    np.testing.assert_allclose(rotated, np.rot90(image, -quarters, axes=(1, 2)), atol=1e-5)


@given(st.floats(-180, 180), st.integers(1, 9), st.integers(1, 9))
def test_rotation_is_bilinear(degrees, height, width):
    """Against its definition, a pixel at a time, in double precision."""
    image = np.random.default_rng(0).normal(size=(1, height, width)).astype(np.float32)
    rotated = Rotate(181)(image, Given(degrees))[0]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def pixel(i, j):
        return float(image[0, i, j]) if 0 <= i < height and 0 <= j < width else 0.0

    for i in range(height):
        for j in range(width):
            y, x = i - (height - 1) / 2, j - (width - 1) / 2
            y, x = cos * y - sin * x + (height - 1) / 2, sin * y + cos * x + (width - 1) / 2
            top, left = math.floor(y), math.floor(x)
            expected = sum(
                pixel(top + a, left + b) * abs(1 - a - y + top) * abs(1 - b - x + left)
                for a in (0, 1)
                for b in (0, 1)
            )
            assert rotated[i, j] == pytest.approx(expected, abs=1e-4)


@given(images, st.integers(1, 12), st.data())
def test_cutout_covers_a_square(image, size, data):
    y, x = (data.draw(st.integers(0, n - 1)) for n in image.shape[1:])
    rows, columns = (
        np.arange(n) - centre + size // 2 for n, centre in zip(image.shape[1:], (y, x), strict=True)
    )
    inside = ((rows >= 0) & (rows < size))[:, None] & ((columns >= 0) & (columns < size))
    expected = np.where(inside, 0, image)
    np.testing.assert_array_equal(Cutout(size)(image.copy(), Given(y, x)), expected)


@given(images)
def test_brightness_moves_all_alike(image):
    changed = Brightness(0.5)(image.copy(), Given(0.25))
    np.testing.assert_array_equal(changed, image + np.float32(0.25))


def test_noise_has_its_standard_deviation():
    draws = Draws(0, 0)
    draws.start(0)
    noise = Noise(0.3)(np.zeros((3, 100, 100), np.float32), draws)
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(0.3, rel=0.02)


def test_an_augmentation_is_a_value():
    assert Crop(4) == Crop() and hash(Crop(4)) == hash(Crop())
    assert repr(Crop(4)) == "Crop(padding=4)"
    assert len(set(ALL)) == len(ALL)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Crop(0), "padding is at least 1, not 0"),
        (lambda: Crop(1.5), "padding is an integer, not 1.5"),
        (lambda: Cutout(-1), "size is at least 1, not -1"),
        (lambda: Rotate(0), "degrees is a positive number, not 0"),
        (lambda: Noise(math.nan), "std is a positive number, not nan"),
        (lambda: Brightness(math.inf), "amount is a positive number, not inf"),
    ],
)
def test_refuses(make, match):
    with pytest.raises(DataError, match=match):
        make()


def test_one_s_own_augmentation_keeps_the_shape():
    def smaller(image, draws):
        return image[:, 1:]

    with pytest.raises(DataError, match=r"made an image of \(2, 4, 7\) out of \(2, 5, 7\)"):
        next(batches(SPLIT, 4, augment=[smaller]))
