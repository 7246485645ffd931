"""Data sets in .npz files: those of MedMNIST (Yang et al. 2023), of Keras, and one's own.

What NumPy packed (``np.savez_compressed``) is unpacked once, to where memory is not; what it did
not (``np.savez``) is read where it is. Nothing is ever unpickled.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, FileError, TinygradEdgeError
from ._dataset import Dataset
from ._images import Images, Rows
from ._labels import hold_out
from ._philox import words
from ._zip_array import ZipArray

__all__ = ["load_npz"]

#: What images and labels are called: by MedMNIST, by Keras, and where there are no parts.
_PARTS = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))
_WHOLE = (("x", "y"), ("images", "labels"))
_MOST_NAMES = 1 << 20  # bytes
_HELD_OUT = 0.2  # of each class, where a file does not say what to test on


def load_npz(path: Path) -> Dataset:
    """Open a data set.

    Parameters
    ----------
    path : Path
        Holds ``train_images``, ``train_labels`` and the same for ``test`` and ``val``, if there are
        such parts; or ``x_train``, ``y_train`` and so on; or ``x`` and ``y`` alone. Without a test
        part the validation part is it, or else a fifth of each class. Images are uint8 or float:
        (N, H, W); or (N, H, W, C) if the last axis is 1, 3 or 4; or (N, C, H, W). Labels are
        integers of shape (N,) or (N, 1). Strings ``class_names`` are used if they are there.

    Returns
    -------
    Dataset
        A missing value (NaN) in images is filled by its channel's mean.

    Raises
    ------
    DataError
        Arrays are missing, or do not fit each other.
    FileError
        The file is damaged, or holds Python objects.
    """
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return _Reader(path, archive).dataset()
    except TinygradEdgeError:
        raise
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # what zipfile makes of damage is of many kinds
        raise FileError(f"{path} is no intact .npz file: {error}") from error


class _Reader:
    """Makes a data set of an open file."""

    def __init__(self, path: Path, archive: Any) -> None:
        self.path, self.archive = path, archive
        names = archive.namelist()
        self.keys = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]

    def dataset(self) -> Dataset:
        """Choose the parts, and check them."""
        parts = {part: self.part(*keys) for part, keys in self.names().items()}
        train, test, val = parts["train"], parts.get("test"), parts.get("val")
        if test is None:
            test, val = val, None
        if test is None:
            images, labels = train
            kept, held = hold_out(labels, words(len(labels), 0, 0), _HELD_OUT)
            train, test = ((Rows(images, rows), labels[rows]) for rows in (kept, held))
        return Dataset.from_arrays(
            self.path.stem, train, test, self.class_names(), val=val, fill_missing=True
        )

    def names(self) -> Mapping[str, tuple[str, str]]:
        """Find what the images and labels of each part are called."""
        for images, labels in _PARTS:
            if images.format("train") in self.keys:
                return {
                    part: (images.format(part), labels.format(part))
                    for part in ("train", "test", "val")
                    if images.format(part) in self.keys
                }
        for images, labels in _WHOLE:
            if images in self.keys:
                return {"train": (images, labels)}
        raise DataError(
            f"{self.path} has no array train_images, x_train, x or images; it has "
            f"{', '.join(self.keys) or 'none'}"
        )

    def part(self, images_key: str, labels_key: str) -> tuple[Images, np.ndarray]:
        """Open the images and read the labels of a part."""
        images, labels = self.array(images_key), self.array(labels_key)
        if labels.shape[1:] not in ((), (1,)) or labels.dtype.kind not in "iu":
            raise DataError(
                f"{self.path}: {labels_key} is {labels.dtype} of shape {labels.shape}; expected an "
                f"integer for each image, its class"
            )
        if images.shape[:1] != labels.shape[:1] or 0 in images.shape:  # before it takes memory
            raise DataError(
                f"{self.path}: {images_key} has shape {images.shape}, but {labels_key} "
                f"{labels.shape}"
            )
        return images.images(), labels.read().reshape(-1)

    def class_names(self) -> list[str] | None:
        """Read the names of the classes, if they are there."""
        if "class_names" not in self.keys:
            return None
        array = self.array("class_names")
        if array.dtype.kind != "U" or len(array.shape) != 1 or array.nbytes > _MOST_NAMES:
            raise DataError(
                f"{self.path}: class_names is {array.dtype} of shape {array.shape}; expected a "
                f"string for each class"
            )
        return array.read().tolist()

    def array(self, key: str) -> ZipArray:
        """Open an array."""
        if key not in self.keys:
            raise DataError(f"{self.path} has no array {key}; it has {', '.join(self.keys)}")
        return ZipArray(self.path, self.archive, self.archive.getinfo(f"{key}.npy"))
