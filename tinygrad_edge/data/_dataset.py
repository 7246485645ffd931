"""What a data set is: images with labels in two parts, and how to normalise them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError

__all__ = ["Dataset", "Images", "Normalisation", "Split"]

_BLOCK_BYTES = 1 << 20  # of float64, made at a time while statistics are taken


class Images(Protocol):
    """Images of shape (N, C, H, W), uint8 or float: an array, or what can be indexed like one.

    Rows are asked for by an array of positions or by a slice, and only when a batch needs them, so
    that images may as well lie in files.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """N, C, H and W."""

    @property
    def dtype(self) -> np.dtype:
        """The type of the arrays that indexing returns."""

    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Normalisation:
    """Brings each channel to mean 0 and standard deviation 1.

    Parameters
    ----------
    mean, std : tuple of float
        One a channel, in the units of the stored images (0 to 255, say).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: Images) -> "Normalisation":
        """Take the statistics of `images`, a block of them at a time.

        A channel that does not vary keeps its scale (std 1). For uint8 images the sums are exact.

        Raises
        ------
        DataError
            A channel holds NaN, infinity, or numbers whose squares overflow.
        """
        samples, channels, height, width = images.shape
        total, squares = np.zeros(channels), np.zeros(channels)
        rows = max(1, _BLOCK_BYTES // (8 * channels * height * width))
        with np.errstate(over="ignore", invalid="ignore"):  # told of below
            for start in range(0, samples, rows):
                block = images[start : start + rows].astype(np.float64)
                total += block.sum(axis=(0, 2, 3))
                squares += np.square(block, out=block).sum(axis=(0, 2, 3))
        wrong = np.flatnonzero(~np.isfinite(squares))
        if len(wrong):
            raise DataError(f"channel {wrong[0]} of the images holds NaN, infinity or huge numbers")
        count = samples * height * width
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        # Of a constant channel, rounding makes up to 1e-7 of the mean; below tiny is no divisor.
        std[std <= 1e-6 * np.abs(mean) + np.finfo(np.float32).tiny] = 1
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Normalise an array of shape (N, C, H, W) into a new float32 one."""
        normalised = images.astype(np.float32)
        normalised -= np.array(self.mean, np.float32)[:, None, None]
        normalised /= np.array(self.std, np.float32)[:, None, None]
        return normalised


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """One part of a data set.

    Parameters
    ----------
    images : Images
        Shape (N, C, H, W), as stored: uint8 stays uint8 until a batch is made.
    labels : numpy.ndarray
        int32 of shape (N,), each from 0 to the number of classes - 1.
    normalisation : Normalisation
        Applied to each batch.
    """

    images: Images
    labels: np.ndarray
    normalisation: Normalisation

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split({'x'.join(map(str, self.images.shape))} {self.images.dtype})"

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Make the batch of some rows.

        Parameters
        ----------
        rows : numpy.ndarray
            Positions in the split, integers of shape (B,).

        Returns
        -------
        images : numpy.ndarray
            Normalised, float32 of shape (B, C, H, W).
        labels : numpy.ndarray
            int32 of shape (B,).
        """
        return self.normalisation(self.images[rows]), self.labels[rows]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images to learn from, images to be tested on, and the names of their classes.

    Parameters
    ----------
    name : str
        As `load` knows it.
    train, test : Split
        The two parts; both normalised as the training part asks for.
    class_names : tuple of str
        One a class, in the order of the labels.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]

    @classmethod
    def from_arrays(
        cls,
        name: str,
        train: tuple[Images, ArrayLike],
        test: tuple[Images, ArrayLike],
        class_names: Sequence[str] | None = None,
    ) -> "Dataset":
        """Check images and labels, and make a data set of them.

        Parameters
        ----------
        name : str
            What to call it.
        train, test : (Images, array_like)
            Images of shape (N, C, H, W), uint8 or float, and N labels of any integer type.
        class_names : sequence of str, optional
            By default the classes are called "0", "1", ... up to the largest label.

        Raises
        ------
        DataError
            A part is empty, its shapes or types are not as above, the two parts hold images of
            different shapes, or a label is not a class.
        """
        x, y = train[0], np.asarray(train[1])
        x_test, y_test = test[0], np.asarray(test[1])
        _check(f"{name}, training part", x, y)
        _check(f"{name}, test part", x_test, y_test)
        if x.shape[1:] != x_test.shape[1:]:
            raise DataError(
                f"{name}: training images of shape {x.shape[1:]}, but test images of shape "
                f"{x_test.shape[1:]}"
            )
        if class_names is None:
            class_names = [str(i) for i in range(1 + max(y.max(), y_test.max()))]
        _check_range(f"{name}, training part", y, len(class_names))
        _check_range(f"{name}, test part", y_test, len(class_names))
        normalisation = Normalisation.of(x)
        return cls(
            name,
            Split(x, y.astype(np.int32), normalisation),
            Split(x_test, y_test.astype(np.int32), normalisation),
            tuple(class_names),
        )

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Channels, height and width of an image."""
        return self.train.images.shape[1:]

    @property
    def normalisation(self) -> Normalisation:
        """What the training part asks for."""
        return self.train.normalisation

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, {len(self.train)} training and {len(self.test)} test images "
            f"of {'x'.join(map(str, self.image_shape))}, {self.num_classes} classes)"
        )


def _check(where: str, images: Images, labels: np.ndarray) -> None:
    if len(images.shape) != 4 or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        raise DataError(
            f"{where}: images are uint8 or float of shape (N, C, H, W), not {images.dtype} of "
            f"shape {images.shape}"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{where}: labels are integers of shape (N,), not {labels.dtype} of shape "
            f"{labels.shape}"
        )
    if images.shape[0] != len(labels):
        raise DataError(f"{where}: {images.shape[0]} images, but {len(labels)} labels")
    if 0 in images.shape:
        raise DataError(f"{where}: nothing in images of shape {images.shape}")


def _check_range(where: str, labels: np.ndarray, classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{where}: label {labels[wrong[0]]} of image {wrong[0]} is not one of the {classes} "
            f"classes, 0 to {classes - 1}"
        )
