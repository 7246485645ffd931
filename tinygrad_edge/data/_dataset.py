"""What a data set is: images with labels in parts, and how to normalise them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from ._augment import Augmentation
from ._images import Images, Rows, held_bytes
from ._labels import hold_out
from ._normalisation import BLOCK_BYTES, Normalisation
from ._philox import words

__all__ = ["Dataset", "Skipped", "Split"]


class Skipped(NamedTuple):
    """Something that was left out of a data set."""

    what: str  #: a file, relative to the data set; a class; or an array
    why: str


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
        images = np.empty((len(rows), *self.images.shape[1:]), np.float32)
        # A few at a time, so that the batch is not held a second time as it is stored.
        step = max(1, BLOCK_BYTES // max(1, images[:1].nbytes))
        for start in range(0, len(rows), step):
            some = slice(start, start + step)
            self.normalisation(self.images[rows[some]], out=images[some])
        return images, self.labels[rows]

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that images and labels occupy between batches."""
        return held_bytes(self.images) + self.labels.nbytes


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images to learn from, images to be tested on, and the names of their classes.

    Parameters
    ----------
    name : str
        As `load` knows it.
    train, test : Split
        Two parts; normalised as the training part asks for.
    class_names : tuple of str
        One a class, in the order of the labels.
    val : Split, optional
        A part to choose epochs and settings by, where there is one.
    augmentation : tuple of Augmentation
        What suits these images; `batches` does it when it is told to.
    skipped : tuple of Skipped
        What was left out, and why.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    val: Split | None = None
    augmentation: tuple[Augmentation, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        name: str,
        train: tuple[Images, ArrayLike],
        test: tuple[Images, ArrayLike],
        class_names: Sequence[str] | None = None,
        *,
        val: tuple[Images, ArrayLike] | None = None,
        fill_missing: bool = False,
        augmentation: Sequence[Augmentation] = (),
        skipped: Sequence[Skipped] = (),
    ) -> Dataset:
        """Check images and labels, and make a data set of them.

        Parameters
        ----------
        name : str
            What to call it.
        train, test : (Images, array_like)
            Images of shape (N, C, H, W), uint8 or float, and N labels of any integer type.
        class_names : sequence of str, optional
            By default the classes are called "0", "1", ... up to the largest label.
        val : (Images, array_like), optional
            A validation part.
        fill_missing : bool
            Take NaN for a missing value: it counts in no statistic, becomes its channel's mean of
            the training part, and is reported in `skipped`.
        augmentation, skipped : sequence
            As the data set's.

        Raises
        ------
        DataError
            A part is empty, its shapes or types are not as above, two parts hold images of
            different shapes, a label is not a class, or a number is infinite, or NaN that is not to
            be filled.
        """
        parts = {"training": train, "test": test, "validation": val}
        checked: dict[str, tuple[Images, np.ndarray]] = {}
        report = list(skipped)
        for key, part in parts.items():
            if part is None:
                continue
            where, images, labels = f"{name}, {key} part", part[0], np.asarray(part[1])
            _check(where, images, labels)
            if images.shape[1:] != train[0].shape[1:]:
                raise DataError(
                    f"{name}: training images of shape {train[0].shape[1:]}, but {key} images of "
                    f"shape {images.shape[1:]}"
                )
            missing = _missing(where, images, fill_missing)
            if missing:
                report.append(Skipped(f"{key} part", f"{missing} missing values: filled by means"))
            checked[key] = images, labels
        if class_names is None:
            class_names = [str(i) for i in range(1 + max(y.max() for _, y in checked.values()))]
        for key, (_, labels) in checked.items():
            _check_range(f"{name}, {key} part", labels, len(class_names))
        normalisation = Normalisation.of(train[0], fill_missing)
        splits = {
            key: Split(images, labels.astype(np.int32), normalisation)
            for key, (images, labels) in checked.items()
        }
        return cls(
            name,
            splits["training"],
            splits["test"],
            tuple(class_names),
            splits.get("validation"),
            tuple(augmentation),
            tuple(report),
        )

    def with_validation(self, fraction: float = 0.1, seed: int = 0) -> Dataset:
        """Move some of each class from the training part to a validation part.

        Parameters
        ----------
        fraction : float
            How much of the training part, between 0 and 1.
        seed : int
            Decides which images, with their number alone. From 0 to 2**64 - 1.

        Returns
        -------
        Dataset
            Normalised as its own, smaller training part asks for. A data set that has a
            validation part is returned as it is.

        Raises
        ------
        DataError
            `fraction` is out of its range, or no class has two training images.
        """
        if self.val is not None:
            return self
        if not 0 < fraction < 1:
            raise DataError(f"fraction is between 0 and 1, not {fraction}")
        rank = words(len(self.train), seed, 0)
        kept, held = hold_out(self.train.labels, rank, fraction)
        if not len(held):
            raise DataError(
                f"each class of {self.name} has a single training image: to hold one out takes two"
            )
        fill = self.normalisation.fill_missing
        normalisation = Normalisation.of(Rows(self.train.images, kept), fill)
        train, val = (
            Split(Rows(self.train.images, rows), self.train.labels[rows], normalisation)
            for rows in (kept, held)
        )
        test = replace(self.test, normalisation=normalisation)
        return replace(self, train=train, test=test, val=val)

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

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that the data set occupies between batches; the rest lies in files."""
        splits = (self.train, self.test, self.val)
        return sum(split.held_bytes for split in splits if split is not None)

    def __repr__(self) -> str:
        val = f", {len(self.val)} validation" if self.val is not None else ""
        return (
            f"Dataset({self.name!r}, {len(self.train)} training{val} and {len(self.test)} test "
            f"images of {'x'.join(map(str, self.image_shape))}, {self.num_classes} classes)"
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


def _missing(where: str, images: Images, fill: bool) -> int:
    """Count NaN, where it is to be filled; refuse what cannot be trained on."""
    if images.dtype.kind != "f":
        return 0
    count = 0
    rows = max(1, BLOCK_BYTES // (8 * int(np.prod(images.shape[1:]))))
    for start in range(0, images.shape[0], rows):
        block = images[start : start + rows]
        missing = np.isnan(block)
        wrong = np.isinf(block) if fill else missing | np.isinf(block)
        if wrong.any():
            row, channel = np.argwhere(wrong)[0, :2]
            raise DataError(
                f"{where}: channel {channel} of image {start + row} holds "
                f"{'NaN' if missing[wrong].any() else 'infinity'}"
            )
        count += int(np.count_nonzero(missing))
    return count


def _check_range(where: str, labels: np.ndarray, classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{where}: label {labels[wrong[0]]} of image {wrong[0]} is not one of the {classes} "
            f"classes, 0 to {classes - 1}"
        )
